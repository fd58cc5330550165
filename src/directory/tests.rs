//! Tests of the directory, and [`MemoryRows`]: durable tables for tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Tables in memory that survive a new [`Directory`], and whose writes fail when told to.
#[derive(Default)]
pub(crate) struct MemoryRows {
    tables: Mutex<BTreeMap<(Table, Vec<u8>), Vec<u8>>>,
    /// Writes that still succeed; `None`: all do.
    left: Mutex<Option<usize>>,
    writes: AtomicUsize,
}

impl MemoryRows {
    /// Lets `writes` more writes succeed and every one after them fail; `None` lets all succeed.
    pub(crate) fn fail_after(&self, writes: Option<usize>) {
        *self.left.lock() = writes;
    }

    fn spend(&self) -> Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        match self.left.lock().as_mut() {
            Some(0) => Err(Error::new(Kind::DiskFull, "no space for the row")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn copy(&self) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
        self.tables.lock().clone()
    }
}

impl Rows for MemoryRows {
    fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<()> {
        self.spend()?;
        self.tables.lock().insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }
    fn delete(&self, table: Table, key: &[u8]) -> Result<()> {
        self.spend()?;
        self.tables.lock().remove(&(table, key.to_vec()));
        Ok(())
    }
    fn scan(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let tables = self.tables.lock();
        let of_table = tables.iter().filter(|((t, _), _)| *t == table);
        Ok(of_table.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

/// 2025-11-21, in milliseconds.
const NOW: u64 = 1_763_700_000_000;

fn load(rows: &Arc<MemoryRows>) -> Directory {
    Directory::load_with_cost(rows.clone(), PasswordCost::LEAST).unwrap()
}

/// Domains `example.test` and `second.test`, and postmaster as set-up makes it.
fn house() -> (Arc<MemoryRows>, Directory) {
    let rows = Arc::new(MemoryRows::default());
    let directory = load(&rows);
    directory.add_domain("example.test").unwrap();
    directory.add_domain("second.test").unwrap();
    add(&directory, &["postmaster@example.test"], None).unwrap();
    (rows, directory)
}

fn new_account(addresses: &[&str], login: Option<&str>) -> NewAccount {
    NewAccount {
        addresses: addresses.iter().map(|a| a.to_string()).collect(),
        login: login.map(str::to_owned),
        password: "correct horse".to_owned(),
    }
}

fn add(directory: &Directory, addresses: &[&str], login: Option<&str>) -> Result<Account> {
    directory.add_account(&new_account(addresses, login), NOW, &mut |_| Ok(()))
}

fn add_alias(directory: &Directory, address: &str, targets: &[&str]) -> Result<()> {
    directory.add_alias(&Alias {
        address: address.to_owned(),
        targets: targets.iter().map(|t| t.to_string()).collect(),
    })
}

fn resolve(directory: &Directory, address: &str) -> Resolution {
    directory.resolve(&Address::parse(address.as_bytes(), true).expect(address))
}

/// The numbers and texts that an address delivers to.
fn delivery(directory: &Directory, address: &str) -> (Vec<u32>, Vec<String>) {
    match resolve(directory, address) {
        Resolution::Deliver { accounts, remotes } => (
            accounts.into_iter().map(|id| id.0).collect(),
            remotes.iter().map(|a| String::from_utf8_lossy(a.as_bytes()).into_owned()).collect(),
        ),
        other => panic!("{address}: {other:?}"),
    }
}

fn kind<T>(result: Result<T>) -> Kind {
    result.err().expect("an error").kind()
}

#[test]
fn domains_are_folded_sorted_and_unique() {
    let (rows, directory) = house();
    assert_eq!(kind(directory.add_domain("EXAMPLE.Test.")), Kind::Exists);
    directory.add_domain("Another.Example").unwrap();
    assert_eq!(directory.domains(), ["another.example", "example.test", "second.test"]);
    assert_eq!(load(&rows).domains(), directory.domains());
}

#[test]
fn a_domain_name_that_cannot_be_is_refused() {
    let (_, directory) = house();
    let long_label = format!("{}.test", "a".repeat(64));
    let long_name = format!("{}test", "abcdefg.".repeat(32));
    for bad in [
        "",
        ".",
        "a..b",
        ".a",
        "-a.test",
        "a-.test",
        "a_b.test",
        "a b.test",
        "a@b.test",
        "[192.0.2.1]",
        "192.0.2.1",
        "a.test\r\n",
        &long_label,
        &long_name,
        "a\u{0}.test",
        "ex/../a",
    ] {
        assert_eq!(kind(directory.add_domain(bad)), Kind::InvalidArgument, "{bad:?}");
    }
    assert_eq!(directory.domains().len(), 2);
    for good in ["localhost", "a-b.test", "3com.test", "müller.test", "xn--mller-kva.test"] {
        directory.add_domain(good).expect(good);
    }
}

#[test]
fn an_account_is_found_by_each_of_its_addresses_in_any_case() {
    let (rows, directory) = house();
    let made = add(&directory, &["Carol.Long@Example.test", "c@second.test"], None).unwrap();
    assert_eq!(made.login, "Carol.Long@Example.test");
    for directory in [&directory, &load(&rows)] {
        for address in [
            "Carol.Long@Example.test",
            "carol.long@EXAMPLE.TEST",
            "\"carol.long\"@example.test",
            "C@second.test",
        ] {
            assert_eq!(delivery(directory, address), (vec![made.id.0], vec![]), "{address}");
            assert_eq!(directory.account(address).unwrap().as_ref(), &made, "{address}");
        }
        assert_eq!(resolve(directory, "dave@example.test"), Resolution::Unknown);
        assert_eq!(resolve(directory, "carol.long@elsewhere.test"), Resolution::Foreign);
        assert_eq!(resolve(directory, "carol.long@[192.0.2.1]"), Resolution::Foreign);
    }
}

#[test]
fn an_address_belongs_to_one_account_or_alias() {
    let (_, directory) = house();
    add(&directory, &["a@example.test", "b@example.test"], None).unwrap();
    add_alias(&directory, "info@example.test", &["a@example.test"]).unwrap();
    for taken in ["A@example.test", "b@example.test", "\"b\"@example.test", "INFO@example.test"] {
        assert_eq!(kind(add(&directory, &["new@example.test", taken], Some("n"))), Kind::Exists);
        assert_eq!(kind(add_alias(&directory, taken, &["x@y.test"])), Kind::Exists, "{taken}");
    }
    assert_eq!(
        kind(add(&directory, &["new@example.test", "New@example.test"], None)),
        Kind::InvalidArgument
    );
}

#[test]
fn login_names_and_primary_addresses_are_one_set() {
    let (_, directory) = house();
    add(&directory, &["a@example.test", "second@example.test"], Some("Anna")).unwrap();
    assert_eq!(kind(add(&directory, &["b@example.test"], Some("aNNa"))), Kind::Exists);
    assert_eq!(kind(add(&directory, &["b@example.test"], Some("A@EXAMPLE.test"))), Kind::Exists);
    add(&directory, &["b@example.test"], Some("c@example.test")).unwrap();
    assert_eq!(kind(add(&directory, &["c@example.test"], Some("carl"))), Kind::Exists);
}

#[test]
fn accounts_that_do_not_fit_the_rules_are_refused() {
    let (_, directory) = house();
    assert_eq!(kind(add(&directory, &[], None)), Kind::InvalidArgument);
    assert_eq!(kind(add(&directory, &["no address"], Some("x"))), Kind::Address);
    assert_eq!(kind(add(&directory, &["postmaster"], Some("x"))), Kind::Address);
    assert_eq!(kind(add(&directory, &["a@elsewhere.test"], None)), Kind::NotFound);
    for login in ["", " a", "a ", "a\nb", &"x".repeat(LOGIN_MAX + 1)] {
        let result = add(&directory, &["a@example.test"], Some(login));
        assert_eq!(kind(result), Kind::InvalidArgument, "{login:?}");
    }
    add(&directory, &["a@example.test"], Some(&"x".repeat(LOGIN_MAX))).unwrap();
    let mut same = new_account(&["b@example.test"], Some("Login Name"));
    same.password = "login name".to_owned();
    assert_eq!(kind(directory.add_account(&same, NOW, &mut |_| Ok(()))), Kind::Password);
    let many: Vec<String> = (0..=ADDRESSES_MAX).map(|n| format!("m{n}@example.test")).collect();
    let many = NewAccount { addresses: many, login: None, password: "correct horse".to_owned() };
    assert_eq!(kind(directory.add_account(&many, NOW, &mut |_| Ok(()))), Kind::Limit);
    assert_eq!(directory.accounts().len(), 2);
}

#[test]
fn a_login_is_verified_by_name_or_primary_address() {
    let (rows, directory) = house();
    let anna =
        add(&directory, &["a@example.test", "second@example.test"], Some("Anna Smith")).unwrap();
    for directory in [&directory, &load(&rows)] {
        for login in ["Anna Smith", "anna smith", "A@Example.TEST"] {
            assert_eq!(directory.verify(login, "correct horse").unwrap().id, anna.id, "{login}");
            assert!(directory.verify(login, "correct horsE").is_none());
        }
        for login in ["second@example.test", "anna", "", "nobody"] {
            assert!(directory.verify(login, "correct horse").is_none(), "{login}");
            assert!(directory.verify(login, "").is_none());
        }
    }
}

#[test]
fn the_default_cost_verifies_too_and_old_hashes_stay_good() {
    let (rows, directory) = house();
    add(&directory, &["a@example.test"], None).unwrap();
    let directory = Directory::load(rows).unwrap();
    assert!(directory.verify("a@example.test", "correct horse").is_some());
    directory.set_password("a@example.test", "battery staple").unwrap();
    assert!(directory.verify("a@example.test", "battery staple").is_some());
    assert!(directory.verify("nobody", "battery staple").is_none());
}

#[test]
fn a_new_password_replaces_the_old_one() {
    let (rows, directory) = house();
    add(&directory, &["a@example.test", "b@example.test"], Some("anna")).unwrap();
    directory.set_password("B@example.test", "battery staple").unwrap();
    for directory in [&directory, &load(&rows)] {
        assert!(directory.verify("anna", "battery staple").is_some());
        assert!(directory.verify("anna", "correct horse").is_none());
    }
    assert_eq!(kind(directory.set_password("b@example.test", "short")), Kind::Password);
    assert_eq!(kind(directory.set_password("b@example.test", "A@example.test")), Kind::Password);
    assert_eq!(
        kind(directory.set_password("nobody@example.test", "battery staple")),
        Kind::NotFound
    );
    assert!(directory.verify("anna", "battery staple").is_some());
}

#[test]
fn account_numbers_and_uidvalidity_are_never_given_twice() {
    let (rows, directory) = house();
    let first = add(&directory, &["a@example.test"], None).unwrap();
    assert_eq!(u64::from(first.uid_validity), NOW / 1000 + 1, "postmaster has the second before");
    directory.remove_account("a@example.test").unwrap();
    let second = add(&load(&rows), &["a@example.test"], None).unwrap();
    assert!(second.id > first.id);
    assert!(second.uid_validity > first.uid_validity);
    // The clock goes back by years, and to its beginning.
    let directory = load(&rows);
    let mut last = second;
    for (n, now) in [NOW - 90_000_000_000, 0, u64::MAX, 999].into_iter().enumerate() {
        let new = new_account(&[&format!("back{n}@example.test")], None);
        let made = directory.add_account(&new, now, &mut |_| Ok(())).unwrap();
        assert_eq!(made.id.0, last.id.0 + 1);
        assert_eq!(made.uid_validity, last.uid_validity + 1, "{now}");
        last = made;
    }
    let new = new_account(&["later@example.test"], None);
    let made = directory.add_account(&new, NOW + 3_600_000, &mut |_| Ok(())).unwrap();
    assert_eq!(u64::from(made.uid_validity), NOW / 1000 + 3600);
}

#[test]
fn the_first_uidvalidity_is_not_zero_even_at_the_epoch() {
    let rows = Arc::new(MemoryRows::default());
    let directory = load(&rows);
    directory.add_domain("example.test").unwrap();
    let made =
        directory.add_account(&new_account(&["a@example.test"], None), 0, &mut |_| Ok(())).unwrap();
    assert_eq!((made.id, made.uid_validity), (AccountId(1), 1));
}

#[test]
fn numbers_are_not_reused_when_the_counters_row_is_lost() {
    let (rows, directory) = house();
    let made = add(&directory, &["a@example.test"], None).unwrap();
    rows.tables.lock().remove(&(Table::Value, COUNTERS.to_vec())).unwrap();
    let next = add(&load(&rows), &["b@example.test"], None).unwrap();
    assert!(next.id > made.id);
    assert!(next.uid_validity > made.uid_validity);
}

#[test]
fn prepare_runs_before_the_account_is_visible_and_its_failure_leaves_nothing() {
    let (rows, directory) = house();
    let new = new_account(&["a@example.test"], None);
    let mut seen = None;
    directory
        .add_account(&new, NOW, &mut |account| {
            assert!(directory.account("a@example.test").is_none());
            assert_eq!(load(&rows).accounts().len(), 1);
            seen = Some(account.clone());
            Ok(())
        })
        .unwrap();
    assert_eq!(seen.as_ref(), directory.account("a@example.test").as_deref());

    let new = new_account(&["b@example.test"], None);
    let failed = directory.add_account(&new, NOW, &mut |_| Err(Error::new(Kind::Io, "no INBOX")));
    assert_eq!(kind(failed), Kind::Io);
    assert!(directory.account("b@example.test").is_none());
    assert!(load(&rows).account("b@example.test").is_none());
    let made = add(&directory, &["b@example.test"], None).unwrap();
    assert_eq!(made.id.0, seen.unwrap().id.0 + 2, "the number of the failed account is not reused");
}

#[test]
fn a_write_that_fails_leaves_nothing_visible() {
    let (rows, directory) = house();
    add(&directory, &["a@example.test"], None).unwrap();
    add_alias(&directory, "info@example.test", &["a@example.test"]).unwrap();
    let before = rows.copy();

    rows.fail_after(Some(0));
    assert_eq!(kind(directory.add_domain("third.test")), Kind::DiskFull);
    assert_eq!(kind(add(&directory, &["b@example.test"], None)), Kind::DiskFull);
    assert_eq!(kind(directory.remove_account("a@example.test")), Kind::DiskFull);
    assert_eq!(kind(directory.set_password("a@example.test", "battery staple")), Kind::DiskFull);
    assert_eq!(kind(add_alias(&directory, "x@example.test", &["a@example.test"])), Kind::DiskFull);
    assert_eq!(kind(directory.remove_alias("info@example.test")), Kind::DiskFull);
    assert_eq!(rows.copy(), before);
    // The counters' write succeeds, the account's does not.
    rows.fail_after(Some(1));
    let mut prepared = None;
    let new = new_account(&["b@example.test"], None);
    let result = directory.add_account(&new, NOW, &mut |account| {
        prepared = Some(account.id);
        Ok(())
    });
    assert_eq!(kind(result), Kind::DiskFull);

    rows.fail_after(None);
    for directory in [&directory, &load(&rows)] {
        assert_eq!(directory.domains(), ["example.test", "second.test"]);
        assert_eq!(directory.accounts().len(), 2);
        assert_eq!(directory.aliases().len(), 1);
        assert_eq!(resolve(directory, "b@example.test"), Resolution::Unknown);
        assert_eq!(delivery(directory, "info@example.test"), (vec![2], vec![]));
        assert!(directory.verify("a@example.test", "correct horse").is_some());
        assert!(directory.verify("a@example.test", "battery staple").is_none());
    }
    assert!(add(&directory, &["b@example.test"], None).unwrap().id > prepared.unwrap());
}

#[test]
fn postmaster_always_resolves_and_cannot_be_removed() {
    let (rows, directory) = house();
    for directory in [&directory, &load(&rows)] {
        for address in
            ["postmaster", "PostMaster", "postmaster@example.test", "POSTMASTER@Second.Test"]
        {
            assert_eq!(delivery(directory, address), (vec![1], vec![]), "{address}");
        }
        assert_eq!(resolve(directory, "postmaster@elsewhere.test"), Resolution::Foreign);
        assert_eq!(kind(directory.remove_account("Postmaster@example.test")), Kind::Refused);
        assert_eq!(kind(directory.remove_account("postmaster")), Kind::Refused);
    }
    // Another domain may have a postmaster of its own, and lose it again.
    let own = add(&directory, &["postmaster@second.test"], None).unwrap();
    assert_eq!(delivery(&directory, "postmaster@second.test"), (vec![own.id.0], vec![]));
    assert_eq!(delivery(&directory, "postmaster"), (vec![1], vec![]));
    directory.remove_account("postmaster@second.test").unwrap();
    assert_eq!(delivery(&directory, "postmaster@second.test"), (vec![1], vec![]));
    add_alias(&directory, "postmaster@second.test", &["admin@elsewhere.test"]).unwrap();
    let away = (vec![], vec!["admin@elsewhere.test".to_owned()]);
    assert_eq!(delivery(&directory, "postmaster@second.test"), away);
    assert_eq!(delivery(&directory, "postmaster@example.test"), (vec![1], vec![]));
}

#[test]
fn an_account_is_removed_with_all_its_names() {
    let (rows, directory) = house();
    let made = add(&directory, &["a@example.test", "b@second.test"], Some("anna")).unwrap();
    assert_eq!(directory.remove_account("B@second.test").unwrap(), made);
    for directory in [&directory, &load(&rows)] {
        assert_eq!(resolve(directory, "a@example.test"), Resolution::Unknown);
        assert_eq!(resolve(directory, "b@second.test"), Resolution::Unknown);
        assert!(directory.verify("anna", "correct horse").is_none());
    }
    assert_eq!(kind(directory.remove_account("a@example.test")), Kind::NotFound);
    add(&directory, &["b@second.test", "a@example.test"], Some("Anna")).unwrap();
}

#[test]
fn aliases_lead_through_aliases_and_nobody_gets_mail_twice() {
    let (rows, directory) = house();
    let a = add(&directory, &["a@example.test", "a2@example.test"], None).unwrap().id.0;
    let b = add(&directory, &["b@example.test"], None).unwrap().id.0;
    add_alias(
        &directory,
        "both@example.test",
        &["a@example.test", "b@example.test", "A2@example.test"],
    )
    .unwrap();
    add_alias(
        &directory,
        "all@example.test",
        &[
            "both@example.test",
            "X@elsewhere.test",
            "b@example.test",
            "postmaster",
            "X@ELSEWHERE.test",
            "x@elsewhere.test",
        ],
    )
    .unwrap();
    for directory in [&directory, &load(&rows)] {
        assert_eq!(delivery(directory, "both@example.test"), (vec![a, b], vec![]));
        let remotes = vec!["X@elsewhere.test".to_owned(), "x@elsewhere.test".to_owned()];
        let (mut accounts, got) = delivery(directory, "All@example.test");
        accounts.sort_unstable();
        assert_eq!((accounts, got), (vec![1, a, b], remotes));
    }
    assert_eq!(
        directory.aliases().iter().map(|a| a.address.as_str()).collect::<Vec<_>>(),
        ["all@example.test", "both@example.test"]
    );
    assert!(directory.account("both@example.test").is_none(), "an alias is no account");
    directory.remove_alias("BOTH@example.test").unwrap();
    assert_eq!(kind(directory.remove_alias("both@example.test")), Kind::NotFound);
    assert_eq!(kind(directory.remove_alias("a@example.test")), Kind::NotFound);
}

#[test]
fn aliases_that_cannot_be_are_refused() {
    let (_, directory) = house();
    add(&directory, &["a@example.test"], None).unwrap();
    assert_eq!(kind(add_alias(&directory, "x@example.test", &[])), Kind::InvalidArgument);
    assert_eq!(
        kind(add_alias(&directory, "x@example.test", &["nobody@example.test"])),
        Kind::NotFound
    );
    assert_eq!(
        kind(add_alias(&directory, "x@elsewhere.test", &["a@example.test"])),
        Kind::NotFound
    );
    assert_eq!(kind(add_alias(&directory, "x", &["a@example.test"])), Kind::Address);
    assert_eq!(kind(add_alias(&directory, "x@example.test", &["a b"])), Kind::Address);
    assert_eq!(
        kind(add_alias(&directory, "x@example.test", &["X@Example.test"])),
        Kind::InvalidArgument
    );
    let many: Vec<String> = (0..=TARGETS_MAX).map(|n| format!("m{n}@elsewhere.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(kind(add_alias(&directory, "x@example.test", &many)), Kind::Limit);
    add_alias(&directory, "x@example.test", &many[1..]).unwrap();
    assert_eq!(delivery(&directory, "x@example.test").1.len(), TARGETS_MAX);
}

#[test]
fn an_alias_that_would_close_a_loop_is_refused() {
    let (_, directory) = house();
    add(&directory, &["a@example.test"], None).unwrap();
    add_alias(&directory, "c@example.test", &["a@example.test"]).unwrap();
    add_alias(&directory, "b@example.test", &["c@example.test"]).unwrap();
    add_alias(&directory, "top@example.test", &["b@example.test"]).unwrap();
    // c is taken away while b still leads to it, and comes back leading to the top.
    directory.remove_alias("c@example.test").unwrap();
    assert_eq!(resolve(&directory, "top@example.test"), Resolution::Unknown);
    let closed = add_alias(&directory, "C@example.test", &["a@example.test", "top@example.test"]);
    assert_eq!(kind(closed), Kind::InvalidArgument);
    add_alias(&directory, "c@example.test", &["far@elsewhere.test"]).unwrap();
    let far = (vec![], vec!["far@elsewhere.test".to_owned()]);
    assert_eq!(delivery(&directory, "top@example.test"), far);
}

#[test]
fn a_target_that_is_gone_is_left_out_and_comes_back() {
    let (_, directory) = house();
    let a = add(&directory, &["a@example.test"], None).unwrap().id.0;
    add(&directory, &["b@example.test"], None).unwrap();
    add_alias(&directory, "team@example.test", &["a@example.test", "b@example.test"]).unwrap();
    directory.remove_account("b@example.test").unwrap();
    assert_eq!(delivery(&directory, "team@example.test"), (vec![a], vec![]));
    directory.remove_account("a@example.test").unwrap();
    assert_eq!(resolve(&directory, "team@example.test"), Resolution::Unknown);
    let b = add(&directory, &["b@example.test"], None).unwrap().id.0;
    assert_eq!(delivery(&directory, "team@example.test"), (vec![b], vec![]));
}

#[test]
fn chains_of_aliases_are_bounded_from_below_and_from_above() {
    let (_, directory) = house();
    add(&directory, &["a@example.test"], None).unwrap();
    add_alias(&directory, "l1@example.test", &["a@example.test"]).unwrap();
    for n in 2..=ALIAS_DEPTH {
        let (address, target) = (format!("l{n}@example.test"), format!("l{}@example.test", n - 1));
        add_alias(&directory, &address, &[&target]).unwrap();
    }
    let last = format!("l{ALIAS_DEPTH}@example.test");
    assert_eq!(delivery(&directory, &last), (vec![2], vec![]));
    assert_eq!(kind(add_alias(&directory, "over@example.test", &[&last])), Kind::Limit);
    // A longer chain under an alias that others lead to would put them beyond the bound.
    directory.remove_alias("l1@example.test").unwrap();
    add_alias(&directory, "deep@example.test", &["a@example.test"]).unwrap();
    assert_eq!(kind(add_alias(&directory, "l1@example.test", &["deep@example.test"])), Kind::Limit);
    add_alias(&directory, "l1@example.test", &["a@example.test"]).unwrap();
}

#[test]
fn the_number_of_ends_of_an_alias_is_bounded() {
    let (_, directory) = house();
    let per_group = 900;
    for group in 0..ALIAS_WIDTH / per_group + 1 {
        let targets: Vec<String> =
            (0..per_group).map(|n| format!("u{n}@g{group}.elsewhere.test")).collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        add_alias(&directory, &format!("g{group}@example.test"), &targets).unwrap();
    }
    let groups: Vec<String> =
        (0..ALIAS_WIDTH / per_group + 1).map(|n| format!("g{n}@example.test")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    assert_eq!(kind(add_alias(&directory, "all@example.test", &groups)), Kind::Limit);
    add_alias(&directory, "most@example.test", &groups[..11]).unwrap();
    assert_eq!(delivery(&directory, "most@example.test").1.len(), 11 * per_group);
}

#[test]
fn stored_rows_that_contradict_each_other_are_refused_by_name() {
    let (rows, directory) = house();
    add(&directory, &["a@example.test"], Some("anna")).unwrap();
    let row = rows.copy()[&(Table::Account, vec![0, 0, 0, 2])].clone();
    let text = String::from_utf8(row).unwrap();
    let cases = [
        ("another address", text.replace("a@example.test", "b@example.test")),
        ("same login", text.clone()),
        ("no domain", text.replace("a@example.test", "a@gone.test").replace("anna", "bert")),
        (
            "hash",
            text.replace("a@example.test", "c@example.test")
                .replace("anna", "c")
                .replace("argon2id", "plain"),
        ),
        ("newer", text.replace("\"v\":1", "\"v\":9")),
    ];
    for (case, value) in cases {
        rows.tables.lock().insert((Table::Account, vec![0, 0, 0, 9]), value.into_bytes());
        let error = Directory::load_with_cost(rows.clone(), PasswordCost::LEAST).err().expect(case);
        let expected = if case == "newer" { Kind::FormatNewer } else { Kind::Corrupt };
        assert_eq!(error.kind(), expected, "{case}: {error}");
        assert!(error.message().contains("account 9"), "{case}: {error}");
        assert!(!error.message().contains('\n'), "{case}");
    }
}

#[test]
fn a_loop_in_stored_rows_ends_and_counts_as_unknown() {
    let (rows, directory) = house();
    add_alias(&directory, "a@example.test", &["x@elsewhere.test"]).unwrap();
    add_alias(&directory, "b@example.test", &["a@example.test"]).unwrap();
    let value =
        br#"{"v":1,"address":"a@example.test","targets":["b@example.test","x@elsewhere.test"]}"#;
    rows.put(Table::Alias, b"a@example.test", value).unwrap();
    let directory = load(&rows);
    assert_eq!(resolve(&directory, "a@example.test"), Resolution::Unknown);
    assert_eq!(resolve(&directory, "b@example.test"), Resolution::Unknown);
}

#[test]
fn debug_output_of_a_new_account_hides_the_password() {
    let text = format!("{:?}", new_account(&["a@example.test"], None));
    assert!(text.contains("a@example.test") && !text.contains("correct horse"), "{text}");
}

#[test]
fn lookups_go_on_while_a_change_waits_for_the_disk() {
    let (_, directory) = house();
    let new = new_account(&["a@example.test"], None);
    directory
        .add_account(&new, NOW, &mut |_| {
            assert_eq!(delivery(&directory, "postmaster"), (vec![1], vec![]));
            assert!(directory.verify("postmaster@example.test", "correct horse").is_some());
            Ok(())
        })
        .unwrap();
}

/// Whether a client that types this password gets in by SCRAM with these keys.
fn scram_fits(keys: &ScramKeys, password: &str) -> bool {
    let salt = keys.salt.clone();
    let iterations = std::num::NonZeroU32::new(keys.iterations).unwrap();
    ScramKeys::derive(password, &salt, iterations) == *keys
}

/// The account rows, as a release wrote them that knew of no keys.
fn strip_keys(rows: &MemoryRows) {
    for ((table, _), value) in rows.tables.lock().iter_mut() {
        let mut json: serde_json::Value = serde_json::from_slice(value).unwrap();
        let members = json.as_object_mut().unwrap();
        match table {
            Table::Account => drop(members.remove("derived").expect("keys")),
            Table::Value => drop(members.remove("secret").expect("a secret")),
            _ => {}
        }
        *value = serde_json::to_vec(&json).unwrap();
    }
}

#[test]
fn a_new_password_comes_with_scram_keys() {
    let (rows, directory) = house();
    add(&directory, &["carol@example.test"], Some("carol")).unwrap();
    let keys = directory.scram_keys("CAROL");
    let by_address = directory.scram_keys("carol@example.test");
    for keys in [&keys, &by_address] {
        assert!(scram_fits(keys, "correct horse") && !scram_fits(keys, "wrong horse"));
    }
    directory.set_password("carol@example.test", "another horse").unwrap();
    for name in ["carol", "Carol@Example.Test"] {
        let changed = directory.scram_keys(name);
        assert!(scram_fits(&changed, "another horse") && !scram_fits(&changed, "correct horse"));
        assert_eq!(load(&rows).scram_keys(name), changed);
    }
}

/// Salt and iterations of a name, which SCRAM shows to everybody, are the same before an account is made, while it is there, after
/// its password has changed, after it has gone, and when a later release has other defaults.
#[test]
fn a_decoy_cannot_be_told_from_the_keys_of_an_account() {
    let (rows, directory) = house();
    let names = ["carol", "CAROL", "ca\u{ad}rol", "carol@example.test", "Carol@Example.Test"];
    let shown = |directory: &Directory| {
        names.map(|name| {
            let keys = directory.scram_keys(name);
            (keys.salt.clone(), keys.iterations)
        })
    };
    let nobody = shown(&directory);
    assert_eq!((&nobody[0], &nobody[0], &nobody[3]), (&nobody[1], &nobody[2], &nobody[4]));
    assert_ne!(nobody[0], nobody[3], "two names that nobody has are two");
    add(&directory, &["carol@example.test"], Some("carol")).unwrap();
    assert!(names.iter().all(|name| scram_fits(&directory.scram_keys(name), "correct horse")));
    assert_eq!(shown(&directory), nobody, "an account");
    directory.set_password("carol@example.test", "another horse").unwrap();
    assert_eq!(shown(&directory), nobody, "another password");
    let twice = NonZeroU32::new(2 * PasswordCost::LEAST.scram_iterations.get()).unwrap();
    let cost = PasswordCost { scram_iterations: twice, ..PasswordCost::LEAST };
    let later = Directory::load_with_cost(rows.clone(), cost).unwrap();
    assert_eq!(shown(&later), nobody, "another default");
    later.set_password("carol@example.test", "a third horse").unwrap();
    assert_eq!(shown(&later), nobody, "a password under another default");
    later.remove_account("carol@example.test").unwrap();
    assert_eq!(shown(&later), nobody, "no account any more");
}

/// Keys as they were made before: one salt, random, for all names, and iterations of their day.
#[test]
fn keys_with_a_salt_of_their_own_work_and_are_made_again_when_the_password_is_shown() {
    let (rows, directory) = house();
    add(&directory, &["carol@example.test"], Some("carol")).unwrap();
    let nobody = directory.scram_keys("carol");
    let old = ScramKeys::derive("correct horse", &[7; 16], NonZeroU32::new(5000).unwrap());
    for ((table, _), value) in rows.tables.lock().iter_mut() {
        let mut json: serde_json::Value = serde_json::from_slice(value).unwrap();
        if *table == Table::Account && json["login"] == "carol" {
            json["derived"]["scram_sha_256"] = old.to_text().into();
            json["derived"].as_object_mut().unwrap().remove("scram_sha_256_address").unwrap();
        }
        if *table == Table::Value {
            json.as_object_mut().unwrap().remove("scram_iterations").expect("iterations");
        }
        *value = serde_json::to_vec(&json).unwrap();
    }
    let directory = load(&rows);
    for name in ["carol", "carol@example.test"] {
        assert_eq!(directory.scram_keys(name), old, "{name}");
    }
    assert!(directory.verify("carol@example.test", "correct horse").is_some());
    assert_eq!(directory.scram_keys("carol"), nobody);
    assert_ne!(directory.scram_keys("carol@example.test").salt, nobody.salt);
    assert_eq!(load(&rows).scram_keys("carol"), nobody, "on disk");
    let writes = rows.writes.load(Ordering::Relaxed);
    assert!(directory.verify("carol", "correct horse").is_some());
    assert_eq!(rows.writes.load(Ordering::Relaxed), writes, "once is enough");
}

#[test]
fn a_name_that_nobody_has_gets_the_same_decoy_for_ever() {
    let (rows, directory) = house();
    let decoy = directory.scram_keys("Nobody@example.test");
    assert_eq!(decoy, directory.scram_keys("nobody@EXAMPLE.test"), "case does not tell");
    assert_eq!(decoy, load(&rows).scram_keys("nobody@example.test"), "nor does a restart");
    assert_ne!(decoy.salt, directory.scram_keys("nobody").salt);
    let real = directory.scram_keys("postmaster@example.test");
    assert_eq!((decoy.salt.len(), decoy.iterations), (real.salt.len(), real.iterations));
    let (_, other) = house();
    assert_ne!(decoy, other.scram_keys("nobody@example.test"), "each instance has its own");
}

#[test]
fn an_account_without_keys_gets_them_when_its_password_is_shown() {
    let (rows, _) = house();
    strip_keys(&rows);
    let directory = load(&rows);
    let name = "postmaster@example.test";
    assert!(!scram_fits(&directory.scram_keys(name), "correct horse"), "a decoy");
    assert!(directory.verify(name, "wrong horse").is_none());
    assert!(!scram_fits(&directory.scram_keys(name), "correct horse"), "still");
    assert!(directory.verify(name, "correct horse").is_some());
    let keys = directory.scram_keys(name);
    assert!(scram_fits(&keys, "correct horse"));
    let again = load(&rows);
    assert_eq!(again.scram_keys(name), keys);
    assert_eq!(again.scram_keys("nobody"), directory.scram_keys("nobody"), "the secret was kept");
    let writes = rows.writes.load(Ordering::Relaxed);
    assert!(directory.verify(name, "correct horse").is_some());
    assert_eq!(rows.writes.load(Ordering::Relaxed), writes, "once is enough");
}

#[test]
fn a_login_succeeds_when_its_new_keys_cannot_be_written() {
    let (rows, _) = house();
    strip_keys(&rows);
    let directory = load(&rows);
    for left in 0..2 {
        rows.fail_after(Some(left));
        let name = "postmaster@example.test";
        assert!(directory.verify(name, "correct horse").is_some());
        assert!(!scram_fits(&directory.scram_keys(name), "correct horse"), "not on disk, not seen");
    }
}

#[test]
fn keys_of_a_password_that_an_older_release_replaced_are_worth_nothing() {
    let (rows, directory) = house();
    let name = "postmaster@example.test";
    // An older release keeps members that it does not know.
    for ((table, _), value) in rows.tables.lock().iter_mut() {
        if *table == Table::Account {
            let mut json: serde_json::Value = serde_json::from_slice(value).unwrap();
            let hash = password::hash("another horse", PasswordCost::LEAST).unwrap();
            json["password"] = hash.into();
            *value = serde_json::to_vec(&json).unwrap();
        }
    }
    let old = directory.scram_keys(name);
    let directory = load(&rows);
    assert!(scram_fits(&old, "correct horse"));
    assert!(!scram_fits(&directory.scram_keys(name), "correct horse"));
    assert!(directory.verify(name, "another horse").is_some());
    assert!(scram_fits(&directory.scram_keys(name), "another horse"));
}

/// A client's digest for a password (RFC 2195).
fn digest(password: &str, challenge: &str) -> String {
    use crate::sasl::client::{Channel, Credentials, Exchange};
    let secret = zeroize::Zeroizing::new(password.to_owned());
    let credentials = Credentials { login: "x".into(), secret, ..Credentials::default() };
    let mechanism = crate::sasl::Mechanism::CramMd5;
    let mut client = Exchange::new(mechanism, credentials, [0; 18], Channel::Unbound).unwrap();
    let response = client.respond(challenge.as_bytes()).unwrap();
    String::from_utf8(response.to_vec()).unwrap().split_off(2)
}

#[test]
fn cram_md5_is_kept_of_passwords_that_are_set_while_it_is_asked_for() {
    let (rows, directory) = house();
    let (name, challenge) = ("postmaster@example.test", "<1@example.test>");
    let right = digest("correct horse", challenge);
    assert!(directory.verify_cram_md5(name, challenge, &right).is_none(), "off when it was set");
    directory.keep_cram_md5(true);
    assert!(directory.verify_cram_md5(name, challenge, &right).is_none(), "still the old one");
    directory.set_password(name, "another horse").unwrap();
    let right = digest("another horse", challenge);
    assert!(directory.verify_cram_md5(name, challenge, &right).is_some());
    assert!(directory.verify_cram_md5(name, "<2@example.test>", &right).is_none());
    // The digest of the empty password, which verifies where no keys are.
    let empty = "26a395e61eb5c2f2e45d7bb547b40b0b";
    assert!(CramMd5Keys::derive("").verify(challenge, empty));
    assert!(directory.verify_cram_md5("nobody", challenge, empty).is_none());
    let directory = load(&rows);
    assert!(directory.verify_cram_md5(name, challenge, &right).is_some());
    directory.set_password(name, "another horse").unwrap();
    assert!(directory.verify_cram_md5(name, challenge, &right).is_none(), "gone with the password");
}

#[test]
fn a_login_name_is_found_as_sent_and_as_prepared() {
    let (_, directory) = house();
    add(&directory, &["u@example.test"], Some("\u{fc}ber")).unwrap();
    assert!(directory.account_of_login("u\u{308}ber").is_some(), "composed by SASLprep");
    assert!(directory.verify("u\u{308}ber", "correct horse").is_some());
    assert!(directory.account_of_login("uber").is_none());
}
