//! How an instance is: what a person wants to know at once, as figures and as one sentence.

use serde::{Deserialize, Serialize};

use crate::codec::date;
use crate::store::{IndexState, SpaceLevel, StoreState, StoreStats, Usage};

/// How an instance is. Figures without another word are since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The one sentence, or a few, that matter most; see [`Status::well`].
    pub summary: String,
    /// A server takes connections.
    pub serving: bool,
    /// Room on the disk: `ample`; `low`: messages are refused, everything else goes on; `full`: as `low`, and
    /// writing has met the end of the disk.
    pub space: String,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
    /// Every lane of the log.
    pub lanes: Vec<LaneStatus>,
    /// Segments of the log, now.
    pub segments: u64,
    /// Bytes of their files, now.
    pub log_bytes: u64,
    /// Bytes of files that are kept ready for segments, now.
    pub spare_bytes: u64,
    /// Bytes of segments that messages need; the rest is dead or not written yet. `None` while an index is repaired.
    pub live_bytes: Option<u64>,
    /// Segments freed.
    pub segments_freed: u64,
    /// Bytes of them.
    pub freed_bytes: u64,
    /// Damage to acknowledged data that was met: one line each.
    pub damage: Vec<String>,
    /// Findings beyond those.
    pub more_damage: u64,
    /// Scrubs that came to their end.
    pub scrubs: u64,
    /// What all scrubs found.
    pub scrub_findings: u64,
    /// When the last scrub ended, in milliseconds since 1970; 0: none did.
    pub scrubbed: u64,
    /// Exports of indexes made.
    pub exports: u64,
    /// Exports that failed. While they fail, no log is freed.
    pub export_failures: u64,
    /// When the last export was made, in milliseconds since 1970; 0: none was.
    pub exported: u64,
}

/// How a lane is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// Its number.
    pub lane: u8,
    /// It holds the bytes of large messages only.
    pub large: bool,
    /// Why it cannot be written; empty: it can be.
    pub reason: String,
    /// Since when it cannot, in milliseconds since 1970; 0: it can.
    pub read_only_since: u64,
    /// Its index is being repaired.
    pub rebuilding: bool,
}

impl Status {
    pub(super) fn new(
        serving: bool,
        state: StoreState,
        usage: &Usage,
        stats: &StoreStats,
    ) -> Status {
        let space = match state.space {
            SpaceLevel::Ample => "ample",
            SpaceLevel::Low => "low",
            SpaceLevel::Full => "full",
        };
        let last = state.lanes.len().saturating_sub(1);
        let lanes = state.lanes.into_iter().enumerate().map(|(number, lane)| {
            let (read_only_since, reason) =
                lane.read_only.map_or((0, String::new()), |why| (why.since, why.reason));
            LaneStatus {
                lane: lane.lane.0,
                large: number == last,
                reason,
                read_only_since,
                rebuilding: lane.index == IndexState::Rebuilding,
            }
        });
        let mut status = Status {
            summary: String::new(),
            serving,
            space: space.to_owned(),
            free_bytes: state.free_bytes,
            total_bytes: state.total_bytes,
            lanes: lanes.collect(),
            segments: usage.segments,
            log_bytes: usage.log_bytes,
            spare_bytes: usage.spare_bytes,
            live_bytes: usage.live_bytes,
            segments_freed: stats.segments_freed,
            freed_bytes: stats.freed_bytes,
            damage: state.damage,
            more_damage: state.more_damage,
            scrubs: stats.scrubs,
            scrub_findings: stats.scrub_findings,
            scrubbed: state.scrubbed.map_or(0, |scrub| scrub.ended),
            exports: stats.exports,
            export_failures: stats.export_failures,
            exported: state.exported,
        };
        status.summary = status.sentences().join(" ");
        status
    }

    /// Whether nothing needs anybody: every lane can be written, there is room, nothing is damaged.
    pub fn well(&self) -> bool {
        self.space == "ample"
            && self.damage.is_empty()
            && self.lanes.iter().all(|lane| lane.read_only_since == 0 && !lane.rebuilding)
    }

