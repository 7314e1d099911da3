//! Golden vectors of everything this crate stores or hands out, and vectors that
//! must each fail in one named way. The index `testdata/vectors/index.json` says
//! of each file what it is and what must come out.
//!
//! Stored bytes are pinned: the first test makes every vector again from fixed
//! randomness and compares. `HOLDFAST_WRITE_VECTORS=1` writes them, which is a
//! change of format.

#![expect(clippy::unwrap_used, reason = "a test stops where it stands")]

mod first_record;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use first_record::first_record;
use keys::card::{Card, SplitPlan, split};
use keys::certificate::{Request, issue};
use keys::files::{
    self, AuditorKey, JanitorKey, KeyFile, MasterSeed, MigratorKey, OperatorKey, ReadKey, VaultPublic, WriterKey,
};
use keys::first::FirstKeys;
use keys::hand::Hand;
use keys::issue::Said;
use keys::wrap::{unwrap, wrap};
use keys::{
    Authority, CardError, DataKey, Generation, KeysError, LocalSecret, RecipientPrivate, Secret, Seed, SigningKey,
    VerifyingKey,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use vault_format::certificate::Role;
use vault_format::shard::{KeySlot, Signatures};
use vault_format::{Blob, Hash, ScopeId, VaultId, WriterId};

const VAULT: VaultId = VaultId([0x3c; 16]);
const LABEL: &str = "holdfast record 1 note";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors")
}

fn rng(byte: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([byte; 32])
}

fn seed() -> Seed {
    Seed::from_array(std::array::from_fn(|at| at as u8))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex text");
    let mut out = vec![0; text.len() / 2];
    vault_format::ids::hex_into(text, &mut out).expect("hex digits");
    out
}

