//! What happens to a store in the tests of crashes and faults, and what must hold afterwards.
//!
//! A [`World`] is a store on a simulated disk with a [`Model`]: a list of what was asked of the store, each
//! operation marked on the disk's trace when it is handed over and again when it is acknowledged. From the
//! marks up to a crash, [`Expectation`] knows what must be there, what may be there, and what may not;
//! [`Expectation::verify`] opens the disk that was left and looks.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use posthouse::error::{Error, Kind};
use posthouse::spool::Spool;
use posthouse::store::{
    AccountId, Body, Change, CompactOptions, CompactReport, CreateOptions, Envelope, MailboxId,
    MessageId, NewMessage, OpenOptions, QueueRecipient, RecipientState, RepairOptions, Rows,
    ScrubOptions, ScrubReport, Store, Table,
};
use posthouse::time::SystemClock;
use posthouse::vfs::sim::{Disk, Rng};
use posthouse::vfs::{Entry, Fs, Open};

#[path = "scenarios.rs"]
mod scenarios;

pub use scenarios::SCENARIOS;

pub type Outcome<T> = Result<T, Error>;
type Mailbox = (AccountId, MailboxId);

/// The second mailbox of an account.
const ARCHIVE: MailboxId = MailboxId(2);
pub const DIRECTORY: &str = "/store";

/// Something that was asked of the store.
#[derive(Clone, Debug)]
pub enum Operation {
    Create,
    Accept {
        id: MessageId,
        bytes: Arc<Vec<u8>>,
        locals: Vec<AccountId>,
        remotes: Vec<Vec<u8>>,
    },
    Mailbox {
        account: AccountId,
    },
    Expunge {
        account: AccountId,
        uids: Vec<u32>,
    },
    /// The remote recipients that remain.
    Queue {
        id: MessageId,
        remotes: Vec<Vec<u8>>,
    },
    /// A second mailbox is made.
    Archive {
        account: AccountId,
    },
    /// Flags are replaced.
    Flags {
        account: AccountId,
        uids: Vec<u32>,
        flags: u32,
    },
    /// From INBOX to the second mailbox.
    Move {
        account: AccountId,
        uids: Vec<u32>,
    },
    Remove {
        account: AccountId,
    },
    Row {
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    },
}

/// An operation, and the UIDs it was answered with, by account.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: Operation,
    pub uids: BTreeMap<AccountId, u32>,
}

#[derive(Default)]
pub struct Model {
    asked: Mutex<Vec<Asked>>,
    /// Marks set before the disk was traced.
    early: Mutex<Vec<u64>>,
}

impl Model {
    /// As it is now, to go on with.
    pub fn copy(&self) -> Model {
        Model {
            asked: Mutex::new(lock(&self.asked).clone()),
            early: Mutex::new(lock(&self.early).clone()),
        }
    }
}

/// A scenario: what comes before the trace, and what is traced.
pub struct Scenario {
    pub name: &'static str,
    pub lanes: u8,
    /// Whether the store is there before; otherwise `run` makes it.
    pub made: bool,
    pub before: fn(&World) -> Outcome<()>,
    pub run: fn(&World) -> Outcome<()>,
}

/// A message that was handed over, and its UIDs.
#[derive(Default)]
pub struct Sent {
    id: Option<MessageId>,
    uids: BTreeMap<AccountId, u32>,
}

impl Sent {
    /// The UID that it was answered with; 0 when it was not accepted.
    pub fn uid(&self, account: AccountId) -> u32 {
        self.uids.get(&account).copied().unwrap_or(0)
    }
}

/// A store on a simulated disk.
pub struct World {
    pub disk: Disk,
    pub model: Arc<Model>,
    pub store: Mutex<Option<(Store, Spool)>>,
    rng: Mutex<Rng>,
    traced: std::sync::atomic::AtomicBool,
    /// Errors are what is tested: the scenario goes on behind them.
    pub tolerant: std::sync::atomic::AtomicBool,
    /// The first accounts of each lane.
    accounts: Mutex<Vec<Vec<AccountId>>>,
}

pub fn options() -> OpenOptions {
    OpenOptions {
        segment_bytes: 64 << 10,
        large_segment_bytes: 64 << 10,
        large_body_bytes: 8 << 10,
        // Checkpoints are made by the scenarios, and so is everything else that a store does by itself.
        checkpoint_millis: 3_600_000,
        checkpoint_bytes: 1 << 40,
        compact_bytes_per_second: 0,
        scrub_bytes_per_second: 0,
        // Writing one takes longer than a whole scenario.
        ballast_bytes: 0,
        ..OpenOptions::default()
    }
}

