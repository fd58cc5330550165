use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::error::Kind;
use crate::sync::Mutex;
use crate::vfs::Open;
use crate::vfs::sim::Disk;

/// Answers `{"echo":...}`; some requests do more.
#[derive(Default)]
struct Echo {
    /// Requests that are worked on now, and the most at once.
    now: AtomicU32,
    most: AtomicU32,
    /// Told when `then` runs.
    ran: Mutex<Option<mpsc::Sender<()>>>,
}

impl Administrator for Echo {
    fn administer(&self, request: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Answer> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let text = std::str::from_utf8(request).unwrap();
        let answer = |json: String| Ok(Answer { json, then: None });
        let result = match text {
            "slow" => {
                std::thread::sleep(Duration::from_millis(100));
                answer("1".to_owned())
            }
            "progress" => {
                for n in 1..=5 {
                    progress(n, 5);
                    std::thread::sleep(Duration::from_millis(10));
                }
                answer("\"done\"".to_owned())
            }
            "error" => Err(Error::new(Kind::NotFound, "no account has the address x@y \"z\"")),
            "panic" => panic!("on purpose"),
            "then" => {
                let ran = self.ran.lock().take();
                let then = move || ran.unwrap().send(()).unwrap();
                Ok(Answer { json: "2".to_owned(), then: Some(Box::new(then)) })
            }
            "long" => answer(format!("\"{}\"", "x".repeat(3 << 20))),
            text => answer(json!({ "echo": text }).to_string()),
        };
        self.now.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

struct House {
    fs: Arc<dyn Fs>,
    runtime: Option<tokio::runtime::Runtime>,
    echo: Arc<Echo>,
}

impl House {
    fn new() -> House {
        let fs: Arc<dyn Fs> = Arc::new(Disk::new());
        fs.create_dir_all(Path::new("/i")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        House { fs, runtime: Some(runtime), echo: Arc::default() }
    }

    fn start(&self) -> ControlServer {
        let handle = self.runtime.as_ref().unwrap().handle();
        let echo = Arc::clone(&self.echo) as Arc<dyn Administrator>;
        ControlServer::start(handle, &self.fs, Path::new("/i"), echo).unwrap()
    }

    fn client(&self) -> Client {
        match Client::connect(self.fs.as_ref(), Path::new("/i")).unwrap() {
            Found::Engine(client) => client,
            Found::Stale => panic!("stale"),
            Found::Nothing => panic!("nothing"),
        }
    }

    fn place(&self) -> Place {
        Place::read(self.fs.as_ref(), Path::new("/i")).unwrap().unwrap()
    }

    /// A bare connection on which these bytes were sent.
    fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.place().port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }
}

/// What an engine that is gone left behind.
fn stale(port: u16) -> Place {
    Place { port, token: "0".repeat(64), proof: "1".repeat(64) }
}

fn ask(client: &mut Client, request: &str) -> Result<serde_json::Value> {
    client.ask(request, &mut |_, _| {})
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let house = House::new();
    let _server = house.start();
    let mut client = house.client();
    for text in ["a", "b \u{e4}", "c"] {
        assert_eq!(ask(&mut client, text).unwrap(), json!({ "echo": text }));
    }
    let long = ask(&mut client, "long").unwrap();
    assert_eq!(long.as_str().unwrap().len(), 3 << 20);
}

#[test]
fn errors_keep_their_kind_and_text() {
    let house = House::new();
    let _server = house.start();
    let mut client = house.client();
    let error = ask(&mut client, "error").unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(error.message(), "no account has the address x@y \"z\"");
    // The connection goes on.
    assert!(ask(&mut client, "a").is_ok());
}

#[test]
fn a_panic_of_the_work_is_an_internal_error_and_nothing_else_is_hurt() {
    let house = House::new();
    let server = house.start();
    let mut client = house.client();
    assert_eq!(ask(&mut client, "panic").unwrap_err().kind(), Kind::Internal);
    for _ in 0..10 {
        assert!(ask(&mut client, "a").is_ok());
    }
    server.stop();
}

#[test]
fn progress_is_reported_on_the_way() {
    let house = House::new();
    let _server = house.start();
    let mut seen = Vec::new();
    let answer =
        house.client().ask("progress", &mut |done, total| seen.push((done, total))).unwrap();
    assert_eq!(answer, json!("done"));
    assert_eq!(seen, [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]);
}

#[test]
fn at_most_four_requests_are_worked_on_at_once() {
    let house = House::new();
    let _server = house.start();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| ask(&mut house.client(), "slow").unwrap());
        }
    });
    assert_eq!(house.echo.most.load(Ordering::SeqCst), 4);
}

