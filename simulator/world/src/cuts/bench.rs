//! One device and its hub in virtual time, in which a message takes none and every job as long as ever:
//! so what becomes of it follows from its disk and from what the hub knows alone.

use std::collections::VecDeque;
use std::rc::Rc;

use bellwether_agent_core::update::{Install, Model};
use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Phase;

use super::outside::{Acks, Outside};
use super::script::{Ends, Message, Script, Update};
use crate::Mutant;
use crate::check::Check;
use crate::device::{Device, Sending};
use crate::disk::{Digests, Disk, Left, Mark, Pattern, Patterns, Remains};
use crate::people::public;

/// When the first update begins, and the time from one to the next.
const BEGINS: Millis = Millis(1_000_000);
const UPDATE: u64 = 10_000_000;
/// Time from a power cut to the next, whenever it came: so what follows does not hang on when it was.
const LIFE: u64 = 1_000_000;
/// The longest that an update takes once nothing more goes wrong: a probation is eight seconds, and a
/// download that a cut tore is asked for again in two.
const ENDS_WITHIN: Millis = Millis(120_000);
/// How late the hub acknowledges records: later than a device waits, so that it sends them twice.
const ACK: Millis = Millis(5_000);
/// Rows of a life, at most; a later life has others.
const ROWS: u64 = 1_000_000;

/// What all benches of one run share.
#[derive(Clone, Debug)]
pub(super) struct Bedrock {
    pub(super) script: Rc<Script>,
    pub(super) mutant: Option<Mutant>,
    pub(super) seed: u64,
    pub(super) acks: Acks,
    pub(super) digests: Digests,
    pub(super) key: SigningKey,
}

/// The world as a power cut left it.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    pub(super) operation: u64,
    pub(super) pattern: Pattern,
    remains: Remains,
    outside: Outside,
    check: Check,
    seen: u64,
}

/// How an update ended: everything that must not hang on a power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    model: Model,
    root: u32,
    recalls: Digest,
}

/// Takes what a cut left: its mark, at which operation and in which pattern, and how to get it.
pub(super) type Take<'c> = dyn FnMut(u64, u64, Pattern, &dyn Fn() -> Cut) + 'c;

/// Which cuts are made on the way, and who takes what they leave.
pub(super) struct Cuts<'c> {
    pub(super) patterns: Patterns,
    pub(super) seed: u64,
    pub(super) take: &'c mut Take<'c>,
}

/// One device, switched on.
#[derive(Debug)]
pub(super) struct Bench {
    bedrock: Bedrock,
    update: Rc<Update>,
    device: Device,
    outside: Outside,
    check: Check,
    /// The mark of what the check has seen.
    seen: u64,
    now: Millis,
    ends_by: Millis,
    jobs: Vec<(Millis, u64)>,
    arriving: VecDeque<Message>,
    /// When the hub acknowledges what it took.
    ack_at: Option<Millis>,
    /// What is told of it, if anybody reads that.
    pub(super) timeline: Option<Vec<String>>,
}

impl Bench {
    /// A device whose disk is as a cut left it, in its `life`th life, the first being 0; still without
    /// power.
    pub(super) fn new(bedrock: &Bedrock, update: &Rc<Update>, cut: &Cut, life: u64) -> Option<Self> {
        let Script { fleet, first, .. } = bedrock.script.as_ref();
        let identity = (bedrock.key.clone(), *fleet, first.clone());
        let number = u64::from(update.number);
        let disk = Disk::holding(&cut.remains, bedrock.seed, bedrock.digests.clone());
        let device = Device::new(0, identity, bedrock.seed ^ life, bedrock.mutant)?.steady(disk, life * ROWS);
        let now = BEGINS.saturating_add(Millis(number * UPDATE + life * LIFE));
        let (outside, mut check) = (cut.outside.clone(), cut.check.clone());
        check.lawful.clone_from(&update.lawful);
        let (update, bedrock) = (update.clone(), bedrock.clone());
        let ends_by = now.saturating_add(ENDS_WITHIN);
        let (jobs, arriving) = (Vec::new(), VecDeque::new());
        let (seen, timeline) = (cut.seen, None);
        Some(Self {
            bedrock,
            update,
            device,
            outside,
            check,
            seen,
            now,
            ends_by,
            jobs,
            arriving,
            ack_at: None,
            timeline,
        })
    }

