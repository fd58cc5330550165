//! The messages: ids that no other message has, every other octet from the size.

/// Octets of an id: `RRRRRRRR-WWWW-SSSSSSSS`, run, worker, sequence.
pub const ID_LENGTH: usize = 22;
/// Octets of a full body line, CR LF included.
const LINE_LENGTH: usize = 64;
/// What stands behind the id and the line number in a body line.
const FILL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// The text of a message; the id is put in for each one.
pub struct Template {
    octets: Vec<u8>,
    /// Where the id stands.
    places: Vec<usize>,
}

impl Template {
    /// The text of messages of this size, in octets.
    pub fn new(size: usize) -> Result<Template, String> {
        let blank = [b'0'; ID_LENGTH];
        let mut octets = b"From: <load@sender.example>\r\nSubject: load\r\nX-Load-Id: ".to_vec();
        let mut places = vec![octets.len()];
        octets.extend_from_slice(&blank);
        octets.extend_from_slice(format!("\r\nX-Load-Size: {size:08}\r\n\r\n").as_bytes());
        let Some(mut left) = size.checked_sub(octets.len()).filter(|left| *left >= 2) else {
            return Err(format!("--size {size} is too small: at least {}", octets.len() + 2));
        };
        let mut number = 0u32;
        // The last line takes what is left over, between 2 and 65 octets, and has no id.
        while left >= LINE_LENGTH + 2 {
            places.push(octets.len());
            octets.extend_from_slice(&blank);
            octets.extend_from_slice(format!(" {number:06} ").as_bytes());
            let fill = LINE_LENGTH - ID_LENGTH - 8 - 2;
            octets.extend_from_slice(FILL.get(..fill).unwrap_or(FILL));
            octets.extend_from_slice(b"\r\n");
            left -= LINE_LENGTH;
            number += 1;
        }
        octets.resize(octets.len() + left - 2, b'x');
        octets.extend_from_slice(b"\r\n");
        Ok(Template { octets, places })
    }

    /// Appends the message with this id.
    pub fn write(&self, id: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        for place in &self.places {
            out[start + place..start + place + ID_LENGTH].copy_from_slice(id);
        }
    }
}
