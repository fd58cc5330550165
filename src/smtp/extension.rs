//! Which extensions a server offers, as plain values.
//!
//! What needs nothing of the caller is offered always: PIPELINING (RFC 2920), SIZE (RFC 1870), ENHANCEDSTATUSCODES
//! (RFC 2034). Everything else stands here. The default offers what a session can keep by itself: 8BITMIME, SMTPUTF8 and
//! CHUNKING. An extension that makes the caller responsible for something (DSN, REQUIRETLS, DELIVERBY ...) is off
//! until the caller says that it does it. What is not offered is not accepted either: its parameters are answered 555,
//! its commands 502.
//!
//! STARTTLS and AUTH depend on the connection; they stand in [`Offer`](crate::smtp::server::Offer).

/// The extensions that a server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extensions {
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030). Without `chunking` it is not offered, because such a message can only come by BDAT.
    pub binarymime: bool,
    /// DSN (RFC 3461; RFC 6533 for addresses beyond ASCII): RET, ENVID, NOTIFY, ORCPT.
    pub dsn: bool,
    /// REQUIRETLS (RFC 8689). Offered on connections with TLS only.
    pub requiretls: bool,
    /// DELIVERBY (RFC 2852): the least seconds with mode R that are taken; 0: none is announced.
    pub deliver_by: Option<u32>,
    /// FUTURERELEASE (RFC 4865). Offered in [`Dialect::Submission`](crate::smtp::server::Dialect) only.
    pub future_release: Option<FutureRelease>,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// ETRN (RFC 1985): each one becomes an event.
    pub etrn: bool,
    /// LIMITS (RFC 9422): announce MAILMAX, RCPTMAX and RCPTDOMAINMAX. They are enforced in any case; their values
    /// stand in [`Limits`](crate::smtp::server::Limits).
    pub limits: bool,
    /// What VRFY is answered.
    pub vrfy: Lookup,
    /// What EXPN is answered.
    pub expn: Lookup,
    /// HELP lists the commands; else it is 502.
    pub help: bool,
    /// XCLIENT (as Postfix documents it): offered to peers that the caller names by
    /// [`Server::trust_peer`](crate::smtp::server::Server::trust_peer), and to nobody else.
    pub xclient: bool,
    /// For old clients on a network of one's own: a bare LF ends a command line, and a line of a message that comes by
    /// DATA, where it becomes CR LF. It never takes part in the end of the data, which is CR LF `.` CR LF and nothing
    /// else (RFC 5321 4.1.1.4). Without effect on BDAT.
    pub bare_lf: bool,
}

/// What FUTURERELEASE announces (RFC 4865 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureRelease {
    /// Most seconds of HOLDFOR.
    pub max_interval: u32,
    /// Latest instant of HOLDUNTIL, in seconds since 1970-01-01T00:00:00Z.
    pub max_datetime: u64,
}

/// What a command is answered that asks for users (RFC 5321 3.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// 502.
    Withheld,
    /// 252, whatever was asked.
    Untold,
    /// What the caller says: an event. The command is announced in the EHLO reply.
    Asked,
}

impl Default for Extensions {
    fn default() -> Extensions {
        Extensions {
            eight_bit: true,
            smtputf8: true,
            chunking: true,
            binarymime: false,
            dsn: false,
            requiretls: false,
            deliver_by: None,
            future_release: None,
            mt_priority: false,
            etrn: false,
            limits: false,
            vrfy: Lookup::Untold,
            expn: Lookup::Withheld,
            help: true,
            xclient: false,
            bare_lf: false,
        }
    }
}

impl Extensions {
    /// Everything on: what a parser of stored parameters understands.
    pub(crate) const ALL: Extensions = Extensions {
        eight_bit: true,
        smtputf8: true,
        chunking: true,
        binarymime: true,
        dsn: true,
        requiretls: true,
        deliver_by: Some(0),
        future_release: Some(FutureRelease { max_interval: u32::MAX, max_datetime: u64::MAX }),
        mt_priority: true,
        etrn: true,
        limits: true,
        vrfy: Lookup::Asked,
        expn: Lookup::Asked,
        help: true,
        xclient: true,
        bare_lf: false,
    };
}
