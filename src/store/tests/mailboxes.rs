//! Flags and moves: what they change, what they leave, what a group of them does.

use std::collections::BTreeMap;

use super::*;
use crate::vfs::Fs;

const OTHER: MailboxId = MailboxId(2);

/// Makes an account's mailbox 2.
pub(super) fn second(store: &Store, account: AccountId) {
    let name = "Other".into();
    let change = Change::CreateMailbox { account, mailbox: OTHER, name, uid_validity: 8 };
    store.commit(store.lane_of(account), vec![change]).wait().unwrap();
}

fn flags(mailbox: MailboxId, uids: &[u32], add: u32, remove: u32) -> Change {
    Change::Flags { account: A, mailbox, uids: uids.to_vec(), add, remove }
}

fn moved(from: MailboxId, to: MailboxId, uids: &[u32]) -> Change {
    Change::Move { account: A, from, to, uids: uids.to_vec() }
}

fn expunge(mailbox: MailboxId, uids: &[u32]) -> Change {
    Change::Expunge { account: A, mailbox, uids: uids.to_vec() }
}

fn arrival(store: &Store, mailbox: MailboxId, bytes: &[u8]) -> Change {
    let id = store.new_message_id(store.lane_of(A));
    let body = put_body(store, id, bytes);
    let deliver = vec![(A, mailbox)];
    Change::Message(NewMessage { id, envelope: envelope(), body, deliver, queue: Vec::new() })
}

fn run(store: &Store, changes: Vec<Change>) -> Result<Committed> {
    store.commit(store.lane_of(A), changes).wait()
}

/// UID, flags, MODSEQ.
fn rows(store: &Store, mailbox: MailboxId) -> Vec<(u32, u32, u64)> {
    let rows = store.mailbox_scan(A, mailbox, 0, usize::MAX).unwrap();
    rows.iter().map(|row| (row.uid, row.flags, row.modseq)).collect()
}

fn head(store: &Store, mailbox: MailboxId) -> MailboxHead {
    let heads = store.mailboxes(A).unwrap();
    heads.into_iter().find(|head| head.mailbox == mailbox).unwrap()
}

/// A store with two mailboxes and so many messages in the first.
fn filled(count: u32) -> (Disk, Arc<dyn Fs>, PathBuf, Store) {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    inbox(&store, A);
    second(&store, A);
    let tickets: Vec<_> = (0..count).map(|n| send(&store, A, &pattern(10, n))).collect();
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    (memory, fs, dir, store)
}

/// The store opened again, and made again from its log alone, shows the same.
fn stays(memory: &Disk, dir: &Path, store: &Store) {
    let all = |store: &Store| {
        let rows = |m| store.mailbox_scan(A, MailboxId(m), 0, usize::MAX).unwrap();
        (store.mailboxes(A).unwrap(), rows(1), rows(2))
    };
    let before = all(store);
    healthy(store);
    for lost in [false, true] {
        let state = memory.copy();
        if lost {
            for lane in 0..4 {
                state.remove_file(&dir.join(format!("index/{lane:02x}.redb"))).unwrap();
            }
        }
        let again = open(&shared(&state), dir);
        assert_eq!(again.recovery_report().damage, Vec::<String>::new());
        assert!(all(&again) == before, "index lost: {lost}");
        healthy(&again);
    }
}

#[test]
fn flags_are_cleared_then_set_and_only_what_changes_gets_the_new_modseq() {
    let (memory, _, dir, store) = filled(3);
    assert_eq!(rows(&store, MailboxId::INBOX), [(1, 0, 2), (2, 0, 3), (3, 0, 4)]);
    run(&store, vec![flags(MailboxId::INBOX, &[1, 3], 0b101, 0)]).unwrap();
    assert_eq!(rows(&store, MailboxId::INBOX), [(1, 5, 5), (2, 0, 3), (3, 5, 5)]);
    // A bit in both is set.
    run(&store, vec![flags(MailboxId::INBOX, &[1, 2, 3], 0b1, 0b11)]).unwrap();
    assert_eq!(rows(&store, MailboxId::INBOX), [(1, 5, 5), (2, 1, 6), (3, 5, 5)]);
    // All ones: replaced.
    run(&store, vec![flags(MailboxId::INBOX, &[1, 2, 3], 0b10, u32::MAX)]).unwrap();
    assert_eq!(rows(&store, MailboxId::INBOX), [(1, 2, 7), (2, 2, 7), (3, 2, 7)]);
    assert_eq!(head(&store, MailboxId::INBOX).highest_modseq, 7);
    stays(&memory, &dir, &store);
}

