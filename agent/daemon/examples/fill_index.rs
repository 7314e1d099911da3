//! Fills the index of a vault as if much had been backed up: benches/scale runs it.
//!
//!     fill_index CONFIG VAULT [CHUNKS] [CHUNKS PER PACK] [POINTS]
//!
//! What always holds: chunks, packs and points go through the catalog's own writing
//! functions, and points stand in signed manifests of the chain, so that what is measured
//! is true to format. The shards are files of the right names and sizes, all hole:
//! nothing can be restored of them. For a vault made to be thrown away.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::collections::BTreeMap;
use std::fs::{File, create_dir_all};
use std::path::PathBuf;

use agent_daemon::assembly::{Assembled, open_vault, system_world, writer_key};
use config::{Config, Scheme};
use keys::files::WriterKey;
use vault_format::body::{ChunkKind, IndexEntry};
use vault_format::envelope::RecordKind;
use vault_format::manifest::{JanitorPart, Manifest, ManifestKind, PackRef, ReaderPart, WriterPart};
use vault_format::point::{SourceKind, Statistics};
use vault_format::sealed::SealedField;
use vault_format::shard::ShardLayout;
use vault_format::suite::Class;
use vault_format::{ChunkId, Hash, LocationId, PackId, PointId, names};
use vault_ops::catalog::{PackRow, PackState, PointRow};
use vault_ops::heads::{Depth, chain, verify};
use vault_ops::placement::home;
use vault_ops::rebuild::catch_up;
use vault_ops::vault::location_id;

const SOURCE: &str = "synthetic";
const CLASS: Class = Class::Leaves64;
/// What a chunk holds by default on average.
const CHUNK_BYTES: u32 = 256 << 10;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, vault, numbers @ ..] = arguments.as_slice() else {
        panic!("CONFIG VAULT [CHUNKS] [PER PACK] [POINTS]")
    };
    let number = |at: usize, default: u64| numbers.get(at).map_or(default, |text| text.parse().unwrap());
    let (chunks, per_pack, points) = (number(0, 1_000_000), number(1, 80), number(2, 100));
    let config = Config::parse(&std::fs::read_to_string(config).unwrap()).unwrap();
    let folders = folders(&config, vault);
    let opened =
        open_vault(&config, vault, system_world(*Ids::hash(0, chunks).0.first_chunk().unwrap())).await.unwrap();
    let keys = writer_key(&opened.keys).unwrap();
    let mut filler = Filler { folders: by_id(&opened, folders), opened, keys, ids: Ids(0), packs: 0 };
    let packs = chunks.div_ceil(per_pack);
    for point in 0..points {
        let count = packs / points + u64::from(point < packs % points);
        filler.point(count, per_pack).await;
    }
    let Filler { opened, keys, packs, .. } = filler;
    let Assembled { vault, mut catalog, .. } = opened;
    // The head is known from now on, as after a loss of the catalog.
    catch_up(&vault.reread().await, &keys, &mut catalog).await.unwrap();
    println!("{packs} packs of {per_pack} chunks in {points} points");
}

/// Ids that look drawn and are the same in each run.
struct Ids(u64);

impl Ids {
    fn next(&mut self) -> Hash {
        self.0 += 1;
        Self::hash(1, self.0)
    }

    fn hash(kind: u64, number: u64) -> Hash {
        keys::hash::labelled("holdfast fill_index", &[kind.to_le_bytes(), number.to_le_bytes()].concat())
    }

    fn half(&mut self) -> [u8; 16] {
        *self.next().0.first_chunk().unwrap()
    }
}

struct Filler {
    opened: Assembled,
    keys: std::sync::Arc<WriterKey>,
    folders: BTreeMap<LocationId, PathBuf>,
    ids: Ids,
    packs: u64,
}

impl Filler {
    async fn point(&mut self, packs: u64, per_pack: u64) {
        let refs: Vec<PackRef> = (0..packs).map(|_| self.pack(per_pack)).collect();
        let vault = &self.opened.vault;
        let head = chain(vault, self.keys.writer, Depth::Head).await.unwrap();
        let head = head.head().expect("a first backup was made");
        let references: Vec<PackId> = refs.iter().map(|pack| pack.pack).collect();
        let now_ms = vault.world.now_ms();
        let part = WriterPart {
            point: PointId(self.ids.half()),
            source_kind: SourceKind::Directory,
            source: SOURCE.to_owned(),
            finished_ms: now_ms,
            position: 0,
            root_hash: self.ids.next(),
            references: references.clone(),
            statistics: statistics(packs * per_pack),
            tags: Vec::new(),
        };
        let row = PointRow {
            writer: self.keys.writer,
            epoch: head.body.epoch,
            sequence: head.body.sequence + 1,
            pack: refs[0].pack,
            part,
            verified: true,
        };
        let body = self.manifest(&row, head.hash, refs);
        let bytes =
            keys::record::sign(RecordKind::Manifest, vault.id, &vault_format::encode(&body), &self.keys.signing);
        verify(vault, self.keys.writer, (row.epoch, row.sequence), bytes.clone()).unwrap();
        let name = names::manifest(self.keys.writer, row.epoch, row.sequence);
        for location in &vault.locations {
            location.create(&name, vec![bytes.clone().into()]).await.unwrap();
        }
        self.opened.catalog.commit_point(&row, &references).unwrap();
    }

