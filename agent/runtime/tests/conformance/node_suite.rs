//! ONNX's node suite.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cases::{self, Outcome};

/// The newest default operator set of which most must pass.
const OPSET: u32 = 18;
/// The least share of those.
const SHARE: f64 = 0.9;

#[test]
fn the_node_suite_is_computed_or_refused_and_never_wrong() {
    let folder = cases::made_by("node_suite");
    let outcomes = cases::outcomes(&folder, judge);
    let (mut old, mut all) = (BTreeMap::new(), BTreeMap::new());
    for (name, outcome) in &outcomes {
        if !matches!(outcome, Outcome::Pass) {
            println!("{name}: {outcome}");
        }
        *all.entry(outcome.word()).or_insert(0_u32) += 1;
        if opset(&folder.join(name)) <= OPSET {
            *old.entry(outcome.word()).or_insert(0) += 1;
        }
    }
    println!("all: {all:?}; operator sets up to {OPSET}: {old:?}");
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/node_suite.txt");
    let (pass, of) = (old.get("pass").copied().unwrap_or(0), old.values().sum::<u32>());
    println!("{pass} of {of} pass up to {OPSET}: {:.1} %", 100.0 * f64::from(pass) / f64::from(of));
    cases::held_to(&list, &outcomes);
    assert_eq!((all.get("wrong"), all.get("failed")), (None, None), "an accepted model answers, and rightly");
    assert!(f64::from(pass) >= SHARE * f64::from(of));
}

/// The operator set of a case, and its tolerances.
fn facts(case: &Path) -> (u32, f64, f64) {
    let text = std::fs::read_to_string(case.join("case.txt")).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2].parse().unwrap())
}

fn opset(case: &Path) -> u32 {
    facts(case).0
}

fn judge(case: &Path) -> Outcome {
    let (_, rtol, atol) = facts(case);
    match cases::load(case) {
        Err(outcome) => outcome,
        Ok(_) if !case.join("vectors.npz").exists() => Outcome::Failed("accepted without vectors".to_owned()),
        Ok(mut cpu) => cases::compared(&mut cpu, case, rtol, atol),
    }
}
