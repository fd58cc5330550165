//! A [`Transaction`] as the caller gives it, and the [`Envelope`] that the session keeps of it: the command lines, ready to be
//! sent, and where each recipient stands.
//!
//! What the peer's offer makes impossible is decided here, before anything is sent, so that the outcome is clear and no
//! octet of the message crosses the wire for nothing:
//!
//! | the message | the peer | outcome |
//! |---|---|---|
//! | larger than | SIZE=n says | 552 5.3.4, permanent |
//! | SMTPUTF8, or a reverse-path of more than ASCII | lacks SMTPUTF8 | 553 5.6.7, permanent, every recipient (RFC 6531 3.5) |
//! | a recipient of more than ASCII | lacks SMTPUTF8 | 553 5.6.7, permanent, that recipient |
//! | 8-bit | lacks 8BITMIME | 554 5.6.3, permanent, unless the configuration says to send it (RFC 6152 3) |
//! | binary | lacks BINARYMIME or CHUNKING | 554 5.6.1 or 5.6.3, permanent (RFC 3030 3) |
//! | REQUIRETLS | lacks it, or no TLS | 550 5.7.30, permanent (RFC 8689 4.2.1) |
//! | BY in mode R | lacks DELIVERBY | 550 5.3.3, permanent (RFC 2852 4.1.4.2) |
//! | more recipients, or domains, than | LIMITS says | not tried: another transaction (RFC 9422) |

use std::collections::HashSet;
use std::ops::Range;

use super::capability::Capabilities;
use super::outcome::{Dropped, Verdict};
use super::{ClientConfig, EightBit};
use crate::codec::address::Address;
use crate::error::{Error, Kind, Result};
use crate::smtp::answer::Answer;

/// Longest text of a command's parameters in octets.
const PARAMETER_OCTETS: usize = 2048;

/// What a message's octets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Lines of ASCII.
    #[default]
    SevenBit,
    /// Lines of any octets (8BITMIME, RFC 6152).
    EightBit,
    /// Any octets, without lines (BINARYMIME, RFC 3030).
    Binary,
}

/// One message to some recipients. [`Client::begin`](super::Client::begin) copies what it needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transaction<'a> {
    /// The reverse-path without angle brackets; empty for the null path.
    pub from: &'a str,
    /// MAIL's parameters that are to be passed on, as they stand on the wire, divided by spaces: RET, ENVID, BY, MT-PRIORITY,
    /// REQUIRETLS, AUTH, HOLDFOR, HOLDUNTIL. Those whose extension the peer lacks are left out and told in
    /// [`Done::dropped`](super::Done::dropped). SIZE, BODY and SMTPUTF8 are the session's own.
    pub parameters: &'a str,
    /// The recipients. Outcomes name them by their places here.
    pub recipients: &'a [Recipient<'a>],
    /// The message's octets, announced with SIZE; 0 when they are not known.
    pub size: u64,
    /// What its octets are.
    pub content: Content,
    /// It needs SMTPUTF8 (RFC 6531): a header or an address holds more than ASCII. Addresses are looked at anyway.
    pub utf8: bool,
}

/// A recipient of a transaction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recipient<'a> {
    /// The forward-path without angle brackets.
    pub to: &'a str,
    /// RCPT's parameters that are to be passed on, as they stand on the wire: NOTIFY, ORCPT.
    pub parameters: &'a str,
}

/// Why this side decides about a recipient before anything is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    TooLarge,
    Utf8,
    EightBit,
    Binary,
    Chunking,
    RequireTls,
    DeliverBy,
    Recipients,
    Domains,
}

impl Refusal {
    pub(super) fn answer(self) -> (Verdict, Answer) {
        let permanent = |code, subject, detail, text| {
            (Verdict::Permanent, Answer::own(code, subject, detail, text))
        };
        match self {
            Refusal::TooLarge => {
                permanent(552, 3, 4, "Message is larger than the receiving system takes")
            }
            Refusal::Utf8 => permanent(
                553,
                6,
                7,
                "Message or address needs SMTPUTF8, which the receiving system does not offer",
            ),
            Refusal::EightBit => permanent(
                554,
                6,
                3,
                "Message is 8-bit and the receiving system does not offer 8BITMIME",
            ),
            Refusal::Binary => permanent(
                554,
                6,
                1,
                "Message is binary and the receiving system does not offer BINARYMIME",
            ),
            Refusal::Chunking => permanent(
                554,
                6,
                3,
                "Message is binary and cannot be sent by BDAT to the receiving system",
            ),
            Refusal::RequireTls => permanent(
                550,
                7,
                30,
                "Message demands REQUIRETLS, which the receiving system does not offer",
            ),
            Refusal::DeliverBy => permanent(
                550,
                3,
                3,
                "Message demands DELIVERBY, which the receiving system does not offer",
            ),
            Refusal::Recipients => (
                Verdict::NotTried,
                Answer::own(452, 5, 3, "No more recipients fit into this transaction"),
            ),
            Refusal::Domains => (
                Verdict::NotTried,
                Answer::own(452, 5, 3, "No more recipients' domains fit into this transaction"),
            ),
        }
    }
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Decided before anything is sent; its outcome is to be told.
    Refused(Refusal),
    /// No outcome yet.
    Open,
    /// The peer accepted it; the message is still to be taken.
    Accepted,
    /// Its outcome was told.
    Decided,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Its RCPT command in the text.
    command: Range<usize>,
    standing: Standing,
}

