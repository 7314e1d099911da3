//! Reading shards without a key: what a header says, whether a shard is the one
//! it claims to be, rebuilding lost ones. Audit, repair and restore all begin
//! here.
//!
//! What always holds: a header that may steer a repair is its own type
//! ([`VerifiedHeader`]), made only by verifying both signatures under a known
//! certificate; a payload counts only if its root is the signed one for its
//! index ([`GoodShard`]), and nothing else goes into a body or a repair; a repair
//! ends with all n roots equal to the signed ones or with an error. The index
//! and the object's name are hints: a payload knows by its root which shard it is.

use std::ops::Deref;

use bytes::Bytes;
use keys::CertifiedKey;
use keys::hash::labelled;
use vault_format::shard::{H0, HEADER_BYTES, Header, INDEX_AT, ShardLayout, TRAILER_BYTES, Trailer, common_header};
use vault_format::suite::{Coding, LEAF_BYTES};
use vault_format::{Hash, PackId, labels};

use crate::buffers::Buffers;
use crate::erasure::ErasureCode;
use crate::error::{CodecError, Result};
use crate::merkle::{Blake3, Tree, TreeHash, root_from};
use crate::shards::{ShardSet, check_roots, code_body, trailer_check};

/// A header that was read, not believed.
#[derive(Clone, Debug)]
pub struct ParsedHeader {
    header: Header,
    common: Vec<u8>,
    hash: Hash,
}

impl ParsedHeader {
    /// Reads the first 8 KiB of a shard object.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let encoded = bytes.get(..HEADER_BYTES).unwrap_or(bytes);
        let header = Header::decode(encoded).map_err(|error| CodecError::format("the header", "a shard", error))?;
        let common = common_header(encoded).unwrap_or_default().to_vec();
        let hash = labelled(labels::HEADER, &common);
        Ok(Self { header, common, hash })
    }

    /// Its fields.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What was fixed before sealing.
    pub fn h0(&self) -> &H0 {
        &self.header.h0
    }

    /// The pack.
    pub fn pack(&self) -> PackId {
        self.header.h0.pack
    }

    /// k of n.
    pub fn coding(&self) -> Coding {
        self.header.h0.coding
    }

    /// Where things lie in its objects.
    pub fn layout(&self) -> ShardLayout {
        ShardLayout::new(self.header.h0.class)
    }

    /// Which shard the header came from, as it claims.
    pub fn index(&self) -> u8 {
        self.header.index
    }

    /// The pack's header hash, as manifests and point records name it.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The 8 KiB as they stand in the shard of an index.
    pub fn encoded_for(&self, index: u8) -> Vec<u8> {
        let mut out = self.common.clone();
        out.resize(HEADER_BYTES, 0);
        out[INDEX_AT] = index;
        out
    }

    /// Whether another header, or the start of another object, is the same but
    /// for the index: then its signature need not be verified again.
    pub fn same_pack(&self, bytes: &[u8]) -> bool {
        common_header(bytes) == Some(&self.common)
    }

    /// Verifies both signatures under the certificate the header names.
    pub fn verify<'k>(self, lookup: impl FnOnce(&Hash) -> Option<&'k CertifiedKey>) -> Result<VerifiedHeader> {
        let certificate = self.header.certificate;
        let Some(key) = lookup(&certificate) else {
            return Err(CodecError::UnknownCertificate { at: self.place(), certificate });
        };
        if key.certificate_hash() != certificate {
            return Err(CodecError::refused("the certificate given is not the one the header names"));
        }
        key.verify_shard(&self.header).map_err(|error| CodecError::corrupt("the header", self.place(), error))?;
        Ok(VerifiedHeader(self))
    }

    /// Checks the payload of a shard against its root.
    pub fn check_payload(&self, index: u8, payload: &[u8]) -> Result<()> {
        let tree = self.tree(index, payload)?;
        self.check_root(index, tree.root(), "the payload")
    }

    /// Admits a payload as the shard of an index, once it led to the root signed for that.
    pub fn admit(&self, index: u8, payload: Bytes) -> Result<GoodShard> {
        self.check_payload(index, &payload)?;
        Ok(GoodShard { header: self.hash, index, payload })
    }

    /// Which shard a payload is, by its root. With k = 1 all are the same.
    pub fn index_of(&self, payload: &[u8]) -> Option<u8> {
        let root = self.tree(0, payload).ok()?.root();
        self.header.roots.iter().zip(0..).find_map(|(found, index)| (*found == root).then_some(index))
    }

    /// Checks one leaf of a shard with the shard's Merkle section: what an audit
    /// reads. `nodes` are the bytes at [`ShardLayout::nodes`].
    pub fn check_leaf(&self, index: u8, leaf: usize, bytes: &[u8], nodes: &[u8]) -> Result<()> {
        self.known(index)?;
        let at = || format!("leaf {leaf} of {}", self.shard_place(index));
        if bytes.len() != LEAF_BYTES {
            let why = format!("{} bytes instead of {LEAF_BYTES}", bytes.len());
            return Err(CodecError::corrupt("a leaf", at(), why));
        }
        let root = root_from::<Blake3>(Blake3::leaf(bytes), leaf, self.header.h0.class.leaves(), nodes);
        if root == Some(self.header.roots[usize::from(index)]) {
            Ok(())
        } else {
            Err(CodecError::corrupt("a leaf", at(), "it does not lead to the signed root"))
        }
    }

    fn tree(&self, index: u8, payload: &[u8]) -> Result<Tree> {
        self.known(index)?;
        let wanted = self.header.h0.class.shard_bytes();
        if payload.len() != wanted {
            let why = format!("{} bytes instead of {wanted}", payload.len());
            return Err(CodecError::corrupt("the payload", self.shard_place(index), why));
        }
        Ok(Tree::over::<Blake3>(payload.chunks_exact(LEAF_BYTES).map(Blake3::leaf).collect()))
    }

    fn check_root(&self, index: u8, root: Hash, what: &'static str) -> Result<()> {
        if root == self.header.roots[usize::from(index)] {
            Ok(())
        } else {
            Err(CodecError::corrupt(what, self.shard_place(index), "its root is not the signed one"))
        }
    }

    fn known(&self, index: u8) -> Result<()> {
        let n = self.coding().total_shards();
        if index < n {
            return Ok(());
        }
        Err(CodecError::corrupt("the index", self.place(), format!("there is no shard {index} of {n}")))
    }

    fn place(&self) -> String {
        format!("pack {}", self.pack())
    }

    fn shard_place(&self, index: u8) -> String {
        format!("shard {index} of pack {}", self.pack())
    }
}

