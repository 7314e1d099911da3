//! What a file carries beside its bytes: read into an [`Entry`], and set from one.
//!
//! What always holds: both directions work on open descriptors, so a name that
//! is swapped meanwhile changes nothing else. Times are set last, because
//! everything before would change them; owner before mode, because changing an
//! owner clears set-id bits.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use vault_format::Blob;
use vault_format::tree::{Entry, EntryKind, Xattr};

use crate::accounts::Accounts;
use crate::descent::open_beneath;
use crate::owners::Owner;

/// Largest value and largest list of names that Linux gives out.
pub(crate) const XATTR_BYTES_MAX: usize = 64 << 10;
/// Permission, set-id and sticky bits.
pub(crate) const MODE_BITS: u32 = 0o7777;
const SET_ID_BITS: u32 = 0o6000;

/// The host's names of users and groups; the numbers are kept with or without one.
pub(crate) struct Owners {
    users: BTreeMap<u32, Blob>,
    groups: BTreeMap<u32, Blob>,
}

impl Owners {
    pub(crate) fn of_this_host() -> Self {
        Self { users: Accounts::Users.names(), groups: Accounts::Groups.names() }
    }
}

/// The kind, if it is one that can be stored.
pub(crate) fn kind_of(stat: &Stat) -> Option<EntryKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(EntryKind::File),
        FileType::Directory => Some(EntryKind::Directory),
        FileType::Symlink => Some(EntryKind::Symlink),
        FileType::Fifo => Some(EntryKind::Fifo),
        FileType::CharacterDevice => Some(EntryKind::CharDevice),
        FileType::BlockDevice => Some(EntryKind::BlockDevice),
        FileType::Socket => Some(EntryKind::Socket),
        FileType::Unknown => None,
    }
}

/// Bytes of the file, as the system says.
pub(crate) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// An entry with everything but content, link target, extended attributes and link group.
pub(crate) fn entry_of(name: &[u8], kind: EntryKind, stat: &Stat, owners: &Owners) -> Entry {
    let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    let device = rustix::fs::major(stat.st_rdev);
    Entry {
        name: Blob(name.to_vec()),
        kind,
        mode: stat.st_mode & MODE_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: owners.users.get(&stat.st_uid).cloned(),
        group: owners.groups.get(&stat.st_gid).cloned(),
        mtime_s: stat.st_mtime,
        mtime_ns: stat.st_mtime_nsec as u32,
        size: 0,
        content: None,
        target: None,
        xattrs: Vec::new(),
        device: if is_device { u64::from(device) << 32 | u64::from(rustix::fs::minor(stat.st_rdev)) } else { 0 },
        link_group: 0,
        holes: Vec::new(),
        flags: 0,
    }
}

/// The extended attributes, sorted by name. A file system without them has none.
pub(crate) fn read_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<Xattr>> {
    let mut names = Vec::new();
    // Most files have none: asking for the length first avoids the large buffer.
    match rustix::fs::flistxattr_query(file) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(_) => names.reserve_exact(XATTR_BYTES_MAX),
        Err(error) => return Err(error.into()),
    }
    rustix::fs::flistxattr(file, spare_capacity(&mut names))?;
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(XATTR_BYTES_MAX);
        match rustix::fs::fgetxattr(file, name, spare_capacity(&mut value)) {
            Ok(_) => {
                value.shrink_to_fit();
                found.push(Xattr { name: Blob(name.to_vec()), value: Blob(value) });
            }
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// Sets owner, extended attributes, mode and time of an open file or directory, as far as
/// they differ. What could not be set comes back in words; the rest is set all the same.
pub(crate) fn set_on(file: BorrowedFd<'_>, entry: &Entry, owner: Option<Owner>) -> Vec<String> {
    let mut failed = Vec::new();
    let stat = || rustix::fs::fstat(file).ok();
    let mut standing = stat();
    if let Some(owner) = owner
        && standing.as_ref().map(Owner::of) != Some(owner)
    {
        let (user, group) = owner.ids();
        note(&mut failed, "owner", rustix::fs::fchown(file, user, group));
        standing = stat();
    }
    set_xattrs(&mut failed, entry, |name, value| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()));
    set_mode(&mut failed, entry, owner, standing.as_ref(), |mode| rustix::fs::fchmod(file, mode));
    note(&mut failed, "modification time", rustix::fs::futimens(file, &times(entry)));
    failed
}

