//! Listeners of whole engines: certificates, who may come in and how often, and for whom a proxy speaks.

#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "support/client.rs"]
#[allow(dead_code)] // other tests use the rest
mod client;
#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use client::Client;
use house::{House, PASSWORD, port};
use posthouse::Kind;
use posthouse::engine::{Engine, Event, Hooks, Options};
use posthouse::instance::config::CertificateFiles;
use posthouse::instance::{Config, certificate};
use posthouse::policy::TlsVersion;
use posthouse::runtime::tls::{Connector, ConnectorOptions};
use posthouse::service::hook::{Answer, Defer, Facts, Question, Refusal};
use posthouse::vfs::os::OsFs;

/// An engine with these listeners and settings.
fn engine(house: &House, listeners: &[&str], settings: &[(&str, &str)]) -> Arc<Engine> {
    house.set_up(listeners);
    Config::set_all(&OsFs::new(), &house.path(), settings).unwrap();
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    engine
}

/// Writes a self-signed certificate for a name.
fn certified(directory: &Path, file: &str, name: &str) -> CertificateFiles {
    let files = CertificateFiles {
        certificate: directory.join(format!("{file}.pem")),
        key: directory.join(format!("{file}.key")),
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

/// A client certificate: self-signed, so that it vouches for itself.
fn identity(directory: &Path, file: &str, email: &str) -> CertificateFiles {
    let files = CertificateFiles {
        certificate: directory.join(format!("{file}.pem")),
        key: directory.join(format!("{file}.key")),
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names.push(rcgen::SanType::Rfc822Name(email.try_into().unwrap()));
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

/// Appends to the instance's configuration.
fn configure(house: &House, text: &str) {
    let path = house.path().join("posthouse.toml");
    let old = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{old}\n{text}")).unwrap();
}

fn table(files: &CertificateFiles) -> String {
    format!(
        "[[tls.certificates]]\ncertificate = '{}'\nkey = '{}'\n",
        files.certificate.display(),
        files.key.display()
    )
}

fn trusting(certificate: &Path) -> Connector {
    Connector::trusting(&OsFs::new(), certificate).unwrap()
}

fn smtps(engine: &Engine, connector: &Connector, name: &str) -> Option<Client> {
    let mut client = Client::connect(port(engine, "smtps"));
    client.try_start_tls(connector, name).ok()?;
    client.line()?.starts_with("220 ").then_some(client)
}

#[test]
fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let house = House::new();
    house.set_up(&["smtps"]);
    let other = certified(&house.path(), "other", "Other.Example.org");
    let wild = certified(&house.path(), "wild", "*.example.net");
    configure(&house, &format!("{}{}", table(&other), table(&wild)));
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let default = house.certificate(&engine);
    let speaks = |trusted: &PathBuf, name: &str| smtps(&engine, &trusting(trusted), name).is_some();
    assert!(speaks(&default, "mail.example.test"));
    assert!(speaks(&other.certificate, "other.example.org"));
    assert!(speaks(&other.certificate, "OTHER.example.org"));
    assert!(speaks(&wild.certificate, "a.example.net"));
    assert!(!speaks(&wild.certificate, "a.b.example.net"), "a wildcard is one label");
    assert!(!speaks(&wild.certificate, "example.net"));
    assert!(!speaks(&other.certificate, "mail.example.test"));
    // Who asks for no name gets the first.
    assert!(speaks(&default, "127.0.0.1"));
}

#[test]
fn a_reload_changes_certificates_and_drops_nothing() {
    let house = House::new();
    let engine = engine(&house, &["smtps"], &[]);
    let first = house.certificate(&engine);
    let key = engine.config().tls.as_ref().unwrap().certificates[0].key.clone();
    let old = trusting(&first);
    let mut standing = smtps(&engine, &old, "mail.example.test").unwrap();

    // A key that is not the certificate's: everything stays, and the error names it.
    let new = certificate::self_signed("mail.example.test", 1_700_000_000_000).unwrap();
    let old_key = std::fs::read(&key).unwrap();
    std::fs::write(&key, &*new.key).unwrap();
    let error = engine.reload().unwrap_err();
    assert_eq!(error.kind(), Kind::PrivateKey);
    assert!(error.message().contains(&key.display().to_string()), "{error}");
    assert!(smtps(&engine, &old, "mail.example.test").is_some());
    std::fs::write(&key, old_key).unwrap();
    engine.reload().unwrap();

    std::fs::write(&first, &new.certificate).unwrap();
    std::fs::write(&key, &*new.key).unwrap();
    engine.reload().unwrap();
    assert!(smtps(&engine, &trusting(&first), "mail.example.test").is_some());
    standing.command("EHLO client.example.test", "250 ");
    standing.command("NOOP", "250 ");

    // Policy too.
    Config::set(&OsFs::new(), &house.path(), "policy.connections", "1").unwrap();
    engine.reload().unwrap();
    let mut refused = Client::connect(port(&engine, "smtps"));
    assert!(refused.at_end());
    let path = house.path().join("posthouse.toml");
    std::fs::write(&path, "hostname = 5\n").unwrap();
    assert_eq!(engine.reload().unwrap_err().kind(), Kind::Config);
    standing.command("NOOP", "250 ");
}

#[test]
fn sessions_are_resumed_also_after_a_reload_and_a_restart() {
    let house = House::new();
    let engine = engine(&house, &["smtps"], &[]);
    let connector = trusting(&house.certificate(&engine));
    let resumed = || {
        let client = smtps(&engine, &connector, "mail.example.test").unwrap();
        let facts = client.facts().unwrap();
        assert_eq!(facts.version, TlsVersion::Tls13);
        assert!(facts.cipher.starts_with("TLS_") && facts.exporter.is_some());
        facts.resumed
    };
    assert!(!resumed());
    assert!(resumed());
    engine.reload().unwrap();
    assert!(resumed());
    engine.stop().unwrap();
    engine.start().unwrap();
    assert!(resumed());
}

#[test]
fn a_client_certificate_is_asked_for_or_required() {
    for (asked, bare, stranger) in [("request", true, true), ("require", false, false)] {
        let house = House::new();
        house.set_up(&["smtps"]);
        let known = identity(&house.path(), "known", "user1@example.test");
        let unknown = identity(&house.path(), "unknown", "user1@example.test");
        let ca = known.certificate.display().to_string();
        let settings = [("tls.client_certificate", asked), ("tls.client_ca", ca.as_str())];
        Config::set_all(&OsFs::new(), &house.path(), &settings).unwrap();
        let engine = house.open(&[], Options::default());
        engine.start().unwrap();
        let trusted = house.certificate(&engine);
        let speaks = |identity: Option<&CertificateFiles>| {
            let options = ConnectorOptions {
                trusted: Some(&trusted),
                identity,
                ..ConnectorOptions::default()
            };
            let connector = Connector::new(&OsFs::new(), &options).unwrap();
            smtps(&engine, &connector, "mail.example.test").is_some()
        };
        assert!(speaks(Some(&known)), "{asked}");
        assert_eq!(speaks(None), bare, "{asked}");
        assert_eq!(speaks(Some(&unknown)), stranger, "{asked}");
    }
}

#[test]
fn an_opportunistic_client_speaks_to_anybody() {
    let house = House::new();
    let engine = engine(&house, &["smtps"], &[]);
    let connector = Connector::opportunistic(&OsFs::new()).unwrap();
    assert!(smtps(&engine, &connector, "whatever.example").is_some());
}

/// What `openssl s_client` says when it is made to speak one version.
fn openssl(engine: &Engine, arguments: &[&str]) -> Option<bool> {
    let address = port(engine, "smtps").to_string();
    let run = Command::new("openssl")
        .args(["s_client", "-brief", "-connect", &address])
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    Some(String::from_utf8_lossy(&run.ok()?.stderr).contains("Protocol version: TLSv1."))
}

#[test]
fn the_lowest_version_holds_against_openssl() {
    for (least, speaks_12) in [("1.2", true), ("1.3", false)] {
        let house = House::new();
        let engine = engine(&house, &["smtps"], &[("tls.min_version", least)]);
        let Some(speaks) = openssl(&engine, &["-tls1_3"]) else { return };
        assert!(speaks, "{least}");
        assert_eq!(openssl(&engine, &["-tls1_2"]), Some(speaks_12), "{least}");
        assert_eq!(openssl(&engine, &["-tls1_1"]), Some(false), "{least}");
    }
}

const PROXIES: (&str, &str) = ("policy.proxy_trusted", "[\"127.0.0.0/8\"]");

#[test]
fn a_trusted_proxy_says_for_whom_it_speaks() {
    let house = House::new();
    let engine = engine(&house, &["smtp", "smtps", "pop3"], &[PROXIES]);
    let talk = |client: &mut Client| {
        assert!(client.reply()[0].starts_with("220 "));
        client.command("EHLO client.example.test", "250 ");
        client.command("MAIL FROM:<a@else.test>", "250 ");
        client.command("RCPT TO:<user1@example.test>", "250 ");
        client.command("DATA", "354 ");
        client.command("Subject: x\r\n\r\n.", "250 ");
    };
    let mut first = Client::connect(port(&engine, "smtp"));
    first.send("PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n");
    talk(&mut first);
    // In pieces, and in front of TLS; the client's hello comes together with the header's end.
    let mut second = Client::connect(port(&engine, "smtps"));
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24".to_vec();
    header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    header.extend([0; 16]);
    header.extend([0, 99, 0, 25]);
    second.send(&header[..20]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    second.prefix = header.split_off(20);
    let connector = trusting(&house.certificate(&engine));
    second.start_tls(&connector, "mail.example.test");
    talk(&mut second);

    let mut pop3 = Client::connect(port(&engine, "pop3"));
    pop3.send("PROXY UNKNOWN\r\n");
    assert!(pop3.line().unwrap().starts_with("+OK"));
    pop3.pop3("USER user1", "+OK");
    pop3.pop3(&format!("PASS {PASSWORD}"), "+OK");
    for (number, address) in [(1, "([192.0.2.7])"), (2, "([IPv6:2001:db8::9])")] {
        pop3.pop3(&format!("RETR {number}"), "+OK");
        let text = String::from_utf8(pop3.multi_line()).unwrap();
        assert!(text.contains(address), "{text}");
    }
}

#[test]
fn a_trusted_proxy_that_does_not_say_it_is_refused() {
    let house = House::new();
    let engine = engine(&house, &["smtp"], &[PROXIES]);
    for bytes in ["EHLO client.example.test\r\n", "PROXY TCP4 nonsense\r\n", "\r\n\r\nEHLO"] {
        let mut client = Client::connect(port(&engine, "smtp"));
        client.send(bytes);
        assert!(client.at_end(), "{bytes:?}");
    }
}

#[test]
fn a_stranger_cannot_say_it() {
    let house = House::new();
    let engine = engine(&house, &["smtp"], &[]);
    let mut client = Client::connect(port(&engine, "smtp"));
    assert!(client.reply()[0].starts_with("220 "));
    client.command("PROXY TCP4 192.0.2.7 198.51.100.1 4000 25", "5");
    client.command("NOOP", "250 ");
}

/// The message that this conversation leaves in user1's INBOX.
fn newest(engine: &Engine) -> String {
    let rows = engine
        .mailbox_list("user1@example.test", posthouse::store::MailboxId::INBOX, 0, 1000)
        .unwrap();
    let mut reader = engine.message(rows.last().expect("a message").message).unwrap();
    let mut all = vec![0; usize::try_from(reader.len()).unwrap()];
    let mut at = 0;
    while at < all.len() {
        at += reader.read_at(at as u64, &mut all[at..]).unwrap();
    }
    String::from_utf8(all).unwrap()
}

const FORWARDERS: (&str, &str) = ("policy.xclient_trusted", "[\"127.0.0.0/8\"]");

#[test]
fn xclient_makes_the_session_the_client_s_for_policy_hooks_events_and_trace() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let settings = [
        FORWARDERS,
        ("policy.relay_networks", "[\"127.0.0.0/8\"]"),
        ("policy.messages_per_hour", "1"),
    ];
    Config::set_all(&OsFs::new(), &house.path(), &settings).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (list, ended) = (Arc::clone(&asked), Arc::new(Mutex::new(Vec::new())));
    let ends = Arc::clone(&ended);
    let hook = move |facts: &Facts<'_>, question: &Question<'_>, _: &mut Defer| {
        let name = String::from_utf8_lossy(facts.hello).into_owned();
        let port = facts.peer.port();
        let peer = if port > 9999 { facts.peer.ip().to_string() } else { facts.peer.to_string() };
        if let Question::Connect | Question::Hello { .. } = question {
            list.lock().unwrap().push(format!("{peer} {name}"));
        }
        match (question, facts.peer.ip().to_string().as_str()) {
            (Question::Connect, "192.0.2.66") => {
                Answer::Refuse(Refusal::new(554, (7, 1), "Not you"))
            }
            _ => Answer::Accept,
        }
    };
    let engine = house.open(
        &["user1"],
        Options {
            hooks: Some(Hooks::new(Arc::new(hook))),
            events: Some(Arc::new(move |event: &Event<'_>| {
                if let Event::SessionEnded { peer, .. } = *event {
                    ends.lock().unwrap().push(peer.to_string());
                }
            })),
            ..Options::default()
        },
    );
    engine.start().unwrap();
    let mut client = Client::connect(port(&engine, "smtp"));
    assert!(client.reply()[0].starts_with("220 "));
    client.send("EHLO proxy.test\r\n");
    let hello = client.reply();
    assert!(
        hello.iter().any(|l| l.ends_with("XCLIENT NAME ADDR PORT PROTO HELO DESTADDR DESTPORT"))
    );
    assert!(hello.iter().any(|l| l.starts_with("250-AUTH ")), "loopback may log in: {hello:?}");
    // The proxy itself may relay; whom it speaks for may not, nor log in without TLS.
    client.command("MAIL FROM:<a@else.test>", "250 ");
    client.command("RCPT TO:<b@far.test>", "250 ");
    client.command("XCLIENT ADDR=192.0.2.7", "503 ");
    client.command("RSET", "250 ");
    client.command("XCLIENT ADDR=192.0.2.7 PORT=4000 HELO=client.test LOGIN=user1", "550 5.7.0 ");
    client.command("MAIL FROM:<a@else.test>", "250 ");
    client.command("RSET", "250 ");
    client.command("XCLIENT ADDR=192.0.2.7 PORT=4000 HELO=client.test NAME=n.test", "220 ");
    client.command("MAIL FROM:<a@else.test>", "503 ");
    client.send("EHLO proxy.test\r\n");
    assert!(client.reply().iter().all(|l| !l.contains("AUTH")));
    client.command("MAIL FROM:<a@else.test>", "250 ");
    client.command("RCPT TO:<b@far.test>", "550 5.7.1 Relaying");
    client.command("RCPT TO:<user1@example.test>", "250 ");
    client.command("DATA", "354 ");
    client.command("Subject: x\r\n\r\n.", "250 ");
    let message = newest(&engine);
    assert!(message.contains("from client.test ([192.0.2.7])"), "{message}");
    // It is counted now, as the exempt proxy was not; another client has its own books.
    client.command("MAIL FROM:<a@else.test>", "450 4.7.1 Too many messages");
    client.command("XCLIENT ADDR=IPV6:2001:db8::9", "220 ");
    client.command("EHLO six.test", "250 ");
    client.command("MAIL FROM:<a@else.test>", "250 ");
    client.command("RSET", "250 ");
    client.command("XCLIENT ADDR=192.0.2.66 PORT=1", "554 ");
    client.command("EHLO bad.test", "503 ");
    client.command("QUIT", "221 ");
    engine.stop().unwrap();
    assert_eq!(*ended.lock().unwrap(), ["192.0.2.66:1"]);
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "127.0.0.1 ",
            "127.0.0.1 proxy.test",
            "192.0.2.7:4000 client.test",
            "192.0.2.7:4000 client.test",
            "[2001:db8::9]:0 ",
            "[2001:db8::9]:0 six.test",
            "192.0.2.66:1 ",
        ]
    );
}

