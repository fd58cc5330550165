//! Compaction as a whole: space comes back, mail stays, whatever happens in between.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::index::{IndexView, Space};
use super::tests::{
    Scratch, contents, envelope, healthy, inbox, memory, pattern, put_body, read, send,
};
use super::*;
use crate::time::SystemClock;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::os::OsFs;
use crate::vfs::sim::{Disk, Lot};

const A: AccountId = AccountId(1);

/// Small segments, and nothing happens by itself.
fn quiet() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 1 << 20,
        compact_bytes_per_second: 0,
        ..OpenOptions::default()
    }
}

fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Store {
    Store::open(fs.clone(), SystemClock::shared(), dir, quiet()).unwrap()
}

fn shared(memory: &Disk) -> Arc<dyn Fs> {
    Arc::new(memory.clone())
}

fn expunge(store: &Store, account: AccountId, uids: Vec<u32>) {
    let change = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
    store.commit(store.lane_of(account), vec![change]).wait().unwrap();
}

fn compact(store: &Store) -> CompactReport {
    store.compact(&CompactOptions::default()).unwrap()
}

/// Bytes of all segments, without and with the spares.
fn held(fs: &dyn Fs, dir: &Path) -> (u64, u64) {
    let entries = fs.read_dir(&dir.join("seg")).unwrap();
    let all = entries.iter().map(|e| e.len).sum();
    let segments = entries.iter().filter(|e| e.name.ends_with(".phl")).map(|e| e.len).sum();
    (segments, all)
}

/// All rows of a lane's index but the position in the log.
fn rows(store: &Store, lane: usize) -> Vec<(Space, Vec<u8>, Vec<u8>)> {
    let view: Box<dyn IndexView> = store.handle.core.homes[lane].view().unwrap();
    let mut rows = Vec::new();
    for space in Space::ALL.into_iter().filter(|space| *space != Space::Meta) {
        view.range(space, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
            rows.push((space, key.to_vec(), value.to_vec()));
            true
        })
        .unwrap();
    }
    rows
}

fn ninety_percent_come_back(fs: &Arc<dyn Fs>, dir: &Path, count: u32, size: usize) {
    let store = open(fs, dir);
    inbox(&store, A);
    for n in 0..count {
        send(&store, A, &pattern(size, n)).wait().unwrap();
    }
    let before = held(fs.as_ref(), dir).0;
    assert!(before >= u64::from(count) * size as u64);
    expunge(&store, A, (1..=count).filter(|uid| uid % 10 != 0).collect());
    let expected: Vec<_> =
        (1..=count).filter(|u| u % 10 == 0).map(|u| pattern(size, u - 1)).collect();
    let report = compact(&store);
    assert_eq!(report.findings, Vec::<String>::new());
    assert!(report.freed > 0 && report.moved > 0, "{report:?}");
    assert!(contents(&store, A) == expected);
    healthy(&store);
    let live = u64::from(count / 10) * size as u64;
    let (segments, all) = held(fs.as_ref(), dir);
    // The segment that is written to is allocated ahead, and one that is half live stays.
    let slack = 5 * (1 << 20) / 2;
    assert!(segments <= 2 * live + slack, "{segments} bytes of {before}, {live} are live");
    assert!(all <= 2 * segments + slack, "{all} bytes with spares, {segments} without");
    assert_eq!(store.stats().segments_freed, report.freed);
    store.close().unwrap();
    let store = open(fs, dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert!(contents(&store, A) == expected);
    healthy(&store);
}

#[test]
fn deleting_ninety_percent_of_small_mail_gives_the_space_back() {
    let (_, fs, dir) = memory();
    ninety_percent_come_back(&fs, &dir, 3000, 3000);
}

#[test]
fn deleting_ninety_percent_of_large_mail_gives_the_space_back() {
    let (_, fs, dir) = memory();
    ninety_percent_come_back(&fs, &dir, 60, 270_000);
}

#[test]
fn deleting_ninety_percent_gives_the_space_back_on_a_disk() {
    let scratch = Scratch::new();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::create(&fs, &scratch.0, &CreateOptions::default()).unwrap();
    ninety_percent_come_back(&fs, &scratch.0, 400, 3000);
}

#[test]
fn an_end_that_a_freed_segment_told_is_durable_before_it_is_freed() {
    let (disk, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    for n in 0..12 {
        send(&store, A, &pattern(300_000, n)).wait().unwrap();
    }
    // Of the large lane's segments, three messages each, one in the middle.
    expunge(&store, A, vec![4, 5, 6]);
    assert!(compact(&store).freed > 0);
    healthy(&store);
    let state = disk.after_power_cut();
    let after = open(&shared(&state), &dir);
    assert_eq!(after.recovery_report().damage, Vec::<String>::new());
    healthy(&after);
    assert_eq!(contents(&after, A).len(), 9);
}

#[test]
fn a_reader_goes_on_while_its_segments_are_wanted_and_they_are_freed_behind_it() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let large = pattern(900_000, 5);
    send(&store, A, &large).wait().unwrap();
    let row = store.mailbox_scan(A, MailboxId::INBOX, 0, 1).unwrap()[0];
    let mut reader = store.read(row.message).unwrap();
    for n in 0..6 {
        send(&store, A, &pattern(700_000, n)).wait().unwrap();
    }
    expunge(&store, A, (1..=7).collect());
    let report = compact(&store);
    assert!(report.held > 0, "{report:?}");
    let mut bytes = vec![0; 900_000];
    let mut at = 0;
    while at < bytes.len() {
        at += reader.read_at(at as u64, &mut bytes[at..]).unwrap();
    }
    assert!(bytes == large);
    drop(reader);
    let report = compact(&store);
    assert!(report.freed > 0 && report.held == 0, "{report:?}");
    healthy(&store);
}

#[test]
fn nothing_is_freed_while_somebody_forbids_it() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    for n in 0..60 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    expunge(&store, A, (1..=60).collect());
    let hold = store.hold("backup");
    let report = compact(&store);
    assert!(report.freed == 0 && report.held > 0, "{report:?}");
    drop(hold);
    assert!(compact(&store).freed > 0);
}

