//! Restores of a part, and into directories where something stands: what may be touched is
//! touched, and nothing else, whatever lies in wait there.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use agent_sources::directory::DirectorySource;
use agent_sources::selection::Selection;
use agent_sources::tree::{Overwrite, TreeOptions, TreeReport, Wishes, plan, restore};
use memory_vault::{MemoryPoint, MemoryVault};
use vault_format::point::{PointRoot, TreeRoot};
use vault_ops::{OpsError, Result};

/// A point of a small tree, a target, and something precious beside it.
struct Scene {
    dir: tempfile::TempDir,
    vault: MemoryVault,
    point: MemoryPoint,
    root: TreeRoot,
}

/// What stands below a directory: of a file its bytes, of a link where it leads.
fn picture(top: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let what = if kind.is_dir() {
                waiting.push(path);
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
            };
            found.insert(name, what);
        }
    }
    found
}

fn set_mtime(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        fs::create_dir_all(docs.join("sub/deep")).unwrap();
        for (name, bytes) in [
            ("a.txt", "one"),
            ("b.rs", "two"),
            ("sub/c.txt", "three"),
            ("sub/d.rs", "four"),
            ("sub/deep/e.txt", "five"),
        ] {
            fs::write(docs.join(name), bytes).unwrap();
            set_mtime(&docs.join(name), 1_000_000_000);
        }
        symlink("a.txt", docs.join("link")).unwrap();
        fs::hard_link(docs.join("a.txt"), docs.join("sub/same")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "as it was").unwrap();
        let mut vault = MemoryVault::default();
        let reading = vault.read(&mut DirectorySource::new("docs", &[docs], Vec::new()).unwrap()).unwrap();
        let PointRoot::Tree(root) = reading.root.clone() else { panic!("a tree") };
        let point = vault.point(reading.root);
        Self { dir, vault, point, root }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn put(&self, name: &str, bytes: &str, seconds: u64) {
        let path = self.target().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        set_mtime(&path, seconds);
    }

    async fn restore(&self, wishes: Wishes) -> Result<TreeReport> {
        let done = restore(&self.point, &self.root, &self.target(), &wishes).await;
        let outside = BTreeMap::from([("precious".to_owned(), "as it was".to_owned())]);
        assert_eq!(picture(&self.dir.path().join("outside")), outside, "outside the target nothing changes");
        done
    }

    /// What a whole restore gives.
    fn whole(&self) -> BTreeMap<String, String> {
        let docs = self.dir.path().join("docs");
        let below = picture(&docs).into_iter().map(|(name, what)| (format!("docs/{name}"), what));
        below.chain([("docs".to_owned(), "directory".to_owned())]).collect()
    }
}

fn wishes(overwrite: Overwrite) -> Wishes {
    let options = TreeOptions { sync: false, ..TreeOptions::default() };
    Wishes { options, overwrite, verify: true, ..Wishes::default() }
}

fn only(include: &[&str], exclude: &[&str]) -> Wishes {
    let owned = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    Wishes { selection: Selection::new(&owned(include), &owned(exclude)).unwrap(), ..wishes(Overwrite::Refuse) }
}

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn patterns_take_what_they_say_and_the_way_to_it() {
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["*.rs"], &[], &["docs", "docs/b.rs", "docs/sub", "docs/sub/d.rs"]),
        (&["/docs/sub/deep"], &[], &["docs", "docs/sub", "docs/sub/deep", "docs/sub/deep/e.txt"]),
        (&["*.txt"], &["deep/"], &["docs", "docs/a.txt", "docs/sub", "docs/sub/c.txt"]),
        (&[], &["sub/", "link"], &["docs", "docs/a.txt", "docs/b.rs"]),
        (&["/docs/a.txt", "/docs/sub/same"], &[], &["docs", "docs/a.txt", "docs/sub", "docs/sub/same"]),
        (&["nothing"], &[], &[]),
    ];
    for (include, exclude, expected) in cases {
        let scene = Scene::new();
        let report = scene.restore(only(include, exclude)).await.unwrap();
        let there: BTreeSet<String> = picture(&scene.target()).into_keys().collect();
        assert_eq!(there, names(expected), "{include:?} without {exclude:?}");
        assert_eq!((report.differs.len(), report.inexact.len()), (0, 0), "{report:?}");
        let of = |name: &str| fs::metadata(scene.dir.path().join(name)).unwrap();
        if there.contains("docs") {
            assert_eq!(of("target/docs").mtime_nsec(), of("docs").mtime_nsec(), "the way has its attributes, too");
        }
        assert_eq!(scene.restore(only(include, exclude)).await.unwrap().files, 0, "again: all of it is there");
    }
}

