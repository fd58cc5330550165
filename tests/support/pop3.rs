//! The POP3 server for the transcript runner.
//!
//! ```text
//! % offer login stls tls                 what `Offer` says at the beginning (and behind `-- tls`)
//! % limit errors 2                       any field of `Limits`
//! % chunk 7                              bodies are given in pieces of so many octets (default 5)
//! ! connect * refuse TEXT                turns the peer away
//! % login NAME/PASSWORD=open *=in-use    or credentials, temporary; spaces written `_`; who is not listed: credentials
//! ! message 1 TEXT                       message 1 is TEXT, with `\r` and `\n`; the maildrop is 1, 2, ... as far as there are rules
//! ! fault 1 start                        message 1 cannot be read; `late`: it breaks off after the first piece
//! ! update * partly                      not all messages can be removed
//! ```
//!
//! Mechanisms: see sasl.rs. UIDVALIDITY is 65000000 hexadecimal, and message n has UID n. Events: `connect`, `auth NAME/PASSWORD/AUTHORIZATION`,
//! `body POSITION OFFSET`, `update POSITION...`.

use std::sync::Arc;

use posthouse::pop3::server::{
    Denial, Entry, Event, Limits, Maildrop, Offer, Server, ServerConfig,
};
use posthouse::sasl::Question;
use posthouse::session::{Next, Session};
use posthouse::time::Time;

use crate::sasl;
use crate::transcript::{Machine, Progress, Setup, escape, play_folder};

struct Pop3 {
    server: Server,
    refusal: Option<String>,
    logins: Vec<(String, String)>,
    messages: Vec<Vec<u8>>,
    faults: Vec<Option<String>>,
    partly: bool,
    chunk: usize,
}

fn offer(words: &[String]) -> Offer {
    let has = |word: &str| words.iter().any(|w| w == word);
    Offer { tls: has("tls"), stls: has("stls"), login: has("login") }
}

/// Octets as RETR sends them, dots not stuffed.
fn octets(message: &[u8]) -> u64 {
    let missing = if message.is_empty() || message.ends_with(b"\r\n") { 0 } else { 2 };
    (message.len() + missing) as u64
}

impl Machine for Pop3 {
    fn new(setup: &Setup) -> Pop3 {
        let mut limits = Limits::default();
        let small = |n: u64| u32::try_from(n).expect("a limit of 32 bits");
        let size = |n: u64| usize::try_from(n).expect("a limit that fits");
        for (name, value) in setup.limits() {
            match name {
                "command_line" => limits.command_line = size(value),
                "auth_line" => limits.auth_line = size(value),
                "errors" => limits.errors = small(value),
                "login_failures" => limits.login_failures = small(value),
                "output_bytes" => limits.output_bytes = size(value),
                "idle_millis" => limits.idle_millis = value,
                "login_millis" => limits.login_millis = value,
                _ => panic!("no such limit: {name}"),
            }
        }
        let config = Arc::new(ServerConfig { hostname: "mail.example.test".into(), limits });
        let keys: Vec<String> = (1..).map(|n: usize| n.to_string()).take(100).collect();
        let messages: Vec<Vec<u8>> = keys
            .iter()
            .map_while(|n| setup.verdict("message", n))
            .map(|text| text.replace("\\r", "\r").replace("\\n", "\n").into_bytes())
            .collect();
        let offered = offer(setup.words("offer").unwrap_or_default());
        let mut server = Server::new(config, offered, Time(1_000_000));
        let (mechanisms, bindings) = sasl::set_up(setup);
        server.set_mechanisms(mechanisms, bindings);
        Pop3 {
            server,
            refusal: setup.verdict("connect", "*").map(|v| v.replacen("refuse ", "", 1)),
            logins: setup
                .words("login")
                .unwrap_or_default()
                .iter()
                .filter_map(|word| word.rsplit_once('='))
                .map(|(key, verdict)| (key.to_owned(), verdict.to_owned()))
                .collect(),
            faults: keys.iter().map(|n| setup.verdict("fault", n).map(str::to_owned)).collect(),
            messages,
            partly: setup.verdict("update", "*") == Some("partly"),
            chunk: setup.words("chunk").map_or(5, |w| w[0].parse().expect("% chunk N")),
        }
    }

