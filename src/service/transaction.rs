//! A mail transaction on our side: recipients resolved, trace headers written, bytes to the store.
//!
//! SMTP sessions and the host's `submit` both end here, so that one set of rules says what an accepted
//! message looks like. The data's way: [`Transaction::add`] for each recipient, [`Transaction::begin`] when the bytes
//! come (this picks the message's lane and writes the trace headers in front), [`Incoming::write`] as they
//! come, [`Incoming::finish`] for the ticket that answers once all is on disk.
//!
//! Trace headers (RFC 5321 4.4): first `Return-Path:`, which only mailboxes see and which is not
//! relayed, then our `Received:`. The recipient is named in the Received line only when there is just one.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::event::Event;
use super::{Shared, TlsFacts, header};
use crate::codec::address::Address;
use crate::codec::date;
use crate::directory::{Account, Resolution};
use crate::error::{Error, Kind, Result};
use crate::smtp::Reply;
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
    /// MAIL's parameters to pass on.
    parameters: Vec<u8>,
    /// Not before this instant, milliseconds since 1970 (RFC 4865).
    hold: Option<u64>,
    locals: Vec<AccountId>,
    remotes: Vec<QueueRecipient>,
    /// The same again, to look up in, once there are more than [`FEW`] of either.
    known: Option<Box<Known>>,
    /// The only recipient so far, for the Received line; empty when there are several.
    only: Vec<u8>,
    recipients: u32,
    /// How many of either there were before the last recipient.
    before: (usize, usize),
}

/// So many are looked through one by one.
const FEW: usize = 16;

#[derive(Debug, Default)]
struct Known {
    locals: HashSet<AccountId>,
    remotes: HashSet<Vec<u8>>,
}

/// Where a message comes from, for its Received line.
pub struct Origin<'a> {
    /// What the peer called itself.
    pub hello: &'a [u8],
    /// Its address; `None`: the host handed it in.
    pub address: Option<IpAddr>,
    /// The keyword after `with` (RFC 3848).
    pub with: &'a str,
    /// TLS of its connection.
    pub tls: Option<&'a TlsFacts>,
    /// What is done with the header; `None`: the message passes as it is.
    pub header: Option<HeaderRules>,
}

/// What is done with the header of a message; see [`header`].
#[derive(Clone)]
pub struct HeaderRules {
    /// Most octets of it.
    pub bytes: u64,
    /// Bcc is taken out, Date and Message-ID are added.
    pub submission: bool,
    /// From and Sender must be this account's.
    pub sender: Option<Arc<Account>>,
}

impl Transaction {
    /// A transaction with this reverse-path (empty: null path) and bits of [`envelope_flags`].
    pub fn new(from: &[u8], flags: u16) -> Transaction {
        Transaction { from: from.to_vec(), flags, ..Transaction::default() }
    }

    /// MAIL's parameters to pass on, and the instant (milliseconds since 1970) before which nobody gets the message.
    pub fn with_parameters(mut self, parameters: Vec<u8>, hold: Option<u64>) -> Transaction {
        self.parameters = parameters;
        self.hold = hold;
        self
    }

    /// Recipients that were taken.
    pub fn recipients(&self) -> u32 {
        self.recipients
    }

