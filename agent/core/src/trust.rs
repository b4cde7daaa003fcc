//! What changes what counts: new roots, recalls, checkpoints, logical time. Each is taken once, kept
//! for ever, and acted upon at once.
//!
//! ```text
//!  connected ──> Known (nonce, root, checkpoint, recalls) ──> hub
//!            <── Root, Root, …   one step a message, so that no absence is too long
//!            <── Recall, Checkpoint, Epoch (the nonce)
//! ```

use bellwether_protocol::digest::{Digest, Hasher};
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::Vec;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::limit::MODELS_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{Counters, Known, Nonce, Root, Signed, TrustedRoot, Validity};
use serde::{Deserialize, Serialize};

use crate::update::{Install, Model, Step};
use crate::{ASK_AGAIN, Brain, FRESH_FOR, Refused};

/// What was learnt and must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// The latest root, if it is not the fleet's first.
    root: Option<TrustedRoot>,
    counters: Counters,
    /// When what is being installed may still begin to answer.
    expiring: Vec<(Digest, Validity), MODELS_MAX>,
}

impl Trust {
    /// Recalls, checkpoint and time.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The root to believe: the latest taken, if it belongs to the fleet of `first`.
    pub(crate) fn latest(&mut self, first: TrustedRoot) -> TrustedRoot {
        match &self.root {
            Some(root) if root.fleet() == first.fleet() => root.clone(),
            // Enrolled in another fleet: what was learnt there says nothing here.
            Some(_) => {
                *self = Self::default();
                first
            }
            None => first,
        }
    }

    /// Remembers until when a release may begin to answer; what no model is installing is forgotten.
    pub(crate) fn expires(&mut self, models: &[Model], release: Digest, validity: Option<Validity>) {
        let is_needed = |digest: Digest| {
            let targets = models.iter().flat_map(|model| [model.install.target(), model.next.as_ref()]);
            targets.flatten().any(|target| target.running.release == digest)
        };
        self.expiring.retain(|(digest, _)| *digest != release && is_needed(*digest));
        if let Some(validity) = validity {
            // Each model installs one release and waits for at most one more; without room the
            // latter is checked again when it is offered again.
            let _full = self.expiring.push((release, validity));
        }
    }

    /// Whether a release that was downloaded may begin to answer now.
    fn may_begin(&self, name: &ModelName, release: Digest) -> Result<(), Reject> {
        if self.counters.recalled(name, release).is_some() {
            return Err(Reject::Recalled);
        }
        let validity = self.expiring.iter().find(|(digest, _)| *digest == release);
        self.counters.admits(validity.map(|(_, validity)| *validity))
    }
}

/// A statement on `down/trust`.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// The next root.
    Root(&'a Signed<'a>),
    /// A recall.
    Recall(&'a Signed<'a>),
    /// A checkpoint.
    Checkpoint(&'a Signed<'a>),
    /// The time, in answer to this connection's nonce.
    Epoch(&'a Signed<'a>),
}

impl Brain {
    /// What to say and ask for, on every connection and whenever something was learnt.
    #[must_use]
    pub fn known(&self) -> Known {
        let counters = &self.state.trust.counters;
        Known {
            device: self.config.device.clone(),
            nonce: self.nonce(),
            root: self.root.root().version,
            checkpoint: counters.checkpoint_number(),
            recalls: counters.recalls_digest(),
            tick: counters.tick(),
        }
    }

    /// Never used before: the boot is random, and its connections and questions are counted.
    fn nonce(&self) -> Nonce {
        let mut hasher = Hasher::default();
        hasher.update(b"bw-nonce");
        hasher.update(&self.config.boot.to_le_bytes());
        hasher.update(&self.session.number.unwrap_or(0).to_le_bytes());
        hasher.update(&self.questions.to_le_bytes());
        let mut nonce = Nonce::default();
        for (to, from) in nonce.iter_mut().zip(hasher.finish().0) {
            *to = from;
        }
        nonce
    }

    pub(crate) fn told(&mut self, now: Millis, told: Told<'_>) -> Result<(), Refused> {
        let before = self.state.trust.clone();
        let nonce = self.nonce();
        let counters = &mut self.state.trust.counters;
        match told {
            Told::Root(signed) => {
                let root = match self.root.next(signed) {
                    Ok(root) => root,
                    Err(reject) => {
                        if signed.peek::<Root>().is_ok_and(|root| root.version <= self.root.root().version) {
                            // The hub has not heard that it is known.
                            self.session.ask(now);
                        }
                        return Err(reject.into());
                    }
                };
                counters.root_changed(&root);
                self.state.trust.root = Some(root.clone());
                self.root = root;
                // There may be more of them, and a new time key begins anew.
                self.fresh = false;
            }
            Told::Recall(signed) => drop(counters.recall(&self.root, signed)?),
            Told::Checkpoint(signed) => drop(counters.checkpoint(&self.root, signed)?),
            Told::Epoch(signed) => {
                counters.epoch(&self.root, signed, &nonce)?;
                self.fresh = true;
                self.told_at = Some(now);
            }
        }
        if !matches!(told, Told::Epoch(_)) {
            // Until the hub hears that it is known, it says it again.
            self.session.ask(now);
        }
        self.obey_recalls(now);
        if before != self.state.trust && self.was_refused() {
            // What was refused before may hold now: the hub is asked to say it again, and hears in every
            // report that it was not taken yet.
            self.session.greet_again();
            self.refused = None;
            self.session.changed(now);
        }
        Ok(())
    }

    /// A connection may stand for months: the time told on it ages, and is asked for anew with a nonce of
    /// its own, so that who holds messages back cannot stop it.
    pub(crate) fn ages(&mut self, now: Millis) {
        let told_at = *self.told_at.get_or_insert(now);
        self.fresh &= now.since(told_at) < FRESH_FOR;
        if self.session.number.is_some() && now.since(self.asked_at) >= ASK_AGAIN {
            self.asked_at = now;
            self.questions = self.questions.wrapping_add(1);
            self.session.ask(now);
        }
    }

    /// Whether no hub has told the time for long, in answer to a question of this boot: none is reached,
    /// or who is reached holds it back. What runs goes on running.
    #[must_use]
    pub fn is_stale(&self, now: Millis) -> bool {
        self.told_at.is_some_and(|at| now.since(at) >= FRESH_FOR)
    }

    /// Whether something wanted was refused for what people signed or did not sign.
    pub(crate) fn was_refused(&self) -> bool {
        let rejects = self.state.models.iter().filter_map(|model| crate::report::reject(&model.install));
        rejects.chain(self.refused).any(|reject| reject.code() < Reject::DigestMismatch.code())
    }

    /// Takes recalled releases out of use.
    fn obey_recalls(&mut self, now: Millis) {
        let mut moved: Vec<(ModelName, Install), MODELS_MAX> = Vec::new();
        let counters = &self.state.trust.counters;
        for model in &mut self.state.models {
            let before = model.install;
            let name = model.name.clone();
            model.recall(|release| counters.recalled(&name, release).map(|recalled| recalled.stop));
            if model.install != before {
                let pushed = moved.push((name, before));
                assert!(pushed.is_ok(), "there are no more than the models");
            }
        }
        for (name, before) in moved {
            self.moved(now, &name, before);
        }
    }

    /// The step that an answer leads to: what passed its self-test but was recalled or expired since
    /// its download goes no further.
    pub(crate) fn checked(&self, name: &ModelName, release: Digest, step: Step) -> Step {
        match (step, self.state.trust.may_begin(name, release)) {
            (Step::Passed, Err(reject)) => Step::Failed(reject),
            _ => step,
        }
    }
}