pub fn open(disk: &Disk) -> Outcome<Store> {
    Store::open(Arc::new(disk.clone()), SystemClock::shared(), Path::new(DIRECTORY), options())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl World {
    pub fn new(seed: u64) -> World {
        let disk = Disk::new();
        disk.create_dir_all(Path::new(DIRECTORY)).unwrap();
        World::on(disk, Arc::default(), seed)
    }

    pub fn on(disk: Disk, model: Arc<Model>, seed: u64) -> World {
        World {
            disk,
            model,
            store: Mutex::new(None),
            rng: Mutex::new(Rng::new(seed)),
            traced: std::sync::atomic::AtomicBool::new(false),
            tolerant: std::sync::atomic::AtomicBool::new(false),
            accounts: Mutex::default(),
        }
    }

    /// From here on the disk keeps the marks.
    pub fn start_trace(&self) {
        self.traced.store(true, std::sync::atomic::Ordering::SeqCst);
        self.disk.start_trace();
    }

    fn mark(&self, mark: u64) {
        if self.traced.load(std::sync::atomic::Ordering::SeqCst) {
            self.disk.mark(mark);
        } else {
            lock(&self.model.early).push(mark);
        }
    }

    /// Number of a new operation, which is handed over now.
    fn ask(&self, operation: Operation) -> u64 {
        let number = {
            let mut asked = lock(&self.model.asked);
            asked.push(Asked { operation, uids: BTreeMap::new() });
            asked.len() as u64 - 1
        };
        self.mark(number * 2);
        number
    }

    fn acknowledged(&self, number: u64) {
        self.mark(number * 2 + 1);
    }

    /// Marks an operation that was answered well; a failure is passed on, or forgiven.
    fn answered<T>(&self, number: u64, result: Outcome<T>) -> Outcome<Option<T>> {
        match result {
            Ok(answer) => {
                self.acknowledged(number);
                Ok(Some(answer))
            }
            Err(_) if self.tolerant.load(std::sync::atomic::Ordering::SeqCst) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn forgiven(&self, result: Outcome<()>) -> Outcome<()> {
        if self.tolerant.load(std::sync::atomic::Ordering::SeqCst) { Ok(()) } else { result }
    }

    fn learned(&self, number: u64, account: AccountId, uid: u32) {
        lock(&self.model.asked)[number as usize].uids.insert(account, uid);
    }

    pub fn below(&self, limit: u64) -> u64 {
        lock(&self.rng).below(limit)
    }

    fn bytes(&self, len: usize) -> Vec<u8> {
        let mut rng = Rng::new(lock(&self.rng).number());
        let mut bytes: Vec<u8> =
            (0..len.div_ceil(8)).flat_map(|_| rng.number().to_le_bytes()).collect();
        bytes.truncate(len);
        bytes
    }

    pub fn create(&self, lanes: u8) -> Outcome<()> {
        let fs: Arc<dyn Fs> = Arc::new(self.disk.clone());
        let number = self.ask(Operation::Create);
        let result = Store::create(&fs, Path::new(DIRECTORY), &CreateOptions { lanes });
        self.answered(number, result).map(|_| ())
    }

    pub fn open(&self) -> Outcome<()> {
        // What failed once may succeed the second time.
        let result = self.try_open();
        self.forgiven(result.or_else(|e| match self.forgiven(Err(e)) {
            Ok(()) => self.try_open(),
            Err(e) => Err(e),
        }))
    }

    fn try_open(&self) -> Outcome<()> {
        let store = open(&self.disk)?;
        let spool = Spool::open(&store)?;
        let mut accounts: Vec<Vec<AccountId>> = vec![Vec::new(); usize::from(store.lanes())];
        for account in (1..100).map(AccountId) {
            accounts[usize::from(store.lane_of(account).0)].push(account);
        }
        *lock(&self.accounts) = accounts;
        *lock(&self.store) = Some((store, spool));
        Ok(())
    }

    pub fn close(&self) -> Outcome<()> {
        let taken = lock(&self.store).take();
        match taken {
            Some((store, _)) => self.forgiven(store.close()),
            None => Ok(()),
        }
    }

    fn handles(&self) -> Outcome<(Store, Spool)> {
        let closed = || Error::new(Kind::Stopped, "the scenario's store is closed");
        lock(&self.store).clone().ok_or_else(closed)
    }

    fn store(&self) -> Outcome<Store> {
        self.handles().map(|(store, _)| store)
    }

    pub fn checkpoint(&self) -> Outcome<()> {
        self.forgiven(self.store().and_then(|store| store.checkpoint()))
    }

    pub fn mailbox(&self, account: AccountId) -> Outcome<()> {
        let number = self.ask(Operation::Mailbox { account });
        let result = self.store().and_then(|store| {
            let change = Change::CreateMailbox {
                account,
                mailbox: MailboxId::INBOX,
                name: "INBOX".into(),
                uid_validity: 7,
            };
            store.commit(store.lane_of(account), vec![change]).wait()
        });
        self.answered(number, result).map(|_| ())
    }

    /// The `index`th account of a lane.
    pub fn account(&self, lane: u8, index: usize) -> AccountId {
        let accounts = lock(&self.accounts);
        // A store that could never be opened takes no mail anyway.
        let of_lane = accounts.get(usize::from(lane));
        of_lane.and_then(|list| list.get(index)).copied().unwrap_or(AccountId(1))
    }

    /// A message for these accounts and remote recipients; answers its number.
    pub fn accept(&self, locals: &[AccountId], remotes: &[&str], len: usize) -> Outcome<Sent> {
        let (store, spool) = match self.handles() {
            Ok(handles) => handles,
            Err(e) => return self.forgiven(Err(e)).map(|()| Sent::default()),
        };
        let bytes = self.bytes(len);
        let (id, mut writer) = spool.begin(locals);
        let remotes: Vec<Vec<u8>> = remotes.iter().map(|r| r.as_bytes().to_vec()).collect();
        let number = self.ask(Operation::Accept {
            id,
            bytes: Arc::new(bytes.clone()),
            locals: locals.to_vec(),
            remotes: remotes.clone(),
        });
        let mut uids = BTreeMap::new();
        let accept = || {
            for part in bytes.chunks(10_000) {
                while let Some(ticket) = writer.pressure() {
                    ticket.wait()?;
                }
                writer.write(part)?;
            }
            let body = writer.finish()?;
            let queue = remotes.iter().map(|address| recipient(address)).collect();
            let home = id.lane();
            if locals.iter().all(|account| store.lane_of(*account) == home) {
                let deliver: Vec<Mailbox> = locals.iter().map(|a| (*a, MailboxId::INBOX)).collect();
                let new = NewMessage { id, envelope: envelope(), body, deliver, queue };
                let committed = store.commit(home, vec![Change::Message(new)]).wait()?;
                uids.extend(locals.iter().copied().zip(committed.uids));
                Ok(())
            } else {
                spool.accept(id, envelope(), body, locals, queue).wait()
            }
        };
        let result = accept();
        for (account, uid) in &uids {
            self.learned(number, *account, *uid);
        }
        self.answered(number, result)?;
        Ok(Sent { id: Some(id), uids })
    }

    /// Those of the UIDs that were given so far: what a failure refused may get its UID later, for another message.
    fn given(&self, account: AccountId, mut uids: Vec<u32>) -> Vec<u32> {
        let asked = lock(&self.model.asked);
        uids.retain(|uid| asked.iter().any(|asked| asked.uids.get(&account) == Some(uid)));
        uids.sort_unstable();
        uids
    }

    pub fn expunge(&self, account: AccountId, uids: Vec<u32>) -> Outcome<()> {
        let uids = self.given(account, uids);
        let number = self.ask(Operation::Expunge { account, uids: uids.clone() });
        let result = self.store().and_then(|store| {
            let change = Change::Expunge { account, mailbox: MailboxId::INBOX, uids };
            store.commit(store.lane_of(account), vec![change]).wait()
        });
        self.answered(number, result).map(|_| ())
    }

    pub fn queue(&self, sent: &Sent, remotes: &[&str]) -> Outcome<()> {
        let Some(id) = sent.id else { return Ok(()) };
        let remotes: Vec<Vec<u8>> = remotes.iter().map(|r| r.as_bytes().to_vec()).collect();
        let recipients = remotes.iter().map(|address| recipient(address)).collect();
        let number = self.ask(Operation::Queue { id, remotes });
        let result = self.store().and_then(|store| {
            let change = Change::Queue { message: id, recipients, references: 0 };
            store.commit(id.lane(), vec![change]).wait()
        });
        self.answered(number, result).map(|_| ())
    }

    pub fn remove(&self, account: AccountId) -> Outcome<()> {
        let number = self.ask(Operation::Remove { account });
        let result = self.store().and_then(|store| {
            store.commit(store.lane_of(account), vec![Change::RemoveMailboxes { account }]).wait()
        });
        self.answered(number, result).map(|_| ())
    }

    pub fn archive(&self, account: AccountId) -> Outcome<()> {
        let number = self.ask(Operation::Archive { account });
        let name = "Archive".into();
        let change = Change::CreateMailbox { account, mailbox: ARCHIVE, name, uid_validity: 9 };
        self.change(number, account, change)
    }

    pub fn flags(&self, account: AccountId, uids: Vec<u32>, flags: u32) -> Outcome<()> {
        let uids = self.given(account, uids);
        let number = self.ask(Operation::Flags { account, uids: uids.clone(), flags });
        let (mailbox, remove) = (MailboxId::INBOX, u32::MAX);
        self.change(number, account, Change::Flags { account, mailbox, uids, add: flags, remove })
    }

    pub fn move_to_archive(&self, account: AccountId, uids: Vec<u32>) -> Outcome<()> {
        let uids = self.given(account, uids);
        let number = self.ask(Operation::Move { account, uids: uids.clone() });
        let change = Change::Move { account, from: MailboxId::INBOX, to: ARCHIVE, uids };
        self.change(number, account, change)
    }

    fn change(&self, number: u64, account: AccountId, change: Change) -> Outcome<()> {
        let result = self
            .store()
            .and_then(|store| store.commit(store.lane_of(account), vec![change]).wait());
        self.answered(number, result).map(|_| ())
    }

    pub fn row(&self, key: &str, value: Option<&str>) -> Outcome<()> {
        let (key, value) = (key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec()));
        let number = self.ask(Operation::Row { key: key.clone(), value: value.clone() });
        let result = self.store().and_then(|store| match value {
            Some(value) => store.put(Table::Value, &key, &value),
            None => store.delete(Table::Value, &key),
        });
        self.answered(number, result).map(|_| ())
    }

    /// Every lane's index is exported.
    pub fn export(&self) -> Outcome<()> {
        self.forgiven(self.store().and_then(|store| store.export().map(|_| ())))
    }

    /// Compacts what holds less than `below_percent` of live bytes.
    pub fn compact(&self, below_percent: u8) -> Outcome<CompactReport> {
        let options = CompactOptions { below_percent, ..CompactOptions::default() };
        let result = self.store().and_then(|store| store.compact(&options));
        self.well(result, |report| &report.findings)
    }

    pub fn scrub(&self) -> Outcome<ScrubReport> {
        let options = ScrubOptions::default();
        let result = self.store().and_then(|store| store.scrub(&options, &mut |_, _| {}));
        self.well(result, |report| &report.findings)
    }

    /// What found nothing wrong.
    fn well<T: Default>(&self, result: Outcome<T>, lines: fn(&T) -> &Vec<String>) -> Outcome<T> {
        match result {
            Err(e) => self.forgiven(Err(e)).map(|()| T::default()),
            Ok(report) => {
                let lines = lines(&report);
                self.require(lines.is_empty(), &format!("findings: {lines:?}"))?;
                Ok(report)
            }
        }
    }

    /// Fails the scenario unless this holds: it would not do what its name says. Under faults nothing is required.
    pub fn require(&self, holds: bool, what: &str) -> Outcome<()> {
        if holds { Ok(()) } else { self.forgiven(Err(Error::new(Kind::Internal, what.to_owned()))) }
    }

    /// More references of a message are counted than there are, as after a crash between two lanes.
    pub fn miscount(&self, sent: &Sent) -> Outcome<()> {
        let Some(message) = sent.id else { return Ok(()) };
        let recipients = Vec::new();
        let change = Change::Queue { message, recipients, references: 3 };
        let result = self
            .store()
            .and_then(|store| store.commit(message.lane(), vec![change]).wait().map(|_| ()));
        self.forgiven(result)
    }

    /// Repairs the store, which is closed, and opens it again.
    pub fn repair(&self) -> Outcome<()> {
        let fs = Arc::new(self.disk.clone());
        let repair = RepairOptions { open: options(), ..RepairOptions::default() };
        let directory = Path::new(DIRECTORY);
        let clock = SystemClock::shared();
        match Store::repair(fs, clock, directory, &repair, &mut |_, _| {}) {
            Err(e) => self.forgiven(Err(e))?,
            Ok(report) => {
                let bad = [&report.damage, &report.problems];
                self.require(bad.iter().all(|lines| lines.is_empty()), &format!("{bad:?}"))?;
            }
        }
        self.open()
    }

    pub fn lanes(&self) -> u8 {
        u8::try_from(lock(&self.accounts).len()).unwrap_or(u8::MAX)
    }

    /// The store's files in one of its directories whose names end so.
    pub fn files(&self, directory: &str, end: &str) -> Vec<Entry> {
        files(&self.disk, directory, end)
    }

    /// Reads all messages that the mailboxes and the queue name, while anything may fail: wrong bytes are the only
    /// thing that is wrong.
    pub fn read_all(&self) -> Result<(), String> {
        let Ok(store) = self.store() else { return Ok(()) };
        let asked = lock(&self.model.asked).clone();
        for asked in asked {
            let Operation::Accept { id, bytes, .. } = asked.operation else { continue };
            let Ok(mut reader) = store.read(id) else { continue };
            let mut read = vec![0; usize::try_from(reader.len()).unwrap_or(0)];
            let mut done = 0;
            while done < read.len() {
                match reader.read_at(done as u64, &mut read[done..]) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => done += n,
                }
            }
            if read[..done] != bytes[..done] || read.len() != bytes.len() {
                return Err(format!("message {id}: wrong bytes are served"));
            }
        }
        Ok(())
    }

    /// Does something on so many threads; the first error.
    pub fn together(
        &self,
        threads: usize,
        work: impl Fn(usize) -> Outcome<()> + Sync,
    ) -> Outcome<()> {
        std::thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).fold(Ok(()), Result::and)
        })
    }

    /// Marks that were set before the trace.
    pub fn early(&self) -> Vec<u64> {
        lock(&self.model.early).clone()
    }
}

