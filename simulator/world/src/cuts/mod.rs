//! Power cuts, every one: a device goes through its updates, and at each operation of its disk power goes,
//! in each pattern of what a cut leaves; then, while it recovers, it goes again.
//!
//! ```text
//!  update ──o──o──o──o──> ends         o an operation of the disk
//!              │ cut, in five patterns
//!              └──> start ──o──o──o──> ends the same
//!                              │ second cut
//!                              └──> start ───> ends the same
//! ```
//! Brain, outbox and download are those that ship. The device is deterministic, so two cuts that leave the
//! same disk, with the same things said to the world outside, have one future: it is run once.
//!
//! First cuts come at every operation in every pattern. Second cuts come at every operation of a recovery:
//! of every recovery and in every pattern if the plan says so, and else of one recovery for every other
//! operation on average, in one pattern each, which the seed draws.
//!
//! Rooms: [`script`] what is wanted of the device; [`outside`] the hub as it sees it; [`bench`] both in
//! virtual time; [`replay`] one way told in words.

mod bench;
mod outside;
mod replay;
mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::Serialize;

use crate::Mutant;
pub use crate::disk::Pattern;
use crate::disk::{Mark, Patterns, every_pattern, no_pattern, one_pattern, one_pattern_at_half};
use crate::people::device_key;
use bench::{Bedrock, Bench, Cut, Cuts, Ended, Take};
use outside::Acks;
pub use replay::{Replay, drawn, replay};
use script::{Script, Update};

/// Most updates of one run: one in ten recalls a release, and a device remembers 32 recalls.
pub const UPDATES_MAX: u32 = 300;

/// What to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many updates, at most [`UPDATES_MAX`].
    pub updates: u32,
    /// What is drawn, is drawn from it.
    pub seed: u64,
    /// Every recovery is cut again, and in every pattern.
    pub every_second: bool,
    /// A bug to plant.
    pub mutant: Option<Mutant>,
}

/// One way through an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which update, from 0.
    pub update: u32,
    /// At which operation power goes, from 0, and what that leaves; not at all if absent.
    pub first: Option<(u64, Pattern)>,
    /// The same once more, at an operation from the start after the first cut on.
    pub second: Option<(u64, Pattern)>,
}

/// Something that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// On which way.
    pub spot: Spot,
    /// What it was.
    pub why: String,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Updates gone through.
    pub updates: u64,
    /// Operations of the disk in them, where nothing was cut.
    pub operations: u64,
    /// Cuts: operations times patterns.
    pub cuts: u64,
    /// Cuts during a recovery.
    pub second_cuts: u64,
    /// Recoveries run: cuts that leave the same have the same.
    pub recoveries: u64,
    /// Ways on which something did not hold.
    pub bad: u64,
}

impl Tally {
    /// Both together.
    pub const fn add(&mut self, other: &Self) {
        self.updates += other.updates;
        self.operations += other.operations;
        self.cuts += other.cuts;
        self.second_cuts += other.second_cuts;
        self.recoveries += other.recoveries;
        self.bad += other.bad;
    }
}

/// A device on its way through the updates.
#[derive(Debug)]
pub struct Course {
    plan: Plan,
    bedrock: Bedrock,
    bench: Bench,
    next: u32,
}

/// What a first cut left, and how its recovery is cut again.
#[derive(Debug)]
struct First {
    cut: Cut,
    again: Patterns,
}

/// What one update showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// In numbers.
    pub tally: Tally,
    /// The first thing that did not hold.
    pub bad: Option<Bad>,
}

impl Course {
    /// A device before its first update; `None` if there is to be none, or too many.
    #[must_use]
    pub fn new(plan: Plan) -> Option<Self> {
        if plan.updates == 0 || plan.updates > UPDATES_MAX {
            return None;
        }
        let script = Rc::new(Script::write(plan.updates, plan.seed)?);
        let bedrock = Bedrock {
            script: script.clone(),
            mutant: plan.mutant,
            seed: plan.seed,
            acks: Acks::default(),
            digests: crate::disk::Digests::default(),
            key: device_key(0, 0),
        };
        let bench = Bench::new(&bedrock, script.updates.first()?, &Bench::blank(), 0)?;
        Some(Self { plan, bedrock, bench, next: 0 })
    }

    /// The update that comes next; `None` after the last, or once one did not end as it should.
    #[must_use]
    pub fn upcoming(&self) -> Option<u32> {
        (self.next < self.plan.updates).then_some(self.next)
    }

    /// Goes through the next update without a cut.
    ///
    /// # Errors
    ///
    /// What did not hold.
    pub fn pass(&mut self) -> Result<(), Bad> {
        self.base(&mut no_cuts(&mut |_, _, _, _| {})).map(drop)
    }

    fn base(&mut self, cuts: &mut Cuts<'_>) -> Result<Ended, Bad> {
        let number = self.next;
        self.next += 1;
        let done = self.undisturbed(number, cuts);
        done.map_err(|why| {
            // What follows would start from a device that is not as it should be.
            self.next = self.plan.updates;
            Bad { spot: Spot { update: number, first: None, second: None }, why }
        })
    }

