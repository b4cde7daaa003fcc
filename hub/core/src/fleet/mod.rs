//! Devices: who they are, what they should have, what they say they have.

mod members;
mod sessions;

use std::collections::BTreeMap;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, ModelName, ModelRef, Version};
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Hold, KeyId, Mode, ModelReport, Order, OutboxId, Phase, PublicKey, Report, Running, Signature, SignatureBytes,
    Signed,
};
use serde::{Deserialize, Serialize};

use crate::chain::Learnt;
use crate::error::Denied;
use crate::offload::Offloaded;
use crate::rules::Rules;
use crate::trust::encode;

/// A device that says nothing for this long is stale: three heartbeats of 30 s.
pub const STALE_AFTER: Millis = Millis::from_secs(90);
/// A device that refused something, or lacks something of what counts, is told again after so long:
/// less than its heartbeat.
pub const RETOLD_AFTER: Millis = Millis::from_secs(20);
/// Rows without which a window says nothing of how fast a device is.
pub const JUDGED_ROWS_MIN: u32 = 20;
/// The tag that says where a device is; profiles are merged by it.
pub const SITE_TAG: &str = "site";
/// Events that one device may cause in [`EVENTS_SPAN`]: an install takes about eight. What is beyond
/// is not recorded, so that no device pushes out what people did.
pub const EVENTS_MAX: u32 = 120;
/// The span that [`EVENTS_MAX`] counts in.
pub const EVENTS_SPAN: Millis = Millis::from_secs(3600);
/// Models whose scores are counted for one device: those it holds, and as many that it once held.
pub const SCORED_MODELS_MAX: usize = 16;
/// Versions whose scores are counted apart for one model of a device; the oldest go first.
pub const SCORED_VERSIONS_MAX: usize = 32;
/// Outboxes remembered for one device: each reinstall makes a new one.
pub const OUTBOXES_MAX: usize = 8;

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    /// Its key, which it made itself.
    pub key: PublicKey,
    /// `TAG=VALUE`; for people and selections, without meaning for trust.
    pub tags: BTreeMap<String, String>,
    /// When it enrolled.
    pub enrolled_at: Millis,
    /// The highest counter it opened a session with.
    pub counter: u64,
    /// Its latest report.
    pub report: Option<Report>,
    /// Its signature over that report, so that others can check what it said.
    #[serde(default)]
    pub vouched: Option<SignatureBytes>,
    /// What it was told to have.
    pub assignment: Option<Issued>,
    /// When it was last told that again because its report was behind.
    #[serde(default)]
    pub retold: Millis,
    /// Sequence of the last command to it.
    pub commands: u64,
    /// What was taken of each of its outboxes.
    pub outboxes: BTreeMap<OutboxId, u64>,
    /// Scores so far, by model.
    pub scores: BTreeMap<ModelName, Totals>,
    /// Records that it had to drop or that were lost.
    pub missing: u64,
    /// Whether its session is open.
    pub session: Session,
    /// Events it caused lately.
    #[serde(default)]
    pub events: Caused,
    /// Rows it sent lately.
    #[serde(default)]
    pub rows: Caused,
    /// Rows of it that were stored so far.
    #[serde(default)]
    pub collected: u64,
    /// What it said it knows of roots, recalls and checkpoints.
    #[serde(default)]
    pub learnt: Option<Learnt>,
    /// How models in the shadow did, by model.
    #[serde(default)]
    pub agreements: BTreeMap<ModelName, Agreed>,
    /// Where rows were scored of models that an FPGA takes, by model.
    #[serde(default)]
    pub offloads: BTreeMap<ModelName, Offloaded>,
}

/// Events or rows that a device caused since an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caused {
    /// When counting began.
    pub since: Millis,
    /// How many.
    pub count: u32,
}

/// What a device was told to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The place of this assignment in the order of all.
    pub order: Order,
    /// Every model.
    pub models: Vec<Desired>,
    /// Head of the audit chain when it was issued: a device holds it, and reports it.
    #[serde(default)]
    pub audit: Digest,
}

/// One model a device should have, and which rollout says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Model and version.
    pub model: ModelRef,
    /// Digest of the release's body.
    pub release: Digest,
    /// The rollout.
    pub rollout: u64,
    /// How it should run.
    #[serde(default)]
    pub mode: Mode,
}

/// The session as last heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whether its last sign was a sign of life.
    pub open: bool,
    /// As in [`Hello`].
    pub boot: u64,
    /// As in [`Hello`].
    pub number: u32,
    /// When it was last heard of.
    pub last_seen: Option<Millis>,
}

