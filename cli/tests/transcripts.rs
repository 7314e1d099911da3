//! What people read: help texts and error messages, word for word.
//!
//! What must hold: nobody changes them without seeing it. `BLESS=1 cargo test -p
//! holdfast --test transcripts` writes them anew; read the difference.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use stage::Stage;

/// Name of the transcript, and the words.
const COMMANDS: [(&str, &[&str]); 28] = [
    ("help", &["--help"]),
    ("help-vault", &["vault", "--help"]),
    ("help-vault-init", &["vault", "init", "--help"]),
    ("help-vault-run", &["vault", "run", "--help"]),
    ("help-vault-status", &["vault", "status", "--help"]),
    ("help-vault-restore", &["vault", "restore", "--help"]),
    ("help-vault-audit", &["vault", "audit", "--help"]),
    ("help-vault-repair", &["vault", "repair", "--help"]),
    ("help-vault-location", &["vault", "location", "--help"]),
    ("help-vault-location-replace", &["vault", "location", "replace", "--help"]),
    ("help-vault-import-orphans", &["vault", "import-orphans", "--help"]),
    ("help-keys", &["keys", "--help"]),
    ("help-keys-split", &["keys", "split", "--help"]),
    ("help-keys-recover", &["keys", "recover", "--help"]),
    ("help-kernel", &["kernel", "--help"]),
    ("help-kernel-run", &["kernel", "run", "--help"]),
    ("help-agent", &["agent", "--help"]),
    ("help-demo", &["demo", "--help"]),
    ("error-no-command", &[]),
    ("error-unknown-command", &["vault", "explode"]),
    ("error-restore-without-target", &["vault", "restore"]),
    ("error-no-configuration", &["--config", "none.toml", "vault", "status"]),
    ("error-bad-configuration", &["--config", "bad.toml", "vault", "status"]),
    ("error-no-points", &["vault", "restore", "--to", "new"]),
    ("error-unknown-point", &["vault", "restore", "p-123456", "--to", "new"]),
    ("error-no-cards", &["keys", "recover"]),
    ("error-scan-without-from", &["vault", "restore", "--scan", "--to", "new"]),
    ("error-too-few-locations", &["vault", "init", "--local", "other", "--total", "4"]),
];

#[test]
fn what_people_read_is_as_reviewed() {
    let stage = Stage::with_local_vault();
    fs::write(stage.path("bad.toml"), "version = 1\n[vault.home]\nsurvive_domain = 1\n").unwrap();
    let mut wrong = Vec::new();
    for (name, words) in COMMANDS {
        let ran = stage.holdfast(words);
        let text = format!("$ holdfast {}\n{}{}exit {}\n", words.join(" "), ran.out, ran.err, ran.code);
        let text = text.replace(&stage.text(""), "/stage/");
        compare(&file(name), &text, &mut wrong);
    }
    let known: usize = fs::read_dir(file("").parent().unwrap()).unwrap().count();
    assert_eq!(known, COMMANDS.len(), "a transcript that nothing writes lies in {}", file("").display());
    assert!(wrong.is_empty(), "changed; look, then write them anew with BLESS=1:\n{}", wrong.join("\n"));
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(format!("{name}.txt"))
}

fn compare(path: &Path, text: &str, wrong: &mut Vec<String>) {
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let reviewed = fs::read_to_string(path).unwrap_or_default();
    if reviewed != text {
        wrong.push(format!("{}\n--- reviewed\n{reviewed}--- now\n{text}", path.display()));
    }
}
