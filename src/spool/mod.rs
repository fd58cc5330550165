//! The queue over the store: accept, list, hold, release, remove.
//!
//! # States of a message
//! | on disk | means |
//! |---|---|
//! | chunks of its body only | coming in; forgotten when the session ends |
//! | message record | accepted: answered with 250 |
//! | row in a mailbox | delivered to that account |
//! | queue entry with recipients | recipients without a final outcome |
//! | queue entry with a `Local` recipient | delivery to a mailbox of another lane is under way |
//! | neither row nor entry | done with; its bytes are dead |
//!
//! **The instant of acceptance is the sync of the message record** in its home lane, the lane of its
//! first local account. That one transaction holds the bytes, the rows of all accounts of that lane,
//! and the queue entry for everybody else.
//!
//! # Accounts of other lanes
//! They stand in the queue entry as `Local`. After the home lane's sync each of their lanes gets a
//! `Deliver`, which the lane remembers, so that a second one changes nothing; then the home lane counts
//! the new references and takes the `Local` recipients out of the entry (`Queue`), and then the lanes
//! forget. A crash between any two steps leaves an entry with `Local` recipients, and [`Spool::open`] does
//! the steps again. When one of the other lanes fails, the message is accepted all the same, and its
//! entry waits until a lane becomes writable again ([`Spool::resume`]), or for the next opening. An account that was removed meanwhile has no mailbox: its
//! recipient is taken out without a delivery.
//!
//! The steps are chained by the committers' answers; no thread waits for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Kind, Result};
use crate::store::{
    AccountId, Admission, Body, BodyWriter, Change, Completion, Envelope, Lane, MailboxId,
    MessageId, NewMessage, QueueEntry, QueueRecipient, RecipientState, Store, Submitter, Ticket,
};
use crate::sync::Mutex;

#[cfg(test)]
mod tests;

/// Entries that are looked at together when interrupted deliveries are finished.
const PAGE: usize = 256;

/// The queue. Cloning gives another handle. Any thread may call.
#[derive(Clone)]
pub struct Spool {
    store: Store,
    next_lane: Arc<AtomicUsize>,
    crossings: Arc<Crossings>,
    /// Held by whoever changes an entry, from reading it until the change is on disk; an entry has its place here
    /// by its id.
    turns: Arc<[Mutex<()>; TURNS]>,
}

/// So many entries may be changed at once.
const TURNS: usize = 64;

/// Messages on their way to accounts of other lanes.
type Crossings = Mutex<HashMap<MessageId, Remains>>;

/// What a queue entry keeps when its deliveries between lanes are done.
struct Remains {
    recipients: Vec<QueueRecipient>,
    /// The transaction that says so has been handed to the home lane.
    settled: bool,
}

impl Remains {
    fn new(recipients: Vec<QueueRecipient>) -> Remains {
        Remains { recipients, settled: false }
    }
}

impl Spool {
    /// The queue of a store. Finishes deliveries between lanes that a crash interrupted.
    ///
    /// # Errors
    /// What the disk reports, `Corrupt` for a damaged index.
    pub fn open(store: &Store) -> Result<Spool> {
        let spool = Spool {
            store: store.clone(),
            next_lane: Arc::new(AtomicUsize::new(0)),
            crossings: Arc::default(),
            turns: Arc::new(std::array::from_fn(|_| Mutex::new(()))),
        };
        spool.finish_interrupted()?;
        Ok(spool)
    }

    fn finish_interrupted(&self) -> Result<()> {
        let mut after = None;
        let mut stuck = std::collections::HashSet::new();
        loop {
            let entries = self.store.queue_scan(after, PAGE)?;
            let Some(last) = entries.last() else { break };
            after = Some(last.message);
            let mut tickets = Vec::new();
            for entry in entries {
                let (locals, rest) = split(entry.recipients);
                if locals.is_empty() {
                    continue;
                }
                let (completion, ticket) = Ticket::new();
                let crossing = Crossing {
                    submitter: self.store.submitter(),
                    crossings: self.crossings.clone(),
                    message: entry.message,
                    size: entry.size,
                    received: entry.envelope.received,
                    flags: entry.envelope.flags,
                };
                self.crossings.lock().insert(entry.message, Remains::new(rest));
                crossing.start(&self.store, locals, completion);
                tickets.push((entry.message, ticket));
            }
            for (message, ticket) in tickets {
                if let Err(e) = ticket.wait() {
                    tracing::error!("message {message}: delivery to another lane: {e}");
                    stuck.insert(message);
                }
            }
        }
        // What is remembered of deliveries whose entries are finished can be forgotten.
        for (message, account, mailbox) in self.store.delivered_scan()? {
            let open = self.store.queue_entry(message)?.is_some_and(|entry| {
                let here = RecipientState::Local(account, mailbox);
                entry.recipients.iter().any(|r| r.state == here)
            });
            if !open && !stuck.contains(&message) {
                let change = Change::Forget { message, account, mailbox };
                self.store.submitter().commit_silently(self.store.lane_of(account), vec![change]);
            }
        }
        Ok(())
    }