    fn prelude(name: &str) -> Option<&'static str> {
        match name {
            "hello" => Some("S: +OK mail.example.test POP3 ready"),
            "anna" => Some(
                r"% offer login
                % login anna/secret_word=open
                S: +OK mail.example.test POP3 ready",
            ),
            "in" => Some(
                r"% prelude anna
                ! message 1 A: 1\r\n\r\none\r\n
                ! message 2 A: 2\r\n\r\n.two\r\nlines\r\n
                ! message 3 A: 3\r\n\r\nthree
                C: USER anna
                S: +OK now the password
                C: PASS secret word
                S: +OK 3 messages (49 octets)",
            ),
            _ => None,
        }
    }

    fn step(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        enum Verdict {
            Connect,
            Login(String),
            Sasl(sasl::Verdict),
            Open,
            Deny,
            Body(usize, u64, usize),
            Update,
            None,
        }
        let step = self.server.step(now, input, out);
        let consumed = step.consumed;
        let (progress, verdict) = match step.next {
            Next::NeedInput => (Progress::NeedInput, Verdict::None),
            Next::Blocked => (Progress::Blocked, Verdict::None),
            Next::Closed => (Progress::Closed, Verdict::None),
            Next::Event(Event::StartTls) => (Progress::StartTls, Verdict::None),
            Next::Event(Event::Connect) => (Progress::Event("connect".into()), Verdict::Connect),
            Next::Event(Event::Auth(Question::Verify {
                authorization, login, password, ..
            })) => {
                let text = escape(format!("auth {login}/{password}/{authorization}").as_bytes());
                let key = format!("{login}/{password}").replace(' ', "_");
                (Progress::Event(text), Verdict::Login(key))
            }
            // The other mechanisms know one password, and open one maildrop.
            Next::Event(Event::Auth(question)) => {
                let asked = sasl::ask(&question);
                let verdict = match (asked.decides, asked.verdict) {
                    (false, verdict) => Verdict::Sasl(verdict),
                    (true, sasl::Verdict::Accept) => Verdict::Open,
                    (true, _) => Verdict::Deny,
                };
                (Progress::Event(asked.text), verdict)
            }
            Next::Event(Event::NeedBody { index, offset, max }) => (
                Progress::Event(format!("body {index} {offset}")),
                Verdict::Body(index, offset, max),
            ),
            Next::Event(Event::Update { deleted }) => {
                let deleted: Vec<String> = deleted.iter().map(usize::to_string).collect();
                let text = format!("update {}", deleted.join(" "));
                (Progress::Event(text.trim_end().to_owned()), Verdict::Update)
            }
        };
        match verdict {
            Verdict::None => {}
            Verdict::Connect => match &self.refusal {
                Some(text) => self.server.refuse(text),
                None => self.server.accept(),
            },
            Verdict::Sasl(verdict) => self.server.auth(verdict),
            Verdict::Open => self.server.opened(self.maildrop()),
            Verdict::Deny => self.server.denied(Denial::Credentials),
            Verdict::Login(key) => {
                let rule = self.logins.iter().find(|(k, _)| *k == key || k == "*");
                match rule.map_or("credentials", |(_, verdict)| verdict.as_str()) {
                    "open" => self.server.opened(self.maildrop()),
                    "credentials" => self.server.denied(Denial::Credentials),
                    "in-use" => self.server.denied(Denial::InUse),
                    "temporary" => self.server.denied(Denial::Temporary),
                    other => panic!("% login ...={other}"),
                }
            }
            Verdict::Body(index, offset, max) => self.give(index, offset, max, out),
            Verdict::Update => self.server.updated(!self.partly),
        }
        (consumed, progress)
    }

    fn tls_started(&mut self, words: &[String], unread: &[u8]) {
        self.server.tls_started(Offer { tls: true, ..offer(words) }, unread);
    }

    fn eof(&mut self, now: Time) {
        self.server.eof(now);
    }

    fn shutdown(&mut self) {
        self.server.shutdown();
    }
}

impl Pop3 {
    fn maildrop(&self) -> Maildrop {
        let entries = self.messages.iter().zip(1..);
        let entries = entries.map(|(m, uid)| Entry { octets: octets(m), uid }).collect();
        Maildrop { validity: 0x6500_0000, entries }
    }

    fn give(&mut self, index: usize, offset: u64, max: usize, out: &mut Vec<u8>) {
        let rest = &self.messages[index][offset as usize..];
        match self.faults[index].as_deref() {
            Some("start") => return self.server.body_failed(out),
            Some("late") if offset > 0 => return self.server.body_failed(out),
            _ => {}
        }
        if rest.is_empty() {
            self.server.body_end(out);
        } else {
            self.server.body(&rest[..rest.len().min(max).min(self.chunk)], out);
        }
    }
}

#[test]
fn every_pop3_transcript_plays_whole_cut_and_pipelined() {
    let played = play_folder::<Pop3>("pop3");
    assert!(played >= 60, "only {played} transcripts");
}
