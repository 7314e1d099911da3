//! The state machine against a model that is too simple to be wrong: plain maps, full scans, whole copies.
//!
//! They must agree on which commands are accepted and on everything that can be read afterwards. The hash
//! must be the same for the same contents whatever led there, and differ for different contents.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;

use kernel_core::{
    Collection, Command, DeleteMode, Deletion, Edge, EdgeKind, Existing, Hash, Id, Kind, KindSpace, Links, Metric,
    Node, NodeKind, Parameters, Record, State, Thing, ThingRef, ThingType, Trashed,
};
use proptest::prelude::*;

type Accepted = Result<(), ()>;

#[derive(Debug, Clone, PartialEq)]
struct ModelCollection {
    name: String,
    metric: Metric,
    parameters: Parameters,
    created_at: i64,
    metadata: Box<[u8]>,
    records: BTreeMap<Id, Record>,
    nodes: BTreeMap<Id, Node>,
    edges: BTreeMap<Id, Edge>,
    kinds: Vec<Kind>,
    trash: BTreeMap<ThingRef, Thing>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    sequence: u64,
    collections: BTreeMap<String, ModelCollection>,
    trashed: BTreeMap<Id, (i64, ModelCollection)>,
}

fn require(condition: bool) -> Accepted {
    if condition { Ok(()) } else { Err(()) }
}

impl Model {
    fn apply(&mut self, command: &Command) -> Accepted {
        let mut next = self.clone();
        next.change(command)?;
        next.sequence += 1;
        *self = next;
        Ok(())
    }

    fn at(&mut self, name: &kernel_core::Name) -> Result<&mut ModelCollection, ()> {
        self.collections.get_mut(name.as_str()).ok_or(())
    }

    fn change(&mut self, command: &Command) -> Accepted {
        match command.clone() {
            Command::CreateCollection { name, metric, parameters, created_at, metadata, .. } => {
                let name = name.to_string();
                require(!self.collections.contains_key(&name))?;
                let (records, nodes, edges, kinds, trash) = Default::default();
                let collection = ModelCollection {
                    name: name.clone(),
                    metric,
                    parameters,
                    created_at,
                    metadata,
                    records,
                    nodes,
                    edges,
                    kinds,
                    trash,
                };
                self.collections.insert(name, collection);
                Ok(())
            }
            Command::TrashCollection { name, trash_id, deleted_at } => {
                require(!self.trashed.contains_key(&trash_id))?;
                let collection = self.collections.remove(name.as_str()).ok_or(())?;
                self.trashed.insert(trash_id, (deleted_at, collection));
                Ok(())
            }
            Command::RestoreCollection { trash_id, name } => {
                require(!self.collections.contains_key(name.as_str()))?;
                let (_, mut collection) = self.trashed.remove(&trash_id).ok_or(())?;
                collection.name = name.to_string();
                self.collections.insert(name.to_string(), collection);
                Ok(())
            }
            Command::PurgeCollection { trash_id } => self.trashed.remove(&trash_id).map(drop).ok_or(()),
            Command::SetParameters { collection, parameters } => {
                self.at(&collection)?.parameters = parameters;
                Ok(())
            }
            Command::DefineKind { collection, kind } => self.at(&collection)?.define(kind),
            Command::PutRecords { collection, existing, records } => {
                let collection = self.at(&collection)?;
                records.into_iter().try_for_each(|record| collection.put_record(record, existing))
            }
            Command::PutNodes { collection, existing, nodes } => {
                let collection = self.at(&collection)?;
                nodes.into_iter().try_for_each(|node| collection.put_node(node, existing))
            }
            Command::PutEdges { collection, existing, edges } => {
                let collection = self.at(&collection)?;
                edges.into_iter().try_for_each(|edge| collection.put_edge(edge, existing))
            }
            Command::DeleteRecords(deletion) => self.delete(ThingType::Record, &deletion),
            Command::DeleteNodes(deletion) => self.delete(ThingType::Node, &deletion),
            Command::DeleteEdges(deletion) => self.delete(ThingType::Edge, &deletion),
            Command::RestoreThings { collection, mut things } => {
                let collection = self.at(&collection)?;
                things.sort_by_key(|reference| reference.thing);
                things.iter().try_for_each(|reference| match collection.trash.remove(reference).ok_or(())? {
                    Thing::Record(record) => collection.put_record(record, Existing::Refuse),
                    Thing::Node(node) => collection.put_node(node, Existing::Refuse),
                    Thing::Edge(edge) => collection.put_edge(edge, Existing::Refuse),
                })
            }
            Command::PurgeThings { collection, things } => {
                let collection = self.at(&collection)?;
                things.iter().try_for_each(|reference| collection.trash.remove(reference).map(drop).ok_or(()))
            }
            Command::PurgeBefore { collection, deleted_before, limit } => {
                let collection = self.at(&collection)?;
                let mut due: Vec<_> =
                    collection.trash.keys().copied().filter(|entry| entry.deleted_at < deleted_before).collect();
                due.sort_by_key(|entry| (entry.deleted_at, *entry));
                for reference in due.into_iter().take(limit as usize) {
                    collection.trash.remove(&reference);
                }
                Ok(())
            }
            Command::Batch(commands) => commands.iter().try_for_each(|command| self.change(command)),
        }
    }

