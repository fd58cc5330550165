//! The queue under churn: entries come and go, the oldest first, and the head must be found as quickly at the end as
//! at the start.
//!
//! A cycle is an entry that is inserted and one, the oldest, that is removed: two transactions. The head is looked for
//! while nothing else happens; the figure is CPU time, the median of many looks. Before both measurements the index is
//! made durable, so that both look at the same kind of pages.

use std::collections::VecDeque;
use std::path::Path;

use posthouse::store::{AccountId, Change, CreateOptions, MessageId, OpenOptions, Store, Ticket};
use serde_json::json;

use crate::machine::{cpu, median};
use crate::place::{self, Place, bytes_below};
use crate::{Outcome, Verdict, flight};

/// Looks for the head at each measurement, in blocks of which the median counts.
const BLOCKS: usize = 50;
/// Looks in a block: the clock of CPU time is not finer.
const LOOKS: u32 = 200;
/// Bytes of a segment: small, so that what is free can be given back early.
const SEGMENT_BYTES: u64 = 8 << 20;

/// Inserts and removals.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Cycles of one insertion and one removal.
    #[arg(long, default_value_t = 1_000_000)]
    cycles: u64,
    /// Live entries.
    #[arg(long, default_value_t = 10_000)]
    live: u64,
    /// Bytes of a message.
    #[arg(long, default_value_t = 256)]
    size: usize,
    /// Also asks that the files stay bounded, which needs compaction.
    #[arg(long)]
    bounded: bool,
}

/// Measures.
pub fn run(arguments: &Arguments, directory: &Path) -> Outcome<Verdict> {
    let place = Place::new(directory, "churn")?;
    let lanes = CreateOptions::default().lanes;
    place::create(&place.path, lanes)?;
    let options = OpenOptions { segment_bytes: SEGMENT_BYTES, ..OpenOptions::default() };
    let store = place::open(&place.path, options)?;
    let mut entries = VecDeque::new();
    churn(&store, arguments, arguments.live, &mut entries, false)?;
    let before = look(&store)?;
    let index = place.path.join("index");
    let (files_before, index_before) = (bytes_below(&place.path)?, bytes_below(&index)?);
    churn(&store, arguments, arguments.cycles, &mut entries, true)?;
    let after = look(&store)?;
    let (files, index) = (bytes_below(&place.path)?, bytes_below(&index)?);
    let live = store.queue_scan(None, usize::MAX)?.len();
    store.close()?;

    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("| | at the start | after {} cycles |", arguments.cycles);
    println!("| --- | ---: | ---: |");
    println!("| live entries | {} | {live} |", arguments.live);
    println!("| CPU us to find the head | {before:.2} | {after:.2} |");
    println!("| MiB of the index | {:.1} | {:.1} |", mib(index_before), mib(index));
    println!("| MiB of all files | {:.1} | {:.1} |", mib(files_before), mib(files));
    let mut missed = Vec::new();
    if live as u64 != arguments.live {
        return Err(format!("{live} entries are left of {}", arguments.live).into());
    }
    if after > before * 2.0 {
        missed.push(format!("the head is found in {after:.2} us, {before:.2} at the start"));
    }
    // What lives, a few segments a lane, and the index.
    let bound = arguments.live * (arguments.size as u64 + 512) * 4
        + u64::from(lanes) * 8 * SEGMENT_BYTES
        + (64 << 20);
    if arguments.bounded && files > bound {
        missed.push(format!("{:.1} MiB of files, the bound is {:.1}", mib(files), mib(bound)));
    }
    let figures = json!({"churn": {"cycles": arguments.cycles, "live": live, "head_micros": [before, after],
        "index_bytes": [index_before, index], "file_bytes": [files_before, files]}});
    Ok(Verdict { figures, missed })
}

/// CPU microseconds to find the queue's head.
fn look(store: &Store) -> Outcome<f64> {
    store.checkpoint()?;
    let mut micros = Vec::new();
    for _ in 0..BLOCKS {
        let before = cpu();
        for _ in 0..LOOKS {
            if store.queue_scan(None, 1)?.len() != 1 {
                return Err("the queue has no head".into());
            }
        }
        micros.push((cpu() - before).as_secs_f64() * 1e6 / f64::from(LOOKS));
    }
    Ok(median(&micros))
}

/// Inserts so many entries, and removes the oldest one after each when asked to.
fn churn(
    store: &Store,
    arguments: &Arguments,
    count: u64,
    entries: &mut VecDeque<MessageId>,
    remove: bool,
) -> Outcome<()> {
    const WRITERS: usize = 64;
    let bytes = vec![b'q'; arguments.size];
    let mut inserted = 0_u64;
    // Whose turn it is to remove: each place inserts and removes in turn.
    let mut removes = [false; WRITERS];
    flight::fly(
        WRITERS,
        |place| -> Outcome<Option<Ticket<_>>> {
            let turn = removes.get_mut(place).ok_or("no such place")?;
            if *turn {
                *turn = false;
                let message = entries.pop_front().ok_or("nothing to remove")?;
                let change = Change::Queue { message, recipients: Vec::new(), references: 0 };
                return Ok(Some(store.commit(message.lane(), vec![change])));
            }
            if inserted == count {
                return Ok(None);
            }
            inserted += 1;
            *turn = remove;
            let account = AccountId(u32::try_from(inserted % 64)?);
            let (id, change) = place::queued(store, account, &bytes)?;
            entries.push_back(id);
            Ok(Some(store.commit(id.lane(), vec![change])))
        },
        |_, _| {},
    )
}
