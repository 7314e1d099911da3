//! Every decoder of bytes that came from outside (a store, a file, the network, a
//! person), behind one signature: bytes in, panic if something is wrong.
//!
//! What always holds, for any bytes: no panic of the decoder; what it accepts is
//! encoded again to the same bytes; what a signature or hash covers is accepted
//! only if it is the original. The callers bound what is allocated.
//!
//! Two callers: `tests/short.rs` on the stable toolchain (seeds and structure-aware
//! mutations, in CI), and `tests/fuzz` with libFuzzer (coverage-guided, the long form).

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "test code: a panic is the finding")]

mod codec;
#[cfg(feature = "services")]
mod door;
mod format;
mod kernel;
mod mutation;
#[cfg(feature = "services")]
mod outside;
mod secrets;
mod seeds;

pub use mutation::Mutator;
pub use seeds::seeds_of;

/// Most bytes a decoder may allocate beyond 8 times its input.
pub const ALLOCATED_BYTES_MAX: u64 = 64 << 20;

/// A decoder.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also of its seeds and regressions.
    pub name: &'static str,
    /// Runs it; panics on a finding.
    pub run: fn(&[u8]),
    /// Mutations in the short form: fewer where one costs more.
    pub cases: u32,
}

const fn target(name: &'static str, run: fn(&[u8]), cases: u32) -> Target {
    Target { name, run, cases }
}

/// All of them.
pub fn targets() -> impl Iterator<Item = Target> {
    let mut all = [format::TARGETS, codec::TARGETS, secrets::TARGETS, kernel::TARGETS].concat();
    #[cfg(feature = "services")]
    all.extend([outside::TARGETS, door::TARGETS].concat());
    all.into_iter()
}

/// The target of a name.
pub fn target_named(name: &str) -> Target {
    let names = || targets().map(|target| target.name).collect::<Vec<_>>().join(", ");
    targets().find(|target| target.name == name).unwrap_or_else(|| panic!("no target {name}; there are {}", names()))
}

/// Fails unless the encoding is what was decoded.
#[track_caller]
fn same(decoded_from: &[u8], encoded: &[u8]) {
    assert!(decoded_from == encoded, "accepted {decoded_from:02x?} and encoded it as {encoded:02x?}");
}