    /// Asks whether a recipient is taken, and takes it. `parameters`: RCPT's, to pass on.
    pub fn add(
        &mut self,
        shared: &Shared,
        to: &Address,
        parameters: &[u8],
        may_relay: bool,
    ) -> Recipient {
        self.before = (self.locals.len(), self.remotes.len());
        match shared.directory.resolve(to) {
            Resolution::Unknown => return Recipient::Unknown,
            Resolution::Foreign if !may_relay => return Recipient::RelayDenied,
            Resolution::Foreign => self.remote(to, parameters),
            Resolution::Deliver { accounts, remotes } => {
                for account in accounts {
                    self.local(account);
                }
                for remote in &remotes {
                    self.remote(remote, parameters);
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

    /// Forgets the recipient that was taken last.
    pub fn take_back(&mut self) {
        let (locals, remotes) = self.before;
        self.locals.truncate(locals);
        self.remotes.truncate(remotes);
        self.known = None;
        self.recipients = self.recipients.saturating_sub(1);
        self.only.clear();
    }

    fn local(&mut self, account: AccountId) {
        let new = match self.known() {
            Some(known) => known.locals.insert(account),
            None => !self.locals.contains(&account),
        };
        if new {
            self.locals.push(account);
        }
    }

    fn remote(&mut self, address: &Address, parameters: &[u8]) {
        let address = address.as_bytes();
        let new = match self.known() {
            Some(known) => known.remotes.insert(address.to_vec()),
            None => self.remotes.iter().all(|known| known.address != address),
        };
        if new {
            self.remotes.push(QueueRecipient {
                address: address.to_vec(),
                parameters: parameters.to_vec(),
                state: RecipientState::Remote,
                answer: Vec::new(),
            });
        }
    }

    /// Where to look up, when there are many.
    fn known(&mut self) -> Option<&mut Known> {
        if self.locals.len().max(self.remotes.len()) <= FEW {
            return None;
        }
        let (locals, remotes) = (&self.locals, &self.remotes);
        Some(self.known.get_or_insert_with(|| {
            Box::new(Known {
                locals: locals.iter().copied().collect(),
                remotes: remotes.iter().map(|remote| remote.address.clone()).collect(),
            })
        }))
    }

    /// What is held goes to the queue as a whole; accounts by their addresses.
    fn put_off(&mut self, shared: &Shared) {
        let Some(until) = self.hold else { return };
        // The time for attempts begins behind the hold, so it is kept.
        let end = date::Rfc3339 { unix_seconds: until.div_ceil(1000) };
        let space = if self.parameters.is_empty() { "" } else { " " };
        self.parameters.extend_from_slice(format!("{space}HOLDUNTIL={end}").as_bytes());
        let state = RecipientState::Deferred { attempts: 0, next: until };
        for remote in &mut self.remotes {
            remote.state = state;
        }
        let locals = std::mem::take(&mut self.locals);
        for account in locals {
            // One that is removed at this moment gets nothing.
            let Some(account) = shared.directory.account_by_id(account) else { continue };
            let Some(address) = account.addresses.first() else { continue };
            self.remotes.push(QueueRecipient {
                address: address.clone().into_bytes(),
                parameters: Vec::new(),
                state,
                answer: Vec::new(),
            });
        }
    }

    /// The bytes come: gives the message its id and writes the trace headers.
    pub fn begin(mut self, shared: &Shared, origin: &Origin<'_>) -> Result<Incoming> {
        let final_delivery = !self.locals.is_empty();
        if self.hold.is_some_and(|until| until > shared.clock.unix_millis()) {
            self.put_off(shared);
        }
        let (id, mut body) = shared.spool.begin(&self.locals);
        let received = shared.clock.unix_millis();
        let mut head = Vec::with_capacity(320);
        head.extend_from_slice(b"Return-Path: <");
        head.extend_from_slice(&self.from);
        head.extend_from_slice(b">\r\n");
        let prefix_len = head.len();
        put_received(&mut head, &self, shared, origin, id, received);
        body.write(&head)?;
        let filter = origin.header.as_ref().map(|rules| {
            Box::new(header::Filter::new(header::Task {
                authserv_id: shared.hostname.clone(),
                hops: header::HOPS,
                header_bytes: rules.bytes,
                final_delivery,
                submission: rules.submission,
                missing: rules.submission.then(|| header::Missing {
                    unix_millis: received,
                    message_id: format!("{id}.{received}@{}", shared.hostname),
                }),
                sender: rules.sender.is_some(),
            }))
        });
        Ok(Incoming {
            envelope: Envelope {
                from: self.from,
                received,
                flags: self.flags,
                prefix_len: u16::try_from(prefix_len).unwrap_or(0),
                parameters: self.parameters,
            },
            id,
            filter,
            sender: origin.header.as_ref().and_then(|rules| rules.sender.clone()),
            written: Written { body, tail: *b"\r\n" },
            locals: self.locals,
            remotes: self.remotes,
        })
    }
}

/// Whether an account may send as this address: it is one of its own, or an alias that leads to it.
pub fn is_own(shared: &Shared, account: &Account, address: &Address) -> bool {
    match shared.directory.resolve(address) {
        Resolution::Deliver { accounts, .. } => accounts.contains(&account.id),
        Resolution::Unknown | Resolution::Foreign => false,
    }
}

/// Appends our Received line. It is written for every message, so nothing is formatted that can be copied.
fn put_received(
    head: &mut Vec<u8>,
    transaction: &Transaction,
    shared: &Shared,
    origin: &Origin<'_>,
    id: MessageId,
    received: u64,
) {
    head.extend_from_slice(b"Received: ");
    if let Some(address) = origin.address {
        head.extend_from_slice(b"from ");
        put_printable(head, origin.hello);
        // Writing to a vector cannot fail.
        let _ = match address {
            IpAddr::V4(address) => {
                head.extend_from_slice(b" ([");
                put_octets(head, address.octets());
                Ok(())
            }
            IpAddr::V6(address) => write!(head, " ([IPv6:{address}"),
        };
        head.extend_from_slice(b"])\r\n\t");
    }
    if let Some(tls) = origin.tls {
        let _ = write!(head, "(using {} with cipher {})\r\n\t", tls.version.name(), tls.cipher);
    }
    head.extend_from_slice(b"by ");
    head.extend_from_slice(shared.hostname.as_bytes());
    head.extend_from_slice(b" (Posthouse) with ");
    head.extend_from_slice(origin.with.as_bytes());
    head.extend_from_slice(b" id ");
    head.extend_from_slice(&id.digits());
    if !transaction.only.is_empty() {
        head.extend_from_slice(b"\r\n\tfor <");
        for chunk in transaction.only.utf8_chunks() {
            head.extend_from_slice(chunk.valid().as_bytes());
            if !chunk.invalid().is_empty() {
                head.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
        head.push(b'>');
    }
    head.extend_from_slice(b";\r\n\t");
    date::Rfc5322 { unix_millis: received }.append_to(head);
    head.extend_from_slice(b"\r\n");
}

/// A peer's name for itself as it may stand in a header: what is not a visible ASCII character becomes `?`,
/// and it has no parentheses, which would open a comment.
fn put_printable(head: &mut Vec<u8>, name: &[u8]) {
    head.extend(name.iter().take(255).map(|&byte| match byte {
        b'(' | b')' | b'\\' => b'?',
        0x21..=0x7e => byte,
        _ => b'?',
    }));
}

/// An IPv4 address as it is written.
fn put_octets(head: &mut Vec<u8>, octets: [u8; 4]) {
    for (n, octet) in octets.into_iter().enumerate() {
        if n > 0 {
            head.push(b'.');
        }
        if octet >= 100 {
            head.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            head.push(b'0' + octet / 10 % 10);
        }
        head.push(b'0' + octet % 10);
    }
}

/// A transaction whose bytes are coming.
pub struct Incoming {
    id: MessageId,
    envelope: Envelope,
    /// The header's filter, for as long as the header lasts and longer.
    filter: Option<Box<header::Filter>>,
    sender: Option<Arc<Account>>,
    written: Written,
    locals: Vec<AccountId>,
    remotes: Vec<QueueRecipient>,
}

/// Where the octets go.
struct Written {
    body: BodyWriter,
    /// The last two, to know whether the message ends in CR LF.
    tail: [u8; 2],
}

impl Written {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match *bytes {
            [.., a, b] => self.tail = [a, b],
            [b] => self.tail = [self.tail[1], b],
            [] => {}
        }
        self.body.write(bytes)
    }
}

/// Why a message is not taken.
#[derive(Debug)]
pub enum Trouble {
    /// It is refused for what it is.
    Refused(Reply<'static>),
    /// The store could not do its work.
    Store(Error),
}

impl From<header::Fault> for Trouble {
    fn from(fault: header::Fault) -> Trouble {
        match fault {
            header::Fault::Refused(reply) => Trouble::Refused(reply),
            header::Fault::Sink(error) => Trouble::Store(error),
        }
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Error {
        match trouble {
            Trouble::Refused(reply) => Error::new(Kind::Refused, reply.text),
            Trouble::Store(error) => error,
        }
    }
}

/// A message handed to the store: what the events say of it once its ticket has answered.
#[derive(Debug)]
pub struct Pending {
    /// Its id.
    pub id: MessageId,
    session: u64,
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

    /// Appends bytes. When they are refused, the message is: drop it.
    pub fn write(&mut self, shared: &Shared, bytes: &[u8]) -> std::result::Result<(), Trouble> {
        let Incoming { filter, sender, written, .. } = self;
        match filter {
            None => written.write(bytes).map_err(Trouble::Store),
            Some(filter) => {
                let owns = |address: &Address| {
                    sender.as_ref().is_some_and(|account| is_own(shared, account, address))
                };
                Ok(filter.push(bytes, &owns, &mut |part| written.write(part))?)
            }
        }
    }

    /// When too much is in flight: what to wait for before the next `write`.
    pub fn pressure(&mut self) -> Option<Ticket<()>> {
        self.written.body.pressure()
    }

    /// All bytes are there: hands the message to the store. The ticket answers when the message is on disk
    /// and every local mailbox shows it.
    pub fn finish(
        mut self,
        shared: &Shared,
        session: u64,
    ) -> std::result::Result<(Ticket<()>, Pending), Trouble> {
        let Incoming { filter, sender, written, .. } = &mut self;
        if let Some(filter) = filter {
            let owns = |address: &Address| {
                sender.as_ref().is_some_and(|account| is_own(shared, account, address))
            };
            filter.finish(&owns, &mut |part| written.write(part))?;
        }
        if self.written.tail == *b"\r\n" {
            self.envelope.flags |= envelope_flags::ENDS_IN_CRLF;
        }
        let body = self.written.body.finish().map_err(Trouble::Store)?;
        let pending = Pending {
            id: self.id,
            session,
            from: if shared.tells() { self.envelope.from.clone() } else { Vec::new() },
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
        // A line for each message costs bytes and time: by default it is written for those that go on from here, whose
        // outcomes have theirs. Every message is told as an event.
        macro_rules! accepted {
            ($level:expr) => {
                tracing::event!(
                    $level, id = %self.id, session = self.session, from = %self.from.escape_ascii(),
                    local = self.local, remote = self.remote, size = self.size, "message accepted"
                )
            };
        }
        if self.remote > 0 {
            accepted!(tracing::Level::INFO);
        } else {
            accepted!(tracing::Level::DEBUG);
        }
        if self.remote > 0 {
            shared.wake_delivery(self.id);
        }
        shared.emit(&Event::MessageAccepted {
            id: self.id,
            from: &String::from_utf8_lossy(&self.from),
            local: self.local,
            remote: self.remote,
            size: self.size,
            peer,
            session: self.session,
        });
    }
}