    fn delete(&mut self, thing: ThingType, deletion: &Deletion) -> Accepted {
        let collection = self.at(&deletion.collection)?;
        deletion.ids.iter().try_for_each(|id| collection.delete(thing, *id, deletion))
    }
}

impl ModelCollection {
    fn define(&mut self, kind: Kind) -> Accepted {
        let own: Vec<&str> = match kind.space {
            KindSpace::Node => NodeKind::BUILT_IN.iter().map(|(name, _)| *name).collect(),
            KindSpace::Edge => EdgeKind::BUILT_IN.iter().map(|(name, _)| *name).collect(),
        };
        require(kind.number >= 256 && !own.contains(&kind.name.as_str()))?;
        let same = |other: &Kind| other.space == kind.space;
        require(!self.kinds.iter().any(|other| same(other) && other.number == kind.number))?;
        require(!self.kinds.iter().any(|other| same(other) && other.name == kind.name))?;
        self.kinds.push(kind);
        Ok(())
    }

    fn defined(&self, space: KindSpace, number: u16) -> bool {
        self.kinds.iter().any(|kind| kind.space == space && kind.number == number)
    }

    fn put_record(&mut self, record: Record, existing: Existing) -> Accepted {
        require(record.vector.len() == 2)?;
        require(self.metric != Metric::Cosine || record.vector.iter().any(|component| component.raw() != 0))?;
        require(existing == Existing::Replace || !self.records.contains_key(&record.id))?;
        self.records.insert(record.id, record);
        Ok(())
    }

    fn put_node(&mut self, node: Node, existing: Existing) -> Accepted {
        if let NodeKind::Other(number) = node.kind {
            require(self.defined(KindSpace::Node, number))?;
        }
        require(node.record.is_none_or(|record| self.records.contains_key(&record)))?;
        require(existing == Existing::Replace || !self.nodes.contains_key(&node.id))?;
        self.nodes.insert(node.id, node);
        Ok(())
    }

    fn put_edge(&mut self, edge: Edge, existing: Existing) -> Accepted {
        if let EdgeKind::Other(number) = edge.kind {
            require(self.defined(KindSpace::Edge, number))?;
        }
        require(self.nodes.contains_key(&edge.from) && self.nodes.contains_key(&edge.to))?;
        require(existing == Existing::Replace || !self.edges.contains_key(&edge.id))?;
        self.edges.insert(edge.id, edge);
        Ok(())
    }

    fn delete(&mut self, thing: ThingType, id: Id, deletion: &Deletion) -> Accepted {
        let (gone, dependents) = match thing {
            ThingType::Record => {
                let nodes = self.nodes.values().filter(|node| node.record == Some(id)).map(|node| node.id);
                (Thing::Record(self.records.get(&id).ok_or(())?.clone()), (ThingType::Node, nodes.collect::<Vec<_>>()))
            }
            ThingType::Node => {
                let edges = self.edges.values().filter(|edge| edge.from == id || edge.to == id).map(|edge| edge.id);
                (Thing::Node(self.nodes.get(&id).ok_or(())?.clone()), (ThingType::Edge, edges.collect()))
            }
            ThingType::Edge => (Thing::Edge(self.edges.get(&id).ok_or(())?.clone()), (ThingType::Edge, Vec::new())),
        };
        require(deletion.links == Links::Cascade || dependents.1.is_empty())?;
        dependents.1.into_iter().try_for_each(|dependent| self.delete(dependents.0, dependent, deletion))?;
        match thing {
            ThingType::Record => drop(self.records.remove(&id)),
            ThingType::Node => drop(self.nodes.remove(&id)),
            ThingType::Edge => drop(self.edges.remove(&id)),
        }
        if deletion.mode == DeleteMode::Soft {
            let reference = ThingRef { thing, id, deleted_at: deletion.deleted_at };
            require(self.trash.insert(reference, gone).is_none())?;
        }
        Ok(())
    }
}