#[test]
fn a_flag_change_that_changes_nothing_writes_nothing_and_takes_no_modseq() {
    let (_, _, _, store) = filled(2);
    run(&store, vec![flags(MailboxId::INBOX, &[1], 1, 0)]).unwrap();
    let (before, bytes) = (head(&store, MailboxId::INBOX), store.stats().log_bytes);
    for change in [
        flags(MailboxId::INBOX, &[1], 1, 0),
        flags(MailboxId::INBOX, &[1, 2], 0, 0b110),
        flags(MailboxId::INBOX, &[1], 1, u32::MAX),
        flags(MailboxId::INBOX, &[], 1, 0),
        flags(MailboxId::INBOX, &[0, 3, u32::MAX], 1, 0),
        flags(MailboxId(77), &[1], 1, 0),
        Change::Flags {
            account: AccountId(77),
            mailbox: MailboxId::INBOX,
            uids: vec![1],
            add: 1,
            remove: 0,
        },
    ] {
        let lane = match &change {
            Change::Flags { account, .. } => store.lane_of(*account),
            _ => unreachable!(),
        };
        assert_eq!(store.commit(lane, vec![change]).wait().unwrap().uids, Vec::<u32>::new());
    }
    assert_eq!(head(&store, MailboxId::INBOX), before);
    assert_eq!(store.stats().log_bytes, bytes);
}

#[test]
fn uids_that_are_not_there_are_ignored_in_a_flag_change() {
    let (memory, _, dir, store) = filled(200);
    run(&store, vec![expunge(MailboxId::INBOX, &(50..150).collect::<Vec<_>>())]).unwrap();
    let uids: Vec<u32> = (0..1000).filter(|uid| uid % 2 == 0).collect();
    run(&store, vec![flags(MailboxId::INBOX, &uids, 8, 0)]).unwrap();
    for (uid, flags, modseq) in rows(&store, MailboxId::INBOX) {
        assert_eq!(flags == 8, uid % 2 == 0, "UID {uid}");
        assert_eq!(modseq == 203, uid % 2 == 0, "UID {uid}");
    }
    assert_eq!(rows(&store, MailboxId::INBOX).len(), 100);
    stays(&memory, &dir, &store);
}

#[test]
fn uids_that_do_not_rise_are_refused_by_name() {
    let (_, _, _, store) = filled(3);
    let before = (head(&store, MailboxId::INBOX), rows(&store, MailboxId::INBOX));
    for uids in [&[2, 1][..], &[1, 1], &[1, 3, 2]] {
        let refused = run(&store, vec![flags(MailboxId::INBOX, uids, 1, 0)]).unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidArgument);
        assert!(refused.to_string().contains("UIDs to flag"), "{refused}");
        let refused = run(&store, vec![moved(MailboxId::INBOX, OTHER, uids)]).unwrap_err();
        assert_eq!(refused.kind(), Kind::InvalidArgument);
        assert!(refused.to_string().contains("UIDs to move"), "{refused}");
    }
    assert_eq!((head(&store, MailboxId::INBOX), rows(&store, MailboxId::INBOX)), before);
}

#[test]
fn moved_messages_keep_what_they_are_and_get_the_next_uids() {
    let (memory, _, dir, store) = filled(5);
    run(&store, vec![arrival(&store, OTHER, b"there before")]).unwrap();
    run(&store, vec![flags(MailboxId::INBOX, &[2, 4], 3, 0)]).unwrap();
    let old = store.mailbox_scan(A, MailboxId::INBOX, 0, 100).unwrap();
    let (first, other) = (head(&store, MailboxId::INBOX), head(&store, OTHER));
    let answer = run(&store, vec![moved(MailboxId::INBOX, OTHER, &[1, 4, 5, 9])]).unwrap();
    assert_eq!(answer.uids, [2, 3, 4, 0]);
    let kept: Vec<_> = rows(&store, MailboxId::INBOX).iter().map(|row| row.0).collect();
    assert_eq!(kept, [2, 3]);
    let new = store.mailbox_scan(A, OTHER, 1, 100).unwrap();
    let modseq = other.highest_modseq + 1;
    for (row, (uid, was)) in new.iter().zip([(2, old[0]), (3, old[3]), (4, old[4])]) {
        assert_eq!(*row, MessageRow { uid, modseq, ..was });
        assert!(read(&store, row.message).is_ok());
    }
    assert_eq!(new.len(), 3);
    let (first_now, other_now) = (head(&store, MailboxId::INBOX), head(&store, OTHER));
    assert_eq!(first_now.highest_modseq, first.highest_modseq + 1);
    assert_eq!((other_now.highest_modseq, other_now.uid_next), (modseq, 5));
    assert_eq!((first_now.messages, first_now.bytes), (2, 20));
    assert_eq!((other_now.messages, other_now.bytes), (4, 42));
    // Once moved, they are not there to be moved or flagged.
    let answer = run(&store, vec![moved(MailboxId::INBOX, OTHER, &[1, 4])]).unwrap();
    assert_eq!(answer.uids, [0, 0]);
    assert_eq!(head(&store, OTHER), other_now);
    stays(&memory, &dir, &store);
    // The last holder is the new one.
    run(&store, vec![expunge(OTHER, &[2])]).unwrap();
    assert_eq!(read(&store, old[0].message).unwrap_err().kind(), Kind::NotFound);
    stays(&memory, &dir, &store);
}

