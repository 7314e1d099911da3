//! How places in a point are written: `POINT:PATH` as typed, and a path as printed.
//!
//! What always holds: paths are bytes. For people what is not UTF-8, or what a terminal
//! would obey, is escaped; for programs the bytes themselves stand beside it (`path_b64`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use agent_sources::path_text::path_text;
use serde_json::{Map, Value, json};
use vault_format::tree::{Entry, EntryKind};
use vault_ops::points::PointName;

use crate::exit::{self, Failure};

/// A point, and a place in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) point: PointName,
    /// Below the point's top; empty for all of it.
    pub(crate) path: PathBuf,
}

impl Place {
    /// Reads `POINT` or `POINT:PATH`; a `/` in front of the path changes nothing.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, Failure> {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        let (name, path) = match colon {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &[][..]),
        };
        let name = std::str::from_utf8(name)
            .map_err(|_| Failure::new(exit::USAGE, format!("{} names no point", path_text(Path::new(text)))))?;
        let path: PathBuf =
            path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(OsStr::from_bytes).collect();
        Ok(Self { point: PointName::parse(if name.is_empty() { "latest" } else { name })?, path })
    }
}

/// A path for programs: as text, and as bytes where the text is not all of it.
pub(crate) fn path_fields(fields: &mut Map<String, Value>, path: &Path) {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => drop(fields.insert("path".to_owned(), text.into())),
        Err(_) => {
            fields.insert("path".to_owned(), path_text(path).into());
            fields.insert("path_b64".to_owned(), base64(bytes).into());
        }
    }
}

/// What programs are told of an entry.
pub(crate) fn entry_fields(path: &Path, entry: &Entry) -> Value {
    let mut fields = Map::new();
    path_fields(&mut fields, path);
    let name =
        |name: &Option<vault_format::Blob>| name.as_ref().map(|name| String::from_utf8_lossy(&name.0).into_owned());
    if let Value::Object(more) = json!({
        "kind": kind_text(entry.kind), "mode": format!("{:04o}", entry.mode), "uid": entry.uid, "gid": entry.gid,
        "user": name(&entry.user), "group": name(&entry.group), "size": entry.size, "mtime_s": entry.mtime_s,
        "mtime_ns": entry.mtime_ns,
    }) {
        fields.extend(more);
    }
    if let Some(target) = &entry.target {
        fields.insert("target".to_owned(), path_text(Path::new(OsStr::from_bytes(&target.0))).into());
    }
    Value::Object(fields)
}

/// What an entry is, in a word.
pub(crate) fn kind_text(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
        EntryKind::Fifo => "fifo",
        EntryKind::CharDevice => "char-device",
        EntryKind::BlockDevice => "block-device",
        EntryKind::Socket => "socket",
    }
}

/// Kind and permissions as `ls -l` writes them.
pub(crate) fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
        EntryKind::Socket => 's',
    };
    let mut text: Vec<char> = "rwxrwxrwx".chars().collect();
    for (at, letter) in text.iter_mut().enumerate() {
        if entry.mode & 0o400 >> at == 0 {
            *letter = '-';
        }
    }
    for (bit, at, set, bare) in [(0o4000, 2, 's', 'S'), (0o2000, 5, 's', 'S'), (0o1000, 8, 't', 'T')] {
        if entry.mode & bit != 0 {
            text[at] = if text[at] == 'x' { set } else { bare };
        }
    }
    std::iter::once(kind).chain(text).collect()
}

/// RFC 4648 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number = group.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let letter = if at <= group.len() { LETTERS[(number >> (18 - 6 * at) & 63) as usize] } else { b'=' };
            text.push(char::from(letter));
        }
    }
    text
}

/// Arguments that name places in points are bytes, too.
pub(crate) type Typed = OsString;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_typed() {
        let place = |text: &[u8]| Place::parse(OsStr::from_bytes(text)).unwrap();
        assert_eq!(place(b"latest").path, Path::new(""));
        assert_eq!(place(b"latest~2:/docs//a b/").path, Path::new("docs/a b"));
        assert_eq!(place(b"p-7f3a91:a:b").path, Path::new("a:b"));
        assert_eq!(place(b":\xff").path.as_os_str().as_bytes(), b"\xff");
        assert_eq!(place(b":x").point, PointName::Latest(0));
        assert!(Place::parse(OsStr::new("yesterday:x")).is_err());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        assert!(pairs.iter().all(|(plain, coded)| base64(plain.as_bytes()) == *coded));
        assert_eq!(base64(b"caf\xe9"), "Y2Fm6Q==");
    }
}