/// Reads a collection back through the public API.
fn read_back(collection: &Collection) -> ModelCollection {
    let trash = |entry: &Trashed| (entry.reference(), entry.thing.clone());
    let ids = || (0..6).map(Id::from_u64);
    let mut kinds: Vec<Kind> = collection.kinds().cloned().collect();
    kinds.sort_by_key(|kind| (kind.space, kind.number));
    ModelCollection {
        name: collection.name().to_string(),
        metric: collection.metric(),
        parameters: collection.parameters(),
        created_at: collection.created_at(),
        metadata: collection.metadata().into(),
        records: ids().filter_map(|id| collection.record(id).map(|record| (id, record.clone()))).collect(),
        nodes: ids().filter_map(|id| collection.node(id).map(|node| (id, node.clone()))).collect(),
        edges: ids().filter_map(|id| collection.edge(id).map(|edge| (id, edge.clone()))).collect(),
        kinds,
        trash: collection.trash().map(trash).collect(),
    }
}

fn read_all(state: &State) -> Model {
    Model {
        sequence: state.sequence(),
        collections: state
            .collections()
            .into_iter()
            .map(|found| (found.name().to_string(), read_back(found)))
            .collect(),
        trashed: state
            .trashed_collections()
            .into_iter()
            .map(|found| (found.trash_id(), (found.deleted_at(), read_back(found.collection()))))
            .collect(),
    }
}

fn sorted(mut model: Model) -> Model {
    for collection in model.collections.values_mut().chain(model.trashed.values_mut().map(|(_, trashed)| trashed)) {
        collection.kinds.sort_by_key(|kind| (kind.space, kind.number));
    }
    model
}

/// Commands that build these contents from nothing, in an order of their own: everything backwards, the
/// trash first.
fn rebuild(collection: &ModelCollection) -> Vec<Command> {
    let name = world::name(&collection.name);
    let mut commands = vec![Command::CreateCollection {
        name: name.clone(),
        dimension: 2,
        metric: collection.metric,
        parameters: Parameters::default(),
        created_at: collection.created_at,
        metadata: collection.metadata.clone(),
    }];
    for kind in collection.kinds.iter().rev() {
        commands.push(Command::DefineKind { collection: name.clone(), kind: kind.clone() });
    }
    for (reference, thing) in collection.trash.iter().rev() {
        commands.extend(bury(&name, reference, thing));
    }
    let existing = Existing::Refuse;
    for record in collection.records.values().rev() {
        commands.push(Command::PutRecords { collection: name.clone(), existing, records: vec![record.clone()] });
    }
    for node in collection.nodes.values().rev() {
        commands.push(Command::PutNodes { collection: name.clone(), existing, nodes: vec![node.clone()] });
    }
    for edge in collection.edges.values().rev() {
        commands.push(Command::PutEdges { collection: name.clone(), existing, edges: vec![edge.clone()] });
    }
    commands.push(Command::SetParameters { collection: name, parameters: collection.parameters });
    commands
}

/// Puts a thing with all it refers to, and deletes it again so that only it stays in the trash.
fn bury(name: &kernel_core::Name, reference: &ThingRef, thing: &Thing) -> Vec<Command> {
    let existing = Existing::Refuse;
    let collection = name.clone();
    let record = |id: Id| Record { id, tag: 0, metadata: Box::default(), vector: [kernel_core::Fixed::ONE; 2].into() };
    let node = |id: Id| Node {
        id,
        kind: NodeKind::Concept,
        weight: kernel_core::Fixed::ZERO,
        created_at: 0,
        record: None,
        metadata: Box::default(),
    };
    let deletion = |mode, ids: Vec<Id>| Deletion {
        collection: name.clone(),
        mode,
        links: Links::Refuse,
        deleted_at: reference.deleted_at,
        ids,
    };
    let soft = deletion(DeleteMode::Soft, vec![reference.id]);
    match thing {
        Thing::Record(found) => vec![
            Command::PutRecords { collection, existing, records: vec![found.clone()] },
            Command::DeleteRecords(soft),
        ],
        Thing::Node(found) => {
            let mut commands = Vec::new();
            if let Some(id) = found.record {
                commands.push(Command::PutRecords { collection: name.clone(), existing, records: vec![record(id)] });
            }
            commands.push(Command::PutNodes { collection, existing, nodes: vec![found.clone()] });
            commands.push(Command::DeleteNodes(soft));
            if let Some(id) = found.record {
                commands.push(Command::DeleteRecords(deletion(DeleteMode::Hard, vec![id])));
            }
            commands
        }
        Thing::Edge(found) => {
            let mut ends = vec![found.from, found.to];
            ends.dedup();
            vec![
                Command::PutNodes {
                    collection: name.clone(),
                    existing,
                    nodes: ends.iter().copied().map(node).collect(),
                },
                Command::PutEdges { collection, existing, edges: vec![found.clone()] },
                Command::DeleteEdges(soft),
                Command::DeleteNodes(deletion(DeleteMode::Hard, ends)),
            ]
        }
    }
}

