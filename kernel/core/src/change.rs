//! How commands change one collection.
//!
//! Each function may stop half-way with an error: [`crate::State::apply`] holds the version from
//! before and puts it back, so a refused command changes nothing. What always holds after a success:
//! an edge's nodes and a node's record exist, and both indexes say exactly who refers to whom.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::collection::{Collection, Metric, Parameters, StoredRecord};
use crate::command::{DeleteMode, Deletion, Existing, Links};
use crate::error::{Error, Rule};
use crate::id::Id;
use crate::limits::{USER_KIND_MIN, USER_KINDS_MAX};
use crate::search::Norm;
use crate::thing::{
    Edge, EdgeKind, Encoded, Kind, KindSpace, Node, NodeKind, Record, Thing, ThingRef, ThingType, Trashed,
    check_metadata,
};

fn not_found(thing: ThingType, id: Id) -> Error {
    Error::NotFound { what: thing.noun(), id: id.to_string() }
}

fn conflict(thing: ThingType, id: Id, why: &'static str) -> Error {
    Error::Conflict { what: thing.noun(), id: id.to_string(), why }
}

/// Runs a change for each item and counts what changed; an error says which item it was.
pub(crate) fn each<T>(
    items: impl IntoIterator<Item = T>,
    mut change: impl FnMut(T) -> Result<u64, Error>,
) -> Result<u64, Error> {
    let mut changed = 0;
    for (index, item) in items.into_iter().enumerate() {
        changed += change(item).map_err(|error| error.at_item(index))?;
    }
    if changed == 0 { Err(Rule::Empty("the list").into()) } else { Ok(changed) }
}

impl Collection {
    pub(crate) fn set_parameters(&mut self, parameters: Parameters) {
        self.change_head(|head| head.parameters = parameters);
    }

    pub(crate) fn define_kind(&mut self, kind: Kind) -> Result<u64, Error> {
        if kind.number < USER_KIND_MIN {
            return Err(Rule::KindReserved(kind.number).into());
        }
        let taken =
            |other: &Kind| other.space == kind.space && (other.name == kind.name || other.number == kind.number);
        if kind.space.is_built_in(kind.name.as_str()) || self.kinds.values().any(taken) {
            let id = alloc::format!("{} {}", kind.number, kind.name);
            return Err(Error::Conflict { what: "kind", id, why: "is defined already, by its number or its name" });
        }
        if self.kinds.values().filter(|other| other.space == kind.space).count() as u64 >= USER_KINDS_MAX {
            return Err(Rule::TooLarge { what: "the list of kinds", max: USER_KINDS_MAX }.into());
        }
        self.kinds.insert(Kind::key(kind.space, kind.number), kind.digest(), kind);
        Ok(1)
    }

    pub(crate) fn put_record(&mut self, record: Record, existing: Existing) -> Result<u64, Error> {
        if record.vector.len() != self.head.dimension as usize {
            let got = u32::try_from(record.vector.len()).unwrap_or(u32::MAX);
            return Err(Rule::Dimension { expected: self.head.dimension, got }.into());
        }
        check_metadata(&record.metadata)?;
        let key = record.id.key();
        if existing == Existing::Refuse && self.records.contains(&key) {
            return Err(conflict(ThingType::Record, record.id, "exists already"));
        }
        let norm = Norm::of(&record.vector);
        if self.head.metric == Metric::Cosine && norm.is_zero() {
            return Err(Rule::ZeroVector.into());
        }
        self.records.insert(key, record.digest(), StoredRecord { record, norm });
        Ok(1)
    }

    pub(crate) fn put_node(&mut self, node: Node, existing: Existing) -> Result<u64, Error> {
        if let NodeKind::Other(number) = node.kind {
            self.check_kind(KindSpace::Node, number)?;
        }
        check_metadata(&node.metadata)?;
        if let Some(record) = node.record
            && !self.records.contains(&record.key())
        {
            return Err(not_found(ThingType::Record, record));
        }
        let key = node.id.key();
        if let Some(old) = self.nodes.get(&key) {
            if existing == Existing::Refuse {
                return Err(conflict(ThingType::Node, node.id, "exists already"));
            }
            if let Some(record) = old.record {
                self.nodes_of_record.remove(record, node.id);
            }
        }
        if let Some(record) = node.record {
            self.nodes_of_record.add(record, node.id);
        }
        self.nodes.insert(key, node.digest(), node);
        Ok(1)
    }

    pub(crate) fn put_edge(&mut self, edge: Edge, existing: Existing) -> Result<u64, Error> {
        if let EdgeKind::Other(number) = edge.kind {
            self.check_kind(KindSpace::Edge, number)?;
        }
        check_metadata(&edge.metadata)?;
        for node in [edge.from, edge.to] {
            if !self.nodes.contains(&node.key()) {
                return Err(not_found(ThingType::Node, node));
            }
        }
        let key = edge.id.key();
        if let Some(old) = self.edges.get(&key) {
            if existing == Existing::Refuse {
                return Err(conflict(ThingType::Edge, edge.id, "exists already"));
            }
            for node in [old.from, old.to] {
                self.edges_of_node.remove(node, edge.id);
            }
        }
        self.edges_of_node.add(edge.from, edge.id);
        self.edges_of_node.add(edge.to, edge.id);
        self.edges.insert(key, edge.digest(), edge);
        Ok(1)
    }

