//! Scrub as a whole: damage is found, wrong counts become right, right ones stay.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::index::{Space, row};
use super::tests::{envelope, healthy, inbox, memory, pattern, put_body, read, send};
use super::*;
use crate::sync::Mutex;
use crate::time::Clock;
use crate::time::SystemClock;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::sim::Disk;
use std::time::Duration;

const A: AccountId = AccountId(1);

fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 1 << 20,
        compact_bytes_per_second: 0,
        scrub_bytes_per_second: 0,
        ..OpenOptions::default()
    }
}

fn open(fs: &Arc<dyn Fs>, dir: &Path, options: OpenOptions) -> Store {
    Store::open(fs.clone(), SystemClock::shared(), dir, options).unwrap()
}

fn scrub(store: &Store) -> ScrubReport {
    store.scrub(&ScrubOptions::default(), &mut |_, _| {}).unwrap()
}

/// Two accounts of different lanes.
fn strangers(store: &Store) -> (AccountId, AccountId) {
    let other = (2..100).map(AccountId).find(|a| store.lane_of(*a) != store.lane_of(A)).unwrap();
    inbox(store, A);
    inbox(store, other);
    (A, other)
}

fn place(store: &Store, id: MessageId) -> Option<row::Place> {
    let home = store.handle.core.home(id.lane()).unwrap();
    let value = home.view().unwrap().get(Space::Place, &row::message_key(id)).unwrap()?;
    Some(row::Place::decode(&value).unwrap())
}

fn first(store: &Store, account: AccountId) -> MessageRow {
    store.mailbox_scan(account, MailboxId::INBOX, 0, 1).unwrap()[0]
}

fn commit(store: &Store, lane: Lane, change: Change) {
    store.commit(lane, vec![change]).wait().unwrap();
}

