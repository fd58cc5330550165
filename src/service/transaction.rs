//! A mail transaction on our side: recipients resolved, trace headers written, bytes to the store.
//!
//! SMTP sessions and the host's `submit` both end here, so that one set of rules says what an accepted
//! message looks like. The data's way: [`Transaction::add`] for each recipient, [`Transaction::begin`] when the bytes
//! come (this picks the message's lane and writes the trace headers in front), [`Incoming::write`] as they
//! come, [`Incoming::finish`] for the ticket that answers once all is on disk.
//!
//! Trace headers (RFC 5321 4.4): first `Return-Path:`, which only mailboxes see and which is not
//! relayed, then our `Received:`. The recipient is named in the Received line only when there is just one.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::Shared;
use super::event::Event;
use crate::codec::address::Address;
use crate::codec::date;
use crate::directory::Resolution;
use crate::error::Result;
use crate::store::{
    AccountId, BodyWriter, Envelope, MessageId, QueueRecipient, RecipientState, Ticket,
    envelope_flags,
};

/// What the directory and the rules say of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Taken.
    Accepted,
    /// The domain is ours, the address is not known.
    Unknown,
    /// The domain is not ours and the peer may not relay.
    RelayDenied,
}

/// A transaction before its bytes.
#[derive(Debug, Default)]
pub struct Transaction {
    from: Vec<u8>,
    flags: u16,
    locals: Vec<AccountId>,
    remotes: Vec<QueueRecipient>,
    /// The only recipient so far, for the Received line; empty when there are several.
    only: Vec<u8>,
    recipients: u32,
}

/// Where a message comes from, for its Received line.
pub struct Origin<'a> {
    /// What the peer called itself.
    pub hello: &'a [u8],
    /// Its address; `None`: the host handed it in.
    pub address: Option<IpAddr>,
    /// The keyword after `with` (RFC 3848).
    pub with: &'a str,
}

impl Transaction {
    /// A transaction with this reverse-path (empty: null path) and bits of [`envelope_flags`].
    pub fn new(from: &[u8], flags: u16) -> Transaction {
        Transaction { from: from.to_vec(), flags, ..Transaction::default() }
    }

    /// Asks whether a recipient is taken, and takes it.
    pub fn add(&mut self, shared: &Shared, to: &Address, may_relay: bool) -> Recipient {
        match shared.directory.resolve(to) {
            Resolution::Unknown => return Recipient::Unknown,
            Resolution::Foreign if !may_relay => return Recipient::RelayDenied,
            Resolution::Foreign => self.remote(to),
            Resolution::Deliver { accounts, remotes } => {
                for account in accounts {
                    if !self.locals.contains(&account) {
                        self.locals.push(account);
                    }
                }
                for remote in &remotes {
                    self.remote(remote);
                }
            }
        }
        self.recipients = self.recipients.saturating_add(1);
        self.only.clear();
        if self.recipients == 1 {
            self.only.extend_from_slice(to.as_bytes());
        }
        Recipient::Accepted
    }

    fn remote(&mut self, address: &Address) {
        if self.remotes.iter().all(|known| known.address != address.as_bytes()) {
            self.remotes.push(QueueRecipient {
                address: address.as_bytes().to_vec(),
                parameters: Vec::new(),
                state: RecipientState::Remote,
            });
        }
    }

    /// The bytes come: gives the message its id and writes the trace headers.
    pub fn begin(self, shared: &Shared, origin: &Origin<'_>) -> Result<Incoming> {
        let (id, mut body) = shared.spool.begin(&self.locals);
        let received = shared.clock.unix_millis();
        let mut head = Vec::with_capacity(320);
        head.extend_from_slice(b"Return-Path: <");
        head.extend_from_slice(&self.from);
        head.extend_from_slice(b">\r\n");
        let prefix_len = head.len();
        head.extend_from_slice(received_line(&self, shared, origin, id, received).as_bytes());
        body.write(&head)?;
        Ok(Incoming {
            envelope: Envelope {
                from: self.from,
                received,
                flags: self.flags,
                prefix_len: u16::try_from(prefix_len).unwrap_or(0),
                parameters: Vec::new(),
            },
            id,
            body,
            locals: self.locals,
            remotes: self.remotes,
            tail: *b"\r\n",
        })
    }
}

