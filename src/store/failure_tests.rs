//! The store on a disk that fails or fills up while it runs: what is answered, what is kept, how it comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::index::slot;
use super::tests::{contents, envelope, healthy, inbox, memory_of, pattern, put_body, read, send};
use super::*;
use crate::sync::Mutex;
use crate::time::Clock;
use crate::time::SystemClock;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::sim::{Disk, Operation};

const A: AccountId = AccountId(1);
const RETRY: u64 = 40;

fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 1 << 20,
        large_segment_bytes: 4 << 20,
        ballast_bytes: 0,
        retry_millis: RETRY,
        // Only when a test asks for it.
        checkpoint_millis: 3_600_000,
        ..OpenOptions::default()
    }
}

fn opened_with(fs: &Disk, dir: &Path, options: OpenOptions) -> Store {
    Store::open(Arc::new(fs.clone()), SystemClock::shared(), dir, options).unwrap()
}

fn opened(fs: &Disk, dir: &Path) -> Store {
    opened_with(fs, dir, options())
}

fn is_segment(path: &Path) -> bool {
    path.parent().is_some_and(|p| p.ends_with("seg"))
}

fn is_index(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "redb")
}

fn segments(fs: &Disk, dir: &Path) -> usize {
    let names = fs.read_dir(&dir.join("seg")).unwrap();
    names.iter().filter(|e| e.name.ends_with(".phl")).count()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.now().0 < 20_000, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// The changes that a store tells.
fn told(store: &Store) -> Arc<Mutex<Vec<StoreChange>>> {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = changes.clone();
    store.on_state(move |change| sink.lock().push(change.clone()));
    changes
}

/// The n-th (from 1) operation of a kind on a segment fails, once.
fn fail_once(fs: &Disk, wanted: Operation, nth: u32, error: io::ErrorKind) -> Arc<AtomicU32> {
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    fs.on_operation(move |operation, path| {
        if operation == wanted
            && is_segment(path)
            && count.fetch_add(1, Ordering::Relaxed) + 1 == nth
        {
            return Err(error.into());
        }
        Ok(())
    });
    seen
}

#[test]
fn a_write_or_sync_that_fails_once_fails_no_ticket_and_costs_one_segment() {
    for (operation, error) in [
        (Operation::Sync, io::ErrorKind::Other),
        (Operation::Write, io::ErrorKind::Other),
        (Operation::Write, io::ErrorKind::StorageFull),
        (Operation::Sync, io::ErrorKind::StorageFull),
    ] {
        let (fs, _, dir) = memory_of(1);
        let store = opened(&fs, &dir);
        inbox(&store, A);
        let first = pattern(3000, 1);
        let lsn = send(&store, A, &first).wait().unwrap().lsn;
        let before = segments(&fs, &dir);
        let seen = fail_once(&fs, operation, 1, error);
        let second = pattern(5000, 2);
        let committed = send(&store, A, &second).wait().unwrap();
        assert_eq!(committed.uids, vec![2]);
        assert_eq!(committed.lsn, lsn + 1, "the same LSNs");
        assert!(seen.load(Ordering::Relaxed) > 0);
        fs.forget_hook();
        assert_eq!(segments(&fs, &dir), before + 1);
        assert_eq!(contents(&store, A), [first.clone(), second.clone()]);
        assert_eq!(store.state().lanes[0].read_only, None);
        // What a power cut leaves now has both, once.
        let cut = fs.after_power_cut();
        let reopened = opened(&cut, &dir);
        assert_eq!(reopened.recovery_report().damage, Vec::<String>::new());
        assert_eq!(contents(&reopened, A), [first, second]);
        healthy(&reopened);
        healthy(&store);
    }
}

#[test]
fn many_in_one_group_survive_a_failing_sync_with_their_order() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    fail_once(&fs, Operation::Sync, 2, io::ErrorKind::Other);
    let sent: Vec<Vec<u8>> = (0..200).map(|n| pattern(700, n)).collect();
    let tickets: Vec<_> = sent.iter().map(|bytes| send(&store, A, bytes)).collect();
    for (ticket, uid) in tickets.into_iter().zip(1..) {
        assert_eq!(ticket.wait().unwrap().uids, vec![uid]);
    }
    fs.forget_hook();
    let cut = fs.after_power_cut();
    let reopened = opened(&cut, &dir);
    assert_eq!(contents(&reopened, A), sent);
    healthy(&reopened);
}

