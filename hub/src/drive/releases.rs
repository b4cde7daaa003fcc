//! The root, and what people sign: releases, approvals, grants.

use bellwether_hub_core::trust::{HubPublic, RootRecord};
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::trust::{KeyClass, KeyStatus, RoleSet, Root, Signed, StageGrant};

use super::denied::{base64, model_ref, statement};
use super::{Hub, Refusal, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    FleetView, GrantView, KeyView, KeysView, Page, Role, RootView, StatementRequest, StatementView, ThresholdsView,
    VersionView,
};
use crate::keys::{Online, public};
use crate::store::record;

impl Hub {
    /// The fleet's root as it was received.
    ///
    /// # Errors
    ///
    /// 404 before there is one.
    pub fn root(&self) -> Result<RootView, Problem> {
        let record = self.first_root()?;
        let rules = self.rules();
        Ok(RootView {
            fleet: record.fleet.to_string(),
            statement: base64(&record.statement),
            version: rules.trusted()?.root().version,
            later: rules.chain().iter().map(|step| base64(&step.statement)).collect(),
        })
    }

    fn first_root(&self) -> Result<RootRecord, Problem> {
        let stored = self.0.store.get("root").map_err(Refusal::from)?.ok_or_else(no_root)?;
        Ok(record::decode(&stored.key, &stored.value).map_err(Refusal::from)?)
    }

    /// The keys with which the hub would sign under the root in this statement, if it reads.
    pub(super) fn public_keys(&self, statement: &[u8]) -> HubPublic {
        let keys = self.keys();
        let root: Option<Root> = frame::decode::<Signed<'_>>(statement).and_then(|signed| signed.peek()).ok();
        let of = |online: &Online| public(root.as_ref().map_or_else(|| online.first(), |root| online.under(root)));
        HubPublic { director: of(&keys.director), registry: of(&keys.registry), time: of(&keys.time) }
    }

