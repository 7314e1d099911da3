//! Bytes: what is encoded decodes to the same, and no flipped bit, cut or shuffle passes unnoticed.
#![allow(clippy::unwrap_used)]

mod world;

use kernel_core::{
    ChainVerifier, Claim, Command, Error, Fault, Hash, Id, Proof, Space, State, Thing, ThingRef, ThingType, Verdict,
    verify_chain,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// A fixed, busy list of commands: the runner's seed is constant.
fn busy(count: usize) -> Vec<Command> {
    let mut runner = TestRunner::deterministic();
    let first = Command::CreateCollection {
        name: world::name("a"),
        dimension: 2,
        metric: kernel_core::Metric::L2,
        parameters: kernel_core::Parameters::default(),
        created_at: 0,
        metadata: [].into(),
    };
    let more = (0..count).map(|_| world::command().new_tree(&mut runner).unwrap().current());
    // The collection stays, so that there is something to see.
    let stays = |command: &Command| !matches!(command, Command::TrashCollection { .. } | Command::Batch(_));
    std::iter::once(first).chain(more.filter(stays)).collect()
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_seen() {
    let mut state = world::state_after(&busy(300));
    let bytes = world::snapshot(&mut state);
    assert!(bytes.len() > 1_000, "the snapshot holds something: {}", bytes.len());
    kernel_core::snapshot::decode(&bytes).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(kernel_core::snapshot::decode(&flipped).is_err(), "bit {bit}");
    }
    for cut in 0..bytes.len() {
        let error = kernel_core::snapshot::decode(&bytes[..cut]).map(drop).unwrap_err();
        assert!(matches!(error, Error::Corrupt { fault: Fault::Truncated, .. }), "cut at {cut}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    let error = kernel_core::snapshot::decode(&longer).map(drop).unwrap_err();
    assert!(matches!(error, Error::Corrupt { fault: Fault::TrailingBytes, .. }));
}

#[test]
fn every_flipped_bit_of_a_log_is_seen() {
    let mut state = State::new();
    let snapshot = world::snapshot(&mut state);
    let (log, at) = world::log_of(&mut state, &busy(60));
    assert_eq!(verify_chain(&snapshot, &log), Ok(at));
    for bit in 0..log.len() * 8 {
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_chain(&snapshot, &flipped).is_err(), "bit {bit}");
    }
    let mut whole = 0;
    for cut in 0..log.len() {
        match verify_chain(&snapshot, &log[..cut]) {
            Ok(part) => {
                whole += 1;
                assert!(part.sequence < at.sequence);
            }
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { fault: Fault::Truncated, .. }), "cut at {cut}: {error}");
            }
        }
    }
    assert_eq!(whole, at.records, "only cuts between records are whole logs");
}

#[test]
fn a_log_is_one_chain() {
    let mut state = State::new();
    let snapshot = world::snapshot(&mut state);
    let (log, _) = world::log_of(&mut state, &busy(60));
    let mut records = Vec::new();
    let mut rest = &log[..];
    while !rest.is_empty() {
        let record = kernel_core::wal::WalRecord::decode(rest).unwrap();
        records.push(record.bytes);
        rest = &rest[record.bytes.len()..];
    }
    let fault = |records: &[&[u8]]| match verify_chain(&snapshot, &records.concat()) {
        Err(Error::Corrupt { fault, at }) => (fault, at),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&records[1..]), (Fault::Sequence, 2), "the first is missing");
    assert_eq!(fault(&[&records[..3], &records[4..]].concat()), (Fault::Sequence, 5), "one is missing");
    let twice = [&records[..3], &records[2..]].concat();
    assert_eq!(fault(&twice), (Fault::Sequence, 3), "one comes twice");

    // The same commands in another node: same states, another chain.
    let mut forged = records.clone();
    let other = with_other_wall_time(records[3]);
    forged[3] = &other;
    assert_eq!(fault(&forged), (Fault::ChainHash, 5), "the record after a rewritten one does not follow");
}

/// A record rewritten with a right CRC and a chain hash that follows.
fn with_other_wall_time(record: &[u8]) -> Vec<u8> {
    use kernel_core::wal;
    let old = wal::WalRecord::decode(record).unwrap();
    let header = wal::RecordHeader { wall_ms: old.header.wall_ms + 1, ..old.header };
    // The previous chain hash is not in the record: find it in the log of the record before.
    let mut state = State::new();
    let (log, _) = world::log_of(&mut state, &busy(60));
    let mut rest = &log[..];
    let mut previous = Hash::ZERO;
    loop {
        let found = wal::WalRecord::decode(rest).unwrap();
        if found.bytes == record {
            break;
        }
        previous = found.chain;
        rest = &rest[found.bytes.len()..];
    }
    let mut rewritten = Vec::new();
    wal::append_record(&mut rewritten, &header, &previous, old.payload);
    rewritten
}

