//! A connected socket: TCP, or a Unix socket where the system has them.

use std::io;

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

/// A connected socket that does not block.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

macro_rules! each {
    ($self:expr, $stream:ident => $what:expr) => {
        match $self {
            Stream::Tcp($stream) => $what,
            #[cfg(unix)]
            Stream::Unix($stream) => $what,
        }
    };
}

impl Stream {
    /// Waits until there may be something to read, or the end.
    pub async fn readable(&self) -> io::Result<()> {
        each!(self, stream => stream.readable().await)
    }

    /// Waits until something may be written.
    pub async fn writable(&self) -> io::Result<()> {
        each!(self, stream => stream.writable().await)
    }

    /// Reads into the spare room of a buffer; 0 at the end.
    pub fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        each!(self, stream => stream.try_read_buf(buffer))
    }

    /// Writes what can be written at once.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(bytes))
    }

    /// Tells the peer that nothing more comes.
    pub async fn shut_down_writing(&mut self) -> io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        each!(self, stream => stream.shutdown().await)
    }
}
