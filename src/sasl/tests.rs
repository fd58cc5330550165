//! Server exchanges by their messages, and every mechanism with both sides in memory.

use std::num::NonZeroU32;

use zeroize::Zeroizing;

use super::client::{self, Channel, Credentials};
use super::*;

const SECRET: &str = "p\u{e4}ssw=rd,";

fn keys(password: &str) -> Box<ScramKeys> {
    Box::new(ScramKeys::derive(password, b"0123456789", NonZeroU32::new(4096).unwrap()))
}

fn bindings() -> Bindings {
    Bindings { exporter: vec![7; 32], end_point: vec![9; 32] }
}

fn exchange(mechanism: Mechanism) -> Exchange {
    let plus = (mechanism == Mechanism::ScramSha256Plus).then(bindings);
    Exchange::new(mechanism, plus.as_ref())
}

/// What a house with one user answers: its login name is `user`.
fn judge(question: &Question<'_>) -> Verdict {
    let right = match question {
        Question::Verify { login, password, .. } => *login == "user" && *password == SECRET,
        Question::Nonce { .. } => return Verdict::Nonce([5; 18]),
        Question::Scram { login: "user", .. } => return Verdict::Scram(keys(SECRET), [6; 18]),
        Question::Scram { login, .. } => {
            return Verdict::Scram(Box::new(ScramKeys::decoy(&[1; 32], login, 4096)), [6; 18]);
        }
        Question::CramMd5 { login, challenge, digest } => {
            *login == "user" && CramMd5Keys::derive(SECRET).verify(challenge, digest)
        }
        Question::Token { login, token, .. } => *login == "user" && *token == "to-ken==",
        // Even a caller that does not look at it must not let a failure in.
        Question::Outcome { .. } => true,
    };
    if right { Verdict::Accept } else { Verdict::Refuse }
}

/// Plays both sides; how it ended for the server and for the client, and what was said.
fn play(
    mut server: Exchange,
    mut client: client::Exchange,
    initial: bool,
) -> (Progress, Result<(), client::Fault>, Vec<Vec<u8>>) {
    let mut said = Vec::new();
    let mut progress = match initial.then(|| client.initial()).flatten() {
        Some(text) => {
            said.push(text.to_vec());
            server.respond(&text)
        }
        None => server.start(),
    };
    for _ in 0..10 {
        progress = match progress {
            Progress::Challenge => {
                said.push(server.challenge().to_vec());
                let response = match client.respond(server.challenge()) {
                    Ok(response) => response,
                    Err(fault) => return (progress, Err(fault), said),
                };
                said.push(response.to_vec());
                server.respond(&response)
            }
            Progress::Ask => {
                let verdict = judge(&server.question().expect("a question"));
                server.answer(verdict)
            }
            end => return (end, client.finish(b""), said),
        };
    }
    panic!("an exchange without an end");
}

fn client_of(mechanism: Mechanism, login: &str, secret: &str) -> client::Exchange {
    let channel = match mechanism {
        Mechanism::ScramSha256Plus => Channel::Exporter(vec![7; 32]),
        _ => Channel::Unbound,
    };
    client_with(mechanism, login, secret, channel)
}

fn client_with(
    mechanism: Mechanism,
    login: &str,
    secret: &str,
    channel: Channel,
) -> client::Exchange {
    let secret = Zeroizing::new(secret.to_owned());
    let credentials = Credentials { login: login.into(), secret, ..Credentials::default() };
    client::Exchange::new(mechanism, credentials, [3; 18], channel).unwrap()
}

fn secret_for(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::OAuthBearer | Mechanism::XOAuth2 => "to-ken==",
        _ => SECRET,
    }
}

#[test]
fn every_mechanism_lets_the_right_one_in() {
    for mechanism in Mechanism::ALL.iter().copied() {
        for initial in [true, false] {
            let client = client_of(mechanism, "user", secret_for(mechanism));
            let (end, proved, _) = play(exchange(mechanism), client, initial);
            assert_eq!((end, proved), (Progress::Accepted, Ok(())), "{mechanism:?} {initial}");
        }
    }
}

#[test]
fn every_mechanism_keeps_the_wrong_one_out() {
    for mechanism in Mechanism::ALL.iter().copied() {
        for (login, secret) in [("user", "wrong"), ("nobody", secret_for(mechanism))] {
            let client = client_of(mechanism, login, secret);
            let (end, _, _) = play(exchange(mechanism), client, true);
            assert_eq!(end, Progress::Refused, "{mechanism:?} {login}");
        }
    }
}

