//! The store as the rooms above use it, over the machine's file system and over one in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::time::SystemClock;
use crate::vfs::memory::MemoryFs;
use crate::vfs::os::OsFs;

const A: AccountId = AccountId(1);

pub(crate) fn small_options() -> OpenOptions {
    OpenOptions { segment_bytes: 1 << 20, large_segment_bytes: 4 << 20, ..OpenOptions::default() }
}

pub(crate) fn memory() -> (MemoryFs, Arc<dyn Fs>, PathBuf) {
    let memory = MemoryFs::new();
    let fs: Arc<dyn Fs> = Arc::new(memory.clone());
    let dir = PathBuf::from("/instance");
    fs.create_dir_all(&dir).unwrap();
    Store::create(&fs, &dir, &CreateOptions::default()).unwrap();
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
    vec![0, 1, 4096, k256 - 1, k256, k256 + 1, 2 * k256, 3 << 20]
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
