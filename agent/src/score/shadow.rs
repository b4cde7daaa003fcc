//! A model in the shadow: it gets what the one that answers got, in a thread of its own, and its answers
//! are compared and thrown away. It slows nobody down: what comes while it is busy passes it by.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::trust::{Agreement, Running};
use bellwether_runtime::{Data, ScoreError, Scorer, Tensor};

use super::unpoisoned;
use super::window::Window;

/// Two single numbers this close, as a share of the larger, agree.
const NUMBERS_APART_MAX: f64 = 0.01;

/// A model in the shadow of what answers under the same name; it ends with this.
pub(crate) struct Shadow {
    running: Running,
    offers: SyncSender<Offer>,
    /// A call is with it: what comes now is not even copied.
    busy: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow").field("running", &self.running).finish_non_exhaustive()
    }
}

/// A call as it was answered.
struct Offer {
    against: Version,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// What was compared since the last time.
#[derive(Default)]
struct Tally {
    against: Option<Version>,
    rows: u32,
    agreed: u32,
    passed_by: u32,
    errors: u32,
    window: Window,
    /// Those against versions that answered before.
    past: Vec<Agreement>,
}

impl Shadow {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(super) fn start(running: Running, scorer: Box<dyn Scorer>, name: &ModelName) -> std::io::Result<Self> {
        let (offers, taken) = sync_channel(1);
        let tally = Arc::new(Mutex::new(Tally::default()));
        let busy = Arc::new(AtomicBool::new(false));
        let (told, name, done) = (Arc::clone(&tally), name.clone(), Arc::clone(&busy));
        std::thread::Builder::new().name("shadow".into()).spawn(move || {
            compare_all((&taken, &done), scorer, (&name, running.version), &told);
        })?;
        Ok(Self { running, offers, busy, tally })
    }

    pub(super) const fn running(&self) -> Running {
        self.running
    }

    /// Lets it see a call that was answered by `against`.
    pub(super) fn offer(&self, name: &ModelName, against: Version, inputs: &[Tensor], outputs: &[Tensor]) {
        {
            let mut tally = unpoisoned(&self.tally);
            if tally.against != Some(against) {
                let before = tally.take(name, self.running.version);
                tally.past.extend(before);
                tally.against = Some(against);
            }
        }
        let takes = !self.busy.swap(true, Ordering::AcqRel);
        let offer = || Offer { against, inputs: inputs.to_vec(), outputs: outputs.to_vec() };
        if !(takes && self.offers.try_send(offer()).is_ok()) {
            let mut tally = unpoisoned(&self.tally);
            tally.passed_by = tally.passed_by.saturating_add(rows(inputs));
        }
    }

    /// What was compared since the last time.
    pub(super) fn take(&self, name: &ModelName) -> Vec<Agreement> {
        let mut tally = unpoisoned(&self.tally);
        let mut all = std::mem::take(&mut tally.past);
        all.extend(tally.take(name, self.running.version));
        all
    }
}

impl Tally {
    fn take(&mut self, name: &ModelName, version: Version) -> Option<Agreement> {
        let against = self.against?;
        let window = std::mem::take(&mut self.window);
        let told = Agreement {
            name: name.clone(),
            version,
            against,
            rows: std::mem::take(&mut self.rows),
            agreed: std::mem::take(&mut self.agreed),
            passed_by: std::mem::take(&mut self.passed_by),
            errors: std::mem::take(&mut self.errors),
            p95_us: window.scores(name, version).map_or(0, |scores| scores.p95_us),
        };
        (told.rows > 0 || told.passed_by > 0 || told.errors > 0).then_some(told)
    }
}

/// Scores what is offered until nobody offers any more.
fn compare_all(
    (offers, busy): (&Receiver<Offer>, &AtomicBool),
    mut scorer: Box<dyn Scorer>,
    (name, version): (&ModelName, Version),
    tally: &Mutex<Tally>,
) {
    while let Ok(Offer { against, inputs, outputs }) = offers.recv() {
        let begun = std::time::Instant::now();
        let scored = scorer.run(&inputs);
        let spent = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
        busy.store(false, Ordering::Release);
        let mut tally = unpoisoned(tally);
        if tally.against != Some(against) {
            continue; // of a version that answers no more
        }
        match scored {
            Ok(mine) => {
                let rows = rows(&inputs);
                let agreed = (0..rows).filter(|row| agree(&outputs, &mine, *row as usize)).count();
                tally.window.scored(rows, spent);
                tally.rows = tally.rows.saturating_add(rows);
                tally.agreed = tally.agreed.saturating_add(u32::try_from(agreed).unwrap_or(u32::MAX));
            }
            // Its process is starting again.
            Err(ScoreError::Away(_)) => tally.passed_by = tally.passed_by.saturating_add(rows(&inputs)),
            Err(why) => {
                tracing::debug!(model = %name, %version, %why, "scoring in the shadow failed");
                tally.errors = tally.errors.saturating_add(1);
            }
        }
    }
}

fn rows(inputs: &[Tensor]) -> u32 {
    inputs.first().map_or(1, |tensor| u32::try_from(tensor.rows()).unwrap_or(u32::MAX))
}

/// Whether two answers for a row say the same: every label equal, of several scores the same the
/// largest, single numbers within a hundredth of the larger.
fn agree(one: &[Tensor], other: &[Tensor], row: usize) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other, row))
}

