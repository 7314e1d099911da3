//! A folder's names without their sizes: a size is a call to the system for each file, and
//! an inode to be read from the medium when the cache is cold.
//!
//! What always holds: the same names as [`Files::list`] shows; what is not plainly a file
//! is looked at; nothing is synced, for nobody leans on what is shown here.

use std::io;

use async_trait::async_trait;
use object_store::Result;
use object_store::path::Path;

use super::files::{Files, is_leftover};
use super::{Folder, generic};
use crate::BackendError;
use crate::disk::{EntryKind, Identity};
use crate::names::{Named, Names, Sizes};

#[async_trait]
impl Names for Folder {
    async fn names(&self, folder: &str, sizes: Sizes) -> std::result::Result<Vec<Named>, BackendError> {
        let path = Path::from(folder);
        let named = self.run(move |files| files.names(path, &sizes)).await;
        named.map_err(|error| BackendError::from_store(format!("listing {folder} in {self}"), &error))
    }
}

impl Files {
    fn names(&self, top: Path, sizes: &Sizes) -> Result<Vec<Named>> {
        let mut named: Vec<Named> = Vec::new();
        let mut open = vec![(top, Vec::new())];
        while let Some((folder, above)) = open.pop() {
            let (below, identity) = self.names_in(&folder, &above, &mut named).map_err(generic)?;
            let above: Vec<Identity> = above.into_iter().chain([identity]).collect();
            // The last one is opened next.
            open.extend(below.into_iter().rev().map(|below| (below, above.clone())));
        }
        let all = named.len() <= sizes.all_up_to;
        let mut looked_at = Vec::with_capacity(named.len());
        for mut one in named {
            if one.bytes.is_none() && (all || (sizes.wanted)(&one.name)) {
                one.bytes = self.bytes(&one.name).map_err(generic)?;
                if one.bytes.is_none() {
                    // Deleted since.
                    continue;
                }
            }
            looked_at.push(one);
        }
        self.check()?;
        looked_at.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(looked_at)
    }

    /// Adds the objects directly in a folder; the folders in it, in order.
    fn names_in(&self, folder: &Path, above: &[Identity], named: &mut Vec<Named>) -> io::Result<(Vec<Path>, Identity)> {
        let Some((entries, metadata)) = self.entries_of(folder, above)? else {
            return Ok((Vec::new(), self.identity));
        };
        let (first, mut below) = (named.len(), Vec::new());
        for entry in entries {
            let Some(location) = self.location(folder, &entry.name) else { continue };
            match entry.kind {
                EntryKind::Directory => below.push(location),
                EntryKind::File | EntryKind::Link | EntryKind::Other if is_leftover(&entry.name) => {}
                EntryKind::File => named.push(Named { name: location.into(), bytes: None }),
                EntryKind::Link | EntryKind::Other => match self.kind_of(location.as_ref())? {
                    Some((EntryKind::Directory, _)) => below.push(location),
                    Some((EntryKind::File, bytes)) => named.push(Named { name: location.into(), bytes: Some(bytes) }),
                    Some((EntryKind::Link | EntryKind::Other, _)) | None => {}
                },
            }
        }
        named[first..].sort_unstable_by(|a, b| a.name.cmp(&b.name));
        below.sort_unstable();
        Ok((below, metadata.identity))
    }

    /// The bytes of an object, if it is one still.
    fn bytes(&self, name: &str) -> io::Result<Option<u64>> {
        let found = self.kind_of(name)?;
        Ok(found.filter(|(kind, _)| *kind == EntryKind::File).map(|(_, bytes)| bytes))
    }

    /// `None`: deleted since, or a link to nothing.
    fn kind_of(&self, name: &str) -> io::Result<Option<(EntryKind, u64)>> {
        match self.disk.metadata(&self.root.join(name)) {
            Ok(metadata) => Ok(Some((metadata.kind, metadata.bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use futures::TryStreamExt;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;
    use crate::disk::RealDisk;

    async fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(Arc::new(RealDisk), &dir.path().join("disk"), true).unwrap();
        for (name, bytes) in [("s/a/1", "x"), ("s/a/2", "yy"), ("s/a.b", "zzz"), ("s/b/1", ""), ("other", "o")] {
            folder.put(&Path::from(name), bytes.into()).await.unwrap();
        }
        let here = folder.path();
        fs::write(here.join("s/a/3#1"), b"half").unwrap();
        symlink(here.join("s/a/2"), here.join("s/b/link")).unwrap();
        symlink(here.join("nothing"), here.join("s/b/dangling")).unwrap();
        symlink(here.join("s/a"), here.join("s/c")).unwrap();
        (dir, folder)
    }

    fn sizes(all_up_to: usize, wanted: fn(&str) -> bool) -> Sizes {
        Sizes { all_up_to, wanted: Arc::new(wanted) }
    }

    #[tokio::test]
    async fn the_names_of_a_listing_with_the_sizes_asked_for() {
        let (_dir, folder) = folder().await;
        for (top, objects) in [("s", 7), ("s/a", 2), ("", 8), ("none", 0)] {
            let prefix = (!top.is_empty()).then(|| Path::from(top));
            let listed = folder.list(prefix.as_ref()).map_ok(|meta| (meta.location.to_string(), meta.size));
            let listed: Vec<(String, u64)> = listed.try_collect().await.unwrap();
            assert_eq!(listed.len(), objects, "{listed:?}");
            let all = folder.names(top, sizes(objects, |_| false)).await.unwrap();
            let all: Vec<(String, u64)> = all.into_iter().map(|one| (one.name, one.bytes.unwrap())).collect();
            assert_eq!(all, listed, "below {top}");
        }
        let some = folder.names("s", sizes(6, |name| name.starts_with("s/a/"))).await.unwrap();
        let some: Vec<(&str, Option<u64>)> = some.iter().map(|one| (one.name.as_str(), one.bytes)).collect();
        let expected = [
            ("s/a.b", None),
            ("s/a/1", Some(1)),
            ("s/a/2", Some(2)),
            ("s/b/1", None),
            ("s/b/link", Some(2)),
            ("s/c/1", None),
            ("s/c/2", None),
        ];
        assert_eq!(some, expected);
    }

    #[tokio::test]
    async fn an_unplugged_disk_has_no_names_to_show() {
        let (_dir, folder) = folder().await;
        fs::rename(folder.path(), folder.path().with_extension("away")).unwrap();
        fs::create_dir(folder.path()).unwrap();
        let error = folder.names("s", sizes(0, |_| false)).await.unwrap_err();
        assert_eq!(error.kind(), crate::Kind::Unavailable);
    }
}
