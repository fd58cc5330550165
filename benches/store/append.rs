//! Durable appends a second through the store, against the raw limit.
//!
//! A cell is a size, a number of writers, a number of lanes and a way to prepare segments. Each gets a new store,
//! which is warmed up until its segments are full-grown or half a second is over. Then comes the raw loop, with as
//! many bytes a sync as the store's groups had. The ratio is that of syncs a second: with the same bytes a sync it
//! is also that of messages and of bytes.

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
    /// Rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a store's measurement; the raw loops take a third each.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Leaves the raw loops out.
    #[arg(long)]
    no_raw: bool,
}

fn preparation(text: &str) -> Result<Preparation, String> {
    match text {
        "growing" => Ok(Preparation::Growing),
        "allocated" => Ok(Preparation::Allocated),
        "written" => Ok(Preparation::Written),
        _ => Err("growing, allocated or written".into()),
    }
}

fn preparation_name(preparation: Preparation) -> &'static str {
    match preparation {
        Preparation::Growing => "growing",
        Preparation::Allocated => "allocated",
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

/// One measurement of a cell.
#[derive(Default)]
struct Figures {
    messages: Vec<f64>,
    cpu_micros: Vec<f64>,
    group: Vec<f64>,
    syncs_a_message: Vec<f64>,
    log_bytes: Vec<f64>,
    all_bytes: Vec<f64>,
    store_syncs: Vec<f64>,
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
    let mut cells = Vec::new();
    for size in &arguments.sizes {
        for writers in &arguments.writers {
            for lanes in &lanes {
                for preparation in &preparations {
                    let cell = Cell {
                        size: *size,
                        lanes: *lanes,
                        preparation: preparation_name(*preparation),
                        writers: *writers,
                    };
                    cells.push((cell, *preparation));
                }
            }
        }
    }
    let mut found: BTreeMap<Cell, Figures> = BTreeMap::new();
    let raw_place = Place::new(directory, "raw")?;
    for round in 0..arguments.rounds.max(1) {
        // Who begins changes with the round.
        let begin = round % cells.len().max(1);
        for (cell, preparation) in cells.iter().cycle().skip(begin).take(cells.len()) {
            let figures = found.entry(*cell).or_default();
            let group = store(cell, *preparation, arguments.seconds, directory, figures)?;
            if arguments.no_raw {
                continue;
            }
            for before in Before::ALL {
                let seconds = arguments.seconds / 3.0;
                let raw = raw::syncs_a_second(&raw_place.path, before, group, seconds)?;
                let store = figures.store_syncs.last().copied().unwrap_or(0.0);
                figures.raw.entry(before).or_default().push(raw);
                figures.ratio.entry(before).or_default().push(store / raw);
            }
        }
    }
    Ok(report(&found))
}

/// Measures a store; the bytes that it wrote for a sync.
fn store(
    cell: &Cell,
    preparation: Preparation,
    seconds: f64,
    directory: &Path,
    figures: &mut Figures,
) -> Outcome<usize> {
    let place = Place::new(directory, "append")?;
    place::create(&place.path, cell.lanes)?;
    let store = place::open(&place.path, OpenOptions { preparation, ..OpenOptions::default() })?;
    place::inboxes(&store, ACCOUNTS)?;
    let bytes = vec![b'm'; cell.size];
    let warm = Instant::now();
    send(&store, cell.writers, &bytes, || {
        warm.elapsed() < Duration::from_millis(500) && store.stats().log_bytes < WARM_BYTES
    })?;
    let (before, cpu_before, begun) = (store.stats(), cpu(), Instant::now());
    send(&store, cell.writers, &bytes, || begun.elapsed().as_secs_f64() < seconds)?;
    let (elapsed, spent, after) = (begun.elapsed().as_secs_f64(), cpu() - cpu_before, store.stats());
    store.close()?;
    let messages = (after.messages - before.messages) as f64;
    let groups = (after.groups - before.groups) as f64;
    let syncs = (after.log_syncs - before.log_syncs) as f64;
    let log = (after.log_bytes - before.log_bytes) as f64;
    let index = (after.index_bytes - before.index_bytes) as f64;
    figures.messages.push(messages / elapsed);
    figures.cpu_micros.push(spent.as_secs_f64() * 1e6 / messages);
    figures.group.push(messages / groups);
    figures.syncs_a_message.push(syncs / messages);
    figures.log_bytes.push(log / (messages * cell.size as f64));
    figures.all_bytes.push((log + index) / (messages * cell.size as f64));
    figures.store_syncs.push(groups / elapsed);
    Ok((log / groups) as usize)
}

fn send(
    store: &Store,
    writers: usize,
    bytes: &[u8],
    go_on: impl Fn() -> bool,
) -> Outcome<()> {
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
            median(&figures.messages),
            median(&figures.group),
            median(&figures.cpu_micros),
            median(&figures.syncs_a_message),
            median(&figures.log_bytes),
            median(&figures.all_bytes),
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
            let syncs = median(&figures.syncs_a_message);
            if cell.writers == 64 {
                bar("syncs a message", syncs, syncs <= 0.03, 0.03);
                let (log, all) = (median(&figures.log_bytes), median(&figures.all_bytes));
                bar("log bytes a byte", log, log <= 1.05, 1.05);
                bar("bytes with index a byte", all, all <= 1.15, 1.15);
            }
        }
        rows.push(json!({
            "bytes": cell.size, "lanes": cell.lanes, "segments": cell.preparation, "writers": cell.writers,
            "messages_a_second": figures.messages, "group": figures.group, "cpu_micros": figures.cpu_micros,
            "syncs_a_message": figures.syncs_a_message, "log_bytes": figures.log_bytes,
            "log_and_index_bytes": figures.all_bytes,
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
            .map(|(_, figures)| median(&figures.messages))
    };
    if let (Some(one), Some(four)) = (rate(1), rate(4)) {
        println!("4 lanes against 1, 64 writers, 4096 bytes: {:.2}", four / one);
        if four < one * 1.8 {
            missed.push(format!("4 lanes are {:.2} times 1 lane, the bar is 1.8", four / one));
        }
    }
    Verdict { figures: json!({"append": rows}), missed }
}
