//! What the syncs of a local folder cost: objects written per second, one and eight at a time.
//! Give a folder on the disk to measure: `cargo run --release -p holdfast-backends --example bench_folder -- DIR`.
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use backends::disk::RealDisk;
use backends::folder_on;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};

const OBJECTS: usize = 400;
/// As shards lie: by the first byte of the pack's id.
const FOLDERS: usize = 16;

#[tokio::main]
async fn main() {
    let root = PathBuf::from(std::env::args().nth(1).expect("usage: bench_folder DIR"));
    for bytes in [64 * 1024, 1024 * 1024] {
        for at_once in [1, 8] {
            let fresh = || {
                let _ = fs::remove_dir_all(&root);
                fs::create_dir_all(&root).unwrap();
                root.clone()
            };
            let folder = folder_on(Arc::new(RealDisk), &fresh(), true).unwrap();
            let ours = objects(Arc::clone(folder.store()), bytes, at_once).await;
            let library = object_store::local::LocalFileSystem::new_with_prefix(fresh()).unwrap().with_fsync(true);
            let library = objects(Arc::new(library), bytes, at_once).await;
            let bare = bare_files(&fresh(), bytes, at_once).await;
            println!(
                "{:>5} KiB, {at_once} at once: folder {ours:>5.0}/s, library's file store {library:>5.0}/s, \
                 file syncs alone {bare:>5.0}/s",
                bytes / 1024
            );
        }
    }
    let _ = fs::remove_dir_all(&root);
}

async fn objects(store: Arc<dyn ObjectStore>, bytes: usize, at_once: usize) -> f64 {
    let payload = PutPayload::from_bytes(Bytes::from(vec![7; bytes]));
    let started = Instant::now();
    let writes = stream::iter(0..OBJECTS).map(|number| {
        let (store, payload) = (Arc::clone(&store), payload.clone());
        let name = Path::from(format!("shards/{:02x}/{number}", number % FOLDERS));
        async move { store.put_opts(&name, payload, PutMode::Create.into()).await.unwrap() }
    });
    writes.buffer_unordered(at_once).for_each(|_| async {}).await;
    rate(started)
}

/// The least a file store could do: no name is durable.
async fn bare_files(root: &FilePath, bytes: usize, at_once: usize) -> f64 {
    (0..FOLDERS).for_each(|folder| fs::create_dir_all(root.join(format!("{folder:02x}"))).unwrap());
    let content = Arc::new(vec![7; bytes]);
    let started = Instant::now();
    let writes = stream::iter(0..OBJECTS).map(|number| {
        let (path, content) = (root.join(format!("{:02x}/{number}", number % FOLDERS)), Arc::clone(&content));
        let write = move || {
            let mut file = File::create_new(path).unwrap();
            file.write_all(&content).and_then(|()| file.sync_all()).unwrap();
        };
        async move { tokio::task::spawn_blocking(write).await.unwrap() }
    });
    writes.buffer_unordered(at_once).for_each(|()| async {}).await;
    rate(started)
}

#[allow(clippy::cast_precision_loss, reason = "a few hundred")]
fn rate(started: Instant) -> f64 {
    OBJECTS as f64 / started.elapsed().as_secs_f64()
}