fn flip(disk: &Disk, path: &Path, needle: &[u8]) {
    let bytes = vfs::read_small(disk, path, u64::MAX).unwrap();
    let at = memchr::memmem::find(&bytes, needle).unwrap();
    let file = disk.open(path, Open::ReadWrite).unwrap();
    file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

#[test]
fn damage_in_segments_and_exports_is_found_and_told() {
    let (disk, fs, dir) = memory();
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = told.clone();
    let sink = ScrubSink::new(move |line| lines.lock().push(line.to_owned()));
    let store = open(&fs, &dir, OpenOptions { on_scrub: Some(sink), ..options() });
    inbox(&store, A);
    for n in 0..60 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    for n in 0..8 {
        send(&store, A, &pattern(300_000, n)).wait().unwrap();
    }
    store.export().unwrap();
    let mut last = (0, 0);
    let mut seen = |done, total| last = (done, total);
    let report = store.scrub(&ScrubOptions::default(), &mut seen).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert!(report.segments > 3 && report.records > 60 && report.messages == 68, "{report:?}");
    assert!(report.exports > 0 && last.0 == last.1 && last.1 > 1 << 20, "{report:?}");
    let lane = store.lane_of(A).0;
    flip(&disk, &segment::path(&dir, lane, 1), &pattern(3000, 3)[100..200]);
    flip(&disk, &segment::path(&dir, store.lanes(), 1), &pattern(300_000, 0)[1000..1100]);
    let exports = dir.join("export");
    let name = disk.read_dir(&exports).unwrap().iter().map(|e| e.name.clone()).max().unwrap();
    let file = disk.open(&exports.join(&name), Open::ReadWrite).unwrap();
    file.write_at(&[0xff; 4], 150).unwrap();
    let report = scrub(&store);
    assert_eq!(report.findings.len(), 3, "{report:?}");
    assert_eq!(*told.lock(), report.findings);
    assert_eq!(store.stats().scrub_findings, 3);
    let state = store.state();
    assert_eq!(state.damage, report.findings);
    assert_eq!(state.scrubbed.unwrap().findings, 3);
    assert!(state.scrubbed.unwrap().ended > 0 && state.exported > 0, "{state:?}");
    // The host is told of each once, also when it asks later.
    let changes = Arc::new(Mutex::new(Vec::new()));
    let sink = changes.clone();
    store.on_state(move |change| sink.lock().push(change.clone()));
    scrub(&store);
    let clock = SystemClock::new();
    while changes.lock().len() < 3 {
        assert!(clock.now().0 < 20_000, "{changes:?}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let damage = |line: &String| StoreChange::Damage { finding: line.clone() };
    let expected: Vec<StoreChange> = report.findings.iter().map(damage).collect();
    assert_eq!(*changes.lock(), expected);
    assert!(report.findings.iter().any(|line| line.contains(&name)), "{report:?}");
    let names = |lane: u8| format!("{lane:02x}-0000000000000001.phl");
    for lane in [lane, store.lanes()] {
        assert!(report.findings.iter().any(|line| line.contains(&names(lane))), "{report:?}");
    }
}

#[test]
fn a_count_that_is_too_high_is_corrected_and_its_space_comes_back() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    inbox(&store, A);
    send(&store, A, &pattern(3000, 1)).wait().unwrap();
    let (id, lane) = (first(&store, A).message, store.lane_of(A));
    // As after a crash between two lanes.
    let change = Change::Queue { message: id, recipients: Vec::new(), references: 3 };
    commit(&store, lane, change);
    assert_eq!(place(&store, id).unwrap().references, 4);
    assert_eq!(scrub(&store).corrected, 1);
    assert_eq!(place(&store, id).unwrap().references, 1);
    assert_eq!(read(&store, id).unwrap(), pattern(3000, 1));
    assert_eq!(scrub(&store).corrected, 0);
    // Nobody holds it, and it is counted once.
    commit(&store, lane, Change::Queue { message: id, recipients: Vec::new(), references: 1 });
    let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![1] };
    commit(&store, lane, change);
    assert!(place(&store, id).is_some());
    assert_eq!(scrub(&store).corrected, 1);
    assert_eq!(place(&store, id), None);
    healthy(&store);
}

/// A message of A's lane that the mailbox of another lane gets as well, step by step.
fn deliver(store: &Store, id: MessageId, bytes: &[u8], to: AccountId, steps: u32) {
    let home = id.lane();
    let recipient = QueueRecipient {
        address: b"x@y.test".to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Local(to, MailboxId::INBOX),
        answer: Vec::new(),
    };
    let body = put_body(store, id, bytes);
    let deliver = vec![(A, MailboxId::INBOX)];
    let new = NewMessage { id, envelope: envelope(), body, deliver, queue: vec![recipient] };
    commit(store, home, Change::Message(new));
    let (account, mailbox) = (to, MailboxId::INBOX);
    if steps > 0 {
        let change = Change::Deliver {
            message: id,
            account,
            mailbox,
            size: bytes.len() as u64,
            received: 1,
            flags: 0,
        };
        commit(store, store.lane_of(to), change);
    }
    if steps > 1 {
        commit(store, home, Change::Queue { message: id, recipients: Vec::new(), references: 1 });
        commit(store, store.lane_of(to), Change::Forget { message: id, account, mailbox });
    }
}

#[test]
fn a_count_that_is_too_low_is_told_and_made_right() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    let (_, other) = strangers(&store);
    let id = store.new_message_id(store.lane_of(A));
    deliver(&store, id, b"hello", other, 2);
    commit(&store, id.lane(), Change::Unreference { message: id, count: 1 });
    assert_eq!(place(&store, id).unwrap().references, 1);
    let report = scrub(&store);
    assert!(report.corrected == 1 && report.findings.len() == 1, "{report:?}");
    assert_eq!(place(&store, id).unwrap().references, 2);
    healthy(&store);
}

