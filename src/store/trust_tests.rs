//! What may be given back: only what nothing else is needed for, whatever of the rest turns out to be damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tests::{contents, envelope, healthy, inbox, memory_of, pattern, put_body, send};
use super::*;
use crate::time::SystemClock;
use crate::vfs::sim::{Disk, Operation};

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
    expunge(
        &store,
        A,
        store.mailbox_scan(A, MailboxId::INBOX, 0, 100).unwrap().iter().map(|r| r.uid).collect(),
    );
    let report = store.compact(&CompactOptions { below_percent: 1, ..Default::default() }).unwrap();
    assert!(report.freed > 0, "{report:?}");
    if let Ok(bytes) = vfs::read_small(&disk, &first, u64::MAX) {
        assert!(memchr::memmem::find(&bytes, &pattern(3000, 2)).is_some(), "{report:?}");
        assert!(report.findings.iter().any(|line| line.contains("stand behind")), "{report:?}");
    } else {
        panic!("the damaged segment is gone: {report:?}");
    }
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
