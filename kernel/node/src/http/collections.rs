//! Collections, kinds, and commands as bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use bytes::Bytes;
use kernel_core::limits::USER_KIND_MIN;
use kernel_core::{Collection, Command, Hash, Id, Kind, KindSpace, Metric, Name, Parameters};
use serde::{Deserialize, Serialize};

use super::Door;
use super::answer::{Refusal, blocking, parse};
use super::json::{Text, WrittenBody, name};
use crate::node::Published;

/// POST /v1/commands: one canonical command as bytes, the way programs of ours write.
pub(super) async fn command(State(door): State<Door>, body: Bytes) -> Result<Json<WrittenBody>, Refusal> {
    Ok(Json(door.node.write_bytes(body.to_vec()).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    name: String,
    dimension: u32,
    metric: String,
    parameters: Option<ParametersBody>,
    created_at: Option<i64>,
    #[serde(default)]
    metadata: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParametersBody {
    index_links: u16,
    index_build_width: u16,
    index_search_width: u16,
    trash_grace_ms: u64,
}

impl From<ParametersBody> for Parameters {
    fn from(body: ParametersBody) -> Self {
        let ParametersBody { index_links, index_build_width, index_search_width, trash_grace_ms } = body;
        Parameters { index_links, index_build_width, index_search_width, trash_grace_ms }
    }
}

impl From<Parameters> for ParametersBody {
    fn from(parameters: Parameters) -> Self {
        let Parameters { index_links, index_build_width, index_search_width, trash_grace_ms } = parameters;
        ParametersBody { index_links, index_build_width, index_search_width, trash_grace_ms }
    }
}

/// POST /v1/collections
pub(super) async fn create(State(door): State<Door>, body: Bytes) -> Result<Json<WrittenBody>, Refusal> {
    let body: CreateBody = parse(&body)?;
    let metric = [Metric::L2, Metric::Cosine, Metric::Dot].into_iter().find(|metric| metric.name() == body.metric);
    let command = Command::CreateCollection {
        name: name(&body.name)?,
        dimension: body.dimension,
        metric: metric.ok_or_else(|| Refusal::bad_body("metric is one of l2, cosine, dot"))?,
        parameters: body.parameters.map_or_else(Parameters::default, Parameters::from),
        created_at: body.created_at.unwrap_or_else(door.now_ms),
        metadata: body.metadata.into_bytes().into(),
    };
    Ok(Json(door.node.write(command).await?.into()))
}

/// A collection as it stands.
#[derive(Serialize)]
pub(super) struct CollectionAnswer {
    name: String,
    dimension: u32,
    metric: &'static str,
    parameters: ParametersBody,
    created_at: i64,
    metadata: String,
    records: u64,
    nodes: u64,
    edges: u64,
    kinds: u64,
    trash: u64,
    /// Its hash as it stands in the tree of collections.
    hash: Text<Hash>,
}

impl From<&Collection> for CollectionAnswer {
    fn from(collection: &Collection) -> Self {
        let counts = collection.counts();
        CollectionAnswer {
            name: collection.name().to_string(),
            dimension: collection.dimension(),
            metric: collection.metric().name(),
            parameters: collection.parameters().into(),
            created_at: collection.created_at(),
            metadata: String::from_utf8_lossy(collection.metadata()).into_owned(),
            records: counts.records,
            nodes: counts.nodes,
            edges: counts.edges,
            kinds: counts.kinds,
            trash: counts.trash,
            hash: Text(collection.hash()),
        }
    }
}

/// GET /v1/collections
pub(super) async fn list(State(door): State<Door>) -> Json<Vec<CollectionAnswer>> {
    let published = door.node.published();
    Json(published.state.collections().into_iter().map(CollectionAnswer::from).collect())
}

/// GET /v1/collections/{collection}
pub(super) async fn show(
    State(door): State<Door>,
    Path(text): Path<String>,
) -> Result<Json<CollectionAnswer>, Refusal> {
    let published = door.node.published();
    Ok(Json(find(&published, &name(&text)?)?.into()))
}

/// The collection in this version.
pub(super) fn find<'a>(published: &'a Arc<Published>, name: &Name) -> Result<&'a Collection, Refusal> {
    let missing = || kernel_core::Error::NotFound { what: "collection", id: name.to_string() };
    Ok(published.state.collection(name).ok_or_else(missing)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrashQuery {
    trash_id: Option<Text<Id>>,
    deleted_at: Option<i64>,
}

/// DELETE /v1/collections/{collection}: into the trash, whole.
pub(super) async fn trash(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: Result<Query<TrashQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<WrittenBody>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::bad_query(error.body_text()))?;
    let name = name(&text)?;
    let deleted_at = query.deleted_at.unwrap_or_else(door.now_ms);
    let trash_id = query.trash_id.map_or_else(|| trash_id_of(&name, deleted_at), |id| id.0);
    let written = door.node.write(Command::TrashCollection { name, trash_id, deleted_at }).await?;
    Ok(Json(WrittenBody::from(written).with_trash_id(trash_id)))
}

/// An id for who gives none: the same name can only be in the trash twice with different times.
fn trash_id_of(name: &Name, deleted_at: i64) -> Id {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&deleted_at.to_le_bytes());
    hasher.update(name.as_str().as_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    Id::from_bytes(id)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KindBody {
    space: String,
    name: String,
    number: Option<u16>,
}

#[derive(Serialize)]
pub(super) struct KindAnswer {
    number: u16,
    #[serde(flatten)]
    written: WrittenBody,
}

/// POST /v1/collections/{collection}/kinds: takes the next free number if none is given.
pub(super) async fn define_kind(
    State(door): State<Door>,
    Path(text): Path<String>,
    body: Bytes,
) -> Result<Json<KindAnswer>, Refusal> {
    let body: KindBody = parse(&body)?;
    let space = match body.space.as_str() {
        "node" => KindSpace::Node,
        "edge" => KindSpace::Edge,
        _ => return Err(Refusal::bad_body("space is node or edge")),
    };
    let collection = name(&text)?;
    let next_free = || -> Result<u16, Refusal> {
        let published = door.node.published();
        let taken = find(&published, &collection)?.kinds().filter(|kind| kind.space == space).map(|kind| kind.number);
        Ok(taken.max().map_or(USER_KIND_MIN, |highest| highest.saturating_add(1)))
    };
    let number = body.number.map_or_else(next_free, Ok)?;
    let kind = Kind { space, number, name: name(&body.name)? };
    let written = door.node.write(Command::DefineKind { collection, kind }).await?;
    Ok(Json(KindAnswer { number, written: written.into() }))
}

/// Parses a body beside the async workers: a batch may be megabytes of digits.
pub(super) async fn parse_large<T: serde::de::DeserializeOwned + Send + 'static>(body: Bytes) -> Result<T, Refusal> {
    blocking(move || parse(&body)).await
}
