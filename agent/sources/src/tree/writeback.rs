//! What is written goes to the disk while the rest is still being made, so that the sync at the
//! end, which success rests on, finds little to do.
//!
//! What always holds: this only begins earlier what the last sync would do. It looks through a
//! descriptor of its own, so an error that it meets is told to the last sync, too.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Written bytes after which the disk is told again. Fewer would make it seek for little.
const EVERY_BYTES: u64 = 128 << 20;
/// What a file takes beside its bytes.
const FILE_BYTES: u64 = 4 << 10;

/// A thread that syncs now and then.
pub(super) struct Writeback {
    /// None once it was told to end.
    now: Option<SyncSender<()>>,
    written: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    /// For the file system of this directory, which is opened for nothing else.
    pub(super) fn start(directory: OwnedFd) -> io::Result<Self> {
        let (now, told) = sync_channel(1);
        let sync = move || {
            for () in told {
                // The last sync says what is wrong.
                let _ = rustix::fs::syncfs(&directory);
            }
        };
        let thread = std::thread::Builder::new().name("writeback".to_owned()).spawn(sync)?;
        Ok(Self { now: Some(now), written: AtomicU64::new(0), thread: Some(thread) })
    }

    /// A file was written, so many bytes of it. Waits for nobody.
    pub(super) fn wrote(&self, bytes: u64) {
        let more = bytes.saturating_add(FILE_BYTES);
        let before = self.written.fetch_add(more, Ordering::Relaxed);
        if before / EVERY_BYTES == before.saturating_add(more) / EVERY_BYTES {
            return;
        }
        // One that was told and did not begin yet covers this, too.
        let _ = self.now.as_ref().map(|now| now.try_send(()));
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.now = None;
        let ended = self.thread.take().map(JoinHandle::join);
        // It panics nowhere; and whoever is panicking shall go on with that.
        drop(ended);
    }
}
