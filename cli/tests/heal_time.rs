//! How long it takes to heal one lost location.
//!
//! What must hold: after the loss of one of nine places, one `vault repair --apply`
//! brings everything back. `HOLDFAST_LONG=1
//! HOLDFAST_HEAL_GIB=10` does it with so much data and prints the time (`--
//! --nocapture`); the short form has 24 MiB.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

use stage::{Numbers, Stage};

#[test]
fn one_lost_location_is_healed() {
    let gib: Option<u64> = std::env::var("HOLDFAST_HEAL_GIB").ok().map(|text| text.parse().unwrap());
    let bytes = gib.map_or(24 << 20, |gib| gib << 30);
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    let mut numbers = Numbers(99);
    let mut left = bytes;
    for number in 0.. {
        let part = left.min(64 << 20);
        if part == 0 {
            break;
        }
        let mut file = File::create(stage.path(&format!("tree/{number}"))).unwrap();
        file.write_all(&numbers.bytes(usize::try_from(part).unwrap())).unwrap();
        left -= part;
    }
    let began = Instant::now();
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let backup_s = began.elapsed().as_secs_f64();
    fs::remove_dir_all(stage.path("vault/p5/shards")).unwrap();
    let began = Instant::now();
    let healed = stage.holdfast(&["--json", "vault", "repair", "--apply"]).ends(0);
    let seconds = began.elapsed().as_secs_f64();
    let shards = healed.last()["shards"].as_u64().unwrap();
    assert!(shards > 0);
    stage.holdfast(&["vault", "audit", "--location", "p5", "--full"]).ends(0);
    println!(
        "healing one of nine places with {:.2} GiB of data: {seconds:.1} s, {shards} shards ({:.0} MiB/s of data; the \
         backup took {backup_s:.1} s)",
        bytes as f64 / f64::from(1 << 30),
        bytes as f64 / f64::from(1 << 20) / seconds
    );
}
