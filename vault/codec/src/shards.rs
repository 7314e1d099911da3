//! Coding a sealed pack into n shard objects.
//!
//! What always holds: the n objects share one header but for the index; every
//! root in it was computed from the payload that is handed out; the signature
//! was verified after it was made. Data shards are slices of the sealed body and
//! are not copied.

use bytes::Bytes;
use keys::SigningKey;
use keys::hash::labelled;
use vault_format::envelope::SHARD_LABEL;
use vault_format::manifest::PackRef;
use vault_format::shard::{Header, ShardLayout, Signatures, Trailer};
use vault_format::suite::{Class, Coding, ED25519_BYTES, LEAF_BYTES, ML_DSA_BYTES};
use vault_format::{Hash, PackId, WriterId, labels, names};

use crate::buffers::{Buffer, Buffers};
use crate::erasure::ErasureCode;
use crate::error::{CodecError, Result};
use crate::merkle::{Blake3, Tree, TreeHash};
use crate::seal::Sealed;
use crate::verify::{ParsedHeader, VerifiedHeader};

impl Sealed {
    /// Computes parity, trees and the signed header. `certificate` is the hash of
    /// the writer's certificate envelope.
    pub fn code(self, signer: &SigningKey, certificate: Hash, buffers: &Buffers) -> Result<ShardSet> {
        let coded = code_body(self.h0.coding, self.h0.class, &self.body, buffers);
        let unsigned = Signatures { ed25519: [0; ED25519_BYTES], ml_dsa: [0; ML_DSA_BYTES] };
        let mut header = Header {
            h0: self.h0,
            slots: self.slots,
            commitment: self.commitment.0,
            certificate,
            roots: coded.trees.iter().map(Tree::root).collect(),
            signatures: unsigned,
            index: 0,
        };
        let message = header.signed_bytes();
        header.signatures = signer.sign(SHARD_LABEL, &message);
        signer.verifying_key().verify(SHARD_LABEL, &message, &header.signatures).map_err(|fault| {
            let why = format!("{fault}: this machine's memory or processor fails. Nothing of it was stored");
            CodecError::corrupt("the signature just made", format!("pack {}", header.h0.pack), why)
        })?;
        let header = VerifiedHeader::signed_here(ParsedHeader::parse(&header.encode())?);
        Ok(ShardSet { header, body: self.body, parity: coded.parity, trees: coded.trees })
    }
}

/// What follows from a body.
pub(crate) struct CodedBody {
    /// The parity shards, one after the other; empty for k = 1.
    pub(crate) parity: Bytes,
    /// One tree per shard.
    pub(crate) trees: Vec<Tree>,
}

/// Parity and leaf hashes, leaf by leaf: the n pieces of one step are hashed
/// while they are still in the core's cache.
pub(crate) fn code_body(coding: Coding, class: Class, body: &[u8], buffers: &Buffers) -> CodedBody {
    let (k, n) = (usize::from(coding.data_shards()), usize::from(coding.total_shards()));
    if k == 1 {
        let tree = Tree::over::<Blake3>(body.chunks_exact(LEAF_BYTES).map(Blake3::leaf).collect());
        return CodedBody { parity: Bytes::new(), trees: vec![tree; n] };
    }
    let shard_bytes = class.shard_bytes();
    let code = ErasureCode::new(coding);
    let mut parity: Buffer = buffers.take((n - k) * shard_bytes);
    let mut leaves: Vec<Vec<Hash>> = vec![Vec::with_capacity(class.leaves()); n];
    for start in (0..shard_bytes).step_by(LEAF_BYTES) {
        let leaf = start..start + LEAF_BYTES;
        let data: Vec<&[u8]> = body.chunks_exact(shard_bytes).map(|shard| &shard[leaf.clone()]).collect();
        let mut pieces: Vec<&mut [u8]> =
            parity.chunks_exact_mut(shard_bytes).map(|shard| &mut shard[leaf.clone()]).collect();
        code.encode(&data, &mut pieces);
        let all = data.iter().copied().chain(pieces.iter().map(|piece| &**piece));
        all.zip(&mut leaves).for_each(|(piece, leaves)| leaves.push(Blake3::leaf(piece)));
    }
    CodedBody { parity: parity.freeze(), trees: leaves.into_iter().map(Tree::over::<Blake3>).collect() }
}

