//! Up to the first transaction, and between two: greeting, EHLO with HELO behind it, STARTTLS, AUTH.

use zeroize::Zeroizing;

use super::outcome::{Origin, Verdict};
use super::{Client, Owed, State, Tls, auth};
use crate::codec::base64;
use crate::sasl::Nonce;
use crate::sasl::client::Channel;
use crate::smtp::answer::Answer;

/// Longest AUTH command with an initial response in octets: the command line of RFC 5321 4.5.3.1.4, which RFC 4954 4 keeps.
const AUTH_COMMAND_OCTETS: usize = 512;

impl Client {
    /// What SCRAM needs: 18 random octets that were never used before, and what is known of the TLS channel. To be given
    /// before the session logs in: right behind [`Client::new`], and with the channel again before
    /// [`Client::tls_started`]. Without it SCRAM is not used.
    pub fn set_channel(&mut self, nonce: Nonce, channel: Channel) {
        self.means.nonce = Some(nonce);
        self.means.channel = channel;
    }

    /// The same with the nonce as it was given, or none.
    pub fn bind_channel(&mut self, channel: Channel) {
        self.means.channel = channel;
    }

    /// Whether TLS has just come, or was there from the beginning and the greeting is awaited: the time for
    /// [`Client::set_channel`].
    pub fn is_before_hello(&self) -> bool {
        self.state == State::Handshake || self.tls && self.state == State::Greeting
    }

    /// TLS is on: nothing that was said before is known any more, and EHLO is said again (RFC 3207 4.2). `unread`: octets that came
    /// in the clear behind the 220 and were not consumed. When there are any, somebody put them there, and the session fails.
    ///
    /// Without [`ClientEvent::StartTls`](super::ClientEvent::StartTls) before it: no effect.
    pub fn tls_started(&mut self, unread: &[u8], out: &mut Vec<u8>) {
        if self.state != State::Handshake {
            return;
        }
        self.tls = true;
        if unread.is_empty() {
            self.say_hello(out);
        } else {
            self.own = Answer::own(
                454,
                7,
                5,
                "The receiving system sent something in the clear behind its answer to STARTTLS",
            );
            self.give_up(Origin::Client, Verdict::Temporary, false);
        }
    }

    /// The handshake failed: [`ClientEvent::Failed`](super::ClientEvent::Failed), then `Closed`. `why` goes into its answer.
    ///
    /// Without [`ClientEvent::StartTls`](super::ClientEvent::StartTls) before it: no effect.
    pub fn tls_failed(&mut self, why: &str) {
        if self.state == State::Handshake {
            let why = why.replace(|c: char| c.is_control(), " ");
            self.own = Answer::own(454, 7, 5, &format!("TLS handshake failed: {why}"));
            self.give_up(Origin::Client, Verdict::Temporary, false);
        }
    }

    /// A line of the reply to EHLO or LHLO. The first names the peer.
    pub(super) fn hello_line(&mut self, line: &[u8]) {
        if self.parser.answer().class() == 2 && self.capabilities.extended {
            self.capabilities.line(line);
        }
        self.capabilities.extended = true;
    }

    /// A reply outside of transactions, not 421.
    pub(super) fn heard_outside(&mut self, out: &mut Vec<u8>) {
        let (code, class) = (self.parser.answer().code(), self.parser.answer().class());
        match (self.state, class) {
            (State::Greeting, 2) => self.say_hello(out),
            (State::Hello, 2) => self.secure(out),
            // The extensions are unknown to it (RFC 5321 3.2).
            (State::Hello, 5) if !self.config.lmtp => {
                self.capabilities.clear();
                self.command(b"HELO ", out);
                self.state = State::Helo;
            }
            (State::Helo, 2) => self.secure(out),
            (State::StartTls, 2) => {
                self.state = State::Handshake;
                self.owed = Owed::StartTls;
            }
            (State::StartTls, 4 | 5) if self.config.tls != Tls::Required => self.log_in(out),
            (State::Auth, 2) => match self.exchange.as_mut().map(|e| e.finish()) {
                Some(Err(why)) => self.broken(&format!("AUTH succeeded, but {why}")),
                _ => {
                    self.authenticated = true;
                    self.ready();
                }
            },
            (State::Auth, 3) => self.challenged(out),
            // This mechanism is not for it (RFC 4954 4): the next.
            (State::Auth, 5) if code == 504 => self.log_in(out),
            // The reason was given before the cancellation.
            (State::Cancelled, 4 | 5) => {
                self.give_up(Origin::Client, Verdict::Temporary, true);
            }
            (State::Greeting | State::Hello | State::Helo | State::StartTls | State::Auth, 4) => {
                self.give_up(Origin::Peer, Verdict::Temporary, true);
            }
            (State::Greeting | State::Hello | State::Helo | State::StartTls | State::Auth, 5) => {
                self.give_up(Origin::Peer, Verdict::Permanent, true);
            }
            (State::Quitting, _) => self.state = State::Closed,
            (State::Idle, _) => self.broken("a reply to nothing"),
            _ => self.broken("a reply of a class that cannot stand here"),
        }
    }

