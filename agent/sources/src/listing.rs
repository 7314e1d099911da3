//! A directory listing as it comes out of a vault: read whole, and every field
//! checked before the first of them is acted on.
//!
//! What always holds: a listing that passes names only things directly inside
//! its directory, and no field can make a restore do what a backup cannot have
//! recorded. The writer's signature is not enough: whoever steals a writer's
//! keys can sign a listing that no file system ever had.

use vault_format::tree::{Content, Entry, EntryKind, Listing};
use vault_ops::source::{PointReader, read_to_vec};
use vault_ops::{OpsError, Result};

use crate::metadata::{MODE_BITS, XATTR_BYTES_MAX};

/// Most bytes of one directory's listing: more than a million files in one
/// directory. It bounds what a forged listing can make a restore allocate.
pub(crate) const LISTING_BYTES_MAX: u64 = 256 << 20;
/// Longest target of a symbolic link, as Linux allows.
const TARGET_BYTES_MAX: usize = 4095;
const XATTR_NAME_BYTES_MAX: usize = 255;

/// Reads and checks the listing of the directory called `shown`.
pub(crate) async fn read_listing(point: &dyn PointReader, content: &Content, shown: &str) -> Result<Listing> {
    read_listing_or_not(point, content, shown).await?
}

/// The same, telling a listing that cannot be had from one that is had and must not be:
/// the outer error refuses the point, the inner one may be that of one directory.
pub(crate) async fn read_listing_or_not(
    point: &dyn PointReader,
    content: &Content,
    shown: &str,
) -> Result<Result<Listing>> {
    let what = || format!("the listing of {}", if shown.is_empty() { "the top" } else { shown });
    content.check().map_err(|error| OpsError::format(what(), &error))?;
    let bytes = match read_to_vec(point, content, LISTING_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Err(error)),
    };
    let listing: Listing =
        vault_format::decode("directory listing", &bytes).map_err(|error| OpsError::format(what(), &error))?;
    listing.check().map_err(|error| OpsError::format(what(), &error))?;
    for (at, entry) in listing.entries.iter().enumerate() {
        check_entry(entry).map_err(|why| OpsError::corrupt(what(), format!("entry {at}: {why}")))?;
    }
    Ok(Ok(listing))
}

/// The content of a file or directory.
pub(crate) fn content_of(entry: &Entry) -> Result<&Content> {
    entry.content.as_ref().ok_or_else(|| OpsError::corrupt("the point's tree", "an entry lost its content"))
}

/// Bytes of a file that are stored: all but its holes.
pub(crate) fn stored_bytes(entry: &Entry) -> u64 {
    entry.size - entry.holes.iter().map(|hole| hole.bytes).sum::<u64>()
}

fn check_entry(entry: &Entry) -> std::result::Result<(), &'static str> {
    let only = |kinds: &[EntryKind], present: bool, why| {
        if present && !kinds.contains(&entry.kind) { Err(why) } else { Ok(()) }
    };
    only(&[EntryKind::File, EntryKind::Directory], entry.content.is_some(), "content on what has none")?;
    only(&[EntryKind::Symlink], entry.target.is_some(), "a link target on what is no link")?;
    only(&[EntryKind::CharDevice, EntryKind::BlockDevice], entry.device != 0, "a device number on no device")?;
    only(&[EntryKind::File], !entry.holes.is_empty(), "holes in what is no file")?;
    if entry.kind == EntryKind::Directory && entry.link_group != 0 {
        return Err("a hard link to a directory");
    }
    if entry.mode & !MODE_BITS != 0 {
        return Err("a mode with more than permission bits");
    }
    if entry.mtime_ns >= 1_000_000_000 {
        return Err("a time with more than a second of nanoseconds");
    }
    check_xattrs(entry)?;
    match entry.kind {
        EntryKind::File => check_file(entry),
        EntryKind::Directory if entry.content.is_none() => Err("a directory without a listing"),
        EntryKind::Symlink => match &entry.target {
            Some(target) if !target.0.is_empty() && target.0.len() <= TARGET_BYTES_MAX && !target.0.contains(&0) => {
                Ok(())
            }
            _ => Err("a symbolic link without a possible target"),
        },
        EntryKind::Directory | EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Socket => {
            Ok(())
        }
    }
}

fn check_file(entry: &Entry) -> std::result::Result<(), &'static str> {
    let Some(content) = &entry.content else { return Err("a file without content") };
    let mut end = None;
    let mut data = entry.size;
    for hole in &entry.holes {
        let Some(hole_end) = hole.offset.checked_add(hole.bytes) else { return Err("a hole past the end of numbers") };
        if hole.bytes == 0 || hole_end > entry.size || end.is_some_and(|end| hole.offset <= end) {
            return Err("holes that are empty, touch, overlap, or lie outside their file");
        }
        data -= hole.bytes;
        end = Some(hole_end);
    }
    if data == content.bytes { Ok(()) } else { Err("a file whose size is not that of its content") }
}

fn check_xattrs(entry: &Entry) -> std::result::Result<(), &'static str> {
    let mut previous: Option<&[u8]> = None;
    for xattr in &entry.xattrs {
        let name = xattr.name.0.as_slice();
        let possible = !name.is_empty() && name.len() <= XATTR_NAME_BYTES_MAX && !name.contains(&0);
        if !possible || xattr.value.0.len() > XATTR_BYTES_MAX || previous.is_some_and(|previous| previous >= name) {
            return Err("extended attributes no file can have");
        }
        previous = Some(name);
    }
    Ok(())
}
