//! The SMTP server machine allocates nothing for a message in steady state.
//!
//! Alone in its test program: it counts every allocation of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_message_in_steady_state_allocates_nothing() {
    let config = ServerConfig {
        hostname: "mail.example.test".to_owned(),
        dialect: Dialect::Smtp,
        limits: Limits { transactions: u32::MAX, errors: u32::MAX, ..Limits::default() },
        extensions: Extensions { dsn: true, ..Extensions::default() },
    };
    let mut server = Server::new(Arc::new(config), Offer::default(), Time(0));
    let mut out = Vec::with_capacity(64 << 10);
    let mut messages = 0;
    let mut play = |mut input: &[u8]| {
        loop {
            let Step { consumed, next } = server.step(Time(0), input, &mut out);
            match next {
                Next::Event(Event::DataChunk(_) | Event::Reset | Event::Quit) => {}
                Next::Event(event) => {
                    messages += u32::from(matches!(event, Event::DataEnd { .. }));
                    server.accept();
                }
                Next::Blocked => out.clear(),
                Next::NeedInput | Next::Closed => {
                    out.clear();
                    break;
                }
            }
            input = &input[consumed..];
        }
        messages
    };
    play(b"EHLO client.example\r\n");
    let body = "Subject: x\r\n\r\n..dots\r\nand more text\r\n".repeat(100);
    let envelopes = [
        "MAIL FROM:<sender@example.test> BODY=8BITMIME SIZE=10000\r\nRCPT TO:<user@example.test>\r\n\
         RCPT TO:<\"other user\"@example.test>\r\n",
        "MAIL FROM:<> SMTPUTF8 SIZE=10000 RET=HDRS ENVID=QQ314159+2Bx AUTH=e+3Dmc2@example.test\r\n\
         RCPT TO:<user@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;user@example.test\r\n\
         RCPT TO:<j\u{fc}rgen@example.test> NOTIFY=NEVER ORCPT=utf-8;j\u{fc}rgen@example.test\r\n",
        // A refused MAIL and RCPT leave nothing behind, and take nothing with them.
        "MAIL FROM:<a@example.test> RET=FULL ENVID=x AUTH=<> SIZE=1 SIZE=2\r\nMAIL FROM:<a@example.test> ENVID=y\r\n\
         RCPT TO:<@> ORCPT=rfc822;x\r\nRCPT TO:<user@example.test>\r\n",
    ];
    let all: Vec<String> =
        envelopes.iter().map(|envelope| format!("{envelope}DATA\r\n{body}.\r\n")).collect();
    // Twice: what one transaction has given back the next one takes.
    for message in all.iter().chain(&all) {
        play(message.as_bytes());
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut played = 0;
    for _ in 0..100 {
        for message in &all {
            played = play(message.as_bytes());
        }
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(played, 306);
    assert_eq!(allocations, 0, "allocations in 300 messages");
}