#[test]
fn xclient_is_not_there_for_strangers() {
    let house = House::new();
    let engine = engine(&house, &["smtp"], &[("policy.xclient_trusted", "[\"10.0.0.0/8\"]")]);
    let mut client = Client::connect(port(&engine, "smtp"));
    assert!(client.reply()[0].starts_with("220 "));
    client.send("EHLO client.test\r\n");
    assert!(client.reply().iter().all(|line| !line.contains("XCLIENT")));
    client.command("XCLIENT ADDR=192.0.2.7", "502 ");
    client.command("MAIL FROM:<a@else.test>", "250 ");
}

/// Loopback counts as everybody else.
const COUNTED: (&str, &str) = ("policy.exempt_networks", "[]");

fn greet(engine: &Engine) -> Client {
    let mut client = Client::connect(port(engine, "smtp"));
    let greeting = client.reply().remove(0);
    assert!(greeting.starts_with("220 "), "{greeting}");
    client.command("EHLO client.example.test", "250 ");
    client
}

#[test]
fn rates_of_a_host_hold_at_the_limit_and_refuse_one_more() {
    let house = House::new();
    let settings = [
        COUNTED,
        ("policy.connections_per_minute", "3"),
        ("policy.commands_per_minute", "12"),
        ("policy.messages_per_hour", "2"),
        ("policy.recipients_per_hour", "3"),
    ];
    let engine = engine(&house, &["smtp"], &settings);
    let mut client = greet(&engine);
    for _ in 0..2 {
        client.command("MAIL FROM:<a@else.test>", "250 ");
        client.command("RSET", "250 ");
    }
    client.command("MAIL FROM:<a@else.test>", "450 4.7.1 Too many messages");
    Config::set(&OsFs::new(), &house.path(), "policy.messages_per_hour", "0").unwrap();
    engine.reload().unwrap();
    client.command("MAIL FROM:<a@else.test>", "250 ");
    for _ in 0..3 {
        client.command("RCPT TO:<user1@example.test>", "250 ");
    }
    client.command("RCPT TO:<user1@example.test>", "450 4.7.1 Too many recipients");
    // That was the eleventh command.
    client.command("NOOP", "250 ");
    client.send("NOOP\r\n");
    let words = client.reply().pop().unwrap();
    let last = if words.starts_with("250") { client.reply().pop().unwrap() } else { words };
    assert!(last.starts_with("421 4.7.0 Too many commands"), "{last}");
    assert!(client.at_end());
    let (mut second, mut third) =
        (Client::connect(port(&engine, "smtp")), Client::connect(port(&engine, "smtp")));
    assert!(second.reply()[0].starts_with("220 ") && third.reply()[0].starts_with("220 "));
    let mut fourth = Client::connect(port(&engine, "smtp"));
    assert!(fourth.reply()[0].starts_with("421 4.3.2 "));
    assert!(fourth.at_end());
    assert!(engine.stats().connections_refused >= 1);
}

