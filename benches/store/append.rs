//! Durable appends a second through the store, against the raw limit.
//!
//! A cell is a size, a number of writers, a number of lanes and a way to prepare segments. Each gets a new store,
//! which is warmed up until its segments are full-grown or two seconds are over. Then the stores of a size and a
//! number of writers take turns in short slices, and after each slice comes the raw loop, with as many message bytes
//! a sync as the store's groups had. The ratio is that of syncs a second, which with the same bytes a sync is also that
//! of messages; it is the median of the slices' ratios. Counters (syncs and bytes a message) are those of all slices.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use posthouse::store::{AccountId, OpenOptions, Preparation, Store};
use serde_json::json;

use crate::machine::{cpu, median};
use crate::place::{self, Place};
use crate::raw::{self, Before};
use crate::{Outcome, Verdict, flight};

/// Accounts that mail goes to in turn: enough for every lane to have its share.
const ACCOUNTS: u32 = 64;
/// Transactions in flight while a store is warmed up.
const WARM_WRITERS: usize = 64;
/// Log bytes after which segments are full-grown.
const WARM_BYTES: u64 = 128 << 20;

/// Durable appends.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Transactions in flight.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    writers: Vec<usize>,
    /// Bytes of a message.
    #[arg(long, value_delimiter = ',', default_value = "1024,4096,65536,1048576")]
    sizes: Vec<usize>,
    /// Lanes; without it, as many as a new instance gets.
    #[arg(long, value_delimiter = ',')]
    lanes: Vec<u8>,
    /// How segments are prepared; without it, as by default.
    #[arg(long, value_delimiter = ',', value_parser = preparation)]
    preparation: Vec<Preparation>,
    /// Slices of each measurement: short, because a shared disk changes from one second to the next.
    #[arg(long, default_value_t = 11)]
    slices: usize,
    /// Seconds of a slice; the raw loops take a third each.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// Leaves the raw loops out.
    #[arg(long)]
    no_raw: bool,
}

fn preparation(text: &str) -> Result<Preparation, String> {
    match text {
        "growing" => Ok(Preparation::Growing),
        "allocated" => Ok(Preparation::Allocated),
        "ahead" => Ok(Preparation::Ahead),
        "written" => Ok(Preparation::Written),
        _ => Err("growing, allocated, ahead or written".into()),
    }
}

fn preparation_name(preparation: Preparation) -> &'static str {
    match preparation {
        Preparation::Growing => "growing",
        Preparation::Allocated => "allocated",
        Preparation::Ahead => "ahead",
        Preparation::Written => "written",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    size: usize,
    lanes: u8,
    preparation: &'static str,
    writers: usize,
}

/// What the slices of a cell found: rates of each, sums of what is counted.
#[derive(Default)]
struct Figures {
    rate: Vec<f64>,
    cpu_micros: Vec<f64>,
    store_syncs: Vec<f64>,
    messages: f64,
    groups: f64,
    syncs: f64,
    log_bytes: f64,
    index_bytes: f64,
    raw: BTreeMap<Before, Vec<f64>>,
    ratio: BTreeMap<Before, Vec<f64>>,
}

