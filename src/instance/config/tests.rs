use super::*;
use crate::policy::PlaintextLogin;
use crate::smtp::extension::Extensions;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("/i/posthouse.toml"), Path::new("/i"))
}

fn refusal(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error}");
    assert!(!error.message().contains('\n'), "{error}");
    error.message().to_owned()
}

const HEAD: &str = "hostname = \"mail.example.test\"\n";

#[test]
fn the_template_gives_the_configuration_that_it_was_made_of() {
    let mut config = Config::defaults("mail.example.test");
    config.listeners = ["smtp=127.0.0.1:2525", "pop3s=[::1]:2995", "submission=0.0.0.0:0"]
        .map(|text| parse_listener(text).unwrap())
        .to_vec();
    let tls = |name: &str| Path::new("/i").join(name);
    config.tls = Some(TlsConfig::with(tls("tls/certificate.pem"), tls("tls/key.pem")));
    for (n, number) in key::NUMBERS.iter().enumerate() {
        // Each gets a value that is its own.
        (number.set)(&mut config, number.least + 1 + n as u64);
    }
    let text = template(&config, Some(("tls/certificate.pem", "tls/key.pem")));
    let read = parse(&text).unwrap();
    assert_eq!(format!("{read:?}"), format!("{config:?}"), "{text}");
    assert!(read.warnings.is_empty());
}

#[test]
fn every_line_of_the_template_is_short_and_every_key_is_explained() {
    let text = template(&Config::defaults("mail.example.test"), None);
    assert!(parse(&text).unwrap().tls.is_none());
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines {
        assert!(line.len() <= 100, "{line}");
    }
    for number in key::NUMBERS {
        let start = format!("{} = ", number.key);
        let header = lines.iter().position(|l| *l == format!("[{}]", number.table)).unwrap();
        let at = lines.iter().skip(header).position(|l| l.starts_with(&start)).unwrap() + header;
        assert!(lines[at - 1].starts_with("# "), "{start}");
    }
}

#[test]
fn a_key_that_is_left_out_has_its_default() {
    let config = parse(HEAD).unwrap();
    let defaults = Config::defaults("mail.example.test");
    assert_eq!(format!("{config:?}"), format!("{defaults:?}"));
}

#[test]
fn every_number_is_taken_at_its_bounds_and_refused_beyond() {
    for number in key::NUMBERS {
        assert!(number.least < number.most && i64::try_from(number.most).is_ok());
        let set =
            |value: i128| parse(&format!("{HEAD}[{}]\n{} = {value}\n", number.table, number.key));
        for value in [number.least, number.most] {
            let config = set(i128::from(value)).unwrap();
            assert_eq!((number.get)(&config), value, "{}.{}", number.table, number.key);
        }
        for value in [i128::from(number.least) - 1, i128::from(number.most) + 1, -5] {
            let error = set(value).unwrap_err();
            let start = format!("/i/posthouse.toml:3: {}.{}: ", number.table, number.key);
            assert!(error.message().starts_with(&start), "{error}");
        }
        let text = format!("{HEAD}[{}]\n{} = \"x\"\n", number.table, number.key);
        assert!(refusal(&text).contains("must be a whole number"), "{text}");
    }
}

#[test]
fn paths_are_relative_to_the_instance() {
    let text = format!("{HEAD}[tls]\ncertificate = \"tls/c.pem\"\nkey = \"/etc/k.pem\"\n");
    let files = parse(&text).unwrap().tls.unwrap().certificates.remove(0);
    assert_eq!(files.certificate, Path::new("/i/tls/c.pem"));
    assert_eq!(files.key, Path::new("/etc/k.pem"));
}

