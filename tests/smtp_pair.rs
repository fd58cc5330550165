//! Our SMTP client and our SMTP server against each other, in memory: every message arrives octet by octet, wherever either
//! side's stream is cut.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use posthouse::sasl::{Bindings, CramMd5Keys, Mechanism, Mechanisms, Question, ScramKeys, Verdict};
use posthouse::session::{Next, Session, Step};
use posthouse::smtp::Reply;
use posthouse::smtp::client::{
    Channel, Client, ClientConfig, ClientEvent, Content, Credentials, Login, Recipient, Tls,
    Transaction,
};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

/// What is played.
#[derive(Clone)]
struct Play {
    client: ClientConfig,
    chunking: bool,
    dsn: bool,
    offer: Offer,
    /// What the server says to one recipient, to the message, and to MAIL.
    refuse: &'static [&'static str],
    /// In LMTP: the second recipient's mailbox is full.
    one_by_one: bool,
    /// The client knows what binds the TLS channel.
    bound: bool,
    messages: Vec<&'static [u8]>,
}

impl Play {
    fn new() -> Play {
        Play {
            client: ClientConfig { hostname: "client.example".to_owned(), ..Default::default() },
            chunking: true,
            dsn: true,
            offer: Offer::default(),
            refuse: &[],
            one_by_one: false,
            bound: false,
            messages: vec![
                b"Subject: one\r\n\r\n.\r\n..dots\n.bare\rends",
                b"Subject: two\r\n\r\n\r\n",
            ],
        }
    }
}

/// What was told and what arrived.
#[derive(Debug, Default, PartialEq)]
struct Story {
    told: Vec<String>,
    arrived: Vec<Vec<u8>>,
    /// The parameters that arrived, as they would be passed on.
    passed: BTreeSet<String>,
}

/// One way of cutting: the first `at` octets of what goes to the server (or the client), then the rest; or so many at a time.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Pieces(usize),
    ToServer(usize),
    ToClient(usize),
}

/// A stream in one direction.
#[derive(Default)]
struct Pipe {
    waiting: Vec<u8>,
    input: Vec<u8>,
    passed: usize,
}

impl Pipe {
    /// Moves as much as the cut allows; whether anything moved.
    fn pass(&mut self, piece: usize, stop: Option<usize>) -> bool {
        let mut n = self.waiting.len().min(piece);
        if let Some(stop) = stop
            && self.passed < stop
        {
            n = n.min(stop - self.passed);
        }
        self.input.extend(self.waiting.drain(..n));
        self.passed += n;
        n > 0
    }
}

const TO: [&str; 3] = ["one@example.test", "two@example.test", "three@example.test"];

