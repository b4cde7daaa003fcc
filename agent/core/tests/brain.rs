//! The brain against random inputs, restarts and forgeries, and its story told step by step.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod fleet;
mod shell;

use std::collections::BTreeSet;

use bellwether_agent_core::update::{Install, STARTS_MAX, Slot, Step, Work};
use bellwether_agent_core::{Action, Brain, Config, Holds, Input, LATENCY_CALLS_MIN, Refused, Why};
use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::MODELS_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Command, Hold, Mode, Phase, Request};
use fleet::{DIRECTOR, Fleet, Made, Offer, config, name};
use proptest::prelude::*;
use shell::{Shell, good};

#[test]
fn an_approved_release_goes_from_offer_to_committed() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Fetching, None, None));
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::Probation, None, Some(1)));
    assert_eq!(shell.brain.deadline(), Some((Millis(10_000), Why::Probation)));
    shell.wait(10_000);
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
    let phases: Vec<_> = std::iter::from_fn(|| shell.brain.poll_event()).map(|event| event.phase).collect();
    let all = [
        Phase::Deferred,
        Phase::Fetching,
        Phase::Hashed,
        Phase::SelfTest,
        Phase::Activating,
        Phase::Probation,
        Phase::Committed,
    ];
    assert_eq!(phases, all);
}

#[test]
fn what_was_hashed_but_not_synced_is_looked_at_again_after_a_start() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.answer(Step::Fetched).unwrap();
    assert_eq!(shell.line("digits").0, Phase::Hashed);
    shell.restart(&fleet);
    assert_eq!(shell.line("digits").0, Phase::Fetching);
    // Once it is on disk for good, a start tries it again as it is.
    shell.answer(Step::Fetched).unwrap();
    shell.answer(Step::Staged).unwrap();
    shell.restart(&fleet);
    assert_eq!(shell.line("digits").0, Phase::SelfTest);
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
}

#[test]
fn what_waits_for_a_probation_is_refused_if_the_floor_rises_above_it() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    let four = fleet.release_with("digits", 4, |release| release.security_floor = 2);
    shell.offer(&fleet, 1, &[Offer::granted(&four)]).unwrap();
    shell.settle();
    // There is nothing to go back to: it waits.
    shell.offer(&fleet, 2, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Probation, None, Some(4)));
    shell.wait(10_000);
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::BelowFloor), Some(4)));
    assert_eq!((shell.model("digits").floor, shell.brain.install_action()), (2, None));
    // One that is not below it still follows.
    let mut shell = Shell::new(&fleet);
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 1, &[Offer::granted(&four)]).unwrap();
    shell.settle();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.wait(10_000);
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn what_people_did_not_sign_is_refused_with_its_code() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    for (sequence, offer, reject) in [
        (1, Offer { approvals: 1, ..Offer::granted(&one) }, Reject::TooFewSignatures),
        (2, Offer { grant: None, ..Offer::granted(&one) }, Reject::NotGranted),
        (3, Offer { grant: Some(0), ..Offer::granted(&one) }, Reject::NotGranted),
        (4, Offer { flip: true, ..Offer::granted(&one) }, Reject::BadSignature),
    ] {
        shell.offer(&fleet, sequence, &[offer]).unwrap();
        assert_eq!(shell.line("digits"), (Phase::Rejected, Some(reject), None));
        assert_eq!(shell.brain.install_action(), None);
    }
    shell.offer(&fleet, 6, &[Offer { evidence: false, ..Offer::granted(&one) }]).unwrap();
    assert_eq!(shell.brain.report().refused, Some(Reject::EvidenceMissing));
    let new = fleet.release_with("digits", 2, |release| release.requires.agent = [9, 0, 0]);
    shell.offer(&fleet, 7, &[Offer::granted(&new)]).unwrap();
    assert_eq!(shell.line("digits").1, Some(Reject::AgentTooOld));
}

