//! `bellwether-sim cuts`: power goes at every operation of a device's disk, on every core; the first way
//! that ends badly is told in words.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use bellwether_world::cuts::{Bad, Course, Pattern, Plan, Shown, Spot, Tally, drawn, replay};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How all updates went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// In numbers.
    #[serde(flatten)]
    pub tally: Tally,
    /// Patterns in which each operation is cut.
    pub patterns: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Where one way is cut, as the command line takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Which update.
    pub update: u32,
    /// At which operation, and in which pattern.
    pub first: Option<(u64, Pattern)>,
    /// At which operation of the recovery; in which pattern, if not in the one that the seed draws.
    pub second: Option<(u64, Option<Pattern>)>,
}

/// Goes through every update, cut everywhere. With a planted bug it is enough to find one bad way.
///
/// # Errors
///
/// If the plan asks for too many updates.
pub fn run_all(plan: Plan) -> anyhow::Result<(Summary, Option<Bad>)> {
    let begun = Instant::now();
    let bar = ProgressBar::new(plan.updates.into());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} updates, {eta} left") {
        bar.set_style(style);
    }
    Course::new(Plan { updates: 1, ..plan }).context("the device of the simulation cannot be made")?;
    let (claimed, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let (tally, worst) = (Mutex::new(Tally::default()), Mutex::new(None::<Bad>));
    // Each worker has a device of its own, which passes without a cut what another worker cuts.
    let worker = || {
        let Some(mut course) = Course::new(plan) else { return };
        let mut mine = claimed.fetch_add(1, Ordering::Relaxed);
        while let Some(update) = course.upcoming() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            if update < mine {
                // What goes wrong without a cut, whoever cuts this update sees as well.
                let _seen = course.pass();
                continue;
            }
            let Shown { tally: one, bad } = course.cut();
            if let Ok(mut tally) = tally.lock() {
                tally.add(&one);
            }
            bar.inc(1);
            if let (Some(bad), Ok(mut worst)) = (bad, worst.lock()) {
                stop.fetch_or(plan.mutant.is_some(), Ordering::Relaxed);
                if worst.as_ref().is_none_or(|known| bad.spot.update < known.spot.update) {
                    *worst = Some(bad);
                }
            }
            mine = claimed.fetch_add(1, Ordering::Relaxed);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    bar.finish_and_clear();
    let tally = tally.into_inner().unwrap_or_default();
    let patterns = Pattern::ALL.len() as u64;
    let summary = Summary { tally, patterns, seconds: begun.elapsed().as_secs_f64() };
    Ok((summary, worst.into_inner().unwrap_or_default()))
}

/// Goes one way and gives what happened, the last of it at the end.
///
/// # Errors
///
/// What did not hold, after everything was told; or that there is no such way.
pub fn tell(plan: Plan, way: Way) -> anyhow::Result<Vec<String>> {
    let drawn = |first, operation| drawn(plan.seed, way.update, first, operation);
    let second = way
        .first
        .zip(way.second)
        .map(|(first, (operation, pattern))| (operation, pattern.unwrap_or_else(|| drawn(first, operation))));
    let told = replay(plan, &Spot { update: way.update, first: way.first, second }).map_err(|why| anyhow!(why))?;
    let Some(why) = told.bad else { return Ok(told.timeline) };
    for line in &told.timeline {
        eprintln!("{line}");
    }
    bail!("{why}")
}

/// Tells of a bad way, and how to see it again.
///
/// # Errors
///
/// Always: what did not hold.
pub fn fail(plan: Plan, bad: &Bad) -> anyhow::Result<()> {
    let Spot { update, first, second } = bad.spot;
    let command = command(plan, bad);
    let second = second.map(|(operation, pattern)| (operation, Some(pattern)));
    tell(plan, Way { update, first, second }).with_context(|| format!("see it again: {command}"))?;
    bail!("{}, but not once more: {command}", bad.why)
}

/// The command that goes this way and tells everything.
fn command(plan: Plan, bad: &Bad) -> String {
    let Spot { update, first, second } = bad.spot;
    let first = first.map(|(operation, pattern)| format!(" --operation {operation} --pattern {}", pattern.name()));
    let second =
        second.map(|(operation, pattern)| format!(" --second {operation} --second-pattern {}", pattern.name()));
    let seed = if plan.seed == 0 { String::new() } else { format!(" --seed {}", plan.seed) };
    let mutant = plan.mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
    let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
    format!("bellwether-sim cuts --update {update}{first}{second}{seed}{mutant}")
}

/// Reads the name of a pattern.
///
/// # Errors
///
/// A name that is none.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    let names: Vec<&str> = Pattern::ALL.into_iter().map(Pattern::name).collect();
    let known = Pattern::ALL.into_iter().find(|pattern| pattern.name() == text);
    known.ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use bellwether_world::Mutant;

    use super::*;

    #[test]
    fn a_planted_bug_gives_a_command_that_shows_it_again() {
        let mutant = Some(Mutant::StageWithoutSync);
        let plan = Plan { updates: 2, seed: 7, every_second: false, mutant };
        let (summary, bad) = run_all(plan).unwrap();
        let bad = bad.unwrap();
        assert!(summary.tally.bad > 0, "{summary:?}");
        let told = command(plan, &bad);
        assert!(told.contains(" --operation ") && told.ends_with(" --seed 7 --mutant stage-without-sync"), "{told}");
        let why = fail(plan, &bad).unwrap_err();
        assert_eq!(why.to_string(), format!("see it again: {told}"));
        assert_eq!(why.root_cause().to_string(), bad.why);
    }

    #[test]
    fn patterns_are_read_by_their_names() {
        for known in Pattern::ALL {
            assert_eq!(pattern(known.name()), Ok(known));
        }
        assert!(pattern("most").unwrap_err().contains("scattered"));
    }
}
