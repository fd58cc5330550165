//! Plays so many messages of 1 KiB through the SMTP server machine, and nothing else: what is counted by
//! `scripts/machine_instructions.py`, under callgrind.
//!
//! `smtp_instructions HOW COUNT`: `data`, or `bdat`, or `dsn` (DATA, with the parameters that a relay sends).

use std::hint::black_box;
use std::sync::Arc;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

fn main() {
    let mut words = std::env::args().skip(1);
    // Among other benchmarks there is nothing to count.
    let (Some(how), Some(count)) = (words.next(), words.next().and_then(|n| n.parse().ok())) else {
        return;
    };
    let config = ServerConfig {
        hostname: "mail.example.test".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits { transactions: u32::MAX, ..Limits::default() },
        extensions: Extensions { dsn: true, ..Extensions::default() },
    };
    let mut server = Server::new(Arc::new(config), Offer::default(), Time(0));
    let mut out = Vec::with_capacity(64 << 10);
    play(&mut server, b"EHLO client.example\r\n", &mut out);
    let input = transaction(&how);
    let mut octets = 0;
    for _ in 0..count {
        octets += play(&mut server, black_box(&input), &mut out);
    }
    assert_eq!(octets, count * 1024);
}

fn transaction(how: &str) -> Vec<u8> {
    let mut body = [&b"x".repeat(76)[..], b"\r\n"].concat().repeat(13);
    body.extend_from_slice(b"xxxxxxxx\r\n");
    let envelope = "MAIL FROM:<sender@example.test>\r\nRCPT TO:<user@example.test>\r\n";
    let text = match how {
        "data" => format!("{envelope}DATA\r\n"),
        "bdat" => format!("{envelope}BDAT {} LAST\r\n", body.len()),
        "dsn" => "MAIL FROM:<sender@example.test> SIZE=1024 BODY=8BITMIME RET=HDRS\r\n\
                  RCPT TO:<user@example.test> ORCPT=rfc822;user@example.test NOTIFY=FAILURE\r\nDATA\r\n"
            .to_owned(),
        other => panic!("no such transaction: {other}"),
    };
    let end = if how == "bdat" { "" } else { ".\r\n" };
    [text.as_bytes(), &body, end.as_bytes()].concat()
}

/// Plays input until the session waits; answers the octets of the messages that came out.
fn play(server: &mut Server, mut input: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut octets = 0;
    loop {
        let Step { consumed, next } = server.step(Time(0), input, out);
        let pauses = match next {
            Next::Event(Event::DataChunk(bytes)) => {
                black_box(bytes);
                false
            }
            Next::Event(Event::DataEnd { size }) => {
                octets += size;
                true
            }
            Next::Event(Event::Reset | Event::Quit) => false,
            Next::Event(_) => true,
            Next::Blocked => {
                out.clear();
                false
            }
            Next::NeedInput | Next::Closed => {
                out.clear();
                return octets;
            }
        };
        input = &input[consumed..];
        if pauses {
            server.accept();
        }
    }
}
