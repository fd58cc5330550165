//! Mailboxes through their own door.

use super::*;
use crate::error::Kind;
use crate::store::tests::{healthy, memory, open, send};

#[test]
fn an_inbox_is_made_once_and_removed_with_its_messages() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let mailboxes = Mailboxes::new(&store);
    let account = AccountId(9);
    assert_eq!(mailboxes.list(account).unwrap(), Vec::new());
    mailboxes.create_inbox(account, 5).unwrap();
    mailboxes.create_inbox(account, 6).unwrap();
    let head = mailboxes.list(account).unwrap().remove(0);
    assert_eq!((head.name.as_str(), head.uid_validity, head.uid_next), ("INBOX", 5, 1));
    for _ in 0..3 {
        send(&store, account, b"hello").wait().unwrap();
    }
    mailboxes.expunge(account, MailboxId::INBOX, vec![3, 1, 1, 77]).wait().unwrap();
    let rows = mailboxes.messages(account, MailboxId::INBOX, 0, 10).unwrap();
    assert_eq!(rows.iter().map(|r| (r.uid, r.size)).collect::<Vec<_>>(), vec![(2, 5)]);
    let mut buffer = [0; 16];
    let mut reader = mailboxes.read(rows[0].message).unwrap();
    assert_eq!(reader.read_at(1, &mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"ello");
    mailboxes.remove_all(account).unwrap();
    assert_eq!(mailboxes.list(account).unwrap(), Vec::new());
    assert_eq!(mailboxes.messages(account, MailboxId::INBOX, 0, 10).unwrap(), Vec::new());
    let gone = mailboxes.read(rows[0].message).map(|_| ()).unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound);
    healthy(&store);
}

#[test]
fn flags_are_set_and_messages_moved_in_any_order_of_uids() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let mailboxes = Mailboxes::new(&store);
    let (account, inbox, other) = (AccountId(9), MailboxId::INBOX, MailboxId(2));
    mailboxes.create_inbox(account, 5).unwrap();
    for _ in 0..4 {
        send(&store, account, b"hello").wait().unwrap();
    }
    mailboxes.set_flags(account, inbox, vec![4, 2, 2, 99], 9, 0).wait().unwrap();
    mailboxes.set_flags(account, inbox, vec![4], 2, u32::MAX).wait().unwrap();
    let flags = |mailbox| {
        let rows = mailboxes.messages(account, mailbox, 0, 10).unwrap();
        rows.iter().map(|row| (row.uid, row.flags)).collect::<Vec<_>>()
    };
    assert_eq!(flags(inbox), [(1, 0), (2, 9), (3, 0), (4, 2)]);
    let refused = mailboxes.move_messages(account, inbox, other, vec![1]).wait().unwrap_err();
    assert_eq!(refused.kind(), Kind::NotFound);
    let name = "Other".into();
    let change = Change::CreateMailbox { account, mailbox: other, name, uid_validity: 1 };
    store.commit(store.lane_of(account), vec![change]).wait().unwrap();
    let moved = mailboxes.move_messages(account, inbox, other, vec![4, 99, 2, 4]);
    assert_eq!(moved.wait().unwrap(), [(2, 1), (4, 2)]);
    assert_eq!(flags(inbox), [(1, 0), (3, 0)]);
    assert_eq!(flags(other), [(1, 9), (2, 2)]);
    healthy(&store);
}
