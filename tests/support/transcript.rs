//! The transcript runner: protocol conversations written as text files, played against a machine.
//!
//! A file is one conversation. Its first line is a comment that names the RFC section. Then, line by line:
//!
//! ```text
//! # RFC 5321 4.1.1.4: what this file shows          a comment
//! % offer starttls auth                             set-up: a name and its words, read by the machine's adaptor
//! % limit recipients 2                              set-up: `limit` may stand several times
//! % prelude ehlo                                    puts the adaptor's lines of that name here
//! % watch reset data                                these kinds of events are compared even if no `<` line names them
//! ! rcpt nobody@example.test 550 5.1.1 No such user a verdict rule: event, key (`*` for any), verdict; read by the adaptor
//! C: NOOP                                           the client sends this line and CR LF
//! C| NOOP                                           the client sends these bytes, nothing added
//! S: 250 2.0.0 Ok                                   the server sends exactly this line and CR LF
//! < reset                                           the machine reports this event
//! -- tls auth                                       the TLS handshake ends here; the words are what is offered after it
//! -- tls-fails                                      a client is told that the handshake failed (its `shutdown`)
//! -- eof                                            the client closes its side
//! -- wait 300000                                    so many milliseconds pass
//! -- shutdown                                       the server is told to stop
//! -- closed                                         the conversation is over
//! ```
//!
//! In `C:`, `C|`, `S:` and `<` lines `\r \n \t \0 \\ \s` (a space), `\xHH` and `\{text*count}` (repetition) are escapes.
//! Events are compared by kind (their first word): a kind that a `<` line or `% watch` names is compared everywhere in
//! the file, others are not looked at. Neighbouring `data` events count as one.
//!
//! Every file is played in these ways, and each must give the same lines in the same order:
//! - *by turns*: the client's lines up to the next answer go in together, and what the file says follows them must be
//!   there before more goes in;
//! - *pipelined*: everything up to the next `--` line goes in at once;
//! - *byte by byte*;
//! - *cut at random*, from seeds that a failure prints.
//!
//! What a client sends between STARTTLS and `-- tls` is plaintext that the machine gets as `unread`.

#![allow(dead_code)] // each test binary uses its own part of this

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use posthouse::time::Time;

/// A protocol machine as the runner sees it: one adaptor for each protocol.
pub trait Machine: Sized {
    /// A client's machine: `S:` and `S|` lines go in, `C:` lines come out.
    const SWAPPED: bool = false;
    /// A fresh session, as the file's `%` and `!` lines say.
    fn new(setup: &Setup) -> Self;
    /// The lines that `% prelude NAME` stands for.
    fn prelude(name: &str) -> Option<&'static str> {
        let _ = name;
        None
    }
    /// One step; an event that pauses gets its verdict (from the rules) before this returns.
    fn step(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress);
    /// The handshake is done; `offer` is what stands behind `-- tls`.
    fn tls_started(&mut self, offer: &[String], unread: &[u8]);
    /// The client closed its side.
    fn eof(&mut self, now: Time);
    /// The server is told to stop.
    fn shutdown(&mut self);
}

/// What one step brought.
#[derive(Debug)]
pub enum Progress {
    /// An event as text; its first word is its kind.
    Event(String),
    /// A piece of a message.
    Data(Vec<u8>),
    /// The machine waits for the TLS handshake.
    StartTls,
    /// See `posthouse::session::Next`.
    NeedInput,
    /// See `posthouse::session::Next`.
    Blocked,
    /// See `posthouse::session::Next`.
    Closed,
}

/// What the file says before the conversation.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    directives: Vec<Vec<String>>,
    rules: Vec<Rule>,
}

/// A verdict rule.
#[derive(Clone, Debug)]
struct Rule {
    event: String,
    key: String,
    verdict: String,
}

impl Setup {
    /// The words behind the first `% name`.
    pub fn words(&self, name: &str) -> Option<&[String]> {
        self.directives.iter().find(|d| d[0] == name).map(|d| &d[1..])
    }

    /// The words behind each `% name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [String]> {
        self.directives.iter().filter(move |d| d[0] == name).map(|d| &d[1..])
    }

    /// Whether `% name ... word ...` stands in the file.
    pub fn has(&self, name: &str, word: &str) -> bool {
        self.all(name).any(|words| words.iter().any(|w| w == word))
    }

    /// Whether there is any rule for this event.
    pub fn has_rule(&self, event: &str) -> bool {
        self.rules.iter().any(|r| r.event == event)
    }

    /// The `% limit NAME NUMBER` lines.
    pub fn limits(&self) -> impl Iterator<Item = (&str, u64)> {
        self.directives.iter().filter(|d| d[0] == "limit").map(|d| {
            let [_, name, number] = &d[..] else { panic!("% limit NAME NUMBER") };
            (name.as_str(), number.parse().unwrap_or_else(|_| panic!("{number} is no number")))
        })
    }

    /// The verdict of the first rule for this event and key (`*` fits any key).
    pub fn verdict(&self, event: &str, key: &str) -> Option<&str> {
        self.rules
            .iter()
            .find(|r| r.event == event && (r.key == "*" || r.key == key))
            .map(|r| r.verdict.as_str())
    }
}