#[test]
fn who_does_not_know_the_token_is_disconnected_without_a_word() {
    let house = House::new();
    let _server = house.start();
    let token = house.place().token;
    let almost = format!("{}x", &token[..token.len() - 1]);
    for first in [
        format!("{GREETING}{almost}\na\n"),
        format!("{GREETING}\na\n"),
        format!("{GREETING}{token} \na\n"),
        format!("posthouse-control 2 {token}\na\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("{GREETING}{}", "f".repeat(5000)),
    ] {
        let mut rest = Vec::new();
        // A reset tells as much as an orderly end: nothing was answered.
        let _ = house.raw(first.as_bytes()).read_to_end(&mut rest);
        assert_eq!(rest, b"", "{first}");
    }
    assert_eq!(house.echo.most.load(Ordering::SeqCst), 0);
}

#[test]
fn a_request_over_the_limit_ends_the_connection_and_one_at_the_limit_is_answered() {
    let house = House::new();
    let _server = house.start();
    let greeting = format!("{GREETING}{}\n", house.place().token);
    let mut stream = house.raw(greeting.as_bytes());
    let request = format!("{}\n", "x".repeat(REQUEST_BYTES - 1));
    stream.write_all(request.as_bytes()).unwrap();
    let welcome = welcome(&house.place().proof);
    let mut answer = vec![0; REQUEST_BYTES + welcome.len() + 1];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(welcome.as_bytes()));
    drop(stream);

    let mut stream = house.raw(greeting.as_bytes());
    let request = format!("{}\n", "x".repeat(REQUEST_BYTES));
    let _ = stream.write_all(request.as_bytes());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() <= welcome.len() + 1, "{}", rest.len());

    assert_eq!(ask(&mut house.client(), &request).unwrap_err().kind(), Kind::Limit);
}

#[test]
fn a_line_may_come_in_pieces() {
    let house = House::new();
    let _server = house.start();
    let mut stream = house.raw(b"");
    for byte in format!("{GREETING}{}\nab\n", house.place().token).bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    let expected = format!("{}\n{{\"answer\":{{\"echo\":\"ab\"", welcome(&house.place().proof));
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, expected.as_bytes());
}

#[test]
fn the_file_is_there_while_the_server_runs_and_gone_afterwards() {
    let house = House::new();
    let path = Path::new("/i/control");
    assert!(matches!(Client::connect(house.fs.as_ref(), Path::new("/i")).unwrap(), Found::Nothing));
    let server = house.start();
    let first = house.place().token;
    server.stop();
    server.stop();
    assert!(house.fs.metadata(path).is_err());
    let server = house.start();
    assert_ne!(house.place().token, first);
    drop(server);
    assert!(house.fs.metadata(path).is_err());
}

#[test]
fn a_file_that_a_dead_engine_left_is_stale() {
    let house = House::new();
    let connect = || Client::connect(house.fs.as_ref(), Path::new("/i")).unwrap();
    let put = |text: &str| {
        vfs::replace(house.fs.as_ref(), Path::new("/i/control"), text.as_bytes()).unwrap();
    };
    // Nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    put(&stale(port).text());
    assert!(matches!(connect(), Found::Stale));
    // Another program was given the port.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    put(&stale(port).text());
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mail.example.test ESMTP\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert!(matches!(connect(), Found::Stale));
    other.join().unwrap();
    // An engine of another instance has the port now.
    let _server = house.start();
    let port = house.place().port;
    put(&stale(port).text());
    assert!(matches!(connect(), Found::Stale));
}

