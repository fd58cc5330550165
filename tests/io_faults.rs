//! Every file operation of every scenario fails, one after the other: once, and from then on.
//!
//! The n-th operation that a trouble concerns (any with EIO, what takes space with ENOSPC, a short write, a sync whose
//! bytes are lost) fails, n = 1, 2, ... until the scenario is through before its turn. The scenario goes on behind what
//! fails, as a server does. Then the disk is well again and is opened: as the process left it, as a power cut leaves it at
//! worst, and as one leaves it by chance. What was acknowledged must be there in all of them, what was refused absent or
//! whole. A read that answers with a bit changed, and an operation at which all other threads go first, are faults as
//! well: no wrong byte is ever served. Where a sync may have failed, the process also starts again, works on, and loses the power then. The same for recovery: opening what a power cut left either succeeds or says what is wrong, and a later opening
//! finds everything.
//!
//! Environment: POSTHOUSE_SEED; POSTHOUSE_SCENARIO, the only scenario; POSTHOUSE_FAULT, the only fault, as a failure
//! prints it. A debug build takes every seventh n, from a place that the seed says; POSTHOUSE_EVERY=1 takes each.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing, missing_docs)]

#[path = "support/scenario.rs"]
mod scenario;
#[path = "support/watch.rs"]
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use posthouse::vfs::sim::{Disk, Fault, Image, Lot, Rng, Trouble};
use scenario::{Expectation, Model, SCENARIOS, Scenario, World, begin};
use watch::Watched;

/// What goes wrong, and whether it may stay so. A disk that changes a bit of all that it reads is of no use to anybody.
const TROUBLES: [(Trouble, &[bool]); 6] = [
    (Trouble::Io, &[false, true]),
    (Trouble::Full, &[false, true]),
    (Trouble::Sync, &[false, true]),
    (Trouble::Short, &[false, true]),
    (Trouble::Flip, &[false]),
    (Trouble::Slow, &[false]),
];

/// A loop over n.
struct Loop {
    scenario: &'static Scenario,
    /// Whether it is the recovery that fails.
    recovery: bool,
    trouble: Trouble,
    forever: bool,
}

impl Loop {
    fn name(&self) -> String {
        let of = if self.recovery { "recovery of " } else { "" };
        format!("{of}{}", self.scenario.name)
    }

    fn fault(&self, nth: u64, seed: u64) -> Fault {
        Fault { trouble: self.trouble, nth, forever: self.forever, seed: seed ^ nth << 8 }
    }
}

fn print_of(fault: &Fault) -> String {
    format!("{:?}-{}{}", fault.trouble, fault.nth, if fault.forever { "-forever" } else { "" })
}

/// Looks at what is left when the fault is gone.
fn look(world: &World, seed: u64) -> Result<(), String> {
    let expected = Expectation::new(&world.model, world.early());
    let image = world.disk.image();
    let states: [(&str, Disk); 3] = [
        ("as the process left it", world.disk.copy()),
        ("after a power cut at worst", image.power_cut(&mut Lot::Nothing).0.disk()),
        ("after a power cut", image.power_cut(&mut Lot::chance(seed)).0.disk()),
    ];
    for (name, disk) in states {
        expected.verify(&disk).map_err(|wrong| format!("{name}: {wrong}"))?;
    }
    Ok(())
}

