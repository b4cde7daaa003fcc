//! A shell in memory, which does what the brain asks and writes before it acts.
#![allow(dead_code, reason = "each test uses a part of it")]

use bellwether_agent_core::update::{Model, Step, Work};
use bellwether_agent_core::{Action, Brain, Input, Refused, State};
use bellwether_protocol::error::Reject;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::Phase;

use crate::fleet::{Fleet, Offer, config};

/// A shell in memory: persists after every input, as a real one must.
pub(crate) struct Shell {
    pub(crate) brain: Brain,
    pub(crate) disk: State,
    pub(crate) now: u64,
}

impl Shell {
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let mut shell =
            Self { brain: Brain::restore(config(), fleet.root(), State::default()), disk: State::default(), now: 0 };
        shell.disk = shell.brain.state().clone();
        shell
    }

    pub(crate) fn restart(&mut self, fleet: &Fleet) {
        self.brain = Brain::restore(config(), fleet.root(), self.disk.clone());
        self.disk = self.brain.state().clone();
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) -> Result<(), Refused> {
        let result = self.brain.handle(Millis(self.now), input);
        self.disk = self.brain.state().clone();
        result
    }

    pub(crate) fn offer(&mut self, fleet: &Fleet, sequence: u64, offers: &[Offer<'_>]) -> Result<(), Refused> {
        let mut result = Ok(());
        fleet.assign(sequence, offers, |desired| result = self.handle(Input::Desired(desired)));
        result
    }

    pub(crate) fn answer(&mut self, step: Step) -> Result<(), Refused> {
        let Some(Action::Install { name, held, .. }) = self.brain.install_action() else {
            return Err(Refused::OutOfTurn);
        };
        let release = held.target.running.release;
        self.handle(Input::Install { name: &name, release, step })
    }

    /// Does what the brain asks, well, until nothing is left to do but wait.
    pub(crate) fn settle(&mut self) {
        while let Some(Action::Install { work, .. }) = self.brain.install_action() {
            self.answer(good(work)).unwrap();
        }
    }

    pub(crate) fn wait(&mut self, millis: u64) {
        self.now += millis;
        self.handle(Input::Tick).unwrap();
    }

    pub(crate) fn commit(&mut self) {
        self.settle();
        self.wait(10_000);
    }

    pub(crate) fn model(&self, name: &str) -> &Model {
        self.disk.models.iter().find(|model| model.name.as_str() == name).unwrap()
    }

    pub(crate) fn line(&self, name: &str) -> (Phase, Option<Reject>, Option<u32>) {
        let report = self.brain.report();
        let line = report.models.iter().find(|line| line.name.as_str() == name).unwrap();
        (line.phase, line.reject, line.active.map(|running| running.version.number()))
    }
}

/// What a shell in order answers.
pub(crate) fn good(work: Work) -> Step {
    match work {
        Work::Fetch => Step::Fetched,
        Work::Stage => Step::Staged,
        Work::SelfTest => Step::Passed,
        Work::Activate => Step::Activated,
        Work::Return(_) => Step::Returned,
    }
}
