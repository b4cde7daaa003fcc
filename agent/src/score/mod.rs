//! The models that answer; swapped without a gap.
//!
//! A call takes the model that is active when it begins and finishes on it, whatever happens
//! meanwhile: its process ends when the last such call has. Beside each call counters are kept, for the window of scores that goes to the hub, and
//! what `watch` notes for profiles and collected rows.

pub mod http;
mod json;
mod shadow;
mod watch;
mod window;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use bellwether_agent_core::sampler::Sampler;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::{ModelName, Version};
use bellwether_protocol::manifest::TensorSignature;
use bellwether_protocol::policy::Policy;
use bellwether_protocol::trust::{Agreement, Running, Scores};
use bellwether_runtime::{ScoreError, Scorer, Tensor};

use crate::clock;
use crate::host::Pulse;
use shadow::Shadow;
use watch::Watch;
pub(crate) use watch::{Fitted, Watched};
use window::Window;

/// Calls that take longer than this leave the thread that serves connections.
const INLINE_US_MAX: u32 = 1_000;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The version that answered.
    pub version: Version,
    /// Its outputs, in the model's order.
    pub outputs: Vec<Tensor>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScoreFault {
    /// No such model answers here.
    #[error("no model `{name}` answers on this device: {have}")]
    NoModel {
        /// The model asked for.
        name: String,
        /// Those that answer.
        have: String,
    },
    /// Another version answers.
    #[error("version {asked} of `{name}` does not answer here: version {have} does")]
    OtherVersion {
        /// The model.
        name: ModelName,
        /// The version asked for.
        asked: String,
        /// The version that answers.
        have: Version,
    },
    /// The model refused or failed.
    #[error(transparent)]
    Score(#[from] ScoreError),
}

/// A model that answers.
pub(crate) struct Active {
    pub(crate) name: ModelName,
    pub(crate) running: Running,
    pub(crate) signature: TensorSignature,
    scorer: Mutex<Box<dyn Scorer>>,
    pulse: Option<Pulse>,
    window: Mutex<Window>,
    /// Calls since it answers.
    trial: Mutex<Window>,
    watch: Option<Mutex<Watch>>,
    shadow: Shade,
    policy: Policy,
    /// What a call is said to take, in place of measuring it.
    declared_us: Option<u32>,
    failed: AtomicU32,
    /// Moving average of a call, in microseconds; long until measured.
    usual_us: AtomicU32,
    /// What watching the last call took, in microseconds.
    watching_us: AtomicU32,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("name", &self.name).field("running", &self.running).finish_non_exhaustive()
    }
}

impl Active {
    fn new(name: ModelName, running: Running, fitted: Fitted, (rules, shadow): (&Rules, Shade)) -> Self {
        let Fitted { scorer, pulse, policy, baseline, bytes } = fitted;
        pulse.iter().for_each(Pulse::answers);
        let sampler = Sampler::new(policy.collect, rules.rows_per_minute_max);
        let watches = !baseline.is_empty() || sampler.is_on();
        Self {
            name,
            running,
            signature: scorer.signature().clone(),
            scorer: Mutex::new(scorer),
            pulse,
            window: Mutex::new(Window::default()),
            trial: Mutex::new(Window::default()),
            watch: watches.then(|| Mutex::new(Watch::new(baseline, sampler, clock::wall()))),
            shadow,
            policy,
            declared_us: rules.pace.map(|pace| pace.call_us(bytes)),
            failed: AtomicU32::new(0),
            usual_us: AtomicU32::new(u32::MAX),
            watching_us: AtomicU32::new(0),
        }
    }

    /// Whether a call is short enough for a thread that others wait for.
    pub(crate) fn is_quick(&self) -> bool {
        let spent = self.usual_us.load(Ordering::Relaxed).saturating_add(self.watching_us.load(Ordering::Relaxed));
        spent <= INLINE_US_MAX && !self.pulse.as_ref().is_some_and(Pulse::is_slow)
    }

    /// Whether a call can be answered now, as far as is known.
    pub(crate) fn is_ready(&self) -> bool {
        self.pulse.as_ref().is_none_or(Pulse::is_up)
    }

