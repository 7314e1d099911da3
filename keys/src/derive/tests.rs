use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vault_format::{Hash, ScopeId, StreamId, WriterId};

use super::*;
use crate::data_key::{Commitment, DataKey};
use crate::seed::{Generation, Seed};

const VECTORS: &str = include_str!("../../testdata/derivation.json");

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex text");
    let mut out = vec![0; text.len() / 2];
    vault_format::ids::hex_into(text, &mut out).expect("hex digits");
    out
}

fn cases() -> Vec<Value> {
    serde_json::from_str(VECTORS).expect("derivation.json")
}

/// The output of the case of that name.
fn wanted(name: &str) -> Vec<u8> {
    unhex(&cases().iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case {name}"))["out"])
}

#[test]
fn framing_tells_lists_apart() {
    assert_ne!(frames(&[b"ab", b"c"]), frames(&[b"a", b"bc"]));
    assert_eq!(frames(&[b"ab", b""]), [2, 0, b'a', b'b', 0, 0]);
    let one = Derivation::extract("salt", &[b"ab", b"c"]).expand::<32>("p", &[]);
    let two = Derivation::extract("salt", &[b"a", b"bc"]).expand::<32>("p", &[]);
    assert!(!one.is_same(&two));
}

#[test]
fn the_independent_script_agrees_in_every_case() {
    let cases = cases();
    assert_eq!(cases.len(), 24);
    for case in &cases {
        let list = |field: &str| case[field].as_array().unwrap().iter().map(unhex).collect::<Vec<_>>();
        let (parts, context, out) = (list("parts"), list("context"), unhex(&case["out"]));
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let context: Vec<_> = context.iter().map(Vec::as_slice).collect();
        let derivation = Derivation::extract(case["salt"].as_str().unwrap(), &parts);
        let purpose = case["purpose"].as_str().unwrap();
        let found = match out.len() {
            8 => derivation.expand::<8>(purpose, &context).expose_secret().to_vec(),
            32 => derivation.expand::<32>(purpose, &context).expose_secret().to_vec(),
            64 => derivation.expand::<64>(purpose, &context).expose_secret().to_vec(),
            other => panic!("a case of {other} bytes"),
        };
        assert_eq!(found, out, "{}", case["name"]);
    }
}

/// That the functions others call use the salts, purposes and contexts of the
/// script.
#[test]
fn the_public_functions_derive_what_the_script_says() {
    let seed = Seed::from_array(std::array::from_fn(|at| at as u8));
    let (scope, writer, h0) = (ScopeId([0x51; 16]), WriterId([0x52; 16]), Hash([0x54; 32]));
    for number in [1, 2, 0x0102_0304] {
        let generation = Generation(number);
        assert_eq!(seed.reader_key(generation).seed().expose_secret()[..], wanted(&format!("reader {number}")));
        assert_eq!(seed.janitor_key(generation).seed().expose_secret()[..], wanted(&format!("janitor {number}")));
        let root = minicbor::to_vec(seed.root_key(generation)).unwrap();
        let seeds: Vec<minicbor::bytes::ByteVec> = minicbor::decode(&root).unwrap();
        assert_eq!(seeds[0][..], wanted(&format!("root ed25519 {number}")));
        assert_eq!(seeds[1][..], wanted(&format!("root ml-dsa {number}")));
    }
    let dedup = seed.dedup_keys(Generation::FIRST, scope);
    assert_eq!(dedup.id_key.expose_secret()[..], wanted("id key"));
    assert_eq!(dedup.chunker_seed.expose_secret().to_le_bytes()[..], wanted("chunker seed"));
    let path_key: [u8; 32] = wanted("path hash key").try_into().unwrap();
    assert_eq!(dedup.id_key.path_hash(b"/a").0, *blake3::keyed_hash(&path_key, b"/a").as_bytes());

    let index = seed.index_key(Generation::FIRST, writer);
    let name_key: [u8; 32] = wanted("stream name key").try_into().unwrap();
    let named = blake3::keyed_hash(&name_key, b"holdfast stream id 1memory");
    assert_eq!(Some(index.stream_id("memory")), StreamId::from_slice(&named.as_bytes()[..16]));

    let data = DataKey(Secret::from_slice(&wanted("data key")).unwrap());
    let (key, commitment) = data.pack_keys(&h0);
    assert_eq!([&key.expose_secret()[..], &commitment.0].concat(), wanted("pack keys"));
    let commitment = Commitment(wanted("pack keys")[32..].try_into().unwrap());
    assert_eq!(index.section_key(&h0, &commitment).expose_secret()[..], wanted("index section"));
}

#[test]
fn the_script_still_writes_these_vectors() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/derivation.py");
    let output = Command::new("python3").arg(&script).output().expect("python3 is needed by the tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), VECTORS);
}