#[test]
fn a_move_within_a_mailbox_gives_new_uids_and_one_modseq() {
    let (memory, _, dir, store) = filled(70);
    run(&store, vec![flags(MailboxId::INBOX, &[69, 70], 4, 0)]).unwrap();
    let modseq = head(&store, MailboxId::INBOX).highest_modseq + 1;
    let answer = run(&store, vec![moved(MailboxId::INBOX, MailboxId::INBOX, &[1, 70])]).unwrap();
    assert_eq!(answer.uids, [71, 72]);
    let found = rows(&store, MailboxId::INBOX);
    assert_eq!(found[67..], [(69, 4, modseq - 1), (71, 0, modseq), (72, 4, modseq)]);
    let head = head(&store, MailboxId::INBOX);
    assert_eq!((head.messages, head.bytes, head.uid_next), (70, 700, 73));
    assert_eq!(head.highest_modseq, modseq);
    stays(&memory, &dir, &store);
}

#[test]
fn a_move_to_a_mailbox_that_is_not_there_is_refused_and_from_one_moves_nothing() {
    let (_, _, _, store) = filled(2);
    let before = rows(&store, MailboxId::INBOX);
    let refused = run(&store, vec![moved(MailboxId::INBOX, MailboxId(9), &[1])]).unwrap_err();
    assert_eq!(refused.kind(), Kind::NotFound);
    assert!(refused.to_string().contains("no mailbox 9"), "{refused}");
    let bytes = store.stats().log_bytes;
    let answer = run(&store, vec![moved(MailboxId(9), OTHER, &[1, 2])]).unwrap();
    assert_eq!(answer.uids, [0, 0]);
    assert_eq!(store.stats().log_bytes, bytes);
    assert_eq!(rows(&store, MailboxId::INBOX), before);
}

#[test]
fn a_transaction_sees_its_own_changes() {
    let (memory, _, dir, store) = filled(2);
    let changes = vec![
        arrival(&store, MailboxId::INBOX, b"three"),
        flags(MailboxId::INBOX, &[2, 3], 1, 0),
        moved(MailboxId::INBOX, OTHER, &[1, 3]),
        flags(MailboxId::INBOX, &[1, 3], 8, 0),
        flags(OTHER, &[2], 2, 0),
        moved(OTHER, MailboxId::INBOX, &[2]),
        expunge(OTHER, &[1]),
        moved(OTHER, MailboxId::INBOX, &[1]),
    ];
    let answer = run(&store, changes).unwrap();
    assert_eq!(answer.uids, [3, 1, 2, 4, 0]);
    let found: Vec<_> = rows(&store, MailboxId::INBOX).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(found, [(2, 1), (4, 3)]);
    assert_eq!(rows(&store, OTHER), []);
    stays(&memory, &dir, &store);
    let name = "INBOX".into();
    let changes = vec![
        Change::RemoveMailboxes { account: A },
        Change::CreateMailbox { account: A, mailbox: MailboxId::INBOX, name, uid_validity: 9 },
        flags(MailboxId::INBOX, &[2, 4], 16, 0),
        moved(MailboxId::INBOX, MailboxId::INBOX, &[2, 4]),
        arrival(&store, MailboxId::INBOX, b"new"),
        flags(MailboxId::INBOX, &[1, 2], 16, 0),
    ];
    assert_eq!(run(&store, changes).unwrap().uids, [0, 0, 1]);
    assert_eq!(rows(&store, MailboxId::INBOX), [(1, 16, 3)]);
    stays(&memory, &dir, &store);
}

