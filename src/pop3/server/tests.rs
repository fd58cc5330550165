//! What transcripts cannot show: misuse, memory, bounds of the output, deadlines; and conversations at random.

use proptest::prelude::*;

use super::*;

const START: Time = Time(1_000);

fn server_with(limits: Limits) -> Server {
    let config = ServerConfig { hostname: "mail.example.test".into(), limits };
    Server::new(Arc::new(config), Offer { tls: false, stls: true, login: true }, START)
}

fn maildrop(messages: u32) -> Maildrop {
    let entries = (1..=messages).map(|uid| Entry { octets: u64::from(uid) * 10, uid }).collect();
    Maildrop { validity: 7, entries }
}

/// Steps with all of the input; answers what is next as text.
fn step(server: &mut Server, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, String) {
    let step = server.step(now, input, out);
    let next = match step.next {
        Next::Event(Event::Auth(_)) => "Auth".to_owned(),
        Next::Event(event) => format!("{event:?}"),
        other => format!("{other:?}"),
    };
    (step.consumed, next)
}

/// A session behind its login with this many messages.
fn logged_in(limits: Limits, messages: u32) -> Server {
    let mut server = server_with(limits);
    let mut out = Vec::new();
    assert_eq!(step(&mut server, START, b"", &mut out).1, "Connect");
    server.accept();
    assert_eq!(step(&mut server, START, b"", &mut out).0, 0);
    out.clear();
    let (consumed, next) = step(&mut server, START, b"USER a\r\nPASS b\r\n", &mut out);
    assert_eq!((consumed, next.as_str()), (16, "Auth"));
    server.opened(maildrop(messages));
    out.clear();
    assert_eq!(step(&mut server, START, b"", &mut out).1, "NeedInput");
    server
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Server>() <= 400, "{} bytes", size_of::<Server>());
    assert_eq!(size_of::<Entry>(), 16);
    let server = logged_in(Limits::default(), 1000);
    assert!(server.maildrop.entries.capacity() <= 1000);
    assert_eq!(server.marks.bits.capacity(), 0, "marks take no memory before the first DELE");
    assert!(server.user.is_none());
}

#[test]
fn verdicts_that_nobody_asked_for_have_no_effect() {
    let mut server = server_with(Limits::default());
    let mut out = Vec::new();
    server.accept();
    server.opened(maildrop(3));
    server.body(b"x", &mut out);
    assert_eq!(step(&mut server, START, b"", &mut out).1, "Connect");
    server.opened(maildrop(3));
    server.denied(Denial::Credentials);
    server.updated(true);
    server.tls_started(Offer { tls: true, stls: false, login: true }, b"");
    server.body(b"x", &mut out);
    server.body_end(&mut out);
    server.body_failed(&mut out);
    assert!(out.is_empty());
    server.accept();
    server.refuse("too late");
    assert_eq!(step(&mut server, START, b"STAT\r\n", &mut out).1, "NeedInput");
    assert_eq!(out, b"+OK mail.example.test POP3 ready\r\n-ERR log in first\r\n");
}

#[test]
fn a_step_while_a_verdict_is_owed_consumes_nothing_and_has_no_deadline() {
    let mut server = server_with(Limits::default());
    let mut out = Vec::new();
    assert_eq!(step(&mut server, START, b"QUIT\r\n", &mut out), (0, "Connect".into()));
    for _ in 0..3 {
        let late = START.after(1_000_000_000);
        assert_eq!(step(&mut server, late, b"QUIT\r\n", &mut out), (0, "NeedInput".into()));
        assert_eq!(server.deadline(), None);
    }
    let now = START.after(2_000_000_000);
    server.accept();
    step(&mut server, now, b"", &mut out);
    assert_eq!(
        server.deadline(),
        Some(now.after(60_000)),
        "the time of the verdict does not count"
    );
    step(&mut server, now, b"USER a\r\nPASS b\r\n", &mut out);
    assert_eq!(server.deadline(), None);
    let later = now.after(1_000_000);
    server.opened(maildrop(1));
    assert_eq!(step(&mut server, later, b"", &mut out).1, "NeedInput");
    assert_eq!(server.deadline(), Some(later.after(600_000)));
}

