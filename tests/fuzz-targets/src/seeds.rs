//! What the mutations start from: the vectors of the stored format, the golden vault
//! of version 1, the cards and key files of the test data, and the inputs of
//! findings (`regressions/TARGET/`), which are never removed.

use std::fs;
use std::path::{Path, PathBuf};

use keys::files::KeyFile;

/// Seeds larger than this would make a slow corpus; the decoders' bounds are tested
/// by forged lengths, not by long inputs.
const SEED_BYTES_MAX: usize = 256 << 10;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below a folder of the repository, in order of the names.
fn below(folder: &str) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut waiting) = (Vec::new(), vec![repository().join(folder)]);
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn bytes_below(folder: &str) -> Vec<Vec<u8>> {
    below(folder).into_iter().map(|(_, bytes)| bytes).collect()
}

const GOLDEN: &str = "vault/ops/testdata/golden/v1";

/// Objects of the golden vault below a folder.
pub(crate) fn golden(folder: &str) -> Vec<Vec<u8>> {
    bytes_below(&format!("{GOLDEN}/{folder}"))
}

pub(crate) fn golden_shards() -> Vec<Vec<u8>> {
    ["p2", "p4", "p5"].into_iter().flat_map(|place| golden(&format!("{place}/shards"))).collect()
}

pub(crate) fn golden_key<T: KeyFile>(name: &str) -> T {
    let bytes = fs::read(repository().join(GOLDEN).join("keys").join(name)).unwrap();
    keys::files::decode(&bytes).unwrap_or_else(|_| panic!("{name} of the golden vault is readable"))
}

/// Vectors of the stored format whose name begins so.
fn vectors(prefixes: &[&str]) -> Vec<Vec<u8>> {
    let named = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let is_vector = name.rsplit_once('.').is_some_and(|(_, ending)| ending == "hex");
        is_vector && (prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix)))
    };
    let all = below("vault/format/testdata").into_iter().filter(|(path, _)| named(path));
    all.map(|(_, text)| from_hex(&text)).collect()
}

fn from_hex(text: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        text.iter().filter_map(|byte| (*byte as char).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A vector of a key slot, with what opens it.
pub(crate) struct SlotVector {
    pub(crate) kem_seed: [u8; 32],
    pub(crate) h0: [u8; 32],
    pub(crate) slot: Vec<u8>,
}

const KEY_VECTORS: &str = "keys/testdata/vectors";

pub(crate) fn slot_vector(name: &str) -> SlotVector {
    let text = fs::read_to_string(repository().join(KEY_VECTORS).join(name)).unwrap();
    let value = |field: &str| {
        let start = text.split(&format!("\"{field}\": \"")).nth(1).unwrap();
        from_hex(start.split('"').next().unwrap().as_bytes())
    };
    let array = |field: &str| value(field).try_into().unwrap();
    SlotVector { kem_seed: array("kem_seed"), h0: array("h0"), slot: [value("enc"), value("wrapped")].concat() }
}

fn key_slots() -> Vec<Vec<u8>> {
    let names = below(KEY_VECTORS).into_iter().filter_map(|(path, _)| Some(path.rsplit('/').next()?.to_owned()));
    names.filter(|name| name.starts_with("slot")).map(|name| slot_vector(&name).slot).collect()
}

fn key_files(name: &str) -> Vec<Vec<u8>> {
    let folders = ["keys/testdata/vectors", "keys/testdata/sealed", "vault/ops/testdata/golden/v1/keys"];
    let all = folders.into_iter().flat_map(below);
    all.filter(|(path, _)| path.rsplit('/').next().is_some_and(|file| file.starts_with(name)))
        .map(|(_, bytes)| bytes)
        .collect()
}

const STATUS: &str = r#"{"schema":1,"process":7,"written_ms":5,"daemon":"running","policies":[{"policy":"docs",
"vault":"home","source":"docs","interval_ms":1000,"state":"waiting","last":null,"failed_ms":null,"failures":0,
"error":null,"due_ms":9}]}"#;

const ANSWER: &str = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>there is no such bucket</Message>\
<BucketName>b</BucketName></Error>";

const VERSIONS: &str = "<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>p/b</NextKeyMarker>\
<DeleteMarker><Key>p/a</Key><VersionId>3</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
<Version><Key>p/a&amp;b</Key><VersionId>2</VersionId><Size>7</Size><LastModified>2026-11-21T10:00:00.000Z\
</LastModified></Version></ListVersionsResult>";

const NAMES: [&str; 2] = [
    "shards/c1f4e71a07bbdc0aef7258271f8e355c/30/308efc9a1fb39d5448622f3dfb45e3b4.01",
    "manifests/c1f4e71a07bbdc0aef7258271f8e355c/fffffffffffffffe-fffffffffffffffd",
];

/// All seeds of a target, its regressions among them.
pub fn seeds_of(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = match target {
        "shard-object" | "pack-body" => golden_shards(),
        "signed-record" | "sealed-part" => {
            ["p2/certificates", "p2/layout", "p2/manifests", "p2/vault"].into_iter().flat_map(golden).collect()
        }
        "certificate-chain" => vec![crate::codec::chain_seed()],
        "writers-index" => vectors(&["index", "writer", "sealed"]),
        "journal-object" => vectors(&["journal"]),
        "card" | "card-words" | "card-typed" => key_files("card"),
        "hand" => vec![key_files("card").join(&0xc)],
        "key-slot" => key_slots(),
        "key-master-seed" => key_files("master"),
        "key-read" => key_files("read"),
        "key-operator" => key_files("operator"),
        "key-writer" => key_files("writer"),
        "key-janitor" => key_files("janitor"),
        "key-migrator" => key_files("migrator"),
        "key-auditor" => key_files("auditor"),
        "key-public" => key_files("vault"),
        "configuration" => bytes_below("config/testdata"),
        "store-answer" => vec![ANSWER.into(), b"plain text".to_vec()],
        "version-list" => vec![VERSIONS.into()],
        "agent-status" => vec![STATUS.into()],
        "object-names" => NAMES.map(Into::into).to_vec(),
        #[cfg(feature = "services")]
        "kernel-http" => crate::door::seeds(),
        kernel if kernel.starts_with("kernel-") => crate::kernel::seeds(kernel),
        // Each of vault/format's decoders sees the vectors of all, its own first: a
        // manifest is a better forged layout than noise is.
        own => [vectors(&[own]), vectors(&[])].concat(),
    };
    seeds.extend(bytes_below(&format!("tests/fuzz-targets/regressions/{target}")));
    seeds.retain(|seed| seed.len() <= SEED_BYTES_MAX);
    seeds
}
