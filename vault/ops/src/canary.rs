//! The canary: before a seed's cards count, something is sealed as a backup seals it and
//! opened with the key that the cards gave back.
//!
//! What always holds: what is sealed is random and belongs to nobody; it is sealed for
//! the public key of the vault record, so a seed that is not this vault's cannot open
//! it; its shards are written to a place, k of them are read back from there, verified
//! and decoded like those of any backup. Where the vault holds a point, the newest is
//! opened too, with its record and its tables.

use std::sync::Arc;

use bytes::Bytes;
use keys::certificate::{Request, issue};
use keys::files::ReadKey;
use keys::seed::{Generation, Seed};
use keys::{Authority, CertifiedKey, LocalSecret, RecipientPublic, SigningKey};
use rand_core::{CryptoRng, Rng};
use vault_codec::{
    Buffers, Chunk, Compression, FrameDecoder, FrameEncoder, Packer, ParsedHeader, SealContext, ShardSet, assemble,
    unlock_with, verify_shard_object,
};
use vault_format::body::ChunkKind;
use vault_format::certificate::Role;
use vault_format::shard::ShardLayout;
use vault_format::suite::{Class, Coding};
use vault_format::vault::KemRole;
use vault_format::{Hash, PointId, ScopeId, VaultId, WriterId};

use crate::error::{OpsError, Result};
use crate::fetch::{Fetcher, Trust, list_shards};
use crate::location::Location;
use crate::points;
use crate::restore::open_point;
use crate::vault::Vault;
use crate::world::World;

/// Bytes of the canary: more than one chunk's head, less than one leaf.
const CANARY_BYTES: usize = 20_000;
/// Who signs it. They write to no vault.
const WRITER: WriterId = WriterId([1; 16]);
const OPERATOR: WriterId = WriterId([2; 16]);

/// What was rehearsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sung {
    /// Hash of what was sealed.
    pub sealed: Hash,
    /// Hash of what was opened.
    pub opened: Hash,
    /// Shards that were written, and shards that were read back to open it.
    pub shards: (u8, u8),
}

/// What a canary is sealed with.
pub struct Cage<'a> {
    /// The vault.
    pub vault: VaultId,
    /// k of n.
    pub coding: Coding,
    /// Whom backups are sealed for: the reader of the vault record, or of the seed
    /// before there is a vault.
    pub reader: &'a RecipientPublic,
}

/// Whom the vault's writers seal for in this generation.
pub fn reader_of(vault: &Vault, generation: Generation) -> Result<RecipientPublic> {
    let listed = vault.record.recipients.iter();
    let key = listed.filter(|key| key.role == KemRole::Reader).find(|key| key.generation == generation.0);
    let key = key.ok_or_else(|| OpsError::Key {
        what: format!("the vault record names no reader of generation {}: are these the newest cards?", generation.0),
    })?;
    RecipientPublic::from_slice(&key.public.0)
        .map_err(|error| OpsError::corrupt("a key in the vault record", error.to_string()))
}

/// Seals, writes to `place`, reads k shards back and opens them with what follows from
/// the recovered seed. What it wrote is removed again.
pub async fn sing(
    world: &World,
    cage: &Cage<'_>,
    (seed, generation): (&Seed, Generation),
    place: &Location,
) -> Result<Sung> {
    let mut rng = world.rng();
    let Cage { vault, coding, reader } = *cage;
    let singer = Singer::certified(&mut rng, vault, (seed, generation)).map_err(|error| bug(&error))?;
    let (writer, scope) = (singer.certified.subject(), ScopeId(WRITER.0));
    let mut song = vec![0; CANARY_BYTES];
    rng.fill_bytes(&mut song);
    let dedup = seed.dedup_keys(generation, scope);
    let chunk = Chunk::new(&dedup.id_key, ChunkKind::Data, &song);
    let id = chunk.id;
    let mut packer = Packer::new(coding, Class::Leaves64);
    let frame = FrameEncoder::new(Compression::default()).and_then(|mut frames| frames.encode(&chunk));
    let early = packer.add(frame.map_err(|error| bug(&error))?, &mut rng).map_err(|error| bug(&error))?;
    let pack = early.or_else(|| packer.finish().pop()).ok_or_else(|| bug(&"there is no pack"))?;
    let (index, local) = (seed.index_key(generation, writer), LocalSecret::random(&mut rng));
    let recipients = [reader.clone()];
    let context =
        SealContext { vault, writer, epoch: 1, sequence: 1, recipients: &recipients, index: &index, local: &local };
    let buffers = Buffers::new(1);
    let sealed = pack.seal(&context, &buffers, &mut rng).map_err(|error| bug(&error))?;
    let set =
        sealed.code(&singer.signing, singer.certified.certificate_hash(), &buffers).map_err(|error| bug(&error))?;

    let objects = through(&mut rng, place, &set, coding, &singer.certified).await?;
    let header = ParsedHeader::parse(&objects[0]).map_err(|error| bug(&error))?;
    let payload = ShardLayout::new(header.h0().class).payload();
    let range = payload.start as usize..payload.end as usize;
    let mut good = Vec::new();
    for object in &objects {
        let index = ParsedHeader::parse(object).map_err(|error| bug(&error))?.index();
        good.push(header.admit(index, object.slice(range.clone())).map_err(|error| bug(&error))?);
    }
    let body = assemble(&header, &good, &buffers).map_err(|error| bug(&error))?;
    let read = ReadKey::from_seed(seed, generation, vault);
    let unlocked = unlock_with(&header, &read).map_err(|error| OpsError::Key {
        what: format!("the key that the cards give does not open what this vault seals: {error}. Nothing was changed"),
    })?;
    let open = unlocked.open(body).map_err(|error| bug(&error))?;
    let frame = open.find(&id).ok_or_else(|| bug(&"its chunk is not in the pack's table"))?;
    let mut frames = FrameDecoder::new().map_err(|error| bug(&error))?;
    let back = open.chunk(&mut frames, frame, &dedup.id_key).map_err(|error| bug(&error))?;
    let hash = |bytes: &[u8]| keys::hash::labelled("holdfast canary 1", bytes);
    let shards = (coding.total_shards(), coding.data_shards());
    Ok(Sung { sealed: hash(&song), opened: hash(&back), shards })
}