#[test]
fn an_older_assignment_is_stale_and_a_repeat_is_quiet() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    shell.offer(&fleet, 5, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.restart(&fleet);
    let before = shell.disk.models.clone();
    shell.offer(&fleet, 5, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.disk.models, before);
    let stale = Err(Refused::Rejected(Reject::StaleSequence));
    assert_eq!(shell.offer(&fleet, 5, &[Offer::granted(&two)]), stale);
    assert_eq!(shell.offer(&fleet, 4, &[Offer::granted(&two)]), stale);
    assert_eq!(shell.brain.report().refused, Some(Reject::StaleSequence));
    assert_eq!(shell.disk.models, before);
    let mut other = Ok(());
    fleet.assign_to("gw-2", 9, &[Offer::granted(&two)], |desired| other = shell.handle(Input::Desired(desired)));
    assert_eq!(other, Err(Refused::Rejected(Reject::WrongDevice)));
}

#[test]
fn one_install_at_a_time_and_the_others_wait() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (digits, faces) = (fleet.release("digits", 1), fleet.release("faces", 1));
    shell.offer(&fleet, 1, &[Offer::granted(&digits), Offer::granted(&faces)]).unwrap();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Fetching, Phase::Deferred));
    shell.commit();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Committed, Phase::Fetching));
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 2, &[Offer::granted(&two), Offer::granted(&faces)]).unwrap();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Deferred, Phase::Fetching));
    shell.commit();
    shell.commit();
    assert_eq!((shell.line("digits"), shell.line("faces").2), ((Phase::Committed, None, Some(2)), Some(1)));
}

#[test]
fn what_the_hub_names_no_more_is_given_up_and_what_answers_stays() {
    let fleet = Fleet::new();
    let withdrawn = Some(Reject::Withdrawn);
    let [one, two, faces] = [("digits", 1), ("digits", 2), ("faces", 1)].map(|(name, n)| fleet.release(name, n));
    // However far it is before it is switched, the others go on and its place is free.
    for answers in [&[][..], &[Step::Fetched], &[Step::Fetched, Step::Staged]] {
        let mut shell = Shell::new(&fleet);
        shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
        shell.commit();
        shell.offer(&fleet, 2, &[Offer::granted(&two), Offer::granted(&faces)]).unwrap();
        answers.iter().for_each(|step| shell.answer(*step).unwrap());
        while shell.brain.poll_event().is_some() {}
        shell.offer(&fleet, 3, &[Offer::granted(&faces)]).unwrap();
        assert_eq!(shell.line("digits"), (Phase::Rejected, withdrawn, Some(1)));
        assert_eq!(shell.line("faces").0, Phase::Fetching);
        let event = shell.brain.poll_event().unwrap();
        assert_eq!((event.version.number(), event.phase, event.reject), (2, Phase::Rejected, withdrawn));
        shell.commit();
        assert_eq!((shell.line("digits").2, shell.line("faces").2), (Some(1), Some(1)));
    }
    // While it is being switched or on probation: put back.
    for is_active in [false, true] {
        let mut shell = Shell::new(&fleet);
        shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
        shell.commit();
        shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
        [Step::Fetched, Step::Staged, Step::Passed].into_iter().for_each(|step| shell.answer(step).unwrap());
        if is_active {
            shell.answer(Step::Activated).unwrap();
        }
        shell.offer(&fleet, 3, &[]).unwrap();
        shell.settle();
        assert_eq!(shell.line("digits"), (Phase::RolledBack, withdrawn, Some(1)));
    }
    // One that waits, and what should have followed a roll-back.
    let mut shell = Shell::new(&fleet);
    shell.offer(&fleet, 1, &[Offer::granted(&one), Offer::granted(&faces)]).unwrap();
    shell.offer(&fleet, 2, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("faces"), (Phase::Rejected, withdrawn, None));
    shell.commit();
    assert_eq!(shell.brain.install_action(), None);
}

#[test]
fn a_switch_that_fails_leaves_what_answers_even_if_the_way_back_fails_too() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    [Step::Fetched, Step::Staged, Step::Passed].into_iter().for_each(|step| shell.answer(step).unwrap());
    let failed = Step::Failed(Reject::StorageFault);
    shell.answer(failed).unwrap();
    shell.answer(failed).unwrap();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::StorageFault), Some(1)));
    // On probation the old one is not what answers: with no way back nothing does.
    shell.offer(&fleet, 3, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    shell.handle(Input::ScoringErrors { name: &name("digits"), errors: 4 }).unwrap();
    shell.answer(failed).unwrap();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::ScoringErrors), None));
}

