//! Stores that earlier versions wrote are read by this one, and what a later version wrote is refused and left alone.
//!
//! Each folder of `tests/formats` is a store as a version left it. `NAME/store` are its files without the pages of 4096
//! bytes that are zeros, `NAME/listing` says what it holds, how long the files are, and where each page belongs. They are never changed: a new format adds
//! folders. Every one is opened here on a copy, with its index and without. `tests/interop/read_store.py` reads the same
//! folders with nothing but `docs/format.md`.
//!
//! - `v1-index`: closed in order, with exports; segments were freed, others made of them.
//! - `v1-log`: no index and no export, two openings.
//! - `v1-killed`: the process died: no SEAL, the last record torn, zeros or old bytes behind.
//!
//! `PH_BLESS=1 cargo test --features cli --test formats -- --ignored` writes them anew: only for a format that no version
//! was published with. Environment: PH_BLESS.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use posthouse::error::Kind;
use posthouse::store::format::Format;
use posthouse::store::record::Header;
use posthouse::store::segment::{Found, HEADER_BYTES, Scanner, SegmentHeader};
use posthouse::store::{
    AccountId, Change, CompactOptions, CreateOptions, Envelope, Lane, MailboxId, MessageId,
    NewMessage, OpenOptions, QueueRecipient, RecipientState, RepairOptions, Rows, Store, Table,
};
use posthouse::time::SystemClock;
use posthouse::vfs::os::OsFs;
use posthouse::vfs::sim::Disk;
use posthouse::vfs::{Fs, Open, read_small};

const ARCHIVE: MailboxId = MailboxId(2);
const ACCOUNTS: u32 = 6;
const PAGE: usize = 4096;

fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 96 << 10,
        large_body_bytes: 20_000,
        // Nothing happens by itself.
        checkpoint_millis: 3_600_000,
        compact_bytes_per_second: 0,
        scrub_bytes_per_second: 0,
        ballast_bytes: 0,
        low_space_percent: 0,
        low_space_bytes: 0,
        ..OpenOptions::default()
    }
}

fn open(fs: &Arc<dyn Fs>, dir: &Path) -> posthouse::error::Result<Store> {
    Store::open(fs.clone(), SystemClock::shared(), dir, options())
}