/// A header whose signatures verified.
#[derive(Clone, Debug)]
pub struct VerifiedHeader(ParsedHeader);

impl Deref for VerifiedHeader {
    type Target = ParsedHeader;

    fn deref(&self) -> &ParsedHeader {
        &self.0
    }
}

/// Reads and verifies the first 8 KiB of a shard object.
pub fn verify_header<'k>(
    bytes: &[u8],
    lookup: impl FnOnce(&Hash) -> Option<&'k CertifiedKey>,
) -> Result<VerifiedHeader> {
    ParsedHeader::parse(bytes)?.verify(lookup)
}

/// A whole shard object, every byte of it checked.
#[derive(Clone, Debug)]
pub struct VerifiedShard {
    /// Its pack's header.
    pub header: VerifiedHeader,
    /// Which shard it is.
    pub index: u8,
}

/// Reads and verifies a whole shard object.
pub fn verify_shard_object<'k>(
    bytes: &[u8],
    lookup: impl FnOnce(&Hash) -> Option<&'k CertifiedKey>,
) -> Result<VerifiedShard> {
    let header = verify_header(bytes, lookup)?;
    let index = header.check_object(bytes)?;
    Ok(VerifiedShard { header, index })
}

impl VerifiedHeader {
    /// The writer has just signed it and verified the signature.
    pub(crate) fn signed_here(header: ParsedHeader) -> Self {
        Self(header)
    }

    /// Checks every byte of an object of this pack; says which shard it is.
    pub fn check_object(&self, bytes: &[u8]) -> Result<u8> {
        let layout = self.layout();
        if bytes.len() as u64 != layout.object_bytes() {
            let why = format!("{} bytes instead of {}", bytes.len(), layout.object_bytes());
            return Err(CodecError::corrupt("a shard object", self.place(), why));
        }
        let part = |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        let index = self.check_ends(&bytes[..HEADER_BYTES], part(layout.trailer()))?;
        let tree = self.tree(index, part(layout.payload()))?;
        let nodes = part(layout.nodes());
        if tree.root() != self.header.roots[usize::from(index)] {
            return Err(self.name_bad_leaves(index, &tree, nodes));
        }
        if tree.stored_nodes() != nodes {
            let why = "it is not the tree over the payload, which is good";
            return Err(CodecError::corrupt("the Merkle section", self.shard_place(index), why));
        }
        Ok(index)
    }