    /// The device that was never switched on.
    pub(super) fn blank() -> Cut {
        let (remains, outside, check) = (Remains::default(), Outside::default(), Check::default());
        Cut { operation: 0, pattern: Pattern::Nothing, remains, outside, check, seen: 0 }
    }

    /// From now on operations are counted, and cut as `cuts` says.
    pub(super) fn watch(&self, cuts: &Cuts<'_>) {
        self.device.disk.harvest(cuts.seed, cuts.patterns, self.timeline.is_some());
    }

    /// Operations since it is watched.
    pub(super) fn operations(&self) -> u64 {
        self.device.disk.harvested()
    }

    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        let begun = BEGINS.saturating_add(Millis(u64::from(self.update.number) * UPDATE));
        let since = self.now.since(begun).0 as f64 / 1000.0;
        if let Some(timeline) = &mut self.timeline {
            timeline.push(format!("{since:>9.3} s  {}", text()));
        }
    }

    /// It gets power and is connected.
    pub(super) fn start(&mut self, cuts: &mut Cuts<'_>) -> Result<(), String> {
        self.say(|| "the device gets power".to_owned());
        let script = self.bedrock.script.clone();
        let behaviour = |digest: &Digest| script.behaviours.get(digest).copied();
        self.device.start(self.now, &behaviour);
        self.settle(cuts)?;
        self.answers()?;
        let counter = self.device.connect().ok_or("it cannot count its connections")?;
        self.settle(cuts)?;
        self.outside.connected(counter)?;
        self.device.connected(self.now);
        self.settle(cuts)
    }

    /// What once stayed answers, whatever was lost.
    fn answers(&self) -> Result<(), String> {
        let agent = self.device.agent.as_ref().ok_or("it does not start")?;
        let committed = agent.brain.state().models.iter().filter(|model| !model.committed.is_empty());
        for model in committed {
            if !agent.serving.iter().any(|(name, _)| *name == model.name) {
                return Err(format!("{} stayed once, and nothing answers for it after a start", model.name));
            }
        }
        Ok(())
    }

    /// The next update begins for the device as it is.
    pub(super) fn offer(&mut self, update: &Rc<Update>) {
        self.update = update.clone();
        self.check.lawful.clone_from(&update.lawful);
        self.now = BEGINS.saturating_add(Millis(u64::from(update.number) * UPDATE));
        self.ends_by = self.now.saturating_add(ENDS_WITHIN);
        self.arriving.extend(self.outside.offer(update));
    }

    /// Goes on until the update is over.
    pub(super) fn run(&mut self, cuts: &mut Cuts<'_>) -> Result<Ended, String> {
        while !self.is_over() {
            self.step(cuts)?;
            if self.now > self.ends_by {
                return Err(format!("it comes to no end: {:?}", self.model().map(|model| &model.install)));
            }
        }
        self.answers()?;
        let agent = self.device.agent.as_ref().ok_or("it has no power at the end")?;
        let model = self.model().ok_or("it knows no model at the end")?;
        let recalls = agent.brain.state().trust.counters().recalls_digest();
        Ok(Ended { model: model.clone(), root: agent.brain.root().root().version, recalls })
    }

    fn model(&self) -> Option<&Model> {
        self.device.agent.as_ref()?.brain.state().models.first()
    }

    /// The last thing was done and told, nothing is on the way, and nothing waits.
    fn is_over(&self) -> bool {
        let Some(stage) = self.outside.stage(&self.update) else { return false };
        let Some(model) = self.model() else { return false };
        let is_last = self.outside.stage + 1 == self.update.stages.len();
        let is_told = self.outside.said == Some((stage.order, model.install.phase()));
        let is_settled = matches!(model.install, Install::Settled { .. });
        is_last
            && is_told
            && is_settled
            && self.arriving.is_empty()
            && self.jobs.is_empty()
            && self.device.waiting() == 0
    }

    /// The next thing happens.
    fn step(&mut self, cuts: &mut Cuts<'_>) -> Result<(), String> {
        let script = self.bedrock.script.clone();
        let behaviour = |digest: &Digest| script.behaviours.get(digest).copied();
        if let Some((topic, payload)) = self.arriving.pop_front() {
            self.say(|| format!("the hub says {topic:?}"));
            self.device.hear(self.now, topic, &payload);
            return self.settle(cuts);
        }
        let job = self.jobs.iter().copied().min();
        let wake = self.device.wake_at(self.now).ok_or("it sleeps for ever")?;
        let next = job.map_or(wake, |(at, _)| wake.min(at));
        if let Some(at) = self.ack_at.take_if(|at| *at <= next) {
            self.now = self.now.max(at);
            self.arriving.extend(self.outside.ack(&script, &self.bedrock.acks)?);
            return Ok(());
        }
        match job.filter(|(at, _)| *at <= wake) {
            Some((at, id)) => {
                self.jobs.retain(|(_, other)| *other != id);
                self.now = self.now.max(at);
                self.device.finished(self.now, id, &behaviour);
            }
            None => {
                self.now = wake;
                self.device.wake(self.now, &behaviour);
            }
        }
        self.settle(cuts)
    }

    /// What follows from what the device just did; first what cuts on the way would have left, for
    /// which the world outside is still as it was.
    fn settle(&mut self, cuts: &mut Cuts<'_>) -> Result<(), String> {
        let (left, words) = self.device.disk.gathered();
        for word in words {
            self.say(|| word);
        }
        let outside = if left.is_empty() { 0 } else { self.outside.mark() };
        for Left { operation, pattern, remains } in left {
            let mark = Mark::default().number(remains.mark).number(outside).number(self.seen).end();
            let cut = || {
                let (remains, outside, check) = (remains.clone(), self.outside.clone(), self.check.clone());
                Cut { operation, pattern, remains, outside, check, seen: self.seen }
            };
            (cuts.take)(mark, operation, pattern, &cut);
        }
        let key = public(&self.device.key).id();
        self.check.device(&self.device, key, self.bedrock.script.fleet)?;
        self.check.loaded(&self.device)?;
        if self.device.stands_by_it() {
            self.seen = self.seen_mark();
        }
        let now = self.now;
        self.jobs.extend(self.device.jobs.drain(..).map(|(id, takes)| (now.saturating_add(Millis(takes)), id)));
        (self.device.pushed, self.device.forgotten) = (Vec::new(), Vec::new());
        for Sending { topic, payload } in std::mem::take(&mut self.device.sending) {
            let answers = self.outside.hear((&self.bedrock.script, &self.update), topic, &payload)?;
            if self.outside.owed.is_some() {
                self.ack_at.get_or_insert(self.now.saturating_add(ACK));
            }
            let install = self.model().map(|model| model.install.phase());
            self.say(|| format!("the device sends {topic:?}: {}", install.map_or("no model", Phase::name)));
            self.arriving.extend(answers);
        }
        Ok(())
    }

    /// What tells apart what the check has seen of the device.
    fn seen_mark(&self) -> u64 {
        let Some(agent) = &self.device.agent else { return 0 };
        let state = agent.brain.state();
        let numbers =
            [u64::from(state.seen.generation), state.seen.sequence, u64::from(agent.brain.root().root().version)];
        let floors = state.models.iter().map(|model| u64::from(model.floor));
        numbers.into_iter().chain(floors).fold(Mark::default(), Mark::number).end()
    }
}

