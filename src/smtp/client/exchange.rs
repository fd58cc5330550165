//! A transaction: what is sent, what each reply means, and how the message goes out by DATA or BDAT.

use std::mem;

use super::body::{Encoder, Fault};
use super::outcome::{Origin, Phase, Verdict};
use super::transaction::Standing;
use super::{Announcing, Client, Heard, Owed, Signal, State, Whom};
use crate::error::{Error, Kind, Result};
use crate::smtp::answer::Answer;
use crate::time::Time;

/// Where a transaction stands.
#[derive(Debug, Default)]
pub(super) struct Flow {
    stage: Stage,
    /// The next command to send.
    sent: Command,
    /// The next command to be answered.
    heard: Command,
    /// Octets and number of the commands between the two.
    unanswered_bytes: usize,
    unanswered: u32,
    /// The recipients before this one were looked at: at the beginning, and again behind the message.
    cursor: usize,
    /// MAIL was accepted.
    open: bool,
    /// MAIL was refused: nothing more is sent.
    refused: bool,
    encoder: Option<Encoder>,
    /// By BDAT and not by DATA.
    chunked: bool,
    /// The chunk that is being gathered.
    chunk: Vec<u8>,
    /// Chunks that are not answered yet.
    chunks: u32,
    /// The driver may give a piece of the message.
    asked: bool,
}

/// The parts of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// What this side decides alone is told.
    #[default]
    Begin,
    /// Commands and their replies.
    Commands,
    /// The message is pulled and sent.
    Body,
    /// The message is whole; the last chunk is still to be sent.
    LastChunk,
    /// The end was sent.
    End,
    /// A chunk was refused: the replies to those behind it are read and dropped.
    Draining,
    /// The lone dot was sent.
    LoneDot,
    /// Everything is told.
    Over,
}

/// A place in the list of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Command {
    Reset,
    #[default]
    Mail,
    Rcpt(usize),
    Data,
    /// Behind the last one.
    End,
}

impl Flow {
    pub(super) fn phase(&self) -> Phase {
        match self.stage {
            Stage::Begin => Phase::Begin,
            Stage::Commands => match self.heard {
                Command::Reset | Command::Mail => Phase::Mail,
                Command::Rcpt(_) => Phase::Rcpt,
                Command::Data | Command::End => Phase::Data,
            },
            Stage::Body | Stage::LastChunk | Stage::Draining => Phase::Body,
            Stage::End => Phase::End,
            Stage::LoneDot | Stage::Over => Phase::Data,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.chunk.capacity()
    }
}

impl Client {
    /// The next piece of the message, an answer to [`ClientEvent::NeedBody`](super::ClientEvent::NeedBody). Any cut is good; larger
    /// pieces make larger chunks. Step afterwards.
    ///
    /// # Errors
    /// [`Kind::State`]: no piece was asked for. [`Kind::InvalidArgument`]: it is empty, or larger than what was asked for.
    pub fn body(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.asked()?;
        if piece.is_empty() || piece.len() > self.piece_bytes() {
            return Err(Error::new(
                Kind::InvalidArgument,
                "a piece of the message is empty or larger than what was asked for",
            ));
        }
        self.flow.asked = false;
        if self.flow.chunked && self.flow.chunk.len() >= self.config.limits.chunk_bytes {
            self.send_chunk(false, out);
        }
        let Flow { encoder: Some(encoder), chunk, chunked, .. } = &mut self.flow else {
            return Ok(());
        };
        let result = encoder.write(piece, if *chunked { chunk } else { out });
        self.encoded(result);
        Ok(())
    }

    /// The message is whole, an answer to [`ClientEvent::NeedBody`](super::ClientEvent::NeedBody). Step afterwards.
    ///
    /// # Errors
    /// [`Kind::State`]: no piece was asked for.
    pub fn body_end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.asked()?;
        self.flow.asked = false;
        let Flow { encoder: Some(encoder), chunk, chunked, .. } = &mut self.flow else {
            return Ok(());
        };
        let result = encoder.finish(if *chunked { chunk } else { out });
        if result.is_ok() {
            self.flow.stage = if self.flow.chunked { Stage::LastChunk } else { Stage::End };
        }
        self.encoded(result);
        Ok(())
    }

    /// The message cannot be read, an answer to [`ClientEvent::NeedBody`](super::ClientEvent::NeedBody): every recipient is temporary. By DATA
    /// the connection ends, because nothing else stops the peer from taking a part for the whole. `why` goes into the outcome.
    ///
    /// # Errors
    /// [`Kind::State`]: no piece was asked for.
    pub fn body_failed(&mut self, why: &str) -> Result<()> {
        self.asked()?;
        self.flow.asked = false;
        let why = why.replace(|c: char| c.is_control(), " ");
        self.own = Answer::own(451, 3, 0, &format!("Message cannot be read: {why}"));
        self.take_back(Verdict::Temporary);
        Ok(())
    }

