//! A person backs up a tree of everything a file system takes, again without having
//! changed a thing, again after changes; asks first what it would cost; leaves things
//! out; and has files that cannot be read.
//!
//! What must hold: what comes back is what went in, by an oracle that shares no code
//! with the program; what did not change is not read; a dry run changes nothing
//! anywhere; what could not be read is named and ends with 3, and the point is usable.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod stage;
#[path = "../../agent/sources/tests/torture/mod.rs"]
mod torture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use stage::{Ran, Stage, files_below};
use torture::{assert_same, grow_socket, grow_tree, picture};

/// Longer ago than this a file must have been touched to be believed.
const RACY: Duration = Duration::from_millis(2_100);

fn point(ran: &Ran) -> serde_json::Value {
    ran.events("point").pop().unwrap_or_else(|| panic!("no point: {}", ran.shown()))
}

fn everything_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = Vec::new();
    files_below(folder, &mut found);
    found.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn everything_comes_back_and_what_did_not_change_is_not_read() {
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    grow_tree(&stage.path("tree"));
    thread::sleep(RACY);
    let before = picture(&stage.path("tree"));
    let first = point(&stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0));
    assert!(first["items"].as_u64().unwrap() > 30 && first["changed"].as_u64().unwrap() > 25, "{first}");

    let places = everything_below(&stage.path("vault"));
    let asked = stage.holdfast(&["--json", "vault", "run", "tree", "--dry-run"]).ends(0);
    let estimate = asked.events("estimate").pop().unwrap();
    assert_eq!(
        (&estimate["changed"], &estimate["read_bytes"], &estimate["new_bytes"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(estimate["items"], first["items"]);
    let now = everything_below(&stage.path("vault"));
    let differ: Vec<_> =
        now.iter().filter(|(path, bytes)| places.get(*path) != Some(bytes)).map(|(path, _)| path).collect();
    let catalog = |path: &&&PathBuf| !path.to_str().unwrap().contains("/state/demo/catalog");
    assert_eq!(differ.iter().find(catalog), None, "a dry run writes nothing");

    let second = point(&stage.holdfast(&["--json", "vault", "run", "tree", "--tag", "again"]).ends(0));
    assert_eq!((&second["changed"], &second["new_bytes"]), (&0.into(), &0.into()), "{second}");
    assert_eq!((&second["root_hash"], &second["items"]), (&first["root_hash"], &first["items"]));
    assert_eq!(second["plain_bytes"], first["plain_bytes"], "a point has all of its bytes, read or not");
    let forced = point(&stage.holdfast(&["--json", "vault", "run", "tree", "--force"]).ends(0));
    assert_eq!(forced["root_hash"], first["root_hash"]);
    assert!(forced["changed"].as_u64().unwrap() > 10, "{forced}");

    fs::write(stage.path("tree/new\nline"), "other bytes").unwrap();
    let estimate = stage.holdfast(&["--json", "vault", "estimate", "tree"]).ends(0).events("estimate").pop().unwrap();
    assert_eq!(
        (&estimate["read_bytes"], &estimate["new_bytes"].as_u64().is_some_and(|bytes| bytes >= 11)),
        (&11.into(), &true)
    );
    let third = point(&stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0));
    assert_eq!(third["changed"], 1, "{third}");
    for counted in ["items", "plain_bytes", "new_bytes"] {
        assert_eq!(estimate[counted], third[counted], "{counted}: it was as was said");
    }
    let after = picture(&stage.path("tree"));
    stage.holdfast(&["vault", "restore", "latest~1", "--to", "then"]).ends(0).says("every byte checked");
    assert_same(&before, &picture(&stage.path("then/tree")), "the point before");
    stage.holdfast(&["vault", "restore", "--to", "now"]).ends(0);
    assert_same(&after, &picture(&stage.path("now/tree")), "the newest point");

    // Without its catalog it is a re-read, and the same root.
    stage.lose_catalog();
    let fourth = point(&stage.holdfast(&["--json", "vault", "run", "tree"]).ends(0));
    assert_eq!((&fourth["root_hash"], &fourth["new_bytes"]), (&third["root_hash"], &0.into()), "{fourth}");
    assert!(fourth["changed"].as_u64().unwrap() > 25, "{fourth}");
}

#[test]
fn what_is_left_out_is_said_in_the_configuration_or_at_the_command() {
    let stage = Stage::with_local_vault();
    for name in ["keep", "cache/x", "big", "private/x", "a.tmp"] {
        let path = stage.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::write(stage.path("tree/cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
    fs::write(stage.path("tree/private/.nobackup"), "").unwrap();
    fs::write(stage.path("tree/big"), vec![7; 5_000]).unwrap();
    let left = |to: &str| {
        let mut found = Vec::new();
        files_below(&stage.path(to), &mut found);
        let mut names: Vec<String> =
            found.iter().map(|path| path.strip_prefix(stage.path(to)).unwrap().display().to_string()).collect();
        names.sort();
        names
    };
    let expected = ["tree/cache/CACHEDIR.TAG", "tree/keep", "tree/private/.nobackup"];
    let options = ["--exclude", "*.tmp", "--exclude-if-present", ".nobackup", "--exclude-caches"];
    let more = ["--exclude-larger-than", "4KiB", "--one-file-system", "--name", "mine"];
    stage.holdfast(&[&["vault", "run", "tree"], &options[..], &more[..]].concat()).ends(0).says("mine");
    stage.holdfast(&["vault", "restore", "--source", "mine", "--to", "out"]).ends(0);
    assert_eq!(left("out"), expected);
    stage.append_config(&format!(
        "\n[source.docs]\nkind = \"directory\"\npaths = [\"{}\"]\nexclude = [\"*.tmp\"]\n\
         exclude_if_present = [\".nobackup\"]\nexclude_caches = true\nexclude_larger_than = \"4KiB\"\none_file_system = true\n",
        stage.text("tree")
    ));
    stage.holdfast(&["vault", "run", "docs"]).ends(0);
    stage.holdfast(&["vault", "restore", "--source", "docs", "--to", "docs"]).ends(0);
    assert_eq!(left("docs"), expected);
    stage.holdfast(&["vault", "run", "docs", "--exclude-caches"]).ends(2).says("[source.NAME]");
    stage.holdfast(&["vault", "run", "tree", "--exclude-larger-than", "4"]).ends(2).says("512KiB");
    stage.holdfast(&["vault", "run", "tree", "--exclude-if-present", "a/b"]).ends(2);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_there() {
    let stage = Stage::with_local_vault();
    fs::create_dir(stage.path("tree")).unwrap();
    fs::write(stage.path("tree/good"), "good").unwrap();
    grow_socket(&stage.path("tree"));
    // The system answers EIO for a process's memory at address 0.
    let ran = stage.holdfast(&["vault", "run", "tree", "/proc/self/mem"]).ends(3);
    let ran = ran.says("/mem: Input/output error").says("1 unreadable");
    assert!(ran.out.contains("ok"), "{}", ran.shown());
    stage.holdfast(&["vault", "restore", "--to", "out"]).ends(3).says("socket");
    assert_eq!(fs::read_to_string(stage.path("out/tree/good")).unwrap(), "good");
    stage.holdfast(&["vault", "run", "/proc/self/mem"]).ends(1).says("no point was made");
}
