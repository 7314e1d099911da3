//! A vault's keys from one number, and a pack made with them.
#![allow(dead_code, unreachable_pub, reason = "a module of each test file, which uses its part")]

use keys::certificate::{Request, issue};
use keys::{
    Authority, CertifiedKey, DedupKeys, Generation, IndexKey, LocalSecret, RecipientPrivate, RecipientPublic, Secret,
    Seed, SigningKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use vault_codec::merkle::{Blake3, Tree, TreeHash};
use vault_codec::{
    Buffers, Chunk, Compression, ErasureCode, FrameEncoder, GoodShard, Pack, Packer, ParsedHeader, SealContext,
    ShardSet,
};
use vault_format::body::ChunkKind;
use vault_format::certificate::Role;
use vault_format::envelope::SHARD_LABEL;
use vault_format::shard::{Header, ShardLayout};
use vault_format::suite::{Class, Coding, LEAF_BYTES};
use vault_format::{Hash, ScopeId, VaultId, WriterId};

/// A generator whose stream is the same for ever.
pub fn rng(number: u64) -> ChaCha20Rng {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    ChaCha20Rng::from_seed(seed)
}

/// Bytes that do not compress.
pub fn noise(number: u64, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    rng(number).fill_bytes(&mut out);
    out
}

pub fn coding(k: u8, n: u8) -> Coding {
    Coding::new(k, n).unwrap()
}

pub struct World {
    pub seed: Seed,
    pub vault: VaultId,
    pub writer: WriterId,
    pub reader: RecipientPrivate,
    pub other_reader: RecipientPrivate,
    pub recipients: Vec<RecipientPublic>,
    pub signer: SigningKey,
    pub certified: CertifiedKey,
    pub stranger: CertifiedKey,
    pub dedup: DedupKeys,
    pub index: IndexKey,
    pub local: LocalSecret,
    pub buffers: Buffers,
}

impl World {
    pub fn new(number: u64) -> Self {
        let mut rng = rng(number);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let seed = Seed::from_array(secret);
        let (vault, writer, scope) = (VaultId([1; 16]), WriterId([2; 16]), ScopeId([3; 16]));
        let root = seed.root_key(Generation::FIRST);
        let [operator, signer, other] = [(); 3].map(|()| SigningKey::random(&mut rng));
        let request = |role, subject, public| Request {
            role,
            subject,
            public,
            kem_public: None,
            serial: 1,
            not_before_ms: 0,
            not_after_ms: i64::MAX,
            scope: Some(scope),
            name: "test".to_owned(),
        };
        let authority = Authority::new(vault, root.verifying_key().clone());
        let bytes = issue(&root, vault, request(Role::Operator, WriterId([9; 16]), operator.verifying_key().clone()));
        let operator_key = authority.operator(&bytes.unwrap()).unwrap();
        let holder = |subject, key: &SigningKey| {
            let bytes = issue(&operator, vault, request(Role::Writer, subject, key.verifying_key().clone())).unwrap();
            authority.holder(&operator_key, &bytes).unwrap()
        };
        let (certified, stranger) = (holder(writer, &signer), holder(WriterId([4; 16]), &other));
        let reader = seed.reader_key(Generation::FIRST);
        let recipients = vec![reader.public().clone()];
        Self {
            vault,
            writer,
            recipients,
            reader,
            other_reader: RecipientPrivate::from_seed(Secret::random(&mut rng)),
            signer,
            certified,
            stranger,
            dedup: seed.dedup_keys(Generation::FIRST, scope),
            index: seed.index_key(Generation::FIRST, writer),
            seed,
            local: LocalSecret::random(&mut rng),
            buffers: Buffers::new(4),
        }
    }

    pub fn context(&self) -> SealContext<'_> {
        SealContext {
            vault: self.vault,
            writer: self.writer,
            epoch: 1,
            sequence: 7,
            recipients: &self.recipients,
            index: &self.index,
            local: &self.local,
        }
    }

    pub fn lookup<'k>(&'k self) -> impl Fn(&Hash) -> Option<&'k CertifiedKey> {
        move |hash| [&self.certified, &self.stranger].into_iter().find(|key| key.certificate_hash() == *hash)
    }

    /// One pack of these chunks, as small as they allow.
    pub fn pack(&self, coding: Coding, compression: Compression, chunks: &[&[u8]]) -> Pack {
        let mut encoder = FrameEncoder::new(compression).unwrap();
        let mut packer = Packer::new(coding, Class::Leaves64);
        for plain in chunks {
            let frame = encoder.encode(&Chunk::new(&self.dedup.id_key, ChunkKind::Data, plain)).unwrap();
            assert!(packer.add(frame, &mut rng(0)).unwrap().is_none());
        }
        let mut packs = packer.finish();
        assert_eq!(packs.len(), 1, "the chunks were chosen to fit one pack");
        packs.remove(0)
    }

    pub fn shards(&self, pack: Pack, number: u64) -> ShardSet {
        let sealed = pack.seal(&self.context(), &self.buffers, &mut rng(number)).unwrap();
        sealed.code(&self.signer, self.certified.certificate_hash(), &self.buffers).unwrap()
    }
}

/// The payload inside a stored object.
pub fn payload(object: &[u8]) -> &[u8] {
    let range = ShardLayout::new(ParsedHeader::parse(object).unwrap().h0().class).payload();
    &object[range.start as usize..range.end as usize]
}

/// The shards that a reader admits: every object under the index it claims.
pub fn admitted(header: &ParsedHeader, objects: &[Vec<u8>]) -> Vec<GoodShard> {
    let admit = |object: &Vec<u8>| {
        let index = ParsedHeader::parse(object).unwrap().index();
        header.admit(index, payload(object).to_vec().into()).ok()
    };
    objects.iter().filter_map(admit).collect()
}

/// How much longer the long form of a test is: `HOLDFAST_TEST_SCALE`, else 1.
pub fn scale() -> usize {
    std::env::var("HOLDFAST_TEST_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Signs a header as a writer with bad intentions would.
pub fn sign(world: &World, mut header: Header) -> ParsedHeader {
    header.signatures = world.signer.sign(SHARD_LABEL, &header.signed_bytes());
    ParsedHeader::parse(&header.encode()).unwrap()
}

/// Codes and signs another body under a header: everything a reader without a
/// key can check holds.
pub fn remake(world: &World, header: &ParsedHeader, body: &[u8]) -> (ParsedHeader, Vec<Vec<u8>>) {
    let shard_bytes = header.h0().class.shard_bytes();
    let data: Vec<&[u8]> = body.chunks_exact(shard_bytes).collect();
    let mut shards: Vec<Vec<u8>> = data.iter().map(|shard| shard.to_vec()).collect();
    shards.resize(header.coding().total_shards().into(), vec![0; shard_bytes]);
    let mut parity: Vec<&mut [u8]> = shards[data.len()..].iter_mut().map(Vec::as_mut_slice).collect();
    ErasureCode::new(header.coding()).encode(&data, &mut parity);
    let root =
        |shard: &Vec<u8>| Tree::over::<Blake3>(shard.chunks_exact(LEAF_BYTES).map(Blake3::leaf).collect()).root();
    let roots = shards.iter().map(root).collect();
    (sign(world, Header { roots, ..header.header().clone() }), shards)
}
