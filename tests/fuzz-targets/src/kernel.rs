//! The kernel: commands, log, snapshots, proofs.

use kernel_core::snapshot::{self, Encoder, Header};
use kernel_core::wal::{self, RecordHeader, WalRecord};
use kernel_core::{
    Claim, Command, DeleteMode, Deletion, Existing, Fixed, Hash, Id, Lineage, Links, Metric, Name, Parameters, Proof,
    Record, Space, State, ThingType, verify_chain,
};

use crate::{Target, same, target};

/// The kernel's decoders.
pub(crate) const TARGETS: &[Target] = &[
    target("kernel-command", command, 40_000),
    target("kernel-log", log_record, 40_000),
    target("kernel-snapshot-header", snapshot_header, 40_000),
    target("kernel-snapshot", whole_snapshot, 20_000),
    target("kernel-chain", chain, 10_000),
    target("kernel-proof", proof, 40_000),
];

fn command(bytes: &[u8]) {
    if let Ok(found) = Command::decode(bytes) {
        same(bytes, &found.encode().unwrap_or_else(|error| panic!("accepted and not encoded: {error}")));
        // Whatever it says is done or refused.
        let _ = State::new().apply(found);
    }
}

/// As it is, and with a checksum that a mutation cannot miss.
fn log_record(bytes: &[u8]) {
    let _ = WalRecord::decode(bytes);
    let mut fixed = bytes.to_vec();
    if fixed.len() >= wal::HEADER_BYTES {
        let length = u32::from_le_bytes(fixed[wal::LENGTH_AT..wal::CRC_AT].try_into().unwrap()) as usize;
        let end = length.clamp(wal::HEADER_BYTES, fixed.len());
        let crc = kernel_core::crc32c(&fixed[wal::VERSION_AT..end]);
        fixed[wal::CRC_AT..wal::VERSION_AT].copy_from_slice(&crc.to_le_bytes());
        if let Ok(found) = WalRecord::decode(&fixed) {
            assert!(found.bytes.len() <= fixed.len());
            let mut again = Vec::new();
            let previous = Hash::from_bytes([0; 32]);
            wal::append_record(&mut again, &found.header, &previous, found.payload);
            assert!(again.len() == found.bytes.len());
            // All but checksum and chain, which follow from the record before.
            same(&found.bytes[wal::VERSION_AT..wal::CHAIN_AT], &again[wal::VERSION_AT..wal::CHAIN_AT]);
        }
    }
}

fn snapshot_header(bytes: &[u8]) {
    if let Ok(found) = Header::decode(bytes) {
        same(bytes, &found.encode());
    }
}

fn whole_snapshot(bytes: &[u8]) {
    if let Ok((header, state)) = snapshot::decode(bytes) {
        let again: Vec<u8> = Encoder::new(&header, &state).flatten().collect();
        same(bytes, &again);
    }
}

/// A snapshot as long as the first four bytes say, then a log.
fn chain(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return };
    let (snapshot, log) = rest.split_at(rest.len().min(u32::from_le_bytes(*length) as usize));
    let _ = verify_chain(snapshot, log);
}

fn proof(bytes: &[u8]) {
    if let Ok(found) = Proof::decode(bytes) {
        same(bytes, &found.encode());
        let _ = found.verify(&seed_state().1);
        let _ = found.verify(&Hash::from_bytes([7; 32]));
    }
}

pub(crate) fn commands() -> Vec<Command> {
    let name = Name::new("c").unwrap();
    let record = |id: u64| Record {
        id: Id::from_u64(id),
        tag: id,
        metadata: Box::from(*b"eins"),
        vector: [1, -2].map(Fixed::from_raw).into(),
    };
    vec![
        Command::CreateCollection {
            name: name.clone(),
            dimension: 2,
            metric: Metric::Cosine,
            parameters: Parameters::default(),
            created_at: 5,
            metadata: Box::from(*b"m"),
        },
        Command::PutRecords {
            collection: name.clone(),
            existing: Existing::Refuse,
            records: vec![record(1), record(2)],
        },
        Command::PutRecords { collection: name.clone(), existing: Existing::Replace, records: vec![record(2)] },
        Command::DeleteRecords(Deletion {
            collection: name,
            ids: vec![Id::from_u64(1)],
            mode: DeleteMode::Soft,
            links: Links::Refuse,
            deleted_at: 9,
        }),
    ]
}

/// A small state and its hash.
fn seed_state() -> (State, Hash) {
    let mut state = State::new();
    for command in commands() {
        state.apply(command).unwrap();
    }
    let hash = state.hash();
    (state, hash)
}

/// Commands, a log of them, a snapshot before and after, and a proof, by target.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let lineage = Lineage::from_bytes([1; 16]);
    let (mut state, mut log) = (State::new(), Vec::new());
    let start = state.hash();
    let mut chain = wal::chain_start(lineage, 0, &start, &Hash::from_bytes([0; 32]));
    let header = |state: &mut State, chain| Header {
        lineage,
        parent_lineage: Lineage::NONE,
        parent_sequence: 0,
        sequence: state.sequence(),
        wall_ms: 7,
        state_hash: state.hash(),
        chain,
    };
    let first = header(&mut state, chain);
    let before: Vec<u8> = Encoder::new(&first, &state).flatten().collect();
    for (command, at) in commands().into_iter().zip(0..) {
        let record = RecordHeader { lineage, sequence: at + 1, synced: at, wall_ms: 8, state_before: state.hash() };
        chain = wal::append_record(&mut log, &record, &chain, &command.encode().unwrap());
        state.apply(command).unwrap();
    }
    let last = header(&mut state, chain);
    let after: Vec<u8> = Encoder::new(&last, &state).flatten().collect();
    let chained = |snapshot: &[u8]| [&(snapshot.len() as u32).to_le_bytes()[..], snapshot, &log].concat();
    match target {
        "kernel-command" => commands().iter().map(|command| command.encode().unwrap()).collect(),
        "kernel-log" => vec![log],
        "kernel-snapshot-header" => vec![first.encode(), last.encode()],
        "kernel-snapshot" => vec![before, after],
        "kernel-chain" => vec![chained(&before), chained(&after)],
        // "kernel-proof"
        _ => {
            let claim = |id| Claim {
                collection: Name::new("c").unwrap(),
                space: Space::Living(ThingType::Record, Id::from_u64(id)),
            };
            (0..4).map(|id| state.prove(claim(id)).encode()).collect()
        }
    }
}
