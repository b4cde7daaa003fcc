//! What waits for approvers, what they look at, their refusals, and the keys that ask to be listed.

use std::collections::BTreeMap;

use bellwether_hub_core::Rules;
use bellwether_hub_core::keyring::KeyRequest;
use bellwether_hub_core::registry::VersionRecord;
use bellwether_protocol::id::{BadId, ModelRef, Person, Version};
use bellwether_protocol::trust::{FleetId, KeyClass, KeyId, KeyStatus, PublicKey, Release, RoleSet, StatementType};

use super::denied::{bad_id, model_ref};
use super::releases::class;
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    ApprovalDetail, ApprovalPolicyView, KeyRequestRequest, KeyRequestView, LIMIT_DEFAULT, Page, RejectRequest, Role,
    VersionView,
};
use crate::words::words;

/// Bytes of a reason, and of a key's name: sentences, not documents.
const REASON_BYTES_MAX: usize = 500;
const NAME_BYTES_MAX: usize = 64;

impl Hub {
    /// The versions that wait for approvals, and those that were rejected, the latest first.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn approvals(&self, caller: &Caller) -> Result<Page<VersionView>, Problem> {
        let rules = self.rules();
        let waits = |record: &&VersionRecord| {
            record.release.is_some()
                && caller.covers(record.model.name.as_str())
                && (record.rejection.is_some() || rules.approved(record).is_err())
        };
        let mut found: Vec<&VersionRecord> =
            rules.models().flat_map(|model| rules.versions_of(&model.name)).filter(waits).collect();
        found.sort_by_key(|record| (record.rejection.is_some(), std::cmp::Reverse(record.registered_at)));
        found.truncate(LIMIT_DEFAULT as usize);
        Ok(Page::whole(found.into_iter().map(|record| view::version(&rules, record)).collect()))
    }

    /// How many versions wait for signatures, counted without checking any: for a figure that is
    /// shown on every page.
    #[must_use]
    pub fn waiting_for_approval(&self) -> u64 {
        let rules = self.rules();
        let waits = |record: &&VersionRecord| {
            let approval = rules.approval(record);
            record.release.is_some() && record.rejection.is_none() && approval.given < approval.needed
        };
        rules.models().flat_map(|model| rules.versions_of(&model.name)).filter(waits).count() as u64
    }

    /// What an approver looks at before signing.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn approval(&self, _caller: &Caller, name: &str, version: u32) -> Result<ApprovalDetail, Problem> {
        let model = model_ref(name, version)?;
        let rules = self.rules();
        let record = rules.version(&model)?;
        let release = record.release.as_ref();
        let said = release.and_then(|release| release.signed().peek::<Release>().ok());
        let running = running(&rules, &model).and_then(|before| rules.version(&before).ok());
        let fleet = rules.trusted().ok().map(|root| root.fleet());
        let message = release.zip(fleet).map(|(release, fleet)| message(fleet, &release.body));
        Ok(ApprovalDetail {
            version: view::version(&rules, record),
            running: running.map(|before| view::version(&rules, before)),
            fleet: fleet.map(|fleet| fleet.to_string()).unwrap_or_default(),
            bytes: message.map(hex::encode),
            body: release.map(|release| hex::encode(&release.body)),
            words: release.map(|release| words(&release.digest())),
            floor: said.map_or(0, |said| said.security_floor),
            policy: policy(&rules, record),
        })
    }

    /// Refuses a version that waits for approval, for a reason.
    ///
    /// # Errors
    ///
    /// 403 unless approver; 400 without a reason; 404; 409 once it is approved or rejected.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn reject(
        &self,
        caller: &Caller,
        name: &str,
        version: u32,
        request: RejectRequest,
    ) -> Result<VersionView, Problem> {
        caller.need(Role::Approver)?;
        let why = request.reason.trim();
        if why.is_empty() || why.len() > REASON_BYTES_MAX {
            return Err(Problem::bad_request("bad_reason", format!("a reason has 1 to {REASON_BYTES_MAX} bytes"))
                .hint("say in a sentence what its publisher should do better"));
        }
        let model = model_ref(name, version)?;
        self.decide_durably(|rules, now| Ok(((), rules.reject(&model, why, &caller.name, now)?)))?;
        self.version(caller, name, version)
    }

    /// The keys that ask to be listed in the root.
    ///
    /// # Errors
    ///
    /// None today.
    pub fn key_requests(&self, _caller: &Caller) -> Result<Page<KeyRequestView>, Problem> {
        Ok(Page::whole(self.rules().key_requests().map(request_view).collect()))
    }

    /// Keeps a key's request until a root lists it or it is withdrawn.
    ///
    /// # Errors
    ///
    /// 403 unless approver or publisher; 400 or 422 for what is no key, person or class; 409.
    pub fn request_key(&self, caller: &Caller, request: KeyRequestRequest) -> Result<KeyRequestView, Problem> {
        if !caller.role.may(Role::Publisher) {
            caller.need(Role::Approver)?;
        }
        self.room()?;
        let KeyRequestRequest { public, person, class, name } = request;
        let public: PublicKey = public.parse().map_err(|bad| bad_id(&bad, &public))?;
        let person: Person = person.trim().parse().map_err(|bad| bad_id(&bad, &person))?;
        let class = class_of(&class)?;
        let name = name.trim().to_owned();
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(Problem::bad_request("bad_name", format!("a name has 1 to {NAME_BYTES_MAX} printable bytes"))
                .hint("name the key after its owner and place, such as bo-laptop"));
        }
        let id = public.id();
        let by = caller.name.clone();
        self.decide_durably(|rules, at| {
            Ok(((), rules.request_key(KeyRequest { public, person, class, name, at, by })?))
        })?;
        Ok(request_view(self.rules().key_request(id)?))
    }

    /// Takes a key's request back.
    ///
    /// # Errors
    ///
    /// 403 unless admin or who made it; 404.
    pub fn withdraw_key_request(&self, caller: &Caller, id: &str) -> Result<(), Problem> {
        let id: KeyId = id.parse().map_err(|bad| bad_id(&bad, id))?;
        let own = self.rules().key_request(id)?.by == caller.name;
        if !own {
            caller.need(Role::Admin)?;
        }
        Ok(self.decide_durably(|rules, now| Ok(((), rules.withdraw_key_request(id, &caller.name, now)?)))?)
    }
}

