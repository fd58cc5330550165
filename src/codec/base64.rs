//! Base64 as SASL exchanges carry it (RFC 4648 4, RFC 4954 4): the standard alphabet, padding needed, nothing else
//! in between, no stray bits. What decodes is a secret as often as not, so it lives in memory that is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The octets behind `text`; `None` when it is not Base64. Memory is bounded by the text's own length.
pub fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all before decoding starts: growing would leave unwiped copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    STANDARD.decode_vec(text, &mut octets).ok()?;
    Some(octets)
}

/// Appends `octets` as Base64.
pub fn encode(octets: &[u8], text: &mut String) {
    STANDARD.encode_string(octets, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        let mut text = String::new();
        encode(b"Username:", &mut text);
        assert_eq!(text, "VXNlcm5hbWU6");
        assert_eq!(decode(text.as_bytes()).expect("decodes").as_slice(), b"Username:");
        assert_eq!(decode(b"").expect("decodes").as_slice(), b"");
    }

    #[test]
    fn padding_alphabet_and_stray_bits_are_checked() {
        for text in ["QQ", "QQ=", "Q===", "QR==", "Q Q=", "QQ==\r", "Qé==", "Q_==", "="] {
            assert!(decode(text.as_bytes()).is_none(), "{text}");
        }
    }
}
