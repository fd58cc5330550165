//! What transcripts do not show: waiting for a driver that cannot write, memory, large envelopes.

use std::sync::Arc;

use super::*;

const HELLO: &str = "220 mx\r\n250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n";

/// A session that is ready, and what its driver has not written yet.
fn ready(config: ClientConfig, hello: &str) -> (Client, Vec<u8>) {
    let mut client = Client::new(Arc::new(config), false, Time(0));
    let (mut input, mut out) = (hello.as_bytes(), Vec::new());
    loop {
        let Step { consumed, next } = client.step(Time(0), input, &mut out);
        input = &input[consumed..];
        match next {
            Next::Event(ClientEvent::Ready { .. }) => return (client, Vec::new()),
            Next::NeedInput => assert!(!input.is_empty(), "not ready"),
            _ => panic!("something else"),
        }
    }
}

fn recipients(addresses: &[String]) -> Vec<Recipient<'_>> {
    addresses.iter().map(|to| Recipient { to, parameters: "" }).collect()
}

/// Steps with one piece of input until the machine waits or wants a body; counts the outcomes.
fn feed(client: &mut Client, mut input: &[u8], out: &mut Vec<u8>) -> (usize, String) {
    let mut outcomes = 0;
    loop {
        let Step { consumed, next } = client.step(Time(0), input, out);
        input = &input[consumed..];
        match next {
            Next::Event(ClientEvent::Recipient { .. }) => outcomes += 1,
            Next::NeedInput if input.is_empty() => return (outcomes, "input".to_owned()),
            Next::NeedInput => panic!("input is left"),
            Next::Blocked => return (outcomes, "blocked".to_owned()),
            other => return (outcomes, format!("{other:?}")),
        }
    }
}

#[test]
fn a_peer_that_does_not_take_the_message_has_three_minutes_and_the_answer_to_its_end_ten() {
    let (mut client, mut out) = ready(ClientConfig::default(), HELLO);
    let to = [Recipient { to: "c@d.example", parameters: "" }];
    client.begin(&Transaction { recipients: &to, ..Transaction::default() }).expect("begins");
    feed(&mut client, b"250 ok\r\n250 ok\r\n354 go\r\n", &mut out);
    out.clear();
    let piece = vec![b'x'; 64 << 10];
    client.body(&piece, &mut out).expect("asked for");
    assert!(matches!(client.step(Time(5), b"", &mut out).next, Next::Blocked));
    assert_eq!(client.deadline(), Some(Time(180_005)));
    // Taken in time: the clock for the next block starts anew, and so does that for the end.
    out.clear();
    assert!(matches!(
        client.step(Time(180_000), b"", &mut out).next,
        Next::Event(ClientEvent::NeedBody { .. })
    ));
    assert_eq!(client.deadline(), None);
    client.body_end(&mut out).expect("asked for");
    assert!(matches!(client.step(Time(180_000), b"", &mut out).next, Next::NeedInput));
    assert_eq!(client.deadline(), Some(Time(780_000)));

    let (mut client, mut out) = ready(ClientConfig::default(), HELLO);
    client.begin(&Transaction { recipients: &to, ..Transaction::default() }).expect("begins");
    feed(&mut client, b"250 ok\r\n250 ok\r\n354 go\r\n", &mut out);
    client.body(&piece, &mut out).expect("asked for");
    assert!(matches!(client.step(Time(5), b"", &mut out).next, Next::Blocked));
    assert!(matches!(client.step(Time(180_004), b"", &mut out).next, Next::Blocked));
    let Next::Event(ClientEvent::Recipient { outcome, .. }) =
        client.step(Time(180_005), b"", &mut out).next
    else {
        panic!("an outcome")
    };
    assert_eq!((outcome.verdict, outcome.phase), (Verdict::Temporary, Phase::Body));
}

