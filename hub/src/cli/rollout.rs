//! Rollouts: start, list, follow, act.

use std::time::{Duration, Instant};

use bellwether_protocol::id::ModelRef;
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::args::{Act, RolloutCommand};
use super::failure::{Exit, Failure};
use super::model::ASK_EVERY;
use super::sign::sign_grants;
use crate::api::types::{
    CountsView, RolloutAction, RolloutMode, RolloutPhase, RolloutRequest, RolloutState, RolloutView, ShadowView,
    StageState, StageView,
};

pub(super) async fn run(context: &Context, command: RolloutCommand) -> Result<Exit, Failure> {
    match command {
        RolloutCommand::Start {
            model,
            stages,
            soak_seconds,
            max_failures,
            on_failure,
            max_p95_ms,
            mode,
            keys,
            grant_ahead,
        } => {
            let request = RolloutRequest {
                model: model.name.to_string(),
                version: model.version.number(),
                stages,
                soak_seconds,
                max_failures,
                on_failure,
                max_p95_us: max_p95_ms.map(micros),
                mode,
            };
            start(context, &model, &request, &keys, grant_ahead).await
        }
        RolloutCommand::List => list(context).await,
        RolloutCommand::Status { id, no_wait, timeout } => status(context, id, no_wait, timeout).await,
        RolloutCommand::Pause(act) => tell(context, RolloutAction::Pause, act).await,
        RolloutCommand::Resume(act) => tell(context, RolloutAction::Resume, act).await,
        RolloutCommand::Promote(act) => tell(context, RolloutAction::Promote, act).await,
        RolloutCommand::Abort(act) => tell(context, RolloutAction::Abort, act).await,
        RolloutCommand::Rollback(act) => tell(context, RolloutAction::Rollback, act).await,
    }
}

/// Milliseconds as the API counts them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just before")]
pub(super) fn micros(milliseconds: f64) -> u32 {
    (milliseconds * 1000.0).round().clamp(1.0, f64::from(u32::MAX)) as u32
}