/// Mail of several lanes, large and small, with some of it expunged so that every kind of move happens.
fn prepared() -> (Disk, PathBuf, Vec<Vec<Vec<u8>>>) {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    for account in 1..=2 {
        inbox(&store, AccountId(account));
        for n in 0..40 {
            send(&store, AccountId(account), &pattern(2500, n + 100 * account)).wait().unwrap();
        }
        for n in 0..2 {
            send(&store, AccountId(account), &pattern(270_000, n + 7 * account)).wait().unwrap();
        }
        let uids = (1..=42).filter(|uid| !matches!(uid, 3 | 20 | 42)).collect();
        expunge(&store, AccountId(account), uids);
    }
    let kept = (1..=2).map(|account| contents(&store, AccountId(account))).collect();
    store.close().unwrap();
    (memory, dir, kept)
}

fn all_is_there(fs: &Arc<dyn Fs>, dir: &Path, kept: &[Vec<Vec<u8>>], when: &str) {
    let store = open(fs, dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new(), "{when}");
    for (account, expected) in (1..).zip(kept) {
        assert!(&contents(&store, AccountId(account)) == expected, "{when}");
    }
    let problems = store.check(&mut |_, _| {}).unwrap().problems;
    assert_eq!(problems, Vec::<String>::new(), "{when}");
    // It can be finished, and the lanes go on.
    let report = compact(&store);
    assert_eq!(report.findings, Vec::<String>::new(), "{when}");
    send(&store, A, b"after").wait().unwrap();
    assert_eq!(contents(&store, A).len(), kept[0].len() + 1, "{when}");
    let problems = store.check(&mut |_, _| {}).unwrap().problems;
    assert_eq!(problems, Vec::<String>::new(), "{when}, behind it");
    store.close().unwrap();
}

#[test]
fn a_crash_at_any_place_of_a_compaction_leaves_everything_once() {
    let (memory, dir, kept) = prepared();
    let fs = shared(&memory);
    let store = open(&fs, &dir);
    memory.start_trace();
    let report = compact(&store);
    let trace = memory.take_trace().unwrap();
    assert!(report.freed >= 3 && report.moved >= 3, "{report:?}");
    drop(store);
    assert!(trace.syncs() > 15, "{}", trace.syncs());
    trace.walk(&mut |point| {
        let syncing = point.syncing.map_or("the end".into(), |path| path.display().to_string());
        all_is_there(
            &shared(&point.image.disk().copy()),
            &dir,
            &kept,
            &format!("{syncing}: killed"),
        );
        for seed in 0..4 {
            let mut lot = if seed == 0 { Lot::Nothing } else { Lot::chance(seed) };
            let disk = point.image.power_cut(&mut lot).0.disk();
            all_is_there(&shared(&disk), &dir, &kept, &format!("{syncing}: power cut {seed}"));
        }
    });
}

