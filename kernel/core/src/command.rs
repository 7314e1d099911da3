//! Commands: everything that can change the state, as a closed, numbered enum.
//!
//! The numbers are stored in every WAL record; dead ones stay. What decodes encodes to the same bytes.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::collection::{Head, Metric, Parameters};
use crate::error::{Error, Fault, Rule};
use crate::id::{Id, Name};
use crate::limits::{BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX, ITEMS_MAX};
use crate::thing::{Edge, Encoded, Kind, Node, Record, ThingRef};
use crate::wire::{Put, Reader};

/// What a put does with an id that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// 0: refuse the command.
    Refuse,
    /// 1: replace the thing.
    Replace,
}

/// What a delete leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// 0: an entry in the trash, from which it can be restored.
    Soft,
    /// 1: nothing.
    Hard,
}

/// What a delete does when others refer to the thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// 0: refuse the command.
    Refuse,
    /// 1: delete them too, in the same mode.
    Cascade,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// 1: a new, empty collection.
    CreateCollection {
        /// Unique among the living.
        name: Name,
        /// Components of each vector.
        dimension: u32,
        /// How nearness is measured.
        metric: Metric,
        /// Its parameters.
        parameters: Parameters,
        /// Milliseconds since 1970.
        created_at: i64,
        /// Bytes the kernel does not look into.
        metadata: Box<[u8]>,
    },
    /// 2: moves a collection to the trash, whole.
    TrashCollection {
        /// Which.
        name: Name,
        /// How the trash calls it.
        trash_id: Id,
        /// Milliseconds since 1970.
        deleted_at: i64,
    },
    /// 3: brings a collection back, under this name.
    RestoreCollection {
        /// Which.
        trash_id: Id,
        /// Its name from now on.
        name: Name,
    },
    /// 4: removes a collection from the trash for good.
    PurgeCollection {
        /// Which.
        trash_id: Id,
    },
    /// 5: new parameters.
    SetParameters {
        /// Which collection.
        collection: Name,
        /// All of them.
        parameters: Parameters,
    },
    /// 6: a user kind.
    DefineKind {
        /// Where.
        collection: Name,
        /// Its number and name.
        kind: Kind,
    },
    /// 7: records.
    PutRecords {
        /// Where.
        collection: Name,
        /// If the id is taken.
        existing: Existing,
        /// What.
        records: Vec<Record>,
    },
    /// 8: nodes.
    PutNodes {
        /// Where.
        collection: Name,
        /// If the id is taken.
        existing: Existing,
        /// What.
        nodes: Vec<Node>,
    },
    /// 9: edges.
    PutEdges {
        /// Where.
        collection: Name,
        /// If the id is taken.
        existing: Existing,
        /// What.
        edges: Vec<Edge>,
    },
    /// 10: deletes records.
    DeleteRecords(Deletion),
    /// 11: deletes nodes.
    DeleteNodes(Deletion),
    /// 12: deletes edges.
    DeleteEdges(Deletion),
    /// 13: brings things back from the trash.
    RestoreThings {
        /// Where.
        collection: Name,
        /// Which.
        things: Vec<ThingRef>,
    },
    /// 14: removes things from the trash for good.
    PurgeThings {
        /// Where.
        collection: Name,
        /// Which.
        things: Vec<ThingRef>,
    },
    /// 15: removes what was deleted before a time, oldest first.
    PurgeBefore {
        /// Where.
        collection: Name,
        /// Milliseconds since 1970.
        deleted_before: i64,
        /// At most this many.
        limit: u32,
    },
    /// 16: several commands that take effect together or not at all.
    Batch(Vec<Command>),
}

/// The body of the three deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Where.
    pub collection: Name,
    /// What it leaves.
    pub mode: DeleteMode,
    /// What happens to things that refer to the deleted ones. Nothing refers to an edge.
    pub links: Links,
    /// Milliseconds since 1970.
    pub deleted_at: i64,
    /// Which.
    pub ids: Vec<Id>,
}

impl Command {
    /// The stored number.
    pub const fn number(&self) -> u16 {
        match self {
            Command::CreateCollection { .. } => 1,
            Command::TrashCollection { .. } => 2,
            Command::RestoreCollection { .. } => 3,
            Command::PurgeCollection { .. } => 4,
            Command::SetParameters { .. } => 5,
            Command::DefineKind { .. } => 6,
            Command::PutRecords { .. } => 7,
            Command::PutNodes { .. } => 8,
            Command::PutEdges { .. } => 9,
            Command::DeleteRecords(_) => 10,
            Command::DeleteNodes(_) => 11,
            Command::DeleteEdges(_) => 12,
            Command::RestoreThings { .. } => 13,
            Command::PurgeThings { .. } => 14,
            Command::PurgeBefore { .. } => 15,
            Command::Batch(_) => 16,
        }
    }

