//! Small clients for SMTP and POP3 over real sockets, in clear or over TLS: what the demo talks with.
//!
//! They know just enough to send a message and to read it back, check every reply, and say which one was
//! wrong. Every wait ends after [`PATIENCE`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse::runtime::tls::{Connector, Tls};

use super::Failure;

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection in lines.
struct Wire {
    stream: TcpStream,
    tls: Option<Tls>,
    input: Vec<u8>,
    /// How far the input has been taken.
    taken: usize,
}

fn failed(what: &str) -> impl FnOnce(std::io::Error) -> Failure {
    move |e| Failure::new(format_args!("{what}: {e}"))
}

impl Wire {
    fn connect(address: SocketAddr) -> Result<Wire, Failure> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(failed(&format!("cannot connect to {address}")))?;
        Ok(Wire { stream, tls: None, input: Vec::new(), taken: 0 })
    }

    fn start_tls(&mut self, connector: &Connector, name: &str) -> Result<(), Failure> {
        let mut tls = connector.connect(name)?;
        let mut out = Vec::new();
        let mut shake = || {
            loop {
                tls.take_ciphertext(&mut out)?;
                self.stream.write_all(&out)?;
                out.clear();
                if !tls.is_handshaking() {
                    return Ok(());
                }
                let mut buffer = [0; 16384];
                let read = self.stream.read(&mut buffer)?;
                if read == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                tls.put_ciphertext(buffer.get(..read).unwrap_or_default(), &mut self.input)?;
            }
        };
        shake().map_err(failed("TLS handshake"))?;
        self.tls = Some(tls);
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => {
                let mut out = Vec::new();
                tls.put_plaintext(bytes, &mut out).and_then(|()| self.stream.write_all(&out))
            }
        };
        sent.map_err(failed("cannot send"))
    }

    /// The next line, its line end included.
    fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut searched = self.taken;
        loop {
            let fresh = self.input.get(searched..).unwrap_or_default();
            if let Some(end) = memchr::memchr(b'\n', fresh) {
                let end = searched + end + 1;
                let line = self.input.get(self.taken..end).unwrap_or_default().to_vec();
                self.taken = end;
                return Ok(line);
            }
            self.input.drain(..self.taken);
            self.taken = 0;
            searched = self.input.len();
            let mut buffer = [0; 65536];
            let read = self.stream.read(&mut buffer).map_err(failed("no answer"))?;
            let bytes = buffer.get(..read).unwrap_or_default();
            let open = match &mut self.tls {
                None => {
                    self.input.extend_from_slice(bytes);
                    read > 0
                }
                Some(tls) => {
                    tls.put_ciphertext(bytes, &mut self.input).map_err(failed("TLS"))? && read > 0
                }
            };
            if !open && self.input.len() == searched {
                return Err(Failure::new("the server closed the connection"));
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

/// An SMTP client after EHLO.
pub struct Smtp(Wire);

impl Smtp {
    /// Connects, reads the greeting, says EHLO.
    pub fn connect(address: SocketAddr) -> Result<Smtp, Failure> {
        let mut smtp = Smtp(Wire::connect(address)?);
        smtp.answered("the greeting", b'2')?;
        smtp.command("EHLO demo.example.test")?;
        Ok(smtp)
    }

    /// Switches to TLS and says EHLO again.
    pub fn start_tls(&mut self, connector: &Connector, name: &str) -> Result<(), Failure> {
        self.command("STARTTLS")?;
        self.0.start_tls(connector, name)?;
        self.command("EHLO demo.example.test")?;
        Ok(())
    }

    /// Logs in (AUTH PLAIN, RFC 4616).
    pub fn log_in(&mut self, login: &str, password: &str) -> Result<(), Failure> {
        let response = STANDARD.encode(format!("\0{login}\0{password}"));
        self.0.send(format!("AUTH PLAIN {response}\r\n").as_bytes())?;
        self.answered("AUTH PLAIN", b'2')?;
        Ok(())
    }

    /// Sends a message whose lines end in CR LF: the envelope in one write, the body in the next.
    pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<(), Failure> {
        let body = if message.is_ascii() { "" } else { " BODY=8BITMIME" };
        let mut envelope = format!("MAIL FROM:<{from}>{body}\r\n");
        for to in to {
            envelope.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        envelope.push_str("DATA\r\n");
        self.0.send(envelope.as_bytes())?;
        self.answered("MAIL", b'2')?;
        for to in to {
            self.answered(&format!("RCPT TO:<{to}>"), b'2')?;
        }
        self.answered("DATA", b'3')?;
        let mut out = Vec::with_capacity(message.len() + message.len() / 64 + 8);
        for line in message.split_inclusive(|b| *b == b'\n') {
            if line.first() == Some(&b'.') {
                out.push(b'.');
            }
            out.extend_from_slice(line);
        }
        out.extend_from_slice(b".\r\n");
        self.0.send(&out)?;
        self.answered("the message", b'2')?;
        Ok(())
    }

    /// Ends the conversation.
    pub fn quit(mut self) -> Result<(), Failure> {
        self.command("QUIT")?;
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<String, Failure> {
        self.0.send(format!("{line}\r\n").as_bytes())?;
        self.answered(line, b'2')
    }

    /// Reads a reply of this class; its last line.
    fn answered(&mut self, to: &str, class: u8) -> Result<String, Failure> {
        loop {
            let line = self.0.line()?;
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if line.first() != Some(&class) {
                return Err(Failure::new(format_args!("{to} was answered: {}", text(&line))));
            }
            return Ok(text(&line));
        }
    }
}

/// A POP3 client.
pub struct Pop3(Wire);

impl Pop3 {
    /// Connects, switches to TLS, logs in.
    pub fn connect(
        address: SocketAddr,
        connector: &Connector,
        name: &str,
        login: &str,
        password: &str,
    ) -> Result<Pop3, Failure> {
        let mut pop3 = Pop3(Wire::connect(address)?);
        pop3.answered("the greeting")?;
        pop3.command("STLS")?;
        pop3.0.start_tls(connector, name)?;
        pop3.command(&format!("USER {login}"))?;
        pop3.0.send(format!("PASS {password}\r\n").as_bytes())?;
        pop3.answered("PASS")?;
        Ok(pop3)
    }

    /// The number of messages.
    pub fn messages(&mut self) -> Result<u32, Failure> {
        let line = self.command("STAT")?;
        let number = line.split(' ').nth(1).and_then(|number| number.parse().ok());
        number.ok_or_else(|| Failure::new(format_args!("STAT was answered: {line}")))
    }

    /// A message's bytes.
    pub fn retrieve(&mut self, number: u32) -> Result<Vec<u8>, Failure> {
        self.command(&format!("RETR {number}"))?;
        let mut message = Vec::new();
        loop {
            let line = self.0.line()?;
            match line.as_slice() {
                b".\r\n" => return Ok(message),
                [b'.', rest @ ..] => message.extend_from_slice(rest),
                line => message.extend_from_slice(line),
            }
        }
    }

    /// Ends the conversation.
    pub fn quit(mut self) -> Result<(), Failure> {
        self.command("QUIT")?;
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<String, Failure> {
        self.0.send(format!("{line}\r\n").as_bytes())?;
        self.answered(line)
    }

    fn answered(&mut self, to: &str) -> Result<String, Failure> {
        let line = self.0.line()?;
        if !line.starts_with(b"+OK") {
            return Err(Failure::new(format_args!("{to} was answered: {}", text(&line))));
        }
        Ok(text(&line))
    }
}