/// A state with these contents and this sequence, by another history.
fn other_history(model: &Model) -> Option<State> {
    let mut commands = Vec::new();
    for (trash_id, (deleted_at, collection)) in &model.trashed {
        commands.extend(rebuild(collection));
        let name = world::name(&collection.name);
        commands.push(Command::TrashCollection { name, trash_id: *trash_id, deleted_at: *deleted_at });
    }
    for collection in model.collections.values().rev() {
        commands.extend(rebuild(collection));
    }
    let mut state = State::new();
    if !commands.is_empty() {
        state.apply(Command::Batch(commands)).unwrap();
    }
    // Fill up the sequence with commands that change nothing else.
    let (name, collection) = model.collections.iter().next()?;
    while state.sequence() < model.sequence {
        let parameters = collection.parameters;
        state.apply(Command::SetParameters { collection: world::name(name), parameters }).unwrap();
    }
    Some(state)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_and_model_agree(commands in prop::collection::vec(world::command(), 1..120), ask in any::<u64>()) {
        let (mut state, mut model) = (State::new(), Model::default());
        let mut seen: BTreeMap<Hash, ModelCollection> = BTreeMap::new();
        for (index, command) in commands.iter().enumerate() {
            let before = (state.sequence(), state.clone().hash());
            let accepted = state.apply(command.clone());
            prop_assert_eq!(accepted.is_ok(), model.apply(command).is_ok(), "{:?} {:?}", command, accepted);
            if accepted.is_err() {
                prop_assert_eq!((state.sequence(), state.clone().hash()), before, "a refused command changes nothing");
            }
            // Asking for the hash now and then, or never, must not matter.
            if ask >> (index % 64) & 1 == 1 {
                state.hash();
            }
            for collection in state.collections() {
                let contents = read_back(collection);
                let known = seen.entry(collection.hash()).or_insert_with(|| contents.clone());
                prop_assert_eq!(&*known, &contents, "two different contents have one hash");
            }
        }
        let model = sorted(model);
        prop_assert_eq!(read_all(&state), model.clone());
        let contents: Vec<_> = seen.values().collect();
        prop_assert!(contents.iter().enumerate().all(|(index, left)| !contents[index + 1..].contains(left)), "one content has two hashes");
        if let Some(mut other) = other_history(&model) {
            prop_assert_eq!(read_all(&other), model);
            prop_assert_eq!(other.hash(), state.hash(), "the history shows in the hash");
        }
    }

    #[test]
    fn a_snapshot_brings_everything_back(commands in prop::collection::vec(world::command(), 0..120), more in prop::collection::vec(world::command(), 0..20), cut in 1..4_096_usize) {
        let mut state = world::state_after(&commands);
        let bytes = world::snapshot(&mut state);
        let (header, mut restored) = kernel_core::snapshot::decode(&bytes).unwrap();
        prop_assert_eq!(header.state_hash, state.hash());
        prop_assert_eq!(read_all(&restored), read_all(&state));
        prop_assert_eq!(world::snapshot(&mut restored), bytes.clone(), "the same state gives the same bytes");
        // Derived indexes came back too: both go on in the same way.
        for command in &more {
            prop_assert_eq!(restored.apply(command.clone()), state.apply(command.clone()));
        }
        prop_assert_eq!(restored.hash(), state.hash());
        let mut decoder = kernel_core::snapshot::Decoder::new();
        for piece in bytes.chunks(cut) {
            decoder.push(piece).unwrap();
        }
        prop_assert_eq!(decoder.finish().unwrap().0, header);
    }
}

/// HOLDFAST_CASES scales the property tests: a few seconds in CI, hours by hand.
fn cases() -> u32 {
    std::env::var("HOLDFAST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}
