//! The store as the rooms above use it, over the machine's file system and over one in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::format::Format;
use super::*;
use crate::time::SystemClock;
use crate::vfs::Fs;
use crate::vfs::Open;
use crate::vfs::os::OsFs;
use crate::vfs::sim::Disk;

mod mailboxes;

const A: AccountId = AccountId(1);

pub(crate) fn small_options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 1 << 20,
        large_segment_bytes: 4 << 20,
        // What a file system in memory holds is memory.
        ballast_bytes: 0,
        ..OpenOptions::default()
    }
}

pub(crate) fn memory() -> (Disk, Arc<dyn Fs>, PathBuf) {
    memory_of(4)
}

pub(crate) fn memory_of(lanes: u8) -> (Disk, Arc<dyn Fs>, PathBuf) {
    let memory = Disk::new();
    let fs: Arc<dyn Fs> = Arc::new(memory.clone());
    let dir = PathBuf::from("/instance");
    fs.create_dir_all(&dir).unwrap();
    Store::create(&fs, &dir, &CreateOptions { lanes }).unwrap();
    (memory, fs, dir)
}

pub(crate) fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Store {
    Store::open(fs.clone(), SystemClock::shared(), dir, small_options()).unwrap()
}

pub(crate) fn inbox(store: &Store, account: AccountId) {
    let change = Change::CreateMailbox {
        account,
        mailbox: MailboxId::INBOX,
        name: "INBOX".into(),
        uid_validity: 7,
    };
    store.commit(store.lane_of(account), vec![change]).wait().unwrap();
}

