//! Many pieces of work on all processors, under a watchdog.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What takes longer hangs: the process ends and names it.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What a thread is doing, and since when.
#[derive(Default)]
pub struct Watched(Mutex<Option<(Instant, String)>>);

impl Watched {
    /// Does something that has a name.
    pub fn during<T>(&self, name: String, work: impl FnOnce() -> T) -> T {
        *self.0.lock().unwrap() = Some((Instant::now(), name));
        let answer = work();
        *self.0.lock().unwrap() = None;
        answer
    }
}

/// Panics of the index's engine are caught by the store and are no news here; others take a line.
fn quiet() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_none_or(|location| !location.file().contains("redb")) {
            eprintln!("{panic}");
        }
    }));
}

/// Calls `work` for the numbers below `pieces`, on as many threads as there are processors.
pub fn all(pieces: usize, work: impl Fn(usize, &Watched) + Sync) {
    quiet();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    let next = AtomicUsize::new(0);
    let ended = AtomicBool::new(false);
    let watched: Vec<Watched> = (0..threads).map(|_| Watched::default()).collect();
    std::thread::scope(|scope| {
        let (watched, ended, next, work) = (&watched, &ended, &next, &work);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                for watched in watched {
                    if let Some((since, name)) = &*watched.0.lock().unwrap()
                        && since.elapsed() > HANGS_AFTER
                    {
                        eprintln!("hangs for {HANGS_AFTER:?}: {name}");
                        std::process::exit(1);
                    }
                }
            }
        });
        let workers: Vec<_> = watched
            .iter()
            .map(|watched| {
                scope.spawn(move || {
                    loop {
                        let piece = next.fetch_add(1, Ordering::Relaxed);
                        if piece >= pieces {
                            break;
                        }
                        work(piece, watched);
                    }
                })
            })
            .collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended.store(true, Ordering::Relaxed);
        for result in results {
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