/// The process starts again behind the fault, without a power cut before: what the system holds in memory and takes for
/// written is read back. Then the power fails after all, anywhere in what the new process does.
fn look_after_restart(world: &World, seed: u64) -> Result<(), String> {
    let again = World::on(world.disk.clone(), world.model.clone(), seed);
    let early = again.early();
    again.start_trace();
    again.open().map_err(|e| format!("starting again: {e}"))?;
    again.tolerant.store(true, Ordering::SeqCst);
    let account = again.account(0, 0);
    let work = || {
        again.accept(&[account], &["far@example.test"], 700)?;
        again.checkpoint()?;
        again.accept(&[account], &[], 200)?;
        again.close()
    };
    work().map_err(|e| format!("after starting again: {e}"))?;
    let trace = world.disk.take_trace().ok_or("no trace")?;
    let mut rng = Rng::new(seed);
    let chosen: Vec<u64> = (0..3).map(|_| rng.below(trace.syncs() as u64 + 1)).collect();
    let mut result = Ok(());
    trace.walk(&mut |point| {
        if result.is_ok() && chosen.contains(&(point.number as u64)) {
            let marks = early.iter().chain(point.marks).copied();
            let expected = Expectation::new(&world.model, marks);
            let left = point.image.power_cut(&mut Lot::chance(rng.number())).0;
            result = expected
                .verify(&left.disk())
                .map_err(|wrong| format!("started again, power cut {}: {wrong}", point.number));
        }
    });
    result
}

/// What a loop begins with every time.
struct Prepared {
    scenario: &'static Scenario,
    recovery: bool,
    image: Image,
    model: Model,
}

impl Prepared {
    fn new(this: &Loop, seed: u64) -> Prepared {
        let (scenario, recovery) = (this.scenario, this.recovery);
        let world = begin(scenario, seed);
        let image = if recovery {
            (scenario.run)(&world).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
            world.disk.image().power_cut(&mut Lot::chance(seed)).0
        } else {
            world.close().unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
            world.disk.copy().image()
        };
        Prepared { scenario, recovery, image, model: world.model.copy() }
    }

    /// The scenario, or the recovery, under a fault: whether it struck.
    fn run(&self, fault: Fault, seed: u64) -> Result<bool, String> {
        let world = World::on(self.image.disk(), Arc::new(self.model.copy()), seed);
        if self.recovery {
            world.disk.set_fault(fault);
            match world.open() {
                Ok(()) => {
                    world.read_all()?;
                    drop(world.close());
                }
                Err(e) if e.to_string().is_empty() => {
                    return Err("opening fails without a word".into());
                }
                Err(_) => {}
            }
        } else {
            if self.scenario.made {
                world.open().map_err(|e| format!("opening: {e}"))?;
            }
            // What is slow fails nowhere.
            world.tolerant.store(fault.trouble != Trouble::Slow, Ordering::SeqCst);
            world.disk.set_fault(fault);
            (self.scenario.run)(&world).map_err(|e| format!("the scenario gave up: {e}"))?;
            world.read_all()?;
            world.close().map_err(|e| format!("closing gave up: {e}"))?;
        }
        let hits = world.disk.clear_fault();
        look(&world, fault.seed)?;
        if hits > 0 && self.scenario.made && matches!(fault.trouble, Trouble::Io | Trouble::Sync) {
            look_after_restart(&world, fault.seed)?;
        }
        Ok(hits > 0)
    }
}

/// Goes through a loop: how many faults struck, and what was wrong.
fn go_through(
    this: &Loop,
    seed: u64,
    every: u64,
    only: Option<&str>,
    watched: &Watched,
) -> (u64, Vec<String>) {
    let prepared = Prepared::new(this, seed);
    let mut failures = Vec::new();
    let mut struck = 0;
    let mut nth = 1 + Rng::new(seed ^ this.trouble as u64).below(every);
    loop {
        let fault = this.fault(nth, seed);
        let print = print_of(&fault);
        nth += every;
        if let Some(only) = only
            && only != print
        {
            if nth > 100_000 {
                return (struck, failures);
            }
            continue;
        }
        let how = format!(
            "POSTHOUSE_SCENARIO='{}' POSTHOUSE_SEED={seed} POSTHOUSE_FAULT={print} POSTHOUSE_EVERY=1",
            this.name()
        );
        let result = watched
            .during(how.clone(), || catch_unwind(AssertUnwindSafe(|| prepared.run(fault, seed))));
        let wrong = match result {
            Ok(Ok(true)) if only.is_none() => {
                struck += 1;
                continue;
            }
            Ok(Ok(hit)) => return (struck + u64::from(hit), failures),
            Ok(Err(wrong)) => wrong,
            Err(panic) => match panic.downcast_ref::<String>() {
                Some(text) => format!("panic: {text}"),
                None => "panic".into(),
            },
        };
        failures.push(format!(
            "{}, {print}: {wrong}\n    {how} cargo test --features cli --test io_faults",
            this.name()
        ));
        if failures.len() >= 3 || only.is_some() {
            return (struck, failures);
        }
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name}={text}: not understood"),
    }
}

