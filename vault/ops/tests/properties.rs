//! Whatever the layout, whatever the size: what was reported durable restores.
//!
//! `HOLDFAST_PROPERTIES=20` makes the random parts twenty times longer.

#![allow(clippy::unwrap_used, reason = "test code")]

mod world;

use std::collections::BTreeSet;

use rand_core::Rng;
use vault_codec::Compression;
use vault_format::body::ChunkKind;
use vault_format::point::{PointRoot, SourceKind};
use vault_format::tree::{ChunkList, ChunkRef, Content};
use vault_ops::OpsError;
use vault_ops::source::{PointReader, Reading, Sink, Source};
use world::{Breaking, Lab, Setup, below, draw, random_bytes, read_stream, rng, scale, stream_reading};

const SEED: u64 = 0x9209;

/// Random layouts of 1 to 6 domains and 1 to 9 locations, random coding and d;
/// locations away during the backup, then up to d domains away.
#[tokio::test]
async fn any_layout_keeps_its_word() {
    let (mut tried, mut refused, mut degraded, mut losses) = (0, 0, 0, 0);
    let mut rng = rng(SEED);
    for round in 0..40 * scale("HOLDFAST_PROPERTIES") {
        let domains = 1 + below(&mut rng, 6);
        let locations = domains.max(1 + below(&mut rng, 9));
        let placed: Vec<u8> =
            (0..locations).map(|at| if at < domains { at as u8 } else { below(&mut rng, domains) as u8 }).collect();
        let coding = [(5, 9), (3, 5), (7, 15), (1, 3), (1, 1), (2, 4)][below(&mut rng, 6)];
        let survive = below(&mut rng, domains) as u8;
        let place = format!("seed {SEED:#x}, round {round}: {coding:?} over {placed:?}, d = {survive}");
        let spots: Vec<_> = spots(&placed);
        let shape = vault_format::suite::Coding::new(coding.0, coding.1).unwrap();
        if !vault_ops::placement::can_survive(&spots, shape, survive) {
            continue;
        }
        tried += 1;
        let mut lab = Lab::new(SEED + round as u64, coding, survive, &placed).await;
        let count = below(&mut rng, 300_000);
        let bytes = random_bytes(round as u64, count);
        // Every third time something is away already.
        if round % 3 == 0 {
            let away = below(&mut rng, locations.min(3) + 1).min(locations - 1);
            lab.down = draw(&mut rng, locations, away);
        }
        let report = match lab.backup(&bytes).await {
            Ok(report) => report,
            Err(OpsError::Unreachable { .. }) if !lab.down.is_empty() => {
                refused += 1;
                continue;
            }
            Err(error) => panic!("{place}, {:?} away: {error}", lab.down),
        };
        assert_eq!(report.is_full(), lab.down.is_empty(), "{place}, {:?} away", lab.down);
        assert!(report.tolerance.any_domains >= survive, "{place}: {:?}", report.tolerance);
        degraded += usize::from(!report.is_full());
        lab.down.clear();
        for _ in 0..4 {
            let most = usize::from(survive) + 1;
            let lost = below(&mut rng, most);
            let gone: BTreeSet<usize> = draw(&mut rng, domains, lost).into_iter().collect();
            lab.down = (0..locations).filter(|&at| gone.contains(&usize::from(placed[at]))).collect();
            let restored = lab.restore(0).await.unwrap_or_else(|error| panic!("{place}, {gone:?} lost: {error}"));
            assert!(restored == bytes, "{place}, {gone:?} lost");
            losses += 1;
        }
    }
    println!("{tried} layouts, {refused} refused, {degraded} degraded, {losses} losses survived");
    assert!(tried >= 20 && degraded >= 2 && losses >= 60, "{tried} {degraded} {losses}");
}

fn spots(placed: &[u8]) -> Vec<vault_ops::placement::Spot> {
    let spot = |(at, &domain): (usize, &u8)| {
        let mut location = vault_format::LocationId::default();
        location.0[0] = at as u8;
        vault_ops::placement::Spot { location, domain: u16::from(domain) }
    };
    placed.iter().enumerate().map(spot).collect()
}

/// Sizes at the edges of chunks, leaves and packs, and random ones.
#[tokio::test]
async fn every_size_comes_back() {
    for (coding, seed) in [((3, 5), 1), ((1, 3), 2)] {
        let setup = Setup { class_max: 0, compression: Compression::Never, ..Setup::new(coding, 0, &[0; 5]) };
        let mut lab = Lab::build(SEED + seed, setup).await;
        let pack = usize::from(coding.0) * 65_536;
        let (min, average, max) = (4 << 10, 16 << 10, 48 << 10);
        let mut sizes = vec![0, 1, 2, 63, 64, 65, 65_535, 65_536, 65_537];
        sizes.extend([min, average, max].into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]));
        sizes.extend([1, 2].into_iter().flat_map(|packs| [packs * pack - 1, packs * pack, packs * pack + 1]));
        // Where the chunks of one pack just fit: sections and locators take some hundred bytes.
        sizes.extend((0..12).map(|step| pack - 200 - 50 * step));
        let mut rng = rng(seed);
        sizes.extend((0..6 * scale("HOLDFAST_PROPERTIES")).map(|_| below(&mut rng, 400_000)));
        for size in sizes {
            let bytes = random_bytes(rng.next_u64(), size);
            let report = lab.backup(&bytes).await.unwrap_or_else(|error| panic!("{size} bytes: {error}"));
            assert_eq!(report.statistics.plain_bytes as usize, size);
            assert!(lab.restore(0).await.unwrap() == bytes, "{size} bytes");
        }
        // Bytes that are all alike cut at the largest chunk and are stored once.
        let bytes = vec![0; 5 * max + 1];
        let report = lab.backup(&bytes).await.unwrap();
        assert!(report.statistics.new_bytes <= (max + 1) as u64, "{:?}", report.statistics);
        assert!(lab.restore(0).await.unwrap() == bytes);
    }
}

