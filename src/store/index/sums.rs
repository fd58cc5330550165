//! What the blocks of an index's file were when they were last written or read: redb believes what it reads.
//!
//! redb has a checksum for every page, and verifies them when a file is opened, not when it reads. So a bit that
//! changes afterwards, on the disk or on the way, would become a wrong row. Here each block's checksum is kept in memory
//! while the file is open: 8 bytes for 4 KiB of index, nothing on disk.
//!
//! A block is learned when it is written whole, or when it is read for the first time. The opening reads every page
//! in use and has redb verify what was read, so what is learned there can be trusted; pages that come later are
//! written before they are read. A block that is written in part is unknown until it is read again: only the file's
//! header is, which redb reads at the opening and protects itself.

use std::io;

use crate::sync::Mutex;
use crate::vfs::{self, File};

/// Bytes of a block: redb's page, at whose multiples all its pages lie.
const BLOCK: usize = 4096;

/// Checksums of the blocks of one file, by their number.
#[derive(Default)]
pub struct Sums(Mutex<Vec<Option<u32>>>);

impl Sums {
    /// Reads exactly, and verifies the blocks that are read whole. `InvalidData` when one is not what it was, and still
    /// is not when it is read again.
    pub fn read(&self, file: &dyn File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        vfs::read_exact_at(file, out, offset)?;
        if self.agrees(offset, out) {
            return Ok(());
        }
        // What changed on the way may come right the second time.
        vfs::read_exact_at(file, out, offset)?;
        match self.agrees(offset, out) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} bytes at {offset} are not what was written there", out.len()),
            )),
        }
    }

    /// Writes all, and remembers it.
    pub fn write(&self, file: &dyn File, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = file.write_at(data, offset);
        let whole = Blocks::of(offset, data);
        let touched =
            offset / BLOCK as u64..offset.saturating_add(data.len() as u64).div_ceil(BLOCK as u64);
        let sums: Vec<u32> = whole.sums().collect();
        let mut known = self.0.lock();
        for number in touched {
            if let Some(sum) = usize::try_from(number).ok().and_then(|at| known.get_mut(at)) {
                *sum = None;
            }
        }
        if written.is_ok() {
            whole.places().zip(sums).for_each(|(at, sum)| *place(&mut known, at) = Some(sum));
        }
        written
    }

    /// The file's length becomes this: what is cut off is unknown from now on.
    pub fn cut(&self, len: u64) {
        let whole = usize::try_from(len / BLOCK as u64).unwrap_or(usize::MAX);
        self.0.lock().truncate(whole);
    }

    /// Whether blocks are what they were. What is read for the first time is learned, unless another block is wrong.
    fn agrees(&self, offset: u64, bytes: &[u8]) -> bool {
        let whole = Blocks::of(offset, bytes);
        let sums: Vec<u32> = whole.sums().collect();
        let mut known = self.0.lock();
        let differs = |(at, sum): (usize, &u32)| {
            known.get(at).copied().flatten().is_some_and(|known| known != *sum)
        };
        if whole.places().zip(&sums).any(differs) {
            return false;
        }
        whole.places().zip(sums).for_each(|(at, sum)| *place(&mut known, at) = Some(sum));
        true
    }
}

fn place(known: &mut Vec<Option<u32>>, at: usize) -> &mut Option<u32> {
    if known.len() <= at {
        known.resize(at + 1, None);
    }
    &mut known[at]
}

/// The whole blocks within a run of bytes.
struct Blocks<'a> {
    first: usize,
    bytes: &'a [u8],
}

impl<'a> Blocks<'a> {
    fn of(offset: u64, bytes: &'a [u8]) -> Blocks<'a> {
        let first = offset.div_ceil(BLOCK as u64);
        let before = first.saturating_mul(BLOCK as u64).saturating_sub(offset);
        let inside = usize::try_from(before).ok().and_then(|before| bytes.get(before..));
        // Numbers that this machine cannot count do not occur: the bytes were read or written.
        let first = usize::try_from(first).unwrap_or(0);
        Blocks { first, bytes: inside.unwrap_or_default() }
    }

    fn places(&self) -> impl Iterator<Item = usize> + use<> {
        self.first..self.first + self.bytes.len() / BLOCK
    }

    fn sums(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.bytes.chunks_exact(BLOCK).map(crc32c::crc32c)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::vfs::sim::Disk;
    use crate::vfs::{Fs, Open};

    fn file_of(len: usize) -> Arc<dyn File> {
        let fs = Disk::new();
        let file = fs.open(Path::new("/f"), Open::Create).unwrap();
        file.set_len(len as u64).unwrap();
        file
    }

    #[test]
    fn what_changes_behind_the_back_is_refused_and_what_is_written_is_not() {
        let file = file_of(4 * BLOCK);
        let sums = Sums::default();
        let mut out = vec![0; 2 * BLOCK];
        sums.write(&*file, BLOCK as u64, &vec![7; 2 * BLOCK]).unwrap();
        sums.read(&*file, BLOCK as u64, &mut out).unwrap();
        file.write_at(&[8], 2 * BLOCK as u64 + 5).unwrap();
        let error = sums.read(&*file, BLOCK as u64, &mut out).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("8192 bytes at 4096"), "{error}");
        sums.read(&*file, BLOCK as u64, &mut out[..BLOCK]).unwrap();
        // Over the seam of what is known and what is not, and in parts of blocks.
        assert!(sums.read(&*file, 2 * BLOCK as u64, &mut out).is_err());
        sums.write(&*file, 2 * BLOCK as u64 + 5, &[9]).unwrap();
        sums.read(&*file, 2 * BLOCK as u64, &mut out).unwrap();
        assert_eq!(out[5], 9);
        file.write_at(&[8], 2 * BLOCK as u64 + 5).unwrap();
        assert!(sums.read(&*file, 2 * BLOCK as u64, &mut out).is_err(), "learned by reading");
    }

    #[test]
    fn what_is_cut_off_and_comes_back_is_unknown() {
        let file = file_of(2 * BLOCK);
        let sums = Sums::default();
        sums.write(&*file, 0, &vec![7; 2 * BLOCK]).unwrap();
        file.set_len(BLOCK as u64 + 1).unwrap();
        sums.cut(BLOCK as u64 + 1);
        file.set_len(2 * BLOCK as u64).unwrap();
        sums.cut(2 * BLOCK as u64);
        let mut out = vec![0; 2 * BLOCK];
        sums.read(&*file, 0, &mut out).unwrap();
        assert_eq!((out[BLOCK - 1], out[BLOCK], out[BLOCK + 1]), (7, 7, 0));
    }
}
