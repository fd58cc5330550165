//! The extensions of `ph_smtp_server`, as C says them: bits and numbers of `ph_smtp_server_options`.

use super::smtp_server::ph_smtp_server_options;
use crate::error::{Error, Kind, Result};
use crate::smtp::extension::{Extensions, FutureRelease, Lookup};

/// Session extension: DSN (RFC 3461). RET, ENVID, NOTIFY and ORCPT come in the events' parameters.
pub const PH_SMTP_EXTENSION_DSN: u32 = 1;
/// Session extension: BINARYMIME (RFC 3030). Such a message may hold any octets (PH_SMTP_FLAG_BINARY).
pub const PH_SMTP_EXTENSION_BINARYMIME: u32 = 2;
/// Session extension: REQUIRETLS (RFC 8689), offered under TLS only (PH_SMTP_FLAG_REQUIRETLS).
pub const PH_SMTP_EXTENSION_REQUIRETLS: u32 = 4;
/// Session extension: MT-PRIORITY (RFC 6710).
pub const PH_SMTP_EXTENSION_MT_PRIORITY: u32 = 8;
/// Session extension: ETRN (RFC 1985); each is PH_SMTP_ETRN.
pub const PH_SMTP_EXTENSION_ETRN: u32 = 16;
/// Session extension: LIMITS (RFC 9422): announce how many transactions, recipients and domains are taken. They are enforced in any case.
pub const PH_SMTP_EXTENSION_LIMITS: u32 = 32;
/// Session extension: DELIVERBY (RFC 2852), with deliver_by_least.
pub const PH_SMTP_EXTENSION_DELIVERBY: u32 = 64;
/// Session extension: XCLIENT. Only for a peer that the host trusts to speak for other clients; each is PH_SMTP_FORWARDED.
pub const PH_SMTP_EXTENSION_XCLIENT: u32 = 128;
/// Session extension: a bare LF ends a command line and a line of DATA, where it becomes CR LF. Only for old clients on the host's own
/// network. The end of the data stays CR LF . CR LF alone.
pub const PH_SMTP_EXTENSION_BARE_LF: u32 = 256;
/// Session extension turned off: 8BITMIME (RFC 6152) is not offered.
pub const PH_SMTP_EXTENSION_NO_8BITMIME: u32 = 65536;
/// Session extension turned off: SMTPUTF8 (RFC 6531) is not offered.
pub const PH_SMTP_EXTENSION_NO_SMTPUTF8: u32 = 131072;
/// Session extension turned off: HELP is answered 502.
pub const PH_SMTP_EXTENSION_NO_HELP: u32 = 262144;

/// VRFY or EXPN: answered 502. The default of EXPN.
pub const PH_SMTP_LOOKUP_WITHHELD: u32 = 1;
/// VRFY or EXPN: answered 252, whatever was asked. The default of VRFY.
pub const PH_SMTP_LOOKUP_UNTOLD: u32 = 2;
/// VRFY or EXPN: answered by the host; each is PH_SMTP_VERIFY or PH_SMTP_EXPAND.
pub const PH_SMTP_LOOKUP_ASKED: u32 = 3;

/// Every bit that means something.
const KNOWN: u32 = 511 | 65536 | 131072 | 262144;

/// What the options say.
pub(super) fn extensions_of(options: &ph_smtp_server_options) -> Result<Extensions> {
    let on = |bit: u32| options.extensions & bit != 0;
    if options.extensions & !KNOWN != 0 {
        return Err(invalid("extensions has bits that are not PH_SMTP_EXTENSION_..."));
    }
    let chunking = match options.no_chunking {
        0 => true,
        1 => false,
        _ => return Err(invalid("no_chunking is neither 0 nor 1")),
    };
    if options.deliver_by_least != 0 && !on(PH_SMTP_EXTENSION_DELIVERBY) {
        return Err(invalid("deliver_by_least is set without PH_SMTP_EXTENSION_DELIVERBY"));
    }
    let future_release = match (options.hold_seconds, options.hold_until) {
        (0, 0) => None,
        (0, _) | (_, 0) => return Err(invalid("hold_seconds and hold_until belong together")),
        (max_interval, max_datetime) => Some(FutureRelease { max_interval, max_datetime }),
    };
    let offered = Extensions::default();
    Ok(Extensions {
        eight_bit: !on(PH_SMTP_EXTENSION_NO_8BITMIME),
        smtputf8: !on(PH_SMTP_EXTENSION_NO_SMTPUTF8),
        chunking,
        binarymime: on(PH_SMTP_EXTENSION_BINARYMIME),
        dsn: on(PH_SMTP_EXTENSION_DSN),
        requiretls: on(PH_SMTP_EXTENSION_REQUIRETLS),
        deliver_by: on(PH_SMTP_EXTENSION_DELIVERBY).then_some(options.deliver_by_least),
        future_release,
        mt_priority: on(PH_SMTP_EXTENSION_MT_PRIORITY),
        etrn: on(PH_SMTP_EXTENSION_ETRN),
        limits: on(PH_SMTP_EXTENSION_LIMITS),
        vrfy: lookup(options.vrfy, offered.vrfy, "vrfy is none of PH_SMTP_LOOKUP_...")?,
        expn: lookup(options.expn, offered.expn, "expn is none of PH_SMTP_LOOKUP_...")?,
        help: !on(PH_SMTP_EXTENSION_NO_HELP),
        xclient: on(PH_SMTP_EXTENSION_XCLIENT),
        xclient_login: offered.xclient_login,
        bare_lf: on(PH_SMTP_EXTENSION_BARE_LF),
    })
}

fn lookup(value: u32, default: Lookup, problem: &'static str) -> Result<Lookup> {
    match value {
        0 => Ok(default),
        PH_SMTP_LOOKUP_WITHHELD => Ok(Lookup::Withheld),
        PH_SMTP_LOOKUP_UNTOLD => Ok(Lookup::Untold),
        PH_SMTP_LOOKUP_ASKED => Ok(Lookup::Asked),
        _ => Err(invalid(problem)),
    }
}

fn invalid(problem: &'static str) -> Error {
    Error::new(Kind::InvalidArgument, problem)
}