#[test]
fn who_has_a_dead_engines_port_and_does_not_know_its_file_is_told_nothing() {
    let house = House::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = stale(port).text();
    vfs::replace(house.fs.as_ref(), Path::new("/i/control"), text.as_bytes()).unwrap();
    let thief = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = [0; 4096];
        let read = stream.read(&mut seen).unwrap();
        // The best that it can do: what it was shown, and what every engine says.
        let token = String::from_utf8_lossy(&seen[..read]).trim_end().replace(GREETING, "");
        let _ = stream.write_all(format!("{}\n", welcome(&token)).as_bytes());
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let found = Client::connect(house.fs.as_ref(), Path::new("/i")).unwrap();
    assert!(matches!(found, Found::Stale));
    drop(found);
    assert_eq!(thief.join().unwrap(), b"");
}

#[test]
fn strangers_who_say_nothing_do_not_keep_an_administrator_out() {
    let house = House::new();
    let _server = house.start();
    let strangers: Vec<_> = (0..64).map(|_| house.raw(b"")).collect();
    let mut client = house.client();
    // Nor is an administrator sent away for strangers who come later.
    let more: Vec<_> = (0..64).map(|_| house.raw(b"")).collect();
    assert!(ask(&mut client, "a").is_ok());
    assert!(ask(&mut house.client(), "b").is_ok());
    drop((strangers, more));
}

#[test]
fn a_damaged_file_counts_as_none() {
    let house = House::new();
    for text in ["", "\n", "25", "0 00\n", "70000 00\n", &format!("25 {}\n", "g".repeat(64))] {
        let path = Path::new("/i/control");
        let file = house.fs.open(path, Open::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_at(text.as_bytes(), 0).unwrap();
        let found = Client::connect(house.fs.as_ref(), Path::new("/i")).unwrap();
        assert!(matches!(found, Found::Nothing), "{text:?}");
    }
}

#[test]
fn what_follows_an_answer_runs_after_it_and_may_stop_the_server_and_its_runtime() {
    let mut house = House::new();
    let server = house.start();
    let (send, receive) = mpsc::channel();
    *house.echo.ran.lock() = Some(send);
    let mut client = house.client();
    assert_eq!(ask(&mut client, "then").unwrap(), json!(2));
    receive.recv_timeout(Duration::from_secs(10)).unwrap();
    server.stop();
    house.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(10));
    assert!(ask(&mut client, "a").is_err());
}

#[test]
fn a_stop_waits_for_work_that_has_begun() {
    let house = House::new();
    let server = house.start();
    let mut client = house.client();
    let asking = std::thread::spawn(move || ask(&mut client, "slow"));
    while house.echo.now.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    server.stop();
    assert_eq!(house.echo.now.load(Ordering::SeqCst), 0);
    let _ = asking.join().unwrap();
}

#[test]
fn nothing_is_kept_when_the_file_cannot_be_written() {
    let memory = Disk::new();
    memory.create_dir_all(Path::new("/i")).unwrap();
    memory.on_operation(|_, _| Err(io::ErrorKind::PermissionDenied.into()));
    let fs: Arc<dyn Fs> = Arc::new(memory);
    let house = House { fs, ..House::new() };
    let handle = house.runtime.as_ref().unwrap().handle();
    let echo = Arc::clone(&house.echo) as Arc<dyn Administrator>;
    let result = ControlServer::start(handle, &house.fs, Path::new("/i"), echo);
    assert_eq!(result.err().unwrap().kind(), Kind::Permission);
}
