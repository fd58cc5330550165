//! SASL exchanges from both sides.
//!
//! The first octet chooses the mechanism and whether the channel is bound, the second what is answered to the questions, the
//! rest are the peer's messages, each ended by an octet 0xFF. For the server: turns are kept, nobody is accepted who was not
//! accepted, an accepted SCRAM client has proved the password, memory stays in the order of the messages. For the client:
//! no SCRAM server is believed that does not know the password.

use posthouse::sasl::client::{self, Channel, Credentials};
use posthouse::sasl::{Bindings, Exchange, Mechanism, Progress, Question, ScramKeys, Verdict};

pub fn run(data: &[u8]) {
    let [choice, answers, rest @ ..] = data else { return };
    let mechanism = Mechanism::ALL[usize::from(*choice) % Mechanism::ALL.len()];
    let messages: Vec<&[u8]> = rest.split(|octet| *octet == 0xff).collect();
    serve(mechanism, choice & 0x80 != 0, *answers, &messages);
    call(mechanism, &messages);
}

fn serve(mechanism: Mechanism, bound: bool, answers: u8, messages: &[&[u8]]) {
    let bindings = Bindings { exporter: vec![7; 32], end_point: Vec::new() };
    let plus = bound || mechanism == Mechanism::ScramSha256Plus;
    let mut exchange = Exchange::new(mechanism, plus.then_some(&bindings));
    let mut messages = messages.iter();
    let mut progress = if answers & 0x80 == 0 {
        exchange.start()
    } else {
        messages.next().map_or(Progress::Malformed, |message| exchange.respond(message))
    };
    let (mut asked, mut taken, mut turns) = (false, 0, 0u32);
    loop {
        turns += 1;
        assert!(turns < 20, "an exchange without an end");
        assert!(exchange.memory_bytes() < 2048 + 8 * taken, "memory beyond the messages");
        assert_eq!(exchange.question().is_some(), progress == Progress::Ask);
        progress = match progress {
            Progress::Challenge => {
                assert!(exchange.challenge().len() < 512 + 2 * taken);
                let Some(message) = messages.next() else { return };
                taken += message.len();
                exchange.respond(message)
            }
            Progress::Ask => {
                let question = exchange.question().expect("a question");
                asked = true;
                let verdict = match (&question, answers.rotate_left(turns) & 7) {
                    (_, 0) => Verdict::Unavailable,
                    (_, 1) => Verdict::Refuse,
                    (Question::Nonce { .. }, _) => Verdict::Nonce([5; 18]),
                    (Question::Scram { login, .. }, _) => {
                        assert!(!login.is_empty());
                        Verdict::Scram(Box::new(ScramKeys::decoy(&[1; 32], login, 4096)), [6; 18])
                    }
                    // Nobody knows a password that fits a decoy.
                    (Question::Outcome { failure, .. }, _) => {
                        assert!(failure.is_some(), "a proof without a password");
                        Verdict::Accept
                    }
                    _ => Verdict::Accept,
                };
                let _ = format!("{question:?}");
                exchange.answer(verdict)
            }
            end => {
                assert!(end != Progress::Accepted || asked, "accepted unasked");
                let scram =
                    matches!(mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus);
                assert!(end != Progress::Accepted || !scram, "accepted without the password");
                assert_eq!(exchange.respond(b""), Progress::Malformed, "it is over");
                assert_eq!(exchange.answer(Verdict::Accept), Progress::Unavailable, "it is over");
                return;
            }
        };
    }
}

fn call(mechanism: Mechanism, messages: &[&[u8]]) {
    let credentials = Credentials {
        authorization: String::new(),
        login: "user".into(),
        secret: String::from("to-ken").into(),
    };
    let channel = match mechanism {
        Mechanism::ScramSha256Plus => Channel::Exporter(vec![7; 32]),
        _ => Channel::Unbound,
    };
    let made = client::Exchange::new(mechanism, credentials, [3; 18], channel);
    let mut exchange = made.expect("credentials that can be said");
    let _ = exchange.initial();
    for message in messages {
        // A server that asks for many iterations is served as it asks: not here, where time counts.
        let many = message
            .split(|b| *b == b',')
            .any(|part| part.strip_prefix(b"i=").is_some_and(|n| n.len() > 4));
        if many || exchange.respond(message).is_err() {
            break;
        }
    }
    let scram = matches!(mechanism, Mechanism::ScramSha256 | Mechanism::ScramSha256Plus);
    let believed = exchange.finish(messages.last().copied().unwrap_or_default()).is_ok();
    assert!(!(scram && believed), "a server is believed that does not know the password");
}
