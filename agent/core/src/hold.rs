//! What installs wait for: an open window, mains, a connection that costs nothing, an application that
//! is not busy. What is held goes back to the queue before anything is switched, with all that was
//! fetched kept in its slot; what is being switched or on probation is never held.

use bellwether_protocol::id::ModelName;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Hold, Mode};
use serde::{Deserialize, Serialize};

use crate::update::{Install, Model};
use crate::{Brain, State};

/// What keeps a device from going on with installs now, as its shell sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds(u8);

impl Holds {
    /// Nothing does.
    pub const NONE: Self = Self(0);

    /// This does, too.
    #[must_use]
    pub const fn with(self, hold: Hold) -> Self {
        Self(self.0 | 1 << hold as u8)
    }

    /// Whether this does.
    #[must_use]
    pub const fn has(self, hold: Hold) -> bool {
        self.0 & 1 << hold as u8 != 0
    }

    /// The first that a release waits for, if it is to run like this and got so far.
    fn keeps(self, mode: Mode, install: &Install) -> Option<Hold> {
        let fetches = match install {
            Install::Deferred(_) | Install::Fetching(_) => true,
            Install::Hashed(_) | Install::SelfTest { .. } => false,
            Install::Idle
            | Install::Activating(_)
            | Install::Probation { .. }
            | Install::RollingBack { .. }
            | Install::Settled { .. }
            | Install::Shadow(_) => return None,
        };
        let counts = |hold: &Hold| match hold {
            Hold::Metered => fetches,
            Hold::Clock => mode == Mode::Patient,
            Hold::Window | Hold::Power | Hold::Busy => true,
        };
        if mode == Mode::Urgent {
            return None;
        }
        Hold::ALL.into_iter().filter(|hold| self.has(*hold)).find(counts)
    }
}

/// How a model is to run, where that is not [`Mode::Active`]; persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The model.
    pub name: ModelName,
    /// How.
    pub mode: Mode,
}

impl State {
    /// How a model is to run, as was said last.
    #[must_use]
    pub fn mode(&self, name: &ModelName) -> Mode {
        self.wishes.iter().find(|wish| wish.name == *name).map_or(Mode::Active, |wish| wish.mode)
    }

    /// What this model waits for under these conditions, if it waits for something.
    pub(crate) fn kept(&self, model: &Model, holds: Holds) -> Option<Hold> {
        holds.keeps(self.mode(&model.name), &model.install)
    }

    pub(crate) fn wish(&mut self, name: &ModelName, mode: Mode) {
        let models = &self.models;
        self.wishes.retain(|wish| wish.name != *name && models.iter().any(|model| model.name == wish.name));
        if mode != Mode::Active {
            let kept = self.wishes.push(Wish { name: name.clone(), mode });
            assert!(kept.is_ok(), "there is at most one for each other model");
        }
    }
}

impl Brain {
    /// What this model waits for, if it waits for something.
    pub(crate) fn kept(&self, model: &Model) -> Option<Hold> {
        self.state.kept(model, self.config.holds)
    }

    /// What the device says of its conditions changed.
    pub(crate) fn held(&mut self, now: Millis, holds: Holds) {
        if self.config.holds == holds {
            return;
        }
        self.config.holds = holds;
        self.session.changed(now);
        self.put_off(now);
    }

    /// What is under way and must wait now goes back to the queue; what need not wait begins.
    pub(crate) fn put_off(&mut self, now: Millis) {
        let kept = self.in_flight().filter(|model| self.kept(model).is_some()).map(|model| model.name.clone());
        if let Some(name) = kept
            && let Some(model) = self.state.models.iter_mut().find(|model| model.name == name)
        {
            let before = model.install;
            model.put_off();
            self.moved(now, &name, before);
            return;
        }
        self.schedule();
    }
}
