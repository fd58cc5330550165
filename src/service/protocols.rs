//! The protocols that an engine speaks, each with its configuration: begins conversations, whoever owns the sockets.

use std::sync::Arc;

use super::pop3::Pop3Conversation;
use super::smtp::SmtpConversation;
use super::{Conversation, Link, Shared};
use crate::instance::config::Protocol;
use crate::smtp::extension::Extensions;
use crate::time::Clock;
use crate::{pop3, smtp};

/// What conversations of every protocol are made from.
pub struct Protocols {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    smtp: Arc<smtp::server::ServerConfig>,
    submission: Arc<smtp::server::ServerConfig>,
    lmtp: Arc<smtp::server::ServerConfig>,
    pop3: Arc<pop3::server::ServerConfig>,
}

impl Protocols {
    /// All of them with these bounds. `clock` is the clock of deadlines.
    pub fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        smtp: &smtp::server::Limits,
        extensions: Extensions,
        pop3: &pop3::server::Limits,
    ) -> Protocols {
        let dialect = |dialect| {
            Arc::new(smtp::server::ServerConfig {
                hostname: shared.hostname.clone(),
                dialect,
                limits: smtp.clone(),
                // XCLIENT is for peers that are trusted, and offered to nobody else. A trusted proxy says whose
                // connection it is, not who has logged in: only a password says that.
                extensions: Extensions {
                    xclient: true,
                    xclient_login: false,
                    // There is no queue behind LMTP.
                    etrn: extensions.etrn && dialect != smtp::server::Dialect::Lmtp,
                    ..extensions
                },
            })
        };
        let pop3 = Arc::new(pop3::server::ServerConfig {
            hostname: shared.hostname.clone(),
            limits: pop3.clone(),
        });
        Protocols {
            smtp: dialect(smtp::server::Dialect::Smtp),
            submission: dialect(smtp::server::Dialect::Submission),
            lmtp: dialect(smtp::server::Dialect::Lmtp),
            pop3,
            shared,
            clock,
        }
    }

    /// What all conversations share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The clock of deadlines.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Begins a conversation on a new connection.
    pub fn converse(&self, protocol: Protocol, link: Link) -> Box<dyn Conversation> {
        let (shared, now) = (Arc::clone(&self.shared), self.clock.now());
        match protocol {
            Protocol::Smtp => {
                Box::new(SmtpConversation::new(shared, Arc::clone(&self.smtp), link, now))
            }
            Protocol::Lmtp => {
                Box::new(SmtpConversation::new(shared, Arc::clone(&self.lmtp), link, now))
            }
            Protocol::Submission => {
                Box::new(SmtpConversation::new(shared, Arc::clone(&self.submission), link, now))
            }
            Protocol::Pop3 => {
                Box::new(Pop3Conversation::new(shared, Arc::clone(&self.pop3), link, now))
            }
        }
    }
}