#[test]
fn guessing_passwords_locks_a_host_out_until_it_is_unlocked() {
    let house = House::new();
    let settings = [COUNTED, ("policy.lockout_failures", "3"), ("policy.lockout_seconds", "0")];
    let engine = engine(&house, &["smtp", "submission", "pop3"], &settings);
    let log_in = |password: &str| {
        let mut client = Client::connect(port(&engine, "pop3"));
        assert!(client.line().unwrap().starts_with("+OK"));
        client.pop3("USER user1", "+OK");
        client.send(format!("PASS {password}\r\n"));
        client.line().unwrap()
    };
    assert!(log_in("wrong 1").starts_with("-ERR"));
    // The same again is no new guess.
    for _ in 0..5 {
        assert!(log_in("wrong 2").starts_with("-ERR"));
    }
    assert!(log_in(PASSWORD).starts_with("+OK"));
    assert!(log_in("wrong 3").starts_with("-ERR"));
    assert!(log_in(PASSWORD).starts_with("-ERR [SYS/TEMP]"));
    let mut submission = Client::connect(port(&engine, "submission"));
    assert!(submission.reply()[0].starts_with("220 "));
    submission.command("EHLO client.example.test", "250 ");
    submission.command("AUTH PLAIN AHVzZXIxAGNvcnJlY3QgaG9yc2U=", "454 4.7.0 ");
    // By SCRAM the server would tell a right guess by its signature, before anybody is asked whether it counts.
    submission.command("AUTH SCRAM-SHA-256 biwsbj11c2VyMSxyPWFiY2RlZg==", "454 4.7.0 ");
    let lockouts = engine.lockouts().unwrap();
    assert_eq!(lockouts.len(), 1);
    assert_eq!((lockouts[0].whom.as_str(), lockouts[0].left_millis), ("127.0.0.1", None));
    assert_eq!(engine.unlock("192.0.2.1").unwrap_err().kind(), Kind::NotFound);
    engine.unlock("127.0.0.1").unwrap();
    assert!(log_in(PASSWORD).starts_with("+OK"));
}

