//! The transcript runner's adaptor for [`posthouse::smtp::server::Server`].
//!
//! Set-up: `% hostname NAME`, `% dialect submission|lmtp`, `% offer tls|starttls|auth|trusted ...`, `% limit NAME NUMBER` (the
//! names of `Limits`), `% no NAME` and `% with NAME [VALUE]` (the names of `Extensions`; `vrfy` and `expn` are withheld by `no`
//! and asked by `with`; `future_release` has an interval and an instant). `-- tls [auth]` says what is offered after TLS.
//!
//! Rules: `verify TEXT`, `expand TEXT`, `etrn NODE`, `forwarded ADDR`, `recipient ADDRESS` (LMTP, at the end of a message; one
//! such rule, and each recipient gets a reply of its own), `connect`, `hello NAME`, `mail ADDRESS` (`<>` for the null path), `rcpt ADDRESS`, `data-start`, `data-end` have
//! the verdict `CODE TEXT` or `CODE X.Y.Z TEXT`, where `\n` in the text divides lines; `auth LOGIN` has `accept`,
//! `refuse`, `unavailable` or a reply, given to the question that decides (see sasl.rs, which also has the set-up of
//! mechanisms). Without a rule everything is accepted, and AUTH when the password is `secret`. `-- tls auth bound`: the TLS channel
//! can be bound.
//! Preludes: `greeting` (the connection's first reply) and `ehlo` (greeting and EHLO with every extension but STARTTLS
//! and AUTH), `ehlo-auth`, `ehlo-starttls`.

use std::sync::Arc;

use posthouse::sasl::Verdict;
use posthouse::session::{Next, Session, Step};
use posthouse::smtp::Reply;
use posthouse::smtp::extension::{Extensions, FutureRelease, Lookup};
use posthouse::smtp::parameter::{Body, MailParameters, RcptParameters};
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

use crate::sasl;
use crate::transcript::{Machine, Progress, Setup, escape};

/// An SMTP server whose verdicts come from a transcript's rules.
pub struct SmtpMachine {
    server: Server,
    setup: Setup,
    /// Accepted recipients of the transaction.
    recipients: Vec<String>,
}

enum Answer {
    None,
    Accept,
    Reply(String),
    Sasl(Verdict),
    Recipients,
}

/// What `% with` and `% no` say.
fn extensions(setup: &Setup) -> Extensions {
    let mut on = Extensions::default();
    for (directive, wanted) in [("with", true), ("no", false)] {
        for words in setup.all(directive) {
            let number = |n: usize| {
                let word = words.get(n).unwrap_or_else(|| panic!("{words:?} lacks a number"));
                word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
            };
            let lookup = if wanted { Lookup::Asked } else { Lookup::Withheld };
            match words[0].as_str() {
                "eight_bit" => on.eight_bit = wanted,
                "smtputf8" => on.smtputf8 = wanted,
                "chunking" => on.chunking = wanted,
                "binarymime" => on.binarymime = wanted,
                "dsn" => on.dsn = wanted,
                "requiretls" => on.requiretls = wanted,
                "deliver_by" => on.deliver_by = Some(number(1) as u32),
                "future_release" => {
                    let (max_interval, max_datetime) = (number(1) as u32, number(2));
                    on.future_release = Some(FutureRelease { max_interval, max_datetime });
                }
                "mt_priority" => on.mt_priority = wanted,
                "etrn" => on.etrn = wanted,
                "limits" => on.limits = wanted,
                "vrfy" => on.vrfy = lookup,
                "expn" => on.expn = lookup,
                "expn-untold" => on.expn = Lookup::Untold,
                "help" => on.help = wanted,
                "xclient" => on.xclient = wanted,
                "bare_lf" => on.bare_lf = wanted,
                other => panic!("no such extension: {other}"),
            }
        }
    }
    on
}

