//! What installs wait for, and models that score in the shadow.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod fleet;
mod shell;

use bellwether_agent_core::update::{Install, Step, Work};
use bellwether_agent_core::{Action, Brain, Holds, Input};
use bellwether_protocol::error::Reject;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Hold, Mode, Phase};
use fleet::{Fleet, Offer, config, name};
use shell::Shell;

const SWITCHED: [Step; 4] = [Step::Fetched, Step::Staged, Step::Passed, Step::Activated];

fn hold(shell: &mut Shell, holds: &[Hold]) {
    let holds = holds.iter().fold(Holds::NONE, |all, hold| all.with(*hold));
    shell.handle(Input::Holds(holds)).unwrap();
}

fn offered(fleet: &Fleet, mode: Mode) -> Shell {
    let mut shell = Shell::new(fleet);
    let [one, two] = [1, 2].map(|version| fleet.release("digits", version));
    shell.offer(fleet, 1, &[Offer::granted(&one)]).unwrap();
    shell.commit();
    shell.offer(fleet, 2, &[Offer { mode, ..Offer::granted(&two) }]).unwrap();
    shell
}

#[test]
fn what_must_wait_goes_back_to_the_queue_and_on_from_there() {
    let fleet = Fleet::new();
    for reason in [Hold::Window, Hold::Power, Hold::Busy] {
        for answers in 0..3 {
            let mut shell = offered(&fleet, Mode::Active);
            SWITCHED.iter().take(answers).for_each(|step| shell.answer(*step).unwrap());
            hold(&mut shell, &[reason]);
            assert_eq!(shell.brain.install_action(), None);
            assert_eq!(shell.line("digits"), (Phase::Held(reason), None, Some(1)));
            shell.wait(3_600_000);
            shell.restart(&fleet);
            hold(&mut shell, &[reason]);
            assert_eq!(shell.line("digits").0, Phase::Held(reason), "also after a restart, however long it takes");
            hold(&mut shell, &[]);
            assert_eq!(shell.line("digits").0, Phase::Fetching);
            shell.commit();
            assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
        }
    }
}

#[test]
fn what_is_being_switched_is_not_held() {
    let fleet = Fleet::new();
    let all = Hold::ALL;
    for answers in 3..5 {
        let mut shell = offered(&fleet, Mode::Active);
        SWITCHED.iter().take(answers).for_each(|step| shell.answer(*step).unwrap());
        hold(&mut shell, &all);
        shell.commit();
        assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
    }
    let mut shell = offered(&fleet, Mode::Active);
    SWITCHED.iter().for_each(|step| shell.answer(*step).unwrap());
    hold(&mut shell, &all);
    let model = name("digits");
    let release = shell.model("digits").answers().unwrap();
    shell.handle(Input::Install { name: &model, release, step: Step::Failed(Reject::Crashed) }).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, Some(Reject::Crashed), Some(1)), "nor is the way back");
}

#[test]
fn a_connection_that_costs_holds_the_download_alone() {
    let fleet = Fleet::new();
    let mut shell = offered(&fleet, Mode::Active);
    hold(&mut shell, &[Hold::Metered]);
    assert_eq!(shell.line("digits").0, Phase::Held(Hold::Metered));
    hold(&mut shell, &[]);
    shell.answer(Step::Fetched).unwrap();
    hold(&mut shell, &[Hold::Metered]);
    shell.commit();
    assert_eq!(shell.line("digits").0, Phase::Committed);
}

#[test]
fn who_does_not_know_the_time_waits_only_if_the_rollout_says_so_and_urgent_ones_never_wait() {
    let fleet = Fleet::new();
    for (mode, holds, waits) in [
        (Mode::Active, vec![Hold::Clock], None),
        (Mode::Patient, vec![Hold::Clock], Some(Hold::Clock)),
        (Mode::Active, vec![Hold::Clock, Hold::Busy], Some(Hold::Busy)),
        (Mode::Shadow, vec![Hold::Window], Some(Hold::Window)),
        (Mode::Urgent, Hold::ALL.to_vec(), None),
    ] {
        let mut shell = offered(&fleet, mode);
        hold(&mut shell, &holds);
        assert_eq!(shell.line("digits").0, waits.map_or(Phase::Fetching, Phase::Held), "{mode:?} {holds:?}");
        // It is part of what survives a restart.
        shell.restart(&fleet);
        hold(&mut shell, &holds);
        assert_eq!(shell.line("digits").0, waits.map_or(Phase::Fetching, Phase::Held), "{mode:?} {holds:?}");
    }
    let mut shell = offered(&fleet, Mode::Active);
    hold(&mut shell, &[Hold::Window]);
    let two = fleet.release("digits", 2);
    shell.offer(&fleet, 3, &[Offer { mode: Mode::Urgent, ..Offer::granted(&two) }]).unwrap();
    assert_eq!(shell.line("digits").0, Phase::Fetching, "it became urgent");
}