#[test]
fn errors_name_file_line_and_key() {
    for (text, expected) in [
        ("", "/i/posthouse.toml: hostname: is missing"),
        ("hostname = 5\n", ":1: hostname: must be a text in quotes, not a whole number"),
        ("\n\nhostname = \"mail\"\n", ":3: hostname: \"mail\" is not fully qualified"),
        ("hostname = \"a.b\"\nsmtp = 3\n", ":2: smtp: must be a table [smtp]"),
        ("hostname = \"a.b\"\nx = \n", ":2: "),
        ("hostname = \"a.b\"\nhostname = \"a.b\"\n", ":2: "),
        ("hostname = \"a.b\"\nlistener = 1\n", ":2: listener: must be tables [[listener]]"),
        ("hostname = \"a.b\"\n[[listener]]\nname = \"smtp\"\n", ":2: listener.address: is missing"),
        (
            "hostname = \"a.b\"\n[[listener]]\naddress = \"127.0.0.1:1\"\n",
            ":2: listener.name: is missing",
        ),
        (
            "hostname = \"a.b\"\n[[listener]]\nname = \"imap\"\naddress = \"127.0.0.1:1\"\n",
            ":3: listener.name: listener \"imap\" is not one of smtp, smtps,",
        ),
        (
            "hostname = \"a.b\"\n[[listener]]\nname = \"smtp\"\naddress = \"localhost:1\"\n",
            ":4: listener.address: listener smtp: \"localhost:1\" is not an address",
        ),
        (
            "hostname = \"a.b\"\n[[listener]]\nname = \"smtps\"\naddress = \"127.0.0.1:1\"\n",
            ": listener: listener smtps needs a certificate",
        ),
        ("hostname = \"a.b\"\n[tls]\ncertificate = \"x\"\n", ":2: tls.key: is missing"),
        ("hostname = \"a.b\"\n[tls]\nkey = \"x\"\n", ":2: tls.certificate: is missing"),
        (
            "hostname = \"a.b\"\n[policy]\nplaintext_login = \"sometimes\"\n",
            ":3: policy.plaintext_login: \"sometimes\" is not one of \"never\"",
        ),
        (
            "hostname = \"a.b\"\n[submission]\nsender_rights = \"all\"\n",
            ":3: submission.sender_rights: \"all\" is not one of \"login\"",
        ),
        ("hostname = \"a.b\"\n[[route]]\nto = \"smtp:x:25\"\n", ":2: route.domain: is missing"),
        (
            "hostname = \"a.b\"\n[[route]]\ndomain = \"*\"\nto = \"mx:25\"\n",
            ":4: route.to: \"mx:25\" is none of smtp:HOST:PORT",
        ),
        (
            "hostname = \"a.b\"\n[[route]]\ndomain = \"-x\"\nto = \"smtp:x:25\"\n",
            ":3: route.domain: \"-x\" is neither a domain",
        ),
        (
            "hostname = \"a.b\"\n[[route]]\ndomain = \"*\"\nto = \"smtp:x:25\"\ntls = \"required\"\n",
            ":2: route.authorities: is missing",
        ),
        (
            "hostname = \"a.b\"\n[[route]]\ndomain = \"*\"\nto = \"smtp:x:25\"\nlogin = \"me\"\n",
            ":2: route.password: is missing",
        ),
        (
            "hostname = \"a.b\"\n[[route]]\ndomain = \"X.test\"\nto = \"smtp:x:25\"\n[[route]]\ndomain = \"x.test.\"\nto = \"lmtp:/x\"\n",
            ":5: route.domain: \"x.test\" has a route already",
        ),
        (
            "hostname = \"a.b\"\n[policy]\nrelay_networks = \"10.0.0.0/8\"\n",
            ":3: policy.relay_networks: must be a list of networks, not a text",
        ),
        (
            "hostname = \"a.b\"\n[policy]\nrelay_networks = [\n\"10.0.0.0/8\",\n\"x\"]\n",
            ":5: policy.relay_networks: ",
        ),
        (
            "hostname = \"a.b\"\n[policy]\nrelay_networks = [7]\n",
            ":3: policy.relay_networks: must hold texts",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "{text:?}: {message}");
        assert!(message.starts_with("/i/posthouse.toml:"), "{message}");
    }
}

