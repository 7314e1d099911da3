//! The witness: what tree each point was made of, by the word of a Python program.
//!
//! What always holds: a tree is judged by its digest alone, taken before the
//! program read it and after the program wrote it; a point that was listed once
//! is asked for ever after.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Stage;

/// SHA-256 over all names, modes, times, links and bytes below a folder.
#[track_caller]
pub fn tree_digest(tree: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stage/tree_digest.py");
    let ran = Command::new("python3").arg(script).arg(tree).output().unwrap();
    assert!(ran.status.success(), "{}: {}", tree.display(), String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim().to_owned()
}

/// Points by what their trees were.
#[derive(Default)]
pub struct Witness {
    points: BTreeMap<String, String>,
}

impl Witness {
    /// Takes note of the points that are listed now. New ones were made of `tree`.
    /// Fails if one that was listed before is not listed any more.
    #[track_caller]
    pub fn look(&mut self, stage: &Stage, tree: &str) {
        let listed = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point");
        let listed: Vec<String> = listed.iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect();
        for point in self.points.keys() {
            assert!(listed.contains(point), "point {point} was there and is not listed any more");
        }
        if listed.iter().any(|point| !self.points.contains_key(point)) {
            let digest = tree_digest(&stage.path(tree));
            for point in listed {
                self.points.entry(point).or_insert_with(|| digest.clone());
            }
        }
    }

    /// How many points it knows.
    pub fn count(&self) -> usize {
        self.points.len()
    }

    /// The newest point restores, equal to `tree`, with one of these exit codes.
    #[track_caller]
    pub fn newest_restores(&self, stage: &Stage, tree: &str, codes: &[i32]) {
        assert!(!self.points.is_empty(), "nothing was listed yet");
        restore(stage, "latest", &tree_digest(&stage.path(tree)), codes);
    }

    /// Every point restores equal, without a warning.
    #[track_caller]
    pub fn all_restore(&self, stage: &Stage) {
        for (point, digest) in &self.points {
            restore(stage, point, digest, &[0]);
        }
    }
}

#[track_caller]
fn restore(stage: &Stage, point: &str, digest: &str, codes: &[i32]) {
    let out = stage.path("restored");
    let ran = stage.holdfast(&["vault", "restore", point, "--to", "restored"]);
    assert!(codes.contains(&ran.code), "{}", ran.shown());
    assert_eq!(tree_digest(&out.join("tree")), digest, "{point} restored another tree: {}", ran.shown());
    fs::remove_dir_all(out).unwrap();
}
