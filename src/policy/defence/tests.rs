//! The defences against time that the tests make.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn strict() -> DefenceRules {
    DefenceRules {
        connections_per_minute: 3,
        commands_per_minute: 60,
        recipients_per_hour: 2,
        messages_per_hour: 1,
        lockout: LockoutRules {
            host_failures: 3,
            name_failures: 5,
            window_millis: 60_000,
            lock_millis: 30_000,
        },
        ..DefenceRules::default()
    }
}

const NOW: Time = Time(1_000_000);

#[test]
fn a_rate_takes_its_number_and_refuses_one_more_until_a_token_is_back() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    for (what, most, interval) in [
        (Counted::Connection, 3, 20_000),
        (Counted::Command, 60, 1_000),
        (Counted::Recipient, 2, 1_800_000),
        (Counted::Message, 1, 3_600_000),
    ] {
        for n in 0..most {
            assert_eq!(books.count(&rules, peer, what, 1, NOW), Ok(()), "{what:?} {n}");
        }
        let refused = Err(TooMany { what, retry_millis: interval });
        assert_eq!(books.count(&rules, peer, what, 1, NOW), refused, "one more");
        // What was refused was not counted.
        assert_eq!(books.count(&rules, peer, what, 1, NOW), refused);
        let before = Err(TooMany { what, retry_millis: 1 });
        assert_eq!(books.count(&rules, peer, what, 1, NOW.after(interval - 1)), before);
        assert_eq!(books.count(&rules, peer, what, 1, NOW.after(interval)), Ok(()));
        assert!(books.count(&rules, peer, what, 1, NOW.after(interval)).is_err());
        // Other hosts have buckets of their own.
        assert_eq!(books.count(&rules, ip("192.0.2.2"), what, 1, NOW), Ok(()));
    }
}

#[test]
fn an_unused_bucket_is_never_more_than_full() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    let later = NOW.after(1 << 50);
    let taken =
        (0..10).filter(|_| books.count(&rules, peer, Counted::Connection, 1, later).is_ok());
    assert_eq!(taken.count(), 3);
    // At the end of time nothing wraps.
    let _ = books.count(&rules, peer, Counted::Connection, 1, Time(u64::MAX));
}

#[test]
fn rates_that_do_not_divide_the_period_lose_no_token() {
    for events in [1, 7, 59, 61, 600, 7_777, 1_000_000, u32::MAX] {
        let mut bucket = Bucket::default();
        let rate = Rate::per_minute(events);
        let most = u64::from(events.min(100_000));
        for n in 0..most {
            assert_eq!(bucket.take(rate, 1, NOW), Ok(()), "{events}: {n}");
        }
        if events <= 7_777 {
            assert!(bucket.take(rate, 1, NOW).is_err(), "{events}");
        }
    }
}

#[test]
fn no_limit_leaves_no_trace() {
    let rules = DefenceRules { connections_per_minute: 0, ..DefenceRules::default() };
    let books = Defences::default();
    for _ in 0..10_000 {
        assert_eq!(books.count(&rules, ip("192.0.2.1"), Counted::Connection, 1, NOW), Ok(()));
    }
    assert_eq!(books.tracked(), 0);
}

#[test]
fn a_host_of_ipv6_is_its_prefix_and_a_mapped_address_is_ipv4() {
    let rules = DefenceRules::default();
    assert_eq!(rules.host(ip("2001:db8::1")), rules.host(ip("2001:db8::ffff:1")));
    assert_ne!(rules.host(ip("2001:db8::1")), rules.host(ip("2001:db8:0:1::1")));
    assert_eq!(rules.network(ip("2001:db8::1")), rules.network(ip("2001:db8:0:ffff::1")));
    assert_ne!(rules.network(ip("2001:db8::1")), rules.network(ip("2001:db8:1::1")));
    assert_eq!(rules.host(ip("::ffff:192.0.2.1")), rules.host(ip("192.0.2.1")));
    assert_ne!(rules.host(ip("192.0.2.1")), rules.host(ip("192.0.2.2")));
    assert_eq!(rules.network(ip("192.0.2.1")), rules.network(ip("192.0.2.255")));
    assert_ne!(rules.network(ip("192.0.2.1")), rules.network(ip("192.0.3.1")));
    assert!(rules.is_exempt(ip("127.1.2.3")) && rules.is_exempt(ip("::1")));
    assert!(rules.is_exempt(ip("::ffff:127.0.0.1")) && !rules.is_exempt(ip("192.0.2.1")));
}

