//! Passphrases and where they come from, as the program is used.
//!
//! What must hold: a sealed key file opens with its passphrase and nothing else, from a
//! file, a descriptor, a command and a systemd credential alike; a wrong one, an altered
//! or truncated file and a file others can read are told apart, exit 12, and change
//! nothing; no secret is accepted as an argument or taken from the environment.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use stage::{Numbers, Stage, write_tree};

const RIGHT: &str = "five random words of a test";

fn secret_file(stage: &Stage, name: &str, text: &str) {
    fs::write(stage.path(name), text).unwrap();
    fs::set_permissions(stage.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

fn stage() -> Stage {
    let stage = Stage::new();
    secret_file(&stage, "right", RIGHT);
    secret_file(&stage, "wrong", "five other words of a test\n");
    stage
}

/// Seals the operator's key anew, with the passphrase it has.
fn seal<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["keys", "seal", "vault/keys/operator.key", "--new-passphrase-file", "right"], more].concat()
}

/// Retiring a location needs the operator's key.
fn retire<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["vault", "location", "retire", "p9", "--apply"], more].concat()
}

#[test]
fn the_operators_key_opens_with_its_passphrase_from_anywhere_it_may_come_from() {
    let stage = stage();
    stage.holdfast(&["vault", "init", "--local", "vault", "--passphrase-file", "right"]).ends(0);
    let operator = stage.path("vault/keys/operator.key");
    assert!(
        fs::read_to_string(&operator).unwrap().contains("\nseal: passphrase\nargon2id: 65536 KiB, 3 passes, 4 lanes")
    );
    for open in ["master.seed", "writer.key", "janitor.key", "read.key"] {
        let text = fs::read_to_string(stage.path("vault/keys").join(open)).unwrap();
        assert!(text.contains("\nseal: none\n"), "{open}");
    }
    // A backup needs no operator.
    write_tree(&stage.path("tree"), 50_000, &mut Numbers(3));
    stage.holdfast(&["vault", "run", "tree"]).ends(0);

    let before = fs::read(&operator).unwrap();
    stage.holdfast(&seal(&[])).ends(12).says("--passphrase-file");
    stage.holdfast(&seal(&["--passphrase-file", "wrong"])).ends(12).says("does not open it");
    stage.holdfast(&seal(&["--passphrase-file", "none"])).ends(12).says("No such file");
    stage.holdfast(&seal(&["--passphrase-command", "echo half; exit 4"])).ends(12).never_says("half");
    stage.holdfast(&seal(&["--passphrase-credential", "word"])).ends(12).says("CREDENTIALS_DIRECTORY");
    assert!(fs::read(&operator).unwrap() == before, "what was refused changed nothing");

    // Each of them opens it; the file is another one each time, its salt is.
    let folder = stage.text("");
    stage.holdfast(&seal(&["--passphrase-file", "right"])).ends(0);
    stage.holdfast(&seal(&["--passphrase-command", "cat right"])).ends(0);
    let credentials = [("CREDENTIALS_DIRECTORY", folder.as_str())];
    stage.holdfast_in(&seal(&["--passphrase-credential", "right"]), &credentials).ends(0);
    through_a_shell(
        &stage,
        "keys seal vault/keys/operator.key --passphrase-fd 3 --new-passphrase-fd 4 3<right 4<wrong",
    );
    assert!(fs::read(&operator).unwrap() != before);

    // And another passphrase is another one from then on, also for what needs the key.
    stage.holdfast(&retire(&["--passphrase-file", "right"])).ends(12).says("does not open it");
    stage.holdfast(&retire(&[])).ends(12).says("sealed with a passphrase");
    through_a_shell(&stage, "keys unseal vault/keys/operator.key --passphrase-fd 0 < wrong");
    assert!(fs::read_to_string(&operator).unwrap().contains("\nseal: none\n"));
}

#[test]
fn an_agents_key_opens_with_the_passphrase_its_configuration_names() {
    let stage = stage();
    stage.holdfast(&["vault", "init", "--local", "vault"]).ends(0);
    stage
        .holdfast(&["keys", "seal", "vault/keys/writer.key", "--passphrase-file", "right"])
        .ends(0)
        .says("free blocks");
    write_tree(&stage.path("tree"), 50_000, &mut Numbers(3));
    stage.holdfast(&["vault", "run", "tree"]).ends(12).says("sealed with a passphrase");
    stage.holdfast(&["vault", "run", "tree", "--passphrase-file", "wrong"]).ends(12).says("does not open it");
    stage.change_config("survive_domains", "passphrase = { credential = \"right\" }\nsurvive_domains");
    stage.holdfast(&["vault", "run", "tree"]).ends(12).says("CREDENTIALS_DIRECTORY");
    let folder = stage.text("");
    stage.holdfast_in(&["vault", "run", "tree"], &[("CREDENTIALS_DIRECTORY", folder.as_str())]).ends(0);
}

