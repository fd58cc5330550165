//! Messages of a mailbox by their UIDs, pack by pack.
//!
//! Who has many UIDs to look up gets each pack that holds some of them once, decoded, with those UIDs.
//! The work is one look-up for each pack with a message that is asked for, and one more for each gap
//! between packs that UIDs fall into, however many they are.

use super::row::{self, PACK_ROWS};
use super::{Batch, Pair, Space};
use crate::error::{Error, Kind, Result};
use crate::store::{AccountId, MailboxId, MessageRow};

/// A pack that holds messages which were asked for, or may: not every UID between the first and the last
/// of a pack is there.
pub struct Pack<'u> {
    /// Its key.
    pub key: Vec<u8>,
    /// Its messages, in the order of UIDs.
    pub rows: Vec<MessageRow>,
    /// The UIDs that may be in it.
    pub uids: &'u [u32],
    /// How many UIDs stand before these in the list.
    pub skipped: usize,
}

fn damaged() -> Error {
    Error::new(Kind::Corrupt, "index: a message row is damaged")
}

impl Pack<'_> {
    /// The message with this UID.
    pub fn row(&self, uid: u32) -> Option<&MessageRow> {
        let at = self.rows.binary_search_by_key(&uid, |row| row.uid).ok()?;
        self.rows.get(at)
    }
}

/// Goes through the packs of a mailbox that may hold some of a list of UIDs.
pub struct PackWalk<'u> {
    account: AccountId,
    mailbox: MailboxId,
    prefix: Vec<u8>,
    /// What is left of the list.
    uids: &'u [u32],
    skipped: usize,
}

impl<'u> PackWalk<'u> {
    /// A walk for these UIDs, which rise.
    pub fn new(account: AccountId, mailbox: MailboxId, uids: &'u [u32]) -> PackWalk<'u> {
        let prefix = row::mailbox_key(account, mailbox);
        PackWalk { account, mailbox, prefix, uids, skipped: 0 }
    }

    /// The next pack. Packs that were given out may be changed or removed in between.
    pub fn next(&mut self, batch: &Batch<'_>) -> Result<Option<Pack<'u>>> {
        let Some(uid) = self.uids.first() else { return Ok(None) };
        let key = row::pack_key(self.account, self.mailbox, *uid);
        let before = batch.last(Space::Pack, &key)?;
        if let Some(pair) = before.filter(|(key, _)| key.starts_with(&self.prefix))
            && let Some(pack) = self.look(pair)?
        {
            return Ok(Some(pack));
        }
        // They lie behind that pack's last message: on to the next one.
        while let Some(uid) = self.uids.first() {
            let key = row::pack_key(self.account, self.mailbox, *uid);
            let Some(pair) = batch.first(Space::Pack, &self.prefix, &key)? else { break };
            let skipped = self.skipped;
            if let Some(pack) = self.look(pair)? {
                return Ok(Some(pack));
            }
            if self.skipped == skipped {
                return Err(damaged());
            }
        }
        Ok(None)
    }

    /// The pack with the UIDs that may be in it, if there are any.
    fn look(&mut self, (key, value): Pair) -> Result<Option<Pack<'u>>> {
        let rows = row::decode_pack(&value).map_err(|_| damaged())?;
        let first = rows.first().map_or(0, |row| row.uid);
        let last = rows.last().map_or(0, |row| row.uid);
        self.pass(self.uids.partition_point(|uid| *uid < first));
        let skipped = self.skipped;
        let uids = self.pass(self.uids.partition_point(|uid| *uid <= last));
        Ok((!uids.is_empty()).then_some(Pack { key, rows, uids, skipped }))
    }

    fn pass(&mut self, count: usize) -> &'u [u32] {
        let (passed, rest) = self.uids.split_at_checked(count).unwrap_or_default();
        self.uids = rest;
        self.skipped = self.skipped.saturating_add(passed.len());
        passed
    }
}

/// Messages that are added behind the last one of a mailbox, pack by pack.
pub struct PackWriter {
    account: AccountId,
    mailbox: MailboxId,
    /// The pack being filled.
    rows: Vec<MessageRow>,
    bytes: usize,
    /// First UID in the name of the pack being filled; 0: none.
    pub pack: u32,
}

impl PackWriter {
    /// Goes on with the pack that the mailbox's head names; 0: with a new one.
    pub fn new(
        batch: &Batch<'_>,
        account: AccountId,
        mailbox: MailboxId,
        pack: u32,
    ) -> Result<PackWriter> {
        let mut writer = PackWriter { account, mailbox, rows: Vec::new(), bytes: 0, pack: 0 };
        if pack != 0
            && let Some(value) = batch.get(Space::Pack, &row::pack_key(account, mailbox, pack))?
        {
            writer.bytes = value.len();
            writer.rows = row::decode_pack(&value).map_err(|_| damaged())?;
            writer.pack = pack;
        }
        Ok(writer)
    }

    /// Adds a message; its UID is above those before.
    pub fn add(&mut self, batch: &mut Batch<'_>, message: MessageRow) {
        if self.rows.len() >= PACK_ROWS || self.bytes >= row::PACK_BYTES {
            self.flush(batch);
            self.rows.clear();
            self.bytes = 0;
        }
        if self.rows.is_empty() {
            self.pack = message.uid;
        }
        let mut bytes = Vec::new();
        row::put_pack_row(&mut bytes, self.rows.last(), &message);
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.rows.push(message);
    }

    /// Writes the pack being filled.
    pub fn flush(&self, batch: &mut Batch<'_>) {
        if !self.rows.is_empty() {
            let key = row::pack_key(self.account, self.mailbox, self.pack);
            batch.put(Space::Pack, key, row::encode_pack(&self.rows));
        }
    }
}
