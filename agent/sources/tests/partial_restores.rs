//! A point of which some cannot be read: the rest is restored, what is missing is named
//! and not there, and once it can be read the same restore adds it. Trouble with the
//! target ends the restore at once.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use agent_sources::directory::DirectorySource;
use agent_sources::tree::{Overwrite, TreeOptions, TreeReport, Wishes, plan, restore};
use memory_vault::{MemoryPoint, MemoryVault};
use vault_format::point::{PointRoot, TreeRoot};
use vault_ops::{OpsError, Result};

struct Scene {
    dir: tempfile::TempDir,
    vault: MemoryVault,
    point: MemoryPoint,
    root: TreeRoot,
}

const FILES: [(&str, &str); 6] = [
    ("a", "the first"),
    ("b", "two names"),
    ("in/c", "the third"),
    ("in/deep/d", "the fourth"),
    ("in/deep/e", "the fifth"),
    ("z", "the last"),
];

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        fs::create_dir_all(docs.join("in/deep")).unwrap();
        for (name, bytes) in FILES {
            fs::write(docs.join(name), bytes).unwrap();
        }
        fs::hard_link(docs.join("b"), docs.join("in/same")).unwrap();
        for name in ["in/deep", "in", "."] {
            let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            fs::File::open(docs.join(name)).unwrap().set_modified(old).unwrap();
        }
        let mut vault = MemoryVault::default();
        let reading = vault.read(&mut DirectorySource::new("docs", &[docs], Vec::new()).unwrap()).unwrap();
        let PointRoot::Tree(root) = reading.root.clone() else { panic!("a tree") };
        let point = vault.point(reading.root);
        Self { dir, vault, point, root }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    fn wishes(overwrite: Overwrite) -> Wishes {
        let options = TreeOptions { sync: false, ..TreeOptions::default() };
        Wishes { options, overwrite, verify: true, ..Wishes::default() }
    }

    async fn restore(&self) -> Result<TreeReport> {
        restore(&self.point, &self.root, &self.target(), &Self::wishes(Overwrite::Refuse)).await
    }

    /// Every file that is there holds what it held; returns their names.
    fn there(&self) -> BTreeSet<String> {
        let names = FILES.iter().map(|(name, _)| *name).chain(["in/same"]);
        let there = names.filter(|name| self.target().join("docs").join(name).exists());
        there
            .inspect(|name| {
                let read = |top: &str| fs::read(self.dir.path().join(top).join("docs").join(name)).unwrap();
                let source = fs::read(self.dir.path().join("docs").join(name)).unwrap();
                assert!(read("target") == source, "{name} holds something else");
            })
            .map(str::to_owned)
            .collect()
    }

    /// The whole tree, and no name of ours left.
    fn is_whole(&self) {
        assert_eq!(self.there().len(), FILES.len() + 1);
        assert_eq!(fs::read_dir(self.target().join("docs/in/deep")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(self.target().join("docs")).unwrap().count(), 4);
    }
}

fn named(report: &TreeReport) -> Vec<(&str, bool)> {
    report.unread.iter().map(|one| (one.path.as_str(), one.is_directory)).collect()
}

