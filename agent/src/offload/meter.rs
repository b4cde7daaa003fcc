//! In the model's process: who scores, and what is counted of it.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bellwether_fpga::accelerator::{Backend, Event};
use bellwether_fpga::board::{Image, OnBoard};
use bellwether_fpga::compile::Plan;
use bellwether_fpga::score::{Scores, Twin};
use bellwether_fpga::twin::Fault;
use bellwether_protocol::limit::CAUSE_BYTES_MAX;
use bellwether_protocol::trust::ScoredBy;
use bellwether_runtime::fpga::{Offload, Offloaded};
use bellwether_runtime::{ExamineError, Scorer};

use super::{Accelerator, Setup, Totals};

/// How often numbers are told that change with every call.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(1);

/// A loaded model.
pub(crate) enum Hosted {
    /// On the CPU.
    Cpu(Box<dyn Scorer>),
    /// Its middle elsewhere.
    Offloaded(Box<Offloaded<Meter>>),
}

impl Hosted {
    /// Offloads a model that was opened, if its package has a bitstream and this device something for it.
    pub(crate) fn new(scorer: Box<dyn Scorer>, package: &[u8], setup: Option<Setup>) -> Result<Self, ExamineError> {
        let Some(setup) = setup else { return Ok(Self::Cpu(scorer)) };
        let Some((offload, bitstream)) = bellwether_runtime::open_offload(package)? else {
            return Ok(Self::Cpu(scorer));
        };
        let meter = Meter::new(setup, &offload, bitstream);
        Ok(Self::Offloaded(Box::new(offload.by(meter))))
    }

    pub(crate) fn scorer(&mut self) -> &mut dyn Scorer {
        match self {
            Self::Cpu(scorer) => scorer.as_mut(),
            Self::Offloaded(offloaded) => offloaded.as_mut(),
        }
    }

    pub(crate) fn meter(&mut self) -> Option<&mut Meter> {
        match self {
            Self::Cpu(_) => None,
            Self::Offloaded(offloaded) => Some(offloaded.scores()),
        }
    }
}

/// Scores by the engine once it has that, by the twin before, and counts.
pub(crate) struct Meter {
    setup: Setup,
    bitstream: Image,
    plan: Plan,
    scorer: By,
    totals: Totals,
    /// What a row costs the engine: cycles, multiplications; always the same for a plan.
    row: Option<[u64; 2]>,
    told: (Totals, Instant),
}

/// Who scores.
enum By {
    /// The twin, until the engine is free, or for ever.
    Twin(Twin),
    /// The engine. Others find the file locked as long as this is there.
    Engine { engine: Box<OnBoard>, _lock: File },
}

impl Meter {
    fn new(setup: Setup, offload: &Offload, bitstream: Image) -> Self {
        let totals = Totals { by: ScoredBy::Waiting, ..Totals::default() };
        let plan = offload.plan().clone();
        let scorer = By::Twin(Twin::new(plan.clone()));
        Self { setup, bitstream, plan, scorer, totals, row: None, told: (Totals::default(), Instant::now()) }
    }

    /// After a call of a model that answers: takes the engine if nobody has it.
    pub(crate) fn claim(&mut self) {
        if matches!(self.scorer, By::Engine { .. }) || self.totals.by == ScoredBy::Twin {
            return;
        }
        if self.setup.accelerator == (Accelerator::Twin {}) {
            self.totals.by = ScoredBy::Twin;
            return;
        }
        let lock = match File::create(&self.setup.lock) {
            Ok(lock) => lock,
            Err(why) => return self.fail(&format!("{} cannot be opened: {why}", self.setup.lock.display())),
        };
        if lock.try_lock().is_err() {
            return;
        }
        let board = match self.setup.accelerator.board() {
            Ok(Some(board)) => board,
            Ok(None) => return,
            Err(why) => return self.fail(&why),
        };
        // What it starts is allowed as much as it needs; the next call sets this process its own bound again.
        let _ = bellwether_runtime::child::allow_cpu(u64::MAX);
        match board.accelerator(self.bitstream.clone(), self.plan.clone()) {
            Ok(mut engine) => {
                if engine.backend() == Backend::Engine {
                    self.row = cost(&mut engine, &self.plan);
                }
                self.scorer = By::Engine { engine: Box::new(engine), _lock: lock };
                self.look();
            }
            Err(why) => self.fail(&why.to_string()),
        }
    }

