//! What is wrong on disk is never served as if it were right, what is right is served, and the reports name the rest:
//! every page of an index, every region of every segment, and exports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{contents, envelope, healthy, inbox, pattern, put_body, read, send};
use super::*;
use crate::time::SystemClock;
use crate::vfs::File;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::sim::Disk;

const PAGE: usize = 4096;

/// Which of many places a run looks at: every one in a release build, as CI runs it, and with POSTHOUSE_EVERY=1; otherwise
/// every so many, from another one on each day, or from the one that POSTHOUSE_FROM says.
struct Thinned {
    every: usize,
    from: usize,
    next: usize,
}

impl Thinned {
    fn new(every: usize) -> Thinned {
        let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
        let every = variable("POSTHOUSE_EVERY")
            .unwrap_or(if cfg!(debug_assertions) { every } else { 1 })
            .max(1);
        let day = SystemClock::shared().unix_millis() / 86_400_000;
        let from = variable("POSTHOUSE_FROM").unwrap_or(day as usize) % every;
        println!("POSTHOUSE_EVERY={every} POSTHOUSE_FROM={from}");
        Thinned { every, from, next: 0 }
    }

    /// Whether the next place is looked at.
    fn takes(&mut self) -> bool {
        self.next += 1;
        (self.next - 1) % self.every == self.from
    }
}

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
        answer: Vec::new(),
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
        std::thread::park_timeout(std::time::Duration::from_millis(1));
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
    let mut thinned = Thinned::new(5);
    for (at, both) in flips.into_iter().flat_map(|at| [(at, false), (at, true)]) {
        if !thinned.takes() {
            continue;
        }
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
    let (mut rebuilt, mut looked) = (0, 0);
    let mut thinned = Thinned::new(11);
    let mut look = |what: &str, damage: &dyn Fn(&Disk)| {
        if !thinned.takes() {
            return;
        }
        looked += 1;
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
    assert!(rebuilt * 10 > looked, "{rebuilt} rebuilt of {looked}");
    assert!(looked as usize * thinned.every > 3 * pages, "{looked} looked at");
}

/// A record as it lies on disk.
struct Lying {
    path: PathBuf,
    lane: u8,
    at: u64,
    body: u64,
    len: u64,
    /// The message whose bytes it holds.
    message: Option<MessageId>,
    /// Whether nothing follows it in its lane.
    last: bool,
}

fn records(memory: &Disk, fs: &Arc<dyn Fs>, dir: &Path, lanes: usize) -> Vec<Lying> {
    let uuid = format::Format::read(fs.as_ref(), dir).unwrap().uuid;
    let chains = recovery::survey(fs.as_ref(), dir, &uuid, lanes).unwrap();
    let mut all: Vec<Lying> = Vec::new();
    for (lane, chain) in (0_u8..).zip(&chains) {
        for found in &chain.segments {
            let path = segment::path(dir, lane, found.number);
            let file = memory.open(&path, Open::Read).unwrap();
            let salt = found.header.unwrap().salt;
            let end = found.end.unwrap_or(u64::MAX);
            let mut scanner = segment::Scanner::new(file.as_ref(), salt, end).unwrap();
            let mut at = segment::HEADER_BYTES;
            while let segment::Found::Record(header) = scanner.record(at).unwrap() {
                let body = scanner.body(at, &header).unwrap();
                let message = match record::Record::decode(&header, body).unwrap() {
                    record::Record::Message(meta) => Some(meta.id),
                    record::Record::Chunk(head) => Some(head.message),
                    _ => None,
                };
                let (body, len) = (u64::from(header.body_len), header.record_len());
                all.push(Lying { path: path.clone(), lane, at, body, len, message, last: false });
                at += len;
            }
        }
        if let Some(last) = all.last_mut().filter(|last| last.lane == lane) {
            last.last = true;
        }
    }
    all
}

fn flip(memory: &Disk, path: &Path, at: u64) {
    let file = file(memory, path);
    let mut byte = [0];
    vfs::read_exact_at(file.as_ref(), &mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x08], at).unwrap();
}

/// A store with several segments, as it was before the damage.
struct Whole {
    memory: Disk,
    dir: PathBuf,
    expected: Listing,
    /// Every message ever kept.
    known: std::collections::HashSet<Vec<u8>>,
    records: Vec<Lying>,
}

const ACCOUNTS: u32 = 2;

