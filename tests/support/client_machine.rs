//! The transcript runner's adaptor for [`posthouse::smtp::client::Client`]. The roles are swapped: `S:` goes in, `C:` comes out.
//!
//! Set-up: `% hostname NAME`, `% tls never|required`, `% under-tls`, `% nonce` (SCRAM with a nonce of ones), `% login NAME PASSWORD`, `% token`, `% clear-auth`, `% no pipelining
//! chunking quit`, `% send-8bit`, `% refuse-line-ends`, `% limit NAME NUMBER` (the names of `Limits`), `% piece OCTETS`.
//! `% message from=A to=B to=C,NOTIFY=NEVER size=N 8bit binary utf8 with=RET=HDRS` is a transaction, and the `% body TEXT` of
//! the same place its message (escapes as everywhere; `% body fails`: it cannot be read); several follow one another. Behind the last
//! comes QUIT, unless `% no quit`. `-- tls-fails`: the handshake fails.
//!
//! Events: `ready KEYWORDS`, `recipient INDEX VERDICT ORIGIN PHASE [again] [dsn] | REPLY`, `done DELIVERED [closing] [dropped]`,
//! `failed VERDICT ORIGIN PHASE [clear] | REPLY`, `refused WHY` when a transaction cannot begin.

use std::sync::Arc;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::client::{
    Channel, Client, ClientConfig, ClientEvent, Content, Credentials, EightBit, LineEnds, Login,
    Recipient, Tls, Transaction,
};
use posthouse::time::Time;

use crate::transcript::{Machine, Progress, Setup, unescape};

/// A client that sends a transcript's messages.
pub struct ClientMachine<const LMTP: bool> {
    client: Client,
    messages: Vec<Vec<String>>,
    bodies: Vec<Option<Vec<u8>>>,
    next: usize,
    given: usize,
    piece: usize,
    quits: bool,
    extra: Vec<u8>,
}

enum Act {
    Nothing,
    Next,
    Body(usize),
}

impl<const LMTP: bool> ClientMachine<LMTP> {
    /// The next transaction, or QUIT. What is said if it cannot begin.
    fn go_on(&mut self) -> Option<String> {
        let Some(words) = self.messages.get(self.next).cloned() else {
            if self.quits {
                self.client.quit();
            }
            return None;
        };
        self.next += 1;
        self.given = 0;
        let (mut from, mut with, mut to, mut t) =
            ("", String::new(), vec![], Transaction::default());
        for word in &words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("from", address) => from = address,
                ("to", address) => to.push(address.split_once(',').unwrap_or((address, ""))),
                ("size", n) => t.size = n.parse().expect("a number"),
                ("with", parameter) => with = with + " " + parameter,
                ("8bit", _) => t.content = Content::EightBit,
                ("binary", _) => t.content = Content::Binary,
                ("utf8", _) => t.utf8 = true,
                (other, _) => panic!("no such part of a message: {other}"),
            }
        }
        let to: Vec<(&str, String)> =
            to.into_iter().map(|(to, p)| (to, p.replace('+', " "))).collect();
        let recipients: Vec<Recipient<'_>> =
            to.iter().map(|(to, p)| Recipient { to, parameters: p }).collect();
        let t = Transaction { from, parameters: &with, recipients: &recipients, ..t };
        match self.client.begin(&t) {
            Ok(()) => None,
            Err(error) => {
                self.client.quit();
                Some(format!("refused {error}"))
            }
        }
    }
}

impl<const LMTP: bool> Machine for ClientMachine<LMTP> {
    const SWAPPED: bool = true;

