//! The scenarios: what a store is doing when the power fails or a file operation does.

use posthouse::store::AccountId;

use super::{Outcome, Scenario, World, damage_index};

fn nothing(_: &World) -> Outcome<()> {
    Ok(())
}

/// A mailbox for the first account of each lane.
fn mailboxes(world: &World) -> Outcome<()> {
    let lanes = world.lanes();
    for lane in 0..lanes {
        world.mailbox(world.account(lane, 0))?;
    }
    Ok(())
}

const fn scenario(
    name: &'static str,
    lanes: u8,
    before: fn(&World) -> Outcome<()>,
    run: fn(&World) -> Outcome<()>,
) -> Scenario {
    Scenario { name, lanes, made: true, before, run }
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "create",
        lanes: 2,
        made: false,
        before: nothing,
        run: |world| {
            world.create(2)?;
            world.open()?;
            mailboxes(world)?;
            world.accept(&[world.account(1, 0)], &[], 700).map(|_| ())
        },
    },
    scenario("accept one", 1, mailboxes, |world| {
        world.accept(&[world.account(0, 0)], &[], 3000).map(|_| ())
    }),
    scenario("accept one after the other", 1, mailboxes, |world| {
        for len in [1, 400, 5000, 0, 1500] {
            world.accept(&[world.account(0, 0)], &["far@example.test"], len)?;
        }
        Ok(())
    }),
    scenario("accept many", 2, mailboxes, |world| {
        world.together(64, |n| {
            let account = world.account((n % 2) as u8, 0);
            let len = 100 + world.below(1500) as usize;
            world
                .accept(&[account], if n % 3 == 0 { &["a@example.test"] } else { &[] }, len)
                .map(|_| ())
        })
    }),
    scenario("large body", 1, mailboxes, |world| {
        world.together(2, |n| {
            let len = if n == 0 { 300_000 } else { 9000 + world.below(20_000) as usize };
            world.accept(&[world.account(0, 0)], &[], len).map(|_| ())
        })
    }),
    scenario(
        "deliver to ten",
        2,
        |world| {
            for n in 0..10 {
                world.mailbox(world.account((n % 2) as u8, n / 2))?;
            }
            Ok(())
        },
        |world| {
            let all: Vec<AccountId> =
                (0..10).map(|n| world.account((n % 2) as u8, n / 2)).collect();
            let same: Vec<AccountId> = (0..5).map(|n| world.account(0, n)).collect();
            world.together(3, |n| match n {
                0 => world.accept(&same, &[], 900).map(|_| ()),
                1 => world.accept(&all, &["far@example.test"], 1200).map(|_| ()),
                _ => world.accept(&all, &[], 12_000).map(|_| ()),
            })?;
            world.accept(&all, &[], 50).map(|_| ())
        },
    ),
    scenario("expunge", 1, mailboxes, |world| {
        let account = world.account(0, 0);
        let mut uids = Vec::new();
        for _ in 0..4 {
            uids.push(world.accept(&[account], &[], 600)?.uid(account));
        }
        world.expunge(account, uids[1..3].to_vec())?;
        world.expunge(account, uids[3..].to_vec())?;
        world.accept(&[account], &[], 10).map(|_| ())
    }),
    scenario("flag", 1, mailboxes, |world| {
        let account = world.account(0, 0);
        let mut uids = Vec::new();
        for _ in 0..3 {
            uids.push(world.accept(&[account], &[], 300)?.uid(account));
        }
        world.flags(account, uids.clone(), 1)?;
        world.flags(account, vec![uids[1]], 5)?;
        world.checkpoint()?;
        world.flags(account, vec![uids[1]], 0)
    }),
    scenario(
        "move",
        1,
        |world| {
            mailboxes(world)?;
            world.archive(world.account(0, 0))
        },
        |world| {
            let account = world.account(0, 0);
            let mut uids = Vec::new();
            for _ in 0..4 {
                uids.push(world.accept(&[account], &[], 300)?.uid(account));
            }
            world.flags(account, vec![uids[2]], 4)?;
            world.move_to_archive(account, uids[1..3].to_vec())?;
            world.checkpoint()?;
            world.move_to_archive(account, vec![uids[0]])?;
            world.accept(&[account], &[], 20).map(|_| ())
        },
    ),
    scenario("queue", 1, mailboxes, |world| {
        let first = world.accept(&[], &["a@example.test", "b@example.test"], 800)?;
        let second = world.accept(&[world.account(0, 0)], &["c@example.test"], 20)?;
        world.queue(&first, &["b@example.test"])?;
        world.queue(&second, &[])?;
        world.queue(&first, &[])
    }),
    scenario(
        "remove an account",
        2,
        |world| {
            mailboxes(world)?;
            for lane in 0..2 {
                world.mailbox(world.account(lane, 1))?;
            }
            Ok(())
        },
        |world| {
            let [gone, stays] = [world.account(0, 0), world.account(0, 1)];
            world.accept(&[gone, stays, world.account(1, 0)], &[], 500)?;
            world.accept(&[gone], &[], 500)?;
            world.remove(gone)?;
            world.remove(world.account(1, 0))?;
            world.accept(&[stays], &[], 30).map(|_| ())
        },
    ),
    scenario("rows", 1, nothing, |world| {
        for n in 0..4 {
            world.row("one", Some(&format!("value {n}")))?;
            world.row(&format!("key {n}"), Some("x"))?;
        }
        world.row("one", None)?;
        world.row("key 2", None)
    }),
    scenario("checkpoint", 2, mailboxes, |world| {
        for n in 0..3 {
            for lane in 0..2 {
                world.accept(&[world.account(lane, 0)], &["q@example.test"], 300)?;
            }
            if n == 1 {
                let account = world.account(0, 0);
                world.expunge(account, vec![1])?;
            }
            world.checkpoint()?;
        }
        world.accept(&[world.account(0, 0)], &[], 30).map(|_| ())
    }),
    scenario("segment roll", 1, mailboxes, |world| {
        for n in 0..9 {
            world.accept(&[world.account(0, 0)], &[], 7000 + n * 300)?;
        }
        world.together(16, |_| world.accept(&[world.account(0, 0)], &[], 5000).map(|_| ()))
    }),
    scenario("close and open", 2, mailboxes, |world| {
        for _ in 0..2 {
            world.accept(&[world.account(0, 0), world.account(1, 0)], &["q@example.test"], 300)?;
            world.close()?;
            world.open()?;
        }
        world.accept(&[world.account(1, 0)], &[], 30)?;
        world.close()
    }),
    scenario(
        "export",
        2,
        |world| {
            mailboxes(world)?;
            for n in 0..3 {
                world.accept(&[world.account(0, 0)], &[], 500 + 100 * n)?;
                world.accept(&[world.account(1, 0)], &["q@example.test"], 300)?;
            }
            world.row("one", Some("value"))
        },
        |world| {
            let [first, second] = [world.account(0, 0), world.account(1, 0)];
            world.accept(&[first, second], &["q@example.test"], 400)?;
            world.export()?;
            world.flags(first, vec![1], 1)?;
            world.expunge(first, vec![2])?;
            world.together(3, |n| match n {
                0 => world.export(),
                1 => world.accept(&[first], &[], 700).map(|_| ()),
                _ => world.accept(&[second], &[], 800).map(|_| ()),
            })?;
            world.export()?;
            world.require(world.files("export", ".phx").len() >= 2, "there are no exports")?;
            world.accept(&[first], &[], 30).map(|_| ())
        },
    ),
    scenario(
        "compaction",
        1,
        |world| {
            mailboxes(world)?;
            let account = world.account(0, 0);
            for n in 0..24 {
                let remotes: &[&str] = if n == 5 { &["q@example.test"] } else { &[] };
                world.accept(&[account], remotes, 4000 + 50 * n)?;
            }
            world.expunge(account, (1..=24).filter(|uid| ![3, 9, 17].contains(uid)).collect())
        },
        |world| {
            let account = world.account(0, 0);
            let report = world.compact(0)?;
            world.require(report.freed > 0 && report.moved > 0, "nothing is compacted")?;
            world.accept(&[account], &[], 900)?;
            world.expunge(account, vec![9])?;
            for n in 0..9 {
                world.accept(&[account], &[], 7500 + n)?;
            }
            // No checkpoint since: what is freed is needed until there is one.
            let report = world.compact(95)?;
            world.require(report.freed > 0, "nothing is compacted again")?;
            world.accept(&[account], &[], 60).map(|_| ())
        },
    ),
    scenario(
        "compaction of large bodies",
        1,
        |world| {
            mailboxes(world)?;
            let account = world.account(0, 0);
            // Two chunks, of which the second one shares a segment with others.
            for len in [20_000, 20_000, 20_000, 140_000, 20_000, 20_000, 14_000, 50_000, 30_000] {
                world.accept(&[account], &[], len)?;
            }
            world.expunge(account, vec![1, 3, 5, 6, 7, 8])
        },
        |world| {
            let account = world.account(0, 0);
            let report = world.compact(0)?;
            world.require(report.freed > 0 && report.moved > 1, "nothing is compacted")?;
            // It moves again, and with it the record that is told where its chunks are.
            for n in 0..8 {
                world.accept(&[account], &[], 8000 + n)?;
            }
            world.accept(&[account], &[], 25_000)?;
            world.expunge(account, (10..=17).collect())?;
            let report = world.compact(90)?;
            world.require(report.freed > 0, "nothing is compacted again")?;
            world.accept(&[account], &[], 12_000).map(|_| ())
        },
    ),
    scenario(
        "compaction while mail comes",
        2,
        |world| {
            for lane in 0..2 {
                world.mailbox(world.account(lane, 0))?;
                for n in 0..16 {
                    world.accept(&[world.account(lane, 0)], &[], 6000 + 10 * n)?;
                }
                for _ in 0..3 {
                    world.accept(&[world.account(lane, 0)], &[], 20_000)?;
                }
                world.expunge(
                    world.account(lane, 0),
                    (1..=19).filter(|uid| uid % 5 != 2).collect(),
                )?;
            }
            Ok(())
        },
        |world| {
            world.together(4, |n| match n {
                0 => {
                    world.compact(90)?;
                    world.compact(90).map(|_| ())
                }
                1 => world.expunge(world.account(0, 0), vec![2, 12]),
                _ => {
                    let account = world.account((n % 2) as u8, 0);
                    let uid = world.accept(&[account], &[], 3000)?.uid(account);
                    world.accept(&[account], &[], 11_000)?;
                    world.expunge(account, vec![uid])
                }
            })
        },
    ),
    scenario(
        "recycled segments",
        1,
        |world| {
            mailboxes(world)?;
            let account = world.account(0, 0);
            for n in 0..30 {
                world.accept(&[account], &[], 7000 + n)?;
            }
            for n in 0..7 {
                world.accept(&[account], &[], 30_000 + n)?;
            }
            world.expunge(account, (1..=37).filter(|uid| *uid != 30 && *uid != 37).collect())?;
            world.compact(0).map(|_| ())
        },
        |world| {
            let account = world.account(0, 0);
            let spares = world.files("seg", ".new").len();
            world.require(spares >= 3, "there are no freed segments to use again")?;
            for n in 0..12 {
                world.accept(&[account], &[], 7010 + 3 * n)?;
            }
            for n in 0..3 {
                world.accept(&[account], &[], 29_000 + n)?;
            }
            let left = world.files("seg", ".new").len();
            world.require(left < spares, "no freed segment is used again")
        },
    ),
    scenario(
        "scrub",
        2,
        |world| {
            mailboxes(world)?;
            for n in 0..10 {
                world.accept(&[world.account(0, 0), world.account(1, 0)], &[], 6500 + n)?;
            }
            world.accept(&[world.account(1, 0)], &[], 30_000)?;
            world.export()
        },
        |world| {
            let account = world.account(0, 0);
            let sent = world.accept(&[account], &[], 600)?;
            world.miscount(&sent)?;
            let report = world.scrub()?;
            world.require(report.corrected == 1, "the count is not corrected")?;
            let gone = world.accept(&[account], &[], 8000)?;
            world.miscount(&gone)?;
            world.expunge(account, vec![gone.uid(account)])?;
            let report = world.scrub()?;
            world.require(report.corrected == 1, "the other count is not corrected")?;
            world.accept(&[account], &[], 40).map(|_| ())
        },
    ),
    scenario(
        "delete ninety percent",
        2,
        |world| {
            mailboxes(world)?;
            for lane in 0..2 {
                for n in 0..20 {
                    world.accept(&[world.account(lane, 0)], &[], 5000 + n)?;
                }
                for n in 0..10 {
                    world.accept(&[world.account(lane, 0)], &[], 9000 + n)?;
                }
            }
            Ok(())
        },
        |world| {
            let bytes = || world.files("seg", ".phl").iter().map(|entry| entry.len).sum::<u64>();
            let before = bytes();
            for lane in 0..2 {
                let most = (1..=30).filter(|uid| uid % 10 != 0).collect();
                world.expunge(world.account(lane, 0), most)?;
            }
            // What was written to last is left first.
            for lane in 0..2 {
                world.accept(&[world.account(lane, 0)], &[], 30)?;
                world.accept(&[world.account(lane, 0)], &[], 8500)?;
            }
            let report = world.compact(0)?;
            let what = format!("{before} bytes before, {} behind: {report:?}", bytes());
            world.require(bytes() < before, &what)?;
            world.accept(&[world.account(1, 0)], &[], 70).map(|_| ())
        },
    ),
    scenario(
        "repair",
        2,
        |world| {
            mailboxes(world)?;
            world.accept(&[world.account(0, 0), world.account(1, 0)], &[], 600)?;
            world.accept(&[world.account(0, 0)], &["q@example.test"], 9500)?;
            world.export()?;
            world.accept(&[world.account(1, 0)], &[], 700)?;
            world.expunge(world.account(0, 0), vec![2])
        },
        |world| {
            world.accept(&[world.account(0, 0)], &[], 50)?;
            world.close()?;
            damage_index(&world.disk, world.below(1 << 40));
            world.repair()?;
            world.accept(&[world.account(0, 0)], &[], 80).map(|_| ())
        },
    ),
];
