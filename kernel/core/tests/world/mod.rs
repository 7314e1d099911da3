//! A small world of commands, dense with collisions: two collections, a handful of ids, few times.
//! Whatever can meet, meets.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use kernel_core::{
    Command, DeleteMode, Deletion, Edge, EdgeKind, Existing, Fixed, Id, Kind, KindSpace, Lineage, Links, Metric, Name,
    Node, NodeKind, Parameters, Record, State, ThingRef, ThingType, Verified,
};
use proptest::prelude::*;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn names() -> impl Strategy<Value = Name> {
    prop_oneof![4 => Just("a"), 1 => Just("b")].prop_map(name)
}

fn ids() -> impl Strategy<Value = Id> {
    (0..6_u64).prop_map(Id::from_u64)
}

fn times() -> impl Strategy<Value = i64> {
    0..3_i64
}

fn metadata() -> impl Strategy<Value = Box<[u8]>> {
    prop_oneof![Just(Box::default()), Just(Box::from(*b"m")), Just(Box::from(*b"\xff\x00"))]
}

pub fn existing() -> impl Strategy<Value = Existing> {
    prop_oneof![Just(Existing::Refuse), Just(Existing::Replace)]
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (0..3_u16).prop_map(|index_links| Parameters { index_links, ..Parameters::default() })
}

pub fn record() -> impl Strategy<Value = Record> {
    let vector = prop::collection::vec(-2..2_i32, 2..=2);
    let vector = prop_oneof![12 => vector, 1 => prop::collection::vec(any::<i32>(), 3)];
    (ids(), 0..2_u64, metadata(), vector).prop_map(|(id, tag, metadata, vector)| Record {
        id,
        tag,
        metadata,
        vector: vector.into_iter().map(Fixed::from_raw).collect(),
    })
}

fn node_kind() -> impl Strategy<Value = NodeKind> {
    prop_oneof![Just(NodeKind::Concept), Just(NodeKind::Record), (256..258_u16).prop_map(NodeKind::Other)]
}

fn edge_kind() -> impl Strategy<Value = EdgeKind> {
    prop_oneof![Just(EdgeKind::Supports), Just(EdgeKind::DerivesFrom), (256..258_u16).prop_map(EdgeKind::Other)]
}

pub fn node() -> impl Strategy<Value = Node> {
    (ids(), node_kind(), -1..2_i32, times(), prop::option::of(ids()), metadata()).prop_map(
        |(id, kind, weight, created_at, record, metadata)| Node {
            id,
            kind,
            weight: Fixed::from_raw(weight),
            created_at,
            record,
            metadata,
        },
    )
}

pub fn edge() -> impl Strategy<Value = Edge> {
    (ids(), edge_kind(), -1..2_i32, times(), ids(), ids(), metadata()).prop_map(
        |(id, kind, weight, created_at, from, to, metadata)| Edge {
            id,
            kind,
            weight: Fixed::from_raw(weight),
            created_at,
            from,
            to,
            metadata,
        },
    )
}

fn thing_ref() -> impl Strategy<Value = ThingRef> {
    let thing = prop_oneof![Just(ThingType::Record), Just(ThingType::Node), Just(ThingType::Edge)];
    (thing, ids(), times()).prop_map(|(thing, id, deleted_at)| ThingRef { thing, id, deleted_at })
}

fn deletion() -> impl Strategy<Value = Deletion> {
    let mode = prop_oneof![2 => Just(DeleteMode::Soft), 1 => Just(DeleteMode::Hard)];
    let links = prop_oneof![Just(Links::Refuse), Just(Links::Cascade)];
    (names(), mode, links, times(), prop::collection::vec(ids(), 1..3))
        .prop_map(|(collection, mode, links, deleted_at, ids)| Deletion { collection, mode, links, deleted_at, ids })
}

