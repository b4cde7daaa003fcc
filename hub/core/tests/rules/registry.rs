//! Numbers without gap or duplicate, and nothing in use can be deleted.

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_protocol::id::ModelRef;

use crate::world::{World, buckets, candidate, named};

#[test]
fn registrations_of_several_models_are_numbered_without_gap_or_duplicate() {
    let mut world = World::new();
    let names = ["digits", "defects", "digits-2"];
    let mut given: Vec<ModelRef> = Vec::new();
    for round in 0..100usize {
        let name = names.iter().cycle().nth(round * round % 7).unwrap();
        given.push(world.register(name));
    }
    for name in names {
        let versions: Vec<u32> =
            given.iter().filter(|model| model.name.as_str() == name).map(|model| model.version.number()).collect();
        let expected: Vec<u32> = (1..).take(versions.len()).collect();
        assert_eq!(versions, expected, "{name}");
        assert_eq!(world.rules.versions_of(&name.parse().unwrap()).count(), versions.len());
    }
}

/// Two decisions on the same state give the same number: the store lets only one of them through,
/// and the other is decided anew.
#[test]
fn of_two_registrations_at_once_the_second_is_decided_anew() {
    let mut world = World::new();
    let decide = |world: &World| world.rules.register(candidate("digits"), Vec::new(), "Ada", world.now).unwrap();
    let (first, second) = (decide(&world), decide(&world));
    assert_eq!(first.0, second.0);
    world.take(Ok(first.1));
    let again = decide(&world);
    assert_eq!(again.0.version.number(), 2);
}

#[test]
fn a_deleted_number_is_never_given_again() {
    let mut world = World::new();
    let first = world.register("digits");
    let second = world.register("digits");
    world.take(world.rules.delete_version(&second, "Ada", world.now));
    assert_eq!(world.register("digits").version.number(), 3);
    world.take(world.rules.delete_version(&first, "Ada", world.now));
    let gone = world.rules.delete_version(&first, "Ada", world.now);
    assert_eq!(gone, Err(Denied::NoVersion(first)));
    let unknown: ModelRef = "nothing:1".parse().unwrap();
    let refused = world.rules.delete_version(&unknown, "Ada", world.now);
    assert_eq!(refused, Err(Denied::NoModel(unknown.name)));
    assert!(world.events().any(|what| matches!(what, What::VersionDeleted { .. })));
}

/// Row 41 of the attack table.
#[test]
fn what_a_rollout_names_cannot_be_deleted() {
    let mut world = World::new();
    let model = world.approved("digits");
    let id = world.start(&model, &[buckets(1000)]).unwrap();
    let by = format!("rollout {id} names it");
    let delete = |world: &World| world.rules.delete_version(&model, "Ada", world.now);
    assert_eq!(delete(&world), Err(Denied::InUse { model: model.clone(), by: by.clone() }));
    let abort = bellwether_hub_core::rollout::Verb::Abort;
    world.take(world.rules.steer(id, abort, "", "Olga", world.now));
    assert_eq!(delete(&world), Err(Denied::InUse { model: model.clone(), by }));
}

/// Row 41 of the attack table.
#[test]
fn what_a_device_desires_or_reports_cannot_be_deleted() {
    let mut world = World::new();
    let cam = world.enrol(0);
    let model = world.approved("digits");
    world.grant(&model, named(&[0]));
    world.start(&model, &[named(&[0])]).unwrap();
    world.tick(0);
    let denied = |world: &World| match world.rules.delete_version(&model, "Ada", world.now) {
        Err(Denied::InUse { by, .. }) => by,
        other => panic!("{other:?}"),
    };
    assert_eq!(denied(&world), format!("device {cam} desires or reports it"));
    world.obey(&cam, None);
    assert_eq!(denied(&world), format!("device {cam} desires or reports it"));
    world.take(world.rules.remove_device(&cam, "Olga", world.now));
    assert_eq!(denied(&world), "rollout 1 names it");
}
