//! AUTH (RFC 4954): the command and the lines of its exchange.

use super::phrase::{NOT_BASE64, OUT_OF_PLACE};
use super::{Pause, Server, Signal, State};
use crate::codec::base64;
use crate::sasl;
use crate::smtp::Reply;
use crate::smtp::command;

impl Server {
    pub(super) fn authenticate(
        &mut self,
        argument: &[u8],
    ) -> Result<Option<Signal>, Reply<'static>> {
        if self.authenticated {
            return Err(Reply::new(503, 5, 1, "Authenticated already"));
        }
        if self.transaction.open {
            return Err(OUT_OF_PLACE);
        }
        if !self.offer.auth {
            return Err(if self.offer.starttls && !self.offer.tls {
                Reply::new(538, 7, 11, "Authentication needs TLS: send STARTTLS first")
            } else {
                Reply::new(502, 5, 1, "AUTH is not offered")
            });
        }
        if !(self.greeted && self.extended) {
            return Err(Reply::new(503, 5, 1, "EHLO comes first"));
        }
        let (mechanism, initial) = command::auth(argument)?;
        let mut exchange = Box::new(sasl::Exchange::new(mechanism));
        let progress = match initial {
            None => exchange.challenge(),
            Some(b"=") => exchange.respond(b""),
            Some(text) => exchange.respond(&base64::decode(text).ok_or(NOT_BASE64)?),
        };
        self.exchange = Some(exchange);
        Ok(self.progress(progress))
    }

    pub(super) fn response(&mut self, line: &[u8]) -> Option<Signal> {
        self.state = State::Command;
        if line == b"*" {
            self.exchange = None;
            self.refuse(Reply::new(501, 7, 0, "Authentication cancelled"));
            return None;
        }
        let Some(response) = base64::decode(line) else {
            self.exchange = None;
            self.refuse(NOT_BASE64);
            return None;
        };
        let progress = self.exchange.as_mut().map(|exchange| exchange.respond(&response));
        self.progress(progress.unwrap_or(sasl::Progress::Malformed))
    }

    fn progress(&mut self, progress: sasl::Progress) -> Option<Signal> {
        match progress {
            sasl::Progress::Challenge(text) => {
                let mut line = String::from("334 ");
                base64::encode(text.as_bytes(), &mut line);
                line.push_str("\r\n");
                self.pending.extend_from_slice(line.as_bytes());
                self.state = State::Response;
                None
            }
            sasl::Progress::Ask => {
                self.pause = Pause::Auth;
                Some(Signal::Auth)
            }
            sasl::Progress::Malformed => {
                self.exchange = None;
                self.refuse(Reply::new(501, 5, 2, "The response does not fit the mechanism"));
                None
            }
        }
    }
}