/// Octets that went to the server and to the client, and the story.
fn play(play: &Play, cut: Cut) -> (usize, usize, Story) {
    let config = ServerConfig {
        hostname: "mail.example.test".to_owned(),
        dialect: if play.client.lmtp { Dialect::Lmtp } else { Dialect::Smtp },
        limits: Limits::default(),
        extensions: Extensions { chunking: play.chunking, dsn: play.dsn, ..Extensions::default() },
    };
    let all = Mechanism::ALL.iter().fold(Mechanisms::NONE, |set, one| set.with(*one));
    let bindings = || Some(Bindings { exporter: vec![9; 32], end_point: Vec::new() });
    let mut server = Server::new(Arc::new(config), play.offer, Time(0));
    server.set_mechanisms(all, None);
    let mut client = Client::new(Arc::new(play.client.clone()), play.offer.tls, Time(0));
    client.set_channel([7; 18], Channel::Unbound);
    let mut accepted = Vec::new();
    let mut story = Story::default();
    let (mut up, mut down) = (Pipe::default(), Pipe::default());
    let (mut next, mut given, mut body) = (0, 0, Vec::new());
    let (mut tls_client, mut tls_server) = (false, false);
    let (mut client_over, mut server_over) = (false, false);
    let parameters = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.example";
    let to: Vec<Recipient<'_>> = TO.iter().map(|to| Recipient { to, parameters }).collect();
    for _ in 0..1_000_000 {
        let mut moved = false;
        while !client_over && !tls_client {
            let Step { consumed, next: told } = client.step(Time(0), &down.input, &mut up.waiting);
            let mut act = 0;
            let mut waits = false;
            match told {
                Next::NeedInput | Next::Blocked => waits = true,
                Next::Closed => client_over = true,
                Next::Event(ClientEvent::StartTls) => tls_client = true,
                Next::Event(ClientEvent::Ready { .. }) => act = 1,
                Next::Event(ClientEvent::Recipient { index, outcome: o }) => story
                    .told
                    .push(format!("{index} {:?} {:?} {}", o.verdict, o.phase, o.answer.code())),
                Next::Event(ClientEvent::NeedBody { max }) => act = max + 2,
                Next::Event(ClientEvent::Done(done)) => {
                    story.told.push(format!("done {} {}", done.delivered, done.closing));
                    act = usize::from(!done.closing);
                }
                Next::Event(ClientEvent::Failed(f)) => {
                    story.told.push(format!("failed {:?} {}", f.phase, f.answer));
                }
            }
            down.input.drain(..consumed);
            moved |= consumed > 0 || !waits;
            if act == 1 {
                if let Some(message) = play.messages.get(next) {
                    let t = Transaction {
                        from: "sender@client.example",
                        parameters: "RET=HDRS ENVID=Q+2B1",
                        recipients: &to,
                        size: message.len() as u64,
                        content: Content::EightBit,
                        ..Transaction::default()
                    };
                    client.begin(&t).expect("it begins");
                    next += 1;
                    given = 0;
                } else {
                    client.quit();
                }
            } else if act > 1 {
                let rest = &play.messages[next - 1][given..];
                let piece = rest.len().min(act - 2).min(11);
                given += piece;
                if piece == 0 {
                    client.body_end(&mut up.waiting).expect("asked for");
                } else {
                    client.body(&rest[..piece], &mut up.waiting).expect("asked for");
                }
            }
            if waits {
                break;
            }
        }
        while !server_over && !tls_server {
            let Step { consumed, next: told } = server.step(Time(0), &up.input, &mut down.waiting);
            enum Act {
                None,
                Wait,
                Accept,
                Refuse,
                Auth(Verdict),
                OneByOne,
                Greeted,
            }
            let refused = |what: &str| {
                if play.refuse.contains(&what) { Act::Refuse } else { Act::Accept }
            };
            let act = match told {
                Next::NeedInput | Next::Blocked => Act::Wait,
                Next::Closed => {
                    server_over = true;
                    Act::Wait
                }
                Next::Event(event) => match event {
                    Event::DataChunk(piece) => {
                        body.extend_from_slice(piece);
                        Act::None
                    }
                    Event::DataEnd { .. } => {
                        let act = refused("message");
                        if matches!(act, Act::Accept) {
                            story.arrived.push(std::mem::take(&mut body));
                        }
                        body.clear();
                        if play.one_by_one { Act::OneByOne } else { act }
                    }
                    Event::Reset => {
                        body.clear();
                        Act::None
                    }
                    Event::Quit => Act::None,
                    Event::StartTls => {
                        tls_server = true;
                        Act::Greeted
                    }
                    Event::Auth(question) => Act::Auth(verdict(&question)),
                    Event::Mail { parameters, .. } => {
                        accepted.clear();
                        let mut text = Vec::new();
                        parameters.relay_text(&mut text);
                        story.passed.insert(String::from_utf8(text).expect("ASCII"));
                        refused("mail")
                    }
                    Event::Rcpt { to, parameters } => {
                        let mut text = Vec::new();
                        parameters.relay_text(&mut text);
                        story.passed.insert(String::from_utf8(text).expect("ASCII"));
                        let to = std::str::from_utf8(to.as_bytes()).expect("ASCII");
                        let act = refused(to);
                        if matches!(act, Act::Accept) {
                            accepted.push(to.to_owned());
                        }
                        act
                    }
                    Event::DataStart => refused("data"),
                    _ => Act::Accept,
                },
            };
            up.input.drain(..consumed);
            moved |= consumed > 0 || !matches!(act, Act::Wait);
            match act {
                Act::None | Act::Greeted => {}
                Act::Wait => break,
                Act::Accept => server.accept(),
                Act::OneByOne => {
                    for to in &accepted {
                        let code = if to.starts_with("two") { 452 } else { 250 };
                        server.reply_recipient(Reply::bare(code, to));
                    }
                }
                Act::Refuse => server.reply(Reply::new(550, 7, 1, "Not this")),
                Act::Auth(verdict) => server.auth(verdict),
            }
        }
        if tls_client && tls_server && up.waiting.is_empty() && down.waiting.is_empty() {
            server.tls_started(
                Offer { tls: true, starttls: false, auth: play.offer.auth },
                &up.input,
            );
            server.set_mechanisms(all, bindings());
            let channel =
                if play.bound { Channel::Exporter(vec![9; 32]) } else { Channel::Unbound };
            client.set_channel([8; 18], channel);
            client.tls_started(&down.input, &mut up.waiting);
            (tls_client, tls_server) = (false, false);
            moved = true;
        }
        let (piece, to_server, to_client) = match cut {
            Cut::Whole => (usize::MAX, None, None),
            Cut::Pieces(n) => (n, None, None),
            Cut::ToServer(n) => (usize::MAX, Some(n), None),
            Cut::ToClient(n) => (usize::MAX, None, Some(n)),
        };
        moved |= up.pass(piece, to_server);
        moved |= down.pass(piece, to_client);
        if client_over {
            break;
        }
        if server_over && down.waiting.is_empty() {
            client.eof(Time(0));
            moved = true;
        }
        assert!(moved, "both sides wait for each other: {story:?}");
    }
    assert!(client_over, "the conversation does not end: {story:?}");
    (up.passed, down.passed, story)
}

