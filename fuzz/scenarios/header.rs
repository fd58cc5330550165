//! The filter of a message's header: whole against split equality, what must never come out, and the untouched body.
//!
//! The first octet says what is to be done, the second seeds the cuts; the rest is the message.

use posthouse::codec::address::Address;
use posthouse::service::header::{Fault, Filter, Missing, Task};

type Outcome = Result<Vec<u8>, (u16, String)>;

pub fn run(data: &[u8]) {
    let [what, seed, message @ ..] = data else { return };
    let task = Task {
        authserv_id: "mail.test".to_owned(),
        hops: u32::from(what & 3),
        header_bytes: if what & 4 == 0 { 300 } else { 1 << 20 },
        final_delivery: what & 8 != 0,
        submission: what & 16 != 0,
        missing: (what & 32 != 0)
            .then(|| Missing { unix_millis: 0, message_id: "1@mail.test".to_owned() }),
        sender: what & 64 != 0,
    };
    let whole = filter(&task, &mut std::iter::once(message));
    assert_eq!(filter(&task, &mut message.chunks(1)), whole);
    let step = usize::from(*seed % 61) + 1;
    assert_eq!(filter(&task, &mut message.chunks(step)), whole);
    let (a, b) = message.split_at(usize::from(*seed) % (message.len() + 1));
    assert_eq!(filter(&task, &mut [a, b].into_iter()), whole);

    let Ok(out) = whole else { return };
    // No more is added than two fields and an empty line.
    assert!(out.len() <= message.len() + 110);
    if let Some(body) = body(message) {
        assert!(out.ends_with(body), "the body is untouched");
    }
    if !task.submission && task.missing.is_none() {
        // What passes passes again unchanged.
        assert_eq!(filter(&task, &mut std::iter::once(out.as_slice())), Ok(out.clone()));
    }
    for line in fields(&out) {
        assert!(!task.submission || !is(line, b"bcc:"), "{}", line.escape_ascii());
        assert!(!task.final_delivery || !is(line, b"return-path:"));
        assert!(!is(line, b"authentication-results: mail.test;"));
    }
    let hops = fields(&out).filter(|line| is(line, b"received:")).count();
    assert!(hops <= task.hops as usize);
}

fn filter(task: &Task, pieces: &mut dyn Iterator<Item = &[u8]>) -> Outcome {
    let mut out = Vec::new();
    let owns = |address: &Address| address.as_bytes().first() == Some(&b'm');
    let mut filter = Filter::new(task.clone());
    let mut sink = |part: &[u8]| {
        assert!(!part.is_empty());
        out.extend_from_slice(part);
        Ok(())
    };
    let mut result = Ok(());
    for piece in pieces {
        result = filter.push(piece, &owns, &mut sink);
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = filter.finish(&owns, &mut sink);
    }
    match result {
        Ok(()) => Ok(out),
        Err(Fault::Refused(reply)) => Err((reply.code, reply.text.to_owned())),
        Err(Fault::Sink(error)) => panic!("{error}"),
    }
}

/// What stands behind the first empty line.
fn body(message: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        let rest = &message[at..];
        if rest.starts_with(b"\r\n") {
            return Some(&rest[2..]);
        }
        if rest.starts_with(b"\n") {
            return Some(&rest[1..]);
        }
        at += rest.iter().position(|b| *b == b'\n')? + 1;
    }
}

/// The lines of the header.
fn fields(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let head = match body(message) {
        Some(body) => &message[..message.len() - body.len()],
        None => message,
    };
    head.split_inclusive(|b| *b == b'\n')
}

fn is(line: &[u8], begin: &[u8]) -> bool {
    line.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin))
}