#[test]
fn two_listeners_in_one_place_are_refused() {
    let two = |a: &str, b: &str| {
        format!(
            "{HEAD}[[listener]]\nname = \"smtp\"\naddress = \"{a}\"\n\
             [[listener]]\nname = \"pop3\"\naddress = \"{b}\"\n"
        )
    };
    for (a, b) in [
        ("127.0.0.1:2525", "127.0.0.1:2525"),
        ("0.0.0.0:2525", "127.0.0.1:2525"),
        ("[::1]:2525", "[::]:2525"),
    ] {
        let message = refusal(&two(a, b));
        assert!(message.contains(":7: listener.address: listener pop3: "), "{message}");
        assert!(message.contains("is taken by listener smtp"), "{message}");
    }
    for (a, b) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:2525", "[::1]:2525"),
        ("127.0.0.1:2525", "127.0.0.2:2525"),
    ] {
        assert_eq!(parse(&two(a, b)).unwrap().listeners.len(), 2);
    }
}

#[test]
fn unknown_keys_are_warned_of_and_host_is_not_looked_into() {
    let text = format!(
        "{HEAD}future = 1\n[host]\nx = [1, {{ y = 2 }}]\n[smtp]\nrecipient = 5\n[cluster]\na = 1\n\
         [[listener]]\nname = \"smtp\"\naddress = \"127.0.0.1:0\"\nbacklog = 5\n"
    );
    let warnings = parse(&text).unwrap().warnings;
    let expected = [
        "/i/posthouse.toml:2: future: this version does not know the key",
        "/i/posthouse.toml:6: smtp.recipient: this version does not know the key",
        "/i/posthouse.toml:7: cluster: this version does not know the key",
        "/i/posthouse.toml:12: listener.backlog: this version does not know the key",
    ];
    for line in expected {
        assert!(warnings.iter().any(|w| w == line), "{line}: {warnings:?}");
    }
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
}

#[test]
fn more_listeners_than_the_limit_are_refused() {
    let mut text = HEAD.to_owned();
    for n in 0..=LISTENERS {
        text.push_str(&format!(
            "[[listener]]\nname=\"smtp\"\naddress=\"127.0.0.1:{}\"\n",
            2000 + n
        ));
        let result = parse(&text);
        assert_eq!(result.is_ok(), n < LISTENERS, "{n}");
    }
}

const EDITED: &str = "# head\nhostname = \"mail.example.test\" # our name\n\n# a newer version's\n\
    future = { a = 1,b=2 }\n\n[smtp] # bounds\n# recipients of a message\nrecipients = 500  # many\n\
    odd   =   'kept'\n\n[host]\ncolour = \"red\"\n# tail\n";

fn edit(values: &[(&str, &str)]) -> Result<String> {
    edit::edit(EDITED, Path::new("posthouse.toml"), values)
}

#[test]
fn set_changes_the_value_and_nothing_else() {
    assert_eq!(
        edit(&[("smtp.recipients", "250")]).unwrap(),
        EDITED.replace("recipients = 500", "recipients = 250")
    );
    assert_eq!(
        edit(&[("hostname", "mx.example.test")]).unwrap(),
        EDITED.replace("\"mail.example.test\"", "\"mx.example.test\"")
    );
    assert_eq!(edit(&[("host.colour", "blue")]).unwrap(), EDITED.replace("\"red\"", "\"blue\""));
}

#[test]
fn set_adds_keys_and_tables_that_are_not_there() {
    let text = edit(&[
        ("policy.relay_networks", "[\"10.0.0.0/8\"]"),
        ("policy.plaintext_login", "never"),
        ("smtp.errors", "7"),
        ("host.window.width", "80"),
    ])
    .unwrap();
    let config = parse(&text).unwrap();
    assert_eq!(config.rules.relay_networks.len(), 1);
    assert_eq!(config.rules.plaintext_login, PlaintextLogin::Never);
    assert_eq!(config.smtp.errors, 7);
    for line in EDITED.lines() {
        assert!(text.contains(line), "{line} is lost:\n{text}");
    }
    assert!(text.contains("width = 80"), "{text}");
}