    fn asked(&self) -> Result<()> {
        if self.flow.asked && self.state == State::Transaction && self.flow.stage == Stage::Body {
            return Ok(());
        }
        Err(Error::new(Kind::State, "no piece of a message was asked for"))
    }

    fn encoded(&mut self, result: std::result::Result<(), Fault>) {
        let text = match result {
            Ok(()) => return,
            Err(Fault::LineEnd) => "Message holds a bare CR or LF",
            Err(Fault::Nul) => "Message holds a NUL",
        };
        self.own = Answer::own(554, 6, 0, text);
        self.take_back(Verdict::Permanent);
    }

    /// The message is not to be delivered although a part of it was sent.
    fn take_back(&mut self, verdict: Verdict) {
        self.announce(Whom::Undecided(0), Origin::Client, verdict, Phase::Body);
        if self.flow.chunked {
            self.flow.stage = Stage::Draining;
        } else {
            self.finish(true);
        }
    }

    /// The envelope is set: from the next step on the transaction is under way.
    pub(super) fn start(&mut self) {
        let first = if self.reset_owed { Command::Reset } else { Command::Mail };
        let chunked = self.capabilities.chunking && self.config.chunking || self.envelope.binary;
        self.flow = Flow {
            sent: first,
            heard: first,
            chunked,
            chunk: mem::take(&mut self.flow.chunk),
            ..Flow::default()
        };
        self.flow.chunk.clear();
        self.parser.reset();
        self.deadline = None;
        self.state = State::Transaction;
    }

    /// The transaction is over, once the announcements are made. `closing`: and so is the connection.
    pub(super) fn finish(&mut self, closing: bool) {
        self.flow.stage = Stage::Over;
        self.flow.encoder = None;
        self.flow.asked = false;
        self.owed = Owed::Done { closing };
    }

    /// One unit of the transaction.
    pub(super) fn transact(
        &mut self,
        now: Time,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Option<Signal>) {
        match self.flow.stage {
            Stage::Begin => {
                self.begin_unit();
                (0, None)
            }
            Stage::Commands => {
                if self.send_command(out) {
                    return (0, None);
                }
                if self.flow.heard == self.flow.sent {
                    self.commands_done();
                    return (0, None);
                }
                self.await_reply(now, input, out)
            }
            Stage::End | Stage::LoneDot => self.await_reply(now, input, out),
            Stage::Body => self.body_unit(now, input, out),
            Stage::LastChunk => {
                if self.flow.chunks < self.chunk_window(true) {
                    self.send_chunk(true, out);
                    self.flow.stage = Stage::End;
                    return (0, None);
                }
                self.await_reply(now, input, out)
            }
            Stage::Draining if self.flow.chunks == 0 => {
                self.reset_owed = true;
                self.finish(false);
                (0, None)
            }
            Stage::Draining => self.await_reply(now, input, out),
            // The announcements are made before anything else, so this is not reached.
            Stage::Over => {
                self.finish(true);
                (0, None)
            }
        }
    }

    /// Tells of one recipient that is decided already, or goes on to the commands.
    fn begin_unit(&mut self) {
        let refused = |standing| matches!(standing, Standing::Refused(_));
        if let Some(index) = self.envelope.find(self.flow.cursor, refused) {
            if let Standing::Refused(refusal) = self.envelope.standing(index) {
                let (verdict, answer) = refusal.answer();
                self.own = answer;
                self.announcing = Some(Announcing {
                    whom: Whom::One(index),
                    verdict,
                    origin: Origin::Client,
                    phase: Phase::Begin,
                    again: verdict == Verdict::NotTried,
                });
            }
            self.flow.cursor = index + 1;
            return;
        }
        self.flow.cursor = 0;
        if self.envelope.next_tried(0).is_some() {
            self.flow.stage = Stage::Commands;
        } else {
            self.finish(false);
        }
    }

    /// The command behind `command`.
    fn following(&self, command: Command) -> Command {
        let from = match command {
            Command::Reset => return Command::Mail,
            Command::Mail => 0,
            Command::Rcpt(index) => index + 1,
            Command::Data | Command::End => return Command::End,
        };
        match self.envelope.next_tried(from) {
            Some(index) => Command::Rcpt(index),
            None if self.flow.chunked => Command::End,
            None => Command::Data,
        }
    }

