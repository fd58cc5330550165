//! A store in a directory of its own that goes away with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use posthouse::store::{
    AccountId, Change, CreateOptions, Envelope, MailboxId, MessageId, NewMessage, OpenOptions,
    QueueRecipient, RecipientState, Store,
};
use posthouse::time::SystemClock;
use posthouse::vfs::Fs;
use posthouse::vfs::os::OsFs;

use crate::Outcome;

/// A directory that is removed at the end, unless it is to be kept.
pub struct Place {
    /// The directory.
    pub path: PathBuf,
    keep: bool,
}

impl Place {
    /// A new directory below `parent`.
    pub fn new(parent: &Path, name: &str) -> Outcome<Place> {
        let path = parent.join(format!("posthouse-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Place { path, keep: false })
    }

    /// This directory, which stays; made when it does not exist.
    pub fn kept(path: &Path) -> Outcome<Place> {
        std::fs::create_dir_all(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Place { path: path.to_path_buf(), keep: true })
    }

    /// Whether a store is there already.
    pub fn holds_store(&self) -> bool {
        self.path.join("FORMAT").exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The machine's file system.
pub fn disk() -> Arc<dyn Fs> {
    Arc::new(OsFs)
}

/// Makes a store.
pub fn create(path: &Path, lanes: u8) -> Outcome<()> {
    Ok(Store::create(&disk(), path, &CreateOptions { lanes })?)
}

/// Opens a store.
pub fn open(path: &Path, options: OpenOptions) -> Outcome<Store> {
    Ok(Store::open(disk(), SystemClock::shared(), path, options)?)
}

/// Makes the inboxes of accounts 1 to `count`.
pub fn inboxes(store: &Store, count: u32) -> Outcome<()> {
    let tickets: Vec<_> = (1..=count)
        .map(|number| {
            let account = AccountId(number);
            let change = Change::CreateMailbox {
                account,
                mailbox: MailboxId::INBOX,
                name: "INBOX".into(),
                uid_validity: 1,
            };
            store.commit(store.lane_of(account), vec![change])
        })
        .collect();
    tickets.into_iter().try_for_each(|ticket| ticket.wait().map(|_| ()))?;
    Ok(())
}

fn envelope() -> Envelope {
    Envelope {
        from: b"sender@example.test".to_vec(),
        received: 1_790_000_000_000,
        ..Envelope::default()
    }
}

/// A change that delivers these bytes to an account's inbox.
pub fn delivery(store: &Store, account: AccountId, bytes: &[u8]) -> Outcome<Change> {
    let id = store.new_message_id(store.lane_of(account));
    let mut writer = store.body(id);
    writer.write(bytes)?;
    let body = writer.finish()?;
    let deliver = vec![(account, MailboxId::INBOX)];
    Ok(Change::Message(NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() }))
}

/// A change that puts these bytes into the queue, and the entry's id.
pub fn queued(store: &Store, account: AccountId, bytes: &[u8]) -> Outcome<(MessageId, Change)> {
    let id = store.new_message_id(store.lane_of(account));
    let mut writer = store.body(id);
    writer.write(bytes)?;
    let body = writer.finish()?;
    let queue = vec![QueueRecipient {
        address: b"someone@elsewhere.example".to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Remote,
        answer: Vec::new(),
    }];
    let new = NewMessage { id, envelope: envelope(), body, deliver: Vec::new(), queue };
    Ok((id, Change::Message(new)))
}

/// Bytes of all files below a directory.
pub fn bytes_below(path: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
