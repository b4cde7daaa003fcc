//! An approved release as an in-toto statement that the hub's registry key signs. It is the hub's
//! word, and says so: it quotes the native signatures, by which anybody can do without that word.

use bellwether_hub_core::Rules;
use bellwether_hub_core::registry::VersionRecord;
use bellwether_protocol::trust::{RoleSet, TrustedRoot};

use super::denied::{base64, model_ref};
use super::{Hub, view};
use crate::api::auth::Caller;
use crate::api::error::Problem;
use crate::api::types::{
    AttestationView, AttestedSigner, EnvelopeView, PREDICATE_TYPE, ReleasePredicate, Role, STATEMENT_TYPE, SubjectView,
};
use crate::date::Moment;
use crate::dsse;

/// Whose word an attestation is.
const ATTESTED: &str = "attested by the hub; what counts on devices are the native signatures quoted here";

impl Hub {
    /// An approved release, attested by the hub.
    ///
    /// # Errors
    ///
    /// 403 unless viewer; 404; 409 before it was published or approved; 422 once it is recalled.
    pub fn attested(&self, caller: &Caller, name: &str, version: u32) -> Result<EnvelopeView, Problem> {
        caller.need(Role::Viewer)?;
        let model = model_ref(name, version)?;
        let root = self.root()?;
        let roots = std::iter::once(root.statement).chain(root.later).collect();
        let rules = self.rules();
        let statement = statement(&rules, rules.version(&model)?, roots)?;
        let payload = serde_json::to_vec(&statement).map_err(|fault| Problem::internal(fault.to_string()))?;
        Ok(dsse::seal(&payload, self.keys().registry.under(rules.trusted()?.root())))
    }
}

fn statement(rules: &Rules, record: &VersionRecord, roots: Vec<String>) -> Result<AttestationView, Problem> {
    let approved = rules.approved(record)?;
    let root = rules.trusted()?;
    let release = record.release.as_ref().map(|release| release.statement()).unwrap_or_default();
    let package = record.package.digest.to_string();
    let predicate = ReleasePredicate {
        attested: ATTESTED.to_owned(),
        fleet: root.fleet().to_string(),
        model: record.model.name.to_string(),
        version: record.model.version.number(),
        release_digest: approved.digest().to_string(),
        release: base64(&release),
        roots,
        publisher: signers(root, record, RoleSet::PUBLISH),
        approvers: signers(root, record, RoleSet::APPROVE),
        golden: view::version(rules, record).golden,
        registered_at: Moment::of(record.registered_at).to_string(),
    };
    Ok(AttestationView {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![SubjectView { name: record.model.to_string(), digest: [("sha256".to_owned(), package)].into() }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate,
    })
}

/// Whose signatures under the release are by keys with this role.
fn signers(root: &TrustedRoot, record: &VersionRecord, role: RoleSet) -> Vec<AttestedSigner> {
    let signed = record.release.as_ref().map(|release| release.signed());
    let signatures = signed.iter().flat_map(|signed| &signed.signatures);
    let keys = signatures.filter_map(|signature| root.root().named(signature.key));
    let of_role = keys.filter(|key| key.roles.contains(role));
    of_role.map(|key| AttestedSigner { person: key.person.to_string(), keyid: key.id().to_string() }).collect()
}
