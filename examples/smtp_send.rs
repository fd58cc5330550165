//! A sender: `smtp_send HOST PORT FROM TO[,TO...] FILE [lmtp]`
//!
//! Sends a file to the mail server at HOST and PORT, with a bare client session on a socket of its own, and prints each
//! recipient's outcome. It shows who does what: the host owns socket, clock and file, the session speaks SMTP. There is no
//! TLS here: TLS is the host's, who makes the handshake when `StartTls` comes; this program tells the session not to ask for
//! it. Ends with 0 when every recipient has the message. The same program in C stands beside it.

#![allow(clippy::disallowed_methods)] // a program: files, sockets and time are its own business

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::client::{
    Client, ClientConfig, ClientEvent, Content, Recipient, Tls, Transaction,
};
use posthouse::time::{Clock, SystemClock};

/// What the host does about an event.
enum Act {
    Step,
    Begin,
    Body(usize),
    Quit,
    Write,
    Read,
    Close,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, from, to, file, rest @ ..] = &arguments[..] else {
        eprintln!("usage: smtp_send HOST PORT FROM TO[,TO...] FILE [lmtp]");
        return ExitCode::from(2);
    };
    let to: Vec<&str> = to.split(',').collect();
    let config = ClientConfig {
        hostname: "client.example.test".to_owned(),
        lmtp: rest.iter().any(|word| word == "lmtp"),
        tls: Tls::Never,
        ..ClientConfig::default()
    };
    let sent = File::open(file).and_then(|file| {
        let socket = TcpStream::connect(format!("{host}:{port}"))?;
        converse(socket, config, from, &to, file)
    });
    match sent {
        Ok(delivered) if delivered == to.len() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("smtp_send: {error}");
            ExitCode::FAILURE
        }
    }
}

/// From greeting to end. The number of recipients that have the message.
fn converse(
    mut socket: TcpStream,
    config: ClientConfig,
    from: &str,
    to: &[&str],
    mut file: File,
) -> std::io::Result<usize> {
    let clock = SystemClock::new();
    let mut session = Client::new(Arc::new(config), false, clock.now());
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut buffer = [0; 16 << 10];
    let mut delivered = 0;
    loop {
        let Step { consumed, next } = session.step(clock.now(), &input, &mut output);
        let act = match next {
            Next::NeedInput => Act::Read,
            Next::Blocked => Act::Write,
            Next::Closed => Act::Close,
            Next::Event(ClientEvent::Ready { .. }) => Act::Begin,
            Next::Event(ClientEvent::NeedBody { max }) => Act::Body(max),
            Next::Event(ClientEvent::Recipient { index, outcome }) => {
                println!("{}: {:?}: {}", to[index], outcome.verdict, outcome.answer);
                Act::Step
            }
            Next::Event(ClientEvent::Done(done)) => {
                delivered = done.delivered;
                Act::Quit
            }
            Next::Event(ClientEvent::Failed(failure)) => {
                println!("failed: {:?}: {}", failure.verdict, failure.answer);
                Act::Step
            }
            // Does not come: the configuration says so.
            Next::Event(ClientEvent::StartTls) => Act::Close,
        };
        input.drain(..consumed);
        match act {
            Act::Step => {}
            Act::Begin => {
                let recipients: Vec<Recipient<'_>> =
                    to.iter().map(|to| Recipient { to, parameters: "" }).collect();
                let transaction = Transaction {
                    from,
                    recipients: &recipients,
                    content: Content::EightBit,
                    ..Transaction::default()
                };
                if let Err(error) = session.begin(&transaction) {
                    eprintln!("smtp_send: {error}");
                    session.quit();
                }
            }
            Act::Body(max) => {
                let most = max.min(buffer.len());
                let told = match file.read(&mut buffer[..most]) {
                    Ok(0) => session.body_end(&mut output),
                    Ok(n) => session.body(&buffer[..n], &mut output),
                    Err(error) => session.body_failed(&error.to_string()),
                };
                told.map_err(std::io::Error::other)?;
            }
            Act::Quit => session.quit(),
            Act::Write => socket.write_all(&std::mem::take(&mut output))?,
            Act::Close => {
                let _ = socket.write_all(&output);
                return Ok(delivered);
            }
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
                    Err(_) => session.eof(clock.now()),
                }
            }
        }
    }
}
