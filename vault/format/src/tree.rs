//! Content and directory listings.
//!
//! A content is a run of bytes as a list of chunks; a long list is itself stored
//! as chunks, level by level. A listing is content too, so a directory of any
//! size is cut, shared and checked like a file. Entries are sorted by name,
//! which makes equal trees equal bytes.

use crate::FormatError;
use crate::cbor::{numbered, record};
use crate::ids::{Blob, ChunkId};

/// Most chunks listed in one content or list chunk.
pub const FANOUT: usize = 4096;
/// Most levels of lists: 4096^4 chunks are enough.
pub const DEPTH_MAX: u8 = 3;

record! {
    /// Bytes by their chunks.
    Content {
        /// Plain bytes in all.
        0 bytes: u64,
        /// 0: the chunks are the bytes; d: they are lists of depth d - 1.
        1 depth: u8,
        /// In order.
        2 chunks: Vec<ChunkRef>,
    }
}

record! {
    /// A chunk and its plain length.
    ChunkRef {
        /// Keyed hash of the plain chunk.
        0 id: ChunkId,
        /// Plain bytes of the chunk itself (of a list: of its CBOR).
        1 bytes: u32,
    }
}

record! {
    /// What a list chunk holds.
    ChunkList {
        /// In order; at most [`FANOUT`].
        0 chunks: Vec<ChunkRef>,
    }
}

impl Content {
    /// Content of no bytes.
    pub fn empty() -> Self {
        Self { bytes: 0, depth: 0, chunks: Vec::new() }
    }

    /// Checks what can be checked without reading chunks.
    pub fn check(&self) -> Result<(), FormatError> {
        let what = "content";
        if self.depth > DEPTH_MAX {
            return Err(FormatError::Range { what, field: "depth", value: self.depth.into() });
        }
        if self.chunks.len() > FANOUT {
            return Err(FormatError::Range { what, field: "chunks", value: self.chunks.len() as u64 });
        }
        let sum: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        if self.depth == 0 && sum != self.bytes {
            return Err(FormatError::Range { what, field: "bytes", value: self.bytes });
        }
        Ok(())
    }
}

record! {
    /// A directory's entries.
    Listing {
        /// Sorted by name, no name twice.
        0 entries: Vec<Entry>,
    }
}

numbered! {
    /// What an entry is.
    EntryKind {
        /// A regular file.
        1 File,
        /// A directory.
        2 Directory,
        /// A symbolic link.
        3 Symlink,
        /// A named pipe.
        4 Fifo,
        /// A character device.
        5 CharDevice,
        /// A block device.
        6 BlockDevice,
        /// A socket; restored as nothing, named in the report.
        7 Socket,
    }
}

record! {
    /// One name in a directory.
    Entry {
        /// Any bytes but `/` and zero; not empty, `.` or `..`.
        0 name: Blob,
        /// What it is.
        1 kind: EntryKind,
        /// Permission bits, including set-id and sticky.
        2 mode: u32,
        /// Owner by number.
        3 uid: u32,
        /// Group by number.
        4 gid: u32,
        /// Owner by name, if it had one.
        5 user: Option<Blob>,
        /// Group by name, if it had one.
        6 group: Option<Blob>,
        /// Modification time, seconds since 1970.
        7 mtime_s: i64,
        /// And nanoseconds.
        8 mtime_ns: u32,
        /// File size, holes included.
        9 size: u64,
        /// A file's data without holes, or a directory's [`Listing`].
        10 content: Option<Content>,
        /// A symbolic link's target.
        11 target: Option<Blob>,
        /// Extended attributes, sorted by name; ACLs are among them.
        12 xattrs: Vec<Xattr>,
        /// Device number, major in the high 32 bits.
        13 device: u64,
        /// Names with the same number other than zero are one file.
        14 link_group: u64,
        /// Holes of a sparse file, in order, not touching.
        15 holes: Vec<Hole>,
        /// See the `ENTRY_` constants.
        16 flags: u32,
    }
}

/// The file changed while it was read; its bytes are a mixture.
pub const ENTRY_CHANGED_DURING_READ: u32 = 1;

record! {
    /// An extended attribute.
    Xattr {
        /// With its namespace.
        0 name: Blob,
        /// Up to 64 KiB, as Linux allows.
        1 value: Blob,
    }
}

record! {
    /// A run of zeros that is not stored.
    Hole {
        /// Where it starts.
        0 offset: u64,
        /// How long it is.
        1 bytes: u64,
    }
}

impl Listing {
    /// Checks names and order, so that a restore never leaves its target.
    pub fn check(&self) -> Result<(), FormatError> {
        let what = "directory listing";
        let mut previous: Option<&[u8]> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            let name = entry.name.0.as_slice();
            let bad = name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0);
            if bad || previous.is_some_and(|previous| previous >= name) {
                return Err(FormatError::Range { what, field: "name", value: at as u64 });
            }
            if let Some(content) = &entry.content {
                content.check()?;
            }
            previous = Some(name);
        }
        Ok(())
    }
}
