//! "250 means on disk": every sync point of every scenario is a power cut, with many states of the disk that it
//! may leave, each opened and looked at.
//!
//! A scenario runs once, with its threads, on a simulated disk that is traced. Each sync in the trace, and the end,
//! is a crash point: the power fails just before it. For each point states are drawn (`posthouse::vfs::sim`) until
//! there are as many different ones as wanted; where there are fewer, all are taken. Some of them lose their index
//! before they are opened, or find it damaged, or are compacted first. "recovery" is the scenario of the
//! recovery itself, from such a state, crashed again.
//!
//! Environment: POSTHOUSE_STATES, how many states in all (at least 200 a point when it is 100000 or more);
//! POSTHOUSE_SEED, the seed; POSTHOUSE_SCENARIO, the only scenario; POSTHOUSE_POINT and POSTHOUSE_STATE, the only point
//! and the seed of the only state. A failure prints what to set. Threads make a trace differ a little from run to run
//! where a scenario has several: such a failure may need some runs to come back.
//!
//! `tests/seeds.txt` holds seeds that found something once; they are always run.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing, missing_docs)]

#[path = "support/scenario.rs"]
mod scenario;
#[path = "support/watch.rs"]
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use posthouse::vfs::sim::{Image, Lot, Rng};
use scenario::{Before, Expectation, SCENARIOS, Scenario, World, begin};
use watch::Watched;

/// A place where the power fails.
struct Point {
    scenario: String,
    seed: u64,
    number: usize,
    syncing: String,
    image: Image,
    expected: Expectation,
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name}={text}: not understood"),
    }
}

/// The points of a world's trace, whose early marks are `early`.
fn points(name: &str, seed: u64, world: &World, early: &[u64]) -> Vec<Point> {
    let trace = world.disk.take_trace().expect("a trace");
    let mut points = Vec::new();
    trace.walk(&mut |point| {
        let marks = early.iter().chain(point.marks).copied();
        points.push(Point {
            scenario: name.to_owned(),
            seed,
            number: point.number,
            syncing: point.syncing.map_or("the end".into(), |path| path.display().to_string()),
            image: point.image.clone(),
            expected: Expectation::new(&world.model, marks),
        });
    });
    points
}

/// Runs a scenario and answers its crash points.
fn traced(scenario: &Scenario, seed: u64) -> Vec<Point> {
    let world = begin(scenario, seed);
    world.start_trace();
    (scenario.run)(&world).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
    points(scenario.name, seed, &world, &world.early())
}

/// Recovers from a state that a crash of a scenario left, and answers the crash points of that.
fn recovered(scenario: &Scenario, seed: u64) -> Vec<Point> {
    let world = begin(scenario, seed);
    world.start_trace();
    (scenario.run)(&world).unwrap_or_else(|e| panic!("{}: {e}", scenario.name));
    let trace = world.disk.take_trace().expect("a trace");
    let mut rng = Rng::new(seed);
    let chosen = rng.below(trace.syncs() as u64 + 1) as usize;
    let mut found = None;
    trace.walk(&mut |point| {
        if point.number == chosen {
            let mut marks = world.early();
            marks.extend(point.marks);
            found = Some((point.image.power_cut(&mut Lot::chance(rng.number())).0, marks));
        }
    });
    let (image, marks) = found.expect("the point");
    let again = World::on(image.disk(), world.model.clone(), seed);
    again.start_trace();
    // Without FORMAT there is nothing to recover.
    if again.open().is_ok() {
        again.close().unwrap_or_else(|e| panic!("{}: closing after recovery: {e}", scenario.name));
    }
    points(&format!("recovery of {}", scenario.name), seed, &again, &marks)
}

fn all_points(seed: u64, only: Option<&str>) -> Vec<Point> {
    let mut all = Vec::new();
    for scenario in SCENARIOS {
        if only.is_none_or(|only| only == scenario.name) {
            all.extend(traced(scenario, seed));
        }
        if only.is_none_or(|only| only.strip_prefix("recovery of ") == Some(scenario.name)) {
            all.extend(recovered(scenario, seed));
        }
    }
    assert!(!all.is_empty(), "no scenario is named {}", only.unwrap_or_default());
    all
}

/// What was done.
#[derive(Default)]
struct Tally {
    states: usize,
    points: usize,
    /// Points of which all states were taken.
    exhausted: usize,
    failures: Vec<String>,
    by_scenario: BTreeMap<String, (usize, usize)>,
}

fn name_of(point: &Point, state: u64) -> String {
    format!(
        "POSTHOUSE_SCENARIO='{}' POSTHOUSE_SEED={} POSTHOUSE_POINT={} POSTHOUSE_STATE={state}",
        point.scenario, point.seed, point.number
    )
}

/// Looks at one state; `None` when it is well.
fn look(point: &Point, image: &Image, state: u64, watched: &Watched) -> Option<String> {
    let result = watched.during(name_of(point, state), || {
        catch_unwind(AssertUnwindSafe(|| {
            point.expected.verify_after(&image.disk(), Before::of(state))
        }))
    });
    let wrong = match result {
        Ok(Ok(())) => return None,
        Ok(Err(wrong)) => wrong,
        Err(panic) => match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => "panic".into(),
        },
    };
    Some(format!(
        "{}, power cut {} before the sync of {}, state {state}: {wrong}\n    {} cargo test --features cli --test crash",
        point.scenario,
        point.number,
        point.syncing,
        name_of(point, state)
    ))
}