// What is kept, as text.

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("-".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes_of(store: &Store, id: MessageId) -> Vec<u8> {
    let mut reader = store.read(id).unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 8192]);
    loop {
        match reader.read_at(bytes.len() as u64, &mut piece).unwrap() {
            0 => return bytes,
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

/// Everything that a store serves, one line each. Byte strings are in hexadecimal behind a `-`.
fn listing(store: &Store) -> String {
    let mut text = format!("lanes {}\n", store.lanes());
    let mut messages = BTreeSet::new();
    for account in (1..=ACCOUNTS).map(AccountId) {
        for head in store.mailboxes(account).unwrap() {
            let (a, m) = (account.0, head.mailbox.0);
            let _ = writeln!(
                text,
                "mailbox {a} {m} {} {} {} {} {} {}",
                head.uid_validity,
                head.uid_next,
                head.highest_modseq,
                head.messages,
                head.bytes,
                hexadecimal(head.name.as_bytes())
            );
            for row in store.mailbox_scan(account, head.mailbox, 0, usize::MAX).unwrap() {
                messages.insert(row.message);
                let _ = writeln!(
                    text,
                    "row {a} {m} {} {} {} {} {} {} {}",
                    row.uid,
                    row.message,
                    row.size,
                    row.received,
                    row.modseq,
                    row.envelope_flags,
                    row.flags
                );
            }
        }
    }
    for entry in store.queue_scan(None, usize::MAX).unwrap() {
        messages.insert(entry.message);
        let envelope = &entry.envelope;
        let _ = writeln!(
            text,
            "queue {} {} {} {} {} {} {}",
            entry.message,
            entry.size,
            envelope.received,
            envelope.flags,
            envelope.prefix_len,
            hexadecimal(&envelope.from),
            hexadecimal(&envelope.parameters)
        );
        for recipient in &entry.recipients {
            let state = match recipient.state {
                RecipientState::Remote => "remote".to_owned(),
                RecipientState::Local(account, mailbox) => {
                    format!("local {} {}", account.0, mailbox.0)
                }
                RecipientState::Held => "held".to_owned(),
                RecipientState::Deferred { attempts, next } => {
                    format!("deferred {attempts} {next} {}", hexadecimal(&recipient.answer))
                }
                RecipientState::Failed { attempts, at } => {
                    format!("failed {attempts} {at} {}", hexadecimal(&recipient.answer))
                }
            };
            let (address, parameters) = (&recipient.address, &recipient.parameters);
            let (address, parameters) = (hexadecimal(address), hexadecimal(parameters));
            let _ = writeln!(text, "recipient {} {address} {parameters} {state}", entry.message);
        }
    }
    for table in [Table::Domain, Table::Account, Table::Alias, Table::Value] {
        for (key, value) in store.scan(table).unwrap() {
            let (key, value) = (hexadecimal(&key), hexadecimal(&value));
            let _ = writeln!(text, "value {} {key} {value}", table as u8);
        }
    }
    for id in messages {
        let bytes = bytes_of(store, id);
        let _ = writeln!(text, "message {id} {} {}", bytes.len(), blake3::hash(&bytes));
    }
    text
}

fn healthy(store: &Store, what: &str) {
    assert_eq!(store.recovery_report().damage, Vec::<String>::new(), "{what}");
    let report = store.check(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new(), "{what}");
    assert!(report.messages > 0, "{what}");
}

// Making them.

struct Writer<'a> {
    store: &'a Store,
    sent: AtomicU32,
}

impl Writer<'_> {
    /// Message `n`, which says so: text, so that it takes little space in the repository.
    fn text(&self, size: usize) -> Vec<u8> {
        let n = self.sent.fetch_add(1, Ordering::SeqCst);
        let mut text = format!("Return-Path: <>\r\nSubject: message {n}\r\n\r\n").into_bytes();
        while text.len() < size {
            let line = format!("part {} of message {n}\r\n", text.len() / 1000);
            text.extend_from_slice(line.as_bytes());
        }
        text.truncate(size);
        text
    }

    fn commit(&self, lane: Lane, changes: Vec<Change>) -> Vec<u32> {
        self.store.commit(lane, changes).wait().unwrap().uids
    }

    fn send(
        &self,
        lane: Lane,
        size: usize,
        to: &[AccountId],
        queue: Vec<QueueRecipient>,
    ) -> MessageId {
        let id = self.store.new_message_id(lane);
        let mut body = self.store.body(id);
        body.write(&self.text(size)).unwrap();
        let envelope = Envelope {
            from: b"sender@example.test".to_vec(),
            received: 1_790_000_000_000 + u64::from(self.sent.load(Ordering::SeqCst)) * 1234,
            flags: 1,
            prefix_len: if size > 17 { 17 } else { 0 },
            parameters: b"RET=HDRS ENVID=x+2B".to_vec(),
        };
        let deliver = to.iter().map(|account| (*account, MailboxId::INBOX)).collect();
        let body = body.finish().unwrap();
        self.commit(lane, vec![Change::Message(NewMessage { id, envelope, body, deliver, queue })]);
        id
    }

    fn accounts_of(&self, lane: Lane) -> Vec<AccountId> {
        let all = (1..=ACCOUNTS).map(AccountId);
        all.filter(|account| self.store.lane_of(*account) == lane).collect()
    }

    fn lanes(&self) -> impl Iterator<Item = Lane> {
        (0..self.store.lanes()).map(Lane)
    }

    fn mailboxes(&self) {
        for lane in self.lanes() {
            for account in self.accounts_of(lane) {
                let make = |mailbox, name: &str| Change::CreateMailbox {
                    account,
                    mailbox,
                    name: name.to_owned(),
                    uid_validity: 1_000_000 + account.0,
                };
                let archive = make(ARCHIVE, "Archiv/Bücher");
                self.commit(lane, vec![make(MailboxId::INBOX, "INBOX"), archive]);
            }
        }
    }

    /// A bit of everything that does not need compaction.
    fn fill(&self) {
        let mailbox = MailboxId::INBOX;
        for lane in self.lanes() {
            let accounts = self.accounts_of(lane);
            for (n, account) in accounts.iter().copied().enumerate() {
                for size in [0, 1, 17, 100, 1000 + n, 6000] {
                    self.send(lane, size, &[account], Vec::new());
                }
                let flags = |uids: &[u32], add, remove| Change::Flags {
                    account,
                    mailbox,
                    uids: uids.to_vec(),
                    add,
                    remove,
                };
                self.commit(lane, vec![flags(&[1, 2, 5], 1, 0), flags(&[2, 6], 16, u32::MAX)]);
                let moved =
                    Change::Move { account, from: mailbox, to: ARCHIVE, uids: vec![2, 4, 5] };
                let back = Change::Move { account, from: ARCHIVE, to: mailbox, uids: vec![2] };
                self.commit(lane, vec![moved, back]);
                let uids = vec![3];
                self.commit(lane, vec![Change::Expunge { account, mailbox, uids }]);
            }
            self.send(lane, 140_000, &accounts, Vec::new());
            self.send(lane, 30_001, &accounts[..1], Vec::new());
            self.queue(lane);
        }
        for (table, key) in
            [(Table::Domain, "d"), (Table::Account, "a"), (Table::Alias, "l"), (Table::Value, "v")]
        {
            self.store.put(table, key.as_bytes(), format!("value of {key}").as_bytes()).unwrap();
            self.store.put(table, b"gone", b"").unwrap();
            self.store.delete(table, b"gone").unwrap();
        }
        self.store.put(Table::Value, b"", b"").unwrap();
    }

    /// Queue entries in every state that a recipient may be in, and deliveries between lanes in every stage.
    fn queue(&self, lane: Lane) {
        let recipient = |address: &str, state| QueueRecipient {
            address: address.as_bytes().to_vec(),
            parameters: b"NOTIFY=NEVER".to_vec(),
            state,
            answer: Vec::new(),
        };
        let remote = || recipient("far@elsewhere.test", RecipientState::Remote);
        let held = || recipient("held@elsewhere.test", RecipientState::Held);
        let mailbox = MailboxId::INBOX;
        let other = Lane((lane.0 + 1) % self.store.lanes());
        let Some(account) = self.accounts_of(other).first().copied() else { return };
        let local = || recipient("near@example.test", RecipientState::Local(account, mailbox));
        self.send(lane, 500, &[], vec![remote()]);
        self.send(lane, 21_000, &[], vec![held(), remote()]);
        let gone = self.send(lane, 400, &[], vec![remote()]);
        self.commit(
            lane,
            vec![Change::Queue { message: gone, recipients: Vec::new(), references: 0 }],
        );
        if other == lane {
            return;
        }
        self.send(lane, 300, &[], vec![local(), held(), remote()]);
        for (n, size) in [201, 202, 203].into_iter().enumerate() {
            let id = self.send(lane, size, &[], vec![local(), remote()]);
            let received = 1_790_000_009_999;
            let size = size as u64;
            let deliver =
                Change::Deliver { message: id, account, mailbox, size, received, flags: 1 };
            let uid = self.commit(other, vec![deliver])[0];
            if n > 0 {
                let recipients = vec![remote()];
                self.commit(lane, vec![Change::Queue { message: id, recipients, references: 1 }]);
                self.commit(other, vec![Change::Forget { message: id, account, mailbox }]);
            }
            if n > 1 {
                self.commit(other, vec![Change::Expunge { account, mailbox, uids: vec![uid] }]);
                // The other lane tells this one by itself.
                let change =
                    Change::Queue { message: id, recipients: vec![remote()], references: 0 };
                self.commit(lane, vec![change]);
            }
        }
    }

    /// Most of a lot of mail goes, and its space is given back.
    fn compact(&self) {
        for lane in self.lanes() {
            let account = self.accounts_of(lane)[0];
            let mailbox = MailboxId::INBOX;
            let from = self.store.mailboxes(account).unwrap()[0].uid_next;
            for n in 0..40 {
                self.send(lane, if n % 10 == 5 { 24_000 } else { 7000 }, &[account], Vec::new());
            }
            let to = self.store.mailboxes(account).unwrap()[0].uid_next;
            let uids = (from..to).filter(|uid| (uid - from) % 10 != 5 || (uid - from) % 20 == 5);
            let expunge = Change::Expunge { account, mailbox, uids: uids.collect() };
            self.commit(lane, vec![expunge]);
        }
        let report =
            self.store.compact(&CompactOptions { below_percent: 90, ..Default::default() });
        let report = report.unwrap();
        assert!(report.freed > 0 && report.moved > 0, "{report:?}");
        assert_eq!(report.findings, Vec::<String>::new());
    }
}

