//! Outboxes that repeat, reorder, jump and lie; sessions and reports that come late.

use bellwether_hub_core::event::What;
use bellwether_hub_core::fleet::{
    EVENTS_MAX, EVENTS_SPAN, OUTBOXES_MAX, Presence, SCORED_MODELS_MAX, SCORED_VERSIONS_MAX, STALE_AFTER,
};
use bellwether_hub_core::{Change, Denied};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::message::{Gone, Hello};
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Batch, Event, Order, OutboxId, Phase, Record, RecordBody, Report, Scores, Signed, open_by, seal,
};

use crate::world::{DEVICE, World, device_key, key, named, unchecked};

const OUTBOX: OutboxId = OutboxId([1; 16]);

/// Records `first` and the next, one row each.
fn batch(id: &DeviceId, oldest: u64, first: u64, records: usize) -> Batch<'static> {
    let scores = Scores {
        name: "digits".parse().unwrap(),
        version: "1".parse().unwrap(),
        rows: 1,
        errors: 0,
        p50_us: 10,
        p95_us: 20,
    };
    let record = Record { at: Millis(0), body: RecordBody::Scores(scores) };
    let records = std::iter::repeat_n(record, records).collect();
    Batch { device: id.clone(), outbox: OUTBOX, oldest, first, records }
}

fn send(world: &mut World, batch: &Batch<'_>) -> Result<u64, Denied> {
    let (changes, through) = world.rules.batch(batch, world.now)?;
    world.take(Ok(changes));
    Ok(through)
}

fn rows(world: &World, id: &DeviceId) -> u64 {
    world.rules.device(id).unwrap().scores.values().map(|totals| totals.rows).sum()
}

fn missing(world: &World, id: &DeviceId) -> u64 {
    world.rules.device(id).unwrap().missing
}

#[test]
fn each_record_counts_once_however_often_it_comes() {
    let mut world = World::new();
    let cam = world.enrol(0);
    assert_eq!(send(&mut world, &batch(&cam, 1, 1, 5)), Ok(5));
    assert_eq!(send(&mut world, &batch(&cam, 1, 1, 5)), Ok(5));
    assert_eq!(send(&mut world, &batch(&cam, 1, 3, 8)), Ok(10));
    assert_eq!(send(&mut world, &batch(&cam, 1, 2, 3)), Ok(10));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (10, 0));
    let again = world.rules.batch(&batch(&cam, 1, 1, 5), world.now).unwrap();
    assert!(again.0.is_empty(), "a repeated batch changes nothing");
}

#[test]
fn a_batch_ahead_of_its_turn_waits_for_the_ones_before() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let early = send(&mut world, &batch(&cam, 1, 6, 5));
    assert_eq!(early, Err(Denied::OutOfOrder { first: 6, taken: 0 }));
    assert_eq!(send(&mut world, &batch(&cam, 1, 1, 5)), Ok(5));
    assert_eq!(send(&mut world, &batch(&cam, 1, 6, 5)), Ok(10));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (10, 0));
}

#[test]
fn what_the_device_had_to_drop_is_counted_as_missing() {
    let mut world = World::new();
    let cam = world.enrol(0);
    send(&mut world, &batch(&cam, 1, 1, 2)).unwrap();
    assert_eq!(send(&mut world, &batch(&cam, 10, 10, 1)), Ok(10));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (3, 7));
    assert!(world.events().any(|what| *what == What::RecordsMissing { device: cam.clone(), records: 7 }));
}

/// A gap at number `s` stands for itself and those before it that nobody took.
#[test]
fn a_gap_counts_every_record_it_stands_for_once() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let gap = |count, first, records| {
        let mut batch = batch(&cam, first, first, records);
        batch.records[0].body = RecordBody::Gap(count);
        batch
    };
    assert_eq!(send(&mut world, &gap(10, 10, 3)), Ok(12));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (2, 10));
    assert_eq!(send(&mut world, &gap(10, 10, 3)), Ok(12), "once");
    // Of these, 11 and 12 were taken before the device dropped them.
    assert_eq!(send(&mut world, &gap(20, 20, 1)), Ok(20));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (2, 18));
    assert_eq!(send(&mut world, &gap(1, 21, 1)), Ok(21));
    assert_eq!((rows(&world, &cam), missing(&world, &cam)), (2, 19));
    let told = world.events().filter_map(|what| {
        let What::RecordsMissing { records, .. } = what else { return None };
        Some(*records)
    });
    assert_eq!(told.collect::<Vec<u64>>(), [10, 8, 1]);
}