/// Looks at so many states of a point.
fn crash(point: &Point, wanted: usize, watched: &Watched) -> (usize, bool, Vec<String>) {
    let mut failures = Vec::new();
    // The states of a small point are counted out: its lots are numbers instead of seeds.
    let mut lot = Lot::each();
    let mut seen = HashSet::new();
    let mut images = Vec::new();
    let mut exhausted = false;
    for number in 0..2 * wanted as u64 {
        let (image, hash) = point.image.power_cut(&mut lot);
        if seen.insert(hash) {
            images.push((image, hash, number));
        }
        if !lot.go_on() {
            exhausted = true;
            break;
        }
    }
    if exhausted {
        for (image, _, number) in &images {
            failures.extend(look(point, image, *number, watched));
        }
        return (images.len(), true, failures);
    }
    let mut rng = Rng::new(point.seed ^ (point.number as u64) << 32);
    seen.clear();
    for tried in 0..8 * wanted {
        if seen.len() >= wanted {
            break;
        }
        // Below 2 * wanted stand the numbers of those that are counted out.
        let state = rng.number() | 1 << 63;
        let mut lot = match tried {
            0 => Lot::Nothing,
            1 => Lot::All,
            _ => Lot::chance(state),
        };
        let (image, hash) = point.image.power_cut(&mut lot);
        if seen.insert(hash) {
            failures.extend(look(
                point,
                &image,
                if tried < 2 { u64::MAX - tried as u64 } else { state },
                watched,
            ));
            if failures.len() >= 3 {
                break;
            }
        }
    }
    // Where chance finds too few, those that were counted out make up for it.
    for (image, hash, number) in &images {
        if seen.len() >= wanted || failures.len() >= 3 {
            break;
        }
        if seen.insert(*hash) {
            failures.extend(look(point, image, *number, watched));
        }
    }
    (seen.len(), false, failures)
}

/// The state that a number printed by a failure stands for.
fn state_of(point: &Point, state: u64) -> Image {
    let mut lot = match state {
        u64::MAX => Lot::Nothing,
        n if n == u64::MAX - 1 => Lot::All,
        n if n >> 63 == 1 => Lot::chance(n),
        n => {
            let mut lot = Lot::each();
            for _ in 0..n {
                point.image.power_cut(&mut lot);
                assert!(lot.go_on(), "the point has no state {n}");
            }
            lot
        }
    };
    point.image.power_cut(&mut lot).0
}

fn crash_all(points: &[Point], wanted: usize) -> Tally {
    let tally = Mutex::new(Tally::default());
    watch::all(points.len(), |number, watched| {
        let point = &points[number];
        let (states, exhausted, failures) = crash(point, wanted, watched);
        let mut tally = tally.lock().unwrap();
        tally.states += states;
        tally.points += 1;
        tally.exhausted += usize::from(exhausted);
        let sum = tally.by_scenario.entry(point.scenario.clone()).or_default();
        *sum = (sum.0 + 1, sum.1 + states);
        for failure in &failures {
            println!("{failure}");
        }
        tally.failures.extend(failures);
    });
    tally.into_inner().unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_at_any_sync() {
    let seed = variable("POSTHOUSE_SEED").unwrap_or(1);
    let states: usize =
        variable("POSTHOUSE_STATES").unwrap_or(if cfg!(debug_assertions) { 3000 } else { 100_000 });
    println!("POSTHOUSE_SEED={seed} POSTHOUSE_STATES={states}");
    let only: Option<String> = variable("POSTHOUSE_SCENARIO");
    let points = all_points(seed, only.as_deref());
    if let (Some(number), Some(state)) =
        (variable::<usize>("POSTHOUSE_POINT"), variable::<u64>("POSTHOUSE_STATE"))
    {
        let point = points.iter().find(|point| point.number == number).expect("no such point");
        let image = state_of(point, state);
        assert_eq!(look(point, &image, state, &Watched::default()), None);
        return;
    }
    let least = if states >= 100_000 { 200 } else { 1 };
    let mut wanted = states.div_ceil(points.len()).max(least);
    let mut total = Tally::default();
    let mut seed = seed;
    let mut points = points;
    let begun = Instant::now();
    loop {
        let tally = crash_all(&points, wanted);
        for (name, (points, states)) in &tally.by_scenario {
            println!("{name}: {points} points, {states} states");
        }
        total.states += tally.states;
        total.points += tally.points;
        total.exhausted += tally.exhausted;
        total.failures.extend(tally.failures);
        println!(
            "{} of {states} states at {} points ({} of them exhausted), {} failures, {:.1} s",
            total.states,
            total.points,
            total.exhausted,
            total.failures.len(),
            begun.elapsed().as_secs_f64()
        );
        if total.states >= states || !total.failures.is_empty() {
            break;
        }
        // Small points give less than their share: other runs of the scenarios give the rest.
        seed += 1;
        println!("POSTHOUSE_SEED={seed}");
        points = all_points(seed, only.as_deref());
        wanted = (states - total.states).div_ceil(points.len()).clamp(least, 1000);
    }
    assert!(
        total.failures.is_empty(),
        "{} failures:\n{}",
        total.failures.len(),
        total.failures.join("\n")
    );
}

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    for line in include_str!("seeds.txt").lines() {
        let Some(rest) = line.strip_prefix("crash ") else { continue };
        let (seed, name) = rest.split_once(' ').expect("a seed and a scenario");
        let seed = seed.parse().expect("a number");
        let tally = crash_all(&all_points(seed, Some(name)), 200);
        println!("{line}: {} states", tally.states);
        assert_eq!(tally.failures, Vec::<String>::new(), "{line}");
    }
}
