//! The `posthouse` program as a person uses it: the life of an instance, and the errors.
#![cfg(all(unix, feature = "cli"))]
#![allow(clippy::disallowed_methods)] // a test of programs has files, sockets and processes

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory that is gone when dropped.
struct Home(PathBuf);

impl Home {
    fn new() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("posthouse-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("password"), "correct horse\n").unwrap();
        Home(path)
    }

    fn instance(&self) -> String {
        self.0.join("instance").display().to_string()
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Makes an instance with these listeners.
    fn set_up(&self, listeners: &[&str]) {
        let mut args = self.setup_args();
        args.push("--tls-self-signed".to_owned());
        for listener in listeners {
            args.extend(["--listen".to_owned(), (*listener).to_owned()]);
        }
        succeed(&args);
    }

    fn setup_args(&self) -> Vec<String> {
        let (instance, password) = (self.instance(), self.file("password"));
        words(&[
            "setup",
            "--instance",
            &instance,
            "--hostname",
            "mail.example.test",
            "--domain",
            "example.test",
            "--postmaster-password-file",
            &password,
        ])
    }

    /// A subcommand on this instance.
    fn on(&self, command: &str, rest: &[&str]) -> Vec<String> {
        let mut args = words(&command.split(' ').collect::<Vec<_>>());
        args.extend(["--instance".to_owned(), self.instance()]);
        args.extend(words(rest));
        args
    }

    fn add_account(&self, name: &str) {
        let (address, password) = (format!("{name}@example.test"), self.file("password"));
        succeed(&self.on(
            "account add",
            &["--address", &address, "--login", name, "--password-file", &password],
        ));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_posthouse"))
}

fn output(args: &[String]) -> Output {
    program().args(args).stdin(Stdio::null()).output().unwrap()
}

/// Runs the program; it must succeed and say nothing on standard error.
#[track_caller]
fn succeed(args: &[String]) -> String {
    let output = output(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {error}");
    assert_eq!(error, "", "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program; it must fail with this code and exactly one line. The line without its beginning.
#[track_caller]
fn fail(args: &[String], code: i32) -> String {
    let output = output(args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{args:?}");
    assert_eq!(error.matches('\n').count(), 1, "{args:?}: {error:?}");
    error.strip_prefix("posthouse: ").unwrap_or_else(|| panic!("{error:?}")).trim_end().to_owned()
}

/// Every path below a directory with its bytes.
fn picture(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                all.push((path.clone(), None));
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                all.push((path, Some(bytes)));
            }
        }
    }
    all.sort();
    all
}

/// As [`fail`], and nothing may change on disk.
#[track_caller]
fn fail_without_a_trace(home: &Home, args: &[String]) -> String {
    let before = picture(&home.0);
    let line = fail(args, 1);
    let after = picture(&home.0);
    let names = |all: &[(PathBuf, Option<Vec<u8>>)]| {
        all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&before), names(&after), "{args:?}");
    for (old, new) in before.iter().zip(&after) {
        assert!(old == new, "{args:?}: {} changed", old.0.display());
    }
    line
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    ready: Vec<(String, SocketAddr)>,
}

impl Server {
    fn start(home: &Home) -> Server {
        let mut child = program()
            .args(home.on("serve", &[]))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mut parts = line.split_whitespace();
        if parts.next() != Some("ready") {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("not ready: {line:?} {error}");
        }
        let ready = parts
            .map(|part| {
                let (name, address) = part.split_once('=').unwrap();
                (name.to_owned(), address.parse().unwrap())
            })
            .collect();
        Server { child, ready }
    }

    fn address(&self, name: &str) -> SocketAddr {
        self.ready.iter().find(|(known, _)| known == name).unwrap().1
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for the end; exit code and what was logged.
    fn end(mut self) -> (Option<i32>, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a message, as this login when there is one.
fn send(address: SocketAddr, login: Option<&str>, from: &str, to: &[&str], subject: &str) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut expect = |code: &str| loop {
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        if line.get(3..4) != Some("-") {
            assert!(line.starts_with(code), "{line}");
            break;
        }
    };
    expect("220");
    stream.write_all(b"EHLO client.example.test\r\n").unwrap();
    expect("250");
    if let Some(login) = login {
        use base64::Engine as _;
        let response = format!("\0{login}\0correct horse");
        let response = base64::engine::general_purpose::STANDARD.encode(response);
        stream.write_all(format!("AUTH PLAIN {response}\r\n").as_bytes()).unwrap();
        expect("235");
    }
    stream.write_all(format!("MAIL FROM:<{from}>\r\n").as_bytes()).unwrap();
    expect("250");
    for to in to {
        stream.write_all(format!("RCPT TO:<{to}>\r\n").as_bytes()).unwrap();
        expect("250");
    }
    stream.write_all(b"DATA\r\n").unwrap();
    expect("354");
    let message = format!("From: <{from}>\r\nSubject: {subject}\r\n\r\nHello.\r\n.\r\nQUIT\r\n");
    stream.write_all(message.as_bytes()).unwrap();
    expect("250");
    expect("221");
}

const ANY: [&str; 3] = ["smtp=127.0.0.1:0", "submission=127.0.0.1:0", "pop3=127.0.0.1:0"];

#[test]
fn an_instance_lives_from_set_up_to_the_last_stop() {
    let home = Home::new();
    home.set_up(&ANY);
    home.add_account("user1");
    let accounts = succeed(&home.on("account list", &[]));
    assert!(
        accounts.contains("postmaster@example.test") && accounts.contains("user1"),
        "{accounts}"
    );

    let server = Server::start(&home);
    assert_eq!(server.ready.len(), 3);
    // Online: everything through the running server.
    home.add_account("user2");
    assert!(succeed(&home.on("account list", &[])).contains("user2@example.test"));
    succeed(&home.on(
        "alias add",
        &[
            "--address",
            "team@example.test",
            "--to",
            "user1@example.test",
            "--to",
            "user2@example.test",
        ],
    ));
    assert!(succeed(&home.on("alias list", &[])).contains("team@example.test"));
    send(server.address("smtp"), None, "x@elsewhere.example", &["team@example.test"], "to both");
    send(
        server.address("submission"),
        Some("user1"),
        "user1@example.test",
        &["friend@elsewhere.example", "user2@example.test"],
        "=?utf-8?q?gr=C3=BC=C3=9Fe?=",
    );
    let look = |online: bool| {
        let first = succeed(&home.on("mailbox list", &["--account", "user1@example.test"]));
        assert!(first.contains("INBOX: 1 message,") && first.contains("to both"), "{first}");
        let second = succeed(&home.on("mailbox list", &["--account", "user2@example.test"]));
        assert!(second.contains("INBOX: 2 messages,"), "{online} {second}");
        assert!(second.contains("gr\u{fc}\u{df}e") && second.contains("x@elsewhere.example"));
        let queue = succeed(&home.on("queue list", &[]));
        assert!(queue.contains("<friend@elsewhere.example>"), "{queue}");
        assert!(queue.ends_with("1 entry in the queue\n"), "{queue}");
        let check = succeed(&home.on("check", &[]));
        assert!(check.ends_with("all is well\n"), "{check}");
        let compact = succeed(&home.on("compact", &[]));
        assert!(compact.contains(" freed with "), "{compact}");
        let status = succeed(&home.on("status", &[]));
        let serving = if online { "serving      yes\n" } else { "serving      no" };
        let well = if online { "All is well: mail is taken.\n" } else { "nothing is served.\n" };
        assert!(status.starts_with(serving) && status.ends_with(well), "{status}");
        for line in ["lane 0       can be written\n", "space        ample: ", " of it live\n"] {
            assert!(status.contains(line), "{line}: {status}");
        }
        let status = succeed(&home.on("status", &["--json"]));
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["serving"], online);
        assert!(status["live_bytes"].as_u64().unwrap() > 0, "{status}");
        let scrub = succeed(&home.on("scrub", &[]));
        assert!(scrub.ends_with(" 0 corrected\n"), "{scrub}");
        queue.lines().nth(1).unwrap().split(' ').next().unwrap().to_owned()
    };
    let id = look(true);
    let shown = succeed(&home.on("queue show", &[&id]));
    assert!(shown.contains("to        <friend@elsewhere.example> remote"), "{shown}");
    assert!(!shown.contains("user2"), "{shown}");
    assert!(
        fail(&home.on("account remove", &["--address", "postmaster@example.test"]), 1)
            .contains("postmaster")
    );
    assert!(fail(&home.on("serve", &[]), 1).contains("a server runs on"));
    assert!(fail(&home.on("repair", &[]), 1).contains("is in use by"));

    server.signal("-TERM");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGTERM"), "{log}");
    assert!(!home.0.join("instance/control").exists());

    let repaired = succeed(&home.on("repair", &["--drop-lost"]));
    assert!(repaired.ends_with("all is well\n"), "{repaired}");
    assert!(repaired.contains("the index is made again from"), "{repaired}");
    let json = succeed(&home.on("repair", &["--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["problems"], serde_json::json!([]));

    // Offline: the same answers from the instance itself.
    assert_eq!(look(false), id);
    assert_eq!(succeed(&home.on("queue show", &[&id])), shown);
    assert_eq!(succeed(&home.on("queue run", &[])), "1 message is tried now\n");
    assert_eq!(succeed(&home.on("queue run", &["nowhere.test"])), "0 messages are tried now\n");
    assert!(fail(&home.on("queue run", &["no domain"]), 1).contains("\"no domain\" is no domain"));
    succeed(&home.on("queue remove", &[&id]));
    assert_eq!(succeed(&home.on("queue list", &[])), "0 entries in the queue\n");
    assert!(fail(&home.on("queue remove", &[&id]), 1).contains(&id));
    assert!(fail(&home.on("queue show", &["nonsense"]), 1).contains("\"nonsense\""));
    succeed(&home.on("alias remove", &["--address", "team@example.test"]));
    succeed(&home.on("account remove", &["--address", "user2@example.test"]));
    assert!(!succeed(&home.on("account list", &[])).contains("user2"));
    assert!(fail(&home.on("stop", &[]), 1).contains("no server runs on"));

    // It starts again, and ends by `stop`.
    let server = Server::start(&home);
    assert_eq!(succeed(&home.on("stop", &[])), "");
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_password_is_read_from_standard_input() {
    let home = Home::new();
    home.set_up(&ANY);
    let args = home.on("account add", &["--address", "user1@example.test", "--password-file", "-"]);
    let mut child =
        program().args(&args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"correct horse\r\n").unwrap();
    assert!(child.wait().unwrap().success());
    let server = Server::start(&home);
    // The line end is not part of it.
    send(
        server.address("submission"),
        Some("user1@example.test"),
        "user1@example.test",
        &["postmaster@example.test"],
        "x",
    );
}

#[test]
fn the_demo_ends_with_zero_when_all_bytes_came_back() {
    let home = Home::new();
    let dir = home.instance();
    let output = succeed(&words(&["demo", "--once", "--messages", "40", "--dir", &dir]));
    assert!(output.contains("all 51 messages came back byte for byte"), "{output}");
    assert!(home.0.join("instance/posthouse.toml").exists());
    assert!(succeed(&home.on("check", &[])).contains("all is well"));
}

#[test]
fn a_server_that_was_killed_leaves_a_control_file_that_disturbs_nobody() {
    let home = Home::new();
    home.set_up(&ANY);
    let mut server = Server::start(&home);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(home.0.join("instance/control").exists());
    let output = output(&home.on("account list", &[]));
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("is gone without a stop") && told.lines().count() == 1, "{told}");
    drop(Server::start(&home));
}

#[test]
fn a_wrong_path_is_one_line_and_changes_nothing() {
    let home = Home::new();
    fs::create_dir(home.0.join("other")).unwrap();
    fs::write(home.0.join("other/notes.txt"), "kept").unwrap();
    fs::create_dir(home.0.join("empty")).unwrap();
    for command in [
        "serve",
        "account list",
        "alias list",
        "queue list",
        "check",
        "compact",
        "scrub",
        "status",
        "stop",
    ] {
        for (place, expected) in [
            ("none", "does not exist"),
            ("empty", "is an empty directory"),
            ("other", "it has no posthouse.toml"),
            ("password", "is a file"),
        ] {
            let mut args = words(&command.split(' ').collect::<Vec<_>>());
            args.extend(["--instance".to_owned(), home.file(place)]);
            let line = fail_without_a_trace(&home, &args);
            assert!(line.contains(expected) && line.contains(place), "{command} {place}: {line}");
        }
    }
}

#[test]
fn a_port_in_use_is_one_line_and_changes_nothing() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("submission={address}");
    let mut args = home.setup_args();
    args.extend(words(&["--listen", "smtp=127.0.0.1:0", "--listen", &listen]));
    let line = fail_without_a_trace(&home, &args);
    assert!(line.starts_with("listener submission: ") && line.contains(&address), "{line}");
    assert!(line.ends_with(" is free"), "{line}");

    drop(taken);
    succeed(&args);
    let _taken = TcpListener::bind(&address).unwrap();
    let line = fail_without_a_trace(&home, &home.on("serve", &[]));
    assert!(line.starts_with("listener submission: ") && line.contains(&address), "{line}");
}

#[test]
fn a_broken_certificate_is_one_line_and_changes_nothing() {
    let home = Home::new();
    let other = Home::new();
    other.set_up(&ANY);
    let tls = |name: &str| other.0.join("instance/tls").join(name).display().to_string();
    fs::write(home.0.join("text.pem"), "no PEM\n").unwrap();
    let third = Home::new();
    third.set_up(&ANY);
    let strange = third.0.join("instance/tls/key.pem").display().to_string();
    for (certificate, key, expected) in [
        (home.file("none.pem"), tls("key.pem"), "none.pem"),
        (home.file("text.pem"), tls("key.pem"), "text.pem"),
        (tls("certificate.pem"), home.file("text.pem"), "text.pem"),
        (tls("certificate.pem"), strange, "it is not the key of"),
    ] {
        let mut args = home.setup_args();
        for listener in ANY {
            args.extend(words(&["--listen", listener]));
        }
        args.extend(words(&["--tls-cert", &certificate, "--tls-key", &key]));
        let line = fail_without_a_trace(&home, &args);
        assert!(line.contains(expected), "{line}");
    }
    home.set_up(&ANY);
    fs::write(home.0.join("instance/tls/certificate.pem"), "broken\n").unwrap();
    let line = fail_without_a_trace(&home, &home.on("serve", &[]));
    assert!(line.contains("certificate") && line.contains("tls/certificate.pem"), "{line}");
    // Administration needs no certificate.
    succeed(&home.on("account list", &[]));
}

#[test]
fn a_damaged_format_file_is_one_line_and_changes_nothing() {
    let home = Home::new();
    home.set_up(&ANY);
    let path = home.0.join("instance/FORMAT");
    let good = fs::read(&path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    for bad in [flipped, Vec::new(), good[..good.len() / 2].to_vec(), b"x".repeat(good.len())] {
        fs::write(&path, bad).unwrap();
        for command in ["serve", "account list", "check"] {
            let line = fail_without_a_trace(&home, &home.on(command, &[]));
            assert!(line.contains("FORMAT"), "{command}: {line}");
        }
    }
    fs::write(&path, good).unwrap();
    succeed(&home.on("check", &[]));
}

#[test]
fn a_second_process_on_the_instance_is_refused_and_changes_nothing() {
    let home = Home::new();
    home.set_up(&ANY);
    let server = Server::start(&home);
    let line = fail_without_a_trace(&home, &home.on("serve", &[]));
    assert!(line.contains("a server runs on"), "{line}");
    // A holder that cannot be administered, as a program that embeds the engine without serving.
    let control = fs::read(home.0.join("instance/control")).unwrap();
    fs::remove_file(home.0.join("instance/control")).unwrap();
    for command in ["serve", "account list"] {
        let line = fail_without_a_trace(&home, &home.on(command, &[]));
        assert!(line.contains("instance") && line.contains("in use"), "{command}: {line}");
    }
    let mut again = home.setup_args();
    again.extend(words(&["--listen", "smtp=127.0.0.1:0"]));
    let line = fail_without_a_trace(&home, &again);
    assert!(line.contains("holds an instance already"), "{line}");
    fs::write(home.0.join("instance/control"), control).unwrap();
    server.signal("-INT");
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_mistake_in_the_configuration_is_named_with_its_line() {
    let home = Home::new();
    home.set_up(&ANY);
    let path = home.0.join("instance/posthouse.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("recipients = 1000", "recipients = \"many\"")).unwrap();
    let number = text.lines().position(|line| line == "recipients = 1000").unwrap() + 1;
    let line = fail_without_a_trace(&home, &home.on("serve", &[]));
    assert!(line.contains(&format!("posthouse.toml:{number}: smtp.recipients: ")), "{line}");
}

#[test]
fn what_cannot_be_validated_is_one_line_and_makes_nothing() {
    let home = Home::new();
    let password = home.file("password");
    fs::write(home.0.join("short"), "short").unwrap();
    let short = home.file("short");
    let run = |hostname: &str, domain: &str, file: &str| {
        let instance = home.instance();
        let args = words(&[
            "setup",
            "--instance",
            &instance,
            "--hostname",
            hostname,
            "--domain",
            domain,
            "--postmaster-password-file",
            file,
            "--listen",
            "smtp=127.0.0.1:0",
        ]);
        fail_without_a_trace(&home, &args)
    };
    assert!(run("mail", "example.test", &password).contains("\"mail\""));
    assert!(run("mail.example.test", "exam ple", &password).contains("exam ple"));
    assert!(run("mail.example.test", "example.test", &short).contains("8 characters"));
    assert!(run("mail.example.test", "example.test", &home.file("none")).contains("none"));
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_two() {
    for args in [&["fly"][..], &[], &["serve"], &["queue", "list", "--instance"]] {
        fail(&words(args), 2);
    }
    let version = succeed(&words(&["version"]));
    assert_eq!(version, format!("posthouse {}\n", env!("CARGO_PKG_VERSION")));
    assert!(succeed(&words(&["--help"])).contains("demo"));
}