/// Plays every `.txt` of `tests/transcripts/<folder>`; panics with all failures. Answers how many it played.
pub fn play_folder<M: Machine>(folder: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(folder);
    let mut files: Vec<_> = fs::read_dir(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|p| p.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", path.display());
    let mut failures = String::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Err(why) = play::<M>(&text) {
            let _ = writeln!(failures, "--- {folder}/{name}: {why}\n");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    files.len()
}

/// Plays one conversation in every way.
pub fn play<M: Machine>(text: &str) -> Result<(), String> {
    let script = Script::parse::<M>(text)?;
    by_turns::<M>(&script).map_err(|e| format!("by turns: {e}"))?;
    in_pieces::<M>(&script, |left| left).map_err(|e| format!("pipelined: {e}"))?;
    in_pieces::<M>(&script, |_| 1).map_err(|e| format!("byte by byte: {e}"))?;
    for seed in 1..=8u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        in_pieces::<M>(&script, |left| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let longest = if state & 3 == 0 { 3 } else { 40 };
            usize::try_from(state >> 8).unwrap_or(7) % left.min(longest) + 1
        })
        .map_err(|e| format!("cut at random, seed {seed}: {e}"))?;
    }
    Ok(())
}

enum Line {
    Client(Vec<u8>),
    Expect(String),
    Barrier(Vec<String>),
}

struct Script {
    setup: Setup,
    watched: Vec<String>,
    lines: Vec<Line>,
}

impl Script {
    fn parse<M: Machine>(text: &str) -> Result<Script, String> {
        if !text.starts_with('#') {
            return Err("line 1 must be a comment that names the RFC section".into());
        }
        let mut script = Script { setup: Setup::default(), watched: Vec::new(), lines: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            script.line::<M>(line).map_err(|e| format!("line {}: {e}: {line}", number + 1))?;
        }
        Ok(script)
    }

    fn line<M: Machine>(&mut self, line: &str) -> Result<(), String> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (mark, rest) = line.split_at(line.find(' ').unwrap_or(line.len()));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let words = || rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mark = match mark {
            "S:" if M::SWAPPED => "C:",
            "S|" if M::SWAPPED => "C|",
            "C:" if M::SWAPPED => "S:",
            mark => mark,
        };
        match mark {
            "%" => {
                let words = words();
                match words.first().map(String::as_str) {
                    Some("prelude") => {
                        let name = words.get(1).ok_or("prelude without a name")?;
                        let lines = M::prelude(name).ok_or("no such prelude")?;
                        for line in lines.lines() {
                            self.line::<M>(line.trim_start())?;
                        }
                    }
                    Some("watch") => self.watched.extend(words.into_iter().skip(1)),
                    Some(_) => self.setup.directives.push(words),
                    None => return Err("empty directive".into()),
                }
            }
            "!" => {
                let mut parts = rest.splitn(3, ' ').map(str::to_owned);
                let (Some(event), Some(key), Some(verdict)) =
                    (parts.next(), parts.next(), parts.next())
                else {
                    return Err("a rule is `! event key verdict`".into());
                };
                self.setup.rules.push(Rule { event, key, verdict });
            }
            "C:" => {
                let mut bytes = unescape(rest)?;
                bytes.extend_from_slice(b"\r\n");
                self.lines.push(Line::Client(bytes));
            }
            "C|" => self.lines.push(Line::Client(unescape(rest)?)),
            "S:" => self.lines.push(Line::Expect(format!("S: {}", escape(&unescape(rest)?)))),
            "<" => {
                let kind = rest.split(' ').next().unwrap_or_default().to_owned();
                if !self.watched.contains(&kind) {
                    self.watched.push(kind);
                }
                self.lines.push(Line::Expect(format!("< {}", escape(&unescape(rest)?))));
            }
            "--" if rest == "closed" => self.lines.push(Line::Expect("-- closed".into())),
            "--" => self.lines.push(Line::Barrier(words())),
            _ => return Err("no such kind of line".into()),
        }
        Ok(())
    }

    fn expected(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|l| if let Line::Expect(text) = l { Some(text.as_str()) } else { None })
            .collect()
    }
}

/// A session being played: its unread input, and the lines of what it did.
struct Player<'s, M> {
    machine: M,
    now: Time,
    pending: Vec<u8>,
    out: Vec<u8>,
    partial: Vec<u8>,
    trace: Vec<String>,
    data: Vec<u8>,
    watched: &'s [String],
    closed: bool,
    wants_tls: bool,
}

