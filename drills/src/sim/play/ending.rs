//! The end of a story: the faults stop, and within ten days everything is full again
//! and what was forgotten is gone.
//!
//! What always holds: nothing of the story excuses what lacks then.

use std::collections::BTreeSet;

use rand_core::Rng;
use vault_format::{PackId, names};

use super::{DAY_US, Play};
use crate::sim::graves::Graves;
use crate::sim::judge::lose;
use crate::sim::ledger::{manifests, not_full, standing};
use crate::sim::scenario::{Act, Audit, Backup};
use crate::sim::sites::{Site, State};

/// Days the vault has to become full again after the faults stop.
const DAYS_TO_HEAL: u64 = 10;
/// What need not be kept so many days after the faults stopped is gone at the end.
const DAYS_IN_TRASH: u64 = 4;
/// The day on which a person does what `status` asks for.
const PERSON_COMES: u64 = 3;

impl Play<'_> {
    /// Audit and status say nothing is wrong only if the ledger sees what is declared.
    fn status_is_true(&mut self) -> Result<(), String> {
        let fork = lose(&self.sites, &self.plan, 0, &self.empty, &mut self.dice);
        let seed = self.dice.next_u64();
        let fine = self.judge().says_fine(&fork, seed)?;
        let state = fork.state();
        let standing = standing(&self.plan, &state);
        let graves = Graves::read(&self.plan, &state);
        let mut needed: BTreeSet<PackId> = manifests(&state, &graves).into_values().flatten().collect();
        needed.retain(|pack| !graves.packs.contains(pack));
        needed.extend(self.needed());
        let lacks = self.plan.losses(0).any(|lost| needed.iter().any(|&pack| !standing.keeps(&self.plan, pack, lost)));
        self.count(if fine { "said to be fine" } else { "said not to be fine" });
        if fine && lacks {
            return Err("audit and status call the vault fine, and less than declared would survive".to_owned());
        }
        Ok(())
    }

    /// The faults stop; within ten days everything is full.
    pub(super) fn ten_days(&mut self) -> Result<(), String> {
        if self.dice.next_u32().is_multiple_of(4) {
            self.status_is_true()?;
        }
        self.calm();
        self.sites.settle();
        self.after_step()?;
        let over_by_us = self.timeline.now_us() + DAYS_IN_TRASH * DAY_US;
        let mut lacks = self.lacks();
        let mut looked = false;
        for day in 0..DAYS_TO_HEAL {
            if day == PERSON_COMES {
                self.a_person_looks();
            }
            self.timeline.pass_until(self.timeline.now_us() + DAY_US);
            let mut told = String::new();
            let waited = self.spooled.len();
            if !looked || !lacks.is_empty() {
                looked = true;
                let audit = self.audit(&Audit { samples: 0, full: true, crash: None })?;
                let repair = self.repair(&Act::default())?;
                let delivery = self.deliver(&Act::default())?;
                told = format!("{audit}; {repair}; {delivery}");
            }
            if self.has_janitor {
                let (beat, gc) = self.keep_house()?;
                told = format!("{told}; {beat}; {gc}");
            }
            self.lines.push(format!("day {day}: {told}"));
            self.after_step()?;
            lacks = self.lacks();
            // No audit knew the packs of a point that waited: they are looked at once it stands.
            looked &= self.spooled.len() == waited;
            if self.exceeded || (looked && lacks.is_empty() && self.unfreed(over_by_us).is_empty()) {
                break;
            }
        }
        if !self.exceeded {
            lacks.extend(self.unfreed(over_by_us));
            lacks.extend(self.gc_refuses.take());
        }
        if self.exceeded {
            return self.look(0);
        }
        if let Some(first) = lacks.first() {
            return Err(format!("ten days are not enough: {} things lack, the first is {first}", lacks.len()));
        }
        self.last_look()
    }

    /// What is not where it belongs.
    fn lacks(&self) -> Vec<String> {
        let mut lacks = not_full(&self.plan, &self.sites.state(), &self.needed());
        lacks.extend(self.spooled.keys().map(|point| format!("spooled point {point}")));
        lacks
    }

    /// A location of which nothing is right, its marker included, looks like another
    /// vault's disk: a person must say that it is not.
    fn a_person_looks(&mut self) {
        let mut asked = 0;
        let mut state = self.sites.state();
        for site in &mut state.sites {
            let marker =
                |stood: &bytes::Bytes| site.objects.get(names::MARKER).is_some_and(|here| here.bytes != *stood);
            if site.stood.get(names::MARKER).is_some_and(marker) {
                site.objects.remove(names::MARKER);
                asked += 1;
            }
        }
        drop(state);
        if asked > 0 {
            *self.sums.entry("a person was asked about a disk").or_default() += asked;
        }
    }

    fn last_look(&mut self) -> Result<(), String> {
        let before = self.points.len();
        let bytes = self.content.len().max(1000) as u32;
        let told = self.backup(&Backup { bytes, changed: 100, ..Backup::default() })?;
        self.lines.push(told.clone());
        let Some(owes) = self.points[before..].first().map(|point| point.owes) else {
            return Err(format!("in a calm, and everything full: {told}"));
        };
        self.after_step()?;
        // What a dead run left may lack a shard: that is said, and mended. One that its
        // location spoiled is found by reading it.
        if owes || !self.lacks().is_empty() {
            let read = self.audit(&Audit { samples: 0, full: true, crash: None })?;
            let mended = self.repair(&Act::default())?;
            self.lines.push(format!("{read}; {mended}"));
        }
        let lacks = self.lacks();
        if let Some(first) = lacks.first() {
            return Err(format!("a backup in a calm left {first} owed ({told})"));
        }
        if self.dice.next_u32().is_multiple_of(4) {
            self.nothing_is_alarmed()?;
        }
        let mut lost = 0;
        self.lose_more(&mut lost);
        self.look(lost)
    }

    /// In a calm, and with everything full, audit and status have nothing to say.
    fn nothing_is_alarmed(&mut self) -> Result<(), String> {
        let fork = lose(&self.sites, &self.plan, 0, &self.empty, &mut self.dice);
        let seed = self.dice.next_u64();
        self.count("said to be fine at the end");
        match self.judge().says_why(&fork, seed)? {
            None => Ok(()),
            Some(why) => {
                let odd = uneven(&self.sites.state());
                Err(format!("in a calm, and everything full, it is said: {why}; not everywhere: {odd:?}"))
            }
        }
    }
}

/// Records that some locations have and others have not, for who looks for the reason.
fn uneven(state: &State) -> BTreeSet<String> {
    let records = |site: &Site| -> BTreeSet<String> {
        site.objects.keys().filter(|name| !name.starts_with("shards/")).map(ToString::to_string).collect()
    };
    let all: BTreeSet<String> = state.sites.iter().flat_map(records).collect();
    let lacks = |name: &&String| state.sites.iter().any(|site| !records(site).contains(*name));
    all.iter().filter(lacks).cloned().collect()
}
