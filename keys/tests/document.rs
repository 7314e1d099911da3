//! FORMAT.md against the program: labels, constants, the table of roles, the bytes
//! of a card and the bodies of key files.

mod first_record;

use std::path::Path;

use first_record::first_record;
use keys::card::{CANONICAL_BYTES, Card, SplitPlan, WORDS, split};
use keys::certificate::may_sign;
use keys::files::{
    self, AuditorKey, JanitorKey, KeyFile, MasterSeed, MigratorKey, OperatorKey, ReadKey, VaultPublic, WriterKey,
};
use keys::first::FirstKeys;
use keys::issue::{self, Said, ScopeFrom};
use keys::passphrase::{Cost, PASSPHRASE_BYTES_MAX, SALT_BYTES};
use keys::{Generation, Seed, kem, key_file, labels, slip39};
use minicbor::Decoder;
use minicbor::data::Type;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::certificate::Role;
use vault_format::envelope::RecordKind;
use vault_format::{VaultId, shard, vault};

const DOCUMENT: &str = include_str!("../FORMAT.md");

/// Rows of the table under a heading, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = DOCUMENT.split("\n#").find(|section| {
        let title = section.lines().next().unwrap_or_default();
        title.trim_start_matches('#').trim().trim_matches('`') == heading
    });
    let lines = section.unwrap_or_else(|| panic!("no section {heading}")).lines();
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let cell = |cell: &str| cell.trim().trim_matches('`').to_owned();
    rows.map(|row| row.trim_matches('|').split('|').map(cell).collect()).collect()
}

fn pairs(heading: &str) -> Vec<(String, String)> {
    table(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

#[test]
fn labels_are_those_of_the_program() {
    let program: Vec<_> = labels::ALL.iter().map(|(name, label)| ((*name).to_owned(), (*label).to_owned())).collect();
    assert_eq!(pairs("Labels"), program);
    let mut distinct: Vec<_> = labels::ALL.iter().map(|(_, label)| label).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), labels::ALL.len(), "two uses share a label");
}

#[test]
fn constants_are_those_of_the_program() {
    let program: Vec<(&str, u64)> = vec![
        ("SEED_BYTES", Seed::BYTES as u64),
        ("KEM_ID", kem::KEM_ID.into()),
        ("KDF_ID", kem::KDF_ID.into()),
        ("AEAD_ID", kem::AEAD_ID.into()),
        ("KEM_PUBLIC_BYTES", vault::KEM_PUBLIC_BYTES as u64),
        ("KEM_ENC_BYTES", shard::KEM_ENC_BYTES as u64),
        ("PUBLIC_KEYS_BYTES", vault::PUBLIC_KEYS_BYTES as u64),
        ("CARD_WORDS", WORDS as u64),
        ("CARD_BYTES", CANONICAL_BYTES as u64),
        ("CARDS_MAX", slip39::COUNT_MAX.into()),
        ("FEISTEL_ROUNDS", slip39::ROUNDS.into()),
        ("PBKDF2_ITERATIONS", slip39::ITERATIONS.into()),
        ("EXPONENT", slip39::EXPONENT.into()),
        ("SECRET_AT", slip39::SECRET_AT.into()),
        ("DIGEST_AT", slip39::DIGEST_AT.into()),
        ("DIGEST_BYTES", slip39::DIGEST_BYTES as u64),
        ("KEY_FILE_BYTES_MAX", key_file::FILE_BYTES_MAX),
        ("SALT_BYTES", SALT_BYTES as u64),
        ("PASSPHRASE_BYTES_MAX", PASSPHRASE_BYTES_MAX as u64),
        ("ARGON2_KIB", Cost::DEFAULT.kib.into()),
        ("ARGON2_PASSES", Cost::DEFAULT.passes.into()),
        ("ARGON2_LANES", Cost::DEFAULT.lanes.into()),
        ("ARGON2_KIB_MIN", Cost::KIB_MIN.into()),
        ("ARGON2_KIB_MAX", Cost::KIB_MAX.into()),
        ("ARGON2_PASSES_MAX", Cost::PASSES_MAX.into()),
        ("ARGON2_LANES_MAX", Cost::LANES_MAX.into()),
        ("ARGON2_WORK_MAX", Cost::WORK_MAX),
    ];
    let program: Vec<_> = program.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    assert_eq!(pairs("Constants"), program);
}