    /// Takes the root; once.
    ///
    /// # Errors
    ///
    /// 403 unless admin; 409 if there is one; 422 if it does not hold.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn put_root(&self, caller: &Caller, request: StatementRequest) -> Result<FleetView, Problem> {
        caller.need(Role::Admin)?;
        self.room()?;
        let bytes = statement(&request.statement)?;
        let hub = self.public_keys(&bytes);
        self.decide_durably(|rules, now| Ok(((), rules.set_root(&bytes, &hub, &caller.name, now)?)))?;
        Ok(FleetView { fleet: self.rules().trusted()?.fleet().to_string() })
    }

    /// Who may sign what.
    ///
    /// # Errors
    ///
    /// 404 before there is a root.
    pub fn root_keys(&self, _caller: &Caller) -> Result<KeysView, Problem> {
        let rules = self.rules();
        let root = rules.trusted().map_err(|_| no_root())?.root();
        let thresholds = root.thresholds;
        let keys = root.keys.iter().map(|key| KeyView {
            id: key.id().to_string(),
            public: key.public.to_string(),
            person: key.person.to_string(),
            roles: roles(key.roles),
            class: class(key.class).to_owned(),
            prefix: key.prefix.to_string(),
            status: status(key.status).to_owned(),
        });
        let latest = rules.chain().last();
        let signed_by = match latest {
            Some(step) => view::signers(&rules, &step.statement),
            None => view::signers(&rules, &self.first_root()?.statement),
        };
        Ok(KeysView {
            version: root.version,
            signed_by,
            signed_ms: latest.map(|step| step.at.0),
            devices_behind: rules.behind(),
            thresholds: ThresholdsView {
                root: thresholds.root.into(),
                approve: thresholds.approve.into(),
                grant: thresholds.grant.into(),
            },
            offline_approval: root.offline_approval,
            keys: keys.collect(),
        })
    }

    /// Takes the release that a publisher signed.
    ///
    /// # Errors
    ///
    /// 403 unless publisher; 409, 422 with the reason.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn post_release(
        &self,
        caller: &Caller,
        name: &str,
        version: u32,
        request: StatementRequest,
    ) -> Result<VersionView, Problem> {
        caller.need(Role::Publisher)?;
        self.room()?;
        let (model, bytes) = (model_ref(name, version)?, statement(&request.statement)?);
        self.decide_durably(|rules, now| Ok(((), rules.publish(&model, &bytes, &caller.name, now)?)))?;
        self.version(caller, name, version)
    }

    /// Takes an approver's signature.
    ///
    /// # Errors
    ///
    /// 403 unless approver; 409, 422 with the reason.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn add_signature(
        &self,
        caller: &Caller,
        name: &str,
        version: u32,
        request: StatementRequest,
    ) -> Result<VersionView, Problem> {
        caller.need(Role::Approver)?;
        self.room()?;
        let (model, bytes) = (model_ref(name, version)?, statement(&request.statement)?);
        self.decide_durably(|rules, now| Ok(((), rules.sign(&model, &bytes, &caller.name, now)?)))?;
        self.version(caller, name, version)
    }

    /// The release with all signatures so far.
    ///
    /// # Errors
    ///
    /// 404 before it was published.
    pub fn release(&self, _caller: &Caller, name: &str, version: u32) -> Result<StatementView, Problem> {
        let model = model_ref(name, version)?;
        let rules = self.rules();
        let record = rules.version(&model)?;
        let release = record.release.as_ref().ok_or_else(|| {
            Problem::not_found("no_release", format!("{model} was not published yet"))
                .hint(format!("its publisher signs: bellwether model publish {model} --key KEY"))
        })?;
        Ok(StatementView { statement: base64(&release.statement()), digest: release.digest().to_string() })
    }

    /// Takes a stage grant.
    ///
    /// # Errors
    ///
    /// 403 unless approver; 409 before the version is approved; 422 if it does not hold.
    #[expect(clippy::needless_pass_by_value, reason = "a request is handed over whole")]
    pub fn post_grant(
        &self,
        caller: &Caller,
        name: &str,
        version: u32,
        request: StatementRequest,
    ) -> Result<GrantView, Problem> {
        caller.need(Role::Approver)?;
        self.room()?;
        let (model, bytes) = (model_ref(name, version)?, statement(&request.statement)?);
        let signed: Signed<'_> = frame::decode(&bytes).map_err(malformed)?;
        let grant: StageGrant = signed.peek().map_err(malformed)?;
        self.decide_durably(|rules, now| Ok(((), rules.add_grant(&model, &bytes, &caller.name, now)?)))?;
        let page = self.grants(caller, name, version)?;
        let rules = self.rules();
        let cohort = view::cohort(&rules, &grant.cohort);
        let found = page.items.into_iter().rev().find(|view| view.cohort == cohort);
        found.ok_or_else(|| Problem::internal("the grant was taken but is not listed"))
    }

    /// The grants that hold for a version.
    ///
    /// # Errors
    ///
    /// 404.
    pub fn grants(&self, _caller: &Caller, name: &str, version: u32) -> Result<Page<GrantView>, Problem> {
        let model = model_ref(name, version)?;
        let rules = self.rules();
        let record = rules.version(&model)?;
        let Ok(approved) = rules.approved(record) else { return Ok(Page::whole(Vec::new())) };
        let items = rules.grants(record, &approved).map(|(granted, stored)| GrantView {
            model: name.to_owned(),
            version,
            cohort: view::cohort(&rules, &granted.grant().cohort),
            persons: view::signers(&rules, &stored.statement),
            at_ms: stored.at.0,
        });
        Ok(Page::whole(items.collect()))
    }
}

fn no_root() -> Problem {
    Problem::not_found("no_root", "this hub has no root yet").hint("make one: bellwether root init")
}

fn malformed(reject: Reject) -> Problem {
    Problem::unprocessable("statement_refused", format!("the statement is refused: {reject}"))
}

fn roles(set: RoleSet) -> Vec<String> {
    let all = [
        ("root", RoleSet::ROOT),
        ("publish", RoleSet::PUBLISH),
        ("approve", RoleSet::APPROVE),
        ("grant", RoleSet::GRANT),
        ("registry", RoleSet::REGISTRY),
        ("director", RoleSet::DIRECTOR),
        ("time", RoleSet::TIME),
        ("witness", RoleSet::WITNESS),
    ];
    all.into_iter().filter(|(_, role)| set.contains(*role)).map(|(name, _)| name.to_owned()).collect()
}

pub(super) const fn class(class: KeyClass) -> &'static str {
    match class {
        KeyClass::File => "file",
        KeyClass::SshAgent => "ssh-agent",
        KeyClass::Pkcs11 => "pkcs11",
        KeyClass::Browser => "browser",
        KeyClass::Hub => "hub",
    }
}

const fn status(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "active",
        KeyStatus::Retired => "retired",
        KeyStatus::Revoked => "revoked",
    }
}