fn files(disk: &Disk, directory: &str, end: &str) -> Vec<Entry> {
    let mut found = disk.read_dir(&Path::new(DIRECTORY).join(directory)).unwrap_or_default();
    found.retain(|entry| entry.name.ends_with(end));
    found
}

/// Overwrites pages of every shard of the index.
pub fn damage_index(disk: &Disk, seed: u64) {
    let mut rng = Rng::new(seed);
    for entry in files(disk, "index", ".redb") {
        let path = Path::new(DIRECTORY).join("index").join(&entry.name);
        let Ok(file) = disk.open(&path, Open::ReadWrite) else { continue };
        for _ in 0..1 + rng.below(3) {
            let page = rng.below(entry.len / 4096 + 1);
            let bytes: Vec<u8> = (0..512).flat_map(|_| rng.number().to_le_bytes()).collect();
            let bytes = if rng.below(2) == 0 { vec![0; bytes.len()] } else { bytes };
            // Under a fault it is not damaged.
            let _ = file.write_at(&bytes, page * 4096);
        }
    }
}

/// What becomes of a disk before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// The index is lost: the even shards (1), the odd ones (2), or all (3).
    Lost(u64),
    /// The index is damaged.
    Damaged(u64),
    /// The store is opened, compacted and closed.
    Compacted,
}