fn received_line(
    transaction: &Transaction,
    shared: &Shared,
    origin: &Origin<'_>,
    id: MessageId,
    received: u64,
) -> String {
    let mut line = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = match origin.address {
        Some(address) => {
            let hello = printable(origin.hello);
            match address {
                IpAddr::V4(address) => write!(line, "Received: from {hello} ([{address}])\r\n\t"),
                IpAddr::V6(address) => {
                    write!(line, "Received: from {hello} ([IPv6:{address}])\r\n\t")
                }
            }
        }
        None => write!(line, "Received: "),
    };
    let _ = write!(line, "by {} (Posthouse) with {} id {id}", shared.hostname, origin.with);
    if transaction.only.is_empty() {
        line.push_str(";\r\n\t");
    } else {
        let _ = write!(line, "\r\n\tfor <{}>;\r\n\t", String::from_utf8_lossy(&transaction.only));
    }
    date::Rfc5322 { unix_millis: received }.append(&mut line);
    line.push_str("\r\n");
    line
}

/// A peer's name for itself as it may stand in a header: what is not a visible ASCII character becomes `?`,
/// and it has no parentheses, which would open a comment.
fn printable(name: &[u8]) -> String {
    name.iter()
        .take(255)
        .map(|&byte| match byte {
            b'(' | b')' | b'\\' => '?',
            0x21..=0x7e => char::from(byte),
            _ => '?',
        })
        .collect()
}

/// A transaction whose bytes are coming.
pub struct Incoming {
    id: MessageId,
    envelope: Envelope,
    body: BodyWriter,
    locals: Vec<AccountId>,
    remotes: Vec<QueueRecipient>,
    /// The last two bytes, to know whether the message ends in CR LF.
    tail: [u8; 2],
}

/// A message handed to the store: what the events say of it once its ticket has answered.
#[derive(Debug)]
pub struct Pending {
    /// Its id.
    pub id: MessageId,
    from: Vec<u8>,
    local: u32,
    remote: u32,
    size: u64,
}

impl Incoming {
    /// Its id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match *bytes {
            [.., a, b] => self.tail = [a, b],
            [b] => self.tail = [self.tail[1], b],
            [] => {}
        }
        self.body.write(bytes)
    }

    /// When too much is in flight: what to wait for before the next `write`.
    pub fn pressure(&mut self) -> Option<Ticket<()>> {
        self.body.pressure()
    }

    /// All bytes are there: hands the message to the store. The ticket answers when the message is on disk
    /// and every local mailbox shows it.
    pub fn finish(mut self, shared: &Shared) -> Result<(Ticket<()>, Pending)> {
        if self.tail == *b"\r\n" {
            self.envelope.flags |= envelope_flags::ENDS_IN_CRLF;
        }
        let body = self.body.finish()?;
        let pending = Pending {
            id: self.id,
            from: if shared.events.is_some() { self.envelope.from.clone() } else { Vec::new() },
            local: u32::try_from(self.locals.len()).unwrap_or(u32::MAX),
            remote: u32::try_from(self.remotes.len()).unwrap_or(u32::MAX),
            size: body.len(),
        };
        let ticket = shared.spool.accept(self.id, self.envelope, body, &self.locals, self.remotes);
        Ok((ticket, pending))
    }
}

impl Pending {
    /// Counts the message and tells the host: to be called when the ticket has answered without an error.
    pub fn acknowledged(&self, shared: &Shared, peer: Option<SocketAddr>) {
        shared.counters.messages_accepted.up();
        tracing::debug!(id = %self.id, local = self.local, remote = self.remote, size = self.size, "accepted");
        shared.emit(&Event::MessageAccepted {
            id: self.id,
            from: &String::from_utf8_lossy(&self.from),
            local: self.local,
            remote: self.remote,
            size: self.size,
            peer,
        });
    }
}
