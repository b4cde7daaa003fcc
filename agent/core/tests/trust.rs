//! What changes what counts, on a device: roots one step at a time, recalls, checkpoints and time.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod fleet;
mod shell;

use bellwether_agent_core::update::{Slot, Step, Work};
use bellwether_agent_core::{ASK_AGAIN, Action, FRESH_FOR, Input, Refused, Told};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::id::Version;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Checkpoint, Epoch, Floor, KeyStatus, Otherwise, Phase, PublicKey, Recall, Root, Validity,
};
use fleet::{DIRECTOR, Fleet, Made, Offer, encode, name};
use shell::Shell;

/// Signs roots.
const RUTH: u8 = 1;
/// Approves.
const ADA: u8 = 3;
const BEN: u8 = 4;

fn recall(shell: &mut Shell, fleet: &Fleet, made: &Made, otherwise: Otherwise) -> Result<(), Refused> {
    let recall = Recall { name: made.name.clone(), releases: std::iter::once(made.digest).collect(), otherwise };
    let body = encode(&recall);
    shell.handle(Input::Told(Told::Recall(&fleet.signed::<Recall>(&body, &[ADA]))))
}

/// The root after `before`, changed, signed by Ruth.
fn rotate(shell: &mut Shell, fleet: &Fleet, change: impl FnOnce(&mut Root)) -> Result<(), Refused> {
    let mut root = shell.brain.root().root().clone();
    root.version += 1;
    change(&mut root);
    let body = encode(&root);
    shell.handle(Input::Told(Told::Root(&fleet.signed::<Root>(&body, &[RUTH]))))
}

fn tell_time(shell: &mut Shell, fleet: &Fleet, epoch: u64) -> Result<(), Refused> {
    let generation = shell.brain.root().root().time_generation;
    let nonce = shell.brain.known().nonce;
    let body = encode(&Epoch { generation, epoch, nonce });
    shell.handle(Input::Told(Told::Epoch(&fleet.signed::<Epoch>(&body, &[DIRECTOR]))))
}

fn connect(shell: &mut Shell, session: u32) {
    shell.handle(Input::Connected { session }).unwrap();
    assert_eq!(shell.brain.poll_action(Millis(shell.now)), Some(Action::Known));
    shell.handle(Input::Asked).unwrap();
    shell.handle(Input::Greeted).unwrap();
}

/// A device with digits:1 committed, and digits:2 too if asked.
fn running(fleet: &Fleet, versions: u32) -> (Shell, Vec<Made>) {
    let mut shell = Shell::new(fleet);
    let made: Vec<Made> = (1..=versions).map(|version| fleet.release("digits", version)).collect();
    for (sequence, made) in (1..).zip(&made) {
        shell.offer(fleet, sequence, &[Offer::granted(made)]).unwrap();
        shell.commit();
    }
    (shell, made)
}

#[test]
fn a_recalled_release_gives_way_to_the_one_before_and_never_returns() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 2);
    recall(&mut shell, &fleet, &made[1], Otherwise::Stop).unwrap();
    let held = shell.model("digits").previous.unwrap();
    assert!(matches!(
        shell.brain.install_action(),
        Some(Action::Install { work: Work::Return(Some(to)), .. }) if to == held
    ));
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::Recalled), Some(1)));
    // Committed once, granted to all, offered again: it stays away, across a restart as well.
    for sequence in [8, 9] {
        shell.restart(&fleet);
        shell.offer(&fleet, sequence, &[Offer::granted(&made[1])]).unwrap();
        assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::Recalled), Some(1)));
        assert_eq!(shell.brain.install_action(), None);
    }
    shell.offer(&fleet, 10, &[Offer::granted(&made[0])]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
}

