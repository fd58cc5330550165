//! Answers the events of sessions with policy, directory, spool and mailbox.
