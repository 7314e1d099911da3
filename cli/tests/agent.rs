//! The agent runs on a schedule of seconds, on a host that keeps neither the seed
//! nor the read key, while people and accidents come by.
//!
//! What must hold: SIGTERM ends it in order; nobody else writes for its writer
//! meanwhile, and is told who does; a place that goes away is said, in its output
//! and by `vault status`, and so is its coming back; it never needs a read key.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;

use std::fs;

use stage::{Numbers, Running, Stage, assert_same_tree, cards, write_tree};

/// A vault of nine folders whose key is on cards, and a policy of seconds.
fn stage_with_policy() -> Stage {
    let stage = Stage::with_local_vault();
    write_tree(&stage.path("tree"), 300_000, &mut Numbers(10));
    stage.append_config(&format!(
        "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\nexclude = [\"*.tmp\"]\n\
         [policy.docs]\nsource = \"docs\"\nschedule = \"every 1s\"\n",
        stage.text("tree")
    ));
    stage.deal_cards();
    stage
}

/// Waits for one more line about a finished run than there is now.
fn wait_for_next_run(agent: &mut Running) {
    let count = |said: &str| said.matches("docs -> demo: ").count();
    // Two: the first may have begun before this was asked.
    let wanted = count(&agent.said()) + 2;
    agent.wait_until("another run", |said| count(said) >= wanted);
}

fn last_run(agent: &Running) -> String {
    agent.said().lines().rfind(|line| line.contains("docs -> demo: ")).unwrap_or_default().to_owned()
}

#[test]
fn it_backs_up_without_a_read_key_and_stops_when_asked() {
    let stage = stage_with_policy();
    fs::write(stage.path("tree/scratch.tmp"), b"not wanted").unwrap();
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("docs -> demo: ok");
    fs::write(stage.path("tree/new"), b"written while it runs").unwrap();
    wait_for_next_run(&mut agent);
    agent.ask_to_stop();
    agent.end().ends(0);
    assert!(!stage.path("vault/keys/read.key").exists() && !stage.path("vault/keys/master.seed").exists());

    fs::remove_file(stage.path("tree/scratch.tmp")).unwrap();
    let folder = fs::metadata(stage.path("tree")).unwrap().modified().unwrap();
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 4, 5])).ends(0);
    // The folder's own time changed when the scratch file went, after the point.
    fs::File::open(stage.path("out/tree")).unwrap().set_modified(folder).unwrap();
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));

    // Without keys the list comes from the writer's own part; a restore says what it needs.
    stage.holdfast(&["vault", "snapshots"]).ends(0).says("docs").says("need the read key");
    stage.holdfast(&["vault", "restore", "--to", "out2"]).ends(12).says("--card");
    stage.holdfast(&["keys", "status"]).ends(0).says("this host cannot read");
}

#[test]
fn one_owner_at_a_time() {
    let stage = stage_with_policy();
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("agent: 1 policies");
    let holder = format!("holdfast agent, process {}", agent.id());
    for command in [&["vault", "run", "tree"][..], &["agent"], &["vault", "repair", "--apply"]] {
        stage.holdfast(command).ends(11).says(&holder).says("Nothing was changed");
    }
    // Looking is free.
    agent.wait_for("docs -> demo: ok");
    stage.holdfast(&["vault", "snapshots"]).ends(0);
    stage.holdfast(&["vault", "audit"]).ends(0);
    assert!(agent.kill(), "it was still running");
    // A killed owner leaves no lock behind.
    stage.holdfast(&["vault", "run", "tree"]).ends(0);
}

#[test]
fn a_place_goes_away_and_comes_back() {
    let stage = stage_with_policy();
    stage.change_config("[vault.demo]", "[vault.demo]\nrepair = false");
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("docs -> demo: ok");
    assert!(last_run(&agent).contains("full"), "{}", agent.said());

    fs::rename(stage.path("vault/p4"), stage.path("unplugged")).unwrap();
    fs::write(stage.path("tree/while-away"), Numbers(11).bytes(500_000)).unwrap();
    wait_for_next_run(&mut agent);
    assert!(last_run(&agent).contains("with debts"), "{}", agent.said());
    stage.holdfast(&["vault", "status"]).ends(3).says("p4 does not take part");
    assert!(!stage.path("vault/p4").exists(), "an unplugged disk's folder is not made anew");

    fs::rename(stage.path("unplugged"), stage.path("vault/p4")).unwrap();
    wait_for_next_run(&mut agent);
    assert!(last_run(&agent).contains("ok"), "{}", agent.said());
    agent.ask_to_stop();
    agent.end().ends(0);
    stage.holdfast(&["vault", "repair", "--apply"]).ends(0);
    stage.holdfast(&["vault", "audit", "--full"]).ends(0);
    stage.holdfast_with(&["vault", "restore", "--to", "out"], &cards(&[1, 2, 3])).ends(0);
    assert_same_tree(&stage.path("tree"), &stage.path("out/tree"));
}

#[test]
fn what_is_owed_is_healed_by_the_agent_itself_and_the_metrics_say_so() {
    let stage = stage_with_policy();
    stage.change_config(
        "[vault.demo]",
        "[vault.demo]\nrepair_interval = \"1s\"\nscrub_interval = \"1 day\"\naudit_interval = \"2s\"\naudit_budget = \"4MiB\"",
    );
    fs::rename(stage.path("vault/p4"), stage.path("unplugged")).unwrap();
    let mut agent = stage.start(&["agent"]);
    agent.wait_for("with debts");
    fs::rename(stage.path("unplugged"), stage.path("vault/p4")).unwrap();
    // By a run, or by the repair between two: whichever comes first.
    agent.wait_for("full, 0 unreadable");
    wait_for_next_run(&mut agent);
    assert!(last_run(&agent).contains("full"), "{}", agent.said());
    let said = || fs::read_to_string(stage.path("vault/state/metrics.prom")).unwrap_or_default();
    let healed = "holdfast_location_missing_shards{vault=\"demo\",location=\"p4\"} 0";
    for _ in 0..300 {
        if said().contains(healed) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    agent.ask_to_stop();
    agent.end().ends(0);
    let metrics = said();
    for line in [
        "holdfast_last_point_full{vault=\"demo\",source=\"docs\",policy=\"docs\"} 1",
        "holdfast_location_missing_shards{vault=\"demo\",location=\"p4\"} 0",
        "holdfast_location_up{vault=\"demo\",location=\"p4\"} 1",
        "holdfast_vault_repair_retries{vault=\"demo\"} 0",
        "holdfast_chore_failures{vault=\"demo\",chore=\"audit\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in:\n{metrics}");
    }
    let healed = metrics.lines().find(|line| line.starts_with("holdfast_location_corrections{") && line.contains("p4"));
    assert!(healed.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    stage.holdfast(&["vault", "repair", "--plan"]).ends(0);
    stage.holdfast(&["vault", "audit", "--history"]).ends(0).says("p4");
}

#[test]
fn a_run_that_fails_is_said_and_tried_again() {
    let stage = stage_with_policy();
    fs::rename(stage.path("tree"), stage.path("elsewhere")).unwrap();
    let mut agent = stage.start(&["--json", "agent"]);
    agent.wait_for("NO POINT was made");
    stage.holdfast(&["vault", "status"]).ends(3).says("docs");
    agent.ask_to_stop();
    let ran = agent.end().ends(0);
    assert_eq!(ran.last()["type"], "summary");
    assert_eq!(ran.events("point").len(), 0);
}