#[test]
fn with_nothing_before_it_a_recalled_release_is_kept_or_stopped_as_the_recall_says() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    recall(&mut shell, &fleet, &made[0], Otherwise::Keep).unwrap();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::Recalled), Some(1)));
    assert_eq!(shell.brain.install_action(), None);
    recall(&mut shell, &fleet, &made[0], Otherwise::Stop).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::Recalled), None));
    // A later version is installed as ever.
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 5, &[Offer::granted(&two)]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn a_recall_stops_an_install_at_every_step_of_it() {
    let fleet = Fleet::new();
    for steps in 0..=4 {
        let (mut shell, made) = running(&fleet, 1);
        let two = fleet.release("digits", 2);
        shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
        for step in [Step::Fetched, Step::Staged, Step::Passed, Step::Activated].into_iter().take(steps) {
            shell.answer(step).unwrap();
        }
        recall(&mut shell, &fleet, &two, Otherwise::Keep).unwrap();
        shell.restart(&fleet);
        shell.settle();
        shell.wait(20_000);
        let (phase, reject, active) = shell.line("digits");
        assert_eq!((reject, active), (Some(Reject::Recalled), Some(1)), "after {steps} steps");
        assert!(matches!(phase, Phase::Rejected | Phase::RolledBack), "after {steps} steps: {phase:?}");
        assert_eq!(shell.model("digits").answers(), Some(made[0].digest));
    }
}

#[test]
fn a_previous_release_that_was_recalled_is_not_gone_back_to() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits").0, Phase::Probation);
    recall(&mut shell, &fleet, &made[0], Otherwise::Stop).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Probation, None, Some(2)), "it is not what answers");
    shell.handle(Input::ScoringErrors { name: &name("digits"), errors: 99 }).unwrap();
    assert!(matches!(shell.brain.install_action(), Some(Action::Install { work: Work::Return(None), .. })));
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::ScoringErrors), None));
}

#[test]
fn a_forged_recall_changes_nothing() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    let before = shell.disk.clone();
    let recall = Recall {
        name: name("digits"),
        releases: std::iter::once(made[0].digest).collect(),
        otherwise: Otherwise::Stop,
    };
    let body = encode(&recall);
    for (seed, reject) in [(DIRECTOR, Reject::WrongRole), (RUTH, Reject::WrongRole), (99, Reject::UnknownKey)] {
        let told = shell.handle(Input::Told(Told::Recall(&fleet.signed::<Recall>(&body, &[seed]))));
        assert_eq!(told, Err(Refused::Rejected(reject)));
    }
    assert_eq!(shell.disk, before);
}

#[test]
fn a_root_chain_is_walked_step_by_step_and_survives_restarts() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    connect(&mut shell, 1);
    assert_eq!(rotate(&mut shell, &fleet, |root| root.version = 9), Err(Refused::Rejected(Reject::RootSkipped)));
    for version in 2..=60 {
        rotate(&mut shell, &fleet, |root| root.director_generation = version).unwrap();
        if version % 7 == 0 {
            shell.restart(&fleet);
        }
    }
    assert_eq!((shell.brain.root().root().version, shell.brain.known().root), (60, 60));
    // The hub is asked again, once for many steps.
    shell.handle(Input::Connected { session: 2 }).unwrap();
    shell.now += 1000;
    assert_eq!(shell.brain.poll_action(Millis(shell.now)), Some(Action::Known));
    let old = shell.offer(&fleet, u64::MAX, &[Offer::granted(&made[0])]);
    assert_eq!(old, Err(Refused::Rejected(Reject::StaleGeneration)), "the director before");
    shell.offer(&fleet, 1, &[Offer { generation: 60, ..Offer::granted(&made[0]) }]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)), "what was verified stays");
}

