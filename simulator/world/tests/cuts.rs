//! Power cuts at every operation of a device's disk: nothing comes of them, and planted bugs are found.

use bellwether_world::Mutant;
use bellwether_world::cuts::{Course, Pattern, Plan, Replay, Shown, Spot, Tally, drawn, replay};

/// Updates within which each planted bug must be found: every kind once.
const UPDATES: u32 = 10;

/// The planted bugs that a power cut brings to light. Those of the hub need a hub that crashes; a slot
/// that is not looked at does harm where bits turn by themselves, which no cut makes them do.
const MUTANTS: [Mutant; 5] = [
    Mutant::ActBeforePersist,
    Mutant::StageWithoutSync,
    Mutant::FloorAtStage,
    Mutant::ForgetOnSend,
    Mutant::UnflushedNumbers,
];

#[test]
fn nothing_comes_of_a_cut_at_any_operation_nor_of_a_second() {
    let mut all = Tally::default();
    let mut course = Course::new(plan(UPDATES, None)).unwrap();
    while course.upcoming().is_some() {
        let Shown { tally, bad } = course.cut();
        assert_eq!(bad, None);
        assert_eq!(tally.cuts, tally.operations * 5);
        assert!(tally.operations > 20 && tally.second_cuts > tally.operations * 5, "{tally:?}");
        all.add(&tally);
    }
    assert_eq!((all.updates, all.bad), (u64::from(UPDATES), 0));
    assert!(all.recoveries > 2_000, "{all:?}");
}

#[test]
fn every_bug_that_a_cut_can_show_is_found_and_shown_again() {
    for mutant in MUTANTS {
        let plan = plan(UPDATES, Some(mutant));
        let mut course = Course::new(plan).unwrap();
        let found = std::iter::from_fn(|| course.upcoming().map(|_| course.cut())).find_map(|shown| shown.bad);
        let Some(bad) = found else { panic!("{} was not found in {UPDATES} updates", mutant.name()) };
        let again = replay(plan, &bad.spot).unwrap();
        assert_eq!(again.bad, Some(bad.why), "{}", mutant.name());
        let without = replay(Plan { mutant: None, ..plan }, &bad.spot).unwrap();
        assert_eq!(without.bad, None, "{}: it is not the mutant that is bad", mutant.name());
    }
}

#[test]
fn it_is_the_same_twice_and_with_another_seed_it_is_not() {
    let first = |seed| Course::new(Plan { seed, ..plan(1, None) }).unwrap().cut();
    assert_eq!(first(5), first(5));
    assert_ne!(first(5), first(6));
}

#[test]
fn a_timeline_tells_of_both_cuts_and_what_comes_of_them() {
    let first = (20, Pattern::Torn);
    let second = (9, drawn(0, 1, first, 9));
    let spot = Spot { update: 1, first: Some(first), second: Some(second) };
    let Replay { timeline, bad } = replay(plan(2, None), &spot).unwrap();
    assert_eq!(bad, None);
    let lives: Vec<&[String]> = timeline.split(|line| line.contains("POWER GOES")).collect();
    let [before, between, after] = lives.as_slice() else { panic!("{timeline:#?}") };
    assert!(before.last().unwrap().contains("operation 20: "), "{before:#?}");
    assert!(between.last().unwrap().contains("operation 9: "), "{between:#?}");
    for life in [between, after] {
        assert!(life.first().unwrap().contains("the device gets power"), "{life:#?}");
    }
    assert!(after.last().unwrap().contains("it ends as it should"));
    let beyond = Spot { first: Some((9_999, Pattern::Half)), ..spot };
    assert!(replay(plan(2, None), &beyond).unwrap_err().contains("no operation 9999"));
}

fn plan(updates: u32, mutant: Option<Mutant>) -> Plan {
    Plan { updates, seed: 0, every_second: false, mutant }
}
