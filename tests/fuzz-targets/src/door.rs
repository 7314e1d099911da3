//! The kernel's HTTP door: a real server on the loopback address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kernel_core::Lineage;
use kernel_node::{Config, Directory, Listen, Node, Server, SystemClock, Token};

use crate::kernel::commands;
use crate::{Target, target};

/// Requests.
pub(crate) const TARGETS: &[Target] = &[target("kernel-http", http, 1_500)];

const SECRET: &str = "fuzz-targets-token-0123";

/// Method and path by the first byte; the rest is the body.
const ROUTES: [(&str, &str); 20] = [
    ("POST", "/v1/commands"),
    ("POST", "/v1/collections"),
    ("GET", "/v1/collections"),
    ("DELETE", "/v1/collections/c"),
    ("POST", "/v1/collections/c/kinds"),
    ("POST", "/v1/collections/c/records"),
    ("POST", "/v1/collections/c/records:batch"),
    ("GET", "/v1/collections/c/records/1"),
    ("POST", "/v1/collections/c/search"),
    ("POST", "/v1/collections/c/nodes"),
    ("POST", "/v1/collections/c/nodes:batch"),
    ("GET", "/v1/collections/c/nodes/1/edges"),
    ("POST", "/v1/collections/c/edges"),
    ("POST", "/v1/collections/c/edges:batch"),
    ("GET", "/v1/proof/record/c/1"),
    ("GET", "/v1/snapshots/1"),
    ("GET", "/v1/wal?after=0"),
    ("GET", "/v1/cursors"),
    ("POST", "/v1/cursors"),
    ("POST", "/nothing"),
];

/// Bodies worth starting from, in the order of the routes.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let body = |route: &str, body: &str| {
        let at = ROUTES.iter().position(|(method, path)| *method == "POST" && path.ends_with(route)).unwrap();
        [&[at as u8][..], body.as_bytes()].concat()
    };
    let mut seeds = vec![
        body("/v1/collections", r#"{"name": "c", "dimension": 2, "metric": "l2"}"#),
        body("/kinds", r#"{"space": "node", "number": 256, "name": "host"}"#),
        body("/records", r#"{"id": 1, "vector": [0.1, -0.25], "tag": 7, "metadata": "eins"}"#),
        body(
            "/records:batch",
            r#"{"records": [{"id": "2", "vector_q16": [6554, -16384]}, {"id": 3, "vector": [5, 5], "metadata_hex": "ff00"}]}"#,
        ),
        body("/search", r#"{"vector": [0.1, 0.2], "k": 3}"#),
        body("/nodes", r#"{"id": 1, "kind": "concept", "weight": 1.5, "created_at": 3, "record": 1}"#),
        body("/nodes:batch", r#"{"nodes": [{"id": 2, "kind": "record"}]}"#),
        body("/edges", r#"{"id": 1, "kind": "supports", "from": 1, "to": 2, "weight": 0.5}"#),
        body("/edges:batch", r#"{"edges": [{"id": 2, "kind": "supports", "from": 2, "to": 1}]}"#),
        body("/cursors", r#"{"lineage": "00000000000000000000000000000001", "durable_seq": 0, "folded_seq": 0}"#),
    ];
    seeds.extend(commands().iter().map(|command| [&[0][..], &command.encode().unwrap()].concat()));
    seeds.extend((0..ROUTES.len() as u8).map(|at| vec![at]));
    seeds
}

/// Every request is answered, none with a fault of the server's own.
fn http(bytes: &[u8]) {
    let Some((&route, body)) = bytes.split_first() else { return };
    let (method, path) = ROUTES[usize::from(route) % ROUTES.len()];
    let mut socket = TcpStream::connect(door()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer {SECRET}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
    let mut answer = Vec::new();
    let read = (&mut socket).take(1 << 20).read_to_end(&mut answer);
    let status = answer.get(9..12).map(String::from_utf8_lossy).unwrap_or_default();
    assert!(answer.starts_with(b"HTTP/1.1 ") && !status.starts_with('5'), "{method} {path}: {read:?}, {status}");
}

fn door() -> SocketAddr {
    static DOOR: OnceLock<SocketAddr> = OnceLock::new();
    *DOOR.get_or_init(|| {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let disk = Arc::new(Directory::lock(folder.path()).unwrap());
                let config = Config::new(Lineage::from_bytes([1; 16]));
                let node = Node::open(&config, disk, Arc::new(SystemClock)).unwrap();
                let listen = Listen { address: Some("127.0.0.1:0".parse().unwrap()), socket: None };
                let server = Server::bind(node, &listen, Token::new(SECRET).unwrap(), || 0).await.unwrap();
                tell.send(server.address().unwrap()).unwrap();
                server.serve(std::future::pending()).await.unwrap();
            });
        });
        told.recv().unwrap()
    })
}
