//! The transition table of a rollout: pure, one place, drawn in the room's header.

use bellwether_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::{OnFailure, Pause, Policy, State, Step};

/// How the devices of the stages offered so far stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub total: u32,
    /// Committed, slow ones too.
    pub healthy: u32,
    /// Online and on their way.
    pub updating: u32,
    /// Waiting for a window, power, a free connection or an application; they go on by themselves and
    /// hold nobody up.
    #[serde(default)]
    pub held: u32,
    /// Refused or rolled back.
    pub failed: u32,
    /// Of those, how many were slower than a latency budget.
    pub failed_slow: u32,
    /// Committed, but slower than the policy allows.
    pub slow: u32,
    /// Away, and without it; they follow when they return.
    pub offline: u32,
}

/// What happens to a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Time passed or a device reported.
    Tick { granted: bool, counts: Counts, returned: bool },
    /// A person pauses.
    Pause(String),
    /// A person resumes.
    Resume,
    /// A person ends the stage now.
    Promote(Counts),
    /// A person takes it back.
    Abort,
    /// A person rolls it back, and waits until it is.
    RollBack(String),
}

/// Why a person's wish does not fit now; the state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It completed, was aborted or was rolled back.
    #[error("the rollout has ended")]
    Ended,
    /// It is being rolled back.
    #[error("it is being rolled back")]
    RollingBack,
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
    if let (Input::Tick { .. }, Some(state)) = (&input, begun_ahead(state, now)) {
        return Ok(state);
    }
    match (state, input) {
        (State::Completed | State::Aborted | State::RolledBack { .. }, Input::Tick { .. }) => Ok(state.clone()),
        (State::Completed, Input::RollBack(why)) => {
            Ok(State::RollingBack { stage: stages.saturating_sub(1), why: Pause::Manual(why), since: now })
        }
        (State::Completed | State::Aborted | State::RolledBack { .. }, _) => Err(Refused::Ended),
        // Whoever has not returned by now cannot, or not yet: it must not hold the model for ever.
        (State::RollingBack { stage, why, since }, Input::Tick { returned, .. })
            if returned || now.since(*since) > policy.silence =>
        {
            Ok(State::RolledBack { stage: *stage, why: why.clone() })
        }
        (State::RollingBack { .. }, Input::Tick { .. }) => Ok(state.clone()),
        (State::RollingBack { .. }, Input::Abort) => Ok(State::Aborted),
        (State::RollingBack { .. }, _) => Err(Refused::RollingBack),
        (State::Going { stage, .. } | State::Paused { stage, .. }, Input::RollBack(why)) => {
            Ok(State::RollingBack { stage: *stage, why: Pause::Manual(why), since: now })
        }
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
        (State::Going { stage, step }, Input::Tick { granted, counts, .. }) => {
            Ok(tick((*stage, *step), now, granted, counts, policy, stages))
        }
    }
}

