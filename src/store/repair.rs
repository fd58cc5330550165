//! Repair: a closed store's index made again, its references counted again, and what is lost named.
//!
//! # Method
//! 1. The store is opened, which mends what recovery can mend, and every shard that agrees with itself is exported, so
//!    that nothing that only the index knows any more goes with it.
//! 2. Every shard is made again from its export and the log behind it.
//! 3. References are counted from the rows of mailboxes, and corrected by records in the log.
//! 4. The whole is checked. What cannot be served is named, with who misses it.
//! 5. Only when it is asked for: damaged ranges are copied to `lost/`, and the rows of lost messages are removed from
//!    mailboxes and queue by ordinary transactions. Then the whole is checked again.
//! 6. Every shard is exported.
//!
//! # Invariants
//! A segment is never rewritten, and nothing is removed without having been asked for. Running it again is allowed at any time,
//! also after it was interrupted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::row::{self, Place};
use super::index::{IndexView, Space};
use super::{
    AccountId, Change, DamagedRange, LostMessage, MailboxId, MessageId, OpenOptions,
    RecipientState, Store,
};
use crate::error::{Error, Kind, Result};
use crate::time::Clock;
use crate::vfs::{File, Fs, Open};

/// Name of the directory that damaged ranges are copied to.
pub const LOST_DIRECTORY: &str = "lost";
/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 << 10;
/// UIDs of a mailbox that are removed in one transaction.
const UIDS: usize = 1000;

/// How a store is repaired.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Remove the rows of messages that are lost from mailboxes and queue, after what is damaged was copied to `lost/`.
    pub drop_lost: bool,
    /// How the store is opened for it.
    pub open: OpenOptions,
}

/// What a repair did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Shards of the index that were made again: all of them.
    pub rebuilt: u32,
    /// Rows that came from exports.
    pub imported: u64,
    /// Records of the log that were applied.
    pub replayed: u64,
    /// Messages whose count of references was wrong and is right now.
    pub recounted: u64,
    /// One line for each thing that was mended.
    pub notes: Vec<String>,
    /// One line for each damaged place of acknowledged data that was met in the log.
    pub damage: Vec<String>,
    /// Ranges of segments that cannot be read.
    pub damaged: Vec<DamagedRange>,
    /// Messages that are lost, and who misses them.
    pub lost: Vec<LostMessage>,
    /// Rows of mailboxes and entries of the queue that were removed.
    pub dropped: u64,
    /// Copies of damaged ranges.
    pub copies: Vec<PathBuf>,
    /// One line for each problem that is left.
    pub problems: Vec<String>,
}

