//! Random inputs, in any order: what must hold after every single one.

use std::collections::BTreeMap;

use bellwether_hub_core::rollout::{State, Verb};
use bellwether_hub_core::trust::peek_grant;
use bellwether_hub_core::{Change, Rules};
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{DeviceId, ModelRef};
use bellwether_protocol::message::{Gone, Hello};
use bellwether_protocol::trust::{Cohort, Order};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::{prop_oneof, proptest};

use crate::world::{World, buckets, device, named, unchecked};

/// What can happen to a hub.
#[derive(Clone, Debug)]
enum Input {
    Register(bool),
    Grant(u8, u16),
    GrantNamed(u8, Vec<u8>),
    Start(u8, bool),
    Steer(u8, Verb),
    Delete(u8),
    Enrol(u8),
    Remove(u8),
    Hello(u8, u32),
    Gone(u8, u32),
    Obey(u8, bool),
    Claim(u8, u64),
    Tick(u16),
}

fn inputs() -> impl Strategy<Value = Input> {
    let device = 0..8u8;
    let width = prop_oneof![1..=1000u16, proptest::strategy::Just(1000)];
    let verb = proptest::sample::select(Verb::ALL.to_vec());
    prop_oneof![
        1 => any::<bool>().prop_map(Input::Register),
        3 => (any::<u8>(), width).prop_map(|(model, width)| Input::Grant(model, width)),
        1 => (any::<u8>(), vec(0..8u8, 1..4)).prop_map(|(model, named)| Input::GrantNamed(model, named)),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(model, named)| Input::Start(model, named)),
        2 => (any::<u8>(), verb).prop_map(|(rollout, verb)| Input::Steer(rollout, verb)),
        1 => any::<u8>().prop_map(Input::Delete),
        3 => device.clone().prop_map(Input::Enrol),
        1 => device.clone().prop_map(Input::Remove),
        1 => (device.clone(), 0..3u32).prop_map(|(device, session)| Input::Hello(device, session)),
        1 => (device.clone(), 0..3u32).prop_map(|(device, session)| Input::Gone(device, session)),
        8 => (device.clone(), proptest::bool::weighted(0.9)).prop_map(|(device, well)| Input::Obey(device, well)),
        1 => (device, 0..40u64).prop_map(|(device, seen)| Input::Claim(device, seen)),
        8 => any::<u16>().prop_map(Input::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold(inputs in vec(inputs(), 1..80)) {
        let mut world = World::new();
        for n in 0..3 {
            world.enrol(n);
        }
        world.approved("digits");
        let mut orders = BTreeMap::new();
        for input in inputs {
            let before = world.rules.clone();
            happen(&mut world, &input);
            nobody_has_what_no_grant_reaches(&world.rules);
            a_paused_rollout_offers_nothing_new(&before, &world.rules);
            orders_never_go_back(&world.rules, &mut orders);
            one_rollout_of_a_model_is_going(&world.rules);
        }
        a_replay_gives_the_same(&world);
        a_restart_from_stored_records_gives_the_same(&world);
        events_are_numbered_without_a_gap(&world);
    }
}

/// Refusals are part of the game: they must change nothing, which `&self` sees to.
fn happen(world: &mut World, input: &Input) {
    let versions: Vec<ModelRef> = world
        .rules
        .models()
        .flat_map(|model| world.rules.versions_of(&model.name))
        .map(|record| record.model.clone())
        .collect();
    let model = |n: u8| versions.get(usize::from(n) % versions.len().max(1)).cloned();
    match input {
        Input::Register(first) => drop(world.approved(if *first { "digits" } else { "defects" })),
        Input::Grant(n, width) => {
            if let Some(model) = model(*n) {
                drop(world.grant_by(&model, buckets(*width), &[3]));
            }
        }
        Input::GrantNamed(n, devices) => {
            if let Some(model) = model(*n) {
                drop(world.grant_by(&model, named(devices), &[3]));
            }
        }
        Input::Start(n, by_name) => {
            let stages = [named(&[n % 8]), buckets(300), buckets(1000)];
            let from = usize::from(!by_name);
            if let Some(model) = model(*n) {
                drop(world.start(&model, stages.get(from..).unwrap()));
            }
        }
        Input::Steer(n, verb) => {
            let id = u64::from(*n) % (world.rules.rollouts().count() as u64 + 1) + 1;
            let decided = world.rules.steer(id, *verb, "because", "Olga", world.now);
            drop(world.make(decided));
        }
        Input::Delete(n) => {
            let decided = model(*n).map(|model| world.rules.delete_version(&model, "Ada", world.now));
            if let Some(decided) = decided {
                drop(world.make(decided));
            }
        }
        Input::Enrol(n) => drop(world.enrol(*n)),
        Input::Tick(by) => world.tick(u64::from(*by)),
        Input::Remove(n) | Input::Hello(n, _) | Input::Gone(n, _) | Input::Obey(n, _) | Input::Claim(n, _) => {
            on_device(world, &device(*n), input)
        }
    }
}

fn on_device(world: &mut World, id: &DeviceId, input: &Input) {
    if world.rules.device(id).is_err() {
        return;
    }
    let decided = match input {
        Input::Remove(_) => world.rules.remove_device(id, "Olga", world.now),
        Input::Hello(_, session) => world.rules.hello(id, Hello { boot: 1, session: *session }, world.now),
        Input::Gone(_, session) => world.rules.gone(id, Gone { boot: 1, session: *session }, world.now),
        Input::Obey(_, well) => return world.obey(id, (!well).then_some(Reject::GoldenMismatch)),
        Input::Claim(_, sequence) => {
            let seen = Order { generation: 1, sequence: *sequence };
            let report = world.next_report(id, seen, std::iter::empty().collect());
            world.rules.report(report, unchecked(), world.now)
        }
        Input::Register(_)
        | Input::Grant(..)
        | Input::GrantNamed(..)
        | Input::Start(..)
        | Input::Steer(..)
        | Input::Delete(_)
        | Input::Enrol(_)
        | Input::Tick(_) => panic!("{input:?} is sent to no device"),
    };
    world.take(decided);
}

/// Row 36 of the attack table, as far as it is the hub's: it would be refused on the device, too.
fn nobody_has_what_no_grant_reaches(rules: &Rules) {
    let fleet = rules.trusted().unwrap().fleet();
    for device in rules.devices() {
        for want in device.assignment.iter().flat_map(|issued| &issued.models) {
            let record = rules.version(&want.model).unwrap();
            let approved = rules.approved(record).unwrap();
            let reaches = |cohort: &Cohort| cohort.reaches(fleet, &approved.release().salt, device.key_id());
            let granted = record.grants.iter().filter_map(peek_grant).any(|grant| reaches(&grant.cohort));
            assert!(granted, "{} was told to have {} without a grant", device.id, want.model);
        }
    }
}

fn a_paused_rollout_offers_nothing_new(before: &Rules, after: &Rules) {
    let told = |rules: &Rules, rollout: u64| -> Vec<DeviceId> {
        let has =
            |issued: &bellwether_hub_core::fleet::Issued| issued.models.iter().any(|want| want.rollout == rollout);
        let devices = rules.devices().filter(|device| device.assignment.as_ref().is_some_and(has));
        devices.map(|device| device.id.clone()).collect()
    };
    for rollout in before.rollouts().filter(|rollout| matches!(rollout.state, State::Paused { .. })) {
        let still = after.rollout(rollout.id).unwrap();
        if !matches!(still.state, State::Paused { .. }) {
            continue;
        }
        let known = told(before, rollout.id);
        for id in told(after, rollout.id) {
            assert!(known.contains(&id), "{id} was offered the paused rollout {}", rollout.id);
        }
    }
}

fn orders_never_go_back(rules: &Rules, orders: &mut BTreeMap<DeviceId, Order>) {
    orders.retain(|id, _| rules.device(id).is_ok());
    for device in rules.devices() {
        let order = device.assignment.as_ref().map_or(Order::default(), |issued| issued.order);
        let last = orders.insert(device.id.clone(), order).unwrap_or_default();
        assert!(order >= last, "{} went from {last:?} to {order:?}", device.id);
    }
}

fn one_rollout_of_a_model_is_going(rules: &Rules) {
    for model in rules.models() {
        let going = rules.rollouts().filter(|rollout| rollout.is_going() && rollout.model.name == model.name);
        assert!(going.count() <= 1, "{}", model.name);
    }
}

fn a_replay_gives_the_same(world: &World) {
    let mut copy = Rules::default();
    for change in &world.log {
        copy.apply(change.clone());
    }
    assert_eq!(format!("{copy:?}"), format!("{:?}", world.rules));
}

/// What the store holds after all changes, written as it is stored and read back in another order.
fn a_restart_from_stored_records_gives_the_same(world: &World) {
    let mut store: BTreeMap<String, Change> = BTreeMap::new();
    for change in &world.log {
        let (key, kept) = match change {
            Change::Root(_) => ("root".to_owned(), true),
            Change::KeyRequest(request) => (format!("key-request/{}", request.id()), true),
            Change::KeyRequestGone(id) => (format!("key-request/{id}"), false),
            Change::RootStep(step) => (format!("root-step/{}", step.version), true),
            Change::Recall(recall) => (format!("recall/{}", recall.number), true),
            Change::Checkpoint(_) => ("checkpoint".to_owned(), true),
            Change::Model(model) => (format!("model/{}", model.name), true),
            Change::Version(record) => (format!("version/{}", record.model), true),
            Change::VersionGone(model) => (format!("version/{model}"), false),
            Change::Device(device) => (format!("device/{}", device.id), true),
            Change::DeviceGone(id) => (format!("device/{id}"), false),
            Change::Rollout(rollout) => (format!("rollout/{}", rollout.id), true),
            Change::Event(event) => (format!("event/{}", event.sequence), true),
            Change::Row(row) => (format!("row/{}/{}/{}", row.device, row.outbox, row.sequence), true),
            Change::Troubles(troubles) => (format!("troubles/{}", troubles.device), true),
            Change::TroublesGone(id) => (format!("troubles/{id}"), false),
            Change::Baseline(baseline) => (format!("baseline/{}", baseline.model), true),
            Change::BaselineGone(model) => (format!("baseline/{model}"), false),
            Change::Window(window) => (format!("window/{:?}", window.key), true),
            Change::WindowGone(key) => (format!("window/{key:?}"), false),
            Change::Monitor(monitor) => (format!("monitor/{:?}", monitor.key), true),
            Change::MonitorGone(key) => (format!("monitor/{key:?}"), false),
        };
        if kept {
            store.insert(key, through_json(change))
        } else {
            store.remove(&key)
        };
    }
    let mut restarted = Rules::default();
    for change in store.into_values().rev() {
        restarted.apply(change);
    }
    assert_eq!(format!("{restarted:?}"), format!("{:?}", world.rules));
}

fn through_json(change: &Change) -> Change {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
    }
    match change {
        Change::Root(root) => Change::Root(again(root)),
        Change::KeyRequest(request) => Change::KeyRequest(again(request)),
        Change::RootStep(step) => Change::RootStep(again(step)),
        Change::Recall(recall) => Change::Recall(again(recall)),
        Change::Checkpoint(checkpoint) => Change::Checkpoint(again(checkpoint)),
        Change::Model(model) => Change::Model(again(model)),
        Change::Version(version) => Change::Version(again(version)),
        Change::Device(device) => Change::Device(again(device)),
        Change::Rollout(rollout) => Change::Rollout(again(rollout)),
        Change::Event(event) => Change::Event(again(event)),
        Change::Row(row) => Change::Row(again(row)),
        Change::Troubles(troubles) => Change::Troubles(again(troubles)),
        Change::Baseline(baseline) => Change::Baseline(again(baseline)),
        Change::Window(window) => Change::Window(again(window)),
        Change::Monitor(monitor) => Change::Monitor(again(monitor)),
        Change::VersionGone(_)
        | Change::KeyRequestGone(_)
        | Change::DeviceGone(_)
        | Change::TroublesGone(_)
        | Change::BaselineGone(_)
        | Change::WindowGone(_)
        | Change::MonitorGone(_) => change.clone(),
    }
}

fn events_are_numbered_without_a_gap(world: &World) {
    let numbers = world
        .log
        .iter()
        .filter_map(|change| if let Change::Event(event) = change { Some(event.sequence) } else { None });
    assert!(numbers.eq((1..).take(world.events().count())));
    assert_eq!(world.rules.last_event(), world.events().count() as u64);
}
