//! One SMTP connection as a client: commands, replies, messages.

use std::io;
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::wire::Wire;

/// Longest reply line accepted (RFC 5321 4.5.3.1.5 allows 512; extensions may need more).
const REPLY_LINE: usize = 4096;
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Envelope in one write, body in the next.
    Grouped,
    /// Envelope and body in one write, with BDAT.
    Bdat,
    /// One command at a time.
    Plain,
}

/// Why a message was not acknowledged.
pub enum Failure {
    /// The server certainly has not taken it.
    Refused(String),
    /// The body's end was sent and no reply came.
    Unknown(String),
}

/// An open connection.
pub struct Connection {
    wire: Wire,
    input: Vec<u8>,
    consumed: usize,
}

impl Connection {
    /// Connects, and greets; with `tls` after STARTTLS once more.
    pub async fn open(target: SocketAddr, mode: Mode, tls: bool) -> Result<Connection, String> {
        let wire = Wire::connect(target).await.map_err(|e| format!("connect: {e}"))?;
        let mut connection = Connection { wire, input: Vec::new(), consumed: 0 };
        connection.expect(b"220", "greeting").await?;
        let mut reply = connection.hello().await?;
        if tls {
            connection.send(b"STARTTLS\r\n").await.map_err(|e| format!("STARTTLS: {e}"))?;
            connection.expect(b"220", "STARTTLS").await?;
            connection.wire.start_tls().await.map_err(|e| format!("TLS: {e}"))?;
            reply = connection.hello().await?;
        }
        let needed = match mode {
            Mode::Grouped => "PIPELINING",
            Mode::Bdat => "CHUNKING",
            Mode::Plain => "",
        };
        if !reply.to_ascii_uppercase().contains(needed) {
            return Err(format!("the server does not offer {needed}"));
        }
        Ok(connection)
    }

    async fn hello(&mut self) -> Result<String, String> {
        self.send(b"EHLO load.sender.example\r\n").await.map_err(|e| format!("EHLO: {e}"))?;
        self.expect(b"250", "EHLO").await
    }

    /// Sends all of it.
    pub async fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.wire.send(octets).await
    }

    /// One line without its CR LF, as a range of `input`.
    async fn line(&mut self) -> io::Result<std::ops::Range<usize>> {
        let mut searched = self.consumed;
        loop {
            if let Some(at) = self.input[searched..].iter().position(|octet| *octet == b'\n') {
                let begin = self.consumed;
                let end = searched + at;
                self.consumed = end + 1;
                let end = if self.input[begin..end].ends_with(b"\r") { end - 1 } else { end };
                return Ok(begin..end);
            }
            if self.consumed > 0 {
                self.input.drain(..self.consumed);
                self.consumed = 0;
            }
            searched = self.input.len();
            if searched > REPLY_LINE {
                return Err(io::Error::other("reply line too long"));
            }
            self.wire.receive(&mut self.input).await?;
        }
    }

    /// One whole reply, its lines joined by line feeds.
    pub async fn reply(&mut self) -> io::Result<String> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            let line = &self.input[line];
            let last = line.get(3) != Some(&b'-');
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&String::from_utf8_lossy(line));
            if last {
                return Ok(text);
            }
        }
    }

    /// Reads the reply to `command` and checks its code. Expected one-line replies make no garbage.
    async fn expect(&mut self, code: &[u8; 3], command: &str) -> Result<String, String> {
        let reply = self.reply().await.map_err(|e| format!("{command}: {e}"))?;
        if reply.as_bytes().starts_with(code) {
            return Ok(reply);
        }
        Err(format!("{command}: {reply}"))
    }

    /// As `expect`, for replies of one line whose text nobody reads.
    async fn expect_code(&mut self, code: &[u8; 3], command: &str) -> Result<(), String> {
        let line = self.line().await.map_err(|e| format!("{command}: {e}"))?;
        let line = &self.input[line];
        if line.starts_with(code) && line.get(3) != Some(&b'-') {
            return Ok(());
        }
        Err(format!("{command}: {}", String::from_utf8_lossy(line)))
    }

    /// Sends one message and reads its replies.
    pub async fn message(
        &mut self,
        mode: Mode,
        envelope: &Envelope,
        body: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let refused = |text: String| Failure::Refused(text);
        let broken = |e: io::Error| Failure::Refused(format!("send: {e}"));
        scratch.clear();
        match mode {
            Mode::Grouped => {
                scratch.extend_from_slice(&envelope.mail);
                scratch.extend_from_slice(&envelope.rcpt);
                scratch.extend_from_slice(b"DATA\r\n");
                self.send(scratch).await.map_err(broken)?;
                self.expect_code(b"250", "MAIL").await.map_err(refused)?;
                self.expect_code(b"250", "RCPT").await.map_err(refused)?;
                self.expect_code(b"354", "DATA").await.map_err(refused)?;
            }
            Mode::Plain => {
                self.send(&envelope.mail).await.map_err(broken)?;
                self.expect_code(b"250", "MAIL").await.map_err(refused)?;
                self.send(&envelope.rcpt).await.map_err(broken)?;
                self.expect_code(b"250", "RCPT").await.map_err(refused)?;
                self.send(b"DATA\r\n").await.map_err(broken)?;
                self.expect_code(b"354", "DATA").await.map_err(refused)?;
            }
            Mode::Bdat => {
                scratch.extend_from_slice(&envelope.mail);
                scratch.extend_from_slice(&envelope.rcpt);
                scratch.extend_from_slice(format!("BDAT {} LAST\r\n", body.len()).as_bytes());
                scratch.extend_from_slice(body);
                // From here on the whole message may be there, whatever becomes of the connection.
                let unknown = |text: String| Failure::Unknown(text);
                self.send(scratch).await.map_err(|e| unknown(format!("send: {e}")))?;
                self.expect_code(b"250", "MAIL").await.map_err(unknown)?;
                self.expect_code(b"250", "RCPT").await.map_err(unknown)?;
                return self.taken("BDAT").await;
            }
        }
        scratch.clear();
        scratch.extend_from_slice(body);
        scratch.extend_from_slice(b".\r\n");
        self.send(scratch).await.map_err(|e| Failure::Unknown(format!("send body: {e}")))?;
        self.taken("end of data").await
    }

    /// The reply that takes responsibility. A reply of another class is a refusal; silence is unknown.
    async fn taken(&mut self, command: &str) -> Result<(), Failure> {
        loop {
            let line = self.line().await;
            let line = line.map_err(|e| Failure::Unknown(format!("{command}: {e}")))?;
            let line = &self.input[line];
            if !line.starts_with(b"250") {
                let text = String::from_utf8_lossy(line);
                return Err(Failure::Refused(format!("{command}: {text}")));
            }
            // Exim says two lines to BDAT.
            if line.get(3) != Some(&b'-') {
                return Ok(());
            }
        }
    }
}

/// The commands of a message's envelope.
pub struct Envelope {
    /// MAIL, with CR LF.
    pub mail: Vec<u8>,
    /// RCPT, with CR LF.
    pub rcpt: Vec<u8>,
}