fn begin(lanes: u8) -> (Disk, Arc<dyn Fs>, PathBuf) {
    let disk = Disk::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let dir = PathBuf::from("/instance");
    disk.create_dir_all(&dir).unwrap();
    Store::create(&fs, &dir, &CreateOptions { lanes }).unwrap();
    (disk, fs, dir)
}

fn write<T>(store: &Store, from: u32, work: impl FnOnce(&Writer<'_>) -> T) -> T {
    work(&Writer { store, sent: AtomicU32::new(from) })
}

/// Writes the files of a store and its listing.
fn put(disk: &Disk, dir: &Path, name: &str, listing: &str, without: &[&str]) {
    let root = folder().join(name);
    let _ = std::fs::remove_dir_all(&root);
    let mut text =
        format!("# What the store beside this file holds; see tests/formats.rs.\n{listing}");
    for place in ["", "seg", "index", "export"] {
        if without.contains(&place) {
            continue;
        }
        for entry in disk.read_dir(&dir.join(place)).unwrap() {
            let path = dir.join(place).join(&entry.name);
            // The lock's number and segments in preparation are nobody's.
            if entry.is_dir || entry.name == "LOCK" || entry.name.ends_with(".new") {
                continue;
            }
            let bytes = read_small(disk, &path, u64::MAX).unwrap();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().replace('\\', "/");
            let _ = write!(text, "file {name} {}", bytes.len());
            let mut kept = Vec::new();
            for (at, page) in (0..).step_by(PAGE).zip(bytes.chunks(PAGE)) {
                if page.iter().any(|byte| *byte != 0) {
                    let _ = write!(text, " {at}");
                    kept.extend_from_slice(page);
                }
            }
            text.push('\n');
            let path = root.join("store").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, kept).unwrap();
        }
    }
    std::fs::write(root.join("listing"), text).unwrap();
}

