//! PROXY headers: what is read of a prefix never changes when more comes, and headers are bounded.

use posthouse::codec::proxy::{V1_BYTES, V2_BYTES, parse};

pub fn run(data: &[u8]) {
    let whole = parse(data);
    for cut in 0..data.len().min(V2_BYTES + 16) {
        let part = parse(data.get(..cut).unwrap_or_default());
        // Once decided, decided.
        assert!(matches!(part, Ok(None)) || part == whole, "{cut}: {part:?} {whole:?}");
    }
    match whole {
        Ok(Some((used, _))) => {
            let most = if data.first() == Some(&b'P') { V1_BYTES } else { V2_BYTES };
            assert!(used <= most && used <= data.len());
        }
        Ok(None) => assert!(data.len() < V2_BYTES),
        Err(_) => {}
    }
}
