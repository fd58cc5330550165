//! A sink: `smtp_sink [PORT]`
//!
//! Takes mail on 127.0.0.1 and throws it away, with bare SMTP sessions on sockets of its own and no instance. It shows who
//! does what: the host owns sockets and clock and decides, the session speaks SMTP. Prints `ready smtp=...` and a
//! line for each message; ends when its standard input ends. The same program in C, which stands beside it,
//! serves all connections from one `poll` loop; here each has a thread.

#![allow(clippy::disallowed_methods)] // a program: files, sockets and threads are its own business

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use posthouse::sasl::Verdict;
use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::{Clock, SystemClock};

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("ready smtp={}", listener.local_addr()?);
    let config = Arc::new(ServerConfig {
        hostname: "sink.example.test".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits::default(),
        extensions: Extensions::default(),
    });
    let clock = SystemClock::shared();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (config, clock) = (Arc::clone(&config), Arc::clone(&clock));
            std::thread::spawn(move || converse(socket, config, clock.as_ref()));
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map(drop)
}

/// One connection from greeting to end.
fn converse(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    clock: &dyn Clock,
) -> std::io::Result<()> {
    let mut session = Server::new(config, Offer::default(), clock.now());
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut buffer = [0; 16 << 10];
    loop {
        let Step { consumed, next } = session.step(clock.now(), &input, &mut output);
        /// What the host does about it.
        enum Act {
            Step,
            Accept,
            Refuse,
            Write,
            Read,
            Close,
        }
        let act = match next {
            Next::NeedInput => Act::Read,
            Next::Blocked => Act::Write,
            Next::Closed => Act::Close,
            Next::Event(Event::DataChunk(_) | Event::Reset | Event::Quit) => Act::Step,
            Next::Event(Event::Auth(_)) => Act::Refuse,
            Next::Event(Event::DataEnd { size }) => {
                println!("message of {size} octets");
                Act::Accept
            }
            // Everything is welcome. STARTTLS is never asked for: it was not offered.
            Next::Event(_) => Act::Accept,
        };
        input.drain(..consumed);
        match act {
            Act::Step => {}
            Act::Accept => session.accept(),
            Act::Refuse => session.auth(Verdict::Refuse),
            Act::Write => socket.write_all(&std::mem::take(&mut output))?,
            Act::Close => return socket.write_all(&output),
            Act::Read => {
                socket.write_all(&std::mem::take(&mut output))?;
                let wait = session
                    .deadline()
                    .map(|at| Duration::from_millis(at.since(clock.now()).max(1)));
                socket.set_read_timeout(wait)?;
                match socket.read(&mut buffer) {
                    Ok(0) => session.eof(clock.now()),
                    Ok(n) => input.extend_from_slice(&buffer[..n]),
                    // The deadline: the next step sees it.
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }
}