#[test]
#[ignore = "writes tests/formats"]
fn bless() {
    assert!(std::env::var_os("PH_BLESS").is_some(), "set PH_BLESS=1 to write tests/formats anew");
    let (disk, fs, dir) = begin(2);
    let store = open(&fs, &dir).unwrap();
    write(&store, 0, |writer| {
        writer.mailboxes();
        writer.fill();
        writer.compact();
    });
    store.export().unwrap();
    write(&store, 1000, |writer| {
        let lane = Lane(0);
        let accounts = writer.accounts_of(lane);
        writer.send(lane, 700, &accounts, Vec::new());
        let account = accounts[1];
        writer.commit(lane, vec![Change::RemoveMailboxes { account }]);
        writer.queue(Lane(1));
        let (account, mailbox) = (accounts[0], MailboxId::INBOX);
        let uids = vec![1, 6];
        let flags = Change::Flags { account, mailbox, uids, add: 4, remove: 1 };
        let moved = Change::Move { account, from: mailbox, to: ARCHIVE, uids: vec![6] };
        writer.commit(lane, vec![flags, moved]);
    });
    let text = listing(&store);
    healthy(&store, "v1-index");
    store.close().unwrap();
    put(&disk, &dir, "v1-index", &text, &[]);

    let (disk, fs, dir) = begin(1);
    let store = open(&fs, &dir).unwrap();
    write(&store, 0, |writer| {
        writer.mailboxes();
        writer.fill();
    });
    store.close().unwrap();
    let store = open(&fs, &dir).unwrap();
    write(&store, 1000, |writer| writer.fill());
    let text = listing(&store);
    healthy(&store, "v1-log");
    store.close().unwrap();
    put(&disk, &dir, "v1-log", &text, &["index", "export"]);

    let (disk, fs, dir) = begin(2);
    let store = open(&fs, &dir).unwrap();
    write(&store, 0, |writer| {
        writer.mailboxes();
        writer.fill();
        writer.compact();
    });
    store.checkpoint().unwrap();
    write(&store, 1000, |writer| {
        for lane in writer.lanes() {
            writer.queue(lane);
        }
    });
    let text = listing(&store);
    healthy(&store, "v1-killed");
    let before = disk.after_power_cut();
    write(&store, 2000, |writer| {
        for lane in writer.lanes() {
            writer.send(lane, 3000, &writer.accounts_of(lane), Vec::new());
        }
    });
    // The last record of each lane had only begun to reach the disk.
    let killed = disk.after_power_cut();
    for entry in killed.read_dir(&dir.join("seg")).unwrap() {
        let path = dir.join("seg").join(entry.name);
        let now = read_small(&killed, &path, u64::MAX).unwrap();
        let then = read_small(&before, &path, u64::MAX).unwrap();
        if let Some(at) = now.iter().zip(&then).position(|(a, b)| a != b) {
            let (from, file) = (at + 1024, killed.open(&path, Open::ReadWrite).unwrap());
            file.write_at(&then[from..], from as u64).unwrap();
        }
    }
    put(&killed, &dir, "v1-killed", &text, &[]);
}