#[test]
fn a_message_on_its_way_between_lanes_is_left_alone() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    let (_, other) = strangers(&store);
    for steps in 0..3 {
        let id = store.new_message_id(store.lane_of(A));
        deliver(&store, id, b"hello", other, steps);
        let before = place(&store, id);
        let report = scrub(&store);
        assert!(report.corrected == 0 && report.findings.is_empty(), "{steps}: {report:?}");
        assert_eq!(place(&store, id), before);
    }
}

#[test]
fn counting_while_mail_comes_and_goes_never_changes_a_right_count() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    let (_, other) = strangers(&store);
    let ended = AtomicBool::new(false);
    let scrubs = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=300_u32 {
                let id = store.new_message_id(store.lane_of(A));
                deliver(&store, id, &pattern(50, n), other, 2);
                let (account, uid) = if n % 2 == 0 { (A, n) } else { (other, n) };
                if n % 3 != 0 {
                    let uids = vec![uid];
                    let change = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
                    commit(&store, store.lane_of(account), change);
                }
            }
        });
        let scrubber = scope.spawn(|| {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                let report = scrub(&store);
                assert!(report.corrected == 0 && report.findings.is_empty(), "{report:?}");
                count += 1;
            }
            count
        });
        writer.join().unwrap();
        ended.store(true, Ordering::Relaxed);
        scrubber.join().unwrap()
    });
    assert!(scrubs > 2, "{scrubs}");
    for account in [A, other] {
        for row in store.mailbox_scan(account, MailboxId::INBOX, 0, usize::MAX).unwrap() {
            assert_eq!(read(&store, row.message).unwrap().len(), 50);
        }
    }
    // What was let go has reached the other lane by now: all counts are exact.
    for _ in 0..2 {
        store.handle.core.pass_all_lanes().unwrap();
    }
    assert_eq!(scrub(&store).corrected, 0);
    healthy(&store);
}

#[test]
fn recycled_segments_recover_after_any_crash_and_old_records_stay_away() {
    let (disk, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    inbox(&store, A);
    let lane = store.lane_of(A);
    let mut next = 1;
    let mut images = Vec::new();
    // A few times around, so that the segments in use have been others before.
    for round in 0..4_u32 {
        for n in 0..40 {
            send(&store, A, &pattern(3000, 100 * round + n)).wait().unwrap();
        }
        let uids = (next..next + 39).collect();
        next += 40;
        let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids };
        commit(&store, lane, change);
        store.compact(&CompactOptions::default()).unwrap();
        for n in 0..3 {
            let bytes = pattern(700 + n as usize, 7000 + 100 * round + n);
            send(&store, A, &bytes).wait().unwrap();
            next += 1;
            let kept = super::tests::contents(&store, A);
            images.push((disk.copy(), kept.clone()));
            images.push((disk.after_power_cut(), kept));
        }
    }
    let entries = disk.read_dir(&dir.join("seg")).unwrap();
    assert!(entries.iter().any(|e| e.name.ends_with(".new")), "{entries:?}");
    for (place, (image, kept)) in images.into_iter().enumerate() {
        let fs: Arc<dyn Fs> = Arc::new(image.clone());
        if place % 2 == 1 {
            // The log and the export alone decide.
            image.remove_file(&dir.join(format!("index/{:02x}.redb", lane.0))).unwrap();
        } else {
            // Twice gives the same.
            open(&fs, &dir, options()).close().unwrap();
        }
        let store = open(&fs, &dir, options());
        assert_eq!(store.recovery_report().damage, Vec::<String>::new(), "image {place}");
        assert!(super::tests::contents(&store, A) == kept, "image {place}");
        healthy(&store);
    }
}