#[test]
fn the_handshake_does_not_count_as_idle_time() {
    let mut server = server_with(Limits::default());
    let mut out = Vec::new();
    step(&mut server, START, b"", &mut out);
    server.accept();
    assert_eq!(step(&mut server, START, b"STLS\r\n", &mut out), (6, "StartTls".into()));
    assert_eq!(server.deadline(), None);
    server.tls_started(Offer { tls: true, stls: false, login: true }, b"");
    let now = START.after(90_000);
    assert_eq!(step(&mut server, now, b"", &mut out).1, "NeedInput");
    assert_eq!(server.deadline(), Some(now.after(60_000)));
}

#[test]
fn a_refusal_is_one_line_of_bounded_length() {
    let mut server = server_with(Limits::default());
    let mut out = Vec::new();
    step(&mut server, START, b"", &mut out);
    server.refuse(&format!("no\r\n+OK\u{0} {}", "ü".repeat(600)));
    assert_eq!(step(&mut server, START, b"QUIT\r\n", &mut out), (0, "Closed".into()));
    assert!(out.starts_with("-ERR no+OK ü".as_bytes()) && out.ends_with("ü\r\n".as_bytes()));
    assert!(out.len() <= 512, "{}", out.len());
}

#[test]
fn listings_stop_at_the_output_limit_and_go_on() {
    let limits = Limits { output_bytes: 256, ..Limits::default() };
    let mut server = logged_in(limits, 1000);
    let (mut input, mut all) = (b"UIDL\r\nLIST\r\nSTAT\r\n".to_vec(), Vec::new());
    loop {
        let mut out = Vec::new();
        let (consumed, next) = step(&mut server, START, &input, &mut out);
        input.drain(..consumed);
        assert!(out.len() <= 256 + 64, "{}", out.len());
        all.extend_from_slice(&out);
        if next == "NeedInput" {
            break;
        }
        assert_eq!(next, "Blocked");
    }
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.lines().count(), 1 + 1000 + 1 + 1 + 1000 + 1 + 1);
    assert!(text.contains("\r\n1000 00000007.000003e8\r\n.\r\n+OK 1000 messages"), "{text}");
    assert!(text.ends_with("\r\n1000 10000\r\n.\r\n+OK 1000 5005000\r\n"));
}

#[test]
fn pipelined_commands_wait_while_the_output_is_full() {
    let mut server = logged_in(Limits { output_bytes: 32, ..Limits::default() }, 1);
    let mut out = vec![b'x'; 32];
    assert_eq!(step(&mut server, START, b"NOOP\r\n", &mut out), (0, "Blocked".into()));
    out.pop();
    assert_eq!(step(&mut server, START, b"NOOP\r\n", &mut out), (6, "Blocked".into()));
}

#[test]
fn a_peer_that_reads_nothing_is_let_go_at_the_deadline() {
    let limits = Limits { output_bytes: 64, ..Limits::default() };
    for command in ["NOOP\r\n", "LIST\r\n", "RETR 1\r\n"] {
        let mut server = logged_in(limits.clone(), 100);
        let mut out = Vec::new();
        let (consumed, next) = step(&mut server, START, command.as_bytes(), &mut out);
        if next.starts_with("NeedBody") {
            server.body(&[b'a'; 100], &mut out);
        }
        out.resize(128, b'x');
        let rest = &command.as_bytes()[consumed..];
        let before = START.after(599_999);
        assert_eq!(step(&mut server, before, rest, &mut out).1, "Blocked");
        let (_, next) = step(&mut server, START.after(600_000), rest, &mut out);
        assert_eq!(next, "Closed", "{command}");
    }
}

#[test]
fn a_peer_that_reads_slowly_is_not_let_go() {
    let mut server = logged_in(Limits { output_bytes: 64, ..Limits::default() }, 200);
    let (mut now, mut input) = (START, b"LIST\r\n".to_vec());
    loop {
        let mut out = Vec::new();
        let (consumed, next) = step(&mut server, now, &input, &mut out);
        input.drain(..consumed);
        if next == "NeedInput" {
            break;
        }
        assert_eq!(next, "Blocked");
        now = now.after(599_999);
    }
    assert!(now > START.after(10 * 600_000));
}