pub(crate) fn put_body(store: &Store, id: MessageId, bytes: &[u8]) -> Body {
    let mut writer = store.body(id);
    for part in bytes.chunks(10_000) {
        while let Some(ticket) = writer.pressure() {
            ticket.wait().unwrap();
        }
        writer.write(part).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn envelope() -> Envelope {
    Envelope {
        from: b"sender@example.test".to_vec(),
        received: 1_790_000_000_000,
        ..Envelope::default()
    }
}

pub(crate) fn send(store: &Store, account: AccountId, bytes: &[u8]) -> Ticket<Committed> {
    let lane = store.lane_of(account);
    let id = store.new_message_id(lane);
    let body = put_body(store, id, bytes);
    let deliver = vec![(account, MailboxId::INBOX)];
    let new = NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() };
    store.commit(lane, vec![Change::Message(new)])
}

pub(crate) fn read(store: &Store, id: MessageId) -> Result<Vec<u8>> {
    let mut reader = store.read(id)?;
    let mut all = Vec::new();
    let mut buffer = vec![0; 70_000];
    loop {
        let n = reader.read_at(all.len() as u64, &mut buffer)?;
        if n == 0 {
            assert_eq!(all.len() as u64, reader.len());
            return Ok(all);
        }
        all.extend_from_slice(&buffer[..n]);
    }
}

pub(crate) fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

pub(crate) fn contents(store: &Store, account: AccountId) -> Vec<Vec<u8>> {
    let rows = store.mailbox_scan(account, MailboxId::INBOX, 0, usize::MAX).unwrap();
    rows.iter().map(|row| read(store, row.message).unwrap()).collect()
}

#[track_caller]
pub(crate) fn healthy(store: &Store) {
    let report = store.check(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// A directory of the machine that goes away with the test.
pub(crate) struct Scratch(pub PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("posthouse-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        OsFs::new().create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    #[allow(clippy::disallowed_methods)]
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sizes() -> Vec<usize> {
    let k256 = 256 << 10;
    let k128 = 128 << 10;
    vec![
        0,
        1,
        4096,
        k128 - 1,
        k128,
        k128 + 1,
        k256 - 1,
        k256,
        k256 + 1,
        k256 + k128,
        2 * k256,
        3 << 20,
    ]
}

fn messages_of_every_size_come_back(fs: Arc<dyn Fs>, dir: &Path) {
    let store = open(&fs, dir);
    inbox(&store, A);
    let sent: Vec<Vec<u8>> = sizes().iter().map(|size| pattern(*size, *size as u32)).collect();
    for (bytes, uid) in sent.iter().zip(1..) {
        assert_eq!(send(&store, A, bytes).wait().unwrap().uids, vec![uid]);
    }
    assert_eq!(contents(&store, A), sent);
    healthy(&store);
    store.close().unwrap();
    assert_eq!(store.read(MessageId(1)).map(|_| ()).map_err(|e| e.kind()), Err(Kind::Stopped));
    let store = open(&fs, dir);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert_eq!(contents(&store, A), sent);
    healthy(&store);
}

#[test]
fn messages_of_every_size_come_back_from_memory() {
    let (_, fs, dir) = memory();
    messages_of_every_size_come_back(fs, &dir);
}

#[test]
fn messages_of_every_size_come_back_from_a_disk() {
    let scratch = Scratch::new();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::create(&fs, &scratch.0, &CreateOptions::default()).unwrap();
    messages_of_every_size_come_back(fs, &scratch.0);
}

fn segments(memory: &Disk, dir: &Path, lane: u8) -> Vec<PathBuf> {
    let directory = dir.join("seg");
    let entries = memory.read_dir(&directory).unwrap();
    let mut paths: Vec<PathBuf> = entries
        .iter()
        .filter(|e| segment::parse_name(&e.name, ".phl").is_some_and(|(l, _)| l == lane))
        .map(|e| directory.join(&e.name))
        .collect();
    paths.sort();
    paths
}

fn bytes_of(memory: &Disk, path: &Path) -> Vec<u8> {
    vfs::read_small(memory, path, u64::MAX).unwrap()
}

fn flip(memory: &Disk, path: &Path, offset: u64) {
    let file = memory.open(path, Open::ReadWrite).unwrap();
    let mut byte = [0];
    vfs::read_exact_at(file.as_ref(), &mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 0x10], offset).unwrap();
    file.sync_all().unwrap();
}

fn shared(memory: &Disk) -> Arc<dyn Fs> {
    Arc::new(memory.clone())
}

/// Where the needle stands in a segment.
fn find(memory: &Disk, path: &Path, needle: &[u8]) -> u64 {
    memchr::memmem::find(&bytes_of(memory, path), needle).unwrap() as u64
}

#[test]
fn many_senders_share_syncs() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    for account in 1..=8 {
        inbox(&store, AccountId(account));
    }
    let before = store.stats();
    let bytes = pattern(500, 1);
    let tickets: Vec<_> =
        (0..2000_u32).map(|n| send(&store, AccountId(1 + n % 8), &bytes)).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let after = store.stats();
    assert_eq!(after.messages - before.messages, 2000);
    let groups = after.groups - before.groups;
    assert!(groups < 1000, "{groups} groups");
    healthy(&store);
}

#[test]
fn a_dead_process_loses_nothing_that_was_answered() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let sent: Vec<Vec<u8>> = (0..50).map(|n| pattern(100 + n * 37, n as u32)).collect();
    for bytes in &sent {
        send(&store, A, bytes).wait().unwrap();
    }
    let states = [memory.copy(), memory.after_power_cut()];
    for state in states {
        let fs = shared(&state);
        for _ in 0..2 {
            let store = open(&fs, &dir);
            assert_eq!(store.recovery_report().damage, Vec::<String>::new());
            assert_eq!(contents(&store, A), sent);
            healthy(&store);
        }
    }
}

#[test]
fn uids_and_message_ids_rise_over_openings() {
    let (mut memory, mut fs, dir) = memory();
    let mut last = (0, 0);
    for round in 0..4 {
        let store = open(&fs, &dir);
        inbox(&store, A);
        for _ in 0..3 {
            let uid = send(&store, A, b"x").wait().unwrap().uids[0];
            assert_eq!(uid, last.0 + 1);
            let id = store.new_message_id(Lane(0)).0;
            assert!(id > last.1);
            last = (uid, id);
        }
        if round % 2 == 0 {
            memory = memory.copy();
            fs = shared(&memory);
        }
    }
}

#[test]
fn a_log_torn_at_any_length_keeps_whole_messages() {
    let (memory, fs, dir) = memory_of(1);
    let store = open(&fs, &dir);
    let lane = store.lane_of(A);
    inbox(&store, A);
    let sent: Vec<Vec<u8>> = (0..4).map(|n| pattern(40 + n, n as u32)).collect();
    let mut ends = Vec::new();
    for bytes in &sent {
        send(&store, A, bytes).wait().unwrap();
        // The tail moves when the index shows the message, which reading waits for.
        store.mailboxes(A).unwrap();
        ends.push(store.handle.core.homes[usize::from(lane.0)].tail.lock().end);
    }
    let state = memory.copy();
    let path = segments(&state, &dir, lane.0).pop().unwrap();
    let whole = bytes_of(&state, &path);
    // Every length of the last two messages; the mailbox and the first two are whole.
    for cut in ends[1] - 1..*ends.last().unwrap() + 8 {
        let torn = memory.copy();
        // The index knows nothing, so that the log alone decides.
        torn.remove_file(&dir.join("index/00.redb")).unwrap();
        let file = torn.open(&path, Open::ReadWrite).unwrap();
        let end = *ends.last().unwrap();
        let zeros = vec![0; end.saturating_sub(cut) as usize];
        file.write_at(&zeros, cut).unwrap();
        let whole_messages = ends
            .iter()
            .zip(&sent)
            .filter(|(end, _)| {
                // Padding is zeros: a record is whole when its last byte that is not padding is there.
                let padding = whole[..**end as usize].iter().rev().take_while(|b| **b == 0).count();
                cut >= **end - padding as u64
            })
            .count();
        let fs = shared(&torn);
        let store = open(&fs, &dir);
        let found = store.mailbox_scan(A, MailboxId::INBOX, 0, 100).unwrap().len();
        assert_eq!(found, whole_messages, "cut at {cut}");
        let kept: Vec<_> = sent[..found].to_vec();
        assert_eq!(contents(&store, A), kept);
        // The lane goes on, and the torn bytes never come back.
        inbox(&store, A);
        send(&store, A, b"after").wait().unwrap();
        drop(store);
        let store = open(&fs, &dir);
        assert_eq!(contents(&store, A).len(), found + 1);
        assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    }
}

#[test]
fn a_flipped_byte_of_an_acknowledged_message_is_reported_and_the_rest_is_served() {
    for lost_index in [false, true] {
        let (memory, fs, dir) = memory();
        let store = open(&fs, &dir);
        let lane = store.lane_of(A);
        inbox(&store, A);
        let sent: Vec<Vec<u8>> = (0..5).map(|n| pattern(300, n as u32)).collect();
        for bytes in &sent {
            send(&store, A, bytes).wait().unwrap();
        }
        store.close().unwrap();
        let path = segments(&memory, &dir, lane.0).pop().unwrap();
        let at = find(&memory, &path, &sent[2]);
        flip(&memory, &path, at + 17);
        if lost_index {
            memory.remove_file(&dir.join(format!("index/{:02x}.redb", lane.0))).unwrap();
        }
        let store = open(&fs, &dir);
        let rows = store.mailbox_scan(A, MailboxId::INBOX, 0, 100).unwrap();
        let good: Vec<_> = rows.iter().filter_map(|row| read(&store, row.message).ok()).collect();
        let expected: Vec<_> = [0, 1, 3, 4].iter().map(|n: &usize| sent[*n].clone()).collect();
        assert_eq!(good, expected);
        let problems = store.check(&mut |_, _| {}).unwrap().problems;
        assert!(problems.iter().any(|p| p.contains(".phl")), "{problems:?}");
        if lost_index {
            let damage = &store.recovery_report().damage;
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!(rows.len(), 4);
            assert!(send(&store, A, b"next").wait().unwrap().uids[0] >= 6);
        } else {
            assert_eq!(rows.len(), 5);
            let error = read(&store, rows[2].message).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
        }
    }
}

#[test]
fn a_damaged_segment_header_is_reported_and_the_other_segments_are_served() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    let lane = store.lane_of(A);
    inbox(&store, A);
    for n in 0..30 {
        send(&store, A, &pattern(100_000, n)).wait().unwrap();
    }
    store.close().unwrap();
    let all = segments(&memory, &dir, lane.0);
    assert!(all.len() >= 3, "{all:?}");
    flip(&memory, &all[1], 40);
    flip(&memory, &all[1], 2048 + 40);
    memory.remove_file(&dir.join(format!("index/{:02x}.redb", lane.0))).unwrap();
    for _ in 0..2 {
        let store = open(&fs, &dir);
        let found = contents(&store, A).len();
        assert!((18..30).contains(&found), "{found}");
        assert!(!store.check(&mut |_, _| {}).unwrap().problems.is_empty());
        assert!(send(&store, A, b"next").wait().unwrap().uids[0] > 30);
        store.close().unwrap();
        assert!(memory.metadata(&all[1]).is_ok(), "what is damaged stays on disk");
    }
}

#[test]
fn a_lost_index_is_made_again_from_the_log() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    for account in 1..=4 {
        inbox(&store, AccountId(account));
        for n in 0..20 {
            send(&store, AccountId(account), &pattern(3000, n)).wait().unwrap();
        }
    }
    send(&store, A, &pattern(1 << 20, 3)).wait().unwrap();
    store.put(Table::Value, b"key", b"value").unwrap();
    let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids: vec![2, 3, 9] };
    store.commit(store.lane_of(A), vec![change]).wait().unwrap();
    let before: Vec<_> = (1..=4).map(|a| contents(&store, AccountId(a))).collect();
    let heads: Vec<_> = (1..=4).map(|a| store.mailboxes(AccountId(a)).unwrap()).collect();
    store.close().unwrap();
    for how in 0..3 {
        for lane in 0..4 {
            let path = dir.join(format!("index/{lane:02x}.redb"));
            match how {
                0 => memory.remove_file(&path).unwrap(),
                1 => memory.open(&path, Open::ReadWrite).unwrap().set_len(1000).unwrap(),
                _ => {
                    let file = memory.open(&path, Open::ReadWrite).unwrap();
                    let len = file.len().unwrap();
                    file.write_at(&vec![0xa5; len as usize], 0).unwrap();
                }
            }
        }
        let store = open(&fs, &dir);
        assert_eq!(store.recovery_report().rebuilt, 4);
        let after: Vec<_> = (1..=4).map(|a| contents(&store, AccountId(a))).collect();
        assert!(before == after, "way {how}");
        let again: Vec<_> = (1..=4).map(|a| store.mailboxes(AccountId(a)).unwrap()).collect();
        assert_eq!(heads, again);
        assert_eq!(store.scan(Table::Value).unwrap(), vec![(b"key".to_vec(), b"value".to_vec())]);
        healthy(&store);
        store.close().unwrap();
    }
}

