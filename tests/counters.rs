//! What a message costs at the store's level, as counters: the same on every machine, so a test.
//!
//! `scripts/counters.py` counts the same for a whole server, from outside.

#![allow(clippy::disallowed_methods, dead_code)]

use std::path::Path;

use posthouse::store::{AccountId, OpenOptions, Store, StoreStats};

#[path = "../benches/store/flight.rs"]
mod flight;
#[path = "../benches/store/place.rs"]
mod place;

/// Any error ends a test with its text.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SIZE: usize = 4096;
const ACCOUNTS: u32 = 64;

fn segments(dir: &Path) -> u64 {
    std::fs::read_dir(dir.join("seg"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".phl"))
        .count() as u64
}

/// What `messages` of 4 KiB cost with so many senders: the counters' differences, and how many segments were begun.
fn cost(lanes: u8, writers: usize, messages: u64) -> (StoreStats, u64) {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = place::Place::new(parent, &format!("counters-{lanes}-{writers}")).unwrap();
    place::create(&place.path, lanes).unwrap();
    // Checkpoints come when they are asked for, so that the count depends on no clock.
    let options = OpenOptions { checkpoint_millis: 86_400_000, ..OpenOptions::default() };
    let store = place::open(&place.path, options).unwrap();
    place::inboxes(&store, ACCOUNTS).unwrap();
    send(&store, writers, 500);
    store.checkpoint().unwrap();
    let (before, segments_before) = (store.stats(), segments(&place.path));
    send(&store, writers, messages);
    // The index has shown everything once somebody looked.
    store.queue_scan(None, 1).unwrap();
    store.checkpoint().unwrap();
    let after = store.stats();
    let begun = segments(&place.path) - segments_before;
    store.close().unwrap();
    let stats = StoreStats {
        transactions: after.transactions - before.transactions,
        messages: after.messages - before.messages,
        groups: after.groups - before.groups,
        log_syncs: after.log_syncs - before.log_syncs,
        index_syncs: after.index_syncs - before.index_syncs,
        log_bytes: after.log_bytes - before.log_bytes,
        index_bytes: after.index_bytes - before.index_bytes,
        ..StoreStats::default()
    };
    (stats, begun)
}

fn send(store: &Store, writers: usize, messages: u64) {
    let mut sent = 0_u64;
    flight::fly(
        writers,
        |_| {
            if sent == messages {
                return Ok(None);
            }
            sent += 1;
            let account = AccountId(1 + u32::try_from(sent % u64::from(ACCOUNTS))?);
            let change = place::delivery(store, account, &[b'm'; SIZE])?;
            Ok(Some(store.commit(store.lane_of(account), vec![change])))
        },
        |_, _| {},
    )
    .unwrap();
}

/// A segment costs two syncs: of its header, and of its name.
const SEGMENT_SYNCS: u64 = 2;

#[test]
fn a_lone_writer_costs_exactly_one_sync_a_message() {
    let (stats, segments) = cost(1, 1, 500);
    assert_eq!((stats.messages, stats.groups), (500, 500));
    assert_eq!(stats.log_syncs - segments * SEGMENT_SYNCS, 500);
}

#[test]
fn sixty_four_writers_share_their_syncs_and_write_little_more_than_their_messages() {
    let (stats, segments) = cost(1, 64, 16_000);
    assert_eq!(stats.messages, 16_000);
    assert_eq!(stats.log_syncs, stats.groups + segments * SEGMENT_SYNCS, "one sync a group");
    let syncs = stats.log_syncs as f64 / stats.messages as f64;
    assert!(syncs <= 0.03, "{syncs} syncs a message: {stats:?}");
    let bytes = (stats.messages * SIZE as u64) as f64;
    let (log, index) = (stats.log_bytes as f64 / bytes, stats.index_bytes as f64 / bytes);
    assert!(log <= 1.05, "{log} log bytes for each message byte: {stats:?}");
    assert!(log + index <= 1.15, "{} bytes for each message byte: {stats:?}", log + index);
}

#[test]
fn with_several_lanes_each_group_of_a_lane_has_one_sync() {
    let (stats, segments) = cost(4, 64, 8_000);
    assert_eq!(stats.messages, 8_000);
    assert_eq!(stats.log_syncs, stats.groups + segments * SEGMENT_SYNCS);
}