#[test]
fn a_sequence_driven_to_its_maximum_is_mended_by_a_new_director_generation() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    shell.offer(&fleet, u64::MAX, &[Offer::granted(&made[0])]).unwrap();
    let two = fleet.release("digits", 2);
    assert_eq!(shell.offer(&fleet, 3, &[Offer::granted(&two)]), Err(Refused::Rejected(Reject::StaleSequence)));
    rotate(&mut shell, &fleet, |root| root.director_generation = 2).unwrap();
    shell.offer(&fleet, 1, &[Offer { generation: 2, ..Offer::granted(&two) }]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn an_approver_whose_key_is_revoked_approves_nothing_new_and_what_runs_stays() {
    let fleet = Fleet::new();
    let (mut shell, _) = running(&fleet, 1);
    let revoke = |root: &mut Root| {
        let ben = PublicKey(bellwether_protocol::SigningKey::from_bytes(&[BEN; 32]).verifying_key().to_bytes());
        root.thresholds.approve = 1;
        root.keys.iter_mut().filter(|key| key.public == ben).for_each(|key| key.status = KeyStatus::Revoked);
    };
    rotate(&mut shell, &fleet, revoke).unwrap();
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::KeyRevoked), Some(1)));
    shell.offer(&fleet, 3, &[Offer { approvals: 1, ..Offer::granted(&two) }]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn what_has_a_validity_waits_for_a_time_told_on_this_connection() {
    let fleet = Fleet::new();
    let (mut shell, _) = running(&fleet, 1);
    let two = fleet.release("digits", 2);
    let offer = Offer { validity: Some(Validity { from: 10, until: 20 }), ..Offer::granted(&two) };
    connect(&mut shell, 1);
    shell.offer(&fleet, 2, &[offer]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::NotInEpoch), Some(1)));
    tell_time(&mut shell, &fleet, 15).unwrap();
    assert_eq!(shell.brain.poll_action(Millis(shell.now)), Some(Action::Hello { session: 1 }), "asks again");
    shell.handle(Input::Greeted).unwrap();
    // The old answer to a new question is a frozen clock.
    let nonce = shell.brain.known().nonce;
    connect(&mut shell, 2);
    assert_ne!(shell.brain.known().nonce, nonce);
    let body = encode(&Epoch { generation: 1, epoch: 16, nonce });
    let frozen = shell.handle(Input::Told(Told::Epoch(&fleet.signed::<Epoch>(&body, &[DIRECTOR]))));
    assert_eq!(frozen, Err(Refused::Rejected(Reject::NonceMismatch)));
    shell.offer(&fleet, 2, &[offer]).unwrap();
    assert_eq!(shell.line("digits").1, Some(Reject::NotInEpoch));
    assert_eq!(tell_time(&mut shell, &fleet, 14), Err(Refused::Rejected(Reject::StaleEpoch)));
    tell_time(&mut shell, &fleet, 20).unwrap();
    shell.offer(&fleet, 2, &[offer]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn on_a_connection_that_stands_for_long_the_time_ages_and_is_asked_for_anew() {
    let fleet = Fleet::new();
    let (mut shell, _) = running(&fleet, 1);
    let two = fleet.release("digits", 2);
    let offer = Offer { validity: Some(Validity { from: 10, until: 20 }), ..Offer::granted(&two) };
    connect(&mut shell, 1);
    tell_time(&mut shell, &fleet, 15).unwrap();
    shell.handle(Input::Asked).unwrap();
    let before = shell.brain.known().nonce;
    assert!(shell.brain.deadline().is_some_and(|(at, _)| at.0 <= shell.now + ASK_AGAIN.0));
    shell.wait(ASK_AGAIN.0);
    shell.now += 1000;
    assert_eq!(shell.brain.poll_action(Millis(shell.now)), Some(Action::Known));
    assert_ne!(shell.brain.known().nonce, before, "what was told then answers nothing now");
    assert!(!shell.brain.is_stale(Millis(shell.now)));
    // Nobody answers: after a day what was told says nothing any more.
    shell.wait(FRESH_FOR.0);
    assert!(shell.brain.is_stale(Millis(shell.now)));
    shell.offer(&fleet, 2, &[offer]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::NotInEpoch), Some(1)), "and what runs runs");
    tell_time(&mut shell, &fleet, 18).unwrap();
    assert!(!shell.brain.is_stale(Millis(shell.now)));
    shell.offer(&fleet, 2, &[offer]).unwrap();
    assert_eq!(shell.line("digits").0, Phase::Fetching);
}

