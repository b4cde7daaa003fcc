//! The hostile corpus: models that try to crash, to hang or to exhaust whoever opens them.
//!
//! ```text
//!  kinds ─────┐                            ┌─> hub, as anybody with a publisher's token
//!             ├─> children: prepare, ──────┤
//!  mutants ───┘   examine, open, score     └─> agent, approved and signed
//! ```
//!
//! Each ends refused with a reason, or scored. What ends the child instead is counted by kind, and
//! must be on the list below. A program of its own, since it starts itself again as the child.
//!
//! `BELLWETHER_HOSTILE_SECONDS` (default 40) makes the mutations last longer,
//! `BELLWETHER_HOSTILE_SEED` repeats those of a run, `BELLWETHER_HOSTILE_ONLY=TEXT` opens the kinds
//! whose name contains it and prints each outcome.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::large_futures,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a test fails by panicking, and says where; its numbers are small, and a family of kinds is a list however long"
)]

mod kinds;
mod live;
#[path = "../fuzz/mutate.rs"]
mod mutate;
mod onnx;
mod pool;
#[path = "../attacks/rogue.rs"]
#[allow(dead_code, reason = "shared with the attacks, which need all of it")]
mod rogue;
#[path = "../attacks/stage.rs"]
#[allow(dead_code, reason = "shared with the attacks, which need all of it")]
mod stage;
mod worker;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bellwether_tests::files::data;

use kinds::Kind;
use mutate::{Random, mutated};
use pool::{Opened, locked, open_all};
use worker::Outcome;

/// Fewer kinds, or mutants in the whole time, would be a test of little.
const KINDS_MIN: usize = 300;
const MUTANTS_MIN: usize = 2_000;
/// Seconds of mutating.
const SECONDS: u64 = 40;
/// Longest mutant: the largest model of `tests/data` fits.
const MUTANT_BYTES_MAX: usize = 256 * 1024;
/// Mutants of a sort that are kept as files: those that panicked, those that ended their child.
const KEPT_MAX: usize = 5;
/// Slowest kinds that are named at the end.
const SLOWEST_SHOWN: usize = 5;

/// Kinds that may end the child that opens them, each with the reason; aim for none.
const MAY_END_THE_CHILD: [(&str, &str); 0] = [];

/// Models of `tests/data` whose mutants are opened.
const MODELS: [&str; 4] =
    ["digits-linear.onnx", "digits-cnn.onnx", "digits-cnn-int8.onnx", "bad/unsupported-operator.onnx"];