fn verdict(question: &Question<'_>) -> Verdict {
    let right = match question {
        Question::Nonce { .. } => return Verdict::Nonce([5; 18]),
        Question::Scram { login: "tim", .. } => {
            let iterations = NonZeroU32::new(4096).expect("not 0");
            let keys = ScramKeys::derive("tanstaaf", b"salt", iterations);
            return Verdict::Scram(Box::new(keys), [5; 18]);
        }
        Question::Scram { .. } => false,
        Question::Outcome { failure, .. } => failure.is_none(),
        Question::Verify { login, password, .. } => (*login, *password) == ("tim", "tanstaaf"),
        Question::CramMd5 { login, challenge, digest } => {
            let keys = CramMd5Keys::derive("tanstaaf");
            *login == "tim" && keys.verify(challenge, digest)
        }
        Question::Token { login, token, .. } => (*login, *token) == ("tim", "tanstaaf"),
    };
    if right { Verdict::Accept } else { Verdict::Refuse }
}

/// Plays it whole, in pieces of every small size, and cut once at every place of both streams: the same story each time.
fn everywhere(what: &Play) -> Story {
    let (up, down, whole) = play(what, Cut::Whole);
    for size in [1, 2, 3, 5, 7, 64] {
        assert_eq!(play(what, Cut::Pieces(size)).2, whole, "in pieces of {size}");
    }
    for at in 1..up {
        assert_eq!(play(what, Cut::ToServer(at)).2, whole, "to the server, cut at {at}");
    }
    for at in 1..down {
        assert_eq!(play(what, Cut::ToClient(at)).2, whole, "to the client, cut at {at}");
    }
    whole
}

const FIRST: &[u8] = b"Subject: one\r\n\r\n.\r\n..dots\r\n.bare\r\nends\r\n";
const SECOND: &[u8] = b"Subject: two\r\n\r\n\r\n";

fn all_delivered() -> Story {
    let mut told = Vec::new();
    for _ in 0..2 {
        told.extend((0..3).map(|n| format!("{n} Delivered End 250")));
        told.push("done 3 false".to_owned());
    }
    let passed = ["RET=HDRS ENVID=Q+2B1", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@y.example"];
    let passed = passed.map(str::to_owned).into_iter().collect();
    Story { told, arrived: vec![FIRST.to_vec(), SECOND.to_vec()], passed }
}

#[test]
fn messages_arrive_by_data_in_groups() {
    let play = Play { chunking: false, ..Play::new() };
    assert_eq!(everywhere(&play), all_delivered());
}

#[test]
fn messages_arrive_by_data_one_command_at_a_time() {
    let mut play = Play { chunking: false, ..Play::new() };
    play.client.pipelining = false;
    assert_eq!(everywhere(&play), all_delivered());
}

#[test]
fn messages_arrive_by_bdat_in_groups() {
    let mut play = Play::new();
    play.client.limits.chunk_bytes = 12;
    assert_eq!(everywhere(&play), all_delivered());
}

#[test]
fn messages_arrive_by_bdat_one_chunk_at_a_time() {
    let mut play = Play::new();
    play.client.pipelining = false;
    play.client.limits.chunk_bytes = 12;
    assert_eq!(everywhere(&play), all_delivered());
}

#[test]
fn messages_arrive_behind_starttls() {
    let mut play = Play::new();
    play.offer = Offer { starttls: true, ..Offer::default() };
    play.client.tls = Tls::Required;
    assert_eq!(everywhere(&play), all_delivered());
}

/// Behind STARTTLS with one mechanism; right and wrong.
fn logged_in(mechanism: Mechanism, cuts: fn(&Play) -> Story) {
    let mut play = Play::new();
    play.offer = Offer { starttls: true, auth: true, ..Offer::default() };
    play.bound = mechanism == Mechanism::ScramSha256Plus;
    let mut login = Login::new(Credentials {
        authorization: String::new(),
        login: "tim".to_owned(),
        secret: "tanstaaf".to_owned().into(),
    });
    login.mechanisms = Mechanisms::NONE.with(mechanism);
    login.token = matches!(mechanism, Mechanism::OAuthBearer | Mechanism::XOAuth2);
    play.client.login = Some(login.clone());
    assert_eq!(cuts(&play), all_delivered(), "{mechanism:?}");
    login.credentials.secret = "wrong".to_owned().into();
    play.client.login = Some(login);
    let told = cuts(&play).told;
    assert!(told.len() == 1 && told[0].starts_with("failed Auth 535 5.7.8"), "{told:?}");
}

#[test]
fn messages_arrive_behind_starttls_and_auth() {
    for mechanism in Mechanism::ALL {
        // SCRAM is slow on purpose: not cut at every place.
        let slow = matches!(mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus);
        logged_in(*mechanism, if slow { |p| play(p, Cut::Pieces(7)).2 } else { everywhere });
    }
}

#[test]
fn parameters_of_dsn_stay_here_when_the_server_does_not_offer_it() {
    let mut play = Play { dsn: false, ..Play::new() };
    play.messages.truncate(1);
    assert_eq!(everywhere(&play).passed, BTreeSet::from([String::new()]));
}

/// LMTP, by DATA and BDAT, in groups and not.
fn lmtp(one_by_one: bool, refuse: &'static [&'static str]) -> Vec<Vec<String>> {
    let mut stories = Vec::new();
    for (chunking, pipelining) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut play = Play { chunking, one_by_one, refuse, ..Play::new() };
        play.messages.truncate(1);
        play.client.lmtp = true;
        play.client.pipelining = pipelining;
        play.client.limits.chunk_bytes = 12;
        stories.push(everywhere(&play).told);
    }
    stories
}

