//! Drift: what values look like now against what they looked like where the version was made.
//!
//! ```text
//!  profiles of devices ──merge──> Window (per version and group: fleet, site)
//!                                    │ old and full enough
//!                                    v
//!                        score: PSI per column against the baseline
//!                                    │
//!                        verdict: calm, watch, alarm ──> event
//! ```
//! Windows follow the hub's clock: a profile counts where it arrives, since a device's clock may be
//! wrong. Bins are those of the baseline, so sums of devices are exact.

pub mod score;
pub mod verdict;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::profile::Column;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Profile;
use serde::{Deserialize, Serialize};

use crate::event::What;
use crate::rules::{Change, Changes, Rules};
use score::Score;
use verdict::{Detector as _, Hysteresis, Turn};

pub use window::{Merged, Window};

/// Points of a monitor's timeline; the oldest go first.
pub const POINTS_MAX: usize = 96;
/// Groups that are watched for one version: the fleet, and so many sites.
pub const GROUPS_MAX: usize = 256;

/// A window that has too few rows after so many times its length is given up: its devices are gone.
pub const WINDOWS_WITHOUT_ROWS_MAX: u64 = 168;

/// What the values of a version looked like where it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The version.
    pub model: ModelRef,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// Whose profiles are merged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Every device.
    Fleet,
    /// The devices with this tag `site`.
    Site(String),
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("fleet"),
            Self::Site(site) => write!(f, "site {site}"),
        }
    }
}

/// What a monitor watches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The version.
    pub model: ModelRef,
    /// Whose profiles.
    pub group: Group,
}

/// How drift is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Length of a window.
    pub window: Millis,
    /// Rows without which a window is not judged: it stays open.
    pub rows_min: u64,
    /// PSI, corrected for its bias, above which a column counts as shifted; noise permitting.
    pub effect: f64,
    /// Windows in a row for which a column must be shifted to raise an alert.
    pub raise_after: u8,
    /// Windows in a row without a shifted column that clear it.
    pub clear_after: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { window: Millis::from_secs(3600), rows_min: 200, effect: 0.2, raise_after: 2, clear_after: 3 }
    }
}

/// A version in one group, watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Monitor {
    /// What it watches.
    pub key: Key,
    /// The last window that was judged.
    pub latest: Window,
    /// Its scores, in the order of the baseline's columns.
    pub scores: Vec<Score>,
    /// The worst score of each window so far, the newest last.
    pub timeline: VecDeque<Point>,
    /// The verdict, and what led to it.
    pub verdict: Hysteresis,
}

/// One window of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When the window ended.
    pub at: Millis,
    /// Its rows.
    pub rows: u64,
    /// The column with the highest score.
    pub column: u16,
    /// Its PSI, corrected for bias.
    pub psi: f64,
}

impl Rules {
    /// How drift is judged from now on.
    pub const fn judge_drift(&mut self, policy: Policy) {
        self.drift = policy;
    }

    /// How drift is judged.
    #[must_use]
    pub const fn drift_policy(&self) -> Policy {
        self.drift
    }

    /// The baseline of a version, if it came with one.
    #[must_use]
    pub fn baseline(&self, model: &ModelRef) -> Option<&Baseline> {
        self.baselines.get(model)
    }

    /// Every monitor that judged a window.
    pub fn monitors(&self) -> impl Iterator<Item = &Monitor> {
        self.monitors.values()
    }

    /// A monitor that judged a window.
    #[must_use]
    pub fn monitor(&self, key: &Key) -> Option<&Monitor> {
        self.monitors.get(key)
    }

    /// Windows that are open, of versions with a baseline.
    pub fn windows(&self) -> impl Iterator<Item = &Window> {
        self.windows.values()
    }