/// Measures.
pub fn run(arguments: &Arguments, directory: &Path) -> Outcome<Verdict> {
    let lanes = match arguments.lanes.as_slice() {
        [] => vec![posthouse::store::CreateOptions::default().lanes],
        lanes => lanes.to_vec(),
    };
    let preparations = match arguments.preparation.as_slice() {
        [] => vec![OpenOptions::default().preparation],
        preparations => preparations.to_vec(),
    };
    let mut found: BTreeMap<Cell, Figures> = BTreeMap::new();
    let raw_place = Place::new(directory, "raw")?;
    for size in &arguments.sizes {
        for writers in &arguments.writers {
            let mut stores = Vec::new();
            for lanes in &lanes {
                for preparation in &preparations {
                    let cell = Cell {
                        size: *size,
                        lanes: *lanes,
                        preparation: preparation_name(*preparation),
                        writers: *writers,
                    };
                    stores.push(Measured::new(cell, *preparation, directory)?);
                }
            }
            for slice in 0..arguments.slices.max(1) {
                // Who begins changes with the slice.
                let begin = slice % stores.len().max(1);
                for store in stores.iter().cycle().skip(begin).take(stores.len()) {
                    let figures = found.entry(store.cell).or_default();
                    let group = store.measure(arguments.seconds, figures)?;
                    if arguments.no_raw {
                        continue;
                    }
                    let syncs = figures.store_syncs.last().copied().unwrap_or(0.0);
                    for before in Before::ALL {
                        let seconds = arguments.seconds / 3.0;
                        let raw = raw::syncs_a_second(&raw_place.path, before, group, seconds)?;
                        figures.raw.entry(before).or_default().push(raw);
                        figures.ratio.entry(before).or_default().push(syncs / raw);
                    }
                }
            }
            for store in stores {
                store.store.close()?;
            }
        }
    }
    Ok(report(&found))
}

/// A store that is measured.
struct Measured {
    cell: Cell,
    store: Store,
    bytes: Vec<u8>,
    _place: Place,
}

impl Measured {
    /// A new store, warmed up.
    fn new(cell: Cell, preparation: Preparation, directory: &Path) -> Outcome<Measured> {
        let place = Place::new(directory, &format!("{}-{}", cell.lanes, cell.preparation))?;
        place::create(&place.path, cell.lanes)?;
        let options = OpenOptions { preparation, ..OpenOptions::default() };
        let store = place::open(&place.path, options)?;
        place::inboxes(&store, ACCOUNTS)?;
        let bytes = vec![b'm'; cell.size];
        let warm = Instant::now();
        send(&store, WARM_WRITERS.max(cell.writers), &bytes, || {
            warm.elapsed() < Duration::from_secs(2) && store.stats().log_bytes < WARM_BYTES
        })?;
        Ok(Measured { cell, store, bytes, _place: place })
    }

    /// Measures a slice; the bytes that were written for a sync.
    fn measure(&self, seconds: f64, figures: &mut Figures) -> Outcome<usize> {
        let (store, size) = (&self.store, self.cell.size as f64);
        let (before, cpu_before, begun) = (store.stats(), cpu(), Instant::now());
        send(store, self.cell.writers, &self.bytes, || begun.elapsed().as_secs_f64() < seconds)?;
        let elapsed = begun.elapsed().as_secs_f64();
        // What was put off is part of it: the index shows everything, and none of it is left to the raw loops.
        store.queue_scan(None, 1)?;
        let (spent, after) = (cpu() - cpu_before, store.stats());
        let messages = (after.messages - before.messages) as f64;
        let groups = (after.groups - before.groups) as f64;
        let log = (after.log_bytes - before.log_bytes) as f64;
        figures.rate.push(messages / elapsed);
        figures.cpu_micros.push(spent.as_secs_f64() * 1e6 / messages);
        figures.store_syncs.push(groups / elapsed);
        figures.messages += messages;
        figures.groups += groups;
        figures.syncs += (after.log_syncs - before.log_syncs) as f64;
        figures.log_bytes += log / size;
        figures.index_bytes += (after.index_bytes - before.index_bytes) as f64 / size;
        Ok((messages * size / groups) as usize)
    }
}

fn send(store: &Store, writers: usize, bytes: &[u8], go_on: impl Fn() -> bool) -> Outcome<()> {
    let mut turn = 0_u32;
    flight::fly(
        writers,
        |_| {
            if !go_on() {
                return Ok(None);
            }
            turn += 1;
            let account = AccountId(1 + turn % ACCOUNTS);
            let change = place::delivery(store, account, bytes)?;
            Ok(Some(store.commit(store.lane_of(account), vec![change])))
        },
        |_, _| {},
    )
}