// Reading them.

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.iter().any(|name| name == "v1-index"), "{names:?}");
    names
}

/// A directory that goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("posthouse-formats-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A copy of a store, and what it holds.
fn copy(name: &str) -> (Scratch, String) {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(folder().join(name).join("listing")).unwrap();
    let mut listing = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(file) = line.strip_prefix("file ") else {
            let _ = writeln!(listing, "{line}");
            continue;
        };
        let mut words = file.split(' ');
        let file = words.next().unwrap();
        let mut numbers = words.map(|word| word.parse::<usize>().unwrap());
        let mut whole = vec![0; numbers.next().unwrap()];
        let kept = std::fs::read(folder().join(name).join("store").join(file)).unwrap();
        let mut kept = &kept[..];
        for at in numbers {
            let len = PAGE.min(whole.len() - at);
            let (page, rest) = kept.split_at(len);
            whole[at..at + len].copy_from_slice(page);
            kept = rest;
        }
        assert!(kept.is_empty(), "{name}: {file}");
        let path = scratch.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, whole).unwrap();
    }
    (scratch, listing)
}

fn disk() -> Arc<dyn Fs> {
    Arc::new(OsFs::new())
}

/// Opens, compares, adds a message to every mailbox, and looks again after another opening.
fn serves(dir: &Path, expected: &str, what: &str) {
    let fs = disk();
    let store = open(&fs, dir).unwrap();
    assert_eq!(listing(&store), expected, "{what}");
    healthy(&store, what);
    let add = |writer: &Writer<'_>| {
        for account in (1..=ACCOUNTS).map(AccountId) {
            let Some(head) = store.mailboxes(account).unwrap().first().cloned() else { continue };
            let id = writer.send(store.lane_of(account), 2500, &[account], Vec::new());
            let rows = store.mailbox_scan(account, MailboxId::INBOX, 0, usize::MAX).unwrap();
            let row = rows.last().unwrap();
            assert_eq!((row.message, row.uid), (id, head.uid_next), "{what}");
            assert!(row.modseq > head.highest_modseq, "{what}");
        }
    };
    write(&store, 5000, add);
    let more = listing(&store);
    assert!(more != expected);
    healthy(&store, what);
    store.close().unwrap();
    let store = open(&fs, dir).unwrap();
    assert_eq!(listing(&store), more, "{what}");
    healthy(&store, what);
}