#[test]
fn names_that_came_to_nothing_make_room_and_what_was_committed_never_does() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let kept = fleet.release("kept", 1);
    shell.offer(&fleet, 1, &[Offer::granted(&kept)]).unwrap();
    shell.commit();
    let junk: Vec<_> = (0..30).map(|n| fleet.release(&format!("junk-{n}"), 1)).collect();
    for (sequence, made) in (2..).zip(&junk) {
        shell.offer(&fleet, sequence, &[Offer { evidence: false, ..Offer::granted(made) }]).unwrap();
        assert_eq!(shell.line("kept").2, Some(1));
    }
    let many: Vec<_> = junk.iter().take(MODELS_MAX).map(Offer::granted).collect();
    let before = shell.disk.clone();
    assert_eq!(shell.offer(&fleet, 90, &many), Err(Refused::Rejected(Reject::TooManyModels)));
    assert_eq!(shell.disk, before);
    shell.offer(&fleet, 91, &many[1..]).unwrap();
    assert_eq!((shell.line("junk-1").0, shell.disk.models.len()), (Phase::Fetching, MODELS_MAX));
}

#[test]
fn scoring_errors_in_probation_bring_the_previous_release_back() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits").2, Some(2));
    shell.handle(Input::ScoringErrors { name: &name("digits"), errors: 4 }).unwrap();
    assert!(
        matches!(shell.brain.install_action(), Some(Action::Install { work: Work::Return(Some(held)), .. }) if held.slot == Slot::A)
    );
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::ScoringErrors), Some(1)));
    // A repeat does not try it again, a later assignment does.
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    assert_eq!(shell.line("digits").0, Phase::RolledBack);
    shell.offer(&fleet, 3, &[Offer::granted(&two)]).unwrap();
    assert_eq!(shell.line("digits").0, Phase::Fetching);
}

#[test]
fn going_back_to_a_committed_release_needs_no_grant_but_never_passes_the_floor() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    let two = fleet.release("digits", 2);
    let three = fleet.release_with("digits", 3, |release| release.security_floor = 2);
    for (sequence, release) in [(1, &one), (2, &two)] {
        shell.offer(&fleet, sequence, &[Offer::granted(release)]).unwrap();
        shell.commit();
    }
    shell.offer(&fleet, 3, &[Offer { grant: None, ..Offer::granted(&one) }]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
    shell.offer(&fleet, 4, &[Offer::granted(&three)]).unwrap();
    shell.commit();
    assert_eq!(shell.model("digits").floor, 2);
    shell.offer(&fleet, 5, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::BelowFloor), Some(3)));
}

#[test]
fn a_newer_assignment_undoes_what_it_supersedes() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let releases: Vec<_> = (1..=3).map(|version| fleet.release("digits", version)).collect();
    shell.offer(&fleet, 1, &[Offer::granted(&releases[0])]).unwrap();
    shell.commit();
    shell.offer(&fleet, 2, &[Offer::granted(&releases[1])]).unwrap();
    shell.answer(Step::Fetched).unwrap();
    // While it is fetched: given up for the third.
    shell.offer(&fleet, 3, &[Offer::granted(&releases[2])]).unwrap();
    assert_eq!(shell.line("digits").0, Phase::Fetching);
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::Probation, None, Some(3)));
    // While it is on probation: put back first, then the second.
    shell.offer(&fleet, 4, &[Offer::granted(&releases[1])]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::RollingBack, Some(Reject::Withdrawn), Some(3)));
    shell.answer(Step::Returned).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Fetching, None, Some(1)));
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn a_model_that_takes_the_agent_down_is_given_up_and_orderly_restarts_do_not_count() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let one = fleet.release("digits", 1);
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.answer(Step::Fetched).unwrap();
    shell.answer(Step::Staged).unwrap();
    for _ in 0..3 * STARTS_MAX {
        shell.handle(Input::Stopping).unwrap();
        shell.restart(&fleet);
    }
    shell.handle(Input::Stopping).unwrap();
    for _ in 0..STARTS_MAX {
        assert_eq!(shell.line("digits").0, Phase::SelfTest);
        shell.restart(&fleet);
    }
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::Crashed), None));
}

