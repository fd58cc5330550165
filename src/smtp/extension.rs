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
    /// XCLIENT's LOGIN, by which the proxy says that the client is authenticated. Without it LOGIN is not announced,
    /// and XCLIENT with it is 550 and changes nothing.
    pub xclient_login: bool,
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

impl FutureRelease {
    /// Thirty days from when it is asked for, whenever that is.
    pub const LONGEST: FutureRelease =
        FutureRelease { max_interval: 30 * 24 * 3600, max_datetime: u64::MAX };
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
            xclient_login: true,
            bare_lf: false,
        }
    }
}

impl Extensions {
    /// The keywords of [`Extensions::with`], in the order in which they are written.
    pub const NAMES: &'static [&'static str] = &[
        "8BITMIME",
        "SMTPUTF8",
        "CHUNKING",
        "BINARYMIME",
        "DSN",
        "REQUIRETLS",
        "DELIVERBY",
        "FUTURERELEASE",
        "MT-PRIORITY",
        "LIMITS",
        "ETRN",
        "VRFY",
        "HELP",
    ];

    /// Nothing but what is offered always; VRFY, EXPN and HELP are 502.
    pub const NONE: Extensions = Extensions {
        eight_bit: false,
        smtputf8: false,
        chunking: false,
        binarymime: false,
        dsn: false,
        requiretls: false,
        deliver_by: None,
        future_release: None,
        mt_priority: false,
        etrn: false,
        limits: false,
        vrfy: Lookup::Withheld,
        expn: Lookup::Withheld,
        help: false,
        xclient: false,
        xclient_login: true,
        bare_lf: false,
    };

    /// With the extension of this keyword, in any case, as [`Extensions::NAMES`] has it; FUTURERELEASE for at most
    /// [`FutureRelease::LONGEST`], VRFY as [`Lookup::Untold`]. `None`: there is none by that name.
    pub fn with(self, name: &str) -> Option<Extensions> {
        let known = Extensions::NAMES.iter().find(|known| known.eq_ignore_ascii_case(name))?;
        Some(match *known {
            "8BITMIME" => Extensions { eight_bit: true, ..self },
            "SMTPUTF8" => Extensions { smtputf8: true, ..self },
            "CHUNKING" => Extensions { chunking: true, ..self },
            "BINARYMIME" => Extensions { binarymime: true, ..self },
            "DSN" => Extensions { dsn: true, ..self },
            "REQUIRETLS" => Extensions { requiretls: true, ..self },
            "DELIVERBY" => Extensions { deliver_by: Some(0), ..self },
            "FUTURERELEASE" => Extensions { future_release: Some(FutureRelease::LONGEST), ..self },
            "MT-PRIORITY" => Extensions { mt_priority: true, ..self },
            "LIMITS" => Extensions { limits: true, ..self },
            "ETRN" => Extensions { etrn: true, ..self },
            "VRFY" => Extensions { vrfy: Lookup::Untold, ..self },
            _ => Extensions { help: true, ..self },
        })
    }

    /// The keywords of what is offered.
    pub fn names(&self) -> Vec<&'static str> {
        let offers = |name: &&&str| self.with(name).is_some_and(|with| with == *self);
        Extensions::NAMES.iter().filter(offers).copied().collect()
    }

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
        xclient_login: true,
        bare_lf: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_what_is_offered() {
        assert!(Extensions::NONE.names().is_empty());
        assert_eq!(
            Extensions::default().names(),
            ["8BITMIME", "SMTPUTF8", "CHUNKING", "VRFY", "HELP"]
        );
        let all = Extensions::NAMES.iter().try_fold(Extensions::NONE, |offered, name| {
            let with = offered.with(&name.to_ascii_lowercase())?;
            assert_ne!(with, offered, "{name}");
            Some(with)
        });
        assert_eq!(all.map(|all| all.names()), Some(Extensions::NAMES.to_vec()));
        assert_eq!(Extensions::NONE.with("XCLIENT"), None);
    }
}
