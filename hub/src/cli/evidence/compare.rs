//! What changes against the version that runs on the fleet. What is not in the release itself is
//! told by the hub and marked so: nobody signed it.

use std::collections::BTreeMap;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::trust::Release;
use serde::Serialize;

use crate::api::types::{TensorView, VersionView};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::release::{Held, refused};

/// One version beside another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Compared {
    /// The version that runs; none if the model is new to the fleet.
    pub(in crate::cli) running: Option<u32>,
    /// On how many devices.
    pub(in crate::cli) devices: u32,
    /// What is signed and differs.
    pub(in crate::cli) signed: Vec<Difference>,
    /// What the hub tells and differs.
    pub(in crate::cli) told: Vec<Difference>,
    /// What the publisher says it is.
    pub(in crate::cli) description: String,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Difference {
    /// What.
    pub(in crate::cli) what: String,
    /// In the version that runs.
    pub(in crate::cli) before: String,
    /// In this one.
    pub(in crate::cli) now: String,
}

impl Compared {
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let mut lines = vec![match self.running {
            Some(version) => format!("against version {version}, which runs on {} devices", self.devices),
            None => "no other version of it runs".to_owned(),
        }];
        let line = |one: &Difference, by: &str| format!("      {:14} {} -> {}{by}", one.what, one.before, one.now);
        lines.extend(self.signed.iter().map(|one| line(one, "")));
        lines.extend(self.told.iter().map(|one| line(one, " (told by the hub)")));
        if !self.description.is_empty() {
            lines.push(format!("      description    {} (told by the hub)", self.description));
        }
        lines
    }
}

/// Compares a release with the version that most devices run.
pub(in crate::cli) async fn with_running(
    context: &Context,
    model: &ModelRef,
    release: &Release,
) -> Result<Compared, Failure> {
    let name = model.name.as_str();
    let now = context.client.version(name, model.version.number()).await?;
    let running = context.client.model(name).await?.model.running;
    let most = running.into_iter().filter(|(version, _)| *version != model.version.number());
    let description = now.description.clone();
    let Some((version, devices)) = most.max_by_key(|(_, devices)| *devices) else {
        return Ok(Compared { running: None, devices: 0, signed: Vec::new(), told: told(None, &now), description });
    };
    let before = match context.client.version(name, version).await {
        // A hub that was restored from a backup has forgotten what its devices run.
        Err(error) if error.problem().is_some_and(|problem| problem.status == 404) => {
            let told = vec![Difference {
                what: "the hub".to_owned(),
                before: format!("does not know version {version}: it was restored from a backup"),
                now: "nothing can be compared".to_owned(),
            }];
            return Ok(Compared { running: Some(version), devices, signed: Vec::new(), told, description });
        }
        found => found?,
    };
    let statement = Held::read(&context.client.release(name, version).await?.statement)?;
    let old: Release = statement.signed()?.peek().map_err(|reject| refused("the release that runs", reject))?;
    let told = told(Some(&before), &now);
    Ok(Compared { running: Some(version), devices, signed: signed(&old, release), told, description })
}

/// What both releases say, where it differs.
fn signed(old: &Release, new: &Release) -> Vec<Difference> {
    let of = |release: &Release| {
        let [major, minor, patch] = release.requires.agent;
        [
            ("source", release.source.to_string()),
            ("size", format!("{} bytes", release.package.size)),
            ("memory", format!("{} KiB", release.requires.memory_kib)),
            ("operator set", release.requires.operators.to_string()),
            ("agent", format!("{major}.{minor}.{patch}")),
            ("tensors", release.tensors.to_string()),
            ("floor", release.security_floor.to_string()),
        ]
    };
    differing(of(old), of(new))
}

/// What the hub tells of both versions, where it differs.
fn told(before: Option<&VersionView>, now: &VersionView) -> Vec<Difference> {
    let of = |version: &VersionView| {
        let git = version.git.as_ref().map(|git| {
            format!("{} on {}{}", git.commit, git.branch, if git.dirty { " with uncommitted changes" } else { "" })
        });
        let policy = version.policy;
        let budget = policy.max_p95_us.map(|us| format!("{} ms", f64::from(us) / 1000.0));
        [
            ("inputs", tensors(&version.inputs)),
            ("outputs", tensors(&version.outputs)),
            ("parameters", version.facts.as_ref().map(|facts| facts.parameters.to_string()).unwrap_or_default()),
            ("tags", tags(&version.tags)),
            ("git", git.unwrap_or_default()),
            ("dataset", version.dataset.clone().unwrap_or_default()),
            ("run", version.run.clone().unwrap_or_default()),
            ("budget", budget.unwrap_or_default()),
            ("collects", format!("1 in {}, below {} per mille", policy.collect_one_in, policy.collect_below)),
            ("baseline", format!("{} columns", version.baseline_columns)),
            ("golden rows", version.golden.rows.map(|rows| rows.to_string()).unwrap_or_default()),
            ("registered by", version.registered_by.clone()),
        ]
    };
    match before {
        Some(before) => differing(of(before), of(now)),
        None => differing(of(now).map(|(what, _)| (what, String::new())), of(now)),
    }
}

fn differing<const N: usize>(before: [(&str, String); N], now: [(&str, String); N]) -> Vec<Difference> {
    let both = before.into_iter().zip(now).filter(|((_, before), (_, now))| before != now);
    let shown = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    both.map(|((what, before), (_, now))| Difference { what: what.to_owned(), before: shown(before), now: shown(now) })
        .collect()
}

fn tensors(all: &[TensorView]) -> String {
    let one = |tensor: &TensorView| format!("{} {} {:?}", tensor.name, tensor.datatype, tensor.shape);
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn tags(tags: &BTreeMap<String, String>) -> String {
    crate::cli::model::joined(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_said() {
        let before = [("size", "1".to_owned()), ("git", String::new()), ("agent", "0.1.0".to_owned())];
        let now = [("size", "2".to_owned()), ("git", "abc".to_owned()), ("agent", "0.1.0".to_owned())];
        let found = differing(before, now);
        let compared =
            Compared { running: Some(1), devices: 3, signed: found, told: Vec::new(), description: String::new() };
        let lines = compared.lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].contains("1 -> 2") && lines[2].contains("- -> abc"), "{lines:?}");
    }
}
