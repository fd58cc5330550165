//! A message's header as it streams by: counted, judged, mended. The body passes untouched.
//!
//! # Method
//! [`Filter::push`] gets the message's octets in whatever pieces they come and hands on what is to be kept. At the
//! start of each line it looks at no more than [`NAME_OCTETS`] to tell a field, a continuation, the empty line that
//! ends the header, or none of these; what it decides there holds for the line, and for the continuations behind it.
//! Everything else goes on as slices of the caller's memory. Held are only the start of a line that a piece cuts, the
//! value of such a field as From while sender rights are checked, and an Authentication-Results field until it has said who
//! made it; each has its bound.
//!
//! # What it does
//! - Every message: more than [`Task::hops`] Received fields are a loop (RFC 5321 6.3): 554 5.4.6. A header of more
//!   than [`Task::header_bytes`] is refused: 552 5.3.4. Authentication-Results that claim to be ours are taken out
//!   (RFC 8601 5), whatever comments, folds or quotes stand around the name.
//! - Final delivery: Return-Path fields are taken out, because the mailbox gets its own (RFC 5321 4.4).
//! - Submission (RFC 6409 8): Bcc and Resent-Bcc are taken out (RFC 5322 3.6.3), a missing Date and Message-ID are
//!   added at the end of the header.
//! - Sender rights at the level of the header: there is one From, at most one Sender, any number of Resent-From and Resent-Sender (a
//!   block for each time, RFC 5322 3.6.6); each can be read by the strict grammar of [`crate::codec::mailbox`], and every address in
//!   them is the sender's: else 550 5.7.1. A Resent-From does not stand in for From (as it does for Exim): programs show From.
//!
//! # Invariants
//! - Same octets, same output and same refusal, however they are cut.
//! - The first octet behind the header's empty line and all that follow go on unchanged.
//! - A line that is no field: on submission the header ends before it, and an empty line is put there, so that
//!   everybody reads the rest as body; on mail from others it passes as it is and the header goes on, so that nothing
//!   behind it escapes.
//! - Memory: [`NAME_OCTETS`] + the larger of [`SENDER_OCTETS`] and [`RESULTS_OCTETS`]. Time: linear.
//!
//! # Failure
//! A refusal ends the filter's work: the rest of the message is the caller's to throw away.

use std::fmt::Write as _;

use crate::codec::address::Address;
use crate::codec::{date, mailbox};
use crate::error::{Error, Result};
use crate::smtp::Reply;

/// Longest field name in octets. A longer one is none.
pub const NAME_OCTETS: usize = 256;
/// Longest From, Sender, Resent-From or Resent-Sender in octets while sender rights are checked. Over: 552 5.3.4.
pub const SENDER_OCTETS: usize = 16 << 10;
/// An Authentication-Results field has said whose it is within so many octets, or is taken out.
pub const RESULTS_OCTETS: usize = 4 << 10;
/// Most Received fields by default (RFC 5321 6.3).
pub const HOPS: u32 = 100;
/// Largest header by default in octets.
pub const HEADER_OCTETS: u64 = 1 << 20;

const LOOP: Reply<'static> = Reply::new(554, 4, 6, "Too many hops: the message is in a loop");
const HEADER_TOO_LARGE: Reply<'static> = Reply::new(552, 3, 4, "Message header is too large");
const SENDER_TOO_LARGE: Reply<'static> =
    Reply::new(552, 3, 4, "A sender field of the message is too large");
const NO_FROM: Reply<'static> = Reply::new(550, 7, 1, "The message has no From");
const SEVERAL: Reply<'static> =
    Reply::new(550, 7, 1, "The message has more than one From or Sender");
const UNREADABLE: Reply<'static> =
    Reply::new(550, 7, 1, "A sender field of the message is not a list of addresses");
const NOT_YOURS: Reply<'static> =
    Reply::new(550, 7, 1, "A sender field of the message is not an address of yours");

