//! HTTP around a node. `kernel/node/API.md` is the description for clients.
//!
//! What always holds: every request but health carries the token; a write is answered after it is durable,
//! with its sequence and the new state hash; every refusal is JSON with `error`, `what` and `next`.

mod answer;
mod collections;
mod graph;
mod json;
mod proofs;
mod records;
mod shipping;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post};
use kernel_core::limits::COMMAND_BYTES_MAX;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::error::Error;
use crate::node::Node;
pub use token::Token;

/// How long running requests may take once the node is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// JSON is about three times as long as what it says.
const BODY_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX as usize;

/// Where to listen; both are possible.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// A TCP address; port 0 picks one.
    pub address: Option<SocketAddr>,
    /// A unix socket, made with mode 0600. A leftover of an earlier run is replaced.
    pub socket: Option<PathBuf>,
}

/// A node's front door, bound but not serving yet.
pub struct Server {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
    router: Router,
    node: Node,
    /// Tells listeners and long polls that it is time to end.
    tell: watch::Sender<bool>,
}

/// What every handler gets.
#[derive(Clone)]
struct Door {
    node: Node,
    token: Token,
    stopping: watch::Receiver<bool>,
    now_ms: fn() -> i64,
}

fn router(door: Door) -> Router {
    let guarded = Router::new()
        .route("/v1/commands", post(collections::command))
        .route("/v1/collections", post(collections::create).get(collections::list))
        .route("/v1/collections/{collection}", get(collections::show).delete(collections::trash))
        .route("/v1/collections/{collection}/kinds", post(collections::define_kind))
        .route("/v1/collections/{collection}/records", post(records::put))
        .route("/v1/collections/{collection}/records:batch", post(records::put_batch))
        .route("/v1/collections/{collection}/records/{id}", get(records::show).delete(records::delete))
        .route("/v1/collections/{collection}/search", post(records::search))
        .route("/v1/collections/{collection}/nodes", post(graph::put_node))
        .route("/v1/collections/{collection}/nodes:batch", post(graph::put_nodes))
        .route("/v1/collections/{collection}/nodes/{id}", get(graph::show_node).delete(graph::delete_node))
        .route("/v1/collections/{collection}/nodes/{id}/edges", get(graph::edges_of))
        .route("/v1/collections/{collection}/edges", post(graph::put_edge))
        .route("/v1/collections/{collection}/edges:batch", post(graph::put_edges))
        .route("/v1/collections/{collection}/edges/{id}", get(graph::show_edge))
        .route("/v1/collections/{collection}/edges/{id}", delete(graph::delete_edge))
        .route("/v1/proof/state", get(proofs::state))
        .route("/v1/proof/{thing}/{collection}/{id}", get(proofs::thing))
        .route("/v1/snapshot", post(shipping::make_snapshot))
        .route("/v1/snapshots", get(shipping::list_snapshots))
        .route("/v1/snapshots/{sequence}", get(shipping::download_snapshot))
        .route("/v1/wal", get(shipping::log))
        .route("/v1/cursors", get(shipping::show_cursors).post(shipping::set_cursors))
        .fallback(answer::no_such_route)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(middleware::from_fn_with_state(door.clone(), token::require));
    Router::new()
        .route("/v1/health", get(proofs::health))
        .merge(guarded)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(answer::shape))
        .with_state(door)
}

impl Server {
    /// Binds. `now_ms` fills in times that a client leaves out.
    pub async fn bind(node: Node, listen: &Listen, token: Token, now_ms: fn() -> i64) -> Result<Server, Error> {
        let tcp = match listen.address {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(Error::io("cannot listen on", &address.to_string()))?)
            }
        };
        let unix = listen.socket.as_ref().map(bind_socket).transpose()?;
        let (tell, stopping) = watch::channel(false);
        let router = router(Door { node: node.clone(), token, stopping, now_ms });
        Ok(Server { tcp, unix, router, node, tell })
    }

    /// The TCP address, with the port that was picked.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until `stop` completes, lets running requests end, then stops the node cleanly.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
        let told = self.tell.subscribe();
        let mut serving = tokio::task::JoinSet::new();
        if let Some(listener) = self.tcp {
            let served = axum::serve(listener, self.router.clone()).with_graceful_shutdown(until(told.clone()));
            serving.spawn(async move { served.await });
        }
        if let Some((listener, _)) = &self.unix {
            info!(address = ?listener.local_addr(), "serving on a unix socket");
        }
        let mut socket_path = None;
        if let Some((listener, path)) = self.unix {
            let served = axum::serve(listener, self.router.clone()).with_graceful_shutdown(until(told));
            serving.spawn(async move { served.await });
            socket_path = Some(path);
        }
        stop.await;
        info!("stopping: running requests may end");
        self.tell.send_replace(true);
        let all = async { while serving.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            warn!("a client keeps its request open; it is cut off, and what it had not been told is not promised");
        }
        serving.shutdown().await;
        if let Some(path) = socket_path {
            let _ = std::fs::remove_file(path);
        }
        self.node.stop().await
    }
}

async fn until(mut told: watch::Receiver<bool>) {
    let _ = told.wait_for(|stop| *stop).await;
}

fn bind_socket(path: &PathBuf) -> Result<(UnixListener, PathBuf), Error> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let name = path.display().to_string();
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        // The data directory's lock says that no other node of ours can be behind it.
        std::fs::remove_file(path).map_err(Error::io("cannot replace the socket", &name))?;
    }
    let listener = UnixListener::bind(path).map_err(Error::io("cannot listen on", &name))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(Error::io("cannot protect the socket", &name))?;
    Ok((listener, path.clone()))
}
