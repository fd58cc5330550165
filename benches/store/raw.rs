//! The raw limit: a loop of pwrite and fdatasync.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthouse::vfs::{File, Open};

use crate::Outcome;
use crate::place::disk;

/// Most bytes of a raw file; a longer run goes on in the next file.
const FILE_BYTES: u64 = 256 << 20;

/// What the file was before it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Before {
    /// Empty: each write makes it longer.
    Growing,
    /// Its blocks are allocated and were never written.
    Allocated,
    /// Its blocks were written before.
    Written,
}

impl Before {
    /// All of them.
    pub const ALL: [Before; 3] = [Before::Growing, Before::Allocated, Before::Written];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Before::Growing => "growing",
            Before::Allocated => "allocated",
            Before::Written => "written",
        }
    }
}

fn prepare(path: &Path, before: Before) -> Outcome<Arc<dyn File>> {
    let file = disk().open(path, Open::Create)?;
    match before {
        Before::Growing => file.set_len(0)?,
        Before::Allocated => {
            file.set_len(0)?;
            file.allocate(FILE_BYTES)?;
        }
        Before::Written => {
            // What an earlier call wrote is still written.
            let block = vec![0x5a; 1 << 20];
            for at in (file.len()?..FILE_BYTES).step_by(block.len()) {
                file.write_at(&block, at)?;
            }
        }
    }
    file.sync_all()?;
    Ok(file)
}

/// Syncs a second with `bytes` written before each, in one thread.
pub fn syncs_a_second(
    directory: &Path,
    before: Before,
    bytes: usize,
    seconds: f64,
) -> Outcome<f64> {
    let path = directory.join(format!("raw-{}", before.name()));
    // One sync may be longer than a file.
    let bytes = bytes.clamp(1, usize::try_from(FILE_BYTES)?);
    let buffer = vec![0xa5; bytes];
    let mut measured = Duration::ZERO;
    let mut syncs = 0_u32;
    while measured.as_secs_f64() < seconds {
        let file = prepare(&path, before)?;
        let begun = Instant::now();
        let mut at = 0;
        while at + bytes as u64 <= FILE_BYTES
            && (measured + begun.elapsed()).as_secs_f64() < seconds
        {
            file.write_at(&buffer, at)?;
            file.sync_data()?;
            at += bytes as u64;
            syncs += 1;
        }
        measured += begun.elapsed();
    }
    if before != Before::Written {
        std::fs::remove_file(&path)?;
    }
    Ok(f64::from(syncs) / measured.as_secs_f64())
}