#[test]
fn a_repeat_while_it_is_put_back_does_not_bring_back_what_failed() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    (0..STARTS_MAX).for_each(|_| shell.restart(&fleet));
    assert_eq!(shell.line("digits").0, Phase::RollingBack);
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::Crashed), Some(1)));
}

#[test]
fn a_damaged_active_slot_gives_way_to_the_previous_release() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    for (sequence, release) in [(1, &one), (2, &two)] {
        shell.offer(&fleet, sequence, &[Offer::granted(release)]).unwrap();
        shell.commit();
    }
    let damaged =
        Input::Install { name: &name("digits"), release: two.digest, step: Step::Failed(Reject::StorageFault) };
    shell.handle(damaged).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::StorageFault), Some(1)));
}

#[test]
fn a_model_slower_than_its_budget_goes_back_once_enough_calls_say_so() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    let name = name("digits");
    let release = |made: &Made| made.digest;
    let told = |calls, p95_us, release| Input::Latency { name: &name, release, calls, p95_us, p95_us_max: 1000 };
    for harmless in [
        told(LATENCY_CALLS_MIN - 1, 9000, release(&two)),
        told(LATENCY_CALLS_MIN, 1000, release(&two)),
        told(LATENCY_CALLS_MIN, 9000, release(&one)),
    ] {
        shell.handle(harmless).unwrap();
        assert_eq!(shell.line("digits").0, Phase::Probation);
    }
    shell.handle(told(LATENCY_CALLS_MIN, 1001, release(&two))).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::LatencyBudget), Some(1)));
    // What answers now is not on probation, however slow it is.
    shell.handle(told(1000, 9000, release(&one))).unwrap();
    assert_eq!(shell.line("digits").2, Some(1));
}

#[test]
fn report_numbers_never_repeat_across_restarts() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let mut last = 0;
    for round in 0..300 {
        if round % 7 == 0 {
            shell.restart(&fleet);
        }
        let sequence = shell.brain.report().sequence;
        assert!(sequence > last);
        last = sequence;
        shell.handle(Input::Reported).unwrap();
    }
}

#[test]
fn a_log_is_asked_for_until_it_is_in_the_outbox_and_once_only() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let body = fleet.command(1, Request::Log);
    let command = fleet.signed::<Command>(&body, &[DIRECTOR]);
    shell.handle(Input::Command(&command)).unwrap();
    // It goes to the outbox, so that it needs no connection.
    assert_eq!(shell.brain.poll_action(Millis(0)), Some(Action::Log));
    assert_eq!(shell.brain.poll_action(Millis(9)), Some(Action::Log));
    shell.handle(Input::Logged).unwrap();
    assert_eq!(shell.brain.poll_action(Millis(9)), None);
    assert_eq!(shell.handle(Input::Command(&command)), Err(Refused::Rejected(Reject::StaleSequence)));
    assert_eq!(shell.brain.poll_action(Millis(9)), None);
}

#[derive(Clone, Debug)]
enum Move {
    Offer { model: usize, version: u32, sequence: u64, granted: bool, approvals: usize, mode: Mode },
    Answer(Step),
    Good,
    Errors(u32),
    Crashes(usize, u8),
    Wait(u64),
    Holds(u8),
    Restart,
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![3 => Just(Mode::Active), 1 => Just(Mode::Shadow), 1 => Just(Mode::Urgent), 1 => Just(Mode::Patient)]
}

fn moves() -> impl Strategy<Value = Move> {
    let step = prop_oneof![
        Just(Step::Fetched),
        Just(Step::Staged),
        Just(Step::Passed),
        Just(Step::Activated),
        Just(Step::Returned),
        Just(Step::Failed(Reject::GoldenMismatch)),
    ];
    prop_oneof![
        3 => (0..3usize, 1..5u32, 0..30u64, any::<bool>(), (1..3usize, modes())).prop_map(|(model, version, sequence, granted, (approvals, mode))| {
            Move::Offer { model, version, sequence, granted, approvals, mode }
        }),
        2 => step.prop_map(Move::Answer),
        8 => Just(Move::Good),
        1 => (0..6u32).prop_map(Move::Errors),
        2 => (0..3usize, 1..7u8).prop_map(|(model, times)| Move::Crashes(model, times)),
        2 => (0..12_000u64).prop_map(Move::Wait),
        1 => prop_oneof![Just(0), 0..32u8].prop_map(Move::Holds),
        1 => Just(Move::Restart),
    ]
}

