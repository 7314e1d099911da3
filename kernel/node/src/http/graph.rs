//! Nodes and edges.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use bytes::Bytes;
use kernel_core::{Command, Edge, Node as GraphNode, ThingType};
use serde::Deserialize;

use super::Door;
use super::answer::{Refusal, parse};
use super::collections::{find, parse_large};
use super::json::{EdgeAnswer, EdgeBody, NodeAnswer, NodeBody, WrittenBody, id, name};
use super::records::{DeleteQuery, PutQuery, checked};

type PutParameters = Result<Query<PutQuery>, QueryRejection>;
type DeleteParameters = Result<Query<DeleteQuery>, QueryRejection>;

fn nodes_of(door: &Door, collection: &str, bodies: Vec<NodeBody>) -> Result<Vec<GraphNode>, Refusal> {
    let published = door.node.published();
    let collection = find(&published, &name(collection)?)?;
    let now = (door.now_ms)();
    bodies.into_iter().map(|body| body.into_node(collection, now)).collect()
}

fn edges_in(door: &Door, collection: &str, bodies: Vec<EdgeBody>) -> Result<Vec<Edge>, Refusal> {
    let published = door.node.published();
    let collection = find(&published, &name(collection)?)?;
    let now = (door.now_ms)();
    bodies.into_iter().map(|body| body.into_edge(collection, now)).collect()
}

async fn write_nodes(
    door: &Door,
    text: &str,
    query: PutParameters,
    bodies: Vec<NodeBody>,
) -> Result<Json<WrittenBody>, Refusal> {
    let existing = checked(query)?.existing();
    let nodes = nodes_of(door, text, bodies)?;
    let command = Command::PutNodes { collection: name(text)?, existing, nodes };
    Ok(Json(door.node.write(command).await?.into()))
}

async fn write_edges(
    door: &Door,
    text: &str,
    query: PutParameters,
    bodies: Vec<EdgeBody>,
) -> Result<Json<WrittenBody>, Refusal> {
    let existing = checked(query)?.existing();
    let edges = edges_in(door, text, bodies)?;
    let command = Command::PutEdges { collection: name(text)?, existing, edges };
    Ok(Json(door.node.write(command).await?.into()))
}

/// POST /v1/collections/{collection}/nodes
pub(super) async fn put_node(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: PutParameters,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    write_nodes(&door, &text, query, vec![parse(&body)?]).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodesBody {
    nodes: Vec<NodeBody>,
}

/// POST /v1/collections/{collection}/nodes:batch
pub(super) async fn put_nodes(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: PutParameters,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    write_nodes(&door, &text, query, parse_large::<NodesBody>(body).await?.nodes).await
}

/// POST /v1/collections/{collection}/edges
pub(super) async fn put_edge(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: PutParameters,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    write_edges(&door, &text, query, vec![parse(&body)?]).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EdgesBody {
    edges: Vec<EdgeBody>,
}

/// POST /v1/collections/{collection}/edges:batch
pub(super) async fn put_edges(
    State(door): State<Door>,
    Path(text): Path<String>,
    query: PutParameters,
    body: Bytes,
) -> Result<Json<WrittenBody>, Refusal> {
    write_edges(&door, &text, query, parse_large::<EdgesBody>(body).await?.edges).await
}

fn missing(what: ThingType, text: &str) -> kernel_core::Error {
    kernel_core::Error::NotFound { what: what.noun(), id: text.to_owned() }
}

/// GET /v1/collections/{collection}/nodes/{id}
pub(super) async fn show_node(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
) -> Result<Json<NodeAnswer>, Refusal> {
    let published = door.node.published();
    let collection = find(&published, &name(&collection)?)?;
    let node = collection.node(id(&text)?).ok_or_else(|| missing(ThingType::Node, &text))?;
    Ok(Json(NodeAnswer::of(node, collection)))
}

/// GET /v1/collections/{collection}/edges/{id}
pub(super) async fn show_edge(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
) -> Result<Json<EdgeAnswer>, Refusal> {
    let published = door.node.published();
    let collection = find(&published, &name(&collection)?)?;
    let edge = collection.edge(id(&text)?).ok_or_else(|| missing(ThingType::Edge, &text))?;
    Ok(Json(EdgeAnswer::of(edge, collection)))
}

/// GET /v1/collections/{collection}/nodes/{id}/edges: those that start or end there, by id.
pub(super) async fn edges_of(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
) -> Result<Json<Vec<EdgeAnswer>>, Refusal> {
    let published = door.node.published();
    let collection = find(&published, &name(&collection)?)?;
    let node = id(&text)?;
    collection.node(node).ok_or_else(|| missing(ThingType::Node, &text))?;
    let edges = collection.edges_of(node).into_iter().filter_map(|edge| collection.edge(edge));
    Ok(Json(edges.map(|edge| EdgeAnswer::of(edge, collection)).collect()))
}

/// DELETE /v1/collections/{collection}/nodes/{id}
pub(super) async fn delete_node(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
    query: DeleteParameters,
) -> Result<Json<WrittenBody>, Refusal> {
    let deletion = checked(query)?.deletion(name(&collection)?, id(&text)?, &door);
    Ok(Json(door.node.write(Command::DeleteNodes(deletion)).await?.into()))
}

/// DELETE /v1/collections/{collection}/edges/{id}
pub(super) async fn delete_edge(
    State(door): State<Door>,
    Path((collection, text)): Path<(String, String)>,
    query: DeleteParameters,
) -> Result<Json<WrittenBody>, Refusal> {
    let deletion = checked(query)?.deletion(name(&collection)?, id(&text)?, &door);
    Ok(Json(door.node.write(Command::DeleteEdges(deletion)).await?.into()))
}
