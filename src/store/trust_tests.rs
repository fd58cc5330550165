//! What may be given back: only what nothing else is needed for, whatever of the rest turns out to be damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{contents, envelope, healthy, inbox, memory_of, pattern, put_body, send};
use super::*;
use crate::sync::Mutex;
use crate::time::SystemClock;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::sim::{Disk, Operation};
use std::time::Duration;

const A: AccountId = AccountId(1);

/// Small segments, and nothing happens by itself.
fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 1 << 20,
        compact_bytes_per_second: 0,
        scrub_bytes_per_second: 0,
        ..OpenOptions::default()
    }
}

fn open(disk: &Disk, dir: &Path) -> Store {
    Store::open(Arc::new(disk.clone()), SystemClock::shared(), dir, options()).unwrap()
}

fn expunge(store: &Store, account: AccountId, uids: Vec<u32>) {
    let change = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
    store.commit(store.lane_of(account), vec![change]).wait().unwrap();
}

fn compact(store: &Store) -> CompactReport {
    store.compact(&CompactOptions::default()).unwrap()
}

/// Damages the lane's only export in the middle.
fn spoil_export(disk: &Disk, dir: &Path) {
    let exports = disk.read_dir(&dir.join(export::DIRECTORY)).unwrap();
    let names: Vec<_> = exports.iter().filter(|e| e.name.ends_with(".phx")).collect();
    assert_eq!(names.len(), 1);
    let path = dir.join(export::DIRECTORY).join(&names[0].name);
    let bytes = vfs::read_small(disk, &path, u64::MAX).unwrap();
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    file.write_at(&[bytes[bytes.len() / 2] ^ 1], bytes.len() as u64 / 2).unwrap();
}

/// A store with sixty messages of which every tenth is to stay, an export of them all, and what stays.
fn exported() -> (Disk, PathBuf, Vec<Vec<u8>>) {
    let (disk, _, dir) = memory_of(1);
    let store = open(&disk, &dir);
    inbox(&store, A);
    for n in 0..200 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    expunge(&store, A, (1..=200).filter(|uid| uid % 10 != 0).collect());
    store.export().unwrap();
    store.close().unwrap();
    let kept = (1..=20).map(|n| pattern(3000, n * 10 - 1)).collect();
    (disk, dir, kept)
}

