//! Segments: the files of a lane's log.
//!
//! A segment is `seg/<lane>-<number>.phl`, the lane in two and the number in sixteen hexadecimal digits.
//! It starts with a header of 4 KiB; records follow without gaps. It is prepared under a name that
//! ends in `.new`: space allocated, then, when the lane moves to it, its header written and synced,
//! the file renamed and the directory synced. So a segment with its final name always has a whole
//! header, and a header that cannot be read is damage. It stands there twice, 2 KiB each with a checksum of its
//! own, so that one damaged sector does not cost the whole segment.
//!
//! The header tells where the segment before it ends and with which LSN. What stands behind that end
//! is void: a torn group, or one whose write failed. It can never come back, because readers stop at
//! the end that the next header names. A segment that the chain of headers leaves out (because it was
//! opened and nothing was committed to it) is void as a whole.
//!
//! [`Scanner`] reads records in order, and can look for the next valid one behind a damaged place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::encoding::{Malformed, Reader};
use super::record::{ALIGN, HEADER_LEN, Header};
use crate::error::{Error, Kind, Result};
use crate::vfs::{File, Fs, Open};

/// Name of the directory.
pub const DIRECTORY: &str = "seg";
/// Bytes of a segment's header, and offset of its first record.
pub const HEADER_BYTES: u64 = 4096;

/// Bytes of each of the header's two copies.
const COPY_BYTES: usize = HEADER_BYTES as usize / 2;

const MAGIC: &[u8; 8] = b"PHSEGMNT";
/// Bytes that a scan reads at once.
const WINDOW: usize = 1 << 20;

/// The fields of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store's identity.
    pub uuid: [u8; 16],
    /// The lane.
    pub lane: u8,
    /// The segment's number, from 1; never used again.
    pub number: u64,
    /// LSN of its first record.
    pub first_lsn: u64,
    /// The store's epoch when it was made.
    pub epoch: u32,
    /// Random seed of its records' header checksums.
    pub salt: u32,
    /// Number of the segment before it; 0 when there is none.
    pub previous: u64,
    /// Where that one ends: records behind this offset are void.
    pub previous_end: u64,
    /// LSN of the last record of the lane before this segment.
    pub previous_lsn: u64,
    /// Bytes that were allocated.
    pub capacity: u64,
}

impl SegmentHeader {
    /// The 4 KiB at the front of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&super::format::MAJOR.to_le_bytes());
        out.extend_from_slice(&super::format::MINOR.to_le_bytes());
        out.extend_from_slice(&[self.lane, 0, 0, 0]);
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_lsn.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&self.previous_lsn.to_le_bytes());
        out.extend_from_slice(&self.capacity.to_le_bytes());
        // Feature bits: a reader that does not know one that is set must not read the segment.
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.resize(COPY_BYTES - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_within(..);
        out
    }

    /// The header in one of its copies, and what it says that readers must know.
    fn decode(bytes: &[u8]) -> std::result::Result<(SegmentHeader, Demand), Malformed> {
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
        let mut reader = Reader::new(fields);
        if &reader.array::<8>()? != MAGIC || crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return Err(Malformed);
        }
        let (major, minor) = (reader.u16()?, reader.u16()?);
        let [lane, ..] = reader.array::<4>()?;
        let header = SegmentHeader {
            lane,
            uuid: reader.array()?,
            number: reader.u64()?,
            first_lsn: reader.u64()?,
            epoch: reader.u32()?,
            salt: reader.u32()?,
            previous: reader.u64()?,
            previous_end: reader.u64()?,
            previous_lsn: reader.u64()?,
            capacity: reader.u64()?,
        };
        Ok((header, Demand { major, minor, features: reader.u32()? }))
    }

    /// Reads the header of a segment file; `None` when neither copy is valid for this store and this version.
    pub fn read(file: &dyn File, uuid: &[u8; 16]) -> io::Result<Option<SegmentHeader>> {
        Ok(SegmentHeader::copies(file, uuid)?.into_iter().flatten().next())
    }

    /// Both copies of the header, each `None` when it is not valid for this store and this version.
    pub fn copies(file: &dyn File, uuid: &[u8; 16]) -> io::Result<[Option<SegmentHeader>; 2]> {
        let copies = SegmentHeader::both(file, uuid)?;
        Ok(copies.map(|copy| copy.and_then(|(header, demand)| demand.is_met().then_some(header))))
    }

    /// What a segment of this store asks of its readers when this version cannot read it: a whole header of a later
    /// one. `None` for what can be read, and for what is damaged.
    pub fn later(file: &dyn File, uuid: &[u8; 16]) -> io::Result<Option<Demand>> {
        let copies = SegmentHeader::both(file, uuid)?;
        let mut demands = copies.into_iter().flatten().map(|(_, demand)| demand);
        Ok(demands.next().filter(|demand| !demand.is_met()))
    }

    fn both(file: &dyn File, uuid: &[u8; 16]) -> io::Result<[Option<(SegmentHeader, Demand)>; 2]> {
        let mut bytes = vec![0; HEADER_BYTES as usize];
        match crate::vfs::read_exact_at(file, &mut bytes, 0) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok([None; 2]),
            Err(e) => return Err(e),
        }
        let (first, second) = bytes.split_at(COPY_BYTES);
        Ok([first, second].map(|copy| {
            SegmentHeader::decode(copy).ok().filter(|(header, _)| &header.uuid == uuid)
        }))
    }
}