    /// Adds a profile to the windows of its groups. One that does not fit the baseline of its
    /// version is left out: its bins mean something else.
    pub(crate) fn merge(
        &self,
        windows: &mut BTreeMap<Key, Window>,
        profile: &Profile<'_>,
        site: Option<&str>,
        now: Millis,
    ) {
        let model = ModelRef { name: profile.name.clone(), version: profile.version };
        let Some(baseline) = self.baselines.get(&model) else { return };
        let Some(columns) = window::fitting(baseline, profile) else { return };
        let groups = [Some(Group::Fleet), site.map(|site| Group::Site(site.to_owned()))];
        for group in groups.into_iter().flatten() {
            let key = Key { model: model.clone(), group };
            if !windows.contains_key(&key) {
                let open = self.windows.get(&key).cloned();
                if open.is_none() && !self.may_watch(&key) {
                    continue;
                }
                windows.insert(key.clone(), open.unwrap_or_else(|| Window::open(key.clone(), baseline, now)));
            }
            if let Some(window) = windows.get_mut(&key) {
                window.add(profile, &columns);
            }
        }
    }

    fn may_watch(&self, key: &Key) -> bool {
        if key.group == Group::Fleet || self.monitors.contains_key(key) {
            return true;
        }
        let watched: BTreeSet<&Key> = self.windows.keys().chain(self.monitors.keys()).collect();
        watched.iter().filter(|other| other.model == key.model).count() < GROUPS_MAX
    }

    /// Judges every window that is old and full enough.
    #[must_use]
    pub fn judge(&self, now: Millis) -> Changes {
        let mut changes = self.changes("hub", now);
        for window in self.windows.values() {
            let age = now.apart(window.opened_at);
            if age > Millis(self.drift.window.0.saturating_mul(WINDOWS_WITHOUT_ROWS_MAX))
                && window.rows < self.drift.rows_min
            {
                changes.push(Change::WindowGone(window.key.clone()));
                continue;
            }
            let is_due = age >= self.drift.window && window.rows >= self.drift.rows_min;
            let Some(baseline) = self.baselines.get(&window.key.model).filter(|_| is_due) else { continue };
            self.judge_one(&mut changes, baseline, window, now);
        }
        changes
    }

    fn judge_one(&self, changes: &mut Changes, baseline: &Baseline, window: &Window, now: Millis) {
        let scores = score::all(baseline, window, self.drift.effect);
        let before = self.monitors.get(&window.key);
        let mut verdict = before.map(|monitor| monitor.verdict.clone()).unwrap_or_default();
        let turn = verdict.observe(window.opened_at, &scores, &self.drift);
        let mut timeline = before.map(|monitor| monitor.timeline.clone()).unwrap_or_default();
        if let Some(worst) = scores.iter().max_by(|a, b| a.corrected.total_cmp(&b.corrected)) {
            if timeline.len() >= POINTS_MAX {
                timeline.pop_front();
            }
            timeline.push_back(Point { at: now, rows: window.rows, column: worst.column, psi: worst.corrected });
        }
        let (model, group) = (window.key.model.clone(), window.key.group.clone());
        match turn {
            Some(Turn::Raised { since }) => {
                let names = verdict.shifted.iter().filter_map(|index| baseline.columns.get(usize::from(*index)));
                let columns = names.map(|column| column.name.to_string()).collect();
                changes.event(What::DriftAlertRaised { model, group, since, columns, rows: window.rows });
            }
            Some(Turn::Cleared) => changes.event(What::DriftAlertCleared { model, group }),
            None => {}
        }
        let monitor = Monitor { key: window.key.clone(), latest: window.clone(), scores, timeline, verdict };
        changes.push(Change::WindowGone(window.key.clone()));
        changes.push(Change::Monitor(Box::new(monitor)));
    }

    /// Forgets what was watched of a version.
    pub(crate) fn unwatch(&self, changes: &mut Changes, model: &ModelRef) {
        changes.push(Change::BaselineGone(model.clone()));
        for key in self.windows.keys().filter(|key| key.model == *model) {
            changes.push(Change::WindowGone(key.clone()));
        }
        for key in self.monitors.keys().filter(|key| key.model == *model) {
            changes.push(Change::MonitorGone(key.clone()));
        }
    }
}
