//! Later roots, recalls and checkpoints at the hub, and a hub that was restored from a backup.

use bellwether_hub_core::chain::Lacking;
use bellwether_hub_core::event::What;
use bellwether_hub_core::rollout::{Pause, State};
use bellwether_hub_core::{Denied, Rules};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::{ModelRef, Version};
use bellwether_protocol::trust::{Checkpoint, Floor, KeyStatus, Known, Otherwise, Recall, Recalled, Release, Root};

use crate::world::{
    ADA, BO, CY, DEE, OTHER, World, body, buckets, candidate, device, hub_public, named, public, signed, unchecked,
};

/// The next root, changed, signed by these.
fn rotation(world: &World, change: impl FnOnce(&mut Root), seeds: &[u8]) -> Vec<u8> {
    let mut root = world.rules.trusted().unwrap().root().clone();
    root.version += 1;
    change(&mut root);
    signed::<Root>(world.fleet(), &body(&root), seeds)
}

fn rotate(world: &mut World, change: impl FnOnce(&mut Root), seeds: &[u8]) -> Result<(), Denied> {
    let statement = rotation(world, change, seeds);
    world.make(world.rules.add_root(&statement, &hub_public(), "Bo", world.now))
}

fn revoke(seed: u8) -> impl FnOnce(&mut Root) {
    move |root| root.keys.iter_mut().find(|key| key.public == public(seed)).unwrap().status = KeyStatus::Revoked
}

fn recall(world: &mut World, model: &ModelRef, seeds: &[u8]) -> Result<(), Denied> {
    let release = world.rules.version(model).unwrap().release.as_ref().unwrap().digest();
    let recall =
        Recall { name: model.name.clone(), releases: std::iter::once(release).collect(), otherwise: Otherwise::Keep };
    let statement = signed::<Recall>(world.fleet(), &body(&recall), seeds);
    world.make(world.rules.add_recall(&statement, "Bo", world.now))
}

/// Four devices that run version 1 and then 2.
fn running_two() -> (World, ModelRef, ModelRef) {
    let mut world = World::new();
    (0..4).for_each(|n| drop(world.enrol(n)));
    let run = |world: &mut World| {
        let model = world.approved("digits");
        world.grant(&model, buckets(1000));
        world.start(&model, &[buckets(1000)]).unwrap();
        world.settle();
        model
    };
    let (one, two) = (run(&mut world), run(&mut world));
    assert_eq!(world.told_to(&two).len(), 4);
    (world, one, two)
}

#[test]
fn a_root_follows_if_both_thresholds_signed_it_and_it_lists_this_hub() {
    let mut world = World::new();
    assert_eq!(rotate(&mut world, |_| {}, &[BO]), Err(Denied::BadRoot(Reject::TooFewSignatures)));
    assert_eq!(rotate(&mut world, |root| root.version = 3, &[BO, CY]), Err(Denied::BadRoot(Reject::RootSkipped)));
    let other_hub = |root: &mut Root| {
        let director = root.keys.iter_mut().find(|key| key.public == hub_public().director).unwrap();
        director.public = public(77);
    };
    assert_eq!(rotate(&mut world, other_hub, &[BO, CY]), Err(Denied::NotThisHub("director")));
    rotate(&mut world, |root| root.thresholds.approve = 3, &[BO, CY]).unwrap();
    assert_eq!(world.rules.trusted().unwrap().root().version, 2);
    assert!(matches!(world.events().last(), Some(What::RootRotated { version: 2, persons }) if persons == "Bo, Cy"));
}

#[test]
fn a_revoked_approval_no_longer_carries_a_rollout() {
    let mut world = World::new();
    world.enrol(0);
    let model = world.approved("digits");
    world.grant(&model, buckets(1000));
    rotate(&mut world, revoke(BO), &[CY, DEE]).unwrap();
    let started = world.start(&model, &[buckets(1000)]);
    assert_eq!(started, Err(Denied::Statement(Reject::KeyRevoked)));
}

