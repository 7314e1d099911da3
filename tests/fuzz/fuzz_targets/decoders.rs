//! One binary for all targets, so that it is built once: `HOLDFAST_FUZZ_TARGET` names
//! the one to run. A finding is a panic, a hang, or an allocation over the limit that
//! `tests/fuzz/run` sets. With `HOLDFAST_FUZZ_SEEDS=FOLDER` it writes the seeds of every
//! target as files instead, and the targets' names on standard output.
#![no_main]

use std::path::Path;
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

fn write_seeds(folder: &Path) -> std::io::Result<()> {
    for target in fuzz_targets::targets() {
        let corpus = folder.join(target.name);
        std::fs::create_dir_all(&corpus)?;
        for (at, seed) in fuzz_targets::seeds_of(target.name).iter().enumerate() {
            std::fs::write(corpus.join(format!("seed-{at:04}")), seed)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("HOLDFAST_FUZZ_SEEDS") {
            write_seeds(Path::new(&folder)).expect("the seeds are written");
            std::process::exit(0);
        }
        // What is set up once is not the decoder's to answer for.
        target();
    },
    |data: &[u8]| (target().run)(data)
);