/// What is to be done with a header.
#[derive(Clone, Debug)]
pub struct Task {
    /// Our name in Authentication-Results; empty: none are taken out.
    pub authserv_id: String,
    /// Most Received fields.
    pub hops: u32,
    /// Most octets of the header, its empty line included.
    pub header_bytes: u64,
    /// Take out Return-Path.
    pub final_delivery: bool,
    /// Take out Bcc and Resent-Bcc.
    pub submission: bool,
    /// Fields to add when they are missing, each whole with its CR LF: Date and Message-ID.
    pub missing: Option<Missing>,
    /// Check From, Sender, Resent-From and Resent-Sender.
    pub sender: bool,
}

impl Default for Task {
    fn default() -> Task {
        Task {
            authserv_id: String::new(),
            hops: HOPS,
            header_bytes: HEADER_OCTETS,
            final_delivery: false,
            submission: false,
            missing: None,
            sender: false,
        }
    }
}

/// What stands in fields that are added.
#[derive(Clone, Debug)]
pub struct Missing {
    /// Milliseconds since 1970, for Date.
    pub unix_millis: u64,
    /// `left@right` of Message-ID, without brackets.
    pub message_id: String,
}

/// Why a message does not go on.
#[derive(Debug)]
pub enum Fault {
    /// It is refused with this reply.
    Refused(Reply<'static>),
    /// It could not be handed on.
    Sink(Error),
}

/// Where the octets go.
pub type Sink<'s> = dyn FnMut(&[u8]) -> Result<()> + 's;
/// Whether an address in From, Sender, Resent-From or Resent-Sender is the sender's.
pub type Owns<'s> = dyn Fn(&Address) -> bool + 's;

/// One message's filter.
#[derive(Debug)]
pub struct Filter {
    task: Task,
    at: At,
    /// What the field under way is.
    field: Field,
    /// The start of a line that was cut.
    held: Vec<u8>,
    /// The value of From and its kin so far, or the field of Authentication-Results.
    value: Vec<u8>,
    /// Octets of the header so far.
    size: u64,
    hops: u32,
    from: bool,
    sender: bool,
    date: bool,
    message_id: bool,
    /// The last octet that was looked at ended a line.
    line_ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the start of a line of the header.
    Start,
    /// In a line of the header.
    Line,
    /// In the body.
    Body,
}

/// What happens to a field's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// They go on.
    Pass,
    /// They do not.
    Drop,
    /// They go on, and the value is looked at when it is whole.
    Sender,
    /// They wait until it is known who made it.
    Results,
}

/// What a line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// It cannot be told yet.
    Unknown,
    /// A field; the length of its name.
    Field(usize),
    Continuation,
    /// The empty line.
    Empty,
    /// None of these.
    Other,
}

impl Filter {
    /// A filter for one message.
    pub fn new(task: Task) -> Filter {
        Filter {
            task,
            at: At::Start,
            field: Field::Pass,
            held: Vec::new(),
            value: Vec::new(),
            size: 0,
            hops: 0,
            from: false,
            sender: false,
            date: false,
            message_id: false,
            line_ended: true,
        }
    }

    /// Takes a piece of the message.
    pub fn push(&mut self, piece: &[u8], owns: &Owns<'_>, sink: &mut Sink<'_>) -> Passed {
        // piece[kept..at] is to go on and has not gone yet.
        let (mut kept, mut at) = (0, 0);
        loop {
            let rest = piece.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.at {
                At::Body => at = piece.len(),
                At::Start => {
                    let line = self.look(rest);
                    if line == Line::Unknown {
                        hand_on(piece, kept..at, sink)?;
                        self.held.extend_from_slice(rest);
                        return Ok(());
                    }
                    // Whatever is written now stands behind what was kept so far.
                    if line != Line::Continuation && self.closes(line) {
                        hand_on(piece, kept..at, sink)?;
                        kept = at;
                    }
                    self.begin(line, rest, owns, sink)?;
                    if !self.held.is_empty() {
                        let held = std::mem::take(&mut self.held);
                        self.line(&held, sink)?;
                        self.held = held;
                        self.held.clear();
                    }
                }
                At::Line => {
                    let end = memchr::memchr(b'\n', rest);
                    let length = end.map_or(rest.len(), |end| end.saturating_add(1));
                    let part = rest.get(..length).unwrap_or_default();
                    if self.field == Field::Pass {
                        self.count(length)?;
                    } else {
                        hand_on(piece, kept..at, sink)?;
                        self.line(part, sink)?;
                        kept = at.saturating_add(length);
                    }
                    at = at.saturating_add(length);
                    self.line_ended = end.is_some();
                    if end.is_some() {
                        self.at = At::Start;
                    }
                }
            }
        }
        hand_on(piece, kept..at, sink)
    }