#[test]
fn a_damaged_page_of_the_index_never_serves_wrong_mail_and_is_mended_by_the_next_opening() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    for n in 0..1500 {
        if n == 0 {
            inbox(&store, A);
        }
        send(&store, A, &pattern(40, n)).wait().unwrap();
    }
    let before = contents(&store, A);
    let known: std::collections::HashSet<_> = before.iter().cloned().collect();
    let lane = store.lane_of(A).0;
    store.close().unwrap();
    let index = PathBuf::from(format!("index/{lane:02x}.redb"));
    let whole = bytes_of(&memory, &dir.join(&index));
    let pages: Vec<usize> = (0..whole.len() / 4096)
        .filter(|page| whole[page * 4096..][..4096].iter().any(|byte| *byte != 0))
        .collect();
    assert!(pages.len() > 5, "{} pages", pages.len());
    let mut met = 0;
    // The damage is there before the opening, which may find it; or it comes while the store is open.
    for (page, late) in pages.iter().flat_map(|page| [(*page, false), (*page, true)]) {
        let state = memory.copy();
        let fs: Arc<dyn Fs> = Arc::new(state.clone());
        let damage = || {
            let file = state.open(&dir.join(&index), Open::ReadWrite).unwrap();
            file.write_at(&[0; 4096], page as u64 * 4096).unwrap();
        };
        if !late {
            damage();
        }
        let store = open(&fs, &dir);
        met += store.recovery_report().rebuilt;
        if late {
            damage();
        }
        match store.mailbox_scan(A, MailboxId::INBOX, 0, 2000) {
            Ok(rows) => {
                let mut served = Vec::new();
                for row in &rows {
                    match read(&store, row.message) {
                        Ok(bytes) => served.push(bytes),
                        Err(e) => assert_eq!(e.kind(), Kind::Corrupt, "page {page}: {e}"),
                    }
                }
                assert!(served.iter().all(|bytes| known.contains(bytes)), "page {page}");
            }
            Err(e) => assert_eq!(e.kind(), Kind::Corrupt, "page {page}: {e}"),
        }
        let _ = store.close();
        let store = open(&fs, &dir);
        assert!(contents(&store, A) == before, "page {page}, late: {late}");
        healthy(&store);
        store.close().unwrap();
    }
    assert!(met > 5, "only {met} damaged pages were noticed");
}