/// What a segment asks of its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Major version of the writer.
    pub major: u16,
    /// Minor version of the writer.
    pub minor: u16,
    /// Features that a reader must know.
    pub features: u32,
}

impl Demand {
    /// Whether this version can read it: no feature is known yet.
    fn is_met(self) -> bool {
        self.major <= super::format::MAJOR && self.features == 0
    }

    /// The refusal of what asks for more.
    pub fn refuse(self, path: &Path) -> Error {
        super::format::newer(path, (self.major, self.minor), &[self.features])
    }
}

/// The path of a segment.
pub fn path(dir: &Path, lane: u8, number: u64) -> PathBuf {
    dir.join(DIRECTORY).join(format!("{lane:02x}-{number:016x}.phl"))
}

/// The path of a segment in preparation.
pub fn new_path(dir: &Path, lane: u8, number: u64) -> PathBuf {
    dir.join(DIRECTORY).join(format!("{lane:02x}-{number:016x}.new"))
}

/// Lane and number in a file name that ends in this suffix.
pub fn parse_name(name: &str, suffix: &str) -> Option<(u8, u64)> {
    let stem = name.strip_suffix(suffix)?;
    let (lane, number) = stem.split_once('-')?;
    let hexadecimal = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if lane.len() != 2 || number.len() != 16 || !hexadecimal(lane) || !hexadecimal(number) {
        return None;
    }
    Some((u8::from_str_radix(lane, 16).ok()?, u64::from_str_radix(number, 16).ok()?))
}

/// An open segment.
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Its salt.
    pub salt: u32,
    /// The file.
    pub file: Arc<dyn File>,
    /// Its path, for messages.
    pub path: PathBuf,
}

impl Segment {
    /// Opens a segment for reading.
    pub fn open(
        fs: &dyn Fs,
        dir: &Path,
        uuid: &[u8; 16],
        lane: u8,
        number: u64,
    ) -> Result<Segment> {
        let path = path(dir, lane, number);
        let file = fs.open(&path, Open::Read).map_err(|e| Error::io("open", &path, &e))?;
        let header = SegmentHeader::read(file.as_ref(), uuid)
            .map_err(|e| Error::io("read", &path, &e))?
            .filter(|header| header.lane == lane && header.number == number)
            .ok_or_else(|| {
                Error::new(Kind::Corrupt, format!("{}: the header is damaged", path.display()))
            })?;
        Ok(Segment { number, salt: header.salt, file, path })
    }

    /// The error for a damaged place.
    pub fn damaged(&self, offset: u64, why: &str) -> Error {
        Error::new(Kind::Corrupt, format!("{} at offset {offset}: {why}", self.path.display()))
    }

    /// Reads a whole record that must be at `offset` and checks both checksums. The buffer holds header
    /// and body afterwards. `len` is the record's length as the index knows it.
    pub fn read_record(&self, offset: u64, len: u64, buffer: &mut Vec<u8>) -> Result<Header> {
        let len = usize::try_from(len)
            .ok()
            .filter(|len| {
                *len >= HEADER_LEN
                    && *len as u64 <= super::record::record_len(super::record::MAX_BODY as usize)
            })
            .ok_or_else(|| self.damaged(offset, "the index gives an impossible length"))?;
        buffer.clear();
        buffer.resize(len, 0);
        crate::vfs::read_exact_at(self.file.as_ref(), buffer, offset).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                self.damaged(offset, "the file ends within a record")
            } else {
                Error::io("read", &self.path, &e)
            }
        })?;
        let header = buffer
            .first_chunk::<HEADER_LEN>()
            .and_then(|bytes| Header::decode(bytes, self.salt))
            .ok_or_else(|| self.damaged(offset, "the record's header fails its checksum"))?;
        let body = buffer
            .get(HEADER_LEN..HEADER_LEN.saturating_add(header.body_len as usize))
            .ok_or_else(|| self.damaged(offset, "the record is longer than the index says"))?;
        if crc32c::crc32c(body) != header.body_crc {
            return Err(self.damaged(offset, "the record's body fails its checksum"));
        }
        Ok(header)
    }
}