fn loops(only: Option<&str>) -> Vec<Loop> {
    let mut loops = Vec::new();
    for scenario in SCENARIOS {
        for recovery in [false, true] {
            for (trouble, stays) in TROUBLES {
                for forever in stays.iter().copied() {
                    let this = Loop { scenario, recovery, trouble, forever };
                    if only.is_none_or(|only| only == this.name()) {
                        loops.push(this);
                    }
                }
            }
        }
    }
    assert!(!loops.is_empty(), "no scenario is named {}", only.unwrap_or_default());
    loops
}

fn run(loops: &[Loop], seed: u64, every: u64, only: Option<&str>) -> Vec<String> {
    let begun = Instant::now();
    let sum = Mutex::new((0_u64, Vec::new()));
    watch::all(loops.len(), |number, watched| {
        let (struck, failures) = go_through(&loops[number], seed, every, only, watched);
        for failure in &failures {
            println!("{failure}");
        }
        let mut sum = sum.lock().unwrap();
        sum.0 += struck;
        sum.1.extend(failures);
    });
    let (struck, failures) = sum.into_inner().unwrap();
    println!(
        "{struck} faults in {} loops, {} failures, {:.1} s",
        loops.len(),
        failures.len(),
        begun.elapsed().as_secs_f64()
    );
    failures
}

#[test]
fn what_was_acknowledged_survives_the_failure_of_any_file_operation() {
    let seed = variable("POSTHOUSE_SEED").unwrap_or(1);
    let every = variable("POSTHOUSE_EVERY").unwrap_or(if cfg!(debug_assertions) { 7 } else { 1 });
    println!("POSTHOUSE_SEED={seed} POSTHOUSE_EVERY={every}");
    let scenario: Option<String> = variable("POSTHOUSE_SCENARIO");
    let only: Option<String> = variable("POSTHOUSE_FAULT");
    let failures = run(&loops(scenario.as_deref()), seed, every, only.as_deref());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// How many n on either side of one that found something are tried: the operations before it may come and go.
const AROUND: u64 = 12;

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    for line in include_str!("seeds.txt").lines() {
        let Some(rest) = line.strip_prefix("fault ") else { continue };
        let (seed, rest) = rest.split_once(' ').expect("a seed, a fault and a scenario");
        let (fault, name) = rest.split_once(' ').expect("a fault and a scenario");
        let seed = seed.parse().expect("a number");
        let nth: u64 = fault.split('-').nth(1).expect("an n").parse().expect("a number");
        let mut loops = loops(Some(name));
        loops.retain(|this| print_of(&this.fault(nth, seed)) == fault);
        assert_eq!(loops.len(), 1, "{line}");
        let this = &loops[0];
        let prepared = Prepared::new(this, seed);
        let failures = Mutex::new(Vec::new());
        watch::all(2 * AROUND as usize + 1, |piece, watched| {
            let nth = (nth + piece as u64).saturating_sub(AROUND).max(1);
            let fault = this.fault(nth, seed);
            let result = watched.during(format!("{line}: {nth}"), || prepared.run(fault, seed));
            if let Err(wrong) = result {
                failures.lock().unwrap().push(format!("{nth}: {wrong}"));
            }
        });
        assert_eq!(failures.into_inner().unwrap(), Vec::<String>::new(), "{line}");
    }
}
