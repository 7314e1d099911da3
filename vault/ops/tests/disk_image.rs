//! A thief has the disk of a host that backs up: its key files, its catalog and its spool.
//! The seed was dealt onto cards and removed.
//!
//! What must hold: nothing on that disk opens any of more than 1,000 packs that were
//! sealed before, delivered or spooled; and the search that says so finds each kind of key
//! when it is there.

#![allow(clippy::unwrap_used, reason = "test code")]

mod image;
mod world;

use std::sync::Arc;

use image::{Image, Wanted, try_as_kem_seeds};
use keys::files::{self, KeyFile};
use keys::{RecipientPrivate, Secret};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use vault_codec::{Compression, ParsedHeader};
use vault_format::names::SHARDS;
use vault_format::shard::HEADER_BYTES;
use world::{Lab, Setup, names_of, random_bytes};

const PACKS: usize = 1_000;
const KEY_FILES: [&str; 4] = ["writer.key", "operator.key", "janitor.key", "vault.pub"];
/// One leaf of the smallest class holds a little less.
const PACK_BYTES: usize = 60 << 10;

async fn all(store: &dyn ObjectStore) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for name in names_of(store).await {
        let bytes = store.get(&Path::from(name.as_str())).await.unwrap().bytes().await.unwrap();
        found.push((name, bytes.to_vec()));
    }
    found
}

fn file_of<T: KeyFile>(key: &T) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    files::create(&scratch.path().join("key"), key).unwrap();
    std::fs::read(scratch.path().join("key")).unwrap()
}

fn read_database(path: &std::path::Path) -> Vec<u8> {
    // What still stands in the log is brought over: SQLite does it on the last close.
    let base = rusqlite::Connection::open(path).unwrap();
    base.pragma_update(None, "wal_checkpoint", "TRUNCATE").unwrap();
    drop(base);
    std::fs::read(path).unwrap()
}

/// A host that wrote a thousand packs, the last of them into its spool.
async fn host() -> (Lab, Vec<Vec<u8>>, Image) {
    let mut setup = Setup::new((1, 1), 0, &[0]);
    (setup.class_max, setup.compression) = (0, Compression::default());
    let mut lab = Lab::build(71, setup).await;
    lab.spool = Some(Arc::new(InMemory::new()));
    vault_ops::spool::keep_records(&lab.open().await.unwrap()).await.unwrap();
    lab.backup(&random_bytes(71, PACKS * PACK_BYTES)).await.unwrap();
    lab.down = vec![0];
    lab.backup(&random_bytes(72, 100 * PACK_BYTES)).await.unwrap();

    let mut image = Image::default();
    image.add("writer.key", file_of(&lab.keys.writer));
    image.add("operator.key", file_of(&lab.keys.operator));
    image.add("janitor.key", file_of(&lab.keys.janitor));
    image.add("vault.pub", file_of(&lab.keys.public));
    image.add("catalog", read_database(&lab.catalog_file));
    let spooled = all(&**lab.spool.as_ref().unwrap()).await;
    let stored = all(&*lab.stores[0].1).await;
    let shards = stored.iter().chain(&spooled).filter(|(name, _)| name.starts_with(SHARDS));
    let headers: Vec<Vec<u8>> = shards.map(|(_, bytes)| bytes[..HEADER_BYTES].to_vec()).collect();
    let waiting = spooled.iter().filter(|(name, _)| name.starts_with(SHARDS)).count();
    assert!(waiting >= 100, "{waiting} packs wait in the spool");
    for (name, bytes) in spooled {
        image.add(format!("spool/{name}"), bytes);
    }
    (lab, headers, image)
}

#[tokio::test]
async fn nothing_on_the_disk_opens_any_of_a_thousand_packs() {
    let (lab, headers, image) = host().await;
    let wanted = Wanted::of(&lab.keys.master, &lab.read_key(), &headers);
    assert!(wanted.packs >= PACKS + 100, "{} packs", wanted.packs);
    println!("{} packs, {} bytes of image", wanted.packs, image.bytes());
    assert_eq!(wanted.find(&image), None);

    // With the real key generation too: all windows of the key files, or of the catalog as well.
    let is_tried = |name: &str| match std::env::var_os("HOLDFAST_IMAGE") {
        None => KEY_FILES.contains(&name),
        Some(_) => !name.starts_with("spool/shards"),
    };
    let mut windows = 0;
    for (name, bytes) in image.0.iter().filter(|(name, _)| is_tried(name)) {
        let (tried, opened) = try_as_kem_seeds(bytes, &headers);
        assert_eq!(opened, None, "{name}");
        windows += tried;
    }
    println!("{windows} windows tried as KEM seeds");
    assert!(windows > 10_000);
    // The one private KEM key that is there opens no slot of any of them.
    let janitor = &lab.keys.janitor.generations[0].janitor;
    let again = RecipientPrivate::from_seed(Secret::from_array(*janitor.seed().expose_secret()));
    for bytes in &headers {
        let header = ParsedHeader::parse(bytes).unwrap();
        assert!(vault_codec::unlock(&header, &again).is_err());
    }

    // Each kind of key is found when it is there, wherever.
    let found = |name: &str, bytes: Vec<u8>, what: &str| {
        let mut image = Image::default();
        image.add(name, bytes);
        let said = wanted.find(&image).unwrap_or_else(|| panic!("{what} is not found in {name}"));
        assert!(said.contains(what) && said.contains(name), "{said}");
    };
    let read = file_of(&*lab.read_key());
    assert!(try_as_kem_seeds(&read, &headers).1.is_some(), "the read key opens packs");
    found("read.key", read, "the reader's KEM seed");
    found("master.seed", file_of(&lab.keys.master), "the master seed");
    let all: Vec<_> = wanted.keys_of_packs().collect();
    for (key, what) in [all[0], all[all.len() / 2], all[all.len() - 1]] {
        found("core", [&[7; 13][..], key, &[9; 5]].concat(), what);
        let base = tempfile::NamedTempFile::new().unwrap();
        let writing = rusqlite::Connection::open(base.path()).unwrap();
        writing.execute_batch("CREATE TABLE t (x BLOB)").unwrap();
        writing.execute("INSERT INTO t VALUES (?1)", [[&[3; 4_000][..], key, &[4; 9_000]].concat()]).unwrap();
        drop(writing);
        // Nine thousand bytes in pages of four: only its values have it whole.
        found("database", std::fs::read(base.path()).unwrap(), what);
    }
}
