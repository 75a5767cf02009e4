use super::*;
use crate::spread::{Memberships, Spread};

fn counts(expected: u64, delivered: u64, missing: u64, duplicate: u64, out_of_order: u64) -> Counts {
    Counts { expected, delivered, missing, duplicate, out_of_order, excused: 0 }
}

#[test]
fn every_kind_of_arrival_is_told_apart() {
    let table: &[(&str, u32, &[u32], Counts)] = &[
        ("all in order", 4, &[0, 1, 2, 3], counts(4, 4, 0, 0, 0)),
        ("nothing published", 0, &[], counts(0, 0, 0, 0, 0)),
        ("nothing arrived", 3, &[], counts(3, 0, 3, 0, 0)),
        ("first one lost", 3, &[1, 2], counts(3, 2, 1, 0, 0)),
        ("middle lost", 5, &[0, 1, 4], counts(5, 3, 2, 0, 0)),
        ("tail lost", 5, &[0, 1], counts(5, 2, 3, 0, 0)),
        ("repeated at once", 2, &[0, 0, 1, 1], counts(2, 2, 0, 2, 0)),
        ("repeated later", 3, &[0, 1, 2, 0], counts(3, 3, 0, 1, 0)),
        ("two swapped", 3, &[1, 0, 2], counts(3, 3, 0, 0, 1)),
        ("all reversed", 4, &[3, 2, 1, 0], counts(4, 4, 0, 0, 3)),
        ("late, then repeated", 3, &[1, 0, 0, 2], counts(3, 3, 0, 1, 1)),
        ("a gap filled in its middle", 5, &[0, 4, 2], counts(5, 3, 2, 0, 1)),
        ("a gap filled from both ends", 6, &[0, 5, 1, 4, 2, 3], counts(6, 6, 0, 0, 4)),
        ("two gaps", 6, &[1, 3, 5, 0, 4], counts(6, 5, 1, 0, 2)),
    ];
    let mut ledger = Ledger::new(1, 1, 0, Roster::default());
    ledger.add_member(0, &[0], false);
    // The same books phase after phase: nothing of one is left in the next.
    for (name, published, arrivals, expected) in table {
        for sequence in *arrivals {
            ledger.arrive(0, 0, *sequence, 0);
        }
        let closed = ledger.close(|_| *published);
        assert_eq!((closed.total, closed.strangers), (*expected, 0), "{name}");
        assert_eq!(closed.inexact.is_empty(), expected.is_exact(), "{name}");
        assert_eq!(closed.total.delivered + closed.total.missing, closed.total.expected, "{name}");
    }
}

#[test]
fn members_and_rooms_have_books_of_their_own() {
    let mut ledger = Ledger::new(3, 2, 0, Roster::default());
    ledger.add_member(0, &[0, 1], false);
    ledger.add_member(0, &[1, 2], false);
    assert_eq!(ledger.arrive(0, 0, 0, 0), Arrival::First);
    assert_eq!(ledger.arrive(0, 1, 0, 0), Arrival::First);
    assert_eq!(ledger.arrive(1, 1, 0, 0), Arrival::First);
    assert_eq!(ledger.arrive(1, 1, 0, 0), Arrival::Duplicate);
    assert_eq!(ledger.arrive(1, 0, 0, 0), Arrival::Stranger);
    assert_eq!([0, 1, 2].map(|room| ledger.owed_here(room, 0)), [1, 2, 1]);
    let closed = ledger.close(|room| if room == 2 { 2 } else { 1 });
    let inexact = vec![(1, counts(2, 2, 0, 1, 0)), (2, counts(2, 0, 2, 0, 0))];
    let expected = Closed { total: counts(5, 3, 2, 1, 0), inexact, strangers: 1, ..Closed::default() };
    assert_eq!(closed, expected);
}

#[test]
fn the_first_probe_counts_once_and_never_as_a_delivery() {
    let mut ledger = Ledger::new(1, 1, 0, Roster::default());
    ledger.add_member(0, &[0], false);
    for phase in 0..2 {
        assert!(ledger.probe(0, 0), "phase {phase}");
        assert!(!ledger.probe(0, 0));
        assert!(!ledger.probe(0, 7), "a room it has not joined");
        ledger.arrive(0, 0, 0, 0);
        assert!(!ledger.probe(0, 0), "late");
        assert_eq!(ledger.close(|_| 1).total, counts(1, 1, 0, 0, 0));
    }
}

