//! Places that are away: all of them at once, a disk in a drawer, a host that is full.
//!
//! What must hold: what no place takes waits on this host and is said not to be
//! durable (14), by the run, by `status` and in the metrics; a spool that is full takes
//! nothing more and loses nothing; when the places are back, the agent and `vault
//! deliver` each bring it there by themselves, and it restores equal. A command that
//! lists what is there never shows an empty list because nobody answers. A disk that
//! may be away is no alarm before its time, is one after it, and is healed when it
//! comes. What can never be delivered stops nobody and goes aside when told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use stage::{Numbers, Place, Stage, Witness, assert_same_tree, files_below, rot, write_tree};

const PLACES: [&str; 4] = ["p1", "p2", "p3", "p4"];
const SPOOL: &str = "vault/state/home/spool";

/// A vault over four domains that survives any one, with one point.
fn scene(more: &str) -> (Stage, Numbers, Witness) {
    let (stage, mut numbers) = (Stage::new(), Numbers(80));
    let places: Vec<Place> = PLACES
        .iter()
        .map(|name| {
            let place = Place::folder(&stage, name, &format!("domain-{name}"));
            if *name == "p4" { Place { more: more.to_owned(), ..place } } else { place }
        })
        .collect();
    stage.init_over(&places, 1).ends(0);
    write_tree(&stage.path("tree"), 100_000, &mut numbers);
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
    let mut witness = Witness::default();
    witness.look(&stage, "tree");
    (stage, numbers, witness)
}

fn go(stage: &Stage, place: &str) {
    fs::rename(stage.path(place), stage.path(&format!("{place} is away"))).unwrap();
}

fn come(stage: &Stage, place: &str) {
    fs::rename(stage.path(&format!("{place} is away")), stage.path(place)).unwrap();
}

fn all_go(stage: &Stage) {
    for place in PLACES {
        go(stage, place);
    }
}

fn all_come(stage: &Stage) {
    for place in PLACES {
        come(stage, place);
    }
}

/// Shards and manifests that wait.
fn waiting(stage: &Stage) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for kind in ["shards", "manifests"] {
        files_below(&stage.path(SPOOL).join(kind), &mut found);
    }
    found.sort();
    found
}

fn summary(stage: &Stage, command: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].iter().chain(command).copied().collect();
    stage.holdfast(&all).last()
}

#[test]
fn with_every_place_away_a_point_waits_and_the_agent_or_deliver_bring_it_home() {
    let (stage, mut numbers, mut witness) = scene("");
    for by_agent in [false, true] {
        all_go(&stage);
        fs::write(stage.path("tree/new"), numbers.bytes(300_000)).unwrap();
        let run = stage.holdfast(&["--json", "vault", "run", "tree"]).ends(14);
        let point = &run.events("point")[0];
        assert_eq!(
            (&point["standing"], &point["spooled"]["points"]),
            (&"spooled".into(), &1.into()),
            "{}",
            run.shown()
        );
        run.says("not durable").says("holdfast vault deliver");

        // Nothing that lists looks as if nothing were there.
        for command in [
            &["vault", "snapshots"][..],
            &["vault", "audit"],
            &["vault", "repair"],
            &["vault", "forget", "--keep-last", "1"],
            &["vault", "trash", "list"],
            &["vault", "gc"],
        ] {
            let ran = stage.holdfast(command).ends(14).says("no location answers");
            ran.says("1 points wait in the spool").says("holdfast vault deliver").says("p3: ");
        }
        stage.holdfast(&["vault", "restore", "--to", "out"]).ends(14).says("no location answers");
        stage.holdfast(&["vault", "deliver"]).ends(14).says("not durable: 1 points");

        let status = stage.holdfast(&["vault", "status"]).ends(3);
        status.says("1 points").says("wait in the spool of this host since").says("holdfast vault deliver");
        let told = summary(&stage, &["vault", "status"]);
        assert_eq!(
            (&told["spool"]["points"], &told["spool"]["stuck"]),
            (&1.into(), &Value::Array(Vec::new())),
            "{told}"
        );
        assert!(told["spool"]["bytes"].as_u64().unwrap() > 300_000, "{told}");
        assert!(told["spool"]["oldest_age_seconds"].as_i64().unwrap() >= 0, "{told}");
        assert!(told["packs_by_state"]["spooled"].as_u64().unwrap() > 0, "{told}");

        all_come(&stage);
        if by_agent {
            let mut agent = stage.start(&["agent"]);
            agent.wait_for("from the spool");
            agent.ask_to_stop();
            agent.end().ends(0);
        } else {
            stage.holdfast(&["vault", "deliver"]).ends(0).says("delivered p-").says("nothing waits in the spool");
        }
        assert!(waiting(&stage).is_empty());
        witness.look(&stage, "tree");
        witness.newest_restores(&stage, "tree", &[0]);
        let told = summary(&stage, &["vault", "status"]);
        assert_eq!((&told["spool"], &told["debts"]), (&Value::Null, &0.into()), "{told}");
        assert_eq!(told["packs_by_state"]["spooled"], 0, "{told}");
    }
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    witness.all_restore(&stage);
}