#[test]
fn what_is_asked_of_a_body_leaves_the_output_bounded() {
    let limits = Limits { output_bytes: 10_000, ..Limits::default() };
    let mut server = logged_in(limits, 1);
    let mut out = vec![b'x'; 3_000];
    let step = server.step(START, b"RETR 1\r\n", &mut out);
    let Next::Event(Event::NeedBody { index: 0, offset: 0, max: 7_000 }) = step.next else {
        panic!("{:?}", step.next)
    };
    server.body(&[b'a'; 7_000], &mut out);
    assert!(matches!(server.step(START, b"", &mut out).next, Next::Blocked));
    out.clear();
    let step = server.step(START, b"", &mut out);
    assert!(
        matches!(step.next, Next::Event(Event::NeedBody { index: 0, offset: 7_000, max: 10_000 })),
        "{:?}",
        step.next
    );
    // The end may come with the last piece.
    server.body(b"end\r\n", &mut out);
    server.body_end(&mut out);
    assert!(out.ends_with(b"end\r\n.\r\n"));
    assert!(matches!(server.step(START, b"", &mut out).next, Next::NeedInput));
}

#[test]
fn a_failing_body_before_its_first_byte_is_an_error_reply_and_later_the_end() {
    let mut server = logged_in(Limits::default(), 1);
    let mut out = Vec::new();
    step(&mut server, START, b"RETR 1\r\n", &mut out);
    server.body_failed(&mut out);
    assert_eq!(out, b"-ERR [SYS/PERM] the message cannot be read\r\n");
    out.clear();
    step(&mut server, START, b"RETR 1\r\n", &mut out);
    server.body(b"half", &mut out);
    server.body_failed(&mut out);
    assert_eq!(out, b"+OK 10 octets\r\nhalf");
    assert_eq!(step(&mut server, START, b"QUIT\r\n", &mut out), (0, "Closed".into()));
}

#[test]
fn a_stop_lets_a_running_reply_end_first() {
    let mut server = logged_in(Limits::default(), 2);
    let mut out = Vec::new();
    step(&mut server, START, b"RETR 1\r\n", &mut out);
    server.shutdown();
    server.body(b"text\r\n", &mut out);
    server.body_end(&mut out);
    assert_eq!(step(&mut server, START, b"QUIT\r\n", &mut out), (0, "Closed".into()));
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "+OK 10 octets\r\ntext\r\n.\r\n-ERR [SYS/TEMP] the server is stopping, try again later\r\n"
    );
}

#[test]
fn a_stop_during_update_does_not_undo_it() {
    let mut server = logged_in(Limits::default(), 2);
    let mut out = Vec::new();
    step(&mut server, START, b"DELE 2\r\n", &mut out);
    out.clear();
    assert_eq!(step(&mut server, START, b"QUIT\r\n", &mut out).1, "Update { deleted: [1] }");
    server.shutdown();
    server.eof(START);
    server.updated(true);
    assert_eq!(step(&mut server, START, b"", &mut out), (0, "Closed".into()));
    assert_eq!(out, b"+OK bye\r\n");
}

#[test]
fn sums_do_not_overflow() {
    let mut server = server_with(Limits::default());
    let mut out = Vec::new();
    step(&mut server, START, b"", &mut out);
    server.accept();
    step(&mut server, START, b"USER a\r\nPASS b\r\n", &mut out);
    let entries =
        vec![Entry { octets: u64::MAX, uid: 1 }, Entry { octets: u64::MAX, uid: u32::MAX }];
    server.opened(Maildrop { validity: u32::MAX, entries });
    out.clear();
    step(&mut server, START, b"DELE 1\r\nDELE 2\r\nUIDL 2\r\nRSET\r\nUIDL 2\r\n", &mut out);
    assert!(
        out.ends_with(
            b"+OK 2 messages (18446744073709551615 octets)\r\n+OK 2 ffffffff.ffffffff\r\n"
        )
    );
}

/// What a conversation brought: all output, all events, and how it stood at the end.
#[derive(Debug, PartialEq)]
struct Outcome {
    output: String,
    events: Vec<String>,
    closed: bool,
}

const MESSAGES: [&[u8]; 3] = [b"A: 1\r\n\r\n.one\r\n", b"", b"A: 3\r\n\r\n.\r\n..\r\nno end"];