fn whole() -> Whole {
    let (memory, fs, dir) = make(1);
    let mut known = std::collections::HashSet::new();
    for n in 0..3 {
        let store = open(&fs, &dir);
        fill(&store, n, ACCOUNTS);
        store.close().unwrap();
    }
    for n in 0..3 {
        for size in [10_usize, 700, 3000, 9000] {
            known.insert(pattern(size, n * 100 + size as u32));
        }
        for (size, seed) in [(300_000 + n as usize, n), (1500, n), (100, n)] {
            known.insert(pattern(size, seed));
        }
    }
    let store = open(&fs, &dir);
    let expected = listing(&store, ACCOUNTS);
    healthy(&store);
    store.close().unwrap();
    let records = records(&memory, &fs, &dir, 2);
    assert!(segments(&memory, &dir).len() >= 6 && records.len() > 60);
    Whole { memory, dir, expected, known, records }
}

impl Whole {
    /// What must hold whatever was damaged at `path`, when these messages are.
    fn look(
        &self,
        state: &Disk,
        path: &Path,
        affected: &[MessageId],
        kept: bool,
        what: &str,
    ) -> (RecoveryReport, CheckReport) {
        let index = self.dir.join("index/00.redb");
        if !kept {
            state.remove_file(&index).unwrap();
        }
        let store = open(&shared(state), &self.dir);
        let report = store.recovery_report().clone();
        assert_eq!(report.rebuilt, u32::from(!kept), "{what}");
        let problems = store.check(&mut |_, _| {}).unwrap();
        let name = path.display().to_string();
        let mut seen = std::collections::BTreeSet::new();
        for account in 1..=ACCOUNTS {
            let account_id = AccountId(account);
            let rows = store.mailbox_scan(account_id, MailboxId::INBOX, 0, usize::MAX).unwrap();
            let before = &self.expected.rows[account as usize - 1];
            if kept {
                assert_eq!(&rows, before, "{what}");
            }
            for row in &rows {
                let was = before.iter().position(|b| b.message == row.message);
                match read(&store, row.message) {
                    Ok(bytes) => match was {
                        Some(was) => {
                            assert_eq!(row.uid, before[was].uid, "{what}");
                            assert!(
                                bytes == self.expected.bodies[account as usize - 1][was],
                                "{what}: wrong bytes"
                            );
                            seen.insert(row.message);
                        }
                        None => assert!(self.known.contains(&bytes), "{what}: wrong bytes"),
                    },
                    Err(e) => {
                        assert_eq!(e.kind(), Kind::Corrupt, "{what}: {e}");
                        assert!(e.message().contains(&name), "{what}: {e}");
                        assert!(affected.contains(&row.message), "{what}: {e}");
                        let holder = format!("account {account}, mailbox 1, UID {}", row.uid);
                        assert!(
                            problems
                                .problems
                                .iter()
                                .any(|p| p.contains(&holder) && p.contains(&name)),
                            "{what}: {:?}",
                            problems.problems
                        );
                        assert!(problems.lost.iter().any(|lost| lost.message == row.message
                            && lost.mailboxes == [(account_id, MailboxId::INBOX, row.uid)]));
                    }
                }
            }
            for row in before {
                let fine = seen.contains(&row.message) || affected.contains(&row.message);
                assert!(fine, "{what}: UID {} of account {account} is not served", row.uid);
            }
        }
        for (entry, bytes) in self.expected.queue.iter().zip(&self.expected.queued) {
            let found = store.queue_entry(entry.message).unwrap();
            if affected.contains(&entry.message) {
                if kept {
                    let e = read(&store, entry.message).unwrap_err();
                    assert_eq!(e.kind(), Kind::Corrupt, "{what}");
                    assert!(problems.problems.iter().any(|p| {
                        p.contains(&entry.message.to_string()) && p.contains("in the queue")
                    }));
                }
            } else {
                assert_eq!(found.as_ref(), Some(entry), "{what}");
                assert!(read(&store, entry.message).unwrap() == *bytes, "{what}");
            }
        }
        if kept {
            assert_eq!(store.scan(Table::Value).unwrap(), self.expected.table, "{what}");
        }
        store.close().unwrap();
        (report, problems)
    }
}

