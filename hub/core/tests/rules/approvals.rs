//! Who may sign what at the hub; the verifier on the device asks the same again.

use bellwether_hub_core::Denied;
use bellwether_hub_core::event::What;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::trust::{Cohort, Release};

use crate::world::{
    ADA, ADA_APPROVES, BO, BO_AGAIN, CY, DEE, OTHER, OTHER_PUBLISHES, RETIRED, STRANGER, World, body, buckets,
    candidate, key_id, signed,
};

fn published() -> (World, ModelRef) {
    let mut world = World::new();
    let model = world.register("digits");
    world.publish_by(&model, &[ADA]).unwrap();
    (world, model)
}

fn given(world: &World, model: &ModelRef) -> usize {
    world.rules.approval(world.rules.version(model).unwrap()).given
}

#[test]
fn two_persons_beside_the_publisher_approve() {
    let (mut world, model) = published();
    let record = |world: &World| world.rules.version(&model).unwrap().clone();
    let early = world.rules.approved(&record(&world)).map(drop);
    assert_eq!(early, Err(Denied::NotApproved { model: model.clone(), given: 0, needed: 2 }));
    world.approve_by(&model, &[BO]).unwrap();
    assert!(world.rules.approved(&record(&world)).is_err());
    world.approve_by(&model, &[CY]).unwrap();
    assert!(world.rules.approved(&record(&world)).is_ok());
    world.approve_by(&model, &[DEE]).unwrap();
    assert_eq!(given(&world, &model), 3);
    let told: Vec<_> =
        world
            .events()
            .filter_map(|what| {
                if let What::ApprovalGiven { given, needed, .. } = what { Some((*given, *needed)) } else { None }
            })
            .collect();
    assert_eq!(told, [(1, 2), (2, 2), (3, 2)]);
}

#[test]
fn nobody_approves_an_own_publication() {
    let (mut world, model) = published();
    let refused = world.approve_by(&model, &[ADA_APPROVES]);
    assert_eq!(refused, Err(Denied::OwnPublication { person: "Ada".into(), model: model.clone() }));
    assert_eq!(given(&world, &model), 0);
}

#[test]
fn one_person_approves_once_whatever_the_key() {
    let (mut world, model) = published();
    world.approve_by(&model, &[BO]).unwrap();
    let signed = Denied::PersonSigned { person: "Bo".into(), model: model.clone() };
    assert_eq!(world.approve_by(&model, &[BO_AGAIN]), Err(signed));
    // The very same signature again is no news, and no error either: a retry after a lost answer.
    assert_eq!(world.approve_by(&model, &[BO]), Ok(()));
    assert_eq!(given(&world, &model), 1);
}

/// One statement may carry several signatures: each is held against those before it, too.
#[test]
fn signatures_that_arrive_together_are_counted_like_those_that_do_not() {
    let (mut world, model) = published();
    let signed = Denied::PersonSigned { person: "Bo".into(), model: model.clone() };
    assert_eq!(world.approve_by(&model, &[BO, BO_AGAIN]), Err(signed));
    assert_eq!(given(&world, &model), 0);
    world.approve_by(&model, &[BO, BO, BO, BO, BO, BO, BO, BO]).unwrap();
    assert_eq!(given(&world, &model), 1);
    world.approve_by(&model, &[BO, CY]).unwrap();
    assert_eq!(given(&world, &model), 2);
    assert!(world.rules.approved(world.rules.version(&model).unwrap()).is_ok());
}

#[test]
fn strangers_leavers_and_others_do_not_approve() {
    let (world, model) = published();
    let stranger = signed::<Release>(world.fleet(), &world.release(&model), &[STRANGER]);
    let refused = world.rules.sign(&model, &stranger, "x", world.now);
    assert_eq!(refused, Err(Denied::KeyUnlisted(key_id(STRANGER).into())));
    for (seed, why) in [(RETIRED, "is no longer active"), (OTHER, "is enrolled for other model names")] {
        let release = world.release(&model);
        let statement = signed::<Release>(world.fleet(), &release, &[seed]);
        let refused = world.rules.sign(&model, &statement, "x", world.now);
        assert_eq!(refused, Err(Denied::Key { key: key_id(seed), why }));
    }
    let own = signed::<Release>(world.fleet(), &world.release(&model), &[ADA]);
    let refused = world.rules.sign(&model, &own, "x", world.now);
    assert_eq!(refused, Err(Denied::OwnPublication { person: "Ada".into(), model: model.clone() }));
    assert_eq!(given(&world, &model), 0);
    let mut spoiled = signed::<Release>(world.fleet(), &world.release(&model), &[BO]);
    *spoiled.last_mut().unwrap() ^= 1;
    let refused = world.rules.sign(&model, &spoiled, "x", world.now);
    assert_eq!(refused, Err(Denied::Statement(Reject::BadSignature)));
    spoiled.pop();
    let refused = world.rules.sign(&model, &spoiled, "x", world.now);
    assert_eq!(refused, Err(Denied::Statement(Reject::Malformed)));
}

#[test]
fn only_a_publisher_enrolled_for_the_model_publishes() {
    let mut world = World::new();
    let model = world.register("digits");
    let key = |seed, why| Err(Denied::Key { key: key_id(seed), why });
    assert_eq!(world.publish_by(&model, &[BO]), key(BO, "does not publish"));
    let other = world.publish_by(&model, &[OTHER_PUBLISHES]);
    assert_eq!(other, key(OTHER_PUBLISHES, "is enrolled for other model names"));
    assert_eq!(world.publish_by(&model, &[]), Err(Denied::Statement(Reject::NoPublisher)));
    assert_eq!(world.approve_by(&model, &[BO]), Err(Denied::NoRelease(model.clone())));
    world.publish_by(&model, &[ADA]).unwrap();
    world.publish_by(&model, &[ADA]).unwrap();
    let published = world.events().filter(|what| matches!(what, What::ReleasePublished { .. }));
    assert_eq!(published.count(), 1);
}

