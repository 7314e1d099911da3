//! Points that no honest writer makes: each is refused by name, and nothing
//! outside the target changes, whatever the listing says.
#![allow(clippy::unwrap_used)]

mod memory_vault;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use agent_sources::difference::Pair;
use agent_sources::point_tree::PointTree;
use agent_sources::tree::{TreeOptions, TreeReport, Wishes, plan, restore_tree};
use memory_vault::{MemoryPoint, MemoryVault};
use vault_format::point::{PointRoot, TreeRoot};
use vault_format::tree::{Content, Entry, EntryKind, Hole, Listing, Xattr};
use vault_format::{Blob, Hash};
use vault_ops::{OpsError, Result};

fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry {
        name: Blob(name.to_vec()),
        kind,
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: None,
        group: None,
        mtime_s: 0,
        mtime_ns: 0,
        size: 0,
        content: None,
        target: None,
        xattrs: Vec::new(),
        device: 0,
        link_group: 0,
        holes: Vec::new(),
        flags: 0,
    }
}

fn file(vault: &mut MemoryVault, name: &[u8], bytes: &[u8]) -> Entry {
    Entry { size: bytes.len() as u64, content: Some(vault.put(bytes)), ..entry(name, EntryKind::File) }
}

fn directory(vault: &mut MemoryVault, name: &[u8], entries: Vec<Entry>) -> Entry {
    Entry { content: Some(vault.put_listing(&Listing { entries })), ..entry(name, EntryKind::Directory) }
}

fn link(name: &[u8], target: &str) -> Entry {
    Entry { target: Some(Blob(target.into())), ..entry(name, EntryKind::Symlink) }
}

/// A target beside things that must stay as they are.
struct Place {
    around: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        fs::create_dir(around.path().join("outside")).unwrap();
        fs::write(around.path().join("outside/precious"), b"as it was").unwrap();
        fs::write(around.path().join("beside"), b"as it was").unwrap();
        Self { around }
    }

    fn outside(&self) -> PathBuf {
        self.around.path().join("outside")
    }

    fn target(&self) -> PathBuf {
        self.around.path().join("target")
    }

    async fn restore(&self, point: &MemoryPoint, root: &TreeRoot) -> Result<TreeReport> {
        let options = TreeOptions { sync: false, entries_max: 2_500, ..TreeOptions::default() };
        let result = restore_tree(point, root, &self.target(), options).await;
        self.check_outside();
        result
    }

    fn check_outside(&self) {
        let names = |at: PathBuf| {
            let mut names: Vec<_> = fs::read_dir(at).unwrap().map(|one| one.unwrap().file_name()).collect();
            names.retain(|name| name != "target");
            names.sort();
            names
        };
        assert_eq!(names(self.around.path().into()), ["beside", "outside"]);
        assert_eq!(names(self.outside()), ["precious"]);
        assert_eq!(fs::read(self.outside().join("precious")).unwrap(), b"as it was");
        assert_eq!(fs::read(self.around.path().join("beside")).unwrap(), b"as it was");
    }
}

/// Restores a top listing and returns how it was refused.
async fn refusal(vault: &mut MemoryVault, entries: Vec<Entry>) -> String {
    let place = Place::new();
    let root = vault.root(&Listing { entries });
    let point = vault.point(PointRoot::Tree(root.clone()));
    match place.restore(&point, &root).await {
        Err(error @ OpsError::Corrupt { .. }) => error.to_string(),
        other => panic!("not refused as damaged: {other:?}"),
    }
}

#[tokio::test]
async fn names_that_leave_their_directory_are_refused() {
    let mut vault = MemoryVault::default();
    let outside: &[&[u8]] = &[b"..", b".", b"", b"../beside", b"/etc/passwd", b"a/b", b"a\0b", b"outside/"];
    for name in outside {
        let hostile = file(&mut vault, name, b"overwritten");
        let why = refusal(&mut vault, vec![hostile.clone()]).await;
        assert!(why.contains("name"), "{why}");
        let inside = directory(&mut vault, b"inner", vec![hostile]);
        assert!(refusal(&mut vault, vec![inside]).await.contains("listing of inner"));
    }
}