#[test]
fn a_descriptor_whose_sync_failed_is_never_written_or_synced_again() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    let poisoned: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let touched = Arc::new(AtomicU32::new(0));
    let (p, t) = (poisoned.clone(), touched.clone());
    fs.on_operation(move |operation, path| {
        let mut poisoned = p.lock();
        match &*poisoned {
            None if operation == Operation::Sync && is_segment(path) => {
                *poisoned = Some(path.to_path_buf());
                return Err(io::ErrorKind::Other.into());
            }
            Some(bad) if bad == path => {
                if matches!(operation, Operation::Write | Operation::Sync) {
                    t.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
        Ok(())
    });
    for n in 0..20 {
        send(&store, A, &pattern(400, n)).wait().unwrap();
    }
    assert!(poisoned.lock().is_some());
    assert_eq!(touched.load(Ordering::Relaxed), 0);
}

/// Fails what `fails` says for as long as it is on.
fn broken(
    fs: &Disk,
    fails: impl Fn(Operation, &Path) -> Option<io::ErrorKind> + Send + 'static,
) -> Arc<AtomicBool> {
    let on = Arc::new(AtomicBool::new(true));
    let switch = on.clone();
    fs.on_operation(move |operation, path| {
        if switch.load(Ordering::Acquire)
            && let Some(error) = fails(operation, path)
        {
            return Err(error.into());
        }
        Ok(())
    });
    on
}

#[test]
fn a_disk_that_fails_for_ever_makes_the_lane_read_only_until_it_heals_by_itself() {
    for operation in [Operation::Sync, Operation::Write] {
        let (fs, _, dir) = memory_of(2);
        let store = opened(&fs, &dir);
        inbox(&store, A);
        let lane = store.lane_of(A);
        let before = pattern(2000, 1);
        send(&store, A, &before).wait().unwrap();
        let changes = told(&store);
        let on = broken(&fs, move |o, path| {
            (o == operation && is_segment(path)).then_some(io::ErrorKind::Other)
        });
        let error = send(&store, A, &pattern(2000, 2)).wait().unwrap_err();
        assert_eq!(error.kind(), Kind::Io, "{error}");
        let error = send(&store, A, &pattern(2000, 3)).wait().unwrap_err();
        assert_eq!(error.kind(), Kind::ReadOnly);
        assert!(error.message().contains("is read-only: cannot "), "{error}");
        assert!(error.message().replace('\\', "/").contains("/seg/"), "{error}");
        assert_eq!(store.admission(), Admission { writable: false, room: true });
        // Reads go on.
        assert_eq!(contents(&store, A), std::slice::from_ref(&before));
        let state = store.state();
        assert!(state.lanes[usize::from(lane.0)].read_only.is_some());
        // It tries and fails, and leaves no heap of segments.
        std::thread::park_timeout(Duration::from_millis(RETRY * 6));
        assert!(segments(&fs, &dir) <= 4, "{}", segments(&fs, &dir));
        on.store(false, Ordering::Release);
        // Nobody sends anything: the housekeeper's probe.
        until("writable", || store.state().lanes.iter().all(|l| l.read_only.is_none()));
        until("told", || changes.lock().len() == 2);
        assert!(
            matches!(&changes.lock()[..], [StoreChange::ReadOnly { lane: a, .. }, StoreChange::Writable { lane: b }] if *a == lane && *b == lane)
        );
        let after = pattern(2000, 4);
        assert_eq!(send(&store, A, &after).wait().unwrap().uids, vec![2]);
        assert_eq!(contents(&store, A), [before.clone(), after.clone()]);
        healthy(&store);
        let cut = fs.after_power_cut();
        let reopened = opened(&cut, &dir);
        assert_eq!(reopened.recovery_report().damage, Vec::<String>::new());
        assert_eq!(contents(&reopened, A), [before, after]);
        healthy(&reopened);
    }
}

#[test]
fn a_read_only_lane_is_tried_again_by_the_next_transaction() {
    let (fs, _, dir) = memory_of(1);
    // The housekeeper does not come by.
    let store = opened_with(&fs, &dir, OpenOptions { retry_millis: 300, ..options() });
    inbox(&store, A);
    let on = broken(&fs, |o, path| {
        (o == Operation::Sync && is_segment(path)).then_some(io::ErrorKind::Other)
    });
    assert!(send(&store, A, b"one\r\n").wait().is_err());
    on.store(false, Ordering::Release);
    // Healed, but it is not time yet.
    let refused = send(&store, A, b"two\r\n").wait().unwrap_err();
    assert_eq!(refused.kind(), Kind::ReadOnly);
    until("writable", || send(&store, A, b"three\r\n").wait().is_ok());
    assert_eq!(contents(&store, A), [b"three\r\n".to_vec()]);
    healthy(&store);
}

#[test]
fn the_large_lane_fails_its_bodies_and_heals_by_itself() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    let large = pattern(900_000, 5);
    send(&store, A, &large).wait().unwrap();
    let on = broken(&fs, |o, path| {
        let large = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("01-"));
        (o == Operation::Sync && large).then_some(io::ErrorKind::Other)
    });
    let try_large = |bytes: &[u8]| -> Result<Committed> {
        let id = store.new_message_id(Lane(0));
        let mut writer = store.body(id);
        for part in bytes.chunks(100_000) {
            while let Some(ticket) = writer.pressure() {
                ticket.wait()?;
            }
            writer.write(part)?;
        }
        let body = writer.finish()?;
        let deliver = vec![(A, MailboxId::INBOX)];
        let new = NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() };
        store.commit(Lane(0), vec![Change::Message(new)]).wait()
    };
    assert!(try_large(&large).is_err());
    until("read-only", || store.state().lanes[1].read_only.is_some());
    // Small ones have nothing to do with it.
    send(&store, A, b"small\r\n").wait().unwrap();
    on.store(false, Ordering::Release);
    until("writable", || store.state().lanes[1].read_only.is_none());
    try_large(&large).unwrap();
    assert_eq!(contents(&store, A), [large.clone(), b"small\r\n".to_vec(), large.clone()]);
    // A sync that fails once fails the body that it was for, and no later one.
    let seen = fail_once(&fs, Operation::Sync, 1, io::ErrorKind::Other);
    assert!(try_large(&large).is_err());
    assert!(seen.load(Ordering::Relaxed) > 1);
    assert_eq!(store.state().lanes[1].read_only, None);
    try_large(&large).unwrap();
    fs.forget_hook();
    healthy(&store);
    let cut = fs.after_power_cut();
    let reopened = opened(&cut, &dir);
    assert_eq!(contents(&reopened, A).len(), 4);
    healthy(&reopened);
}

