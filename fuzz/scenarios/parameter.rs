//! Parameters of MAIL and RCPT: whatever the octets, what is taken has a canonical text that reads back to the same values and
//! writes the same text, is printable ASCII in its bounds, and decodes to nothing that could break a line.

use posthouse::smtp::parameter::{
    AUTH_OCTETS, ENVID_OCTETS, MailParameters, ORCPT_OCTETS, RcptParameters,
};

pub fn run(data: &[u8]) {
    if let Some(found) = MailParameters::from_relay_text(data) {
        let mut text = Vec::new();
        found.relay_text(&mut text);
        printable(&text);
        let again = MailParameters::from_relay_text(&text).expect("the canonical text is good");
        assert_eq!(
            (again.ret, &again.envid, again.deliver_by, again.priority, again.require_tls),
            (found.ret, &found.envid, found.deliver_by, found.priority, found.require_tls)
        );
        let mut same = Vec::new();
        again.relay_text(&mut same);
        assert_eq!(text, same);
        for (string, limit) in [(&found.envid, ENVID_OCTETS), (&found.auth, AUTH_OCTETS)] {
            if let Some(string) = string {
                assert!(string.as_bytes().len() <= limit);
                assert!(string.decode().iter().all(|b| matches!(b, b' '..=b'~')));
            }
        }
        assert!(found.priority.is_none_or(|p| (-9..=9).contains(&p)));
        assert!(found.deliver_by.is_none_or(|by| !by.return_it || by.seconds > 0));
    }
    if let Some(found) = RcptParameters::from_relay_text(data) {
        let mut text = Vec::new();
        found.relay_text(&mut text);
        printable(&text);
        assert_eq!(RcptParameters::from_relay_text(&text).as_ref(), Some(&found));
        if let Some(orcpt) = &found.orcpt {
            assert!(orcpt.as_bytes().len() <= ORCPT_OCTETS);
            let decoded = String::from_utf8(orcpt.decode()).expect("UTF-8");
            assert!(!decoded.is_empty() && !decoded.chars().any(char::is_control));
        }
    }
}

fn printable(text: &[u8]) {
    assert!(text.iter().all(|b| matches!(b, b' '..=b'~')), "{}", text.escape_ascii());
    assert!(!text.starts_with(b" ") && !text.ends_with(b" "));
}
