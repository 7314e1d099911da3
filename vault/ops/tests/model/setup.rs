//! What a world of the model has, and which rules hold in it.

const QUORUM: usize = 2;

/// The rules of the protocol, each of which closes a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A writer reads the tombstones before it begins and before its manifest, and
    /// heeds them.
    Check,
    /// A pack goes only when every head saw the epoch of its tombstone.
    SeenEpoch,
    /// Manifests are looked through again before a sweep.
    SecondLook,
    /// A writer reads the fences once its manifest stands.
    FenceRecheck,
    /// And what was swept.
    SweepRecheck,
    /// A janitor looks behind its fence before it relies on it.
    LookBehind,
    /// A new epoch opens with a heartbeat.
    OpenEpoch,
    /// An epoch counts as seen, and as unique, only as its tombstones stand.
    Sound,
    /// Enough domains are read that one cannot hide a record.
    ReadQuorum,
}

/// A record on some of the domains: bit `d` says that domain `d` holds it.
pub(crate) type On = u8;

/// What a world has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    pub(crate) writers: u8,
    pub(crate) janitors: u8,
    /// Runs of each writer.
    pub(crate) runs: u8,
    /// Rounds of all janitors together.
    pub(crate) rounds: u8,
    /// Packs that stand before, committed once and forgotten since: a set of bits.
    pub(crate) old: u8,
    /// Writers make new packs, too.
    pub(crate) fresh: bool,
    /// A domain that shows only what stood there at the beginning.
    pub(crate) lying: bool,
    pub(crate) fences: bool,
    /// Writers go on with a domain away.
    pub(crate) partly: bool,
    /// Sweeps are said before they are done, and writers look for what was said: where
    /// two janitors fence, nothing less will do. Elsewhere what goes goes at once.
    pub(crate) says: bool,
    pub(crate) crashes: u8,
    pub(crate) off: Option<Rule>,
}

impl Setup {
    pub(crate) fn on(&self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    /// Sets of domains a reading may get: all, as one of them may lie; without the
    /// rule any single one will do.
    pub(crate) fn readings(&self) -> Vec<On> {
        if self.on(Rule::ReadQuorum) { vec![0b111] } else { vec![0b001, 0b010, 0b100] }
    }

    /// What a writer's reading may get: it goes on with any two of three domains, if
    /// none lies.
    pub(crate) fn writer_readings(&self) -> Vec<On> {
        if self.on(Rule::ReadQuorum) && self.partly { vec![0b111, 0b011, 0b101, 0b110] } else { self.readings() }
    }

    /// What of a record a reading of these domains shows. The third domain lies: it
    /// shows nothing that was written since.
    pub(crate) fn shows(&self, on: On, reading: On) -> bool {
        let honest = if self.lying { 0b011 } else { 0b111 };
        on & reading & honest != 0
    }

    pub(crate) fn stands(on: On) -> bool {
        on.count_ones() as usize >= QUORUM
    }
}
