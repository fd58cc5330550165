//! FORMAT: what kind of store a directory holds, in 64 bytes with a checksum.
//!
//! Written last when a store is made, and replaced as a whole (a new file, synced, renamed over the
//! old one, the directory synced) at each opening, which raises the epoch. Reading it changes
//! nothing. Rules for versions: a reader accepts a store whose `min_reader` is not above its own major
//! version and whose incompat and ro_compat bits it knows all of; the first 64 bytes and their checksum
//! keep their places in every version, so that an old reader can name the version that it refuses.

use std::path::Path;

use super::encoding::{Malformed, Reader};
use crate::error::{Error, Kind, Result};
use crate::vfs::{self, Fs};

/// Name of the file.
pub const FILE: &str = "FORMAT";
/// Version that this code writes.
pub const MAJOR: u16 = 1;
/// Minor version that this code writes.
pub const MINOR: u16 = 1;

const MAGIC: &[u8; 8] = b"PHFORMAT";
const LEN: usize = 64;
/// A FORMAT of a later version may be longer, but not beyond reason.
const LEN_LIMIT: u64 = 4096;
/// Incompat feature since 1.1: recipients of the queue may be deferred or failed.
pub const OUTCOMES: u32 = 1;
/// Features that this code knows, one bit each.
const KNOWN_RO_COMPAT: u32 = 0;
const KNOWN_INCOMPAT: u32 = OUTCOMES;

/// The content of FORMAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Major version of the writer.
    pub major: u16,
    /// Minor version of the writer.
    pub minor: u16,
    /// The lowest major version that can read the store.
    pub min_reader: u16,
    /// Ordinary lanes.
    pub lanes: u8,
    /// Features that a reader may ignore.
    pub compat: u32,
    /// Features that a reader may ignore, a writer not.
    pub ro_compat: u32,
    /// Features that nobody may ignore.
    pub incompat: u32,
    /// Identity of the store.
    pub uuid: [u8; 16],
    /// Number of openings for writing so far.
    pub epoch: u32,
}

impl Format {
    /// The format of a new store.
    pub fn new(lanes: u8, uuid: [u8; 16]) -> Format {
        Format {
            major: MAJOR,
            minor: MINOR,
            min_reader: MAJOR,
            lanes,
            compat: 0,
            ro_compat: 0,
            incompat: OUTCOMES,
            uuid,
            epoch: 0,
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = Vec::with_capacity(LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.major.to_le_bytes());
        out.extend_from_slice(&self.minor.to_le_bytes());
        out.extend_from_slice(&self.min_reader.to_le_bytes());
        out.extend_from_slice(&[self.lanes, 0]);
        out.extend_from_slice(&self.compat.to_le_bytes());
        out.extend_from_slice(&self.ro_compat.to_le_bytes());
        out.extend_from_slice(&self.incompat.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.uuid);
        out.resize(LEN - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&out);
        bytes
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Format, Malformed> {
        let head = bytes.first_chunk::<LEN>().ok_or(Malformed)?;
        let (fields, crc) = head.split_last_chunk::<4>().ok_or(Malformed)?;
        let mut reader = Reader::new(fields);
        if &reader.array::<8>()? != MAGIC || crc32c::crc32c(fields) != u32::from_le_bytes(*crc) {
            return Err(Malformed);
        }
        let (major, minor, min_reader) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let lanes = reader.byte()?;
        reader.byte()?;
        Ok(Format {
            major,
            minor,
            min_reader,
            lanes,
            compat: reader.u32()?,
            ro_compat: reader.u32()?,
            incompat: reader.u32()?,
            epoch: reader.u32()?,
            uuid: reader.array()?,
        })
    }

    /// Reads and judges the FORMAT of a directory. Changes nothing.
    ///
    /// # Errors
    /// `NotAnInstance` without the file, `Corrupt`, `FormatNewer`, or what the system reports.
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Format> {
        let path = dir.join(FILE);
        let bytes = match vfs::read_small(fs, &path, LEN_LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("no instance in {}: it has no FORMAT file", dir.display());
                return Err(Error::new(Kind::NotAnInstance, text));
            }
            Err(e) if e.kind() == std::io::ErrorKind::FileTooLarge => {
                return Err(damaged(&path, "it is too long"));
            }
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        let format =
            Format::decode(&bytes).map_err(|_| damaged(&path, "its checksum does not fit"))?;
        if format.min_reader > MAJOR
            || format.incompat & !KNOWN_INCOMPAT != 0
            || format.ro_compat & !KNOWN_RO_COMPAT != 0
        {
            let features = [format.incompat, format.ro_compat];
            return Err(newer(&path, (format.major, format.minor), &features));
        }
        if !(1..=super::MAX_LANES).contains(&format.lanes) {
            return Err(damaged(&path, "its number of lanes is not possible"));
        }
        Ok(format)
    }

    /// Replaces the FORMAT of a directory; durable on return.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        vfs::replace(fs, &path, &self.encode()).map_err(|e| Error::io("replace", &path, &e))
    }
}

/// The refusal of a file of a later version, or with features that are not known.
pub(super) fn newer(path: &Path, (major, minor): (u16, u16), features: &[u32]) -> Error {
    let features: Vec<String> = features.iter().map(|bits| format!("{bits:#x}")).collect();
    let (path, features) = (path.display(), features.join(", "));
    let text = format!(
        "{path} has format {major}.{minor} (features {features}), this version reads up to {MAJOR}.{MINOR}"
    );
    Error::new(Kind::FormatNewer, text)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(
        Kind::Corrupt,
        format!("{} is damaged: {why}; restore it from a backup", path.display()),
    )
}