    fn command_text(&self, command: Command) -> &[u8] {
        match command {
            Command::Reset => b"RSET\r\n",
            Command::Mail => self.envelope.mail(),
            Command::Rcpt(index) => self.envelope.rcpt(index),
            Command::Data => b"DATA\r\n",
            Command::End => b"",
        }
    }

    /// Sends the next command, if it may be sent now.
    fn send_command(&mut self, out: &mut Vec<u8>) -> bool {
        let command = self.flow.sent;
        if command == Command::End || self.flow.refused {
            return false;
        }
        let length = self.command_text(command).len();
        let all_heard = self.flow.sent == self.flow.heard;
        if !all_heard {
            let limits = &self.config.limits;
            let room = self.config.pipelining
                && self.capabilities.pipelining
                && self.flow.unanswered < limits.pipeline_commands
                && self.flow.unanswered_bytes.saturating_add(length) <= limits.pipeline_bytes;
            if !room {
                return false;
            }
        } else if command == Command::Data && self.envelope.accepted == 0 {
            return false;
        }
        if command == Command::Mail {
            self.transactions = self.transactions.saturating_add(1);
        }
        out.extend_from_slice(self.command_text(command));
        self.flow.unanswered_bytes = self.flow.unanswered_bytes.saturating_add(length);
        self.flow.unanswered = self.flow.unanswered.saturating_add(1);
        self.flow.sent = self.following(command);
        true
    }

    /// Everything that was sent is answered, and nothing more is to be sent before the message.
    fn commands_done(&mut self) {
        if self.envelope.accepted > 0 && self.flow.chunked && !self.flow.refused {
            let binary = self.envelope.binary;
            self.flow.encoder = Some(Encoder::counted(self.config.line_ends, binary));
            self.flow.stage = Stage::Body;
        } else {
            self.reset_owed = self.flow.open;
            self.finish(false);
        }
    }

    /// A reply within the transaction, not 421.
    pub(super) fn heard(&mut self, out: &mut Vec<u8>) {
        let class = self.parser.answer().class();
        match self.flow.stage {
            Stage::Commands => self.command_heard(class, out),
            Stage::Body | Stage::LastChunk => self.chunk_heard(class),
            Stage::End if self.flow.chunks > 0 => self.chunk_heard(class),
            Stage::End => self.end_heard(class),
            Stage::Draining => self.flow.chunks = self.flow.chunks.saturating_sub(1),
            Stage::LoneDot => self.finish(false),
            Stage::Begin | Stage::Over => self.broken("a reply to nothing"),
        }
    }

    fn command_heard(&mut self, class: u8, out: &mut Vec<u8>) {
        let command = self.flow.heard;
        let length = self.command_text(command).len();
        match (command, class) {
            (Command::Reset, 2) => self.reset_owed = false,
            (Command::Mail, 2) => self.flow.open = true,
            (Command::Mail, 4 | 5) => {
                self.flow.refused = true;
                self.announce_peer(Whom::Undecided(0), class);
            }
            // What is said of recipients behind a refused MAIL says nothing.
            (Command::Rcpt(_), 2 | 4 | 5) if self.flow.refused => {}
            (Command::Rcpt(index), 2) => {
                self.envelope.stand(index, Standing::Accepted);
                self.envelope.accepted += 1;
            }
            (Command::Rcpt(index), 4 | 5) => self.rcpt_refused(index, class),
            (Command::Data, 3) => self.data_begins(out),
            (Command::Data, 4 | 5) => {
                self.announce_peer(Whom::Undecided(0), class);
                self.reset_owed = self.flow.open;
                self.finish(false);
            }
            _ => {
                self.broken("a reply of a class that cannot stand here");
                return;
            }
        }
        self.flow.unanswered_bytes = self.flow.unanswered_bytes.saturating_sub(length);
        self.flow.unanswered = self.flow.unanswered.saturating_sub(1);
        self.flow.heard = self.following(command);
    }

    /// The peer's reply decides.
    fn announce_peer(&mut self, whom: Whom, class: u8) {
        let verdict = match class {
            2 => Verdict::Delivered,
            5 => Verdict::Permanent,
            _ => Verdict::Temporary,
        };
        let phase = self.phase();
        self.announce(whom, Origin::Peer, verdict, phase);
    }

    fn rcpt_refused(&mut self, index: usize, class: u8) {
        self.announce_peer(Whom::One(index), class);
        let answer = self.parser.answer();
        let full = matches!(
            (answer.code(), answer.enhanced()),
            (452, None | Some((4, 5, 3))) | (552, Some((5, 5, 3)))
        );
        if let (true, Some(announcing)) = (full, &mut self.announcing) {
            announcing.verdict = Verdict::Temporary;
            announcing.again = self.envelope.accepted > 0;
        }
    }

