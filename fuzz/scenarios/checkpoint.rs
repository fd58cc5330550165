//! A shard of the index with arbitrary damage: the store opens, and serves what it served before. Each four octets are a
//! place in the file (three octets, of 16 octets each) and what is written there, 64 times.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use posthouse::store::{
    AccountId, Change, CreateOptions, Envelope, MailboxId, MessageRow, NewMessage, OpenOptions,
    Store,
};
use posthouse::time::SystemClock;
use posthouse::vfs::sim::Disk;
use posthouse::vfs::{Fs, Open};

const ACCOUNT: AccountId = AccountId(1);

struct Whole {
    disk: Disk,
    rows: Vec<MessageRow>,
    index: PathBuf,
    len: u64,
}

fn open(disk: &Disk) -> Store {
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let options = OpenOptions { segment_bytes: 64 << 10, ..OpenOptions::default() };
    Store::open(fs, SystemClock::shared(), Path::new("/instance"), options).expect("it opens")
}

fn rows(store: &Store) -> Vec<MessageRow> {
    let rows = store.mailbox_scan(ACCOUNT, MailboxId::INBOX, 0, usize::MAX).expect("rows");
    for row in &rows {
        let mut reader = store.read(row.message).expect("a message");
        let mut bytes = vec![0; row.size as usize + 1];
        let n = reader.read_at(0, &mut bytes).expect("its bytes");
        assert!(n as u64 == row.size && bytes[..n].iter().all(|b| *b == row.uid as u8));
    }
    rows
}

fn whole() -> Whole {
    let disk = Disk::new();
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let dir = Path::new("/instance");
    disk.create_dir_all(dir).expect("memory");
    Store::create(&fs, dir, &CreateOptions { lanes: 1 }).expect("a store");
    let store = open(&disk);
    let (mailbox, name) = (MailboxId::INBOX, "INBOX".to_owned());
    let change = Change::CreateMailbox { account: ACCOUNT, mailbox, name, uid_validity: 7 };
    let lane = store.lane_of(ACCOUNT);
    store.commit(lane, vec![change]).wait().expect("a mailbox");
    for uid in 1..=100_u8 {
        let id = store.new_message_id(lane);
        let mut writer = store.body(id);
        writer.write(&vec![uid; usize::from(uid) * 3]).expect("a body");
        let new = NewMessage {
            id,
            envelope: Envelope::default(),
            body: writer.finish().expect("a body"),
            deliver: vec![(ACCOUNT, mailbox)],
            queue: Vec::new(),
        };
        store.commit(lane, vec![Change::Message(new)]).wait().expect("a message");
        if uid == 50 {
            store.export().expect("an export");
        }
    }
    let rows = rows(&store);
    store.close().expect("closed");
    let index = dir.join("index/00.redb");
    let len = disk.metadata(&index).expect("an index").len;
    Whole { disk, rows, index, len }
}

pub fn run(data: &[u8]) {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    let whole = WHOLE.get_or_init(whole);
    let disk = whole.disk.copy();
    let file = disk.open(&whole.index, Open::ReadWrite).expect("an index");
    for damage in data.chunks_exact(4).take(64) {
        let place = u64::from_le_bytes([damage[0], damage[1], damage[2], 0, 0, 0, 0, 0]) * 16;
        file.write_at(&[damage[3]; 64], place % whole.len).expect("memory");
    }
    let store = open(&disk);
    assert_eq!(store.recovery_report().damage, Vec::<String>::new());
    assert_eq!(rows(&store), whole.rows);
}
