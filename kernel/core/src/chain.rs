//! Snapshot + log -> state: the one replay, used by a node that starts and by whoever checks a backup.
//!
//! Each record must carry the lineage, the next sequence, the chain hash that follows and the state hash
//! that the replay stands at; its command must be accepted. Anything else stops the replay at that
//! record, with its sequence in the error.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::command::Command;
use crate::error::{Error, Fault};
use crate::hash::Hash;
use crate::id::Lineage;
use crate::snapshot::{Decoder, Header};
use crate::state::State;
use crate::wal::{WalRecord, record_length};

/// What a verified snapshot and log amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which line of sequences.
    pub lineage: Lineage,
    /// The last sequence.
    pub sequence: u64,
    /// Hash of the state there.
    pub state_hash: Hash,
    /// Chain hash there.
    pub chain: Hash,
    /// Log records that were replayed.
    pub records: u64,
}

/// A state and its place in the log.
pub struct Replay {
    state: State,
    at: Verified,
}

impl Replay {
    /// Stands where a snapshot does.
    pub fn from_snapshot(header: &Header, state: State) -> Self {
        let at = Verified {
            lineage: header.lineage,
            sequence: header.sequence,
            state_hash: header.state_hash,
            chain: header.chain,
            records: 0,
        };
        Replay { state, at }
    }

    /// Where it stands.
    pub fn at(&self) -> &Verified {
        &self.at
    }

    /// The state, and where it stands.
    pub fn into_parts(self) -> (State, Verified) {
        (self.state, self.at)
    }

    /// Applies the next record.
    pub fn push(&mut self, record: &WalRecord<'_>) -> Result<(), Error> {
        let sequence = record.header.sequence;
        let corrupt = |fault| Error::Corrupt { fault, at: sequence };
        if record.header.lineage != self.at.lineage {
            return Err(corrupt(Fault::Lineage));
        }
        if sequence != self.at.sequence + 1 {
            return Err(corrupt(Fault::Sequence));
        }
        if !record.follows(&self.at.chain) {
            return Err(corrupt(Fault::ChainHash));
        }
        if record.header.state_before != self.at.state_hash {
            return Err(corrupt(Fault::StateHash));
        }
        let command = Command::decode(record.payload).map_err(|error| match error {
            Error::Unsupported { .. } => error,
            Error::Corrupt { fault, .. } => corrupt(fault),
            Error::NotFound { .. } | Error::Conflict { .. } | Error::Refused(_) | Error::Item { .. } => {
                corrupt(Fault::Replay)
            }
        })?;
        self.state.apply(command).map_err(|_| corrupt(Fault::Replay))?;
        self.at.sequence = sequence;
        self.at.state_hash = self.state.hash();
        self.at.chain = record.chain;
        self.at.records += 1;
        Ok(())
    }
}

/// Checks a snapshot and the log after it, arriving in pieces, by rebuilding the state.
pub struct ChainVerifier {
    stage: Stage,
}

enum Stage {
    Snapshot(Box<Decoder>),
    Log { replay: Replay, buffer: Vec<u8> },
}

impl Default for ChainVerifier {
    fn default() -> Self {
        Self::new()
    }
}

impl ChainVerifier {
    /// Waits for a snapshot.
    pub fn new() -> Self {
        ChainVerifier { stage: Stage::Snapshot(Box::default()) }
    }

    /// Takes the next bytes of the snapshot.
    pub fn push_snapshot(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.stage {
            Stage::Snapshot(decoder) => decoder.push(bytes),
            Stage::Log { .. } => Err(Error::Corrupt { fault: Fault::Misplaced, at: 0 }),
        }
    }

    /// Ends the snapshot: from here on the log comes.
    pub fn end_snapshot(self) -> Result<Self, Error> {
        let Stage::Snapshot(decoder) = self.stage else {
            return Err(Error::Corrupt { fault: Fault::Misplaced, at: 0 });
        };
        let (header, state) = decoder.finish()?;
        let replay = Replay::from_snapshot(&header, state);
        Ok(ChainVerifier { stage: Stage::Log { replay, buffer: Vec::new() } })
    }

    /// Takes the next bytes of the log: whole records end to end, in pieces of any size. Records at or
    /// below the snapshot's sequence are not expected and refused.
    pub fn push_log(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Stage::Log { replay, buffer } = &mut self.stage else {
            return Err(Error::Corrupt { fault: Fault::Misplaced, at: 0 });
        };
        buffer.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(record) = whole_record(&buffer[used..]) {
            let record = record.map_err(|error| name_sequence(error, replay.at.sequence + 1))?;
            replay.push(&record)?;
            used += record.bytes.len();
        }
        buffer.drain(..used);
        Ok(())
    }

    /// Where snapshot and log end, and the state there. A record cut short is an error here: a log that
    /// was read from a backup has no torn tail.
    pub fn finish(self) -> Result<(State, Verified), Error> {
        match self.stage {
            Stage::Log { replay, buffer } if buffer.is_empty() => Ok(replay.into_parts()),
            Stage::Log { replay, .. } => Err(Error::Corrupt { fault: Fault::Truncated, at: replay.at.sequence + 1 }),
            Stage::Snapshot(_) => self.end_snapshot()?.finish(),
        }
    }
}

/// The record at the start of `bytes`, or None if more bytes are needed to tell.
fn whole_record(bytes: &[u8]) -> Option<Result<WalRecord<'_>, Error>> {
    if bytes.len() < 8 {
        return None;
    }
    match record_length(bytes) {
        Ok(length) if length > bytes.len() => None,
        Ok(_) => Some(WalRecord::decode(bytes)),
        Err(error) => Some(Err(error)),
    }
}

/// Damage in a log is named by the sequence that should stand there.
fn name_sequence(error: Error, sequence: u64) -> Error {
    match error {
        Error::Corrupt { fault, .. } => Error::Corrupt { fault, at: sequence },
        Error::Unsupported { .. }
        | Error::NotFound { .. }
        | Error::Conflict { .. }
        | Error::Refused(_)
        | Error::Item { .. } => error,
    }
}

/// Checks a snapshot and a log held in memory.
pub fn verify_chain(snapshot: &[u8], log: &[u8]) -> Result<Verified, Error> {
    let mut verifier = ChainVerifier::new();
    // In pieces, so that neither is buffered whole a second time.
    for piece in snapshot.chunks(1 << 20) {
        verifier.push_snapshot(piece)?;
    }
    let mut verifier = verifier.end_snapshot()?;
    for piece in log.chunks(1 << 20) {
        verifier.push_log(piece)?;
    }
    Ok(verifier.finish()?.1)
}
