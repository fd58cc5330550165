//! The examples run: mail servers in C and in Rust take the same mail from smtplib and from their own submission and
//! give it back to poplib octet by octet; sinks in C and in Rust take mail on sockets of their own, and
//! senders in C and in Rust bring it to them; servers with rules of their own, in C and in Rust, refuse by them.

#![allow(clippy::disallowed_methods, missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

#[path = "support/c.rs"]
mod c;

/// An example of ours in Rust, which cargo makes together with the tests.
fn rust_example(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("test program");
    let target = program.ancestors().nth(2).expect("target directory").to_owned();
    let example = target.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    // `cargo test --test NAME` makes no examples: an old one would tell of an old library.
    let made = |path: PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    if made(example.clone()) < made(target.join("deps/libposthouse.rlib")) {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--example", name, "--target-dir"]);
        build.arg(target.parent().expect("target directory")).current_dir(c::root());
        if cfg!(feature = "cli") {
            build.args(["--features", "cli"]);
        }
        if target.ends_with("release") {
            build.arg("--release");
        }
        c::run(&mut build);
    }
    example
}

/// An example of ours in C.
fn c_example(name: &str, compiler: &str, link: c::Link) -> Option<PathBuf> {
    if !c::have(compiler) {
        return None;
    }
    let binary = c::scratch(&format!("{name}-{compiler}")).join(name);
    let source = c::root().join(format!("examples/{name}.c"));
    c::build(compiler, &["-std=c99", "-O1"], &[source], link, &binary);
    Some(binary)
}

fn round_trip(server: &PathBuf, options: &[&str]) {
    if !c::have("python3") {
        return;
    }
    c::run(
        Command::new("python3")
            .arg("-B")
            .arg(c::root().join("tests/interop/roundtrip.py"))
            .args(options)
            .arg("--command")
            .arg(server),
    );
}

#[test]
fn mail_server_in_c_gives_back_what_it_took() {
    if let Some(server) = c_example("mail_server", "gcc", c::Link::Shared) {
        round_trip(&server, &["--full"]);
    }
}