#[test]
fn an_index_that_fails_is_repaired_while_the_store_is_open() {
    for error in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for operation in [Operation::Write, Operation::Sync, Operation::Resize] {
            let (fs, _, dir) = memory_of(1);
            let store = opened(&fs, &dir);
            inbox(&store, A);
            let mut sent = Vec::new();
            let grow = |sent: &mut Vec<Vec<u8>>, count: u32| {
                for n in 0..count {
                    let bytes = pattern(300, n);
                    send(&store, A, &bytes).wait().unwrap();
                    sent.push(bytes);
                }
            };
            grow(&mut sent, 40);
            let failed = Arc::new(AtomicBool::new(false));
            let once = failed.clone();
            fs.on_operation(move |o, path| {
                if o == operation && is_index(path) && !once.swap(true, Ordering::AcqRel) {
                    return Err(error.into());
                }
                Ok(())
            });
            // Written with the checkpoint.
            let first = store.checkpoint();
            if !failed.load(Ordering::Acquire) {
                // It did not have to grow.
                continue;
            }
            assert!(first.is_err());
            grow(&mut sent, 20);
            assert_eq!(contents(&store, A), sent, "{operation:?}");
            until("repaired", || store.checkpoint().is_ok());
            grow(&mut sent, 5);
            assert_eq!(contents(&store, A), sent);
            assert_eq!(store.state().lanes[0].read_only, None);
            healthy(&store);
            let cut = fs.after_power_cut();
            let reopened = opened(&cut, &dir);
            assert_eq!(contents(&reopened, A), sent);
            healthy(&reopened);
        }
    }
}