/// What a session keeps of a transaction. Its memory is kept from one to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    text: Vec<u8>,
    mail: usize,
    entries: Vec<Entry>,
    pub(super) accepted: usize,
    pub(super) delivered: usize,
    pub(super) dropped: Dropped,
    /// DSN was offered when it began.
    pub(super) dsn: bool,
    pub(super) binary: bool,
}

impl Envelope {
    /// Takes a transaction in place of the one before. An error leaves an empty envelope.
    pub(super) fn set(
        &mut self,
        transaction: &Transaction<'_>,
        config: &ClientConfig,
        peer: &Capabilities,
        tls: bool,
        authenticated: bool,
    ) -> Result<()> {
        self.clear();
        let result = self.build(transaction, config, peer, tls, authenticated);
        if result.is_err() {
            self.clear();
        }
        result
    }

    fn build(
        &mut self,
        transaction: &Transaction<'_>,
        config: &ClientConfig,
        peer: &Capabilities,
        tls: bool,
        authenticated: bool,
    ) -> Result<()> {
        if transaction.recipients.is_empty() {
            return Err(Error::new(Kind::InvalidArgument, "a transaction has no recipients"));
        }
        if !transaction.from.is_empty() {
            check_address(transaction.from, "reverse-path")?;
        }
        self.dsn = peer.dsn;
        self.binary = transaction.content == Content::Binary;
        let for_sender = transaction.utf8 || !transaction.from.is_ascii();
        let for_one = transaction.recipients.iter().any(|r| !r.to.is_ascii());
        let smtputf8 = (for_sender || for_one) && peer.smtputf8;
        let mut refusal = content_refusal(transaction, config, peer);
        if for_sender && !peer.smtputf8 {
            refusal = Some(Refusal::Utf8);
        }

        self.text.extend_from_slice(b"MAIL FROM:<");
        self.text.extend_from_slice(transaction.from.as_bytes());
        self.text.push(b'>');
        if peer.size.is_some() && transaction.size > 0 {
            self.text.extend_from_slice(format!(" SIZE={}", transaction.size).as_bytes());
        }
        match transaction.content {
            Content::EightBit if peer.eight_bit => self.text.extend_from_slice(b" BODY=8BITMIME"),
            Content::Binary => self.text.extend_from_slice(b" BODY=BINARYMIME"),
            _ => {}
        }
        if smtputf8 {
            self.text.extend_from_slice(b" SMTPUTF8");
        }
        for (keyword, value, whole) in parameters(transaction.parameters, "MAIL")? {
            let pass = match keyword.to_ascii_uppercase().as_str() {
                "RET" | "ENVID" => kept(peer.dsn, &mut self.dropped.dsn),
                "MT-PRIORITY" => kept(peer.priority, &mut self.dropped.priority),
                "HOLDFOR" | "HOLDUNTIL" => kept(peer.future_release, &mut self.dropped.hold),
                // Says who submitted it, to a peer that knows us (RFC 4954 5).
                "AUTH" => authenticated,
                "BY" => {
                    let returns = value.to_ascii_uppercase().contains(";R");
                    if returns && peer.deliver_by.is_none() {
                        refusal = refusal.or(Some(Refusal::DeliverBy));
                    }
                    kept(peer.deliver_by.is_some(), &mut self.dropped.deliver_by)
                }
                "REQUIRETLS" => {
                    if !tls || !peer.require_tls {
                        refusal = Some(Refusal::RequireTls);
                    }
                    true
                }
                _ => return Err(unknown("MAIL", keyword)),
            };
            if pass {
                self.text.push(b' ');
                self.text.extend_from_slice(whole.as_bytes());
            }
        }
        self.text.extend_from_slice(b"\r\n");
        self.mail = self.text.len();

        let room = usize::try_from(peer.limits.rcpt_max.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let room = room.min(config.limits.recipients);
        let domains = peer.limits.rcpt_domain_max.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let (mut tried, mut seen) = (0, HashSet::new());
        self.entries.reserve(transaction.recipients.len());
        for recipient in transaction.recipients {
            let address = check_address(recipient.to, "forward-path")?;
            let begin = self.text.len();
            self.text.extend_from_slice(b"RCPT TO:<");
            self.text.extend_from_slice(recipient.to.as_bytes());
            self.text.push(b'>');
            for (keyword, _, whole) in parameters(recipient.parameters, "RCPT")? {
                match keyword.to_ascii_uppercase().as_str() {
                    "NOTIFY" | "ORCPT" => {
                        if kept(peer.dsn, &mut self.dropped.dsn) {
                            self.text.push(b' ');
                            self.text.extend_from_slice(whole.as_bytes());
                        }
                    }
                    _ => return Err(unknown("RCPT", keyword)),
                }
            }
            self.text.extend_from_slice(b"\r\n");
            let mut own = refusal;
            if !recipient.to.is_ascii() && !peer.smtputf8 {
                own = own.or(Some(Refusal::Utf8));
            }
            if own.is_none() && tried >= room {
                own = Some(Refusal::Recipients);
            }
            if let (None, Some(most)) = (own, domains) {
                let domain = address.domain_key().unwrap_or_default();
                if seen.len() >= most && !seen.contains(&domain) {
                    own = Some(Refusal::Domains);
                } else {
                    seen.insert(domain);
                }
            }
            if own.is_some() {
                self.text.truncate(begin);
            } else {
                tried += 1;
            }
            self.entries.push(Entry {
                command: begin..self.text.len(),
                standing: own.map_or(Standing::Open, Standing::Refused),
            });
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.mail = 0;
        self.accepted = 0;
        self.delivered = 0;
        self.dropped = Dropped::default();
    }

    /// The MAIL command.
    pub(super) fn mail(&self) -> &[u8] {
        self.text.get(..self.mail).unwrap_or_default()
    }

    /// The RCPT command of a recipient.
    pub(super) fn rcpt(&self, index: usize) -> &[u8] {
        let range = self.entries.get(index).map(|e| e.command.clone()).unwrap_or_default();
        self.text.get(range).unwrap_or_default()
    }

    /// The first recipient from `from` on of whom the peer is asked.
    pub(super) fn next_tried(&self, from: usize) -> Option<usize> {
        let rest = self.entries.get(from..).unwrap_or_default();
        rest.iter().position(|e| !e.command.is_empty()).map(|n| from + n)
    }

    /// The first recipient from `from` on that stands so.
    pub(super) fn find(&self, from: usize, fits: impl Fn(Standing) -> bool) -> Option<usize> {
        let rest = self.entries.get(from..).unwrap_or_default();
        rest.iter().position(|e| fits(e.standing)).map(|n| from + n)
    }

    /// Where a recipient stands.
    pub(super) fn standing(&self, index: usize) -> Standing {
        self.entries.get(index).map_or(Standing::Decided, |e| e.standing)
    }

    /// Says where a recipient stands now.
    pub(super) fn stand(&mut self, index: usize, standing: Standing) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.standing = standing;
        }
    }