/// A writer for one song.
struct Singer {
    signing: SigningKey,
    certified: CertifiedKey,
}

impl Singer {
    /// Certified by the root that follows from the cards: it must be able to.
    fn certified<R: CryptoRng + ?Sized>(
        rng: &mut R,
        vault: VaultId,
        (seed, generation): (&Seed, Generation),
    ) -> keys::Result<Self> {
        let root = seed.root_key(generation);
        let (operator, signing) = (SigningKey::random(rng), SigningKey::random(rng));
        let request = |role, subject, key: &SigningKey| Request {
            role,
            subject,
            public: key.verifying_key().clone(),
            kem_public: None,
            serial: 1,
            not_before_ms: 0,
            not_after_ms: i64::MAX,
            scope: (role == Role::Writer).then_some(ScopeId(WRITER.0)),
            name: "canary".to_owned(),
        };
        let authority = Authority::new(vault, root.verifying_key().clone());
        let above = authority.operator(&issue(&root, vault, request(Role::Operator, OPERATOR, &operator))?)?;
        let certificate = issue(&operator, vault, request(Role::Writer, WRITER, &signing))?;
        Ok(Self { certified: authority.holder(&above, &certificate)?, signing })
    }
}

/// Writes all shards to a place, reads k of them back, drawn, and removes all.
async fn through<R: CryptoRng + ?Sized>(
    rng: &mut R,
    place: &Location,
    set: &ShardSet,
    coding: Coding,
    certified: &CertifiedKey,
) -> Result<Vec<Bytes>> {
    let mut names = Vec::new();
    for object in set.objects() {
        place.create(object.name(), object.parts().to_vec()).await?;
        names.push(object.name().to_owned());
    }
    let mut left = names.clone();
    while left.len() > usize::from(coding.data_shards()) {
        let gone = rng.next_u32() as usize % left.len();
        left.swap_remove(gone);
    }
    let mut objects = Vec::new();
    for name in &left {
        let object = place.read(name).await?.ok_or_else(|| bug(&"a shard that was written is not there"))?;
        let known = |hash: &Hash| (*hash == certified.certificate_hash()).then_some(certified);
        verify_shard_object(&object, known).map_err(|error| bug(&error))?;
        objects.push(object);
    }
    for name in &names {
        place.delete(name).await?;
    }
    Ok(objects)
}

fn bug(error: &dyn std::fmt::Display) -> OpsError {
    OpsError::corrupt("the canary", error.to_string())
}

/// Opens the newest point of the vault: its record, the tables of its packs. `None` if
/// there is no point yet.
pub async fn open_newest(vault: &Vault, read: Arc<ReadKey>) -> Result<Option<PointId>> {
    let list = points::list(vault, &read).await?;
    let Some(newest) = list.points.last() else { return Ok(None) };
    let holdings = list_shards(vault, &vault.writer_ids()).await;
    let fetcher = Fetcher::new(vault.world.clone(), holdings, Trust::Signed(vault.writers.clone()));
    let point = open_point(fetcher, read, vault.world.compute, newest.pack, Some(newest.record)).await?;
    Ok(Some(point.id()))
}