/// However the name is spelled that the directory takes for one: else each spelling had guesses of its own.
#[test]
fn guesses_at_a_name_count_together_in_all_its_spellings() {
    let house = House::new();
    let settings = [
        COUNTED,
        ("policy.lockout_failures", "0"),
        ("policy.lockout_login_failures", "3"),
        ("policy.lockout_seconds", "0"),
    ];
    let engine = engine(&house, &["pop3"], &settings);
    let log_in = |name: &str, password: &str| {
        let mut client = Client::connect(port(&engine, "pop3"));
        assert!(client.line().unwrap().starts_with("+OK"));
        let mut text = String::from("AUTH PLAIN ");
        posthouse::codec::base64::encode(format!("\0{name}\0{password}").as_bytes(), &mut text);
        client.send(text + "\r\n");
        client.line().unwrap()
    };
    for (n, name) in ["user1", "us\u{ad}er1", "u\u{ad}\u{ad}SER1"].iter().enumerate() {
        assert!(log_in(name, &format!("wrong {n}")).starts_with("-ERR [AUTH]"), "{name}");
    }
    assert!(log_in("user1", PASSWORD).starts_with("-ERR [SYS/TEMP]"));
    assert_eq!(engine.lockouts().unwrap()[0].whom, "user1");
}

#[test]
fn who_speaks_before_the_greeting_is_refused() {
    let house = House::new();
    let settings = [("policy.greeting_delay_millis", "500")];
    let engine = engine(&house, &["smtp"], &settings);
    let mut early = Client::connect(port(&engine, "smtp"));
    early.send("EHLO client.example.test\r\n");
    assert!(early.reply()[0].starts_with("554 5.5.1 "));
    assert!(early.at_end());
    greet(&engine);
    Config::set(&OsFs::new(), &house.path(), "policy.early_talkers", "note").unwrap();
    engine.reload().unwrap();
    let mut early = Client::connect(port(&engine, "smtp"));
    early.send("EHLO client.example.test\r\n");
    assert!(early.reply()[0].starts_with("220 "));
    assert!(early.reply()[0].starts_with("250-"));
}

