//! What becomes of a model that ends its own process.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

mod fleet;
mod shell;

use bellwether_agent_core::update::{Step, Work};
use bellwether_agent_core::{Action, CRASHES_MAX, CRASHES_QUIET, Input, Refused};
use bellwether_protocol::error::Reject;
use bellwether_protocol::trust::Phase;
use fleet::{Fleet, Made, Offer, name};
use shell::Shell;

const CRASHED: Option<Reject> = Some(Reject::Crashed);

/// What answers crashes so often, each time a second after the last.
fn crash(shell: &mut Shell, times: u8) {
    let digits = name("digits");
    for _ in 0..times {
        shell.now += 1_000;
        let release = shell.model("digits").answers().unwrap();
        shell.handle(Input::Crashed { name: &digits, release }).unwrap();
    }
}

/// A device on which these were committed, one after the other.
fn committed(fleet: &Fleet, releases: &[&Made]) -> Shell {
    let mut shell = Shell::new(fleet);
    for (sequence, release) in (1..).zip(releases) {
        shell.offer(fleet, sequence, &[Offer::granted(release)]).unwrap();
        shell.commit();
    }
    shell
}

#[test]
fn one_crash_on_probation_takes_the_newcomer_back() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    let mut shell = committed(&fleet, &[&one]);
    shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::Probation, None, Some(2)));
    crash(&mut shell, 1);
    assert_eq!(shell.line("digits").0, Phase::RollingBack);
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, CRASHED, Some(1)));
}

#[test]
fn what_crashes_too_often_gives_way_and_comes_back_only_by_a_later_order() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    let mut shell = committed(&fleet, &[&one, &two]);
    crash(&mut shell, CRASHES_MAX - 1);
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
    while shell.brain.poll_event().is_some() {}
    crash(&mut shell, 1);
    let Some(Action::Install { work: Work::Return(Some(held)), .. }) = shell.brain.install_action() else { panic!() };
    assert_eq!(held.target.running.version.number(), 1);
    shell.settle();
    assert_eq!(shell.line("digits"), (Phase::RolledBack, CRASHED, Some(1)));
    let events: Vec<_> = std::iter::from_fn(|| shell.brain.poll_event()).collect();
    let last = events.last().unwrap();
    assert_eq!((last.version.number(), last.phase, last.reject), (2, Phase::RolledBack, CRASHED));
    // The same order again, also after a restart, brings it back no more.
    for _ in 0..2 {
        shell.offer(&fleet, 2, &[Offer::granted(&two)]).unwrap();
        assert_eq!((shell.line("digits"), shell.brain.install_action()), ((Phase::RolledBack, CRASHED, Some(1)), None));
        shell.restart(&fleet);
    }
    shell.offer(&fleet, 3, &[Offer::granted(&two)]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
    // It is judged as if it were new.
    crash(&mut shell, CRASHES_MAX - 1);
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(2)));
}

#[test]
fn crashes_are_counted_over_restarts_and_forgotten_when_it_is_quiet() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    let mut shell = committed(&fleet, &[&one, &two]);
    for _ in 1..CRASHES_MAX {
        crash(&mut shell, 1);
        shell.restart(&fleet);
        shell.now = 0;
    }
    let release = shell.model("digits").answers().unwrap();
    assert_eq!(shell.disk.crashes_of(&name("digits"), release), CRASHES_MAX - 1);
    let mut quiet = Shell { brain: shell.brain.clone(), disk: shell.disk.clone(), now: 0 };
    // A restart begins the quiet anew: how long it was off, nobody knows.
    quiet.wait(0);
    quiet.wait(CRASHES_QUIET.0 - 1);
    assert_eq!(quiet.disk.crashes.len(), 1);
    quiet.wait(1);
    assert_eq!(quiet.disk.crashes.len(), 0);
    crash(&mut quiet, CRASHES_MAX - 1);
    assert_eq!(quiet.line("digits"), (Phase::Committed, None, Some(2)));
    crash(&mut shell, 1);
    assert_eq!(shell.line("digits").0, Phase::RollingBack);
}

#[test]
fn with_nothing_to_go_back_to_it_is_kept_and_the_report_says_so() {
    let fleet = Fleet::new();
    let one = fleet.release("digits", 1);
    let mut shell = committed(&fleet, &[&one]);
    crash(&mut shell, CRASHES_MAX);
    assert_eq!((shell.line("digits"), shell.brain.install_action()), ((Phase::RolledBack, CRASHED, Some(1)), None));
    shell.offer(&fleet, 1, &[Offer::granted(&one)]).unwrap();
    crash(&mut shell, 3);
    assert_eq!(shell.line("digits"), (Phase::RolledBack, CRASHED, Some(1)));
    shell.offer(&fleet, 2, &[Offer::granted(&one)]).unwrap();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(1)));
}

#[test]
fn a_previous_release_below_the_floor_is_nothing_to_go_back_to() {
    let fleet = Fleet::new();
    let one = fleet.release("digits", 1);
    let two = fleet.release_with("digits", 2, |release| release.security_floor = 2);
    let mut shell = committed(&fleet, &[&one, &two]);
    crash(&mut shell, CRASHES_MAX);
    assert_eq!(shell.line("digits"), (Phase::RolledBack, CRASHED, Some(2)));
}

#[test]
fn an_install_under_way_of_this_model_or_another_ends_before_anything_is_decided() {
    let fleet = Fleet::new();
    let [one, two, three] = [1, 2, 3].map(|version| fleet.release("digits", version));
    let mut shell = committed(&fleet, &[&one, &two]);
    shell.offer(&fleet, 3, &[Offer::granted(&three)]).unwrap();
    crash(&mut shell, CRASHES_MAX + 1);
    assert_eq!(shell.line("digits"), (Phase::Fetching, None, Some(2)));
    shell.answer(Step::Failed(Reject::DiskFull)).unwrap();
    crash(&mut shell, 1);
    // Its download has taken the place of version 1.
    assert_eq!(shell.line("digits"), (Phase::RolledBack, CRASHED, Some(2)));
    shell.offer(&fleet, 4, &[Offer::granted(&three)]).unwrap();
    shell.commit();
    assert_eq!(shell.line("digits"), (Phase::Committed, None, Some(3)));
    let faces = fleet.release("faces", 1);
    shell.offer(&fleet, 5, &[Offer::granted(&three), Offer::granted(&faces)]).unwrap();
    crash(&mut shell, CRASHES_MAX + 1);
    assert_eq!((shell.line("digits").0, shell.line("faces").0), (Phase::Committed, Phase::Fetching));
    shell.commit();
    crash(&mut shell, 1);
    assert_eq!(shell.line("digits").0, Phase::RollingBack);
}

#[test]
fn a_crash_of_what_does_not_answer_is_out_of_turn() {
    let fleet = Fleet::new();
    let (one, two) = (fleet.release("digits", 1), fleet.release("digits", 2));
    let mut shell = committed(&fleet, &[&one, &two]);
    let before = shell.disk.clone();
    for (model, release) in [("digits", one.digest), ("faces", two.digest)] {
        let late = shell.handle(Input::Crashed { name: &name(model), release });
        assert_eq!(late, Err(Refused::OutOfTurn));
    }
    assert_eq!(shell.disk, before);
}