/// The same state begun now, if it began in what is the future of a clock that was set back meanwhile: a
/// span that cannot be told begins anew.
fn begun_ahead(state: &State, now: Millis) -> Option<State> {
    match state {
        State::Going { stage, step: Step::Offering { since } } if *since > now => {
            Some(State::Going { stage: *stage, step: Step::Offering { since: now } })
        }
        State::Going { stage, step: Step::Soaking { since } } if *since > now => {
            Some(State::Going { stage: *stage, step: Step::Soaking { since: now } })
        }
        State::RollingBack { stage, why, since } if *since > now => {
            Some(State::RollingBack { stage: *stage, why: why.clone(), since: now })
        }
        State::Going { .. }
        | State::Paused { .. }
        | State::Completed
        | State::Aborted
        | State::RollingBack { .. }
        | State::RolledBack { .. } => None,
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
    let stop = |why| match policy.on_failure {
        OnFailure::Pause => State::Paused { stage, step, why },
        OnFailure::RollBack => State::RollingBack { stage, why, since: now },
    };
    // Also while it waits for a grant: latecomers of the stages before may fail meanwhile.
    let bad = counts.failed.saturating_add(counts.slow);
    let slow = counts.failed_slow.saturating_add(counts.slow);
    if bad > policy.failures_max {
        return stop(if slow == bad { Pause::Latency(bad) } else { Pause::Failures(bad) });
    }
    match step {
        Step::WaitingForGrant if granted => State::Going { stage, step: Step::Offering { since: now } },
        Step::WaitingForGrant => same,
        Step::Offering { .. } if counts.updating == 0 && (counts.healthy > 0 || counts.total == 0) => {
            State::Going { stage, step: Step::Soaking { since: now } }
        }
        Step::Offering { .. } if counts.updating == 0 && counts.failed > 0 && counts.failed == counts.total => {
            stop(Pause::Failures(counts.failed))
        }
        Step::Offering { since } if counts.updating > 0 && now.since(since) > policy.silence => {
            State::Paused { stage, step, why: Pause::Silence(counts.updating) }
        }
        // Nobody can be reached, or all wait: whoever goes on later gets the whole time.
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
    use bellwether_protocol::trust::Mode;

    use super::*;

    const POLICY: Policy = Policy {
        soak: Millis(100),
        failures_max: 1,
        silence: Millis(1000),
        on_failure: OnFailure::Pause,
        p95_us_max: None,
        mode: Mode::Active,
    };

    fn going(stage: usize, step: Step) -> State {
        State::Going { stage, step }
    }

    fn step(state: &State, now: u64, granted: bool, counts: Counts) -> State {
        next(state, Millis(now), Input::Tick { granted, counts, returned: false }, POLICY, 2).unwrap()
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
    fn a_span_that_began_in_the_future_begins_anew() {
        let counts = Counts { total: 1, healthy: 1, ..Counts::default() };
        let soaking = going(0, Step::Soaking { since: Millis(9_000) });
        let anew = step(&soaking, 1_000, true, counts);
        assert_eq!(anew, going(0, Step::Soaking { since: Millis(1_000) }));
        assert_eq!(step(&anew, 1_100, true, counts), going(1, Step::WaitingForGrant));
        let away = Counts { total: 1, updating: 1, ..Counts::default() };
        let offering = going(0, Step::Offering { since: Millis(9_000) });
        let anew = step(&offering, 1_000, true, away);
        assert!(matches!(step(&anew, 2_001, true, away), State::Paused { why: Pause::Silence(1), .. }));
    }

    #[test]
    fn held_devices_hold_nobody_up_and_are_not_silent() {
        let offering = going(0, Step::Offering { since: Millis(0) });
        let some = Counts { total: 3, healthy: 1, held: 2, ..Counts::default() };
        assert_eq!(step(&offering, 5_000, true, some), going(0, Step::Soaking { since: Millis(5_000) }));
        let all = Counts { total: 3, held: 3, ..Counts::default() };
        let later = step(&offering, 5_000, true, all);
        assert_eq!(later, going(0, Step::Offering { since: Millis(5_000) }), "it waits for one that goes on");
        let on = Counts { total: 3, updating: 1, held: 2, ..Counts::default() };
        assert_eq!(step(&later, 5_500, true, on), later, "which gets the whole time");
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

    #[test]
    fn a_failed_gate_rolls_back_where_the_policy_says_so_and_says_why() {
        let policy = Policy { on_failure: OnFailure::RollBack, ..POLICY };
        let tick = |state: &State, counts, returned| {
            next(state, Millis(1), Input::Tick { granted: true, counts, returned }, policy, 2).unwrap()
        };
        let soaking = going(0, Step::Soaking { since: Millis(0) });
        let slow = Counts { total: 3, healthy: 2, slow: 1, failed: 1, failed_slow: 1, ..Counts::default() };
        let rolling = tick(&soaking, slow, false);
        assert_eq!(rolling, State::RollingBack { stage: 0, why: Pause::Latency(2), since: Millis(1) });
        let mixed = Counts { failed_slow: 0, ..slow };
        assert_eq!(
            tick(&soaking, mixed, false),
            State::RollingBack { stage: 0, why: Pause::Failures(2), since: Millis(1) }
        );
        let silent = Counts { total: 2, healthy: 1, updating: 1, ..Counts::default() };
        let offering = going(0, Step::Offering { since: Millis(0) });
        let late =
            next(&offering, Millis(1001), Input::Tick { granted: true, counts: silent, returned: false }, policy, 2);
        assert!(matches!(late, Ok(State::Paused { why: Pause::Silence(1), .. })), "silence proves nothing: {late:?}");
        assert_eq!(tick(&rolling, slow, false), rolling, "until everyone who can be reached has returned");
        let late =
            next(&rolling, Millis(1002), Input::Tick { granted: true, counts: slow, returned: false }, policy, 2);
        assert!(matches!(late, Ok(State::RolledBack { .. })), "one device does not hold the model for ever");
        let back = tick(&rolling, Counts::default(), true);
        assert_eq!(back, State::RolledBack { stage: 0, why: Pause::Latency(2) });
        assert_eq!(tick(&back, slow, false), back);
    }

    #[test]
    fn a_person_can_roll_back_what_goes_and_what_completed() {
        let ask = |state: &State, input| next(state, Millis(9), input, POLICY, 2);
        let manual = |stage| State::RollingBack { stage, why: Pause::Manual("wrong labels".into()), since: Millis(9) };
        let wish = || Input::RollBack("wrong labels".into());
        assert_eq!(ask(&going(0, Step::WaitingForGrant), wish()), Ok(manual(0)));
        assert_eq!(ask(&State::Completed, wish()), Ok(manual(1)));
        assert_eq!(ask(&State::Aborted, wish()), Err(Refused::Ended));
        assert_eq!(ask(&manual(0), wish()), Err(Refused::RollingBack));
        assert_eq!(ask(&manual(0), Input::Pause(String::new())), Err(Refused::RollingBack));
        assert_eq!(ask(&manual(0), Input::Abort), Ok(State::Aborted), "a way out");
    }
}
