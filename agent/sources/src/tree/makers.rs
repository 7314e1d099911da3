//! The threads that make files while the walk of a restore goes on.
//!
//! What always holds:
//! - What is ordered for one directory is done by one thread, in that order: what is in a
//!   directory is there before the directory's attributes are set.
//! - A file has its name only when it is whole; one that does not become whole goes.
//! - After a failure nothing more is made, and whoever orders is told with the next order.
//! - A bounded number of orders waits. When the makers are gone, so are their threads.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, Mode};
use vault_format::tree::Entry;
use vault_ops::progress::Progress;

use super::naming::{create_anew, land};
use super::writeback::Writeback;
use super::{Inexact, shown};
use crate::file_writer::FileWriter;
use crate::metadata::set_on;
use crate::owners::Owner;

/// More threads than this wait for each other in the file system.
const THREADS_MAX: usize = 4;
/// Orders that wait for one thread. Each holds a descriptor, and at most [`PIECE_BYTES`].
const ORDERS_MAX: usize = 64;
/// A file's bytes come in pieces of this size; a smaller file comes with its order.
const PIECE_BYTES: usize = 64 << 10;

/// What becomes of an entry, and where.
pub(super) struct Making {
    /// The directory it is in; of a directory, itself.
    pub(super) directory: Arc<OwnedFd>,
    /// Below the target.
    pub(super) path: PathBuf,
    pub(super) entry: Arc<Entry>,
    pub(super) owner: Option<Owner>,
}

/// A file to be made.
pub(super) struct FileMaking {
    pub(super) what: Making,
    /// What it is called until it is whole.
    pub(super) incoming: Vec<u8>,
    /// Something stands under its name, and goes.
    pub(super) replaces: bool,
    /// Nobody else can enter its directory now: it may have its permissions from the start.
    pub(super) alone: bool,
    pub(super) sparse: bool,
}

/// What a thread is told. After a `File` that is not whole come its pieces, then
/// `Whole` or `Gone`.
enum Order {
    File { making: Box<FileMaking>, bytes: Vec<u8>, is_whole: bool },
    Piece(Vec<u8>),
    Whole,
    Gone,
    Directory(Box<Making>),
    Answer(SyncSender<()>),
}

/// What ended the making.
pub(super) struct Failure {
    /// What was being done, in a word.
    pub(super) doing: &'static str,
    /// Below the target.
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}

/// What the threads have in common.
struct Shared {
    has_failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    files: AtomicU64,
    inexact: Mutex<Vec<Inexact>>,
    progress: Progress,
    writeback: Option<Writeback>,
}

impl Shared {
    fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
        self.has_failed.store(true, Ordering::Release);
    }

    fn inexact(&self, path: &std::path::Path, failed: Vec<String>) {
        if !failed.is_empty() {
            let path = shown(path);
            let all = failed.into_iter().map(|why| Inexact { path: path.clone(), why });
            self.inexact.lock().unwrap_or_else(PoisonError::into_inner).extend(all);
        }
    }
}

/// See the head of this file.
pub(super) struct Makers {
    threads: Vec<Maker>,
    shared: Arc<Shared>,
}