/// Transactions that share a group see each other: the first holds the committer until all wait.
#[test]
fn transactions_of_a_group_see_the_ones_before() {
    let (memory, _, dir, store) = filled(3);
    let lane = store.lane_of(A);
    let (leave, left) = std::sync::mpsc::channel::<()>();
    store.commit_then(lane, vec![flags(MailboxId::INBOX, &[1], 1, 0)], move |_| {
        let _ = left.recv();
    });
    let groups = store.stats().groups;
    let transactions = vec![
        vec![arrival(&store, MailboxId::INBOX, b"four")],
        vec![flags(MailboxId::INBOX, &[1, 4], 1, 0)],
        // Nothing changes: no record.
        vec![flags(MailboxId::INBOX, &[1, 4], 1, 0)],
        vec![moved(MailboxId::INBOX, OTHER, &[2, 4])],
        // Refused as a whole: the flags are not set, the UIDs not given.
        vec![
            flags(MailboxId::INBOX, &[3], 4, 0),
            moved(MailboxId::INBOX, OTHER, &[3]),
            moved(MailboxId::INBOX, MailboxId(9), &[1]),
        ],
        vec![moved(MailboxId::INBOX, OTHER, &[2, 3, 4])],
        vec![expunge(OTHER, &[1])],
        vec![flags(OTHER, &[1, 2, 3], 16, 0)],
    ];
    let tickets: Vec<_> =
        transactions.into_iter().map(|changes| store.commit(lane, changes)).collect();
    leave.send(()).unwrap();
    let answers: Vec<_> =
        tickets.into_iter().map(|t| t.wait().map(|c| c.uids).map_err(|e| e.kind())).collect();
    let none = || Ok(Vec::new());
    let expected = vec![
        Ok(vec![4]),
        none(),
        none(),
        Ok(vec![1, 2]),
        Err(Kind::NotFound),
        Ok(vec![0, 3, 0]),
        none(),
        none(),
    ];
    assert_eq!(answers, expected);
    assert!(store.stats().groups <= groups + 2, "they shared a group");
    let found: Vec<_> = rows(&store, OTHER).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(found, [(2, 17), (3, 16)]);
    let found: Vec<_> = rows(&store, MailboxId::INBOX).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(found, [(1, 1)]);
    stays(&memory, &dir, &store);
}

#[test]
fn many_messages_move_in_records_of_bounded_size_and_stay_in_order() {
    let (memory, _, dir, store) = filled(700);
    run(&store, vec![arrival(&store, OTHER, b"there before")]).unwrap();
    let uids: Vec<u32> = (1..=700).filter(|uid| uid % 7 != 0).collect();
    let answer = run(&store, vec![moved(MailboxId::INBOX, OTHER, &uids)]).unwrap();
    assert_eq!(answer.uids, (2..602).collect::<Vec<u32>>());
    let found = store.mailbox_scan(A, OTHER, 1, usize::MAX).unwrap();
    for (row, n) in found.iter().zip(&uids) {
        assert_eq!(read(&store, row.message).unwrap(), pattern(10, n - 1));
    }
    assert_eq!(rows(&store, MailboxId::INBOX).len(), 100);
    stays(&memory, &dir, &store);
    // And they take what comes behind them.
    assert_eq!(run(&store, vec![arrival(&store, OTHER, b"x")]).unwrap().uids, [602]);
    stays(&memory, &dir, &store);
}