    /// A 354.
    fn data_begins(&mut self, out: &mut Vec<u8>) {
        if self.envelope.accepted > 0 && !self.flow.refused {
            self.flow.encoder = Some(Encoder::dotted(self.config.line_ends));
            self.flow.stage = Stage::Body;
            return;
        }
        out.extend_from_slice(b".\r\n");
        if self.config.lmtp {
            // How many replies follow cannot be told (RFC 2033 4.2 asks for 503 here).
            self.finish(true);
        } else {
            self.flow.stage = Stage::LoneDot;
        }
    }

    /// The reply to a chunk that is not the last.
    fn chunk_heard(&mut self, class: u8) {
        self.flow.chunks = self.flow.chunks.saturating_sub(1);
        match class {
            2 => {}
            4 | 5 => {
                let phase = Phase::Body;
                let verdict = if class == 5 { Verdict::Permanent } else { Verdict::Temporary };
                self.announce(Whom::Undecided(0), Origin::Peer, verdict, phase);
                if self.flow.stage == Stage::End {
                    // The last chunk was sent as well.
                    self.flow.chunks = self.flow.chunks.saturating_add(1);
                }
                self.flow.asked = false;
                self.flow.stage = Stage::Draining;
            }
            _ => self.broken("a reply of a class that cannot stand here"),
        }
    }

    /// A reply to the end of the message.
    fn end_heard(&mut self, class: u8) {
        let accepted = |standing| standing == Standing::Accepted;
        if !matches!(class, 2 | 4 | 5) {
            self.broken("a reply of a class that cannot stand here");
            return;
        }
        // A chunk that was refused leaves the transaction open (RFC 3030 2).
        self.reset_owed |= self.flow.chunked && class != 2;
        if !self.config.lmtp {
            self.announce_peer(Whom::Undecided(0), class);
            self.finish(false);
            return;
        }
        if let Some(index) = self.envelope.find(self.flow.cursor, accepted) {
            self.announce_peer(Whom::One(index), class);
            self.flow.cursor = index + 1;
            if self.envelope.find(index + 1, accepted).is_none() {
                self.finish(false);
            }
        }
    }

    /// The message by DATA or BDAT.
    fn body_unit(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Signal>) {
        if self.flow.chunked {
            let full = self.flow.chunk.len() >= self.config.limits.chunk_bytes;
            if full && self.flow.chunks >= self.chunk_window(false) {
                return self.await_reply(now, input, out);
            }
        }
        if self.eof {
            return self.body_cut_short(now, input);
        }
        self.deadline = None;
        self.flow.asked = true;
        (0, Some(Signal::NeedBody { max: self.piece_bytes() }))
    }

    /// The peer closed while the message was on its way. What it said before is its reason.
    fn body_cut_short(&mut self, now: Time, input: &[u8]) -> (usize, Option<Signal>) {
        let (consumed, heard) = self.hear(now, input);
        if heard == Heard::Reply {
            match self.parser.answer().class() {
                4 => self.give_up(Origin::Peer, Verdict::Temporary, false),
                5 => self.give_up(Origin::Peer, Verdict::Permanent, false),
                _ if self.flow.chunks > 0 => self.flow.chunks -= 1,
                _ => self.broken("a reply of a class that cannot stand here"),
            }
        }
        (consumed, None)
    }

    /// Most octets of the next piece.
    fn piece_bytes(&self) -> usize {
        let limits = &self.config.limits;
        let most = if self.flow.chunked { limits.chunk_bytes } else { limits.output_bytes };
        let held = self.flow.chunk.len();
        if self.flow.chunked && held < most { most - held } else { most }.max(1)
    }

    /// How many chunks may stand unanswered, that which is about to be sent included.
    fn chunk_window(&self, last: bool) -> u32 {
        // How an LMTP peer answers a last chunk behind a refused one cannot be told, so that is not risked.
        let alone = self.config.lmtp && last;
        if alone || !(self.config.pipelining && self.capabilities.pipelining) {
            1
        } else {
            self.config.limits.chunks.max(1)
        }
    }

    fn send_chunk(&mut self, last: bool, out: &mut Vec<u8>) {
        let end = if last { " LAST" } else { "" };
        out.extend_from_slice(format!("BDAT {}{end}\r\n", self.flow.chunk.len()).as_bytes());
        out.extend_from_slice(&self.flow.chunk);
        self.flow.chunk.clear();
        if !last {
            self.flow.chunks = self.flow.chunks.saturating_add(1);
        }
    }
}
