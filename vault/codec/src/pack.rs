//! Filling packs: which frames stand together, and in which size class.
//!
//! What always holds: every frame goes into exactly one pack; a pack never holds
//! more than its class has room for; stored sizes are those of the classes, so a
//! body's length says nothing about its chunks. While a run is small one pack is
//! open; later two are, and each frame falls into one of them at random, so that
//! the order of packs does not follow the order of the source.
//!
//! The end of a run is cut by [`plan_tail`], see there for what padding costs.
//! The point record goes into the last pack, and it names all other packs by the
//! hash of their signed headers; so [`Packer::finish_for_point`] hands out the
//! other packs first and keeps the last one open until [`LastPack::close`].

use rand_core::CryptoRng;
use vault_format::ChunkId;
use vault_format::body::{ChunkKind, INDEX_ENTRY_BYTES, TOC_ENTRY_BYTES, TocEntry, overhead_bytes};
use vault_format::suite::{Class, Coding, TAG_BYTES};

use crate::error::{CodecError, Result};
use crate::frame::Frame;

/// A second pack is opened once a run has filled this many bytes.
const SECOND_PACK_FROM_BYTES: u64 = 20 << 20;

/// Most bytes one more [`vault_format::manifest::PackRef`] adds to a point
/// record: an array head, 16 and 32 bytes with their heads.
pub const PACK_REF_BYTES: usize = 1 + (1 + 16) + (2 + 32);

/// Room for frames and their entries in an empty pack.
fn room(class: Class, coding: Coding) -> usize {
    class.body_bytes(coding.data_shards()) - overhead_bytes(0)
}

/// The smallest class up to `most` with room for `bytes`.
fn class_for(bytes: usize, coding: Coding, most: Class) -> Option<Class> {
    Class::ALL.into_iter().filter(|class| *class <= most).find(|class| room(*class, coding) >= bytes)
}

/// Frames that will be sealed together.
pub struct Pack {
    coding: Coding,
    class: Class,
    frames: Vec<Frame>,
}

impl Pack {
    fn new(coding: Coding, class: Class, frames: Vec<Frame>) -> Self {
        let pack = Self { coding, class, frames };
        assert!(pack.used_bytes() <= room(class, coding), "a pack is never planned larger than its class");
        pack
    }

    /// k of n.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// Leaves per shard.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Its frames' entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = &TocEntry> {
        self.frames.iter().map(Frame::entry)
    }

    /// Its chunks, in order.
    pub fn chunk_ids(&self) -> impl Iterator<Item = ChunkId> {
        self.frames.iter().map(Frame::id)
    }

    /// Bytes of its body.
    pub fn body_bytes(&self) -> usize {
        self.class.body_bytes(self.coding.data_shards())
    }

    /// Bytes of the body that hold nothing.
    pub fn padding_bytes(&self) -> usize {
        room(self.class, self.coding) - self.used_bytes()
    }

    fn used_bytes(&self) -> usize {
        self.frames.iter().map(Frame::packed_bytes).sum()
    }

    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

/// A pack being filled.
#[derive(Default)]
struct Open {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Open {
    fn add(&mut self, frame: Frame) {
        self.bytes += frame.packed_bytes();
        self.frames.push(frame);
    }
}

/// Sorts the frames of one run into packs.
pub struct Packer {
    coding: Coding,
    class_max: Class,
    run_bytes: u64,
    open: [Open; 2],
}

/// The end of a run that closes with a point record.
pub struct Tail {
    /// To be sealed, coded and placed first: the point record names them.
    pub packs: Vec<Pack>,
    /// Takes the point record.
    pub last: LastPack,
}

impl Packer {
    /// A packer for a vault's coding; packs are at most of `class_max`.
    pub fn new(coding: Coding, class_max: Class) -> Self {
        Self { coding, class_max, run_bytes: 0, open: Default::default() }
    }

