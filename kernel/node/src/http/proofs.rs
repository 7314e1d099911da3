//! Health and proofs.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use kernel_core::{Claim, Space, ThingType};
use serde::Serialize;

use super::Door;
use super::answer::Refusal;
use super::collections::CollectionAnswer;
use super::json::{AtBody, hex, id, name};

/// Says that the node runs, and nothing about what it holds.
#[derive(Serialize)]
pub(super) struct HealthAnswer {
    status: &'static str,
    version: &'static str,
}

/// GET /v1/health
pub(super) async fn health(State(door): State<Door>) -> (StatusCode, Json<HealthAnswer>) {
    let version = env!("CARGO_PKG_VERSION");
    match door.node.failure() {
        None => (StatusCode::OK, Json(HealthAnswer { status: "ok", version })),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, Json(HealthAnswer { status: "read-only", version })),
    }
}

/// The state in numbers and hashes.
#[derive(Serialize)]
pub(super) struct StateAnswer {
    #[serde(flatten)]
    at: AtBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    chain_broken_at: u64,
    collections: Vec<CollectionAnswer>,
}

#[derive(Serialize)]
struct ParentAnswer {
    lineage: String,
    sequence: u64,
}

/// GET /v1/proof/state
pub(super) async fn state(State(door): State<Door>) -> Json<StateAnswer> {
    let published = door.node.published();
    let parent = door.node.parent();
    Json(StateAnswer {
        at: published.at.into(),
        parent: parent.map(|(lineage, sequence)| ParentAnswer { lineage: lineage.to_string(), sequence }),
        failure: door.node.failure().map(str::to_owned),
        chain_broken_at: door.node.cursors().chain_broken_at,
        collections: published.state.collections().into_iter().map(CollectionAnswer::from).collect(),
    })
}

/// A proof with the state it was made from.
#[derive(Serialize)]
pub(super) struct ProofAnswer {
    #[serde(flatten)]
    at: AtBody,
    present: bool,
    /// The proof's bytes.
    proof_hex: String,
}

/// GET /v1/proof/{thing}/{collection}/{id}
pub(super) async fn thing(
    State(door): State<Door>,
    Path((thing, collection, text)): Path<(String, String, String)>,
) -> Result<Json<ProofAnswer>, Refusal> {
    let thing = [ThingType::Record, ThingType::Node, ThingType::Edge].into_iter().find(|known| known.noun() == thing);
    let thing = thing.ok_or_else(|| Refusal::bad_query("a proof is about a record, node or edge"))?;
    let claim = Claim { collection: name(&collection)?, space: Space::Living(thing, id(&text)?) };
    let (proof, at) = door.node.prove(claim);
    // What we hand out, we have checked: a proof that fails here is a defect, not an answer.
    let verdict = proof.verify(&at.state_hash)?;
    let present = matches!(verdict, kernel_core::Verdict::Present(_));
    Ok(Json(ProofAnswer { at: at.into(), present, proof_hex: hex(&proof.encode()) }))
}
