//! The file that set-up writes: every key with its value and what it means.

use std::fmt::Write;

use super::key::NUMBERS;
use super::{ClientCertificate, Config};
use crate::policy::{Network, TlsVersion};

/// The text of a new `posthouse.toml`. `tls`: certificate and key as they stand in the file.
pub fn template(config: &Config, tls: Option<(&str, &str)>) -> String {
    let mut out = String::with_capacity(12_000);
    // Writing to a String cannot fail.
    let _ = write(&mut out, config, tls);
    out
}

fn write(out: &mut String, config: &Config, tls: Option<(&str, &str)>) -> std::fmt::Result {
    out.push_str(
        "# Configuration of a Posthouse instance (TOML). Changes hold from the next start.\n\
         # A key that is left out has the value that a fresh set-up writes.\n\
         # Paths are relative to the directory of this file.\n\n",
    );
    out.push_str(
        "# Our name: a fully qualified host name. It stands in greetings and trace headers.\n",
    );
    writeln!(out, "hostname = {}\n", quoted(&config.hostname))?;
    out.push_str(
        "# Where to listen. One table for each listener.\n\
         #   name     smtp         mail from other servers; TLS on request (STARTTLS), port 25\n\
         #            smtps        the same with TLS from the first byte\n\
         #            submission   mail from users' programs, who must log in; STARTTLS, port 587\n\
         #            submissions  the same with TLS from the first byte, port 465\n\
         #            lmtp         mail from another server of yours that has a queue; not port 25\n\
         #            pop3         mailboxes; TLS on request (STLS), port 110\n\
         #            pop3s        the same with TLS from the first byte, port 995\n\
         #   address  ADDRESS:PORT or [IPV6]:PORT; 0.0.0.0 and [::] are all addresses of the machine,\n\
         #            port 0 is any free one; for lmtp also the path of a Unix socket (mode 0660)\n",
    );
    if config.listeners.is_empty() {
        out.push('\n');
    }
    for listener in &config.listeners {
        writeln!(out, "[[listener]]")?;
        writeln!(out, "name = {}", quoted(listener.name))?;
        writeln!(out, "address = {}\n", quoted(&listener.address.to_string()))?;
    }
    out.push_str(
        "# Certificate chain (the server's own first) and private key, PEM files. Without them no TLS\n\
         # is offered.\n[tls]\n",
    );
    match tls {
        Some((certificate, key)) => {
            writeln!(out, "certificate = {}", quoted(certificate))?;
            writeln!(out, "key = {}", quoted(key))?;
        }
        None => out.push_str(
            "# certificate = \"tls/certificate.pem\"\n\
             # key = \"tls/key.pem\"\n",
        ),
    }
    tls_settings(out, config)?;
    out.push_str(
        "\n# Where mail for other servers goes, one table for each domain. Without one it waits in the queue.\n\
         #   domain       the recipients' domain, or \"*\" for all that have no table of their own\n\
         #   to           smtp:HOST:PORT, lmtp:HOST:PORT or lmtp:/PATH of a socket\n\
         #   tls          \"opportunistic\" (when it is offered; the default), \"required\" or \"none\"\n\
         #   authorities  PEM file of who may vouch for HOST; needed with tls = \"required\"\n\
         #   login, password  log in with these; under TLS, unless tls = \"none\"\n\
         # [[route]]\n# domain = \"*\"\n# to = \"smtp:relay.example.net:587\"\n",
    );
    out.push_str("\n# When deliveries are repeated.\n[delivery]\n");
    numbers(out, config, "delivery")?;
    out.push_str("\n# What is allowed.\n[policy]\n");
    out.push_str(
        "# Networks whose machines may send to everywhere without logging in, such as\n\
         # [\"192.168.1.0/24\", \"2001:db8::/32\"].\n",
    );
    networks(out, "relay_networks", &config.rules.relay_networks)?;
    out.push_str(
        "# When a client may log in without TLS: \"never\", \"loopback\" (from this machine only) or\n\
         # \"always\" (passwords cross the network in clear).\n",
    );
    let login = match config.rules.plaintext_login {
        crate::policy::PlaintextLogin::Never => "never",
        crate::policy::PlaintextLogin::Loopback => "loopback",
        crate::policy::PlaintextLogin::Always => "always",
    };
    writeln!(out, "plaintext_login = {}", quoted(login))?;
    out.push_str(
        "# Networks whose machines are not counted, slowed or locked out by what follows.\n",
    );
    networks(out, "exempt_networks", &config.rules.defence.exempt)?;
    out.push_str(
        "# Networks of proxies. A connection from there must begin with a PROXY header (version 1 or 2),\n\
         # which says for whom it is; from elsewhere such a header is nothing special.\n",
    );
    networks(out, "proxy_trusted", &config.rules.proxy_trusted)?;
    out.push_str(
        "# Networks whose machines may say for whom they speak with XCLIENT (ADDR, PORT, HELO; not LOGIN:\n\
         # clients log in with a password). They keep their own clients from sending XCLIENT.\n",
    );
    networks(out, "xclient_trusted", &config.rules.xclient_trusted)?;
    out.push_str(
        "# A client that speaks before it was greeted: \"refuse\" (554) or \"note\" (a line in the log).\n",
    );
    let early = if config.rules.refuse_early_talkers { "refuse" } else { "note" };
    writeln!(out, "early_talkers = {}", quoted(early))?;
    numbers(out, config, "policy")?;
    out.push_str(
        "\n# How clients log in.\n[auth]\n\
         # Mechanisms that are offered. SCRAM-SHA-256 shows no password; with -PLUS it is tied to the TLS\n\
         # channel (TLS 1.3). Accounts of old instances can use it after their next login by PLAIN or\n\
         # LOGIN. CRAM-MD5 is for old clients only: passwords that are set while it stands here are also\n\
         # kept in a form that is enough to log in with it, should somebody steal the files, until they\n\
         # are set again without it. OAUTHBEARER and XOAUTH2 are offered when the program around the\n\
         # engine verifies tokens.\n",
    );
    let mechanisms: Vec<String> = config.mechanisms.iter().map(|m| quoted(m.name())).collect();
    writeln!(out, "mechanisms = [{}]", mechanisms.join(", "))?;
    out.push_str(
        "\n# SMTP, submission and LMTP: what is offered, and bounds.\n[smtp]\n\
         # Extensions beside PIPELINING, SIZE, STARTTLS and AUTH, out of 8BITMIME, SMTPUTF8, CHUNKING,\n\
         # BINARYMIME, DSN, REQUIRETLS, DELIVERBY, FUTURERELEASE (submission), MT-PRIORITY, LIMITS, VRFY (252\n\
         # to everything), ETRN, HELP. Those from DSN to MT-PRIORITY are kept with a message and passed on by\n\
         # routes; this version sends no notifications of its own. ETRN is done for those who may relay.\n",
    );
    let extensions: Vec<String> = config.extensions.names().into_iter().map(quoted).collect();
    writeln!(out, "extensions = [{}]", extensions.join(", "))?;
    numbers(out, config, "smtp")?;
    out.push_str(
        "\n# Mail from users' programs (submission), and from whoever has logged in elsewhere.\n[submission]\n\
         # In whose name an account may send: \"login\" (any), \"envelope\" (the reverse-path must be one of its\n\
         # addresses or aliases) or \"header\" (From, Sender, Resent-From and Resent-Sender too).\n",
    );
    let rights = match config.rules.sender_rights {
        crate::policy::SenderRights::Login => "login",
        crate::policy::SenderRights::Envelope => "envelope",
        crate::policy::SenderRights::Header => "header",
    };
    writeln!(out, "sender_rights = {}", quoted(rights))?;
    out.push_str("\n# Bounds of POP3 sessions.\n[pop3]\n");
    numbers(out, config, "pop3")?;
    out.push_str("\n# The files with the mail.\n[store]\n");
    numbers(out, config, "store")?;
    out.push_str("\n# The engine as a whole.\n[engine]\n");
    numbers(out, config, "engine")?;
    out.push_str(
        "\n# Settings of the program around the engine. The engine keeps them and does not read them.\n\
         [host]\n",
    );
    Ok(())
}