#[test]
fn a_recall_takes_back_what_runs_and_what_is_being_rolled_out() {
    let (mut world, one, two) = running_two();
    assert_eq!(recall(&mut world, &two, &[OTHER]), Err(Denied::Statement(Reject::WrongPrefix)));
    assert_eq!(recall(&mut world, &two, &[ADA]), Err(Denied::Statement(Reject::WrongRole)));
    recall(&mut world, &two, &[BO]).unwrap();
    assert!(
        matches!(world.rollout(2).state, State::RollingBack { why: Pause::Manual(ref why), .. } if why == "recalled by Bo")
    );
    world.tick(0);
    assert_eq!(world.told_to(&one).len(), 4);
    assert_eq!(world.start(&two, &[buckets(1000)]), Err(Denied::Statement(Reject::Recalled)));
    let again = world.log.len();
    recall(&mut world, &two, &[BO]).unwrap();
    assert_eq!(world.log.len(), again, "a repeat changes nothing");
    assert!(world.events().any(|what| what.to_string().starts_with("digits:2 recalled by Bo")));
    world.settle();
    let three = world.approved("digits");
    world.grant(&three, buckets(1000));
    world.start(&three, &[named(&[0])]).unwrap();
    world.tick(0);
    recall(&mut world, &three, &[CY]).unwrap();
    world.tick(0);
    assert!(world.told_to(&three).is_empty());
}

#[test]
fn a_recalled_version_comes_back_as_a_new_release_that_takes_everyone_again() {
    let (mut world, _, two) = running_two();
    recall(&mut world, &two, &[BO]).unwrap();
    world.settle();
    let renewed = |world: &World| {
        let bytes = world.release(&two);
        let old: Release = bellwether_protocol::frame::decode(&bytes).unwrap();
        body(&Release { salt: [99; 16], ..old })
    };
    let release = renewed(&world);
    let publish = signed::<Release>(world.fleet(), &release, &[ADA]);
    world.make(world.rules.publish(&two, &publish, "Ada", world.now)).unwrap();
    assert!(matches!(world.start(&two, &[buckets(1000)]), Err(Denied::NotApproved { given: 0, needed: 2, .. })));
    for seed in [BO, CY] {
        let statement = signed::<Release>(world.fleet(), &release, &[seed]);
        world.make(world.rules.sign(&two, &statement, "approver", world.now)).unwrap();
    }
    let id = world.start(&two, &[buckets(1000)]).unwrap();
    assert!(world.waits(id, 0), "the old grant was for the old release");
    // Nor does the old release come again.
    let old = signed::<Release>(world.fleet(), &world.release(&two), &[ADA]);
    let again = world.rules.publish(&two, &old, "Ada", world.now);
    assert!(matches!(again, Err(Denied::OtherRelease(_) | Denied::RolloutGoing { .. })), "{again:?}");
}

#[test]
fn devices_are_told_what_they_lack_and_nothing_twice() {
    let (mut world, _, two) = running_two();
    let id = device(0);
    let lacking = |world: &World| {
        let Lacking { roots, recalls, checkpoint } = world.rules.lacking(world.rules.device(&id).unwrap());
        (roots.len(), recalls.len(), checkpoint.is_some())
    };
    assert_eq!(lacking(&world), (0, 0, false));
    rotate(&mut world, |_| {}, &[BO, CY]).unwrap();
    rotate(&mut world, |_| {}, &[BO, CY]).unwrap();
    recall(&mut world, &two, &[BO]).unwrap();
    let checkpoint = |number, floors: &[u32]| {
        let floor = |version: &u32| Floor { name: two.name.clone(), version: Version::new(*version).unwrap() };
        body(&Checkpoint { number, recalls: std::iter::empty().collect(), floors: floors.iter().map(floor).collect() })
    };
    let alone = signed::<Checkpoint>(world.fleet(), &checkpoint(1, &[1]), &[BO]);
    let denied = world.rules.add_checkpoint(&alone, "Bo", world.now);
    assert_eq!(denied, Err(Denied::Statement(Reject::TooFewSignatures)));
    let both = signed::<Checkpoint>(world.fleet(), &checkpoint(1, &[1]), &[BO, CY]);
    world.make(world.rules.add_checkpoint(&both, "Bo", world.now)).unwrap();
    let other = signed::<Checkpoint>(world.fleet(), &checkpoint(1, &[]), &[BO, CY]);
    let denied = world.rules.add_checkpoint(&other, "Bo", world.now);
    assert_eq!(denied, Err(Denied::Statement(Reject::StaleCheckpoint)), "two of one number");
    assert_eq!(lacking(&world), (2, 1, true));
    assert_eq!(world.rules.lagging().count(), 4);
    let known = Known {
        device: id.clone(),
        nonce: [1; 16],
        root: 2,
        checkpoint: 1,
        recalls: world.rules.counters().recalls_digest(),
        tick: None,
    };
    world.make(world.rules.learnt(&known, world.now)).unwrap();
    assert_eq!((lacking(&world), world.rules.behind()), ((1, 0, false), 4));
    world.make(world.rules.learnt(&Known { root: 3, ..known }, world.now)).unwrap();
    assert_eq!((lacking(&world), world.rules.behind()), ((0, 0, false), 3));
    // What a revoked key recalled is in force no more, and is told no more.
    rotate(&mut world, revoke(BO), &[CY, DEE]).unwrap();
    assert_eq!(world.rules.counters().recalls().count(), 0);
    assert_eq!(lacking(&world).1, 0);
}