#[test]
fn pauses_grow_with_errors_and_are_bounded() {
    let rules = DefenceRules::default();
    let pauses: Vec<u64> = (0..=12).map(|errors| rules.tarpit(errors)).collect();
    assert_eq!(pauses, [0, 0, 0, 0, 0, 0, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
    assert_eq!(rules.tarpit(u32::MAX), 8000);
    let off = DefenceRules { tarpit_millis: 0, ..DefenceRules::default() };
    assert_eq!(off.tarpit(u32::MAX), 0);
}

#[test]
fn a_slow_message_is_noticed_after_its_first_minute() {
    let rules = DefenceRules { data_per_minute: 1000, ..DefenceRules::default() };
    assert!(!rules.is_too_slow(0, NOW, NOW.after(60_000)));
    assert!(rules.is_too_slow(0, NOW, NOW.after(60_001)));
    assert!(!rules.is_too_slow(2000, NOW, NOW.after(120_000)));
    assert!(rules.is_too_slow(1999, NOW, NOW.after(120_000)));
    assert!(!rules.is_too_slow(u64::MAX, NOW, Time(u64::MAX)));
    let off = DefenceRules { data_per_minute: 0, ..rules };
    assert!(!off.is_too_slow(0, NOW, NOW.after(1 << 40)));
}

#[test]
fn a_host_is_locked_out_at_the_limit_and_let_in_again_after_the_time() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    for n in 0..2 {
        assert_eq!(books.login_failed(&rules, peer, "a", &[n], NOW), None);
        assert_eq!(books.locked(&rules, peer, "a", NOW), None);
    }
    assert_eq!(books.login_failed(&rules, peer, "b", b"2", NOW), Some(Locked::Host));
    for name in ["a", "b", "somebody else"] {
        assert_eq!(books.locked(&rules, peer, name, NOW.after(29_999)), Some(Locked::Host));
    }
    assert_eq!(books.locked(&rules, ip("192.0.2.2"), "a", NOW), None);
    assert_eq!(books.locked(&rules, peer, "a", NOW.after(30_000)), None);
    // Counting begins anew.
    assert_eq!(books.login_failed(&rules, peer, "a", b"9", NOW.after(30_000)), None);
    assert_eq!(books.locked(&rules, peer, "a", NOW.after(30_000)), None);
}

#[test]
fn failures_outside_the_window_do_not_add_up() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    for n in 0..100_u64 {
        let at = NOW.after(n * 30_000);
        assert_eq!(books.login_failed(&rules, peer, "a", &n.to_be_bytes(), at), None, "{n}");
    }
}

#[test]
fn the_same_guess_again_is_not_counted() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    for _ in 0..100 {
        assert_eq!(books.login_failed(&rules, peer, "a", b"old password", NOW), None);
    }
    assert_eq!(books.login_failed(&rules, peer, "b", b"old password", NOW), None);
    assert_eq!(books.login_failed(&rules, peer, "a", b"old password", NOW), Some(Locked::Host));
}

#[test]
fn a_name_is_locked_for_strangers_and_never_for_its_own_hosts() {
    let (books, rules) = (Defences::default(), strict());
    let home = ip("198.51.100.7");
    books.login_succeeded(&rules, home, "User@Example.test");
    let mut locked = None;
    for n in 0..5_u8 {
        let stranger = IpAddr::from([203, 0, 113, n]);
        assert_eq!(locked, None, "{n}");
        locked = books.login_failed(&rules, stranger, "user@example.test", &[n], NOW);
    }
    assert_eq!(locked, Some(Locked::Name));
    let stranger = ip("203.0.113.99");
    assert_eq!(books.locked(&rules, stranger, "USER@example.test", NOW), Some(Locked::Name));
    assert_eq!(books.locked(&rules, home, "user@example.test", NOW), None);
    assert_eq!(books.locked(&rules, stranger, "other@example.test", NOW), None);
    // The last hosts are remembered, not every one.
    for n in 0..lockout::OWN_HOSTS {
        let host = IpAddr::from([198, 51, 100, 100 + n as u8]);
        books.login_succeeded(&rules, host, "user@example.test");
    }
    assert_eq!(books.locked(&rules, home, "user@example.test", NOW), Some(Locked::Name));
    // Failures at home lock the host, which is the only thing that can hold the user up there.
    for n in 0..3_u8 {
        books.login_failed(&rules, ip("198.51.100.103"), "user@example.test", &[n], NOW);
    }
    let there = books.locked(&rules, ip("198.51.100.103"), "user@example.test", NOW);
    assert_eq!(there, Some(Locked::Host));
}

