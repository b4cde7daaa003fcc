//! The transition table of a rollout: pure, one place, drawn in the room's header.

use bellwether_protocol::time::Millis;

use super::{Pause, Policy, State, Step};

/// How the devices of the stages offered so far stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub total: u32,
    /// Committed.
    pub healthy: u32,
    /// Online and on their way.
    pub updating: u32,
    /// Refused or rolled back.
    pub failed: u32,
    /// Away, and without it; they follow when they return.
    pub offline: u32,
}

/// What happens to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Time passed or a device reported.
    Tick { granted: bool, counts: Counts },
    /// A person pauses.
    Pause(String),
    /// A person resumes.
    Resume,
    /// A person ends the stage now.
    Promote(Counts),
    /// A person takes it back.
    Abort,
}

/// Why a person's wish does not fit now; the state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It completed or was aborted.
    #[error("the rollout has ended")]
    Ended,
    /// It is paused already.
    #[error("it is paused already")]
    Paused,
    /// It is going already.
    #[error("it is not paused")]
    NotPaused,
    /// A person must sign first.
    #[error("the stage waits for a signed grant")]
    WaitsForGrant,
    /// Nobody has it yet.
    #[error("no device of this stage runs it yet")]
    NobodyHealthy,
}

/// The state after `input`, in a rollout of `stages` stages.
pub(super) fn next(state: &State, now: Millis, input: Input, policy: Policy, stages: usize) -> Result<State, Refused> {
    match (state, input) {
        (State::Completed | State::Aborted, Input::Tick { .. }) => Ok(state.clone()),
        (State::Completed | State::Aborted, _) => Err(Refused::Ended),
        (State::Paused { .. }, Input::Tick { .. }) => Ok(state.clone()),
        (State::Paused { .. }, Input::Pause(_)) => Err(Refused::Paused),
        (State::Going { stage, step }, Input::Pause(why)) => {
            Ok(State::Paused { stage: *stage, step: *step, why: Pause::Manual(why) })
        }
        (State::Going { .. }, Input::Resume) => Err(Refused::NotPaused),
        (State::Paused { stage, step: Step::WaitingForGrant, .. }, Input::Resume) => {
            Ok(State::Going { stage: *stage, step: Step::WaitingForGrant })
        }
        (State::Paused { stage, .. }, Input::Resume) => {
            Ok(State::Going { stage: *stage, step: Step::Offering { since: now } })
        }
        (
            State::Going { step: Step::WaitingForGrant, .. } | State::Paused { step: Step::WaitingForGrant, .. },
            Input::Promote(_),
        ) => Err(Refused::WaitsForGrant),
        (State::Going { .. } | State::Paused { .. }, Input::Promote(Counts { healthy: 0, .. })) => {
            Err(Refused::NobodyHealthy)
        }
        (State::Going { stage, .. } | State::Paused { stage, .. }, Input::Promote(_)) => Ok(after(*stage, stages)),
        (State::Going { .. } | State::Paused { .. }, Input::Abort) => Ok(State::Aborted),
        (State::Going { stage, step }, Input::Tick { granted, counts }) => {
            Ok(tick((*stage, *step), now, granted, counts, policy, stages))
        }
    }
}

fn tick(
    (stage, step): (usize, Step),
    now: Millis,
    granted: bool,
    counts: Counts,
    policy: Policy,
    stages: usize,
) -> State {
    let same = State::Going { stage, step };
    // Also while it waits for a grant: latecomers of the stages before may fail meanwhile.
    if counts.failed > policy.failures_max {
        return State::Paused { stage, step, why: Pause::Failures(counts.failed) };
    }
    match step {
        Step::WaitingForGrant if granted => State::Going { stage, step: Step::Offering { since: now } },
        Step::WaitingForGrant => same,
        Step::Offering { .. } if counts.updating == 0 && (counts.healthy > 0 || counts.total == 0) => {
            State::Going { stage, step: Step::Soaking { since: now } }
        }
        Step::Offering { .. } if counts.updating == 0 && counts.failed > 0 && counts.failed == counts.total => {
            State::Paused { stage, step, why: Pause::Failures(counts.failed) }
        }
        Step::Offering { since } if counts.updating > 0 && now.since(since) > policy.silence => {
            State::Paused { stage, step, why: Pause::Silence(counts.updating) }
        }
        // Nobody can be reached: whoever comes online later gets the whole time.
        Step::Offering { since } if counts.updating == 0 && now.since(since).0 > policy.silence.0 / 2 => {
            State::Going { stage, step: Step::Offering { since: now } }
        }
        Step::Offering { .. } => same,
        Step::Soaking { since } if now.since(since) >= policy.soak => after(stage, stages),
        Step::Soaking { .. } => same,
    }
}

