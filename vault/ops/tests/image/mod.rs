//! The disk image of a host as a thief has it, and a search of all of it.
//!
//! A 32-byte window opens a pack as master seed, as KEM seed, as data key or as body key
//! exactly if it *is* that key. So the true keys are taken from the read key, which the
//! image must not have, and every window of the image is compared with all of them: raw,
//! and with runs of hex digits decoded at both alignments, across line ends. SQLite files
//! are searched as they are and value by value, so that no page boundary hides anything.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::HashMap;
use std::path::Path;

use keys::files::{MasterSeed, ReadKey};
use keys::kem::{self, SealedBox};
use keys::{RecipientPrivate, Secret, wrap};
use vault_codec::ParsedHeader;
use vault_format::Hash;
use vault_format::shard::HEADER_BYTES;

/// Files by name.
#[derive(Default)]
pub(crate) struct Image(pub(crate) Vec<(String, Vec<u8>)>);

impl Image {
    pub(crate) fn add(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let name = name.into();
        if bytes.starts_with(b"SQLite format 3\0") {
            self.0.push((format!("{name}, its values"), values(&bytes)));
        }
        self.0.push((name, bytes));
    }

    /// Everything below a folder, but not what `leave` says.
    pub(crate) fn add_folder(&mut self, folder: &Path, leave: &dyn Fn(&Path) -> bool) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if leave(&path) {
                continue;
            }
            if path.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                self.add(path.display().to_string(), target.display().to_string().into_bytes());
            } else if path.is_dir() {
                self.add_folder(&path, leave);
            } else {
                self.add(path.display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Where a text stands: in a file's bytes or in its name.
    pub(crate) fn find_text(&self, text: &[u8]) -> Option<&str> {
        let found = |(name, bytes): &&(String, Vec<u8>)| {
            let finder = |hay: &[u8]| hay.windows(text.len()).any(|window| window == text);
            finder(bytes) || finder(name.as_bytes())
        };
        self.0.iter().find(found).map(|(name, _)| name.as_str())
    }
}

/// Every value of every table, each behind a byte that ends the one before.
fn values(bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let base = rusqlite::Connection::open(file.path()).unwrap();
    let mut names = base.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").unwrap();
    let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut out = Vec::new();
    for name in names {
        let mut all = base.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
        let columns = all.column_count();
        let mut rows = all.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                match row.get_ref(column).unwrap() {
                    rusqlite::types::ValueRef::Blob(value) | rusqlite::types::ValueRef::Text(value) => {
                        out.extend_from_slice(value);
                    }
                    rusqlite::types::ValueRef::Integer(value) => out.extend_from_slice(&value.to_be_bytes()),
                    rusqlite::types::ValueRef::Null | rusqlite::types::ValueRef::Real(_) => {}
                }
                out.push(0);
            }
        }
    }
    out
}

/// All keys that open a pack.
#[derive(Default)]
pub(crate) struct Wanted {
    by_front: HashMap<[u8; 8], Vec<([u8; 32], String)>>,
    pub(crate) packs: usize,
}

impl Wanted {
    fn add(&mut self, key: [u8; 32], what: String) {
        let front = key[..8].try_into().unwrap();
        self.by_front.entry(front).or_default().push((key, what));
    }

    /// The keys of the vault, and of every pack one of these headers belongs to.
    pub(crate) fn of(master: &MasterSeed, read: &ReadKey, headers: &[Vec<u8>]) -> Self {
        let mut wanted = Self::default();
        wanted.add(*master.seed.expose_secret(), "the master seed".to_owned());
        for generation in &read.generations {
            wanted.add(*generation.reader.seed().expose_secret(), "the reader's KEM seed".to_owned());
        }
        let mut seen = std::collections::BTreeSet::new();
        for bytes in headers {
            let header = ParsedHeader::parse(&bytes[..HEADER_BYTES]).unwrap();
            if seen.insert(header.pack()) {
                let (data, body) = keys_of(&header, read);
                wanted.add(data, format!("the data key of pack {}", header.pack()));
                wanted.add(body, format!("the body key of pack {}", header.pack()));
            }
        }
        wanted.packs = seen.len();
        wanted
    }

    /// The keys of single packs.
    pub(crate) fn keys_of_packs(&self) -> impl Iterator<Item = (&[u8; 32], &str)> {
        let all = self.by_front.values().flatten().map(|(key, what)| (key, what.as_str()));
        all.filter(|(_, what)| what.contains("of pack"))
    }

