//! Delivery: where a queued message goes next, and when. Decides; it connects to nobody.
//!
//! # Method
//! [`Routes`] says by a recipient's domain which [`Route`] takes it. [`Schedule`] says when an attempt that failed is
//! repeated, and when to stop. [`Entry`] looks at a queue entry: which of its recipients are due, on which route, and
//! when something is due next. [`settle`] turns what an attempt came to into the state that the queue keeps.
//! The caller (`runtime::outbound`) reads the queue, speaks to other servers, and records the states.
//!
//! # Invariants
//! - Without a route a recipient waits: nothing is tried and nothing expires.
//! - A class 5 reply to a recipient or a message is final; everything else is tried again until
//!   [`Schedule::expire_millis`] have gone by since acceptance (RFC 5321 4.5.4.1), and has failed then, with the last answer.
//!   So has what waits for a host that is down when that time is over: see [`over`].
//! - BY with R (RFC 2852) is a time of its own, and holds without a route, too.
//! - An instant is a calendar's milliseconds: it survives a restart, and a clock that jumps moves attempts, but loses none.

use std::path::PathBuf;

use crate::codec::address::Address;
use crate::sasl::client::Credentials;
use crate::smtp::client::Verdict;
use crate::smtp::parameter::{Hold, MailParameters};
use crate::store::{Envelope, QueueEntry, QueueRecipient, RecipientState};

/// Octets of an answer that the queue keeps.
pub const ANSWER_OCTETS: usize = 512;

/// Which protocol a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, and a port.
    Net(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Host::Net(name, port) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Net(name, port) => write!(f, "{name}:{port}"),
            Host::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether a route uses TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteTls {
    /// Never.
    None,
    /// When the other side offers it, whatever its certificate (RFC 7435).
    #[default]
    Opportunistic,
    /// Always, with a certificate that one of the route's authorities has signed for the host's name.
    Required,
}

/// A way for mail to leave.
#[derive(Clone, Debug)]
pub struct Route {
    /// The recipients' domain, folded; `*` for every domain that no other route names.
    pub domain: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where it leads.
    pub host: Host,
    /// Whether TLS is used.
    pub tls: RouteTls,
    /// PEM file of the authorities for [`RouteTls::Required`].
    pub authorities: Option<PathBuf>,
    /// Log in with these.
    pub credentials: Option<Credentials>,
}

impl Route {
    /// Reads `smtp:HOST:PORT`, `lmtp:HOST:PORT` or `lmtp:/PATH`. `None`: it is none of these.
    pub fn target(text: &str) -> Option<(Protocol, Host)> {
        let (protocol, rest) = text.split_once(':')?;
        let protocol = match protocol {
            "smtp" => Protocol::Smtp,
            "lmtp" => Protocol::Lmtp,
            _ => return None,
        };
        if rest.starts_with('/') {
            let sound = protocol == Protocol::Lmtp && !rest.contains('\0');
            return sound.then(|| (protocol, Host::Socket(PathBuf::from(rest))));
        }
        let (host, port) = rest.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        sound.then(|| (protocol, Host::Net(bare.unwrap_or(host).to_owned(), port)))
    }
}

/// All routes. Today the configuration's; MX look-ups will stand behind them.
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// These routes. Of several for one domain the first counts.
    pub fn new(routes: Vec<Route>) -> Routes {
        Routes(routes)
    }

    /// Whether mail leaves at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, in their order.
    pub fn all(&self) -> &[Route] {
        &self.0
    }

    /// The number of the route for an address; `None`: it waits.
    pub fn find(&self, address: &[u8]) -> Option<usize> {
        let domain = Address::parse(address, true)?.domain_key()?;
        let of = |name: &str| self.0.iter().position(|route| route.domain == name);
        of(&domain).or_else(|| of("*"))
    }
}

/// When attempts are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Milliseconds from the first attempt to the second; each next wait is twice as long,
    pub first_millis: u64,
    /// but not longer than this.
    pub longest_millis: u64,
    /// A recipient fails when so much time has gone by since the message was accepted.
    pub expire_millis: u64,
}

impl Default for Schedule {
    /// 5, 10, 20, 40, 80 minutes, then every 2 hours, for 5 days (RFC 5321 4.5.4.1).
    fn default() -> Schedule {
        Schedule {
            first_millis: 300_000,
            longest_millis: 7_200_000,
            expire_millis: 5 * 24 * 3_600_000,
        }
    }
}