#[test]
fn set_refuses_keys_that_do_not_exist_and_values_that_are_none() {
    for key in ["", ".", "smtp", "smtp.", "smtp.recipient", "listener", "host", "a.b", "future"] {
        let error = edit(&[(key, "1")]).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{key}");
        assert!(error.message().contains("no key"), "{error}");
    }
    assert_eq!(edit(&[("smtp.errors", "= 5")]).unwrap_err().kind(), Kind::InvalidArgument);
    assert!(edit(&[("smtp.recipients.x", "1")]).is_err());
    assert!(edit(&[("host.colour.x", "1")]).is_err());
    // A value of the wrong type becomes text that reading refuses.
    assert!(parse(&edit(&[("smtp.errors", "\"x\"")]).unwrap()).is_err());
    assert!(parse(&edit(&[("smtp.errors", "0")]).unwrap()).is_err());
}

#[test]
fn listeners_are_parsed_as_on_the_command_line() {
    let listener = parse_listener("submissions=[::1]:465").unwrap();
    assert_eq!(listener.name, "submissions");
    assert_eq!(listener.protocol, Protocol::Submission);
    assert_eq!(listener.tls, TlsMode::Implicit);
    assert_eq!(listener.address.tcp(), Some("[::1]:465".parse().unwrap()));
    for (text, kind) in [
        ("smtp", Kind::InvalidArgument),
        ("imap=127.0.0.1:1", Kind::InvalidArgument),
        ("smtp=127.0.0.1", Kind::AddressInvalid),
        ("smtp=127.0.0.1:65536", Kind::AddressInvalid),
        ("smtp=mail.example.test:25", Kind::AddressInvalid),
        ("smtp=", Kind::AddressInvalid),
    ] {
        assert_eq!(parse_listener(text).unwrap_err().kind(), kind, "{text}");
    }
}

#[test]
fn extensions_are_names_out_of_a_list() {
    let extensions = |list: &str| parse(&format!("{HEAD}[smtp]\nextensions = {list}\n"));
    assert_eq!(parse(HEAD).unwrap().extensions, Extensions::default());
    let names = extensions("[\"dsn\", \"8BITMIME\"]").unwrap().extensions.names();
    assert_eq!(names, ["8BITMIME", "DSN"]);
    assert_eq!(extensions("[]").unwrap().extensions, Extensions::NONE);
    for (list, what) in [
        ("\"DSN\"", "must be a list of extensions, not a text"),
        ("[\"DSN\", \"TURN\"]", "must hold names out of 8BITMIME, "),
        ("[1]", "must hold names out of"),
    ] {
        let error = extensions(list).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let place = format!("/i/posthouse.toml:3: smtp.extensions: {what}");
        assert!(error.message().starts_with(&place), "{error}");
    }
    let set = edit(&[("smtp.extensions", "[\"SMTPUTF8\"]")]).unwrap();
    assert_eq!(parse(&set).unwrap().extensions.names(), ["SMTPUTF8"]);
}

#[test]
fn mechanisms_are_names_out_of_a_list() {
    use crate::sasl::Mechanisms;
    let mechanisms = |list: &str| parse(&format!("{HEAD}[auth]\nmechanisms = {list}\n"));
    assert_eq!(parse(HEAD).unwrap().mechanisms, Mechanisms::DEFAULT);
    assert_eq!(
        mechanisms("[\"plain\", \"CRAM-MD5\"]").unwrap().mechanisms.names(),
        "PLAIN CRAM-MD5"
    );
    assert!(mechanisms("[]").unwrap().mechanisms.is_empty());
    for (list, what) in [
        ("\"PLAIN\"", "must be a list of mechanisms, not a text"),
        ("[\"PLAIN\", \"GSSAPI\"]", "must hold names out of SCRAM-SHA-256-PLUS, "),
        ("[1]", "must hold names out of"),
    ] {
        let error = mechanisms(list).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let (place, what) = ("/i/posthouse.toml:3: auth.mechanisms: ", what);
        assert!(error.message().starts_with(&format!("{place}{what}")), "{error}");
    }
    let warned = parse(&format!("{HEAD}[auth]\nmechanism = 1\n")).unwrap().warnings;
    assert!(warned[0].contains("auth.mechanism: this version does not know"), "{warned:?}");
    let set = edit(&[("auth.mechanisms", "[\"SCRAM-SHA-256\"]")]).unwrap();
    assert_eq!(parse(&set).unwrap().mechanisms.names(), "SCRAM-SHA-256");
}

