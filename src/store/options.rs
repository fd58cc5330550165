//! How a store is made and how it is opened.

use super::lane::Preparation;
use super::scrub::ScrubSink;

/// Most ordinary lanes that a new store gets without being asked for more.
const MAX_DEFAULT_LANES: usize = 4;

/// How a store is made. Fixed in FORMAT.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Independent logs; accounts are spread over them. 1 to 16.
    pub lanes: u8,
}

impl Default for CreateOptions {
    /// A lane for two processors of this machine, 1 to 4: a second lane halves the groups, so that each message costs
    /// twice the syncs, and gains only where a processor is left for it (`docs/performance.md`).
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
        let lanes = u8::try_from((processors / 2).clamp(1, MAX_DEFAULT_LANES)).unwrap_or(1);
        CreateOptions { lanes }
    }
}

/// How a store is opened. May differ from one opening to the next.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Bytes of a segment of an ordinary lane.
    pub segment_bytes: u64,
    /// Bytes of a segment of the large lane.
    pub large_segment_bytes: u64,
    /// Bodies above this many bytes go to the large lane in chunks.
    pub large_body_bytes: usize,
    /// Most milliseconds between durable checkpoints of the index while there is work.
    pub checkpoint_millis: u64,
    /// Most log bytes between durable checkpoints of the index.
    pub checkpoint_bytes: u64,
    /// Freed segments that each lane keeps for its next ones, at most.
    pub recycled_segments: u8,
    /// A segment of whose bytes less than this part of a hundred is live is compacted.
    pub compact_below_percent: u8,
    /// Bytes a second that compaction by itself copies at most; 0: it does nothing by itself. While the disk is
    /// nearly full there is no limit.
    pub compact_bytes_per_second: u64,
    /// Bytes a second that scrubbing by itself reads at most; 0: it does nothing by itself.
    pub scrub_bytes_per_second: u64,
    /// Milliseconds from the beginning of one scrub by itself to that of the next at least. The first begins a minute
    /// after the opening.
    pub scrub_millis: u64,
    /// Gets what scrubs find, line by line.
    pub on_scrub: Option<ScrubSink>,
    /// How a segment is prepared that records are going to be written to.
    pub preparation: Preparation,
    /// A lane's index is exported when its log has grown by this many bytes since the last export,
    pub export_bytes: u64,
    /// and by this many times the bytes of the last export.
    pub export_factor: u64,
    /// Least milliseconds between a failure to write and the next try; also between two looks at the disk's
    /// room.
    pub retry_millis: u64,
    /// Messages are refused when less than these hundredths of the file system are free, or
    pub low_space_percent: u64,
    /// less than so many bytes, whichever is less.
    pub low_space_bytes: u64,
    /// Most bytes of the ballast, which is removed when the disk is full; at most 1/64 of the file system. 0: none.
    pub ballast_bytes: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            segment_bytes: 64 << 20,
            large_segment_bytes: 256 << 20,
            large_body_bytes: 256 << 10,
            checkpoint_millis: 1000,
            checkpoint_bytes: 64 << 20,
            recycled_segments: 4,
            compact_below_percent: 50,
            compact_bytes_per_second: 32 << 20,
            scrub_bytes_per_second: 10_000_000,
            scrub_millis: 7 * 24 * 3_600_000,
            on_scrub: None,
            preparation: Preparation::default(),
            export_bytes: 256 << 20,
            export_factor: 16,
            retry_millis: 1000,
            low_space_percent: 5,
            low_space_bytes: 1 << 30,
            ballast_bytes: 64 << 20,
        }
    }
}
