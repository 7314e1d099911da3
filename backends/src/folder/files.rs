//! The objects of a folder as files on a [`Disk`]: the blocking half of a folder location.
//!
//! What always holds, step by step:
//! - **Create**: `name#N` is made, written and synced; linked to its name, which fails if the name
//!   is taken; unlinked; the directory is synced, which makes the one name durable and the other
//!   one gone. A taken name is synced all the same: who published it may not have come that far.
//!   Where there are no links (FAT) a look and a rename take their place.
//! - **Replace**: the same with a rename in place of link and unlink.
//! - **The way**: every directory from the object's up to the root is synced in the one above it,
//!   once per process; one that is made again later counts as new.
//! - **Listed is stored.** A backup leans on objects that a run before it left, and knows them by a
//!   listing. So a directory is synced before a listing that shows it ends, unless it has not
//!   changed since this process last synced it. (Changes within one tick of the file system's clock,
//!   by a process that is then killed, escape this.) Reading alone promises nothing.
//! - Deletes are not synced: one that a power cut undoes leaves an orphan, which is found.
//!
//! Which of these syncs are needed is proven by leaving out each: `tests/folder_crashes.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, Extensions, ListResult, ObjectMeta, PutPayload, Result};

use super::{FolderGone, generic};
use crate::disk::{Disk, DiskFile, Entry, EntryKind, Identity, Metadata, SyncPoint};

#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) root: PathBuf,
    pub(super) identity: Identity,
    synced: Mutex<Synced>,
}

/// What this process has synced.
#[derive(Debug, Default)]
pub(super) struct Synced {
    /// Directories whose way is durable: every entry from the root to them.
    pub(super) ways: BTreeSet<PathBuf>,
    /// When each directory had last changed before its last sync.
    names: BTreeMap<PathBuf, SystemTime>,
}

/// How an object gets its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    Create,
    Replace,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>, root: PathBuf, identity: Identity) -> Self {
        Self { disk, root, identity, synced: Mutex::default() }
    }

    pub(super) fn device(&self) -> u64 {
        self.identity.device
    }

    /// Fails when the folder is no longer the one that was opened.
    pub(super) fn check(&self) -> Result<()> {
        match self.disk.metadata(&self.root) {
            Ok(metadata) if metadata.identity == self.identity => Ok(()),
            _ => Err(generic(FolderGone { path: self.root.clone() })),
        }
    }

    /// "Not found" is believed only from the folder that was opened.
    fn missing(&self, location: &Path, error: io::Error) -> Error {
        match self.check() {
            Ok(()) => Error::NotFound { path: location.to_string(), source: Box::new(error) },
            Err(gone) => gone,
        }
    }

    pub(super) fn synced(&self) -> MutexGuard<'_, Synced> {
        // It only grows by finished facts: a panic elsewhere cannot make it wrong.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writing.
impl Files {
    /// Writes an object and makes it durable; its metadata.
    pub(super) fn put(&self, location: &Path, payload: &PutPayload, publish: Publish) -> Result<Metadata> {
        let object = self.object(location)?;
        let directory = object.parent().unwrap_or(&self.root);
        self.check()?;
        let (staged, metadata) = self.stage(&object, payload).map_err(generic)?;
        let (named, what_for) = match publish {
            Publish::Create => (self.name_first(&staged, &object), SyncPoint::Created),
            Publish::Replace => (self.disk.rename(&staged, &object), SyncPoint::Replaced),
        };
        if publish == Publish::Create || named.is_err() {
            // What stays is a leftover, swept some day.
            let _ = self.disk.remove(&staged);
        }
        match named {
            Ok(()) => {
                self.settle(directory, what_for)?;
                Ok(metadata)
            }
            Err(error) if publish == Publish::Create && error.kind() == io::ErrorKind::AlreadyExists => {
                self.settle(directory, SyncPoint::Found)?;
                Err(Error::AlreadyExists { path: location.to_string(), source: Box::new(error) })
            }
            Err(error) => Err(generic(error)),
        }
    }

