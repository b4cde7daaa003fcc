//! Devices that wait, models in the shadow, and clocks that are set.

use bellwether_hub_core::event::What;
use bellwether_hub_core::fleet::{Presence, Standing};
use bellwether_hub_core::rollout::{Pause, Policy, State, Step};
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Agreement, Batch, Hold, Mode, ModelReport, Order, OutboxId, Phase, Record, RecordBody, Running,
};

use crate::world::{POLICY, World, buckets, device, running_one, unchecked};

const SHADOW: Policy = Policy { mode: Mode::Shadow, ..POLICY };

/// A device saw its assignment and says how far it is with this version.
fn says(world: &mut World, id: &DeviceId, model: &ModelRef, phase: Phase) {
    let known = world.rules.device(id).unwrap();
    let seen = known.assignment.as_ref().map_or(Order::default(), |issued| issued.order);
    let active = known.report.iter().flat_map(|report| &report.models).find_map(|model| model.active);
    let release = world.rules.version(model).unwrap().release.as_ref().unwrap().digest();
    let target = Some(Running { version: model.version, release });
    let active = if phase == Phase::Committed { target } else { active };
    let line = ModelReport { name: model.name.clone(), active, target, phase, reject: None, progress: 0 };
    let report = world.next_report(id, seen, std::iter::once(line).collect());
    world.take(world.rules.report(report, unchecked(), world.now));
}

fn mode_told(world: &World, id: &DeviceId) -> Vec<(u32, Mode)> {
    let issued = world.rules.device(id).unwrap().assignment.as_ref().unwrap();
    issued.models.iter().map(|want| (want.model.version.number(), want.mode)).collect()
}

#[test]
fn devices_that_wait_stop_nobody_and_follow() {
    let (mut world, _, two) = running_one(3);
    let id = world.start_with(&two, &[buckets(1000)], POLICY).unwrap();
    world.tick(0);
    says(&mut world, &device(0), &two, Phase::Held(Hold::Window));
    says(&mut world, &device(1), &two, Phase::Held(Hold::Busy));
    let counts = world.rules.counts(world.rollout(id), world.now);
    assert_eq!((counts.held, counts.updating, counts.healthy), (2, 1, 0));
    says(&mut world, &device(2), &two, Phase::Committed);
    world.tick(1);
    world.tick(1);
    assert_eq!(world.rollout(id).state, State::Completed);
    let held = world.rules.device(&device(0)).unwrap();
    assert_eq!(held.stands(&held.assignment.as_ref().unwrap().models[0]), Standing::Held(Hold::Window));
    says(&mut world, &device(0), &two, Phase::Committed);
    assert!(world.rules.device(&device(0)).unwrap().in_sync());
}

#[test]
fn a_shadow_is_told_to_those_that_run_what_answers_and_to_others_afterwards() {
    let (mut world, one, two) = running_one(3);
    let id = world.start_with(&two, &[buckets(1000)], SHADOW).unwrap();
    world.tick(0);
    for n in 0..3 {
        assert_eq!(mode_told(&world, &device(n)), [(2, Mode::Shadow)]);
        says(&mut world, &device(n), &two, Phase::Shadow);
    }
    world.tick(1);
    world.tick(1);
    assert_eq!(world.rollout(id).state, State::Completed);
    let late = world.enrol(9);
    world.tick(1);
    assert_eq!(mode_told(&world, &late), [(1, Mode::Active)], "first what answers");
    says(&mut world, &late, &one, Phase::Probation);
    world.tick(1);
    assert_eq!(mode_told(&world, &late), [(1, Mode::Active)], "until it is there to stay");
    says(&mut world, &late, &one, Phase::Committed);
    world.tick(1);
    assert_eq!(mode_told(&world, &late), [(2, Mode::Shadow)]);
    // It is no version that the fleet runs: what comes next follows version 1.
    let three = world.approved("digits");
    world.grant(&three, buckets(1000));
    let next = world.start_with(&three, &[buckets(1000)], POLICY).unwrap();
    assert_eq!(world.rollout(next).from, Some(one.version));
}

