//! Snapshot -> state, from pieces of any size.

use alloc::vec::Vec;

use super::{HEADER_BYTES, Header, SECTION_CHECKSUM_BYTES, SECTION_HEADER_BYTES, SECTION_SKIPPABLE, Section};
use crate::collection::{Collection, Head, TrashedCollection};
use crate::command::Existing;
use crate::error::{Error, Fault};
use crate::hash::{Hash, SNAPSHOT};
use crate::id::{Id, Name};
use crate::limits::SECTION_BYTES_MAX;
use crate::state::State;
use crate::thing::{Edge, Encoded, Kind, KindSpace, Node, Record, ThingRef, Trashed};
use crate::wire::Reader;

/// Reads a snapshot that arrives in pieces. Holds at most one section beside the state.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read.
    used: usize,
    /// Bytes of the snapshot before `buffer[used]`.
    offset: u64,
    header: Option<Header>,
    rebuild: Rebuild,
}

/// The state so far, and the last key of each order that must rise.
#[derive(Default)]
struct Rebuild {
    state: State,
    /// As the header has it.
    state_hash: Hash,
    open: Option<Open>,
    last_name: Option<Name>,
    last_trash_id: Option<Id>,
    sections: u64,
    ended: bool,
}

/// The collection that sections 2 to 6 belong to.
struct Open {
    trashed: Option<(Id, i64)>,
    collection: Collection,
    last_section: Section,
    last_kind: Option<(KindSpace, u16)>,
    last_id: Option<Id>,
    last_trash: Option<ThingRef>,
}

impl Decoder {
    /// A decoder at the start of a snapshot.
    pub fn new() -> Self {
        Self::default()
    }

    /// The header, once its bytes have arrived.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// Reads one header or section if it has arrived whole.
    fn step(&mut self) -> Result<bool, Error> {
        let rest = &self.buffer[self.used..];
        if rest.is_empty() {
            return Ok(false);
        }
        if self.rebuild.ended {
            return Err(Error::Corrupt { fault: Fault::TrailingBytes, at: self.offset });
        }
        let taken = if self.header.is_none() {
            if rest.len() < HEADER_BYTES {
                return Ok(false);
            }
            let header = Header::decode(&rest[..HEADER_BYTES])?;
            self.rebuild.state_hash = header.state_hash;
            self.header = Some(header);
            HEADER_BYTES
        } else {
            match self.rebuild.section(rest).map_err(|error| shift(error, self.offset))? {
                Some(taken) => taken,
                None => return Ok(false),
            }
        };
        self.used += taken;
        self.offset += taken as u64;
        Ok(true)
    }

    /// The state, if the snapshot is complete and its hash is the recorded one.
    pub fn finish(self) -> Result<(Header, State), Error> {
        let at = self.offset + (self.buffer.len() - self.used) as u64;
        let (Some(header), true) = (self.header, self.rebuild.ended) else {
            if self.header.is_none() && self.buffer.len() < HEADER_BYTES {
                // Says "not a snapshot" rather than "short" where the first bytes already show it.
                Header::decode(&self.buffer)?;
            }
            return Err(Error::Corrupt { fault: Fault::Truncated, at });
        };
        let mut state = self.rebuild.state;
        state.set_sequence(header.sequence);
        if state.hash() != header.state_hash {
            return Err(Error::Corrupt { fault: Fault::StateHash, at: header.sequence });
        }
        Ok((header, state))
    }
}

/// Offsets within a section become offsets within the snapshot.
fn shift(error: Error, by: u64) -> Error {
    match error {
        Error::Corrupt { fault, at } => Error::Corrupt { fault, at: at + by },
        Error::Unsupported { .. } => error,
        // A rule the items break: they were never a state of ours.
        Error::NotFound { .. } | Error::Conflict { .. } | Error::Refused(_) | Error::Item { .. } => {
            Error::Corrupt { fault: Fault::Replay, at: by }
        }
    }
}

fn rising<T: Ord>(last: &mut Option<T>, next: T, at: usize) -> Result<(), Error> {
    if last.as_ref().is_some_and(|last| *last >= next) {
        return Err(Error::corrupt(Fault::Order, at));
    }
    *last = Some(next);
    Ok(())
}