#[tokio::test]
async fn a_directory_becomes_the_target_and_a_file_stands_in_it() {
    let scene = Scene::new();
    let part = |path: &str| Wishes { part: path.into(), ..wishes(Overwrite::Refuse) };
    scene.restore(part("docs/sub")).await.unwrap();
    let there: BTreeSet<String> = picture(&scene.target()).into_keys().collect();
    assert_eq!(there, names(&["c.txt", "d.rs", "deep", "deep/e.txt", "same"]));
    let mode = |path: &Path| fs::metadata(path).unwrap().mtime_nsec();
    assert_eq!(mode(&scene.target()), mode(&scene.dir.path().join("docs/sub")));
    fs::remove_dir_all(scene.target()).unwrap();
    scene.restore(part("docs/sub/d.rs")).await.unwrap();
    assert_eq!(picture(&scene.target()), BTreeMap::from([("d.rs".to_owned(), "four".to_owned())]));
    fs::remove_dir_all(scene.target()).unwrap();
    for path in ["docs/none", "docs/a.txt/below", "../docs"] {
        assert!(matches!(scene.restore(part(path)).await, Err(OpsError::Refused { .. })), "{path}");
        assert!(!scene.target().exists());
    }
}

#[tokio::test]
async fn each_rule_touches_what_it_says() {
    let expected = [
        (Overwrite::Never, "old", "new", 2),
        (Overwrite::IfNewer, "one", "new", 1),
        (Overwrite::Always, "one", "two", 0),
    ];
    for (rule, older, newer, kept) in expected {
        let scene = Scene::new();
        scene.put("docs/a.txt", "old", 900_000_000);
        scene.put("docs/b.rs", "new", 1_100_000_000);
        scene.put("docs/mine", "mine", 1);
        scene.put("beside", "mine", 1);
        let refused = scene.restore(wishes(Overwrite::Refuse)).await.unwrap_err();
        assert!(refused.to_string().contains("nothing was written"), "{refused}");
        assert_eq!(picture(&scene.target()).len(), 5, "nothing was written");

        let report = scene.restore(Wishes { verify: false, ..wishes(rule) }).await.unwrap();
        let mut after = scene.whole();
        after.insert("docs/a.txt".to_owned(), older.to_owned());
        after.insert("docs/b.rs".to_owned(), newer.to_owned());
        after.insert("docs/mine".to_owned(), "mine".to_owned());
        after.insert("beside".to_owned(), "mine".to_owned());
        if rule == Overwrite::Never {
            // The other name of a file that was kept is the point's file.
            assert_eq!(fs::read(scene.target().join("docs/sub/same")).unwrap(), b"one");
        }
        assert_eq!(picture(&scene.target()), after, "{rule:?}");
        assert_eq!((report.kept, report.replaced), (kept, 2 - kept), "{rule:?}: {report:?}");
    }
}

#[tokio::test]
async fn equal_size_and_time_are_not_taken_for_equal_bytes() {
    let scene = Scene::new();
    scene.restore(wishes(Overwrite::Refuse)).await.unwrap();
    for rule in [Overwrite::Refuse, Overwrite::Always] {
        fs::write(scene.target().join("docs/b.rs"), "TWO").unwrap();
        set_mtime(&scene.target().join("docs/b.rs"), 1_000_000_000);
        let report = scene.restore(wishes(rule)).await.unwrap();
        assert_eq!((report.files, report.replaced), (1, 1), "{report:?}");
        assert!(report.already > 4 && report.differs.is_empty(), "{report:?}");
        assert_eq!(picture(&scene.target()), scene.whole());
    }
    let inode = |name: &str| fs::metadata(scene.target().join(name)).unwrap().ino();
    assert_eq!(inode("docs/a.txt"), inode("docs/sub/same"));
    fs::remove_file(scene.target().join("docs/sub/same")).unwrap();
    fs::write(scene.target().join("docs/sub/same"), "one").unwrap();
    scene.restore(wishes(Overwrite::Always)).await.unwrap();
    assert_eq!(inode("docs/a.txt"), inode("docs/sub/same"), "one file again");
}