#[test]
fn every_region_of_every_segment_may_be_flipped() {
    let whole = whole();
    let mut thinned = Thinned::new(11);
    for (number, record) in whole.records.iter().enumerate() {
        // The header's fields in turn, the body's ends and middle, and the padding, which nobody reads.
        let field = [1, 6, 8, 10, 14, 20, 26, 30][number % 8];
        let mut places: Vec<(u64, bool)> = vec![(record.at + field, true)];
        let body = record.at + 32;
        if record.body > 0 {
            places.extend([0, record.body / 2, record.body - 1].map(|at| (body + at, true)));
        }
        if record.len > 32 + record.body {
            places.push((record.at + record.len - 1, false));
        }
        // With the index all of them; without it the log is read in the same way for all.
        for (n, (at, matters)) in places.into_iter().enumerate() {
            for kept in [true, false] {
                if (!kept && n % 4 != number % 4) || !thinned.takes() {
                    continue;
                }
                let state = whole.memory.copy();
                flip(&state, &record.path, at);
                let what = format!("{} byte {at}, index kept: {kept}", record.path.display());
                let affected: Vec<_> = record.message.filter(|_| matters).into_iter().collect();
                let (report, check) = whole.look(&state, &record.path, &affected, kept, &what);
                if matters && !record.last {
                    whole_named(&check, &record.path, &what);
                    if !kept && record.lane == 0 {
                        let name = format!("{}: bytes {}", record.path.display(), record.at);
                        let damage = &report.damage;
                        assert!(damage.iter().any(|d| d.starts_with(&name)), "{what}: {damage:?}");
                    }
                }
            }
        }
    }
}

fn whole_named(check: &CheckReport, path: &Path, what: &str) {
    let name = path.display().to_string();
    let problems = &check.problems;
    assert!(problems.iter().any(|p| p.contains(&name)), "{what}: check says {problems:?}");
    assert!(check.damaged.iter().any(|range| range.file == path), "{what}: {:?}", check.damaged);
}

#[test]
fn a_segments_header_may_be_flipped() {
    let whole = whole();
    let mut paths: Vec<PathBuf> = whole.records.iter().map(|r| r.path.clone()).collect();
    paths.dedup();
    let mut thinned = Thinned::new(3);
    for (number, path) in paths.into_iter().enumerate() {
        let all = [9, 12, 20, 33, 41, 49, 53, 57, 65, 73, 81, 89, 1000, 2047, 2048, 2100, 4095];
        for at in all.into_iter().skip(number % 3).step_by(3) {
            if !thinned.takes() {
                continue;
            }
            let kept = at % 2 == 0;
            let state = whole.memory.copy();
            flip(&state, &path, at);
            let what = format!("{} byte {at}, index kept: {kept}", path.display());
            let (_, check) = whole.look(&state, &path, &[], kept, &what);
            whole_named(&check, &path, &what);
        }
        // Both copies: the segment is lost, the others are not.
        let affected: Vec<_> =
            whole.records.iter().filter(|r| r.path == path).filter_map(|r| r.message).collect();
        for kept in [true, false] {
            let state = whole.memory.copy();
            flip(&state, &path, 40);
            flip(&state, &path, 2048 + 50);
            let what = format!("{} both headers, index kept: {kept}", path.display());
            let (_, check) = whole.look(&state, &path, &affected, kept, &what);
            whole_named(&check, &path, &what);
        }
    }
}

fn repair(state: &Disk, dir: &Path, drop_lost: bool) -> RepairReport {
    let options = RepairOptions { drop_lost, open: options() };
    Store::repair(shared(state), SystemClock::shared(), dir, &options, &mut |_, _| {}).unwrap()
}

#[test]
fn repairing_what_is_well_changes_nothing_that_is_served() {
    let whole = whole();
    let report = repair(&whole.memory, &whole.dir, true);
    assert_eq!((report.rebuilt, report.recounted, report.dropped), (1, 0, 0));
    assert!(report.imported > 0, "{report:?}");
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.lost.is_empty() && report.damaged.is_empty() && report.copies.is_empty());
    assert!(whole.memory.metadata(&whole.dir.join("lost")).is_err());
    let store = open(&shared(&whole.memory), &whole.dir);
    assert_eq!(listing(&store, ACCOUNTS), whole.expected);
    healthy(&store);
}

