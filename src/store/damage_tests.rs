//! What is wrong on disk is never served as if it were right, what is right is served, and the reports name the rest:
//! every page of an index, every region of every segment, and exports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{contents, envelope, healthy, inbox, pattern, put_body, read, send};
use super::*;
use crate::time::SystemClock;
use crate::vfs::File;
use crate::vfs::sim::Disk;

const PAGE: usize = 4096;

fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 1 << 20,
        large_body_bytes: 20_000,
        ..OpenOptions::default()
    }
}

fn make(lanes: u8) -> (Disk, Arc<dyn Fs>, PathBuf) {
    let memory = Disk::new();
    let fs: Arc<dyn Fs> = Arc::new(memory.clone());
    let dir = PathBuf::from("/instance");
    fs.create_dir_all(&dir).unwrap();
    Store::create(&fs, &dir, &CreateOptions { lanes }).unwrap();
    (memory, fs, dir)
}

fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Store {
    Store::open(fs.clone(), SystemClock::shared(), dir, options()).unwrap()
}

fn shared(memory: &Disk) -> Arc<dyn Fs> {
    Arc::new(memory.clone())
}

fn file(memory: &Disk, path: &Path) -> Arc<dyn File> {
    memory.open(path, Open::ReadWrite).unwrap()
}

fn bytes_of(memory: &Disk, path: &Path) -> Vec<u8> {
    vfs::read_small(memory, path, u64::MAX).unwrap()
}

fn queue(store: &Store, lane: Lane, bytes: &[u8]) -> MessageId {
    let id = store.new_message_id(lane);
    let body = put_body(store, id, bytes);
    let queue = vec![QueueRecipient {
        address: b"far@elsewhere.test".to_vec(),
        parameters: b"NOTIFY=NEVER".to_vec(),
        state: RecipientState::Remote,
    }];
    let new = NewMessage { id, envelope: envelope(), body, deliver: Vec::new(), queue };
    store.commit(lane, vec![Change::Message(new)]).wait().unwrap();
    id
}

/// A bit of everything, part `n`.
fn fill(store: &Store, n: u32, accounts: u32) {
    for account in 1..=accounts {
        let account = AccountId(account);
        inbox(store, account);
        for size in [10_usize, 700, 3000, 9000] {
            send(store, account, &pattern(size, n * 100 + size as u32)).wait().unwrap();
        }
        send(store, account, &pattern(300_000 + n as usize, n)).wait().unwrap();
        queue(store, store.lane_of(account), &pattern(1500, n));
        let gone = queue(store, store.lane_of(account), &pattern(100, n));
        let done = Change::Queue { message: gone, recipients: Vec::new(), references: 0 };
        let uids = vec![n * 5 + 2];
        let expunge = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
        store.commit(store.lane_of(account), vec![done, expunge]).wait().unwrap();
    }
    store.put(Table::Value, format!("key {n}").as_bytes(), b"value").unwrap();
}

/// Everything that a store serves.
#[derive(Debug, PartialEq)]
struct Listing {
    heads: Vec<Vec<MailboxHead>>,
    rows: Vec<Vec<MessageRow>>,
    bodies: Vec<Vec<Vec<u8>>>,
    queue: Vec<QueueEntry>,
    queued: Vec<Vec<u8>>,
    table: Vec<(Vec<u8>, Vec<u8>)>,
}

fn listing(store: &Store, accounts: u32) -> Listing {
    let all = || (1..=accounts).map(AccountId);
    let rows = |a| store.mailbox_scan(a, MailboxId::INBOX, 0, usize::MAX).unwrap();
    let queue = store.queue_scan(None, usize::MAX).unwrap();
    Listing {
        heads: all().map(|a| store.mailboxes(a).unwrap()).collect(),
        rows: all().map(rows).collect(),
        bodies: all().map(|a| contents(store, a)).collect(),
        queued: queue.iter().map(|entry| read(store, entry.message).unwrap()).collect(),
        queue,
        table: store.scan(Table::Value).unwrap(),
    }
}

fn exports(memory: &Disk, dir: &Path) -> Vec<PathBuf> {
    let directory = dir.join(export::DIRECTORY);
    let entries = memory.read_dir(&directory).unwrap();
    entries.iter().map(|entry| directory.join(&entry.name)).collect()
}