#[test]
fn every_store_of_an_earlier_version_is_read_and_written() {
    for name in names() {
        let (scratch, expected) = copy(&name);
        let indexed = scratch.0.join("index").exists();
        let store = open(&disk(), &scratch.0).unwrap();
        assert_eq!(store.recovery_report().rebuilt == 0, indexed, "{name}: the index is used");
        drop(store);
        let (scratch, _) = copy(&name);
        serves(&scratch.0, &expected, &name);
        // The index is made again from what else there is.
        let (scratch, _) = copy(&name);
        let _ = std::fs::remove_dir_all(scratch.0.join("index"));
        serves(&scratch.0, &expected, &format!("{name} without its index"));
    }
}

/// Types of the records of a store, the gaps in the numbers of its segments, and whether its ordinary lanes were closed.
fn types(dir: &Path) -> (BTreeMap<u8, u32>, u32, bool) {
    let fs = disk();
    let Format { uuid, lanes, .. } = Format::read(fs.as_ref(), dir).unwrap();
    let mut closed = false;
    let mut types = BTreeMap::new();
    let (mut gaps, mut last) = (0, (0, 0));
    for entry in fs.read_dir(&dir.join("seg")).unwrap() {
        let file = fs.open(&dir.join("seg").join(&entry.name), Open::Read).unwrap();
        let header = SegmentHeader::read(file.as_ref(), &uuid).unwrap().unwrap();
        let before = if last.0 == header.lane { last.1 } else { 0 };
        gaps += u32::from(header.number > before + 1);
        last = (header.lane, header.number);
        let mut scanner = Scanner::new(file.as_ref(), header.salt, u64::MAX).unwrap();
        let mut at = HEADER_BYTES;
        while let Found::Record(header) = scanner.record(at).unwrap() {
            *types.entry(header.kind).or_default() += 1;
            closed |= header.kind == 14 && last.0 < lanes;
            at += header.record_len();
        }
    }
    (types, gaps, closed)
}

#[test]
fn the_stores_of_version_1_have_every_kind_of_record() {
    let all: BTreeSet<u8> = (1..=17).filter(|kind| *kind != 15).collect();
    let mut found = BTreeSet::new();
    let mut freed = 0;
    for name in names().iter().filter(|name| name.starts_with("v1-")) {
        let (scratch, _) = copy(name);
        let (types, gaps, closed) = types(&scratch.0);
        println!("{name}: {types:?}, {gaps} gaps");
        assert_eq!(closed, name != "v1-killed", "{name}: SEAL");
        found.extend(types.into_keys());
        freed += gaps;
    }
    assert_eq!(found, all);
    assert!(freed > 1, "no segment was freed");
}

/// Names, bytes and times of everything in a directory.
fn state(dir: &Path) -> Vec<(PathBuf, std::time::SystemTime, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = path.metadata().unwrap();
        if meta.is_dir() {
            all.extend(state(&path));
        }
        let bytes = meta.is_file().then(|| std::fs::read(&path).unwrap());
        all.push((path, meta.modified().unwrap(), bytes));
    }
    all.push((dir.to_path_buf(), dir.metadata().unwrap().modified().unwrap(), None));
    all.sort();
    all
}

