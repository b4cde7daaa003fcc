//! One way through an update, told in words: what the device does, where power goes, what comes of it.

use super::bench::{Cut, Cuts, Ended, Take};
use super::{Course, Plan, Spot, first_seed, no_cuts, second_seed};
use crate::disk::{Pattern, every_pattern, one_pattern};

/// How it went on one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// What happened, the last of it at the end.
    pub timeline: Vec<String>,
    /// What did not hold.
    pub bad: Option<String>,
}

/// In which pattern the seed draws the second cut, at `operation` of the recovery from the first.
#[must_use]
pub fn drawn(seed: u64, update: u32, first: (u64, Pattern), operation: u64) -> Pattern {
    let patterns = one_pattern(second_seed(seed, update, first), operation);
    patterns.first().copied().unwrap_or(Pattern::Nothing)
}

/// Goes one way, and tells of it.
///
/// # Errors
///
/// If there is no such way.
pub fn replay(plan: Plan, spot: &Spot) -> Result<Replay, String> {
    let updates = plan.updates.max(spot.update.saturating_add(1));
    let mut course = Course::new(Plan { updates, ..plan }).ok_or("there are not that many updates")?;
    while course.upcoming().is_some_and(|next| next < spot.update) {
        course.pass().map_err(|bad| format!("update {} goes wrong already: {}", bad.spot.update, bad.why))?;
    }
    let mut replay = Replay::default();
    course.bench.timeline = Some(Vec::new());
    let seed = first_seed(plan.seed, spot.update);
    let mut left = None;
    let ended = course.base(&mut only(seed, spot.first, &mut keep(spot.first, &mut left)));
    replay.timeline.extend(course.bench.timeline.take().unwrap_or_default());
    let (ended, first) = match (ended, spot.first) {
        (Err(bad), _) => return Ok(replay.ends(Err(bad.why))),
        (Ok(_), None) => return Ok(replay.ends(Ok(()))),
        (Ok(ended), Some(first)) => (ended, first),
    };
    replay.goes(first)?;
    let cut = left.ok_or_else(|| too_far(first.0))?;
    let (done, left) = replay.lives(&course, spot.update, &ended, (&cut, 1), (first, spot.second));
    let Some(second) = spot.second else { return Ok(replay.ends(done)) };
    replay.goes(second)?;
    let cut = left.ok_or_else(|| too_far(second.0))?;
    let (done, _) = replay.lives(&course, spot.update, &ended, (&cut, 2), (first, None));
    Ok(replay.ends(done))
}

fn too_far(operation: u64) -> String {
    format!("there is no operation {operation} on this way")
}

/// Keeps what is left at one place.
fn keep(at: Option<(u64, Pattern)>, left: &mut Option<Cut>) -> impl FnMut(u64, u64, Pattern, &dyn Fn() -> Cut) {
    move |_, operation, pattern, cut| {
        if at == Some((operation, pattern)) {
            *left = Some(cut());
        }
    }
}

fn only<'c>(seed: u64, at: Option<(u64, Pattern)>, take: &'c mut Take<'c>) -> Cuts<'c> {
    if at.is_none() { no_cuts(take) } else { Cuts { patterns: every_pattern, seed, take } }
}

impl Replay {
    /// Power goes: what came after that did not happen.
    fn goes(&mut self, (operation, pattern): (u64, Pattern)) -> Result<(), String> {
        let is_it = |line: &String| line.contains(&format!("operation {operation}: "));
        // Operations are counted anew in each life.
        let at = self.timeline.iter().rposition(is_it).ok_or_else(|| too_far(operation))?;
        self.timeline.truncate(at + 1);
        let what = match pattern {
            Pattern::Nothing => "nothing that was not on disk for good is left",
            Pattern::Everything => "everything is left, and nobody was told",
            Pattern::Half => "half of what was under way is left",
            Pattern::Scattered => "some of what was under way is left",
            Pattern::Torn => "what came before is left, and this in part",
        };
        self.timeline.push(format!("             POWER GOES: {what}"));
        Ok(())
    }

    /// The device lives on from what was left, perhaps to the next cut.
    fn lives(
        &mut self,
        course: &Course,
        update: u32,
        ended: &Ended,
        life: (&Cut, u64),
        (first, next): ((u64, Pattern), Option<(u64, Pattern)>),
    ) -> (Result<(), String>, Option<Cut>) {
        let mut left = None;
        let seed = second_seed(course.plan.seed, update, first);
        let mut keep = keep(next, &mut left);
        let (done, timeline) = course.recover(update, ended, life, only(seed, next, &mut keep), true);
        drop(keep);
        self.timeline.extend(timeline);
        (done, left)
    }

    fn ends(mut self, done: Result<(), String>) -> Self {
        match done {
            Ok(()) => self.timeline.push("             it ends as it should".to_owned()),
            Err(why) => {
                self.timeline.push(format!("             BAD: {why}"));
                self.bad = Some(why);
            }
        }
        self
    }
}
