//! Cases in folders: made by a script, scored, compared.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bellwether_runtime::npz::{self, Array};
use bellwether_runtime::{Cpu, LoadError, Scorer, Tensor};

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every number is near enough.
    Pass,
    /// It answers otherwise here and there, by no more than is known of it.
    Near(String),
    /// The model is refused before anything is scored, with these words.
    Refused(String),
    /// It was accepted and gave no answer.
    Failed(String),
    /// It was accepted and answered something else.
    Wrong(String),
}

impl Outcome {
    /// The word for it in a list.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Near(_) => "near",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Wrong(_) => "wrong",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Near(why) | Self::Refused(why) | Self::Failed(why) | Self::Wrong(why) => {
                write!(f, "{}: {why}", self.word())
            }
        }
    }
}

/// The folder with a script's cases, one folder each; made if nobody has, once for all tests.
pub(crate) fn made_by(script: &str) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, Arc<OnceLock<PathBuf>>>> = Mutex::new(BTreeMap::new());
    let folder = MADE.lock().unwrap().entry(script.to_owned()).or_default().clone();
    folder.get_or_init(|| make(script)).clone()
}

fn make(script: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("BELLWETHER_CONFORMANCE") {
        return PathBuf::from(folder).join(script);
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = here.join("../../target/conformance").join(script);
    let _absent = std::fs::remove_dir_all(&target);
    std::fs::create_dir_all(&target).expect("the target folder can be made");
    let python = std::env::var("BELLWETHER_MODELS_PYTHON")
        .expect("BELLWETHER_MODELS_PYTHON names a Python with onnx: `tests/run conformance` installs one");
    let file = here.join("tests/conformance").join(format!("{script}.py"));
    let status = Command::new(python).arg(&file).arg(&target).status().expect("Python starts");
    assert!(status.success(), "{} ended with {status}", file.display());
    target
}

/// What becomes of every case in a folder, by name.
pub(crate) fn outcomes(folder: &Path, judge: impl Fn(&Path) -> Outcome + Sync) -> BTreeMap<String, Outcome> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    // Panics of the runtime are caught and are outcomes.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = judge(case);
                    let name = case.file_name().unwrap().to_str().unwrap().to_owned();
                    found.lock().unwrap().insert(name, outcome);
                }
            });
        }
    });
    let _quiet = std::panic::take_hook();
    found.into_inner().unwrap()
}

/// Prints what did not pass, and counts what became of the cases.
pub(crate) fn told(outcomes: &BTreeMap<String, Outcome>) -> BTreeMap<&'static str, u32> {
    let mut counts = BTreeMap::new();
    for (name, outcome) in outcomes {
        if !matches!(outcome, Outcome::Pass) {
            println!("{name}: {outcome}");
        }
        *counts.entry(outcome.word()).or_insert(0) += 1;
    }
    println!("{counts:?}");
    counts
}

/// Loads a case's model as at registration, or says why it is refused.
pub(crate) fn load(case: &Path) -> Result<Cpu, Outcome> {
    let model = std::fs::read(case.join("model.onnx")).unwrap();
    Cpu::load(&model).map_err(refusal)
}

/// What it is that a model does not load.
pub(crate) fn refusal(why: LoadError) -> Outcome {
    match why {
        LoadError::Crashed(why) => Outcome::Failed(why),
        LoadError::Inspect(_) | LoadError::Refused(_) => Outcome::Refused(why.to_string()),
    }
}

/// The arrays of a case, inputs and outputs.
pub(crate) fn arrays(case: &Path) -> (Vec<Tensor>, Vec<Tensor>) {
    let read: BTreeMap<String, Array> = npz::read(&std::fs::read(case.join("vectors.npz")).unwrap()).unwrap();
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (name, array) in read {
        let (side, name) = name.split_once('/').unwrap();
        let tensor = Tensor::new(name.parse().unwrap(), array.shape, array.data).unwrap();
        if side == "in" { inputs.push(tensor) } else { outputs.push(tensor) }
    }
    (inputs, outputs)
}

/// What single precision can say of a sum, as a share of its largest terms: eight times its step.
const STEP: f64 = 8.0 / 8_388_608.0;

/// Scores and compares every number: `|got - want| <= atol + rtol * |want|`, or as near as the greatest
/// number of the same tensor leaves single precision (a Fourier transform is zero only so far).
pub(crate) fn compared(scorer: &mut dyn Scorer, case: &Path, rtol: f64, atol: f64) -> Outcome {
    let (inputs, outputs) = arrays(case);
    let answers = match scorer.run(&inputs) {
        Ok(answers) => answers,
        Err(why) => return Outcome::Failed(why.to_string()),
    };
    for answer in &answers {
        let Some(expected) = outputs.iter().find(|output| output.name == answer.name) else {
            return Outcome::Failed(format!("nobody said what `{}` should be", answer.name));
        };
        if answer.shape() != expected.shape() {
            let (got, want) = (answer.shape(), expected.shape());
            return Outcome::Wrong(format!("`{}` has shape {got:?}, not {want:?}", answer.name));
        }
        let numbers = |tensor: &Tensor| -> Vec<f64> {
            (0..tensor.data().len()).map(|index| tensor.data().number(index).unwrap()).collect()
        };
        let (got, want) = (numbers(answer), numbers(expected));
        let greatest =
            want.iter().copied().filter(|want| want.is_finite()).fold(0.0, |most: f64, want| most.max(want.abs()));
        for (index, (got, want)) in got.into_iter().zip(want).enumerate() {
            let is_near = got == want
                || (got.is_nan() && want.is_nan())
                || want.is_finite() && (got - want).abs() <= (atol + rtol * want.abs()).max(STEP * greatest);
            if !is_near {
                return Outcome::Wrong(format!("`{}`[{index}] is {got}, not {want}", answer.name));
            }
        }
    }
    Outcome::Pass
}

/// Holds outcomes to a committed list of `name word`, or writes that anew.
pub(crate) fn held_to(list: &Path, outcomes: &BTreeMap<String, Outcome>) {
    let lines: Vec<String> = outcomes.iter().map(|(name, outcome)| format!("{name} {}", outcome.word())).collect();
    if std::env::var_os("BELLWETHER_BLESS").is_some() {
        std::fs::write(list, lines.join("\n") + "\n").unwrap();
    }
    let expected = std::fs::read_to_string(list).unwrap_or_default();
    let expected: BTreeMap<&str, &str> = expected.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut changed = Vec::new();
    for (name, outcome) in outcomes {
        let before = expected.get(name.as_str()).copied().unwrap_or("not listed");
        if before != outcome.word() {
            changed.push(format!("{name}: was {before}, is {outcome}"));
        }
    }
    changed.extend(expected.keys().filter(|name| !outcomes.contains_key(**name)).map(|name| format!("{name} is gone")));
    assert!(changed.is_empty(), "{} cases differ from {}:\n{}", changed.len(), list.display(), changed.join("\n"));
}
