//! `setup`: makes an instance, after looking whether its ports are free and its certificate can be used.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use posthouse::instance::config::TlsConfig;
use posthouse::instance::{self, ListenerConfig, Setup, TlsSetup, parse_listener};
use posthouse::runtime::tls::Acceptor;
use posthouse::time::SystemClock;
use posthouse::vfs::{Fs, os::OsFs};

use super::{Failure, Outcome, password};

/// Listeners when none are named: out of reach of others, and no privileges needed.
const DEFAULT: [&str; 3] =
    ["smtp=127.0.0.1:2525", "submission=127.0.0.1:2587", "pop3=127.0.0.1:2110"];

#[derive(clap::Args)]
pub struct Args {
    /// Directory to make the instance in; it must not exist or be empty
    #[arg(long, value_name = "DIR")]
    instance: PathBuf,
    /// Its fully qualified host name
    #[arg(long, value_name = "NAME")]
    hostname: String,
    /// A domain whose mail it takes; the first is postmaster's
    #[arg(long, value_name = "DOMAIN", required = true)]
    domain: Vec<String>,
    /// File with postmaster's password; - is standard input
    #[arg(long, value_name = "FILE")]
    postmaster_password_file: PathBuf,
    /// Where to listen, such as smtp=0.0.0.0:25; also smtps, submission, submissions, pop3, pop3s
    #[arg(long, value_name = "NAME=ADDRESS:PORT", default_values = DEFAULT)]
    listen: Vec<String>,
    /// Certificate chain (PEM), copied into the instance
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM), copied into the instance
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Make a self-signed certificate
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    tls_self_signed: bool,
    /// Independent logs, 1 to 16, for ever; by default by the number of processors
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    lanes: u8,
}

pub fn run(args: Args) -> Outcome {
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    let listeners: Vec<ListenerConfig> =
        args.listen.iter().map(|text| parse_listener(text)).collect::<Result<_, _>>()?;
    for listener in &listeners {
        probe(listener, &listeners)?;
    }
    let tls = match (args.tls_cert, args.tls_key) {
        (Some(certificate), Some(key)) => {
            // Whether the key is the certificate's is known to the room that speaks TLS only.
            Acceptor::load(fs.as_ref(), &TlsConfig::with(certificate.clone(), key.clone()))?;
            TlsSetup::Files { certificate, key }
        }
        _ if args.tls_self_signed => TlsSetup::SelfSigned,
        _ => TlsSetup::None,
    };
    let first = args.domain.first().cloned().unwrap_or_default();
    let wanted = Setup {
        hostname: args.hostname,
        domains: args.domain,
        postmaster_password: password::read(&args.postmaster_password_file)?,
        listeners,
        tls,
        lanes: args.lanes,
    };
    instance::setup(&fs, &SystemClock::shared(), &args.instance, &wanted)?;
    writeln!(
        io::stdout(),
        "made an instance in {} for {} with account postmaster@{first}",
        args.instance.display(),
        wanted.hostname
    )?;
    Ok(())
}

/// Looks whether a listener could listen now; an error names the next free port.
pub fn probe(listener: &ListenerConfig, all: &[ListenerConfig]) -> Outcome {
    // A Unix socket's place is looked at when it is bound.
    let Some(address) = listener.address.tcp() else { return Ok(()) };
    let Err(e) = TcpListener::bind(address) else { return Ok(()) };
    let problem = match e.kind() {
        io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
        _ => e.to_string(),
    };
    let free = alternatives(address)
        .find(|a| !all.iter().any(|l| l.address.tcp() == Some(*a)) && TcpListener::bind(a).is_ok());
    let hint = free.map_or_else(String::new, |address| format!("; {address} is free"));
    Err(Failure::new(format_args!(
        "listener {}: cannot listen on {}: {problem}{hint}",
        listener.name, listener.address
    )))
}

/// Ports to try in place of one: the usual stand-in of a service's own port, and those behind it.
fn alternatives(address: SocketAddr) -> impl Iterator<Item = SocketAddr> {
    let first = match address.port() {
        port @ ..=1023 => match port {
            25 => 2525,
            110 => 2110,
            other => other.saturating_add(2000),
        },
        port => port.saturating_add(1),
    };
    (first..=first.saturating_add(200)).map(move |port| SocketAddr::new(address.ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_reported_with_a_free_one() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listener = parse_listener(&format!("smtp={address}")).unwrap();
        let Err(Failure::Told(text)) = probe(&listener, &[]) else { panic!("not refused") };
        let start = format!("listener smtp: cannot listen on {address}: the port is in use");
        assert!(text.starts_with(&start), "{text}");
        let free: SocketAddr =
            text.rsplit("; ").next().unwrap().strip_suffix(" is free").unwrap().parse().unwrap();
        assert_ne!(free, address);
        assert!(probe(&parse_listener("smtp=127.0.0.1:0").unwrap(), &[]).is_ok());
    }

    #[test]
    fn stand_ins_of_well_known_ports_are_the_usual_ones() {
        for (port, expected) in [(25, 2525), (110, 2110), (587, 2587), (465, 2465), (2525, 2526)] {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(alternatives(address).next().unwrap().port(), expected);
        }
        let last = SocketAddr::from(([127, 0, 0, 1], 65535));
        assert_eq!(alternatives(last).count(), 1);
    }
}
