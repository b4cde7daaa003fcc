//! A rollout told as a story, and its side paths.

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_hub_core::rollout::{Pause, State, Step, Verb};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::trust::{Cohort, bucket};

use crate::world::{BO, World, buckets, device, device_key, named, unchecked};

const DEVICES: u8 = 24;

/// A fleet that runs version 1 everywhere.
fn running_one() -> (World, ModelRef) {
    let mut world = World::new();
    for n in 0..DEVICES {
        world.enrol(n);
    }
    let one = world.approved("digits");
    world.grant(&one, buckets(1000));
    let id = world.start(&one, &[buckets(1000)]).unwrap();
    world.settle();
    assert_eq!(world.rollout(id).state, State::Completed);
    assert_eq!(world.told_to(&one).len(), usize::from(DEVICES));
    (world, one)
}

/// The devices whose bucket for this version lies below a number.
fn below(world: &World, model: &ModelRef, below: u16) -> Vec<u8> {
    let record = world.rules.version(model).unwrap();
    let salt = world.rules.approved(record).unwrap().release().salt;
    (0..DEVICES).filter(|n| bucket(world.fleet(), &salt, device_key(*n).id()) < below).collect()
}

fn plan() -> [Cohort; 3] {
    [named(&[7]), buckets(250), buckets(1000)]
}

#[test]
fn one_named_device_then_a_quarter_then_all() {
    let (mut world, _) = running_one();
    let two = world.approved("digits");
    let id = world.start(&two, &plan()).unwrap();
    assert_eq!(world.rollout(id).from.map(|version| version.number()), Some(1));

    world.settle();
    assert!(world.waits(id, 0), "no grant, no offer");
    assert!(world.told_to(&two).is_empty());

    world.grant(&two, named(&[7]));
    world.tick(0);
    assert_eq!(world.told_to(&two), [device(7)]);
    world.tick(0);
    assert!(matches!(world.rollout(id).state, State::Going { stage: 0, step: Step::Offering { .. } }));
    world.obey(&device(7), None);
    world.settle();
    assert!(world.waits(id, 1), "the next stage waits for its own grant");
    assert_eq!(world.told_to(&two), [device(7)]);

    world.grant(&two, buckets(250));
    world.settle();
    assert!(world.waits(id, 2));
    let mut quarter: Vec<_> = below(&world, &two, 250);
    quarter.push(7);
    quarter.sort_unstable();
    quarter.dedup();
    assert!((2..DEVICES.into()).contains(&quarter.len()), "{quarter:?}");
    let expected: Vec<_> = quarter.iter().map(|n| device(*n)).collect();
    assert_eq!(world.told_to(&two), expected);

    world.grant(&two, buckets(1000));
    world.settle();
    assert_eq!(world.rollout(id).state, State::Completed);
    assert!(world.rollout(id).ended_at.is_some());
    assert_eq!(world.told_to(&two).len(), usize::from(DEVICES));
    let kinds: Vec<&str> = world.events().filter(|what| what.rollout() == Some(id)).map(What::kind).collect();
    assert_eq!(
        kinds,
        [
            "rollout_started",
            "grant_awaited",
            "stage_offered",
            "stage_passed",
            "grant_awaited",
            "stage_offered",
            "stage_passed",
            "grant_awaited",
            "stage_offered",
            "stage_passed",
            "rollout_completed",
        ]
    );
}

#[test]
fn a_failure_pauses_and_nobody_else_is_offered() {
    let (mut world, one) = running_one();
    let two = world.approved("digits");
    world.grant(&two, buckets(1000));
    let id = world.start(&two, &[named(&[1, 2, 3]), buckets(1000)]).unwrap();
    world.tick(0);
    world.obey(&device(1), None);
    world.obey(&device(2), Some(Reject::GoldenMismatch));
    world.tick(1);
    let paused = State::Paused { stage: 0, step: Step::Offering { since: world.now }, why: Pause::Failures(1) };
    let State::Paused { why, stage, .. } = &world.rollout(id).state else { panic!("{paused:?}") };
    assert_eq!((stage, why), (&0, &Pause::Failures(1)));
    let offered = world.told_to(&two);
    assert_eq!(offered.len(), 3);
    // A device that was offered keeps its offer; one that joins or returns gets the one before.
    let late = world.enrol(DEVICES);
    world.settle();
    assert_eq!(world.told_to(&two), offered);
    assert_eq!(world.told(&late, "digits"), Some(one));
    let promote = world.rules.refusal(world.rollout(id), Verb::Pause, world.now);
    assert_eq!(promote.as_deref(), Some("it is paused already"));
}

#[test]
fn what_failed_once_may_be_offered_again() {
    let (mut world, _) = running_one();
    let two = world.approved("digits");
    world.grant(&two, buckets(1000));
    let first = world.start(&two, &[named(&[1])]).unwrap();
    world.tick(0);
    world.obey(&device(1), Some(Reject::DiskFull));
    world.tick(1);
    assert!(matches!(world.rollout(first).state, State::Paused { .. }));
    let aborted = world.rules.steer(first, Verb::Abort, "", "x", world.now);
    world.take(aborted);
    world.settle();
    let second = world.start(&two, &[named(&[1])]).unwrap();
    world.tick(0);
    world.tick(1);
    let state = &world.rollout(second).state;
    assert!(
        matches!(state, State::Going { .. }),
        "the report of the first offer is no answer to the second: {state:?}"
    );
    world.obey(&device(1), Some(Reject::Withdrawn));
    world.tick(1);
    assert!(matches!(world.rollout(second).state, State::Going { .. }), "what was taken back is no failure");
    world.obey(&device(1), Some(Reject::DiskFull));
    world.tick(1);
    assert!(matches!(world.rollout(second).state, State::Paused { .. }));
}