fn same(one: &Tensor, other: &Tensor, row: usize) -> bool {
    let width = |tensor: &Tensor| tensor.data().len().checked_div(tensor.rows());
    let (Some(wide), true) = (width(one), width(one) == width(other)) else { return false };
    let cells = row * wide..(row + 1) * wide;
    let numbers = |tensor: &Tensor| -> Vec<f64> {
        cells.clone().filter_map(|cell| tensor.data().number(cell)).collect::<Vec<f64>>()
    };
    let (mine, theirs) = (numbers(one), numbers(other));
    if mine.len() != wide || theirs.len() != wide {
        return false;
    }
    match (mine.as_slice(), theirs.as_slice()) {
        (mine, theirs) if !matches!(one.data(), Data::Fp32(_) | Data::Fp64(_)) => mine == theirs,
        ([mine], [theirs]) => {
            let apart = (mine - theirs).abs();
            apart <= NUMBERS_APART_MAX * mine.abs().max(theirs.abs()) || mine.is_nan() && theirs.is_nan()
        }
        (mine, theirs) => largest(mine) == largest(theirs),
    }
}

/// The place of the largest number, the first of equals; none where one is no number.
fn largest(numbers: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, number) in numbers.iter().enumerate() {
        if number.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, most)| *number > most) {
            best = Some((place, *number));
        }
    }
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::Scoring;
    use crate::score::tests::{Constant, running, x};

    fn tensor(shape: Vec<usize>, data: Data) -> Tensor {
        Tensor::new("y".parse().unwrap(), shape, data).unwrap()
    }

    #[test]
    fn rows_agree_by_what_their_answers_mean() {
        let scores = |values: [f32; 4]| tensor(vec![2, 2], Data::Fp32(values.to_vec()));
        let one = [scores([0.1, 0.9, 0.8, 0.2])];
        let other = [scores([0.4, 0.6, 0.3, 0.7])];
        assert_eq!([0, 1].map(|row| agree(&one, &other, row)), [true, false]);
        let label = |values: [i64; 2]| tensor(vec![2], Data::Int64(values.to_vec()));
        assert_eq!([0, 1].map(|row| agree(&[label([3, 4])], &[label([3, 5])], row)), [true, false]);
        let number = |value: f32| [tensor(vec![1, 1], Data::Fp32(vec![value]))];
        assert!(agree(&number(100.0), &number(100.9), 0) && !agree(&number(100.0), &number(102.0), 0));
        assert!(agree(&number(f32::NAN), &number(f32::NAN), 0) && !agree(&number(f32::NAN), &number(0.0), 0));
        assert!(!agree(&one, &[], 0) && !agree(&one, &number(1.0), 0));
        let broken = [scores([f32::NAN, 0.9, 0.8, 0.2])];
        assert!(!agree(&one, &broken, 0));
    }

    #[test]
    fn what_answers_is_compared_with_its_shadow_and_answers_as_before() {
        let scoring = Scoring::default();
        let name: ModelName = "digits".parse().unwrap();
        scoring.swap(&name, running(1), Constant::boxed(1.0));
        scoring.shadow(&name, running(2), Constant::boxed(1.0)).unwrap();
        assert_eq!(scoring.shadowed(&name), Some(running(2)));
        let told = |least: u32| {
            let mut all: Vec<Agreement> = Vec::new();
            while all.iter().map(|one| one.rows + one.passed_by + one.errors).sum::<u32>() < least {
                std::thread::sleep(std::time::Duration::from_millis(1));
                all.extend(scoring.take_agreements());
            }
            all
        };
        for _ in 0..10 {
            assert_eq!(scoring.score(&name, &[x(3, 0.0)]).unwrap().version, running(1).version);
        }
        let all = told(30);
        assert!(all.iter().all(|one| (one.against.number(), one.version.number()) == (1, 2)));
        let sum = |of: fn(&Agreement) -> u32| all.iter().map(of).sum::<u32>();
        assert!(sum(|one| one.rows) > 0);
        assert_eq!((sum(|one| one.agreed), sum(|one| one.errors)), (sum(|one| one.rows), 0));
        // Another answers: what is told is told of that one.
        scoring.swap(&name, running(3), Constant::boxed(5.0));
        scoring.score(&name, &[x(4, 0.0)]).unwrap();
        let all = told(4);
        assert_eq!(all.last().map(|one| (one.against.number(), one.agreed)), Some((3, 0)));
        assert_eq!(scoring.shadows(), [(name.clone(), running(2))]);
        scoring.unshadow(&name);
        assert_eq!(scoring.shadows(), []);
        scoring.score(&name, &[x(1, 0.0)]).unwrap();
        assert_eq!((scoring.shadowed(&name), scoring.take_agreements()), (None, Vec::new()));
    }
}