#[test]
fn for_ever_holds_until_it_is_unlocked() {
    let (books, mut rules, peer) = (Defences::default(), strict(), ip("2001:db8::1"));
    rules.lockout.lock_millis = 0;
    for n in 0..3_u8 {
        books.login_failed(&rules, peer, "a", &[n], NOW);
    }
    let never = Time(u64::MAX);
    assert_eq!(books.locked(&rules, peer, "a", never), Some(Locked::Host));
    let expected =
        Lockout { locked: Locked::Host, whom: "2001:db8::".to_owned(), left_millis: None };
    assert_eq!(books.lockouts(never, 10), [expected]);
    assert!(!books.unlock(&rules, "192.0.2.1") && !books.unlock(&rules, "nobody"));
    // Any address of the host will do.
    assert!(books.unlock(&rules, "2001:db8::77"));
    assert_eq!(books.locked(&rules, peer, "a", NOW), None);
    assert!(books.lockouts(NOW, 10).is_empty());
}

#[test]
fn exempt_peers_are_never_locked_out_and_off_means_off() {
    let (books, mut rules) = (Defences::default(), strict());
    rules.exempt = vec!["10.0.0.0/8".parse().unwrap()];
    for n in 0..100_u8 {
        assert_eq!(books.login_failed(&rules, ip("10.1.1.1"), "a", &[n], NOW), None);
    }
    assert_eq!(books.locked(&rules, ip("10.1.1.1"), "a", NOW), None);
    rules.lockout.host_failures = 0;
    rules.lockout.name_failures = 0;
    for n in 0..100_u8 {
        assert_eq!(books.login_failed(&rules, ip("192.0.2.1"), "a", &[n], NOW), None);
    }
    assert_eq!(books.tracked(), 0);
}

#[test]
fn the_tables_are_bounded_and_a_lock_out_that_holds_goes_last() {
    let (books, rules, peer) = (Defences::with_room(100), strict(), ip("192.0.2.1"));
    for n in 0..3_u8 {
        books.login_failed(&rules, peer, "a", &[n], NOW);
    }
    for n in 0..10_000_u32 {
        let other = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let _ = books.count(&rules, other, Counted::Connection, 1, NOW);
        let name = format!("name{n}");
        books.login_failed(&rules, other, &name, b"guess", NOW);
        books.login_succeeded(&rules, other, &name);
        assert!(books.tracked() <= 400, "{}", books.tracked());
    }
    assert_eq!(books.locked(&rules, peer, "a", NOW), Some(Locked::Host), "still kept");
    let again = ip("10.0.0.0");
    assert_eq!(books.count(&rules, again, Counted::Connection, 1, NOW), Ok(()), "forgotten");
}

#[test]
fn a_table_of_nothing_but_lock_outs_still_takes_new_ones() {
    let (books, mut rules) = (Defences::with_room(100), strict());
    rules.lockout.host_failures = 1;
    rules.lockout.lock_millis = 0;
    for n in 0..10_000_u32 {
        let other = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        assert_eq!(books.login_failed(&rules, other, "a", b"x", NOW), Some(Locked::Host));
        assert_eq!(books.locked(&rules, other, "a", NOW), Some(Locked::Host));
    }
    assert!(books.tracked() <= 200);
    assert_eq!(books.lockouts(NOW, 7).len(), 7);
}

#[test]
fn long_names_are_cut_between_characters() {
    let (books, rules, peer) = (Defences::default(), strict(), ip("192.0.2.1"));
    let long = "é".repeat(100_000);
    for n in 0..3_u8 {
        books.login_failed(&rules, peer, &long, &[n], NOW);
        books.login_succeeded(&rules, peer, &long);
    }
    assert_eq!(books.locked(&rules, peer, &long, NOW), Some(Locked::Host));
}

#[test]
fn full_tables_take_no_more_than_is_said() {
    // A generation of half the entries has a place and a mark for each entry of the whole, the next power of two.
    let places = 2 * TRACKED.next_power_of_two();
    let inline = |entry: usize| places * (entry + 1);
    let names = 2 * TRACKED * (lockout::NAME_BYTES + 16);
    let all = inline(size_of::<(Host, Buckets)>()) + lockout::inline_bytes(places) + names;
    assert!(all <= 64 << 20, "{all}");
}
