//! A local folder as a location, fit for the only copy.
//!
//! What always holds:
//! - **Acknowledged means on the medium**: the bytes, the name and every directory on the way are
//!   synced before a write is acknowledged, also when the object "already exists"; what a listing
//!   shows is on the medium too. The steps are in `files.rs`, the assumptions in [`crate::disk`].
//! - **Never visible half.** What a killed process leaves is `name#N`, which no listing
//!   shows and no read reaches; the next write of that name steps around it, and
//!   [`crate::Location::sweep_leftovers`] gives the space back.
//! - **The same folder.** Device and inode of the root are remembered. When the disk is
//!   unplugged the mount point below is an empty folder: without the check a write would
//!   fill the root disk and an empty listing would read as "everything lost". Writes check
//!   before and after; reads check before they say "not found", and so does every listing.
//! - **Never made by accident.** Opening makes the folder only when asked to.
//! - **Listed in order** of the names' bytes, as S3 does. The price is that a listing is
//!   held in memory, about 200 bytes per object.
//! - **Nobody waits for a disk by accident**: calls that may block run on threads for it; on a
//!   simulated disk they run in place, so that a seed decides everything.
//!
//! Upload in parts, copy and rename hold the object in memory: nothing here uses them, objects of a
//! vault are small, and one way to write is enough to prove.

mod files;
mod names;

use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
};

use crate::disk::{Disk, DiskFile, EntryKind, make_durably};
use crate::error::classify_io;
use crate::{BackendError, Kind};
use files::{Files, Publish};

/// Read at once; larger objects come in pieces. No shard is larger.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;

/// The folder is not the one that was opened: its disk is gone, or another took its place.
#[derive(Debug, thiserror::Error)]
#[error("{} is no longer the folder that was opened: is its disk unplugged or unmounted?", path.display())]
pub(crate) struct FolderGone {
    path: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    files: Arc<Files>,
}

