//! Signing as an approver: releases after checking the very package, and grants of stages.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::heapless;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::limit::{BUCKETS, GRANT_DEVICES_MAX};
use bellwether_protocol::trust::{Cohort, KeyId, Release, RoleSet, StageGrant};
use bellwether_runtime::examine;
use bellwether_runtime::prepare::tensors_digest;

use super::Context;
use super::args::{Approve, Grant};
use super::failure::{Exit, Failure};
use super::key::private_half;
use super::model::{show, verified_package};
use super::release::{Held, body_of, may_sign, refused, signed_by, trusted_root};
use crate::api::types::{CohortView, GrantView};

pub(super) async fn approve(context: &Context, given: Approve) -> Result<Exit, Failure> {
    let Approve { model, key } = given;
    let signing = private_half(&context.home, &key)?;
    let root = trusted_root(context).await?;
    may_sign(&root, &key, &signing, RoleSet::APPROVE, "approve")?;
    let (held, release) = release_of(context, &model).await?;
    let package = verified_package(context, &release).await?;
    let examined = examine(&package).map_err(|fault| {
        Failure::new(Exit::Conflict, format!("the package of {model}: {fault}")).next("do not sign it")
    })?;
    let tensors =
        tensors_digest(&examined.manifest.tensors).map_err(|reject| refused("the tensor signature", reject))?;
    if examined.manifest.name != model.name || examined.source != release.source || tensors != release.tensors {
        return Err(Failure::new(Exit::Conflict, format!("the release of {model} does not describe its package"))
            .next("do not sign it; ask the publisher to register it again"));
    }
    let digest = held.signed()?.digest();
    eprintln!("digest    {digest}\nin words  {}", crate::words::words(&digest));
    say(&model, &release, examined.golden.as_ref().map(ToString::to_string));
    let body = held.signed()?.body.to_vec();
    let statement = signed_by::<Release>(root.fleet(), &body, &[signing])?;
    let view = context.client.add_signature(model.name.as_str(), model.version.number(), statement).await?;
    show(context, &view)
}

/// What is about to be signed, on stderr.
fn say(model: &ModelRef, release: &Release, golden: Option<String>) {
    let [major, minor, patch] = release.requires.agent;
    eprintln!("signing the release of {model}");
    eprintln!("  package   {} ({} bytes), checked here", release.package.digest, release.package.size);
    eprintln!("  golden    {}", golden.unwrap_or_else(|| "UNCHECKED: it came without vectors".to_owned()));
    let operators = release.requires.operators;
    eprintln!(
        "  requires  agent {major}.{minor}.{patch}, operator set {operators}, {} KiB",
        release.requires.memory_kib
    );
    if release.security_floor > 0 {
        eprintln!("  floor     no way back below version {}", release.security_floor);
    }
}

/// The release as the hub has it, and that it is the one asked for.
async fn release_of(context: &Context, model: &ModelRef) -> Result<(Held, Release), Failure> {
    let view = context.client.release(model.name.as_str(), model.version.number()).await?;
    let held = Held::read(&view.statement)?;
    let release: Release = held.signed()?.peek().map_err(|reject| refused("the release", reject))?;
    if release.model() != *model {
        return Err(Failure::new(
            Exit::Conflict,
            format!("the hub's release of {model} is that of {}", release.model()),
        )
        .next("do not sign it; tell whoever runs the hub"));
    }
    Ok((held, release))
}

pub(super) async fn grant(context: &Context, given: Grant) -> Result<Exit, Failure> {
    let Grant { model, devices, percents, keys } = given;
    let named = CohortView::Devices(devices.iter().map(ToString::to_string).collect());
    let mut cohorts: Vec<CohortView> = if devices.is_empty() { Vec::new() } else { vec![named] };
    cohorts.extend(percents.into_iter().map(CohortView::Percent));
    let granted = sign_grants(context, &model, &cohorts, &keys).await?;
    context.output.list(
        &granted,
        &[
            ("VERSION", &|grant| format!("{}:{}", grant.model, grant.version)),
            ("REACHES", &|grant| grant.cohort.label()),
            ("SIGNED BY", &|grant| grant.persons.join(", ")),
        ],
        |grant| grant.cohort.label(),
        "nothing granted",
    )?;
    Ok(Exit::Ok)
}

/// Signs and posts a grant for each cohort of a release that is approved.
pub(super) async fn sign_grants(
    context: &Context,
    model: &ModelRef,
    cohorts: &[CohortView],
    keys: &[String],
) -> Result<Vec<GrantView>, Failure> {
    let signing: Result<Vec<_>, _> = keys.iter().map(|key| private_half(&context.home, key)).collect();
    let signing = signing?;
    let root = trusted_root(context).await?;
    for (name, key) in keys.iter().zip(&signing) {
        may_sign(&root, name, key, RoleSet::GRANT, "grant")?;
    }
    let (held, _) = release_of(context, model).await?;
    let approved = root.approve(&held.signed()?).map_err(|reject| {
        Failure::new(Exit::Conflict, format!("{model} is not approved: {reject}"))
            .next(format!("bellwether approve {model} --key KEY"))
    })?;
    let mut granted = Vec::new();
    for cohort in cohorts {
        let cohort = resolve(context, cohort).await?;
        let grant =
            StageGrant { release: approved.digest(), cohort, gate: Digest::default(), checkpoint: 0, validity: None };
        let statement = signed_by::<StageGrant>(root.fleet(), &body_of(&grant)?, &signing)?;
        granted.push(context.client.post_grant(model.name.as_str(), model.version.number(), statement).await?);
    }
    Ok(granted)
}

/// Device names become the ids of their keys: that is what a device checks.
async fn resolve(context: &Context, cohort: &CohortView) -> Result<Cohort, Failure> {
    let names = match cohort {
        CohortView::Percent(percent) => return Ok(Cohort::Buckets(buckets(*percent))),
        CohortView::Devices(names) => names,
    };
    let mut keys: heapless::Vec<KeyId, GRANT_DEVICES_MAX> = heapless::Vec::new();
    for name in names {
        let device = context.client.device(name).await?;
        let key = device.key.parse().map_err(|bad| Failure::error(format!("the key of {name}: {bad}")))?;
        keys.push(key).map_err(|_| {
            Failure::new(Exit::Usage, format!("one grant names at most {GRANT_DEVICES_MAX} devices"))
                .next("grant a share of the fleet: --percent 25")
        })?;
    }
    Ok(Cohort::Devices(keys))
}

/// A share in percent as buckets of a thousand, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 1..=1000 before")]
fn buckets(percent: f64) -> u16 {
    (percent * f64::from(BUCKETS) / 100.0).round().clamp(1.0, f64::from(BUCKETS)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_buckets() {
        assert_eq!([buckets(25.0), buckets(100.0), buckets(0.5), buckets(0.01)], [250, 1000, 5, 1]);
    }
}