#[test]
fn roles_sign_what_the_table_says() {
    let role = |number: u8| Role::from_number(number).expect("an assigned role");
    let kind = |number: u8| RecordKind::from_number(number).expect("an assigned kind");
    let program: Vec<_> = Role::VARIANTS
        .iter()
        .map(|(number, name)| {
            let signs = RecordKind::VARIANTS.iter().filter(|(of, _)| may_sign(role(*number), kind(*of)));
            let signs = signs.map(|(_, kind)| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
            ((*name).to_owned(), signs.trim_matches('`').to_owned())
        })
        .collect();
    assert_eq!(pairs("What a role may sign"), program);
}

fn card() -> Card {
    let plan = SplitPlan { vault: VaultId([7; 16]), generation: Generation(3), set: 0x0102, need: 2, total: 4 };
    split(&Seed::from_array([1; 32]), &plan, &mut ChaCha20Rng::from_seed([1; 32])).expect("a plan that works").remove(2)
}

#[test]
fn a_card_has_the_lines_and_the_hashed_bytes_of_the_tables() {
    let card = card();
    let text = card.to_text();
    let text = text.expose_secret();
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert_eq!(lines, table("Card text").iter().map(|row| row[0].as_str()).collect::<Vec<_>>());

    // The hash again from the table alone, with the words as printed.
    let list = include_str!("../src/slip39/wordlist.txt");
    let index = |word: &str| list.lines().position(|listed| listed == word).expect("a listed word") as u16;
    let printed = text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let words = printed.flat_map(str::split_whitespace).filter(|token| token.parse::<u8>().is_err());
    let words: Vec<_> = words.flat_map(|word| index(word).to_le_bytes()).collect();
    let mut bytes = Vec::new();
    for row in table("Card hash") {
        assert_eq!(row[0], bytes.len().to_string(), "{} stands elsewhere", row[2]);
        match row[2].as_str() {
            "vault" => bytes.extend([7; 16]),
            "set" => bytes.extend(0x0102_u32.to_le_bytes()),
            "number" => bytes.push(3),
            "total" => bytes.push(4),
            "need" => bytes.push(2),
            "words" => bytes.push(33),
            "indices" => bytes.extend(&words),
            other => panic!("field {other}"),
        }
        let size: usize = row[1].parse().expect("a size");
        assert_eq!(bytes.len(), row[0].parse::<usize>().expect("an offset") + size, "{} has another size", row[2]);
    }
    assert_eq!(bytes.len(), CANONICAL_BYTES);
    assert_eq!(card.hash(), keys::hash::labelled(labels::CARD, &bytes));
}

/// Reads one item of the type a table names.
fn item(decoder: &mut Decoder<'_>, kind: &str) {
    if let Some(list) = kind.strip_prefix("list: ").or(kind.strip_prefix("array: ")) {
        let parts: Vec<_> = list.split(", ").collect();
        let count = decoder.array().expect("an array").expect("of known length");
        assert!(count > 0, "a sample shows an item of each list");
        let is_record = kind.starts_with("array") && count == parts.len() as u64;
        assert!(is_record || kind.starts_with("list"), "{kind} of {count}");
        for _ in 0..if is_record { 1 } else { count } {
            if parts.len() > 1 && !is_record {
                assert_eq!(decoder.array().expect("an array"), Some(parts.len() as u64));
            }
            for part in &parts {
                item(decoder, part);
            }
        }
        return;
    }
    match kind.split_once(' ') {
        Some(("bytes", size)) => {
            assert_eq!(decoder.bytes().expect("bytes").len().to_string(), size);
        }
        None if kind == "bytes" => drop(decoder.bytes().expect("bytes")),
        None if kind == "integer" => drop(decoder.u64().expect("an integer")),
        _ => panic!("type {kind}"),
    }
}

fn body_is_as_documented<T: KeyFile>(key: &T) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("key");
    files::create(&path, key).expect("the file can be written");
    let text = std::fs::read_to_string(Path::new(&path)).expect("the file can be read");
    assert!(text.starts_with(&format!("holdfast key file v1\nrole: {}\nvault: {}\nnote: ", T::ROLE, key.vault())));
    assert!(text.contains("\nseal: none\nbody: "));
    let hex: String = text.split("\n\n").nth(1).expect("a body").lines().collect();
    let mut body = vec![0; hex.len() / 2];
    vault_format::ids::hex_into(&hex, &mut body).expect("hex");

    let rows = table(T::ROLE);
    let mut decoder = Decoder::new(&body);
    assert_eq!(decoder.datatype().expect("CBOR"), Type::Array);
    assert_eq!(decoder.array().expect("an array"), Some(rows.len() as u64), "fields of {}", T::ROLE);
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row[0], at.to_string());
        item(&mut decoder, &row[2]);
    }
    assert_eq!(decoder.position(), body.len());
}

#[test]
fn key_files_have_the_bodies_of_the_tables() {
    let keys = FirstKeys::draw(&mut ChaCha20Rng::from_seed([3; 32]), "host", 0);
    body_is_as_documented::<MasterSeed>(&keys.master);
    body_is_as_documented::<ReadKey>(&keys.read);
    body_is_as_documented::<OperatorKey>(&keys.operator);
    body_is_as_documented::<WriterKey>(&keys.writer);
    body_is_as_documented::<JanitorKey>(&keys.janitor);
    body_is_as_documented::<VaultPublic>(&keys.public);
    let said = Said { name: "other".to_owned(), serial: 3, now_ms: 0 };
    let mut rng = ChaCha20Rng::from_seed([4; 32]);
    body_is_as_documented::<AuditorKey>(&issue::auditor(&mut rng, &keys.operator, &said).expect("an auditor"));
    let record = first_record(&keys);
    let (operator, read, scope) = (&keys.operator, &keys.read, keys.writer.scope);
    let migrator = issue::migrator(&mut rng, operator, &record, read, scope, &said).expect("a migrator");
    body_is_as_documented::<MigratorKey>(&migrator);
    let janitor = issue::janitor(&mut rng, operator, read, &said).expect("a janitor");
    body_is_as_documented::<JanitorKey>(&janitor);
    let writer = issue::writer(&mut rng, operator, &record, ScopeFrom::Read(read), &said).expect("a writer");
    body_is_as_documented::<WriterKey>(&writer);
}