#[tokio::test]
async fn a_link_and_a_file_below_it_cannot_share_a_name() {
    let mut vault = MemoryVault::default();
    let place = Place::new();
    let escape = link(b"a", place.outside().to_str().unwrap());
    let below = file(&mut vault, b"precious", b"overwritten");
    let through = directory(&mut vault, b"a", vec![below]);
    assert!(refusal(&mut vault, vec![escape.clone(), through.clone()]).await.contains("name"));
    assert!(refusal(&mut vault, vec![through, escape]).await.contains("name"));
    let unordered = vec![file(&mut vault, b"b", b""), file(&mut vault, b"a", b"")];
    assert!(refusal(&mut vault, unordered).await.contains("name"));
}

#[tokio::test]
async fn fields_that_no_backup_records_are_refused() {
    let mut vault = MemoryVault::default();
    let good = file(&mut vault, b"f", b"12345");
    let content = good.content.clone();
    let hole = |offset, bytes| Hole { offset, bytes };
    let cases: Vec<(&str, Entry)> = vec![
        ("size", Entry { size: 4, ..good.clone() }),
        ("size", Entry { size: 1 << 60, ..good.clone() }),
        ("without content", Entry { content: None, ..good.clone() }),
        ("mode", Entry { mode: 0o100_644, ..good.clone() }),
        ("time", Entry { mtime_ns: 1_000_000_000, ..good.clone() }),
        ("device", Entry { device: 1, ..good.clone() }),
        ("link target", Entry { target: Some(Blob(b"x".to_vec())), ..good.clone() }),
        ("holes", Entry { size: 9, holes: vec![hole(2, 2), hole(4, 2)], ..good.clone() }),
        ("holes", Entry { size: 7, holes: vec![hole(6, 2)], ..good.clone() }),
        ("hole", Entry { holes: vec![hole(u64::MAX, 2)], ..good.clone() }),
        (
            "attributes",
            Entry { xattrs: vec![Xattr { name: Blob(b"a\0".to_vec()), value: Blob(vec![]) }], ..good.clone() },
        ),
        (
            "attributes",
            Entry { xattrs: vec![Xattr { name: Blob(b"a".to_vec()), value: Blob(vec![0; 70_000]) }], ..good },
        ),
        ("without a listing", entry(b"d", EntryKind::Directory)),
        ("hard link", Entry { link_group: 1, content: content.clone(), ..entry(b"d", EntryKind::Directory) }),
        ("target", entry(b"l", EntryKind::Symlink)),
        ("target", link(b"l", "")),
        ("target", link(b"l", &"x".repeat(5000))),
        ("content", Entry { content, ..entry(b"p", EntryKind::Fifo) }),
    ];
    for (expected, hostile) in cases {
        let why = refusal(&mut vault, vec![hostile.clone()]).await;
        assert!(why.contains(expected), "{why} does not say {expected}: {hostile:?}");
    }
}

#[tokio::test]
async fn names_of_one_file_must_agree() {
    let mut vault = MemoryVault::default();
    let first = Entry { link_group: 1, ..file(&mut vault, b"a", b"one") };
    let other = Entry { link_group: 1, ..file(&mut vault, b"b", b"two") };
    assert!(refusal(&mut vault, vec![first, other]).await.contains("two names of one file differ"));
}

#[tokio::test]
async fn a_tree_too_deep_is_refused() {
    let mut vault = MemoryVault::default();
    let mut deep = directory(&mut vault, b"d", Vec::new());
    for _ in 0..2100 {
        deep = directory(&mut vault, b"d", vec![deep]);
    }
    assert!(refusal(&mut vault, vec![deep]).await.contains("deep"));
}