const NAMES: [&str; 3] = ["digits", "faces", "noise"];

fn play(shell: &mut Shell, fleet: &Fleet, releases: &[Vec<Made>], step: &Move) {
    match step {
        Move::Offer { model, version, sequence, granted, approvals, mode } => {
            let made = &releases[*model][*version as usize - 1];
            let grant = granted.then_some(1000);
            let offer = Offer { grant, approvals: *approvals, mode: *mode, ..Offer::granted(made) };
            let _ = shell.offer(fleet, *sequence, &[offer]);
        }
        Move::Answer(step) => drop(shell.answer(*step)),
        Move::Good => {
            if let Some(Action::Install { work, .. }) = shell.brain.install_action() {
                shell.answer(good(work)).unwrap();
            }
        }
        Move::Errors(errors) => {
            for name in NAMES {
                let _ = shell.handle(Input::ScoringErrors { name: &fleet::name(name), errors: *errors });
            }
        }
        Move::Crashes(model, times) => {
            let name = name(NAMES[*model]);
            for _ in 0..*times {
                let mut models = shell.disk.models.iter();
                let Some(release) = models.find(|model| model.name == name).and_then(|model| model.answers()) else {
                    return;
                };
                shell.handle(Input::Crashed { name: &name, release }).unwrap();
            }
        }
        Move::Holds(bits) => {
            let holds = Hold::ALL.into_iter().filter(|hold| bits & 1 << *hold as u8 != 0);
            shell.handle(Input::Holds(holds.fold(Holds::NONE, Holds::with))).unwrap();
        }
        Move::Wait(millis) => shell.wait(*millis),
        Move::Restart => shell.restart(fleet),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_what_was_approved_answers_and_counters_only_rise(steps in proptest::collection::vec(moves(), 1..60)) {
        let fleet = Fleet::new();
        let releases: Vec<Vec<Made>> = NAMES.iter().map(|name| {
            (1..5).map(|version| fleet.release_with(name, version, |release| release.security_floor = version / 2)).collect()
        }).collect();
        let mut shell = Shell::new(&fleet);
        let mut approved = BTreeSet::new();
        for step in &steps {
            let before = shell.disk.clone();
            play(&mut shell, &fleet, &releases, step);
            if let Move::Offer { model, version, granted: true, approvals: 2, .. } = step {
                approved.insert(releases[*model][*version as usize - 1].digest);
            }
            prop_assert!(shell.disk.seen >= before.seen);
            prop_assert!(shell.disk.reports >= before.reports);
            prop_assert!(shell.disk.models.iter().filter(|model| model.install.is_in_flight()).count() <= 1);
            for model in &shell.disk.models {
                let old = before.models.iter().find(|old| old.name == model.name);
                prop_assert!(model.floor >= old.map_or(0, |old| old.floor));
                for held in [model.active, model.previous].into_iter().flatten() {
                    prop_assert!(approved.contains(&held.target.running.release));
                }
                if let (Some(active), Some(previous)) = (model.active, model.previous) {
                    prop_assert!(active.slot != previous.slot);
                }
                prop_assert!(model.active.is_none_or(|active| active.target.running.version.number() >= model.floor));
                if let (Some(active), Install::Fetching(_) | Install::Shadow(_)) = (model.active, model.install) {
                    prop_assert!(model.spare() != active.slot && model.previous.is_none());
                }
            }
            // A power cut at any point: the same action comes again.
            let now = Config { holds: shell.brain.config().holds, ..config() };
            let again = Brain::restore(now, fleet.root(), shell.disk.clone());
            let is_given_up = matches!(shell.brain.install_action(), Some(Action::Install { work: Work::SelfTest, .. }));
            prop_assert!(is_given_up || shell.brain.install_action() == again.install_action() || again.state().models != shell.disk.models);
        }
    }
}