#[test]
fn errors_are_followed_by_pauses_that_hold_nobody_else() {
    let house = House::new();
    let settings = [
        COUNTED,
        ("policy.tarpit_after", "1"),
        ("policy.tarpit_millis", "400"),
        ("policy.tarpit_most_millis", "400"),
    ];
    let engine = engine(&house, &["smtp"], &settings);
    let mut slow = greet(&engine);
    slow.command("NONSENSE", "500 ");
    slow.command("NONSENSE", "500 ");
    let began = std::time::Instant::now();
    slow.send("NOOP\r\n");
    // Others are served meanwhile.
    greet(&engine).command("QUIT", "221 ");
    assert!(slow.reply()[0].starts_with("250 "));
    assert!(began.elapsed().as_millis() >= 350, "{:?}", began.elapsed());
}

/// Says a line over a Unix socket and reads so many replies.
#[cfg(unix)]
fn say(mut stream: &std::os::unix::net::UnixStream, line: &str, replies: usize) -> Vec<String> {
    use std::io::{Read as _, Write as _};
    stream.write_all(line.as_bytes()).unwrap();
    let (mut lines, mut ends) = (Vec::new(), 0);
    while ends < replies {
        // Octet by octet, so that nothing is read ahead.
        let mut text = Vec::new();
        while !text.ends_with(b"\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            text.push(octet[0]);
        }
        ends += usize::from(text[3] == b' ');
        lines.push(String::from_utf8(text).unwrap());
    }
    lines
}