/// One thread.
struct Maker {
    /// None once it was told to end.
    orders: Option<SyncSender<Order>>,
    /// Orders that are not done.
    open: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Which of the makers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Which(usize);

/// Nothing more is made; [`Makers::take_failure`] says why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopped;

impl Makers {
    /// As many as there are processors, within bounds.
    pub(super) fn start(progress: &Progress, writeback: Option<Writeback>) -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX);
        let shared = Arc::new(Shared {
            has_failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            files: AtomicU64::new(0),
            inexact: Mutex::new(Vec::new()),
            progress: progress.clone(),
            writeback,
        });
        let mut makers = Self { threads: Vec::new(), shared };
        for _ in 0..count {
            makers.threads.push(Maker::start(&makers.shared)?);
        }
        Ok(makers)
    }

    /// The one with least to do.
    pub(super) fn free(&self) -> Which {
        let open = |at: &usize| self.threads[*at].open.load(Ordering::Relaxed);
        Which((0..self.threads.len()).min_by_key(open).unwrap_or(0))
    }

    /// A file's bytes follow, through what is given back.
    pub(super) fn file(&self, which: Which, making: FileMaking) -> Bytes<'_> {
        Bytes { makers: self, which, making: Some(Box::new(making)), piece: Vec::new() }
    }

    /// Sets the attributes of a directory in which nothing is made any more.
    pub(super) fn directory(&self, which: Which, making: Making) -> Result<(), Stopped> {
        self.order(which, Order::Directory(Box::new(making)))
    }

    /// Waits until one has done all that it was told.
    pub(super) fn settle(&self, which: Which) -> Result<(), Stopped> {
        if self.threads[which.0].open.load(Ordering::Acquire) > 0 {
            let (done, is_done) = sync_channel(1);
            self.order(which, Order::Answer(done))?;
            is_done.recv().map_err(|_| Stopped)?;
        }
        if self.shared.has_failed.load(Ordering::Acquire) { Err(Stopped) } else { Ok(()) }
    }

    fn order(&self, which: Which, order: Order) -> Result<(), Stopped> {
        let maker = &self.threads[which.0];
        let Some(orders) = maker.orders.as_ref().filter(|_| !self.shared.has_failed.load(Ordering::Acquire)) else {
            return Err(Stopped);
        };
        maker.open.fetch_add(1, Ordering::Relaxed);
        orders.send(order).map_err(|_| Stopped)
    }

    /// Files that are there, whole.
    pub(super) fn files(&self) -> u64 {
        self.shared.files.load(Ordering::Relaxed)
    }

    /// What ended the making, once.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until everything is done; what is not exactly as it was.
    pub(super) fn finish(&mut self) -> Result<Vec<Inexact>, Stopped> {
        for maker in &mut self.threads {
            maker.end();
        }
        if self.shared.has_failed.load(Ordering::Acquire) {
            return Err(Stopped);
        }
        Ok(std::mem::take(&mut *self.shared.inexact.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Maker {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (orders, told) = sync_channel(ORDERS_MAX);
        let open = Arc::new(AtomicUsize::new(0));
        let hand = Hand { shared: Arc::clone(shared), begun: None };
        let done = Arc::clone(&open);
        let thread = std::thread::Builder::new().name("maker".to_owned()).spawn(move || hand.work(&told, &done))?;
        Ok(Self { orders: Some(orders), open, thread: Some(thread) })
    }

    /// # Panics
    /// Passes on a panic of the thread.
    fn end(&mut self) {
        self.orders = None;
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The bytes of one file on their way to its maker. Dropped before [`Bytes::whole`],
/// the file goes.
pub(super) struct Bytes<'a> {
    makers: &'a Makers,
    which: Which,
    /// What is to be made, until the maker knows.
    making: Option<Box<FileMaking>>,
    piece: Vec<u8>,
}

impl Bytes<'_> {
    /// All of them came.
    pub(super) fn whole(mut self) -> Result<(), Stopped> {
        let bytes = std::mem::take(&mut self.piece);
        match self.making.take() {
            Some(making) => self.makers.order(self.which, Order::File { making, bytes, is_whole: true }),
            None => {
                self.makers.order(self.which, Order::Piece(bytes))?;
                self.makers.order(self.which, Order::Whole)
            }
        }
    }

    /// They will not come.
    pub(super) fn gone(mut self) -> Result<(), Stopped> {
        match self.making.take() {
            Some(_) => Ok(()),
            None => self.makers.order(self.which, Order::Gone),
        }
    }

    fn send(&mut self) -> Result<(), Stopped> {
        let bytes = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let order = match self.making.take() {
            Some(making) => Order::File { making, bytes, is_whole: false },
            None => Order::Piece(bytes),
        };
        self.makers.order(self.which, order)
    }
}

impl Write for Bytes<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE_BYTES {
            self.send().map_err(|Stopped| io::Error::other("the restore has ended"))?;
        }
        let count = buffer.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What works on a thread.
struct Hand {
    shared: Arc<Shared>,
    /// A file of which more comes.
    begun: Option<(Box<FileMaking>, FileWriter)>,
}

impl Hand {
    fn work(mut self, told: &Receiver<Order>, open: &AtomicUsize) {
        while let Ok(order) = told.recv() {
            if let Order::Answer(done) = order {
                // Who asked may be gone: then nobody waits.
                let _ = done.send(());
            } else if !self.shared.has_failed.load(Ordering::Acquire)
                && let Err(failure) = self.act(order)
            {
                self.shared.fail(failure);
            }
            open.fetch_sub(1, Ordering::Release);
        }
        self.give_up();
    }

    fn act(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::File { making, bytes, is_whole } => {
                self.give_up();
                let mode = if making.alone { making.what.entry.mode & 0o777 } else { 0o600 };
                let file = create_anew(making.what.directory.as_fd(), &making.incoming, Mode::from_raw_mode(mode))
                    .map_err(|error| making.what.failed("creating", error))?;
                let writer = FileWriter::new(file, &making.what.entry, making.sparse);
                self.begun = Some((making, writer));
                self.write(&bytes)?;
                if is_whole { self.finish() } else { Ok(()) }
            }
            Order::Piece(bytes) => self.write(&bytes),
            Order::Whole => self.finish(),
            Order::Gone => {
                self.give_up();
                Ok(())
            }
            Order::Directory(making) => {
                let failed = set_on(making.directory.as_fd(), &making.entry, making.owner);
                self.shared.inexact(&making.path, failed);
                Ok(())
            }
            Order::Answer(_) => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some((making, writer)) = &mut self.begun else { return Ok(()) };
        let Err(error) = writer.write(bytes) else { return Ok(()) };
        let failure = making.what.failed("writing", error);
        self.give_up();
        Err(failure)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let Some((making, writer)) = self.begun.take() else { return Ok(()) };
        let FileMaking { what, incoming, replaces, .. } = &*making;
        let file = writer.finish().map_err(|error| {
            making.take_back();
            what.failed("writing", error)
        })?;
        let failed = set_on(file.as_fd(), &what.entry, what.owner);
        land(what.directory.as_fd(), incoming, &what.entry.name.0, *replaces).map_err(|error| {
            making.take_back();
            what.failed("naming", error)
        })?;
        self.shared.inexact(&what.path, failed);
        self.shared.files.fetch_add(1, Ordering::Relaxed);
        self.shared.progress.add_items(1);
        if let Some(writeback) = &self.shared.writeback {
            writeback.wrote(what.entry.size);
        }
        Ok(())
    }

    fn give_up(&mut self) {
        if let Some((making, _)) = self.begun.take() {
            making.take_back();
        }
    }
}

impl Making {
    fn failed(&self, doing: &'static str, error: io::Error) -> Failure {
        Failure { doing, path: self.path.clone(), error }
    }
}

impl FileMaking {
    /// Half a file helps nobody.
    fn take_back(&self) {
        // The file is missed anyway; that this fails too changes nothing of it.
        let _ = rustix::fs::unlinkat(&self.what.directory, self.incoming.as_slice(), AtFlags::empty());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use vault_format::Blob;

    use super::*;
    use crate::file_writer::tests::entry;

    fn open(path: &Path) -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open(path).unwrap().into())
    }

    fn making(directory: &Arc<OwnedFd>, name: &str, size: u64) -> Making {
        let entry = Entry {
            name: Blob(name.as_bytes().to_vec()),
            mode: 0o640,
            mtime_s: 1_000_000,
            mtime_ns: 7,
            ..entry(size, &[])
        };
        Making { directory: Arc::clone(directory), path: PathBuf::from(name), entry: Arc::new(entry), owner: None }
    }

    fn file(directory: &Arc<OwnedFd>, name: &str, size: usize) -> FileMaking {
        let what = making(directory, name, size as u64);
        FileMaking { what, incoming: b".incoming".to_vec(), replaces: false, alone: true, sparse: false }
    }

    fn names(path: &Path) -> Vec<String> {
        let names = std::fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Many small files, one of many pieces, one that never becomes whole; then the
    /// directory's own time.
    #[test]
    fn a_directory_is_finished_after_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = open(dir.path());
        let progress = Progress::default();
        let mut makers = Makers::start(&progress, None).unwrap();
        let which = makers.free();
        let large: Vec<u8> = (0..5 * PIECE_BYTES + 3).map(|at| (at % 251) as u8).collect();
        for number in 0..200 {
            let mut bytes = makers.file(which, file(&here, &format!("small-{number:03}"), 3));
            bytes.write_all(b"abc").unwrap();
            bytes.whole().unwrap();
        }
        let mut bytes = makers.file(which, file(&here, "large", large.len()));
        bytes.write_all(&large).unwrap();
        bytes.whole().unwrap();
        let mut bytes = makers.file(which, file(&here, "half", large.len()));
        bytes.write_all(&large[..3 * PIECE_BYTES]).unwrap();
        bytes.gone().unwrap();
        makers.directory(which, making(&here, "", 0)).unwrap();
        assert!(makers.finish().unwrap().is_empty());
        assert_eq!((makers.files(), progress.seen().items), (201, 201));
        assert_eq!(names(dir.path()).len(), 201, "nothing half is left: {:?}", names(dir.path()));
        assert!(std::fs::read(dir.path().join("large")).unwrap() == large);
        for stat in [dir.path().metadata().unwrap(), dir.path().join("small-007").metadata().unwrap()] {
            assert_eq!((stat.mtime(), stat.mtime_nsec(), stat.mode() & 0o7777), (1_000_000, 7, 0o640));
        }
    }

    #[test]
    fn a_failure_is_told_and_nothing_is_made_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let here = open(dir.path());
        let mut makers = Makers::start(&Progress::default(), None).unwrap();
        let which = makers.free();
        std::fs::write(dir.path().join("taken"), b"theirs").unwrap();
        let mut bytes = makers.file(which, file(&here, "taken", 3));
        bytes.write_all(b"abc").unwrap();
        bytes.whole().unwrap();
        assert!(makers.settle(which).is_err());
        assert!(makers.file(which, file(&here, "later", 0)).whole().is_err());
        assert!(makers.finish().is_err());
        let failure = makers.take_failure().unwrap();
        assert_eq!((failure.doing, failure.path.to_str()), ("naming", Some("taken")));
        assert_eq!((names(dir.path()), makers.files()), (vec!["taken".to_owned()], 0));
        assert_eq!(std::fs::read(dir.path().join("taken")).unwrap(), b"theirs");
    }

    #[test]
    fn who_goes_away_leaves_no_half_file() {
        let dir = tempfile::tempdir().unwrap();
        let here = open(dir.path());
        let makers = Makers::start(&Progress::default(), None).unwrap();
        let mut bytes = makers.file(makers.free(), file(&here, "half", 1 << 20));
        bytes.write_all(&vec![1; 4 * PIECE_BYTES]).unwrap();
        drop(bytes);
        drop(makers);
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
}