impl<'s, M: Machine> Player<'s, M> {
    fn new(script: &'s Script) -> Player<'s, M> {
        Player {
            machine: M::new(&script.setup),
            now: Time(1_000_000),
            pending: Vec::new(),
            out: Vec::new(),
            partial: Vec::new(),
            trace: Vec::new(),
            data: Vec::new(),
            watched: &script.watched,
            closed: false,
            wants_tls: false,
        }
    }

    fn note(&mut self, line: String) {
        self.flush_data();
        self.trace.push(line);
    }

    fn flush_data(&mut self) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            if self.watched.iter().any(|k| k == "data") {
                self.trace.push(format!("< data {}", escape(&data)));
            }
        }
    }

    /// Steps until the machine waits for something.
    fn run(&mut self) -> Result<(), String> {
        let mut idle = 0;
        while !self.closed && !self.wants_tls {
            let before = self.out.len();
            let (consumed, progress) = self.machine.step(self.now, &self.pending, &mut self.out);
            if consumed > self.pending.len() {
                return Err(format!("consumed {consumed} of {} octets", self.pending.len()));
            }
            if self.out.len() < before {
                return Err("the machine took output back".into());
            }
            self.pending.drain(..consumed);
            let fresh = self.out[before..].to_vec();
            for byte in fresh {
                self.partial.push(byte);
                if self.partial.ends_with(b"\r\n") {
                    let line = escape(&self.partial[..self.partial.len() - 2]);
                    self.partial.clear();
                    self.note(format!("S: {line}"));
                }
            }
            idle = if consumed == 0 && self.out.len() == before { idle + 1 } else { 0 };
            if idle > 64 {
                return Err(format!("64 steps without progress, the last was {progress:?}"));
            }
            match progress {
                Progress::Event(text) => {
                    let kind = text.split(' ').next().unwrap_or_default();
                    if self.watched.iter().any(|k| k == kind) {
                        self.note(format!("< {text}"));
                    } else {
                        self.flush_data();
                    }
                }
                Progress::Data(bytes) => self.data.extend_from_slice(&bytes),
                Progress::StartTls => self.wants_tls = true,
                Progress::Blocked => self.out.clear(),
                Progress::Closed => {
                    self.closed = true;
                    self.note("-- closed".into());
                }
                Progress::NeedInput => {
                    self.out.clear();
                    break;
                }
            }
        }
        if !self.partial.is_empty() {
            return Err(format!("output that is not a whole line: {}", escape(&self.partial)));
        }
        Ok(())
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.pending.extend_from_slice(bytes);
        self.run()
    }

    fn tls(&mut self, offer: &[String]) -> Result<(), String> {
        self.wants_tls = false;
        let unread = std::mem::take(&mut self.pending);
        self.machine.tls_started(offer, &unread);
        self.out.clear();
        self.run()
    }

    fn barrier(&mut self, words: &[String]) -> Result<(), String> {
        match words.first().map(String::as_str) {
            Some("tls") if self.wants_tls => return self.tls(&words[1..]),
            Some("tls") => return Err("`-- tls`, but the machine does not wait for TLS".into()),
            Some("tls-fails") => {
                self.wants_tls = false;
                self.pending.clear();
                self.machine.shutdown();
            }
            Some("eof") => self.machine.eof(self.now),
            Some("shutdown") => self.machine.shutdown(),
            Some("wait") => {
                let millis = words.get(1).and_then(|w| w.parse().ok()).ok_or("-- wait MILLIS")?;
                self.now = self.now.after(millis);
            }
            other => return Err(format!("no such line: -- {other:?}")),
        }
        self.run()
    }

    /// The end of a run of client bytes: plaintext behind STARTTLS that no `-- tls` follows.
    fn segment_end(&mut self, tls_follows: bool) -> Result<(), String> {
        if self.wants_tls && !tls_follows {
            return self.tls(&[]);
        }
        self.flush_data();
        Ok(())
    }
}

fn is_tls(line: Option<&Line>) -> bool {
    matches!(line, Some(Line::Barrier(words)) if words.first().is_some_and(|w| w.starts_with("tls")))
}