#[test]
fn what_is_published_while_a_member_is_away_is_excused_and_nothing_else() {
    let mut ledger = Ledger::new(1, 1, 100, Roster::default());
    ledger.add_member(0, &[0], false);
    ledger.arrive(0, 0, 0, 10);
    // 1 is lost, 3 and 4 are published while it is away, 5 while it joins, 7 is lost.
    ledger.arrive(0, 0, 2, 30);
    ledger.leave(0);
    ledger.rejoin(0, 50);
    ledger.arrive(0, 0, 6, 70);
    ledger.arrive(0, 0, 8, 90);
    let expected = Counts { excused: 3, ..counts(9, 4, 2, 0, 0) };
    let Closed { total, late_joins, .. } = ledger.close(|_| 9);
    assert_eq!((total, late_joins), (expected, 0));
    assert_eq!(total.delivered + total.missing + total.excused, total.expected);
}

#[test]
fn a_member_that_comes_back_and_is_not_served_in_time_is_late() {
    // Due times of the first message after joining at 1,000 with 100 to go, and of another member's last one.
    let table = [(Some(1_100), 0, 0), (Some(1_101), 0, 1), (None, 1_100, 0), (None, 1_101, 1)];
    for (heard_ns, other_ns, expected) in table {
        let mut ledger = Ledger::new(1, 1, 100, Roster::default());
        ledger.add_member(0, &[0], false);
        ledger.add_member(0, &[0], false);
        ledger.leave(0);
        ledger.rejoin(0, 1_000);
        if let Some(due_ns) = heard_ns {
            ledger.arrive(0, 0, 5, due_ns);
        }
        ledger.arrive(1, 0, 5, other_ns);
        assert_eq!(ledger.close(|_| 6).late_joins, expected, "heard {heard_ns:?}, other {other_ns}");
    }
}

#[test]
fn slow_members_are_booked_apart() {
    let mut ledger = Ledger::new(1, 1, 0, Roster::default());
    ledger.add_member(0, &[0], true);
    ledger.add_member(0, &[0], false);
    assert!(!ledger.probe(0, 0), "nobody waits for a slow member");
    assert_eq!(ledger.arrive(0, 0, 1, 0), Arrival::Slow);
    assert_eq!(ledger.arrive(1, 0, 0, 0), Arrival::First);
    assert_eq!(ledger.owed_here(0, 0), 1);
    let Closed { total, slow, .. } = ledger.close(|_| 3);
    assert_eq!((total, slow), (counts(3, 1, 2, 0, 0), counts(3, 1, 2, 0, 0)));
}

#[test]
fn what_leaves_a_member_out_is_not_owed_to_it_and_a_fault_when_it_arrives() {
    let memberships = Memberships::new(Spread::Equal, 1.0, 1, 1);
    // Publications 0, 3, 6 leave out member 0, the others members 1 and 2 in turn.
    let ledger = || {
        let mut ledger = Ledger::new(1, 1, 0, Roster::new(1, &memberships, 3, 1));
        (0..3).for_each(|connection| ledger.add_member(connection, &[0], false));
        ledger
    };
    let table: &[(&str, &[u32], Counts, u64)] = &[
        ("all that is owed", &[1, 2, 4, 5], counts(4, 4, 0, 0, 0), 0),
        ("nothing", &[], counts(4, 0, 4, 0, 0), 0),
        ("one lost before one that leaves it out", &[1, 4, 5], counts(4, 3, 1, 0, 0), 0),
        ("the last lost", &[1, 2, 4], counts(4, 3, 1, 0, 0), 0),
        ("late", &[1, 4, 2, 5], counts(4, 4, 0, 0, 1), 0),
        ("twice", &[1, 2, 2, 4, 5], counts(4, 4, 0, 1, 0), 0),
        ("two that leave it out", &[0, 1, 2, 3, 4, 5], counts(4, 4, 0, 0, 0), 2),
        ("all in reverse", &[6, 5, 4, 3, 2, 1, 0], counts(4, 4, 0, 0, 3), 3),
    ];
    for (name, arrivals, expected, to_excluded) in table {
        let mut ledger = ledger();
        for sequence in *arrivals {
            let arrival = ledger.arrive(0, 0, *sequence, 0);
            assert_eq!(arrival == Arrival::Excluded, sequence % 3 == 0, "{name}");
        }
        for (member, owed) in [(1, [0, 2, 3, 5, 6]), (2, [0, 1, 3, 4, 6])] {
            owed.iter()
                .for_each(|sequence| assert_eq!(ledger.arrive(member, 0, *sequence, 0), Arrival::First));
        }
        let closed = ledger.close(|_| 7);
        let others = counts(10, 10, 0, 0, 0);
        let mut total = *expected;
        total.add(&others);
        assert_eq!((closed.total, closed.to_excluded), (total, *to_excluded), "{name}");
    }
    assert_eq!([0, 1, 2].map(|sequence| ledger().owed_here(0, sequence)), [2, 2, 2]);
}