impl Ended {
    /// Why this is not how the update must end.
    pub(super) fn differs(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let told = |ended: &Self| {
            let Model { floor, active, previous, install, committed, .. } = &ended.model;
            let version = |held: &bellwether_agent_core::update::Held| held.target.running.version.number();
            let phase = (install.phase(), install.phase().name());
            format!(
                "active {:?}, previous {:?}, floor {floor}, {} ({install:?}), {} committed, root {}",
                active.as_ref().map(version),
                previous.as_ref().map(version),
                phase.1,
                committed.len(),
                ended.root
            )
        };
        Some(format!("it ends with {}; without the cut it ends with {}", told(self), told(other)))
    }

    /// Why this is not how the script says that the update ends.
    pub(super) fn is_as_said(&self, update: &Update) -> Result<(), String> {
        let Ends { release, phase, reject } = &update.ends;
        let answers = self.model.active.map(|held| held.target.running.release);
        let Install::Settled { phase: settled, reject: why, .. } = &self.model.install else {
            return Err(format!("it ends in {:?}", self.model.install));
        };
        if answers == Some(*release) && settled == phase && why == reject {
            return Ok(());
        }
        Err(format!(
            "{:?} ends with {answers:?}, {settled:?} {why:?}; it should with {release}, {phase:?} {reject:?}",
            update.kind
        ))
    }
}