    fn new(setup: &Setup) -> Self {
        let mut config = ClientConfig {
            hostname: setup.words("hostname").map_or("client.example", |w| &w[0]).to_owned(),
            lmtp: LMTP,
            auth_in_clear: setup.words("clear-auth").is_some(),
            pipelining: !setup.has("no", "pipelining"),
            chunking: !setup.has("no", "chunking"),
            ..ClientConfig::default()
        };
        if setup.words("send-8bit").is_some() {
            config.eight_bit = EightBit::Send;
        }
        if setup.words("refuse-line-ends").is_some() {
            config.line_ends = LineEnds::Refuse;
        }
        config.tls = match setup.words("tls").map(|w| w[0].as_str()) {
            Some("never") => Tls::Never,
            Some("required") => Tls::Required,
            _ => Tls::WhenOffered,
        };
        config.login = setup.words("login").map(|w| {
            let mut login = Login::new(Credentials {
                authorization: String::new(),
                login: w[0].clone(),
                secret: w[1].clone().into(),
            });
            login.token = setup.words("token").is_some();
            login
        });
        let size = |n: u64| usize::try_from(n).expect("a limit that fits");
        for (name, value) in setup.limits() {
            let small = u32::try_from(value).expect("a limit of 32 bits");
            match name {
                "recipients" => config.limits.recipients = size(value),
                "pipeline_bytes" => config.limits.pipeline_bytes = size(value),
                "pipeline_commands" => config.limits.pipeline_commands = small,
                "chunk_bytes" => config.limits.chunk_bytes = size(value),
                "chunks" => config.limits.chunks = small,
                _ => panic!("no such limit: {name}"),
            }
        }
        let bodies = setup
            .all("body")
            .map(|w| (w != ["fails"]).then(|| unescape(&w.join(" ")).expect("a body")));
        let mut client =
            Client::new(Arc::new(config), setup.words("under-tls").is_some(), Time(1_000_000));
        if setup.words("nonce").is_some() {
            client.set_channel([1; 18], Channel::Unbound);
        }
        ClientMachine {
            client,
            messages: setup
                .all("message")
                .map(|words| {
                    let plain = |w: &String| unescape(w).expect("escapes");
                    words.iter().map(|w| String::from_utf8(plain(w)).expect("UTF-8")).collect()
                })
                .collect(),
            bodies: bodies.collect(),
            next: 0,
            given: 0,
            piece: setup.words("piece").map_or(usize::MAX, |w| w[0].parse().expect("a number")),
            quits: !setup.has("no", "quit"),
            extra: Vec::new(),
        }
    }