    /// The message is whole.
    pub fn finish(&mut self, owns: &Owns<'_>, sink: &mut Sink<'_>) -> Passed {
        if self.at == At::Body {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            self.begin(Line::Other, &held, owns, sink)?;
            self.line(&held, sink)?;
            self.line_ended = false;
        }
        if self.at != At::Body {
            self.end_field(owns, sink)?;
            self.end_header(sink)?;
        }
        Ok(())
    }

    /// Tells the kind of line that begins with `held` and `rest`.
    fn look(&mut self, rest: &[u8]) -> Line {
        if self.held.is_empty() {
            return line(rest.get(..NAME_OCTETS.saturating_add(2)).unwrap_or(rest));
        }
        let held = self.held.len();
        let room = NAME_OCTETS.saturating_add(2).saturating_sub(held).max(1);
        self.held.extend_from_slice(rest.get(..room).unwrap_or(rest));
        let found = line(&self.held);
        self.held.truncate(held);
        found
    }

    /// Whether something may be written before this line.
    fn closes(&self, line: Line) -> bool {
        self.field == Field::Results || matches!(line, Line::Empty | Line::Other)
    }

    /// A line of this kind begins; the field before it, or the header, ends.
    fn begin(&mut self, line: Line, rest: &[u8], owns: &Owns<'_>, sink: &mut Sink<'_>) -> Passed {
        self.at = At::Line;
        match line {
            Line::Continuation | Line::Unknown => return Ok(()),
            _ => self.end_field(owns, sink)?,
        }
        match line {
            Line::Field(length) if self.held.is_empty() => {
                self.begin_field(rest.get(..length).unwrap_or(rest))
            }
            Line::Field(length) => {
                let held = self.held.len();
                self.held
                    .extend_from_slice(rest.get(..length.saturating_sub(held)).unwrap_or(rest));
                let name = std::mem::take(&mut self.held);
                let begun = self.begin_field(name.get(..length).unwrap_or(&name));
                self.held = name;
                self.held.truncate(held);
                begun
            }
            Line::Empty => {
                self.at = At::Body;
                self.count(2)?;
                self.end_header(sink)
            }
            _ if self.task.submission => {
                self.at = At::Body;
                self.end_header(sink)?;
                sink(b"\r\n").map_err(Fault::Sink)
            }
            _ => Ok(()),
        }
    }

