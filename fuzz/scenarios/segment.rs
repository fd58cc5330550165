//! A segment's reader over any octets: it ends, never panics, gives out only what its checksums cover, and looks at each octet
//! about once.

use std::path::Path;

use posthouse::store::record::{Header, Record};
use posthouse::store::segment::{Found, HEADER_BYTES, Scanner, SegmentHeader};
use posthouse::vfs::sim::Disk;
use posthouse::vfs::{Fs, Open};

/// Where there is no header.
const SALT: u32 = 0x5eed;

pub fn run(data: &[u8]) {
    let disk = Disk::new();
    let Ok(file) = disk.open(Path::new("segment"), Open::Create) else { return };
    file.write_at(data, 0).expect("memory");
    let uuid: [u8; 16] =
        data.get(16..32).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let header = SegmentHeader::read(file.as_ref(), &uuid).expect("memory");
    assert!(header.is_none_or(|h| h.uuid == uuid && data.len() as u64 >= HEADER_BYTES));
    let salt = header.map_or(SALT, |h| h.salt);
    let mut scanner = Scanner::new(file.as_ref(), salt, u64::MAX).expect("memory");
    // In order, as recovery reads.
    let mut at = 0;
    while let Found::Record(header) = scanner.record(at).expect("memory") {
        valid(data, at, &header, salt);
        let body = scanner.body(at, &header).expect("memory");
        assert_eq!(body.len(), header.body_len as usize);
        let _ = Record::decode(&header, body);
        assert!(header.record_len() >= 32);
        at += header.record_len();
    }
    // And whatever stands anywhere.
    let (mut at, mut found) = (0, 0);
    while let Some((place, header)) = scanner.search(at, 0).expect("memory") {
        assert!(place >= at && place % 8 == 0);
        valid(data, place, &header, salt);
        at = place + 8;
        found += 1;
        assert!(found <= data.len() / 8);
    }
}

fn valid(data: &[u8], at: u64, header: &Header, salt: u32) {
    let at = at as usize;
    let lies = data[at..].first_chunk().and_then(|bytes| Header::decode(bytes, salt));
    assert_eq!(lies.as_ref(), Some(header), "a header that is given out is there");
    assert!(at + 32 + header.body_len as usize <= data.len());
}
