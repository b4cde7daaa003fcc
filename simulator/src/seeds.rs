//! `bellwether-sim run`: many seeds at once, the first that breaks made small, and the planted bugs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::bail;
use bellwether_world::{Fault, Faults, Mutant, Run, Scenario, run, shrink};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Seeds of which the trace is drawn twice, to see that it is the same.
const REPEATED: u64 = 10;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Not what the seed draws, but this many devices.
    pub devices: Option<usize>,
    /// Not what the seed draws, but these faults.
    pub faults: Option<Faults>,
    /// Not what the seed draws, but so many milliseconds of breaking.
    pub chaos_ms: Option<u64>,
    /// A planted bug.
    pub mutant: Option<Mutant>,
    /// Print the timeline of a single seed.
    pub timeline: bool,
}

impl Options {
    fn scenario(&self, seed: u64) -> Scenario {
        let drawn = Scenario::draw(seed);
        Scenario {
            devices: self.devices.unwrap_or(drawn.devices),
            faults: self.faults.unwrap_or(drawn.faults),
            chaos_ms: self.chaos_ms.unwrap_or(drawn.chaos_ms),
            mutant: self.mutant,
            whole: self.timeline,
            ..drawn
        }
    }
}

/// How all seeds went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds in which something did not hold.
    pub violations: u64,
    /// Things that happened.
    pub steps: u64,
    /// Hours of virtual time, of all devices together.
    pub virtual_device_hours: f64,
    /// Disk operations in the middle of which power was lost.
    pub cut_points: u64,
    /// Disk operations in all.
    pub disk_operations: u64,
    /// Releases that devices committed.
    pub commits: u64,
    /// Rows that hubs stored.
    pub rows: u64,
    /// Virtual device hours in a second of this machine.
    pub device_hours_per_second: f64,
    /// Wall time.
    pub seconds: f64,
}

impl Summary {
    fn take(&mut self, run: &Run) {
        self.seeds += 1;
        self.violations += u64::from(run.violation.is_some());
        self.steps += run.steps;
        self.virtual_device_hours += run.device_ms as f64 / 3_600_000.0;
        self.cut_points += run.cut_points;
        self.disk_operations += run.disk_operations;
        self.commits += run.commits;
        self.rows += run.rows;
    }
}

/// Runs the seeds on every core, until all are done or one breaks.
///
/// # Errors
///
/// If one breaks, with the command that shows it again; or if a seed is not the same twice.
pub fn run_all(options: &Options) -> anyhow::Result<Summary> {
    let begun = Instant::now();
    let bar = ProgressBar::new(options.count);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {eta} left") {
        bar.set_style(style);
    }
    let (next, stop) = (AtomicU64::new(options.first), AtomicBool::new(false));
    let (summary, broken) = (Mutex::new(Summary::default()), Mutex::new(None::<Run>));
    let end = options.first.saturating_add(options.count);
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let ran = run(&options.scenario(seed));
            let again = (seed - options.first < REPEATED).then(|| run(&options.scenario(seed)));
            let same = again.is_none_or(|again| again.trace == ran.trace);
            let ran = if same { ran } else { Run { violation: Some("the seed is not the same twice".into()), ..ran } };
            if let Ok(mut summary) = summary.lock() {
                summary.take(&ran);
            }
            bar.inc(1);
            if ran.violation.is_some()
                && let Ok(mut broken) = broken.lock()
            {
                stop.store(true, Ordering::Relaxed);
                broken.get_or_insert(ran);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    bar.finish_and_clear();
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.seconds = begun.elapsed().as_secs_f64();
    summary.device_hours_per_second = summary.virtual_device_hours / summary.seconds.max(1e-9);
    match broken.into_inner().ok().flatten() {
        None => Ok(summary),
        Some(broken) => fail(options, broken),
    }
}

/// Makes a seed that breaks as small as it gets, and tells how to see it.
fn fail(options: &Options, broken: Run) -> anyhow::Result<Summary> {
    eprintln!("seed {} breaks: {}", broken.seed, broken.violation.clone().unwrap_or_default());
    eprintln!("making it smaller ...");
    let (least, broken) = shrink(&options.scenario(broken.seed), broken);
    for line in &broken.timeline {
        eprintln!("{line}");
    }
    bail!("{}\n  see it again: {}", broken.violation.unwrap_or_default(), command(&least))
}

/// The command that runs this scenario and tells everything.
fn command(least: &Scenario) -> String {
    let faults: Vec<&str> = least.faults.iter().map(Fault::name).collect();
    let mutant = least.mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
    format!(
        "bellwether-sim run --seed {} --devices {} --faults {} --chaos-ms {}{mutant} --timeline",
        least.seed,
        least.devices,
        if faults.is_empty() { "none".to_owned() } else { faults.join(",") },
        least.chaos_ms
    )
}

/// Reads a list such as `loss,power-cuts`, or `none`.
///
/// # Errors
///
/// A name that is none.
pub fn faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults::NONE);
    }
    text.split(',').try_fold(Faults::NONE, |set, name| {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == name);
        let names: Vec<&str> = Fault::ALL.into_iter().map(Fault::name).collect();
        known.map(|fault| set.with(fault)).ok_or_else(|| format!("`{name}` is none of {}", names.join(", ")))
    })
}

/// Reads the name of a planted bug.
///
/// # Errors
///
/// A name that is none.
pub fn mutant(text: &str) -> Result<Mutant, String> {
    let names: Vec<&str> = Mutant::ALL.into_iter().map(Mutant::name).collect();
    let known = Mutant::ALL.into_iter().find(|mutant| mutant.name() == text);
    known.ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
}
