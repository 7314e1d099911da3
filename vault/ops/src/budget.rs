//! What a memory budget allows: how many packs are under way at once, how large they
//! are, and how much of what was read stays.
//!
//! What always holds: the parts add up to less than the budget, but at least one of the
//! smallest packs is always under way. Pure.

use vault_format::suite::{Class, Coding};

/// The program, its tables and what the system's allocator keeps.
const BASE: usize = 40 << 20;
/// Most plain bytes that are decoded before they are wanted.
const AHEAD_MAX: usize = 16 << 20;

/// Room for a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteRoom {
    /// The largest pack.
    pub(crate) class: Class,
    /// Packs being sealed, coded and placed at once.
    pub(crate) in_flight: usize,
    /// Packs that may wait between the source and the locations.
    pub(crate) waiting: usize,
}

impl WriteRoom {
    /// For packs of at most `class`, on so many threads.
    pub(crate) fn of(budget: usize, coding: Coding, class: Class, threads: usize) -> Self {
        let room = budget.saturating_sub(BASE);
        let mut smaller = Class::ALL.into_iter().rev().filter(|&one| one <= class);
        let class = smaller.find(|&one| cost(one, coding) <= room).unwrap_or(Class::Leaves1);
        // Two, so that one is sealed while the other is written.
        let in_flight = (room / cost(class, coding)).clamp(1, threads.max(2));
        Self { class, in_flight, waiting: in_flight }
    }
}

/// One pack that waits, as frames; and one under way: as frames, as sealed body, and as
/// parity.
fn cost(class: Class, coding: Coding) -> usize {
    let body = class.body_bytes(coding.data_shards());
    let parity = class.shard_bytes() * usize::from(coding.total_shards() - coding.data_shards());
    3 * body + parity
}

/// Room for a restore, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRoom {
    /// Parts of packs that stay.
    pub(crate) pieces: usize,
    /// Tables of contents that stay.
    pub(crate) tables: usize,
    /// Whole packs on their way; each is there twice for a moment, as shards and as body.
    pub(crate) loads: usize,
    /// Plain bytes that wait to be written.
    pub(crate) ahead: usize,
}

impl ReadRoom {
    pub(crate) fn of(budget: usize) -> Self {
        let room = budget.saturating_sub(BASE);
        Self { pieces: room * 5 / 16, tables: room / 16, loads: room / 4, ahead: AHEAD_MAX.min(room / 13) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn the_usual_budget_has_room_for_two_usual_packs() {
        let coding = Coding::new(5, 9).unwrap();
        let room = |mib, class, threads| WriteRoom::of(mib * MIB, coding, class, threads);
        let is = |class, in_flight| WriteRoom { class, in_flight, waiting: in_flight };
        assert_eq!(room(256, Class::Leaves64, 2), is(Class::Leaves64, 2));
        assert_eq!(room(256, Class::Leaves64, 64), is(Class::Leaves64, 2));
        assert_eq!(room(1024, Class::Leaves64, 8), is(Class::Leaves64, 8), "more memory, more at once");
        assert_eq!(room(64, Class::Leaves64, 8), is(Class::Leaves16, 1), "less memory, smaller packs");
        assert_eq!(room(256, Class::Leaves192, 8), is(Class::Leaves64, 2), "nor larger than there is room for");
        assert_eq!(room(1, Class::Leaves64, 8), is(Class::Leaves1, 1), "something must go on");
        assert_eq!(room(256, Class::Leaves1, 2), is(Class::Leaves1, 2));
    }

    #[test]
    fn the_parts_of_a_restore_stay_within_the_budget() {
        for budget in [64 * MIB, 256 * MIB, 4096 * MIB] {
            let room = ReadRoom::of(budget);
            assert!(BASE + room.pieces + room.tables + room.loads + room.ahead <= budget);
        }
        let usual = ReadRoom::of(256 * MIB);
        let pack = Class::Leaves64.body_bytes(5);
        assert!(usual.pieces >= 3 * pack && usual.loads >= 2 * pack && usual.ahead == AHEAD_MAX);
    }
}
