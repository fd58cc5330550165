//! `serve`: an engine in the foreground, until a signal or `stop` ends it.
//!
//! Standard output gets one line, `ready` with every listener, when all of them serve. Standard error gets
//! the log. The first signal drains and stops; a second one ends the process at once (which loses nothing
//! that was acknowledged).

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use clap::ValueEnum;
use posthouse::Engine;
use posthouse::engine::{Event, EventSink, LogLevel, LogSink, Options};
use posthouse::instance::Config;
use posthouse::runtime::control::client::{Client, Found};
use posthouse::runtime::tls::Acceptor;
use posthouse::time::{Clock, SystemClock};
use posthouse::vfs::os::OsFs;

use super::output::{one_line, time};
use super::{Failure, InstanceArgs, Outcome};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    instance: InstanceArgs,
    /// How much to log on standard error
    #[arg(long, value_enum, default_value = "info")]
    log_level: Level,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> LogLevel {
        match level {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
            Level::Trace => LogLevel::Trace,
        }
    }
}

/// What a serving process waits for.
pub enum Wake {
    /// A signal came.
    Signal(&'static str),
    /// The engine was stopped by an administrator.
    Stopped,
}

pub fn run(args: &Args) -> Outcome {
    let (wake, woken) = channel();
    // Before anything serves: a signal must never find the system's own reaction.
    watch_signals(wake.clone())?;
    look(&args.instance.instance)?;
    let engine = open(&args.instance.instance, args.log_level.into(), wake)?;
    engine.start()?;
    let mut line = "ready".to_owned();
    for listening in engine.listeners() {
        line.push_str(&format!(" {}={}", listening.config.name, listening.address));
    }
    {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    wait(&engine, &woken);
    engine.close()?;
    log_line(LogLevel::Info, "cli", "stopped");
    Ok(())
}

/// Looks for what would hinder serving, before opening changes anything on disk: a server that runs already, a
/// certificate that cannot be used, a port that is taken. What comes up later is found by the engine itself.
fn look(instance: &Path) -> Outcome {
    let fs = OsFs::new();
    let config = Config::load(&fs, instance)?;
    if let Found::Engine(_) = Client::connect(&fs, instance)? {
        let text = format!("a server runs on {} already", instance.display());
        return Err(Failure::new(text));
    }
    if let Some(tls) = &config.tls {
        Acceptor::load(&fs, tls)?;
    }
    for listener in &config.listeners {
        super::setup::probe(listener, &config.listeners)?;
    }
    Ok(())
}

/// Opens an engine that logs to standard error and tells when it was stopped.
fn open(instance: &Path, level: LogLevel, wake: Sender<Wake>) -> Result<Arc<Engine>, Failure> {
    let events: EventSink = Arc::new(move |event: &Event<'_>| {
        if let Event::Stopped = event {
            let _ = wake.send(Wake::Stopped);
        }
    });
    let log: LogSink = Arc::new(log_line);
    let options =
        Options { events: Some(events), log: Some(log), log_level: level, ..Options::default() };
    let engine = Engine::open(instance, options)?;
    for warning in &engine.config().warnings {
        log_line(LogLevel::Warn, "instance", warning);
    }
    Ok(engine)
}

/// Waits until something ends the service.
fn wait(engine: &Engine, woken: &Receiver<Wake>) {
    match woken.recv() {
        Ok(Wake::Signal(name)) => {
            let text = format!("{name}: draining, a second signal ends at once");
            log_line(LogLevel::Info, "cli", &text);
            // An engine that cannot be stopped in order is closed in what follows.
            let _ = engine.stop();
        }
        Ok(Wake::Stopped) | Err(_) => {}
    }
}

/// A line of the log: time, level, room, text.
fn log_line(level: LogLevel, room: &str, text: &str) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let now = time(SystemClock::new().unix_millis());
    // One write a line, so that lines of several threads do not mix.
    let line = format!("{now} {level:5} {room} {}\n", one_line(text));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Tells of the first signal; the second ends the process.
pub fn watch_signals(wake: Sender<Wake>) -> Outcome {
    let failed = |e: io::Error| Failure::new(format_args!("cannot watch for signals: {e}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new().map_err(failed)?
    };
    std::thread::Builder::new()
        .name("posthouse-signal".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let name = signals.next().await;
                let _ = wake.send(Wake::Signal(name));
                signals.next().await;
                std::process::exit(1);
            });
        })
        .map_err(failed)?;
    Ok(())
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    // What a program can send to another one that it started in a process group of its own.
    stop: tokio::signal::windows::CtrlBreak,
    // After these the system ends the process by itself, in some seconds.
    closed: tokio::signal::windows::CtrlClose,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Signals {
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            closed: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.stop.recv() => "Ctrl-Break",
            _ = self.closed.recv() => "the console was closed",
            _ = self.shutdown.recv() => "the system shuts down",
        }
    }
}
