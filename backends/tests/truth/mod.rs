//! What may stand in a folder, from the answers it gave alone.
//!
//! For each name two sets of states (`None` is "absent"): what a process may see now, and what a
//! power cut may leave. An acknowledged write leaves one state in both; one that failed adds a state;
//! a delete adds "absent" to what a power cut may leave, because deletes are not synced.

use std::collections::{BTreeMap, BTreeSet};

type State = Option<Vec<u8>>;

/// A promise that was not kept.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) String);

#[derive(Default)]
pub(crate) struct Truth {
    names: BTreeMap<String, Name>,
}

struct Name {
    /// What a process may see.
    seen: BTreeSet<State>,
    /// What a power cut may leave.
    left: BTreeSet<State>,
}

impl Default for Name {
    fn default() -> Self {
        Self { seen: BTreeSet::from([None]), left: BTreeSet::from([None]) }
    }
}

impl Truth {
    fn name(&mut self, name: &str) -> &mut Name {
        self.names.entry(name.to_owned()).or_default()
    }

    /// A write was acknowledged.
    pub(crate) fn was_put(&mut self, name: &str, content: Vec<u8>, created: bool) -> Result<(), Broken> {
        let known = self.name(name);
        if created && !known.seen.contains(&None) {
            return Err(Broken(format!("{name} was there and was created over")));
        }
        known.seen = BTreeSet::from([Some(content)]);
        known.left.clone_from(&known.seen);
        Ok(())
    }

    /// A write failed.
    pub(crate) fn may_have_been_put(&mut self, name: &str, content: Vec<u8>) {
        let known = self.name(name);
        known.seen.insert(Some(content.clone()));
        known.left.insert(Some(content));
    }

    /// A create answered "already there", and this was read then: it counts as stored.
    pub(crate) fn exists(&mut self, name: &str, content: State) -> Result<(), Broken> {
        if content.is_none() {
            return Err(Broken(format!("{name} is said to be there and is not")));
        }
        self.seen(name, content)?;
        let known = self.name(name);
        known.left.clone_from(&known.seen);
        Ok(())
    }

    /// A delete was acknowledged.
    pub(crate) fn was_deleted(&mut self, name: &str) -> Result<(), Broken> {
        let known = self.name(name);
        if known.seen == BTreeSet::from([None]) {
            return Err(Broken(format!("{name} was not there and was deleted")));
        }
        known.seen = BTreeSet::from([None]);
        known.left.insert(None);
        Ok(())
    }

    /// A delete failed.
    pub(crate) fn may_have_been_deleted(&mut self, name: &str) {
        let known = self.name(name);
        known.seen.insert(None);
        known.left.insert(None);
    }

    /// Somebody else removed it, durably.
    pub(crate) fn was_erased(&mut self, name: &str) {
        *self.name(name) = Name::default();
    }

    /// It was read.
    pub(crate) fn seen(&mut self, name: &str, content: State) -> Result<(), Broken> {
        let known = self.name(name);
        if !known.seen.contains(&content) {
            let say = |state: &State| match state {
                None => "absent".to_owned(),
                Some(content) => {
                    // Its first words are the name and a number; the rest repeats.
                    let first = content.split(|byte| *byte < b' ').next().unwrap_or_default();
                    format!("{} bytes of {:?}", content.len(), String::from_utf8_lossy(first))
                }
            };
            let may: Vec<_> = known.seen.iter().map(say).collect();
            return Err(Broken(format!("{name} is {}, may be {}", say(&content), may.join(" or "))));
        }
        known.seen = BTreeSet::from([content]);
        Ok(())
    }

    /// A listing showed it with a length, or did not show it. What is shown counts as stored.
    pub(crate) fn listed(&mut self, name: &str, shown: Option<u64>, counts: bool) -> Result<(), Broken> {
        let known = self.name(name);
        known.seen.retain(|state| state.as_ref().map(|content| content.len() as u64) == shown);
        if known.seen.is_empty() {
            return Err(Broken(format!("{name} is listed as {shown:?}")));
        }
        if shown.is_some() && counts {
            known.left.clone_from(&known.seen);
        }
        Ok(())
    }

    /// The power failed: what the next process sees is what was left, and that stays.
    pub(crate) fn power_failed(&mut self) {
        for known in self.names.values_mut() {
            known.seen.clone_from(&known.left);
        }
    }

    /// After a power cut everything that is seen is on the medium.
    pub(crate) fn all_seen(&mut self) {
        for known in self.names.values_mut() {
            known.left.clone_from(&known.seen);
        }
    }
}
