use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::{Hash, ScopeId, WriterId};

use super::*;
use crate::first::FirstKeys;

fn keys() -> FirstKeys {
    FirstKeys::draw(&mut ChaCha20Rng::from_seed([1; 32]), "host", 1_000)
}

fn text_of<T: KeyFile>(key: &T) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key");
    create(&path, key).unwrap();
    std::fs::read(path).unwrap()
}

fn fault<T: KeyFile>(path: &Path) -> FileFault {
    match load::<T>(path) {
        Err(KeysError::KeyFile { path: named, fault }) if named == path => fault,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} was loaded", path.display()),
    }
}

fn scratch_file(keys: &FirstKeys) -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("it's a key");
    create(&path, &keys.read).unwrap();
    (scratch, path)
}

#[test]
fn every_role_survives_its_file() {
    let keys = keys();
    let master: MasterSeed = decode(&text_of(&keys.master)).unwrap();
    assert_eq!(master.seed.expose_secret(), keys.master.seed.expose_secret());
    let read: ReadKey = decode(&text_of(&keys.read)).unwrap();
    assert_eq!(read.generations[0].reader.id(), keys.read.generations[0].reader.id());
    assert!(read.janitor(&keys.writer.janitor.id()).is_some() && read.janitor(&keys.writer.reader[0].id()).is_none());
    let operator: OperatorKey = decode(&text_of(&keys.operator)).unwrap();
    assert_eq!(operator.certified().unwrap().public(), keys.operator.signing.verifying_key());
    let writer: WriterKey = decode(&text_of(&keys.writer)).unwrap();
    assert_eq!(writer.dedup.id_key.chunk_id(b"c"), keys.writer.dedup.id_key.chunk_id(b"c"));
    let section =
        |key: &WriterKey| *key.index.section_key(&Hash([1; 32]), &crate::data_key::Commitment([2; 32])).expose_secret();
    assert_eq!(section(&writer), section(&keys.writer));
    let janitor: JanitorKey = decode(&text_of(&keys.janitor)).unwrap();
    assert_eq!(janitor.certified().unwrap().subject(), keys.janitor.subject);
    let public: VaultPublic = decode(&text_of(&keys.public)).unwrap();
    assert_eq!(public.root, keys.public.root);
}

#[test]
fn roles_cannot_be_exchanged() {
    let keys = keys();
    let read = text_of(&keys.read);
    assert!(matches!(decode::<WriterKey>(&read), Err(FileFault::Role { wanted: "writer key", .. })));
    assert!(matches!(decode::<MasterSeed>(&text_of(&keys.writer)), Err(FileFault::Role { .. })));
    assert!(matches!(decode::<ReadKey>(&text_of(&keys.public)), Err(FileFault::Role { .. })));
}

#[test]
fn a_file_others_can_access_is_refused_with_the_command() {
    let (_scratch, path) = scratch_file(&keys());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o601, 0o660, 0o666] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let text = load::<ReadKey>(&path).err().unwrap().to_string();
        assert!(text.contains(&format!("mode 0{mode:o}")), "{text}");
        assert!(text.ends_with(r"it'\''s a key'") && text.contains("Run: chmod 600 '"), "{text}");
    }
    for mode in [0o600, 0o400] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        load::<ReadKey>(&path).unwrap();
    }
}

#[test]
fn public_files_may_be_read_by_all() {
    let keys = keys();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("vault.pub");
    create(&path, &keys.public).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    load::<VaultPublic>(&path).unwrap();
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written_stays() {
    let keys = keys();
    let (scratch, path) = scratch_file(&keys);
    let before = std::fs::read(&path).unwrap();
    let refused = create(&path, &keys.master).unwrap_err();
    assert!(matches!(refused, KeysError::KeyFile { fault: FileFault::Exists, .. }));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let nowhere = scratch.path().join("no folder/key");
    assert!(matches!(create(&nowhere, &keys.master), Err(KeysError::KeyFile { fault: FileFault::Io(_), .. })));
}

#[test]
fn what_is_not_a_key_file_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    assert!(matches!(fault::<ReadKey>(&scratch.path().join("none")), FileFault::Missing));
    assert!(matches!(fault::<ReadKey>(scratch.path()), FileFault::NotAFile));
    let other = scratch.path().join("other");
    let write = |bytes: &[u8]| {
        std::fs::write(&other, bytes).unwrap();
        std::fs::set_permissions(&other, PermissionsExt::from_mode(0o600)).unwrap();
    };
    write(b"-----BEGIN PRIVATE KEY-----\n");
    assert!(matches!(fault::<ReadKey>(&other), FileFault::NotAKeyFile));
    write(&vec![b'a'; FILE_BYTES_MAX as usize + 1]);
    assert!(matches!(fault::<ReadKey>(&other), FileFault::NotAKeyFile));
    write(b"");
    assert!(matches!(fault::<ReadKey>(&other), FileFault::Truncated));
}

