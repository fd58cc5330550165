//! Administration of a running engine by other programs of the same machine.
//!
//! A serving engine listens on a free loopback port and writes where, with a random token and a random proof, into the
//! file `control` of its instance, which only the instance's owner may read: who can read the file may administer.
//! It is removed when the engine stops. It works the same on every system.
//!
//! The conversation, in lines that end in LF:
//! ```text
//! client: posthouse-control 1 <token>
//! server: {"welcome":1,"proof":"<proof>"}
//! client: <request as JSON>                          one after the other, until it closes
//! server: {"progress":[<done>,<total>]}              any number, while a request is worked on
//! server: {"answer":<JSON>}                          or
//! server: {"error":{"code":<number>,"message":"..."}}
//! ```
//! The token is compared in constant time before anything else is read; who does not know it is
//! disconnected without a word. The proof tells the client that the engine which wrote the file is behind the port: the
//! port of an engine that died may be anybody's now, and requests hold passwords. [`server`] works on requests on threads of its own, a few at once, because
//! administering blocks. [`client`] is blocking and needs no runtime. What requests and answers mean is
//! no matter of this room: they are passed to an [`Administrator`].

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::vfs::{self, Fs};

pub mod client;
pub mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Found};
pub use server::ControlServer;

/// The file's name in the instance's directory.
pub const FILE: &str = "control";

/// Random octets of a token and of a proof; written as twice as many hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// Largest control file that is read, in bytes.
const FILE_BYTES: u64 = 256;

/// What the first line begins with: the protocol and its version.
const GREETING: &str = "posthouse-control 1 ";

/// What the engine answers to the right token, without the line end.
fn welcome(proof: &str) -> String {
    format!("{{\"welcome\":1,\"proof\":\"{proof}\"}}")
}

/// Longest first line in bytes.
const GREETING_BYTES: usize = 128;

/// Longest request in bytes, its line end included.
pub const REQUEST_BYTES: usize = 256 << 10;

/// Longest answer in bytes, its line end included.
pub const ANSWER_BYTES: usize = 16 << 20;

/// Who works on requests. Any thread may call; calls may block.
pub trait Administrator: Send + Sync + 'static {
    /// Works on a request. `progress(done, total)` may be called on the way.
    ///
    /// # Errors
    /// What is wrong; it travels to the client with kind and text.
    fn administer(&self, request: &[u8], progress: &mut dyn FnMut(u64, u64)) -> Result<Answer>;
}

/// The answer to a request.
pub struct Answer {
    /// JSON without line ends.
    pub json: String,
    /// Called after the answer was sent, or could not be, on a thread that the server does not wait for.
    pub then: Option<Box<dyn FnOnce() + Send>>,
}

/// Where a running engine is administered: the control file's content.
struct Place {
    port: u16,
    /// What the client shows.
    token: String,
    /// What the engine shows then.
    proof: String,
}

impl Place {
    fn text(&self) -> String {
        format!("{} {} {}\n", self.port, self.token, self.proof)
    }

    fn parse(text: &[u8]) -> Option<Place> {
        let text = std::str::from_utf8(text).ok()?;
        let (port, secrets) = text.strip_suffix('\n')?.split_once(' ')?;
        let (token, proof) = secrets.split_once(' ')?;
        let is_secret = |text: &str| {
            text.len() == TOKEN_BYTES.saturating_mul(2)
                && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_secret(token) || !is_secret(proof) {
            return None;
        }
        Some(Place {
            port: port.parse().ok().filter(|port| *port != 0)?,
            token: token.to_owned(),
            proof: proof.to_owned(),
        })
    }

    /// Reads the control file of an instance; `None` when there is none, or none that can be understood.
    fn read(fs: &dyn Fs, instance: &Path) -> Result<Option<Place>> {
        let path = instance.join(FILE);
        match vfs::read_small(fs, &path, FILE_BYTES) {
            Ok(bytes) => Ok(Place::parse(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    }
}
