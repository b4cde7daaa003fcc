//! What is wrong with a device: its log, its failures, and the next step for each.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::offload;
use crate::api::types::{DeviceView, FailedView, LogView, ModelOnDevice, Presence, TroublesView};

/// How often the hub is asked whether the log has come.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Fetches the end of a device's log.
pub(super) async fn logs(context: &Context, id: &str, timeout: u64, no_wait: bool) -> Result<Exit, Failure> {
    let before = context.client.troubles(id).await?.log;
    if no_wait {
        return match before {
            Some(log) => show(context, id, &log),
            None => Err(Failure::new(Exit::NotFound, format!("the hub has no log of {id}"))
                .next(format!("bellwether device logs {id}"))),
        };
    }
    context.client.ask_log(id).await?;
    let bar = ProgressBar::new_spinner().with_message(format!("waiting for {id}"));
    let until = Instant::now() + Duration::from_secs(timeout);
    let known = before.map_or(0, |log| log.at_ms);
    loop {
        bar.tick();
        let log = context.client.troubles(id).await?.log;
        if let Some(log) = log.filter(|log| log.whole && log.at_ms > known) {
            bar.finish_and_clear();
            return show(context, id, &log);
        }
        if Instant::now() >= until {
            bar.finish_and_clear();
            let cause = format!("{id} did not send its log within {timeout} s");
            return Err(Failure::new(Exit::Timeout, cause).next(format!("bellwether device diagnose {id}")));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[expect(clippy::print_stdout, reason = "the log is the result")]
fn show(context: &Context, id: &str, log: &LogView) -> Result<Exit, Failure> {
    if context.output.for_people() {
        print!("{}", log.text);
        return Ok(Exit::Ok);
    }
    context.output.one(log, &[], id)?;
    Ok(Exit::Ok)
}

/// One thing found, and what to do about it.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    what: String,
    next: String,
}

#[derive(Clone, Debug, Serialize)]
struct Diagnosis {
    device: DeviceView,
    findings: Vec<Finding>,
    troubles: TroublesView,
}

/// Looks at everything the hub knows of a device.
pub(super) async fn diagnose(context: &Context, id: &str) -> Result<Exit, Failure> {
    let device = context.client.device(id).await?;
    let troubles = context.client.troubles(id).await?;
    let findings = findings(&device, &troubles);
    let diagnosis = Diagnosis { device, findings, troubles };
    if !context.output.for_people() {
        context.output.one(&diagnosis, &[], id)?;
        return Ok(Exit::Ok);
    }
    context.output.list(
        &diagnosis.findings,
        &[("FOUND", &|finding: &Finding| finding.what.clone()), ("NEXT", &|finding| finding.next.clone())],
        |finding| finding.what.clone(),
        "nothing is wrong with it: connected, in sync, nothing failed, nothing lost",
    )?;
    for failed in &diagnosis.troubles.failures {
        eprintln!("\n{}", headline(failed));
        for line in failed.log.lines() {
            eprintln!("  {line}");
        }
    }
    Ok(Exit::Ok)
}

fn headline(failed: &FailedView) -> String {
    let mut text = format!("{} {}: {}", failed.model, failed.version, failed.cause);
    if let Some(exit) = &failed.exit {
        text.push_str(&format!(" · {exit}"));
    }
    if let Some(peak) = failed.peak_kib {
        text.push_str(&format!(" · peak memory {} MiB", peak / 1024));
    }
    text
}

fn findings(device: &DeviceView, troubles: &TroublesView) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |what: String, next: String| found.push(Finding { what, next });
    let id = &device.id;
    match device.presence {
        Presence::Online => {}
        Presence::Never => find(
            "it enrolled and never connected".to_owned(),
            "look whether it reaches the broker: its own log says why not".to_owned(),
        ),
        presence @ (Presence::Stale | Presence::Offline) => find(
            format!("it is {}", presence.label()),
            "look at its power and network; it follows by itself when it is back".to_owned(),
        ),
    }
    if let Some(refused) = &device.refused {
        let what = format!("it refused its assignment: {} (code {})", refused.text, refused.code);
        find(what, format!("bellwether device logs {id}"));
    }
    for model in &device.models {
        if let Some((what, next)) = of_model(id, model) {
            find(what, next);
        }
        if let Some(what) = offload::fallen(model) {
            find(what, format!("bellwether device logs {id}"));
        }
    }
    if device.gaps > 0 {
        let what = format!("{} records of it were dropped or refused", device.gaps);
        find(what, "give it more room: outbox_bytes_max in its configuration".to_owned());
    }
    if let Some(failed) = troubles.failures.first() {
        let what = format!("last failure: {} {}: {}", failed.model, failed.version, failed.reject.text);
        find(what, "read its cause and log below".to_owned());
    }
    found
}

fn of_model(id: &str, model: &ModelOnDevice) -> Option<(String, String)> {
    let running = model.active.as_ref().map(|active| active.version);
    let wanted = model.desired_version?;
    if running == Some(wanted) && model.errors == 0 {
        return None;
    }
    if running == Some(wanted) {
        let what = format!("{} {wanted}: {} calls failed", model.name, model.errors);
        return Some((what, format!("bellwether device logs {id}")));
    }
    let runs = running.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
    let why = match &model.reject {
        Some(reject) => format!(": {} (code {})", reject.text, reject.code),
        None => format!(", {}", model.phase.replace('_', " ")),
    };
    let what = format!("{} should be at version {wanted} and runs {runs}{why}", model.name);
    Some((what, format!("bellwether device logs {id}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::RejectView;

    #[test]
    fn a_model_that_is_behind_is_found_with_its_reason() {
        let model = ModelOnDevice {
            name: "digits".to_owned(),
            active: None,
            target: None,
            phase: "rolled_back".to_owned(),
            reject: Some(RejectView { code: 85, text: "too slow".to_owned() }),
            progress: 0,
            desired_version: Some(3),
            rows_scored: 0,
            errors: 0,
            p50_us: None,
            p95_us: None,
            shadow: None,
            offload: None,
        };
        let (what, next) = of_model("gw-1", &model).unwrap();
        assert_eq!(what, "digits should be at version 3 and runs no version: too slow (code 85)");
        assert_eq!(next, "bellwether device logs gw-1");
        assert!(of_model("gw-1", &ModelOnDevice { desired_version: None, ..model }).is_none());
    }
}
