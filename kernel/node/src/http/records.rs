//! Records and search.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use bytes::Bytes;
use kernel_core::{Command, DeleteMode, Deletion, Existing, Hash, Id, Links, Name, Score};
use serde::{Deserialize, Serialize};

use super::Door;
use super::answer::{Refusal, blocking, parse};
use super::collections::find;
use super::json::{RecordAnswer, RecordBody, Text, WrittenBody, id, name, vector};

/// What a put does with an id that is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    #[serde(default)]
    existing: ExistingWord,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ExistingWord {
    #[default]
    Refuse,
    Replace,
}

impl PutQuery {
    pub(super) fn existing(&self) -> Existing {
        match self.existing {
            ExistingWord::Refuse => Existing::Refuse,
            ExistingWord::Replace => Existing::Replace,
        }
    }
}

/// How a delete is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteQuery {
    #[serde(default)]
    mode: ModeWord,
    #[serde(default)]
    links: LinksWord,
    deleted_at: Option<i64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ModeWord {
    #[default]
    Soft,
    Hard,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum LinksWord {
    #[default]
    Refuse,
    Cascade,
}

impl DeleteQuery {
    pub(super) fn deletion(&self, collection: Name, id: Id, door: &Door) -> Deletion {
        Deletion {
            collection,
            mode: match self.mode {
                ModeWord::Soft => DeleteMode::Soft,
                ModeWord::Hard => DeleteMode::Hard,
            },
            links: match self.links {
                LinksWord::Refuse => Links::Refuse,
                LinksWord::Cascade => Links::Cascade,
            },
            deleted_at: self.deleted_at.unwrap_or_else(door.now_ms),
            ids: vec![id],
        }
    }
}

/// A query string as checked by its type.
pub(super) fn checked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|error| Refusal::bad_query(error.body_text()))
}

/// POST /v1/collections/{collection}/records
pub(super) async fn put(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: Result<Query<PutQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    let existing = checked(query)?.existing();
    let records = vec![parse::<RecordBody>(&body)?.into_record()?];
    let command = Command::PutRecords { collection: name(&text)?, existing, records };
    Ok(Json(door.node.write(command).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    records: Vec<RecordBody>,
}

/// POST /v1/collections/{collection}/records:batch: all of them or none.
pub(super) async fn put_batch(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: Result<Query<PutQuery>, QueryRejection>,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    let existing = checked(query)?.existing();
    let collection = name(&text)?;
    let command = blocking(move || {
        let records: Result<_, Refusal> =
            parse::<BatchBody>(&body)?.records.into_iter().map(RecordBody::into_record).collect();
        Ok(Command::PutRecords { collection, existing, records: records? })
    });
    Ok(Json(door.node.write(command.await?).await?.into()))
}

/// GET /v1/collections/{collection}/records/{id}
pub(super) async fn show(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
) -> Result<Json<RecordAnswer>, Refusal> {
    let published = door.node.published();
    let missing = || kernel_core::Error::NotFound { what: "record", id: text.clone() };
    Ok(Json(find(&published, &name(&collection)?)?.record(id(&text)?).ok_or_else(missing)?.into()))
}

/// DELETE /v1/collections/{collection}/records/{id}
pub(super) async fn delete(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
    query: Result<Query<DeleteQuery>, QueryRejection>,
) -> Result<Json<WrittenBody>, Refusal> {
    let deletion = checked(query)?.deletion(name(&collection)?, id(&text)?, &door);
    Ok(Json(door.node.write(Command::DeleteRecords(deletion)).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchBody {
    vector: Option<Vec<f32>>,
    vector_q16: Option<Vec<i32>>,
    #[serde(default = "ten")]
    limit: u32,
    tag: Option<u64>,
    #[serde(default)]
    with_metadata: bool,
}

fn ten() -> u32 {
    10
}

/// The answer to a search: which state it speaks of, and the nearest first.
#[derive(Serialize)]
pub(super) struct SearchAnswer {
    sequence: u64,
    state_hash: Text<Hash>,
    metric: &'static str,
    hits: Vec<HitAnswer>,
}

#[derive(Serialize)]
struct HitAnswer {
    id: Text<Id>,
    tag: u64,
    /// Squared distance, similarity or product.
    score: f64,
    /// The same as an exact number of units of 2^-32, in decimal.
    score_q32: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
}

/// POST /v1/collections/{collection}/search
pub(super) async fn search(
    State(door): State<Door>,
    Path(text): Path<String>,
    body: Bytes,
) -> Result<Json<SearchAnswer>, Refusal> {
    let body: SearchBody = parse(&body)?;
    let collection_name = name(&text)?;
    let query = vector(body.vector, body.vector_q16)?;
    let published = door.node.published();
    blocking(move || {
        let collection = find(&published, &collection_name)?;
        let hits = collection.search(&query, body.limit, body.tag)?.into_iter().filter_map(|hit| {
            let record = collection.record(hit.id)?;
            let metadata = body.with_metadata.then(|| String::from_utf8_lossy(&record.metadata).into_owned());
            let score_q32 = match hit.score {
                Score::L2(squares) => squares.to_string(),
                Score::Cosine(similarity) => similarity.to_string(),
                Score::Dot(product) => product.to_string(),
            };
            Some(HitAnswer { id: Text(hit.id), tag: record.tag, score: hit.score.to_f64(), score_q32, metadata })
        });
        Ok(Json(SearchAnswer {
            sequence: published.at.sequence,
            state_hash: Text(published.at.state_hash),
            metric: collection.metric().name(),
            hits: hits.collect(),
        }))
    })
    .await
}
