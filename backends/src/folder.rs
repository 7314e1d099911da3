//! A local folder as a location: `object_store`'s file store, made fit for the only copy.
//!
//! What always holds:
//! - **Acknowledged means on the medium.** The library (0.14, `with_fsync(true)`, read in
//!   its source) writes beside the target as `name#N`, syncs that file, publishes it by
//!   rename (overwrite) or hard link (create) and syncs the directory; directories it makes
//!   itself are synced up to the first that existed. Two gaps remain and are closed here:
//!   a directory that *another* writer or a killed process made may not be synced in its
//!   parent yet, and an object that "already exists" may be a link whose directory was
//!   never synced. So each directory on the way is synced once per process, and the
//!   object's own directory again when it already existed.
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
//!
//! Deletes are not synced: one that a power cut undoes leaves an orphan, which is found.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

use crate::error::classify_io;
use crate::{BackendError, Kind};

/// The folder is not the one that was opened: its disk is gone, or another took its place.
#[derive(Debug, thiserror::Error)]
#[error("{} is no longer the folder that was opened: is its disk unplugged or unmounted?", path.display())]
pub(crate) struct FolderGone {
    path: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    files: LocalFileSystem,
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    identity: (u64, u64),
    /// Directories whose entry in their parent was synced by this process.
    synced: Mutex<BTreeSet<PathBuf>>,
}