/// The n shards of a pack.
pub struct ShardSet {
    header: VerifiedHeader,
    body: Bytes,
    parity: Bytes,
    trees: Vec<Tree>,
}

impl ShardSet {
    pub(crate) fn assemble(header: VerifiedHeader, body: Bytes, coded: CodedBody) -> Self {
        Self { header, body, parity: coded.parity, trees: coded.trees }
    }

    /// The pack.
    pub fn pack(&self) -> PackId {
        self.header.pack()
    }

    /// Its writer.
    pub fn writer(&self) -> WriterId {
        self.header.h0().writer
    }

    /// k of n.
    pub fn coding(&self) -> Coding {
        self.header.coding()
    }

    /// Leaves per shard.
    pub fn class(&self) -> Class {
        self.header.h0().class
    }

    /// Hash of the header without the index.
    pub fn header_hash(&self) -> Hash {
        self.header.hash()
    }

    /// How manifests and point records name the pack.
    pub fn pack_ref(&self) -> PackRef {
        PackRef { pack: self.pack(), header: self.header_hash() }
    }

    /// Root of a shard's payload.
    pub fn root(&self, index: u8) -> Hash {
        self.header.header().roots[usize::from(index)]
    }

    /// The header, as a reader has it after verifying.
    pub fn verified_header(&self) -> &VerifiedHeader {
        &self.header
    }

    /// One shard object.
    ///
    /// # Panics
    /// If the coding has no such index.
    pub fn object(&self, index: u8) -> ShardObject {
        let (k, shard_bytes) = (usize::from(self.coding().data_shards()), self.class().shard_bytes());
        let at = usize::from(index);
        assert!(index < self.coding().total_shards(), "shard {index} of {}", self.coding().total_shards());
        let payload = match at.checked_sub(k) {
            _ if k == 1 => self.body.clone(),
            None => self.body.slice(at * shard_bytes..(at + 1) * shard_bytes),
            Some(at) => self.parity.slice(at * shard_bytes..(at + 1) * shard_bytes),
        };
        let object_bytes = ShardLayout::new(self.class()).object_bytes();
        let trailer = Trailer { object_bytes, header_hash: self.header_hash(), index };
        let mut end = self.trees[at].stored_nodes();
        end.extend_from_slice(&trailer.encode(trailer_check));
        let name = names::shard(self.writer(), self.pack(), index);
        ShardObject { index, name, header: self.header.encoded_for(index).into(), payload, end: end.into() }
    }

    /// All n objects, by index.
    pub fn objects(&self) -> impl Iterator<Item = ShardObject> {
        (0..self.coding().total_shards()).map(|index| self.object(index))
    }
}

/// The hash that checks a trailer.
pub(crate) fn trailer_check(bytes: &[u8]) -> Hash {
    labelled(labels::TRAILER, bytes)
}

/// One shard object as pieces, ready to be stored.
#[derive(Clone, Debug)]
pub struct ShardObject {
    index: u8,
    name: String,
    header: Bytes,
    payload: Bytes,
    end: Bytes,
}

impl ShardObject {
    /// Which shard it is.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The name it is stored under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Header, payload, and nodes with trailer.
    pub fn parts(&self) -> [Bytes; 3] {
        [self.header.clone(), self.payload.clone(), self.end.clone()]
    }

    /// Bytes of the object.
    pub fn object_bytes(&self) -> usize {
        self.header.len() + self.payload.len() + self.end.len()
    }

    /// A copy in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

/// Refuses to go on with shards whose roots are not the signed ones.
pub(crate) fn check_roots(header: &ParsedHeader, trees: &[Tree]) -> Result<()> {
    let signed = &header.header().roots;
    match (0..signed.len()).find(|&at| trees[at].root() != signed[at]) {
        None => Ok(()),
        Some(index) => Err(CodecError::corrupt(
            "the code of a pack",
            format!("pack {}", header.pack()),
            format!("k good shards give a shard {index} that is not the signed one: its writer coded it wrongly"),
        )),
    }
}