    /// Whether mail can be taken now.
    pub fn admission(&self) -> Admission {
        self.store.admission()
    }

    /// Starts deliveries between lanes again that a lane which could not be written has stopped. Does not wait for
    /// them.
    ///
    /// # Errors
    /// What reading the queue meets.
    pub fn resume(&self) -> Result<()> {
        let mut after = None;
        loop {
            let entries = self.store.queue_scan(after, PAGE)?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = Some(last.message);
            for entry in entries {
                let waits = |e: &QueueEntry| {
                    e.recipients.iter().any(|r| matches!(r.state, RecipientState::Local(..)))
                };
                if !waits(&entry) {
                    continue;
                }
                let message = entry.message;
                {
                    let mut crossings = self.crossings.lock();
                    if crossings.contains_key(&message) {
                        continue;
                    }
                    crossings.insert(message, Remains::new(Vec::new()));
                }
                // It may have ended between the scan and now; nobody else begins it any more.
                let now = self.store.queue_entry(message);
                let Ok(Some(entry)) = now.map(|entry| entry.filter(waits)) else {
                    self.crossings.lock().remove(&message);
                    continue;
                };
                let (locals, rest) = split(entry.recipients);
                self.crossings.lock().insert(message, Remains::new(rest));
                let crossing = Crossing {
                    submitter: self.store.submitter(),
                    crossings: self.crossings.clone(),
                    message,
                    size: entry.size,
                    received: entry.envelope.received,
                    flags: entry.envelope.flags,
                };
                let (completion, _) = Ticket::new();
                crossing.start(&self.store, locals, completion);
            }
        }
    }

    /// Starts a message for these local recipients (none: relay only): its id, in the lane of the first of
    /// them, and the writer for its bytes.
    pub fn begin(&self, locals: &[AccountId]) -> (MessageId, BodyWriter) {
        let lane = match locals.first() {
            Some(account) => self.store.lane_of(*account),
            None => {
                let turn = self.next_lane.fetch_add(1, Ordering::Relaxed);
                let lanes = usize::from(self.store.lanes().max(1));
                Lane(u8::try_from(turn % lanes).unwrap_or(0))
            }
        };
        let id = self.store.new_message_id(lane);
        (id, self.store.body(id))
    }

    /// Makes a message durable: for each account a row in its INBOX, for each remote recipient a place in the
    /// queue, one copy of the bytes for all. The ticket answers when the message is on disk and every local
    /// mailbox shows it. An account that is named twice gets it once.
    ///
    /// # Errors
    /// `InvalidArgument` without any recipient, `NotFound` when an account of the home lane has no INBOX
    /// (it was removed meanwhile), `Limit`, `Stopped`, `DiskFull` and what else the disk reports. The
    /// message is not accepted then.
    pub fn accept(
        &self,
        id: MessageId,
        envelope: Envelope,
        body: Body,
        locals: &[AccountId],
        remotes: Vec<QueueRecipient>,
    ) -> Ticket<()> {
        let home = id.lane();
        let mut deliver = Vec::with_capacity(locals.len());
        let mut away: Vec<AccountId> = Vec::new();
        for account in locals {
            if self.store.lane_of(*account) == home {
                deliver.push((*account, MailboxId::INBOX));
            } else {
                away.push(*account);
            }
        }
        away.sort_unstable();
        away.dedup();
        if locals.is_empty() && remotes.is_empty() {
            let text = format!("message {id} has no recipient");
            return Ticket::ready(Err(Error::new(Kind::InvalidArgument, text)));
        }
        let (completion, ticket) = Ticket::new();
        let (size, received, flags) = (body.len(), envelope.received, envelope.flags);
        let message =
            |queue| vec![Change::Message(NewMessage { id, envelope, body, deliver, queue })];
        if away.is_empty() {
            self.store.commit_then(home, message(remotes), |result| {
                completion.complete(result.map(|_| ()));
            });
            return ticket;
        }
        let mut queue = remotes.clone();
        queue.extend(away.iter().map(|account| QueueRecipient {
            address: Vec::new(),
            parameters: Vec::new(),
            state: RecipientState::Local(*account, MailboxId::INBOX),
            answer: Vec::new(),
        }));
        let crossing = Crossing {
            submitter: self.store.submitter(),
            crossings: self.crossings.clone(),
            message: id,
            size,
            received,
            flags,
        };
        let locals: Vec<_> = away
            .into_iter()
            .map(|account| (self.store.lane_of(account), account, MailboxId::INBOX))
            .collect();
        self.crossings.lock().insert(id, Remains::new(remotes));
        self.store.commit_then(home, message(queue), move |result| match result {
            Ok(_) => crossing.deliver(locals, completion, true),
            Err(e) => {
                crossing.crossings.lock().remove(&id);
                completion.complete(Err(e));
            }
        });
        ticket
    }