#[test]
fn what_was_answered_and_not_shown_is_there_after_a_repair() {
    let (_fs, store) = {
        let (fs, _, dir) = memory_of(1);
        let store = opened(&fs, &dir);
        (fs, store)
    };
    inbox(&store, A);
    let mut sent = Vec::new();
    for n in 0..60 {
        let bytes = pattern(200 + n as usize, n);
        let ticket = send(&store, A, &bytes);
        ticket.wait().unwrap();
        sent.push(bytes);
        if n % 7 == 3 {
            // Between the answer and the showing, as a failing page would.
            let slot::Shown::Shard(shard) = store.handle.core.homes[0].index.get() else {
                panic!("no shard")
            };
            shard.poison();
        }
        if n % 5 == 0 {
            assert_eq!(contents(&store, A), sent, "after {n}");
        }
    }
    assert_eq!(contents(&store, A), sent);
    healthy(&store);
}

#[test]
fn an_index_that_cannot_be_repaired_makes_the_lane_read_only_until_it_can() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    send(&store, A, b"one\r\n").wait().unwrap();
    let changes = told(&store);
    let on = broken(&fs, |o, path| {
        (matches!(o, Operation::Write | Operation::Sync | Operation::Open) && is_index(path))
            .then_some(io::ErrorKind::Other)
    });
    assert!(store.checkpoint().is_err());
    until("read-only", || store.state().lanes[0].read_only.is_some());
    assert_eq!(store.state().lanes[0].index, IndexState::Rebuilding);
    let error = send(&store, A, b"two\r\n").wait().unwrap_err();
    assert_eq!(error.kind(), Kind::ReadOnly, "{error}");
    let error = store.mailboxes(A).unwrap_err();
    assert!(error.message().contains("the index cannot be repaired"), "{error}");
    on.store(false, Ordering::Release);
    until("writable", || store.state().lanes[0].read_only.is_none());
    until("told", || changes.lock().len() == 3);
    assert!(
        matches!(
            &changes.lock()[..],
            [
                StoreChange::ReadOnly { .. },
                StoreChange::IndexRepaired { lane: Lane(0), .. },
                StoreChange::Writable { .. }
            ]
        ),
        "{changes:?}"
    );
    assert_eq!(contents(&store, A), [b"one\r\n".to_vec()]);
    send(&store, A, b"three\r\n").wait().unwrap();
    assert_eq!(contents(&store, A), [b"one\r\n".to_vec(), b"three\r\n".to_vec()]);
    healthy(&store);
}

#[test]
fn a_repair_does_not_bring_back_what_was_refused() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    send(&store, A, b"one\r\n").wait().unwrap();
    // The bytes of the refused group are whole behind the tail.
    let on = broken(&fs, |o, path| {
        (o == Operation::Sync && is_segment(path)).then_some(io::ErrorKind::Other)
    });
    assert!(send(&store, A, b"refused\r\n").wait().is_err());
    let slot::Shown::Shard(shard) = store.handle.core.homes[0].index.get() else {
        panic!("no shard")
    };
    shard.poison();
    drop(shard);
    // The repair reads the log and writes the index only.
    until("repaired", || store.handle.core.homes[0].index.is_usable());
    assert_eq!(contents(&store, A), [b"one\r\n".to_vec()]);
    on.store(false, Ordering::Release);
    until("writable", || send(&store, A, b"two\r\n").wait().is_ok());
    assert_eq!(contents(&store, A), [b"one\r\n".to_vec(), b"two\r\n".to_vec()]);
    healthy(&store);
}

fn full_options() -> OpenOptions {
    OpenOptions { low_space_percent: 5, ballast_bytes: 1 << 20, checkpoint_millis: 50, ..options() }
}