/// The variant an error is of: its name up to the first field.
fn name(error: &impl Debug) -> String {
    format!("{error:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Vectors by file name, with what they are and what must come out.
#[derive(Default)]
struct Vectors {
    files: BTreeMap<String, Vec<u8>>,
    index: Vec<Value>,
}

impl Vectors {
    fn add(&mut self, file: &str, kind: &str, result: &str, bytes: impl Into<Vec<u8>>) {
        self.files.insert(file.to_owned(), bytes.into());
        self.index.push(json!({ "file": file, "kind": kind, "result": result }));
    }

    fn add_json(&mut self, file: &str, kind: &str, result: &str, value: &Value) {
        self.add(file, kind, result, format!("{value:#}\n"));
    }

    fn finish(mut self) -> BTreeMap<String, Vec<u8>> {
        let index = format!("{:#}\n", Value::Array(self.index));
        self.files.insert("index.json".to_owned(), index.into_bytes());
        self.files
    }
}

fn make() -> BTreeMap<String, Vec<u8>> {
    let mut vectors = Vectors::default();
    cards(&mut vectors);
    key_files(&mut vectors);
    slots(&mut vectors);
    signatures(&mut vectors);
    chains(&mut vectors);
    vectors.finish()
}

fn cards(vectors: &mut Vectors) {
    let plan = |set| SplitPlan { vault: VAULT, generation: Generation::FIRST, set, need: 3, total: 5 };
    let text = |card: &Card| card.to_text().expose_secret().to_owned();
    let deal = |set: u32| split(&seed(), &plan(set), &mut rng(set as u8)).unwrap().iter().map(text).collect::<Vec<_>>();
    let (cards, older) = (deal(2), deal(1));
    for (at, card) in cards.iter().enumerate() {
        vectors.add(&format!("card-{}.txt", at + 1), "card", "ok", card.as_str());
    }
    vectors.add("card-other-set.txt", "card", "ok", older[3].as_str());
    let good = cards[0].as_str();
    let word = good.split_whitespace().skip_while(|token| *token != "7").nth(1).unwrap();
    let other = if word == "academic" { "acid" } else { "academic" };
    for (file, result, from, to) in [
        ("card-no-title.txt", "NotACard", "holdfast card", "holdfast keys"),
        ("card-no-set.txt", "Head", "set: 2\n", ""),
        ("card-two-sets.txt", "Head", "set: 2\n", "set: 2\nset: 2\n"),
        ("card-other-number.txt", "Contradiction", "card: 1 of 5", "card: 2 of 5"),
        ("card-other-need.txt", "Contradiction", "need: 3", "need: 2"),
        ("card-unknown-word.txt", "UnknownWord", word, "holdfast"),
        ("card-wrong-word.txt", "Checksum", word, other),
        ("card-missing-word.txt", "WordNumber", word, ""),
    ] {
        vectors.add(file, "card", result, good.replacen(from, to, 1));
    }
    let head_only = good.split("\n 1 ").next().unwrap();
    vectors.add("card-no-words.txt", "card", "WordCount", head_only);

    let hand = |files: &[&str]| json!({ "cards": files, "seed": hex(seed().expose_secret()) });
    vectors.add_json("hand.json", "hand", "ok", &hand(&["card-5.txt", "card-2.txt", "card-4.txt"]));
    vectors.add_json("hand-too-few.json", "hand", "NotEnough", &hand(&["card-1.txt", "card-2.txt"]));
    vectors.add_json("hand-twice.json", "hand", "Duplicate", &hand(&["card-1.txt", "card-1.txt", "card-2.txt"]));
    vectors.add_json("hand-mixed.json", "hand", "WrongSet", &hand(&["card-1.txt", "card-2.txt", "card-other-set.txt"]));
}

fn key_files(vectors: &mut Vectors) {
    let keys = FirstKeys::draw(&mut rng(7), "host", 1_700_000_000_000);
    add_key_file(vectors, "master.seed", &keys.master);
    add_key_file(vectors, "read.key", &keys.read);
    add_key_file(vectors, "operator.key", &keys.operator);
    add_key_file(vectors, "writer.key", &keys.writer);
    add_key_file(vectors, "vault.pub", &keys.public);
    add_key_file(vectors, "janitor.key", &keys.janitor);
    let said = |serial| Said { name: "issued".to_owned(), serial, now_ms: 1_700_000_000_000 };
    let auditor = keys::issue::auditor(&mut rng(13), &keys.operator, &said(3)).unwrap();
    add_key_file(vectors, "auditor.key", &auditor);
    let (record, scope) = (first_record(&keys), keys.writer.scope);
    let migrator = keys::issue::migrator(&mut rng(14), &keys.operator, &record, &keys.read, scope, &said(4)).unwrap();
    add_key_file(vectors, "migrator.key", &migrator);
    let good = String::from_utf8(key_file_text(&keys.master)).unwrap();
    let kind = MasterSeed::ROLE;
    vectors.add("key-other-title.key", kind, "NotAKeyFile", good.replacen("v1", "v2", 1));
    vectors.add("key-truncated.key", kind, "Truncated", &good.as_bytes()[..good.len() - 1]);
    vectors.add("key-altered.key", kind, "Altered", good.replacen("role: master", "role: mister", 1));
    vectors.add("key-other-role.key", ReadKey::ROLE, "Role", good);
}

fn key_file_text<T: KeyFile>(key: &T) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key");
    files::create(&path, key).unwrap();
    std::fs::read(path).unwrap()
}

fn add_key_file<T: KeyFile>(vectors: &mut Vectors, file: &str, key: &T) {
    vectors.add(file, T::ROLE, "ok", key_file_text(key));
}

fn slots(vectors: &mut Vectors) {
    let (h0, reader) = (Hash([0x54; 32]), seed().reader_key(Generation::FIRST));
    let local = LocalSecret::random(&mut rng(8));
    let mut content = local.content_hasher();
    content.update(b"the plain content of a pack");
    let data = DataKey::derive(&Secret::from_array([0x56; 32]), &local, content);
    let slot = wrap(&data, reader.public(), &h0, &mut rng(9));
    let (key, commitment) = data.pack_keys(&h0);
    let good = json!({
        "kem_seed": hex(reader.seed().expose_secret()),
        "recipient": reader.id().to_string(),
        "h0": h0.to_string(),
        "enc": hex(&slot.enc),
        "wrapped": hex(&slot.wrapped),
        "k_enc": hex(key.expose_secret()),
        "k_com": hex(&commitment.0),
    });
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        json!(hex(&bytes))
    };
    let low_order = [&slot.enc[..1088], &[0; 32]].concat();
    vectors.add_json("slot.json", "slot", "ok", &good);
    for (file, field, value) in [
        ("slot-other-key.json", "kem_seed", json!(hex(seed().janitor_key(Generation::FIRST).seed().expose_secret()))),
        ("slot-other-h0.json", "h0", json!(Hash([0x55; 32]).to_string())),
        ("slot-altered-ml-kem.json", "enc", flipped(&slot.enc, 0)),
        ("slot-altered-x25519.json", "enc", flipped(&slot.enc, 1088)),
        ("slot-low-order-x25519.json", "enc", json!(hex(&low_order))),
        ("slot-altered-key.json", "wrapped", flipped(&slot.wrapped, 0)),
        ("slot-altered-tag.json", "wrapped", flipped(&slot.wrapped, 47)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        vectors.add_json(file, "slot", "Unopened", &bad);
    }
}

fn signatures(vectors: &mut Vectors) {
    let (root, stranger) = (seed().root_key(Generation::FIRST), SigningKey::random(&mut rng(10)));
    let public = root.verifying_key();
    let (own, strange) = (root.sign(LABEL, b"message"), stranger.sign(LABEL, b"message"));
    let vector = |label: &str, ed25519: &Signatures, ml_dsa: &Signatures| {
        json!({
            "public": hex(public.as_bytes()),
            "fingerprint": public.fingerprint().to_string(),
            "check": public.check().to_string(),
            "label": label,
            "message": hex(b"message"),
            "ed25519": hex(&ed25519.ed25519),
            "ml_dsa": hex(&ml_dsa.ml_dsa),
        })
    };
    vectors.add_json("signature.json", "signature", "ok", &vector(LABEL, &own, &own));
    let other_label = vector("holdfast record 1 fence", &own, &own);
    vectors.add_json("signature-other-label.json", "signature", "Both", &other_label);
    vectors.add_json("signature-bad-ed25519.json", "signature", "Ed25519", &vector(LABEL, &strange, &own));
    vectors.add_json("signature-bad-ml-dsa.json", "signature", "MlDsa", &vector(LABEL, &own, &strange));
}

fn chains(vectors: &mut Vectors) {
    let root = seed().root_key(Generation::FIRST);
    let (operator, writer) = (SigningKey::random(&mut rng(11)), SigningKey::random(&mut rng(12)));
    let certify = |issuer: &SigningKey, role: Role, key: &SigningKey| {
        let request = Request {
            role,
            subject: WriterId([role as u8; 16]),
            public: key.verifying_key().clone(),
            kem_public: None,
            serial: 1,
            not_before_ms: 1_700_000_000_000,
            not_after_ms: 1_800_000_000_000,
            scope: (role == Role::Writer).then_some(ScopeId([0x51; 16])),
            name: "host".to_owned(),
        };
        issue(issuer, VAULT, request).unwrap()
    };
    let chain = |certificates: [Vec<u8>; 2]| {
        json!({
            "vault": VAULT.to_string(),
            "root": hex(root.verifying_key().as_bytes()),
            "certificates": certificates.map(|bytes| hex(&bytes)),
        })
    };
    let by_root = certify(&root, Role::Operator, &operator);
    let good = chain([by_root.clone(), certify(&operator, Role::Writer, &writer)]);
    vectors.add_json("chain.json", "chain", "ok", &good);
    let mut elsewhere = good;
    elsewhere["vault"] = json!(VaultId([0x3d; 16]).to_string());
    vectors.add_json("chain-other-vault.json", "chain", "Vault", &elsewhere);
    let by_itself = certify(&operator, Role::Operator, &writer);
    vectors.add_json("chain-operator-by-operator.json", "chain", "Role", &chain([by_root.clone(), by_itself]));
    let writer_by_root = certify(&root, Role::Writer, &writer);
    vectors.add_json("chain-writer-by-root.json", "chain", "Signer", &chain([by_root.clone(), writer_by_root]));
    let mut altered = certify(&operator, Role::Writer, &writer);
    altered[100] ^= 1;
    vectors.add_json("chain-altered.json", "chain", "Signature", &chain([by_root, altered]));
}

#[test]
fn stored_vectors_are_what_this_program_writes() {
    let made = make();
    if std::env::var_os("HOLDFAST_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (file, bytes) in &made {
            std::fs::write(folder().join(file), bytes).unwrap();
        }
    }
    for (file, bytes) in &made {
        let stored = std::fs::read(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(stored == *bytes, "{file} differs from what this program writes");
    }
    let stored = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(stored, made.len(), "a stored vector is made by nobody");
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn read_json(file: &str) -> Value {
    serde_json::from_slice(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value).try_into().expect("the vector's length")
}

/// Reads one vector by its kind; `ok` or the name of the refusal.
fn outcome(file: &str, kind: &str) -> String {
    let result = match kind {
        "card" => {
            let text = String::from_utf8(read(file)).unwrap();
            Card::parse(&text).map(drop).map_err(|error| name(&error))
        }
        "hand" => recover(&read_json(file)).map_err(|error| name(&error)),
        "slot" => open_slot(&read_json(file)).map_err(|error| name(&error)),
        "signature" => verify(&read_json(file)),
        "chain" => chain(&read_json(file)).map_err(|error| name(&error)),
        MasterSeed::ROLE => key_file::<MasterSeed>(file),
        ReadKey::ROLE => key_file::<ReadKey>(file),
        OperatorKey::ROLE => key_file::<OperatorKey>(file),
        WriterKey::ROLE => key_file::<WriterKey>(file),
        JanitorKey::ROLE => key_file::<JanitorKey>(file),
        AuditorKey::ROLE => key_file::<AuditorKey>(file),
        MigratorKey::ROLE => key_file::<MigratorKey>(file),
        VaultPublic::ROLE => key_file::<VaultPublic>(file),
        other => panic!("{file}: kind {other}"),
    };
    result.err().unwrap_or_else(|| "ok".to_owned())
}

fn key_file<T: KeyFile>(file: &str) -> Result<(), String> {
    files::decode::<T>(&read(file)).map(drop).map_err(|fault| name(&fault))
}

fn recover(vector: &Value) -> Result<(), CardError> {
    let mut hand = Hand::new();
    for card in vector["cards"].as_array().unwrap() {
        hand.add_text(std::str::from_utf8(&read(card.as_str().unwrap())).unwrap())?;
    }
    assert_eq!(hand.recover()?.seed.expose_secret()[..], unhex(&vector["seed"]));
    Ok(())
}

fn open_slot(vector: &Value) -> Result<(), KeysError> {
    let h0 = Hash(array(&vector["h0"]));
    let recipient = RecipientPrivate::from_seed(Secret::from_array(array(&vector["kem_seed"])));
    let slot = KeySlot { enc: array(&vector["enc"]), wrapped: array(&vector["wrapped"]) };
    let (key, commitment) = unwrap(&slot, &recipient, &h0)?.pack_keys(&h0);
    assert_eq!(recipient.id().to_string(), vector["recipient"]);
    assert_eq!(key.expose_secret()[..], unhex(&vector["k_enc"]));
    assert_eq!(commitment.0[..], unhex(&vector["k_com"]));
    Ok(())
}

fn verify(vector: &Value) -> Result<(), String> {
    let public = VerifyingKey::from_slice(&unhex(&vector["public"])).unwrap();
    assert_eq!(public.fingerprint().to_string(), vector["fingerprint"]);
    assert_eq!(public.check().to_string(), vector["check"]);
    let signatures = Signatures { ed25519: array(&vector["ed25519"]), ml_dsa: array(&vector["ml_dsa"]) };
    let label = vector["label"].as_str().unwrap();
    public.verify(label, &unhex(&vector["message"]), &signatures).map_err(|fault| name(&fault))
}

fn chain(vector: &Value) -> Result<(), KeysError> {
    let root = VerifyingKey::from_slice(&unhex(&vector["root"]))?;
    let vault = VaultId::from_hex(vector["vault"].as_str().unwrap()).unwrap();
    let certificates = vector["certificates"].as_array().unwrap().iter().map(|hex| Blob(unhex(hex)));
    Authority::new(vault, root).chain(&certificates.collect::<Vec<_>>()).map(drop)
}

#[test]
fn stored_vectors_give_what_the_index_says() {
    let index = read_json("index.json");
    let entries = index.as_array().unwrap();
    assert_eq!(entries.len() + 1, std::fs::read_dir(folder()).unwrap().count());
    for entry in entries {
        let (file, kind) = (entry["file"].as_str().unwrap(), entry["kind"].as_str().unwrap());
        assert_eq!(outcome(file, kind), entry["result"].as_str().unwrap(), "{file}");
    }
    assert!(entries.iter().filter(|entry| entry["result"] != "ok").count() > 25);
}