    fn fail(&mut self, cause: &str) {
        self.totals.by = ScoredBy::Twin;
        self.blame(cause);
    }

    /// Keeps the latest fault, in at most [`CAUSE_BYTES_MAX`].
    fn blame(&mut self, cause: &str) {
        const CHAR_BYTES_MAX: usize = 4;
        self.totals.cause = cause.chars().take(CAUSE_BYTES_MAX / CHAR_BYTES_MAX).collect();
    }

    /// Takes note of what happened to the engine.
    fn look(&mut self) {
        let By::Engine { engine, .. } = &mut self.scorer else { return };
        let (mut recovered, mut cause): (u16, Option<String>) = (0, None);
        while let Some(event) = engine.poll_event() {
            match event {
                Event::Recovered { from, .. } => {
                    recovered = recovered.saturating_add(1);
                    cause = Some(from.to_string());
                }
                Event::Fallen { from, reload: Some(reload) } => cause = Some(format!("{from}; {reload}")),
                Event::Fallen { from, reload: None } => cause = Some(from.to_string()),
                Event::Returned => {}
            }
        }
        self.totals.recovered = self.totals.recovered.saturating_add(recovered);
        self.totals.by = match engine.backend() {
            Backend::Engine => ScoredBy::Engine,
            Backend::Twin { .. } => ScoredBy::Twin,
        };
        if self.totals.by == ScoredBy::Engine && (self.totals.build.is_none() || recovered > 0) {
            self.totals.build = engine.engine().identify().ok().map(|identity| identity.build);
        }
        cause.iter().for_each(|cause| self.blame(cause));
    }

    fn count(&mut self) {
        let By::Engine { engine, .. } = &mut self.scorer else {
            self.totals.twin_rows = self.totals.twin_rows.saturating_add(1);
            return;
        };
        if engine.backend() != Backend::Engine {
            self.totals.twin_rows = self.totals.twin_rows.saturating_add(1);
            return;
        }
        if self.row.is_none() {
            self.row = cost(engine, &self.plan);
        }
        let [cycles, macs] = self.row.unwrap_or_default();
        self.totals.engine_rows = self.totals.engine_rows.saturating_add(1);
        self.totals.cycles = self.totals.cycles.saturating_add(cycles);
        self.totals.macs = self.totals.macs.saturating_add(macs);
    }

    /// Tells the agent what is new: at once if it is who scores, else now and then.
    pub(crate) fn tell(&mut self) {
        let (before, at) = &self.told;
        let is_turn = (before.by, before.build, before.recovered, &before.cause)
            != (self.totals.by, self.totals.build, self.totals.recovered, &self.totals.cause);
        if *before == self.totals || !is_turn && at.elapsed() < TELL_EVERY {
            return;
        }
        let mut out = std::io::stdout().lock();
        let written = serde_json::to_string(&self.totals).map_err(std::io::Error::from);
        // Nobody listens any more when the agent is stopping.
        if written.and_then(|line| writeln!(out, "{line}").and_then(|()| out.flush())).is_ok() {
            self.told = (self.totals.clone(), Instant::now());
        }
    }
}

/// Cycles of a row, and the multiplications that the network asks for: some that the engine does are by zeros of
/// padding.
fn cost(engine: &mut OnBoard, plan: &Plan) -> Option<[u64; 2]> {
    Some([engine.clk().ok()?, plan.costs.iter().map(|cost| cost.macs).sum()])
}

impl Scores for Meter {
    type Error = Fault;

    fn score(&mut self, input: &[i8]) -> Result<Vec<i8>, Fault> {
        let scored = match &mut self.scorer {
            By::Twin(twin) => twin.score(input),
            By::Engine { engine, .. } => engine.score(input),
        }?;
        self.look();
        self.count();
        Ok(scored)
    }
}