const DISK: u64 = 32 << 20;

/// A disk of 32 MiB with a store and some mail on it.
fn small_disk(mail: u32) -> (Disk, PathBuf, Store, Vec<Vec<u8>>) {
    let (fs, _, dir) = memory_of(1);
    fs.limit_to(DISK);
    let store = opened_with(&fs, &dir, full_options());
    inbox(&store, A);
    let ballast = dir.join(space::BALLAST_FILE);
    until("ballast", || fs.metadata(&ballast).is_ok());
    assert_eq!(fs.metadata(&ballast).unwrap().len, DISK / 64);
    let sent: Vec<Vec<u8>> = (0..mail).map(|n| pattern(4000, n)).collect();
    for bytes in &sent {
        send(&store, A, bytes).wait().unwrap();
    }
    (fs, dir, store, sent)
}

/// Leaves so many bytes free.
fn fill(fs: &Disk, dir: &Path, free: u64) -> PathBuf {
    let path = dir.join("filler");
    let file = fs.open(&path, Open::Create).unwrap();
    let now = fs.space(dir).unwrap().free;
    file.set_len(file.len().unwrap() + now.saturating_sub(free)).unwrap();
    path
}

#[test]
fn low_space_refuses_mail_before_anything_is_written_and_nothing_else() {
    let (fs, dir, store, sent) = small_disk(20);
    let changes = told(&store);
    let filler = fill(&fs, &dir, DISK / 100);
    until("low", || store.state().space == SpaceLevel::Low);
    assert_eq!(store.admission(), Admission { writable: true, room: false });
    let bytes = store.stats().log_bytes;
    let error = send(&store, A, b"more\r\n").wait().unwrap_err();
    assert_eq!(error.kind(), Kind::DiskFull, "{error}");
    // Also a large one, while it comes in.
    let mut writer = store.body(store.new_message_id(Lane(0)));
    let large = pattern(600_000, 1);
    assert_eq!(writer.write(&large).unwrap_err().kind(), Kind::DiskFull);
    assert_eq!(store.stats().log_bytes, bytes);
    let expunge = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![1, 2] };
    store.commit(Lane(0), vec![expunge]).wait().unwrap();
    assert_eq!(contents(&store, A), sent[2..]);
    // A little more than the mark is not enough.
    fs.remove_file(&filler).unwrap();
    fill(&fs, &dir, DISK / 20 + 1000);
    std::thread::park_timeout(Duration::from_millis(RETRY * 4));
    assert_eq!(store.state().space, SpaceLevel::Low);
    fs.remove_file(&filler).unwrap();
    until("ample", || store.state().space == SpaceLevel::Ample);
    send(&store, A, b"more\r\n").wait().unwrap();
    until("told", || changes.lock().len() == 2);
    let expected = [StoreChange::Space(SpaceLevel::Low), StoreChange::Space(SpaceLevel::Ample)];
    assert_eq!(*changes.lock(), expected);
    healthy(&store);
}

#[test]
fn a_full_disk_costs_the_ballast_and_deletions_go_on_until_there_is_space_again() {
    let (fs, dir, store, mut sent) = small_disk(100);
    let changes = told(&store);
    let filler = fill(&fs, &dir, 0);
    // Expunges are small and many: they need new segments and pages of the index.
    let mut gone = 0_u32;
    let mut beyond = 0;
    while beyond < 8 {
        gone += 1;
        assert!(gone < 90, "the disk is never full");
        let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![gone] };
        store.commit(Lane(0), vec![change]).wait().unwrap_or_else(|e| panic!("{gone}: {e}"));
        // Many bytes in the log, little that stays.
        let value = Some(pattern(30_000, gone));
        let row = Change::Row { table: Table::Value, key: b"k".to_vec(), value };
        store.commit(Lane(0), vec![row]).wait().unwrap_or_else(|e| panic!("{gone}: {e}"));
        beyond += u32::from(store.state().space == SpaceLevel::Full);
    }
    assert_eq!(store.state().space, SpaceLevel::Full);
    until("told of it", || changes.lock().contains(&StoreChange::Space(SpaceLevel::Full)));
    assert!(fs.metadata(&dir.join(space::BALLAST_FILE)).is_err());
    assert_eq!(send(&store, A, b"more\r\n").wait().unwrap_err().kind(), Kind::DiskFull);
    sent.drain(..gone as usize);
    assert_eq!(contents(&store, A), sent);
    fs.remove_file(&filler).unwrap();
    until("ample", || store.state().space == SpaceLevel::Ample);
    assert!(fs.metadata(&dir.join(space::BALLAST_FILE)).is_ok());
    until("sent", || send(&store, A, b"more\r\n").wait().is_ok());
    until("told", || changes.lock().last() == Some(&StoreChange::Space(SpaceLevel::Ample)));
    assert!(changes.lock().contains(&StoreChange::Space(SpaceLevel::Full)), "{changes:?}");
    sent.push(b"more\r\n".to_vec());
    assert_eq!(contents(&store, A), sent);
    healthy(&store);
    let cut = fs.after_power_cut();
    let reopened = opened(&cut, &dir);
    assert_eq!(contents(&reopened, A), sent);
    healthy(&reopened);
}