#[test]
fn the_metrics_say_what_waits() {
    let (stage, _, _) = scene("");
    stage.append_config(&format!(
        "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\n[policy.docs]\nsource = \"docs\"\nschedule = \"every 1h\"\n",
        stage.text("tree")
    ));
    all_go(&stage);
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("NOT DURABLE");
    let metrics = || fs::read_to_string(stage.path("vault/state/metrics.prom")).unwrap_or_default();
    agent.wait_until("a metric", |_| metrics().contains("holdfast_vault_spool_points{vault=\"home\"} 1\n"));
    let said = metrics();
    let value = |name: &str| -> f64 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("holdfast_{name}{{vault=\"home\"}} ")));
        line.unwrap_or_else(|| panic!("{name} is missing in:\n{said}")).parse().unwrap()
    };
    assert!(value("vault_spool_bytes") > 0.0 && value("vault_spool_oldest_age_seconds") >= 0.0, "{said}");
    assert!(said.contains("holdfast_vault_spool_stuck_points{vault=\"home\"} 0\n"), "{said}");
    all_come(&stage);
    agent.ask_to_stop();
    agent.end().ends(0);
}

#[test]
fn a_spool_that_is_full_takes_nothing_more_and_loses_nothing() {
    let (stage, mut numbers, mut witness) = scene("");
    stage.change_config("[vault.home]\n", "[vault.home]\nspool_max = \"64MiB\"\n");
    all_go(&stage);
    fs::write(stage.path("tree/new"), numbers.bytes(20 << 20)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(14).says("kept");
    let before = waiting(&stage);
    let kept: Vec<Vec<u8>> = before.iter().map(|file| fs::read(file).unwrap()).collect();
    fs::create_dir(stage.path("more")).unwrap();
    fs::write(stage.path("more/big"), numbers.bytes(60 << 20)).unwrap();
    for _ in 0..2 {
        let full = stage.holdfast(&["vault", "run", "more"]).ends(14);
        full.says("the spool on this host is full")
            .says("may hold 64 MiB (spool_max)")
            .says("No point was made of this run");
        assert_eq!(waiting(&stage), before, "half of a point is left, or what waited is gone");
    }
    assert!(before.iter().map(|file| fs::read(file).unwrap()).eq(kept), "what waited was touched");
    stage.holdfast(&["vault", "status"]).ends(3).says("1 points");
    all_come(&stage);
    stage.holdfast(&["vault", "deliver"]).ends(0).says("delivered p-");
    witness.look(&stage, "tree");
    witness.newest_restores(&stage, "tree", &[0]);
    // With the places there, its size is no matter.
    stage.holdfast(&["vault", "run", "more"]).ends(0);
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(0);
    assert_same_tree(&stage.path("more"), &stage.path("out/more"));
}

#[test]
fn a_disk_in_a_drawer_is_missed_when_it_is_due_and_healed_when_it_comes() {
    let (stage, mut numbers, mut witness) = scene("attached = \"sometimes\"\ndue = \"1h\"\n");
    let deal = ["keys", "split", "--cards", "5", "--need", "3", "--cards-dir", "cards", "--remove-seed"];
    let cards: Vec<String> = (1..=3).flat_map(|n| ["--card".to_owned(), format!("cards/card-set1-{n}.txt")]).collect();
    go(&stage, "p4");
    fs::write(stage.path("tree/new"), numbers.bytes(300_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(0).says("p4 is away, as it may be until");
    witness.look(&stage, "tree");
    stage.holdfast(&deal).ends(0);
    let calm = stage.holdfast(&["vault", "status"]).ends(0);
    calm.says("SAFE").says("p4 is away since").never_says("does not take part");
    let owed = summary(&stage, &["vault", "status"])["debts"].as_u64().unwrap();
    assert!(owed > 0, "what it never got is owed");

    stage.change_config("due = \"1h\"", "due = \"1s\"");
    std::thread::sleep(Duration::from_millis(1_100));
    stage.holdfast(&["vault", "status"]).ends(3).says("AT RISK").says("p4 does not take part");
    stage.holdfast(&["vault", "run", "tree"]).ends(3).says("owed to p4");

    come(&stage, "p4");
    stage.holdfast(&["vault", "run", "tree"]).ends(0).says("that earlier runs owed are home").says("full");
    assert_eq!(summary(&stage, &["vault", "status"])["debts"], 0);
    stage.holdfast(&["vault", "status"]).ends(0).says("SAFE").never_says("p4 is away");
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    // It carries its part: any other one may go now.
    go(&stage, "p1");
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn what_can_never_be_delivered_stops_nobody_and_goes_aside() {
    let (stage, mut numbers, mut witness) = scene("");
    all_go(&stage);
    fs::write(stage.path("tree/new"), numbers.bytes(200_000)).unwrap();
    stage.holdfast(&["vault", "run", "tree"]).ends(14);
    stage::copy_exactly(&stage.path("tree"), &stage.path("then"));
    all_come(&stage);
    let manifest = waiting(&stage).into_iter().find(|file| file.to_str().unwrap().contains("manifests")).unwrap();
    rot(&manifest);

    // It is said, with the fix; nothing else waits for it.
    stage.holdfast(&["vault", "deliver"]).ends(14).says("stays in the spool: its manifest cannot be believed");
    let fix = "holdfast vault deliver --set-aside";
    stage.holdfast(&["vault", "status"]).ends(3).says("cannot be delivered").says(fix);
    assert_eq!(summary(&stage, &["vault", "status"])["spool"]["stuck"].as_array().unwrap().len(), 1);
    for _ in 0..2 {
        fs::write(stage.path("tree/new"), numbers.bytes(200_000)).unwrap();
        stage.holdfast(&["vault", "run", "tree"]).ends(3).says("full").says("stays in the spool").says(fix);
        witness.look(&stage, "tree");
        witness.newest_restores(&stage, "tree", &[0]);
    }

    // A plan moves nothing; then all of it goes, and where to is said.
    let before = waiting(&stage);
    let bytes: Vec<Vec<u8>> = before.iter().map(|file| fs::read(file).unwrap()).collect();
    stage.holdfast(&["vault", "deliver", "--apply"]).ends(2);
    stage
        .holdfast(&["vault", "deliver", "--set-aside"])
        .ends(14)
        .says("Nothing was changed")
        .says(manifest.to_str().unwrap());
    assert_eq!(waiting(&stage), before);
    let aside = stage.path(SPOOL).join("aside");
    let done = stage.holdfast(&["vault", "deliver", "--set-aside", "--apply"]).ends(3);
    done.says(&format!("moved to {}", aside.display())).says("nothing waits in the spool");
    assert!(waiting(&stage).is_empty());
    for (file, bytes) in before.iter().zip(bytes) {
        let moved = aside.join(file.strip_prefix(stage.path(SPOOL)).unwrap());
        assert!(fs::read(&moved).unwrap() == bytes, "{} is not what it was", moved.display());
    }
    stage.holdfast(&["vault", "status"]).ends(3).never_says("spool");
    stage.holdfast(&["vault", "deliver", "--set-aside", "--apply"]).ends(0).says("nothing to set aside");

    // Nothing is lost: with the earlier point's shards it restores.
    let key = stage.text("vault/keys/read.key");
    let listed = stage.holdfast(&["--json", "vault", "snapshots"]).ends(0).events("point").len();
    assert_eq!(listed, witness.count());
    restores_from(&stage, &key, &aside);
    witness.all_restore(&stage);
}

/// The point that was set aside, from the pile it was moved to and those of the vault.
fn restores_from(stage: &Stage, key: &str, aside: &std::path::Path) {
    let piles: Vec<String> = PLACES.iter().map(|place| stage.text(place)).collect();
    let mut found = false;
    for back in 0..4 {
        let (name, out) = (format!("latest~{back}"), format!("out{back}"));
        let mut words = vec!["vault", "restore", &name, "--to", &out, "--scan", "--read-key", key, "--from"];
        let aside = aside.display().to_string();
        words.push(&aside);
        words.extend(piles.iter().map(String::as_str));
        stage.holdfast(&words).ends(3).says("restored from bare shards");
        found |= fs::read(stage.path(&out).join("tree/new")).ok() == fs::read(stage.path("then/new")).ok();
    }
    assert!(found, "none of the points found has what was set aside");
}

#[test]
fn what_killed_writers_left_in_the_spool_goes() {
    let (stage, _, _) = scene("");
    let folder = stage.path(SPOOL).join("shards");
    fs::create_dir_all(&folder).unwrap();
    let old = SystemTime::now() - Duration::from_hours(2);
    let write = |name: &str, modified: SystemTime| {
        fs::write(folder.join(name), b"half").unwrap();
        fs::File::options().write(true).open(folder.join(name)).unwrap().set_modified(modified).unwrap();
    };
    write("0123.04#1", old);
    write("0123.05#2", SystemTime::now());
    write("a note#of mine", old);
    stage.holdfast(&["vault", "status"]).ends(3);
    let left: Vec<bool> = ["0123.04#1", "0123.05#2", "a note#of mine"].map(|name| folder.join(name).exists()).to_vec();
    assert_eq!(left, [false, true, true], "only what is ours, and old enough that nobody writes it now");
}