#[test]
fn an_unknown_name_looks_like_a_wrong_password() {
    for mechanism in Mechanism::ALL.iter().copied() {
        let shape = |login| {
            let client = client_of(mechanism, login, "wrong1");
            let (end, _, said) = play(exchange(mechanism), client, true);
            (end, said.iter().map(Vec::len).collect::<Vec<_>>())
        };
        // Names of the same length: what differs must come from the server.
        let (one, other) = (shape("user"), shape("nope"));
        if mechanism != Mechanism::ScramSha256 && mechanism != Mechanism::ScramSha256Plus {
            assert_eq!(one, other, "{mechanism:?}");
        } else {
            // The salt of this test's user has its own length.
            assert_eq!((one.0, one.1.len()), (other.0, other.1.len()), "{mechanism:?}");
        }
    }
}

#[test]
fn plain_asks_with_its_three_parts() {
    let mut exchange = exchange(Mechanism::Plain);
    assert_eq!(exchange.start(), Progress::Challenge);
    assert_eq!(exchange.challenge(), b"");
    assert!(exchange.question().is_none());
    assert_eq!(exchange.respond("other\0us\u{e9}r\0pass word".as_bytes()), Progress::Ask);
    let Some(Question::Verify { authorization, login, password, .. }) = exchange.question() else {
        panic!("no question");
    };
    assert_eq!((authorization, login, password), ("other", "us\u{e9}r", "pass word"));
}

#[test]
fn login_asks_for_name_and_password() {
    let mut exchange = exchange(Mechanism::Login);
    assert_eq!(exchange.start(), Progress::Challenge);
    assert_eq!(exchange.challenge(), b"Username:");
    assert_eq!(exchange.respond(b"user"), Progress::Challenge);
    assert_eq!(exchange.challenge(), b"Password:");
    assert_eq!(exchange.respond(b"pass"), Progress::Ask);
    assert_eq!(exchange.respond(b"more"), Progress::Malformed, "it is the caller's turn");
}

#[test]
fn the_debug_form_of_a_question_hides_secrets() {
    let mut exchange = exchange(Mechanism::Plain);
    exchange.respond(b"\0user\0hunter2");
    let text = format!("{:?}", exchange.question());
    assert!(text.contains("user") && !text.contains("hunter2"), "{text}");
    let mut exchange = super::tests::exchange(Mechanism::XOAuth2);
    exchange.respond(b"user=user\x01auth=Bearer hunter2\x01\x01");
    let text = format!("{:?}", exchange.question());
    assert!(text.contains("user") && !text.contains("hunter2"), "{text}");
}

fn malformed(mechanism: Mechanism, responses: &[&[u8]]) {
    for response in responses {
        let mut exchange = exchange(mechanism);
        let shown = response.escape_ascii();
        assert_eq!(exchange.respond(response), Progress::Malformed, "{mechanism:?} {shown}");
        assert!(exchange.question().is_none(), "{shown}");
        assert_eq!(exchange.respond(b"\0user\0pass"), Progress::Malformed, "{shown}: it stays so");
        assert_eq!(exchange.answer(Verdict::Accept), Progress::Unavailable, "{shown}");
    }
}

