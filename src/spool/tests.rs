//! Acceptance, deliveries between lanes, and what a crash may do to them.

use super::*;
use crate::store::tests::{
    contents, envelope, healthy, inbox, memory, open, pattern, put_body, read,
};
use crate::vfs::Fs;

fn remote(address: &str) -> QueueRecipient {
    QueueRecipient {
        address: address.as_bytes().to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Remote,
        answer: Vec::new(),
    }
}

fn accept(
    spool: &Spool,
    store: &Store,
    locals: &[AccountId],
    remotes: Vec<QueueRecipient>,
    bytes: &[u8],
) -> (MessageId, Ticket<()>) {
    let (id, _) = spool.begin(locals);
    let body = put_body(store, id, bytes);
    (id, spool.accept(id, envelope(), body, locals, remotes))
}

/// One account for each lane.
fn accounts(store: &Store) -> Vec<AccountId> {
    (0..store.lanes())
        .map(|lane| (1..100).map(AccountId).find(|a| store.lane_of(*a) == Lane(lane)).unwrap())
        .collect()
}

#[test]
fn a_message_for_all_lanes_and_the_world_is_delivered_once_and_queued() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let all = accounts(&store);
    for account in &all {
        inbox(&store, *account);
    }
    let bytes = pattern(5000, 1);
    let mut twice = all.clone();
    twice.extend(&all);
    let (id, ticket) = accept(&spool, &store, &twice, vec![remote("x@elsewhere.test")], &bytes);
    ticket.wait().unwrap();
    for account in &all {
        assert_eq!(contents(&store, *account), vec![bytes.clone()]);
    }
    store.checkpoint().unwrap();
    let check = store.check(&mut |_, _| {}).unwrap();
    assert_eq!(check.problems, Vec::<String>::new());
    assert_eq!((check.messages, check.queue_entries), (1, 1));
    let entries = spool.list(None, 10).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].recipients, vec![remote("x@elsewhere.test")]);
    assert_eq!((entries[0].message, entries[0].size), (id, 5000));
    assert!(spool.remove(id).unwrap());
    assert!(!spool.remove(id).unwrap());
    assert_eq!(spool.list(None, 10).unwrap(), Vec::new());
    // The bytes live as long as one mailbox holds them.
    for account in &all {
        assert_eq!(read(&store, id).unwrap(), bytes);
        let expunge =
            Change::Expunge { account: *account, mailbox: MailboxId::INBOX, uids: vec![1] };
        store.commit(store.lane_of(*account), vec![expunge]).wait().unwrap();
    }
    healthy(&store);
    healthy(&store);
    for _ in 0..1000 {
        if store.read(id).is_err() {
            break;
        }
        healthy(&store);
    }
    assert_eq!(store.read(id).map(|_| ()).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn a_crash_between_any_two_steps_of_a_delivery_between_lanes_delivers_once() {
    use crate::vfs::sim::{Disk, Operation};
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let all = accounts(&store);
    for account in &all {
        inbox(&store, *account);
    }
    // The state of the disk before every sync of the log, from which each opening goes on.
    let states: Arc<Mutex<Vec<Disk>>> = Arc::default();
    let (seen, source) = (states.clone(), memory.clone());
    memory.on_operation(move |operation, path| {
        if operation == Operation::Sync && path.extension().is_some_and(|e| e == "phl") {
            seen.lock().push(source.copy());
            seen.lock().push(source.after_power_cut());
        }
        Ok(())
    });
    let bytes = pattern(700, 2);
    let (id, ticket) = accept(&spool, &store, &all, vec![remote("x@elsewhere.test")], &bytes);
    ticket.wait().unwrap();
    store.close().unwrap();
    memory.forget_hook();
    let states = std::mem::take(&mut *states.lock());
    assert!(states.len() >= 8, "{}", states.len());
    for (number, state) in states.iter().enumerate() {
        let fs: Arc<dyn Fs> = Arc::new(state.clone());
        for _ in 0..2 {
            let store = open(&fs, &dir);
            let spool = Spool::open(&store).unwrap();
            let found: Vec<usize> = all.iter().map(|a| contents(&store, *a).len()).collect();
            let entries = spool.list(None, 10).unwrap();
            match entries.as_slice() {
                [] => assert_eq!(found, vec![0; all.len()], "state {number}"),
                [entry] => {
                    assert_eq!(found, vec![1; all.len()], "state {number}");
                    assert_eq!(entry.message, id);
                }
                _ => panic!("state {number}: {entries:?}"),
            }
            healthy(&store);
            store.close().unwrap();
        }
    }
}

#[test]
fn an_account_that_was_removed_meanwhile_does_not_jam_the_queue() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let all = accounts(&store);
    inbox(&store, all[0]);
    inbox(&store, all[1]);
    let (id, ticket) = accept(&spool, &store, &all[..3], Vec::new(), b"hello");
    ticket.wait().unwrap();
    assert_eq!(contents(&store, all[0]), vec![b"hello".to_vec()]);
    assert_eq!(contents(&store, all[1]), vec![b"hello".to_vec()]);
    healthy(&store);
    store.close().unwrap();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    assert_eq!(spool.list(None, 10).unwrap(), Vec::new());
    assert_eq!(read(&store, id).unwrap(), b"hello");
    healthy(&store);
}