fn by_turns<M: Machine>(script: &Script) -> Result<(), String> {
    let mut player = Player::<M>::new(script);
    player.run()?;
    let mut lines = script.lines.iter().peekable();
    let mut turn = String::from("before the client says anything");
    while lines.peek().is_some() {
        // What stands here before the next client line must have happened.
        let mut expected = Vec::new();
        while let Some(Line::Expect(text)) = lines.peek() {
            expected.push(text.as_str());
            lines.next();
        }
        player.segment_end(is_tls(lines.peek().copied()))?;
        let got = std::mem::take(&mut player.trace);
        compare(&expected, &got).map_err(|e| format!("{turn}:\n{e}"))?;
        match lines.peek() {
            Some(Line::Client(_)) => {
                let mut bytes = Vec::new();
                while let Some(Line::Client(more)) = lines.peek() {
                    bytes.extend_from_slice(more);
                    lines.next();
                }
                turn = format!("after C: {}", escape(&bytes));
                turn.truncate(turn.floor_char_boundary(200));
                player.feed(&bytes)?;
            }
            Some(Line::Barrier(words)) => {
                turn = format!("after -- {}", words.join(" "));
                lines.next();
                player.barrier(words)?;
            }
            _ => {}
        }
    }
    player.segment_end(false)?;
    compare(&[], &player.trace).map_err(|e| format!("{turn}:\n{e}"))
}

fn in_pieces<M: Machine>(
    script: &Script,
    mut piece: impl FnMut(usize) -> usize,
) -> Result<(), String> {
    let mut player = Player::<M>::new(script);
    player.run()?;
    let mut at = 0;
    while at < script.lines.len() {
        let mut bytes = Vec::new();
        let end = script.lines[at..]
            .iter()
            .position(|l| matches!(l, Line::Barrier(_)))
            .map_or(script.lines.len(), |n| at + n);
        for line in &script.lines[at..end] {
            if let Line::Client(more) = line {
                bytes.extend_from_slice(more);
            }
        }
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let (now, later) = left.split_at(piece(left.len()));
            player.feed(now)?;
            left = later;
        }
        player.segment_end(is_tls(script.lines.get(end)))?;
        if let Some(Line::Barrier(words)) = script.lines.get(end) {
            player.barrier(words)?;
            player.flush_data();
        }
        at = end + 1;
    }
    compare(&script.expected(), &player.trace)
}

fn compare(expected: &[&str], got: &[String]) -> Result<(), String> {
    if expected.iter().copied().eq(got.iter().map(String::as_str)) {
        return Ok(());
    }
    let mut text = String::new();
    for i in 0..expected.len().max(got.len()) {
        let (want, have) = (expected.get(i).copied(), got.get(i).map(String::as_str));
        if want == have {
            let _ = writeln!(text, "      {}", want.unwrap_or_default());
        } else {
            let _ = writeln!(text, "want  {}", want.unwrap_or("(nothing)"));
            let _ = writeln!(text, "got   {}", have.unwrap_or("(nothing)"));
        }
    }
    Err(text)
}

/// Bytes as printable text.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// The bytes behind a line's escapes.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let [kind, tail @ ..] = rest else { return Err("a lone backslash at the end".into()) };
        rest = tail;
        match kind {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b's' => bytes.push(b' '),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = rest.get(..2).ok_or("\\x needs two digits")?;
                let digits = std::str::from_utf8(digits).map_err(|e| e.to_string())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|e| e.to_string())?);
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.iter().position(|b| *b == b'}').ok_or("\\{ without }")?;
                let inner = std::str::from_utf8(&rest[..end]).map_err(|e| e.to_string())?;
                let (what, count) = inner.rsplit_once('*').ok_or("\\{text*count}")?;
                let count = count.parse().map_err(|_| format!("{count} is not a count"))?;
                bytes.extend(unescape(what)?.repeat(count));
                rest = &rest[end + 1..];
            }
            other => return Err(format!("no such escape: \\{}", char::from(*other))),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every line with itself; `bye` closes.
    struct Echo(bool);

    impl Machine for Echo {
        fn new(_: &Setup) -> Echo {
            Echo(false)
        }
        fn step(&mut self, _: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
            if self.0 {
                return (0, Progress::Closed);
            }
            let Some(end) = input.iter().position(|b| *b == b'\n') else {
                return (0, Progress::NeedInput);
            };
            out.extend_from_slice(&input[..=end]);
            self.0 = input.starts_with(b"bye");
            (end + 1, Progress::Event(format!("line {end}")))
        }
        fn tls_started(&mut self, _: &[String], _: &[u8]) {}
        fn eof(&mut self, _: Time) {
            self.0 = true;
        }
        fn shutdown(&mut self) {}
    }

    #[test]
    fn a_right_conversation_passes() {
        play::<Echo>("# x\nC: a\nC: bb\nS: a\n< line 2\nS: bb\n< line 3\n-- eof\n-- closed\n")
            .expect("passes");
    }

    #[test]
    fn a_wrong_reply_an_unlisted_event_and_a_missing_end_fail() {
        for text in [
            "# x\nC: a\nS: b\n",
            "# x\nC: a\nS: a\n< line 2\nC: b\nS: b\n",
            "# x\nC: a\nS: a\n-- closed\n",
            "# x\nC: bye\nS: bye\n",
            "# x\nS: a\nC: a\n",
            "C: a\nS: a\n",
        ] {
            play::<Echo>(text).expect_err(text);
        }
    }
}