/// Scores of one model on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows scored, all versions.
    pub rows: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Rows scored, by version.
    pub by_version: BTreeMap<u32, u64>,
    /// The version of the last window.
    #[serde(default)]
    pub version: u32,
    /// 95th percentiles of its last two windows with enough rows to be judged; 0 before there are.
    #[serde(default)]
    pub recent_p95_us: [u32; 2],
    /// When the last of them came.
    #[serde(default)]
    pub judged_at: Millis,
    /// Median time of a call in the last window, in microseconds.
    pub p50_us: u32,
    /// 95th percentile in the last window, in microseconds.
    pub p95_us: u32,
}

/// How one version did in the shadow of another, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The version in the shadow.
    pub version: u32,
    /// The version that answered.
    pub against: u32,
    /// Rows that both scored.
    pub rows: u64,
    /// Of those, how many they agreed on.
    pub agreed: u64,
    /// Rows that it did not get.
    pub passed_by: u64,
    /// Calls that failed in the shadow alone.
    pub errors: u64,
    /// 95th percentile of the time of a call in the last window, in microseconds.
    pub p95_us: u32,
}

/// Whether a device can be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its session is open and it was heard of lately.
    Online,
    /// Its session is open, but it says nothing.
    Stale,
    /// Its session ended.
    Offline,
    /// It enrolled and was never heard of.
    Never,
}

/// How a device stands towards one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answers and was committed, or scores in the shadow where that is wanted.
    Healthy,
    /// On its way.
    Updating,
    /// It waits for something of its own, and goes on by itself.
    Held(Hold),
    /// Refused or rolled back.
    Failed(Reject),
}

impl Device {
    fn new(id: DeviceId, key: PublicKey, tags: BTreeMap<String, String>, enrolled_at: Millis) -> Self {
        Self {
            id,
            key,
            tags,
            enrolled_at,
            counter: 0,
            report: None,
            vouched: None,
            assignment: None,
            retold: Millis(0),
            commands: 0,
            outboxes: BTreeMap::new(),
            scores: BTreeMap::new(),
            missing: 0,
            session: Session::default(),
            events: Caused::default(),
            rows: Caused::default(),
            collected: 0,
            learnt: None,
            agreements: BTreeMap::new(),
            offloads: BTreeMap::new(),
        }
    }