impl Store {
    /// Repairs a store that nobody has open; it is closed again on return. `progress(done, total)` counts bytes of
    /// the log and of exports while they are checked, and begins anew with each check.
    ///
    /// # Errors
    /// As [`Store::open`]; or what stands in the way of a repair: `DiskFull`, `Io`. What was done so far stays.
    pub fn repair(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: &RepairOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RepairReport> {
        let mut report = RepairReport::default();
        let store = Store::open(fs.clone(), clock.clone(), dir, options.open.clone())?;
        report.met(&store);
        report.export(&store)?;
        store.close()?;
        drop(store);
        let store = Store::open_anew(fs.clone(), clock, dir, options.open.clone())?;
        report.met(&store);
        let recovered = store.recovery_report();
        report.rebuilt = u32::from(store.lanes());
        report.imported = recovered.imported;
        report.replayed = recovered.replayed;
        report.recounted = recount(&store)?;
        let mut check = store.check(progress)?;
        report.damaged = std::mem::take(&mut check.damaged);
        report.lost = std::mem::take(&mut check.lost);
        if options.drop_lost {
            report.copies = copy_all(fs.as_ref(), dir, &report.damaged, &report.lost)?;
            report.dropped = drop_rows(&store, &report.lost)?;
            if report.dropped > 0 {
                check = store.check(progress)?;
            }
        }
        report.problems = check.problems;
        report.export(&store)?;
        store.close()?;
        Ok(report)
    }
}

impl RepairReport {
    /// The report as a JSON document.
    pub fn to_json(&self) -> serde_json::Value {
        let range = |r: &DamagedRange| serde_json::json!({ "file": r.file.display().to_string(), "from": r.from, "to": r.to });
        let lost = |lost: &LostMessage| {
            let mailboxes = lost.mailboxes.iter().map(|(account, mailbox, uid)| {
                serde_json::json!({ "account": account.0, "mailbox": mailbox.0, "uid": uid })
            });
            serde_json::json!({
                "message": lost.message.to_string(),
                "mailboxes": mailboxes.collect::<Vec<_>>(),
                "queued": lost.queued,
                "sender": lost.sender.as_ref().map(|s| String::from_utf8_lossy(s).into_owned()),
                "why": lost.why,
                "ranges": lost.ranges.iter().map(range).collect::<Vec<_>>(),
            })
        };
        serde_json::json!({
            "rebuilt": self.rebuilt,
            "imported": self.imported,
            "replayed": self.replayed,
            "recounted": self.recounted,
            "dropped": self.dropped,
            "notes": self.notes,
            "damage": self.damage,
            "copies": self.copies.iter().map(|p| p.display().to_string()).collect::<Vec<_>>(),
            "problems": self.problems,
            "damaged": self.damaged.iter().map(range).collect::<Vec<_>>(),
            "lost": self.lost.iter().map(lost).collect::<Vec<_>>(),
        })
    }

    /// Takes over what an opening met, each line once.
    fn met(&mut self, store: &Store) {
        let recovered = store.recovery_report();
        for (lines, found) in
            [(&mut self.notes, &recovered.notes), (&mut self.damage, &recovered.damage)]
        {
            for line in found {
                if !lines.contains(line) {
                    lines.push(line.clone());
                }
            }
        }
    }

    /// Exports every shard that agrees with itself.
    fn export(&mut self, store: &Store) -> Result<()> {
        for done in store.export_each() {
            match done {
                Err(e) if e.kind() == Kind::Corrupt => self.notes.push(e.to_string()),
                done => {
                    done?;
                }
            }
        }
        Ok(())
    }
}

/// Counts again how many mailboxes hold each message, and corrects what is wrong. How many were wrong.
fn recount(store: &Store) -> Result<u64> {
    let core = &store.handle.core;
    let views: Vec<Box<dyn IndexView>> =
        core.homes.iter().map(|home| home.view()).collect::<Result<_>>()?;
    let mut held: BTreeMap<MessageId, i64> = BTreeMap::new();
    let mut entries = BTreeMap::new();
    let mut damaged = false;
    for view in &views {
        view.range(Space::Pack, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
            match row::decode_pack(value) {
                Ok(rows) => {
                    for row in rows {
                        *held.entry(row.message).or_default() += 1;
                    }
                }
                Err(_) => damaged = true,
            }
            true
        })?;
        view.range(Space::Queue, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
            match row::message_of(key).and_then(|id| row::decode_queue(id, value)) {
                Ok(entry) => {
                    // Only those that move between lanes are on their way into a mailbox.
                    let moving = |state| matches!(state, RecipientState::Local(..));
                    if entry.recipients.iter().any(|r| moving(r.state)) {
                        entries.insert(entry.message, entry.recipients);
                    }
                }
                Err(_) => damaged = true,
            }
            true
        })?;
    }
    if damaged {
        // Counting what is not all there would let messages go that somebody holds.
        return Ok(0);
    }
    let mut wrong = Vec::new();
    for view in &views {
        view.range(Space::Place, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
            if let (Ok(id), Ok(place)) = (row::message_of(key), Place::decode(value)) {
                let rows = held.get(&id).copied().unwrap_or(0);
                if place.references != rows && !entries.contains_key(&id) {
                    wrong.push((id, place.references.saturating_sub(rows), place.queued));
                }
            }
            true
        })?;
    }
    drop(views);
    let mut count = 0_u64;
    for (message, above, queued) in wrong {
        let number = u32::try_from(above.unsigned_abs()).unwrap_or(u32::MAX);
        let change = if above > 0 {
            Change::Unreference { message, count: number }
        } else {
            let recipients = match queued {
                true => match store.queue_entry(message)? {
                    Some(entry) => entry.recipients,
                    // Both are wrong: check names it.
                    None => continue,
                },
                false => Vec::new(),
            };
            Change::Queue { message, recipients, references: number }
        };
        store.commit(message.lane(), vec![change]).wait()?;
        count = count.saturating_add(1);
    }
    Ok(count)
}