    fn check_kind(&self, space: KindSpace, number: u16) -> Result<(), Error> {
        // A number below the user range never reaches a decoder's output, but a caller can build one.
        if number < USER_KIND_MIN || self.kind(space, number).is_none() {
            return Err(Rule::UnknownKind(number).into());
        }
        Ok(())
    }

    pub(crate) fn delete(&mut self, thing: ThingType, deletion: &Deletion) -> Result<u64, Error> {
        each(&deletion.ids, |id| match thing {
            ThingType::Record => self.delete_record(*id, deletion),
            ThingType::Node => self.delete_node(*id, deletion),
            ThingType::Edge => self.delete_edge(*id, deletion),
        })
    }

    fn delete_record(&mut self, id: Id, deletion: &Deletion) -> Result<u64, Error> {
        let mut changed = 0;
        if self.nodes_of_record.has(id) {
            if deletion.links == Links::Refuse {
                return Err(conflict(ThingType::Record, id, "has nodes that refer to it"));
            }
            for node in self.nodes_of_record.of(id) {
                changed += self.delete_node(node, deletion)?;
            }
        }
        let leaf = self.records.remove(&id.key()).ok_or_else(|| not_found(ThingType::Record, id))?;
        if deletion.mode == DeleteMode::Soft {
            self.put_trash(Thing::Record(leaf.value.record.clone()), deletion.deleted_at)?;
        }
        Ok(changed + 1)
    }

    fn delete_node(&mut self, id: Id, deletion: &Deletion) -> Result<u64, Error> {
        let mut changed = 0;
        if self.edges_of_node.has(id) {
            if deletion.links == Links::Refuse {
                return Err(conflict(ThingType::Node, id, "has edges"));
            }
            for edge in self.edges_of_node.of(id) {
                changed += self.delete_edge(edge, deletion)?;
            }
        }
        let leaf = self.nodes.remove(&id.key()).ok_or_else(|| not_found(ThingType::Node, id))?;
        if let Some(record) = leaf.value.record {
            self.nodes_of_record.remove(record, id);
        }
        if deletion.mode == DeleteMode::Soft {
            self.put_trash(Thing::Node(leaf.value.clone()), deletion.deleted_at)?;
        }
        Ok(changed + 1)
    }

    fn delete_edge(&mut self, id: Id, deletion: &Deletion) -> Result<u64, Error> {
        let leaf = self.edges.remove(&id.key()).ok_or_else(|| not_found(ThingType::Edge, id))?;
        self.edges_of_node.remove(leaf.value.from, id);
        self.edges_of_node.remove(leaf.value.to, id);
        if deletion.mode == DeleteMode::Soft {
            self.put_trash(Thing::Edge(leaf.value.clone()), deletion.deleted_at)?;
        }
        Ok(1)
    }

    pub(crate) fn put_trash(&mut self, thing: Thing, deleted_at: i64) -> Result<(), Error> {
        let entry = Trashed { deleted_at, thing };
        let reference = entry.reference();
        let key = reference.key();
        if self.trash.contains(&key) {
            return Err(conflict(reference.thing, reference.id, "is in the trash already, deleted at the same time"));
        }
        self.trash.insert(key, entry.digest(), entry);
        Ok(())
    }

    fn take_trash(&mut self, reference: &ThingRef) -> Result<Thing, Error> {
        let leaf = self.trash.remove(&reference.key()).ok_or_else(|| Error::NotFound {
            what: "trash entry",
            id: alloc::format!("{} {} deleted at {}", reference.thing.noun(), reference.id, reference.deleted_at),
        })?;
        Ok(leaf.value.thing.clone())
    }

    /// Records first, then nodes, then edges: what is referred to must stand before what refers.
    pub(crate) fn restore_things(&mut self, things: &[ThingRef]) -> Result<u64, Error> {
        let mut ordered: Vec<(usize, &ThingRef)> = things.iter().enumerate().collect();
        ordered.sort_by_key(|(_, reference)| reference.thing);
        for (index, reference) in &ordered {
            self.take_trash(reference)
                .and_then(|thing| match thing {
                    Thing::Record(record) => self.put_record(record, Existing::Refuse),
                    Thing::Node(node) => self.put_node(node, Existing::Refuse),
                    Thing::Edge(edge) => self.put_edge(edge, Existing::Refuse),
                })
                .map_err(|error| error.at_item(*index))?;
        }
        if ordered.is_empty() { Err(Rule::Empty("the list").into()) } else { Ok(ordered.len() as u64) }
    }

    pub(crate) fn purge_things(&mut self, things: &[ThingRef]) -> Result<u64, Error> {
        each(things, |reference| self.take_trash(reference).map(|_| 1))
    }

    /// May find nothing to purge: a schedule asks without knowing.
    pub(crate) fn purge_before(&mut self, deleted_before: i64, limit: u32) -> u64 {
        let mut due: Vec<(i64, ThingRef)> = self
            .trash
            .values()
            .filter(|entry| entry.deleted_at < deleted_before)
            .map(|entry| (entry.deleted_at, entry.reference()))
            .collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        for (_, reference) in &due {
            self.trash.remove(&reference.key());
        }
        due.len() as u64
    }
}