#[test]
fn mail_server_in_c_bound_statically_gives_back_what_it_took() {
    if let Some(server) = c_example("mail_server", "clang", c::Link::Static) {
        round_trip(&server, &[]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn mail_server_on_sockets_of_its_host_in_c_gives_back_what_it_took() {
    if let Some(server) = c_example("own_sockets", "gcc", c::Link::Shared) {
        round_trip(&server, &["--full"]);
    }
}

#[test]
fn mail_server_in_rust_gives_back_what_it_took() {
    round_trip(&rust_example("mail_server"), &[]);
}

/// A running example that ends when its input is closed, also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn takes_mail(sink: &PathBuf) {
    let mut sink = Running(
        Command::new(sink)
            .arg("0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sink starts"),
    );
    let mut said = BufReader::new(sink.0.stdout.take().expect("its output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("ready");
    let address = line.trim().strip_prefix("ready smtp=").expect("ready").to_owned();

    // Two at once, the first in the middle of a transaction while the second sends.
    let mut slow = TcpStream::connect(&address).expect("connect");
    slow.write_all(b"EHLO slow.example\r\nMAIL FROM:<a@b.example>\r\n").expect("write");
    let mut quick = TcpStream::connect(&address).expect("connect");
    let body = "x".repeat(70).repeat(1000);
    let body: String =
        body.as_bytes().chunks(70).map(|l| String::from_utf8_lossy(l) + "\r\n").collect();
    write!(
        quick,
        "EHLO quick.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n{body}.\r\nQUIT\r\n"
    )
    .expect("write");
    let mut wire = String::new();
    quick.read_to_string(&mut wire).expect("replies");
    let codes: Vec<&str> = wire
        .lines()
        .filter(|l| l.as_bytes().get(3) == Some(&b' '))
        .filter_map(|l| l.get(..3))
        .collect();
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"], "{wire}");
    line.clear();
    said.read_line(&mut line).expect("a line for the message");
    assert_eq!(line.trim(), format!("message of {} octets", body.len()));
    slow.write_all(b"RCPT TO:<c@d.example>\r\nBDAT 3 LAST\r\nhi\nQUIT\r\n").expect("write");
    wire.clear();
    slow.read_to_string(&mut wire).expect("replies");
    assert!(wire.contains("\r\n221 "), "{wire}");
}

#[test]
fn sink_in_c_takes_mail() {
    if let Some(sink) = c_example("smtp_sink", "gcc", c::Link::Shared) {
        takes_mail(&sink);
    }
}

#[test]
fn sink_in_rust_takes_mail() {
    takes_mail(&rust_example("smtp_sink"));
}

/// Starts a sink, sends a file to two recipients with `sender`, then to a server that is not there.
fn sends_mail(sender: &PathBuf, name: &str) {
    let mut sink = Running(
        Command::new(rust_example("smtp_sink"))
            .arg("0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sink starts"),
    );
    let mut said = BufReader::new(sink.0.stdout.take().expect("its output"));
    let mut line = String::new();
    said.read_line(&mut line).expect("ready");
    let address = line.trim().strip_prefix("ready smtp=").expect("ready").to_owned();
    let (host, port) = address.split_once(':').expect("a port");
    let file = c::scratch(name).join("message.eml");
    // Its lines end with LF, one begins with a dot, the last has no end; it is longer than one chunk.
    let text = "Subject: one\n\n.dot\n".to_owned() + &"x".repeat(3000).repeat(100);
    std::fs::write(&file, &text).expect("a file");
    let send = |port: &str, to: &str| {
        let mut command = Command::new(sender);
        command.args([host, port, "a@b.example", to]).arg(&file).output().expect("it runs")
    };
    let output = send(port, "c@d.example,e@f.example");
    let told = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(output.status.success(), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].starts_with("c@d.example: delivered: 250 2.0.0"), "{told}");
    assert!(lines[1].starts_with("e@f.example: delivered: 250 2.0.0"), "{told}");
    line.clear();
    said.read_line(&mut line).expect("a line for the message");
    let octets = text.len() + 3 + 2;
    assert_eq!(line.trim(), format!("message of {octets} octets"));
    drop(sink);
    let output = send(port, "c@d.example");
    assert!(!output.status.success(), "there is nobody");
}

#[test]
fn sender_in_c_sends_mail() {
    if let Some(sender) = c_example("smtp_send", "gcc", c::Link::Shared) {
        sends_mail(&sender, "send-c");
    }
}

#[test]
fn sender_in_rust_sends_mail() {
    sends_mail(&rust_example("smtp_send"), "send-rust");
}

/// A conversation by lines: each of `turns` is said, and its answer's last line begins as told.
fn converse(stream: &mut BufReader<TcpStream>, turns: &[(&str, &str)]) {
    for (said, answer) in turns {
        stream.get_mut().write_all(said.as_bytes()).expect("write");
        let mut line = String::new();
        while line.as_bytes().get(3) != Some(&b' ') {
            line.clear();
            assert!(stream.read_line(&mut line).expect("a reply") > 0, "closed after {said}");
        }
        assert!(line.starts_with(answer), "{said:?} was answered {line:?}, not {answer:?}");
    }
}

/// Tries every rule of an example that judges.
fn judges(server: &PathBuf, name: &str) {
    let directory = c::scratch(name).join("instance");
    let mut server = Running(
        Command::new(server)
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts"),
    );
    let mut told = BufReader::new(server.0.stdout.take().expect("its output")).lines();
    let mut told = || told.next().expect("a line").expect("a line");
    let ready = told();
    let address = |service: &str| {
        let of = |word: &str| Some(word.strip_prefix(service)?.strip_prefix('=')?.to_owned());
        ready.split(' ').find_map(of).expect("its address")
    };
    let connect = |service| {
        let stream = TcpStream::connect(address(service)).expect("connect");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a limit");
        BufReader::new(stream)
    };
    let large = "x".repeat(62) + "\r\n";
    let large = large.repeat(1025) + ".\r\n";
    let mut peer = connect("smtp");
    converse(
        &mut peer,
        &[
            ("", "220 "),
            ("EHLO client.example\r\n", "250 "),
            ("MAIL FROM:<a@Spam.Example>\r\n", "550 5.7.1 We take nothing from this domain"),
            ("MAIL FROM:<a@b.example>\r\n", "250 "),
            ("RCPT TO:<full@example.test>\r\n", "452 4.2.2 This mailbox is full"),
            ("RCPT TO:<user1@example.test>\r\n", "250 "),
            ("DATA\r\n", "354 "),
            (&large, "552 5.3.4 Larger than 65536 octets"),
            ("MAIL FROM:<a@b.example>\r\nRCPT TO:<user1@example.test>\r\n", "250 "),
            ("DATA\r\n", "250 "),
            ("", "354 "),
            ("Subject: small\r\n\r\nhello\r\n.\r\n", "250 2.0.0"),
            ("QUIT\r\n", "221 "),
        ],
    );
    assert_eq!(told(), "full full@example.test");
    assert_eq!(told(), "room user1@example.test");
    assert_eq!(told(), "room user1@example.test");
    let bearer = |token: &str| {
        let mut text = String::from("AUTH OAUTHBEARER ");
        let said = format!("n,a=user1@example.test,\u{1}auth=Bearer {token}\u{1}\u{1}");
        posthouse::codec::base64::encode(said.as_bytes(), &mut text);
        text + "\r\n"
    };
    let mut user = connect("submission");
    converse(
        &mut user,
        &[
            ("", "220 "),
            ("EHLO [127.0.0.1]\r\n", "250 "),
            (&bearer("dXNlcjE6b3BlbiBzZXNhbWI"), "334 "),
            ("AQ==\r\n", "535 "),
            (&bearer("dXNlcjE6b3BlbiBzZXNhbW"), "334 "),
            ("AQ==\r\n", "535 "),
            (&bearer("dXNlcjE6b3BlbiBzZXNhbWU"), "235 "),
            ("MAIL FROM:<user1@example.test>\r\n", "250 "),
            ("QUIT\r\n", "221 "),
        ],
    );
    #[cfg(target_os = "linux")]
    if c::have("python3") {
        let from_elsewhere = "import socket, sys\n\
            host, port = sys.argv[1].split(':')\n\
            s = socket.create_connection((host, int(port)), 20, ('127.0.0.2', 0))\n\
            print(s.makefile().readline())";
        let said = c::run(Command::new("python3").args(["-c", from_elsewhere, &address("smtp")]));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains(" We do not speak with this address"), "{said}");
        assert!(said.starts_with("554 "), "{said}");
    }
}

#[test]
fn server_with_rules_in_c_refuses_by_them() {
    if let Some(server) = c_example("policy", "gcc", c::Link::Shared) {
        judges(&server, "policy-c");
    }
}

#[test]
fn server_with_rules_in_rust_refuses_by_them() {
    judges(&rust_example("policy"), "policy-rust");
}
