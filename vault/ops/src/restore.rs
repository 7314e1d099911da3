//! Opening a point for restoring.
//!
//! What always holds: the point record is accepted only with certificates that
//! lead to the root key, and only if it hashes to what the manifest signed (or,
//! without a manifest, if every header it names is signed by its writer); every
//! chunk is checked to its keyed id after decompression; a chunk is written out
//! only after that.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use keys::certificate::{Authority, CertifiedKey};
use keys::dedup::IdKey;
use keys::files::ReadKey;
use vault_codec::{BodyPart, FrameDecoder, OpenPack, OpenToc, PackKey, ParsedHeader};
use vault_format::body::IndexEntry;
use vault_format::manifest::PackRef;
use vault_format::point::PointRecord;
use vault_format::tree::{ChunkList, Content, DEPTH_MAX, FANOUT};
use vault_format::vault::VaultRecord;
use vault_format::{ChunkId, Hash, PackId, PointId, labels};

use crate::backup::point_id;
use crate::error::{OpsError, Result};
use crate::fetch::Fetcher;
use crate::source::PointReader;
use crate::world::Compute;

/// Decoded packs kept in memory while restoring.
const PACKS_CACHED: usize = 6;
/// Tables of contents read at once.
const TABLES_AT_ONCE: usize = 8;

/// A point whose record was verified and whose chunks are all located.
pub struct OpenPoint {
    id: PointId,
    record: PointRecord,
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    id_keys: Vec<IdKey>,
    chunks: BTreeMap<ChunkId, (PackId, u32)>,
    cache: tokio::sync::Mutex<Cache>,
}

struct Cache {
    packs: VecDeque<(PackId, Arc<OpenPack>)>,
    decoder: FrameDecoder,
}

/// A point record as it was found in a pack, checked as far as it can be alone.
pub struct FoundRecord {
    /// Hash of the record.
    pub hash: Hash,
    /// Hash of the header of the pack it stands in.
    pub header: Hash,
    /// The record.
    pub record: PointRecord,
    /// Its writer, certified under the root.
    pub writer: CertifiedKey,
}

/// Reads the point record out of a pack. `None` if the pack holds none.
pub async fn find_record(fetcher: &Fetcher, keys: &ReadKey, pack: PackId) -> Result<Option<FoundRecord>> {
    let header = fetcher.header(pack).await?;
    let (key, toc) = open_table(fetcher, keys, &header).await?;
    let Some(frame) = toc.point_record_frame() else { return Ok(None) };
    let range = toc.frame_range(frame).ok_or_else(|| OpsError::corrupt(of(pack), "its table of contents is short"))?;
    let sealed = fetcher.body_range(pack, range.clone()).await?;
    let part = BodyPart { offset: range.start, bytes: &sealed };
    let (expected, bytes) =
        key.chunk_unnamed(&toc, frame, part, &mut decoder(pack)?).map_err(|error| damaged(pack, &error))?;
    let record: PointRecord =
        vault_format::decode("point record", &bytes).map_err(|error| OpsError::format(of(pack), &error))?;
    let (authority, writer) = certified(keys, &record).map_err(|error| {
        OpsError::corrupt(format!("the certificates in the point record of {}", of(pack)), error.to_string())
    })?;
    let vault_record = check_vault_record(&authority, &record)
        .map_err(|why| OpsError::corrupt(format!("the vault record in the point record of {}", of(pack)), why))?;
    let mut named_by = id_keys(keys, &writer);
    if let Some(scope) = writer.scope() {
        let older = keys.older_id_keys(&vault_record.key_history, scope);
        named_by.extend(older.map_err(|error| OpsError::corrupt(of(pack), error.to_string()))?);
    }
    if !named_by.iter().any(|key| key.chunk_id(&bytes) == expected) {
        return Err(OpsError::corrupt(format!("the point record of {}", of(pack)), "its bytes do not match its id"));
    }
    let signed = header.clone().verify(|hash| (*hash == writer.certificate_hash()).then_some(&writer));
    signed.map_err(|error| OpsError::corrupt(of(pack), error.to_string()))?;
    if (record.vault, record.writer) != (header.h0().vault, header.h0().writer) || writer.subject() != record.writer {
        return Err(OpsError::corrupt(format!("the point record of {}", of(pack)), "it names another vault or writer"));
    }
    let hash = keys::hash::labelled(labels::POINT_RECORD, &bytes);
    Ok(Some(FoundRecord { hash, header: header.hash(), record, writer }))
}

