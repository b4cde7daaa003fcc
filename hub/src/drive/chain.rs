//! What changes what counts, taken from people and told to devices: later roots, recalls,
//! checkpoints, and the time for whoever asks.

use bellwether_hub_core::Denied;
use bellwether_hub_core::chain::RecallRecord;
use bellwether_link::Qos;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::trust::{Checkpoint, Nonce, Recall, Signed};

use super::denied::{base64, statement};
use super::desired::{Message, to};
use super::pump::unpoisoned;
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{CheckpointView, FloorView, Page, RecallView, Role, RootView, StatementRequest};
use crate::clock;

/// An epoch is a day of the hub's clock: validity is counted in days, and nothing finer rests on it.
const EPOCH_MS: u64 = 24 * 3600 * 1000;

/// For people.
impl Hub {
    /// Takes the root that follows the one in force, and tells the fleet.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 409 before there is a root; 422 if it does not hold.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn add_root(&self, caller: &Caller, request: StatementRequest) -> Result<RootView, Problem> {
        caller.need(Role::Admin)?;
        self.room()?;
        let bytes = statement(&request.statement)?;
        self.look_for_new_keys().map_err(|error| Problem::unavailable("keys_failed", error.to_string()))?;
        let hub = self.public_keys(&bytes);
        self.decide_durably(|rules, now| Ok(((), rules.add_root(&bytes, &hub, &caller.name, now)?)))?;
        self.settle_keys();
        self.tell_lagging();
        self.root()
    }

    /// Takes a recall, and tells the fleet.
    ///
    /// # Errors
    ///
    /// 403 unless approver; 422 if it does not hold.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn add_recall(&self, caller: &Caller, request: StatementRequest) -> Result<Page<RecallView>, Problem> {
        caller.need(Role::Approver)?;
        let bytes = statement(&request.statement)?;
        self.decide_durably(|rules, now| Ok(((), rules.add_recall(&bytes, &caller.name, now)?)))?;
        self.tell_lagging();
        self.recalls(caller)
    }

    /// Every recall, the latest first.
    ///
    /// # Errors
    ///
    /// 403 unless viewer.
    pub fn recalls(&self, caller: &Caller) -> Result<Page<RecallView>, Problem> {
        caller.need(Role::Viewer)?;
        let rules = self.rules();
        let view = |record: &RecallRecord| {
            let signed: Signed<'_> = frame::decode(&record.statement).ok()?;
            let recall: Recall = signed.peek().ok()?;
            let counts = |digest| rules.counters().recalled(&recall.name, digest).is_some();
            let of_it = |version: &&bellwether_hub_core::registry::VersionRecord| {
                version.releases().any(|release| recall.releases.contains(&release.digest()))
            };
            Some(RecallView {
                model: recall.name.to_string(),
                versions: rules.versions_of(&recall.name).filter(of_it).map(|one| one.model.version.number()).collect(),
                releases: recall.releases.iter().map(ToString::to_string).collect(),
                otherwise: recall.otherwise.name().to_owned(),
                persons: view::signers(&rules, &record.statement),
                in_force: recall.releases.iter().any(|digest| counts(*digest)),
                at_ms: record.at.0,
                statement: base64(&record.statement),
            })
        };
        Ok(Page::whole(rules.recalls().iter().rev().filter_map(view).collect()))
    }

    /// Takes a checkpoint, and tells the fleet.
    ///
    /// # Errors
    ///
    /// 403 unless approver; 422 if it does not hold.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn add_checkpoint(&self, caller: &Caller, request: StatementRequest) -> Result<CheckpointView, Problem> {
        caller.need(Role::Approver)?;
        let bytes = statement(&request.statement)?;
        self.decide_durably(|rules, now| Ok(((), rules.add_checkpoint(&bytes, &caller.name, now)?)))?;
        self.tell_lagging();
        self.checkpoint(caller)
    }

    /// The latest checkpoint.
    ///
    /// # Errors
    ///
    /// 404 before there is one.
    pub fn checkpoint(&self, caller: &Caller) -> Result<CheckpointView, Problem> {
        caller.need(Role::Viewer)?;
        let rules = self.rules();
        let record = rules.checkpoint().ok_or_else(|| {
            Problem::not_found("no_checkpoint", "no checkpoint was signed yet")
                .hint("sign one: bellwether checkpoint --key KEY")
        })?;
        let signed: Signed<'_> = frame::decode(&record.statement).map_err(refused)?;
        let checkpoint: Checkpoint = signed.peek().map_err(refused)?;
        let floor = |floor: &bellwether_protocol::trust::Floor| FloorView {
            model: floor.name.to_string(),
            version: floor.version.number(),
        };
        Ok(CheckpointView {
            number: record.number,
            recalls: checkpoint.recalls.len(),
            floors: checkpoint.floors.iter().map(floor).collect(),
            persons: view::signers(&rules, &record.statement),
            at_ms: record.at.0,
            statement: base64(&record.statement),
        })
    }
}

fn refused(reject: Reject) -> Problem {
    Problem::internal(format!("a stored statement does not read: {reject}"))
}

/// For devices.
impl Hub {
    /// Has every device told that lacks something and can be reached; the others ask when they return.
    fn tell_lagging(&self) {
        let lagging: Vec<DeviceId> = self.rules().lagging().cloned().collect();
        let mut telling = unpoisoned(&self.0.sending.telling);
        for device in lagging {
            telling.entry(device).or_insert(None);
        }
        drop(telling);
        self.0.work.notify_one();
    }

    /// Sends what a device lacks, in order, and the time if it asked.
    pub(super) async fn send_trust(&self, id: &DeviceId, nonce: Option<Nonce>) {
        match self.trust_for(id, nonce) {
            Ok(messages) => {
                for message in messages {
                    self.publish(message, Qos::AtLeastOnce, false).await;
                }
            }
            Err(denied) => tracing::warn!(device = %id, %denied, "nothing is told of roots and recalls"),
        }
    }

    fn trust_for(&self, id: &DeviceId, nonce: Option<Nonce>) -> Result<Vec<Message>, Denied> {
        let (rules, keys) = (self.rules(), self.keys());
        let time = keys.time.under(rules.trusted()?.root());
        let messages = rules.trust(id, nonce, (time, clock::now().0 / EPOCH_MS))?;
        Ok(messages.into_iter().map(|message| to(id, message)).collect())
    }
}
