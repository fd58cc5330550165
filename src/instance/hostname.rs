//! Names of hosts and mail domains as set-up and configuration accept them.
//!
//! The rules are those of RFC 1123 2.1 and RFC 1035 2.3.1: labels of letters, digits and hyphens, 1 to 63
//! octets, no hyphen at either end, 253 octets in all. A fully qualified name has at least two labels and
//! a last one that is not all digits, so that no IPv4 address passes for a name. Names in other scripts
//! are given in their ASCII form (`xn--`, RFC 5890 2.3.2.1): nothing is converted silently.

/// What is wrong with a fully qualified host name; `None`: nothing.
pub fn flaw_of_host(name: &str) -> Option<String> {
    flaw(name).or_else(|| {
        if !name.contains('.') {
            return Some("is not fully qualified: it has no dot".to_owned());
        }
        None
    })
}

/// What is wrong with a mail domain; `None`: nothing. A single label is allowed (private networks).
pub fn flaw_of_domain(name: &str) -> Option<String> {
    flaw(name)
}

fn flaw(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > 253 {
        return Some(format!("is {} octets long, the limit is 253", name.len()));
    }
    if !name.is_ascii() {
        return Some("has characters beyond ASCII; give it in its ASCII form (xn--...)".to_owned());
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Some("has an empty label: a dot at an end, or two in a row".to_owned());
        }
        if label.len() > 63 {
            return Some(format!("has a label of {} octets, the limit is 63", label.len()));
        }
        if let Some(bad) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Some(format!("has the character {bad:?}"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Some(format!("has a hyphen at an end of the label {label:?}"));
        }
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Some("ends in a label of digits only, as addresses do".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["mail.example.test", "a.b", "xn--bcher-kva.example", "1.2.example", "A-b.C"] {
            assert_eq!(flaw_of_host(name), None, "{name}");
        }
        assert_eq!(flaw_of_domain("lan"), None);
        assert_eq!(flaw_of_host(&format!("{}.test", "a".repeat(63))), None);
    }

    #[test]
    fn bad_names_are_told_what_is_wrong() {
        let long_label = format!("{}.test", "a".repeat(64));
        let long_name = format!("{}test", "a23456789.".repeat(25));
        assert!(long_name.len() > 253);
        for (name, flaw) in [
            ("", "empty"),
            ("mail", "no dot"),
            ("mail.example.test.", "empty label"),
            (".test", "empty label"),
            ("a..b", "empty label"),
            ("mail_1.example.test", "'_'"),
            ("mail.-x.test", "hyphen"),
            ("192.0.2.1", "digits"),
            ("b\u{fc}cher.example", "ASCII"),
            ("a b.test", "' '"),
            ("a\r\n.test", "'\\r'"),
            (long_label.as_str(), "64"),
            (long_name.as_str(), "limit is 253"),
        ] {
            let found = flaw_of_host(name).unwrap_or_default();
            assert!(found.contains(flaw), "{name:?}: {found}");
        }
    }
}