fn single() -> impl Strategy<Value = Command> {
    let metric = prop_oneof![Just(Metric::L2), Just(Metric::Cosine)];
    let create = (names(), metric, parameters(), times(), metadata()).prop_map(
        |(name, metric, parameters, created_at, metadata)| Command::CreateCollection {
            name,
            dimension: 2,
            metric,
            parameters,
            created_at,
            metadata,
        },
    );
    let kind = (names(), any::<bool>(), 255..259_u16, prop_oneof![Just("k"), Just("l"), Just("supports")]).prop_map(
        |(collection, edge, number, text)| {
            let space = if edge { KindSpace::Edge } else { KindSpace::Node };
            Command::DefineKind { collection, kind: Kind { space, number, name: name(text) } }
        },
    );
    let few = |things| prop::collection::vec(things, 1..3);
    prop_oneof![
        3 => create,
        1 => (names(), ids(), times()).prop_map(|(name, trash_id, deleted_at)| Command::TrashCollection { name, trash_id, deleted_at }),
        1 => (ids(), names()).prop_map(|(trash_id, name)| Command::RestoreCollection { trash_id, name }),
        1 => ids().prop_map(|trash_id| Command::PurgeCollection { trash_id }),
        1 => (names(), parameters()).prop_map(|(collection, parameters)| Command::SetParameters { collection, parameters }),
        2 => kind,
        8 => (names(), existing(), prop::collection::vec(record(), 1..4)).prop_map(|(collection, existing, records)| Command::PutRecords { collection, existing, records }),
        8 => (names(), existing(), prop::collection::vec(node(), 1..4)).prop_map(|(collection, existing, nodes)| Command::PutNodes { collection, existing, nodes }),
        8 => (names(), existing(), prop::collection::vec(edge(), 1..4)).prop_map(|(collection, existing, edges)| Command::PutEdges { collection, existing, edges }),
        3 => deletion().prop_map(Command::DeleteRecords),
        3 => deletion().prop_map(Command::DeleteNodes),
        3 => deletion().prop_map(Command::DeleteEdges),
        4 => (names(), few(thing_ref())).prop_map(|(collection, things)| Command::RestoreThings { collection, things }),
        1 => (names(), few(thing_ref())).prop_map(|(collection, things)| Command::PurgeThings { collection, things }),
        1 => (names(), times(), 0..3_u32).prop_map(|(collection, deleted_before, limit)| Command::PurgeBefore { collection, deleted_before, limit }),
    ]
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![8 => single(), 1 => prop::collection::vec(single(), 1..4).prop_map(Command::Batch)]
}

/// Applies all commands, ignoring refusals.
pub fn state_after(commands: &[Command]) -> State {
    let mut state = State::new();
    for command in commands {
        let _ = state.apply(command.clone());
    }
    state
}

/// The header of a snapshot of this state.
pub fn header(state: &mut State) -> kernel_core::snapshot::Header {
    let lineage = Lineage::from_bytes([3; 16]);
    let state_hash = state.hash();
    let sequence = state.sequence();
    kernel_core::snapshot::Header {
        lineage,
        parent_lineage: Lineage::NONE,
        parent_sequence: 0,
        sequence,
        wall_ms: 1_700_000_000_000,
        state_hash,
        chain: kernel_core::wal::chain_start(lineage, sequence, &state_hash, &kernel_core::Hash::ZERO),
    }
}

/// A snapshot of this state, whole.
pub fn snapshot(state: &mut State) -> Vec<u8> {
    let header = header(state);
    kernel_core::snapshot::Encoder::new(&header, state).flatten().collect()
}

/// Runs commands as a node does: the log of those that were accepted, and where it ends.
pub fn log_of(state: &mut State, commands: &[Command]) -> (Vec<u8>, Verified) {
    let start = header(state);
    let mut at = Verified {
        lineage: start.lineage,
        sequence: start.sequence,
        state_hash: start.state_hash,
        chain: start.chain,
        records: 0,
    };
    let mut log = Vec::new();
    for command in commands {
        let payload = command.encode().unwrap();
        if state.apply(command.clone()).is_err() {
            continue;
        }
        let record = kernel_core::wal::RecordHeader {
            lineage: at.lineage,
            sequence: at.sequence + 1,
            synced: at.sequence,
            wall_ms: 1_700_000_000_000,
            state_before: at.state_hash,
        };
        at.chain = kernel_core::wal::append_record(&mut log, &record, &at.chain, &payload);
        at.sequence += 1;
        at.state_hash = state.hash();
        at.records += 1;
    }
    (log, at)
}
