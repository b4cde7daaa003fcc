//! What approvers sign: releases, after checking the very package, and grants of stages, after
//! looking at what devices report.

use std::path::Path;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::heapless;
use bellwether_protocol::id::ModelRef;
use bellwether_protocol::limit::{BUCKETS, GRANT_DEVICES_MAX};
use bellwether_protocol::trust::{Cohort, KeyId, Release, RoleSet, StageGrant};

use super::Context;
use super::ask::confirm;
use super::ceremony::{Approve, Grant};
use super::evidence::compare::with_running;
use super::evidence::{Evidence, stage};
use super::failure::{Exit, Failure};
use super::handover::{Document, Kind, hand_over};
use super::key::signers;
use super::model::{contents, show, verified_package};
use super::release::{Chain, Held, body_of, chain, may_sign, refused, signed_by};
use super::signer::Signer;
use crate::api::types::{CohortView, GrantView};

pub(super) async fn approve(context: &Context, given: Approve) -> Result<Exit, Failure> {
    let Approve { model, key, yes, dry_run, out, source } = given;
    let chain = chain(context).await?;
    let root = &chain.trusted;
    let signer = key.map(|key| Signer::find(&context.home, &key)).transpose()?;
    if let Some(signer) = &signer {
        // Before the work, not after it.
        may_sign(root, signer, RoleSet::APPROVE, "approve")?;
    }
    let source = source.as_deref().map(contents).transpose()?;
    let (held, release) = release_of(context, &model).await?;
    let package = verified_package(context, &release).await?;
    let mut evidence = Evidence::of(&package, Some(&release), source.as_deref())?;
    evidence.against = Some(with_running(context, &model, &release).await?);
    for line in evidence.lines() {
        eprintln!("{line}");
    }
    let digest = held.signed()?.digest();
    eprintln!("digest    {digest}\nin words  {}", crate::words::words(&digest));
    let (Some(signer), false) = (signer, dry_run) else {
        let fields = [("version", model.to_string()), ("package", evidence.package.clone())];
        context.output.one(&evidence, &fields, &model.to_string())?;
        return evidence.demand().map(|()| Exit::Ok);
    };
    evidence.demand()?;
    confirm(&format!("Approve {model} as {}?", signer.name()), yes)?;
    let body = held.signed()?.body.to_vec();
    let statement = signed_by::<Release>(root.fleet(), &body, std::slice::from_ref(&signer))?;
    if let Some(out) = out {
        let statement = held.with(&statement.signed()?.signatures)?;
        let document = Document { model: Some(model), ..Document::new(Kind::Release, &chain, &statement) };
        return hand_over(context, &document, &out);
    }
    let view = context.client.add_signature(model.name.as_str(), model.version.number(), statement.text()).await?;
    show(context, &view)
}

/// The release as the hub has it, and that it is the one asked for.
pub(super) async fn release_of(context: &Context, model: &ModelRef) -> Result<(Held, Release), Failure> {
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
    let named = CohortView::Devices(given.devices.iter().map(ToString::to_string).collect());
    let mut cohorts: Vec<CohortView> = if given.devices.is_empty() { Vec::new() } else { vec![named] };
    cohorts.extend(given.percents.iter().copied().map(CohortView::Percent));
    let stages = Stages::ready(context, &given.model, &given.keys).await?;
    let before = stages.before(context).await?;
    if !given.force {
        before.demand()?;
    }
    let labels: Vec<String> = cohorts.iter().map(CohortView::label).collect();
    confirm(&format!("Let {} reach {}?", given.model, labels.join(", then ")), given.yes)?;
    if let Some(out) = given.out {
        return stages.write(context, &cohorts, &out).await;
    }
    let granted = stages.post(context, &cohorts).await?;
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

/// Signs and posts a grant for each cohort of a release that is approved, after telling what devices
/// report of it so far.
pub(super) async fn sign_grants(
    context: &Context,
    model: &ModelRef,
    cohorts: &[CohortView],
    keys: &[String],
) -> Result<Vec<GrantView>, Failure> {
    let stages = Stages::ready(context, model, keys).await?;
    stages.before(context).await?;
    stages.post(context, cohorts).await
}

/// A release whose approval was checked here, and who signs its grants.
struct Stages {
    chain: Chain,
    held: Held,
    release: Release,
    digest: Digest,
    signers: Vec<Signer>,
}

impl Stages {
    async fn ready(context: &Context, model: &ModelRef, keys: &[String]) -> Result<Self, Failure> {
        let signers = signers(&context.home, keys)?;
        let chain = chain(context).await?;
        for signer in &signers {
            may_sign(&chain.trusted, signer, RoleSet::GRANT, "grant")?;
        }
        let (held, release) = release_of(context, model).await?;
        let approved = chain.trusted.approve(&held.signed()?).map_err(|reject| {
            Failure::new(Exit::Conflict, format!("{model} is not approved: {reject}"))
                .next(format!("bellwether approve {model} --key KEY"))
        })?;
        Ok(Self { digest: approved.digest(), chain, held, release, signers })
    }

    /// What devices report that were granted it before, told to whoever signs.
    async fn before(&self, context: &Context) -> Result<stage::Before, Failure> {
        let before = stage::before(context, self.chain.trusted.fleet(), &self.release, self.digest).await?;
        for line in before.lines() {
            eprintln!("{line}");
        }
        Ok(before)
    }

    async fn sign(&self, context: &Context, cohort: &CohortView) -> Result<Held, Failure> {
        let cohort = resolve(context, cohort).await?;
        let grant = StageGrant { release: self.digest, cohort, gate: Digest::default(), checkpoint: 0, validity: None };
        signed_by::<StageGrant>(self.chain.trusted.fleet(), &body_of(&grant)?, &self.signers)
    }

    async fn post(&self, context: &Context, cohorts: &[CohortView]) -> Result<Vec<GrantView>, Failure> {
        let (name, version) = (self.release.name.as_str(), self.release.version.number());
        let mut granted = Vec::new();
        for cohort in cohorts {
            let statement = self.sign(context, cohort).await?.text();
            granted.push(context.client.post_grant(name, version, statement).await?);
        }
        Ok(granted)
    }

    async fn write(&self, context: &Context, cohorts: &[CohortView], out: &Path) -> Result<Exit, Failure> {
        let [cohort] = cohorts else {
            return Err(Failure::new(Exit::Usage, "a file holds the grant of one stage")
                .next("run it once for each stage, with another --out"));
        };
        let document = Document {
            model: Some(self.release.model()),
            release: Some(self.held.text()),
            ..Document::new(Kind::Grant, &self.chain, &self.sign(context, cohort).await?)
        };
        hand_over(context, &document, out)
    }
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
pub(super) fn buckets(percent: f64) -> u16 {
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