impl Before {
    /// By the number of a state: most states stay as they are.
    pub fn of(state: u64) -> Before {
        let mut rng = Rng::new(state);
        match rng.below(8) {
            0 => Before::Lost([1, 3, 3, 2][rng.below(4) as usize]),
            1 => Before::Damaged(rng.number()),
            2 => Before::Compacted,
            _ => Before::Nothing,
        }
    }

    fn happen(self, disk: &Disk) -> Result<(), String> {
        match self {
            Before::Nothing => {}
            Before::Lost(which) => {
                for (number, entry) in files(disk, "index", ".redb").iter().enumerate() {
                    if which >> (number % 2) & 1 == 1 {
                        let path = Path::new(DIRECTORY).join("index").join(&entry.name);
                        disk.remove_file(&path).map_err(|e| e.to_string())?;
                    }
                }
            }
            Before::Damaged(seed) => damage_index(disk, seed),
            Before::Compacted => {
                // Without FORMAT there is nothing to compact.
                let Ok(store) = open(disk) else { return Ok(()) };
                let options = CompactOptions { below_percent: 80, ..CompactOptions::default() };
                let report = store.compact(&options).map_err(|e| format!("compacting: {e}"))?;
                store.close().map_err(|e| format!("closing behind compaction: {e}"))?;
                if !report.findings.is_empty() {
                    return Err(format!("compacting finds: {:?}", report.findings));
                }
            }
        }
        Ok(())
    }
}