/// What stands at an offset of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record whose checksums fit.
    Record(Header),
    /// Nothing: zeros, or the end.
    Blank,
    /// Something whose checksums do not fit.
    Bad(&'static str),
}

/// Reads the records of a segment one after another.
pub struct Scanner<'a> {
    file: &'a dyn File,
    salt: u32,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    /// A scanner that reads up to `end` at most.
    pub fn new(file: &'a dyn File, salt: u32, end: u64) -> io::Result<Scanner<'a>> {
        let end = end.min(file.len()?);
        Ok(Scanner { file, salt, end, window: Vec::new(), window_at: 0 })
    }

    /// Where reading stops.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Up to `len` bytes at an offset; fewer at the end.
    pub fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX));
        let inside = at >= self.window_at
            && at.saturating_add(len as u64)
                <= self.window_at.saturating_add(self.window.len() as u64);
        if !inside {
            let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
            self.window.resize(len.max(WINDOW).min(rest), 0);
            self.window_at = at;
            if let Err(e) = crate::vfs::read_exact_at(self.file, &mut self.window, at) {
                self.window.clear();
                return Err(e);
            }
        }
        let from = usize::try_from(at.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        Ok(self.window.get(from..from.saturating_add(len)).unwrap_or_default())
    }

    /// What stands at an offset, both checksums verified. What does not fit is read once more: a bit that changed on
    /// its way from the disk must not pass for a torn group.
    pub fn record(&mut self, at: u64) -> io::Result<Found> {
        match self.held_record(at)? {
            Found::Bad(_) => {
                self.window.clear();
                self.held_record(at)
            }
            found => Ok(found),
        }
    }

    fn held_record(&mut self, at: u64) -> io::Result<Found> {
        let salt = self.salt;
        let Some(bytes) = self.bytes(at, HEADER_LEN)?.first_chunk::<HEADER_LEN>() else {
            return Ok(Found::Blank);
        };
        let Some(header) = Header::decode(bytes, salt) else {
            let blank = bytes.iter().all(|b| *b == 0);
            return Ok(if blank {
                Found::Blank
            } else {
                Found::Bad("the header fails its checksum")
            });
        };
        let crc = crc32c::crc32c(self.body(at, &header)?);
        Ok(
            if crc == header.body_crc
                && at.saturating_add(header.record_len()) <= self.end.next_multiple_of(ALIGN)
            {
                Found::Record(header)
            } else {
                Found::Bad("the body fails its checksum")
            },
        )
    }

    /// Header and body of a record that was found at an offset, verified where they are given out: what is written again
    /// must not be what was read wrong. `None` when they do not fit, twice.
    pub fn whole(&mut self, at: u64, found: &Header) -> io::Result<Option<&[u8]>> {
        let len = HEADER_LEN.saturating_add(found.body_len as usize);
        for again in [false, true] {
            if again {
                self.window.clear();
            }
            let salt = self.salt;
            let bytes = self.bytes(at, len)?;
            let header = bytes.first_chunk().and_then(|bytes| Header::decode(bytes, salt));
            let body = bytes.get(HEADER_LEN..).unwrap_or_default();
            let fits = header.as_ref() == Some(found)
                && body.len() == found.body_len as usize
                && crc32c::crc32c(body) == found.body_crc;
            if fits {
                // Borrowed anew: nothing is read between.
                return self.bytes(at, len).map(Some);
            }
        }
        Ok(None)
    }

    /// The body of a record that was found at an offset.
    pub fn body(&mut self, at: u64, header: &Header) -> io::Result<&[u8]> {
        self.bytes(at.saturating_add(HEADER_LEN as u64), header.body_len as usize)
    }

    /// The next offset from `from` on at which a valid record with an LSN of at least `lsn` stands.
    pub fn search(&mut self, from: u64, lsn: u64) -> io::Result<Option<(u64, Header)>> {
        let mut at = from.next_multiple_of(ALIGN);
        while at.saturating_add(HEADER_LEN as u64) <= self.end {
            let salt = self.salt;
            let end = self.end;
            // One pass over what the window holds, with a look at each aligned place.
            // What the window still holds comes first: it is not read again for each record in it.
            let held = match at.checked_sub(self.window_at) {
                Some(from) => (self.window.len() as u64).saturating_sub(from),
                None => 0,
            };
            let len = if held >= HEADER_LEN as u64 { held } else { WINDOW as u64 };
            let len = usize::try_from(len.min(end.saturating_sub(at))).unwrap_or(WINDOW);
            let window = self.bytes(at, len)?;
            let mut candidate = None;
            let mut steps = 0_u64;
            for place in window.windows(HEADER_LEN).step_by(ALIGN as usize) {
                // The checksum is computed only where the other fields could be those of a record.
                if let Some(bytes) = place.first_chunk::<HEADER_LEN>()
                    && Header::is_possible(bytes, lsn)
                    && let Some(header) = Header::decode(bytes, salt)
                    && header.lsn >= lsn
                {
                    candidate = Some(header);
                    break;
                }
                steps += 1;
            }
            at = at.saturating_add(steps.saturating_mul(ALIGN));
            if let Some(header) = candidate {
                if let Found::Record(_) = self.record(at)? {
                    return Ok(Some((at, header)));
                }
                at = at.saturating_add(ALIGN);
            } else if steps == 0 {
                break;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_no_flipped_byte_passes() {
        let header = SegmentHeader {
            uuid: [3; 16],
            lane: 2,
            number: 17,
            first_lsn: 1000,
            epoch: 5,
            salt: 0xdead_beef,
            previous: 16,
            previous_end: 8192,
            previous_lsn: 999,
            capacity: 64 << 20,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len() as u64, HEADER_BYTES);
        let fs = crate::vfs::sim::Disk::new();
        let file = fs.open(Path::new("segment"), Open::Create).unwrap();
        file.write_at(&bytes, 0).unwrap();
        let copies = || SegmentHeader::copies(file.as_ref(), &header.uuid).unwrap();
        assert_eq!(copies(), [Some(header); 2]);
        assert_eq!(SegmentHeader::read(file.as_ref(), &[4; 16]).unwrap(), None);
        for at in 0..bytes.len() {
            file.write_at(&[bytes[at] ^ 0x40], at as u64).unwrap();
            let expected = if at < 2048 { [None, Some(header)] } else { [Some(header), None] };
            assert_eq!(copies(), expected, "byte {at}");
            assert_eq!(SegmentHeader::read(file.as_ref(), &header.uuid).unwrap(), Some(header));
            let other = (at + 2048) % 4096;
            file.write_at(&[bytes[other] ^ 0x01], other as u64).unwrap();
            assert_eq!(SegmentHeader::read(file.as_ref(), &header.uuid).unwrap(), None);
            file.write_at(&bytes, 0).unwrap();
        }
    }

    #[test]
    fn searching_for_many_records_reads_each_byte_about_once() {
        use crate::vfs::sim::{Disk, Operation};
        use std::sync::atomic::{AtomicU32, Ordering};
        let fs = Disk::new();
        let file = fs.open(Path::new("segment"), Open::Create).unwrap();
        let count = 100_000_u64;
        let mut bytes = Vec::new();
        for lsn in 1..=count {
            let (body_len, body_crc) = (0, 0);
            let (kind, version, flags, durable_delta) = (14, 1, 1, 1);
            let header = Header { body_len, kind, version, flags, body_crc, lsn, durable_delta };
            bytes.extend_from_slice(&header.encode(9));
        }
        file.write_at(&bytes, 0).unwrap();
        let reads = Arc::new(AtomicU32::new(0));
        let counted = reads.clone();
        fs.on_operation(move |operation, _| {
            counted.fetch_add(u32::from(operation == Operation::Read), Ordering::Relaxed);
            Ok(())
        });
        let mut scanner = Scanner::new(file.as_ref(), 9, u64::MAX).unwrap();
        let (mut at, mut found) = (0, 0);
        while let Some((place, header)) = scanner.search(at, 1).unwrap() {
            at = place + header.record_len();
            found += 1;
        }
        assert_eq!(found, count);
        assert!(reads.load(Ordering::Relaxed) < 20, "{reads:?}");
    }

    #[test]
    fn names_are_parsed_strictly() {
        assert_eq!(parse_name("0a-000000000000001f.phl", ".phl"), Some((10, 31)));
        for name in ["0a-1f.phl", "a-000000000000001f.phl", "0A-000000000000001f.phl", "x.phl"] {
            assert_eq!(parse_name(name, ".phl"), None, "{name}");
        }
    }
}
