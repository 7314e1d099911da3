//! Single leaves of shards, for who wants a part of a pack.
//!
//! What always holds: a leaf is used only after its path led to the signed root; the nodes of a
//! shard are asked for once, and kept if they led a leaf there.

use std::ops::Range;

use backends::BackendError;
use bytes::Bytes;
use vault_codec::ParsedHeader;
use vault_format::suite::LEAF_BYTES;
use vault_format::{LocationId, PackId};

use super::{Fault, Fetcher, Holding, lock};

/// Nodes kept, at most 12 KiB each.
const NODES_KEPT: usize = 1024;

impl Fetcher {
    pub(super) async fn leaves(&self, header: &ParsedHeader, range: Range<u64>) -> Option<Bytes> {
        let shard_bytes = header.h0().class.shard_bytes() as u64;
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let index = (at / shard_bytes) as u8;
            let until = range.end.min((u64::from(index) + 1) * shard_bytes);
            let first = at % shard_bytes / LEAF_BYTES as u64;
            let last = (until - 1) % shard_bytes / LEAF_BYTES as u64;
            let bytes = self.shard_leaves(header, index, first as usize..last as usize + 1).await?;
            let skip = (at % shard_bytes - first * LEAF_BYTES as u64) as usize;
            out.extend_from_slice(&bytes[skip..skip + (until - at) as usize]);
            at = until;
        }
        Some(Bytes::from(out))
    }

    async fn shard_leaves(&self, header: &ParsedHeader, index: u8, leaves: Range<usize>) -> Option<Bytes> {
        let layout = header.layout();
        let range = layout.leaf(leaves.start).start..layout.leaf(leaves.end - 1).end;
        let mut held = self.holdings.packs.get(&header.pack()).cloned().unwrap_or_default();
        held.extend(lock(&self.older).get(&header.pack()).cloned().unwrap_or_default());
        let own = |holding: &&Holding| holding.index == index && holding.may_be_of(header.h0().writer);
        for holding in held.iter().filter(own) {
            let at = (header.pack(), index, holding.location.id);
            let read = futures::future::join(holding.read(range.clone()), self.nodes_of(at, holding, layout.nodes()));
            let (Ok(Some(bytes)), Ok(Some(nodes))) = read.await else { continue };
            let wrong = bytes
                .chunks_exact(LEAF_BYTES)
                .zip(leaves.clone())
                .find_map(|(leaf, number)| header.check_leaf(index, number, leaf, &nodes).err());
            match wrong {
                None => {
                    self.keep_nodes(at, nodes);
                    return Some(bytes);
                }
                Some(error) => self.blame(header.pack(), holding, Fault::Wrong(error.to_string())),
            }
        }
        None
    }

    async fn nodes_of(
        &self,
        at: (PackId, u8, LocationId),
        holding: &Holding,
        range: Range<u64>,
    ) -> std::result::Result<Option<Bytes>, BackendError> {
        let kept = lock(&self.nodes).get(&at).cloned();
        match kept {
            // Versions of one object are not told apart here; their nodes are asked for.
            Some(nodes) if holding.version.is_none() => Ok(Some(nodes)),
            Some(_) | None => holding.read(range).await,
        }
    }

    fn keep_nodes(&self, at: (PackId, u8, LocationId), nodes: Bytes) {
        let mut kept = lock(&self.nodes);
        if kept.len() >= NODES_KEPT {
            kept.pop_first();
        }
        kept.insert(at, nodes);
    }
}
