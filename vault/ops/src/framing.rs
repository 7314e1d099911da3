//! Framing: new chunks are compressed beside the source's thread while it reads on.
//!
//! What always holds: frames come out in the order in which their chunks went in, so
//! the same run fills the same packs; a few batches are under way, then the source
//! waits; every buffer and encoder is used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use vault_codec::{Chunk, CodecError, Compression, Frame, FrameEncoder};
use vault_format::ChunkId;
use vault_format::body::ChunkKind;

use crate::error::{OpsError, Result};
use crate::world::{Compute, Started};

/// Plain bytes that make a batch: enough that handing it over costs nothing beside
/// compressing it, few enough that it stays in a core's cache.
const BATCH_BYTES: usize = 512 << 10;

/// Chunks that go to a thread together, one behind the other.
#[derive(Default)]
struct Batch {
    plain: Vec<u8>,
    /// Id, kind, and where each ends.
    chunks: Vec<(ChunkId, ChunkKind, usize)>,
}

impl Batch {
    fn add(&mut self, chunk: &Chunk<'_>) {
        self.plain.extend_from_slice(chunk.plain);
        self.chunks.push((chunk.id, chunk.kind, self.plain.len()));
    }

    fn encode(&self, encoder: &mut FrameEncoder) -> std::result::Result<Vec<Frame>, CodecError> {
        let mut start = 0;
        let mut frame = |&(id, kind, end): &(ChunkId, ChunkKind, usize)| {
            let plain = &self.plain[std::mem::replace(&mut start, end)..end];
            encoder.encode(&Chunk { id, kind, plain })
        };
        self.chunks.iter().map(&mut frame).collect()
    }

    fn emptied(mut self) -> Self {
        self.plain.clear();
        self.chunks.clear();
        self
    }
}

type Encoded = (std::result::Result<Vec<Frame>, CodecError>, Batch);

/// Turns chunks into frames.
pub(crate) struct Framing {
    compute: Compute,
    compression: Compression,
    encoders: Arc<Mutex<Vec<FrameEncoder>>>,
    open: Batch,
    under_way: VecDeque<Started<Encoded>>,
    spare: Vec<Batch>,
}

impl Framing {
    /// Refuses levels that zstd does not have.
    pub(crate) fn new(compute: Compute, compression: Compression) -> std::result::Result<Self, CodecError> {
        let first = FrameEncoder::new(compression)?;
        Ok(Self {
            compute,
            compression,
            encoders: Arc::new(Mutex::new(vec![first])),
            open: Batch::default(),
            under_way: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Takes a chunk; gives frames of earlier ones that are ready.
    pub(crate) fn add(&mut self, chunk: &Chunk<'_>) -> Result<Vec<Frame>> {
        self.open.add(chunk);
        if self.open.plain.len() < BATCH_BYTES {
            return Ok(Vec::new());
        }
        self.start();
        if self.under_way.len() > self.compute.threads() {
            return self.oldest();
        }
        Ok(Vec::new())
    }

    /// The frames of all that is still under way.
    pub(crate) fn finish(&mut self) -> Result<Vec<Frame>> {
        self.start();
        let mut frames = Vec::new();
        while !self.under_way.is_empty() {
            frames.append(&mut self.oldest()?);
        }
        Ok(frames)
    }

    /// An encoder for what follows.
    pub(crate) fn into_encoder(self) -> Result<FrameEncoder> {
        match lock(&self.encoders).pop() {
            Some(encoder) => Ok(encoder),
            None => FrameEncoder::new(self.compression).map_err(miscoded),
        }
    }

    fn start(&mut self) {
        if self.open.chunks.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.open, next);
        let (encoders, compression) = (Arc::clone(&self.encoders), self.compression);
        self.under_way.push_back(self.compute.start(move || {
            let idle = lock(&encoders).pop();
            let mut encoder = match idle.map_or_else(|| FrameEncoder::new(compression), Ok) {
                Ok(encoder) => encoder,
                Err(error) => return (Err(error), batch),
            };
            let frames = batch.encode(&mut encoder);
            lock(&encoders).push(encoder);
            (frames, batch)
        }));
    }

    fn oldest(&mut self) -> Result<Vec<Frame>> {
        let Some(started) = self.under_way.pop_front() else { return Ok(Vec::new()) };
        let (frames, batch) = started.wait();
        self.spare.push(batch.emptied());
        frames.map_err(miscoded)
    }
}

fn miscoded(error: CodecError) -> OpsError {
    OpsError::corrupt("a chunk just encoded", error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn chunks() -> Vec<Vec<u8>> {
        (0_u32..400).map(|at| at.to_le_bytes().repeat(1 + at as usize * 7 % 5_000)).collect()
    }

    fn frames(compute: Compute) -> Vec<(ChunkId, u32)> {
        let mut framing = Framing::new(compute, Compression::Level(1)).unwrap();
        let mut out = Vec::new();
        for plain in chunks() {
            let id = ChunkId(*blake3::hash(&plain).as_bytes());
            out.extend(framing.add(&Chunk { id, kind: ChunkKind::Data, plain: &plain }).unwrap());
            assert!(framing.under_way.len() <= compute.threads() + 1);
        }
        out.extend(framing.finish().unwrap());
        assert!(framing.finish().unwrap().is_empty(), "nothing twice");
        framing.into_encoder().unwrap();
        out.iter().map(|frame| (frame.id(), frame.entry().coded_bytes)).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn threads_give_what_one_thread_gives_in_the_same_order() {
        let inline = frames(Compute::Inline);
        assert_eq!(inline.len(), 400);
        let ids: Vec<_> = chunks().iter().map(|plain| ChunkId(*blake3::hash(plain).as_bytes())).collect();
        assert_eq!(inline.iter().map(|frame| frame.0).collect::<Vec<_>>(), ids);
        let threads = Compute::Threads.run(|| frames(Compute::Threads)).await;
        assert_eq!(threads, inline);
    }

    #[test]
    fn a_level_that_does_not_exist_is_refused_at_once() {
        assert!(Framing::new(Compute::Inline, Compression::Level(40)).is_err());
    }
}