    /// Octets of memory that it holds outside itself.
    pub(super) fn memory_bytes(&self) -> usize {
        self.text.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// What the message's octets make impossible.
fn content_refusal(
    transaction: &Transaction<'_>,
    config: &ClientConfig,
    peer: &Capabilities,
) -> Option<Refusal> {
    if peer.size.is_some_and(|most| most > 0 && transaction.size > most) {
        return Some(Refusal::TooLarge);
    }
    match transaction.content {
        Content::EightBit if !peer.eight_bit && config.eight_bit == EightBit::Bounce => {
            Some(Refusal::EightBit)
        }
        Content::Binary if !peer.binarymime => Some(Refusal::Binary),
        Content::Binary if !peer.chunking || !config.chunking => Some(Refusal::Chunking),
        _ => None,
    }
}

/// Notes what is dropped, and answers whether it is passed on.
fn kept(offered: bool, dropped: &mut bool) -> bool {
    *dropped |= !offered;
    offered
}

fn unknown(command: &str, keyword: &str) -> Error {
    Error::new(
        Kind::InvalidArgument,
        format!("{keyword} is no parameter of {command} that can be passed on"),
    )
}

fn check_address(text: &str, what: &str) -> Result<Address> {
    Address::parse(text.as_bytes(), true).ok_or_else(|| {
        Error::new(Kind::Address, format!("{what} is not a mail address: {}", text.escape_debug()))
    })
}

/// Keyword, value and the whole of each parameter.
fn parameters<'a>(text: &'a str, command: &str) -> Result<Vec<(&'a str, &'a str, &'a str)>> {
    let bad = |why: &str| Error::new(Kind::InvalidArgument, format!("{command} parameters {why}"));
    if text.len() > PARAMETER_OCTETS {
        return Err(bad(&format!("are longer than {PARAMETER_OCTETS} octets")));
    }
    if text.chars().any(|c| c.is_control() || (c.is_whitespace() && c != ' ')) {
        return Err(bad("hold a control character"));
    }
    let words = text.split(' ').filter(|word| !word.is_empty());
    Ok(words
        .map(|word| {
            let (keyword, value) = word.split_once('=').unwrap_or((word, ""));
            (keyword, value, word)
        })
        .collect())
}
