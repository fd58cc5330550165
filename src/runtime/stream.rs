//! A connected socket: TCP, or a Unix socket where the system has them.

use std::io;

#[cfg(unix)]
use tokio::io::Interest;
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
    ///
    /// A read that does not fill the room has emptied the socket: the next [`Stream::readable`] waits for more, and no
    /// read that finds nothing is made to learn that.
    pub fn try_read_buf(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        #[cfg(unix)]
        {
            let mut read = None;
            let room = buffer.capacity().saturating_sub(buffer.len());
            let result = each!(self, stream => stream.try_io(Interest::READABLE, || {
                let octets = stream.try_read_buf(buffer)?;
                read = Some(octets);
                // With this answer the socket counts as not readable, unless something has come since before the
                // read. (On Windows it would not be told of what comes then.)
                if octets < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            }));
            match read {
                Some(octets) => Ok(octets),
                None => result.map(|()| 0),
            }
        }
        #[cfg(not(unix))]
        {
            each!(self, stream => stream.try_read_buf(buffer))
        }
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