/// Row 50 of the attack table.
#[test]
fn a_hub_restored_from_a_backup_goes_on_where_the_outbox_is() {
    let mut world = World::new();
    let cam = world.enrol(0);
    send(&mut world, &batch(&cam, 1, 1, 5)).unwrap();
    let mut restored = world.clone();
    send(&mut world, &batch(&cam, 1, 6, 5)).unwrap();
    // Records 1 to 10 were acknowledged and are gone from the device.
    assert_eq!(send(&mut restored, &batch(&cam, 11, 11, 2)), Ok(12));
    assert_eq!((rows(&restored, &cam), missing(&restored, &cam)), (7, 5));
}

#[test]
fn a_new_outbox_begins_at_one_and_the_old_ones_are_remembered_up_to_a_bound() {
    let mut world = World::new();
    let cam = world.enrol(0);
    for n in 0..20u8 {
        let outbox = OutboxId([n; 16]);
        assert_eq!(send(&mut world, &Batch { outbox, ..batch(&cam, 1, 1, 2) }), Ok(2));
    }
    assert_eq!(rows(&world, &cam), 40);
    assert_eq!(world.rules.device(&cam).unwrap().outboxes.len(), OUTBOXES_MAX);
    let latest = OutboxId([19; 16]);
    send(&mut world, &Batch { outbox: latest, ..batch(&cam, 1, 1, 2) }).unwrap();
    assert_eq!(rows(&world, &cam), 40);
}

#[test]
fn no_number_a_device_claims_stops_the_hub() {
    let mut world = World::new();
    let cam = world.enrol(0);
    for first in [0, 1, u64::MAX - 1, u64::MAX] {
        for oldest in [0, first, u64::MAX] {
            for records in [0, 1, 32] {
                drop(send(&mut world, &batch(&cam, oldest, first, records)));
            }
        }
    }
    let before = world.log.len();
    for _ in 0..10 {
        send(&mut world, &Batch { outbox: OutboxId([2; 16]), ..batch(&cam, 99, 99, 0) }).unwrap();
    }
    assert_eq!(world.log.len(), before, "an empty batch leaves no trace");
}

#[test]
fn what_a_device_reported_can_be_shown_to_others_as_it_signed_it() {
    let mut world = World::new();
    let cam = world.enrol(0);
    assert_eq!(world.rules.device(&cam).unwrap().signed_report(), None);
    let report = world.next_report(&cam, Order::default(), std::iter::empty().collect());
    let mut body = [0; 4096];
    let sealed = seal(&report, world.fleet(), &key(DEVICE), &mut body).unwrap();
    world.take(world.rules.report(report.clone(), sealed.signatures[0].bytes, world.now));
    let shown = world.rules.device(&cam).unwrap().signed_report().unwrap();
    let signed: Signed<'_> = frame::decode(&shown).unwrap();
    assert_eq!(signed, sealed, "byte for byte");
    assert_eq!(open_by::<Report>(world.fleet(), &signed, &device_key(0)), Ok(report));
}

/// Rows 16 and 21 of the attack table.
#[test]
fn old_reports_counters_and_wills_are_refused_or_ignored() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let report = world.next_report(&cam, Order::default(), std::iter::empty().collect());
    world.take(world.rules.report(report.clone(), unchecked(), world.now));
    assert_eq!(world.rules.report(report, unchecked(), world.now), Err(Denied::OldReport { latest: 1 }));
    world.take(world.rules.connect(&cam, 7, world.now));
    assert!(world.rules.connect(&cam, 7, world.now).is_err());
    assert!(world.rules.connect(&cam, 6, world.now).is_err());
    world.take(world.rules.connect(&cam, 8, world.now));
    world.take(world.rules.hello(&cam, Hello { boot: 5, session: 2 }, world.now));
    let stale = Gone { boot: 5, session: 1 };
    world.take(world.rules.gone(&cam, stale, world.now));
    let presence = |world: &World| world.rules.device(&cam).unwrap().presence(world.now);
    assert_eq!(presence(&world), Presence::Online);
    world.take(world.rules.gone(&cam, Gone { boot: 5, session: 2 }, world.now));
    assert_eq!(presence(&world), Presence::Offline);
    let report = world.next_report(&cam, Order::default(), std::iter::empty().collect());
    world.take(world.rules.report(report, unchecked(), world.now));
    assert_eq!(presence(&world), Presence::Online);
    let online = world.events().filter(|what| matches!(what, What::DeviceOnline { .. })).count();
    let offline = world.events().filter(|what| matches!(what, What::DeviceOffline { .. })).count();
    assert_eq!((online, offline), (2, 1), "every change of presence is told");
    world.now = world.now.saturating_add(STALE_AFTER).saturating_add(Millis(1));
    assert_eq!(presence(&world), Presence::Stale);
}