#[test]
fn an_index_that_is_marked_as_damaged_is_made_again_and_the_mark_goes() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    send(&store, A, &pattern(3000, 1)).wait().unwrap();
    let before = contents(&store, A);
    let lane = store.lane_of(A).0;
    store.close().unwrap();
    let mark = dir.join(format!("index/{lane:02x}.damaged"));
    memory.open(&mark, Open::Create).unwrap();
    let store = open(&fs, &dir);
    assert_eq!(store.recovery_report().rebuilt, 1);
    assert_eq!(contents(&store, A), before);
    assert!(memory.metadata(&mark).is_err());
    store.close().unwrap();
    assert_eq!(open(&fs, &dir).recovery_report().rebuilt, 0);
}

#[test]
fn a_corrupt_or_newer_format_is_refused_and_nothing_is_changed() {
    let (memory, fs, dir) = memory();
    open(&fs, &dir).close().unwrap();
    let path = dir.join("FORMAT");
    let good = bytes_of(&memory, &path);
    let put = |bytes: &[u8]| {
        let file = memory.open(&path, Open::ReadWrite).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
    };
    let attempt = || {
        memory.on_operation(|operation, path| {
            use crate::vfs::sim::Operation;
            assert!(
                matches!(operation, Operation::Open | Operation::Read),
                "{operation:?} of {}",
                path.display()
            );
            Ok(())
        });
        let result = Store::open(fs.clone(), SystemClock::shared(), &dir, small_options());
        memory.forget_hook();
        result.map(|_| ()).unwrap_err()
    };
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        put(&bytes);
        let error = attempt();
        assert_eq!(error.kind(), Kind::Corrupt, "byte {at}");
        assert!(error.message().contains("FORMAT"), "{error}");
    }
    let newer = Format { major: 7, minor: 3, min_reader: 7, ..Format::new(4, [0; 16]) };
    put(&newer.encode());
    let error = attempt();
    assert_eq!(error.kind(), Kind::FormatNewer);
    assert!(error.message().contains("7.3") && error.message().contains("1.1"), "{error}");
    memory.remove_file(&path).unwrap();
    assert_eq!(attempt().kind(), Kind::NotAnInstance);
}

#[test]
fn a_second_opening_is_refused_and_names_the_process() {
    let scratch = Scratch::new();
    let disk: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::create(&disk, &scratch.0, &CreateOptions::default()).unwrap();
    let (_, fs, dir) = memory();
    for (fs, dir) in [(fs, dir), (disk, scratch.0.clone())] {
        let store = open(&fs, &dir);
        let error = Store::open(fs.clone(), SystemClock::shared(), &dir, small_options())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Locked);
        assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        store.close().unwrap();
        store.close().unwrap();
        open(&fs, &dir);
    }
}

#[test]
fn a_failing_write_or_sync_is_answered_and_the_store_goes_on() {
    use crate::vfs::sim::Operation;
    for failing in [Operation::Write, Operation::Sync] {
        let (memory, fs, dir) = memory();
        let options = OpenOptions { retry_millis: 10, ..small_options() };
        let store = Store::open(fs, SystemClock::shared(), &dir, options).unwrap();
        inbox(&store, A);
        let mut kept = Vec::new();
        for n in 0..20_u32 {
            let bytes = pattern(200, n);
            if n % 5 == 3 {
                memory.on_operation(move |operation, path| {
                    let log = path.extension().is_some_and(|e| e == "phl");
                    if log && operation == failing {
                        return Err(std::io::ErrorKind::Other.into());
                    }
                    Ok(())
                });
                let error = send(&store, A, &bytes).wait().unwrap_err();
                assert_eq!(error.kind(), Kind::Io);
                memory.forget_hook();
                while !store.admission().writable {
                    std::thread::yield_now();
                }
            } else {
                send(&store, A, &bytes).wait().unwrap();
                kept.push(bytes);
            }
            assert_eq!(contents(&store, A), kept);
        }
        healthy(&store);
        for state in [memory.copy(), memory.after_power_cut()] {
            let store = open(&shared(&state), &dir);
            assert_eq!(contents(&store, A), kept);
            assert_eq!(store.recovery_report().damage, Vec::<String>::new());
            healthy(&store);
        }
    }
}

#[test]
fn a_lane_whose_last_segment_was_lost_keeps_what_comes_after() {
    let (memory, fs, dir) = memory_of(1);
    let store = open(&fs, &dir);
    inbox(&store, A);
    store.close().unwrap();
    let store = open(&fs, &dir);
    send(&store, A, b"lost").wait().unwrap();
    store.close().unwrap();
    memory.remove_file(&segments(&memory, &dir, 0).pop().unwrap()).unwrap();
    let store = open(&fs, &dir);
    assert_eq!(store.recovery_report().damage.len(), 1);
    for n in 0..3 {
        send(&store, A, &pattern(2000, n)).wait().unwrap();
    }
    // The index is lost as well: the log alone decides.
    let state = memory.copy();
    state.remove_file(&dir.join("index/00.redb")).unwrap();
    let store = open(&shared(&state), &dir);
    assert_eq!(contents(&store, A), (0..3).map(|n| pattern(2000, n)).collect::<Vec<_>>());
}