    /// Checks what an audit counts as one more leaf: header and trailer. Says
    /// which shard they belong to.
    pub fn check_ends(&self, header: &[u8], trailer: &[u8]) -> Result<u8> {
        let refuse = |what, why: &str| Err(CodecError::corrupt(what, self.place(), why));
        if header.len() != HEADER_BYTES || !self.same_pack(header) {
            return refuse("the header", "it is not the signed one");
        }
        let index = header[INDEX_AT];
        self.known(index)?;
        if header[INDEX_AT + 1..].iter().any(|&byte| byte != 0) {
            return refuse("the header", "a reserved byte is not zero");
        }
        let found = Trailer::decode(&trailer[..trailer.len().min(TRAILER_BYTES)], trailer_check)
            .map_err(|error| CodecError::format("the trailer", self.shard_place(index), error))?;
        let wanted = Trailer { object_bytes: self.layout().object_bytes(), header_hash: self.hash, index };
        if trailer.len() != TRAILER_BYTES || found != wanted {
            return refuse("the trailer", "it does not belong to this header");
        }
        Ok(index)
    }

    /// Names the damaged leaves if the stored leaf hashes are themselves good.
    fn name_bad_leaves(&self, index: u8, tree: &Tree, nodes: &[u8]) -> CodecError {
        let stored = nodes.chunks_exact(Hash::BYTES).take(tree.leaves().len()).map_while(Hash::from_slice);
        let stored: Vec<Hash> = stored.collect();
        let signed = self.header.roots[usize::from(index)];
        let why = if stored.len() == tree.leaves().len() && Tree::over::<Blake3>(stored.clone()).root() == signed {
            let bad = (0..stored.len()).filter(|&leaf| stored[leaf] != tree.leaves()[leaf]);
            let bad: Vec<String> = bad.map(|leaf| leaf.to_string()).collect();
            format!("of its {} leaves these are not the signed ones: {}", stored.len(), bad.join(", "))
        } else {
            "its root is not the signed one".to_owned()
        };
        CodecError::corrupt("the payload", self.shard_place(index), why)
    }
}

/// A payload that led to the root which its header signs for it: only
/// [`ParsedHeader::admit`] makes one, so it need not be hashed a second time.
#[derive(Clone, Debug)]
pub struct GoodShard {
    header: Hash,
    index: u8,
    payload: Bytes,
}

impl GoodShard {
    /// Which shard it is.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its bytes.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }
}

/// Puts a body together from shards that were admitted, any k of them. It is still sealed.
pub fn assemble(header: &ParsedHeader, shards: &[GoodShard], buffers: &Buffers) -> Result<Bytes> {
    let coding = header.coding();
    let mut payloads = vec![None; coding.total_shards().into()];
    for shard in shards {
        if shard.header != header.hash {
            return Err(CodecError::refused("a shard was admitted under another header"));
        }
        payloads[usize::from(shard.index)] = Some(&shard.payload[..]);
    }
    let (have, need) = (payloads.iter().flatten().count(), usize::from(coding.data_shards()));
    if have < need {
        return Err(CodecError::NotEnough { pack: header.pack(), have, need });
    }
    body(header, &payloads, buffers)
}

/// Rebuilds all n shards from k that were admitted, without a key.
pub fn repair(header: &VerifiedHeader, shards: &[GoodShard], buffers: &Buffers) -> Result<ShardSet> {
    let body = assemble(header, shards, buffers)?;
    let coded = code_body(header.coding(), header.h0().class, &body, buffers);
    check_roots(header, &coded.trees)?;
    Ok(ShardSet::assemble(header.clone(), body, coded))
}

/// The body: data shards as they are, lost ones computed in place.
fn body(header: &ParsedHeader, payloads: &[Option<&[u8]>], buffers: &Buffers) -> Result<Bytes> {
    let coding = header.coding();
    let (k, shard_bytes) = (usize::from(coding.data_shards()), header.h0().class.shard_bytes());
    let mut body = buffers.take(k * shard_bytes);
    let (mut lost, mut out) = (Vec::new(), Vec::new());
    for (index, place) in body.chunks_exact_mut(shard_bytes).enumerate() {
        if let Some(payload) = payloads[index] {
            place.copy_from_slice(payload);
        } else {
            lost.push(index);
            out.push(place);
        }
    }
    if !lost.is_empty() {
        ErasureCode::new(coding).rebuild(payloads, &lost, &mut out)?;
    }
    // What was computed must have the root that was signed for it.
    for index in lost {
        header.check_payload(index as u8, &body[index * shard_bytes..(index + 1) * shard_bytes])?;
    }
    Ok(body.freeze())
}