    /// Adds a frame; hands out a pack that has no room left for it.
    pub fn add<R: CryptoRng + ?Sized>(&mut self, frame: Frame, rng: &mut R) -> Result<Option<Pack>> {
        let (bytes, room) = (frame.packed_bytes(), room(self.class_max, self.coding));
        if bytes > room {
            let body = self.class_max.body_bytes(self.coding.data_shards());
            return Err(CodecError::refused(format!(
                "a chunk of {bytes} packed bytes does not fit the largest pack of this vault ({body} bytes): \
                 choose smaller chunks or a larger pack class",
            )));
        }
        let two = self.run_bytes >= SECOND_PACK_FROM_BYTES;
        self.run_bytes += bytes as u64;
        let first = if two { (rng.next_u32() & 1) as usize } else { 0 };
        let order = [first, 1 - first];
        let fits = |open: &Open| open.bytes + bytes <= room;
        if let Some(&at) = order[..=usize::from(two)].iter().find(|&&at| fits(&self.open[at])) {
            self.open[at].add(frame);
            return Ok(None);
        }
        // Neither takes it: the fuller one goes.
        let full = usize::from(self.open[1].bytes > self.open[0].bytes);
        let frames = std::mem::take(&mut self.open[full]).frames;
        self.open[full].add(frame);
        Ok(Some(Pack::new(self.coding, self.class_max, frames)))
    }

    /// Ends a run without a point record.
    pub fn finish(self) -> Vec<Pack> {
        let coding = self.coding;
        self.cut(0).into_iter().map(|(class, frames)| Pack::new(coding, class, frames)).collect()
    }

    /// Ends a run whose last pack takes a point record of at most `record_bytes`
    /// plain bytes (an estimate from above: each pack still to be named adds
    /// [`PACK_REF_BYTES`]).
    pub fn finish_for_point(self, record_bytes: usize) -> Tail {
        let (coding, class_max) = (self.coding, self.class_max);
        let mut cut = self.cut(record_bytes + TAG_BYTES + INDEX_ENTRY_BYTES + TOC_ENTRY_BYTES);
        let (_, frames) = cut.pop().unwrap_or((class_max, Vec::new()));
        let packs = cut.into_iter().map(|(class, frames)| Pack::new(coding, class, frames)).collect();
        Tail { packs, last: LastPack { coding, class_max, frames } }
    }

    /// Distributes the frames of both open packs by [`plan_tail`].
    fn cut(self, reserve: usize) -> Vec<(Class, Vec<Frame>)> {
        let [one, other] = self.open;
        let mut frames: Vec<Option<Frame>> = one.frames.into_iter().chain(other.frames).map(Some).collect();
        let sizes: Vec<usize> = frames.iter().flatten().map(Frame::packed_bytes).collect();
        let plan = plan_tail(&sizes, self.coding, self.class_max, reserve);
        let mut take = |at: usize| frames[at].take().expect("the plan names each frame once");
        plan.into_iter().map(|planned| (planned.class, planned.items.into_iter().map(&mut take).collect())).collect()
    }
}

/// The last pack of a point, waiting for the point record.
pub struct LastPack {
    coding: Coding,
    class_max: Class,
    frames: Vec<Frame>,
}

impl LastPack {
    /// Chunks that will stand in the same pack as the record.
    pub fn chunk_ids(&self) -> impl Iterator<Item = ChunkId> {
        self.frames.iter().map(Frame::id)
    }

    /// Adds the point record as the last frame and chooses the class.
    ///
    /// A record that stands alone may take any class, larger than the
    /// configuration's too: better a large object than a point without a record.
    pub fn close(mut self, record: Frame) -> Result<Pack> {
        if record.entry().kind != ChunkKind::PointRecord {
            return Err(CodecError::refused("only a point record closes a point's last pack"));
        }
        let most = if self.frames.is_empty() { Class::Leaves192 } else { self.class_max };
        let bytes = record.packed_bytes();
        self.frames.push(record);
        let used = self.frames.iter().map(Frame::packed_bytes).sum();
        let Some(class) = class_for(used, self.coding, most) else {
            return Err(CodecError::refused(format!(
                "a point record of {bytes} packed bytes does not fit its pack, for which less room was kept: \
                 the point names too many packs. Use a larger pack class or more sources",
            )));
        };
        Ok(Pack::new(self.coding, class, self.frames))
    }
}

/// One pack of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPack {
    /// Leaves per shard.
    pub class: Class,
    /// Which items, by their place in the list given.
    pub items: Vec<usize>,
}