    fn prelude(name: &str) -> Option<&'static str> {
        Some(match name {
            "ehlo" => {
                "S: 220 mx.example ESMTP
                 C: EHLO client.example
                 S: 250-mx.example greets you
                 S: 250-PIPELINING
                 S: 250-SIZE 1000000
                 S: 250-8BITMIME
                 S: 250-ENHANCEDSTATUSCODES
                 S: 250 DSN"
            }
            "plain" => {
                "S: 220 mx.example ESMTP
                 C: EHLO client.example
                 S: 250 mx.example"
            }
            "bdat" => {
                "S: 220 mx.example ESMTP
                 C: EHLO client.example
                 S: 250-mx.example
                 S: 250-PIPELINING
                 S: 250-8BITMIME
                 S: 250-BINARYMIME
                 S: 250 CHUNKING"
            }
            "lhlo" => {
                "S: 220 mx.example LMTP
                 C: LHLO client.example
                 S: 250-mx.example
                 S: 250-PIPELINING
                 S: 250 ENHANCEDSTATUSCODES"
            }
            "quit" => {
                "C: QUIT
                 S: 221 2.0.0 Bye
                 -- closed"
            }
            "one" => "% message from=a@b.example to=c@d.example\n% body hello\\r\\n",
            "two" => "% message from=a@b.example to=c@d.example to=e@f.example\n% body hello\\r\\n",
            "rcpt" => {
                "C: MAIL FROM:<a@b.example>
                 C: RCPT TO:<c@d.example>
                 C: DATA
                 S: 250 2.1.0 Ok
                 S: 250 2.1.5 Ok
                 S: 354 Go ahead"
            }
            "rcpts" => {
                "C: MAIL FROM:<a@b.example>
                 C: RCPT TO:<c@d.example>
                 C: RCPT TO:<e@f.example>
                 C: DATA
                 S: 250 2.1.0 Ok
                 S: 250 2.1.5 Ok
                 S: 250 2.1.5 Ok
                 S: 354 Go ahead"
            }
            _ => return None,
        })
    }

    fn step(&mut self, now: Time, input: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        out.append(&mut self.extra);
        let Step { consumed, next } = self.client.step(now, input, out);
        let mut act = Act::Nothing;
        let mut progress = match next {
            Next::NeedInput => Progress::NeedInput,
            Next::Blocked => Progress::Blocked,
            Next::Closed => Progress::Closed,
            Next::Event(event) => match event {
                ClientEvent::StartTls => Progress::StartTls,
                ClientEvent::Ready { capabilities: c } => {
                    act = Act::Next;
                    let mut text = String::from("ready");
                    for (offered, name) in [
                        (c.pipelining, "pipelining"),
                        (c.size.is_some(), "size"),
                        (c.eight_bit, "8bitmime"),
                        (c.starttls, "starttls"),
                        (c.smtputf8, "smtputf8"),
                    ] {
                        if offered {
                            text = text + " " + name;
                        }
                    }
                    Progress::Event(text)
                }
                ClientEvent::Recipient { index, outcome: o } => {
                    let again = if o.again { " again" } else { "" };
                    let dsn = if o.dsn { " dsn" } else { "" };
                    Progress::Event(
                        format!(
                            "recipient {index} {:?} {:?} {}{again}{dsn} | {}",
                            o.verdict,
                            o.origin,
                            o.phase.name(),
                            o.answer
                        )
                        .replace("NotTried", "not-tried")
                        .replace("Peer", "peer")
                        .replace("Client", "client"),
                    )
                }
                ClientEvent::NeedBody { max } => {
                    act = Act::Body(max);
                    Progress::Event("need-body".into())
                }
                ClientEvent::Done(done) => {
                    if !done.closing {
                        act = Act::Next;
                    }
                    let d = done.dropped;
                    let mut text = format!("done {}", done.delivered);
                    for (is, name) in [
                        (done.closing, "closing"),
                        (d.dsn, "no-dsn"),
                        (d.deliver_by, "no-deliverby"),
                        (d.priority, "no-priority"),
                        (d.hold, "no-hold"),
                    ] {
                        if is {
                            text = text + " " + name;
                        }
                    }
                    Progress::Event(text)
                }
                ClientEvent::Failed(f) => Progress::Event(
                    format!(
                        "failed {:?} {:?} {}{} | {}",
                        f.verdict,
                        f.origin,
                        f.phase.name(),
                        if f.clear_may_do { " clear" } else { "" },
                        f.answer
                    )
                    .replace("Peer", "peer")
                    .replace("Client", "client"),
                ),
            },
        };
        match act {
            Act::Nothing => {}
            Act::Next => {
                if let (Some(why), Progress::Event(text)) = (self.go_on(), &mut progress) {
                    *text = why;
                }
            }
            Act::Body(max) => match &self.bodies[self.next - 1] {
                None => self.client.body_failed("the disk is gone").expect("it was asked for"),
                Some(body) => {
                    let rest = &body[self.given..];
                    if rest.is_empty() {
                        self.client.body_end(out).expect("it was asked for");
                    } else {
                        let piece = rest.len().min(max).min(self.piece);
                        self.given += piece;
                        self.client.body(&rest[..piece], out).expect("it was asked for");
                    }
                }
            },
        }
        (consumed, progress)
    }

    fn tls_started(&mut self, _: &[String], unread: &[u8]) {
        self.client.tls_started(unread, &mut self.extra);
    }

    fn eof(&mut self, now: Time) {
        self.client.eof(now);
    }

    fn shutdown(&mut self) {
        self.client.tls_failed("the certificate is not\r\ntrusted");
    }
}
