//! The asking side of the control socket: blocking, without a runtime.
//!
//! A control file without an engine behind it that knows the token is a dead engine's: [`Client::connect`] then
//! answers [`Found::Stale`], and the caller opens the instance itself, as without a file. Whether an
//! engine that does not answer is dead is told by the instance's lock, not here.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{ANSWER_BYTES, GREETING, Place, REQUEST_BYTES, welcome};
use crate::error::{Error, Kind, Result, kind_of_io};
use crate::vfs::Fs;

/// How long connecting on the loopback interface may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long an engine may work without a word.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// How long an engine may take to accept the token.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// What [`Client::connect`] found.
pub enum Found {
    /// The engine that serves the instance.
    Engine(Client),
    /// A control file, and nobody behind it.
    Stale,
    /// No control file: no engine serves the instance.
    Nothing,
}

/// A connection to a running engine.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects to the engine that serves an instance.
    ///
    /// # Errors
    /// Those of reading the control file.
    pub fn connect(fs: &dyn Fs, instance: &Path) -> Result<Found> {
        let Some(place) = Place::read(fs, instance)? else { return Ok(Found::Nothing) };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, place.port));
        let connect = || {
            let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIME)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(GREETING_TIME))?;
            stream.set_write_timeout(Some(ANSWER_TIME))?;
            stream.write_all(format!("{GREETING}{}\n", place.token).as_bytes())?;
            Ok::<_, std::io::Error>(Client { stream, input: Vec::new() })
        };
        let Ok(mut client) = connect() else { return Ok(Found::Stale) };
        // Another program may have been given the port since, perhaps one that waits for our passwords.
        let welcome = welcome(&place.proof);
        match client.line(welcome.len().saturating_add(1)) {
            Ok(line) if line.trim_ascii_end() == welcome.as_bytes() => {}
            _ => return Ok(Found::Stale),
        }
        client.stream.set_read_timeout(Some(ANSWER_TIME)).map_err(|e| lost(&e))?;
        Ok(Found::Engine(client))
    }

    /// Asks and waits for the answer. `progress(done, total)` is called for every report on the way.
    ///
    /// # Errors
    /// What the engine answered; `Stopped` when the connection ended without an answer.
    pub fn ask(&mut self, request: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<Value> {
        if request.contains('\n') || request.len() >= REQUEST_BYTES {
            return Err(Error::new(Kind::Limit, "the request is longer than can be asked"));
        }
        let mut line = request.as_bytes().to_vec();
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|e| lost(&e))?;
        loop {
            let line = self.line(ANSWER_BYTES)?;
            let mut message: Value = serde_json::from_slice(&line).map_err(|e| {
                Error::new(Kind::Protocol, format!("the engine's answer is not understood: {e}"))
            })?;
            if let Some(report) = message.get("progress") {
                let number = |n: usize| report.get(n).and_then(Value::as_u64).unwrap_or(0);
                progress(number(0), number(1));
            } else if let Some(error) = message.get("error") {
                let code = error.get("code").and_then(Value::as_i64).unwrap_or_default();
                let kind = i32::try_from(code).ok().and_then(Kind::from_code);
                let text =
                    error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
                return Err(Error::new(kind.unwrap_or(Kind::Internal), text.to_owned()));
            } else if let Some(answer) = message.get_mut("answer") {
                return Ok(answer.take());
            } else {
                return Err(Error::new(Kind::Protocol, "the engine's answer is not understood"));
            }
        }
    }

    fn line(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let fresh = self.input.get(searched..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', fresh).map(|n| searched.saturating_add(n)) {
                return Ok(self.input.drain(..=end).collect());
            }
            searched = self.input.len();
            if searched >= limit {
                return Err(Error::new(Kind::Protocol, "the engine's answer has no end"));
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(lost(&std::io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => self.input.extend_from_slice(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(lost(&e)),
            }
        }
    }
}

fn lost(error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::UnexpectedEof
        | std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::BrokenPipe => Kind::Stopped,
        _ => kind_of_io(error),
    };
    Error::new(kind, format!("the running engine did not answer: {error}"))
}