    /// Number and name of every command, as FORMAT.md lists them.
    pub const NAMES: [(u16, &'static str); 16] = [
        (1, "CreateCollection"),
        (2, "TrashCollection"),
        (3, "RestoreCollection"),
        (4, "PurgeCollection"),
        (5, "SetParameters"),
        (6, "DefineKind"),
        (7, "PutRecords"),
        (8, "PutNodes"),
        (9, "PutEdges"),
        (10, "DeleteRecords"),
        (11, "DeleteNodes"),
        (12, "DeleteEdges"),
        (13, "RestoreThings"),
        (14, "PurgeThings"),
        (15, "PurgeBefore"),
        (16, "Batch"),
    ];

    /// The canonical bytes. Refused when they would be longer than a WAL record may be.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes)?;
        if bytes.len() > COMMAND_BYTES_MAX as usize {
            return Err(Rule::TooLarge { what: "the command", max: COMMAND_BYTES_MAX.into() }.into());
        }
        Ok(bytes)
    }

    fn encode_into(&self, into: &mut Vec<u8>) -> Result<(), Error> {
        into.u16(self.number());
        into.zeros(2);
        match self {
            Command::CreateCollection { name, dimension, metric, parameters, created_at, metadata } => {
                let head = Head {
                    name: name.clone(),
                    dimension: *dimension,
                    metric: *metric,
                    parameters: *parameters,
                    created_at: *created_at,
                    metadata: metadata.clone(),
                };
                head.check()?;
                head.encode(into);
            }
            Command::TrashCollection { name, trash_id, deleted_at } => {
                name.encode(into);
                into.raw(trash_id.as_bytes());
                into.i64(*deleted_at);
            }
            Command::RestoreCollection { trash_id, name } => {
                into.raw(trash_id.as_bytes());
                name.encode(into);
            }
            Command::PurgeCollection { trash_id } => into.raw(trash_id.as_bytes()),
            Command::SetParameters { collection, parameters } => {
                collection.encode(into);
                parameters.encode(into);
            }
            Command::DefineKind { collection, kind } => {
                collection.encode(into);
                kind.encode(into);
            }
            Command::PutRecords { collection, existing, records } => {
                encode_put(into, collection, *existing, records)?;
            }
            Command::PutNodes { collection, existing, nodes } => encode_put(into, collection, *existing, nodes)?,
            Command::PutEdges { collection, existing, edges } => encode_put(into, collection, *existing, edges)?,
            Command::DeleteRecords(deletion) | Command::DeleteNodes(deletion) | Command::DeleteEdges(deletion) => {
                deletion.encode(into)?;
            }
            Command::RestoreThings { collection, things } | Command::PurgeThings { collection, things } => {
                collection.encode(into);
                encode_list(into, things)?;
            }
            Command::PurgeBefore { collection, deleted_before, limit } => {
                collection.encode(into);
                into.i64(*deleted_before);
                into.u32(*limit);
            }
            Command::Batch(commands) => encode_batch(into, commands)?,
        }
        Ok(())
    }

    /// Reads canonical bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > COMMAND_BYTES_MAX as usize {
            return Err(Error::corrupt(Fault::TooLarge, 0));
        }
        let mut reader = Reader::new(bytes);
        let command = Self::decode_from(&mut reader, true)?;
        reader.finish()?;
        Ok(command)
    }

    fn decode_from(reader: &mut Reader<'_>, batch_allowed: bool) -> Result<Self, Error> {
        let at = reader.at();
        let number = reader.u16()?;
        reader.reserved(2)?;
        Ok(match number {
            1 => {
                let head = Head::decode(reader)?;
                Command::CreateCollection {
                    name: head.name,
                    dimension: head.dimension,
                    metric: head.metric,
                    parameters: head.parameters,
                    created_at: head.created_at,
                    metadata: head.metadata,
                }
            }
            2 => Command::TrashCollection {
                name: Name::decode(reader)?,
                trash_id: Id::decode(reader)?,
                deleted_at: reader.i64()?,
            },
            3 => Command::RestoreCollection { trash_id: Id::decode(reader)?, name: Name::decode(reader)? },
            4 => Command::PurgeCollection { trash_id: Id::decode(reader)? },
            5 => Command::SetParameters { collection: Name::decode(reader)?, parameters: Parameters::decode(reader)? },
            6 => Command::DefineKind { collection: Name::decode(reader)?, kind: Kind::decode(reader)? },
            7 => {
                let (collection, existing, records) = decode_put(reader)?;
                Command::PutRecords { collection, existing, records }
            }
            8 => {
                let (collection, existing, nodes) = decode_put(reader)?;
                Command::PutNodes { collection, existing, nodes }
            }
            9 => {
                let (collection, existing, edges) = decode_put(reader)?;
                Command::PutEdges { collection, existing, edges }
            }
            10 => Command::DeleteRecords(Deletion::decode(reader)?),
            11 => Command::DeleteNodes(Deletion::decode(reader)?),
            12 => Command::DeleteEdges(Deletion::decode(reader)?),
            13 => Command::RestoreThings { collection: Name::decode(reader)?, things: decode_list(reader)? },
            14 => Command::PurgeThings { collection: Name::decode(reader)?, things: decode_list(reader)? },
            15 => Command::PurgeBefore {
                collection: Name::decode(reader)?,
                deleted_before: reader.i64()?,
                limit: reader.u32()?,
            },
            16 if batch_allowed => decode_batch(reader)?,
            16 => return Err(Error::corrupt(Fault::Misplaced, at)),
            _ => return Err(Error::Unsupported { what: "kernel command", number: number.into() }),
        })
    }
}