/// Cuts the end of a run into packs: `sizes` are the packed bytes of its frames,
/// `reserve` what the last pack must still have room for (0: nothing).
///
/// Greedy: as long as more is left, fill the largest class that what is left
/// would fill, largest frames first, so that a gap stays only where no remaining
/// frame fits. Before each step the plan could also end with everything left in
/// one pack; of all these ends the one with the fewest stored bytes is taken.
///
/// What padding costs, with `reserve` = 0:
/// - a pack that is not the last has a gap smaller than every frame still left
///   after it;
/// - never more is stored than by the greedy cut alone; and if every frame fits
///   the smallest class, the greedy cut's padding is less than one smallest pack
///   plus those gaps. So frames that are small against the smallest pack (320 KiB
///   at k = 5) cost less than about one smallest pack;
/// - never more is stored than by one pack that holds everything, if one can.
///
/// Frames larger than the smallest class can cost more, because they must stand
/// in a larger one: a single frame of 400 KiB at k = 5 takes the second class,
/// with 880 KiB of padding. Measured at 5 of 9 over 400 tails of 0 to 20 MiB,
/// mean and worst: 164 and 365 KiB with chunks of 64 KiB, 446 KiB and 1.3 MiB
/// with 512 KiB, 1.1 and 3.7 MiB with 1 MiB.
///
/// # Panics
/// If a size does not fit a pack of `class_max`.
pub fn plan_tail(sizes: &[usize], coding: Coding, class_max: Class, reserve: usize) -> Vec<PlannedPack> {
    let mut left: Vec<usize> = (0..sizes.len()).collect();
    left.sort_by_key(|&item| std::cmp::Reverse(sizes[item]));
    let (mut filled, mut filled_bytes) = (Vec::new(), 0);
    let mut best: Option<Ending> = None;
    loop {
        let bytes: usize = left.iter().map(|&item| sizes[item]).sum();
        let ending = Ending::here(&left, bytes + reserve, coding, class_max, filled.len(), filled_bytes);
        let smallest = ending.as_ref().is_some_and(|end| end.last.iter().all(|pack| pack.class == Class::Leaves1));
        if let Some(ending) = ending
            && best.as_ref().is_none_or(|best| ending.body_bytes < best.body_bytes)
        {
            best = Some(ending);
        }
        if left.is_empty() || smallest {
            break;
        }
        let pack = fill(&mut left, sizes, bytes, coding, class_max);
        filled_bytes += pack.class.body_bytes(coding.data_shards());
        filled.push(pack);
    }
    if let Some(best) = best {
        filled.truncate(best.filled);
        filled.extend(best.last);
    }
    for pack in &mut filled {
        pack.items.sort_unstable();
    }
    filled
}

/// A way to end a plan after some filled packs.
struct Ending {
    filled: usize,
    last: Option<PlannedPack>,
    body_bytes: usize,
}

impl Ending {
    /// Everything left and the reserve in one pack, if one has room.
    fn here(
        left: &[usize],
        bytes: usize,
        coding: Coding,
        class_max: Class,
        filled: usize,
        filled_bytes: usize,
    ) -> Option<Self> {
        if bytes == 0 {
            return Some(Self { filled, last: None, body_bytes: filled_bytes });
        }
        let class = if left.is_empty() {
            // Only the point record: any class; its true size is checked later.
            class_for(bytes, coding, Class::Leaves192).unwrap_or(Class::Leaves192)
        } else {
            class_for(bytes, coding, class_max)?
        };
        let last = Some(PlannedPack { class, items: left.to_vec() });
        Some(Self { filled, last, body_bytes: filled_bytes + class.body_bytes(coding.data_shards()) })
    }
}

/// Moves items from `left` (sorted, largest first, `bytes` in all) into one pack.
fn fill(left: &mut Vec<usize>, sizes: &[usize], bytes: usize, coding: Coding, class_max: Class) -> PlannedPack {
    let needed = class_for(sizes[left[0]], coding, class_max).expect("a frame that fits no pack is never added");
    let filled = Class::ALL.into_iter().rev().find(|class| *class <= class_max && room(*class, coding) <= bytes);
    let class = filled.map_or(needed, |class| class.max(needed));
    let mut free = room(class, coding);
    let mut items = Vec::new();
    left.retain(|&item| {
        let taken = sizes[item] <= free;
        if taken {
            free -= sizes[item];
            items.push(item);
        }
        !taken
    });
    PlannedPack { class, items }
}

#[cfg(test)]
mod tests {
    use keys::{Generation, Seed};
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;
    use vault_format::{Hash, PackId, ScopeId};

    use super::*;
    use crate::chunk::Chunk;
    use crate::frame::{Compression, FrameEncoder};

    fn coding(k: u8, n: u8) -> Coding {
        Coding::new(k, n).unwrap()
    }

    fn body_bytes(plan: &[PlannedPack], coding: Coding) -> usize {
        plan.iter().map(|pack| pack.class.body_bytes(coding.data_shards())).sum()
    }

