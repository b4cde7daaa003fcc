//! What the pages' forms do: the same calls of the facade as the API, then back to a page.

use std::collections::BTreeMap;

use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::api::auth::{Caller, same_site};
use crate::api::error::Problem;
use crate::api::input::At;
use crate::api::types::{
    ActionRequest, CohortView, FailureAction, RejectRequest, RolloutAction, RolloutMode, RolloutRequest, TagsRequest,
};
use crate::drive::Hub;

/// What a page may say after an action; only these, as the address can be written by anyone.
pub(super) const NOTES: [(&str, &str); 6] = [
    ("rejected", "The version is rejected; its publisher reads why."),
    ("withdrawn", "The request is withdrawn."),
    ("asked", "The device was asked for a report; it appears here when it arrives."),
    ("log", "The device was asked for its log; it appears here when it arrives."),
    ("tagged", "The tags are saved."),
    ("started", "The rollout has started."),
];

/// Whoever acts, once it is certain that the form was ours.
fn actor(hub: &Hub, headers: &HeaderMap) -> Result<Caller, Problem> {
    same_site(&Method::POST, headers)?;
    super::visitor(hub, headers)
}

fn back(done: Result<String, Problem>) -> Response {
    match done {
        Ok(address) => Redirect::to(&address).into_response(),
        Err(problem) => super::refusal(&problem),
    }
}

/// Pauses, resumes, promotes, aborts or rolls back.
pub(super) async fn on_rollout(
    State(hub): State<Hub>,
    At((id, verb)): At<(String, String)>,
    headers: HeaderMap,
    Form(request): Form<Reason>,
) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        let action = RolloutAction::ALL
            .into_iter()
            .find(|action| action.verb() == verb)
            .ok_or_else(|| Problem::not_found("no_such_action", format!("a rollout cannot be told to {verb}")))?;
        let reason = request.reason.filter(|reason| !reason.trim().is_empty());
        let rollout = hub.act_on_rollout(&caller, &id, action, ActionRequest { reason })?;
        Ok(format!("/rollouts/{}", rollout.id))
    }))
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Reason {
    #[serde(default)]
    reason: Option<String>,
}

/// What the form on a version's page sends.
#[derive(Debug, Deserialize)]
pub(super) struct Start {
    stages: String,
    #[serde(default)]
    soak_seconds: String,
    #[serde(default)]
    max_failures: String,
    #[serde(default)]
    on_failure: String,
    #[serde(default)]
    max_p95_ms: String,
    #[serde(default)]
    mode: String,
}

impl Start {
    fn request(&self, model: &str, version: u32) -> Result<RolloutRequest, Problem> {
        let lines = self.stages.lines().map(str::trim).filter(|line| !line.is_empty());
        let stages: Result<Vec<CohortView>, _> = lines.map(str::parse).collect();
        let stages = stages.map_err(|bad: crate::api::types::BadCohort| {
            Problem::unprocessable("bad_stage", bad.to_string()).hint("one stage a line, the smallest first")
        })?;
        if stages.is_empty() {
            return Err(Problem::unprocessable("no_stage", "no stage is given").hint("write one a line, such as 25%"));
        }
        let soak_seconds = number("the soak time", &self.soak_seconds)?;
        let max_failures = number("the failures tolerated", &self.max_failures)?;
        Ok(RolloutRequest {
            model: model.to_owned(),
            version,
            stages,
            soak_seconds,
            max_failures,
            on_failure: on_failure(&self.on_failure)?,
            max_p95_us: micros("the latency budget", &self.max_p95_ms)?,
            mode: mode(&self.mode)?,
        })
    }
}

fn number(what: &str, text: &str) -> Result<Option<u32>, Problem> {
    match text.trim() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| {
            Problem::unprocessable("bad_number", format!("{what}: `{digits}` is no whole number"))
                .hint("leave it empty for the hub's default")
        }),
    }
}

fn on_failure(text: &str) -> Result<Option<FailureAction>, Problem> {
    match text.trim() {
        "" => Ok(None),
        "rollback" => Ok(Some(FailureAction::Rollback)),
        "pause" => Ok(Some(FailureAction::Pause)),
        other => Err(Problem::unprocessable("bad_failure_action", format!("`{other}` is no way to stop"))
            .hint("write rollback or pause")),
    }
}

fn mode(text: &str) -> Result<RolloutMode, Problem> {
    match text.trim() {
        "" => Ok(RolloutMode::default()),
        word => word.parse().map_err(|expected| {
            Problem::unprocessable("bad_mode", format!("`{word}` is no way to run a version"))
                .hint(format!("write {expected}"))
        }),
    }
}

