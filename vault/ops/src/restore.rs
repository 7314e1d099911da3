//! Opening a point for restoring.
//!
//! What always holds: the point record is accepted only with certificates that
//! lead to the root key, and only if it hashes to what the manifest signed (or,
//! without a manifest, if every header it names is signed by its writer); every
//! chunk is checked to its keyed id after decompression; a chunk is written out
//! only after that.

use std::io::{Read, Write};
use std::sync::Arc;

use async_trait::async_trait;
use keys::certificate::{Authority, CertifiedKey};
use keys::dedup::IdKey;
use keys::files::ReadKey;
use vault_codec::{BodyPart, FrameDecoder, OpenToc, PackKey, ParsedHeader};
use vault_format::body::IndexEntry;
use vault_format::manifest::PackRef;
use vault_format::point::PointRecord;
use vault_format::tree::{ChunkList, ChunkRef, Content, DEPTH_MAX, FANOUT};
use vault_format::vault::VaultRecord;
use vault_format::{Hash, PackId, PointId, labels};

use crate::backup::point_id;
use crate::error::{OpsError, Result};
use crate::fetch::Fetcher;
use crate::read_ahead::ReadAhead;
use crate::shelf::{Ahead, Appetite, Shelf};
use crate::source::PointReader;
use crate::world::Compute;

/// Chunks of a content that are looked at ahead, to be read in one range.
const AHEAD_MAX: usize = 512;

/// A point whose record was verified.
pub struct OpenPoint {
    id: PointId,
    record: PointRecord,
    shelf: Arc<Shelf>,
    id_keys: Arc<[IdKey]>,
    /// All its packs, that of its record first.
    packs: Arc<[PackRef]>,
    read_ahead: ReadAhead,
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

pub(crate) fn decoder(pack: PackId) -> Result<FrameDecoder> {
    FrameDecoder::new().map_err(|error| damaged(pack, &error))
}

pub(crate) fn of(pack: PackId) -> String {
    format!("pack {}", pack.short())
}

pub(crate) fn damaged(pack: PackId, error: &vault_codec::CodecError) -> OpsError {
    if matches!(error, vault_codec::CodecError::WrongKey { .. }) {
        return OpsError::Key {
            what: format!("{}: {error}. Use the read key, or the cards, of the vault this pack belongs to", of(pack)),
        };
    }
    OpsError::corrupt(of(pack), error.to_string())
}

pub(crate) async fn open_table(fetcher: &Fetcher, keys: &ReadKey, header: &ParsedHeader) -> Result<(PackKey, OpenToc)> {
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

/// Opens a point by the pack that holds its record, to be read as a whole: the tables
/// of all its packs are read at once. `signed` is the record's hash from a manifest, if
/// one is at hand.
pub async fn open_point(
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    pack: PackId,
    signed: Option<Hash>,
) -> Result<OpenPoint> {
    let (point, tables) = open_with_tables(fetcher, keys, compute, pack, signed).await?;
    tables.map(|()| point)
}

/// The same for who takes what is left: a pack whose table cannot be read is missed by
/// who wants something in it, and by nobody else.
pub async fn open_what_is_left(
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    pack: PackId,
    signed: Option<Hash>,
) -> Result<OpenPoint> {
    match open_with_tables(fetcher, keys, compute, pack, signed).await? {
        (_, Err(error)) if !error.is_of_stored_bytes() => Err(error),
        (point, Ok(()) | Err(_)) => Ok(point),
    }
}

/// A point, and whether the tables of all its packs could be read.
async fn open_with_tables(
    fetcher: Fetcher,
    keys: Arc<ReadKey>,
    compute: Compute,
    pack: PackId,
    signed: Option<Hash>,
) -> Result<(OpenPoint, Result<()>)> {
    let point = Arc::new(Shelf::new(fetcher, keys, compute, Appetite::Packs)).open(pack, signed).await?;
    let tables = point.shelf.read_tables(&point.packs).await;
    Ok((point, tables))
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

impl Shelf {
    /// Opens a point by the pack that holds its record. Of its other packs nothing is
    /// read before something in them is wanted.
    pub async fn open(self: &Arc<Self>, pack: PackId, signed: Option<Hash>) -> Result<OpenPoint> {
        let fetcher = self.fetcher();
        let found = find_record(fetcher, self.keys(), pack)
            .await?
            .ok_or_else(|| OpsError::corrupt(of(pack), "the manifest says it holds a point record, and it does not"))?;
        if signed.is_some_and(|signed| signed != found.hash) {
            return Err(OpsError::corrupt(
                format!("the point record of {}", of(pack)),
                "it is not the one the manifest signed",
            ));
        }
        let mut packs = vec![PackRef { pack, header: found.header }];
        packs.extend(found.record.packs.iter().cloned());
        fetcher.expect(&packs);
        OpenPoint {
            id: point_id(found.hash),
            id_keys: id_keys(self.keys(), &found.writer).into(),
            record: found.record,
            read_ahead: ReadAhead::new(self.compute(), self.ahead_bytes() as u64),
            shelf: Arc::clone(self),
            packs: packs.into(),
        }
        .refuse_what_is_newer()
    }
}

impl OpenPoint {
    /// From now on what stands in lost packs is read, too, where the shards that are left
    /// have it as it was: for who goes on past what he cannot have.
    pub fn take_what_is_left(&self) {
        self.shelf.take_what_is_left();
    }

    /// Packs that were read for it.
    pub fn packs_read(&self) -> std::collections::BTreeSet<PackId> {
        self.shelf.fetcher().packs_read()
    }

    /// Its id.
    pub fn id(&self) -> PointId {
        self.id
    }

    /// Shards met on the way that were missing or wrong; the restore did without.
    pub fn bad_shards(&self) -> Vec<crate::fetch::BadShard> {
        self.shelf.fetcher().bad()
    }

    /// Whether equal bytes have equal chunk ids in both, so that different ids mean
    /// different bytes.
    pub fn names_alike(&self, other: &Self) -> bool {
        let of = |point: &Self| (point.record.writer, point.record.key_history.len());
        of(self) == of(other)
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

    async fn chunk(&self, wanted: &ChunkRef, ahead: Ahead<'_>) -> Result<Vec<u8>> {
        let plain = match self.read_ahead.take(wanted.id).await {
            Some(plain) => plain?,
            None => self.shelf.chunk(&self.packs, &self.id_keys, wanted.id, ahead).await?,
        };
        if plain.len() == wanted.bytes as usize {
            Ok(plain)
        } else {
            Err(OpsError::corrupt(format!("chunk {}", wanted.id.short()), "its length is not as listed"))
        }
    }

    fn runs(&self, content: &Content) -> Result<Runs<'_>> {
        content.check().map_err(|error| OpsError::format("a content of the point", &error))?;
        let waiting = content.chunks.iter().rev().map(|chunk| (content.depth, chunk.clone())).collect();
        Ok(Runs { point: self, waiting, left: content.bytes })
    }
}

/// The chunks of a content in order, its lists read as they are reached.
struct Runs<'a> {
    point: &'a OpenPoint,
    waiting: Vec<(u8, ChunkRef)>,
    /// Bytes the content still has to have.
    left: u64,
}

impl Runs<'_> {
    /// The next chunk of bytes. An error once there are more or fewer bytes than the
    /// content says; a chunk of none is no writer's, and lists of them would never end.
    async fn next(&mut self) -> Result<Option<ChunkRef>> {
        let damaged = |why| Err(OpsError::corrupt("a content of the point", why));
        while let Some((depth, chunk)) = self.waiting.pop() {
            if chunk.bytes == 0 {
                return damaged("it names a chunk without bytes");
            }
            if depth == 0 {
                let Some(left) = self.left.checked_sub(chunk.bytes.into()) else {
                    return damaged("it is longer than it says");
                };
                self.left = left;
                return Ok(Some(chunk));
            }
            let plain = self.point.chunk(&chunk, &Vec::new).await?;
            let list: ChunkList = vault_format::decode("chunk list", &plain)
                .map_err(|error| OpsError::format("a list of chunks", &error))?;
            if list.chunks.len() > FANOUT || depth > DEPTH_MAX {
                return Err(OpsError::corrupt("a list of chunks", "it is longer or deeper than any writer makes"));
            }
            self.waiting.extend(list.chunks.into_iter().rev().map(|chunk| (depth - 1, chunk)));
        }
        if self.left == 0 { Ok(None) } else { damaged("it is shorter than it says") }
    }

    /// Chunks that are known to follow, the next first.
    fn ahead(&self) -> Vec<ChunkRef> {
        let next = self.waiting.iter().rev().take_while(|(depth, _)| *depth == 0);
        next.take(AHEAD_MAX).map(|(_, chunk)| chunk.clone()).collect()
    }
}

#[async_trait]
impl PointReader for OpenPoint {
    fn record(&self) -> &PointRecord {
        &self.record
    }