/// More chunks than a list may hold: the content is folded, and deduplicates.
#[tokio::test]
async fn a_content_of_many_chunks_is_folded_and_comes_back() {
    let chunks = (64, 256, 1024);
    let mut lab = Lab::build(SEED, Setup { chunks, ..Setup::new((3, 5), 0, &[0; 5]) }).await;
    let mut bytes = random_bytes(SEED, 1_800_000 * scale("HOLDFAST_PROPERTIES"));
    lab.backup(&bytes).await.unwrap();
    let vault = lab.open().await.unwrap();
    let row = lab.catalog.points().unwrap().pop().unwrap();
    let point = lab.open_point(&vault, row.pack, None).await.unwrap();
    let PointRoot::Stream(root) = &point.record().root else { panic!("a stream") };
    assert_eq!(root.content.depth, 1);
    assert!((2..=4096).contains(&root.content.chunks.len()), "{} lists", root.content.chunks.len());
    assert!(read_stream(&point).await.unwrap() == bytes);
    // One byte in front: all but a few chunks, and the lists, are known.
    bytes.insert(0, 1);
    let report = lab.backup(&bytes).await.unwrap();
    assert!(report.statistics.new_bytes < 400_000, "{:?}", report.statistics);
    assert!(lab.restore(0).await.unwrap() == bytes);
}

/// A source that folds by hand, with few chunks to a list: what larger contents
/// look like without their size.
struct Deep {
    bytes: Vec<u8>,
    depth: u8,
    fanout: usize,
    /// What the content claims.
    claimed_bytes: u64,
}

impl Source for Deep {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "deep"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let mut chunks: Vec<ChunkRef> = Vec::new();
        for piece in self.bytes.chunks(3_000) {
            chunks.extend(sink.write(ChunkKind::Data, &mut &*piece)?.chunks);
        }
        for _ in 0..self.depth {
            let mut above = Vec::new();
            for part in chunks.chunks(self.fanout) {
                let list = vault_format::encode(&ChunkList { chunks: part.to_vec() });
                let content = sink.write(ChunkKind::List, &mut &list[..])?;
                assert_eq!(content.chunks.len(), 1, "a list is one chunk");
                above.extend(content.chunks);
            }
            chunks = above;
        }
        let content = Content { bytes: self.claimed_bytes, depth: self.depth, chunks };
        Ok(stream_reading(content, &self.bytes))
    }
}

#[tokio::test]
async fn contents_of_any_depth_are_read_and_their_length_is_checked() {
    let mut lab = Lab::new(SEED + 5, (3, 5), 0, &[0; 5]).await;
    for depth in 0..=3 {
        let bytes = random_bytes(u64::from(depth), 240_000);
        for (claimed, wanted) in [(0, None), (1, Some("shorter")), (-1, Some("longer"))] {
            if depth == 0 && claimed != 0 {
                continue;
            }
            let claimed_bytes = 240_000_u64.strict_add_signed(claimed);
            let source = Deep { bytes: bytes.clone(), depth, fanout: 5, claimed_bytes };
            let vault = lab.open().await.unwrap();
            lab.backup_source(&vault, Box::new(source)).await.unwrap();
            match (lab.restore(0).await, wanted) {
                (Ok(restored), None) => assert!(restored == bytes, "depth {depth}"),
                (Err(OpsError::Corrupt { why, .. }), Some(wanted)) => assert!(why.contains(wanted), "{why}"),
                (outcome, _) => panic!("depth {depth}, claimed {claimed}: {:?}", outcome.map(|bytes| bytes.len())),
            }
        }
    }
}

/// A source that fails in the middle.
struct Failing;

impl Source for Failing {
    fn kind(&self) -> SourceKind {
        SourceKind::Command
    }

    fn name(&self) -> &'static str {
        "bytes"
    }

    fn read(&mut self, sink: &mut dyn Sink) -> vault_ops::Result<Reading> {
        let content = sink.write(ChunkKind::Data, &mut Breaking(2_000_000))?;
        Ok(stream_reading(content, &[]))
    }
}

#[tokio::test]
async fn a_source_that_fails_makes_no_point_and_spoils_none() {
    let mut lab = Lab::new(SEED + 6, (3, 5), 1, &[0, 1, 2, 3]).await;
    let bytes = random_bytes(6, 100_000);
    lab.backup(&bytes).await.unwrap();
    let vault = lab.open().await.unwrap();
    let error = lab.backup_source(&vault, Box::new(Failing)).await.unwrap_err();
    assert!(
        matches!(&error, OpsError::Io { error, .. } if error.to_string().contains("the disk went away")),
        "{error}"
    );
    assert!(lab.restore(0).await.unwrap() == bytes);
    assert_eq!(lab.catalog.points().unwrap().len(), 1);
    let next = lab.backup(&bytes).await.unwrap();
    assert_eq!((next.manifest, next.statistics.new_bytes), ((1, 2), 0));
}
