//! Parts of a pack's body, without reading all of it.
//!
//! What always holds: only the leaves that a part lies in are read, each checked up to
//! the signed root. Where a shard is away or wrong its leaves are computed from the same
//! leaves of k others, so a lost location costs k times the part and not a whole pack;
//! what was computed still has to open under the pack's key. The nodes of a shard are asked
//! for once, and kept if they led a leaf to its root.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::pin::pin;

use backends::BackendError;
use bytes::Bytes;
use futures::future::{Either, select};
use vault_codec::{ErasureCode, ParsedHeader};
use vault_format::suite::LEAF_BYTES;
use vault_format::{LocationId, PackId};

use super::{Contender, Fault, Fetcher, Holding, Portion, lock};
use crate::error::Result;

/// Nodes kept, at most 12 KiB each.
const NODES_KEPT: usize = 1024;

/// A shard that somebody shows.
#[derive(Clone, Copy)]
struct Shown {
    index: u8,
    location: LocationId,
}

impl Shown {
    fn of(holding: &Holding) -> Self {
        Self { index: holding.index, location: holding.location.id }
    }
}

impl Contender for Shown {
    fn index(&self) -> u8 {
        self.index
    }

    fn location(&self) -> LocationId {
        self.location
    }
}

impl Fetcher {
    /// Some bytes of a pack's body. Where too few leaves are at hand to compute a
    /// missing one, the pack is rebuilt as a whole, which also says why.
    pub async fn body_range(&self, pack: PackId, range: Range<u64>) -> Result<Bytes> {
        let header = self.header(pack).await?;
        match self.leaves(&header, range.clone()).await {
            Some(bytes) => Ok(bytes),
            None => {
                let (_, body) = self.body(pack).await?;
                // A slice would keep all of it in memory.
                Ok(Bytes::copy_from_slice(&body[range.start as usize..range.end as usize]))
            }
        }
    }

    /// The same from what is left of a pack that cannot be rebuilt; `None` where that is
    /// not enough.
    pub(crate) async fn leaves_left(&self, pack: PackId, range: Range<u64>) -> Result<Option<Bytes>> {
        let header = self.header(pack).await?;
        Ok(self.leaves(&header, range).await)
    }

    async fn leaves(&self, header: &ParsedHeader, range: Range<u64>) -> Option<Bytes> {
        let shard_bytes = header.h0().class.shard_bytes() as u64;
        let mut out = Vec::with_capacity((range.end - range.start) as usize);
        let mut at = range.start;
        while at < range.end {
            let index = (at / shard_bytes) as u8;
            let until = range.end.min((u64::from(index) + 1) * shard_bytes);
            let first = at % shard_bytes / LEAF_BYTES as u64;
            let last = (until - 1) % shard_bytes / LEAF_BYTES as u64;
            let leaves = first as usize..last as usize + 1;
            let bytes = self.leaves_of(header, index, leaves).await?;
            let skip = (at % shard_bytes - first * LEAF_BYTES as u64) as usize;
            out.extend_from_slice(&bytes[skip..skip + (until - at) as usize]);
            at = until;
        }
        Some(Bytes::from(out))
    }

    /// Leaves of a shard; where nobody shows them, they are no good or come late, computed
    /// from the same leaves of k others.
    async fn leaves_of(&self, header: &ParsedHeader, index: u8, leaves: Range<usize>) -> Option<Bytes> {
        let shown = self.shown(header);
        let computed = self.computed_leaves(header, index, leaves.clone(), &shown);
        let Some(own) = shown.iter().find(|one| one.index == index).copied() else { return computed.await };
        let direct = self.shard_leaves(header, index, leaves.clone());
        if lock(&self.latencies).is_slow(own.location) {
            return match computed.await {
                Some(bytes) => Some(bytes),
                None => direct.await,
            };
        }
        let (computed, direct) = (pin!(computed), pin!(direct));
        let timed = self.begin(&own, Portion::Leaves);
        match select(direct, pin!(self.late(&timed))).await {
            Either::Left((bytes, _)) => {
                self.answered(&timed, Portion::Leaves);
                match bytes {
                    Some(bytes) => Some(bytes),
                    None => computed.await,
                }
            }
            Either::Right(((), direct)) => match select(direct, computed).await {
                Either::Left((Some(bytes), _)) => {
                    self.answered(&timed, Portion::Leaves);
                    Some(bytes)
                }
                Either::Right((Some(bytes), _)) => {
                    self.outrun(&timed, Portion::Leaves);
                    Some(bytes)
                }
                Either::Left((None, computed)) => computed.await,
                Either::Right((None, direct)) => direct.await,
            },
        }
    }

    /// Who shows which shard of a pack, one of each.
    fn shown(&self, header: &ParsedHeader) -> Vec<Shown> {
        let mut shown: Vec<Shown> = self.in_order(header).iter().map(Shown::of).collect();
        shown.extend(lock(&self.older).get(&header.pack()).into_iter().flatten().map(Shown::of));
        let mut met = BTreeSet::new();
        shown.retain(|one| met.insert(one.index));
        shown
    }

    async fn computed_leaves(
        &self,
        header: &ParsedHeader,
        index: u8,
        leaves: Range<usize>,
        shown: &[Shown],
    ) -> Option<Bytes> {
        let coding = header.coding();
        let need = usize::from(coding.data_shards());
        let others: Vec<Shown> = shown.iter().filter(|one| one.index != index).copied().collect();
        let ask = |one: Shown| self.shard_leaves(header, one.index, leaves.clone());
        let good = self.race(Portion::Leaves, need, BTreeMap::new(), others, ask).await;
        if good.len() < need {
            return None;
        }
        let mut found: Vec<Option<Bytes>> = vec![None; coding.total_shards().into()];
        for (other, bytes) in good {
            found[usize::from(other)] = Some(bytes);
        }
        let bytes = leaves.len() * LEAF_BYTES;
        let rebuilt = self.world.compute.run(move || {
            let shards: Vec<Option<&[u8]>> = found.iter().map(Option::as_deref).collect();
            let mut out = vec![0; bytes];
            let done = ErasureCode::new(coding).rebuild(&shards, &[usize::from(index)], &mut [&mut out[..]]);
            done.ok().map(|()| Bytes::from(out))
        });
        rebuilt.await
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
            let read = read.await;
            let (bytes, nodes) = match read {
                (Ok(Some(bytes)), Ok(Some(nodes))) => (bytes, nodes),
                (Ok(None), _) | (_, Ok(None)) => {
                    self.blame(header.pack(), holding, Fault::missing());
                    continue;
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.blame(header.pack(), holding, Fault::of(error));
                    continue;
                }
            };
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