#[test]
fn a_disk_that_is_full_for_good_loses_nothing_and_comes_back_without_reopening() {
    for on_index in [false, true] {
        for on_log in [false, true] {
            if !on_index && !on_log {
                continue;
            }
            let (fs, dir, store, mut sent) = small_disk(30);
            let on = broken(&fs, move |o, path| {
                let here = (on_index && is_index(path)) || (on_log && is_segment(path));
                (matches!(o, Operation::Write | Operation::Resize) && here)
                    .then_some(io::ErrorKind::StorageFull)
            });
            for n in 0..30 {
                let bytes = pattern(2000, n);
                if send(&store, A, &bytes).wait().is_ok() {
                    sent.push(bytes);
                }
                let _ = store.checkpoint();
            }
            until("full", || store.state().space == SpaceLevel::Full);
            on.store(false, Ordering::Release);
            until("ample", || {
                let state = store.state();
                state.space == SpaceLevel::Ample
                    && state.lanes.iter().all(|l| l.read_only.is_none())
            });
            until("index", || store.checkpoint().is_ok());
            until("sent", || send(&store, A, b"last\r\n").wait().is_ok());
            sent.push(b"last\r\n".to_vec());
            assert_eq!(contents(&store, A), sent, "index {on_index}, log {on_log}");
            healthy(&store);
            let cut = fs.after_power_cut();
            let reopened = opened(&cut, &dir);
            assert_eq!(contents(&reopened, A), sent);
            healthy(&reopened);
        }
    }
}

#[test]
fn a_store_that_is_opened_on_a_nearly_full_disk_says_so_at_once() {
    let (fs, dir, store, sent) = small_disk(5);
    store.close().unwrap();
    drop(store);
    fill(&fs, &dir, 700_000);
    let store = opened_with(&fs, &dir, full_options());
    let changes = told(&store);
    until("told", || !changes.lock().is_empty());
    assert_eq!(*changes.lock(), [StoreChange::Space(SpaceLevel::Low)]);
    assert_eq!(contents(&store, A), sent);
    let id = store.new_message_id(Lane(0));
    let body = put_body(&store, id, b"x\r\n");
    assert_eq!(body.len(), 3);
    assert!(read(&store, id).is_err());
}

#[test]
fn pages_of_the_index_that_are_lost_while_it_serves_are_made_again_without_reopening() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    let sent: Vec<Vec<u8>> = (0..300).map(|n| pattern(100, n)).collect();
    let tickets: Vec<_> = sent.iter().map(|bytes| send(&store, A, bytes)).collect();
    tickets.into_iter().for_each(|ticket| assert!(ticket.wait().is_ok()));
    store.close().unwrap();
    drop(store);
    // Nothing is in the memory of a store that has just been opened.
    let store = opened(&fs, &dir);
    let path = dir.join(INDEX_DIRECTORY).join("00.redb");
    let file = fs.open(&path, Open::ReadWrite).unwrap();
    let len = file.len().unwrap();
    file.write_at(&vec![0; len as usize - 4096], 4096).unwrap();
    until("served again", || {
        store
            .mailbox_scan(A, MailboxId::INBOX, 0, usize::MAX)
            .and_then(|rows| rows.iter().map(|row| read(&store, row.message)).collect())
            .is_ok_and(|found: Vec<Vec<u8>>| {
                assert_eq!(found, sent);
                true
            })
    });
    send(&store, A, b"more\r\n").wait().unwrap();
    assert_eq!(contents(&store, A).len(), 301);
    healthy(&store);
}

