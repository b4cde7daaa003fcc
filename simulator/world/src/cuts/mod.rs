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
//! same disk, with the same things said to the world outside, have one future: it is run once. Of each
//! such future every operation is cut again, in one pattern that the seed draws, or in all of them.
//!
//! Rooms: [`script`] what is wanted of the device; [`outside`] the hub as it sees it; [`bench`] both in
//! virtual time.

mod bench;
mod outside;
mod script;

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::Serialize;

use crate::Mutant;
use crate::disk::{Mark, Patterns, every_pattern, no_pattern, one_pattern};
use crate::people::device_key;
use bench::{Bedrock, Bench, Cut, Cuts, Ended};
pub use crate::disk::Pattern;
use outside::Acks;
use script::Script;

/// Most updates of one run: one in ten recalls a release, and a device remembers 32 recalls.
pub const UPDATES_MAX: u32 = 300;

/// What to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many updates, at most [`UPDATES_MAX`].
    pub updates: u32,
    /// What is drawn, is drawn from it.
    pub seed: u64,
    /// A second cut comes in every pattern, not in one.
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

    /// The update that comes next; `None` after the last.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        (self.next < self.plan.updates).then_some(self.next)
    }

    /// Goes through the next update without a cut.
    ///
    /// # Errors
    ///
    /// What did not hold.
    pub fn pass(&mut self) -> Result<(), Bad> {
        let mut cuts = Cuts { patterns: no_pattern, seed: 0, take: &mut |_, _, _, _| {} };
        self.base(&mut cuts).map(drop)
    }

    fn base(&mut self, cuts: &mut Cuts<'_>) -> Result<Ended, Bad> {
        let number = self.next;
        self.next += 1;
        let spot = Spot { update: number, first: None, second: None };
        let bad = |why| Bad { spot, why };
        let script = self.bedrock.script.clone();
        let update = script.updates.get(number as usize).ok_or_else(|| bad("there is no such update".to_owned()))?;
        self.bench.watch(cuts);
        let begun = if number == 0 {
            self.bench.start(cuts)
        } else {
            self.bench.offer(update);
            Ok(())
        };
        let ended = begun.and_then(|()| self.bench.run(cuts)).map_err(bad)?;
        ended.is_as_said(update).map_err(bad)?;
        Ok(ended)
    }

    /// Goes through the next update, cutting at every operation and again at every operation of each
    /// recovery.
    pub fn cut(&mut self) -> Shown {
        let mut shown = Shown { tally: Tally { updates: 1, ..Tally::default() }, bad: None };
        let number = self.next;
        let mut known = BTreeSet::new();
        let (mut firsts, mut count) = (Vec::new(), 0);
        let seed = way(self.plan.seed, &[u64::from(number)]);
        let mut take = |mark, _: u64, _: Pattern, cut: &dyn Fn() -> Cut| {
            count += 1;
            if known.insert(mark) {
                firsts.push(cut());
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
            let is_drawn = one_pattern(seed, first.operation).contains(&first.pattern);
            let again = match (self.plan.every_second, is_drawn) {
                (true, _) => every_pattern,
                (false, true) => one_pattern,
                (false, false) => no_pattern,
            };
            self.recoveries(&ended, first, again, &mut seconds, &mut shown);
        }
        shown
    }

    /// The recovery from a first cut, and those from every second.
    fn recoveries(&self, ended: &Ended, first: &Cut, patterns: Patterns, known: &mut BTreeSet<u64>, shown: &mut Shown) {
        let update = self.next - 1;
        let seed = way(self.plan.seed, &[u64::from(update), first.operation, first.pattern as u64]);
        let (mut seconds, mut count) = (Vec::new(), 0);
        let mut take = |mark, _: u64, _: Pattern, cut: &dyn Fn() -> Cut| {
            count += 1;
            if known.insert(mark) {
                seconds.push(cut());
            }
        };
        let cuts = Cuts { patterns, seed, take: &mut take };
        let spot = Spot { update, first: Some((first.operation, first.pattern)), second: None };
        let done = self.recover(ended, first, 1, cuts);
        shown.tally.second_cuts += count;
        shown.note(spot, done);
        for second in &seconds {
            let spot = Spot { second: Some((second.operation, second.pattern)), ..spot };
            let cuts = Cuts { patterns: no_pattern, seed: 0, take: &mut |_, _, _, _| {} };
            shown.note(spot, self.recover(ended, second, 2, cuts));
        }
    }

    fn recover(&self, ended: &Ended, cut: &Cut, life: u64, mut cuts: Cuts<'_>) -> Result<(), String> {
        let update = self.bedrock.script.updates.get(self.next as usize - 1).ok_or("there is no such update")?;
        let mut bench = Bench::new(&self.bedrock, update, cut, life).ok_or("there is no such device")?;
        bench.watch(&cuts);
        bench.start(&mut cuts)?;
        bench.run(&mut cuts)?.differs(ended).map_or(Ok(()), Err)
    }
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

/// A seed for one way.
fn way(seed: u64, numbers: &[u64]) -> u64 {
    numbers.iter().fold(Mark::default().number(seed), |mark, number| mark.number(*number)).end()
}
