//! The simulator itself: what holds, that it is the same twice, and that it finds planted bugs.

use bellwether_world::{Fault, Faults, Mutant, Scenario, run, shrink};

/// Seeds within which each planted bug must be found.
const SEEDS: u64 = 150;

#[test]
fn where_nothing_breaks_everything_is_installed() {
    let scenario = Scenario { devices: 8, faults: Faults::NONE, chaos_ms: 120_000, ..Scenario::draw(3) };
    let ran = run(&scenario);
    assert_eq!(ran.violation, None);
    assert!(ran.commits >= 8 && ran.rows > 100 && ran.cut_points == 0, "{ran:?}");
}

#[test]
fn a_seed_is_the_same_twice_and_others_are_not() {
    for seed in 0..4 {
        let (once, twice) = (run(&Scenario::draw(seed)), run(&Scenario::draw(seed)));
        assert_eq!(once, twice);
        assert_eq!(once.violation, None);
        assert_ne!(once.trace, run(&Scenario::draw(seed + 100)).trace);
    }
}

#[test]
fn power_is_lost_in_the_middle_of_operations_and_nothing_comes_of_it() {
    let faults = Faults::of(&[Fault::PowerCuts, Fault::Loss, Fault::HubCrashes]);
    let mut cuts = 0;
    for seed in 0..10 {
        let ran = run(&Scenario { faults, pause_ms: 300, ..Scenario::draw(seed) });
        assert_eq!(ran.violation, None, "seed {seed}");
        cuts += ran.cut_points;
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn every_planted_bug_is_found() {
    for mutant in Mutant::ALL {
        let planted = |seed| Scenario { mutant: Some(mutant), ..Scenario::draw(seed) };
        let found = (0..SEEDS).find(|seed| run(&planted(*seed)).violation.is_some());
        assert!(found.is_some(), "{} was not found in {SEEDS} seeds", mutant.name());
    }
}

#[test]
fn what_breaks_is_made_smaller_and_still_breaks() {
    let planted = Scenario { mutant: Some(Mutant::FloorAtStage), ..Scenario::draw(0) };
    let (least, broken) = shrink(&planted, run(&planted));
    assert!(least.devices <= planted.devices && least.faults.iter().count() <= planted.faults.iter().count());
    assert_eq!(run(&least).violation, broken.violation);
    match broken.violation {
        Some(why) => assert!(why.contains("floor"), "{why}"),
        None => panic!("the smaller one does not break"),
    }
}