fn after(stage: usize, stages: usize) -> State {
    let next = stage.saturating_add(1);
    if next >= stages { State::Completed } else { State::Going { stage: next, step: Step::WaitingForGrant } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { soak: Millis(100), failures_max: 1, silence: Millis(1000) };

    fn going(stage: usize, step: Step) -> State {
        State::Going { stage, step }
    }

    fn step(state: &State, now: u64, granted: bool, counts: Counts) -> State {
        next(state, Millis(now), Input::Tick { granted, counts }, POLICY, 2).unwrap()
    }

    #[test]
    fn a_stage_passes_when_granted_settled_and_soaked() {
        let start = going(0, Step::WaitingForGrant);
        let settled = Counts { total: 3, healthy: 2, offline: 1, ..Counts::default() };
        assert_eq!(step(&start, 1, false, settled), start);
        let offering = step(&start, 2, true, Counts::default());
        assert_eq!(offering, going(0, Step::Offering { since: Millis(2) }));
        let busy = Counts { total: 3, healthy: 2, updating: 1, ..Counts::default() };
        assert_eq!(step(&offering, 3, true, busy), offering);
        let soaking = step(&offering, 4, true, settled);
        assert_eq!(soaking, going(0, Step::Soaking { since: Millis(4) }));
        assert_eq!(step(&soaking, 103, true, settled), soaking);
        assert_eq!(step(&soaking, 104, true, settled), going(1, Step::WaitingForGrant));
    }

    #[test]
    fn silent_and_failed_devices_stop_a_stage_and_absent_ones_never_pass_it() {
        let offering = going(0, Step::Offering { since: Millis(0) });
        let silent = Counts { total: 2, healthy: 1, updating: 1, ..Counts::default() };
        assert!(matches!(step(&offering, 1001, true, silent), State::Paused { why: Pause::Silence(1), .. }));
        let failed = Counts { total: 3, healthy: 1, failed: 2, ..Counts::default() };
        assert!(matches!(step(&offering, 1, true, failed), State::Paused { why: Pause::Failures(2), .. }));
        let tolerated = Counts { total: 1, failed: 1, ..Counts::default() };
        assert!(
            matches!(step(&offering, 1, true, tolerated), State::Paused { why: Pause::Failures(1), .. }),
            "a stage in which everyone failed asks a person even within the limit"
        );
        let away = Counts { total: 2, offline: 2, ..Counts::default() };
        let later = step(&offering, 5000, true, away);
        assert_eq!(later, going(0, Step::Offering { since: Millis(5000) }), "it goes on waiting");
        let back = Counts { total: 2, updating: 1, offline: 1, ..Counts::default() };
        assert_eq!(step(&later, 5001, true, back), later, "who comes back late gets the whole time");
        let waiting = going(1, Step::WaitingForGrant);
        assert!(
            matches!(step(&waiting, 1, true, failed), State::Paused { why: Pause::Failures(2), .. }),
            "failures count while a grant is awaited"
        );
    }

    #[test]
    fn a_person_is_told_why_not() {
        let waiting = going(0, Step::WaitingForGrant);
        let healthy = Counts { total: 1, healthy: 1, ..Counts::default() };
        let ask = |state: &State, input| next(state, Millis(9), input, POLICY, 1);
        assert_eq!(ask(&waiting, Input::Promote(healthy)), Err(Refused::WaitsForGrant));
        assert_eq!(ask(&waiting, Input::Resume), Err(Refused::NotPaused));
        assert_eq!(ask(&State::Completed, Input::Abort), Err(Refused::Ended));
        let offering = going(0, Step::Offering { since: Millis(0) });
        assert_eq!(ask(&offering, Input::Promote(Counts::default())), Err(Refused::NobodyHealthy));
        assert_eq!(ask(&offering, Input::Promote(healthy)), Ok(State::Completed));
        let paused = ask(&offering, Input::Pause("lunch".into())).unwrap();
        assert_eq!(ask(&paused, Input::Pause(String::new())), Err(Refused::Paused));
        assert_eq!(ask(&paused, Input::Resume), Ok(going(0, Step::Offering { since: Millis(9) })));
    }
}