    fn say_hello(&mut self, out: &mut Vec<u8>) {
        self.capabilities.clear();
        let lmtp = self.config.lmtp;
        self.command(if lmtp { b"LHLO " } else { b"EHLO " }, out);
        self.state = State::Hello;
    }

    /// A command with our name.
    fn command(&mut self, verb: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(verb);
        out.extend_from_slice(self.config.hostname.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Behind EHLO: TLS, if it is wanted.
    fn secure(&mut self, out: &mut Vec<u8>) {
        if self.tls || self.config.tls == Tls::Never {
            self.log_in(out);
        } else if self.capabilities.starttls {
            out.extend_from_slice(b"STARTTLS\r\n");
            self.state = State::StartTls;
        } else if self.config.tls == Tls::Required {
            self.own = Answer::own(
                451,
                7,
                4,
                "TLS is required and the receiving system does not offer STARTTLS",
            );
            self.give_up(Origin::Client, Verdict::Temporary, true);
        } else {
            self.log_in(out);
        }
    }

    /// Behind TLS: AUTH, if it is wanted, with the next mechanism that both sides know.
    fn log_in(&mut self, out: &mut Vec<u8>) {
        let config = self.config.clone();
        let Some(login) = &config.login else {
            self.ready();
            return;
        };
        if !self.tls && !config.auth_in_clear {
            self.own = Answer::own(454, 7, 0, "Credentials are not sent without TLS");
            self.give_up(Origin::Client, Verdict::Temporary, true);
            return;
        }
        let mut exchange = match auth::Exchange::new(&self.capabilities, login, &mut self.means) {
            Ok(exchange) => exchange,
            Err(why) => {
                self.own = Answer::own(454, 7, 0, &why);
                self.give_up(Origin::Client, Verdict::Temporary, true);
                return;
            }
        };
        out.extend_from_slice(b"AUTH ");
        out.extend_from_slice(exchange.name().as_bytes());
        if let Some(initial) = exchange.initial() {
            let text = encoded(&initial);
            let length = "AUTH  \r\n".len() + exchange.name().len() + text.len();
            if length <= AUTH_COMMAND_OCTETS {
                out.push(b' ');
                // An empty one is spelled `=` (RFC 4954 4).
                out.extend_from_slice(if text.is_empty() { b"=" } else { text.as_bytes() });
            } else {
                exchange.hold(initial);
            }
        }
        out.extend_from_slice(b"\r\n");
        self.exchange = Some(exchange);
        self.state = State::Auth;
    }

    /// A 334: the mechanism's next response.
    fn challenged(&mut self, out: &mut Vec<u8>) {
        let text = self.parser.answer().text().trim();
        let challenge = base64::decode(text.as_bytes());
        let response = match (&mut self.exchange, challenge) {
            (Some(exchange), Some(challenge)) => exchange.respond(&challenge),
            _ => Err("the server's challenge is not Base64".to_owned()),
        };
        match response {
            Ok(response) => out.extend_from_slice(encoded(&response).as_bytes()),
            Err(why) => {
                self.own = Answer::own(454, 7, 0, &format!("AUTH was cancelled: {why}"));
                self.state = State::Cancelled;
                out.push(b'*');
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn ready(&mut self) {
        self.exchange = None;
        self.state = State::Idle;
        self.owed = Owed::Ready;
    }
}

fn encoded(octets: &[u8]) -> Zeroizing<String> {
    // Room for all before: growing would leave unwiped copies behind.
    let mut text = Zeroizing::new(String::with_capacity(octets.len().div_ceil(3) * 4));
    base64::encode(octets, &mut text);
    text
}
