//! What the machine says of this process.

use std::time::Duration;

/// CPU time of this process so far, user and system, all threads; zero where the system does not tell.
pub fn cpu() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(unix))]
    {
        Duration::ZERO
    }
}

/// The most memory that this process held so far, in KiB; `None` where the system does not tell.
pub fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The median; 0 of nothing.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle), middle.checked_sub(1).and_then(|i| sorted.get(i)))
    {
        (1, Some(middle), _) => *middle,
        (0, Some(above), Some(below)) => (above + below) / 2.0,
        _ => 0.0,
    }
}