/// Sets owner, extended attributes and time of the symbolic link called `name`; its mode
/// means nothing on Linux.
pub(crate) fn set_on_symlink(here: BorrowedFd<'_>, name: &[u8], entry: &Entry, owner: Option<Owner>) -> Vec<String> {
    let mut failed = Vec::new();
    if let Some((user, group)) = owner.map(Owner::ids) {
        let set = rustix::fs::chownat(here, name, user, group, AtFlags::SYMLINK_NOFOLLOW);
        note(&mut failed, "owner", set);
    }
    let mut link = format!("/proc/self/fd/{}/", here.as_raw_fd()).into_bytes();
    link.extend_from_slice(name);
    set_xattrs(&mut failed, entry, |key, value| rustix::fs::lsetxattr(&link[..], key, value, XattrFlags::empty()));
    let set = rustix::fs::utimensat(here, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
    note(&mut failed, "modification time", set);
    failed
}

/// Sets everything on the pipe or device called `name`, which must not be opened to be read or
/// written. Calls by name would follow a link that somebody puts in its place,
/// so they go through the system's own link to the descriptor.
pub(crate) fn set_on_special(here: BorrowedFd<'_>, name: &[u8], entry: &Entry, owner: Option<Owner>) -> Vec<String> {
    let node = match open_beneath(here, name, OFlags::PATH, Mode::empty()) {
        Ok(node) => node,
        Err(error) => return vec![format!("owner, mode and time not set: {error}")],
    };
    let link = format!("/proc/self/fd/{}", node.as_raw_fd());
    let mut failed = Vec::new();
    if let Some((user, group)) = owner.map(Owner::ids) {
        let set = rustix::fs::chownat(&node, "", user, group, AtFlags::EMPTY_PATH);
        note(&mut failed, "owner", set);
    }
    set_xattrs(&mut failed, entry, |name, value| rustix::fs::setxattr(&link, name, value, XattrFlags::empty()));
    let standing = rustix::fs::fstat(&node).ok();
    set_mode(&mut failed, entry, owner, standing.as_ref(), |mode| rustix::fs::chmod(&link, mode));
    let set = rustix::fs::utimensat(rustix::fs::CWD, &link, &times(entry), AtFlags::empty());
    note(&mut failed, "modification time", set);
    failed
}

fn set_xattrs(failed: &mut Vec<String>, entry: &Entry, set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) {
    for xattr in &entry.xattrs {
        if let Err(error) = set(&xattr.name.0, &xattr.value.0) {
            failed.push(format!("extended attribute {} not set: {error}", xattr.name.0.escape_ascii()));
        }
    }
}

/// Set-id bits are only given to a file whose owner is the one meant: on
/// anybody else's file they would lend the wrong person's rights. `standing` is the file
/// after its owner was set; an access list among the attributes may have changed the mode since.
fn set_mode(
    failed: &mut Vec<String>,
    entry: &Entry,
    owner: Option<Owner>,
    standing: Option<&Stat>,
    set: impl FnOnce(Mode) -> rustix::io::Result<()>,
) {
    let wanted = owner.unwrap_or(Owner::recorded(entry));
    let belongs = standing.map(Owner::of) == Some(wanted);
    let mode = if belongs { entry.mode } else { entry.mode & !SET_ID_BITS };
    if mode != entry.mode {
        failed.push("set-id bits not set: the owner is another one".to_owned());
    }
    let is_set = entry.xattrs.is_empty() && standing.is_some_and(|stat| stat.st_mode & MODE_BITS == mode);
    if !is_set {
        note(failed, "mode", set(Mode::from_raw_mode(mode)));
    }
}

fn note(failed: &mut Vec<String>, what: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        failed.push(format!("{what} not set: {error}"));
    }
}

/// The entry's modification time; the access time stays as it is.
fn times(entry: &Entry) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() },
    }
}