#[test]
fn damage_openness_and_weakness_are_told_apart() {
    let stage = stage();
    stage
        .holdfast(&["keys", "init", "--keys-dir", "keys", "--passphrase-file", "right"])
        .ends(0)
        .says("sealed with your");
    let path = stage.path("keys/operator.key");
    let good = fs::read_to_string(&path).unwrap();
    let unseal = ["keys", "unseal", "keys/operator.key", "--passphrase-file", "right"];
    let refused = |bad: &str, what: &str| {
        fs::write(&path, bad).unwrap();
        stage.holdfast(&unseal).ends(12).says(what).never_says("panicked");
        assert!(fs::read_to_string(&path).unwrap() == bad, "what was refused changed nothing");
    };
    refused(&good[..good.len() - 9], "truncated");
    refused(&good[..good.len() / 2], "truncated");
    refused("", "not a holdfast key file");
    refused(&good.replacen("65536 KiB", "65537 KiB", 1), "altered");
    fs::write(&path, &good).unwrap();
    for mode in [0o640, 0o604, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        stage.holdfast(&unseal).ends(12).says("chmod 600 keys/operator.key");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(stage.path("right"), fs::Permissions::from_mode(0o644)).unwrap();
    stage.holdfast(&unseal).ends(12).says("chmod o=,g-w right");
    fs::set_permissions(stage.path("right"), fs::Permissions::from_mode(0o600)).unwrap();
    stage.holdfast(&unseal).ends(0);
    stage.holdfast(&unseal).ends(2).says("not sealed");

    // What is new is not sealed with what is guessed at once, and the public file never.
    for (name, text) in [("short", "password"), ("empty", "\n"), ("two", "one line is enough\nand two are not\n")] {
        secret_file(&stage, name, text);
        let ran = stage.holdfast(&["keys", "seal", "keys/operator.key", "--passphrase-file", name]);
        assert!(ran.code == 2 || ran.code == 12, "{}", ran.shown());
        assert!(!ran.shown().contains(text.lines().next().unwrap_or("x")) || text == "\n", "{}", ran.shown());
    }
    fs::set_permissions(stage.path("keys/vault.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    stage.holdfast(&["keys", "seal", "keys/vault.pub", "--passphrase-file", "right"]).ends(12).says("public");
}

#[test]
fn no_secret_is_an_argument_or_in_the_environment() {
    let stage = stage();
    stage.holdfast(&["keys", "init", "--keys-dir", "keys", "--passphrase-file", "right"]).ends(0);
    let unseal = ["keys", "unseal", "keys/operator.key"];
    for option in ["--passphrase", "--password", "--key", "--seed", "--words"] {
        stage.holdfast(&[&unseal[..], &[option, RIGHT]].concat()).ends(2);
    }
    for name in ["HOLDFAST_PASSPHRASE", "HOLDFAST_PASSWORD", "PASSPHRASE", "HOLDFAST_PASSPHRASE_FILE"] {
        let value = if name.ends_with("FILE") { stage.text("right") } else { RIGHT.to_owned() };
        stage.holdfast_in(&unseal, &[(name, &value)]).ends(12);
    }
}

/// Descriptors are a shell's to open.
fn through_a_shell(stage: &Stage, words: &str) {
    let program = std::env::var("HOLDFAST_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_holdfast").to_owned());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" {words}"), &program]).current_dir(stage.path(""));
    let ran = shell.env("HOLDFAST_CONFIG", stage.config()).env("HOME", stage.path("")).output().unwrap();
    assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_running_agent_leaves_no_core_and_keeps_its_keys_out_of_swap() {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 50_000, &mut Numbers(3));
    stage.back_up_tree_every_second();
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("docs -> demo: ok");
    let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", agent.id())).unwrap();
    let limits = of_process("limits");
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    let status = of_process("status");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim() != "0 kB";

    // What this host permits, `doctor` knows too.
    let doctor = stage.holdfast(&["doctor", "--json"]);
    let finding = |subject: &str| {
        let found = doctor.events("finding").into_iter().find(|line| line["subject"] == subject);
        found.unwrap_or_else(|| panic!("nothing of {subject}: {}", doctor.shown()))
    };
    assert_eq!(finding("core dumps")["level"], "ok", "{}", doctor.shown());
    let permitted = finding("memory")["what"] == "keys are locked into it";
    assert_eq!(locked, permitted, "{status}");
    agent.ask_to_stop();
    agent.end().ends(0);
}
