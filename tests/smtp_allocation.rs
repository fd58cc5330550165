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
        limits: Limits::default(),
        extensions: Extensions::default(),
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
    let message = format!(
        "MAIL FROM:<sender@example.test> BODY=8BITMIME SIZE=10000\r\nRCPT TO:<user@example.test>\r\n\
         RCPT TO:<\"other user\"@example.test>\r\nDATA\r\n{body}.\r\n"
    );
    play(message.as_bytes());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let mut played = 0;
    for _ in 0..100 {
        played = play(message.as_bytes());
    }
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(played, 101);
    assert_eq!(allocations, 0, "allocations in 100 messages");
}