fn tls_settings(out: &mut String, config: &Config) -> std::fmt::Result {
    out.push_str("# The lowest version that is spoken: \"1.2\" or \"1.3\".\n");
    let tls = config.tls.as_ref();
    let version = match tls.map_or(TlsVersion::default(), |tls| tls.min_version) {
        TlsVersion::Tls12 => "1.2",
        TlsVersion::Tls13 => "1.3",
    };
    writeln!(out, "min_version = {}", quoted(version))?;
    out.push_str(
        "# Whether clients are asked for a certificate: \"none\" (no), \"request\" (one that the file\n\
         # client_ca vouches for gives a client its name) or \"require\" (there is no TLS without one).\n",
    );
    let asked = match tls.map_or(ClientCertificate::None, |tls| tls.client_certificate) {
        ClientCertificate::None => "none",
        ClientCertificate::Request => "request",
        ClientCertificate::Require => "require",
    };
    writeln!(out, "client_certificate = {}", quoted(asked))?;
    match tls.and_then(|tls| tls.client_ca.as_ref()) {
        Some(path) => writeln!(out, "client_ca = {}", quoted(&path.display().to_string()))?,
        None => out.push_str("# client_ca = \"tls/clients.pem\"\n"),
    }
    out.push_str(
        "# More certificates, one table for each. A client gets the one that has the name it asks for, and\n\
         # the first of all when none has. Changed files are read by `posthouse reload`.\n\
         # [[tls.certificates]]\n\
         # certificate = \"tls/other.pem\"\n\
         # key = \"tls/other-key.pem\"\n",
    );
    Ok(())
}

fn networks(out: &mut String, key: &str, list: &[Network]) -> std::fmt::Result {
    let networks: Vec<String> = list.iter().map(|n| quoted(&n.to_string())).collect();
    writeln!(out, "{key} = [{}]", networks.join(", "))
}

fn numbers(out: &mut String, config: &Config, table: &str) -> std::fmt::Result {
    for number in NUMBERS.iter().filter(|number| number.table == table) {
        for line in number.about {
            writeln!(out, "# {line}")?;
        }
        writeln!(out, "{} = {}", number.key, (number.get)(config))?;
    }
    Ok(())
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}
