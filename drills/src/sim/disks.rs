//! Locations that are folders on a disk of the machine under test: what was not
//! synced may be gone after a power cut.
//!
//! What always holds: writes go through the production code of local folders onto
//! the simulated disk; after a crash what stands there is read from the disk's own
//! account, so that looking syncs nothing.

use std::path::Path as FilePath;
use std::sync::Arc;

use backends::disk::{SimulatedDisk, SyncPoint};
use backends::{Kind, classify, folder_on};
use bytes::Bytes;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::sites::Image;

const ROOT: &str = "/disk/location";
/// A write makes a few changes to the disk; the crash comes at one of them.
const STEPS_OF_A_WRITE: u64 = 12;

/// A folder on a disk of its own.
#[derive(Clone, Debug)]
pub(super) struct LocalDisk {
    disk: SimulatedDisk,
    folder: Arc<dyn ObjectStore>,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Stored,
    Exists,
    Failed,
}

impl LocalDisk {
    /// A disk with a folder that holds these objects. `without` is a kind of sync that
    /// does nothing from here on.
    pub(super) fn new(number: u64, objects: &Image, without: Option<SyncPoint>) -> Result<Self, String> {
        let disk = SimulatedDisk::new(number + 1);
        let folder = open(&disk, true)?;
        let this = Self { disk, folder };
        for (name, object) in objects {
            if this.put(name, &object.bytes, true) != Written::Stored {
                return Err(format!("the simulated disk does not take {name}"));
            }
        }
        if let Some(point) = without {
            this.disk.ignore(point);
        }
        Ok(this)
    }

    /// Writes.
    pub(super) fn put(&self, name: &str, bytes: &Bytes, create: bool) -> Written {
        let mode = if create { PutMode::Create } else { PutMode::Overwrite };
        let (path, options) = (Path::from(name), PutOptions { mode, ..PutOptions::default() });
        let put = self.folder.put_opts(&path, bytes.clone().into(), options).now_or_never();
        match put {
            Some(Ok(_)) => Written::Stored,
            Some(Err(error)) if classify(&error) == Kind::Exists => Written::Exists,
            Some(Err(_)) | None => Written::Failed,
        }
    }

    /// Deletes.
    pub(super) fn delete(&self, name: &str) {
        let path = Path::from(name);
        // What stays is seen in the disk's account.
        let _ = self.folder.delete(&path).now_or_never();
    }

    /// The next write will not come to its end.
    pub(super) fn stop_soon(&self, dice: &mut ChaCha8Rng) {
        self.disk.stop_after(1 + dice.next_u64() % STEPS_OF_A_WRITE);
    }

    /// The machine crashed: the power failed, or only the process died. Opens the
    /// folder again.
    pub(super) fn crash(&mut self, dice: &mut ChaCha8Rng) -> Result<(), String> {
        if dice.next_u32().is_multiple_of(4) {
            self.disk.kill();
        } else {
            self.disk.crash(dice);
        }
        self.folder = open(&self.disk, false)?;
        Ok(())
    }

    /// What stands there, half-written files left out.
    pub(super) fn files(&self) -> Vec<(Arc<str>, Bytes)> {
        let files = self.disk.files().into_iter().filter_map(|(path, bytes)| {
            let name = path.strip_prefix(ROOT).ok()?.to_str()?;
            (!name.contains('#')).then(|| (name.into(), bytes.into()))
        });
        files.collect()
    }
}

fn open(disk: &SimulatedDisk, create: bool) -> Result<Arc<dyn ObjectStore>, String> {
    let opened = folder_on(Arc::new(disk.clone()), FilePath::new(ROOT), create);
    opened.map(|location| Arc::clone(location.store())).map_err(|error| error.to_string())
}

/// The kind of sync of that name, as in a scenario file.
pub(super) fn sync_point(name: &str) -> Option<SyncPoint> {
    use SyncPoint::{Bytes, Created, Found, Listed, Made, Replaced, Root, Way};
    let known = [Bytes, Created, Found, Listed, Made, Replaced, Root, Way];
    known.into_iter().find(|point| format!("{point:?}").eq_ignore_ascii_case(name))
}