#[test]
fn what_waits_takes_no_place_from_what_need_not() {
    let fleet = Fleet::new();
    let mut shell = Shell::new(&fleet);
    let (digits, faces) = (fleet.release("digits", 1), fleet.release("faces", 1));
    let urgent = Offer { mode: Mode::Urgent, ..Offer::granted(&faces) };
    shell.offer(&fleet, 1, &[Offer::granted(&digits), urgent]).unwrap();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Fetching, Phase::Deferred));
    hold(&mut shell, &[Hold::Window]);
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Held(Hold::Window), Phase::Fetching));
    shell.commit();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Held(Hold::Window), Phase::Committed));
}

#[test]
fn a_start_into_a_closed_window_goes_on_with_nothing_and_overwrites_nothing() {
    let fleet = Fleet::new();
    let closed = || bellwether_agent_core::Config { holds: Holds::NONE.with(Hold::Window), ..config() };
    for answers in 0..3 {
        let mut shell = offered(&fleet, Mode::Active);
        SWITCHED.iter().take(answers).for_each(|step| shell.answer(*step).unwrap());
        let brain = Brain::restore(closed(), fleet.root(), shell.disk.clone());
        assert_eq!((brain.install_action(), brain.report().models[0].phase), (None, Phase::Held(Hold::Window)));
    }
    let mut shell = offered(&fleet, Mode::Active);
    shell.commit();
    let three = fleet.release("digits", 3);
    hold(&mut shell, &[Hold::Window]);
    shell.offer(&fleet, 3, &[Offer::granted(&three)]).unwrap();
    let brain = Brain::restore(closed(), fleet.root(), shell.disk.clone());
    let model = &brain.state().models[0];
    assert!(matches!(model.install, Install::Deferred(_)), "{:?}", model.install);
    assert!(model.previous.is_some(), "there is still something to go back to");
}

#[test]
fn in_the_shadow_a_model_scores_and_answers_nobody_until_it_is_to() {
    let fleet = Fleet::new();
    let mut shell = offered(&fleet, Mode::Shadow);
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::Shadow, None, Some(1)));
    assert_eq!((shell.brain.install_action(), shell.model("digits").floor), (None, 0));
    shell.wait(3_600_000);
    shell.restart(&fleet);
    assert_eq!(shell.line("digits"), (Phase::Shadow, None, Some(1)), "for as long as it is wanted");
    // Another model is not in its way.
    let [two, faces] = [("digits", 2), ("faces", 1)].map(|(name, version)| fleet.release(name, version));
    let shadow = Offer { mode: Mode::Shadow, ..Offer::granted(&two) };
    shell.offer(&fleet, 3, &[shadow, Offer::granted(&faces)]).unwrap();
    shell.commit();
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Shadow, Phase::Committed));
    // It steps out: its bytes are looked at once more, and go where they are.
    shell.offer(&fleet, 4, &[Offer::granted(&two), Offer::granted(&faces)]).unwrap();
    let Some(Action::Install { work, held, .. }) = shell.brain.install_action() else { panic!() };
    assert_eq!((work, held.slot), (Work::Fetch, shell.model("digits").spare()));
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn what_ends_in_the_shadow_leaves_what_answers_alone() {
    let fleet = Fleet::new();
    let model = name("digits");
    let in_shadow = || {
        let mut shell = offered(&fleet, Mode::Shadow);
        shell.settle();
        while shell.brain.poll_event().is_some() {}
        shell
    };
    let two = fleet.release("digits", 2).digest;
    let mut shell = in_shadow();
    shell.handle(Input::Crashed { name: &model, release: two }).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::Crashed), Some(1)));
    let mut shell = in_shadow();
    shell.handle(Input::Install { name: &model, release: two, step: Step::Failed(Reject::DigestMismatch) }).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::DigestMismatch), Some(1)));
    // Withdrawn, and superseded by what answers or by another.
    let mut shell = in_shadow();
    shell.offer(&fleet, 3, &[]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Rejected, Some(Reject::Withdrawn), Some(1)));
    let mut shell = in_shadow();
    let one = fleet.release("digits", 1);
    shell.offer(&fleet, 3, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
    let event = shell.brain.poll_event().unwrap();
    assert_eq!((event.version.number(), event.reject), (2, Some(Reject::Withdrawn)));
    let mut shell = in_shadow();
    let three = fleet.release("digits", 3);
    shell.offer(&fleet, 3, &[Offer::granted(&three)]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(3)));
    // What answers breaks: the shadow never stands in for it, and comes back beside nothing.
    let mut shell = in_shadow();
    let one = one.digest;
    shell.handle(Input::Install { name: &model, release: one, step: Step::Failed(Reject::DigestMismatch) }).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::Shadow, None, None));
    assert!(shell.brain.deadline().is_none_or(|(at, _)| at > Millis(0)));
}