    /// A pack of chunks nobody has, shown by every location.
    fn pack(&mut self, chunks: u64) -> PackRef {
        let pack = PackId(self.ids.half());
        let header = self.ids.next();
        let entry = |id: Hash| IndexEntry { id: ChunkId(id.0), plain_bytes: CHUNK_BYTES, kind: ChunkKind::Data };
        let index: Vec<IndexEntry> = (0..chunks).map(|_| entry(self.ids.next())).collect();
        let row = PackRow { pack, header, class: CLASS as u8, state: PackState::Committed };
        self.opened.catalog.add_pack(row, &index).unwrap();
        let vault = &self.opened.vault;
        let mut shown = Vec::new();
        for copy in home(&vault.spots(), vault.coding, vault.survive(), pack) {
            let path = self.folders[&copy.spot.location].join(names::shard(self.keys.writer, pack, copy.index));
            create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().set_len(ShardLayout::new(CLASS).object_bytes()).unwrap();
            shown.push((copy.spot.location, copy.index));
        }
        self.opened.catalog.add_shown(pack, &shown).unwrap();
        self.packs += 1;
        PackRef { pack, header }
    }

    fn manifest(&self, row: &PointRow, previous: Hash, packs: Vec<PackRef>) -> Manifest {
        let (vault, part) = (&self.opened.vault, &row.part);
        let janitor = JanitorPart {
            point: part.point,
            references: part.references.clone(),
            source_kind: part.source_kind,
            source: part.source.clone(),
            started_ms: part.finished_ms,
            finished_ms: part.finished_ms,
            tags: Vec::new(),
            pinned: false,
        };
        let reader = ReaderPart {
            point: part.point,
            source_kind: part.source_kind,
            source: part.source.clone(),
            host: SOURCE.to_owned(),
            started_ms: part.finished_ms,
            finished_ms: part.finished_ms,
            tags: Vec::new(),
            root_hash: part.root_hash,
            position: part.position,
            statistics: part.statistics.clone(),
        };
        let mut rng = vault.world.rng();
        let mut seal = |field, to, plain: &[u8]| Some(keys::wrap::seal_field(field, vault.id, to, plain, &mut rng));
        Manifest {
            epoch: row.epoch,
            sequence: row.sequence,
            previous,
            kind: ManifestKind::Point,
            vault_record: vault.record_hash,
            layout: vault.layout_hash,
            packs,
            point_record: Some(part.root_hash),
            point_pack: Some(row.pack),
            janitor: seal(SealedField::ManifestJanitor, &self.keys.janitor, &vault_format::encode(&janitor)),
            reader: seal(SealedField::ManifestReader, self.keys.reader.last().unwrap(), &vault_format::encode(&reader)),
            own: Some(self.keys.index.seal_own(vault.id, &vault_format::encode(part))),
            gc_epoch_seen: 0,
            pending: Vec::new(),
            journal: Vec::new(),
        }
    }
}

fn statistics(items: u64) -> Statistics {
    let bytes = items * u64::from(CHUNK_BYTES);
    Statistics { items, changed: items, unreadable: 0, plain_bytes: bytes, new_bytes: bytes, packed_bytes: bytes }
}

/// The local folders of a vault by the names of their locations.
fn folders(config: &Config, vault: &str) -> BTreeMap<String, PathBuf> {
    let locations = config.locations_of(config.vaults.get(vault).unwrap());
    let folders = locations.filter_map(|(name, location)| match &location.scheme {
        Scheme::File(path) => Some((name.to_string(), path.clone())),
        Scheme::S3 | Scheme::Google | Scheme::Azure => None,
    });
    folders.collect()
}

fn by_id(opened: &Assembled, folders: BTreeMap<String, PathBuf>) -> BTreeMap<LocationId, PathBuf> {
    folders.into_iter().map(|(name, path)| (location_id(opened.vault.id, &name), path)).collect()
}