async fn start(
    context: &Context,
    model: &ModelRef,
    request: &RolloutRequest,
    keys: &[String],
    grant_ahead: bool,
) -> Result<Exit, Failure> {
    let signed = if grant_ahead { request.stages.len() } else { 1 };
    if !keys.is_empty() {
        sign_grants(context, model, request.stages.get(..signed).unwrap_or_default(), keys).await?;
    }
    let rollout = context.client.start_rollout(request).await?;
    show(context, &rollout)?;
    if context.output.for_people() {
        eprintln!("next: bellwether rollout status {}", rollout.id);
        if let Some(stage) = request.stages.get(signed).filter(|_| !keys.is_empty()) {
            eprintln!("then, once stage {signed} is well: bellwether grant {model} {} --key KEY", stage.as_grant());
        }
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let rollouts = context.client.rollouts().await?.items;
    context.output.list(
        &rollouts,
        &[
            ("ROLLOUT", &|rollout| rollout.id.clone()),
            ("VERSION", &title),
            ("STATE", &|rollout| rollout.state.label().to_owned()),
            ("STAGE", &|rollout| format!("{} of {}", rollout.stage.saturating_add(1), rollout.stages.len())),
            ("WAITING ON", &|rollout| rollout.waiting_on.clone()),
        ],
        |rollout| rollout.id.clone(),
        "no rollout yet; start one: bellwether rollout start MODEL:VERSION --stage 25% --stage 100%",
    )?;
    Ok(Exit::Ok)
}

/// `digits 1 → 2`.
fn title(rollout: &RolloutView) -> String {
    match rollout.from_version {
        Some(from) => format!("{} {from} → {}", rollout.model, rollout.version),
        None => format!("{} {}", rollout.model, rollout.version),
    }
}

async fn tell(context: &Context, action: RolloutAction, act: Act) -> Result<Exit, Failure> {
    let rollout = context.client.act_on_rollout(&act.id, action, act.reason).await?;
    show(context, &rollout)?;
    Ok(Exit::Ok)
}

async fn status(context: &Context, id: Option<String>, no_wait: bool, timeout: Option<u64>) -> Result<Exit, Failure> {
    let id = match id {
        Some(id) => id,
        None => latest(context).await?,
    };
    let mut rollout = context.client.rollout(&id).await?;
    if no_wait {
        show(context, &rollout)?;
        return Ok(outcome(&rollout).filter(|_| rollout.state.ended()).unwrap_or(Exit::Ok));
    }
    let until = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let exit = loop {
        bar.set_message(line(&rollout));
        bar.tick();
        if let Some(exit) = outcome(&rollout) {
            break exit;
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            break Exit::Timeout;
        }
        tokio::time::sleep(ASK_EVERY).await;
        rollout = context.client.rollout(&id).await?;
    };
    bar.finish_and_clear();
    show(context, &rollout)?;
    if exit == Exit::Timeout {
        let cause = format!("{} is still {} after the timeout", title(&rollout), rollout.state.label());
        return Err(Failure::new(exit, cause).next(format!("bellwether rollout status {id}")));
    }
    if exit == Exit::Waits {
        return Err(Failure::new(exit, waits(&rollout)).next(step(&rollout)));
    }
    Ok(exit)
}

async fn latest(context: &Context) -> Result<String, Failure> {
    let rollouts = context.client.rollouts().await?.items;
    rollouts.into_iter().next().map(|rollout| rollout.id).ok_or_else(|| {
        Failure::new(Exit::NotFound, "there is no rollout yet")
            .next("start one: bellwether rollout start MODEL:VERSION --stage 25% --stage 100%")
    })
}

/// How a rollout that needs no more waiting ends the command.
fn outcome(rollout: &RolloutView) -> Option<Exit> {
    match (rollout.state, rollout.phase) {
        (RolloutState::Completed, _) => Some(Exit::Ok),
        (RolloutState::Aborted | RolloutState::RolledBack, _) => Some(Exit::RolloutFailed),
        (RolloutState::RollingBack, _) => None,
        (RolloutState::Paused, _) => Some(Exit::Waits),
        // A granted stage leaves this phase by itself.
        (RolloutState::Running, Some(RolloutPhase::WaitingForGrant)) => ungranted(rollout).map(|_| Exit::Waits),
        (RolloutState::Running, _) => None,
    }
}

/// The current stage, if nobody signed its grant yet.
fn ungranted(rollout: &RolloutView) -> Option<&StageView> {
    rollout.stages.iter().find(|stage| !stage.granted && stage.state == StageState::Now)
}

fn waits(rollout: &RolloutView) -> String {
    match &rollout.stopped_because {
        Some(why) => format!("{} is paused: {why}", title(rollout)),
        None => format!("{} waits for a person: {}", title(rollout), rollout.waiting_on),
    }
}

fn step(rollout: &RolloutView) -> String {
    if rollout.state == RolloutState::Paused {
        return format!("bellwether rollout resume {0}, or: bellwether rollout abort {0}", rollout.id);
    }
    let cohort = ungranted(rollout).map(|stage| stage.cohort.as_grant()).unwrap_or_default();
    format!("bellwether grant {}:{} {cohort} --key KEY", rollout.model, rollout.version)
}

fn counts(rollout: &RolloutView) -> CountsView {
    let index = usize::try_from(rollout.stage).unwrap_or(usize::MAX);
    rollout.stages.get(index).or_else(|| rollout.stages.last()).map(|stage| stage.counts).unwrap_or_default()
}

/// The rollout in one line.
fn line(rollout: &RolloutView) -> String {
    let CountsView { total, healthy, updating, held, failed, offline, .. } = counts(rollout);
    let stage = format!("stage {} of {}", rollout.stage.saturating_add(1), rollout.stages.len());
    let held = if held > 0 { format!("{held} held, ") } else { String::new() };
    let shares = format!("{healthy} of {total} healthy, {updating} updating, {held}{failed} failed, {offline} offline");
    format!("{} · {stage} · {shares} · {}", title(rollout), rollout.waiting_on)
}

/// How it did in the shadow; nothing where it is not there.
fn agreement(rollout: &RolloutView) -> String {
    let Some(shadow) = rollout.agreement else { return String::new() };
    let ShadowView { against, rows, agreed, errors, .. } = shadow;
    format!("{agreed} of {rows} rows as version {against}, {errors} calls failed")
}

fn show(context: &Context, rollout: &RolloutView) -> Result<(), Failure> {
    let failures: Vec<String> =
        rollout.failures.iter().map(|failure| format!("{} × {}", failure.count, failure.text)).collect();
    let fields = [
        ("rollout", rollout.id.clone()),
        ("version", title(rollout)),
        ("state", rollout.state.label().to_owned()),
        ("mode", if rollout.mode == RolloutMode::Active { String::new() } else { rollout.mode.word().to_owned() }),
        ("progress", line(rollout)),
        ("agreement", agreement(rollout)),
        ("stopped because", rollout.stopped_because.clone().unwrap_or_default()),
        ("failures", failures.join("; ")),
    ];
    context.output.one(rollout, &fields, &rollout.id)
}