#[test]
fn a_name_belongs_to_its_first_key() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let other = world.rules.enrol(&cam, device_key(1), Default::default(), world.now);
    assert_eq!(other, Err(Denied::OtherKey(cam.clone())));
    assert!(world.rules.enrol(&cam, device_key(0), Default::default(), world.now).is_ok());
}

/// Row 50 of the attack table: the hub goes on above whatever the device has seen.
#[test]
fn a_hub_that_forgot_its_assignments_goes_on_above_the_devices() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let model = world.approved("digits");
    world.grant(&model, named(&[0]));
    world.start(&model, &[named(&[0])]).unwrap();
    world.tick(0);
    let order = |world: &World| world.rules.device(&cam).unwrap().assignment.as_ref().unwrap().order;
    assert_eq!(order(&world), Order { generation: 1, sequence: 1 });
    // The device has seen number 9 of the hub that was lost.
    let seen = Order { generation: 1, sequence: 9 };
    let report = world.next_report(&cam, seen, std::iter::empty().collect());
    world.take(world.rules.report(report, unchecked(), world.now));
    world.tick(0);
    assert_eq!(order(&world), Order { generation: 1, sequence: 10 });
    world.tick(0);
    assert_eq!(order(&world).sequence, 10, "once is enough");
    // The same number with other content: the device says that it is stale.
    let mut report = world.next_report(&cam, order(&world), std::iter::empty().collect());
    report.refused = Some(Reject::StaleSequence);
    world.take(world.rules.report(report, unchecked(), world.now));
    world.tick(0);
    assert_eq!(order(&world).sequence, 11);
    world.tick(0);
    assert_eq!(order(&world).sequence, 11);
}

/// Row 25 of the attack table, as far as it is the hub's.
#[test]
fn a_device_that_claims_the_last_number_moves_nobody_but_itself() {
    let mut world = World::new();
    let (liar, cam) = (world.enrol(0), world.enrol(1));
    let model = world.approved("digits");
    world.grant(&model, named(&[0, 1]));
    world.start(&model, &[named(&[0, 1])]).unwrap();
    world.tick(0);
    for seen in [Order { generation: 1, sequence: u64::MAX }, Order { generation: u32::MAX, sequence: u64::MAX }] {
        let mut report = world.next_report(&liar, seen, std::iter::empty().collect());
        report.refused = Some(Reject::StaleSequence);
        world.take(world.rules.report(report, unchecked(), world.now));
        world.tick(0);
        let before = world.log.len();
        for _ in 0..5 {
            let issued = world.rules.issue(world.now);
            world.take(Ok(issued));
        }
        assert_eq!(world.log.len(), before, "the hub does not run after it");
    }
    let other = world.rules.device(&cam).unwrap().assignment.as_ref().unwrap().order;
    assert_eq!(other, Order { generation: 1, sequence: 1 });
    assert!(!world.log.iter().any(|change| matches!(change, Change::DeviceGone(_))));
}

#[test]
fn a_device_that_invents_things_pushes_out_nothing_and_stays_small() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let mut next = 1;
    let mut tell = |world: &mut World, body: RecordBody<'_>| {
        let record = Record { at: Millis(0), body };
        let records = std::iter::once(record).collect();
        let batch = Batch { device: cam.clone(), outbox: OUTBOX, oldest: next, first: next, records };
        assert_eq!(send(world, &batch), Ok(next));
        next += 1;
    };
    let installs = |world: &World| world.events().filter(|what| matches!(what, What::Install { .. })).count();
    for _ in 0..3 * EVENTS_MAX {
        let (name, version) = ("digits".parse().unwrap(), "1".parse().unwrap());
        tell(&mut world, RecordBody::Event(Event { name, version, phase: Phase::Committed, reject: None }));
    }
    assert!(installs(&world) <= EVENTS_MAX as usize);
    let before = installs(&world);
    world.now = world.now.saturating_add(EVENTS_SPAN).saturating_add(Millis(1));
    let (name, version) = ("digits".parse().unwrap(), "1".parse().unwrap());
    tell(&mut world, RecordBody::Event(Event { name, version, phase: Phase::Committed, reject: None }));
    assert_eq!(installs(&world), before + 1, "an hour later it is heard again");
    for number in 1..200_u32 {
        for name in ["digits".to_owned(), format!("invented-{number}")] {
            let (name, version) = (name.parse().unwrap(), number.to_string().parse().unwrap());
            tell(&mut world, RecordBody::Scores(Scores { name, version, rows: 1, errors: 0, p50_us: 1, p95_us: 1 }));
        }
    }
    let device = world.rules.device(&cam).unwrap();
    assert_eq!(device.scores.len(), SCORED_MODELS_MAX);
    assert!(device.scores.values().all(|totals| totals.by_version.len() <= SCORED_VERSIONS_MAX));
}
