//! Other people's tool recovers our seed, and we recover a seed it dealt: the
//! reference implementation of SLIP-39 from PyPI, in an environment of its own
//! under `HOLDFAST_TEST_CACHE` (default `~/.cache/holdfast-tests`). The promise
//! that cards outlive this program is tested or the run fails; it is not skipped.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keys::card::{SplitPlan, split};
use keys::hand::{Confirmation, Hand};
use keys::slip39::Share;
use keys::{Generation, Seed};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use vault_format::VaultId;

const PACKAGE: &str = "shamir-mnemonic==0.3.0";

/// Runs to the end or fails with what it said.
fn run(command: &mut Command, input: &str) -> String {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|error| panic!("{command:?}: {error}. The tests need python3 with venv"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("the child reads its input");
    let output = child.wait_with_output().expect("the child ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("the tool prints text")
}

fn cache() -> PathBuf {
    match (std::env::var_os("HOLDFAST_TEST_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache/holdfast-tests"),
        (None, None) => panic!("set HOLDFAST_TEST_CACHE or HOME: the tests keep what they install there"),
    }
}

/// The interpreter of an environment that has the package; made on first use.
/// `complete` is written last, so that half of an installation is never used.
fn python() -> PathBuf {
    let environment = cache().join("shamir-mnemonic-0.3.0");
    let python = environment.join("bin/python3");
    if !environment.join("complete").exists() {
        std::fs::create_dir_all(cache()).expect("the cache folder can be made");
        // Left over from a run that was interrupted.
        let _ = std::fs::remove_dir_all(&environment);
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment), "");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]), "");
        std::fs::write(environment.join("complete"), PACKAGE).expect("the cache folder is writable");
    }
    python
}

fn tool(arguments: &[&str], input: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cross_check.py");
    run(Command::new(python()).arg(script).args(arguments), input)
}

fn hex(bytes: &[u8; 32]) -> String {
    vault_format::Hash(*bytes).to_string()
}

/// The words of a card's text, as a person would type them into another tool.
fn words(text: &str) -> String {
    let lines = text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let tokens = lines.flat_map(str::split_whitespace).filter(|token| token.parse::<u8>().is_err());
    tokens.collect::<Vec<_>>().join(" ")
}

#[test]
fn both_directions() {
    for (round, (need, total)) in [(3, 5), (1, 1), (2, 3), (16, 16)].into_iter().enumerate() {
        let mut rng = ChaCha20Rng::from_seed([round as u8; 32]);
        let seed = Seed::random(&mut rng);
        let plan = SplitPlan { vault: VaultId([1; 16]), generation: Generation::FIRST, set: 1, need, total };
        let cards = split(&seed, &plan, &mut rng).unwrap();
        // The last ones: other shares than the ones dealt at random.
        let chosen = &cards[usize::from(total - need)..];
        let typed: Vec<_> = chosen.iter().map(|card| words(card.to_text().expose_secret())).collect();
        assert_eq!(tool(&["recover"], &typed.join("\n")).trim(), hex(seed.expose_secret()), "{need} of {total}");

        for command in ["split", "split-extendable"] {
            let dealt = tool(&[command, &need.to_string(), &total.to_string()], &hex(seed.expose_secret()));
            let mut hand = Hand::new();
            for line in dealt.lines().skip(usize::from(total - need)) {
                hand.add_words(Share::parse(line).unwrap()).unwrap();
            }
            let recovered = hand.recover().unwrap();
            assert_eq!(recovered.seed.expose_secret(), seed.expose_secret(), "{command} {need} of {total}");
            let expected = if need == 1 { Confirmation::Checksum } else { Confirmation::Digest };
            assert_eq!(recovered.confirmed, expected);
        }
    }
}