#[test]
fn truncated_or_altered_files_of_every_role_are_refused() {
    fn every<T: KeyFile>(key: &T) {
        let text = text_of(key);
        for length in (0..text.len()).step_by(1 + text.len() / 400).chain(text.len() - 60..text.len()) {
            assert!(decode::<T>(&text[..length]).is_err(), "{} cut to {length} bytes", T::ROLE);
        }
        for at in (0..text.len()).step_by(1 + text.len() / 400) {
            let mut bad = text.clone();
            bad[at] ^= 1;
            assert!(decode::<T>(&bad).is_err(), "{} with byte {at} altered", T::ROLE);
        }
    }
    let keys = keys();
    every(&keys.master);
    every(&keys.read);
    every(&keys.operator);
    every(&keys.writer);
    every(&keys.public);
}

#[test]
fn keys_that_do_not_belong_together_are_neither_written_nor_read() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key");
    let stranger = FirstKeys::draw(&mut ChaCha20Rng::from_seed([2; 32]), "host", 1_000);
    let refuse = |key: &WriterKey| {
        let refused = create(&path, key).unwrap_err();
        assert!(matches!(refused, KeysError::KeyFile { fault: FileFault::Content(_), .. }), "{refused}");
        assert!(!path.exists());
        // The same bytes from elsewhere: the check value holds, the content does not.
        let title = Title { role: WriterKey::ROLE, vault: key.vault, note: WriterKey::NOTE };
        let text = key_file::write(&title, &encode_body(key));
        assert!(matches!(decode::<WriterKey>(text.expose_secret().as_bytes()), Err(FileFault::Content(_))));
    };
    let altered = |change: fn(&mut WriterKey, FirstKeys)| {
        let mut key = keys().writer;
        change(&mut key, FirstKeys::draw(&mut ChaCha20Rng::from_seed([2; 32]), "host", 1_000));
        key
    };
    refuse(&altered(|key, other| key.signing = other.writer.signing));
    refuse(&altered(|key, other| key.root = other.public.root));
    refuse(&altered(|key, other| key.certificates = other.writer.certificates));
    refuse(&altered(|key, _| key.scope = ScopeId([7; 16])));
    refuse(&altered(|key, _| key.writer = WriterId([7; 16])));
    refuse(&altered(|key, _| key.reader.clear()));
    refuse(&altered(|key, _| key.vault = VaultId([7; 16])));

    let title = Title { role: ReadKey::ROLE, vault: stranger.read.vault, note: "" };
    let text = key_file::write(&title, &encode_body(&keys().read));
    let fault = decode::<ReadKey>(text.expose_secret().as_bytes()).err().unwrap();
    assert!(matches!(fault, FileFault::Content("its vault line does not agree with its body")));
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(SecretBytes::new(text.as_bytes().to_vec())).unwrap()
}

/// Sealed as cheaply as is accepted: these tests are not about the cost.
fn cheap(passphrase: &Passphrase) -> SealWith<'_> {
    let cost = Cost { kib: Cost::KIB_MIN, passes: 1, lanes: 1 };
    SealWith { passphrase, stretch: Stretch { cost, salt: [5; SALT_BYTES] } }
}

#[test]
fn a_sealed_file_opens_with_its_passphrase_only() {
    let (keys, scratch) = (keys(), tempfile::tempdir().unwrap());
    let path = scratch.path().join("operator.key");
    let (right, wrong) = (passphrase("right"), passphrase("wrong"));
    create_as(&path, &keys.operator, Some(&cheap(&right))).unwrap();
    assert!(is_sealed(&path).unwrap());
    assert!(matches!(fault::<OperatorKey>(&path), FileFault::Sealed));
    assert!(matches!(fault::<WriterKey>(&path), FileFault::Role { .. }));
    let Loaded::Sealed(file) = load_any::<OperatorKey>(&path).unwrap() else { panic!("it is not sealed") };
    let refused = file.open(&wrong).err().unwrap();
    assert!(matches!(refused, KeysError::KeyFile { fault: FileFault::WrongPassphrase, .. }), "{refused}");
    let opened = file.open(&right).unwrap();
    assert_eq!(opened.signing.fingerprint(), keys.operator.signing.fingerprint());
    // Nothing of the key stands in the file but the vault's id, which is shorter.
    let text = std::fs::read_to_string(&path).unwrap().replace('\n', "");
    let plain = encode_body(&keys.operator);
    for window in plain.expose_secret().windows(20) {
        let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!text.contains(&hex));
    }
    let public = create_as(&scratch.path().join("vault.pub"), &keys.public, Some(&cheap(&right))).unwrap_err();
    assert!(matches!(public, KeysError::KeyFile { fault: FileFault::Public, .. }));
}

