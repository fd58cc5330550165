//! The examples run: mail servers in C and in Rust take the same mail from smtplib and from their own submission and
//! give it back to poplib octet by octet; sinks in C and in Rust take mail on sockets of their own, and
//! senders in C and in Rust bring it to them.

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