    /// Up to `limit` entries after `after`, in the order of ids. Deliveries between lanes that are under way
    /// are not shown; one that failed is, as a `Local` recipient.
    pub fn list(&self, after: Option<MessageId>, limit: usize) -> Result<Vec<QueueEntry>> {
        let mut after = after;
        let mut shown = Vec::new();
        while shown.len() < limit {
            let wanted = limit.saturating_sub(shown.len());
            let page = self.store.queue_scan(after, wanted)?;
            let Some(last) = page.last() else { break };
            after = Some(last.message);
            let crossings = self.crossings.lock();
            for mut entry in page {
                if crossings.contains_key(&entry.message) {
                    entry.recipients.retain(|r| !matches!(r.state, RecipientState::Local(..)));
                }
                if !entry.recipients.is_empty() {
                    shown.push(entry);
                }
            }
        }
        Ok(shown)
    }

    /// An entry as it is on disk; `None` when there is none.
    ///
    /// # Errors
    /// What reading meets.
    pub fn entry(&self, id: MessageId) -> Result<Option<QueueEntry>> {
        self.store.queue_entry(id)
    }

    /// Takes an entry out of the queue for ever. `false` when there is none. Recipients that are accounts of
    /// this instance still get the message: it was accepted for them.
    pub fn remove(&self, id: MessageId) -> Result<bool> {
        self.change(id, &mut |recipients| {
            let any = !recipients.is_empty();
            recipients.clear();
            any
        })
    }

    /// Changes the recipients of an entry that are not accounts of this instance; durable on return. `change` gets
    /// them all and says whether it changed any; what it leaves stays. `false` when there is no entry, or nothing
    /// was changed.
    ///
    /// # Errors
    /// What the disk reports; nothing has changed then, as far as can be known.
    pub fn change(
        &self,
        id: MessageId,
        change: &mut dyn FnMut(&mut Vec<QueueRecipient>) -> bool,
    ) -> Result<bool> {
        let place = usize::try_from(id.0 % TURNS as u64).unwrap_or(0);
        let _turn = self.turns.get(place).map(|turn| turn.lock());
        let ticket = loop {
            // Read without the lock: reading waits for a committer, and a committer may wait for the lock.
            let was_crossing = self.crossings.lock().contains_key(&id);
            let Some(entry) = self.store.queue_entry(id)? else { return Ok(false) };
            let (locals, mut rest) = split(entry.recipients);
            // Under the lock, so that a delivery between lanes that ends now cannot put recipients back, nor
            // this its accounts.
            let mut crossings = self.crossings.lock();
            match crossings.get_mut(&id) {
                Some(remains) if !remains.settled => {
                    if !change(&mut remains.recipients) {
                        return Ok(false);
                    }
                    rest = remains.recipients.clone();
                }
                None if !was_crossing => {
                    if !change(&mut rest) {
                        return Ok(false);
                    }
                }
                // It is about to end, or has ended since: what was read is old. A transaction of the lane
                // passes behind the one that ends it.
                _ => {
                    drop(crossings);
                    self.store.commit(id.lane(), Vec::new()).wait()?;
                    continue;
                }
            }
            let mut recipients: Vec<_> = locals
                .into_iter()
                .map(|(account, mailbox)| QueueRecipient {
                    address: Vec::new(),
                    parameters: Vec::new(),
                    state: RecipientState::Local(account, mailbox),
                    answer: Vec::new(),
                })
                .collect();
            recipients.append(&mut rest);
            let change = Change::Queue { message: id, recipients, references: 0 };
            break self.store.commit(id.lane(), vec![change]);
        };
        ticket.wait().map(|_| true)
    }
}

/// Parts the accounts of this instance from the other recipients.
fn split(recipients: Vec<QueueRecipient>) -> (Vec<(AccountId, MailboxId)>, Vec<QueueRecipient>) {
    let mut locals = Vec::new();
    let mut rest = Vec::new();
    for recipient in recipients {
        match recipient.state {
            RecipientState::Local(account, mailbox) => locals.push((account, mailbox)),
            _ => rest.push(recipient),
        }
    }
    (locals, rest)
}

