//! The SMTP client machine: the first octet chooses the set-up, the second the messages, the rest is what the peer says.
//!
//! Every stream is played whole, octet by octet and in pieces; each must give the same story. Besides: it always ends, every
//! recipient has exactly one outcome and then the transaction is closed, commands are whole lines without a bare CR or
//! LF, credentials are not sent in clear, memory stays bounded.

use std::sync::Arc;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::client::{
    Channel, Client, ClientConfig, ClientEvent, Content, Credentials, EightBit, LineEnds, Login,
    Recipient, Tls, Transaction,
};
use posthouse::time::Time;

const TO: [&str; 4] = ["a@x.example", "b@y.example", "\u{fc}@x.example", "c@x.example"];

pub fn run(data: &[u8]) {
    let [setup, messages, stream @ ..] = data else { return };
    let whole = play(*setup, *messages, stream, |_| usize::MAX);
    same(&whole, &play(*setup, *messages, stream, |_| 1));
    let mut state = u32::from(*setup) << 8 | u32::from(*messages) | 1;
    let pieces = play(*setup, *messages, stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % 23 + 1
    });
    same(&whole, &pieces);
}

fn same(whole: &[u8], cut: &[u8]) {
    assert!(whole == cut, "--- whole:\n{}\n--- cut:\n{}", show(whole), show(cut));
}

fn show(story: &[u8]) -> String {
    story.escape_ascii().to_string().replace("\\n", "\\n\n")
}

fn play(setup: u8, messages: u8, stream: &[u8], mut cut: impl FnMut(usize) -> usize) -> Vec<u8> {
    let bit = |n: u8| setup & 1 << n != 0;
    let mut config = ClientConfig {
        hostname: "client.example".to_owned(),
        lmtp: bit(0),
        tls: if bit(1) { Tls::Required } else { Tls::WhenOffered },
        pipelining: !bit(2),
        chunking: !bit(3),
        eight_bit: if bit(4) { EightBit::Send } else { EightBit::Bounce },
        line_ends: if bit(5) { LineEnds::Refuse } else { LineEnds::Normalise },
        ..ClientConfig::default()
    };
    let token = messages & 64 != 0;
    config.login = bit(6).then(|| {
        let mut login = Login::new(Credentials {
            authorization: String::new(),
            login: "tim".to_owned(),
            secret: "tanstaaf".to_owned().into(),
        });
        login.token = token;
        login
    });
    config.limits.chunk_bytes = 8;
    config.limits.output_bytes = 60;
    config.limits.pipeline_bytes = 64;
    config.limits.recipients = 3;
    let mut client = Client::new(Arc::new(config), bit(7), Time(0));
    client.set_channel([3; 18], Channel::Unbound);
    let (mut story, mut input, mut out, mut later) = (Vec::new(), Vec::new(), Vec::new(), stream);
    let mut tls = bit(7);
    let (mut begun, mut given, mut idle, mut now) = (0u8, 0, 0, 0);
    // Recipients of the open transaction that have no outcome.
    let mut open: Option<Vec<usize>> = None;
    let body = b"Subject: x\r\n\r\n.\r\n..dot\n.bare\rend\0".as_slice();
    let body = if messages & 32 == 0 { &body[..body.len() - 1] } else { body };
    loop {
        let Step { consumed, next } = client.step(Time(now), &input, &mut out);
        assert!(consumed <= input.len());
        // As long as there is no TLS.
        let secret = !tls;
        idle = if consumed == 0 && out.is_empty() { idle + 1 } else { 0 };
        assert!(idle < 60, "the machine goes in circles");
        if secret {
            assert!(!out.windows(5).any(|w| w == b"AUTH "), "credentials in clear");
        }
        story.append(&mut out);
        let (mut go_on, mut piece, mut starttls, mut wants) = (false, None, false, false);
        match next {
            Next::NeedInput => wants = true,
            Next::Blocked => {}
            Next::Closed => {
                assert!(open.is_none(), "a transaction without an end");
                return story;
            }
            Next::Event(event) => {
                if !matches!(event, ClientEvent::NeedBody { .. }) {
                    story.extend_from_slice(format!("{event:?}\n").as_bytes());
                }
                match event {
                    ClientEvent::StartTls => starttls = true,
                    ClientEvent::Ready { .. } => go_on = true,
                    ClientEvent::Recipient { index, outcome } => {
                        let open = open.as_mut().expect("a transaction");
                        let at = open.iter().position(|n| *n == index).expect("one outcome each");
                        open.remove(at);
                        assert!((200..600).contains(&outcome.answer.code()));
                    }
                    ClientEvent::NeedBody { max } => piece = Some(max),
                    ClientEvent::Done(done) => {
                        assert_eq!(open.take().expect("a transaction").len(), 0);
                        go_on = !done.closing;
                    }
                    ClientEvent::Failed(_) => assert!(open.is_none()),
                }
            }
        }
        input.drain(..consumed);
        assert!(client.memory_bytes() < 40_000, "{} octets", client.memory_bytes());
        if go_on && begun < messages % 4 {
            let parameters =
                ["", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b"][usize::from(begun % 2)];
            let to: Vec<Recipient<'_>> = TO.iter().map(|to| Recipient { to, parameters }).collect();
            begun += 1;
            given = 0;
            let transaction = Transaction {
                from: ["", "sender@client.example"][usize::from(begun % 2)],
                parameters: ["RET=HDRS BY=9;N", "MT-PRIORITY=1"][usize::from(begun % 2)],
                recipients: &to,
                size: body.len() as u64,
                content: match messages >> 2 & 3 {
                    0 => Content::SevenBit,
                    1 => Content::Binary,
                    _ => Content::EightBit,
                },
                utf8: false,
            };
            match client.begin(&transaction) {
                Ok(()) => open = Some((0..TO.len()).collect()),
                Err(_) => client.quit(),
            }
        } else if go_on {
            client.quit();
        }
        if let Some(max) = piece {
            let rest = &body[given..];
            let n = rest.len().min(max).min(7);
            given += n;
            if messages & 16 != 0 && given > 20 {
                client.body_failed("no more").expect("asked for");
            } else if n == 0 {
                client.body_end(&mut out).expect("asked for");
            } else {
                client.body(&rest[..n], &mut out).expect("asked for");
            }
        }
        if starttls {
            if messages & 128 != 0 {
                client.tls_failed("no\r\nway");
            } else {
                client.tls_started(b"", &mut out);
                tls = true;
            }
        }
        if wants && later.is_empty() {
            if setup & 4 == 0 || idle > 20 {
                client.eof(Time(now));
            } else {
                match client.deadline() {
                    Some(at) => now = at.0,
                    None => client.eof(Time(now)),
                }
            }
        } else if wants {
            let (now, rest) = later.split_at(cut(later.len()).clamp(1, later.len()));
            input.extend_from_slice(now);
            later = rest;
            idle = 0;
        }
    }
}
