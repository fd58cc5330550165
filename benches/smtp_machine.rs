//! The SMTP server machine alone: transactions on one connection, without sockets, store or verdicts that take time.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

/// Plays input until the session waits; answers the octets of the messages that came out.
fn play(server: &mut Server, mut input: &[u8], out: &mut Vec<u8>) -> u64 {
    let mut octets = 0;
    loop {
        let Step { consumed, next } = server.step(Time(0), input, out);
        let mut pauses = true;
        match next {
            Next::Event(Event::DataChunk(bytes)) => {
                black_box(bytes);
                pauses = false;
            }
            Next::Event(Event::DataEnd { size }) => octets += size,
            Next::Event(Event::Reset | Event::Quit) => pauses = false,
            Next::Event(_) => {}
            Next::Blocked => {
                out.clear();
                pauses = false;
            }
            Next::NeedInput | Next::Closed => {
                out.clear();
                return octets;
            }
        }
        input = &input[consumed..];
        if pauses {
            server.accept();
        }
    }
}

fn greeted() -> (Server, Vec<u8>) {
    let config = ServerConfig {
        hostname: "mail.example.test".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits { transactions: u32::MAX, ..Limits::default() },
        extensions: Extensions::default(),
    };
    let mut server = Server::new(Arc::new(config), Offer::default(), Time(0));
    let mut out = Vec::new();
    play(&mut server, b"EHLO client.example\r\n", &mut out);
    (server, out)
}

/// A message of exactly so many octets, in lines of 78.
fn message(octets: usize) -> Vec<u8> {
    let line = [b"x".repeat(76), b"\r\n".to_vec()].concat();
    let mut text = line.repeat(octets / line.len() + 1);
    text.truncate(octets - 2);
    if text.ends_with(b"\r") {
        text.pop();
        text.push(b'x');
    }
    text.extend_from_slice(b"\r\n");
    text
}

fn transactions(criterion: &mut Criterion) {
    let envelope = b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<user@example.test>\r\n".as_slice();
    let mut group = criterion.benchmark_group("smtp_machine");
    for (name, octets) in [("1KiB", 1024), ("64KiB", 65536)] {
        let text = message(octets);
        let data = [envelope, b"DATA\r\n", &text, b".\r\n"].concat();
        let size = format!("BDAT {octets} LAST\r\n");
        let chunk = [envelope, size.as_bytes(), &text].concat();
        group.throughput(Throughput::Bytes(octets as u64));
        for (how, input) in [("data", &data), ("bdat", &chunk)] {
            let (mut server, mut out) = greeted();
            group.bench_function(format!("{how}_{name}"), |bencher| {
                bencher.iter(|| {
                    let octets = play(&mut server, black_box(input), &mut out);
                    assert_eq!(octets, text.len() as u64);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, transactions);
criterion_main!(benches);