/// A message on its way to accounts of other lanes.
struct Crossing {
    submitter: Submitter,
    crossings: Arc<Crossings>,
    message: MessageId,
    size: u64,
    received: u64,
    flags: u16,
}

/// What the lanes have answered so far.
struct Gathered {
    waiting: usize,
    references: u32,
    error: Option<Error>,
    completion: Option<Completion<()>>,
}

impl Crossing {
    fn start(self, store: &Store, locals: Vec<(AccountId, MailboxId)>, completion: Completion<()>) {
        let locals = locals
            .into_iter()
            .map(|(account, mailbox)| (store.lane_of(account), account, mailbox))
            .collect();
        self.deliver(locals, completion, false);
    }

    /// Delivers in every lane, then goes on with [`Crossing::settle`]. `accepted` tells that the message
    /// counts as accepted even when a lane fails.
    fn deliver(
        self,
        locals: Vec<(Lane, AccountId, MailboxId)>,
        completion: Completion<()>,
        accepted: bool,
    ) {
        let mut lanes: HashMap<Lane, Vec<(AccountId, MailboxId)>> = HashMap::new();
        for (lane, account, mailbox) in locals {
            lanes.entry(lane).or_default().push((account, mailbox));
        }
        let gathered = Arc::new(Mutex::new(Gathered {
            waiting: lanes.len(),
            references: 0,
            error: None,
            completion: Some(completion),
        }));
        let crossing = Arc::new(self);
        let all = Arc::new(lanes);
        for (lane, mailboxes) in all.iter() {
            let changes = mailboxes
                .iter()
                .map(|(account, mailbox)| Change::Deliver {
                    message: crossing.message,
                    account: *account,
                    mailbox: *mailbox,
                    size: crossing.size,
                    received: crossing.received,
                    flags: crossing.flags,
                })
                .collect();
            let (gathered, crossing, all) = (gathered.clone(), crossing.clone(), all.clone());
            let submitter = crossing.submitter.clone();
            let at_home = *lane == crossing.message.lane();
            submitter.commit_then(*lane, changes, move |result| {
                let mut state = gathered.lock();
                state.waiting = state.waiting.saturating_sub(1);
                match result {
                    // In its own lane a delivery counts itself.
                    Ok(_) if at_home => {}
                    Ok(committed) => {
                        let delivered = committed.uids.iter().filter(|uid| **uid != 0).count();
                        let delivered = u32::try_from(delivered).unwrap_or(u32::MAX);
                        state.references = state.references.saturating_add(delivered);
                    }
                    Err(e) => state.error = Some(e),
                }
                if state.waiting > 0 {
                    return;
                }
                let (completion, error) = (state.completion.take(), state.error.take());
                let references = state.references;
                drop(state);
                match error {
                    None => crossing.settle(references, all),
                    Some(e) => {
                        // The entry keeps its `Local` recipients, for the next opening.
                        tracing::error!(
                            "message {}: delivery to another lane: {e}",
                            crossing.message
                        );
                        crossing.crossings.lock().remove(&crossing.message);
                        if !accepted {
                            if let Some(completion) = completion {
                                completion.complete(Err(e));
                            }
                            return;
                        }
                    }
                }
                if let Some(completion) = completion {
                    completion.complete(Ok(()));
                }
            });
        }
    }

    /// Counts the references and takes the accounts out of the entry; then the lanes may forget.
    fn settle(&self, references: u32, lanes: Arc<HashMap<Lane, Vec<(AccountId, MailboxId)>>>) {
        let message = self.message;
        let mut crossings = self.crossings.lock();
        let recipients = crossings.get_mut(&message).map_or_else(Vec::new, |remains| {
            remains.settled = true;
            remains.recipients.clone()
        });
        let change = Change::Queue { message, recipients, references };
        let submitter = self.submitter.clone();
        let under_way = self.crossings.clone();
        self.submitter.commit_then(message.lane(), vec![change], move |result| {
            // A store that is closed answers at once, under the lock that is held here.
            if result.as_ref().is_err_and(|e| e.kind() == Kind::Stopped) {
                return;
            }
            under_way.lock().remove(&message);
            if result.is_err() {
                return;
            }
            for (lane, mailboxes) in lanes.iter() {
                let changes = mailboxes
                    .iter()
                    .map(|(account, mailbox)| Change::Forget {
                        message,
                        account: *account,
                        mailbox: *mailbox,
                    })
                    .collect();
                submitter.commit_silently(*lane, changes);
            }
        });
        drop(crossings);
    }
}
