//! Operators of `ai.onnx.ml` one by one, against onnxruntime.

use std::path::Path;

use crate::cases::{self, Outcome};

/// Nearness of every number, relative and absolute: sums are rounded in another order.
const NEAR: f64 = 2e-5;
/// Nearness where PROBIT is computed: the approximation multiplies what was rounded by a thousand.
const NEAR_PROBIT: f64 = 1e-2;

/// Fewer cases would be a test of little.
const CASES_MIN: usize = 1_000;

#[test]
fn operators_of_classical_models_are_computed_as_onnxruntime_does() {
    let folder = cases::made_by("classical_ops");
    let outcomes = cases::outcomes(&folder, judge);
    let all = cases::told(&outcomes);
    assert_eq!(all.keys().collect::<Vec<_>>(), [&"pass"]);
    assert!(outcomes.len() >= CASES_MIN, "only {} cases", outcomes.len());
}

fn judge(case: &Path) -> Outcome {
    match cases::load(case) {
        Err(outcome) => outcome,
        Ok(mut cpu) => {
            let is_probit = case.to_string_lossy().contains("probit");
            let near = if is_probit { NEAR_PROBIT } else { NEAR };
            cases::compared(&mut cpu, case, near, near)
        }
    }
}