#[test]
fn more_uids_than_a_record_holds_are_split_over_several() {
    use crate::store::index::{Batch, Changes, IndexView, Pair, Visit};
    use crate::store::plan::Planner;
    use crate::store::record::{MAX_SMALL, Record};
    use std::ops::Bound;

    struct Tables(BTreeMap<(Space, Vec<u8>), Vec<u8>>);
    impl IndexView for Tables {
        fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(self.0.get(&(space, key.to_vec())).cloned())
        }
        fn range(
            &self,
            s: Space,
            from: Bound<&[u8]>,
            _: Bound<&[u8]>,
            visit: Visit<'_>,
        ) -> Result<()> {
            let Bound::Included(from) = from else { unreachable!() };
            for ((space, key), value) in self.0.range((s, from.to_vec())..) {
                if *space != s || !visit(key, value) {
                    break;
                }
            }
            Ok(())
        }
        fn last_at_or_before(&self, space: Space, key: &[u8]) -> Result<Option<Pair>> {
            let range = (space, Vec::new())..=(space, key.to_vec());
            Ok(self.0.range(range).next_back().map(|((_, k), v)| (k.clone(), v.clone())))
        }
    }
    let count = (MAX_SMALL / 16) as u32 + 10;
    let mut tables = BTreeMap::new();
    for mailbox in [MailboxId::INBOX, OTHER] {
        let head = row::Head {
            uid_validity: 1,
            uid_next: if mailbox == OTHER { 1 } else { count + 1 },
            highest_modseq: 5,
            messages: 0,
            bytes: 0,
            last_pack: 0,
            name: String::new(),
        };
        tables.insert((Space::Head, row::mailbox_key(A, mailbox)), head.encode());
    }
    let all: Vec<u32> = (1..=count).collect();
    for uids in all.chunks(64) {
        let row = |uid: &u32| MessageRow {
            uid: *uid,
            message: MessageId(u64::from(*uid)),
            size: 1,
            received: 1,
            modseq: 1,
            envelope_flags: 0,
            flags: 0,
        };
        let rows: Vec<_> = uids.iter().map(row).collect();
        let key = row::pack_key(A, MailboxId::INBOX, uids[0]);
        tables.insert((Space::Pack, key), row::encode_pack(&rows));
    }
    let tables = Tables(tables);
    let batch = Batch::over(&tables, Changes::new());
    let mut planner = Planner::new(&batch, Lane(0));
    let planned = planner
        .plan(vec![flags(MailboxId::INBOX, &all, 1, 0), moved(MailboxId::INBOX, OTHER, &all)])
        .unwrap();
    assert_eq!(planned.uids, all);
    let (mut flagged, mut went) = (Vec::new(), Vec::new());
    for (record, _) in &planned.records {
        let mut body = Vec::new();
        record.encode(&mut body);
        assert!(body.len() <= MAX_SMALL);
        match record {
            Record::Flags { uids, modseq: 6, .. } => flagged.extend_from_slice(uids),
            Record::Move { pairs, from_modseq: 7, to_modseq: 6, .. } => {
                went.extend_from_slice(pairs)
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(planned.records.len(), 4);
    assert_eq!(flagged, all);
    assert!(went.iter().copied().eq(all.iter().map(|uid| (*uid, *uid))));
}

/// Prints what flags and moves of 10,000 messages cost on a disk. Run it with `--run-ignored` and
/// `--no-capture`.
#[test]
#[ignore = "measures"]
#[allow(clippy::disallowed_methods)]
fn figures_of_flags_and_moves_on_a_disk() {
    const COUNT: u32 = 10_000;
    let scratch = Scratch::new();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    Store::create(&fs, &scratch.0, &CreateOptions { lanes: 1 }).unwrap();
    let store = Store::open(fs, SystemClock::shared(), &scratch.0, OpenOptions::default()).unwrap();
    inbox(&store, A);
    second(&store, A);
    let tickets: Vec<_> = (0..COUNT).map(|n| send(&store, A, &pattern(100, n))).collect();
    tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
    let all: Vec<u32> = (1..=COUNT).collect();
    let measure = |what: &str, transactions: Vec<Vec<Change>>| {
        store.mailboxes(A).unwrap();
        let (before, start) = (store.stats(), std::time::Instant::now());
        let tickets: Vec<_> =
            transactions.into_iter().map(|changes| store.commit(Lane(0), changes)).collect();
        let count = tickets.len();
        tickets.into_iter().for_each(|ticket| drop(ticket.wait().unwrap()));
        store.mailboxes(A).unwrap();
        let (took, after) = (start.elapsed(), store.stats());
        println!(
            "{what}: {count} transactions, {:.1} ms, {} groups, {} log bytes",
            took.as_secs_f64() * 1000.0,
            after.groups - before.groups,
            after.log_bytes - before.log_bytes
        );
    };
    measure("flag all in one", vec![vec![flags(MailboxId::INBOX, &all, 1, 0)]]);
    measure(
        "flag all in one again: nothing changes",
        vec![vec![flags(MailboxId::INBOX, &all, 1, 0)]],
    );
    let single = all.iter().map(|uid| vec![flags(MailboxId::INBOX, &[*uid], 2, 0)]);
    measure("flag each by itself", single.collect());
    measure("move all in one", vec![vec![moved(MailboxId::INBOX, OTHER, &all)]]);
    let single = all.iter().map(|uid| vec![moved(OTHER, MailboxId::INBOX, &[*uid])]);
    measure("move each by itself", single.collect());
    healthy(&store);
}
