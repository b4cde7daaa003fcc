//! Rollouts that are taken back: by their gate, and by a person.

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_hub_core::rollout::{OnFailure, Pause, Policy, State, Verb};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::message::Gone;
use bellwether_protocol::trust::{Batch, OutboxId, Record, RecordBody, Scores};

use crate::world::{POLICY, World, buckets, device, named, running_one};

const BACK: Policy = Policy { on_failure: OnFailure::RollBack, p95_us_max: Some(1000), ..POLICY };

fn kinds(world: &World, id: u64) -> Vec<&'static str> {
    world.events().filter(|what| what.rollout() == Some(id)).map(What::kind).collect()
}

#[test]
fn a_failure_in_the_first_stage_sends_everyone_back_and_says_why() {
    let (mut world, one, two) = running_one(4);
    let id = world.start_with(&two, &[named(&[0, 1]), buckets(1000)], BACK).unwrap();
    world.tick(0);
    world.obey(&device(0), None);
    world.obey(&device(1), Some(Reject::LatencyBudget));
    world.tick(1);
    assert_eq!(world.rollout(id).state, State::RollingBack { stage: 0, why: Pause::Latency(1), since: world.now });
    assert!(world.told_to(&two).is_empty(), "nobody is told to have it any more");
    assert_eq!(world.told(&device(0), "digits"), Some(one.clone()));
    world.tick(1);
    assert!(matches!(world.rollout(id).state, State::RollingBack { .. }), "device 0 still runs it");
    assert!(matches!(world.start(&two, &[buckets(1000)]), Err(Denied::RolloutGoing { .. })));
    world.settle();
    assert_eq!(world.rollout(id).state, State::RolledBack { stage: 0, why: Pause::Latency(1) });
    assert_eq!(world.told_to(&one).len(), 4);
    // The devices now tell of version 1; what happened to version 2 is kept.
    let rollout = world.rollout(id).clone();
    let failures = world.rules.failures(&rollout);
    assert_eq!((failures.len(), failures[0].reject, failures[0].count), (1, Reject::LatencyBudget, 1));
    assert_eq!(failures[0].devices, [device(1)]);
    let stopped = world.rules.counts_of_stage(&rollout, &rollout.stages[0], world.now);
    assert_eq!((stopped.total, stopped.healthy, stopped.failed), (2, 1, 1));
    assert_eq!(kinds(&world, id), ["rollout_started", "stage_offered", "rollout_rolling_back", "rollout_rolled_back"]);
}

#[test]
fn a_device_that_is_away_does_not_hold_the_end_up_and_follows_later() {
    let (mut world, one, two) = running_one(4);
    let id = world.start_with(&two, &[buckets(1000)], BACK).unwrap();
    world.tick(0);
    world.obey(&device(0), None);
    world.take(world.rules.gone(&device(0), Gone { boot: 0, session: 1 }, world.now));
    world.obey(&device(1), Some(Reject::GoldenMismatch));
    world.tick(1);
    for n in [2, 3] {
        world.obey(&device(n), None);
    }
    world.tick(1);
    assert_eq!(world.rollout(id).state, State::RolledBack { stage: 0, why: Pause::Failures(1) });
    assert_eq!(world.told(&device(0), "digits"), Some(one.clone()), "its assignment waits for it");
    world.obey(&device(0), None);
    world.settle();
    assert_eq!(world.rules.devices().filter(|device| device.in_sync()).count(), 4);
}