    fn is(&self, window: &[u8]) -> Option<&str> {
        let front: [u8; 8] = window[..8].try_into().unwrap();
        let found = self.by_front.get(&front)?.iter().find(|(key, _)| key[..] == *window);
        found.map(|(_, what)| what.as_str())
    }

    /// The first key that stands in the image, and where.
    pub(crate) fn find(&self, image: &Image) -> Option<String> {
        let mut fronts = vec![false; 1 << 16];
        for front in self.by_front.keys() {
            fronts[usize::from(u16::from_le_bytes([front[0], front[1]]))] = true;
        }
        let search = |bytes: &[u8]| {
            bytes.windows(32).find_map(|window| {
                fronts[usize::from(u16::from_le_bytes([window[0], window[1]]))].then(|| self.is(window)).flatten()
            })
        };
        image.0.iter().find_map(|(name, bytes)| {
            let found = search(bytes).or_else(|| decoded(bytes).iter().find_map(|bytes| search(bytes)))?;
            Some(format!("{found} stands in {name}"))
        })
    }
}

/// The data key and the body key of a pack.
fn keys_of(header: &ParsedHeader, read: &ReadKey) -> ([u8; 32], [u8; 32]) {
    let h0 = keys::hash::labelled(vault_format::labels::H0, &header.h0().encode());
    let (slot, reader) = slot_of(header, read);
    let data = kem::open(reader, &wrap_info(&h0), b"", &sealed_slot(header, slot)).unwrap();
    let (body, _) = wrap::unwrap(&header.header().slots[slot], reader, &h0).unwrap().pack_keys(&h0);
    (data.expose_secret().try_into().unwrap(), *body.expose_secret())
}

fn slot_of<'a>(header: &ParsedHeader, read: &'a ReadKey) -> (usize, &'a RecipientPrivate) {
    let mut slots = header.h0().recipients.iter().enumerate();
    slots.find_map(|(slot, id)| Some((slot, read.reader(id)?))).expect("the vault's reader")
}

fn sealed_slot(header: &ParsedHeader, slot: usize) -> SealedBox {
    let slot = &header.header().slots[slot];
    SealedBox { enc: slot.enc, ciphertext: slot.wrapped.to_vec() }
}

/// `frame(WRAP) || frame(h0)`, from keys/FORMAT.md.
fn wrap_info(h0: &Hash) -> Vec<u8> {
    let frame = |part: &[u8]| [&u16::try_from(part.len()).unwrap().to_le_bytes()[..], part].concat();
    [frame(b"holdfast wrap 1"), frame(&h0.0)].concat()
}

/// Every window of some bytes (and of the hex in them, as it is written) as KEM seed against
/// the recipients of the packs, with the real key generation: a tenth of a millisecond each.
/// Returns windows tried, and what opened.
pub(crate) fn try_as_kem_seeds(bytes: &[u8], headers: &[Vec<u8>]) -> (usize, Option<String>) {
    let headers: Vec<_> = headers.iter().map(|bytes| ParsedHeader::parse(&bytes[..HEADER_BYTES]).unwrap()).collect();
    let mut texts: Vec<_> = decoded(bytes).into_iter().step_by(2).collect();
    texts.push(bytes.to_vec());
    let mut tried = std::collections::BTreeSet::new();
    for window in texts.iter().flat_map(|text| text.windows(32)) {
        // No key has so few different bytes; a page of zeros has, and digits of hex have.
        let mut different = [false; 256];
        for byte in window {
            different[usize::from(*byte)] = true;
        }
        if different.iter().filter(|is| **is).count() < 20 || !tried.insert(window.to_vec()) {
            continue;
        }
        let key = RecipientPrivate::from_seed(Secret::from_slice(window).unwrap());
        let opened = headers.iter().find(|header| header.h0().recipients.contains(&key.id()));
        if let Some(header) = opened {
            vault_codec::unlock(header, &key).unwrap();
            return (tried.len(), Some(format!("pack {}", header.pack())));
        }
    }
    (tried.len(), None)
}

/// The hex in a text, decoded at both alignments; runs of fewer digits than a key has are
/// left out.
fn decoded(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut run: Vec<u8> = Vec::new();
    for byte in bytes.iter().chain(b"!") {
        match (*byte as char).to_digit(16) {
            Some(digit) => run.push(digit as u8),
            None if byte.is_ascii_whitespace() => {}
            None => {
                if run.len() >= 64 {
                    for from in [0, 1] {
                        found.push(run[from..].chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect());
                    }
                }
                run.clear();
            }
        }
    }
    found
}