#[tokio::test]
async fn what_an_interrupted_run_left_is_gone_on_with_and_what_others_left_is_not() {
    let scene = Scene::new();
    scene.put("docs/.holdfast-incoming", "half a fi", 5);
    scene.put("docs/a.txt", "one", 1_000_000_000);
    symlink("a.txt", scene.target().join("docs/link")).unwrap();
    let report = scene.restore(wishes(Overwrite::Refuse)).await.unwrap();
    assert_eq!((report.already, report.replaced, report.files), (2, 0, 4), "{report:?}");
    assert_eq!(picture(&scene.target()), scene.whole());

    let foreign: &[(&str, &str)] = &[("docs/mine", "x"), ("docs/sub/deep/mine", "x"), ("mine", "x")];
    for (name, bytes) in foreign {
        scene.put(name, bytes, 1_000_000_000);
        let before = picture(&scene.target());
        let refused = scene.restore(wishes(Overwrite::Refuse)).await.unwrap_err().to_string();
        assert!(refused.contains(name), "{refused}");
        assert_eq!(picture(&scene.target()), before);
        fs::remove_file(scene.target().join(name)).unwrap();
    }
    // Somebody went on working with a file that was restored.
    scene.put("docs/b.rs", "edited", 1_200_000_000);
    let refused = scene.restore(wishes(Overwrite::Refuse)).await.unwrap_err().to_string();
    assert!(refused.contains("docs/b.rs"), "{refused}");
    assert_eq!(fs::read(scene.target().join("docs/b.rs")).unwrap(), b"edited");
}

#[tokio::test]
async fn links_planted_in_the_target_lead_nowhere() {
    for rule in [Overwrite::Never, Overwrite::IfNewer, Overwrite::Always] {
        for (at, leads_to) in [("docs", "outside"), ("docs/sub", "outside"), ("docs/a.txt", "outside/precious")] {
            let scene = Scene::new();
            let planted = scene.target().join(at);
            fs::create_dir_all(planted.parent().unwrap()).unwrap();
            symlink(scene.dir.path().join(leads_to), &planted).unwrap();
            fs::write(scene.dir.path().join("outside/precious"), "as it was").unwrap();
            set_mtime(&scene.dir.path().join("outside/precious"), 1);
            scene.restore(Wishes { verify: false, ..wishes(rule) }).await.unwrap();
            let is_link = fs::symlink_metadata(&planted).unwrap().is_symlink();
            if rule == Overwrite::Always {
                assert!(!is_link);
                assert_eq!(picture(&scene.target()), scene.whole());
            } else {
                // The link was made later than anything in the point.
                assert!(is_link, "{rule:?} {at}");
            }
            assert!(scene.restore(wishes(Overwrite::Refuse)).await.is_err() || !is_link);
        }
    }
}

#[tokio::test]
async fn only_what_was_agreed_to_is_removed_and_nothing_behind_a_link() {
    let scene = Scene::new();
    scene.restore(wishes(Overwrite::Refuse)).await.unwrap();
    scene.put("docs/old/below/file", "goes", 1);
    scene.put("docs/sub/extra", "goes", 1);
    scene.put("docs/keep.log", "stays: left out by a pattern", 1);
    scene.put("beside", "goes", 1);
    symlink(scene.dir.path().join("outside"), scene.target().join("docs/old/way out")).unwrap();
    symlink(scene.dir.path().join("outside"), scene.target().join("way out")).unwrap();

    let selection = Selection::new(&[], &["*.log".to_owned()]).unwrap();
    let mut wished = Wishes { selection, ..wishes(Overwrite::Always) };
    let planned = plan(&scene.point, &scene.root, &scene.target(), &wished).await.unwrap();
    let surplus: BTreeSet<String> = planned.surplus.iter().map(|one| one.path.display().to_string()).collect();
    assert_eq!(surplus, names(&["beside", "docs/old", "docs/sub/extra", "way out"]));
    let old = planned.surplus.iter().find(|one| one.path == Path::new("docs/old")).unwrap();
    assert_eq!((old.names, old.bytes), (4, 4));

    let report = scene.restore(wished.clone()).await.unwrap();
    assert_eq!(report.removed, 0, "nothing was agreed to");
    wished.remove = planned.surplus.iter().map(|one| one.path.clone()).collect();
    // What came after the plan was not agreed to, and stays.
    scene.put("docs/later", "stays", 1);
    // A plan of another target, or one that somebody made up, reaches nothing.
    let made_up = ["../outside/precious", "/etc/hostname", "docs/../../outside", ".."];
    wished.remove.extend(made_up.map(PathBuf::from));
    let report = scene.restore(wished).await.unwrap();
    assert_eq!(report.removed, 7, "{report:?}");
    let mut after = scene.whole();
    after.insert("docs/keep.log".to_owned(), "stays: left out by a pattern".to_owned());
    after.insert("docs/later".to_owned(), "stays".to_owned());
    assert_eq!(picture(&scene.target()), after);
}