    /// What matters, for a person, the most urgent first.
    fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        for lane in self.lanes.iter().filter(|lane| lane.read_only_since > 0) {
            let what = if lane.large { "Large mail" } else { "Mail" };
            let mut since = String::new();
            date::Rfc5322 { unix_millis: lane.read_only_since }.append(&mut since);
            said.push(format!(
                "{what} is refused for now: lane {} cannot be written since {since} ({}). It is tried again by itself; what was acknowledged is safe, and reading goes on.",
                lane.lane, lane.reason
            ));
        }
        if self.space != "ample" {
            let (free, total) = (self.free_bytes >> 20, self.total_bytes >> 20);
            said.push(format!(
                "Mail is refused for now: {free} MiB of {total} MiB are free on the disk. Make room there or delete mail; mail is taken again by itself, and reading and deleting go on."
            ));
        }
        let rebuilding = |lane: &&LaneStatus| lane.rebuilding && lane.read_only_since == 0;
        for lane in self.lanes.iter().filter(rebuilding) {
            said.push(format!(
                "The index of lane {} is being repaired; its mail can be read again soon, and nothing is lost.",
                lane.lane
            ));
        }
        let damage = (self.damage.len() as u64).saturating_add(self.more_damage);
        if damage > 0 {
            let (places, are) = if damage == 1 { ("place", "is") } else { ("places", "are") };
            said.push(format!(
                "{damage} {places} of acknowledged data {are} damaged; everything else is served. Copy the instance, stop its server and run `posthouse repair`, which says what is lost."
            ));
        }
        if said.is_empty() {
            said.push(match self.serving {
                true => "All is well: mail is taken.".to_owned(),
                false => "All is well, but no server runs: nothing is served.".to_owned(),
            });
        } else if !self.serving {
            said.push("No server runs: nothing is served.".to_owned());
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Lane, LaneState, ReadOnly};

    fn status(serving: bool, change: impl FnOnce(&mut StoreState)) -> Status {
        let lane =
            |number| LaneState { lane: Lane(number), read_only: None, index: IndexState::Fine };
        let mut state = StoreState {
            lanes: vec![lane(0), lane(1)],
            space: SpaceLevel::Ample,
            free_bytes: 5 << 30,
            total_bytes: 10 << 30,
            damage: Vec::new(),
            more_damage: 0,
            scrubbed: None,
            exported: 0,
        };
        change(&mut state);
        Status::new(serving, state, &Usage::default(), &StoreStats::default())
    }

    #[test]
    fn what_needs_somebody_is_said_and_what_does_not_is_not() {
        let well = status(true, |_| {});
        assert!(well.well());
        assert_eq!(well.summary, "All is well: mail is taken.");
        let stopped = status(false, |_| {});
        assert!(stopped.well() && stopped.summary.contains("no server runs"), "{stopped:?}");

        let since = 1_700_000_000_000;
        let reason = "sync /i/segments/x: no".to_owned();
        let broken = status(true, |state| {
            state.lanes[1].read_only = Some(ReadOnly { since, reason });
        });
        assert!(!broken.well());
        for part in ["Large mail", "lane 1", "sync /i/segments/x: no", "2023", "by itself"] {
            assert!(broken.summary.contains(part), "{part}: {}", broken.summary);
        }
        let low = status(false, |state| {
            state.space = SpaceLevel::Low;
            state.free_bytes = 3 << 20;
        });
        assert!(!low.well());
        assert!(low.summary.contains("3 MiB of 10240 MiB"), "{}", low.summary);
        assert!(low.summary.contains("No server runs"), "{}", low.summary);
        let repairing = status(true, |state| state.lanes[0].index = IndexState::Rebuilding);
        assert!(!repairing.well());
        assert!(repairing.summary.contains("index of lane 0"), "{}", repairing.summary);
        let damaged = status(true, |state| {
            state.damage = vec!["somewhere".to_owned()];
            state.more_damage = 2;
        });
        assert!(!damaged.well());
        assert!(damaged.summary.starts_with("3 places"), "{}", damaged.summary);
    }
}