#[test]
fn responses_without_their_form_are_malformed() {
    malformed(
        Mechanism::Plain,
        &[
            b"",
            b"\0",
            b"\0\0",
            b"user\0pass",
            b"\0user\0",
            b"\0\0pass",
            b"\0user\0pass\0more",
            b"\0user\0pa\xffss",
        ],
    );
    malformed(Mechanism::Login, &[b"", b"a\0b", b"\xff"]);
    // The server speaks first.
    malformed(Mechanism::CramMd5, &[b"", b"user 00000000000000000000000000000000"]);
    malformed(
        Mechanism::ScramSha256,
        &[
            b"",
            b"n",
            b"n,,",
            b"n,,n=user",
            b"n,,r=x,n=user",
            b"n,,n=,r=x",
            b"n,,n=user,r=",
            b"n,,n=us=er,r=x",
            b"n,,m=1,n=user,r=x",
            b"n,,n=user,r=x,m=1",
            b"n,,n=user,r=x,1=1",
            b"n,,n=user,r=x,y",
            b"n,,n=user,r=x y",
            b"n,,n=user,r=\xc3\xa9",
            b"n,,n=us\xffer,r=x",
            b"n,,n=us\0er,r=x",
            b"n,user,n=user,r=x",
            b"n,a=,n=user,r=x",
            b"x,,n=user,r=x",
            b"N,,n=user,r=x",
            b"p=tls-exporter,,n=user,r=x",
        ],
    );
    malformed(
        Mechanism::ScramSha256Plus,
        &[b"n,,n=user,r=x", b"y,,n=user,r=x", b"p,,n=user,r=x", b"tls-exporter,,n=user,r=x"],
    );
    malformed(
        Mechanism::OAuthBearer,
        &[
            b"",
            b"\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer x\x01",
            b"n,,auth=Bearer x\x01\x01",
            b"n,a=,\x01auth=Bearer x\x01\x01",
            b"n,user,\x01auth=Bearer x\x01\x01",
            b"p=x,,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01auth=Bearer\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer a b\x01\x01",
            b"n,,\x01auth=Bearer =\x01\x01",
            b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            b"n,,\x01host=h\x01\x01",
            b"n,,\x01port=99999\x01auth=Bearer x\x01\x01",
            b"n,,\x01port=\x01auth=Bearer x\x01\x01",
            b"n,,\x01=x\x01auth=Bearer x\x01\x01",
            b"n,,\x01x\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer x\0\x01\x01",
            b"n,,\x01auth=Bearer \xff\x01\x01",
        ],
    );
    malformed(
        Mechanism::XOAuth2,
        &[
            b"",
            b"user=u",
            b"user=u\x01",
            b"user=\x01auth=Bearer x\x01\x01",
            b"USER=u\x01auth=Bearer x\x01\x01",
            b"user=u\x01auth=x\x01\x01",
            b"user=u\x01auth=Bearer x\x01",
            b"auth=Bearer x\x01user=u\x01\x01",
        ],
    );
}

#[test]
fn a_malformed_digest_ends_cram_md5() {
    for response in [
        &b""[..],
        b"user",
        b" 00000000000000000000000000000000",
        b"user 0000000000000000000000000000000",
        b"user 0000000000000000000000000000000g",
        b"us\0er 00000000000000000000000000000000",
    ] {
        let mut exchange = exchange(Mechanism::CramMd5);
        assert_eq!(exchange.start(), Progress::Ask);
        assert_eq!(exchange.answer(Verdict::Nonce([1; 18])), Progress::Challenge);
        assert_eq!(exchange.respond(response), Progress::Malformed, "{}", response.escape_ascii());
    }
}

#[test]
fn a_final_message_of_scram_out_of_form_is_malformed() {
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let nonce = format!("x{}", nonce_text(&[6; 18]));
    for text in [
        String::new(),
        format!("c=biws,r={nonce}"),
        format!("c=biws,r={nonce},p="),
        format!("c=biws,r={nonce},p=AAAA"),
        format!("c=biws,r={nonce},p={proof}AAAA"),
        format!("c=*,r={nonce},p={proof}"),
        format!("r={nonce},c=biws,p={proof}"),
        format!("c=biws,p={proof}"),
        format!("c=biws,r={nonce},m=1,p={proof}"),
        format!("c=biws,r={nonce},p={proof},x=1"),
    ] {
        let mut exchange = exchange(Mechanism::ScramSha256);
        assert_eq!(exchange.respond(b"n,,n=user,r=x"), Progress::Ask);
        assert_eq!(exchange.answer(Verdict::Scram(keys("x"), [6; 18])), Progress::Challenge);
        assert_eq!(exchange.respond(text.as_bytes()), Progress::Malformed, "{text}");
    }
}

/// How a first message of SCRAM is taken: by the failure that its outcome tells, or the keys' question.
fn first_of_scram(mechanism: Mechanism, bound: Option<&Bindings>, text: &str) -> String {
    let mut exchange = Exchange::new(mechanism, bound);
    match exchange.respond(text.as_bytes()) {
        Progress::Ask => match exchange.question() {
            Some(Question::Scram { .. }) => "keys".into(),
            Some(Question::Outcome { failure: Some(failure), .. }) => {
                assert_eq!(exchange.answer(Verdict::Accept), Progress::Refused);
                failure.into()
            }
            other => panic!("{other:?}"),
        },
        progress => format!("{progress:?}"),
    }
}

#[test]
fn a_client_that_was_hidden_the_plus_is_refused() {
    let bound = bindings();
    let plain = Mechanism::ScramSha256;
    assert_eq!(first_of_scram(plain, None, "y,,n=user,r=x"), "keys");
    assert_eq!(first_of_scram(plain, Some(&bound), "n,,n=user,r=x"), "keys");
    let refused = first_of_scram(plain, Some(&bound), "y,,n=user,r=x");
    assert!(refused.contains("taken away"), "{refused}");
}