#[test]
fn lmtp_has_one_outcome_for_each_recipient() {
    for told in lmtp(true, &[]) {
        let wanted =
            ["0 Delivered End 250", "1 Temporary End 452", "2 Delivered End 250", "done 2 false"];
        assert_eq!(told, wanted);
    }
}

#[test]
fn lmtp_skips_the_recipient_that_was_refused() {
    for told in lmtp(true, &["one@example.test"]) {
        let wanted =
            ["0 Permanent Rcpt 550", "1 Temporary End 452", "2 Delivered End 250", "done 1 false"];
        assert_eq!(told, wanted);
    }
}

#[test]
fn lmtp_with_one_verdict_for_all() {
    for told in lmtp(false, &["message"]) {
        let wanted =
            ["0 Permanent End 550", "1 Permanent End 550", "2 Permanent End 550", "done 0 false"];
        assert_eq!(told, wanted);
    }
}

#[test]
fn lmtp_with_nobody_accepted() {
    for told in lmtp(false, &TO) {
        let wanted = [
            "0 Permanent Rcpt 550",
            "1 Permanent Rcpt 550",
            "2 Permanent Rcpt 550",
            "done 0 false",
        ];
        assert_eq!(told, wanted);
    }
}

#[test]
fn a_refused_recipient_does_not_stop_the_others() {
    for (chunking, pipelining) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut play = Play { chunking, refuse: &["two@example.test"], ..Play::new() };
        play.client.pipelining = pipelining;
        let story = everywhere(&play);
        let one =
            ["1 Permanent Rcpt 550", "0 Delivered End 250", "2 Delivered End 250", "done 2 false"];
        assert_eq!(story.told, [one, one].concat());
        assert_eq!(story.arrived, [FIRST, SECOND]);
    }
}

#[test]
fn when_all_recipients_are_refused_the_connection_stays_good() {
    for (chunking, pipelining) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut play = Play { chunking, refuse: &TO, ..Play::new() };
        play.client.pipelining = pipelining;
        let story = everywhere(&play);
        let one: Vec<String> = (0..3).map(|n| format!("{n} Permanent Rcpt 550")).collect();
        let one = [one, vec!["done 0 false".to_owned()]].concat();
        assert_eq!(story.told, [one.clone(), one].concat());
        assert!(story.arrived.is_empty());
    }
}

#[test]
fn refusals_of_mail_data_and_message_reach_every_recipient() {
    for (what, by_data, by_bdat) in
        [("mail", "Mail", "Mail"), ("data", "Data", "Body"), ("message", "End", "End")]
    {
        for (chunking, pipelining) in [(false, false), (false, true), (true, false), (true, true)] {
            let refuse: &'static [&'static str] = match what {
                "mail" => &["mail"],
                "data" => &["data"],
                _ => &["message"],
            };
            let mut play = Play { chunking, refuse, ..Play::new() };
            play.client.pipelining = pipelining;
            play.client.limits.chunk_bytes = 12;
            let story = everywhere(&play);
            let phase = if chunking { by_bdat } else { by_data };
            let one: Vec<String> = (0..3).map(|n| format!("{n} Permanent {phase} 550")).collect();
            let one = [one, vec!["done 0 false".to_owned()]].concat();
            assert_eq!(story.told, [one.clone(), one].concat(), "{what} {chunking} {pipelining}");
            assert!(story.arrived.is_empty());
        }
    }
}
