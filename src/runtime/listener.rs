//! Sockets that listen: TCP, and Unix sockets where the system has them.
//!
//! A Unix socket's file has mode 0660: who may connect is ruled by its owner's group and by the directory it stands
//! in. It is made under another name beside its place, given its mode, and moved there, so that nobody can connect before.
//! A file that stands in its place is removed only when it is a socket that nobody listens on any more; a stop removes it.
//! A peer over a Unix socket counts as 127.0.0.1, port 0.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::stream::Stream;
use crate::error::{Error, Kind, Result, kind_of_io};
use crate::instance::config::{ListenAddress, ListenerConfig, TlsMode};

/// Connections that the kernel holds for us until we accept them.
const BACKLOG: u32 = 4096;

/// A socket that listens.
pub(super) struct Bound {
    pub config: ListenerConfig,
    /// With the port it really has.
    pub address: ListenAddress,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(unix::Listener),
}

impl Bound {
    /// Listens. Inside the runtime.
    ///
    /// # Errors
    /// The listener's name and address with the system's words; `Certificate` for implicit TLS without one.
    pub fn new(config: &ListenerConfig, tls: bool) -> Result<Bound> {
        if config.tls == TlsMode::Implicit && !tls {
            return Err(Error::new(
                Kind::Certificate,
                format!(
                    "listener {} {}: no certificate is configured",
                    config.name, config.address
                ),
            ));
        }
        let listened = match &config.address {
            ListenAddress::Tcp(address) => tcp(*address),
            #[cfg(unix)]
            ListenAddress::Unix(path) => unix::Listener::new(path)
                .map(|listener| (config.address.clone(), Socket::Unix(listener))),
            #[cfg(not(unix))]
            ListenAddress::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        let (address, socket) = listened.map_err(|e: io::Error| {
            Error::new(
                kind_of_io(&e),
                format!("listener {}: cannot listen on {}: {e}", config.name, config.address),
            )
        })?;
        Ok(Bound { config: config.clone(), address, socket })
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Replies are collected and leave in one write; waiting for more would only delay them (RFC 2920).
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), peer))
            }
            #[cfg(unix)]
            Socket::Unix(listener) => {
                let stream = listener.accept().await?;
                Ok((Stream::Unix(stream), SocketAddr::from(([127, 0, 0, 1], 0))))
            }
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<(ListenAddress, Socket)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Windows the option would let another process take the port away.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    Ok((ListenAddress::Tcp(listener.local_addr()?), Socket::Tcp(listener)))
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net;
    use std::path::{Path, PathBuf};

    use tokio::net::{UnixListener, UnixStream};

    /// A Unix socket that listens; dropping it removes its file.
    pub struct Listener {
        listener: UnixListener,
        path: PathBuf,
    }

    impl Listener {
        pub fn new(path: &Path) -> io::Result<Listener> {
            vacate(path)?;
            let mut beside = path.as_os_str().to_owned();
            beside.push(".new");
            let beside = PathBuf::from(beside);
            vacate(&beside)?;
            let listener = net::UnixListener::bind(&beside)?;
            let placed = fs::set_permissions(&beside, fs::Permissions::from_mode(0o660))
                .and_then(|()| listener.set_nonblocking(true))
                .and_then(|()| fs::rename(&beside, path))
                .and_then(|()| UnixListener::from_std(listener));
            match placed {
                Ok(listener) => Ok(Listener { listener, path: path.to_owned() }),
                Err(e) => {
                    let _ = fs::remove_file(&beside);
                    Err(e)
                }
            }
        }

        pub async fn accept(&self) -> io::Result<UnixStream> {
            Ok(self.listener.accept().await?.0)
        }
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            // While it listened nobody else could take its place.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Makes room for a socket: removes one that nobody listens on.
    fn vacate(path: &Path) -> io::Result<()> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if !found.file_type().is_socket() {
            let text = "there is a file that is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        match net::UnixStream::connect(path) {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(e) => Err(e),
        }
    }
}