    /// The id of its key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key.id()
    }

    /// Where it is: its tag `site`.
    #[must_use]
    pub fn site(&self) -> Option<&str> {
        self.tags.get(SITE_TAG).map(String::as_str)
    }

    /// Whether this version took longer than `p95_us_max` in two windows in a row, the last of them
    /// after `since`. Devices tell the upper end of a bucket, up to a quarter above the true figure:
    /// that much is let pass.
    #[must_use]
    pub fn is_slow(&self, model: &ModelRef, p95_us_max: Option<u32>, since: Millis) -> bool {
        let (Some(totals), Some(most)) = (self.scores.get(&model.name), p95_us_max) else { return false };
        let most = most.saturating_add(most / 4);
        totals.version == model.version.number()
            && totals.judged_at >= since
            && totals.recent_p95_us.iter().all(|p95_us| *p95_us > most)
    }

    /// Whether it can be spoken to.
    #[must_use]
    pub fn presence(&self, now: Millis) -> Presence {
        match self.session {
            Session { last_seen: None, .. } => Presence::Never,
            Session { open: false, .. } => Presence::Offline,
            Session { last_seen: Some(at), .. } if now.apart(at) > STALE_AFTER => Presence::Stale,
            Session { .. } => Presence::Online,
        }
    }

    /// A frame with its latest report as it signed it: what is written again is what was received,
    /// because nothing is read that is not written in the one way.
    #[must_use]
    pub fn signed_report(&self) -> Option<Vec<u8>> {
        let mut body = vec![0; STATEMENT_BYTES_MAX];
        let body: &[u8] = frame::encode(self.report.as_ref()?, &mut body).ok()?;
        let signature = Signature { key: self.key_id().into(), bytes: self.vouched? };
        Some(encode(&Signed { body, signatures: std::iter::once(signature).collect() }))
    }

    /// How it stands towards a release of `name` that is to run like this.
    #[must_use]
    pub fn standing(&self, name: &ModelName, release: Digest, mode: Mode) -> Standing {
        let Some(report) = &self.report else { return Standing::Updating };
        let told = self.assignment.as_ref().map(|issued| issued.order);
        Standing::of(report, told, name, (release, mode))
    }

    /// How it stands towards what it was told to have.
    #[must_use]
    pub fn stands(&self, desired: &Desired) -> Standing {
        self.standing(&desired.model.name, desired.release, desired.mode)
    }

    /// Whether this release answers on it, and is not about to be taken away again.
    #[must_use]
    pub fn rests_on(&self, name: &ModelName, release: Digest) -> bool {
        let models = self.report.iter().flat_map(|report| &report.models);
        models.into_iter().filter(|model| model.name == *name).any(|model| {
            let moves = matches!(model.phase, Phase::Activating | Phase::Probation | Phase::RollingBack);
            !moves && model.active.is_some_and(|running| running.release == release)
        })
    }

    /// Whether this report says that it has not seen what it was told last, so that it is to be told
    /// again. One that refused something may have refused that very thing: it is told once in a while.
    #[must_use]
    pub fn is_behind(&self, report: &Report, now: Millis) -> bool {
        let unseen = self.assignment.as_ref().is_some_and(|issued| report.seen < issued.order);
        unseen && (report.refused.is_none() || now.apart(self.retold) > RETOLD_AFTER)
    }

    /// Whether it desires or reports this version.
    #[must_use]
    pub fn needs(&self, model: &ModelRef, release: Option<Digest>) -> bool {
        let desires = self.assignment.iter().flat_map(|issued| &issued.models).any(|desired| desired.model == *model);
        let reports = self.report.iter().flat_map(|report| &report.models).any(|reported| {
            let on = [reported.active, reported.target];
            reported.name == model.name && on.iter().flatten().any(|running| Some(running.release) == release)
        });
        desires || reports
    }

    /// Whether what it reports is what it should have.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.assignment
            .as_ref()
            .is_none_or(|issued| issued.models.iter().all(|want| self.stands(want) == Standing::Healthy))
    }

    /// The version of `name` that answers on it.
    #[must_use]
    pub fn running(&self, name: &ModelName) -> Option<Version> {
        let report = self.report.as_ref()?;
        Some(report.models.iter().find(|model| model.name == *name)?.active?.version)
    }
}

impl Standing {
    /// How a device that reports this stands towards a release of `name` that is to run like this; `told`
    /// is the order of the latest assignment to it, as far as that is known.
    #[must_use]
    pub fn of(report: &Report, told: Option<Order>, name: &ModelName, (release, mode): (Digest, Mode)) -> Self {
        let has_seen = told.is_none_or(|told| report.seen >= told);
        let model = report.models.iter().find(|model| model.name == *name);
        let is = |running: Option<Running>| running.is_some_and(|running| running.release == release);
        let (tried, answers) = model.map_or((false, false), |model| (is(model.target), is(model.active)));
        match model {
            Some(model) if tried && matches!(model.phase, Phase::Rejected | Phase::RolledBack) => match model.reject {
                // It speaks of an earlier offer, or of one that was taken back: it will try anew.
                Some(reject) if has_seen && reject != Reject::Withdrawn => Self::Failed(reject),
                _ => Self::Updating,
            },
            Some(ModelReport { phase: Phase::Held(hold), .. }) if tried && has_seen => Self::Held(*hold),
            Some(model) if tried && mode == Mode::Shadow && model.phase == Phase::Shadow => Self::Healthy,
            Some(model) if answers && matches!(model.phase, Phase::Committed | Phase::Idle) => Self::Healthy,
            _ if tried || answers => Self::Updating,
            // It took the assignment and began nothing, because it could not even read the release.
            _ => match report.refused {
                Some(reject) if told.is_some() && has_seen => Self::Failed(reject),
                _ => Self::Updating,
            },
        }
    }
}

impl Rules {
    /// A device.
    ///
    /// # Errors
    ///
    /// [`Denied::NoDevice`].
    pub fn device(&self, id: &DeviceId) -> Result<&Device, Denied> {
        self.devices.get(id).ok_or_else(|| Denied::NoDevice(id.clone()))
    }
}

/// Whether the device may cause one more event now; counts it.
pub(crate) fn may_tell(device: &mut Device, now: Millis) -> bool {
    if now.apart(device.events.since) > EVENTS_SPAN {
        device.events = Caused { since: now, count: 0 };
    }
    device.events.count = device.events.count.saturating_add(1);
    device.events.count <= EVENTS_MAX
}