    fn undisturbed(&mut self, number: u32, cuts: &mut Cuts<'_>) -> Result<Ended, String> {
        let update = self.update(number)?;
        self.bench.watch(cuts);
        if number == 0 {
            self.bench.start(cuts)?;
        } else {
            self.bench.offer(&update);
        }
        let ended = self.bench.run(cuts)?;
        ended.is_as_said(&update)?;
        Ok(ended)
    }

    fn update(&self, number: u32) -> Result<Rc<Update>, String> {
        let update = self.bedrock.script.updates.get(number as usize);
        update.cloned().ok_or_else(|| format!("there is no update {number}"))
    }

    /// Goes through the next update, cutting at every operation and again at every operation of each
    /// recovery.
    pub fn cut(&mut self) -> Shown {
        let mut shown = Shown { tally: Tally { updates: 1, ..Tally::default() }, bad: None };
        let number = self.next;
        let mut known: BTreeMap<u64, usize> = BTreeMap::new();
        let (mut firsts, mut count): (Vec<First>, u64) = (Vec::new(), 0);
        let seed = first_seed(self.plan.seed, number);
        let every_second = self.plan.every_second;
        let mut take = |mark, operation: u64, pattern: Pattern, cut: &dyn Fn() -> Cut| {
            count += 1;
            let is_drawn = one_pattern_at_half(seed, operation).contains(&pattern);
            let first = *known.entry(mark).or_insert(firsts.len());
            if first == firsts.len() {
                firsts.push(First { cut: cut(), again: if every_second { every_pattern } else { no_pattern } });
            }
            if let Some(first) = firsts.get_mut(first).filter(|_| is_drawn && !every_second) {
                first.again = one_pattern;
            }
        };
        let ended = self.base(&mut Cuts { patterns: every_pattern, seed, take: &mut take });
        shown.tally.cuts = count;
        shown.tally.operations = self.bench.operations();
        let ended = match ended {
            Ok(ended) => ended,
            Err(bad) => {
                shown.tally.bad = 1;
                shown.bad = Some(bad);
                return shown;
            }
        };
        let mut seconds = BTreeSet::new();
        for first in &firsts {
            self.recoveries(number, &ended, first, &mut seconds, &mut shown);
        }
        shown
    }

    /// The recovery from a first cut, and those from every second.
    fn recoveries(&self, number: u32, ended: &Ended, first: &First, known: &mut BTreeSet<u64>, shown: &mut Shown) {
        let First { cut: first, again } = first;
        let spot = Spot { update: number, first: Some((first.operation, first.pattern)), second: None };
        let seed = second_seed(self.plan.seed, number, (first.operation, first.pattern));
        let (mut seconds, mut count) = (Vec::new(), 0);
        let mut take = |mark, _: u64, _: Pattern, cut: &dyn Fn() -> Cut| {
            count += 1;
            if known.insert(mark) {
                seconds.push(cut());
            }
        };
        let cuts = Cuts { patterns: *again, seed, take: &mut take };
        let (done, _) = self.recover(number, ended, (first, 1), cuts, false);
        shown.tally.second_cuts += count;
        shown.note(spot, done);
        for second in &seconds {
            let spot = Spot { second: Some((second.operation, second.pattern)), ..spot };
            let (done, _) = self.recover(number, ended, (second, 2), no_cuts(&mut |_, _, _, _| {}), false);
            shown.note(spot, done);
        }
    }

    /// What becomes of a device that was left so, in its `life`th life; with its timeline if `tells`.
    fn recover(
        &self,
        number: u32,
        ended: &Ended,
        (cut, life): (&Cut, u64),
        mut cuts: Cuts<'_>,
        tells: bool,
    ) -> (Result<(), String>, Vec<String>) {
        let bench = self.update(number).map(|update| Bench::new(&self.bedrock, &update, cut, life));
        let Ok(Some(mut bench)) = bench else { return (Err("there is no such device".to_owned()), Vec::new()) };
        bench.timeline = tells.then(Vec::new);
        bench.watch(&cuts);
        let done = bench.start(&mut cuts).and_then(|()| bench.run(&mut cuts));
        let done = done.and_then(|done| done.differs(ended).map_or(Ok(()), Err));
        (done, bench.timeline.unwrap_or_default())
    }
}

fn no_cuts<'c>(take: &'c mut Take<'c>) -> Cuts<'c> {
    Cuts { patterns: no_pattern, seed: 0, take }
}

impl Shown {
    fn note(&mut self, spot: Spot, done: Result<(), String>) {
        self.tally.recoveries += 1;
        if let Err(why) = done {
            self.tally.bad += 1;
            self.bad.get_or_insert(Bad { spot, why });
        }
    }
}

/// The seed for the first cuts of an update.
fn first_seed(seed: u64, update: u32) -> u64 {
    Mark::default().number(seed).number(u64::from(update)).end()
}

/// The seed for the cuts of the recovery from one of them.
fn second_seed(seed: u64, update: u32, (operation, pattern): (u64, Pattern)) -> u64 {
    let mark = Mark::default().number(first_seed(seed, update)).number(operation);
    mark.number(pattern as u64).end()
}
