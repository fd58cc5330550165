//! The transcript runner's adaptor for [`posthouse::smtp::server::Server`].
//!
//! Set-up: `% hostname NAME`, `% dialect submission`, `% offer tls|starttls|auth ...`, `% limit NAME NUMBER` (the names
//! of `Limits`), `% no chunking`. `-- tls [auth]` says what is offered after TLS.
//!
//! Rules: `connect`, `hello NAME`, `mail ADDRESS` (`<>` for the null path), `rcpt ADDRESS`, `data-start`, `data-end` have
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
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

use crate::sasl;
use crate::transcript::{Machine, Progress, Setup, escape};

/// An SMTP server whose verdicts come from a transcript's rules.
pub struct SmtpMachine {
    server: Server,
    setup: Setup,
}

enum Answer {
    None,
    Accept,
    Reply(String),
    Sasl(Verdict),
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
                "errors" => limits.errors = small(value),
                "transactions" => limits.transactions = small(value),
                "output_bytes" => limits.output_bytes = size(value),
                "command_millis" => limits.command_millis = value,
                "data_millis" => limits.data_millis = value,
                _ => panic!("no such limit: {name}"),
            }
        }
        let hostname = setup.words("hostname").map_or("mail.example.test", |w| w[0].as_str());
        let submission = setup.has("dialect", "submission");
        let config = ServerConfig {
            hostname: hostname.to_owned(),
            dialect: if submission { Dialect::Submission } else { Dialect::Smtp },
            limits,
            chunking: !setup.has("no", "chunking"),
        };
        let offer = Offer {
            tls: setup.has("offer", "tls"),
            starttls: setup.has("offer", "starttls"),
            auth: setup.has("offer", "auth"),
        };
        let mut server = Server::new(Arc::new(config), offer, Time(0));
        let (mechanisms, bindings) = sasl::set_up(setup);
        server.set_mechanisms(mechanisms, bindings);
        SmtpMachine { server, setup: setup.clone() }
    }

    fn prelude(name: &str) -> Option<&'static str> {
        Some(match name {
            "greeting" => "S: 220 mail.example.test ESMTP ready",
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
                    if parameters.eight_bit {
                        text += " 8bitmime";
                    }
                    if parameters.smtputf8 {
                        text += " smtputf8";
                    }
                    (Progress::Event(text), rule("mail", &from))
                }
                Event::Rcpt { to } => {
                    let to = escape(to.as_bytes());
                    (Progress::Event(format!("rcpt {to}")), rule("rcpt", &to))
                }
                Event::DataStart => (Progress::Event("data-start".into()), rule("data-start", "*")),
                Event::DataChunk(bytes) => {
                    assert!(!bytes.is_empty(), "an empty piece of a message");
                    let inside = input.as_ptr_range();
                    assert!(inside.contains(&bytes.as_ptr()), "a piece that is not the input's");
                    (Progress::Data(bytes.to_vec()), Answer::None)
                }
                Event::DataEnd { size } => {
                    (Progress::Event(format!("data-end {size}")), rule("data-end", "*"))
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
            Answer::Sasl(verdict) => self.server.auth(verdict),
            Answer::Reply(verdict) => {
                let (code, rest) = verdict.split_once(' ').unwrap_or((&verdict, ""));
                let code = code.parse().expect("a verdict begins with a code");
                let mut enhanced = None;
                let mut text = rest;
                if let Some((first, later)) = rest.split_once(' ') {
                    let numbers: Vec<u16> =
                        first.split('.').map_while(|n| n.parse().ok()).collect();
                    if let [class, subject, detail] = numbers[..] {
                        let class = u8::try_from(class).expect("a class");
                        enhanced = Some((class, subject, detail));
                        text = later;
                    }
                }
                self.server.reply(Reply { code, enhanced, text: &text.replace("\\n", "\n") });
            }
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