#[test]
fn a_disk_that_fails_at_the_nth_operation_of_a_compaction_loses_nothing() {
    let (memory, dir, kept) = prepared();
    for n in 1..400 {
        let state = memory.copy();
        let fs = shared(&state);
        let store = open(&fs, &dir);
        let failed = Arc::new(AtomicBool::new(false));
        let (mut count, planted) = (0, failed.clone());
        state.on_operation(move |_, _| {
            count += 1;
            if count == n {
                planted.store(true, Ordering::Relaxed);
                return Err(std::io::Error::other("planted"));
            }
            Ok(())
        });
        let _ = store.compact(&CompactOptions::default());
        state.forget_hook();
        let done = !failed.load(Ordering::Relaxed);
        for (after, how) in [(state.copy(), "killed"), (state.after_power_cut(), "power cut")] {
            // A failure at any place, and what is on the disk after every fourth.
            if n % 4 == 1 {
                all_is_there(&shared(&after), &dir, &kept, &format!("operation {n}, {how}"));
            }
        }
        if done {
            assert!(n > 50, "only {n} operations");
            return;
        }
    }
}

#[test]
fn an_index_made_again_from_export_and_log_is_the_one_that_compaction_left() {
    let (memory, dir, kept) = prepared();
    let fs = shared(&memory);
    let store = open(&fs, &dir);
    let report = compact(&store);
    assert!(report.freed >= 3, "{report:?}");
    let before: Vec<_> = (0..4).map(|lane| rows(&store, lane)).collect();
    store.close().unwrap();
    for lane in 0..4 {
        memory.remove_file(&dir.join(format!("index/{lane:02x}.redb"))).unwrap();
    }
    let store = open(&fs, &dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert_eq!(store.recovery_report().rebuilt, 4);
    for (lane, before) in before.iter().enumerate() {
        assert!(rows(&store, lane) == *before, "lane {lane}");
    }
    for (account, expected) in (1..).zip(&kept) {
        assert!(&contents(&store, AccountId(account)) == expected);
    }
    healthy(&store);
}

#[test]
fn messages_that_come_and_go_while_it_is_compacted_are_there_or_gone_as_they_should() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let accounts = [AccountId(1), AccountId(2)];
    for account in accounts {
        inbox(&store, account);
    }
    let ended = AtomicBool::new(false);
    let (expected, freed) = std::thread::scope(|scope| {
        let writers: Vec<_> = accounts
            .into_iter()
            .map(|account| {
                let store = &store;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for n in 1..=400_u32 {
                        let size = if n % 50 == 0 { 300_000 } else { 2000 };
                        let bytes = pattern(size, n * account.0);
                        send(store, account, &bytes).wait().unwrap();
                        if n % 10 == 5 {
                            kept.push(bytes);
                        }
                        // The one before goes while it may be on its way.
                        if n > 20 && (n - 20) % 10 != 5 {
                            expunge(store, account, vec![n - 20]);
                        }
                    }
                    expunge(store, account, (381..=400).filter(|n| n % 10 != 5).collect());
                    kept
                })
            })
            .collect();
        let compactor = scope.spawn(|| {
            let mut freed = 0;
            while !ended.load(Ordering::Relaxed) {
                let report = compact(&store);
                assert_eq!(report.findings, Vec::<String>::new());
                freed += report.freed;
            }
            freed
        });
        let reader = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for account in accounts {
                    for row in store.mailbox_scan(account, MailboxId::INBOX, 0, 100).unwrap() {
                        match read(&store, row.message) {
                            Ok(bytes) => assert_eq!(bytes.len() as u64, row.size),
                            Err(e) => assert_eq!(e.kind(), Kind::NotFound, "{e}"),
                        }
                    }
                }
            }
        });
        let expected: Vec<_> = writers.into_iter().map(|w| w.join().unwrap()).collect();
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        (expected, compactor.join().unwrap())
    });
    assert!(freed > 5, "{freed}");
    for (account, expected) in accounts.into_iter().zip(&expected) {
        assert!(&contents(&store, account) == expected);
    }
    healthy(&store);
    compact(&store);
    drop(store);
    let store = open(&fs, &dir);
    for (account, expected) in accounts.into_iter().zip(&expected) {
        assert!(&contents(&store, account) == expected);
    }
    healthy(&store);
}