fn missing(names: &[&str]) -> BTreeSet<String> {
    let all = FILES.iter().map(|(name, _)| *name).chain(["in/same"]);
    all.filter(|name| !names.contains(name)).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_file_that_is_lost_is_named_and_the_others_are_restored() {
    let scene = Scene::new();
    let lost = scene.vault.lose(b"two names");
    for turn in 0..2 {
        let report = scene.restore().await.unwrap();
        assert_eq!(named(&report), [("docs/b", false), ("docs/in/same", false)], "turn {turn}");
        assert!(report.unread.iter().all(|one| one.is_lost && !one.stands && one.why.contains("chunk")));
        assert_eq!((report.files + report.already, report.verified), (5, Some(5)), "turn {turn}");
        assert!(report.differs.is_empty() && report.inexact.is_empty(), "{report:?}");
        assert_eq!(scene.there(), missing(&["b", "in/same"]));
        assert_eq!(fs::read_dir(scene.target().join("docs")).unwrap().count(), 3, "no half of a file is left");
    }
    let of = |top: &str| fs::metadata(scene.dir.path().join(top)).unwrap().mtime();
    assert_eq!(of("target/docs/in"), of("docs/in"), "its directory is finished all the same");
    scene.vault.give_back(lost);
    let report = scene.restore().await.unwrap();
    assert_eq!((report.unread.len(), report.files, report.hard_links, report.already), (0, 1, 1, 5));
    scene.is_whole();
}

#[tokio::test]
async fn a_directory_whose_listing_is_lost_is_named_and_the_walk_goes_on() {
    let scene = Scene::new();
    let deep = scene.vault.lose_listing_of(&["d", "e"]);
    let report = scene.restore().await.unwrap();
    assert_eq!(named(&report), [("docs/in/deep", true)]);
    assert_eq!((report.files, report.hard_links, report.verified), (4, 1, Some(5)), "{report:?}");
    assert_eq!(scene.there(), missing(&["in/deep/d", "in/deep/e"]));
    let of = |top: &str| fs::metadata(scene.dir.path().join(top)).unwrap();
    assert_eq!(of("target/docs/in/deep").mtime(), of("docs/in/deep").mtime());
    assert_eq!(of("target/docs/in/deep").mode(), of("docs/in/deep").mode());
    scene.vault.give_back(deep);
    assert!(scene.restore().await.unwrap().unread.is_empty());
    scene.is_whole();
}

/// What the point cannot show may be its own: nothing of it is surplus.
#[tokio::test]
async fn nothing_is_removed_where_the_point_cannot_be_read() {
    let scene = Scene::new();
    scene.restore().await.unwrap();
    fs::write(scene.target().join("docs/in/deep/more"), "mine").unwrap();
    fs::write(scene.target().join("docs/in/more"), "mine").unwrap();
    let _lost = scene.vault.lose_listing_of(&["d", "e"]);
    let mut wishes = Scene::wishes(Overwrite::Always);
    let plan = plan(&scene.point, &scene.root, &scene.target(), &wishes).await.unwrap();
    let surplus: Vec<String> = plan.surplus.iter().map(|one| one.path.display().to_string()).collect();
    assert_eq!((surplus, plan.unread.len()), (vec!["docs/in/more".to_owned()], 1));
    wishes.remove = plan.surplus.into_iter().map(|one| one.path).collect();
    let report = restore(&scene.point, &scene.root, &scene.target(), &wishes).await.unwrap();
    assert_eq!((report.removed, named(&report)), (1, vec![("docs/in/deep", true)]));
    assert!(scene.target().join("docs/in/deep/more").exists() && scene.target().join("docs/in/deep/d").exists());
}

/// A file that stands there stays as it is when the one that shall replace it cannot be read.
#[tokio::test]
async fn what_stands_is_kept_when_its_successor_is_lost() {
    let scene = Scene::new();
    fs::create_dir_all(scene.target().join("docs")).unwrap();
    fs::write(scene.target().join("docs/z"), "older").unwrap();
    let _lost = scene.vault.lose(b"the last");
    let wishes = Scene::wishes(Overwrite::Always);
    let report = restore(&scene.point, &scene.root, &scene.target(), &wishes).await.unwrap();
    assert_eq!(named(&report), [("docs/z", false)]);
    assert!(report.unread[0].stands);
    assert_eq!(fs::read(scene.target().join("docs/z")).unwrap(), b"older");
}

#[tokio::test]
async fn a_target_that_is_gone_ends_the_restore() {
    let mut scene = Scene::new();
    let target = scene.target();
    scene.point.on_read = Some(Box::new(move |bytes| {
        if bytes == b"the third" {
            fs::remove_dir_all(&target).unwrap();
        }
    }));
    let error = scene.restore().await.unwrap_err();
    assert!(matches!(error, OpsError::Io { .. }) && error.to_string().contains("not complete"), "{error}");
}