fn main() -> ExitCode {
    if let Some(code) = worker::run_if_child() {
        return code;
    }
    let begun = Instant::now();
    let all = kinds::all();
    assert!(all.len() >= KINDS_MIN, "only {} kinds", all.len());
    if let Ok(text) = std::env::var("BELLWETHER_HOSTILE_ONLY") {
        for (kind, opened) in opened(all.into_iter().filter(|kind| kind.name.contains(&text)).collect()) {
            println!("{:>7.1?} {} -> {:?}", opened.took, kind.name, opened.outcome);
        }
        return ExitCode::SUCCESS;
    }
    let results = opened(all);
    let mut faults = told(&results);
    println!("-- kinds took {:.1?}", begun.elapsed());
    let mutants = mutants(&mut faults);
    println!("-- with mutants {:.1?}", begun.elapsed());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let live = runtime.block_on(live::attack(&results));
    println!("-- with hub and agent {:.1?}", begun.elapsed());
    let ended = results.iter().filter(|(_, opened)| !opened.outcome.is_survived()).count();
    let caught = results.iter().filter(|(_, opened)| matches!(opened.outcome, Outcome::Caught(_))).count();
    for fault in &faults {
        println!("FAULT {fault}");
    }
    println!(
        "{} kinds, {mutants} mutations, 0 crashes of the agent, 0 of the hub; {ended} kinds ended their child, {caught} panics \
         were caught there; live: {} refused by the hub, {} registered, {} refused by the agent, {} taken",
        results.len(),
        live.refused,
        live.registered,
        live.rejected,
        live.taken
    );
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every kind with what came of it.
fn opened(kinds: Vec<Kind>) -> Vec<(Kind, Opened)> {
    let results = Mutex::new(BTreeMap::new());
    open_all(
        |index| kinds.get(index).map(|kind| &kind.bytes),
        |index, _, opened| drop(locked(&results).insert(index, opened)),
    );
    let results = results.into_inner().expect("nobody panicked");
    kinds.into_iter().zip(results.into_values()).collect()
}

/// Prints what came of the families; what must not be.
fn told(results: &[(Kind, Opened)]) -> Vec<String> {
    let mut families: BTreeMap<&str, [usize; 6]> = BTreeMap::new();
    let mut faults = Vec::new();
    for (kind, opened) in results {
        let family = kind.name.split('/').next().unwrap_or_default();
        let column = match &opened.outcome {
            Outcome::Refused(_) => 1,
            Outcome::Caught(_) => 2,
            Outcome::Scored => 3,
            Outcome::Kept => 4,
            Outcome::Died(_) | Outcome::TooLong | Outcome::Disagreed(_) => 5,
        };
        let counts = families.entry(family).or_default();
        counts[0] += 1;
        counts[column] += 1;
        if let Outcome::Caught(why) = &opened.outcome {
            println!("caught {}: {}", kind.name, why.lines().next().unwrap_or_default());
        }
        let is_listed = MAY_END_THE_CHILD.iter().any(|(name, _)| *name == kind.name);
        if kind.is_sound && opened.outcome != Outcome::Scored {
            faults.push(format!("{} is sound: {:?}", kind.name, opened.outcome));
        } else if column == 5 && (opened.outcome.is_survived() || !is_listed) {
            faults.push(format!("{}: {:?}", kind.name, opened.outcome));
        } else if is_listed && opened.outcome.is_survived() {
            faults.push(format!("{} is listed as one that ends its child, and does not", kind.name));
        }
    }
    println!("{:<14}{:>7}{:>9}{:>8}{:>8}{:>6}{:>7}", "family", "kinds", "refused", "caught", "scored", "kept", "ended");
    for (family, [all, refused, caught, scored, kept, ended]) in families {
        println!("{family:<14}{all:>7}{refused:>9}{caught:>8}{scored:>8}{kept:>6}{ended:>7}");
    }
    let mut slowest: Vec<_> = results.iter().map(|(kind, opened)| (opened.took, &kind.name)).collect();
    slowest.sort();
    for (took, name) in slowest.iter().rev().take(SLOWEST_SHOWN) {
        println!("slow: {took:.1?} {name}");
    }
    faults
}

/// Mutants of the models in `tests/data` and of the sound kinds, for a while; how many.
fn mutants(faults: &mut Vec<String>) -> usize {
    let number =
        |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"));
    let seed = number("BELLWETHER_HOSTILE_SEED", bellwether_tests::files::fresh());
    let seconds = number("BELLWETHER_HOSTILE_SECONDS", SECONDS);
    let mut corpus: Vec<Vec<u8>> =
        MODELS.iter().map(|name| std::fs::read(data(name)).expect("it is readable")).collect();
    corpus.extend(kinds::all().into_iter().filter(|kind| kind.is_sound).map(|kind| kind.bytes));
    let begun = Instant::now();
    let (counts, found) = (Mutex::new([0usize; 4]), Mutex::new(Vec::new()));
    open_all(
        |index| {
            let mut random = Random(seed.wrapping_add((index as u64).wrapping_mul(0x1_0000_0001)));
            (begun.elapsed() < Duration::from_secs(seconds)).then(|| mutated(&mut random, &corpus, MUTANT_BYTES_MAX))
        },
        |index, bytes, opened| {
            let column = match &opened.outcome {
                Outcome::Refused(_) | Outcome::Kept => 0,
                Outcome::Scored => 1,
                Outcome::Caught(_) => 2,
                Outcome::Died(_) | Outcome::TooLong | Outcome::Disagreed(_) => 3,
            };
            locked(&counts)[column] += 1;
            if column < 2 {
                return;
            }
            // For whoever looks into it; the seed makes it again.
            let path = std::env::temp_dir().join(format!("bellwether-hostile-{seed}-{index}.onnx"));
            let is_kept = locked(&counts)[column] <= KEPT_MAX && std::fs::write(&path, bytes).is_ok();
            let file = if is_kept { path.display().to_string() } else { "not kept".to_owned() };
            if let Outcome::Caught(why) = &opened.outcome {
                println!("caught mutant {index} ({file}): {}", why.lines().next().unwrap_or_default());
            } else {
                locked(&found).push(format!("mutant {index} of seed {seed} ({file}): {:?}", opened.outcome));
            }
        },
    );
    let [refused, scored, caught, ended] = *locked(&counts);
    let sum = refused + scored + caught + ended;
    println!(
        "{sum} mutants of seed {seed}: {refused} refused, {scored} scored, {caught} panics caught, {ended} ended the child"
    );
    faults.append(&mut locked(&found));
    if sum < MUTANTS_MIN && seconds >= SECONDS {
        faults.push(format!("only {sum} mutants in {seconds} s"));
    }
    sum
}