#[tokio::test]
async fn a_tree_that_never_ends_is_refused() {
    let mut vault = MemoryVault::default();
    // Ten thousand million directories out of eleven small listings.
    let mut wide = Vec::new();
    for _ in 0..10 {
        wide = (b'0'..=b'9').map(|name| directory(&mut vault, &[name], wide.clone())).collect();
    }
    assert!(refusal(&mut vault, wide).await.contains("more than 2500 files"));
}

#[tokio::test]
async fn a_listing_that_is_not_the_one_recorded_is_refused_before_anything_is_created() {
    let mut vault = MemoryVault::default();
    let innocent = file(&mut vault, b"f", b"1");
    let mut root = vault.root(&Listing { entries: vec![innocent] });
    root.hash = Hash([7; 32]);
    let place = Place::new();
    let point = vault.point(PointRoot::Tree(root.clone()));
    let error = place.restore(&point, &root).await.unwrap_err();
    assert!(error.to_string().contains("tree root"), "{error}");
    assert!(!place.target().exists());
    let lying = Content { bytes: 1 << 50, depth: 1, chunks: root.content.chunks.clone() };
    let root = TreeRoot { hash: vault_ops::source::tree_root(&lying), content: lying };
    assert!(matches!(place.restore(&point, &root).await, Err(OpsError::Corrupt { .. })));
    assert!(!place.target().exists());
}

#[tokio::test]
async fn bytes_that_do_not_come_make_an_error() {
    let mut vault = MemoryVault::default();
    let mut short = file(&mut vault, b"f", b"12345");
    // The chunk's length as listed and the size agree; the chunk itself is shorter.
    if let Some(content) = &mut short.content {
        content.bytes = 9;
        content.chunks[0].bytes = 9;
    }
    short.size = 9;
    let place = Place::new();
    let root = vault.root(&Listing { entries: vec![short] });
    let point = vault.point(PointRoot::Tree(root.clone()));
    let error = place.restore(&point, &root).await.unwrap_err();
    assert!(error.to_string().contains("writing f") && error.to_string().contains("not complete"), "{error}");
}

#[tokio::test]
async fn a_target_with_something_in_it_is_refused_untouched() {
    let mut vault = MemoryVault::default();
    let innocent = file(&mut vault, b"mine", b"new");
    let root = vault.root(&Listing { entries: vec![innocent] });
    let point = vault.point(PointRoot::Tree(root.clone()));
    let place = Place::new();
    fs::create_dir(place.target()).unwrap();
    fs::write(place.target().join("mine"), b"old").unwrap();
    assert!(matches!(place.restore(&point, &root).await, Err(OpsError::Refused { .. })));
    assert_eq!(fs::read(place.target().join("mine")).unwrap(), b"old");
    fs::remove_file(place.target().join("mine")).unwrap();
    assert_eq!(place.restore(&point, &root).await.unwrap().files, 1, "an empty directory is as good as none");
}

/// Somebody who may write to the target swaps a directory for a link while the
/// restore is under way: neither files nor hard links follow it out.
#[tokio::test]
async fn a_directory_swapped_for_a_link_leads_nowhere() {
    let mut vault = MemoryVault::default();
    let inside = vec![
        Entry { link_group: 1, ..file(&mut vault, b"first", b"swap now") },
        file(&mut vault, b"precious", b"overwritten"),
    ];
    let again = Entry { name: Blob(b"linked".to_vec()), ..inside[0].clone() };
    let entries = vec![directory(&mut vault, b"a", inside), directory(&mut vault, b"b", vec![again])];
    let root = vault.root(&Listing { entries });
    let place = Place::new();
    let mut point = vault.point(PointRoot::Tree(root.clone()));
    let (target, outside, swapped) = (place.target(), place.outside(), AtomicBool::new(false));
    point.on_read = Some(Box::new(move |bytes| {
        if bytes == b"swap now" && !swapped.swap(true, Ordering::SeqCst) {
            fs::rename(target.join("a"), target.join("moved away")).unwrap();
            symlink(&outside, target.join("a")).unwrap();
        }
    }));
    let report = place.restore(&point, &root).await.unwrap();
    assert_eq!(fs::read(place.target().join("moved away/precious")).unwrap(), b"overwritten");
    assert_eq!(fs::read(place.target().join("b/linked")).unwrap(), b"swap now");
    assert_eq!(report.inexact.len(), 1, "{:?}", report.inexact);
    assert!(report.inexact[0].why.contains("not another name of a/first"), "{:?}", report.inexact);
}