#[test]
fn an_export_is_deterministic_and_the_older_one_goes() {
    let (memory, fs, dir) = make(2);
    let store = open(&fs, &dir);
    assert!(store.export().unwrap().iter().all(|made| made.lsn == 0));
    assert_eq!(exports(&memory, &dir), Vec::<PathBuf>::new());
    fill(&store, 0, 4);
    let made = store.export().unwrap();
    let first = exports(&memory, &dir);
    assert_eq!(first.len(), 2);
    assert_eq!(store.stats().exports, 2);
    for (made, path) in made.iter().zip(&first) {
        assert_eq!(made.bytes, bytes_of(&memory, path).len() as u64);
        assert_eq!(
            store.handle.core.homes[usize::from(made.lane.0)].exported.load(Ordering::Relaxed),
            made.lsn
        );
    }
    assert_eq!(store.export().unwrap(), made, "nothing changed, nothing is written");
    assert_eq!(store.stats().exports, 2);
    // The same state from the log alone gives the same bytes.
    let copy = memory.copy();
    let other = shared(&copy);
    for lane in 0..2 {
        copy.remove_file(&dir.join(format!("index/{lane:02x}.redb"))).unwrap();
    }
    for path in &first {
        copy.remove_file(path).unwrap();
    }
    let again = open(&other, &dir);
    assert_eq!(again.export().unwrap(), made);
    for path in &first {
        assert_eq!(bytes_of(&copy, path), bytes_of(&memory, path));
    }
    fill(&store, 1, 4);
    store.export().unwrap();
    let second = exports(&memory, &dir);
    assert_eq!(second.len(), 2);
    assert!(second.iter().all(|path| !first.contains(path)));
}