impl Folder {
    /// Opens a folder that exists, or makes it durably when `create` says so.
    pub(crate) fn open(path: &FilePath, create: bool) -> std::result::Result<Self, BackendError> {
        let what = || format!("folder {}", path.display());
        let failed = |e: &io::Error| BackendError::new(classify_io(e), what(), e.to_string());
        if create && !path.exists() {
            create_durably(path).map_err(|error| failed(&error))?;
        }
        let path = fs::canonicalize(path).map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return failed(&error);
            }
            let why = "it does not exist; mount its disk, or make a new location with: holdfast vault location add";
            BackendError::new(Kind::Unavailable, what(), why)
        })?;
        let metadata = fs::metadata(&path).map_err(|error| failed(&error))?;
        if !metadata.is_dir() {
            return Err(BackendError::new(Kind::Config, what(), "it is not a folder"));
        }
        let files = LocalFileSystem::new_with_prefix(&path)
            .map_err(|error| BackendError::from_store(what(), &error))?
            .with_fsync(true);
        let root = Arc::new(Root { identity: identity(&metadata), synced: Mutex::new(BTreeSet::new()), path });
        Ok(Self { files, root })
    }

    pub(crate) fn path(&self) -> &FilePath {
        &self.root.path
    }

    pub(crate) fn device(&self) -> u64 {
        self.root.identity.0
    }

    /// Removes what killed writers left half written before `before`; how many files.
    pub(crate) async fn sweep_leftovers(&self, before: SystemTime) -> Result<u64> {
        self.check().await?;
        let root = self.path().to_owned();
        blocking(move || sweep(&root, before).map_err(generic)).await
    }

    /// Fails when the folder is no longer the one that was opened.
    async fn check(&self) -> Result<()> {
        let root = Arc::clone(&self.root);
        blocking(move || root.check()).await
    }

    /// "Not found" is believed only from the folder that was opened.
    async fn believe<T>(&self, result: Result<T>) -> Result<T> {
        if matches!(result, Err(Error::NotFound { .. })) {
            self.check().await?;
        }
        result
    }

    /// Ends a write: what it stands on is synced, and it went where it should.
    async fn settle(&self, location: &Path, existed: bool) -> Result<()> {
        let object = self.files.path_to_filesystem(location)?;
        let root = Arc::clone(&self.root);
        blocking(move || {
            let directory = object.parent().unwrap_or(&root.path);
            if existed {
                sync_directory(directory)?;
            }
            root.sync_way_to(directory)?;
            root.check()
        })
        .await
    }

    fn sorted(self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async move {
            let mut objects: Vec<ObjectMeta> = listing.try_collect().await?;
            self.check().await?;
            objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            Ok::<_, Error>(stream::iter(objects.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }
}

impl Root {
    fn check(&self) -> Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => Ok(()),
            _ => Err(generic(FolderGone { path: self.path.clone() })),
        }
    }

    /// Makes the entries of `directory` and its parents durable, up to the root.
    fn sync_way_to(&self, directory: &FilePath) -> Result<()> {
        let mut below = directory;
        while below != self.path && below.starts_with(&self.path) {
            if self.known().contains(below) {
                return Ok(());
            }
            let above = below.parent().unwrap_or(&self.path);
            sync_directory(above)?;
            below = above;
        }
        // Only now is the whole way durable: an error above leaves nothing marked.
        let mut below = directory;
        let mut known = self.known();
        while below != self.path && below.starts_with(&self.path) {
            known.insert(below.to_owned());
            below = below.parent().unwrap_or(&self.path);
        }
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        // The set only grows by finished facts: a panic elsewhere cannot make it wrong.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "folder {}", self.root.path.display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.check().await?;
        let result = self.files.put_opts(location, payload, opts).await;
        match &result {
            Ok(_) => self.settle(location, false).await?,
            Err(Error::AlreadyExists { .. }) => self.settle(location, true).await?,
            Err(_) => {}
        }
        result
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.check().await?;
        let upload = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FolderUpload { folder: self.clone(), location: location.clone(), upload }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.files.get_opts(location, options).await;
        self.believe(result).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let result = self.files.get_ranges(location, ranges).await;
        self.believe(result).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let folder = self.clone();
        stream::once(async move {
            folder.check().await?;
            Ok::<_, Error>(folder.files.delete_stream(locations))
        })
        .try_flatten()
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.clone().sorted(self.files.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.clone().sorted(self.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut listed = self.files.list_with_delimiter(prefix).await?;
        self.check().await?;
        listed.objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check().await?;
        self.files.copy_opts(from, to, options).await?;
        self.settle(to, false).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check().await?;
        self.files.rename_opts(from, to, options).await?;
        self.settle(to, false).await
    }
}

#[derive(Debug)]
struct FolderUpload {
    folder: Folder,
    location: Path,
    upload: Box<dyn MultipartUpload>,
}

#[async_trait]
impl MultipartUpload for FolderUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.folder.check().await?;
        let result = self.upload.complete().await?;
        self.folder.settle(&self.location, false).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

/// Makes a folder and the missing ones above it, each synced in its parent.
fn create_durably(path: &FilePath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(FilePath::new("/"));
    create_durably(parent)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    File::open(parent)?.sync_all()
}

/// Half-written files are called `name#N`, which no object can be.
fn sweep(directory: &FilePath, before: SystemTime) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // A link is never one of ours, and is not followed out of the folder.
        let kind = entry.file_type()?;
        if kind.is_dir() {
            swept += sweep(&entry.path(), before)?;
        } else if kind.is_file() && is_leftover(&entry.file_name()) && entry.metadata()?.modified()? < before {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

fn is_leftover(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.rsplit_once('#'));
    number.is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn sync_directory(directory: &FilePath) -> Result<()> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(generic)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "folder", source: Box::new(error) }
}

/// Disks block: never on the threads that run everyone's tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify;
    use object_store::{ObjectStoreExt, PutMode};

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk/holdfast");
        let folder = Folder::open(&path, true).unwrap();
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
        let error = Folder::open(&path, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!path.exists());
        fs::write(&path, b"a file").unwrap();
        assert_eq!(Folder::open(&path, false).unwrap_err().kind(), Kind::Config);
        assert_eq!(Folder::open(&path, true).unwrap_err().kind(), Kind::Config);
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
        let known = folder.root.known().clone();
        let expected = ["w", "w/x"].map(|d| folder.path().join(d));
        assert_eq!(known.into_iter().collect::<Vec<_>>(), expected);
    }

    #[tokio::test]
    async fn a_full_disk_is_full() {
        let no_space = generic(io::Error::from_raw_os_error(28));
        assert_eq!(classify(&no_space), Kind::Full);
    }
}