#[test]
fn what_expires_between_download_and_activation_goes_no_further() {
    let fleet = Fleet::new();
    let (mut shell, _) = running(&fleet, 1);
    let two = fleet.release("digits", 2);
    let offer = Offer { validity: Some(Validity { from: 10, until: 20 }), ..Offer::granted(&two) };
    connect(&mut shell, 1);
    tell_time(&mut shell, &fleet, 20).unwrap();
    shell.offer(&fleet, 2, &[offer]).unwrap();
    shell.answer(Step::Fetched).unwrap();
    shell.answer(Step::Staged).unwrap();
    shell.restart(&fleet);
    connect(&mut shell, 1);
    tell_time(&mut shell, &fleet, 21).unwrap();
    shell.answer(Step::Passed).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::NotInEpoch), Some(1)));
}

#[test]
fn a_device_that_was_away_for_eight_weeks_comes_back_without_help() {
    let fleet = Fleet::new();
    let (mut shell, made) = running(&fleet, 1);
    let two = fleet.release("digits", 2);
    connect(&mut shell, 1);
    tell_time(&mut shell, &fleet, 100).unwrap();
    let expired = Offer { validity: Some(Validity { from: 90, until: 110 }), ..Offer::granted(&two) };
    shell.handle(Input::Disconnected).unwrap();
    // Eight weeks of nothing: the retained assignment of before is what it hears first.
    shell.now += 8 * 7 * 24 * 3600 * 1000;
    shell.restart(&fleet);
    assert_eq!(shell.model("digits").answers(), Some(made[0].digest), "it serves all the while");
    connect(&mut shell, 1);
    for generation in 2..=5 {
        rotate(&mut shell, &fleet, |root| root.director_generation = generation).unwrap();
    }
    tell_time(&mut shell, &fleet, 156).unwrap();
    shell.offer(&fleet, 1, &[Offer { generation: 5, ..expired }]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::NotInEpoch), Some(1)));
    let renewed = Offer { validity: Some(Validity { from: 150, until: 170 }), generation: 5, ..expired };
    shell.offer(&fleet, 2, &[renewed]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
    // And back to what once proved itself here, without grant, whatever the time.
    shell.offer(&fleet, 3, &[Offer { grant: None, generation: 5, ..Offer::granted(&made[0]) }]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
}

#[test]
fn a_release_that_asks_for_a_checkpoint_waits_for_it() {
    let fleet = Fleet::new();
    let (mut shell, _) = running(&fleet, 1);
    connect(&mut shell, 1);
    let two = fleet.release_with("digits", 2, |release| release.checkpoint = 7);
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::CheckpointMissing), Some(1)));
    let mut checkpoint = Checkpoint {
        number: 7,
        recalls: std::iter::empty().collect(),
        floors: std::iter::once(Floor { name: name("digits"), version: Version::new(2).unwrap() }).collect(),
    };
    let body = encode(&checkpoint);
    let alone = shell.handle(Input::Told(Told::Checkpoint(&fleet.signed::<Checkpoint>(&body, &[ADA]))));
    assert_eq!(alone, Err(Refused::Rejected(Reject::TooFewSignatures)), "one approver drives no floor");
    shell.handle(Input::Told(Told::Checkpoint(&fleet.signed::<Checkpoint>(&body, &[ADA, BEN])))).unwrap();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
    let one = fleet.release("digits", 1);
    shell.offer(&fleet, 3, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::BelowFloor), Some(2)));
    checkpoint.number = 6;
    let body = encode(&checkpoint);
    let stale = shell.handle(Input::Told(Told::Checkpoint(&fleet.signed::<Checkpoint>(&body, &[ADA, BEN]))));
    assert_eq!(stale, Err(Refused::Rejected(Reject::StaleCheckpoint)));
    assert_eq!(shell.model("digits").spare(), Slot::A);
    assert_ne!(shell.brain.known().recalls, Digest::default());
}
