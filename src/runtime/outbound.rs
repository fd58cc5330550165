//! Mail that leaves: queue entries to their routes.
//!
//! # Method
//! One task schedules: it knows of each entry only when something of it is due, reads the entry when that time has come,
//! and gives it to a route. A route has up to [`CONNECTIONS`] connections, made when there is work and kept for
//! [`IDLE_MILLIS`] behind it, so that one serves many messages (`session`). An entry is with one route at a time.
//!
//! What an attempt came to is written to the queue, and synced, before the connection begins the next message; only then is it told.
//! When it cannot be written that connection stands still and writes again, because an outcome that is forgotten is a message
//! twice. A crash between the answer of the other side and the write leaves the recipient to be tried again
//! (RFC 1047): never lost.
//!
//! A route whose host cannot be reached, or will not speak, is left alone for [`DOWN_MILLIS`]; the entry that found out has
//! its attempt recorded, the others wait without one, and fail without one when their time is over. A message that its sender
//! wants back (BY with R) fails when that time has come, whatever it waits for.
//!
//! # Stopping
//! A transaction under way may end within the engine's drain time; none is begun. What is not recorded by then is tried again.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use super::tls::Connector;
use crate::delivery::{self, Attempt, Route, Routes, Schedule, Settled};
use crate::error::{Error, Kind, Result};
use crate::service::event::{Delivery, Event};
use crate::service::{Deliver, Shared};
use crate::smtp::client::{ClientConfig, Verdict};
use crate::store::{MessageId, QueueEntry, QueueRecipient, RecipientState};
use crate::sync::Mutex;
use crate::time::Clock;

mod session;
#[cfg(test)]
mod tests;

use session::Session;

/// Most connections to a route at once.
pub const CONNECTIONS: usize = 8;
/// Milliseconds that a connection without work is kept.
pub const IDLE_MILLIS: u64 = 5_000;
/// Milliseconds that a route is left alone whose host cannot be reached.
pub const DOWN_MILLIS: u64 = 60_000;
/// Entries that are read together when the engine starts.
const PAGE: usize = 256;
/// Longest time between two looks at the calendar, which may jump.
const LOOK_MILLIS: u64 = 60_000;

/// How mail leaves.
pub struct Plan {
    /// The queue, and whom to tell.
    pub shared: Arc<Shared>,
    /// The clock of deadlines.
    pub clock: Arc<dyn Clock>,
    /// Where mail goes.
    pub routes: Routes,
    /// How each route's connections are made, in the same order.
    pub ways: Vec<Way>,
    /// When attempts are repeated.
    pub schedule: Schedule,
    /// Milliseconds that a route is left alone whose host cannot be reached.
    pub down_millis: u64,
}

/// What a route's connections have in common.
pub struct Way {
    /// The client's configuration.
    pub client: Arc<ClientConfig>,
    /// The client's side of TLS; `None`: there is none.
    pub connector: Option<Connector>,
}

/// What the scheduling task is told.
enum News {
    /// This entry may have something due.
    Look(MessageId),
    /// A route is done with it for now.
    Done(MessageId),
    /// No host is down any more.
    Retry,
}

/// How the services tell the scheduling task, for as long as it works.
struct Bell {
    news: mpsc::UnboundedSender<News>,
    routes: Routes,
}

// Without anybody who listens the engine has stopped.
impl Deliver for Bell {
    fn look(&self, id: MessageId) {
        let _ = self.news.send(News::Look(id));
    }

    fn retry(&self) {
        let _ = self.news.send(News::Retry);
    }

    fn has_route(&self, address: &[u8]) -> bool {
        self.routes.find(address).is_some()
    }
}

/// What the scheduling task and all connections share.
struct Context {
    plan: Plan,
    lanes: Vec<Lane>,
    news: mpsc::UnboundedSender<News>,
    stopping: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
}

/// The work of one route.
#[derive(Default)]
struct Lane {
    work: Mutex<Work>,
    more: Notify,
    /// Not before this instant (milliseconds since 1970) is it tried again.
    down_until: AtomicU64,
    /// Why, in the words of the attempt that found out.
    down_why: Mutex<String>,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<MessageId>,
    /// Connections, and those of them that wait for work.
    active: usize,
    idle: usize,
}

