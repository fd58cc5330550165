//! The demo's messages, and the comparison of what came back with what was sent.

use super::Failure;

/// A message with the reason that it is sent for.
pub struct Sample {
    /// What is special about it.
    pub about: &'static str,
    /// Its bytes; every line ends in CR LF.
    pub bytes: Vec<u8>,
}

/// A header that lacks nothing, so that submission adds nothing to it.
fn header(about: &str) -> String {
    let id = about.replace(|c: char| !c.is_ascii_alphanumeric(), ".");
    format!(
        "From: Demo <sender@elsewhere.example>\r\nTo: <user1@example.test>\r\n\
         Subject: {about}\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n\
         Message-ID: <{id}@elsewhere.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
}

/// Messages of every shape that has been known to break on its way.
pub fn samples() -> Vec<Sample> {
    let with = |about: &'static str, body: String| Sample {
        about,
        bytes: format!("{}{body}", header(about)).into_bytes(),
    };
    vec![
        with("a short text", "Hello, post house.\r\n".to_owned()),
        with("no body", String::new()),
        Sample { about: "no bytes at all", bytes: Vec::new() },
        Sample { about: "no header", bytes: b"just a line\r\n".to_vec() },
        with(
            "dots at the beginnings of lines",
            ".\r\n..\r\n.x\r\n\r\n.\r\n...\r\nend\r\n".to_owned(),
        ),
        with(
            "8-bit text",
            "Gr\u{fc}\u{df}e, \u{3053}\u{3093}\u{306b}\u{3061}\u{306f}\r\n".repeat(50),
        ),
        with("blank lines and trailing spaces", " \r\n\t\r\n\r\n\r\nx \r\n\r\n".to_owned()),
        with("lines of 998 octets", format!("{}\r\n", "x".repeat(998)).repeat(20)),
        with("10,000 lines", (0..10_000).map(|n| format!("line {n}\r\n")).collect()),
        with("2 MiB", format!("{}\r\n", "0123456789abcdef".repeat(4)).repeat((2 << 20) / 66)),
    ]
}

/// A message of about 4 KiB that is like no other.
pub fn numbered(number: usize) -> Vec<u8> {
    let mut message = header(&format!("number {number}"));
    while message.len() < 4000 {
        message.push_str(&format!("message {number}, octet {}\r\n", message.len()));
    }
    message.into_bytes()
}

/// Splits what came back into the trace header that the engine put before it and the message as it was sent.
/// The trace is exactly one Return-Path field and one Received field (RFC 5321 4.4).
///
/// # Errors
/// What is missing or wrong in the trace.
pub fn split_trace<'m>(message: &'m [u8], from: &str) -> Result<(&'m [u8], &'m [u8]), Failure> {
    let wrong = |what: &str| Failure::new(format_args!("a message came back {what}"));
    let return_path = format!("Return-Path: <{from}>\r\n");
    let rest = message
        .strip_prefix(return_path.as_bytes())
        .ok_or_else(|| wrong(&format!("without {:?} in front", return_path.trim_end())))?;
    if !rest.starts_with(b"Received: from ") {
        return Err(wrong("without a Received field behind Return-Path"));
    }
    // The field ends with the line whose successor does not go on with white space.
    let mut end = 0;
    loop {
        let line = rest.get(end..).and_then(|rest| memchr::memchr(b'\n', rest));
        let Some(line) = line else { return Err(wrong("with a Received field that has no end")) };
        end += line + 1;
        if !matches!(rest.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    let field = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
    for part in ["by mail.example.test", " with ESMTP", " id ", ";"] {
        if !field.contains(part) {
            return Err(wrong(&format!("with a Received field without {part:?}: {field:?}")));
        }
    }
    let trace = return_path.len() + end;
    message.split_at_checked(trace).ok_or_else(|| wrong("cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_can_be_sent_as_they_are() {
        for sample in samples() {
            assert!(sample.bytes.is_empty() || sample.bytes.ends_with(b"\r\n"), "{}", sample.about);
            for line in sample.bytes.split_inclusive(|b| *b == b'\n') {
                assert!(line.ends_with(b"\r\n") && line.len() <= 1000, "{}", sample.about);
                assert_eq!(line.iter().filter(|b| **b == b'\r').count(), 1);
                assert!(!line.contains(&0));
            }
        }
        assert_ne!(numbered(1), numbered(2));
        assert!((4000..4200).contains(&numbered(12345).len()));
    }

    #[test]
    fn the_trace_is_split_from_the_message_and_must_be_whole() {
        let trace = "Return-Path: <a@b>\r\nReceived: from c ([127.0.0.1])\r\n\tby mail.example.test \
             (Posthouse) with ESMTPS id 0000000000000001;\r\n\tSat, 21 Nov 2026 07:06:05 +0000\r\n";
        for body in ["", "\r\n", "Subject: x\r\n\r\ny\r\n"] {
            let message = format!("{trace}{body}");
            let Ok((found, rest)) = split_trace(message.as_bytes(), "a@b") else {
                panic!("{message}")
            };
            assert_eq!((found, rest), (trace.as_bytes(), body.as_bytes()));
        }
        for message in [
            String::new(),
            trace.replace("a@b", "x@b"),
            trace.replace("Received", "X-Received"),
            trace.replace(" id ", " "),
            trace.replace(";\r\n\tSat", "\r\n\tSat"),
            trace.trim_end().to_owned(),
        ] {
            assert!(split_trace(message.as_bytes(), "a@b").is_err(), "{message:?}");
        }
    }
}