#[test]
fn relayed_messages_rotate_over_the_lanes_and_are_listed_in_pages() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let mut ids = Vec::new();
    for n in 0..20 {
        let (id, ticket) = accept(&spool, &store, &[], vec![remote("x@y.test")], &pattern(n, 3));
        ticket.wait().unwrap();
        ids.push(id);
    }
    ids.sort();
    assert_eq!(ids.iter().map(|id| id.lane()).collect::<std::collections::BTreeSet<_>>().len(), 4);
    let mut listed = Vec::new();
    while let Some(entry) = spool.list(listed.last().copied(), 3).unwrap().first() {
        let page = spool.list(listed.last().copied(), 3).unwrap();
        assert_eq!(page[0], *entry);
        listed.extend(page.iter().map(|e| e.message));
    }
    assert_eq!(listed, ids);
    healthy(&store);
}

#[test]
fn a_message_without_recipients_is_refused() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let (_, ticket) = accept(&spool, &store, &[], Vec::new(), b"x");
    assert_eq!(ticket.wait().unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn entries_that_are_removed_while_deliveries_end_block_no_lane() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let all = accounts(&store);
    for account in &all {
        inbox(&store, *account);
    }
    let (done, answer) = std::sync::mpsc::channel();
    let (to_remove, ids) = std::sync::mpsc::channel::<MessageId>();
    {
        let spool = spool.clone();
        std::thread::spawn(move || {
            let removed = ids.iter().filter(|id| spool.remove(*id).unwrap()).count();
            done.send(removed)
        });
    }
    let (sender, to) = (store.clone(), all.clone());
    std::thread::spawn(move || {
        for n in 0..300_u32 {
            let home = n as usize % to.len();
            let mut locals = to.clone();
            locals.rotate_left(home);
            let remotes = vec![remote("x@elsewhere.test")];
            let (id, ticket) = accept(&spool, &sender, &locals, remotes, b"hello");
            to_remove.send(id).unwrap();
            ticket.wait().unwrap();
            to_remove.send(id).unwrap();
        }
    });
    let removed = answer.recv_timeout(std::time::Duration::from_secs(30));
    assert_eq!(removed.expect("a lane stands still"), 300);
    for account in &all {
        assert_eq!(contents(&store, *account).len(), 300);
    }
    assert_eq!(store.queue_scan(None, 10).unwrap(), Vec::new());
    healthy(&store);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn removing_an_entry_whose_last_step_fails_keeps_the_bytes_that_mailboxes_hold() {
    let (_, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let all = accounts(&store);
    // As it stands on disk when the other lane has delivered and the home lane has not counted it.
    let id = store.new_message_id(Lane(0));
    let body = put_body(&store, id, b"hello");
    inbox(&store, all[1]);
    let here = RecipientState::Local(all[1], MailboxId::INBOX);
    let local = QueueRecipient { state: here, ..remote("") };
    let queue = vec![remote("x@y.test"), local.clone()];
    let new = NewMessage { id, envelope: envelope(), body, deliver: Vec::new(), queue };
    store.commit(Lane(0), vec![Change::Message(new)]).wait().unwrap();
    let remains = Remains { recipients: vec![remote("x@y.test")], settled: true };
    spool.crossings.lock().insert(id, remains);
    let remover = spool.clone();
    let removing = std::thread::spawn(move || remover.remove(id));
    std::thread::sleep(std::time::Duration::from_millis(100));
    // The step fails.
    spool.crossings.lock().remove(&id);
    assert!(removing.join().unwrap().unwrap());
    assert_eq!(store.queue_entry(id).unwrap().unwrap().recipients, vec![local]);
}