    /// Gives a staged file a name that is not taken.
    fn name_first(&self, staged: &FilePath, object: &FilePath) -> io::Result<()> {
        let linked = self.disk.link(staged, object);
        let refused =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported);
        if !linked.as_ref().is_err_and(refused) {
            return linked;
        }
        // FAT and some shares know no links. Another writer may come between the look and the
        // rename: whoever creates compares what stands there in the end, as on a server without
        // conditional writes.
        match self.disk.metadata(object) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.rename(staged, object),
            Err(error) => Err(error),
        }
    }

    pub(super) fn delete(&self, location: &Path) -> Result<()> {
        let object = self.object(location)?;
        self.check()?;
        self.disk.remove(&object).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { self.missing(location, error) } else { generic(error) }
        })
    }

    /// Removes what killed writers left half written before `before`; how many files.
    pub(super) fn sweep(&self, before: SystemTime) -> Result<u64> {
        self.check()?;
        self.sweep_below(&self.root, before).map_err(generic)
    }

    fn sweep_below(&self, directory: &FilePath, before: SystemTime) -> io::Result<u64> {
        let mut swept = 0;
        for entry in self.disk.entries(directory)? {
            let path = directory.join(&entry.name);
            // A link is never one of ours, and is not followed out of the folder.
            if entry.kind == EntryKind::Directory {
                swept += self.sweep_below(&path, before)?;
            } else if entry.kind == EntryKind::File
                && is_leftover(&entry.name)
                && self.disk.metadata(&path)?.modified < before
            {
                self.disk.remove(&path)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Writes the bytes beside the object and syncs them.
    fn stage(&self, object: &FilePath, payload: &PutPayload) -> io::Result<(PathBuf, Metadata)> {
        let (mut file, staged) = self.create_staged(object)?;
        let mut write = || {
            payload.iter().try_for_each(|part| file.append(part))?;
            file.sync(SyncPoint::Bytes)?;
            file.metadata()
        };
        match write() {
            Ok(metadata) => Ok((staged, metadata)),
            Err(error) => {
                let _ = self.disk.remove(&staged);
                Err(error)
            }
        }
    }

    fn create_staged(&self, object: &FilePath) -> io::Result<(Box<dyn DiskFile>, PathBuf)> {
        let (mut number, mut made) = (1_u32, false);
        loop {
            let mut staged = object.as_os_str().to_owned();
            staged.push(format!("#{number}"));
            let staged = PathBuf::from(staged);
            match self.disk.create(&staged) {
                Ok(file) => return Ok((file, staged)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made => {
                    self.make(object.parent().unwrap_or(&self.root))?;
                    made = true;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a directory below the root, and those above it that are missing.
    fn make(&self, directory: &FilePath) -> io::Result<()> {
        if directory == self.root {
            // The root is never made by a write: its disk may be unplugged.
            return Err(io::ErrorKind::NotFound.into());
        }
        // Whatever was synced under this name is no longer there.
        self.synced().forget(directory);
        let mut made = self.disk.make_directory(directory);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.make(directory.parent().unwrap_or(&self.root))?;
            made = self.disk.make_directory(directory);
        }
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends a write: what it stands on is synced, and it went where it should.
    fn settle(&self, directory: &FilePath, what_for: SyncPoint) -> Result<()> {
        self.sync_names(directory, what_for).map_err(generic)?;
        self.sync_way(directory).map_err(generic)?;
        self.check()
    }

    fn sync_names(&self, directory: &FilePath, what_for: SyncPoint) -> io::Result<()> {
        // The time first: what comes after it may not be covered by the sync.
        let changed = self.disk.metadata(directory)?.modified;
        self.disk.sync_directory(directory, what_for)?;
        self.synced().names.insert(directory.to_owned(), changed);
        Ok(())
    }

    /// Makes the entries of `directory` and its parents durable, up to the root.
    fn sync_way(&self, directory: &FilePath) -> io::Result<()> {
        let mut below = directory;
        while below != self.root && below.starts_with(&self.root) {
            if self.synced().ways.contains(below) {
                break;
            }
            let above = below.parent().unwrap_or(&self.root);
            self.disk.sync_directory(above, SyncPoint::Way)?;
            below = above;
        }
        // Only now is the whole way durable: an error above leaves nothing marked.
        let mut below = directory;
        let mut synced = self.synced();
        while below != self.root && below.starts_with(&self.root) && synced.ways.insert(below.to_owned()) {
            below = below.parent().unwrap_or(&self.root);
        }
        Ok(())
    }
}

impl Synced {
    fn forget(&mut self, directory: &FilePath) {
        self.ways.retain(|way| !way.starts_with(directory));
        self.names.retain(|name, _| !name.starts_with(directory));
    }
}

/// Reading.
impl Files {
    /// Opens an object; what it is.
    pub(super) fn open(&self, location: &Path) -> Result<(Box<dyn DiskFile>, ObjectMeta)> {
        let object = self.object(location)?;
        let opened = self.disk.open(&object).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) => Ok((file, object_meta(location.clone(), &metadata))),
            // A directory is no object.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
                Err(self.missing(location, error))
            }
            Err(error) => Err(generic(error)),
        }
    }

    /// Every object below a folder and behind an offset, in order of the names' bytes.
    pub(super) fn list(&self, prefix: Option<&Path>, offset: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let mut objects = Vec::new();
        let mut open = vec![(prefix.cloned().unwrap_or_default(), Vec::new())];
        while let Some((folder, above)) = open.pop() {
            let level = self.level(&folder, offset, &above).map_err(generic)?;
            objects.extend(level.objects);
            let above: Vec<Identity> = above.into_iter().chain([level.identity]).collect();
            let below = level.folders.into_iter().filter(|below| !is_behind(offset, below));
            open.extend(below.map(|below| (below, above.clone())));
        }
        self.check()?;
        objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// The objects and folders directly in a folder.
    pub(super) fn list_level(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.cloned().unwrap_or_default();
        let mut level = self.level(&folder, None, &[]).map_err(generic)?;
        self.check()?;
        level.objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        level.folders.sort_unstable();
        Ok(ListResult { common_prefixes: level.folders, objects: level.objects, extensions: Extensions::default() })
    }

    fn level(&self, folder: &Path, offset: Option<&Path>, above: &[Identity]) -> io::Result<Level> {
        let mut level = Level { objects: Vec::new(), folders: Vec::new(), identity: self.identity };
        let Some((entries, metadata)) = self.entries_of(folder, above)? else { return Ok(level) };
        let directory = self.root.join(folder.as_ref());
        level.identity = metadata.identity;
        for entry in entries {
            let Some(location) = self.location(folder, &entry.name) else { continue };
            let behind = offset.is_some_and(|offset| location <= *offset);
            if entry.kind == EntryKind::Directory {
                level.folders.push(location);
                continue;
            }
            if is_leftover(&entry.name) || (behind && entry.kind == EntryKind::File) {
                continue;
            }
            match self.disk.metadata(&directory.join(&entry.name)) {
                Ok(metadata) if metadata.kind == EntryKind::Directory => level.folders.push(location),
                Ok(metadata) if metadata.kind == EntryKind::File && !behind => {
                    level.objects.push(object_meta(location, &metadata));
                }
                Ok(_) => {}
                // Deleted since, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.vouch_for(&directory, metadata.modified);
        Ok(level)
    }

    /// What a folder holds, and which it is; `None` if it is not there.
    pub(super) fn entries_of(&self, folder: &Path, above: &[Identity]) -> io::Result<Option<(Vec<Entry>, Metadata)>> {
        let directory = self.root.join(folder.as_ref());
        let entries = match self.disk.entries(&directory) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            entries => entries?,
        };
        let metadata = self.disk.metadata(&directory)?;
        if above.contains(&metadata.identity) {
            let why = format!("{} is a link to a folder above it", directory.display());
            return Err(io::Error::other(why));
        }
        Ok(Some((entries, metadata)))
    }

    /// What a listing shows is on the medium.
    fn vouch_for(&self, directory: &FilePath, changed: SystemTime) {
        let unchanged = self.synced().names.get(directory) == Some(&changed);
        let names = if unchanged { Ok(()) } else { self.sync_names(directory, SyncPoint::Listed) };
        // The way too: a write may have failed between the two.
        let synced = names.and_then(|()| self.sync_way(directory));
        if let Err(error) = synced {
            // A listing must also work where nothing can be written any more: restores need it.
            tracing::warn!(folder = %directory.display(), %error, "cannot sync a folder that is listed");
        }
    }
}

/// Names.
impl Files {
    /// Where an object's file is: its name is the path below the root.
    fn object(&self, location: &Path) -> Result<PathBuf> {
        let name = location.filename();
        if name.is_none_or(|name| is_leftover(OsStr::new(name))) {
            let why = format!("{location:?} cannot be the name of an object in a folder");
            return Err(Error::NotSupported { source: why.into() });
        }
        Ok(self.root.join(location.as_ref()))
    }

    /// What an entry of a folder is called, if an object can be called so.
    pub(super) fn location(&self, folder: &Path, name: &OsStr) -> Option<Path> {
        let location = name.to_str().and_then(|name| Path::parse(format!("{folder}/{name}")).ok());
        if location.is_none() {
            let path = self.root.join(folder.as_ref()).join(name);
            tracing::warn!(path = %path.display(), "no object can have this name, it is left alone");
        }
        location
    }
}

struct Level {
    objects: Vec<ObjectMeta>,
    folders: Vec<Path>,
    identity: Identity,
}

/// Whether all names in a folder sort before an offset.
fn is_behind(offset: Option<&Path>, folder: &Path) -> bool {
    let first = format!("{folder}/");
    offset.is_some_and(|offset| !offset.as_ref().starts_with(&first) && first.as_str() < offset.as_ref())
}

/// Half-written files are called `name#N`, which no object can be.
pub(super) fn is_leftover(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.rsplit_once('#'));
    number.is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: metadata.modified.into(),
        size: metadata.bytes,
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

/// Another file, another time or another length is another tag.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    let modified = metadata.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}-{:x}", metadata.identity.inode, modified.as_micros(), metadata.bytes)
}

/// Exactly these bytes of a file, in a buffer that the caller made: the allocator keeps what
/// is freed for the thread that asked for it, and threads that read disks are many.
pub(super) fn read_range(file: &dyn DiskFile, range: Range<u64>, mut bytes: Vec<u8>) -> Result<Bytes> {
    let wanted = usize::try_from(range.end - range.start).map_err(generic)?;
    bytes.resize(wanted, 0);
    let read = file.read_at(range.start, &mut bytes).map_err(generic)?;
    if read < wanted {
        // It was cut since its length was read.
        return Err(generic(io::Error::from(io::ErrorKind::UnexpectedEof)));
    }
    Ok(bytes.into())
}