/// The version of this model that most devices run, another than this one.
fn running(rules: &Rules, model: &ModelRef) -> Option<ModelRef> {
    let mut devices: BTreeMap<Version, usize> = BTreeMap::new();
    for version in rules.devices().filter_map(|device| device.running(&model.name)) {
        *devices.entry(version).or_default() += 1;
    }
    devices.remove(&model.version);
    let (version, _) = devices.into_iter().max_by_key(|(version, devices)| (*devices, *version))?;
    Some(ModelRef { name: model.name.clone(), version })
}

/// What is signed (protocol/README.md).
fn message(fleet: FleetId, body: &[u8]) -> Vec<u8> {
    [b"BWL1\0".as_slice(), &[StatementType::Release as u8], &fleet.0, body].concat()
}

fn policy(rules: &Rules, record: &VersionRecord) -> ApprovalPolicyView {
    let Ok(root) = rules.trusted().map(|trusted| trusted.root()) else { return ApprovalPolicyView::default() };
    let signatures = record.release.iter().flat_map(|release| &release.signatures);
    let publisher = record.release.as_ref().and_then(|release| release.signatures.first());
    let could = root.keys.iter().filter(|key| {
        key.roles.contains(RoleSet::APPROVE) && key.status == KeyStatus::Active && key.covers(&record.model.name)
    });
    let mut persons: Vec<String> = could.map(|key| key.person.to_string()).collect();
    persons.retain(|person| publisher.is_none_or(|publisher| publisher.person != *person));
    persons.sort();
    persons.dedup();
    let outside = |given: &bellwether_hub_core::trust::GivenSignature| {
        given.read().and_then(|(_, key)| root.key(key)).is_some_and(|key| key.class != KeyClass::Browser)
    };
    ApprovalPolicyView {
        needed: root.thresholds.approve.into(),
        persons,
        offline: root.offline_approval,
        offline_given: signatures.skip(1).any(outside),
    }
}

fn request_view(request: &KeyRequest) -> KeyRequestView {
    KeyRequestView {
        id: request.id().to_string(),
        public: request.public.to_string(),
        person: request.person.to_string(),
        class: class(request.class).to_owned(),
        name: request.name.clone(),
        at_ms: request.at.0,
        by: request.by.clone(),
    }
}

/// A person's class of key by its name.
fn class_of(text: &str) -> Result<KeyClass, Problem> {
    let all = [KeyClass::File, KeyClass::SshAgent, KeyClass::Pkcs11, KeyClass::Browser];
    let rule = BadId { what: "class of key", rule: "file, ssh-agent, pkcs11 or browser" };
    all.into_iter().find(|known| class(*known) == text).ok_or_else(|| bad_id(&rule, text))
}
