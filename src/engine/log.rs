//! From `tracing` to the host's log callback, for this engine's threads only.
//!
//! The rooms speak through `tracing`. A library must not install a subscriber for the process, so each
//! thread of an engine gets this one as its own default when it starts: several engines in one process
//! log to several callbacks, and a host's own subscriber is left alone.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use crate::service::event::{LogLevel, LogSink};

/// Longest log line in bytes; what is longer is cut.
const LINE_BYTES: usize = 2048;

/// What makes the current thread log to `sink` for the rest of its life.
pub fn thread_hook(sink: Option<LogSink>, level: LogLevel) -> Arc<dyn Fn() + Send + Sync> {
    let Some(sink) = sink else { return Arc::new(|| ()) };
    let dispatch = Dispatch::new(Lines { sink, level });
    Arc::new(move || {
        // The guard would restore the old default when dropped; the thread ends with this one.
        std::mem::forget(tracing::dispatcher::set_default(&dispatch));
    })
}

struct Lines {
    sink: LogSink,
    level: LogLevel,
}

fn level_of(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("posthouse") && level_of(*metadata.level()) <= self.level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        use tracing::level_filters::LevelFilter;
        Some(match self.level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        })
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let metadata = event.metadata();
        let room = metadata.target().strip_prefix("posthouse::").unwrap_or(metadata.target());
        (self.sink)(level_of(*metadata.level()), room, &line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// `message key=value key=value`, on one line whatever the values hold.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = if field.name() == "message" {
            write!(text, "{value:?}")
        } else {
            write!(text, "{}={value:?}", field.name())
        };
        let room = LINE_BYTES.saturating_sub(self.0.len());
        let flat: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .scan(0, |len, c| {
                *len += c.len_utf8();
                (*len < room).then_some(c)
            })
            .collect();
        if field.name() == "message" {
            self.0.insert_str(0, &flat);
        } else {
            self.0.push(' ');
            self.0.push_str(&flat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Mutex;

    #[test]
    fn a_thread_logs_to_its_own_sink_and_control_characters_do_not_break_the_line() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink: LogSink = {
            let lines = Arc::clone(&lines);
            Arc::new(move |level, room, line| {
                lines.lock().push((level, room.to_owned(), line.to_owned()))
            })
        };
        let hook = thread_hook(Some(sink), LogLevel::Info);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                hook();
                tracing::info!(target: "posthouse::x", who = "a\r\nb", "said");
                tracing::debug!(target: "posthouse::x", "not at this level");
                tracing::info!(target: "elsewhere", "not ours");
            });
        });
        tracing::error!(target: "posthouse::x", "another thread");
        let lines = lines.lock();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].0, LogLevel::Info);
        assert_eq!(lines[0].1, "x");
        assert_eq!(lines[0].2, r#"said who="a\r\nb""#);
    }
}