#[test]
fn the_thread_scrubs_by_itself_when_it_is_time() {
    struct Hours(AtomicU64);
    impl Clock for Hours {
        fn now(&self) -> crate::time::Time {
            // Each look is a minute later.
            crate::time::Time(self.0.fetch_add(60_000, Ordering::Relaxed))
        }
        fn unix_millis(&self) -> u64 {
            0
        }
    }
    let (_, fs, dir) = memory();
    let options =
        OpenOptions { scrub_bytes_per_second: 1 << 30, scrub_millis: u64::MAX, ..options() };
    let clock = Arc::new(Hours(AtomicU64::new(0)));
    let store = Store::open(fs, clock, &dir, options).unwrap();
    inbox(&store, A);
    for n in 0..60 {
        send(&store, A, &pattern(3000, n)).wait().unwrap();
    }
    for _ in 0..600 {
        if store.stats().scrubs > 0 {
            break;
        }
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let stats = store.stats();
    assert!(stats.scrubs == 1 && stats.scrubbed_bytes > 100_000, "{stats:?}");
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_row_that_comes_and_goes_between_the_looks_takes_no_reference_with_it() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir, options());
    let (here, there) = strangers(&store);
    let id = store.new_message_id(store.lane_of(here));
    let bytes = pattern(3000, 7);
    let body = put_body(&store, id, &bytes);
    let deliver = vec![(here, MailboxId::INBOX)];
    let new = NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() };
    commit(&store, id.lane(), Change::Message(new));
    // It is looked at twice only because its count was wrong at the first look.
    commit(&store, id.lane(), Change::Queue { message: id, recipients: vec![], references: 1 });
    let mut run = scrub::Run::new(&store.handle.core).unwrap();
    let other = store.clone();
    run.between = Some(Box::new(move |look| match look {
        1 => {
            // The count was mended, and a mailbox of another lane gets the message.
            let mend = Change::Unreference { message: id, count: 1 };
            commit(&other, id.lane(), mend);
            let (account, mailbox) = (there, MailboxId::INBOX);
            let (size, received, flags) = (3000, 1, 0);
            let deliver = Change::Deliver { message: id, account, mailbox, size, received, flags };
            commit(&other, other.lane_of(there), deliver);
            let count = Change::Queue { message: id, recipients: vec![], references: 1 };
            commit(&other, id.lane(), count);
        }
        _ => {
            // The message's lane is a little behind: what lets the message go waits there.
            let pause = || std::thread::sleep(std::time::Duration::from_millis(500));
            other.commit_then(id.lane(), Vec::new(), move |_| pause());
            let expunge =
                Change::Expunge { account: there, mailbox: MailboxId::INBOX, uids: vec![1] };
            commit(&other, other.lane_of(there), expunge);
        }
    }));
    let mut pace = store.handle.core.maintenance.pace(&store.handle.core, 0);
    while run.step(&store.handle.core, &mut pace, &mut |_, _| {}).unwrap() {}
    // What the expunging lane has said arrives.
    store.handle.core.pass_all_lanes().unwrap();
    assert_eq!(place(&store, id).unwrap().references, 1);
    assert_eq!(read(&store, id).unwrap(), bytes);
    healthy(&store);
}

/// Prints how long it takes to find out that 64 MiB of an old segment hold no record of a new one.
#[test]
#[ignore = "a figure; run it optimized"]
fn figures_of_a_search_over_stale_bytes() {
    let disk = Disk::new();
    let path = Path::new("segment");
    let file = disk.open(path, Open::Create).unwrap();
    let mut bytes = Vec::new();
    let mut lsn = 1;
    while bytes.len() < 64 << 20 {
        let body = pattern(4000, lsn as u32);
        let header = record::Header {
            body_len: 4000,
            kind: 1,
            version: 1,
            flags: 17,
            body_crc: crc32c::crc32c(&body),
            lsn,
            durable_delta: 1,
        };
        bytes.extend_from_slice(&header.encode(1));
        bytes.extend_from_slice(&body);
        lsn += 1;
    }
    file.write_at(&bytes, 0).unwrap();
    let clock = SystemClock::new();
    let before = clock.now();
    let mut scanner = segment::Scanner::new(file.as_ref(), 2, u64::MAX).unwrap();
    assert_eq!(scanner.search(0, lsn).unwrap(), None);
    println!("{} bytes in {} ms", bytes.len(), clock.now().since(before));
}
