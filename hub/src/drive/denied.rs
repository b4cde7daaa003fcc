//! Refusals as problems: each with a stable code and the next step.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub_core::Denied;
use bellwether_protocol::id::{BadId, DeviceId, ModelName, ModelRef, Version};

use super::Refusal;
use crate::api::error::Problem;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied(denied) => denied.into(),
            Refusal::Store(error) => {
                tracing::error!(%error, "store");
                Self::unavailable("store_failed", error.to_string())
                    .hint("look at the disk of the hub; what was answered before is safe")
            }
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        let (status, code, hint) = explain(&denied);
        Self::new(status, code, text).hint(hint)
    }
}

fn explain(denied: &Denied) -> (StatusCode, &'static str, String) {
    const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
    const CONFLICT: StatusCode = StatusCode::CONFLICT;
    const REFUSED: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;
    let owned = str::to_owned;
    match denied {
        Denied::NoRoot => (CONFLICT, "no_root", owned("make one: bellwether root init")),
        Denied::RootExists { .. } => (CONFLICT, "root_exists", owned("bellwether root show")),
        Denied::BadRoot(_) => (REFUSED, "bad_root", owned("make it with this version of bellwether root init")),
        Denied::NotThisHub(_) => {
            let hint = "make the root against this hub, so that it lists its keys: bellwether root init; \
                        for a new one of them: bellwether-hub new-key, then bellwether root rotate --new-director PUBLIC";
            (REFUSED, "not_this_hub", owned(hint))
        }
        Denied::NoModel(_) => (NOT_FOUND, "no_model", owned("bellwether model list")),
        Denied::NoVersion(model) => (NOT_FOUND, "no_version", format!("bellwether model show {}", model.name)),
        Denied::NoDevice(_) => (NOT_FOUND, "no_device", owned("bellwether device list")),
        Denied::NoRollout(_) => (NOT_FOUND, "no_rollout", owned("bellwether rollout list")),
        Denied::InUse { .. } => (CONFLICT, "in_use", owned("roll out another version first")),
        Denied::VersionsUsedUp(_) => (CONFLICT, "versions_used_up", owned("register under another name")),
        Denied::NotDeployable { .. } => (CONFLICT, "not_deployable", owned("convert it and register it again")),
        Denied::Statement(reject) => (REFUSED, "statement_refused", format!("code {}", reject.code())),
        Denied::OtherModel { .. } => (REFUSED, "other_model", owned("sign for the version that registration gave")),
        Denied::OtherPackage(_) => (REFUSED, "other_package", owned("prepare and register the package again")),
        Denied::OtherRelease(model) => {
            (CONFLICT, "other_release", format!("fetch what was published: bellwether model show {model}"))
        }
        Denied::NoRelease(model) => {
            (CONFLICT, "no_release", format!("its publisher signs: bellwether model publish {model} --key KEY"))
        }
        Denied::OwnPublication { .. } => (CONFLICT, "own_publication", owned("ask another approver")),
        Denied::PersonSigned { .. } => (CONFLICT, "person_signed", owned("ask another approver")),
        Denied::SignaturesFull(_) => (CONFLICT, "signatures_full", owned("it has all it can hold")),
        Denied::GrantsFull(_) => (CONFLICT, "grants_full", owned("a wider grant covers the narrower ones")),
        Denied::Key { .. } | Denied::KeyUnlisted(_) => {
            (REFUSED, "key_refused", owned("bellwether root show lists who may sign what"))
        }
        Denied::NotApproved { model, .. } => {
            (CONFLICT, "not_approved", format!("approvers sign: bellwether approve {model} --key KEY"))
        }
        Denied::Rejected { model, .. } => (
            CONFLICT,
            "rejected",
            format!("its publisher registers a better version: bellwether model register {}", model.name),
        ),
        Denied::WeakKey(_) => (REFUSED, "weak_key", owned("make a new key: bellwether key new NAME --person PERSON")),
        Denied::KeyListed(_) => (CONFLICT, "key_listed", owned("it needs no request: bellwether root show")),
        Denied::KeyAsked(id) => {
            (CONFLICT, "key_asked", format!("withdraw that request first: DELETE /api/v1/keys/requests/{id}"))
        }
        Denied::KeyRequestsFull => {
            (CONFLICT, "key_requests_full", owned("list some in the root, or withdraw them: GET /api/v1/keys/requests"))
        }
        Denied::NoKeyRequest(_) => (NOT_FOUND, "no_key_request", owned("GET /api/v1/keys/requests lists them")),
        Denied::BadPlan(_) => {
            (REFUSED, "bad_plan", owned("stages widen: --stage device=gw-1 --stage 25% --stage 100%"))
        }
        Denied::RolloutGoing { id, .. } => {
            (CONFLICT, "rollout_going", format!("wait for it, or take it back: bellwether rollout abort {id}"))
        }
        Denied::NotNow { .. } => (CONFLICT, "not_now", owned("look at where it is: bellwether rollout status ID")),
        Denied::OtherKey(device) => {
            (CONFLICT, "other_key", format!("choose another name, or first: bellwether device delete {device}"))
        }
        Denied::OutOfOrder { .. } => (CONFLICT, "out_of_order", owned("send the records before it")),
        Denied::OldReport { .. } => (CONFLICT, "old_report", owned("nothing: the latest report counts")),
    }
}

pub(super) fn bad_id(error: &BadId, got: &str) -> Problem {
    let got: String = got.chars().take(80).collect();
    Problem::bad_request("bad_id", format!("{got:?} is {error}"))
        .hint("see what there is: bellwether model list, device list, rollout list")
}

pub(super) fn model_name(text: &str) -> Result<ModelName, Problem> {
    ModelName::parse(text).map_err(|error| bad_id(&error, text))
}

pub(super) fn model_ref(name: &str, version: u32) -> Result<ModelRef, Problem> {
    let version = Version::new(version).map_err(|error| bad_id(&error, &version.to_string()))?;
    Ok(ModelRef { name: model_name(name)?, version })
}

pub(super) fn device_id(text: &str) -> Result<DeviceId, Problem> {
    DeviceId::parse(text).map_err(|error| bad_id(&error, text))
}

pub(super) fn rollout_id(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| bad_id(&BadId { what: "rollout id", rule: "a whole number from 1 up" }, text))
}

pub(super) fn digest(text: &str) -> Result<bellwether_protocol::digest::Digest, Problem> {
    text.parse().map_err(|error| bad_id(&error, text))
}

/// The bytes of a statement in a request.
pub(super) fn statement(text: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(text).map_err(|error| {
        Problem::bad_request("bad_statement", format!("the statement is not base64: {error}"))
            .hint("send the frame of a signed statement as standard base64 with padding")
    })
}

/// A statement in an answer.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
