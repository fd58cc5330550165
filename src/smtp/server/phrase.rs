//! The replies that the server gives in more than one place.

use crate::smtp::Reply;

/// What MAIL is answered when it is taken. Nearly every message gets this line and the next two: they are made
/// beforehand.
pub(super) const MAIL_TAKEN: &[u8] = b"250 2.1.0 Ok\r\n";
/// What RCPT is answered when it is taken.
pub(super) const RCPT_TAKEN: &[u8] = b"250 2.1.5 Ok\r\n";
/// What DATA is answered when it is taken.
pub(super) const DATA_TAKEN: &[u8] = b"354 Send the message, then a line with a single dot\r\n";

pub(super) const OK: Reply<'static> = Reply::new(250, 0, 0, "Ok");
pub(super) const TOO_LARGE: Reply<'static> =
    Reply::new(552, 3, 4, "Message is larger than this server takes");
pub(super) const SHUTDOWN: Reply<'static> = Reply::new(421, 3, 2, "Shutting down, try again later");
pub(super) const OUT_OF_PLACE: Reply<'static> =
    Reply::new(503, 5, 1, "Not now: a transaction is open");
pub(super) const HELLO_FIRST: Reply<'static> = Reply::new(503, 5, 1, "EHLO or HELO comes first");
pub(super) const NO_ARGUMENT: Reply<'static> =
    Reply::new(501, 5, 4, "This command takes no argument");
pub(super) const NO_MAIL: Reply<'static> = Reply::new(503, 5, 1, "MAIL comes first");
pub(super) const NO_RECIPIENT: Reply<'static> = Reply::new(503, 5, 1, "RCPT comes first");
pub(super) const NO_VALID_RECIPIENT: Reply<'static> = Reply::new(554, 5, 1, "No valid recipients");
pub(super) const NEEDS_SMTPUTF8: Reply<'static> =
    Reply::new(553, 6, 7, "An address beyond ASCII needs SMTPUTF8");
pub(super) const TOO_MANY_ERRORS: Reply<'static> = Reply::new(421, 7, 0, "Too many errors");
pub(super) const NOT_BASE64: Reply<'static> = Reply::new(501, 5, 2, "The response is not Base64");
pub(super) const WITHHELD: Reply<'static> = Reply::new(502, 5, 1, "Command not available here");
pub(super) const UNKNOWN_COMMAND: Reply<'static> = Reply::new(500, 5, 1, "Command not recognized");
pub(super) const UNTOLD: Reply<'static> =
    Reply::new(252, 0, 0, "Not told here; send mail to find out");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::write;

    #[test]
    fn lines_made_beforehand_are_what_would_be_written() {
        let text = "Send the message, then a line with a single dot";
        for (line, reply) in [
            (MAIL_TAKEN, Reply::new(250, 1, 0, "Ok")),
            (RCPT_TAKEN, Reply::new(250, 1, 5, "Ok")),
            (DATA_TAKEN, Reply::bare(354, text)),
        ] {
            let mut written = Vec::new();
            write(&mut written, &reply, "", false);
            assert_eq!(written.escape_ascii().to_string(), line.escape_ascii().to_string());
        }
    }
}