impl Folder {
    /// Opens a folder that exists, or makes it durably when `create` says so.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &FilePath, create: bool) -> std::result::Result<Self, BackendError> {
        let what = || format!("folder {}", path.display());
        let failed = |e: &io::Error| BackendError::new(classify_io(e), what(), e.to_string());
        if create {
            make_durably(disk.as_ref(), path).map_err(|error| failed(&error))?;
        }
        let path = disk.canonical(path).map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return failed(&error);
            }
            let why = "it does not exist; mount its disk, or make a new location with: holdfast vault location add";
            BackendError::new(Kind::Unavailable, what(), why)
        })?;
        let metadata = disk.metadata(&path).map_err(|error| failed(&error))?;
        if metadata.kind != EntryKind::Directory {
            return Err(BackendError::new(Kind::Config, what(), "it is not a folder"));
        }
        Ok(Self { files: Arc::new(Files::new(disk, path, metadata.identity)) })
    }

    pub(crate) fn path(&self) -> &FilePath {
        &self.files.root
    }

    pub(crate) fn device(&self) -> u64 {
        self.files.device()
    }

    /// Removes what killed writers left half written before `before`; how many files.
    pub(crate) async fn sweep_leftovers(&self, before: SystemTime) -> Result<u64> {
        self.run(move |files| files.sweep(before)).await
    }

    /// Disks block: never on the threads that run everyone's tasks.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Files) -> Result<T> + Send + 'static) -> Result<T> {
        let files = Arc::clone(&self.files);
        if files.disk.blocks() { tokio::task::spawn_blocking(move || work(&files)).await? } else { work(&files) }
    }

    fn listing(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (folder, prefix, offset) = (self.clone(), prefix.cloned(), offset.cloned());
        let list = async move { folder.run(move |files| files.list(prefix.as_ref(), offset.as_ref())).await };
        stream::once(list).map_ok(|objects| stream::iter(objects.into_iter().map(Ok))).try_flatten().boxed()
    }

    /// The rest of a range, piece by piece.
    fn pieces(&self, file: Arc<dyn DiskFile>, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let folder = self.clone();
        stream::try_unfold(range, move |rest| {
            let (folder, file) = (folder.clone(), Arc::clone(&file));
            async move {
                if rest.is_empty() {
                    return Ok(None);
                }
                let piece = first_piece(&rest);
                let rest = piece.end..rest.end;
                let buffer = buffer_for(&piece);
                let bytes = folder.run(move |_| files::read_range(file.as_ref(), piece, buffer)).await?;
                Ok(Some((bytes, rest)))
            }
        })
        .boxed()
    }

    async fn write(&self, location: &Path, payload: PutPayload, publish: Publish) -> Result<PutResult> {
        let location = location.clone();
        let metadata = self.run(move |files| files.put(&location, &payload, publish)).await?;
        Ok(PutResult { e_tag: Some(files::e_tag(&metadata)), version: None, extensions: Extensions::default() })
    }

    async fn remove(&self, location: Path) -> Result<Path> {
        self.run(move |files| files.delete(&location).map(|()| location)).await
    }

    async fn copy(&self, from: &Path, to: &Path, publish: Publish) -> Result<()> {
        let parts: Vec<Bytes> = self.get(from).await?.into_stream().try_collect().await?;
        self.write(to, parts.into_iter().collect(), publish).await.map(|_| ())
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "folder {}", self.path().display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !opts.attributes.is_empty() {
            return Err(not_here("attributes of an object"));
        }
        let publish = match opts.mode {
            PutMode::Overwrite => Publish::Replace,
            PutMode::Create => Publish::Create,
            PutMode::Update(_) => return Err(not_here("a conditional replacement")),
        };
        self.write(location, payload, publish).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if !opts.attributes.is_empty() {
            return Err(not_here("attributes of an object"));
        }
        Ok(Box::new(FolderUpload { folder: self.clone(), location: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let location = location.clone();
        let buffer = match &options.range {
            Some(GetRange::Bounded(range)) if !options.head => buffer_for(&first_piece(range)),
            Some(_) | None => Vec::new(),
        };
        let opened = self.run(move |files| {
            let (file, meta) = files.open(&location)?;
            options.check_preconditions(&meta)?;
            let range = match &options.range {
                Some(range) => range.as_range(meta.size).map_err(generic)?,
                None => 0..meta.size,
            };
            // In the same turn: a second one costs more than the bytes.
            let piece = if options.head { range.start..range.start } else { first_piece(&range) };
            let rest = if options.head { range.end..range.end } else { piece.end..range.end };
            let first = files::read_range(file.as_ref(), piece, buffer)?;
            Ok((Arc::from(file), meta, range, first, rest))
        });
        let (file, meta, range, first, rest) = opened.await?;
        let payload = stream::iter([Ok(first)]).chain(self.pieces(file, rest));
        let payload = GetResultPayload::Stream(payload.boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default(), extensions: Extensions::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let (location, ranges) = (location.clone(), ranges.to_vec());
        self.run(move |files| {
            let (file, meta) = files.open(&location)?;
            let read = |range| {
                let range = GetRange::Bounded(range).as_range(meta.size).map_err(generic)?;
                files::read_range(file.as_ref(), range, Vec::new())
            };
            ranges.into_iter().map(read).collect()
        })
        .await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let folder = self.clone();
        let delete = move |location| {
            let folder = folder.clone();
            async move { folder.remove(location?).await }
        };
        locations.map(delete).buffered(10).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned();
        self.run(move |files| files.list_level(prefix.as_ref())).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let publish = match options.mode {
            CopyMode::Overwrite => Publish::Replace,
            CopyMode::Create => Publish::Create,
        };
        self.copy(from, to, publish).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let publish = match options.target_mode {
            RenameTargetMode::Overwrite => Publish::Replace,
            RenameTargetMode::Create => Publish::Create,
        };
        self.copy(from, to, publish).await?;
        if from == to { Ok(()) } else { self.remove(from.clone()).await.map(|_| ()) }
    }
}

/// Parts are kept until the upload is complete.
#[derive(Debug)]
struct FolderUpload {
    folder: Folder,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for FolderUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        futures::future::ok(()).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = std::mem::take(&mut self.parts);
        let payload = parts.into_iter().flatten().collect();
        self.folder.write(&self.location, payload, Publish::Replace).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

/// Room for a piece; of nonsense, none.
fn buffer_for(piece: &Range<u64>) -> Vec<u8> {
    vec![0; usize::try_from(piece.end.saturating_sub(piece.start)).unwrap_or(0)]
}

fn first_piece(range: &Range<u64>) -> Range<u64> {
    range.start..range.end.min(range.start.saturating_add(PIECE_BYTES))
}

fn not_here(what: &str) -> Error {
    Error::NotImplemented { operation: what.to_owned(), implementer: "a local folder".to_owned() }
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "folder", source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify;
    use crate::disk::RealDisk;
    use std::fs;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk/holdfast");
        let folder = Folder::open(Arc::new(RealDisk), &path, true).unwrap();
        (dir, folder)
    }

    fn create() -> PutOptions {
        PutMode::Create.into()
    }

    async fn names(folder: &Folder) -> Vec<String> {
        let listed = folder.list(None).map_ok(|o| o.location.to_string());
        listed.try_collect().await.unwrap()
    }

    #[test]
    fn a_missing_folder_is_unavailable_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unplugged");
        let error = Folder::open(Arc::new(RealDisk), &path, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!path.exists());
        fs::write(&path, b"a file").unwrap();
        assert_eq!(Folder::open(Arc::new(RealDisk), &path, false).unwrap_err().kind(), Kind::Config);
        assert_eq!(Folder::open(Arc::new(RealDisk), &path, true).unwrap_err().kind(), Kind::Config);
    }

    /// The disk of an open location is unplugged: the mount point below is an empty folder.
    #[tokio::test]
    async fn an_unplugged_disk_is_unavailable_not_empty_and_takes_no_writes() {
        let (_dir, folder) = folder();
        let name = Path::from("a/b");
        folder.put(&name, "x".into()).await.unwrap();
        let plugged = folder.path().with_extension("away");
        fs::rename(folder.path(), &plugged).unwrap();
        fs::create_dir(folder.path()).unwrap();

        let unavailable = |error: Error| assert_eq!(classify(&error), Kind::Unavailable);
        unavailable(folder.get(&name).await.unwrap_err());
        unavailable(folder.head(&name).await.unwrap_err());
        unavailable(folder.list(None).try_collect::<Vec<_>>().await.unwrap_err());
        unavailable(folder.list_with_delimiter(None).await.unwrap_err());
        unavailable(folder.put(&name, "y".into()).await.unwrap_err());
        unavailable(folder.delete(&name).await.unwrap_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        fs::remove_dir(folder.path()).unwrap();
        fs::rename(&plugged, folder.path()).unwrap();
        let back = folder.get(&name).await.unwrap().bytes().await.unwrap();
        assert_eq!(&back[..], b"x");
    }

    #[tokio::test]
    async fn leftovers_of_a_killed_writer_are_never_seen_and_never_in_the_way() {
        let (_dir, folder) = folder();
        let name = Path::from("packs/p1");
        fs::create_dir(folder.path().join("packs")).unwrap();
        fs::write(folder.path().join("packs/p1#1"), b"half of it").unwrap();
        assert!(names(&folder).await.is_empty());
        let missing = folder.get(&name).await.unwrap_err();
        assert_eq!(classify(&missing), Kind::NotFound);
        folder.put_opts(&name, "whole".into(), create()).await.unwrap();
        assert_eq!(names(&folder).await, ["packs/p1"]);
        let again = folder.put_opts(&name, "other".into(), create()).await;
        assert_eq!(classify(&again.unwrap_err()), Kind::Exists);

        // A writer may still be at it: only what is old enough is swept.
        let now = SystemTime::now();
        let day = std::time::Duration::from_hours(24);
        assert_eq!(folder.sweep_leftovers(now - day).await.unwrap(), 0);
        assert_eq!(folder.sweep_leftovers(now + day).await.unwrap(), 1);
        assert_eq!(names(&folder).await, ["packs/p1"]);
        assert!(!folder.path().join("packs/p1#1").exists());
    }

    #[tokio::test]
    async fn listings_are_in_order_of_bytes() {
        let (_dir, folder) = folder();
        for name in ["b/1", "a-b", "a/2", "a/10", "a.b", "c"] {
            folder.put(&Path::from(name), "x".into()).await.unwrap();
        }
        let expected = ["a-b", "a.b", "a/10", "a/2", "b/1", "c"];
        assert_eq!(names(&folder).await, expected);
        let later = folder.list_with_offset(None, &Path::from("a/10"));
        let later: Vec<_> = later.map_ok(|o| o.location).try_collect().await.unwrap();
        assert_eq!(later, ["a/2", "b/1", "c"].map(Path::from));
    }

    /// What is synced cannot be observed from inside, but what is remembered as synced can.
    #[tokio::test]
    async fn every_directory_on_the_way_is_synced_once() {
        let (_dir, folder) = folder();
        fs::create_dir_all(folder.path().join("w/x")).unwrap();
        folder.put(&Path::from("w/x/y"), "1".into()).await.unwrap();
        let known = folder.files.synced().ways.clone();
        let expected = ["w", "w/x"].map(|d| folder.path().join(d));
        assert_eq!(known.into_iter().collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn a_full_disk_is_full() {
        let no_space = generic(io::Error::from_raw_os_error(28));
        assert_eq!(classify(&no_space), Kind::Full);
    }
}