/// Removes the rows of lost messages. How many mailbox rows and queue entries.
fn drop_rows(store: &Store, lost: &[LostMessage]) -> Result<u64> {
    let mut dropped = 0_u64;
    let mut uids: BTreeMap<(AccountId, MailboxId), Vec<u32>> = BTreeMap::new();
    for message in lost {
        for (account, mailbox, uid) in &message.mailboxes {
            uids.entry((*account, *mailbox)).or_default().push(*uid);
        }
        if message.queued {
            let id = message.message;
            let change = Change::Queue { message: id, recipients: Vec::new(), references: 0 };
            store.commit(id.lane(), vec![change]).wait()?;
            dropped = dropped.saturating_add(1);
        }
    }
    for ((account, mailbox), mut uids) in uids {
        uids.sort_unstable();
        uids.dedup();
        for uids in uids.chunks(UIDS) {
            let uids = uids.to_vec();
            dropped = dropped.saturating_add(uids.len() as u64);
            let change = Change::Expunge { account, mailbox, uids };
            store.commit(store.lane_of(account), vec![change]).wait()?;
        }
    }
    // Messages of other lanes are let go behind the answer.
    store.handle.core.pass_all_lanes()?;
    store.handle.core.pass_all_lanes()?;
    Ok(dropped)
}

/// Copies every damaged range, and the places of lost messages, to files of their own.
fn copy_all(
    fs: &dyn Fs,
    dir: &Path,
    damaged: &[DamagedRange],
    lost: &[LostMessage],
) -> Result<Vec<PathBuf>> {
    let mut ranges: Vec<&DamagedRange> =
        damaged.iter().chain(lost.iter().flat_map(|message| &message.ranges)).collect();
    ranges.sort();
    ranges.dedup();
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let directory = dir.join(LOST_DIRECTORY);
    fs.create_dir_all(&directory).map_err(|e| Error::io("create", &directory, &e))?;
    fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, &e))?;
    let mut copies = Vec::new();
    for range in ranges {
        let stem = range.file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let path = directory.join(format!("{stem}-{:x}-{:x}.bin", range.from, range.to));
        let source = match fs.open(&range.file, Open::Read) {
            Ok(source) => source,
            // The whole segment is missing.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("open", &range.file, &e)),
        };
        let target = fs.open(&path, Open::Create).map_err(|e| Error::io("create", &path, &e))?;
        copy(source.as_ref(), target.as_ref(), range)
            .map_err(|e| Error::io("copy to", &path, &e))?;
        copies.push(path);
    }
    fs.sync_dir(&directory).map_err(|e| Error::io("sync", &directory, &e))?;
    Ok(copies)
}

fn copy(source: &dyn File, target: &dyn File, range: &DamagedRange) -> std::io::Result<()> {
    let to = range.to.min(source.len()?);
    target.set_len(0)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = range.from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let part = buffer.get_mut(..len).unwrap_or_default();
        // A place that the disk cannot read is copied as zeros: the rest of it is worth having.
        if crate::vfs::read_exact_at(source, part, at).is_err() {
            part.fill(0);
        }
        target.write_at(part, at - range.from)?;
        at += len as u64;
    }
    target.sync_all()
}
