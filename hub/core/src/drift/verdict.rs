//! Verdicts: when scores become an alert, and when an alert ends.
//!
//! ```text
//!        a column shifted           for raise_after windows in a row
//!  Calm ──────────────────> Watch ──────────────────────────────────> Alarm
//!    ^  none is shifted       │                                         │
//!    └────────────────────────┴──── none for clear_after in a row ──────┘
//! ```

use std::collections::BTreeMap;

use bellwether_protocol::time::Millis;
use serde::{Deserialize, Serialize};

use super::Policy;
use super::score::Score;

/// How a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It looks like its baseline.
    #[default]
    Calm,
    /// A column is shifted, not for long enough.
    Watch,
    /// An alert is raised.
    Alarm,
}

/// What a window changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An alert begins.
    Raised {
        /// When the first window opened that the alert rests on.
        since: Millis,
    },
    /// The alert ends.
    Cleared,
}

/// Judges one window after the other; a sequential detector takes the place of [`Hysteresis`] here.
pub trait Detector {
    /// Takes the scores of the window that opened at `opened_at`.
    fn observe(&mut self, opened_at: Millis, scores: &[Score], policy: &Policy) -> Option<Turn>;
}

/// A detector that waits for several windows in a row before it turns, either way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hysteresis {
    /// How it stands.
    pub state: State,
    /// Since when, unless it is calm.
    pub since: Option<Millis>,
    /// Columns that are shifted in the latest window, the worst first.
    pub shifted: Vec<u16>,
    /// Columns that are shifted: windows in a row, and when the first of them opened.
    streaks: BTreeMap<u16, (u8, Millis)>,
    /// Windows in a row without a shifted column.
    calm: u8,
}

impl Detector for Hysteresis {
    fn observe(&mut self, opened_at: Millis, scores: &[Score], policy: &Policy) -> Option<Turn> {
        let mut shifted: Vec<&Score> = scores.iter().filter(|score| score.corrected > score.threshold).collect();
        shifted.sort_by(|a, b| b.corrected.total_cmp(&a.corrected));
        self.shifted = shifted.iter().map(|score| score.column).collect();
        let now = &self.shifted;
        self.streaks.retain(|column, _| now.contains(column));
        for column in now {
            let streak = self.streaks.entry(*column).or_insert((0, opened_at));
            streak.0 = streak.0.saturating_add(1);
        }
        self.calm = if now.is_empty() { self.calm.saturating_add(1) } else { 0 };
        let lasting = self.streaks.values().filter(|(windows, _)| *windows >= policy.raise_after);
        let since = lasting.map(|(_, since)| *since).min();
        match (self.state, since) {
            (State::Calm | State::Watch, Some(since)) => {
                (self.state, self.since) = (State::Alarm, Some(since));
                Some(Turn::Raised { since })
            }
            (State::Calm | State::Watch, None) => {
                let first = self.streaks.values().map(|(_, since)| *since).min();
                self.state = if first.is_some() { State::Watch } else { State::Calm };
                self.since = first;
                None
            }
            (State::Alarm, _) if self.calm >= policy.clear_after => {
                (self.state, self.since) = (State::Calm, None);
                Some(Turn::Cleared)
            }
            (State::Alarm, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(detector: &mut Hysteresis, at: u64, corrected: f64) -> (Option<Turn>, State) {
        let score = |column, corrected| Score { column, psi: corrected, corrected, threshold: 0.2, n: 1000, m: 1000 };
        let turn = detector.observe(Millis(at), &[score(0, 0.0), score(1, corrected)], &Policy::default());
        (turn, detector.state)
    }

    #[test]
    fn one_window_is_watched_and_the_next_raises_since_the_first() {
        let mut detector = Hysteresis::default();
        assert_eq!(observe(&mut detector, 1, 0.1), (None, State::Calm));
        assert_eq!(observe(&mut detector, 2, 0.3), (None, State::Watch));
        assert_eq!(observe(&mut detector, 3, 0.1), (None, State::Calm));
        assert_eq!(observe(&mut detector, 4, 0.3), (None, State::Watch));
        assert_eq!(observe(&mut detector, 5, 0.4), (Some(Turn::Raised { since: Millis(4) }), State::Alarm));
        assert_eq!(detector.shifted, [1]);
        assert_eq!(observe(&mut detector, 6, 0.4), (None, State::Alarm), "it is told once");
    }

    #[test]
    fn an_alert_ends_only_after_several_calm_windows() {
        let mut detector = Hysteresis::default();
        observe(&mut detector, 1, 0.9);
        observe(&mut detector, 2, 0.9);
        for (at, corrected) in [(3, 0.0), (4, 0.0), (5, 0.9), (6, 0.0), (7, 0.0)] {
            assert_eq!(observe(&mut detector, at, corrected), (None, State::Alarm));
        }
        assert_eq!(observe(&mut detector, 8, 0.0), (Some(Turn::Cleared), State::Calm));
        assert_eq!((detector.since, detector.shifted.len()), (None, 0));
    }
}