#[test]
fn what_the_peer_said_before_it_closed_in_the_middle_of_a_message_is_its_reason() {
    for (said, verdict, origin) in [
        ("552 5.3.4 Too large\r\n", Verdict::Permanent, Origin::Peer),
        ("452 4.3.1 Full\r\n", Verdict::Temporary, Origin::Peer),
        ("421 4.3.2 Shutting down\r\n", Verdict::Temporary, Origin::Peer),
        ("250 2.0.0 Ok\r\n", Verdict::Temporary, Origin::Client),
        ("", Verdict::Temporary, Origin::Client),
    ] {
        let (mut client, mut out) = ready(ClientConfig::default(), HELLO);
        let to = [Recipient { to: "c@d.example", parameters: "" }];
        client.begin(&Transaction { recipients: &to, ..Transaction::default() }).expect("begins");
        feed(&mut client, b"250 ok\r\n250 ok\r\n354 go\r\n", &mut out);
        client.body(b"half", &mut out).expect("asked for");
        client.eof(Time(0));
        let mut told = None;
        let mut input = said.as_bytes();
        loop {
            let Step { consumed, next } = client.step(Time(0), input, &mut out);
            input = &input[consumed..];
            match next {
                Next::Event(ClientEvent::Recipient { outcome, .. }) => {
                    assert!(told.replace((outcome.verdict, outcome.origin)).is_none());
                }
                Next::Event(ClientEvent::Done(done)) => assert!(done.closing),
                Next::Closed => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, Some((verdict, origin)), "{said}");
        assert!(!out.ends_with(b".\r\n"));
    }
}

#[test]
fn a_group_of_many_recipients_never_has_more_than_its_bound_under_way() {
    let config = ClientConfig::default();
    let (octets, commands) = (config.limits.pipeline_bytes, config.limits.pipeline_commands);
    let (mut client, mut out) = ready(config, HELLO);
    let addresses: Vec<String> = (0..1000).map(|n| format!("user-{n}@d.example")).collect();
    let to = recipients(&addresses);
    client.begin(&Transaction { recipients: &to, ..Transaction::default() }).expect("begins");
    let (mut sent, mut answered) = (Vec::new(), 0);
    let mut outcomes = feed(&mut client, b"", &mut out).0;
    loop {
        sent.append(&mut out);
        let lines: Vec<&[u8]> = sent.split_inclusive(|b| *b == b'\n').collect();
        let under_way = &lines[answered..];
        assert!(under_way.len() <= commands as usize);
        assert!(under_way.iter().map(|line| line.len()).sum::<usize>() <= octets);
        if answered == 1001 {
            assert_eq!(under_way, [b"DATA\r\n"]);
            break;
        }
        // Half of what is there is answered at a time.
        let now = under_way.len().div_ceil(2);
        let replies: String = (answered..answered + now)
            .map(|n| if n % 3 == 1 { "550 5.1.1 no\r\n" } else { "250 ok\r\n" })
            .collect();
        answered += now.min(1001 - answered);
        outcomes += feed(&mut client, replies.as_bytes(), &mut out).0;
    }
    assert_eq!(outcomes, (1..1001).filter(|n| n % 3 == 1).count());
}

#[test]
fn a_session_is_small_and_a_message_adds_what_its_bounds_say() {
    let (mut client, mut out) = ready(ClientConfig::default(), HELLO);
    let idle = client.memory_bytes();
    assert!(idle < 1500, "{idle} octets");
    let to = [Recipient { to: "c@d.example", parameters: "" }];
    for _ in 0..3 {
        client.begin(&Transaction { recipients: &to, ..Transaction::default() }).expect("begins");
        feed(&mut client, b"250 ok\r\n250 ok\r\n354 go\r\n", &mut out);
        for _ in 0..1000 {
            out.clear();
            client.body(b"0123456789\r\n", &mut out).expect("asked for");
            feed(&mut client, b"", &mut out);
        }
        client.body_end(&mut out).expect("asked for");
        let told = feed(&mut client, b"250 ok\r\n", &mut out);
        assert!(told.1.contains("Done"), "{told:?}");
    }
    assert!(client.memory_bytes() < idle + 500, "{} octets", client.memory_bytes());
}

#[test]
fn an_address_or_a_parameter_that_could_be_a_command_is_never_sent() {
    let (mut client, _) = ready(ClientConfig::default(), HELLO);
    let good = [Recipient { to: "c@d.example", parameters: "" }];
    for (from, parameters, to, with) in [
        ("a@b.example>\r\nRSET\r\n", "", "c@d.example", ""),
        ("a@b.example", "", "c@d.example> NOTIFY=NEVER", ""),
        ("a@b.example", "", "", ""),
        ("a@b.example", "RET=FULL\r\nRSET", "c@d.example", ""),
        ("a@b.example", "SIZE=1", "c@d.example", ""),
        ("a@b.example", "BODY=8BITMIME", "c@d.example", ""),
        ("a@b.example", "", "c@d.example", "NOTIFY=NEVER\tX"),
        ("a@b.example", "", "c@d.example", "RET=FULL"),
    ] {
        let to = [good[0], Recipient { to, parameters: with }];
        let transaction =
            Transaction { from, parameters, recipients: &to, ..Transaction::default() };
        assert!(client.begin(&transaction).is_err(), "{transaction:?}");
        assert!(client.is_idle());
    }
    let long = "ENVID=".to_owned() + &"x".repeat(2042);
    let limit =
        |parameters| Transaction { parameters, recipients: &good, ..Transaction::default() };
    let longer = long.clone() + "x";
    assert!(client.begin(&limit(&longer)).is_err(), "2049 octets");
    assert!(client.begin(&limit(&long)).is_ok(), "2048 octets");
}

/// RFC 5802 6: `y` says that the server has not offered SCRAM-SHA-256-PLUS. One that has, and then cannot do it (504), or whose offer is not
/// wanted here, must not hear that: it would take it for a downgrade.
#[test]
fn scram_says_that_plus_was_not_offered_only_when_it_was_not() {
    use crate::sasl::{Mechanism, Mechanisms};
    let first = |offer: &str, wanted: Mechanisms, replies: &[&str]| {
        let credentials = Credentials {
            login: "user".to_owned(),
            secret: zeroize::Zeroizing::new("pencil".to_owned()),
            ..Credentials::default()
        };
        let config = ClientConfig {
            login: Some(Login { mechanisms: wanted, ..Login::new(credentials) }),
            auth_in_clear: true,
            ..ClientConfig::default()
        };
        let mut client = Client::new(Arc::new(config), true, Time(0));
        client.set_channel([7; 18], Channel::Exporter(vec![9; 32]));
        let mut out = Vec::new();
        let hello = format!("220 mx\r\n250-mx\r\n250 AUTH {offer}\r\n");
        feed(&mut client, hello.as_bytes(), &mut out);
        for reply in replies {
            out.clear();
            feed(&mut client, reply.as_bytes(), &mut out);
        }
        let said = String::from_utf8(out).unwrap();
        let said = said.lines().last().unwrap().to_owned();
        let (command, initial) = said.rsplit_once(' ').unwrap();
        let initial = crate::codec::base64::decode(initial.as_bytes()).unwrap().to_vec();
        format!("{command}: {}", String::from_utf8(initial).unwrap().split(',').next().unwrap())
    };
    let all = Mechanism::ALL.iter().fold(Mechanisms::NONE, |set, one| set.with(*one));
    let both = "PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS";
    assert_eq!(first(both, all, &[]), "AUTH SCRAM-SHA-256-PLUS: p=tls-exporter");
    assert_eq!(first(both, all, &["504 5.5.4 not now\r\n"]), "AUTH SCRAM-SHA-256: n");
    let without = all.without(Mechanism::ScramSha256Plus);
    assert_eq!(first(both, without, &[]), "AUTH SCRAM-SHA-256: n");
    assert_eq!(first("PLAIN SCRAM-SHA-256", all, &[]), "AUTH SCRAM-SHA-256: y");
}
