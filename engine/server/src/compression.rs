//! Compressing publications: once each, on the thread that publishes, for all members of all shards.
//!
//! Never on a shard's thread unless a hook publishes there, and never with a lock: compressors wait in a queue, and
//! who finds it empty makes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use shardcast_shard::MountId;
use shardcast_wire::deflate::Compressor;

/// Compressors kept for the next publication, about 300 KiB each: as many as threads usually publish at once.
const COMPRESSORS_MAX: usize = 4;
/// The longest frame that is compressed, bytes: about 10 ms, for which those behind it wait.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// What became of publications that somebody could have got compressed.
#[derive(Debug, Default)]
pub struct CompressionCounters {
    /// Messages compressed.
    pub compressed: AtomicU64,
    /// Messages that would not have got smaller.
    pub incompressible: AtomicU64,
    /// Bytes of the frames of those compressed, before.
    pub input_bytes: AtomicU64,
    /// And after.
    pub output_bytes: AtomicU64,
}

/// The compression of a process.
#[derive(Debug)]
pub struct Compression {
    /// By mount: the shortest frame that is compressed, bytes; `None` where nothing is.
    frame_bytes_min: Vec<Option<usize>>,
    idle: (Sender<Compressor>, Receiver<Compressor>),
    counters: CompressionCounters,
}

impl Compression {
    /// Compresses on the mounts that have a least length, in bytes.
    pub fn new(frame_bytes_min: Vec<Option<usize>>) -> Self {
        Self { frame_bytes_min, idle: bounded(COMPRESSORS_MAX), counters: CompressionCounters::default() }
    }

    /// What it has done so far.
    pub fn counters(&self) -> &CompressionCounters {
        &self.counters
    }

    /// The compressed form of a frame; `None` when the mount does not compress it, or it would not get smaller.
    pub fn compress(&self, mount: MountId, frame: &[u8]) -> Option<Arc<Bytes>> {
        let least = self.frame_bytes_min.get(usize::from(mount.0)).copied().flatten()?;
        if frame.len() < least || frame.len() > FRAME_BYTES_MAX {
            return None;
        }
        let (give_back, idle) = &self.idle;
        let mut compressor = idle.try_recv().unwrap_or_default();
        let compressed = compressor.compress(frame);
        // One too many is let go.
        drop(give_back.try_send(compressor));
        let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Ordering::Relaxed);
        match compressed {
            Some(compressed) => {
                add(&self.counters.compressed, 1);
                add(&self.counters.input_bytes, frame.len());
                add(&self.counters.output_bytes, compressed.len());
                Some(Arc::new(Bytes::from(compressed)))
            }
            None => {
                add(&self.counters.incompressible, 1);
                None
            }
        }
    }
}

impl Default for Compression {
    /// Compresses nothing.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_wire::frame::{self, OpCode};

    #[test]
    fn only_what_is_long_enough_and_gets_smaller_is_compressed() {
        let compression = Compression::new(vec![None, Some(256)]);
        let same = |len: usize| frame::text(&"x".repeat(len));
        let compress = |mount, frame: &[u8]| compression.compress(MountId(mount), frame).is_some();
        assert!(!compress(0, &same(1_000)), "a mount without compression");
        assert!(!compress(9, &same(1_000)), "no such mount");
        assert!(!compress(1, &same(200)), "short");
        assert!(!compress(1, &same(FRAME_BYTES_MAX)), "long");
        let counts = |of: &CompressionCounters| {
            [&of.compressed, &of.incompressible, &of.input_bytes].map(|c| c.load(Ordering::Relaxed))
        };
        assert_eq!(counts(compression.counters()), [0, 0, 0]);
        assert!(compress(1, &same(1_000)));
        assert_eq!(counts(compression.counters()), [1, 0, 1_004]);
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let noise: Vec<u8> = noise.take(300).collect();
        assert!(!compress(1, &frame::encode(OpCode::Binary, &noise)));
        assert_eq!(counts(compression.counters()), [1, 1, 1_004]);
        assert!(compression.counters().output_bytes.load(Ordering::Relaxed) < 50);
    }
}
