//! A server that keeps nothing: what the generator and the sockets alone can do.
//!
//! The library's own machine on bare sockets, one task for each connection on one thread, every message accepted and
//! dropped. Where a server comes near this figure, the generator's processor time is the bound and not the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::{Clock, SystemClock};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Octets read at once.
const READ_OCTETS: usize = 64 << 10;

/// Serves until the program is ended; prints `ready ADDRESS` once it listens.
pub async fn serve(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(address)?;
    let listener: TcpListener = socket.listen(4096)?;
    println!("ready {}", listener.local_addr()?);
    let config = Arc::new(ServerConfig {
        hostname: "sink.example.test".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits { transactions: u32::MAX, ..Limits::default() },
        extensions: Extensions::default(),
    });
    let clock = SystemClock::shared();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (config, clock) = (Arc::clone(&config), Arc::clone(&clock));
        tokio::spawn(async move { converse(stream, config, clock).await });
    }
}

async fn converse(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    clock: Arc<dyn Clock>,
) -> io::Result<()> {
    let mut session = Server::new(config, Offer::default(), clock.now());
    let mut output = Vec::new();
    let mut input = Vec::new();
    loop {
        let mut used = 0;
        let more = loop {
            let Step { consumed, next } = session.step(clock.now(), &input[used..], &mut output);
            used += consumed;
            match next {
                Next::Event(Event::DataChunk(_) | Event::Reset | Event::Quit) => {}
                Next::Event(_) => session.accept(),
                Next::NeedInput => break true,
                Next::Blocked => write(&stream, &mut output).await?,
                Next::Closed => break false,
            }
        };
        input.drain(..used);
        write(&stream, &mut output).await?;
        if !more {
            return Ok(());
        }
        loop {
            stream.readable().await?;
            input.reserve(READ_OCTETS);
            match stream.try_read_buf(&mut input) {
                Ok(0) => return Ok(()),
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

async fn write(stream: &TcpStream, output: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = output.as_slice();
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(e) => return Err(e),
        }
    }
    output.clear();
    Ok(())
}