fn report(found: &BTreeMap<Cell, Figures>) -> Verdict {
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    println!(
        "| bytes | lanes | segments | writers | msg/s | group | CPU us/msg | syncs/msg | log bytes | with index | \
         of raw growing | allocated | written |"
    );
    println!("|{}", " ---: |".repeat(13));
    for (cell, figures) in found {
        let ratio = |before: Before| figures.ratio.get(&before).map_or(0.0, |r| median(r));
        let raw = |before: Before| figures.raw.get(&before).map_or(0.0, |r| median(r));
        let name = format!(
            "{} bytes, {} writers, {} lanes, {} segments",
            cell.size, cell.writers, cell.lanes, cell.preparation
        );
        println!(
            "| {} | {} | {} | {} | {:.0} | {:.1} | {:.1} | {:.4} | {:.3} | {:.3} | {:.2} | {:.2} | {:.2} |",
            cell.size,
            cell.lanes,
            cell.preparation,
            cell.writers,
            median(&figures.rate),
            figures.messages / figures.groups,
            median(&figures.cpu_micros),
            figures.syncs / figures.messages,
            figures.log_bytes / figures.messages,
            (figures.log_bytes + figures.index_bytes) / figures.messages,
            ratio(Before::Growing),
            ratio(Before::Allocated),
            ratio(Before::Written),
        );
        let mut bar = |what: &str, value: f64, holds: bool, bar: f64| {
            if !holds {
                missed.push(format!("{name}: {what} {value:.3}, the bar is {bar}"));
            }
        };
        if !figures.ratio.is_empty() {
            let allocated = ratio(Before::Allocated);
            match cell.writers {
                1 => bar("of raw allocated", allocated, allocated >= 0.55, 0.55),
                64 | 256 => bar("of raw allocated", allocated, allocated >= 0.8, 0.8),
                _ => {}
            }
        }
        if cell.size == 4096 {
            let micros = median(&figures.cpu_micros);
            if cell.writers >= 64 {
                bar("CPU us a message", micros, micros <= 25.0, 25.0);
            }
            let syncs = figures.syncs / figures.messages;
            if cell.writers == 64 {
                bar("syncs a message", syncs, syncs <= 0.03, 0.03);
                let log = figures.log_bytes / figures.messages;
                let all = log + figures.index_bytes / figures.messages;
                bar("log bytes a byte", log, log <= 1.05, 1.05);
                bar("bytes with index a byte", all, all <= 1.15, 1.15);
            }
        }
        rows.push(json!({
            "bytes": cell.size, "lanes": cell.lanes, "segments": cell.preparation, "writers": cell.writers,
            "messages_a_second": figures.rate, "cpu_micros": figures.cpu_micros,
            "messages": figures.messages, "groups": figures.groups, "syncs": figures.syncs,
            "log_bytes_a_byte": figures.log_bytes / figures.messages,
            "index_bytes_a_byte": figures.index_bytes / figures.messages,
            "raw_syncs_a_second": {"growing": raw(Before::Growing), "allocated": raw(Before::Allocated),
                "written": raw(Before::Written)},
            "ratio": {"growing": ratio(Before::Growing), "allocated": ratio(Before::Allocated),
                "written": ratio(Before::Written)},
        }));
    }
    let rate = |lanes: u8| {
        found
            .iter()
            .find(|(cell, _)| cell.size == 4096 && cell.writers == 64 && cell.lanes == lanes)
            .map(|(_, figures)| median(&figures.rate))
    };
    if let (Some(one), Some(four)) = (rate(1), rate(4)) {
        println!("4 lanes against 1, 64 writers, 4096 bytes: {:.2}", four / one);
        if four < one * 1.8 {
            missed.push(format!("4 lanes are {:.2} times 1 lane, the bar is 1.8", four / one));
        }
    }
    Verdict { figures: json!({"append": rows}), missed }
}
