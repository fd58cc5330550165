//! A blocking line client over real sockets, in clear or over TLS, for tests of whole engines.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use posthouse::runtime::tls::{Connector, Tls};

/// A client connection. Every wait ends after ten seconds.
pub struct Client {
    stream: TcpStream,
    tls: Option<Tls>,
    input: Vec<u8>,
    /// Sent in front of the next handshake, in one piece with it.
    pub prefix: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, tls: None, input: Vec::new(), prefix: Vec::new() }
    }

    /// Makes a TLS handshake as a client of `name`.
    pub fn start_tls(&mut self, connector: &Connector, name: &str) {
        self.try_start_tls(connector, name).unwrap();
    }

    /// The same, which may fail.
    pub fn try_start_tls(&mut self, connector: &Connector, name: &str) -> std::io::Result<()> {
        let mut tls = connector.connect(name).unwrap();
        let mut out = std::mem::take(&mut self.prefix);
        tls.take_ciphertext(&mut out)?;
        self.stream.write_all(&out)?;
        while tls.is_handshaking() {
            let mut buffer = [0; 16384];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            tls.put_ciphertext(&buffer[..read], &mut self.input)?;
            out.clear();
            tls.take_ciphertext(&mut out)?;
            self.stream.write_all(&out)?;
        }
        self.tls = Some(tls);
        Ok(())
    }

    /// What TLS came to.
    #[allow(dead_code)]
    pub fn facts(&self) -> Option<posthouse::service::TlsFacts> {
        self.tls.as_ref()?.facts()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match &mut self.tls {
            None => self.stream.write_all(bytes.as_ref()).unwrap(),
            Some(tls) => {
                let mut out = Vec::new();
                tls.put_plaintext(bytes.as_ref(), &mut out).unwrap();
                self.stream.write_all(&out).unwrap();
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let read = match self.stream.read(&mut buffer) {
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(e) => panic!("no answer within ten seconds: {e}"),
        };
        if read == 0 {
            return false;
        }
        match &mut self.tls {
            None => self.input.extend_from_slice(&buffer[..read]),
            Some(tls) => {
                // The last bytes and the end may come together.
                let before = self.input.len();
                let open = tls.put_ciphertext(&buffer[..read], &mut self.input).unwrap_or_default();
                return open || self.input.len() > before;
            }
        }
        true
    }

    /// Sends a line; the first line of the answer.
    #[allow(dead_code)] // not every test needs it
    pub fn ask(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.line().expect("an answer")
    }

    /// The next line without its CR LF; `None` at the end of the connection.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// A whole SMTP reply: its lines.
    pub fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().expect("a reply, not the end");
            let more = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !more {
                return lines;
            }
        }
    }

    /// Sends a command and checks the start of the reply's last line.
    #[track_caller]
    pub fn command(&mut self, command: &str, expected: &str) -> Vec<String> {
        self.send(format!("{command}\r\n"));
        let reply = self.reply();
        let last = reply.last().unwrap();
        assert!(last.starts_with(expected), "{command}: expected {expected}, got {last}");
        reply
    }

    /// Sends a POP3 command and checks the start of the status line.
    #[track_caller]
    pub fn pop3(&mut self, command: &str, expected: &str) -> String {
        self.send(format!("{command}\r\n"));
        let line = self.line().expect("a status line");
        assert!(line.starts_with(expected), "{command}: expected {expected}, got {line}");
        line
    }

    /// A POP3 multi-line answer with its dots removed, up to and without the final dot.
    pub fn multi_line(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                    break end + 2;
                }
                assert!(self.fill(), "ended within a multi-line answer");
            };
            let line: Vec<u8> = self.input.drain(..end).collect();
            match line.as_slice() {
                b".\r\n" => return all,
                [b'.', rest @ ..] => all.extend_from_slice(rest),
                _ => all.extend_from_slice(&line),
            }
        }
    }

    /// Whether the peer has closed and nothing more came.
    pub fn at_end(&mut self) -> bool {
        self.input.is_empty() && !self.fill() && self.input.is_empty()
    }
}