#[test]
fn what_was_in_the_shadow_answers_by_a_rollout_of_its_own_and_is_on_its_way_until_then() {
    let (mut world, one, two) = running_one(3);
    world.start_with(&two, &[buckets(1000)], SHADOW).unwrap();
    world.tick(0);
    (0..3).for_each(|n| says(&mut world, &device(n), &two, Phase::Shadow));
    world.tick(1);
    world.tick(1);
    let id = world.start_with(&two, &[buckets(1000)], POLICY).unwrap();
    assert_eq!(world.rollout(id).from, Some(one.version));
    world.tick(0);
    let counts = world.rules.counts(world.rollout(id), world.now);
    assert_eq!((counts.healthy, counts.updating), (0, 3), "a shadow does not answer");
    assert_eq!(mode_told(&world, &device(0)), [(2, Mode::Active)]);
    world.settle();
    assert_eq!(world.rollout(id).state, State::Completed);
}

#[test]
fn agreement_adds_up_over_devices_against_the_version_that_most_was_compared_with() {
    let (mut world, one, two) = running_one(3);
    let id = world.start_with(&two, &[buckets(1000)], SHADOW).unwrap();
    world.tick(0);
    assert_eq!(world.rules.agreement(world.rollout(id)), None);
    let tell = |world: &mut World, n: u8, sequence, against: u32, rows, agreed| {
        let told = Agreement {
            name: two.name.clone(),
            version: two.version,
            against: against.try_into().unwrap(),
            rows,
            agreed,
            passed_by: 1,
            errors: 0,
            p95_us: 10,
        };
        let record = Record { at: world.now, body: RecordBody::Agreement(told) };
        let batch = Batch {
            device: device(n),
            outbox: OutboxId([n; 16]),
            oldest: sequence,
            first: sequence,
            records: std::iter::once(record).collect(),
        };
        let taken = world.rules.batch(&batch, world.now).map(|(changes, _)| changes);
        world.take(taken);
    };
    let version = one.version.number();
    tell(&mut world, 0, 1, version, 100, 90);
    tell(&mut world, 0, 2, version, 100, 100);
    tell(&mut world, 1, 1, version, 50, 60); // more than it compared: a device that lies gains nothing
    tell(&mut world, 2, 1, 7, 10, 0);
    let agreed = world.rules.agreement(world.rollout(id)).unwrap();
    assert_eq!((agreed.against, agreed.rows, agreed.agreed, agreed.passed_by), (version, 250, 240, 3));
    tell(&mut world, 0, 3, 7, 1, 1);
    let agreed = world.rules.agreement(world.rollout(id)).unwrap();
    assert_eq!((agreed.against, agreed.rows), (version, 50), "another answers on device 0: it begins anew");
}

#[test]
fn a_clock_that_is_set_ends_no_soak_and_makes_nobody_silent() {
    let (mut world, _, two) = running_one(3);
    let policy = Policy { soak: Millis::from_secs(600), ..POLICY };
    let id = world.start_with(&two, &[buckets(1000)], policy).unwrap();
    world.tick(0);
    const MONTH: i64 = 30 * 24 * 3600 * 1000;
    let set = |world: &mut World, by: i64| {
        world.now = Millis(world.now.0.saturating_add_signed(by));
        let changes = world.rules.clock_set(by, world.now);
        world.take(Ok(changes));
    };
    set(&mut world, MONTH);
    world.tick(1000);
    let silent = matches!(world.rollout(id).state, State::Paused { why: Pause::Silence(_), .. });
    assert!(!silent && world.rules.devices().all(|known| known.presence(world.now) == Presence::Online));
    world.settle();
    assert!(matches!(world.rollout(id).state, State::Going { step: Step::Soaking { .. }, .. }));
    set(&mut world, MONTH);
    world.tick(500_000);
    assert!(matches!(world.rollout(id).state, State::Going { step: Step::Soaking { .. }, .. }));
    set(&mut world, -2 * MONTH);
    world.tick(100_000);
    assert_eq!(world.rollout(id).state, State::Completed, "it was watched for ten minutes");
    let told = world.events().filter(|what| matches!(what, What::ClockSet { .. })).map(ToString::to_string);
    let told: Vec<String> = told.collect();
    assert_eq!((told.len(), told[0].as_str()), (3, "the hub's clock was set forward by 2592000 s"));
}