impl Deletion {
    fn encode(&self, into: &mut Vec<u8>) -> Result<(), Error> {
        self.collection.encode(into);
        into.u8(match self.mode {
            DeleteMode::Soft => 0,
            DeleteMode::Hard => 1,
        });
        into.u8(match self.links {
            Links::Refuse => 0,
            Links::Cascade => 1,
        });
        into.zeros(2);
        into.i64(self.deleted_at);
        encode_list(into, &self.ids)
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let collection = Name::decode(reader)?;
        let mode = if decode_bool(reader)? { DeleteMode::Hard } else { DeleteMode::Soft };
        let links = if decode_bool(reader)? { Links::Cascade } else { Links::Refuse };
        reader.reserved(2)?;
        Ok(Deletion { collection, mode, links, deleted_at: reader.i64()?, ids: decode_list(reader)? })
    }
}

/// The shortest command: DefineKind, both names of one byte.
const COMMAND_BYTES_MIN: usize = 4 + (2 + 1) + (1 + 1 + 2 + 2 + 1);

fn decode_bool(reader: &mut Reader<'_>) -> Result<bool, Error> {
    let at = reader.at();
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::corrupt(Fault::UnknownNumber, at)),
    }
}

fn encode_list<T: Encoded>(into: &mut Vec<u8>, items: &[T]) -> Result<(), Error> {
    if items.is_empty() {
        return Err(Rule::Empty("the list").into());
    }
    if items.len() > ITEMS_MAX as usize {
        return Err(Rule::TooLarge { what: "the list", max: ITEMS_MAX.into() }.into());
    }
    into.u32(items.len() as u32);
    for item in items {
        item.encode(into);
    }
    Ok(())
}

fn decode_list<T: Encoded>(reader: &mut Reader<'_>) -> Result<Vec<T>, Error> {
    let at = reader.at();
    let count = reader.count(ITEMS_MAX, T::BYTES_MIN)?;
    if count == 0 {
        return Err(Error::corrupt(Fault::Truncated, at));
    }
    (0..count).map(|_| T::decode(reader)).collect()
}

fn encode_put<T: Encoded>(into: &mut Vec<u8>, collection: &Name, existing: Existing, items: &[T]) -> Result<(), Error> {
    collection.encode(into);
    into.u8(match existing {
        Existing::Refuse => 0,
        Existing::Replace => 1,
    });
    into.zeros(3);
    encode_list(into, items)
}

fn decode_put<T: Encoded>(reader: &mut Reader<'_>) -> Result<(Name, Existing, Vec<T>), Error> {
    let collection = Name::decode(reader)?;
    let existing = if decode_bool(reader)? { Existing::Replace } else { Existing::Refuse };
    reader.reserved(3)?;
    Ok((collection, existing, decode_list(reader)?))
}

fn encode_batch(into: &mut Vec<u8>, commands: &[Command]) -> Result<(), Error> {
    if commands.is_empty() {
        return Err(Rule::Empty("the batch").into());
    }
    if commands.len() > BATCH_COMMANDS_MAX as usize {
        return Err(Rule::TooLarge { what: "the batch", max: BATCH_COMMANDS_MAX.into() }.into());
    }
    into.u32(commands.len() as u32);
    for (index, command) in commands.iter().enumerate() {
        if matches!(command, Command::Batch(_)) {
            return Err(Error::from(Rule::NestedBatch).at_item(index));
        }
        command.encode_into(into).map_err(|error| error.at_item(index))?;
    }
    Ok(())
}

fn decode_batch(reader: &mut Reader<'_>) -> Result<Command, Error> {
    let at = reader.at();
    let count = reader.count(BATCH_COMMANDS_MAX, COMMAND_BYTES_MIN)?;
    if count == 0 {
        return Err(Error::corrupt(Fault::Truncated, at));
    }
    let commands = (0..count).map(|_| Command::decode_from(reader, false)).collect::<Result<_, _>>()?;
    Ok(Command::Batch(commands))
}
