//! The way to an instance: through the server that runs on it, or by opening it.
//!
//! Both ways take the same requests and give the same answers. A server that is just starting or stopping holds
//! the instance without answering for a moment: that moment is waited for.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use posthouse::engine::admin::{self, Request, Response};
use posthouse::engine::{Engine, Options};
use posthouse::instance::is_instance;
use posthouse::runtime::control::client::{Client, Found};
use posthouse::vfs::os::OsFs;
use posthouse::{Error, Kind};

use super::Failure;

/// How long an instance that is held by a silent process is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// A way to an instance.
pub enum Access {
    /// Through the server that runs on it.
    Online(Client),
    /// It is open here.
    Offline(Arc<Engine>),
}

impl Access {
    /// Finds the way.
    pub fn open(instance: &Path) -> Result<Access, Failure> {
        let fs = OsFs::new();
        is_instance(&fs, instance)?;
        let begin = Instant::now();
        let mut told = false;
        loop {
            match Client::connect(&fs, instance)? {
                Found::Engine(client) => return Ok(Access::Online(client)),
                Found::Stale if !told => {
                    told = true;
                    let _ = writeln!(
                        std::io::stderr(),
                        "posthouse: the server of {} is gone without a stop; opening the instance",
                        instance.display()
                    );
                }
                Found::Stale | Found::Nothing => {}
            }
            match Engine::open(instance, Options::default()) {
                Ok(engine) => return Ok(Access::Offline(engine)),
                Err(e) if e.kind() == Kind::Locked && begin.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(100));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Asks.
    pub fn ask(&mut self, request: Request) -> Result<Response, Failure> {
        self.ask_with(request, &mut |_, _| {})
    }

    /// Asks for something that may take long.
    pub fn ask_with(
        &mut self,
        request: Request,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Response, Failure> {
        match self {
            Access::Offline(engine) => Ok(admin::handle_with(engine, request, progress)?),
            Access::Online(client) => {
                let request = serde_json::to_string(&request).map_err(Failure::new)?;
                let answer = client.ask(&request, progress)?;
                let response = serde_json::from_value(answer).map_err(|e| {
                    Failure::new(format_args!(
                        "the running server's answer is not understood (another version?): {e}"
                    ))
                })?;
                Ok(response)
            }
        }
    }

    /// Lets the instance go. What this changed is on disk already; closing tells whether all went well.
    pub fn close(self) -> Result<(), Error> {
        match self {
            Access::Online(_) => Ok(()),
            Access::Offline(engine) => engine.close(),
        }
    }
}