/// Milliseconds with at most three decimals, as whole microseconds.
fn micros(what: &str, text: &str) -> Result<Option<u32>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = if digits(part) && part.len() <= 3 { format!("{part:0<3}").parse().ok() } else { None };
    let whole = if digits(whole) { whole.parse::<u32>().ok() } else { None };
    let sum = whole.zip(thousandths).and_then(|(whole, part): (u32, u32)| whole.checked_mul(1000)?.checked_add(part));
    sum.filter(|micros| *micros > 0).map(Some).ok_or_else(|| {
        Problem::unprocessable("bad_number", format!("{what}: `{text}` is no number of milliseconds"))
            .hint("write milliseconds such as 5 or 0.25, or leave it empty for the version's own budget")
    })
}

/// Starts a rollout of a version.
pub(super) async fn start_rollout(
    State(hub): State<Hub>,
    At((name, version)): At<(String, u32)>,
    headers: HeaderMap,
    Form(form): Form<Start>,
) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        let rollout = hub.start_rollout(&caller, form.request(&name, version)?)?;
        Ok(format!("/rollouts/{}?note=started", rollout.id))
    }))
}

/// Refuses a version that waits for approval.
pub(super) async fn reject(
    State(hub): State<Hub>,
    At((name, version)): At<(String, u32)>,
    headers: HeaderMap,
    Form(form): Form<Reason>,
) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        let request = RejectRequest { reason: form.reason.unwrap_or_default() };
        let version = hub.reject(&caller, &name, version, request)?;
        Ok(format!("{}?note=rejected", super::approvals::address(&version)))
    }))
}

/// Takes back a key's request to be listed.
pub(super) async fn withdraw_key(State(hub): State<Hub>, At(id): At<String>, headers: HeaderMap) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        hub.withdraw_key_request(&caller, &id)?;
        Ok("/keys?note=withdrawn".to_owned())
    }))
}

/// Asks a device for a report.
pub(super) async fn ask_report(State(hub): State<Hub>, At(id): At<String>, headers: HeaderMap) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        hub.ask_report(&caller, &id)?;
        Ok(format!("/devices/{}?note=asked", super::encoded(&id)))
    }))
}

/// Asks a device for the end of its log.
pub(super) async fn ask_log(State(hub): State<Hub>, At(id): At<String>, headers: HeaderMap) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        hub.ask_log(&caller, &id)?;
        Ok(format!("/devices/{}?note=log#device-log", super::encoded(&id)))
    }))
}

/// What the form of tags sends.
#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    tags: String,
}

/// Replaces a device's tags.
pub(super) async fn set_tags(
    State(hub): State<Hub>,
    At(id): At<String>,
    headers: HeaderMap,
    Form(form): Form<Tags>,
) -> Response {
    back(actor(&hub, &headers).and_then(|caller| {
        let tags = tags_of(&form.tags)?;
        let device = hub.set_tags(&caller, &id, TagsRequest { tags })?;
        Ok(format!("/devices/{}?note=tagged", device.id))
    }))
}

fn tags_of(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((tag, value)) if !tag.trim().is_empty() => Ok((tag.trim().to_owned(), value.trim().to_owned())),
            _ => {
                Err(Problem::unprocessable("bad_tag", format!("`{line}` is no tag"))
                    .hint("write TAG=VALUE, one a line"))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_which_line_is_no_stage() {
        let form = |stages: &str, soak: &str| Start {
            stages: stages.to_owned(),
            soak_seconds: soak.to_owned(),
            max_failures: String::new(),
            on_failure: String::new(),
            max_p95_ms: String::new(),
            mode: String::new(),
        };
        let request = form("device=gw-1\r\n 25%\n\n100%", "30").request("digits", 2).unwrap();
        assert_eq!((request.stages.len(), request.soak_seconds, request.max_failures), (3, Some(30), None));
        assert!(form("25%\nhalf", "").request("digits", 2).unwrap_err().detail.contains("half"));
        assert_eq!(form("", "").request("digits", 2).unwrap_err().code, "no_stage");
        assert_eq!(form("25%", "-1").request("digits", 2).unwrap_err().code, "bad_number");
    }

    #[test]
    fn a_budget_is_read_in_milliseconds() {
        let read = |text: &str| micros("the latency budget", text).ok();
        assert_eq!(
            [read(""), read("5"), read(" 0.25 "), read("0.001")].map(Option::unwrap),
            [None, Some(5_000), Some(250), Some(1)]
        );
        for bad in ["0", "-1", "1e3", "0.0001", "five", "1.", ".5", "5000000"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(on_failure("pause").unwrap(), Some(FailureAction::Pause));
        assert_eq!(on_failure("explode").unwrap_err().code, "bad_failure_action");
        assert_eq!([mode(""), mode("shadow")].map(Result::unwrap), [RolloutMode::Active, RolloutMode::Shadow]);
        assert_eq!(mode("loud").unwrap_err().code, "bad_mode");
    }

    #[test]
    fn tags_are_read_a_line_each() {
        assert_eq!(tags_of("site = lyon\n\nline=2").unwrap().len(), 2);
        assert_eq!(tags_of("lyon").unwrap_err().code, "bad_tag");
    }
}
