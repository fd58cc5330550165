//! A-labels (RFC 5890): the Unicode behind a domain's label that begins with `xn--` (RFC 3492).
//!
//! Decoding only, which is what comparing needs. Labels have at most 63 octets, so the insertions cost nothing that
//! counts. Whether a label is a good IDNA2008 label is not asked: two names are compared, none is made.

/// Digits of the variable-length numbers.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const FIRST_BIAS: u32 = 72;
const FIRST_POINT: u32 = 128;
/// Longest label in octets.
const LABEL_OCTETS: usize = 63;

/// The characters behind an A-label, without its `xn--`. `None`: it is none.
pub(super) fn decode(label: &str) -> Option<String> {
    if label.len() > LABEL_OCTETS || !label.is_ascii() {
        return None;
    }
    let (plain, coded) = label.rsplit_once('-').unwrap_or(("", label));
    let mut characters: Vec<char> = plain.chars().collect();
    let (mut point, mut bias, mut index) = (FIRST_POINT, FIRST_BIAS, 0u32);
    let mut digits = coded.bytes().peekable();
    digits.peek()?;
    while digits.peek().is_some() {
        let before = index;
        let (mut weight, mut k) = (1u32, BASE);
        loop {
            let digit = match digits.next()? {
                b @ b'a'..=b'z' => u32::from(b - b'a'),
                b @ b'A'..=b'Z' => u32::from(b - b'A'),
                b @ b'0'..=b'9' => u32::from(b - b'0') + 26,
                _ => return None,
            };
            index = index.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k = k.checked_add(BASE)?;
        }
        let count = u32::try_from(characters.len()).ok()? + 1;
        bias = adapt(index - before, count, before == 0);
        point = point.checked_add(index / count)?;
        index %= count;
        characters.insert(usize::try_from(index).ok()?, char::from_u32(point)?);
        index += 1;
    }
    Some(characters.into_iter().collect())
}

fn adapt(delta: u32, count: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / count;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_labels_decode() {
        for (label, text) in [
            ("bcher-kva", "bücher"),
            ("mnchen-3ya", "münchen"),
            ("e1afmkfd", "пример"),
            ("fsqu00a", "例子"),
            ("4ca", "ä"),
            ("MNCHEN-3YA", "MüNCHEN"),
        ] {
            assert_eq!(decode(label).as_deref(), Some(text), "{label}");
        }
    }

    #[test]
    fn what_is_no_label_is_none_and_nothing_overflows() {
        for label in ["", "a-", "-", "99999999", "zzzzzzzzzzzzzzzzzzzz", "ü", "a_b", "0"] {
            assert_eq!(decode(label), None, "{label}");
        }
        assert_eq!(decode(&"a".repeat(64)), None);
        for n in 1..64 {
            for digit in ["9", "z", "a", "0"] {
                let _ = decode(&digit.repeat(n));
            }
        }
    }
}