/// Holds a conversation in which the client's octets arrive in these pieces.
fn converse<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Outcome {
    let limits = Limits { output_bytes: 48, command_line: 64, auth_line: 96, ..Limits::default() };
    let mut server = server_with(limits);
    let mut outcome = Outcome { output: String::new(), events: Vec::new(), closed: false };
    let (mut pending, mut out) = (Vec::new(), Vec::new());
    for piece in std::iter::once(&b""[..]).chain(pieces) {
        pending.extend_from_slice(piece);
        loop {
            let mut body = None;
            let step = server.step(START, &pending, &mut out);
            let consumed = step.consumed;
            let mut wait = false;
            match step.next {
                Next::NeedInput => wait = true,
                Next::Blocked => {}
                Next::Closed => {
                    wait = true;
                    outcome.closed = true;
                }
                Next::Event(Event::NeedBody { index, offset, .. }) => body = Some((index, offset)),
                Next::Event(event) => {
                    outcome.events.push(format!("{event:?}"));
                    match event {
                        Event::Connect => server.accept(),
                        Event::Auth(sasl::Question::Verify { password: "b", .. }) => {
                            let entries = MESSAGES.iter().zip(1..);
                            let entries =
                                entries.map(|(m, uid)| Entry { octets: m.len() as u64, uid });
                            server.opened(Maildrop { validity: 1, entries: entries.collect() });
                        }
                        Event::Auth(_) => server.denied(Denial::Credentials),
                        // Clear text behind STLS is dropped here, for it ends the session or not as it is cut.
                        Event::StartTls => {
                            server.tls_started(Offer { login: true, ..Offer::default() }, b"")
                        }
                        _ => server.updated(true),
                    }
                }
            }
            pending.drain(..consumed);
            assert!(out.len() <= 48 + 4096, "the output is bounded");
            if let Some((index, offset)) = body {
                match MESSAGES[index].get(usize::try_from(offset).unwrap()..) {
                    Some(rest) if !rest.is_empty() => {
                        server.body(&rest[..rest.len().min(3)], &mut out)
                    }
                    _ => server.body_end(&mut out),
                }
            }
            outcome.output.push_str(std::str::from_utf8(&out).expect("replies are text"));
            out.clear();
            if wait {
                break;
            }
        }
        assert!(
            outcome.closed || pending.len() <= 96,
            "the machine leaves lines to wait, not more"
        );
        if outcome.closed {
            break;
        }
    }
    outcome
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => proptest::sample::select(vec![
            "USER a", "PASS b", "PASS c", "STAT", "LIST", "LIST 2", "UIDL", "UIDL 3", "RETR 1", "RETR 2", "RETR 3",
            "TOP 1 0", "TOP 3 1", "TOP 3 99", "DELE 1", "DELE 3", "RSET", "NOOP", "QUIT", "CAPA", "AUTH",
            "AUTH PLAIN AGEAYg==", "AUTH LOGIN", "AUTH LOGIN YQ==", "Yg==", "AGEAYg==", "*", "=", "STLS", "RETR 0",
            "LIST 99999999999999999999", "", " ", "TOP 1",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..120),
        1 => "[ -~]{0,120}".prop_map(String::into_bytes),
    ];
    let end =
        proptest::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""]);
    let lines = proptest::collection::vec((line, end), 0..24);
    (any::<bool>(), lines).prop_map(|(login, lines)| {
        let mut input = Vec::new();
        if login {
            input.extend_from_slice(b"USER a\r\nPASS b\r\n");
        }
        for (line, end) in lines {
            input.extend_from_slice(&line);
            input.extend_from_slice(end.as_bytes());
        }
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_outcome_does_not_depend_on_the_cuts(
        input in input(),
        cuts in proptest::collection::vec(1usize..40, 1..20),
    ) {
        let whole = converse(std::iter::once(input.as_slice()));
        prop_assert_eq!(&whole, &converse(input.chunks(1)));
        let mut rest = input.as_slice();
        let mut sizes = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let size = (*sizes.next()?).min(rest.len());
            let (piece, next) = rest.split_at(size);
            rest = next;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(&whole, &converse(pieces));
    }
}