impl Rebuild {
    /// Reads the section at the start of `bytes`; None if it has not arrived whole.
    fn section(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        if bytes.len() < SECTION_HEADER_BYTES {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        let (tag, flags, length) = (reader.u16()?, reader.u16()?, reader.u32()?);
        if length > SECTION_BYTES_MAX {
            return Err(Error::corrupt(Fault::TooLarge, 4));
        }
        let framed = SECTION_HEADER_BYTES + length as usize;
        if bytes.len() < framed + SECTION_CHECKSUM_BYTES {
            return Ok(None);
        }
        if SNAPSHOT.hash(&bytes[..framed]).as_bytes()[..] != bytes[framed..framed + SECTION_CHECKSUM_BYTES] {
            return Err(Error::corrupt(Fault::Checksum, framed));
        }
        if flags & !SECTION_SKIPPABLE != 0 {
            return Err(Error::Unsupported { what: "snapshot section flags", number: flags.into() });
        }
        self.sections += 1;
        let skippable = flags & SECTION_SKIPPABLE != 0;
        match Section::from_number(tag) {
            Err(_) | Ok(Section::Index) if skippable => {}
            Err(error) => return Err(error),
            Ok(section) => self.read(section, &mut Reader::new(&bytes[SECTION_HEADER_BYTES..framed]))?,
        }
        Ok(Some(framed + SECTION_CHECKSUM_BYTES))
    }

    fn read(&mut self, section: Section, reader: &mut Reader<'_>) -> Result<(), Error> {
        match section {
            Section::Collection => {
                self.close();
                let head = Head::decode(reader)?;
                if self.last_trash_id.is_some() {
                    return Err(Error::corrupt(Fault::Misplaced, 0));
                }
                rising(&mut self.last_name, head.name.clone(), 0)?;
                self.open = Some(Open::new(None, head));
            }
            Section::TrashedCollection => {
                self.close();
                let trash_id = Id::decode(reader)?;
                let deleted_at = reader.i64()?;
                let head = Head::decode(reader)?;
                rising(&mut self.last_trash_id, trash_id, 0)?;
                self.open = Some(Open::new(Some((trash_id, deleted_at)), head));
            }
            Section::Kinds | Section::Records | Section::Nodes | Section::Edges | Section::Trash => {
                let open = self.open.as_mut().ok_or(Error::corrupt(Fault::Misplaced, 0))?;
                return open.read(section, reader);
            }
            Section::End => {
                self.close();
                self.end(reader)?;
            }
            Section::Index | Section::Removed => {
                return Err(Error::Unsupported { what: "snapshot section", number: section.number().into() });
            }
        }
        if reader.left() > 0 {
            return reader.fail(Fault::TrailingBytes);
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { trashed, collection, .. }) = self.open.take() else { return };
        match trashed {
            None => self.state.adopt_collection(collection),
            Some((trash_id, deleted_at)) => {
                self.state.adopt_trashed(TrashedCollection { trash_id, deleted_at, collection });
            }
        }
    }

    fn end(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let counts = [self.sections - 1, self.state.collections_root().1, self.state.trashed_root().1];
        for count in counts {
            if reader.u64()? != count {
                return Err(Error::corrupt(Fault::Misplaced, 0));
            }
        }
        if Hash::from_bytes(reader.array()?) != self.state_hash {
            return Err(Error::corrupt(Fault::StateHash, 0));
        }
        self.ended = true;
        Ok(())
    }
}

impl Open {
    fn new(trashed: Option<(Id, i64)>, head: Head) -> Self {
        Open {
            trashed,
            collection: Collection::new(head),
            last_section: Section::Collection,
            last_kind: None,
            last_id: None,
            last_trash: None,
        }
    }

    fn read(&mut self, section: Section, reader: &mut Reader<'_>) -> Result<(), Error> {
        if section < self.last_section || reader.left() == 0 {
            return Err(Error::corrupt(Fault::Misplaced, 0));
        }
        if section > self.last_section {
            self.last_section = section;
            self.last_id = None;
        }
        while reader.left() > 0 {
            let at = reader.at();
            match section {
                Section::Kinds => {
                    let kind = Kind::decode(reader)?;
                    rising(&mut self.last_kind, (kind.space, kind.number), at)?;
                    self.collection.define_kind(kind)?;
                }
                Section::Records => {
                    let record = Record::decode(reader)?;
                    rising(&mut self.last_id, record.id, at)?;
                    self.collection.put_record(record, Existing::Refuse)?;
                }
                Section::Nodes => {
                    let node = Node::decode(reader)?;
                    rising(&mut self.last_id, node.id, at)?;
                    self.collection.put_node(node, Existing::Refuse)?;
                }
                Section::Edges => {
                    let edge = Edge::decode(reader)?;
                    rising(&mut self.last_id, edge.id, at)?;
                    self.collection.put_edge(edge, Existing::Refuse)?;
                }
                Section::Trash => {
                    let entry = Trashed::decode(reader)?;
                    rising(&mut self.last_trash, entry.reference(), at)?;
                    self.collection.put_trash(entry.thing, entry.deleted_at)?;
                }
                Section::Collection | Section::TrashedCollection | Section::Index | Section::Removed | Section::End => {
                    return Err(Error::corrupt(Fault::Misplaced, at));
                }
            }
        }
        Ok(())
    }
}