/// After the loss of the index everything is still there.
fn index_may_be_lost(disk: &Disk, dir: &Path, kept: &[Vec<u8>]) {
    disk.remove_file(&dir.join(INDEX_DIRECTORY).join("00.redb")).unwrap();
    let store = open(disk, dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert!(contents(&store, A) == kept);
    healthy(&store);
}

#[test]
fn segments_are_not_freed_on_the_word_of_an_export_that_is_damaged_since() {
    let (disk, dir, kept) = exported();
    spoil_export(&disk, &dir);
    let store = open(&disk, &dir);
    let report = compact(&store);
    assert!(report.freed > 0, "{report:?}");
    store.close().unwrap();
    index_may_be_lost(&disk, &dir, &kept);
}

#[test]
fn an_export_that_a_scrub_finds_damaged_is_replaced_before_anything_is_freed() {
    let (disk, dir, kept) = exported();
    let store = open(&disk, &dir);
    // It was good once.
    export::prove(&store.handle.core, Lane(0)).unwrap();
    spoil_export(&disk, &dir);
    let report = store.scrub(&ScrubOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");
    let report = compact(&store);
    assert!(report.freed > 0, "{report:?}");
    store.close().unwrap();
    index_may_be_lost(&disk, &dir, &kept);
}

#[test]
fn an_export_that_a_repair_while_open_sets_aside_is_relied_on_no_more() {
    let (disk, dir, kept) = exported();
    let store = open(&disk, &dir);
    export::prove(&store.handle.core, Lane(0)).unwrap();
    spoil_export(&disk, &dir);
    let path = dir.join(INDEX_DIRECTORY).join("00.redb");
    let file = disk.open(&path, Open::ReadWrite).unwrap();
    let len = file.len().unwrap();
    file.write_at(&vec![0; len as usize - 4096], 4096).unwrap();
    while store.mailbox_scan(A, MailboxId::INBOX, 0, 100).is_err() {}
    assert_eq!(store.handle.core.homes[0].exported.load(Ordering::Acquire), 0);
    let report = compact(&store);
    assert!(report.freed > 0, "{report:?}");
    store.close().unwrap();
    index_may_be_lost(&disk, &dir, &kept);
}

#[test]
fn records_behind_a_damaged_place_are_not_cut_off_when_the_next_segment_is_freed() {
    let (disk, _, dir) = memory_of(1);
    let store = open(&disk, &dir);
    inbox(&store, A);
    send(&store, A, &pattern(3000, 0)).wait().unwrap();
    // One group of two messages, which no later record tells to be durable.
    let changes = [1, 2].map(|n| {
        let id = store.new_message_id(Lane(0));
        let body = put_body(&store, id, &pattern(3000, n));
        let deliver = vec![(A, MailboxId::INBOX)];
        Change::Message(NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() })
    });
    store.commit(Lane(0), changes.into()).wait().unwrap();
    // The process dies, and a byte of the first one goes bad: that looks as a torn end.
    let disk = disk.copy();
    let first = segment::path(&dir, 0, 1);
    let bytes = vfs::read_small(&disk, &first, u64::MAX).unwrap();
    let at = memchr::memmem::find(&bytes, &pattern(3000, 1)).unwrap();
    let file = disk.open(&first, Open::ReadWrite).unwrap();
    file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    let store = open(&disk, &dir);
    for n in 0..100 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    let rows = store.mailbox_scan(A, MailboxId::INBOX, 1, 200).unwrap();
    expunge(&store, A, rows.iter().map(|row| row.uid).collect());
    let report = store.compact(&CompactOptions { below_percent: 1, ..Default::default() }).unwrap();
    assert!(report.freed > 0, "{report:?}");
    let bytes = vfs::read_small(&disk, &first, u64::MAX).unwrap();
    assert!(memchr::memmem::find(&bytes, &pattern(3000, 2)).is_some(), "{report:?}");
    assert!(report.findings.iter().any(|line| line.contains("stand behind")), "{report:?}");
    assert_eq!(contents(&store, A), vec![pattern(3000, 0)]);
}

#[test]
fn a_segment_that_cannot_be_read_keeps_itself_and_no_other_one() {
    let (disk, _, dir) = memory_of(2);
    let store = open(&disk, &dir);
    let other = (2..100).map(AccountId).find(|a| store.lane_of(*a) != store.lane_of(A)).unwrap();
    for account in [A, other] {
        inbox(&store, account);
        for n in 0..100 {
            send(&store, account, &pattern(3000, n)).wait().unwrap();
        }
        expunge(&store, account, (1..=100).filter(|uid| uid % 10 != 0).collect());
    }
    store.handle.core.shelf.clear();
    // The lane that comes first.
    let bad = segment::path(&dir, 0, 1);
    let path = bad.clone();
    disk.on_operation(move |operation, at| {
        let hit = operation == Operation::Read && at == path;
        if hit { Err(io::Error::other("bad sector")) } else { Ok(()) }
    });
    let report = compact(&store);
    disk.forget_hook();
    assert!(report.freed > 2, "{report:?}");
    let named = |line: &String| line.contains(&bad.display().to_string());
    assert!(report.findings.iter().any(named), "{report:?}");
    assert!(disk.metadata(&bad).is_ok());
    let report = compact(&store);
    assert_eq!(report.findings, Vec::<String>::new());
    for account in [A, other] {
        let kept: Vec<_> = (1..=10).map(|n| pattern(3000, n * 10 - 1)).collect();
        assert!(contents(&store, account) == kept);
    }
    healthy(&store);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn closing_waits_for_who_compacts_or_exports() {
    for exports in [false, true] {
        let (disk, dir, _) = exported();
        let store = open(&disk, &dir);
        let core = &store.handle.core;
        // As held while a pass runs, or an export is made.
        let compacts = (!exports).then(|| core.compacting.lock());
        let exporting = exports.then(|| core.exports.wait());
        let closes = store.clone();
        let closing = std::thread::spawn(move || closes.close());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!closing.is_finished());
        assert!(disk.try_lock(&dir.join(LOCK_FILE)).unwrap().is_none());
        drop((compacts, exporting));
        closing.join().unwrap().unwrap();
        assert!(disk.try_lock(&dir.join(LOCK_FILE)).unwrap().is_some());
        assert_eq!(store.compact(&CompactOptions::default()).unwrap_err().kind(), Kind::Stopped);
        assert_eq!(store.export().unwrap_err().kind(), Kind::Stopped);
    }
}

#[test]
#[allow(clippy::disallowed_methods)]
fn nothing_is_written_any_more_when_the_lock_is_free_whoever_drops_the_last_handle() {
    use std::sync::atomic::AtomicBool;
    let (disk, _, dir) = memory_of(1);
    let store = open(&disk, &dir);
    inbox(&store, A);
    send(&store, A, &pattern(3000, 1)).wait().unwrap();
    let (free, late) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (is_free, ops) = (free.clone(), late.clone());
    disk.on_operation(move |operation, path| {
        if is_free.load(Ordering::Acquire) {
            ops.lock().push((operation, path.to_path_buf()));
        }
        Ok(())
    });
    let last = store.clone();
    let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![1] };
    store.commit_then(Lane(0), vec![change], move |_| {
        std::thread::sleep(Duration::from_millis(50));
        drop(last);
        std::thread::sleep(Duration::from_millis(100));
    });
    drop(store);
    let lock = loop {
        if let Some(lock) = disk.try_lock(&dir.join(LOCK_FILE)).unwrap() {
            break lock;
        }
        std::thread::yield_now();
    };
    free.store(true, Ordering::Release);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(*late.lock(), Vec::new());
    disk.forget_hook();
    drop(lock);
    let store = open(&disk, &dir);
    assert_eq!(store.recovery_report(), &RecoveryReport::default());
    assert_eq!(contents(&store, A).len(), 0);
}