#[test]
fn repair_names_what_is_lost_and_drops_it_only_when_it_is_asked_to() {
    let whole = whole();
    let queued = whole.expected.queue[0].message;
    let held = whole.expected.rows[1][0];
    let large = whole.expected.rows[0].iter().find(|row| row.size > 100_000).unwrap().message;
    let gone = [queued, held.message, large];
    let state = whole.memory.copy();
    let mut damaged = Vec::new();
    for record in whole.records.iter().filter(|r| r.message.is_some_and(|m| gone.contains(&m))) {
        // Of the large one a chunk only.
        if record.message != Some(large) || record.lane == 1 {
            flip(&state, &record.path, record.at + 40);
            damaged.push(record.path.clone());
        }
    }
    let damaged: Vec<_> = damaged.into_iter().map(|path| (bytes_of(&state, &path), path)).collect();
    let report = repair(&state, &whole.dir, false);
    assert_eq!(report.dropped, 0);
    let mut lost: Vec<_> = report.lost.iter().map(|lost| lost.message).collect();
    let mut expected = gone.to_vec();
    lost.sort();
    expected.sort();
    assert_eq!(lost, expected);
    let of = |id| report.lost.iter().find(|lost| lost.message == id).unwrap();
    assert!(of(queued).queued && of(queued).sender.as_deref() == Some(b"sender@example.test"));
    assert_eq!(of(held.message).mailboxes, [(AccountId(2), MailboxId::INBOX, held.uid)]);
    assert!(!report.problems.is_empty() && report.copies.is_empty());
    let store = open(&shared(&state), &whole.dir);
    assert_eq!(store.mailboxes(AccountId(1)).unwrap(), whole.expected.heads[0]);
    assert_eq!(store.queue_scan(None, 100).unwrap(), whole.expected.queue);
    store.close().unwrap();

    let report = repair(&state, &whole.dir, true);
    assert_eq!((report.lost.len(), report.dropped), (3, 3));
    assert!(report.copies.len() >= 3, "{:?}", report.copies);
    for copy in &report.copies {
        assert!(state.metadata(copy).unwrap().len > 0);
    }
    for (bytes, path) in &damaged {
        assert!(bytes_of(&state, path) == *bytes, "{}", path.display());
    }
    let store = open(&shared(&state), &whole.dir);
    let now = listing(&store, ACCOUNTS);
    for account in 0..ACCOUNTS as usize {
        let keep = |message: &MessageId| !gone.contains(message);
        let before = whole.expected.rows[account].iter().filter(|row| keep(&row.message));
        assert!(now.rows[account].iter().eq(before), "account {account}");
        let before = whole.expected.rows[account].iter().zip(&whole.expected.bodies[account]);
        let before = before.filter(|(row, _)| keep(&row.message)).map(|(_, body)| body);
        assert!(now.bodies[account].iter().eq(before), "account {account}");
    }
    assert_eq!(now.queue[..], whole.expected.queue[1..]);
    let check = store.check(&mut |_, _| {}).unwrap();
    assert_eq!(check.lost, Vec::new(), "nobody misses anything any more");
    assert_eq!(check.problems.len(), check.damaged.len(), "{:?}", check.problems);
    store.close().unwrap();
    // And the index that was made again agrees, whatever becomes of it.
    state.remove_file(&whole.dir.join("index/00.redb")).unwrap();
    let store = open(&shared(&state), &whole.dir);
    assert_eq!(listing(&store, ACCOUNTS), now);
}

#[test]
fn repair_counts_references_again() {
    let whole = whole();
    let fs = shared(&whole.memory);
    let store = open(&fs, &whole.dir);
    let rows = &whole.expected.rows[0];
    let (high, low) = (rows[0].message, rows[1].message);
    let recipients = Vec::new();
    let change = Change::Queue { message: high, recipients, references: 2 };
    let lower = Change::Deliver {
        message: low,
        account: AccountId(2),
        mailbox: MailboxId::INBOX,
        size: rows[1].size,
        received: rows[1].received,
        flags: 0,
    };
    let lane = Lane(0);
    store.commit(lane, vec![change, lower]).wait().unwrap();
    store.commit(lane, vec![Change::Unreference { message: low, count: 1 }]).wait().unwrap();
    assert!(!store.check(&mut |_, _| {}).unwrap().problems.is_empty());
    store.close().unwrap();
    let report = repair(&whole.memory, &whole.dir, false);
    assert_eq!((report.recounted, report.problems.len()), (2, 0), "{report:?}");
    let store = open(&fs, &whole.dir);
    healthy(&store);
    let home = &store.handle.core.homes[0];
    for (message, count) in [(high, 1), (low, 2)] {
        let value = home.view().unwrap().get(Space::Place, &row::message_key(message)).unwrap();
        assert_eq!(row::Place::decode(&value.unwrap()).unwrap().references, count);
    }
}

