//! Key files that another program sealed, from FORMAT.md and with other people's
//! Argon2id, AES-GCM and BLAKE3: they open here, and this program seals the same bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use keys::files::{self, KeyFile, Loaded, MasterSeed, OperatorKey, SealWith};
use keys::{Passphrase, SecretBytes};
use rand_core::{TryCryptoRng, TryRng};

fn testdata(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(file)
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(testdata(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn passphrase() -> Passphrase {
    Passphrase::new(SecretBytes::new(read("sealed/passphrase.txt"))).expect("one line")
}

fn opened<T: KeyFile>(file: &str) -> T {
    match files::decode_any::<T>(Path::new(file), &read(file)) {
        Ok(Loaded::Sealed(sealed)) => sealed.open(&passphrase()).unwrap_or_else(|error| panic!("{error}")),
        Ok(Loaded::Open(_)) => panic!("{file} is not sealed"),
        Err(fault) => panic!("{file}: {fault}"),
    }
}

/// Counts: its first sixteen bytes are the vectors' salt.
struct Counting(u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("a salt is drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("a salt is drawn as bytes")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            *byte = self.0;
            self.0 += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

fn written<T: KeyFile>(key: &T, seal: Option<&SealWith<'_>>) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("key");
    files::create_as(&path, key, seal).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn what_another_program_sealed_opens_and_is_what_it_was() {
    assert!(written(&opened::<MasterSeed>("sealed/master.seed"), None) == read("vectors/master.seed"));
    assert!(written(&opened::<OperatorKey>("sealed/operator.key"), None) == read("vectors/operator.key"));
}

#[test]
fn the_same_salt_seals_the_same_bytes() {
    let key: OperatorKey = files::decode(&read("vectors/operator.key")).unwrap_or_else(|fault| panic!("{fault}"));
    let word = passphrase();
    let seal = SealWith::new(&word, &mut Counting(0));
    assert!(written(&key, Some(&seal)) == read("sealed/operator.key"), "another file than the other program's");
}