#[test]
fn what_was_refused_stays_away_after_closing_in_order() {
    use crate::vfs::sim::Operation;
    let (memory, fs, dir) = memory_of(1);
    let store = open(&fs, &dir);
    inbox(&store, A);
    send(&store, A, b"kept").wait().unwrap();
    memory.on_operation(|operation, path| {
        let log = path.extension().is_some_and(|e| e == "phl");
        if log && operation == Operation::Sync { Err(std::io::Error::other("x")) } else { Ok(()) }
    });
    send(&store, A, b"refused").wait().unwrap_err();
    memory.forget_hook();
    store.close().unwrap();
    let store = open(&fs, &dir);
    assert_eq!(contents(&store, A), vec![b"kept".to_vec()]);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_transaction_without_records_after_an_opening_keeps_no_reader_waiting() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    send(&store, A, b"x").wait().unwrap();
    store.close().unwrap();
    let store = open(&fs, &dir);
    // It exists: nothing is written.
    inbox(&store, A);
    let (done, answer) = std::sync::mpsc::channel();
    let reader = store.clone();
    std::thread::spawn(move || done.send(reader.mailboxes(A).map(|heads| heads.len())));
    let found = answer.recv_timeout(std::time::Duration::from_secs(10));
    assert_eq!(found.expect("the reader waits for ever").unwrap(), 1);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn closing_twice_at_once_releases_the_lock_after_the_last_write() {
    let (_, fs, dir) = memory_of(1);
    let store = open(&fs, &dir);
    inbox(&store, A);
    let (entered, inside) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let change = Change::Row { table: Table::Value, key: vec![1], value: Some(vec![1]) };
    store.commit_then(Lane(0), vec![change], move |_| {
        entered.send(()).unwrap();
        let _ = left.recv();
    });
    inside.recv().unwrap();
    // The committer is at work: neither of two that close may let the next one in.
    let closers: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || store.close())
        })
        .collect();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let locked = Store::open(fs.clone(), SystemClock::shared(), &dir, small_options());
    assert_eq!(locked.map(|_| ()).unwrap_err().kind(), Kind::Locked);
    leave.send(()).unwrap();
    for closer in closers {
        closer.join().unwrap().unwrap();
    }
    open(&fs, &dir);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_reader_does_not_wait_for_a_committer_that_died() {
    let (_, fs, dir) = memory_of(1);
    let store = open(&fs, &dir);
    inbox(&store, A);
    let change = Change::Row { table: Table::Value, key: vec![1], value: Some(vec![1]) };
    store.commit_then(Lane(0), vec![change], |_| panic!("planted"));
    let (done, answer) = std::sync::mpsc::channel();
    let reader = store.clone();
    std::thread::spawn(move || {
        // The committer has answered by then, and is gone.
        let _ = reader.commit(Lane(0), Vec::new()).wait();
        done.send(reader.mailboxes(A).map_err(|e| e.kind()))
    });
    let found = answer.recv_timeout(std::time::Duration::from_secs(10));
    assert_eq!(found.expect("the reader waits for ever"), Err(Kind::Internal));
}

#[test]
fn an_index_directory_that_was_removed_is_made_again() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    send(&store, A, b"x").wait().unwrap();
    store.close().unwrap();
    let index = dir.join(INDEX_DIRECTORY);
    for entry in memory.read_dir(&index).unwrap() {
        memory.remove_file(&index.join(entry.name)).unwrap();
    }
    memory.remove_dir(&index).unwrap();
    let store = open(&fs, &dir);
    assert_eq!(contents(&store, A), vec![b"x".to_vec()]);
}

#[test]
fn a_disk_that_fails_at_the_nth_operation_never_makes_an_answer_a_lie() {
    for n in 1..80 {
        let (memory, fs, dir) = memory_of(1);
        let mut count = 0;
        memory.on_operation(move |_, _| {
            count += 1;
            if count == n { Err(std::io::Error::other("planted")) } else { Ok(()) }
        });
        let opened = Store::open(fs.clone(), SystemClock::shared(), &dir, small_options());
        let mut answered = Vec::new();
        if let Ok(store) = opened {
            let change = Change::CreateMailbox {
                account: A,
                mailbox: MailboxId::INBOX,
                name: "INBOX".into(),
                uid_validity: 1,
            };
            let _ = store.commit(store.lane_of(A), vec![change]).wait();
            for n in 0..4 {
                let bytes = pattern(100, n);
                if send(&store, A, &bytes).wait().is_ok() {
                    answered.push(bytes);
                }
            }
        }
        memory.forget_hook();
        for state in [memory.copy(), memory.after_power_cut()] {
            let store = open(&shared(&state), &dir);
            let found = contents(&store, A);
            for bytes in &answered {
                assert_eq!(found.iter().filter(|b| *b == bytes).count(), 1, "operation {n}");
            }
            healthy(&store);
        }
    }
}

#[test]
fn expunged_messages_are_gone_and_their_uids_stay_used() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    for n in 0..200 {
        send(&store, A, &pattern(10, n)).wait().unwrap();
    }
    let rows = store.mailbox_scan(A, MailboxId::INBOX, 0, 2000).unwrap();
    let uids: Vec<u32> = (1..=200).filter(|uid| uid % 3 != 0 || *uid > 120).chain([900]).collect();
    let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids };
    store.commit(store.lane_of(A), vec![change]).wait().unwrap();
    let left: Vec<u32> = (1..=120).filter(|uid| uid % 3 == 0).collect();
    let state = memory.copy();
    drop(store);
    let store = open(&shared(&state), &dir);
    let found = store.mailbox_scan(A, MailboxId::INBOX, 0, 2000).unwrap();
    assert_eq!(found.iter().map(|row| row.uid).collect::<Vec<_>>(), left);
    assert_eq!(store.mailbox_scan(A, MailboxId::INBOX, 50, 2).unwrap()[0].uid, 51);
    assert_eq!(store.mailbox_scan(A, MailboxId::INBOX, 0, 7).unwrap().len(), 7);
    assert_eq!(read(&store, rows[0].message).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(send(&store, A, b"x").wait().unwrap().uids, vec![201]);
    let head = store.mailboxes(A).unwrap().remove(0);
    assert_eq!((head.messages, head.bytes, head.uid_next), (41, 401, 202));
    healthy(&store);
}