impl Schedule {
    /// Milliseconds to wait after so many attempts. A tenth of it depends on `seed`, so that what failed together is
    /// not repeated together.
    pub fn wait(&self, attempts: u32, seed: u64) -> u64 {
        let doublings = attempts.saturating_sub(1).min(32);
        let wait = self.first_millis.saturating_mul(1 << doublings).min(self.longest_millis);
        let mixed =
            seed.wrapping_add(u64::from(attempts)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        wait.saturating_add((wait / 10).saturating_mul(mixed) >> 32)
    }
}

/// What one attempt came to for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The recipient's forward-path.
    pub address: Vec<u8>,
    /// What is to be done about it.
    pub verdict: Verdict,
    /// What was answered.
    pub answer: String,
}

/// What an attempt means for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The recipient leaves the entry.
    Delivered,
    /// It stays, in this state.
    Kept(RecipientState),
}

/// What the next server is told of MAIL's parameters now, as they stand on the wire: of BY the time that has gone by since
/// acceptance is subtracted (RFC 2852 4.3). `None`: BY with R, and its time is over: the message must not go on.
pub fn relayed(envelope: &Envelope, now: u64) -> Option<Vec<u8>> {
    /// RFC 2852 4: nine digits.
    const LEAST: i64 = -999_999_999;
    let Some(mut parameters) = MailParameters::from_relay_text(&envelope.parameters) else {
        return Some(envelope.parameters.clone());
    };
    if return_at(envelope).is_some_and(|at| at <= now) {
        return None;
    }
    if let Some(by) = &mut parameters.deliver_by {
        let gone = now.saturating_sub(envelope.received) / 1000;
        let gone = i64::try_from(gone).unwrap_or(i64::MAX);
        let left = i64::from(by.seconds).saturating_sub(gone).max(LEAST);
        by.seconds = i32::try_from(left).unwrap_or(0);
    }
    let mut text = Vec::with_capacity(envelope.parameters.len());
    parameters.relay_text(&mut text);
    Some(text)
}

/// When a message must not go on any more, because its sender wants it back by then (BY with R, RFC 2852 4.1.4.2; milliseconds
/// since 1970).
pub fn return_at(envelope: &Envelope) -> Option<u64> {
    let by = MailParameters::from_relay_text(&envelope.parameters)?.deliver_by?;
    let millis = u64::try_from(by.seconds).unwrap_or(0).saturating_mul(1000);
    by.return_it.then(|| envelope.received.saturating_add(millis))
}

/// Since when a message is to be delivered (milliseconds since 1970): its acceptance, or the end of its hold.
pub fn since(envelope: &Envelope) -> u64 {
    let parameters = MailParameters::from_relay_text(&envelope.parameters);
    match parameters.and_then(|parameters| parameters.hold) {
        Some(Hold::Until(seconds)) => envelope.received.max(seconds.saturating_mul(1000)),
        _ => envelope.received,
    }
}

/// What an attempt means for a recipient of a message that is to be delivered since `received`, see [`since`]. `seed`: see [`Schedule::wait`].
pub fn settle(
    recipient: &QueueRecipient,
    verdict: Verdict,
    schedule: &Schedule,
    received: u64,
    now: u64,
    seed: u64,
) -> Settled {
    let before = match recipient.state {
        RecipientState::Deferred { attempts, .. } => attempts,
        _ => 0,
    };
    let attempts = before.saturating_add(1);
    match verdict {
        Verdict::Delivered => Settled::Delivered,
        Verdict::Permanent => Settled::Kept(RecipientState::Failed { attempts, at: now }),
        // It goes at once with the next transaction.
        Verdict::NotTried => {
            Settled::Kept(RecipientState::Deferred { attempts: before, next: now })
        }
        Verdict::Temporary | Verdict::Unknown => {
            let next = now.saturating_add(schedule.wait(attempts, seed));
            if next.saturating_sub(received) > schedule.expire_millis {
                return Settled::Kept(RecipientState::Failed { attempts, at: now });
            }
            Settled::Kept(RecipientState::Deferred { attempts, next })
        }
    }
}

/// When the time of a message is over whose next host is down, so that no attempt would say so. One that
/// becomes due only then still has its attempt if the host is up.
pub fn over(envelope: &Envelope, schedule: &Schedule) -> u64 {
    since(envelope).saturating_add(schedule.expire_millis).saturating_add(1)
}

/// A text as the queue keeps it: bounded, without control characters.
pub fn kept(answer: &str) -> Vec<u8> {
    let end = answer.floor_char_boundary(ANSWER_OCTETS);
    let text = answer.get(..end).unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into_bytes()
}

/// A recipient that has failed without another attempt.
pub fn failed(recipient: &QueueRecipient, now: u64) -> RecipientState {
    let attempts = match recipient.state {
        RecipientState::Deferred { attempts, .. } => attempts,
        _ => 0,
    };
    RecipientState::Failed { attempts, at: now }
}