#[test]
fn a_release_describes_the_registered_package_and_no_other() {
    let mut world = World::new();
    let (first, second) = (world.register("digits"), world.register("digits"));
    let statement = signed::<Release>(world.fleet(), &world.release(&first), &[ADA]);
    let refused = world.rules.publish(&second, &statement, "Ada", world.now);
    assert_eq!(refused, Err(Denied::OtherModel { expected: second, got: "digits:1".into() }));
    world.publish_by(&first, &[ADA]).unwrap();
    let other = world.release(&"digits:2".parse().unwrap());
    let statement = signed::<Release>(world.fleet(), &other, &[BO]);
    let refused = world.rules.sign(&first, &statement, "Bo", world.now);
    assert_eq!(refused, Err(Denied::OtherRelease(first)));
}

#[test]
fn what_cannot_be_deployed_is_not_published() {
    let mut world = World::new();
    let mut pickle = candidate("digits");
    pickle.checks.advice = Some("convert it".into());
    let (model, changes) = world.rules.register(pickle, Vec::new(), "Ada", world.now).unwrap();
    world.take(Ok(changes));
    let refused = world.publish_by(&model, &[ADA]);
    assert_eq!(refused, Err(Denied::NotDeployable { model, advice: "convert it".into() }));
}

#[test]
fn a_grant_takes_an_approved_release_and_a_granters_key() {
    let (mut world, model) = published();
    let early = world.grant_by(&model, buckets(1000), &[BO]);
    assert_eq!(early, Err(Denied::NotApproved { model: model.clone(), given: 0, needed: 2 }));
    world.approve_by(&model, &[BO, CY]).unwrap();
    for (seeds, reject) in [
        (&[][..], Reject::TooFewSignatures),
        (&[ADA], Reject::TooFewSignatures),
        (&[STRANGER], Reject::UnknownKey),
        (&[OTHER], Reject::WrongPrefix),
    ] {
        let refused = world.grant_by(&model, buckets(1000), seeds);
        assert_eq!(refused, Err(Denied::Statement(reject)), "{seeds:?}");
    }
    let refused = world.grant_by(&model, Cohort::Buckets(1001), &[BO]);
    assert_eq!(refused, Err(Denied::Statement(Reject::Malformed)));
    world.grant(&model, buckets(1000));
    world.grant(&model, buckets(1000));
    assert_eq!(world.rules.version(&model).unwrap().grants.len(), 1);
    let release = world.release(&model);
    let as_grant = signed::<Release>(world.fleet(), &release, &[BO]);
    assert!(world.rules.add_grant(&model, &as_grant, "Bo", world.now).is_err());
}

#[test]
fn a_rollout_takes_approvals() {
    let (mut world, model) = published();
    world.approve_by(&model, &[BO]).unwrap();
    let refused = world.start(&model, &[buckets(1000)]);
    assert_eq!(refused, Err(Denied::NotApproved { model, given: 1, needed: 2 }));
}

#[test]
fn a_rejected_version_takes_no_more_signatures() {
    let (mut world, model) = published();
    world.approve_by(&model, &[BO]).unwrap();
    let draft = world.register("digits");
    assert_eq!(world.rules.reject(&draft, "no", "Cy", world.now).err(), Some(Denied::NoRelease(draft)));
    let rejected = world.rules.reject(&model, "trained on the test set", "Cy", world.now);
    world.take(rejected);
    let why = "trained on the test set".to_owned();
    let refused = Denied::Rejected { model: model.clone(), person: "Cy".into(), why: why.clone() };
    assert_eq!(world.approve_by(&model, &[DEE]), Err(refused.clone()));
    assert_eq!(world.rules.reject(&model, "again", "Dee", world.now).err(), Some(refused));
    assert_eq!(given(&world, &model), 1);
    let told = What::ReleaseRejected { model: model.clone(), person: "Cy".into(), why };
    assert_eq!(world.events().filter(|what| **what == told).count(), 1);
    // What its publisher signs instead is looked at anew, by everyone.
    let old: Release = frame::decode(&world.release(&model)).unwrap();
    let renewed = body(&Release { salt: [99; 16], ..old });
    let statement = signed::<Release>(world.fleet(), &renewed, &[ADA]);
    world.take(world.rules.publish(&model, &statement, "Ada", world.now));
    assert_eq!((given(&world, &model), world.rules.version(&model).unwrap().rejection.clone()), (0, None));
    let approval = signed::<Release>(world.fleet(), &renewed, &[DEE]);
    world.take(world.rules.sign(&model, &approval, "Dee", world.now));
    assert_eq!(given(&world, &model), 1);
}

#[test]
fn what_is_approved_is_not_rejected_any_more() {
    let mut world = World::new();
    let model = world.approved("digits");
    let refused = world.rules.reject(&model, "too late", "Cy", world.now);
    assert!(matches!(refused, Err(Denied::NotNow { action: "reject", .. })), "{refused:?}");
}

#[test]
fn a_root_with_the_time_key_of_another_hub_is_refused() {
    let set = |time: Option<u8>| {
        let statement = crate::world::root_with_time_key(time);
        let world = World::default();
        world.rules.set_root(&statement, &crate::world::hub_public(), "Bo", world.now).map(drop)
    };
    assert_eq!(set(None), Ok(()), "roots from before there was one");
    assert_eq!(set(Some(crate::world::TIME)), Ok(()));
    assert_eq!(set(Some(STRANGER)), Err(Denied::NotThisHub("time")));
}