#[test]
fn a_binding_that_we_do_not_have_is_refused() {
    let plus = Mechanism::ScramSha256Plus;
    let bound = bindings();
    let only = Bindings { exporter: vec![7; 32], end_point: Vec::new() };
    let ask = |bound, name: &str| first_of_scram(plus, Some(bound), &format!("p={name},,n=u,r=x"));
    assert_eq!(ask(&bound, "tls-exporter"), "keys");
    assert_eq!(ask(&bound, "tls-server-end-point"), "keys");
    assert!(ask(&only, "tls-server-end-point").contains("not bound"));
    assert!(ask(&bound, "tls-unique").contains("not bound"));
    assert_eq!(first_of_scram(plus, None, "p=tls-exporter,,n=u,r=x"), "Malformed");
}

#[test]
fn another_channel_is_noticed() {
    let plus = Mechanism::ScramSha256Plus;
    for (channel, end) in [
        (Channel::Exporter(vec![7; 32]), Progress::Accepted),
        (Channel::EndPoint(vec![9; 32]), Progress::Accepted),
        (Channel::Exporter(vec![8; 32]), Progress::Refused),
        (Channel::EndPoint(vec![7; 32]), Progress::Refused),
    ] {
        let client = client_with(plus, "user", SECRET, channel.clone());
        assert_eq!(play(exchange(plus), client, true).0, end, "{channel:?}");
    }
}

#[test]
fn names_with_comma_and_equals_sign_and_an_authorization_pass() {
    let credentials = Credentials {
        authorization: "bo,ss".into(),
        login: "a=b,c".into(),
        secret: Zeroizing::new("x".into()),
    };
    let mut client =
        client::Exchange::new(Mechanism::ScramSha256, credentials, [3; 18], Channel::NotOffered)
            .unwrap();
    let mut server = exchange(Mechanism::ScramSha256);
    assert_eq!(server.respond(&client.initial().unwrap()), Progress::Ask);
    let Some(Question::Scram { authorization, login, .. }) = server.question() else {
        panic!("no question");
    };
    assert_eq!((authorization, login), ("bo,ss", "a=b,c"));
}

#[test]
fn an_accept_that_does_not_fit_the_question_authenticates_nobody() {
    let mut scram = exchange(Mechanism::ScramSha256);
    scram.respond(b"n,,n=user,r=x");
    assert_eq!(scram.answer(Verdict::Accept), Progress::Unavailable);
    assert_eq!(scram.answer(Verdict::Accept), Progress::Unavailable);
    let mut cram = exchange(Mechanism::CramMd5);
    cram.start();
    assert_eq!(cram.answer(Verdict::Accept), Progress::Unavailable);
    let mut plain = exchange(Mechanism::Plain);
    assert_eq!(plain.answer(Verdict::Accept), Progress::Unavailable, "nothing was asked");
    let mut plain = exchange(Mechanism::Plain);
    plain.respond(b"\0u\0p");
    assert_eq!(plain.answer(Verdict::Nonce([0; 18])), Progress::Unavailable);
}

#[test]
fn a_signature_is_answered_with_nothing() {
    let mut client = client_of(Mechanism::ScramSha256, "user", SECRET);
    let mut server = exchange(Mechanism::ScramSha256);
    server.respond(&client.initial().unwrap());
    server.answer(Verdict::Scram(keys(SECRET), [6; 18]));
    let last = client.respond(server.challenge()).unwrap();
    assert_eq!(server.respond(&last), Progress::Challenge);
    assert_eq!(server.respond(b"x"), Progress::Malformed);
}

/// RFC 7628 4.1, 4.3.
#[test]
fn a_token_is_asked_for_with_what_the_client_said_of_its_server() {
    let mut exchange = exchange(Mechanism::OAuthBearer);
    let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
        auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
    assert_eq!(exchange.respond(message), Progress::Ask);
    let Some(Question::Token { login, token, host, port, .. }) = exchange.question() else {
        panic!("no question");
    };
    assert_eq!((login, host, port), ("user@example.com", "server.example.com", 143));
    assert_eq!(token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
    assert_eq!(exchange.answer(Verdict::Refuse), Progress::Challenge);
    assert_eq!(exchange.challenge(), br#"{"status":"invalid_token"}"#);
    assert_eq!(exchange.respond(b"\x01"), Progress::Refused);
}

#[test]
fn a_token_that_cannot_be_verified_now_needs_no_other_round() {
    let mut exchange = exchange(Mechanism::XOAuth2);
    assert_eq!(exchange.respond(b"user=u\x01auth=bearer x\x01\x01"), Progress::Ask);
    assert_eq!(exchange.answer(Verdict::Unavailable), Progress::Unavailable);
}