/// Hands out a reply that a rule spells.
fn reply_with(verdict: &str, give: impl FnOnce(Reply<'_>)) {
    let (code, rest) = verdict.split_once(' ').unwrap_or((verdict, ""));
    let code = code.parse().expect("a verdict begins with a code");
    let mut enhanced = None;
    let mut text = rest;
    if let Some((first, later)) = rest.split_once(' ') {
        let numbers: Vec<u16> = first.split('.').map_while(|n| n.parse().ok()).collect();
        if let [class, subject, detail] = numbers[..] {
            let class = u8::try_from(class).expect("a class");
            enhanced = Some((class, subject, detail));
            text = later;
        }
    }
    give(Reply { code, enhanced, text: &text.replace("\\n", "\n") });
}

impl Machine for SmtpMachine {
    fn new(setup: &Setup) -> SmtpMachine {
        let mut limits = Limits::default();
        let small = |n: u64| u32::try_from(n).expect("a limit of 32 bits");
        let size = |n: u64| usize::try_from(n).expect("a limit that fits");
        for (name, value) in setup.limits() {
            match name {
                "command_line" => limits.command_line = size(value),
                "auth_line" => limits.auth_line = size(value),
                "message_bytes" => limits.message_bytes = value,
                "recipients" => limits.recipients = small(value),
                "recipient_domains" => limits.recipient_domains = small(value),
                "errors" => limits.errors = small(value),
                "transactions" => limits.transactions = small(value),
                "output_bytes" => limits.output_bytes = size(value),
                "command_millis" => limits.command_millis = value,
                "data_millis" => limits.data_millis = value,
                _ => panic!("no such limit: {name}"),
            }
        }
        let hostname = setup.words("hostname").map_or("mail.example.test", |w| w[0].as_str());
        let dialect = match setup.words("dialect").map(|words| words[0].as_str()) {
            None => Dialect::Smtp,
            Some("submission") => Dialect::Submission,
            Some("lmtp") => Dialect::Lmtp,
            Some(other) => panic!("no such dialect: {other}"),
        };
        let config = ServerConfig {
            hostname: hostname.to_owned(),
            dialect,
            limits,
            extensions: extensions(setup),
        };
        let offer = Offer {
            tls: setup.has("offer", "tls"),
            starttls: setup.has("offer", "starttls"),
            auth: setup.has("offer", "auth"),
        };
        let mut server = Server::new(Arc::new(config), offer, Time(0));
        if setup.has("offer", "trusted") {
            server.trust_peer();
        }
        let (mechanisms, bindings) = sasl::set_up(setup);
        server.set_mechanisms(mechanisms, bindings);
        SmtpMachine { server, setup: setup.clone(), recipients: Vec::new() }
    }

    fn prelude(name: &str) -> Option<&'static str> {
        Some(match name {
            "greeting" => "S: 220 mail.example.test ESMTP ready",
            "lhlo" => {
                "S: 220 mail.example.test LMTP ready
                 C: LHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "lmtp-greeting" => "S: 220 mail.example.test LMTP ready",
            "ehlo-dsn" => {
                "% with dsn
                 S: 220 mail.example.test ESMTP ready
                 C: EHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250-DSN
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "ehlo-binary" => {
                "% with binarymime
                 S: 220 mail.example.test ESMTP ready
                 C: EHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250-BINARYMIME
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "lmtp-two" => {
                "C: MAIL FROM:<sender@example.test>
                 C: RCPT TO:<one@example.test>
                 C: RCPT TO:<two@example.test>
                 S: 250 2.1.0 Ok
                 S: 250 2.1.5 Ok
                 S: 250 2.1.5 Ok"
            }
            "helo" => {
                "S: 220 mail.example.test ESMTP ready
                 C: HELO client.example
                 S: 250 mail.example.test"
            }
            "ehlo" => {
                "S: 220 mail.example.test ESMTP ready
                 C: EHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "ehlo-auth" => {
                "S: 220 mail.example.test ESMTP ready
                 C: EHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250-AUTH PLAIN LOGIN
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "ehlo-starttls" => {
                "S: 220 mail.example.test ESMTP ready
                 C: EHLO client.example
                 S: 250-mail.example.test
                 S: 250-PIPELINING
                 S: 250-SIZE 52428800
                 S: 250-8BITMIME
                 S: 250-SMTPUTF8
                 S: 250-CHUNKING
                 S: 250-STARTTLS
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "mail" => {
                "C: MAIL FROM:<sender@example.test>
                 S: 250 2.1.0 Ok"
            }
            "rcpt" => {
                "C: MAIL FROM:<sender@example.test>
                 C: RCPT TO:<user@example.test>
                 S: 250 2.1.0 Ok
                 S: 250 2.1.5 Ok"
            }
            "data" => {
                "C: MAIL FROM:<sender@example.test>
                 C: RCPT TO:<user@example.test>
                 C: DATA
                 S: 250 2.1.0 Ok
                 S: 250 2.1.5 Ok
                 S: 354 Send the message, then a line with a single dot"
            }
            "quit" => {
                "C: QUIT
                 S: 221 2.0.0 mail.example.test closing the connection
                 -- closed"
            }
            _ => return None,
        })
    }

    fn step(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        let Step { consumed, next } = self.server.step(now, input, out);
        let rule = |event: &str, key: &str| match self.setup.verdict(event, key) {
            Some(verdict) => Answer::Reply(verdict.to_owned()),
            None => Answer::Accept,
        };
        let (progress, answer) = match next {
            Next::NeedInput => (Progress::NeedInput, Answer::None),
            Next::Blocked => (Progress::Blocked, Answer::None),
            Next::Closed => (Progress::Closed, Answer::None),
            Next::Event(event) => match event {
                Event::Connect => (Progress::Event("connect".into()), rule("connect", "*")),
                Event::Hello { name, extended } => {
                    let verb = if extended { "ehlo" } else { "helo" };
                    let name = escape(name);
                    (Progress::Event(format!("{verb} {name}")), rule("hello", &name))
                }
                Event::StartTls => (Progress::StartTls, Answer::None),
                Event::Auth(question) => {
                    let asked = sasl::ask(&question);
                    let rule = self.setup.verdict("auth", &asked.login).filter(|_| asked.decides);
                    let answer = match rule {
                        Some("accept") => Answer::Sasl(Verdict::Accept),
                        Some("refuse") => Answer::Sasl(Verdict::Refuse),
                        Some("unavailable") => Answer::Sasl(Verdict::Unavailable),
                        Some(reply) => Answer::Reply(reply.to_owned()),
                        None => Answer::Sasl(asked.verdict),
                    };
                    (Progress::Event(asked.text), answer)
                }
                Event::Mail { from, parameters } => {
                    let from = from.map_or("<>".into(), |a| escape(a.as_bytes()));
                    let mut text = format!("mail {from}");
                    if parameters.size > 0 {
                        text += &format!(" size={}", parameters.size);
                    }
                    match parameters.body {
                        Body::SevenBit => {}
                        Body::EightBit => text += " 8bitmime",
                        Body::Binary => text += " binarymime",
                    }
                    if parameters.smtputf8 {
                        text += " smtputf8";
                    }
                    if let Some(hold) = parameters.hold {
                        text += &format!(" {hold:?}");
                    }
                    let mut relay = Vec::new();
                    parameters.relay_text(&mut relay);
                    assert_eq!(
                        MailParameters::from_relay_text(&relay).map(|p| (p.ret, p.envid)),
                        Some((parameters.ret, parameters.envid.clone())),
                        "what is passed on reads back"
                    );
                    if !relay.is_empty() {
                        text += &format!(" {}", escape(&relay));
                    }
                    self.recipients.clear();
                    (Progress::Event(text), rule("mail", &from))
                }
                Event::Rcpt { to, parameters } => {
                    let to = escape(to.as_bytes());
                    let mut relay = Vec::new();
                    parameters.relay_text(&mut relay);
                    assert_eq!(
                        RcptParameters::from_relay_text(&relay).as_ref(),
                        Some(parameters),
                        "what is passed on reads back"
                    );
                    let mut text = format!("rcpt {to}");
                    if !relay.is_empty() {
                        text += &format!(" {}", escape(&relay));
                    }
                    let answer = rule("rcpt", &to);
                    let accepted = match &answer {
                        Answer::Reply(reply) => reply.starts_with('2'),
                        _ => true,
                    };
                    if accepted {
                        self.recipients.push(to);
                    }
                    (Progress::Event(text), answer)
                }
                Event::DataStart => (Progress::Event("data-start".into()), rule("data-start", "*")),
                Event::DataChunk(bytes) => {
                    assert!(!bytes.is_empty(), "an empty piece of a message");
                    let inside = input.as_ptr_range();
                    let line_end = bytes == b"\r\n" && self.setup.has("with", "bare_lf");
                    assert!(
                        inside.contains(&bytes.as_ptr()) || line_end,
                        "a piece that is not the input's"
                    );
                    (Progress::Data(bytes.to_vec()), Answer::None)
                }
                Event::DataEnd { size } => {
                    let text = format!("data-end {size}");
                    if self.setup.has_rule("recipient") {
                        (Progress::Event(text), Answer::Recipients)
                    } else {
                        (Progress::Event(text), rule("data-end", "*"))
                    }
                }
                Event::Verify { text, smtputf8 } => {
                    let text = escape(text);
                    let utf8 = if smtputf8 { " smtputf8" } else { "" };
                    (Progress::Event(format!("verify {text}{utf8}")), rule("verify", &text))
                }
                Event::Expand { text, smtputf8 } => {
                    let text = escape(text);
                    let utf8 = if smtputf8 { " smtputf8" } else { "" };
                    (Progress::Event(format!("expand {text}{utf8}")), rule("expand", &text))
                }
                Event::Etrn { node } => {
                    let node = escape(node);
                    (Progress::Event(format!("etrn {node}")), rule("etrn", &node))
                }
                Event::Forwarded(forwarded) => {
                    let mut text = "forwarded".to_owned();
                    let address = forwarded.address.map(|a| a.to_string());
                    for (name, value) in [
                        ("name", forwarded.name.clone()),
                        ("addr", address.clone()),
                        ("port", forwarded.port.map(|p| p.to_string())),
                        ("extended", forwarded.extended.map(|e| e.to_string())),
                        ("helo", forwarded.hello.clone()),
                        ("login", forwarded.login.clone()),
                        ("destaddr", forwarded.destination.map(|a| a.to_string())),
                        ("destport", forwarded.destination_port.map(|p| p.to_string())),
                    ] {
                        if let Some(value) = value {
                            text += &format!(" {name}={value}");
                        }
                    }
                    (Progress::Event(text), rule("forwarded", &address.unwrap_or_default()))
                }
                Event::Reset => (Progress::Event("reset".into()), Answer::None),
                Event::Quit => (Progress::Event("quit".into()), Answer::None),
            },
        };
        let mut progress = progress;
        if let Progress::Event(text) = &mut progress
            && text.starts_with("data-end")
        {
            *text += &format!(" with={}", self.server.with_keyword());
        }
        if !matches!(answer, Answer::None) {
            assert_eq!(self.server.deadline(), None, "no deadline while a verdict is awaited");
            let again = self.server.step(now, &input[consumed..], out);
            assert_eq!(again.consumed, 0, "nothing is consumed before the verdict");
            assert!(matches!(again.next, Next::NeedInput), "nothing happens before the verdict");
        }
        match answer {
            Answer::None => {}
            Answer::Accept => self.server.accept(),
            Answer::Recipients => {
                for (n, to) in self.recipients.iter().enumerate() {
                    let left = self.recipients.len() - n;
                    assert_eq!(self.server.recipients_unanswered() as usize, left);
                    match self.setup.verdict("recipient", to) {
                        Some(verdict) => {
                            reply_with(verdict, |reply| self.server.reply_recipient(reply));
                        }
                        None => self.server.reply_recipient(Reply::new(250, 1, 5, "Ok")),
                    }
                }
                assert_eq!(self.server.recipients_unanswered(), 0);
            }
            Answer::Sasl(verdict) => self.server.auth(verdict),
            Answer::Reply(verdict) => reply_with(&verdict, |reply| self.server.reply(reply)),
        }
        (consumed, progress)
    }

    fn tls_started(&mut self, offer: &[String], unread: &[u8]) {
        let auth = offer.iter().any(|w| w == "auth");
        self.server.tls_started(Offer { tls: true, starttls: false, auth }, unread);
        if offer.iter().any(|w| w == "bound") {
            let (mechanisms, _) = sasl::set_up(&self.setup);
            self.server.set_mechanisms(mechanisms, Some(sasl::bindings()));
        }
    }

    fn eof(&mut self, now: Time) {
        self.server.eof(now);
    }

    fn shutdown(&mut self) {
        self.server.shutdown();
    }
}