    fn will_read(&self, contents: &mut dyn Iterator<Item = &Content>) {
        self.read_ahead.want(contents, |id| {
            let (from, packs) = (Arc::clone(&self.shelf), Arc::clone(&self.packs));
            let id_keys = Arc::clone(&self.id_keys);
            tokio::spawn(async move { from.chunk(&packs, &id_keys, id, &Vec::new).await })
        });
    }

    async fn read(&self, content: &Content, to: &mut (dyn Write + Send)) -> Result<()> {
        let mut runs = self.runs(content)?;
        while let Some(chunk) = runs.next().await? {
            let plain = self.chunk(&chunk, &|| runs.ahead()).await?;
            to.write_all(&plain).map_err(|error| OpsError::Io { what: "writing restored bytes".to_owned(), error })?;
        }
        Ok(())
    }

    /// By the chunks' ids: nothing but lists of chunks is fetched.
    async fn matches(&self, content: &Content, from: &mut (dyn Read + Send)) -> Result<bool> {
        let mut runs = self.runs(content)?;
        let mut plain = Vec::new();
        while let Some(chunk) = runs.next().await? {
            plain.resize(chunk.bytes as usize, 0);
            match from.read_exact(&mut plain) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(OpsError::Io { what: "reading what was restored".to_owned(), error }),
            }
            if !self.id_keys.iter().any(|key| key.chunk_id(&plain) == chunk.id) {
                return Ok(false);
            }
        }
        crate::source::is_at_end(from)
    }
}
