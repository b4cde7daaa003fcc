//! Models and versions as the API shows them.

use std::collections::BTreeMap;

use bellwether_hub_core::Rules;
use bellwether_hub_core::registry::VersionRecord;
use bellwether_protocol::frame;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::manifest::{FileRole, Kind, TensorSpec};
use bellwether_protocol::policy::Policy;
use bellwether_protocol::trust::{Release, Signed};

use super::super::denied::base64;
use crate::api::types::{
    ApprovalView, ApprovalsView, FactsView, FileView, GitView, GoldenView, ModelView, PackageView, PolicyView,
    RejectionView, RequiresView, TensorView, VersionState, VersionView,
};

/// A model at a glance; `None` if there is none or all its versions were deleted.
pub(in crate::drive) fn model(rules: &Rules, name: &ModelName) -> Option<ModelView> {
    let records: Vec<&VersionRecord> = rules.versions_of(name).collect();
    let latest = records.last()?;
    let mut running: BTreeMap<u32, u32> = BTreeMap::new();
    for version in rules.devices().filter_map(|device| device.running(name)) {
        let count = running.entry(version.number()).or_default();
        *count = count.saturating_add(1);
    }
    Some(ModelView {
        name: name.to_string(),
        latest: latest.model.version.number(),
        versions: u32::try_from(records.len()).unwrap_or(u32::MAX),
        tags_of_latest: latest.lineage.tags.clone(),
        running,
        state_of_latest: state(rules, latest),
        updated_ms: latest.registered_at.0,
    })
}

/// A version, whole.
pub(in crate::drive) fn version(rules: &Rules, record: &VersionRecord) -> VersionView {
    let manifest = &record.manifest;
    let lineage = &record.lineage;
    let checks = &record.checks;
    let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
    let name = &record.model.name;
    VersionView {
        name: name.to_string(),
        version: record.model.version.number(),
        kind: kind(record.kind).to_owned(),
        state: state(rules, record),
        deployable: checks.advice.is_none(),
        advice: checks.advice.clone(),
        golden: GoldenView {
            checked: checks.golden.is_some(),
            rows: checks.golden.as_ref().map(|golden| golden.rows),
            runtime: checks.golden.as_ref().map(|golden| golden.runtime.clone()),
        },
        description: lineage.description.clone(),
        tags: lineage.tags.clone(),
        git: lineage.git.as_ref().map(|git| GitView {
            commit: git.commit.clone(),
            branch: git.branch.clone().unwrap_or_default(),
            dirty: git.dirty,
        }),
        dataset: lineage.dataset.clone(),
        run: lineage.run.clone(),
        file_name: lineage.file_name.clone(),
        source: record.source.to_string(),
        package: PackageView { digest: record.package.digest.to_string(), size: record.package.size },
        files: manifest.files.iter().map(file).collect(),
        inputs: manifest.tensors.inputs.iter().map(tensor).collect(),
        outputs: manifest.tensors.outputs.iter().map(tensor).collect(),
        facts: checks.advice.is_none().then(|| FactsView {
            operators: checks.operators.clone(),
            opset: checks.opset.into(),
            parameters: checks.parameters,
        }),
        registered_ms: record.registered_at.0,
        registered_by: record.registered_by.clone(),
        attestation: Some(base64(&record.attestation)),
        release: record.release.as_ref().map(|release| release.digest().to_string()),
        publisher: record.release.as_ref().and_then(|release| Some(release.signatures.first()?.person.clone())),
        approvals: approvals(rules, record),
        rejection: record.rejection.as_ref().map(|rejection| RejectionView {
            person: rejection.person.clone(),
            why: rejection.why.clone(),
            at_ms: rejection.at.0,
        }),
        requires: requires(record),
        policy: policy(record.policy),
        baseline_columns: rules.baseline(&record.model).map_or(0, |baseline| count(baseline.columns.len())),
        running_on: count(rules.devices().filter(|device| device.running(name) == Some(record.model.version)).count()),
        desired_on: count(
            rules
                .devices()
                .flat_map(|device| &device.assignment)
                .filter(|issued| issued.models.iter().any(|want| want.model == record.model))
                .count(),
        ),
    }
}

fn state(rules: &Rules, record: &VersionRecord) -> VersionState {
    match &record.release {
        None => VersionState::Draft,
        Some(_) if record.rejection.is_some() => VersionState::Rejected,
        Some(_) if rules.approved(record).is_ok() => VersionState::Approved,
        Some(_) => VersionState::AwaitingApproval,
    }
}

/// What its release asks of a device; before there is one, what the model itself needs.
fn requires(record: &VersionRecord) -> RequiresView {
    let signed = record.release.as_ref().and_then(|release| release.signed().peek::<Release>().ok());
    match signed.map(|release| release.requires) {
        Some(requires) => RequiresView {
            agent: requires.agent.map(|part| part.to_string()).join("."),
            operators: requires.operators.into(),
            memory_kib: requires.memory_kib,
        },
        None => RequiresView {
            agent: String::new(),
            operators: record.checks.opset.into(),
            memory_kib: record.checks.memory_kib,
        },
    }
}

fn approvals(rules: &Rules, record: &VersionRecord) -> ApprovalsView {
    let given = record.release.iter().flat_map(|release| release.signatures.iter().skip(1)).map(|given| ApprovalView {
        person: given.person.clone(),
        key: given.read().map(|(_, key)| key.to_string()).unwrap_or_default(),
        at_ms: given.at.0,
    });
    ApprovalsView { given: given.collect(), needed: u32::try_from(rules.approval(record).needed).unwrap_or(u32::MAX) }
}

/// The persons who signed a statement, each once however many keys they have.
pub(in crate::drive) fn signers(rules: &Rules, statement: &[u8]) -> Vec<String> {
    let (Ok(root), Ok(signed)) = (rules.trusted(), frame::decode::<Signed<'_>>(statement)) else {
        return Vec::new();
    };
    let mut persons: Vec<String> = Vec::new();
    for key in signed.signatures.iter().filter_map(|signature| root.root().named(signature.key)) {
        if !persons.iter().any(|known| known == key.person.as_str()) {
            persons.push(key.person.to_string());
        }
    }
    persons
}

const fn policy(policy: Policy) -> PolicyView {
    PolicyView {
        max_p95_us: policy.p95_us_max,
        collect_one_in: policy.collect.one_in,
        collect_below: policy.collect.uncertain_below,
        collect_per_minute: policy.collect.rows_per_minute_max,
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Model => "model",
        Kind::Bitstream => "bitstream",
        Kind::Agent => "agent",
        Kind::Firmware => "firmware",
    }
}

fn file(file: &bellwether_protocol::manifest::File) -> FileView {
    let role = match file.role {
        FileRole::Model => "model",
        FileRole::Vectors => "golden vectors",
        FileRole::Extra => "extra",
        FileRole::Baseline => "baseline",
        FileRole::Policy => "policy",
        FileRole::Bitstream => "bitstream",
    };
    FileView {
        name: file.name.to_string(),
        role: role.to_owned(),
        size: file.size.into(),
        digest: file.digest.to_string(),
    }
}

fn tensor(spec: &TensorSpec) -> TensorView {
    TensorView {
        name: spec.name.to_string(),
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape.iter().map(|size| size.map_or(-1, i64::from)).collect(),
    }
}