fn recipient(address: &[u8]) -> QueueRecipient {
    QueueRecipient {
        address: address.to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Remote,
        answer: Vec::new(),
    }
}

fn envelope() -> Envelope {
    Envelope {
        from: b"sender@example.test".to_vec(),
        received: 1_790_000_000_000,
        ..Envelope::default()
    }
}

/// What must hold after a crash.
#[derive(Default)]
pub struct Expectation {
    /// Whether there must be a store, or none was asked for.
    created: bool,
    messages: BTreeMap<MessageId, Message>,
    accounts: BTreeMap<AccountId, Account>,
    rows: BTreeMap<Vec<u8>, Versions<Option<Vec<u8>>>>,
}

struct Message {
    bytes: Arc<Vec<u8>>,
    acknowledged: bool,
    locals: BTreeSet<AccountId>,
    uids: BTreeMap<AccountId, u32>,
    /// What the queue may say.
    queue: Versions<Vec<Vec<u8>>>,
}

#[derive(Default)]
struct Account {
    mailbox_acknowledged: bool,
    removal_asked: bool,
    removed: bool,
    highest_uid: u32,
    expunged: BTreeSet<u32>,
    expunge_asked: BTreeSet<u32>,
    archive_acknowledged: bool,
    moved: BTreeSet<u32>,
    move_asked: BTreeSet<u32>,
    flags: BTreeMap<u32, Versions<u32>>,
}