    fn begin_field(&mut self, name: &[u8]) -> Passed {
        let is = |known: &[u8]| name.trim_ascii_end().eq_ignore_ascii_case(known);
        self.field = Field::Pass;
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'r') if is(b"Received") => {
                self.hops = self.hops.saturating_add(1);
                if self.hops > self.task.hops {
                    return Err(Fault::Refused(LOOP));
                }
            }
            Some(b'r') if is(b"Return-Path") && self.task.final_delivery => {
                self.field = Field::Drop
            }
            Some(b'r') if is(b"Resent-Bcc") && self.task.submission => self.field = Field::Drop,
            Some(b'r') if self.task.sender && (is(b"Resent-From") || is(b"Resent-Sender")) => {
                self.value.clear();
                self.field = Field::Sender;
            }
            Some(b'b') if is(b"Bcc") && self.task.submission => self.field = Field::Drop,
            Some(b'a') if is(b"Authentication-Results") && !self.task.authserv_id.is_empty() => {
                self.value.clear();
                self.field = Field::Results;
            }
            Some(b'd') if is(b"Date") => self.date = true,
            Some(b'm') if is(b"Message-ID") => self.message_id = true,
            Some(b'f') if self.task.sender && is(b"From") => {
                if std::mem::replace(&mut self.from, true) {
                    return Err(Fault::Refused(SEVERAL));
                }
                self.value.clear();
                self.field = Field::Sender;
            }
            Some(b's') if self.task.sender && is(b"Sender") => {
                if std::mem::replace(&mut self.sender, true) {
                    return Err(Fault::Refused(SEVERAL));
                }
                self.value.clear();
                self.field = Field::Sender;
            }
            _ => {}
        }
        Ok(())
    }

    /// Octets of a line: counted, and handed on as their field wants it. Byte for byte, so that the first bound that
    /// is met is the same however they are cut.
    fn line(&mut self, part: &[u8], sink: &mut Sink<'_>) -> Passed {
        if self.at == At::Body {
            return sink(part).map_err(Fault::Sink);
        }
        match self.field {
            Field::Pass => {
                self.count(part.len())?;
                sink(part).map_err(Fault::Sink)
            }
            Field::Drop => self.count(part.len()),
            Field::Sender => {
                let room = SENDER_OCTETS.saturating_sub(self.value.len());
                self.count(part.len().min(room.saturating_add(1)))?;
                if part.len() > room {
                    return Err(Fault::Refused(SENDER_TOO_LARGE));
                }
                self.value.extend_from_slice(part);
                sink(part).map_err(Fault::Sink)
            }
            Field::Results => {
                self.count(part.len())?;
                let room = RESULTS_OCTETS.saturating_sub(self.value.len());
                let (now, later) = part.split_at_checked(room).unwrap_or((part, &[]));
                self.value.extend_from_slice(now);
                if self.value.len() == RESULTS_OCTETS {
                    self.end_results(sink)?;
                    if self.field == Field::Pass && !later.is_empty() {
                        sink(later).map_err(Fault::Sink)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// It is known, or has to be, whose results these are: they go on or not.
    fn end_results(&mut self, sink: &mut Sink<'_>) -> Passed {
        let ours = match authserv_id(&self.value) {
            Some(id) => id.trim_end_matches('.').eq_ignore_ascii_case(&self.task.authserv_id),
            // Who hides whose they are does not speak for us.
            None => true,
        };
        self.field = if ours { Field::Drop } else { Field::Pass };
        if !ours {
            sink(&self.value).map_err(Fault::Sink)?;
        }
        self.value.clear();
        Ok(())
    }

    /// The field under way is whole.
    fn end_field(&mut self, owns: &Owns<'_>, sink: &mut Sink<'_>) -> Passed {
        match self.field {
            Field::Sender => {
                let colon = self.value.iter().position(|&b| b == b':').map_or(0, |n| n + 1);
                let value = self.value.get(colon..).unwrap_or_default();
                let mut mine = true;
                let read = mailbox::each(value, &mut |address| mine &= owns(address));
                self.value.clear();
                match read {
                    None | Some(0) => return Err(Fault::Refused(UNREADABLE)),
                    Some(_) if !mine => return Err(Fault::Refused(NOT_YOURS)),
                    Some(_) => {}
                }
            }
            Field::Results => self.end_results(sink)?,
            Field::Pass | Field::Drop => {}
        }
        self.field = Field::Pass;
        Ok(())
    }

    /// All fields are seen: judges and adds.
    fn end_header(&mut self, sink: &mut Sink<'_>) -> Passed {
        if self.task.sender && !self.from {
            return Err(Fault::Refused(NO_FROM));
        }
        let Some(missing) = self.task.missing.take() else { return Ok(()) };
        let mut text = String::new();
        // Writing to a String cannot fail.
        if !self.date {
            text.push_str("Date: ");
            date::Rfc5322 { unix_millis: missing.unix_millis }.append(&mut text);
            text.push_str("\r\n");
        }
        if !self.message_id {
            let _ = write!(text, "Message-ID: <{}>\r\n", missing.message_id);
        }
        if text.is_empty() {
            return Ok(());
        }
        if !self.line_ended {
            text.insert_str(0, "\r\n");
        }
        sink(text.as_bytes()).map_err(Fault::Sink)
    }

    fn count(&mut self, octets: usize) -> Passed {
        self.size = self.size.saturating_add(octets as u64);
        if self.size > self.task.header_bytes {
            return Err(Fault::Refused(HEADER_TOO_LARGE));
        }
        Ok(())
    }
}

/// The octets went on, or why not.
pub type Passed = std::result::Result<(), Fault>;

fn hand_on(piece: &[u8], range: std::ops::Range<usize>, sink: &mut Sink<'_>) -> Passed {
    match piece.get(range) {
        Some(part) if !part.is_empty() => sink(part).map_err(Fault::Sink),
        _ => Ok(()),
    }
}

/// Tells what a line begins with from its first octets.
fn line(start: &[u8]) -> Line {
    match start {
        [] | [b'\r'] => return Line::Unknown,
        [b'\r', b'\n', ..] | [b'\n', ..] => return Line::Empty,
        [b' ' | b'\t', ..] => return Line::Continuation,
        _ => {}
    }
    let mut blank = false;
    for (n, &octet) in start.iter().enumerate().take(NAME_OCTETS.saturating_add(1)) {
        match octet {
            b':' if n > 0 => return Line::Field(n),
            // Space between a name and its colon is obsolete, and read by everybody (RFC 5322 4.5.8).
            b' ' | b'\t' if n > 0 => blank = true,
            b'!'..=b'9' | b';'..=b'~' if !blank => {}
            _ => return Line::Other,
        }
    }
    if start.len() > NAME_OCTETS { Line::Other } else { Line::Unknown }
}

/// Who made an Authentication-Results field (RFC 8601 2.2): the word behind the colon, comments and folds passed over,
/// quotes taken off. `None` when there is none, or its end cannot be seen.
fn authserv_id(field: &[u8]) -> Option<String> {
    let colon = field.iter().position(|&b| b == b':')?;
    let mut octets = field.get(colon.saturating_add(1)..)?.iter().copied().peekable();
    let mut depth = 0_usize;
    loop {
        match octets.peek()? {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'(' => depth = depth.saturating_add(1),
            b')' if depth > 0 => depth = depth.saturating_sub(1),
            b'\\' if depth > 0 => {
                octets.next();
            }
            _ if depth > 0 => {}
            _ => break,
        }
        octets.next();
    }
    let mut id = Vec::new();
    if octets.next_if_eq(&b'"').is_some() {
        loop {
            match octets.next()? {
                b'"' => break,
                b'\\' => id.push(octets.next()?),
                b'\r' | b'\n' => {}
                octet => id.push(octet),
            }
        }
    } else {
        while let Some(octet) = octets.next_if(|b| !b" \t\r\n;()\"".contains(b)) {
            id.push(octet);
        }
        octets.peek()?;
    }
    let id = String::from_utf8_lossy(&id).into_owned();
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(sender: bool) -> Task {
        Task {
            authserv_id: "mail.example.test".into(),
            submission: true,
            missing: Some(Missing { unix_millis: 0, message_id: "1@mail.example.test".into() }),
            sender,
            ..Task::default()
        }
    }

    fn inbound() -> Task {
        Task { authserv_id: "mail.example.test".into(), ..Task::default() }
    }

    fn owns(address: &Address) -> bool {
        address.as_bytes().starts_with(b"me")
    }

    fn run<'a>(
        task: &Task,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> std::result::Result<Vec<u8>, u16> {
        let mut out = Vec::new();
        let mut filter = Filter::new(task.clone());
        let mut sink = |part: &[u8]| {
            assert!(!part.is_empty());
            out.extend_from_slice(part);
            Ok(())
        };
        let mut result = Ok(());
        for piece in pieces {
            result = filter.push(piece, &owns, &mut sink);
            if result.is_err() {
                break;
            }
        }
        if result.is_ok() {
            result = filter.finish(&owns, &mut sink);
        }
        match result {
            Ok(()) => Ok(out),
            Err(Fault::Refused(reply)) => Err(reply.code * 10 + reply.enhanced.unwrap().2),
            Err(Fault::Sink(e)) => panic!("{e}"),
        }
    }

    /// Runs a message whole, byte by byte, and cut in two at every boundary: all the same.
    #[track_caller]
    fn filter(task: &Task, message: &[u8]) -> std::result::Result<String, u16> {
        let whole = run(task, std::iter::once(message));
        assert_eq!(run(task, message.chunks(1)), whole);
        for cut in 0..message.len().min(600) {
            let (a, b) = message.split_at(cut);
            assert_eq!(run(task, [a, b].into_iter()), whole, "cut at {cut}");
        }
        whole.map(|out| String::from_utf8(out).unwrap())
    }

    const DATE: &str = "Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n";
    const ID: &str = "Message-ID: <1@mail.example.test>\r\n";

    #[test]
    fn missing_date_and_message_id_are_added_at_the_end_of_the_header() {
        let task = submission(false);
        let added = filter(&task, b"Subject: x\r\n\r\nDate: in the body\r\n").unwrap();
        assert_eq!(added, format!("Subject: x\r\n{DATE}{ID}\r\nDate: in the body\r\n"));
        let whole = "DATE : x\r\nmessage-id:\r\n\t<a@b>\r\n\r\nb";
        assert_eq!(filter(&task, whole.as_bytes()).unwrap(), whole);
        assert_eq!(filter(&task, b"Date: x\r\n").unwrap(), format!("Date: x\r\n{ID}"));
        assert_eq!(filter(&task, b"Date: x").unwrap(), format!("Date: x\r\n{ID}"));
        assert_eq!(filter(&task, b"").unwrap(), format!("{DATE}{ID}"));
        assert_eq!(filter(&task, b"\r\n").unwrap(), format!("{DATE}{ID}\r\n"));
    }

    #[test]
    fn bcc_is_removed_with_its_continuations_on_submission_only() {
        let message = "bCC: a@b.test,\r\n c@d.test\r\nTo: e@f.test\r\nResent-Bcc :x\r\n\ty\r\nBcc:\r\n\
                       Bccx: z\r\nDate: d\r\nMessage-ID: i\r\n\r\nBcc: body\r\n";
        let kept = "To: e@f.test\r\nBccx: z\r\nDate: d\r\nMessage-ID: i\r\n\r\nBcc: body\r\n";
        assert_eq!(filter(&submission(false), message.as_bytes()).unwrap(), kept);
        assert_eq!(filter(&inbound(), message.as_bytes()).unwrap(), message);
    }

    #[test]
    fn a_line_that_is_no_field_ends_a_submitted_header() {
        let task = submission(false);
        for line in ["hello", "no colon here: x", ": x", " first", "caf\u{e9}: x", "From me Mon"] {
            let message = format!("Subject: s\r\n{}\r\nBcc: x\r\n", line);
            let message = if line.starts_with(' ') { message[12..].to_owned() } else { message };
            let got = filter(&task, message.as_bytes()).unwrap();
            if line.starts_with(' ') {
                continue;
            }
            assert_eq!(got, format!("Subject: s\r\n{DATE}{ID}\r\n{line}\r\nBcc: x\r\n"));
            assert_eq!(filter(&inbound(), message.as_bytes()).unwrap(), message);
        }
        let long = format!("{}: x\r\n\r\n", "n".repeat(NAME_OCTETS));
        assert_eq!(
            filter(&task, long.as_bytes()).unwrap(),
            long.replace("x\r\n", &format!("x\r\n{DATE}{ID}"))
        );
        let longer = format!("n{long}");
        assert_eq!(filter(&task, longer.as_bytes()).unwrap(), format!("{DATE}{ID}\r\n{longer}"));
    }

    #[test]
    fn results_in_our_name_are_taken_out_whatever_stands_around_it() {
        for ours in [
            "Authentication-Results: mail.example.test; spf=pass\r\n",
            "authentication-results:MAIL.example.TEST 1;\r\n\tspf=pass\r\n",
            "Authentication-Results :\r\n (a (b) \\) c) mail.example.test; none\r\n",
            "Authentication-Results: \"mail.\\example.test\"; none\r\n",
            "Authentication-Results: mail.example.test.; none\r\n",
            "Authentication-Results: mail.example.test(x); none\r\n",
            "Authentication-Results: (never ends\r\n",
            "Authentication-Results:\r\n",
        ] {
            let message = format!("A: b\r\n{ours}C: d\r\n\r\n{ours}");
            let kept = format!("A: b\r\nC: d\r\n\r\n{ours}");
            assert_eq!(filter(&inbound(), message.as_bytes()).unwrap(), kept, "{ours}");
        }
        for other in [
            "Authentication-Results: other.test; spf=pass mail.example.test\r\n",
            "Authentication-Results: (mail.example.test) other.test;\r\n x=y\r\n",
            "X-Authentication-Results: mail.example.test\r\n",
            "Authentication-Results: xmail.example.test; none\r\n",
        ] {
            let message = format!("A: b\r\n{other}C: d\r\n\r\nbody");
            assert_eq!(filter(&inbound(), message.as_bytes()).unwrap(), message, "{other}");
        }
        let task = Task::default();
        let message = "Authentication-Results: mail.example.test; none\r\n\r\n";
        assert_eq!(filter(&task, message.as_bytes()).unwrap(), message);
    }

    #[test]
    fn results_that_hide_their_name_behind_a_long_comment_are_taken_out() {
        let field = |comment: usize, id: &str| {
            let name = "Authentication-Results: ";
            format!("{name}({}) {id}; none\r\n", "c".repeat(comment))
        };
        let fits = RESULTS_OCTETS - "Authentication-Results: () other.test;".len();
        let shown = format!("{}\r\nb", field(fits, "other.test"));
        assert_eq!(filter(&inbound(), shown.as_bytes()).unwrap(), shown);
        let long = format!("{}\r\nb", field(RESULTS_OCTETS, "other.test"));
        assert_eq!(filter(&inbound(), long.as_bytes()).unwrap(), "\r\nb");
        // The bound stands in the middle of our name.
        for end in 0..=16 {
            let ours = format!("{}\r\nb", field(fits - 10 + end, "mail.example.test"));
            assert_eq!(filter(&inbound(), ours.as_bytes()).unwrap(), "\r\nb", "{end}");
        }
    }

    #[test]
    fn return_path_is_taken_out_at_final_delivery_only() {
        let message = "Return-Path: <x@y.test>\r\nA: b\r\n\r\nc";
        let last = Task { final_delivery: true, ..inbound() };
        assert_eq!(filter(&last, message.as_bytes()).unwrap(), "A: b\r\n\r\nc");
        assert_eq!(filter(&inbound(), message.as_bytes()).unwrap(), message);
    }

    #[test]
    fn a_hundred_received_fields_pass_and_one_more_is_a_loop() {
        let message =
            |n| format!("{}\r\nReceived: body", "Received: from x\r\n\tby y; z\r\n".repeat(n));
        assert_eq!(filter(&inbound(), message(100).as_bytes()).unwrap(), message(100));
        assert_eq!(filter(&inbound(), message(101).as_bytes()), Err(5546));
    }

    #[test]
    fn a_header_of_the_limit_passes_and_one_octet_more_does_not() {
        let message = b"A: b\r\nC: d\r\n\r\nbody is not counted";
        let limit = |header_bytes| Task { header_bytes, ..inbound() };
        assert!(filter(&limit(14), message).is_ok());
        assert_eq!(filter(&limit(13), message), Err(5524));
        let endless = vec![b'x'; 4096];
        assert_eq!(filter(&limit(4095), &endless), Err(5524));
        assert!(filter(&limit(4096), &endless).is_ok());
    }

    /// Who sends a message again says so in Resent-From and Resent-Sender (RFC 5322 3.6.6), which programs show.
    #[test]
    fn so_must_every_address_of_resent_from_and_resent_sender() {
        let task = submission(true);
        for good in [
            "Resent-From: me@x.test\r\nFrom: me@x.test\r\n",
            // A block for each time that it was sent again.
            "Resent-From: me@x.test\r\nResent-Sender: me2@x.test\r\nResent-From: me3@x.test\r\nFrom: me@x.test\r\n",
            "From: me@x.test\r\nResent-To: you@x.test\r\nResent-Froms: you@x.test\r\n",
        ] {
            assert!(filter(&task, format!("{good}\r\nbody").as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "Resent-From: you@x.test\r\nFrom: me@x.test\r\n",
            "resent-from : me@x.test,\r\n you@x.test\r\nFrom: me@x.test\r\n",
            "From: me@x.test\r\nResent-Sender: you@x.test\r\n",
            "From: me@x.test\r\nResent-From:\r\n",
            "Resent-From: me@x.test\r\nResent-From: you@x.test\r\nFrom: me@x.test\r\n",
            // Having sent it again makes nobody its author.
            "Resent-From: me@x.test\r\nFrom: you@x.test\r\n",
            "Resent-From: me@x.test\r\n",
        ] {
            assert_eq!(filter(&task, format!("{bad}\r\nbody").as_bytes()), Err(5501), "{bad}");
        }
        let other = "Resent-From: you@x.test\r\nDate: d\r\nMessage-ID: i\r\n\r\n";
        assert_eq!(filter(&submission(false), other.as_bytes()).unwrap(), other);
    }

    #[test]
    fn every_address_of_from_and_sender_must_be_the_senders() {
        let task = submission(true);
        for good in [
            "From: me@x.test\r\n",
            "from : Me <me@x.test>,\r\n Two <me2@x.test>\r\nSender: me@x.test\r\n",
            "From: \"boss@x.test\" <me@x.test>\r\n",
        ] {
            assert!(filter(&task, format!("{good}\r\nFrom: x").as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "From: you@x.test\r\n",
            "From: me@x.test, you@x.test\r\n",
            "From: me@x.test\r\nSender: you@x.test\r\n",
            "From: me@x.test\r\nFrom: me@x.test\r\n",
            "From: me@x.test\r\nFROM : you@x.test\r\n",
            "From: me@x.test\r\nSender: me@x.test\r\nSender: me@x.test\r\n",
            "From: you@x.test <me@x.test>\r\n",
            "From: me@x.test\r\n\t, you@x.test\r\n",
            "From:\r\n",
            "Subject: none\r\n",
            "no header\r\nFrom: me@x.test\r\n",
            "",
        ] {
            assert_eq!(filter(&task, format!("{bad}\r\nbody").as_bytes()), Err(5501), "{bad}");
            assert_eq!(filter(&task, bad.as_bytes()), Err(5501), "{bad}");
        }
        let from = |n| format!("From: ({}) me@x.test\r\n\r\n", "c".repeat(n));
        let fits = SENDER_OCTETS - "From: () me@x.test\r\n".len();
        assert!(filter(&task, from(fits).as_bytes()).is_ok());
        assert_eq!(filter(&task, from(fits + 1).as_bytes()), Err(5524));
    }
}