    /// The greedy cut to its end.
    fn greedy_only(sizes: &[usize], coding: Coding, class_max: Class) -> Vec<PlannedPack> {
        let mut left: Vec<usize> = (0..sizes.len()).collect();
        left.sort_by_key(|&item| std::cmp::Reverse(sizes[item]));
        let mut packs = Vec::new();
        while !left.is_empty() {
            let bytes = left.iter().map(|&item| sizes[item]).sum();
            packs.push(fill(&mut left, sizes, bytes, coding, class_max));
        }
        packs
    }

    /// Frames of exactly these plain lengths; each differs from the others.
    fn frames(lengths: &[usize], kind: ChunkKind) -> Vec<Frame> {
        let keys = Seed::from_array([1; 32]).dedup_keys(Generation::FIRST, ScopeId([2; 16]));
        let mut encoder = FrameEncoder::new(Compression::Never).unwrap();
        let mut next = |(at, &length): (usize, &usize)| {
            let mut plain = vec![at as u8; length];
            plain.iter_mut().zip(at.to_le_bytes()).for_each(|(byte, id)| *byte = id);
            encoder.encode(&Chunk::new(&keys.id_key, kind, &plain)).unwrap()
        };
        lengths.iter().enumerate().map(&mut next).collect()
    }

    fn codings() -> impl Strategy<Value = Coding> {
        prop_oneof![Just((5, 9)), Just((3, 5)), Just((7, 15)), Just((1, 3))].prop_map(|(k, n)| coding(k, n))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_plan_places_every_frame_once_and_keeps_its_bounds(
            coding in codings(),
            class_max in prop_oneof![Just(Class::Leaves16), Just(Class::Leaves64), Just(Class::Leaves192)],
            sizes in proptest::collection::vec(prop_oneof![100_usize..20_000, 20_000_usize..900_000], 0..120),
            reserve in prop_oneof![Just(0_usize), 1_000_usize..300_000],
        ) {
            let plan = plan_tail(&sizes, coding, class_max, reserve);
            let mut placed: Vec<usize> = plan.iter().flat_map(|pack| pack.items.clone()).collect();
            placed.sort_unstable();
            prop_assert_eq!(placed, (0..sizes.len()).collect::<Vec<_>>());
            prop_assert_eq!(plan.is_empty(), sizes.is_empty() && reserve == 0);
            let used = |pack: &PlannedPack| pack.items.iter().map(|&item| sizes[item]).sum::<usize>();
            for (at, pack) in plan.iter().enumerate() {
                let last = at + 1 == plan.len();
                let gap = room(pack.class, coding).checked_sub(used(pack) + if last { reserve } else { 0 });
                prop_assert!(gap.is_some(), "pack {} holds more than its class", at);
                prop_assert!(pack.class <= class_max || pack.items.is_empty());
                let later = plan[at + 1..].iter().flat_map(|pack| &pack.items).map(|&item| sizes[item]).min();
                if let Some(later) = later {
                    prop_assert!(gap.unwrap() < later, "pack {} had room for a later frame", at);
                }
            }
            if reserve == 0 {
                let greedy = greedy_only(&sizes, coding, class_max);
                prop_assert!(body_bytes(&plan, coding) <= body_bytes(&greedy, coding));
                if sizes.iter().all(|&size| size <= room(Class::Leaves1, coding)) {
                    let padding: usize = greedy.iter().map(|pack| room(pack.class, coding) - used(pack)).sum();
                    let smallest_left = |at: usize| greedy[at + 1..].iter().flat_map(|pack| &pack.items).map(|&item| sizes[item]).min();
                    let gaps: usize = (0..greedy.len()).filter_map(smallest_left).sum();
                    prop_assert!(padding < Class::Leaves1.body_bytes(coding.data_shards()) + gaps);
                }
                let total: usize = sizes.iter().sum();
                if let Some(class) = class_for(total, coding, class_max).filter(|_| total > 0) {
                    prop_assert!(body_bytes(&plan, coding) <= class.body_bytes(coding.data_shards()));
                }
            }
        }

        #[test]
        fn a_packer_hands_out_every_frame_once(
            seed in any::<u64>(), lengths in proptest::collection::vec(1_usize..60_000, 0..200), point in any::<bool>(),
        ) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let coding = coding(1, 3);
            let mut packer = Packer::new(coding, Class::Leaves16);
            // As if the run were long, so that both packs are used.
            packer.run_bytes = if seed.is_multiple_of(2) { SECOND_PACK_FROM_BYTES } else { 0 };
            let (mut packs, mut ids) = (Vec::new(), Vec::new());
            for frame in frames(&lengths, ChunkKind::Data) {
                ids.push(frame.id());
                packs.extend(packer.add(frame, &mut rng).unwrap());
            }
            if point {
                let record = frames(&[5_000], ChunkKind::PointRecord).remove(0);
                ids.push(record.id());
                let tail = packer.finish_for_point(5_000);
                packs.extend(tail.packs);
                packs.push(tail.last.close(record).unwrap());
                let last = packs.last().unwrap().entries().last().unwrap().kind;
                prop_assert_eq!(last, ChunkKind::PointRecord);
            } else {
                packs.extend(packer.finish());
            }
            let mut found: Vec<ChunkId> = packs.iter().flat_map(Pack::chunk_ids).collect();
            found.sort_unstable();
            ids.sort_unstable();
            prop_assert_eq!(found, ids);
            prop_assert!(packs.iter().all(|pack| pack.entries().count() > 0));
        }
    }

    #[test]
    fn a_long_run_fills_two_packs_at_random() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut packer = Packer::new(coding(1, 3), Class::Leaves16);
        packer.run_bytes = SECOND_PACK_FROM_BYTES;
        for frame in frames(&[9_000; 60], ChunkKind::Data) {
            assert!(packer.add(frame, &mut rng).unwrap().is_none());
        }
        assert!(packer.open.iter().all(|open| open.frames.len() > 15), "both are used");
        let mut young = Packer::new(coding(1, 3), Class::Leaves16);
        for frame in frames(&[9_000; 60], ChunkKind::Data) {
            assert!(young.add(frame, &mut rng).unwrap().is_none());
        }
        assert!(young.open[1].frames.is_empty(), "a small run has one pack open");
    }

    #[test]
    fn usual_sizes_cost_little_padding() {
        // A megabyte and a half of small chunks at 5 of 9: 1.25 MiB and the rest.
        let coding = coding(5, 9);
        let plan = plan_tail(&[16_000; 94], coding, Class::Leaves64, 0);
        assert_eq!(plan.iter().map(|pack| pack.class).collect::<Vec<_>>(), [Class::Leaves4, Class::Leaves1]);
        // 19 MiB of large chunks: one pack beats four.
        let plan = plan_tail(&[1_900_000; 10], coding, Class::Leaves64, 0);
        assert_eq!(plan.len(), 1);
        assert!(plan_tail(&[], coding, Class::Leaves64, 0).is_empty());
    }

    #[test]
    fn a_point_record_may_need_a_larger_class_than_the_tail() {
        let record = |bytes| frames(&[bytes], ChunkKind::PointRecord).remove(0);
        let coding = coding(1, 3);
        // Alone it may go beyond the configured class.
        let tail = Packer::new(coding, Class::Leaves4).finish_for_point(400_000);
        assert!(tail.packs.is_empty());
        assert_eq!(tail.last.close(record(400_000)).unwrap().class(), Class::Leaves16);
        // With frames beside it, the room that was asked for decides who moves out.
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut packer = Packer::new(coding, Class::Leaves4);
        for frame in frames(&[20_000; 5], ChunkKind::Data) {
            packer.add(frame, &mut rng).unwrap();
        }
        let tail = packer.finish_for_point(240_000);
        assert_eq!(tail.packs.len(), 2, "the frames had to leave the record's pack");
        assert_eq!(tail.last.chunk_ids().count(), 0);
        assert_eq!(tail.last.close(record(240_000)).unwrap().class(), Class::Leaves4);
        // Far too large, or no record at all.
        let last = Packer::new(coding, Class::Leaves4).finish_for_point(10).last;
        assert_eq!(last.close(record(13 << 20)).err().unwrap().name(), "refused");
        let last = Packer::new(coding, Class::Leaves4).finish_for_point(10).last;
        assert!(last.close(frames(&[9], ChunkKind::Data).remove(0)).is_err());
    }

    #[test]
    fn a_chunk_larger_than_a_pack_is_refused() {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let mut packer = Packer::new(coding(1, 3), Class::Leaves1);
        let error = packer.add(frames(&[65_536], ChunkKind::Data).remove(0), &mut rng).err().unwrap();
        assert_eq!(error.name(), "refused");
    }

    #[test]
    fn a_pack_ref_costs_what_we_say() {
        let one = vault_format::manifest::PackRef { pack: PackId([0; 16]), header: Hash([0; 32]) };
        assert_eq!(vault_format::encode(&one).len(), PACK_REF_BYTES);
    }
}