/// Values in the order they were asked for; those before the last acknowledged one are gone.
struct Versions<T> {
    values: Vec<(u64, T)>,
}

impl<T: PartialEq> Versions<T> {
    fn acknowledge(&mut self, number: u64) {
        if let Some(at) = self.values.iter().position(|(n, _)| *n == number) {
            self.values.drain(..at);
        }
    }

    fn allows(&self, value: &T) -> bool {
        self.values.iter().any(|(_, v)| v == value)
    }
}

impl Expectation {
    /// What the marks up to a crash promise.
    pub fn new(model: &Model, marks: impl IntoIterator<Item = u64>) -> Expectation {
        let asked = lock(&model.asked).clone();
        let mut expected = Expectation::default();
        for mark in marks {
            let number = mark / 2;
            let acknowledged = mark % 2 == 1;
            expected.take(number, acknowledged, &asked[number as usize]);
        }
        expected
    }

    fn take(&mut self, number: u64, acknowledged: bool, asked: &Asked) {
        match &asked.operation {
            Operation::Create => self.created |= acknowledged,
            Operation::Mailbox { account } => {
                self.accounts.entry(*account).or_default().mailbox_acknowledged |= acknowledged;
            }
            Operation::Accept { id, bytes, locals, remotes } => {
                let message = self.messages.entry(*id).or_insert_with(|| Message {
                    bytes: bytes.clone(),
                    acknowledged: false,
                    locals: locals.iter().copied().collect(),
                    uids: BTreeMap::new(),
                    // Not there, or as it was asked for.
                    queue: Versions {
                        values: vec![(u64::MAX, Vec::new()), (number, remotes.clone())],
                    },
                });
                if acknowledged {
                    message.acknowledged = true;
                    message.queue.acknowledge(number);
                    message.uids = asked.uids.clone();
                    for (account, uid) in &asked.uids {
                        let account = self.accounts.entry(*account).or_default();
                        account.highest_uid = account.highest_uid.max(*uid);
                    }
                }
            }
            Operation::Expunge { account, uids } => {
                let account = self.accounts.entry(*account).or_default();
                let into =
                    if acknowledged { &mut account.expunged } else { &mut account.expunge_asked };
                into.extend(uids);
            }
            Operation::Queue { id, remotes } => {
                if let Some(message) = self.messages.get_mut(id) {
                    if acknowledged {
                        message.queue.acknowledge(number);
                    } else {
                        message.queue.values.push((number, remotes.clone()));
                    }
                }
            }
            Operation::Remove { account } => {
                let account = self.accounts.entry(*account).or_default();
                account.removal_asked = true;
                account.removed |= acknowledged;
            }
            Operation::Archive { account } => {
                self.accounts.entry(*account).or_default().archive_acknowledged |= acknowledged;
            }
            Operation::Flags { account, uids, flags } => {
                let account = self.accounts.entry(*account).or_default();
                for uid in uids {
                    let versions = account
                        .flags
                        .entry(*uid)
                        .or_insert_with(|| Versions { values: vec![(u64::MAX, 0)] });
                    if acknowledged {
                        versions.acknowledge(number);
                    } else {
                        versions.values.push((number, *flags));
                    }
                }
            }
            Operation::Move { account, uids } => {
                let account = self.accounts.entry(*account).or_default();
                let into = if acknowledged { &mut account.moved } else { &mut account.move_asked };
                into.extend(uids);
            }
            Operation::Row { key, value } => {
                let versions = self
                    .rows
                    .entry(key.clone())
                    .or_insert_with(|| Versions { values: vec![(u64::MAX, None)] });
                if acknowledged {
                    versions.acknowledge(number);
                } else {
                    versions.values.push((number, value.clone()));
                }
            }
        }
    }

    /// Opens what a crash left and looks at everything.
    pub fn verify(&self, disk: &Disk) -> Result<(), String> {
        self.verify_after(disk, Before::Nothing)
    }

    /// As [`Expectation::verify`], after something else has happened to the disk.
    pub fn verify_after(&self, disk: &Disk, before: Before) -> Result<(), String> {
        before.happen(disk).map_err(|e| format!("{before:?}: {e}"))?;
        self.look(disk).map_err(|e| match before {
            Before::Nothing => e,
            before => format!("{before:?}: {e}"),
        })
    }

