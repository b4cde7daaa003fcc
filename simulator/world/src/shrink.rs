//! The least that still breaks: fewer kinds of faults, fewer devices, less time.

use crate::{Run, Scenario, run};

/// Tries a scenario that breaks again with less of everything; the least that still breaks, and how.
#[must_use]
pub fn shrink(scenario: &Scenario, broken: Run) -> (Scenario, Run) {
    let first = broken.violation.clone();
    let wanted = first.as_deref().map(kind);
    let (mut least, mut broken) = (scenario.clone(), broken);
    let mut try_with = |candidate: Scenario, least: &mut Scenario| {
        let again = run(&candidate);
        let breaks = again.violation.as_deref().map(kind) == wanted;
        if breaks {
            (*least, broken) = (candidate, again);
        }
        breaks
    };
    for fault in scenario.faults.iter() {
        let candidate = Scenario { faults: least.faults.without(fault), ..least.clone() };
        try_with(candidate, &mut least);
    }
    while least.devices > 1 {
        let candidate = Scenario { devices: least.devices / 2, ..least.clone() };
        if !try_with(candidate, &mut least) {
            break;
        }
    }
    while least.chaos_ms > 10_000 {
        let candidate = Scenario { chaos_ms: least.chaos_ms * 2 / 3, ..least.clone() };
        if !try_with(candidate, &mut least) {
            break;
        }
    }
    (least, broken)
}

/// What a violation is about, whatever names and numbers are in it.
fn kind(violation: &str) -> Vec<&str> {
    let is_word = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == ',');
    violation.split(' ').filter(is_word).take(6).collect()
}