#[test]
#[cfg(unix)]
fn lmtp_is_spoken_over_a_unix_socket_whose_file_comes_and_goes() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    let house = House::new();
    house.set_up(&["smtp"]);
    let path = house.path().join("lmtp.sock");
    let address = path.display().to_string();
    configure(&house, &format!("[[listener]]\nname = \"lmtp\"\naddress = '{address}'\n"));
    // Left by an engine that died.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let engine = house.open(&["user1", "user2"], Options::default());
    engine.start().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let listening = engine.listeners();
    assert!(listening.iter().any(|l| l.config.name == "lmtp" && l.address.unix() == Some(&path)));

    let stream = UnixStream::connect(&path).unwrap();
    assert!(say(&stream, "", 1)[0].starts_with("220 "));
    assert!(say(&stream, "EHLO a.test\r\n", 1)[0].starts_with('5'));
    say(&stream, "LHLO client.example.test\r\n", 1);
    say(&stream, "MAIL FROM:<a@else.test>\r\n", 1);
    for user in ["user1", "user2"] {
        let reply = say(&stream, &format!("RCPT TO:<{user}@example.test>\r\n"), 1);
        assert!(reply[0].starts_with("250 "), "{reply:?}");
    }
    assert!(say(&stream, "DATA\r\n", 1)[0].starts_with("354 "));
    let replies = say(&stream, "Subject: x\r\n\r\n.\r\n", 2);
    assert!(replies.iter().all(|reply| reply.starts_with("250 ")), "{replies:?}");

    // Another engine does not take the place of one that serves.
    let other = House::new();
    other.set_up(&["smtp"]);
    configure(&other, &format!("[[listener]]\nname = \"lmtp\"\naddress = '{address}'\n"));
    let second = other.open(&[], Options::default());
    let error = second.start().unwrap_err();
    assert_eq!(error.kind(), Kind::AddressInUse, "{error}");
    engine.stop().unwrap();
    assert!(!path.exists());
    // Nor what is no socket.
    std::fs::write(&path, "kept").unwrap();
    let error = second.start().unwrap_err();
    assert!(error.message().contains("no socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"kept");
}