    /// Scores, counting rows, failures and time.
    pub(crate) fn score(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
        let (result, spent) = {
            let mut scorer = unpoisoned(&self.scorer);
            // Waiting for another call to end is not the model's time.
            let start = Instant::now();
            (scorer.run(inputs), start.elapsed())
        };
        let spent = self.declared_us.unwrap_or_else(|| u32::try_from(spent.as_micros()).unwrap_or(u32::MAX));
        match &result {
            Ok(_) => {
                let rows = inputs.first().map_or(1, Tensor::rows);
                let rows = u32::try_from(rows).unwrap_or(u32::MAX);
                unpoisoned(&self.window).scored(rows, spent);
                unpoisoned(&self.trial).scored(rows, spent);
                let usual = self.usual_us.load(Ordering::Relaxed);
                let next = if usual == u32::MAX { spent } else { usual - usual / 8 + spent / 8 };
                self.usual_us.store(next, Ordering::Relaxed);
            }
            Err(why) if why.is_callers() => {}
            Err(why) => {
                tracing::warn!(model = %self.name, version = %self.running.version, %why, "scoring failed");
                unpoisoned(&self.window).failed();
                // What ended its process is told as a crash, which weighs more.
                if !matches!(why, ScoreError::Away(_)) {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        result
    }

    /// Takes note of what was scored, and of how long that takes: it is part of what a call costs. Its
    /// shadow may see it, too.
    pub(crate) fn watch(&self, inputs: &[Tensor], outputs: &[Tensor]) {
        if let Some(shadow) = &*self.shadow.read().unwrap_or_else(PoisonError::into_inner) {
            shadow.offer(&self.name, self.running.version, inputs, outputs);
        }
        if let Some(watch) = &self.watch
            && let Ok(inputs) = bellwether_runtime::arrange(&self.signature, inputs)
        {
            let start = Instant::now();
            unpoisoned(watch).take(&inputs, outputs, clock::wall());
            let spent = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.watching_us.store(spent, Ordering::Relaxed);
        }
    }

    fn take_watched(&self, profile: bool) -> Option<Watched> {
        let watch = self.watch.as_ref()?;
        unpoisoned(watch).drain((&self.name, self.running.version), profile, clock::wall())
    }

    fn take_window(&self) -> Option<Scores> {
        let window = std::mem::take(&mut *unpoisoned(&self.window));
        window.scores(&self.name, self.running.version)
    }
}

/// What the device says of watching its models.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Rows a minute that may leave the device, for each model.
    pub(crate) rows_per_minute_max: u16,
    /// What calls are said to take, on a simulated device.
    pub(crate) pace: Option<Pace>,
}

/// How slow a simulated device declares itself to be: its calls take this long by definition, not by
/// the luck of the machine that simulates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Microseconds of every call.
    pub call_us: u32,
    /// Microseconds more for each KiB of the model's package.
    pub kib_us: u32,
}

impl Pace {
    fn call_us(self, bytes: u64) -> u32 {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        self.call_us.saturating_add(self.kib_us.saturating_mul(kib))
    }
}

/// How a model's calls went since it answers, against its latency budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) calls: u32,
    pub(crate) p95_us: u32,
    pub(crate) p95_us_max: u32,
}

/// The models of one device.
#[derive(Clone, Debug, Default)]
pub struct Scoring {
    rules: Arc<Rules>,
    models: Arc<RwLock<BTreeMap<ModelName, Arc<Active>>>>,
    /// For each name the model in the shadow, if there is one: whatever answers under that name finds it
    /// here.
    shades: Arc<Mutex<BTreeMap<ModelName, Shade>>>,
    /// Models that were replaced while calls were under way on them, until those are over.
    left: Arc<Mutex<Vec<Arc<Active>>>>,
    /// Windows of models that were replaced, until they are taken.
    past: Arc<Mutex<Vec<Scores>>>,
    /// Likewise what was watched of them.
    seen: Arc<Mutex<Vec<Watched>>>,
}

/// The place of a model in the shadow.
type Shade = Arc<RwLock<Option<Shadow>>>;