#[test]
fn a_damaged_live_record_keeps_its_segment_and_is_named() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    for n in 0..60 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    let lane = store.lane_of(A).0;
    expunge(&store, A, (1..=60).filter(|uid| !matches!(uid, 2 | 5)).collect());
    let core = &store.handle.core;
    let first = segment::path(&dir, lane, 1);
    let bytes = vfs::read_small(&memory, &first, u64::MAX).unwrap();
    let at = memchr::memmem::find(&bytes, &pattern(3000, 1)).unwrap() as u64;
    let file = memory.open(&first, Open::ReadWrite).unwrap();
    file.write_at(&[bytes[at as usize] ^ 1], at).unwrap();
    for _ in 0..2 {
        let report = compact(&store);
        assert!(report.findings.iter().any(|line| line.contains(".phl")), "{report:?}");
        assert!(core.segment(Lane(lane), 1).unwrap().is_some());
    }
    let rows = store.mailbox_scan(A, MailboxId::INBOX, 0, 9).unwrap();
    assert_eq!(read(&store, rows[0].message).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(read(&store, rows[1].message).unwrap(), pattern(3000, 4));
}

#[test]
fn a_large_message_on_its_way_in_keeps_its_segments() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let lane = store.lane_of(A);
    let id = store.new_message_id(lane);
    let bytes = pattern(1_500_000, 3);
    let body = put_body(&store, id, &bytes);
    // It is in segments that are left by now, and nothing refers to it yet.
    for n in 0..4 {
        send(&store, A, &pattern(700_000, n)).wait().unwrap();
    }
    compact(&store);
    let deliver = vec![(A, MailboxId::INBOX)];
    let new = NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() };
    store.commit(lane, vec![Change::Message(new)]).wait().unwrap();
    assert!(read(&store, id).unwrap() == bytes);
    healthy(&store);
}

#[test]
fn a_queue_that_is_emptied_as_it_fills_stays_small_by_itself() {
    let (_, fs, dir) = memory();
    let options = OpenOptions { compact_bytes_per_second: 1 << 30, ..quiet() };
    let store = Store::open(fs.clone(), SystemClock::shared(), &dir, options).unwrap();
    let lane = Lane(0);
    let recipient = QueueRecipient {
        address: b"x@y.test".to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Remote,
        answer: Vec::new(),
    };
    let mut waiting = std::collections::VecDeque::new();
    let mut most = 0;
    for n in 0..6000_u32 {
        let id = store.new_message_id(lane);
        let body = put_body(&store, id, &pattern(500, n));
        let queue = vec![recipient.clone()];
        let new = NewMessage { id, envelope: envelope(), body, deliver: Vec::new(), queue };
        store.commit(lane, vec![Change::Message(new)]).wait().unwrap();
        waiting.push_back(id);
        if waiting.len() > 20
            && let Some(message) = waiting.pop_front()
        {
            let change = Change::Queue { message, recipients: Vec::new(), references: 0 };
            store.commit(lane, vec![change]).wait().unwrap();
        }
        if n % 500 == 0 {
            // It looks twice a second.
            let core = &store.handle.core;
            maintenance::compact(core);
            most = most.max(held(fs.as_ref(), &dir).1);
        }
    }
    // About 5 MB were written.
    assert!(most < 2 << 20, "{most}");
    healthy(&store);
}

#[test]
fn a_killed_process_leaves_its_tail_to_the_next_one_and_segments_do_not_grow() {
    let (mut memory, _, dir) = memory();
    let options = OpenOptions { segment_bytes: 16 << 20, ..quiet() };
    let mut sizes = Vec::new();
    for n in 0..8 {
        let fs = shared(&memory);
        let store = Store::open(fs.clone(), SystemClock::shared(), &dir, options.clone()).unwrap();
        inbox(&store, A);
        send(&store, A, &pattern(3000, n)).wait().unwrap();
        let state = memory.copy();
        sizes.push(held(&state, &dir).0);
        memory = state;
    }
    // One tail of 4 MiB, of whichever process was the last.
    assert!(sizes.iter().all(|size| *size < 5 << 20), "{sizes:?}");
    let store = open(&shared(&memory), &dir);
    assert_eq!(contents(&store, A), (0..8).map(|n| pattern(3000, n)).collect::<Vec<_>>());
    healthy(&store);
}
