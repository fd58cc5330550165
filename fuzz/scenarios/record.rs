//! Bodies of records: whatever the octets, what decodes encodes to what decodes to the same. The first octet is the type.

use posthouse::store::record::{FLAG_MUST_UNDERSTAND, Header, Record};

fn header(kind: u8, len: usize) -> Header {
    Header {
        body_len: len as u32,
        kind,
        version: 1,
        flags: FLAG_MUST_UNDERSTAND,
        body_crc: 0,
        lsn: 1,
        durable_delta: 1,
    }
}

pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let Ok(record) = Record::decode(&header(*kind, body.len()), body) else { return };
    assert_eq!(record.kind(), *kind);
    // The octets of a message or a chunk are not part of the record.
    let front = match &record {
        Record::Message(meta) if meta.chunks.is_empty() => meta.size as usize,
        _ => 0,
    };
    let mut again = body[..front].to_vec();
    record.encode(&mut again);
    if let Record::Chunk(_) = record {
        again.extend_from_slice(&body[again.len()..]);
    }
    let back = Record::decode(&header(*kind, again.len()), &again);
    assert_eq!(back.as_ref(), Ok(&record));
}