/// A panic while the lock was held left nothing half-done: counters and pointers only.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scoring {
    /// No model yet.
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules: Arc::new(rules), ..Self::default() }
    }

    /// Lets a model answer from now on; calls under way finish on the one before.
    pub(crate) fn swap(&self, name: &ModelName, running: Running, fitted: impl Into<Fitted>) {
        let shade = self.shade(name);
        let active = Arc::new(Active::new(name.clone(), running, fitted.into(), (&self.rules, shade)));
        let before = self.models.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), active);
        self.leave(before);
    }

    /// Lets no model of this name answer.
    pub(crate) fn remove(&self, name: &ModelName) {
        let before = self.models.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.leave(before);
    }

    fn shade(&self, name: &ModelName) -> Shade {
        Arc::clone(unpoisoned(&self.shades).entry(name.clone()).or_default())
    }

    /// Lets a model score in the shadow of what answers, in place of the one before. What is watched and
    /// collected is what answers alone.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(crate) fn shadow(&self, name: &ModelName, running: Running, fitted: impl Into<Fitted>) -> std::io::Result<()> {
        let shadow = Shadow::start(running, fitted.into().scorer, name)?;
        *self.shade(name).write().unwrap_or_else(PoisonError::into_inner) = Some(shadow);
        Ok(())
    }

    /// Lets no model score in the shadow.
    pub(crate) fn unshadow(&self, name: &ModelName) {
        *self.shade(name).write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What scores in the shadow.
    pub(crate) fn shadowed(&self, name: &ModelName) -> Option<Running> {
        self.shade(name).read().unwrap_or_else(PoisonError::into_inner).as_ref().map(Shadow::running)
    }

    /// All that score in the shadow.
    pub(crate) fn shadows(&self) -> Vec<(ModelName, Running)> {
        let shades = unpoisoned(&self.shades);
        let running =
            |shade: &Shade| shade.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(Shadow::running);
        shades.iter().filter_map(|(name, shade)| Some((name.clone(), running(shade)?))).collect()
    }

    /// How shadows did since the last time.
    pub(crate) fn take_agreements(&self) -> Vec<Agreement> {
        let shades = unpoisoned(&self.shades);
        let told = |(name, shade): (&ModelName, &Shade)| {
            let shadow = shade.read().unwrap_or_else(PoisonError::into_inner);
            shadow.as_ref().map(|shadow| shadow.take(name)).unwrap_or_default()
        };
        shades.iter().flat_map(told).collect()
    }

    fn leave(&self, before: Option<Arc<Active>>) {
        unpoisoned(&self.left).extend(before);
        self.take_left();
    }

    /// Takes what replaced models still say, and lets go of those on which no call is under way.
    fn take_left(&self) {
        unpoisoned(&self.left).retain(|active| {
            // Besides this one only calls have it, and none can begin: when the last is over, so is what
            // they note.
            let is_over = Arc::strong_count(active) == 1;
            fence(Ordering::Acquire);
            unpoisoned(&self.past).extend(active.take_window());
            unpoisoned(&self.seen).extend(active.take_watched(true));
            !is_over
        });
    }

    pub(crate) fn all(&self) -> Vec<Arc<Active>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The model of this name, and of this version if one is asked for.
    pub(crate) fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<Active>, ScoreFault> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let active = ModelName::parse(name).ok().and_then(|name| models.get(&name)).ok_or_else(|| {
            let have: Vec<_> = models.keys().map(ModelName::as_str).collect();
            let have =
                if have.is_empty() { "none does yet".to_owned() } else { format!("there is {}", have.join(", ")) };
            ScoreFault::NoModel { name: name.chars().take(64).collect(), have }
        })?;
        match version {
            Some(asked) if asked.parse() != Ok(active.running.version) => Err(ScoreFault::OtherVersion {
                name: active.name.clone(),
                asked: asked.chars().take(16).collect(),
                have: active.running.version,
            }),
            _ => Ok(Arc::clone(active)),
        }
    }

    /// Scores with the active version of a model. Blocks for as long as the model takes.
    ///
    /// # Errors
    ///
    /// [`ScoreFault`], saying what was expected.
    pub fn score(&self, name: &ModelName, inputs: &[Tensor]) -> Result<Scored, ScoreFault> {
        let active = self.find(name.as_str(), None)?;
        let outputs = active.score(inputs)?;
        active.watch(inputs, &outputs);
        Ok(Scored { version: active.running.version, outputs })
    }

    /// What was scored since the last time; models at rest say nothing.
    pub(crate) fn take_windows(&self) -> Vec<Scores> {
        self.take_left();
        let mut scores = std::mem::take(&mut *unpoisoned(&self.past));
        scores.extend(self.all().iter().filter_map(|active| active.take_window()));
        scores
    }

    /// Rows to be collected and, if asked for, profiles since the last time.
    pub(crate) fn take_watched(&self, profiles: bool) -> Vec<Watched> {
        self.take_left();
        let mut watched = std::mem::take(&mut *unpoisoned(&self.seen));
        watched.extend(self.all().iter().filter_map(|active| active.take_watched(profiles)));
        watched
    }

    /// How the calls of a release went since it answers, if it has a latency budget.
    pub(crate) fn trial(&self, name: &ModelName, release: Digest) -> Option<Trial> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let active = models.get(name).filter(|active| active.running.release == release)?;
        let p95_us_max = active.policy.p95_us_max?;
        let trial = unpoisoned(&active.trial);
        Some(Trial { calls: trial.calls(), p95_us: trial.p95_at_least(), p95_us_max })
    }

    /// Failed calls of the release that answers, since the last time.
    pub(crate) fn take_failed(&self) -> Vec<(ModelName, Digest, u32)> {
        let failed = |active: &Arc<Active>| {
            let failed = active.failed.swap(0, Ordering::Relaxed);
            (failed > 0).then(|| (active.name.clone(), active.running.release, failed))
        };
        self.all().iter().filter_map(failed).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bellwether_protocol::manifest::{DataType, TensorSpec};
    use bellwether_protocol::policy::Collect;
    use bellwether_runtime::Data;

    use super::*;

    /// Answers with its own number for every row; fails for a row that is not a number.
    pub(crate) struct Constant(pub(crate) f32, TensorSignature);

    impl Constant {
        pub(crate) fn boxed(number: f32) -> Box<dyn Scorer> {
            let spec = |name: &str, width| TensorSpec {
                name: name.parse().unwrap(),
                datatype: DataType::Fp32,
                shape: [None, Some(width)].into_iter().collect(),
            };
            let signature = TensorSignature {
                inputs: [spec("x", 2)].into_iter().collect(),
                outputs: [spec("y", 1)].into_iter().collect(),
            };
            Box::new(Self(number, signature))
        }
    }

    impl Scorer for Constant {
        fn signature(&self) -> &TensorSignature {
            &self.1
        }

        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, ScoreError> {
            let inputs = bellwether_runtime::arrange(&self.1, inputs)?;
            let rows = inputs[0].rows();
            if inputs[0].data().number(0).unwrap().is_nan() {
                return Err(ScoreError::Failed("not a number".into()));
            }
            let y = Tensor::new("y".parse().unwrap(), vec![rows, 1], Data::Fp32(vec![self.0; rows])).unwrap();
            Ok(vec![y])
        }
    }

    pub(crate) fn running(version: u32) -> Running {
        Running { version: version.try_into().unwrap(), release: Digest([u8::try_from(version).unwrap(); 32]) }
    }

    pub(crate) fn x(rows: usize, value: f32) -> Tensor {
        Tensor::new("x".parse().unwrap(), vec![rows, 2], Data::Fp32(vec![value; rows * 2])).unwrap()
    }

    #[test]
    fn a_call_under_way_at_a_swap_counts_and_is_collected() {
        let scoring = Scoring::new(Rules { rows_per_minute_max: 60, pace: None });
        let name: ModelName = "digits".parse().unwrap();
        let fitted = |number| {
            let collect = Collect { one_in: 1, uncertain_below: 0, rows_per_minute_max: 60 };
            Fitted { policy: Policy { collect, ..Policy::default() }, ..Fitted::from(Constant::boxed(number)) }
        };
        scoring.swap(&name, running(1), fitted(1.0));
        let under_way = scoring.find("digits", None).unwrap();
        scoring.swap(&name, running(2), fitted(2.0));
        assert!(scoring.take_windows().is_empty() && scoring.take_watched(false).is_empty());
        let outputs = under_way.score(&[x(1, 0.0)]).unwrap();
        under_way.watch(&[x(1, 0.0)], &outputs);
        drop(under_way);
        assert_eq!(scoring.take_watched(false).len(), 1);
        let windows = scoring.take_windows();
        assert_eq!((windows.len(), windows[0].version.number(), windows[0].rows), (1, 1, 1));
        assert!(unpoisoned(&scoring.left).is_empty(), "nothing of it is kept");
    }

    #[test]
    fn a_swap_leaves_no_gap_and_no_mixture() {
        let scoring = Scoring::default();
        let name: ModelName = "digits".parse().unwrap();
        scoring.swap(&name, running(1), Constant::boxed(1.0));
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = 0;
                        // Until the last version is seen; a gap or a mixture panics.
                        while seen < 50 {
                            let scored = scoring.score(&name, &[x(3, 0.0)]).unwrap();
                            let version = scored.version.number();
                            assert!(version >= seen);
                            assert_eq!(scored.outputs[0].data().number(2), Some(f64::from(version)));
                            seen = version;
                        }
                    })
                })
                .collect();
            for version in 2..=50u16 {
                scoring.swap(&name, running(u32::from(version)), Constant::boxed(f32::from(version)));
            }
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        });
        let windows = scoring.take_windows();
        assert!(windows.iter().all(|scores| scores.rows % 3 == 0 && scores.errors == 0));
        assert!(windows.iter().any(|scores| scores.version.number() == 50));
    }

    #[test]
    fn failures_of_the_model_count_and_those_of_the_caller_do_not() {
        let scoring = Scoring::default();
        let name: ModelName = "digits".parse().unwrap();
        assert!(scoring.score(&name, &[]).unwrap_err().to_string().contains("none does yet"));
        scoring.swap(&name, running(1), Constant::boxed(1.0));
        assert!(scoring.score(&name, &[]).is_err());
        assert!(scoring.take_failed().is_empty());
        assert!(scoring.score(&name, &[x(1, f32::NAN)]).is_err());
        assert_eq!(scoring.take_failed(), [(name.clone(), running(1).release, 1)]);
        assert_eq!(scoring.take_windows()[0].errors, 1);
        assert!(scoring.take_windows().is_empty());
        scoring.remove(&name);
        assert!(scoring.score(&name, &[x(1, 0.0)]).is_err());
    }
}
