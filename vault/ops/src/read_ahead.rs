//! Chunks that will be wanted soon, read and decoded beside whoever writes them out.
//!
//! What always holds: what comes from here was checked like any chunk; a bounded number
//! of plain bytes is under way or waits; what is not wanted any more is given up. Where
//! everything runs on one thread nothing is read ahead.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;
use vault_format::ChunkId;
use vault_format::tree::{ChunkRef, Content};

use crate::error::Result;
use crate::world::Compute;

/// Most chunks under way or waiting.
const CHUNKS_MAX: usize = 128;

type Plain = Result<Vec<u8>>;

/// What is under way.
pub(crate) struct ReadAhead {
    compute: Compute,
    /// Most plain bytes under way or waiting.
    bytes_max: u64,
    coming: Mutex<VecDeque<Coming>>,
}

struct Coming {
    id: ChunkId,
    task: JoinHandle<Plain>,
}

impl ReadAhead {
    pub(crate) fn new(compute: Compute, bytes_max: u64) -> Self {
        Self { compute, bytes_max, coming: Mutex::default() }
    }

    /// Starts on these contents, the next first, as far as there is room; gives up all
    /// others. Contents with lists of chunks are left to who reads them.
    pub(crate) fn want(
        &self,
        contents: &mut dyn Iterator<Item = &Content>,
        start: impl Fn(ChunkId) -> JoinHandle<Plain>,
    ) {
        if self.compute == Compute::Inline {
            return;
        }
        let wanted = first(contents, self.bytes_max);
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let ids: BTreeSet<ChunkId> = wanted.iter().map(|chunk| chunk.id).collect();
        coming.retain(|one| {
            let stays = ids.contains(&one.id);
            if !stays {
                one.task.abort();
            }
            stays
        });
        let mut begun: BTreeSet<ChunkId> = coming.iter().map(|one| one.id).collect();
        for chunk in wanted {
            if begun.insert(chunk.id) {
                coming.push_back(Coming { id: chunk.id, task: start(chunk.id) });
            }
        }
    }

    /// A chunk that was begun, once it is there. `None` if it was not.
    pub(crate) async fn take(&self, id: ChunkId) -> Option<Plain> {
        let task = {
            let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
            let at = coming.iter().position(|one| one.id == id)?;
            coming.remove(at)?.task
        };
        match task.await {
            Ok(plain) => Some(plain),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let coming = self.coming.get_mut().unwrap_or_else(PoisonError::into_inner);
        for one in coming.iter() {
            one.task.abort();
        }
    }
}

/// The chunks of the first contents, as many as there is room for.
fn first<'a>(contents: &mut dyn Iterator<Item = &'a Content>, bytes_max: u64) -> Vec<&'a ChunkRef> {
    let (mut wanted, mut bytes) = (Vec::new(), 0);
    for content in contents.filter(|content| content.depth == 0) {
        for chunk in &content.chunks {
            bytes += u64::from(chunk.bytes);
            if bytes > bytes_max || wanted.len() == CHUNKS_MAX {
                return wanted;
            }
            wanted.push(chunk);
        }
    }
    wanted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn content(first: u8, chunks: u8, bytes: u32, depth: u8) -> Content {
        let chunk = |at| ChunkRef { id: ChunkId([first + at; 32]), bytes };
        Content { bytes: u64::from(chunks) * u64::from(bytes), depth, chunks: (0..chunks).map(chunk).collect() }
    }

    fn begin(started: &Arc<AtomicUsize>, id: ChunkId) -> JoinHandle<Plain> {
        started.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move { Ok(vec![id.0[0]]) })
    }

    #[tokio::test]
    async fn what_is_wanted_is_begun_once_and_within_bounds() {
        let (ahead, started) = (ReadAhead::new(Compute::Threads, 16 << 20), Arc::default());
        let files = [content(1, 2, 10, 0), content(50, 1, 10, 1), content(3, 1, 10, 0)];
        ahead.want(&mut files.iter(), |id| begin(&started, id));
        ahead.want(&mut files.iter(), |id| begin(&started, id));
        assert_eq!(started.load(Ordering::Relaxed), 3, "once each, and no list");
        assert_eq!(ahead.take(ChunkId([2; 32])).await.unwrap().unwrap(), [2]);
        assert!(ahead.take(ChunkId([2; 32])).await.is_none(), "it was taken");
        assert!(ahead.take(ChunkId([50; 32])).await.is_none());
        let large = [content(100, 100, 1 << 20, 0)];
        ahead.want(&mut large.iter(), |id| begin(&started, id));
        assert_eq!(started.load(Ordering::Relaxed), 3 + 16);
        assert!(ahead.take(ChunkId([1; 32])).await.is_none(), "given up");
        let many = [content(0, 200, 1, 0)];
        ahead.want(&mut many.iter(), |id| begin(&started, id));
        assert_eq!(ahead.coming.lock().unwrap().len(), CHUNKS_MAX);
    }

    #[tokio::test]
    async fn on_one_thread_nothing_is_begun() {
        let (ahead, started) = (ReadAhead::new(Compute::Inline, 16 << 20), Arc::default());
        ahead.want(&mut [content(1, 2, 10, 0)].iter(), |id| begin(&started, id));
        assert_eq!(started.load(Ordering::Relaxed), 0);
    }
}