#[test]
fn lmtp_listens_on_a_port_or_a_path_and_never_on_port_25() {
    let tcp = parse_listener("lmtp=127.0.0.1:24").unwrap();
    assert_eq!((tcp.protocol, tcp.address.to_string().as_str()), (Protocol::Lmtp, "127.0.0.1:24"));
    for address in ["127.0.0.1:25", "[::]:25"] {
        let error = parse_listener(&format!("lmtp={address}")).unwrap_err();
        assert_eq!(error.kind(), Kind::AddressInvalid);
        assert!(error.message().contains("port 25 is SMTP's"), "{error}");
    }
    assert!(parse_listener("lmtp=run/lmtp").is_err());
    assert!(parse_listener("smtp=/run/smtp").is_err());
    if cfg!(unix) {
        let path = parse_listener("lmtp=/run/lmtp").unwrap();
        assert_eq!(path.address.unix(), Some(Path::new("/run/lmtp")));
        assert!(check_listeners(&[path.clone(), path.clone()], true).is_err());
        assert!(check_listeners(&[path, tcp], true).is_ok());
    } else {
        let error = parse_listener("lmtp=/run/lmtp").unwrap_err();
        assert!(error.message().contains("no Unix sockets"), "{error}");
    }
}

#[test]
fn tls_takes_more_certificates_and_demands() {
    let text = format!(
        "{HEAD}[tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\nmin_version = \"1.3\"\n\
         client_certificate = \"require\"\nclient_ca = \"ca.pem\"\n\
         [[tls.certificates]]\ncertificate = \"b.pem\"\nkey = \"b.key\"\n"
    );
    let tls = parse(&text).unwrap().tls.unwrap();
    let files = |name: &str| CertificateFiles {
        certificate: format!("/i/{name}.pem").into(),
        key: format!("/i/{name}.key").into(),
    };
    let expected = TlsConfig {
        certificates: vec![files("a"), files("b")],
        min_version: crate::policy::TlsVersion::Tls13,
        client_certificate: ClientCertificate::Require,
        client_ca: Some("/i/ca.pem".into()),
    };
    assert_eq!(tls, expected);
    for (text, expected) in [
        ("min_version = \"1.1\"", ":3: tls.min_version: \"1.1\" is not one of \"1.2\", \"1.3\""),
        ("client_certificate = \"request\"", "tls.client_ca: is missing"),
        ("certificates = 5", "tls.certificates: must be tables [[tls.certificates]]"),
        ("[[tls.certificates]]\nkey = \"k\"", "tls.certificates.certificate: is missing"),
        ("[[tls.certificates]]\n", "tls.certificates.certificate: is missing"),
    ] {
        let refused = refusal(&format!("{HEAD}[tls]\n{text}\n"));
        assert!(refused.contains(expected), "{text}: {refused}");
    }
}

#[test]
fn certificates_are_bounded() {
    let one = "[[tls.certificates]]\ncertificate = \"c\"\nkey = \"k\"\n";
    let text = |count: usize| format!("{HEAD}{}", one.repeat(count));
    let read = parse(&text(tls::CERTIFICATES)).unwrap().tls.unwrap();
    assert_eq!(read.certificates.len(), tls::CERTIFICATES);
    assert!(refusal(&text(tls::CERTIFICATES + 1)).contains("tls.certificates: more than 1000"));
}

#[test]
fn networks_of_the_defences_are_read() {
    let config = parse(&format!(
        "{HEAD}[policy]\nexempt_networks = []\nproxy_trusted = [\"10.0.0.0/8\"]\n\
         xclient_trusted = [\"10.0.0.1\"]\nearly_talkers = \"note\"\n"
    ))
    .unwrap();
    let rules = config.rules;
    let ip = |text: &str| text.parse().unwrap();
    assert!(rules.defence.exempt.is_empty() && !rules.refuse_early_talkers);
    assert!(rules.is_proxy(ip("10.1.1.1")) && !rules.is_proxy(ip("11.1.1.1")));
    assert!(rules.may_forward(ip("10.0.0.1")) && !rules.may_forward(ip("10.0.0.2")));
}