/// When a recipient is to be tried; `None`: not by us, or never again.
pub fn due(recipient: &QueueRecipient) -> Option<u64> {
    match recipient.state {
        RecipientState::Remote => Some(0),
        RecipientState::Deferred { next, .. } => Some(next),
        RecipientState::Local(..) | RecipientState::Held | RecipientState::Failed { .. } => None,
    }
}

/// What is to be done about a queue entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Routes on which something is due now, each once.
    pub routes: Vec<usize>,
    /// When the next recipient is due that is not now.
    pub next: Option<u64>,
}

/// Looks at a queue entry.
pub fn plan(entry: &QueueEntry, routes: &Routes, now: u64) -> Plan {
    let mut plan = Plan::default();
    for recipient in &entry.recipients {
        let Some(at) = due(recipient) else { continue };
        let Some(route) = routes.find(&recipient.address) else { continue };
        if at > now {
            plan.next = Some(plan.next.map_or(at, |next| next.min(at)));
        } else if !plan.routes.contains(&route) {
            plan.routes.push(route);
        }
    }
    plan
}

/// The recipients of an entry that are due now on a route.
pub fn due_on(entry: &QueueEntry, routes: &Routes, route: usize, now: u64) -> Vec<QueueRecipient> {
    let due = |r: &&QueueRecipient| {
        due(r).is_some_and(|at| at <= now) && routes.find(&r.address) == Some(route)
    };
    entry.recipients.iter().filter(due).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Envelope, MessageId};

    fn route(domain: &str) -> Route {
        Route {
            domain: domain.to_owned(),
            protocol: Protocol::Smtp,
            host: Host::Net("localhost".into(), 25),
            tls: RouteTls::None,
            authorities: None,
            credentials: None,
        }
    }

    fn recipient(address: &str, state: RecipientState) -> QueueRecipient {
        QueueRecipient {
            address: address.into(),
            parameters: Vec::new(),
            state,
            answer: Vec::new(),
        }
    }

    #[test]
    fn targets_are_read_and_what_is_none_is_not() {
        let net = |p, h: &str, n| Some((p, Host::Net(h.to_owned(), n)));
        assert_eq!(Route::target("smtp:mx.test:25"), net(Protocol::Smtp, "mx.test", 25));
        assert_eq!(Route::target("lmtp:[::1]:24"), net(Protocol::Lmtp, "::1", 24));
        assert_eq!(
            Route::target("lmtp:/run/x:y"),
            Some((Protocol::Lmtp, Host::Socket(PathBuf::from("/run/x:y"))))
        );
        for bad in [
            "",
            "mx:25",
            "smtp:mx",
            "smtp:mx:0",
            "smtp:mx:65536",
            "smtp:/run/x",
            "smtp::25",
            "smtp:a b:25",
            "http:x:25",
            "smtp:[::1:25",
            "smtp:::1:25",
        ] {
            assert_eq!(Route::target(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_domain_has_its_own_route_before_that_of_all() {
        let routes = Routes::new(vec![route("*"), route("a.test")]);
        assert_eq!(routes.find(b"x@A.Test."), Some(1));
        assert_eq!(routes.find(b"x@b.test"), Some(0));
        assert_eq!(Routes::new(vec![route("a.test")]).find(b"x@b.test"), None);
        assert_eq!(routes.find(b"no address"), None);
    }

    #[test]
    fn waits_grow_to_their_limit_and_attempts_end_with_the_time() {
        let schedule = Schedule::default();
        let mut last = 0;
        for attempts in 1..100 {
            let wait = schedule.wait(attempts, 77);
            assert!(wait >= schedule.first_millis && wait <= schedule.longest_millis * 11 / 10);
            assert!(attempts > 6 || wait > last, "{attempts}");
            last = wait;
        }
        assert!(schedule.wait(u32::MAX, u64::MAX) <= schedule.longest_millis * 11 / 10);
        let mut state = RecipientState::Remote;
        let (received, mut now, mut tries) = (1_000_000, 1_000_000, 0);
        loop {
            let who = recipient("a@b.test", state);
            tries += 1;
            match settle(&who, Verdict::Temporary, &schedule, received, now, 5) {
                Settled::Kept(RecipientState::Deferred { attempts, next }) => {
                    assert_eq!(attempts, tries);
                    assert!(next - now >= 300_000);
                    (state, now) = (RecipientState::Deferred { attempts, next }, next);
                }
                Settled::Kept(RecipientState::Failed { attempts, at }) => {
                    assert_eq!((attempts, at), (tries, now));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let days = (now - received) / 86_400_000;
        assert!(days == 4 && (50..80).contains(&tries), "{days} days, {tries} attempts");
    }

    fn envelope(parameters: &str, received: u64) -> Envelope {
        Envelope { received, parameters: parameters.into(), ..Envelope::default() }
    }

    #[test]
    fn the_time_that_has_gone_by_is_subtracted_from_by() {
        let told = |parameters: &str, now| {
            relayed(&envelope(parameters, 1_000_000), now).map(|t| String::from_utf8(t).unwrap())
        };
        let all = "RET=HDRS ENVID=x BY=120;RT MT-PRIORITY=3";
        assert_eq!(told(all, 1_000_000).as_deref(), Some(all));
        let later = "RET=HDRS ENVID=x BY=1;RT MT-PRIORITY=3";
        assert_eq!(told(all, 1_119_999).as_deref(), Some(later));
        assert_eq!(told(all, 1_120_000), None, "it must not go on");
        assert_eq!(told("BY=120;N", 1_121_000).as_deref(), Some("BY=-1;N"));
        assert_eq!(told("BY=-999999999;NT", 9_000_000).as_deref(), Some("BY=-999999999;NT"));
        assert_eq!(told("BY=120;N", u64::MAX).as_deref(), Some("BY=-999999999;N"));
        assert_eq!(told("BY=120;R", 0).as_deref(), Some("BY=120;R"), "a clock that jumps");
        assert_eq!(told("", 2_000_000).as_deref(), Some(""));
    }

    #[test]
    fn a_held_message_has_its_whole_time_behind_the_hold() {
        let held = envelope("RET=FULL HOLDUNTIL=1970-02-01T00:00:00Z", 5);
        let end = 31 * 86_400_000;
        assert_eq!(since(&held), end);
        assert_eq!(since(&envelope("RET=FULL", 5)), 5);
        assert_eq!(relayed(&held, end), Some(b"RET=FULL".to_vec()), "nobody else holds it");
        let who = recipient("a@b.test", RecipientState::Deferred { attempts: 0, next: end });
        let settled = settle(&who, Verdict::Temporary, &Schedule::default(), since(&held), end, 0);
        assert!(
            matches!(settled, Settled::Kept(RecipientState::Deferred { attempts: 1, .. })),
            "{settled:?}"
        );
    }

    #[test]
    fn verdicts_have_their_states() {
        let settle = |verdict| {
            let who = recipient("a@b.test", RecipientState::Deferred { attempts: 2, next: 5 });
            super::settle(&who, verdict, &Schedule::default(), 0, 100, 0)
        };
        assert_eq!(settle(Verdict::Delivered), Settled::Delivered);
        let failed = RecipientState::Failed { attempts: 3, at: 100 };
        assert_eq!(settle(Verdict::Permanent), Settled::Kept(failed));
        let again = RecipientState::Deferred { attempts: 2, next: 100 };
        assert_eq!(settle(Verdict::NotTried), Settled::Kept(again));
        for verdict in [Verdict::Temporary, Verdict::Unknown] {
            assert!(matches!(
                settle(verdict),
                Settled::Kept(RecipientState::Deferred { attempts: 3, next }) if next > 1_200_000
            ));
        }
    }

    #[test]
    fn only_what_is_due_and_has_a_route_is_planned() {
        let entry = QueueEntry {
            message: MessageId(1),
            envelope: Envelope::default(),
            size: 1,
            recipients: vec![
                recipient("now@a.test", RecipientState::Remote),
                recipient("again@a.test", RecipientState::Deferred { attempts: 1, next: 10 }),
                recipient("later@a.test", RecipientState::Deferred { attempts: 1, next: 11 }),
                recipient("held@a.test", RecipientState::Held),
                recipient("failed@a.test", RecipientState::Failed { attempts: 1, at: 1 }),
                recipient("now@b.test", RecipientState::Remote),
            ],
        };
        let routes = Routes::new(vec![route("a.test")]);
        assert_eq!(plan(&entry, &routes, 10), Plan { routes: vec![0], next: Some(11) });
        let due: Vec<_> = due_on(&entry, &routes, 0, 10).into_iter().map(|r| r.address).collect();
        assert_eq!(due, [b"now@a.test".to_vec(), b"again@a.test".to_vec()]);
    }

    #[test]
    fn a_kept_answer_is_bounded_and_on_one_line() {
        assert_eq!(kept("450 4.2.0 a\r\nb\0"), b"450 4.2.0 a  b ");
        assert_eq!(kept(&"\u{e9}".repeat(ANSWER_OCTETS)).len(), ANSWER_OCTETS);
    }
}