#[test]
fn a_torn_end_of_a_recycled_segment_is_a_torn_end_and_nothing_old_comes_back() {
    let (disk, _, dir) = memory_of(1);
    let store = open(&disk, &dir);
    inbox(&store, A);
    let mut last = 0;
    for round in 0..6_u32 {
        for n in 0..60 {
            last = send(&store, A, &pattern(3000, round * 60 + n)).wait().unwrap().uids[0];
        }
        expunge(&store, A, (1..=last).collect());
        compact(&store);
    }
    let active = || store.handle.core.settings[0].active.load(Ordering::Acquire);
    let before = active();
    // The next segment is one of those that were freed.
    while active() == before {
        last = send(&store, A, &pattern(3000, 999)).wait().unwrap().uids[0];
    }
    expunge(&store, A, (1..=last).collect());
    let sent: Vec<_> = (0..3).map(|n| pattern(2000, 1000 + n)).collect();
    for bytes in &sent {
        send(&store, A, bytes).wait().unwrap();
    }
    assert_eq!(contents(&store, A), sent);
    let tail = *store.handle.core.homes[0].tail.lock();
    // The process dies. Behind the end there are records of an earlier segment.
    let killed = disk.copy();
    let path = segment::path(&dir, 0, tail.segment);
    let bytes = vfs::read_small(&killed, &path, u64::MAX).unwrap();
    let behind = &bytes[tail.end as usize..];
    assert!(behind.iter().filter(|b| **b != 0).count() > 10_000, "nothing old is there");
    let reopened = open(&killed.copy(), &dir);
    assert_eq!(reopened.recovery_report().damage, Vec::<String>::new());
    assert_eq!(contents(&reopened, A), sent);
    healthy(&reopened);
    // The segment behind it is freed: nobody says any more where this one ends, and what is old there is no damage.
    let active = || reopened.handle.core.settings[0].active.load(Ordering::Acquire);
    let mut more = send(&reopened, A, &pattern(3000, 2000)).wait().unwrap().uids;
    let next = active();
    assert!(next > tail.segment);
    while active() == next {
        more.extend(send(&reopened, A, &pattern(3000, 2001)).wait().unwrap().uids);
    }
    expunge(&reopened, A, more);
    assert_eq!(contents(&reopened, A), sent);
    reopened.export().unwrap();
    let options = CompactOptions { below_percent: 1, ..CompactOptions::default() };
    let report = reopened.compact(&options).unwrap();
    let there = |number| reopened.handle.core.fs.metadata(&segment::path(&dir, 0, number)).is_ok();
    assert_eq!((there(tail.segment), there(next)), (true, false), "{report:?}");
    assert_eq!(contents(&reopened, A), sent);
    healthy(&reopened);
    // The last write came only in part to the disk: the rest is still what stood there before.
    for torn in [8, 700, 1900] {
        let state = killed.copy();
        let file = state.open(&path, Open::ReadWrite).unwrap();
        let from = tail.end - torn;
        file.write_at(&behind[..torn as usize], from).unwrap();
        // As if no checkpoint of the index had followed.
        state.remove_file(&dir.join(INDEX_DIRECTORY).join("00.redb")).unwrap();
        let reopened = open(&state, &dir);
        assert_eq!(reopened.recovery_report().damage, Vec::<String>::new(), "{torn}");
        let found = contents(&reopened, A);
        assert_eq!(found, sent[..2], "{torn}");
        let more = pattern(100, 5);
        let uid = send(&reopened, A, &more).wait().unwrap().uids[0];
        assert!(uid > last + 2);
        assert_eq!(contents(&reopened, A)[2], more);
        healthy(&reopened);
    }
}

#[test]
fn a_copy_of_a_message_whose_record_is_lost_brings_it_back_once() {
    let (disk, _, dir) = memory_of(1);
    let store = open(&disk, &dir);
    inbox(&store, A);
    for n in 0..100 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    expunge(&store, A, (1..=100).filter(|uid| uid % 10 != 0).collect());
    assert!(compact(&store).freed > 0);
    store.close().unwrap();
    let kept: Vec<_> = (1..=10).map(|n| pattern(3000, n * 10 - 1)).collect();
    // The index and every export of it are lost: what the log has is the copies, and the mailbox's record is gone.
    disk.remove_file(&dir.join(INDEX_DIRECTORY).join("00.redb")).unwrap();
    for entry in disk.read_dir(&dir.join(export::DIRECTORY)).unwrap() {
        disk.remove_file(&dir.join(export::DIRECTORY).join(&entry.name)).unwrap();
    }
    for _ in 0..2 {
        let store = open(&disk, &dir);
        let mut found = contents(&store, A);
        found.sort();
        let mut wanted = kept.clone();
        wanted.sort();
        assert!(found == wanted, "{} of {}", found.len(), wanted.len());
        let uid = send(&store, A, b"more\r\n").wait().unwrap().uids[0];
        assert!(uid > 100, "{uid}");
        expunge(&store, A, vec![uid]);
        assert!(compact(&store).findings.is_empty());
        store.close().unwrap();
    }
}