    fn look(&self, disk: &Disk) -> Result<(), String> {
        let store = match open(disk) {
            Ok(store) => store,
            Err(e) if e.kind() == Kind::NotAnInstance && !self.created => {
                let fs: Arc<dyn Fs> = Arc::new(disk.clone());
                Store::create(&fs, Path::new(DIRECTORY), &CreateOptions { lanes: 1 })
                    .map_err(|e| format!("making the store after all: {e}"))?;
                open(disk).map_err(|e| format!("opening the store that was made after all: {e}"))?
            }
            Err(e) => return Err(format!("opening: {e}")),
        };
        let result = self.verify_open(&store);
        store.close().map_err(|e| format!("closing: {e}"))?;
        result
    }

    pub fn verify_open(&self, store: &Store) -> Result<(), String> {
        let failed = |what: &'static str| move |e: Error| format!("{what}: {e}");
        let report = store.recovery_report();
        if !report.damage.is_empty() {
            return Err(format!("damage is reported: {:?}", report.damage));
        }
        let _spool = Spool::open(store).map_err(failed("opening the queue"))?;
        let mut highest: BTreeMap<AccountId, u32> = BTreeMap::new();
        let mut there: BTreeMap<MessageId, BTreeSet<AccountId>> = BTreeMap::new();
        for (account, expected) in &self.accounts {
            let heads = store.mailboxes(*account).map_err(failed("listing mailboxes"))?;
            if expected.removed && !heads.is_empty() {
                return Err(format!("account {} is back", account.0));
            }
            for (mailbox, acknowledged) in [
                (MailboxId::INBOX, expected.mailbox_acknowledged),
                (ARCHIVE, expected.archive_acknowledged),
            ] {
                let there = heads.iter().any(|head| head.mailbox == mailbox);
                if acknowledged && !expected.removal_asked && !there {
                    return Err(format!("account {} has no mailbox {}", account.0, mailbox.0));
                }
            }
            let rows = store
                .mailbox_scan(*account, MailboxId::INBOX, 0, usize::MAX)
                .map_err(failed("listing messages"))?;
            let mut seen = BTreeSet::new();
            for row in &rows {
                let name =
                    format!("account {} UID {}: message {}", account.0, row.uid, row.message);
                if !seen.insert(row.message) {
                    return Err(format!("{name} is there twice"));
                }
                if expected.expunged.contains(&row.uid) {
                    return Err(format!("{name} is back after its expunge"));
                }
                if expected.moved.contains(&row.uid) {
                    return Err(format!("{name} is back after its move"));
                }
                let flags = expected.flags.get(&row.uid);
                if !flags.map_or(row.flags == 0, |flags| flags.allows(&row.flags)) {
                    return Err(format!("{name} has flags {:x}", row.flags));
                }
                let Some(message) = self.messages.get(&row.message) else {
                    return Err(format!("{name} was never sent"));
                };
                if !message.locals.contains(account) {
                    return Err(format!("{name} was not for this account"));
                }
                if message.uids.get(account).is_some_and(|uid| *uid != row.uid) {
                    return Err(format!("{name} had UID {:?}", message.uids.get(account)));
                }
                there.entry(row.message).or_default().insert(*account);
            }
            let archived = store
                .mailbox_scan(*account, ARCHIVE, 0, usize::MAX)
                .map_err(failed("listing the archive"))?;
            for row in &archived {
                let uid = self.messages.get(&row.message).and_then(|m| m.uids.get(account));
                if !seen.insert(row.message) || uid.is_none_or(|u| !expected.move_asked.contains(u))
                {
                    return Err(format!("message {} is in the archive", row.message));
                }
                // The flags went with it.
                let flags = uid.and_then(|uid| expected.flags.get(uid));
                if !flags.map_or(row.flags == 0, |flags| flags.allows(&row.flags)) {
                    return Err(format!(
                        "message {} was moved with flags {:x}",
                        row.message, row.flags
                    ));
                }
                there.entry(row.message).or_default().insert(*account);
            }
            if heads.iter().any(|head| head.mailbox == MailboxId::INBOX) {
                let top = rows.last().map_or(0, |row| row.uid).max(expected.highest_uid);
                // A mailbox that may have been made again begins again.
                highest.insert(*account, top);
            }
        }
        let entries = store.queue_scan(None, usize::MAX).map_err(failed("listing the queue"))?;
        let mut queued: BTreeMap<MessageId, Vec<Vec<u8>>> = BTreeMap::new();
        for entry in entries {
            if !self.messages.contains_key(&entry.message) {
                return Err(format!("queue entry {} was never sent", entry.message));
            }
            let remote =
                |r: QueueRecipient| (r.state == RecipientState::Remote).then_some(r.address);
            let remotes: Vec<_> = entry.recipients.into_iter().filter_map(remote).collect();
            queued.insert(entry.message, remotes);
        }
        for (id, message) in &self.messages {
            let in_queue = queued.get(id).cloned().unwrap_or_default();
            if !message.queue.allows(&in_queue) {
                return Err(format!(
                    "message {id}: {} recipients in the queue, {:?} acknowledged or asked for",
                    in_queue.len(),
                    message.queue.values.iter().map(|(_, v)| v.len()).collect::<Vec<_>>()
                ));
            }
            let holders = there.remove(id).unwrap_or_default();
            let exists = message.acknowledged || !holders.is_empty() || !in_queue.is_empty();
            if !exists {
                continue;
            }
            for account in &message.locals {
                let expected = self.accounts.get(account);
                // Who has no UID for it cannot tell whether it is the one that was expunged.
                let gone = expected.is_some_and(|account_state| {
                    account_state.removal_asked
                        || match message.uids.get(account) {
                            Some(uid) => account_state.expunge_asked.contains(uid),
                            None => !account_state.expunge_asked.is_empty(),
                        }
                });
                if !gone && !holders.contains(account) {
                    let state = if message.acknowledged { "acknowledged" } else { "partly there" };
                    return Err(format!(
                        "message {id}: {state}, and account {} has it not",
                        account.0
                    ));
                }
            }
            if !holders.is_empty() || !in_queue.is_empty() {
                let bytes = read(store, *id)?;
                if bytes != *message.bytes {
                    return Err(format!("message {id}: other bytes than were sent"));
                }
            }
        }
        let rows = store.scan(Table::Value).map_err(failed("listing rows"))?;
        let rows: BTreeMap<_, _> = rows.into_iter().collect();
        for (key, versions) in &self.rows {
            if !versions.allows(&rows.get(key).cloned()) {
                return Err(format!(
                    "row {:?}: not the value that was set last",
                    String::from_utf8_lossy(key)
                ));
            }
        }
        if let Some(key) = rows.keys().find(|key| !self.rows.contains_key(*key)) {
            return Err(format!("row {:?} was never set", String::from_utf8_lossy(key)));
        }
        self.go_on(store, &highest)?;
        let report = store.check(&mut |_, _| {}).map_err(failed("checking"))?;
        if !report.problems.is_empty() {
            return Err(format!("check finds: {:?}", report.problems));
        }
        Ok(())
    }

