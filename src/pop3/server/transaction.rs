//! The TRANSACTION state: reading and marking messages (RFC 1939 5), and UPDATE's beginning.

use super::{Server, Signal, State};
use crate::pop3::body::Writer;
use crate::pop3::command::Command;
use crate::pop3::maildrop::{Entry, Marks, UniqueId};
use crate::pop3::reply::{code, line};

/// The least that is asked for at once, so that a nearly full output does not lead to tiny reads.
const BODY_MIN: usize = 4096;

/// The listings of many lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    Sizes,
    Ids,
}

/// A message on its way to the client.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) index: usize,
    pub(super) offset: u64,
    pub(super) writer: Writer,
    /// For RETR the octets to announce.
    pub(super) octets: Option<u64>,
    /// The first line of the reply stands in the output.
    pub(super) started: bool,
    /// The caller was asked and has not answered.
    pub(super) asked: bool,
}

impl Server {
    /// A command in the TRANSACTION state.
    pub(super) fn transaction(
        &mut self,
        command: Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Signal> {
        match command {
            Command::Capa => self.capabilities(out),
            Command::Stat => {
                line(out, format_args!("+OK {} {}", self.marks.count, self.marks.octets));
            }
            Command::List(None) => {
                let Marks { count, octets, .. } = self.marks;
                line(out, format_args!("+OK {count} messages ({octets} octets)"));
                self.set_state(State::Listing(Listing::Sizes, 0));
            }
            Command::Uidl(None) => {
                line(out, format_args!("+OK unique ids follow"));
                self.set_state(State::Listing(Listing::Ids, 0));
            }
            Command::List(Some(number)) => {
                if let Some((_, entry)) = self.message(number, out) {
                    line(out, format_args!("+OK {number} {}", entry.octets));
                }
            }
            Command::Uidl(Some(number)) => {
                if let Some((_, entry)) = self.message(number, out) {
                    let id = UniqueId(self.maildrop.validity, entry.uid);
                    line(out, format_args!("+OK {number} {id}"));
                }
            }
            Command::Retr(number) => {
                if let Some((index, entry)) = self.message(number, out) {
                    let body = Body::new(index, Writer::whole(), Some(entry.octets));
                    self.set_state(State::Body(body));
                }
            }
            Command::Top(number, lines) => {
                if let Some((index, _)) = self.message(number, out) {
                    self.set_state(State::Body(Body::new(index, Writer::top(lines), None)));
                }
            }
            Command::Dele(number) => {
                if let Some((index, entry)) = self.message(number, out) {
                    self.marks.delete(index, entry);
                    line(out, format_args!("+OK message {number} is marked as deleted"));
                }
            }
            Command::Rset => {
                self.marks = Marks::of(&self.maildrop.entries);
                let Marks { count, octets, .. } = self.marks;
                line(out, format_args!("+OK {count} messages ({octets} octets)"));
            }
            Command::Noop => line(out, format_args!("+OK")),
            Command::Quit => {
                let marks = &self.marks;
                self.deleted =
                    (0..self.maildrop.entries.len()).filter(|n| marks.is_deleted(*n)).collect();
                self.set_state(State::AwaitUpdate);
                return Some(Signal::Update);
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } | Command::Stls => {
                self.fail(code::NONE, "you are logged in already", out);
            }
        }
        None
    }

    /// The message of this number unless it is marked as deleted. Otherwise the reply says what is wrong.
    fn message(&mut self, number: u32, out: &mut Vec<u8>) -> Option<(usize, Entry)> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, *self.maildrop.entries.get(index)?))) {
            Some((index, _)) if self.marks.is_deleted(index) => {
                self.fail(code::NONE, "the message is marked as deleted", out);
                None
            }
            Some(found) => Some(found),
            None => {
                self.fail(code::NONE, "no such message", out);
                None
            }
        }
    }

    /// Goes on with a listing or a body, at most until the output is full.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> Option<Signal> {
        let full = self.config.limits.output_bytes;
        match &mut self.state {
            State::Body(body) => {
                body.asked = true;
                let max = full.saturating_sub(out.len()).max(BODY_MIN);
                return Some(Signal::NeedBody { index: body.index, offset: body.offset, max });
            }
            State::Listing(listing, next) => {
                while out.len() < full {
                    let index = *next;
                    let Some(entry) = self.maildrop.entries.get(index) else {
                        line(out, format_args!("."));
                        self.set_state(State::Transaction);
                        return None;
                    };
                    *next += 1;
                    if self.marks.is_deleted(index) {
                        continue;
                    }
                    let number = index + 1;
                    match listing {
                        Listing::Sizes => line(out, format_args!("{number} {}", entry.octets)),
                        Listing::Ids => {
                            let id = UniqueId(self.maildrop.validity, entry.uid);
                            line(out, format_args!("{number} {id}"));
                        }
                    }
                }
            }
            _ => {}
        }
        None
    }
}

impl Body {
    fn new(index: usize, writer: Writer, octets: Option<u64>) -> Body {
        Body { index, offset: 0, writer, octets, started: false, asked: false }
    }

    /// The first line of the reply, once it is known that there are bytes.
    pub(super) fn start(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.started, true) {
            match self.octets {
                Some(octets) => line(out, format_args!("+OK {octets} octets")),
                None => line(out, format_args!("+OK the top of the message follows")),
            }
        }
    }
}