#[test]
fn the_columns_of_a_mailbox_are_those_of_its_rows() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    inbox(&store, AccountId(2));
    for n in 0..300 {
        send(&store, A, &pattern(10, n)).wait().unwrap();
        send(&store, AccountId(2), &pattern(10, n)).wait().unwrap();
    }
    let uids: Vec<u32> = (1..=300).filter(|uid| uid % 7 == 0 || (100..180).contains(uid)).collect();
    let change = Change::Expunge { account: A, mailbox: MailboxId::INBOX, uids };
    store.commit(store.lane_of(A), vec![change]).wait().unwrap();
    let flagged: Vec<u32> = (1..=300).filter(|uid| uid % 3 == 0).collect();
    let (account, mailbox) = (A, MailboxId::INBOX);
    let change = Change::Flags { account, mailbox, uids: flagged, add: 20, remove: 0 };
    store.commit(store.lane_of(A), vec![change]).wait().unwrap();
    let columns = store.mailbox_uids_and_flags(A, MailboxId::INBOX, 0).unwrap();
    let flagged = |uid: u32| if uid.is_multiple_of(3) { 20 } else { 0 };
    assert_eq!(columns.flags, columns.uids.iter().map(|uid| flagged(*uid)).collect::<Vec<_>>());
    for after in [0, 1, 63, 64, 65, 99, 150, 179, 299, 300, u32::MAX] {
        let rows = store.mailbox_scan(A, MailboxId::INBOX, after, usize::MAX).unwrap();
        let columns = store.mailbox_uids_and_flags(A, MailboxId::INBOX, after).unwrap();
        assert_eq!(columns.uids, rows.iter().map(|row| row.uid).collect::<Vec<_>>());
        assert_eq!(columns.flags, rows.iter().map(|row| row.flags).collect::<Vec<_>>());
    }
    let none = store.mailbox_uids_and_flags(AccountId(3), MailboxId::INBOX, 0).unwrap();
    assert_eq!(none, UidsAndFlags::default());
}

#[test]
#[allow(clippy::disallowed_methods)] // the housekeeper gets the time that it needs now and then
fn segments_serve_however_they_were_prepared() {
    use Preparation::{Ahead, Allocated, Growing, Written};
    for preparation in [Growing, Allocated, Ahead, Written] {
        let (memory, fs, dir) = memory_of(1);
        let options = || OpenOptions { preparation, ..small_options() };
        let store = Store::open(fs, SystemClock::shared(), &dir, options()).unwrap();
        inbox(&store, A);
        let mut sent = Vec::new();
        // Several segments, in parts of which the housekeeper has had the time for a spare and in parts not.
        for n in 0..60 {
            sent.push(pattern(100_000, n));
            send(&store, A, &sent[n as usize]).wait().unwrap();
            if n % 10 == 9 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        let crashed = memory.copy();
        drop(store);
        for state in [memory, crashed] {
            let store =
                Store::open(shared(&state), SystemClock::shared(), &dir, options()).unwrap();
            assert_eq!(contents(&store, A), sent, "{preparation:?}");
            healthy(&store);
        }
    }
}

#[test]
fn zeros_go_ahead_of_small_groups_and_not_of_large_ones() {
    let (_, fs, dir) = memory_of(1);
    let options = OpenOptions { segment_bytes: 1 << 20, ..small_options() };
    let store = Store::open(fs, SystemClock::shared(), &dir, options).unwrap();
    inbox(&store, A);
    let (before, syncs) = (store.stats().log_bytes, store.stats().log_syncs);
    for n in 0..20 {
        send(&store, A, &pattern(4096, n)).wait().unwrap();
    }
    let written = store.stats().log_bytes - before;
    assert_eq!(store.stats().log_syncs - syncs, 20);
    // A sixteenth of the segment at once, twice: the first time it was the mailbox that they went behind.
    assert!((140_000..160_000).contains(&written), "{written}");
    // On average over the last few groups.
    for n in 0..3 {
        send(&store, A, &pattern(250_000, n)).wait().unwrap();
    }
    let before = store.stats().log_bytes;
    send(&store, A, &pattern(4096, 1)).wait().unwrap();
    let written = store.stats().log_bytes - before;
    assert!(written < 5000, "{written}");
    healthy(&store);
}

#[test]
fn a_spare_that_is_written_in_advance_is_full_of_zeros_and_one_without_time_is_not_made() {
    let (memory, fs, dir) = memory_of(1);
    let options = OpenOptions { preparation: Preparation::Written, ..small_options() };
    let store = Store::open(fs.clone(), SystemClock::shared(), &dir, options).unwrap();
    let core = &store.handle.core;
    let bytes = (2 << 20) + 5000;
    let before = store.stats().log_bytes;
    let mut pauses = 0;
    let mut pause = || {
        pauses += 1;
        true
    };
    core.settings[0].make_spare(&core.rooms[0], bytes, &mut pause).unwrap();
    assert_eq!((pauses, store.stats().log_bytes - before), (3, bytes));
    assert!(core.rooms[0].is_full());
    core.settings[0].drop_spares(&core.rooms[0], true);
    core.settings[0].make_spare(&core.rooms[0], bytes, &mut || false).unwrap();
    assert!(!core.rooms[0].is_full());
    let left = fs.read_dir(&dir.join(segment::DIRECTORY)).unwrap();
    assert!(left.iter().all(|entry| !entry.name.ends_with(".new")), "{left:?}");
    drop(memory);
}

#[test]
fn a_message_for_a_mailbox_that_is_not_there_is_refused_whole() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    assert_eq!(send(&store, A, b"x").wait().unwrap_err().kind(), Kind::NotFound);
    inbox(&store, A);
    send(&store, A, b"x").wait().unwrap();
    let change = Change::RemoveMailboxes { account: A };
    store.commit(store.lane_of(A), vec![change]).wait().unwrap();
    assert_eq!(send(&store, A, b"x").wait().unwrap_err().kind(), Kind::NotFound);
    assert_eq!(store.mailboxes(A).unwrap(), Vec::new());
    healthy(&store);
}