#[tokio::test]
async fn a_dry_run_tells_the_truth_and_writes_nothing() {
    let scene = Scene::new();
    let fresh = plan(&scene.point, &scene.root, &scene.target(), &wishes(Overwrite::Refuse)).await.unwrap();
    assert!(!scene.target().exists());
    assert_eq!((fresh.files, fresh.directories, fresh.others), (6, 3, 1), "{fresh:?}");
    assert!(fresh.room > 0 && fresh.foreign.is_none());
    scene.put("docs/a.txt", "old", 900_000_000);
    fs::create_dir(scene.target().join("docs/b.rs")).unwrap();
    let before = picture(&scene.target());
    let mixed = plan(&scene.point, &scene.root, &scene.target(), &wishes(Overwrite::Always)).await.unwrap();
    assert_eq!(picture(&scene.target()), before);
    assert_eq!(mixed.replaced, [PathBuf::from("docs/a.txt")]);
    assert_eq!(mixed.conflicts.len(), 1, "a directory is never replaced: {mixed:?}");
    let report = scene.restore(wishes(Overwrite::Always)).await.unwrap();
    assert_eq!(report.inexact.len(), 1, "{report:?}");
    assert!(scene.target().join("docs/b.rs").is_dir());
}

#[tokio::test]
async fn a_target_without_room_is_refused_before_anything_is_written() {
    let mut scene = Scene::new();
    let huge = vault_format::tree::Content { bytes: u64::from(u32::MAX) << 24, depth: 1, chunks: Vec::new() };
    let mut listing = vault_format::tree::Listing { entries: Vec::new() };
    let top = scene.vault.put_listing(&listing);
    assert_eq!(top.bytes, vault_format::encode(&listing).len() as u64);
    listing.entries.push(vault_format::tree::Entry {
        name: vault_format::Blob(b"huge".to_vec()),
        kind: vault_format::tree::EntryKind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        mtime_s: 0,
        mtime_ns: 0,
        size: huge.bytes,
        content: Some(huge),
        target: None,
        xattrs: Vec::new(),
        device: 0,
        link_group: 0,
        holes: Vec::new(),
        flags: 0,
    });
    let root = scene.vault.root(&listing);
    let point = scene.vault.point(PointRoot::Tree(root.clone()));
    let part = Wishes { part: "huge".into(), ..wishes(Overwrite::Refuse) };
    let error = restore(&point, &root, &scene.target(), &part).await.unwrap_err();
    assert!(error.to_string().contains("bytes of room"), "{error}");
    assert!(!scene.target().exists());
}

#[tokio::test]
async fn a_file_that_rots_after_it_was_written_is_found_by_reading_it_again() {
    let scene = Scene::new();
    scene.restore(wishes(Overwrite::Refuse)).await.unwrap();
    fs::write(scene.target().join("docs/b.rs"), "rot").unwrap();
    set_mtime(&scene.target().join("docs/b.rs"), 1_100_000_000);
    // Nothing is written: all stands; and what stands is compared.
    let report = scene.restore(wishes(Overwrite::Never)).await.unwrap();
    assert_eq!(report.differs.len(), 1, "{report:?}");
    assert_eq!(report.differs[0].path, "docs/b.rs");
    assert!(report.verified.unwrap() > 3);
}