/// Delivers until the engine stops. Every task of it holds an `alive`.
pub(super) async fn run(plan: Plan, stopping: watch::Receiver<bool>, alive: mpsc::Sender<()>) {
    let (news, mut incoming) = mpsc::unbounded_channel();
    let bell = Bell { news: news.clone(), routes: plan.routes.clone() };
    plan.shared.on_delivery(Some(Box::new(bell)));
    let lanes = plan.routes.all().iter().map(|_| Lane::default()).collect();
    let context = Arc::new(Context { plan, lanes, news, stopping, alive });
    let mut scheduler = Scheduler { context, waiting: BTreeSet::new(), busy: HashSet::new() };
    scheduler.work(&mut incoming).await;
    scheduler.context.plan.shared.on_delivery(None);
}

struct Scheduler {
    context: Arc<Context>,
    /// When to look at which entry.
    waiting: BTreeSet<(u64, MessageId)>,
    /// Entries that a route has.
    busy: HashSet<MessageId>,
}

impl Scheduler {
    async fn work(&mut self, incoming: &mut mpsc::UnboundedReceiver<News>) {
        let mut stopping = self.context.stopping.clone();
        if self.read_all(&mut stopping).await.is_none() {
            return;
        }
        loop {
            let now = self.now();
            while let Some(&(at, id)) = self.waiting.first()
                && at <= now
            {
                self.waiting.pop_first();
                self.look(id).await;
            }
            let pause = self.waiting.first().map_or(LOOK_MILLIS, |(at, _)| at.saturating_sub(now));
            let pause = Duration::from_millis(pause.min(LOOK_MILLIS));
            let news = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                news = incoming.recv() => news,
                () = tokio::time::sleep(pause) => continue,
            };
            match news {
                Some(News::Look(id)) => self.look(id).await,
                Some(News::Retry) => {
                    for lane in &self.context.lanes {
                        lane.down_until.store(0, Ordering::Relaxed);
                    }
                }
                Some(News::Done(id)) => {
                    self.busy.remove(&id);
                    self.look(id).await;
                }
                None => return,
            }
        }
    }

    fn now(&self) -> u64 {
        self.context.plan.shared.clock.unix_millis()
    }

    /// Looks at every entry that stands in the queue. `None`: the engine stops.
    async fn read_all(&mut self, stopping: &mut watch::Receiver<bool>) -> Option<()> {
        let mut after = None;
        loop {
            let stopped = *stopping.borrow_and_update();
            if stopped {
                return None;
            }
            let shared = Arc::clone(&self.context.plan.shared);
            match blocking(move || shared.spool.list(after, PAGE)).await {
                Ok(page) => {
                    let Some(last) = page.last() else { return Some(()) };
                    after = Some(last.message);
                    for entry in page {
                        self.place(&entry).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the queue cannot be read");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn look(&mut self, id: MessageId) {
        // The route that has it is followed by another look.
        if self.busy.contains(&id) {
            return;
        }
        let shared = Arc::clone(&self.context.plan.shared);
        match blocking(move || shared.spool.entry(id)).await {
            Ok(Some(entry)) => self.place(&entry).await,
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%id, %error, "queue entry cannot be read");
                self.waiting.insert((self.now().saturating_add(LOOK_MILLIS), id));
            }
        }
    }

    /// Gives an entry to a route, or puts it where it is found in time.
    async fn place(&mut self, entry: &QueueEntry) {
        let (id, now) = (entry.message, self.now());
        if self.busy.contains(&id) {
            return;
        }
        let context = Arc::clone(&self.context);
        if has_local(&context, entry, now) {
            let shared = Arc::clone(&context.plan.shared);
            match blocking(move || release(&shared, id)).await {
                Ok(told) => told.iter().for_each(|told| tell(&context.plan.shared, id, "", told)),
                Err(error) => {
                    tracing::error!(%id, %error, "held message cannot be put into its mailboxes");
                    // A route would take it out of the house.
                    self.waiting.insert((now.saturating_add(LOOK_MILLIS), id));
                    return;
                }
            }
        }
        let late = overdue(&context, entry, now);
        if !late.is_empty() {
            let shared = Arc::clone(&context.plan.shared);
            match blocking(move || fail(&shared, id, &late, now)).await {
                Ok(told) => {
                    told.iter().for_each(|told| tell(&context.plan.shared, id, "", told));
                    // What is left of it is looked at anew.
                    let again = if told.is_empty() { LOOK_MILLIS } else { 0 };
                    self.waiting.insert((now.saturating_add(again), id));
                }
                Err(error) => {
                    tracing::error!(%id, %error, "what has failed cannot be recorded");
                    self.waiting.insert((now.saturating_add(LOOK_MILLIS), id));
                }
            }
            return;
        }
        let plan = delivery::plan(entry, &context.plan.routes, now);
        let up =
            |route: &&usize| context.lane(**route).is_some_and(|lane| lane.down_until() <= now);
        if let Some(route) = plan.routes.iter().find(up) {
            self.busy.insert(id);
            context.give(*route, id);
            return;
        }
        let over = delivery::over(&entry.envelope, &context.plan.schedule);
        let down = plan.routes.iter().filter_map(|route| Some(context.lane(*route)?.down_until()));
        let back = delivery::return_at(&entry.envelope)
            .filter(|_| entry.recipients.iter().any(|r| is_remote(&context, r)));
        let times = down.map(|at| at.min(over)).chain(plan.next).chain(back);
        if let Some(at) = times.min() {
            self.waiting.insert((at, id));
        }
    }
}

/// Whether a recipient is still to be brought to another server.
fn is_remote(context: &Context, recipient: &QueueRecipient) -> bool {
    delivery::due(recipient).is_some()
        && context.plan.shared.local_accounts(&recipient.address).is_none()
}

/// The recipients of an entry that fail now without another attempt, and why.
fn overdue(context: &Context, entry: &QueueEntry, now: u64) -> Vec<(Vec<u8>, String)> {
    let wanted_back = delivery::return_at(&entry.envelope).is_some_and(|at| at <= now);
    let over = delivery::over(&entry.envelope, &context.plan.schedule) <= now;
    if !wanted_back && !over {
        return Vec::new();
    }
    let why = |r: &QueueRecipient| {
        if wanted_back {
            return Some(session::TOO_LATE.to_owned());
        }
        let route = context.plan.routes.find(&r.address)?;
        let lane = context.lane(route).filter(|lane| lane.down_until() > now)?;
        let due = delivery::due(r).is_some_and(|at| at <= now);
        due.then(|| lane.down_why.lock().clone())
    };
    let late = entry.recipients.iter().filter(|r| is_remote(context, r));
    late.filter_map(|r| Some((r.address.clone(), why(r)?))).collect()
}

/// Writes down that these recipients have failed.
fn fail(shared: &Shared, id: MessageId, late: &[(Vec<u8>, String)], now: u64) -> Result<Vec<Told>> {
    let why: HashMap<&[u8], &str> =
        late.iter().map(|(address, why)| (address.as_slice(), why.as_str())).collect();
    let mut told = Vec::new();
    shared.spool.change(id, &mut |recipients| {
        told.clear();
        for recipient in recipients.iter_mut().filter(|r| delivery::due(r).is_some()) {
            let Some(answer) = why.get(recipient.address.as_slice()) else { continue };
            recipient.state = delivery::failed(recipient, now);
            recipient.answer = delivery::kept(answer);
            if let RecipientState::Failed { attempts, .. } = recipient.state {
                told.push(Told {
                    address: recipient.address.clone(),
                    outcome: Delivery::Failed,
                    attempts,
                    next: 0,
                    answer: (*answer).to_owned(),
                });
            }
        }
        !told.is_empty()
    })?;
    Ok(told)
}

/// Whether an entry has recipients due that are accounts of this instance: they were held until now.
fn has_local(context: &Context, entry: &QueueEntry, now: u64) -> bool {
    entry.recipients.iter().any(|r| {
        matches!(r.state, RecipientState::Deferred { attempts: 0, next } if next <= now)
            && context.plan.shared.local_accounts(&r.address).is_some()
    })
}

/// Puts a held message into the mailboxes it was held for. Answers whose account is not there any more.
fn release(shared: &Shared, id: MessageId) -> Result<Vec<Told>> {
    const GONE: &str = "550 5.1.1 No such user here any more";
    let now = shared.clock.unix_millis();
    let mut told = Vec::new();
    shared.spool.change(id, &mut |recipients| {
        told.clear();
        let mut accounts = BTreeSet::new();
        recipients.retain_mut(|r| {
            let due =
                matches!(r.state, RecipientState::Deferred { attempts: 0, next } if next <= now);
            let Some(local) = shared.local_accounts(&r.address).filter(|_| due) else {
                return true;
            };
            if local.is_empty() {
                r.state = RecipientState::Failed { attempts: 1, at: now };
                r.answer = delivery::kept(GONE);
                told.push(Told {
                    address: r.address.clone(),
                    outcome: Delivery::Failed,
                    attempts: 1,
                    next: 0,
                    answer: GONE.to_owned(),
                });
            }
            accounts.extend(local.iter().copied());
            local.is_empty()
        });
        recipients.extend(accounts.iter().map(|account| QueueRecipient {
            address: Vec::new(),
            parameters: Vec::new(),
            state: RecipientState::Local(*account, crate::store::MailboxId::INBOX),
            answer: Vec::new(),
        }));
        !(accounts.is_empty() && told.is_empty())
    })?;
    shared.spool.resume()?;
    Ok(told)
}

impl Lane {
    fn down_until(&self) -> u64 {
        self.down_until.load(Ordering::Relaxed)
    }
}

impl Context {
    fn lane(&self, route: usize) -> Option<&Lane> {
        self.lanes.get(route)
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Gives an entry to a route's connections, and makes one more when all have work.
    fn give(self: &Arc<Self>, route: usize, id: MessageId) {
        let Some(lane) = self.lane(route) else { return };
        let mut work = lane.work.lock();
        work.jobs.push_back(id);
        if work.idle > 0 {
            lane.more.notify_one();
        } else if work.active < CONNECTIONS {
            work.active = work.active.saturating_add(1);
            drop(work);
            tokio::spawn(serve(Arc::clone(self), route));
        }
    }

    /// The next entry for a connection of this route; `None`: it is to end. A connection that waits may do so for
    /// [`IDLE_MILLIS`].
    async fn next_job(&self, route: usize) -> Option<MessageId> {
        let lane = self.lane(route)?;
        let mut stopping = self.stopping.clone();
        let mut waited = false;
        loop {
            {
                let mut work = lane.work.lock();
                if !self.is_stopping()
                    && let Some(id) = work.jobs.pop_front()
                {
                    return Some(id);
                }
                if waited || self.is_stopping() {
                    work.active = work.active.saturating_sub(1);
                    return None;
                }
                work.idle = work.idle.saturating_add(1);
            }
            let woken = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => false,
                () = lane.more.notified() => true,
                () = tokio::time::sleep(Duration::from_millis(IDLE_MILLIS)) => false,
            };
            waited = !woken;
            let mut work = lane.work.lock();
            work.idle = work.idle.saturating_sub(1);
        }
    }
}

/// One connection of a route, for as long as there is work.
async fn serve(context: Arc<Context>, route: usize) {
    let _alive = context.alive.clone();
    let mut session: Option<Session> = None;
    while let Some(id) = context.next_job(route).await {
        deliver(&context, route, id, &mut session).await;
        // Nobody listens any more when the engine stops.
        let _ = context.news.send(News::Done(id));
    }
    if let Some(session) = session {
        session.quit().await;
    }
}

/// One entry on one route, from the queue to the record of what it came to.
async fn deliver(
    context: &Arc<Context>,
    route_number: usize,
    id: MessageId,
    session: &mut Option<Session>,
) {
    let plan = &context.plan;
    let now = plan.shared.clock.unix_millis();
    let Some(lane) = context.lane(route_number).filter(|lane| lane.down_until() <= now) else {
        return;
    };
    let shared = Arc::clone(&plan.shared);
    let entry = match blocking(move || shared.spool.entry(id)).await {
        Ok(Some(entry)) => entry,
        Ok(None) => return,
        Err(error) => return tracing::error!(%id, %error, "queue entry cannot be read"),
    };
    let recipients = delivery::due_on(&entry, &plan.routes, route_number, now);
    let (Some(route), Some(way)) =
        (plan.routes.all().get(route_number), plan.ways.get(route_number))
    else {
        return;
    };
    if recipients.is_empty() {
        return;
    }
    let tried = attempt(plan, route, way, &entry, &recipients, session).await;
    let mut attempts = match tried {
        Ok(attempts) => attempts,
        Err(answer) => {
            // It says nothing about the recipients (RFC 5321 3.1): all of them wait.
            tracing::warn!(route = %route.host, %answer, "no delivery to this host for now");
            let until = plan.shared.clock.unix_millis().saturating_add(plan.down_millis);
            lane.down_why.lock().clone_from(&answer);
            lane.down_until.store(until, Ordering::Relaxed);
            let of = |r: &QueueRecipient| Attempt {
                address: r.address.clone(),
                verdict: Verdict::Temporary,
                answer: answer.clone(),
            };
            recipients.iter().map(of).collect()
        }
    };
    // A host that takes nobody at all would be asked for ever.
    if attempts.iter().all(|a| a.verdict == Verdict::NotTried) {
        attempts.iter_mut().for_each(|a| a.verdict = Verdict::Temporary);
    }
    record(context, route, entry, attempts).await;
}

/// Sends an entry to some of its recipients. An error, in words, concerns the connection and none of them.
async fn attempt(
    plan: &Plan,
    route: &Route,
    way: &Way,
    entry: &QueueEntry,
    recipients: &[QueueRecipient],
    kept: &mut Option<Session>,
) -> std::result::Result<Vec<Attempt>, String> {
    let mut session = match kept.take() {
        Some(session) if session.is_ready() => session,
        Some(session) => {
            session.quit().await;
            Session::open(plan, route, way).await?
        }
        None => Session::open(plan, route, way).await?,
    };
    let fresh = session.is_fresh();
    let sent = session.send(&plan.shared, entry, recipients).await;
    // The other side may have closed a connection that waited for work, or grants it no more: that says nothing about the
    // message.
    if !fresh && session.was_spent() {
        session.quit().await;
        session = Session::open(plan, route, way).await?;
        let sent = session.send(&plan.shared, entry, recipients).await;
        *kept = session.keep();
        return Ok(sent);
    }
    *kept = session.keep();
    Ok(sent)
}

/// Writes down what came of an entry, then tells it.
async fn record(context: &Context, route: &Route, entry: QueueEntry, attempts: Vec<Attempt>) {
    let id = entry.message;
    let attempts = Arc::new(attempts);
    loop {
        let (shared, attempts) = (Arc::clone(&context.plan.shared), Arc::clone(&attempts));
        let (schedule, received) = (context.plan.schedule, delivery::since(&entry.envelope));
        let written = blocking(move || write(&shared, id, received, &schedule, &attempts)).await;
        match written {
            Ok(told) => {
                let remote = route.host.to_string();
                return told.iter().for_each(|told| tell(&context.plan.shared, id, &remote, told));
            }
            Err(error) if context.is_stopping() || error.kind() == Kind::Stopped => {
                return tracing::error!(%id, %error, "what a delivery came to is not recorded; it is tried again");
            }
            Err(error) => {
                tracing::error!(%id, %error, "what a delivery came to cannot be recorded; nothing else is sent");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// What is told of a recipient.
struct Told {
    address: Vec<u8>,
    outcome: Delivery,
    attempts: u32,
    next: u64,
    answer: String,
}

fn write(
    shared: &Shared,
    id: MessageId,
    received: u64,
    schedule: &Schedule,
    attempts: &[Attempt],
) -> Result<Vec<Told>> {
    let now = shared.clock.unix_millis();
    let by_address: HashMap<&[u8], &Attempt> =
        attempts.iter().map(|attempt| (attempt.address.as_slice(), attempt)).collect();
    let mut told = Vec::new();
    shared.spool.change(id, &mut |recipients| {
        told.clear();
        recipients.retain_mut(|recipient| {
            let Some(attempt) = by_address.get(recipient.address.as_slice()) else { return true };
            if delivery::due(recipient).is_none() {
                return true;
            }
            let before = match recipient.state {
                RecipientState::Deferred { attempts, .. } => attempts,
                _ => 0,
            };
            let settled =
                delivery::settle(recipient, attempt.verdict, schedule, received, now, id.0);
            let (outcome, attempts, next) = match settled {
                Settled::Delivered => (Delivery::Delivered, before.saturating_add(1), 0),
                Settled::Kept(RecipientState::Deferred { attempts, next }) => {
                    (Delivery::Deferred, attempts, next)
                }
                Settled::Kept(RecipientState::Failed { attempts, .. }) => {
                    (Delivery::Failed, attempts, 0)
                }
                Settled::Kept(_) => (Delivery::Deferred, before, now),
            };
            if attempt.verdict != Verdict::NotTried {
                let (address, answer) = (recipient.address.clone(), attempt.answer.clone());
                told.push(Told { address, outcome, attempts, next, answer });
            }
            match settled {
                Settled::Delivered => false,
                Settled::Kept(state) => {
                    recipient.state = state;
                    recipient.answer = delivery::kept(&attempt.answer);
                    true
                }
            }
        });
        true
    })?;
    Ok(told)
}

fn tell(shared: &Shared, id: MessageId, remote: &str, told: &Told) {
    let counters = &shared.counters;
    match told.outcome {
        Delivery::Delivered => counters.delivered.up(),
        Delivery::Deferred => counters.deferred.up(),
        Delivery::Failed => counters.failed.up(),
    }
    tracing::info!(
        %id, to = %told.address.escape_ascii(), outcome = told.outcome.name(), attempts = told.attempts, remote,
        answer = %told.answer.escape_debug(), "delivery"
    );
    shared.emit(&Event::Delivery {
        id,
        address: &String::from_utf8_lossy(&told.address),
        outcome: told.outcome,
        attempts: told.attempts,
        next: told.next,
        remote,
        answer: &told.answer,
    });
}

/// Runs what may block on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::new(Kind::Internal, format!("a job did not come to its end: {e}"))),
    }
}
