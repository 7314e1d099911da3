//! What is backed up, and what a restore reads from: the two seams between the
//! vault and the agent's sources.
//!
//! What always holds: a source runs on a thread of its own and may block; it
//! sees neither keys nor locations; a [`Content`] it gets back is stored or will
//! be before the point commits.

use std::io::{Read, Write};

use async_trait::async_trait;
use vault_format::body::ChunkKind;
use vault_format::point::{PointRecord, PointRoot, SourceKind};
use vault_format::tree::Content;
use vault_format::{ChunkId, Hash, PackId};

use crate::error::Result;
use crate::file_cache::KnownFiles;

/// Something that can be backed up.
pub trait Source: Send {
    /// What it is.
    fn kind(&self) -> SourceKind;

    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// Reads the present state into `sink`. May block; a failure makes no point.
    fn read(&mut self, sink: &mut dyn Sink) -> Result<Reading>;

    /// Called once the point is durable, with its root: a kernel node may then
    /// release its log up to there.
    fn committed(&mut self, root: &PointRoot) -> Result<()> {
        let _ = root;
        Ok(())
    }
}

/// Where a source puts what it reads.
pub trait Sink {
    /// Cuts, deduplicates and stores everything `from` yields.
    fn write(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Content>;

    /// The same, with all that [`Self::reuse`] must know of it.
    fn keep(&mut self, kind: ChunkKind, from: &mut dyn Read) -> Result<Kept>;

    /// Takes a content that was kept before for one written now, without reading it, and
    /// notes in it the packs that hold it. False, and nothing is taken, if any chunk of
    /// it does not count today.
    fn reuse(&mut self, kept: &mut Kept) -> Result<bool>;

    /// What the file cache knows of the directory of a source at `path`.
    fn known_files(&mut self, source: &str, path: &[u8]) -> KnownFiles;

    /// Remembers a directory's files for the next reading.
    fn remember_files(&mut self, known: KnownFiles);

    /// All of the source was read: directories that were not met are forgotten.
    fn forget_vanished(&mut self);

    /// Milliseconds since 1970, from the world's clock.
    fn now_ms(&self) -> i64;

    /// So many more files or records of the source are done, for whoever looks on.
    fn passed(&mut self, _items: u64) {}
}

/// A content, and every chunk below its own: nobody without the read key can look
/// into a list again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The content.
    pub content: Content,
    /// What its lists lead to, lists and chunks; empty for a content without lists.
    pub below: Vec<ChunkId>,
    /// Packs that together hold all of these chunks; empty if that is not known.
    pub packs: Vec<PackId>,
}

impl Kept {
    /// All chunks that a reader of it needs.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkId> {
        self.content.chunks.iter().map(|chunk| chunk.id).chain(self.below.iter().copied())
    }
}

/// What a source read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The state.
    pub root: PointRoot,
    /// Files, or records.
    pub items: u64,
    /// Of them new or changed since the last point, as far as known.
    pub changed: u64,
    /// What could not be read, by name.
    pub unreadable: Vec<Unreadable>,
}

/// Something that could not be read; the point is usable without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which file.
    pub path: String,
    /// Why.
    pub why: String,
}

/// A point opened for restoring.
#[async_trait]
pub trait PointReader: Send + Sync {
    /// What the point is.
    fn record(&self) -> &PointRecord;

    /// Says what will be read next, the first first: it may be fetched meanwhile.
    fn will_read(&self, _contents: &mut dyn Iterator<Item = &Content>) {}

    /// Writes the bytes of a content to `to`, each chunk checked against its id
    /// before the first of its bytes is written.
    async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()>;

    /// Whether `from` yields the bytes of a content and no more, to its last byte.
    async fn matches(&self, content: &Content, from: &mut (dyn Read + Send)) -> Result<bool> {
        let mut compared = Comparison { from, differs: false };
        self.read(content, &mut compared).await?;
        if compared.differs { Ok(false) } else { is_at_end(compared.from) }
    }
}

/// Compares what is written to it with what it reads.
struct Comparison<'a> {
    from: &'a mut (dyn Read + Send),
    differs: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let mut have = vec![0; buffer.len()];
        if !self.differs {
            match self.from.read_exact(&mut have) {
                Ok(()) => self.differs = have != buffer,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.differs = true,
                Err(error) => return Err(error),
            }
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn is_at_end(from: &mut (dyn Read + Send)) -> Result<bool> {
    let mut one = [0];
    loop {
        match from.read(&mut one) {
            Ok(count) => return Ok(count == 0),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(crate::OpsError::Io { what: "reading what was restored".to_owned(), error });
            }
        }
    }
}

/// Reads a content of at most `most` bytes into memory.
pub async fn read_to_vec(point: &dyn PointReader, content: &Content, most: u64) -> Result<Vec<u8>> {
    if content.bytes > most {
        return Err(crate::OpsError::corrupt(
            "a content of the point",
            format!("it claims {} bytes where at most {most} make sense", content.bytes),
        ));
    }
    let mut out = Vec::with_capacity(content.bytes as usize);
    point.read(content, &mut out).await?;
    Ok(out)
}

/// The hash of a stream, piece by piece: what a restore of it is checked against.
pub struct StreamHash(blake3::Hasher);

impl Default for StreamHash {
    fn default() -> Self {
        Self(keys::hash::labelled_hasher(vault_format::labels::STREAM))
    }
}

impl StreamHash {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all of them.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

/// The tree root: the hash that names a whole directory tree.
pub fn tree_root(top: &Content) -> Hash {
    keys::hash::labelled(vault_format::labels::TREE_ROOT, &vault_format::encode(top))
}