/// Changes bytes of a file that has a checksum at the end of each of these ranges.
fn change(path: &Path, at: usize, bytes: &[u8], ranges: &[(usize, usize)]) {
    let mut whole = std::fs::read(path).unwrap();
    for (from, to) in ranges.iter().copied() {
        whole[from + at..from + at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&whole[from..to - 4]);
        whole[to - 4..to].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(path, whole).unwrap();
}

/// Everything that opens a store refuses this one, names both versions, and changes nothing.
fn refused(dir: &Path, theirs: &str, what: &str) {
    let fs = disk();
    let before = state(dir);
    let repair = || {
        let options = RepairOptions { drop_lost: true, open: options() };
        Store::repair(fs.clone(), SystemClock::shared(), dir, &options, &mut |_, _| {})
    };
    for e in [open(&fs, dir).map(|_| ()).unwrap_err(), repair().map(|_| ()).unwrap_err()] {
        assert_eq!(e.kind(), Kind::FormatNewer, "{what}: {e}");
        let text = e.message();
        assert!(text.contains(theirs) && text.contains("reads up to 1"), "{what}: {text}");
        assert!(text.contains(&dir.display().to_string()), "{what}: {text}");
        assert!(state(dir) == before, "{what}: something was changed");
    }
}

#[test]
fn a_later_format_is_refused_with_both_versions_named_and_nothing_touched() {
    for name in names() {
        for (at, bytes, theirs) in [
            (8, &[2, 0, 3, 0, 2, 0][..], "format 2.3"),
            (12, &[2, 0][..], "format 1.0"),
            (12, &[255, 255][..], "format 1.0"),
            (24, &[0, 0, 1, 0][..], "0x10000"),
            (20, &[4, 0, 0, 0][..], "0x4"),
        ] {
            let (scratch, _) = copy(&name);
            let path = scratch.0.join("FORMAT");
            change(&path, at, bytes, &[(0, 64)]);
            refused(&scratch.0, theirs, &format!("{name}: FORMAT {at} {bytes:?}"));
            // And when a later version wrote more behind it.
            let mut longer = std::fs::read(&path).unwrap();
            longer.extend_from_slice(&[7; 100]);
            std::fs::write(&path, longer).unwrap();
            refused(&scratch.0, theirs, &format!("{name}: longer FORMAT {at} {bytes:?}"));
            assert!(!scratch.0.join("LOCK").exists());
        }
    }
}

#[test]
fn a_minor_version_and_features_that_may_be_ignored_are_read_and_kept() {
    let (scratch, expected) = copy("v1-index");
    let path = scratch.0.join("FORMAT");
    change(&path, 10, &[9, 0], &[(0, 64)]);
    change(&path, 16, &[0, 1, 0, 0], &[(0, 64)]);
    serves(&scratch.0, &expected, "version 1.9");
    let format = Format::read(&OsFs::new(), &scratch.0).unwrap();
    assert_eq!((format.major, format.minor, format.compat), (1, 9, 256));
}

fn first(dir: &Path, beginning: &str, end: &str) -> PathBuf {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.into_iter().find(|p| name(p).starts_with(beginning) && name(p).ends_with(end)).unwrap()
}

/// As [`refused`], for a store that has been open before.
fn refused_but_for_the_lock(scratch: &Scratch, theirs: &str, what: &str) {
    std::fs::write(scratch.0.join("LOCK"), format!("{}\n", std::process::id())).unwrap();
    let fs = disk();
    let before = state(&scratch.0);
    let e = open(&fs, &scratch.0).map(|_| ()).unwrap_err();
    assert_eq!(e.kind(), Kind::FormatNewer, "{what}: {e}");
    assert!(e.message().contains(theirs) && e.message().contains("reads up to 1"), "{what}: {e}");
    let kept = |state: Vec<(PathBuf, std::time::SystemTime, Option<Vec<u8>>)>| {
        state.into_iter().filter(|(path, ..)| !path.ends_with("LOCK")).collect::<Vec<_>>()
    };
    assert!(kept(state(&scratch.0)) == kept(before), "{what}: something was changed");
}

#[test]
fn a_segment_or_an_export_of_a_later_version_is_refused_and_never_taken_for_damage() {
    let header = HEADER_BYTES as usize / 2;
    for lane in ["00-", "01-", "02-"] {
        for (at, bytes, theirs) in
            [(8, &[2, 0, 1, 0][..], "format 2.1"), (88, &[8, 0, 0, 0][..], "0x8")]
        {
            let (scratch, _) = copy("v1-index");
            let path = first(&scratch.0.join("seg"), lane, ".phl");
            change(&path, at, bytes, &[(0, header), (header, 2 * header)]);
            let name = path.file_name().unwrap().to_str().unwrap();
            refused_but_for_the_lock(&scratch, theirs, name);
            refused_but_for_the_lock(&scratch, name, name);
        }
    }
    for (at, bytes, theirs) in [
        (8, &[2, 0, 1, 0][..], "format 2.1"),
        (60, &[8, 0, 0, 0][..], "0x8"),
        (56, &[9, 0, 0, 0][..], "rows of version 9"),
    ] {
        for indexed in [true, false] {
            let (scratch, _) = copy("v1-index");
            let path = first(&scratch.0.join("export"), "00-", ".phx");
            change(&path, at, bytes, &[(0, 128)]);
            if !indexed {
                std::fs::remove_dir_all(scratch.0.join("index")).unwrap();
                std::fs::create_dir_all(scratch.0.join("index")).unwrap();
            }
            refused_but_for_the_lock(&scratch, theirs, "an export");
        }
    }
}

// The document.

/// The cells of the rows of a table of docs/format.md whose header begins so.
fn table(header: &str) -> Vec<Vec<String>> {
    let text = include_str!("../docs/format.md");
    let lines = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
    rows.map(cells).collect()
}

#[test]
fn the_document_knows_every_type_of_record_and_no_other() {
    let types = table("| type | name |");
    let named: BTreeSet<u8> = types
        .iter()
        .filter(|row| row[3] != "set aside")
        .map(|row| row[0].parse().unwrap())
        .collect();
    let known = (0..=255).filter(|n| posthouse::store::record::Type::from_number(*n).is_some());
    assert_eq!(named, known.collect());
}

#[test]
fn the_documents_record_header_is_the_one_that_is_written() {
    let header = Header {
        body_len: 0x0001_0203,
        kind: 17,
        version: 1,
        flags: 0x0819,
        body_crc: 0x0a0b_0c0d,
        lsn: 0x1011_1213_1415_1617,
        durable_delta: 0x2021_2223,
    };
    let bytes = header.encode(77);
    let at = |begin: &str| {
        let text = include_str!("../docs/format.md");
        let record = text.split("## Record\n").nth(1).unwrap();
        let lines: Vec<&str> = record.lines().filter(|line| line.starts_with('|')).collect();
        let line = lines.iter().find(|line| line.contains(begin)).unwrap();
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim());
        let at: usize = cells.next().unwrap().parse().unwrap();
        let len: usize = cells.next().unwrap().parse().unwrap();
        (at, bytes[at..at + len].to_vec())
    };
    assert_eq!(at("bytes of the body").1, header.body_len.to_le_bytes());
    assert_eq!(at("| type |").1, [17]);
    assert_eq!(at("version of the type's body").1, [1]);
    assert_eq!(at("flags, the sum").1, header.flags.to_le_bytes());
    assert_eq!(at("CRC32C of the body").1, header.body_crc.to_le_bytes());
    assert_eq!(at("1 more than the record").1, header.lsn.to_le_bytes());
    assert_eq!(at("LSN minus").1, header.durable_delta.to_le_bytes());
    let (place, crc) = at("CRC32C of bytes 4 to 31");
    assert_eq!((place, crc), (0, crc32c::crc32c_append(77, &bytes[4..]).to_le_bytes().to_vec()));
}