/// The writer of a point, under whichever root of the vault's line certified it then.
fn certified(keys: &ReadKey, record: &PointRecord) -> keys::Result<(Authority, CertifiedKey)> {
    let mut refused = None;
    for authority in keys.authorities() {
        match authority.chain(&record.certificates) {
            Ok(writer) => return Ok((authority, writer)),
            // What the root of the key at hand says of it is the reason.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(keys::KeysError::Roots { reason: "there is none to verify with" }))
}

/// The root's word as the point carries it: signed by the root that certified its
/// writer, and naming that root (FORMAT.md, 15).
fn check_vault_record(authority: &Authority, point: &PointRecord) -> std::result::Result<VaultRecord, String> {
    let verified = authority.vault_record(&point.vault_record.0).map_err(|error| error.to_string())?;
    let record: VaultRecord = verified.decode("vault record").map_err(|error| error.to_string())?;
    record.check().map_err(|error| error.to_string())?;
    if record.root_public.0 != authority.root().as_bytes()[..] {
        return Err("it names another root than the one that signed it".to_owned());
    }
    Ok(record)
}

fn id_keys(keys: &ReadKey, writer: &CertifiedKey) -> Vec<IdKey> {
    writer.scope().map(|scope| keys.id_keys(scope)).unwrap_or_default()
}

fn decoder(pack: PackId) -> Result<FrameDecoder> {
    FrameDecoder::new().map_err(|error| damaged(pack, &error))
}

fn of(pack: PackId) -> String {
    format!("pack {}", pack.short())
}

fn damaged(pack: PackId, error: &vault_codec::CodecError) -> OpsError {
    if matches!(error, vault_codec::CodecError::WrongKey { .. }) {
        return OpsError::Key {
            what: format!("{}: {error}. Use the read key, or the cards, of the vault this pack belongs to", of(pack)),
        };
    }
    OpsError::corrupt(of(pack), error.to_string())
}

async fn open_table(fetcher: &Fetcher, keys: &ReadKey, header: &ParsedHeader) -> Result<(PackKey, OpenToc)> {
    let pack = header.pack();
    let key = vault_codec::unlock_with(header, keys).map_err(|error| damaged(pack, &error))?;
    let locators = key.locators_range();
    let tail = fetcher.body_range(pack, locators.clone()).await?;
    let range =
        key.toc_range(BodyPart { offset: locators.start, bytes: &tail }).map_err(|error| damaged(pack, &error))?;
    // The table ends where the locators begin: one range has both.
    let both = fetcher.body_range(pack, range.start..locators.end).await?;
    let toc = key.toc(BodyPart { offset: range.start, bytes: &both }).map_err(|error| damaged(pack, &error))?;
    Ok((key, toc))
}

/// Opens a point by the pack that holds its record. `signed` is the record's
/// hash from a manifest, if one is at hand.
pub async fn open_point(
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    pack: PackId,
    signed: Option<Hash>,
) -> Result<OpenPoint> {
    let found = find_record(&fetcher, &keys, pack)
        .await?
        .ok_or_else(|| OpsError::corrupt(of(pack), "the manifest says it holds a point record, and it does not"))?;
    if signed.is_some_and(|signed| signed != found.hash) {
        return Err(OpsError::corrupt(
            format!("the point record of {}", of(pack)),
            "it is not the one the manifest signed",
        ));
    }
    let header = fetcher.header(pack).await?;
    let mut packs = found.record.packs.clone();
    packs.push(PackRef { pack, header: header.hash() });
    fetcher.expect(&packs);
    let chunks = locate(&fetcher, &keys, &packs).await?;
    OpenPoint {
        id: point_id(found.hash),
        id_keys: id_keys(&keys, &found.writer),
        record: found.record,
        fetcher,
        keys,
        compute,
        chunks,
        cache: tokio::sync::Mutex::new(Cache { packs: VecDeque::new(), decoder: decoder(pack)? }),
    }
    .refuse_what_is_newer()
}

/// Reads the tables of contents of all packs of a point.
async fn locate(fetcher: &Fetcher, keys: &ReadKey, packs: &[PackRef]) -> Result<BTreeMap<ChunkId, (PackId, u32)>> {
    let tables: Vec<Vec<(ChunkId, (PackId, u32))>> = futures::stream::iter(packs.to_vec())
        .map(|reference| async move {
            let header = fetcher.header(reference.pack).await?;
            if header.hash() != reference.header {
                return Err(OpsError::corrupt(of(reference.pack), "its header is not the one the point record names"));
            }
            let (_, toc) = open_table(fetcher, keys, &header).await?;
            let entries = toc.toc().entries.iter().enumerate();
            Ok(entries.map(|(frame, entry)| (entry.id, (reference.pack, frame as u32))).collect())
        })
        .buffer_unordered(TABLES_AT_ONCE)
        .try_collect()
        .await?;
    Ok(tables.into_iter().flatten().collect())
}

/// A pack's class number and its chunks, from its table of contents: what a writer
/// of its scope may lean on.
pub(crate) async fn chunk_index(fetcher: &Fetcher, keys: &ReadKey, wanted: &PackRef) -> Result<(u8, Vec<IndexEntry>)> {
    let header = fetcher.header(wanted.pack).await?;
    if header.hash() != wanted.header {
        return Err(OpsError::corrupt(of(wanted.pack), "its header is not the one its manifest names"));
    }
    let (_, toc) = open_table(fetcher, keys, &header).await?;
    let entries = toc.toc().entries.iter();
    let index = entries.map(|entry| IndexEntry { id: entry.id, plain_bytes: entry.plain_bytes, kind: entry.kind });
    Ok((header.h0().class as u8, index.collect()))
}

impl OpenPoint {
    /// Packs that were read for it.
    pub fn packs_read(&self) -> std::collections::BTreeSet<PackId> {
        self.fetcher.packs_read()
    }

    /// Its id.
    pub fn id(&self) -> PointId {
        self.id
    }

    /// Shards met on the way that were missing or wrong; the restore did without.
    pub fn bad_shards(&self) -> Vec<crate::fetch::BadShard> {
        self.fetcher.bad()
    }

    /// Version 1 writers leave `packs_more` out; what a newer one put there is
    /// not silently skipped.
    fn refuse_what_is_newer(self) -> Result<Self> {
        match self.record.packs_more {
            None => Ok(self),
            Some(_) => Err(OpsError::Refused {
                what: "this point lists packs in a way only newer versions write; use a newer holdfast".to_owned(),
            }),
        }
    }

    async fn pack(&self, pack: PackId) -> Result<Arc<OpenPack>> {
        {
            let mut cache = self.cache.lock().await;
            if let Some(at) = cache.packs.iter().position(|(id, _)| *id == pack)
                && let Some(hit) = cache.packs.remove(at)
            {
                let open = Arc::clone(&hit.1);
                cache.packs.push_front(hit);
                return Ok(open);
            }
        }
        let (header, body) = self.fetcher.body(pack).await?;
        let keys = Arc::clone(&self.keys);
        let open = self
            .compute
            .run(move || vault_codec::unlock_with(&header, &keys)?.open(body))
            .await
            .map_err(|error| damaged(pack, &error))?;
        let open = Arc::new(open);
        let mut cache = self.cache.lock().await;
        cache.packs.push_front((pack, Arc::clone(&open)));
        cache.packs.truncate(PACKS_CACHED);
        Ok(open)
    }

    async fn chunk(&self, id: ChunkId, bytes: u32) -> Result<Vec<u8>> {
        let (pack, frame) = *self.chunks.get(&id).ok_or_else(|| {
            OpsError::corrupt(format!("chunk {}", id.short()), "no pack the point record names holds it")
        })?;
        let open = self.pack(pack).await?;
        let mut cache = self.cache.lock().await;
        let mut last = None;
        // One key per generation; nearly always there is one.
        for key in &self.id_keys {
            match open.chunk(&mut cache.decoder, frame, key) {
                Ok(plain) if plain.len() == bytes as usize => return Ok(plain),
                Ok(_) => return Err(OpsError::corrupt(format!("chunk {}", id.short()), "its length is not as listed")),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || OpsError::Key { what: "the key at hand cannot check chunk ids of this writer".to_owned() },
            |error| damaged(pack, &error),
        ))
    }
}

#[async_trait]
impl PointReader for OpenPoint {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()> {
        content.check().map_err(|error| OpsError::format("a content of the point", &error))?;
        let mut written = 0_u64;
        let mut waiting: Vec<(u8, vault_format::tree::ChunkRef)> =
            content.chunks.iter().rev().map(|chunk| (content.depth, chunk.clone())).collect();
        while let Some((depth, chunk)) = waiting.pop() {
            let plain = self.chunk(chunk.id, chunk.bytes).await?;
            if depth > 0 {
                let list: ChunkList = vault_format::decode("chunk list", &plain)
                    .map_err(|error| OpsError::format("a list of chunks", &error))?;
                if list.chunks.len() > FANOUT || depth > DEPTH_MAX {
                    return Err(OpsError::corrupt("a list of chunks", "it is longer or deeper than any writer makes"));
                }
                waiting.extend(list.chunks.into_iter().rev().map(|chunk| (depth - 1, chunk)));
                continue;
            }
            written += plain.len() as u64;
            if written > content.bytes {
                return Err(OpsError::corrupt("a content of the point", "it is longer than it says"));
            }
            to.write_all(&plain).map_err(|error| OpsError::Io { what: "writing restored bytes".to_owned(), error })?;
        }
        if written == content.bytes {
            Ok(())
        } else {
            Err(OpsError::corrupt("a content of the point", "it is shorter than it says"))
        }
    }
}