#[test]
fn an_unfinished_large_message_leaves_no_trace() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let id = store.new_message_id(store.lane_of(A));
    let mut writer = store.body(id);
    writer.write(&pattern(2 << 20, 1)).unwrap();
    drop(writer);
    let bytes = pattern(5_000_001, 9);
    send(&store, A, &bytes).wait().unwrap();
    assert_eq!(contents(&store, A), vec![bytes]);
    healthy(&store);
}

#[test]
fn the_log_takes_at_most_200_bytes_beside_a_message_of_4_kib() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let lane = store.lane_of(A);
    let end = || {
        store.mailboxes(A).unwrap();
        store.handle.core.homes[usize::from(lane.0)].tail.lock().end
    };
    let before = end();
    for n in 0..100 {
        send(&store, A, &pattern(4096, n)).wait().unwrap();
    }
    let overhead = (end() - before) / 100 - 4096;
    assert!(overhead <= 200, "{overhead}");
}

#[test]
fn planted_damage_is_found_by_check() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    let large = pattern(600_000, 4);
    send(&store, A, &large).wait().unwrap();
    let chunk = large[300_000..300_100].to_vec();
    let path = segments(&memory, &dir, 4).pop().unwrap();
    healthy(&store);
    let at = find(&memory, &path, &chunk);
    flip(&memory, &path, at);
    let problems = store.check(&mut |_, _| {}).unwrap().problems;
    // The range, and the message.
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].contains("account 1, mailbox 1, UID 1"), "{problems:?}");
    let mut reader =
        store.read(store.mailbox_scan(A, MailboxId::INBOX, 0, 1).unwrap()[0].message).unwrap();
    let mut buffer = [0; 100];
    assert_eq!(reader.read_at(0, &mut buffer).unwrap(), 100);
    assert_eq!(reader.read_at(300_000, &mut buffer).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(reader.read_at(599_990, &mut buffer).unwrap(), 10);
}