#[test]
fn a_sealed_file_that_was_cut_or_altered_is_refused() {
    let (keys, scratch) = (keys(), tempfile::tempdir().unwrap());
    let path = scratch.path().join("key");
    let right = passphrase("right");
    create_as(&path, &keys.master, Some(&cheap(&right))).unwrap();
    let good = std::fs::read(&path).unwrap();
    for length in 0..good.len() {
        assert!(decode_any::<MasterSeed>(&path, &good[..length]).is_err(), "cut to {length} bytes");
    }
    // With a check value that holds: what damage cannot do and a forger can.
    let text = String::from_utf8(good).unwrap();
    let forged = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        let bad = text.replacen(from, to, 1);
        let covered = &bad[..bad.rfind("check: ").unwrap()];
        let check = vault_format::VaultId(crate::hash::short(crate::labels::KEY_FILE, covered.as_bytes()));
        let bad = format!("{covered}check: {check}\n");
        match decode_any::<MasterSeed>(&path, bad.as_bytes()) {
            Ok(Loaded::Sealed(file)) => file.open(&right).map(drop).map_err(|error| error.to_string()),
            Ok(Loaded::Open(_)) => panic!("{to}: it opened without a passphrase"),
            Err(fault) => Err(fault.to_string()),
        }
    };
    let says = |from: &str, to: &str, what: &str| {
        let said = forged(from, to).expect_err(to);
        assert!(said.contains(what), "{to}: {said}");
    };
    assert_eq!(forged("seal: passphrase", "seal: passphrase"), Ok(()));
    says("8192 KiB, 1 p", "8193 KiB, 1 p", "does not open it");
    says("8192 KiB, 1 p", "8192 KiB, 2 p", "does not open it");
    says("salt 05", "salt 06", "does not open it");
    says("8192 KiB", "4294967295 KiB", "exhaust this host");
    says("8192 KiB", "99999999999 KiB", "not readable");
    says("8192 KiB", "64 KiB", "protects nothing");
    says("1 passes", "4000000000 passes", "exhaust this host");
    says("1 lanes", "0 lanes", "protects nothing");
    says("8192 KiB", "+8192 KiB", "not readable");
    says("1 passes, ", "1 passes,  ", "not readable");
    says("argon2id: ", "argon2d: ", "is missing");
    says("note: Secret", "note: secret", "altered");
    says("seal: passphrase", "seal: none", "line above the body is missing");
    says(&text[text.find("\n\n").unwrap() + 2..][..8], "zzzzzzzz", "not readable");
}

#[test]
fn a_seal_is_changed_and_the_key_is_the_same() {
    let (keys, scratch) = (keys(), tempfile::tempdir().unwrap());
    let path = scratch.path().join("writer.key");
    create(&path, &keys.writer).unwrap();
    let plain = std::fs::read(&path).unwrap();
    let (one, two) = (passphrase("one"), passphrase("two"));
    reseal(&path, None, Some(&cheap(&one))).unwrap();
    assert!(is_sealed(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let sealed = std::fs::read(&path).unwrap();
    for old in [None, Some(&two)] {
        assert!(reseal(&path, old, Some(&cheap(&two))).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), sealed, "what cannot be opened stays as it is");
    }
    reseal(&path, Some(&one), Some(&cheap(&two))).unwrap();
    reseal(&path, Some(&two), None).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), plain);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing is left beside it");
    create(&scratch.path().join("vault.pub"), &keys.public).unwrap();
    std::fs::set_permissions(scratch.path().join("vault.pub"), PermissionsExt::from_mode(0o600)).unwrap();
    assert!(reseal(&scratch.path().join("vault.pub"), None, Some(&cheap(&two))).is_err());
}

#[test]
fn what_a_link_points_to_is_replaced_and_no_file_of_anybody_else() {
    let (keys, scratch) = (keys(), tempfile::tempdir().unwrap());
    let (there, link) = (scratch.path().join("there"), scratch.path().join("writer.key"));
    create(&there, &keys.writer).unwrap();
    std::os::unix::fs::symlink("there", &link).unwrap();
    let (foreign, left) = (scratch.path().join("there.new"), scratch.path().join(".there.1.new"));
    std::fs::write(&foreign, "mine").unwrap();
    std::fs::write(&left, "half").unwrap();
    let word = passphrase("one");
    reseal(&link, None, Some(&cheap(&word))).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink() && is_sealed(&there).unwrap());
    assert_eq!(std::fs::read(&foreign).unwrap(), b"mine");
    assert!(!left.exists());

    let sealed = std::fs::read(&there).unwrap();
    std::fs::hard_link(&there, scratch.path().join("second")).unwrap();
    for refused in [reseal(&link, Some(&word), None), replace(&link, &keys.writer, None)] {
        let Err(KeysError::KeyFile { fault: FileFault::Names { names: 2 }, .. }) = refused else {
            panic!("{refused:?}")
        };
    }
    assert_eq!(std::fs::read(&there).unwrap(), sealed);
    std::fs::remove_file(scratch.path().join("second")).unwrap();

    // Somebody else was here between reading and writing.
    let text = SecretText::new("another".to_owned());
    let refused = super::place::replace(&link, &text, 0o600, Some(b"what it was"));
    let Err(KeysError::KeyFile { fault: FileFault::Changed, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(std::fs::read(&there).unwrap(), sealed);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3, "nothing is left beside it");
}