#[test]
fn a_device_that_turns_slow_after_its_probation_fails_the_gate() {
    let (mut world, _, two) = running_one(4);
    let policy = Policy { soak: bellwether_protocol::time::Millis(5000), ..BACK };
    let id = world.start_with(&two, &[named(&[0]), buckets(1000)], policy).unwrap();
    world.tick(0);
    world.obey(&device(0), None);
    world.tick(1);
    let tell = |world: &mut World, sequence, version: &ModelRef, rows, p95_us| {
        let scores =
            Scores { name: version.name.clone(), version: version.version, rows, errors: 0, p50_us: 1, p95_us };
        let record = Record { at: world.now, body: RecordBody::Scores(scores) };
        let batch = Batch {
            device: device(0),
            outbox: OutboxId([7; 16]),
            oldest: sequence,
            first: sequence,
            records: std::iter::once(record).collect(),
        };
        let taken = world.rules.batch(&batch, world.now).map(|(changes, _)| changes);
        world.take(taken);
        world.tick(1);
    };
    let one = ModelRef { version: 1.try_into().unwrap(), ..two.clone() };
    for (sequence, version, rows, p95_us) in [
        (1, &one, 100, 9000), // another version's
        (2, &one, 100, 9000),
        (3, &two, 100, 1250), // within the budget, as exactly as devices tell
        (4, &two, 100, 1251), // the first
        (5, &two, 19, 9000),  // of too few rows
    ] {
        tell(&mut world, sequence, version, rows, p95_us);
        assert!(matches!(world.rollout(id).state, State::Going { .. }), "window {sequence}");
    }
    tell(&mut world, 6, &two, 20, 1251);
    assert!(matches!(world.rollout(id).state, State::RollingBack { stage: 0, why: Pause::Latency(1), .. }));
    let rollout = world.rollout(id).clone();
    assert_eq!(world.rules.failures(&rollout)[0].devices, [device(0)]);
}

#[test]
fn a_person_takes_back_what_completed_unless_something_came_after_it() {
    let (mut world, one, two) = running_one(4);
    let id = world.start(&two, &[buckets(1000)]).unwrap();
    world.settle();
    assert_eq!(world.rollout(id).state, State::Completed);
    let first: Vec<DeviceId> = world.told_to(&two);
    assert_eq!(first.len(), 4);
    let older = world.rules.steer(1, Verb::RollBack, "", "Olga", world.now);
    assert!(matches!(&older, Err(Denied::NotNow { why, .. }) if why.contains("rollout 2")), "{older:?}");
    let steered = world.rules.steer(id, Verb::RollBack, "wrong labels", "Olga", world.now);
    world.take(steered);
    world.settle();
    assert_eq!(world.rollout(id).state, State::RolledBack { stage: 0, why: Pause::Manual("wrong labels".to_owned()) });
    assert_eq!(world.told_to(&one).len(), 4);
    // With version 1 taken back there is nothing to go back to: devices keep it.
    let steered = world.rules.steer(1, Verb::RollBack, "", "Olga", world.now);
    world.take(steered);
    world.settle();
    assert!(matches!(world.rollout(1).state, State::RolledBack { .. }));
}

#[test]
fn devices_that_cannot_go_back_do_not_hold_the_model_for_ever() {
    let (mut world, one, two) = running_one(4);
    let id = world.start_with(&two, &[buckets(1000)], BACK).unwrap();
    world.tick(0);
    for n in 0..3 {
        world.obey(&device(n), None);
    }
    world.obey(&device(3), Some(Reject::GoldenMismatch));
    world.tick(1);
    assert!(matches!(world.rollout(id).state, State::RollingBack { .. }));
    // One refuses what it had before; one is there and does nothing.
    world.obey(&device(0), Some(Reject::DiskFull));
    for n in [1, 3] {
        world.obey(&device(n), None);
    }
    world.tick(1);
    assert!(matches!(world.rollout(id).state, State::RollingBack { .. }), "device 2 may still follow");
    world.tick(BACK.silence.0);
    assert!(matches!(world.rollout(id).state, State::RolledBack { .. }));
    assert_eq!(world.told_to(&one).len(), 4, "what they should have is known all the same");
    let three = world.approved("digits");
    assert!(world.start(&three, &[buckets(1000)]).is_ok());
}

#[test]
fn devices_that_have_the_version_by_an_earlier_rollout_keep_it() {
    let (mut world, _, two) = running_one(4);
    world.start(&two, &[named(&[0])]).unwrap();
    world.settle();
    let id = world.start_with(&two, &[buckets(1000)], BACK).unwrap();
    world.tick(0);
    world.obey(&device(1), Some(Reject::GoldenMismatch));
    world.settle();
    assert!(matches!(world.rollout(id).state, State::RolledBack { .. }), "{:?}", world.rollout(id).state);
    assert_eq!(world.told_to(&two), [device(0)]);
}