#[test]
fn silence_pauses() {
    let (mut world, _) = running_one();
    let two = world.approved("digits");
    world.grant(&two, named(&[1]));
    let id = world.start(&two, &[named(&[1])]).unwrap();
    world.tick(0);
    // Its session lives on: it is heard of, but says nothing of version 2.
    world.now = world.now.saturating_add(bellwether_protocol::time::Millis::from_secs(61));
    let hello = bellwether_protocol::message::Hello { boot: 1, session: 1 };
    world.take(world.rules.hello(&device(1), hello, world.now));
    world.tick(0);
    assert!(matches!(&world.rollout(id).state, State::Paused { why: Pause::Silence(1), .. }));
}

#[test]
fn what_is_aborted_gives_way_to_the_rollout_before() {
    let (mut world, one) = running_one();
    let two = world.approved("digits");
    world.grant(&two, buckets(1000));
    let id = world.start(&two, &[buckets(500), buckets(1000)]).unwrap();
    world.tick(0);
    let some = world.told_to(&two);
    assert!(!some.is_empty());
    for id in &some {
        world.obey(id, None);
    }
    world.take(world.rules.steer(id, Verb::Abort, "smells", "Olga", world.now));
    world.settle();
    assert_eq!(world.rollout(id).state, State::Aborted);
    assert!(world.told_to(&two).is_empty());
    assert_eq!(world.told_to(&one).len(), usize::from(DEVICES));
    for device in world.rules.devices() {
        assert_eq!(device.running(&one.name), Some(one.version), "{}", device.id);
    }
    assert!(!world.events().any(|what| matches!(what, What::StagePassed { rollout, .. } if *rollout == id)));
    for verb in Verb::ALL {
        let refused = world.rules.steer(id, verb, "", "Olga", world.now);
        let why = "the rollout has ended".to_owned();
        assert_eq!(refused, Err(Denied::NotNow { action: verb.name(), why }));
    }
}

#[test]
fn a_device_that_joins_late_follows_what_completed() {
    let (mut world, one) = running_one();
    let late = world.enrol(DEVICES);
    world.settle();
    assert_eq!(world.told(&late, "digits"), Some(one));
    assert!(world.rules.device(&late).unwrap().in_sync());
}

#[test]
fn one_rollout_of_a_model_at_a_time_and_several_models_side_by_side() {
    let (mut world, one) = running_one();
    let two = world.approved("digits");
    let other = world.approved("defects");
    let id = world.start(&two, &plan()).unwrap();
    let refused = world.start(&one, &plan());
    assert_eq!(refused, Err(Denied::RolloutGoing { id, model: two.clone() }));
    world.grant(&other, buckets(1000));
    world.start(&other, &[buckets(1000)]).unwrap();
    world.settle();
    assert_eq!(world.told_to(&other).len(), usize::from(DEVICES));
    assert_eq!(world.told_to(&one).len(), usize::from(DEVICES));
    world.take(world.rules.steer(id, Verb::Abort, "", "Olga", world.now));
    assert!(world.start(&one, &plan()).is_ok());
}

#[test]
fn a_person_pauses_resumes_and_promotes() {
    let (mut world, _) = running_one();
    let two = world.approved("digits");
    let id = world.start(&two, &[named(&[1, 2]), buckets(1000)]).unwrap();
    let steer = |world: &mut World, verb| {
        let decided = world.rules.steer(id, verb, "lunch", "Olga", world.now);
        world.make(decided)
    };
    let refused = |why: &str, verb: Verb| Err(Denied::NotNow { action: verb.name(), why: why.into() });
    assert_eq!(steer(&mut world, Verb::Promote), refused("the stage waits for a signed grant", Verb::Promote));
    steer(&mut world, Verb::Pause).unwrap();
    world.grant_by(&two, buckets(1000), &[BO]).unwrap();
    world.settle();
    assert!(world.told_to(&two).is_empty(), "paused: a grant alone offers nothing");
    steer(&mut world, Verb::Resume).unwrap();
    world.tick(0);
    assert_eq!(world.told_to(&two).len(), 2);
    assert_eq!(steer(&mut world, Verb::Promote), refused("no device of this stage runs it yet", Verb::Promote));
    world.obey(&device(1), None);
    steer(&mut world, Verb::Promote).unwrap();
    world.settle();
    assert_eq!(world.rollout(id).state, State::Completed);
}

/// A device that took its assignment and could not even read the release has failed, whatever
/// else it runs.
#[test]
fn a_refused_assignment_counts_as_a_failure() {
    let (mut world, _) = running_one();
    let two = world.approved("digits");
    world.grant(&two, named(&[1]));
    let id = world.start(&two, &[named(&[1])]).unwrap();
    world.tick(0);
    let before = world.rules.device(&device(1)).unwrap().clone();
    let models = before.report.unwrap().models;
    let mut report = world.next_report(&device(1), before.assignment.unwrap().order, models);
    report.refused = Some(Reject::EvidenceMissing);
    world.take(world.rules.report(report, unchecked(), world.now));
    world.tick(1);
    assert!(matches!(&world.rollout(id).state, State::Paused { why: Pause::Failures(1), .. }));
}