/// The same transactions against the store and against a map, with openings, dead processes and power
/// cuts in between.
mod model {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Send(u32, usize),
        Expunge(u32, Vec<u32>),
        Flags(u32, u32, Vec<u32>, u32, u32),
        Move(u32, u32, u32, Vec<u32>),
        Remove(u32),
        Close,
        Die,
        PowerCut,
        LoseIndex,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let account = 1_u32..5;
        let step = prop_oneof![
            8 => (account.clone(), 0_usize..3000).prop_map(|(a, n)| Step::Send(a, n)),
            1 => (account.clone(), 260_000_usize..600_000).prop_map(|(a, n)| Step::Send(a, n)),
            3 => (account.clone(), prop::collection::vec(1_u32..40, 0..8)).prop_map(|(a, u)| Step::Expunge(a, u)),
            3 => (account.clone(), 1_u32..4, prop::collection::vec(1_u32..40, 0..8), 0_u32..4, 0_u32..4)
                .prop_map(|(a, m, u, add, remove)| Step::Flags(a, m, u, add, remove)),
            3 => (account.clone(), 1_u32..4, 1_u32..3, prop::collection::vec(1_u32..40, 0..8))
                .prop_map(|(a, from, to, u)| Step::Move(a, from, to, u)),
            1 => account.prop_map(Step::Remove),
            1 => Just(Step::Close),
            1 => Just(Step::Die),
            1 => Just(Step::PowerCut),
            1 => Just(Step::LoseIndex),
        ];
        prop::collection::vec(step, 1..40)
    }

    struct Mailbox {
        next: u32,
        modseq: u64,
        messages: BTreeMap<u32, Message>,
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Message {
        bytes: Vec<u8>,
        flags: u32,
        modseq: u64,
    }

    /// Mailboxes of the model; UIDs and MODSEQs are counted from 1.
    type Model = BTreeMap<(u32, u32), Mailbox>;

    fn made(model: &mut Model, account: u32, mailbox: u32) -> &mut Mailbox {
        let new = || Mailbox { next: 1, modseq: 1, messages: BTreeMap::new() };
        model.entry((account, mailbox)).or_insert_with(new)
    }

    fn check_all(store: &Store, model: &Model) -> std::result::Result<(), TestCaseError> {
        for (account, mailbox) in (1..5).flat_map(|a| (1..4).map(move |m| (a, m))) {
            let (account_id, mailbox_id) = (AccountId(account), MailboxId(mailbox));
            let rows = store.mailbox_scan(account_id, mailbox_id, 0, usize::MAX).unwrap();
            let found: BTreeMap<u32, Message> = rows
                .iter()
                .map(|row| {
                    let bytes = read(store, row.message).unwrap();
                    assert_eq!(bytes.len() as u64, row.size);
                    (row.uid, Message { bytes, flags: row.flags, modseq: row.modseq })
                })
                .collect();
            let heads = store.mailboxes(account_id).unwrap();
            let head = heads.into_iter().find(|head| head.mailbox == mailbox_id);
            let figures = head.map(|head| (head.uid_next, head.highest_modseq));
            let expected = model.get(&(account, mailbox));
            prop_assert_eq!(figures, expected.map(|m| (m.next, m.modseq)));
            let expected = expected.map(|m| m.messages.clone()).unwrap_or_default();
            prop_assert!(found == expected, "account {}, mailbox {}", account, mailbox);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn the_store_does_what_a_map_does(steps in steps()) {
            let (mut memory, mut fs, dir) = memory();
            let mut store = open(&fs, &dir);
            let mut model = Model::new();
            for (seed, step) in (0_u32..).zip(steps) {
                match step {
                    Step::Send(account, len) => {
                        inbox(&store, AccountId(account));
                        let mailbox = made(&mut model, account, 1);
                        let bytes = pattern(len, seed);
                        let uids = send(&store, AccountId(account), &bytes).wait().unwrap().uids;
                        prop_assert_eq!(uids, vec![mailbox.next]);
                        mailbox.modseq += 1;
                        let message = Message { bytes, flags: 0, modseq: mailbox.modseq };
                        mailbox.messages.insert(mailbox.next, message);
                        mailbox.next += 1;
                    }
                    Step::Expunge(account, mut uids) => {
                        uids.sort_unstable();
                        uids.dedup();
                        if let Some(mailbox) = model.get_mut(&(account, 1)) {
                            mailbox.messages.retain(|uid, _| !uids.contains(uid));
                            mailbox.modseq += u64::from(!uids.is_empty());
                        }
                        let account = AccountId(account);
                        let change = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
                        store.commit(store.lane_of(account), vec![change]).wait().unwrap();
                    }
                    Step::Flags(account, mailbox, mut uids, add, remove) => {
                        uids.sort_unstable();
                        uids.dedup();
                        if let Some(mailbox) = model.get_mut(&(account, mailbox)) {
                            let modseq = mailbox.modseq + 1;
                            for uid in &uids {
                                let Some(message) = mailbox.messages.get_mut(uid) else { continue };
                                let flags = (message.flags & !remove) | add;
                                if flags != message.flags {
                                    (message.flags, message.modseq) = (flags, modseq);
                                    mailbox.modseq = modseq;
                                }
                            }
                        }
                        let (account, mailbox) = (AccountId(account), MailboxId(mailbox));
                        let change = Change::Flags { account, mailbox, uids, add, remove };
                        store.commit(store.lane_of(account), vec![change]).wait().unwrap();
                    }
                    Step::Move(account, from, to, mut uids) => {
                        uids.sort_unstable();
                        uids.dedup();
                        if to == 2 {
                            mailboxes::second(&store, AccountId(account));
                            made(&mut model, account, 2);
                        }
                        let mut taken = vec![None; uids.len()];
                        let there = model.contains_key(&(account, to));
                        if let Some(source) = model.get_mut(&(account, from)).filter(|_| there) {
                            for (uid, taken) in uids.iter().zip(&mut taken) {
                                *taken = source.messages.remove(uid);
                            }
                        }
                        let moves = taken.iter().any(Option::is_some);
                        let mut expected = Err(Kind::NotFound);
                        if let Some(target) = model.get_mut(&(account, to)) {
                            target.modseq += u64::from(moves);
                            let given = taken.into_iter().map(|message| {
                                let Some(message) = message else { return 0 };
                                let modseq = target.modseq;
                                target.messages.insert(target.next, Message { modseq, ..message });
                                target.next += 1;
                                target.next - 1
                            });
                            expected = Ok(given.collect());
                            if let Some(source) = model.get_mut(&(account, from)).filter(|_| from != to) {
                                source.modseq += u64::from(moves);
                            }
                        }
                        let account = AccountId(account);
                        let (from, to) = (MailboxId(from), MailboxId(to));
                        let change = Change::Move { account, from, to, uids };
                        let answer = store.commit(store.lane_of(account), vec![change]).wait();
                        prop_assert_eq!(answer.map(|c| c.uids).map_err(|e| e.kind()), expected);
                    }
                    Step::Remove(account) => {
                        model.retain(|(a, _), _| *a != account);
                        let account = AccountId(account);
                        let change = Change::RemoveMailboxes { account };
                        store.commit(store.lane_of(account), vec![change]).wait().unwrap();
                    }
                    Step::Close => {
                        store.close().unwrap();
                        store = open(&fs, &dir);
                    }
                    Step::Die | Step::PowerCut => {
                        let left = match step {
                            Step::Die => memory.copy(),
                            _ => memory.after_power_cut(),
                        };
                        memory = left;
                        fs = shared(&memory);
                        store = open(&fs, &dir);
                    }
                    Step::LoseIndex => {
                        store.close().unwrap();
                        for lane in 0..4 {
                            memory.remove_file(&dir.join(format!("index/{lane:02x}.redb"))).unwrap();
                        }
                        store = open(&fs, &dir);
                        check_all(&store, &model)?;
                    }
                }
            }
            check_all(&store, &model)?;
            prop_assert_eq!(&store.recovery_report().damage, &Vec::<String>::new());
            healthy(&store);
        }
    }
}

/// Prints what 64 senders of 4 KiB cost on a disk. Run it with `--run-ignored` and `--no-capture`.
#[test]
#[ignore = "writes 150 MB"]
fn figures_of_64_senders_on_a_disk() {
    let scratch = Scratch::new();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::create(&fs, &scratch.0, &CreateOptions::default()).unwrap();
    let options = OpenOptions::default();
    let store = Store::open(fs, SystemClock::shared(), &scratch.0, options).unwrap();
    for account in 1..=64 {
        inbox(&store, AccountId(account));
    }
    let start = store.stats();
    std::thread::scope(|scope| {
        for account in 1..=64 {
            let store = &store;
            scope.spawn(move || {
                let bytes = pattern(4096, account);
                for _ in 0..600 {
                    send(store, AccountId(account), &bytes).wait().unwrap();
                }
            });
        }
    });
    store.checkpoint().unwrap();
    let end = store.stats();
    let messages = (end.messages - start.messages) as f64;
    let (log, index) = (end.log_bytes - start.log_bytes, end.index_bytes - start.index_bytes);
    let syncs = (end.log_syncs - start.log_syncs, end.index_syncs - start.index_syncs);
    println!("messages {messages}, log bytes each {:.1}", log as f64 / messages - 4096.0);
    println!("index bytes each {:.1}", index as f64 / messages);
    println!("bytes written for each message byte {:.4}", (log + index) as f64 / messages / 4096.0);
    println!(
        "syncs each: log {:.4}, index {:.4}",
        syncs.0 as f64 / messages,
        syncs.1 as f64 / messages
    );
    assert!((log + index) as f64 / messages / 4096.0 <= 1.15);
    assert!((syncs.0 + syncs.1) as f64 / messages <= 0.1);
    healthy(&store);
}