#[test]
fn a_new_director_tells_every_device_again_what_it_should_have() {
    let (mut world, _, _) = running_two();
    let order = |world: &World, n: u8| {
        let issued = world.rules.device(&device(n)).unwrap().assignment.clone().unwrap();
        (issued.order.generation, issued.order.sequence, issued.models)
    };
    let before: Vec<_> = (0..4).map(|n| order(&world, n)).collect();
    assert!(world.rules.issue(world.now).is_empty());
    rotate(&mut world, |root| root.director_generation += 1, &[BO, CY]).unwrap();
    world.make(Ok(world.rules.issue(world.now))).unwrap();
    for (n, (generation, _, models)) in (0..4).zip(before) {
        assert_eq!(order(&world, n), (generation + 1, 1, models), "numbers begin anew, the models are the same");
    }
    assert!(world.rules.issue(world.now).is_empty(), "once");
}

#[test]
fn a_restart_keeps_roots_recalls_and_checkpoint_in_force() {
    let (mut world, _, two) = running_two();
    rotate(&mut world, |root| root.thresholds.approve = 3, &[BO, CY]).unwrap();
    recall(&mut world, &two, &[BO]).unwrap();
    let recalled = Recalled { name: two.name.clone(), release: Digest::of(b"x"), stop: true };
    let checkpoint =
        Checkpoint { number: 4, recalls: std::iter::once(recalled).collect(), floors: std::iter::empty().collect() };
    let statement = signed::<Checkpoint>(world.fleet(), &body(&checkpoint), &[CY]);
    world.make(world.rules.add_checkpoint(&statement, "Cy", world.now)).unwrap();
    let mut again = Rules::default();
    for change in &world.log {
        again.apply(change.clone());
    }
    assert_eq!(again.counters(), world.rules.counters());
    assert_eq!((again.counters().checkpoint_number(), again.counters().recalls().count()), (4, 2));
    assert_eq!(again.trusted().unwrap().root().version, 2);
}

#[test]
fn a_hub_restored_from_a_backup_reissues_no_version_and_rolls_nobody_back() {
    let (mut world, one, two) = running_two();
    // The backup is of the time before version 2 was registered; devices report what they run.
    let cut = world
        .log
        .iter()
        .position(|change| matches!(change, bellwether_hub_core::Change::Version(version) if version.model == two))
        .unwrap();
    let report = world.rules.device(&device(0)).unwrap().report.clone().unwrap();
    let seen = report.seen;
    let mut restored = World { now: world.now, ..World::default() };
    for change in world.log.drain(..cut - 1) {
        restored.rules.apply(change.clone());
        restored.log.push(change);
    }
    assert_eq!(restored.rules.next_version(&one.name).unwrap(), two.version, "it has forgotten");
    let later = bellwether_protocol::trust::Report { sequence: report.sequence + 1, ..report };
    restored.take(restored.rules.report(later, unchecked(), restored.now));
    assert_eq!(restored.rules.next_version(&one.name).unwrap().number(), two.version.number() + 1);
    restored.tick(0);
    assert_eq!(restored.told(&device(0), "digits"), None, "it stays with what this hub has forgotten");
    let issued = restored.rules.device(&device(0)).unwrap().assignment.clone().unwrap();
    assert!(issued.order > seen, "{:?} {seen:?}", issued.order);
    let three = restored.register_as(candidate("digits"));
    assert_eq!(three.version.number(), 3);
}