#[test]
fn an_index_of_another_version_is_made_again() {
    use super::index::redb::{IndexCounters, Redb, Verify};
    use super::index::{Changes, IndexKv};
    let whole = whole();
    let index = whole.dir.join("index/00.redb");
    let fs = shared(&whole.memory);
    for version in [index::VERSION - 1, index::VERSION + 1, u32::MAX] {
        let counters = Arc::new(IndexCounters::default());
        let shard = Redb::open(&fs, &index, &counters, Verify::Everything).unwrap();
        let mut owner = shard.view().unwrap().get(Space::Meta, row::OWNER).unwrap().unwrap();
        let at = owner.len() - 4;
        owner[at..].copy_from_slice(&version.to_le_bytes());
        let mut changes = Changes::new();
        changes.insert((Space::Meta, row::OWNER.to_vec()), Some(owner));
        shard.apply(&changes).unwrap();
        shard.checkpoint().unwrap();
        drop(shard);
        let store = open(&fs, &whole.dir);
        let report = store.recovery_report();
        assert_eq!((report.rebuilt, report.damage.len()), (1, 0), "version {version}");
        assert!(report.notes[0].contains("another version"), "{:?}", report.notes);
        assert_eq!(listing(&store, ACCOUNTS), whole.expected, "version {version}");
        store.close().unwrap();
        let store = open(&fs, &whole.dir);
        assert_eq!(store.recovery_report().rebuilt, 0, "version {version}");
        store.close().unwrap();
    }
}

/// Writes the seeds of the readers' fuzzing targets. Only to be run on purpose, when a format has changed.
#[test]
#[ignore = "writes fuzz/corpus"]
#[allow(clippy::disallowed_methods)]
fn write_seeds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let put = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(name), bytes).unwrap();
    };
    let (memory, fs, dir) = make(1);
    let store = open(&fs, &dir);
    let account = AccountId(1);
    inbox(&store, account);
    for n in 1..4 {
        send(&store, account, &pattern(n as usize * 20, n)).wait().unwrap();
    }
    let kept = queue(&store, Lane(0), b"kept");
    let gone = queue(&store, Lane(0), b"gone");
    let mailbox = MailboxId::INBOX;
    let changes = vec![
        Change::Queue { message: gone, recipients: Vec::new(), references: 0 },
        Change::Expunge { account, mailbox, uids: vec![2] },
        Change::Row { table: Table::Value, key: b"key".to_vec(), value: Some(b"v".to_vec()) },
        Change::Deliver { message: kept, account, mailbox, size: 4, received: 5, flags: 0 },
        Change::Forget { message: kept, account, mailbox },
        Change::Unreference { message: kept, count: 1 },
        Change::Flags { account, mailbox, uids: vec![1, 3], add: 5, remove: 2 },
        Change::Move { account, from: mailbox, to: mailbox, uids: vec![1, 3] },
    ];
    store.commit(Lane(0), changes).wait().unwrap();
    send(&store, account, &pattern(20_100, 9)).wait().unwrap();
    store.export().unwrap();
    store.commit(Lane(0), vec![Change::RemoveMailboxes { account }]).wait().unwrap();
    store.close().unwrap();
    put("format", "v1", &bytes_of(&memory, &dir.join("FORMAT")));
    put("export", "v1", &bytes_of(&memory, &exports(&memory, &dir)[0]));
    let records = records(&memory, &fs, &dir, 2);
    let end = records.iter().filter(|r| r.lane == 0).map(|r| r.at + r.len).max().unwrap();
    let mut segment = bytes_of(&memory, &segments(&memory, &dir)[0]);
    segment.truncate(end as usize);
    put("segment", "v1", &segment);
    let mut message = Vec::new();
    for record in records.iter().filter(|record| record.body < 2000) {
        let bytes = bytes_of(&memory, &record.path);
        let (at, body) = (record.at as usize, record.body as usize);
        let mut seed = vec![bytes[at + 8]];
        seed.extend_from_slice(&bytes[at + 32..at + 32 + body]);
        put("record", &format!("type-{}", bytes[at + 8]), &seed);
        if bytes[at + 8] == 1 {
            message = seed;
        }
    }
    // What only compaction writes, and what is too long for a seed.
    message[0] = record::Type::Copy as u8;
    put("record", "type-16", &message);
    let place = |n: u64| record::ChunkPlace { segment: n, offset: 4096 + (n << 17) };
    for (made, behind) in [
        (record::Record::Loc { message: kept, chunks: (1..5).map(place).collect() }, &b""[..]),
        (
            record::Record::Chunk(record::ChunkHead { message: kept, offset: 0, index: 0 }),
            &b"the bytes of a chunk"[..],
        ),
    ] {
        let mut seed = vec![made.kind()];
        made.encode(&mut seed);
        seed.extend_from_slice(behind);
        put("record", &format!("type-{}", made.kind()), &seed);
    }
}