/// Walks through everything, as `ls`, `find` and a dry run do.
async fn look_through(point: &MemoryPoint) -> Result<u64> {
    let tree = PointTree::of(point)?;
    let mut walk = tree.walk(tree.top(), PathBuf::new()).await?;
    let mut seen = 0;
    while walk.next().await?.is_some() {
        seen += 1;
    }
    Ok(seen)
}

#[tokio::test]
async fn who_only_looks_is_told_of_forged_listings_too() {
    let mut vault = MemoryVault::default();
    let mut deep = directory(&mut vault, b"d", Vec::new());
    for _ in 0..2100 {
        deep = directory(&mut vault, b"d", vec![deep]);
    }
    let names: &[&[u8]] = &[b"..", b"", b"/etc/passwd", b"a/b", b"a\0b"];
    let mut forged: Vec<Entry> = names.iter().map(|name| file(&mut vault, name, b"x")).collect();
    forged.push(Entry { size: 1 << 60, ..file(&mut vault, b"f", b"x") });
    forged.push(Entry { content: None, ..directory(&mut vault, b"e", Vec::new()) });
    forged.push(deep);
    let innocent = vault.root(&Listing { entries: Vec::new() });
    let innocent = vault.point(PointRoot::Tree(innocent));
    for entry in forged {
        let inner = directory(&mut vault, b"inner", vec![entry.clone()]);
        let root = vault.root(&Listing { entries: vec![inner] });
        let point = vault.point(PointRoot::Tree(root.clone()));
        let place = Place::new();
        let planned = plan(&point, &root, &place.target(), &Wishes::default()).await;
        assert!(matches!(planned, Err(OpsError::Corrupt { .. })), "{entry:?}");
        assert!(!place.target().exists());
        let walked = look_through(&point).await;
        assert!(matches!(walked, Err(OpsError::Corrupt { .. })), "{entry:?}: {walked:?}");
        let trees = (PointTree::of(&innocent).unwrap(), PointTree::of(&point).unwrap());
        let pair = Pair { old: trees.0, new: trees.1, named_alike: true };
        let compared = pair.compare(Path::new(""), Path::new(""), &mut |_| {}).await;
        assert!(matches!(compared, Err(OpsError::Corrupt { .. })), "{entry:?}: {compared:?}");
        assert!(trees.1.look(Path::new("inner/f")).await.is_err());
    }
    let mut lying = vault.root(&Listing { entries: Vec::new() });
    lying.hash = Hash([7; 32]);
    let point = vault.point(PointRoot::Tree(lying));
    assert!(matches!(look_through(&point).await, Err(OpsError::Corrupt { .. })));
}

/// A backup of a directory in which a restore was interrupted has such names itself.
#[tokio::test]
async fn names_of_unfinished_files_are_names_like_others() {
    let mut vault = MemoryVault::default();
    let names: &[&[u8]] = &[b".a", b".holdfast-incoming", b".holdfast-incoming~", b".holdfast-incoming~~", b"z"];
    let mut entries: Vec<Entry> = names.iter().map(|name| file(&mut vault, name, name)).collect();
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    let root = vault.root(&Listing { entries });
    let point = vault.point(PointRoot::Tree(root.clone()));
    let place = Place::new();
    for written in [names.len() as u64, 0] {
        assert_eq!(place.restore(&point, &root).await.unwrap().files, written, "the second time all is there");
        for name in names {
            let path = place.target().join(std::str::from_utf8(name).unwrap());
            assert_eq!(fs::read(path).unwrap(), *name);
        }
    }
}