#[test]
fn a_log_may_arrive_in_any_pieces() {
    let mut state = State::new();
    let snapshot = world::snapshot(&mut state);
    let (log, at) = world::log_of(&mut state, &busy(60));
    for size in [1, 7, 119, 120, 121, 4_096] {
        let mut verifier = ChainVerifier::new();
        snapshot.chunks(size).for_each(|piece| verifier.push_snapshot(piece).unwrap());
        let mut verifier = verifier.end_snapshot().unwrap();
        log.chunks(size).for_each(|piece| verifier.push_log(piece).unwrap());
        let (mut replayed, end) = verifier.finish().unwrap();
        assert_eq!((end, replayed.hash()), (at, at.state_hash));
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_seen() {
    let mut state = world::state_after(&busy(300));
    let unhashed = state.clone();
    let trusted = state.hash();
    let (mut present, mut absent) = (0, 0);
    for claim in claims(&state) {
        let proof = state.prove(claim.clone());
        assert_eq!(proof, unhashed.prove(claim.clone()), "asking for the hash first must not matter");
        let verdict = proof.verify(&trusted).unwrap();
        match &verdict {
            Verdict::Present(thing) => {
                present += 1;
                assert_eq!(Some(thing), find(&state, &claim).as_ref());
            }
            Verdict::Absent | Verdict::NoCollection => {
                absent += 1;
                assert_eq!(find(&state, &claim), None);
            }
        }
        let bytes = proof.encode();
        assert_eq!(Proof::decode(&bytes), Ok(proof));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Ok(forged) = Proof::decode(&flipped) else { continue };
            // A proof about something else may be right about that; it must not be about the claim asked for.
            let other_claim = *forged.claim() != claim;
            assert!(other_claim || forged.verify(&trusted).is_err(), "bit {bit} of {claim:?}");
            if other_claim && let Ok(said) = forged.verify(&trusted) {
                let known = find(&state, forged.claim());
                assert_eq!(matches!(said, Verdict::Present(_)), known.is_some(), "bit {bit} proves a lie");
            }
        }
    }
    assert!(present > 3 && absent > 3, "{present} {absent}");
}

fn claims(state: &State) -> Vec<Claim> {
    let mut spaces = Vec::new();
    for id in (0..7).map(Id::from_u64) {
        spaces.extend([ThingType::Record, ThingType::Node, ThingType::Edge].map(|thing| Space::Living(thing, id)));
    }
    let names = [world::name("a"), world::name("b"), world::name("c")];
    for name in &names {
        if let Some(entry) = state.collection(name).and_then(|collection| collection.trash().next()) {
            spaces.push(Space::Trash(entry.reference()));
        }
    }
    spaces.push(Space::Trash(ThingRef { thing: ThingType::Node, id: Id::from_u64(1), deleted_at: 77 }));
    let all = |name: &kernel_core::Name| -> Vec<Claim> {
        spaces.iter().map(|space| Claim { collection: name.clone(), space: *space }).collect()
    };
    names.iter().flat_map(all).collect()
}

fn find(state: &State, claim: &Claim) -> Option<Thing> {
    let collection = state.collection(&claim.collection)?;
    match claim.space {
        Space::Living(ThingType::Record, id) => collection.record(id).cloned().map(Thing::Record),
        Space::Living(ThingType::Node, id) => collection.node(id).cloned().map(Thing::Node),
        Space::Living(ThingType::Edge, id) => collection.edge(id).cloned().map(Thing::Edge),
        Space::Trash(reference) => collection.trashed(&reference).map(|entry| entry.thing.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_read_back(command in world::command()) {
        let bytes = command.encode().unwrap();
        prop_assert_eq!(Command::decode(&bytes), Ok(command));
        for cut in 0..bytes.len() {
            prop_assert!(Command::decode(&bytes[..cut]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert!(Command::decode(&longer).is_err());
    }

    /// What decodes at all encodes to the same bytes: there is one encoding of everything.
    #[test]
    fn whatever_decodes_is_canonical(command in world::command(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = command.encode().unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = Command::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), Ok(bytes));
        }
    }

    #[test]
    fn noise_is_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Command::decode(&bytes);
        let _ = Proof::decode(&bytes);
        prop_assert!(kernel_core::snapshot::decode(&bytes).is_err());
        prop_assert!(kernel_core::wal::WalRecord::decode(&bytes).is_err());
    }
}