#[test]
fn a_message_that_has_no_room_does_not_close_the_lane_to_deletions() {
    let (fs, dir, store, _) = small_disk(30);
    // Ready before the disk is full.
    let lane = Lane(0);
    let ready: Vec<_> = (0..12)
        .map(|n| {
            let id = store.new_message_id(lane);
            let body = put_body(&store, id, &pattern(250_000, n));
            let deliver = vec![(A, MailboxId::INBOX)];
            NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() }
        })
        .collect();
    fill(&fs, &dir, 0);
    let mut refused = 0;
    for (new, uid) in ready.into_iter().zip(1..) {
        match store.commit(lane, vec![Change::Message(new)]).wait() {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.kind(), Kind::DiskFull, "{e}");
                refused += 1;
            }
        }
        let expunge = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![uid] };
        store.commit(lane, vec![expunge]).wait().unwrap();
    }
    assert!(refused > 0);
    assert_eq!(store.state().lanes[0].read_only, None);
    healthy(&store);
}

#[test]
fn what_a_repair_of_the_index_finds_in_the_log_is_told_and_kept() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    for n in 0..3 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    assert_eq!(store.state().damage, Vec::<String>::new());
    let changes = told(&store);
    // The second message is damaged, and the index is lost: it has to be made again from what is left.
    let path = segment::path(&dir, 0, 1);
    let bytes = vfs::read_small(&fs, &path, u64::MAX).unwrap();
    let at = memchr::memmem::find(&bytes, &pattern(3000, 1)[100..200]).unwrap();
    fs.open(&path, Open::ReadWrite).unwrap().write_at(&[bytes[at] ^ 1], at as u64).unwrap();
    for round in 0..2 {
        let mark = index::redb::mark_of(&dir.join(INDEX_DIRECTORY).join("00.redb"));
        fs.open(&mark, Open::Create).unwrap();
        let slot::Shown::Shard(shard) = store.handle.core.homes[0].index.get() else {
            panic!("no shard")
        };
        shard.poison();
        drop(shard);
        assert_eq!(store.mailbox_scan(A, MailboxId::INBOX, 0, 9).unwrap().len(), 2);
        let repaired = |change: &&StoreChange| matches!(change, StoreChange::IndexRepaired { .. });
        until("told", || changes.lock().iter().filter(repaired).count() == round + 1);
    }
    let damage = store.state().damage;
    assert_eq!(damage.len(), 1, "each place once: {damage:?}");
    assert!(damage[0].contains("00-0000000000000001.phl"), "{damage:?}");
    let found: Vec<StoreChange> = changes
        .lock()
        .iter()
        .filter(|change| matches!(change, StoreChange::Damage { .. }))
        .cloned()
        .collect();
    assert_eq!(found, [StoreChange::Damage { finding: damage[0].clone() }]);
    // Who asks later is told as well.
    let later = told(&store);
    until("told", || later.lock().first() == found.first());
}

#[test]
fn what_the_log_takes_is_known_also_while_an_index_is_gone() {
    let (fs, _, dir) = memory_of(1);
    let store = opened(&fs, &dir);
    inbox(&store, A);
    for n in 0..10 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    assert_eq!(contents(&store, A).len(), 10);
    let usage = store.usage().unwrap();
    assert_eq!(usage.segments, segments(&fs, &dir) as u64);
    let live = usage.live_bytes.unwrap();
    assert!((30_000..35_000).contains(&live) && usage.log_bytes >= live, "{usage:?}");
    store.handle.core.homes[0].index.fail(slot::rebuilding());
    assert_eq!(store.usage().unwrap().live_bytes, None);
}
