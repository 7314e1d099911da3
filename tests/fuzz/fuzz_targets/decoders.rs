//! One binary for all targets, so that it is built once: `HOLDFAST_FUZZ_TARGET` names
//! the one to run. A finding is a panic, a hang, or an allocation over the limit that
//! `tests/fuzz/run` sets.
#![no_main]

use std::sync::OnceLock;

use fuzz_targets::{Target, target_named};
use libfuzzer_sys::fuzz_target;

fn target() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("HOLDFAST_FUZZ_TARGET").expect("HOLDFAST_FUZZ_TARGET names a target");
        target_named(&name)
    })
}

fuzz_target!(|data: &[u8]| (target().run)(data));