#[test]
fn exports_are_made_by_themselves_when_the_log_has_grown() {
    let (memory, fs, dir) = make(1);
    let options = OpenOptions { export_bytes: 100_000, ..options() };
    let store = Store::open(fs, SystemClock::shared(), &dir, options).unwrap();
    inbox(&store, AccountId(1));
    for n in 0.. {
        send(&store, AccountId(1), &pattern(10_000, n)).wait().unwrap();
        if store.stats().exports >= 2 {
            break;
        }
        assert!(n < 5000, "no export after {n} messages");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    store.close().unwrap();
    assert_eq!(exports(&memory, &dir).len(), 1);
}

#[test]
fn an_index_is_made_again_from_an_export_and_the_log_behind_it() {
    for (lanes, accounts) in [(1, 1), (2, 4)] {
        let (memory, fs, dir) = make(lanes);
        let store = open(&fs, &dir);
        fill(&store, 0, accounts);
        let rows: u64 = store.export().unwrap().iter().map(|made| made.rows).sum();
        fill(&store, 1, accounts);
        let expected = listing(&store, accounts);
        store.close().unwrap();
        for lane in 0..lanes {
            memory.remove_file(&dir.join(format!("index/{lane:02x}.redb"))).unwrap();
        }
        let store = open(&fs, &dir);
        let report = store.recovery_report();
        assert_eq!(report.damage, Vec::<String>::new());
        assert_eq!((report.rebuilt, report.imported), (u32::from(lanes), rows));
        assert_eq!(report.notes.len(), usize::from(lanes), "{:?}", report.notes);
        assert_eq!(listing(&store, accounts), expected);
        healthy(&store);
    }
}

#[test]
fn a_log_that_was_freed_before_the_export_is_not_missed_and_behind_it_it_is() {
    let (memory, fs, dir) = make(1);
    let store = open(&fs, &dir);
    let account = AccountId(1);
    inbox(&store, account);
    for n in 0..40 {
        send(&store, account, &pattern(9000, n)).wait().unwrap();
    }
    store.export().unwrap();
    let all = segments(&memory, &dir);
    for n in 40..60 {
        send(&store, account, &pattern(9000, n)).wait().unwrap();
    }
    let rows = store.mailbox_scan(account, MailboxId::INBOX, 0, 100).unwrap();
    store.close().unwrap();
    memory.remove_file(&all[0]).unwrap();
    memory.remove_file(&all[1]).unwrap();
    let index = dir.join("index/00.redb");
    memory.remove_file(&index).unwrap();
    let store = open(&fs, &dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert_eq!(store.recovery_report().rebuilt, 1);
    assert_eq!(store.mailbox_scan(account, MailboxId::INBOX, 0, 100).unwrap(), rows);
    store.close().unwrap();
    // Without the export the gap is damage.
    let without = memory.copy();
    for path in exports(&memory, &dir) {
        without.remove_file(&path).unwrap();
    }
    without.remove_file(&index).unwrap();
    let store = open(&shared(&without), &dir);
    let damage = &store.recovery_report().damage;
    assert!(damage.len() == 1 && damage[0].contains("missing"), "{damage:?}");
    store.close().unwrap();
    // A segment behind the export that is gone is damage as well.
    let after = segments(&memory, &dir);
    memory.remove_file(&after[after.len() - 3]).unwrap();
    memory.remove_file(&index).unwrap();
    let store = open(&fs, &dir);
    let damage = &store.recovery_report().damage;
    assert!(damage.len() == 1 && damage[0].contains("missing"), "{damage:?}");
}

fn segments(memory: &Disk, dir: &Path) -> Vec<PathBuf> {
    let directory = dir.join(segment::DIRECTORY);
    let mut paths: Vec<PathBuf> = memory
        .read_dir(&directory)
        .unwrap()
        .iter()
        .filter(|e| e.name.ends_with(".phl"))
        .map(|e| directory.join(&e.name))
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_export_is_named_and_never_used_in_part() {
    let (memory, fs, dir) = make(1);
    let store = open(&fs, &dir);
    fill(&store, 0, 2);
    store.export().unwrap();
    let older = exports(&memory, &dir).remove(0);
    let old = bytes_of(&memory, &older);
    fill(&store, 1, 2);
    store.export().unwrap();
    let newer = exports(&memory, &dir).remove(0);
    let expected = listing(&store, 2);
    store.close().unwrap();
    let len = bytes_of(&memory, &newer).len();
    let mut flips: Vec<usize> = (0..len).step_by(293).collect();
    flips.extend((0..140).step_by(5));
    flips.extend((len - 100..len).step_by(3));
    for (at, both) in flips.into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let state = memory.copy();
        let damage = |path: &Path, at: usize| {
            let file = file(&state, path);
            let mut byte = [0];
            vfs::read_exact_at(file.as_ref(), &mut byte, at as u64).unwrap();
            file.write_at(&[byte[0] ^ 0x20], at as u64).unwrap();
        };
        state.open(&older, Open::Create).unwrap().write_at(&old, 0).unwrap();
        damage(&newer, at);
        if both {
            damage(&older, at % old.len());
        }
        state.remove_file(&dir.join("index/00.redb")).unwrap();
        let store = open(&shared(&state), &dir);
        let report = store.recovery_report();
        assert_eq!(report.damage, Vec::<String>::new(), "byte {at}");
        assert_eq!(report.imported == 0, both, "byte {at}");
        let bad = newer.display().to_string();
        assert!(report.notes[0].starts_with(&bad), "byte {at}: {:?}", report.notes);
        assert_eq!(report.notes.len(), if both { 3 } else { 2 }, "{:?}", report.notes);
        assert!(listing(&store, 2) == expected, "byte {at}");
        store.close().unwrap();
    }
    // And cut off.
    for cut in [0, 1, 127, 128, 200, len / 2, len - 81, len - 80, len - 1] {
        let state = memory.copy();
        file(&state, &newer).set_len(cut as u64).unwrap();
        state.remove_file(&dir.join("index/00.redb")).unwrap();
        let store = open(&shared(&state), &dir);
        assert_eq!(store.recovery_report().imported, 0, "cut at {cut}");
        assert!(listing(&store, 2) == expected, "cut at {cut}");
    }
}

#[test]
fn every_page_of_the_index_may_be_lost() {
    let (memory, fs, dir) = make(1);
    let store = open(&fs, &dir);
    for n in 0..3 {
        fill(&store, n, 3);
    }
    store.export().unwrap();
    for n in 3..5 {
        fill(&store, n, 3);
    }
    let expected = listing(&store, 3);
    healthy(&store);
    store.close().unwrap();
    let index = dir.join("index/00.redb");
    let whole = bytes_of(&memory, &index);
    let mut rebuilt = 0;
    let mut look = |what: &str, damage: &dyn Fn(&Disk)| {
        let state = memory.copy();
        damage(&state);
        let store = open(&shared(&state), &dir);
        let report = store.recovery_report();
        assert_eq!(report.damage, Vec::<String>::new(), "{what}");
        assert_eq!(report.imported > 0, report.rebuilt > 0, "{what}");
        rebuilt += report.rebuilt;
        assert!(listing(&store, 3) == expected, "{what}");
        store.close().unwrap();
    };
    let pages = whole.len().div_ceil(PAGE);
    for page in 0..pages {
        let at = page * PAGE;
        let page_bytes = &whole[at..whole.len().min(at + PAGE)];
        if page_bytes.iter().any(|byte| *byte != 0) {
            look(&format!("page {page} zeroed"), &|state| {
                file(state, &index).write_at(&vec![0; page_bytes.len()], at as u64).unwrap();
            });
        }
        look(&format!("page {page} overwritten"), &|state| {
            let garbage = pattern(page_bytes.len(), page as u32 + 1);
            file(state, &index).write_at(&garbage, at as u64).unwrap();
        });
        for place in [9, 100, 1000, 2500, 4000] {
            if let Some(byte) = page_bytes.get(place) {
                look(&format!("page {page}, byte {place} flipped"), &|state| {
                    file(state, &index).write_at(&[byte ^ 0x04], (at + place) as u64).unwrap();
                });
            }
        }
        if page > 0 {
            look(&format!("cut before page {page}"), &|state| {
                file(state, &index).set_len(at as u64).unwrap();
            });
        }
    }
    for cut in [0, 1, 64, 320, 4095, whole.len() - 1] {
        look(&format!("cut at {cut}"), &|state| {
            file(state, &index).set_len(cut as u64).unwrap();
        });
    }
    look("missing", &|state| state.remove_file(&index).unwrap());
    assert!(rebuilt as usize > pages, "{rebuilt} rebuilt for {pages} pages");
}