    /// New mail is taken, with new UIDs and a new number.
    fn go_on(&self, store: &Store, highest: &BTreeMap<AccountId, u32>) -> Result<(), String> {
        let mut tickets = Vec::new();
        for (account, highest) in highest {
            let lane = store.lane_of(*account);
            let id = store.new_message_id(lane);
            if self.messages.contains_key(&id) {
                return Err(format!("message number {id} is given again"));
            }
            let mut writer = store.body(id);
            writer.write(b"after").map_err(|e| format!("writing: {e}"))?;
            let body: Body = writer.finish().map_err(|e| format!("writing: {e}"))?;
            let deliver = vec![(*account, MailboxId::INBOX)];
            let new = NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() };
            tickets.push((account, highest, store.commit(lane, vec![Change::Message(new)])));
        }
        for (account, highest, ticket) in tickets {
            let committed = ticket.wait().map_err(|e| format!("sending after the crash: {e}"))?;
            if committed.uids.iter().any(|uid| uid <= highest) {
                return Err(format!(
                    "account {}: UIDs {:?} are given, {highest} was given before",
                    account.0, committed.uids
                ));
            }
        }
        Ok(())
    }
}

fn read(store: &Store, id: MessageId) -> Result<Vec<u8>, String> {
    let mut reader = store.read(id).map_err(|e| format!("reading: {e}"))?;
    let mut bytes = vec![0; usize::try_from(reader.len()).unwrap_or(0)];
    let mut done = 0;
    while done < bytes.len() {
        match reader.read_at(done as u64, &mut bytes[done..]) {
            Ok(0) => return Err(format!("message {id}: it ends at {done} of {}", bytes.len())),
            Ok(n) => done += n,
            Err(e) => return Err(format!("reading: {e}")),
        }
    }
    Ok(bytes)
}

/// Where the store's files are.
pub fn directory() -> PathBuf {
    PathBuf::from(DIRECTORY)
}

/// Runs a scenario's beginning: what is not traced.
pub fn begin(scenario: &Scenario, seed: u64) -> World {
    let world = World::new(seed);
    if scenario.made {
        world.create(scenario.lanes).unwrap();
        world.open().unwrap();
        (scenario.before)(&world).unwrap();
        // Into a state of rest: everything before is durable.
        world.close().unwrap();
        world.open().unwrap();
    }
    world
}
