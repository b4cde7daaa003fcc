//! What devices of the stage before report, for whoever signs the next grant. Which devices these
//! are is computed here, from the release's salt and the devices' keys; what they report counts by
//! their own signatures.

use std::collections::BTreeMap;

use bellwether_hub_core::fleet::Standing;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::trust::{Cohort, FleetId, Release};
use serde::Serialize;

use super::reports::{Said, each};
use crate::api::types::{CohortView, Presence};
use crate::cli::Context;
use crate::cli::failure::{Exit, Failure};

/// Names shown of devices in one state.
const NAMES_MAX: usize = 10;

/// The devices that earlier grants reach, by what they report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Before {
    /// Whom the grants so far reach.
    pub(in crate::cli) reaches: Vec<String>,
    /// All of them that are enrolled.
    pub(in crate::cli) total: usize,
    /// They committed it, and it answers.
    pub(in crate::cli) healthy: usize,
    /// They rejected it or went back, by code and meaning.
    pub(in crate::cli) failed: BTreeMap<String, Vec<String>>,
    /// Not connected, and neither healthy nor failed.
    pub(in crate::cli) silent: Vec<String>,
    /// The hub has a report of theirs that they did not sign.
    pub(in crate::cli) forged: Vec<String>,
    /// The others.
    pub(in crate::cli) on_the_way: usize,
}

impl Before {
    /// Refuses a wider stage after one in which nothing works, or of which the hub tells lies.
    pub(in crate::cli) fn demand(&self) -> Result<(), Failure> {
        if !self.forged.is_empty() {
            let cause = format!("the hub has reports that their devices did not sign: {}", shown(&self.forged));
            return Err(Failure::new(Exit::Conflict, cause)
                .next("sign nothing, and treat the hub as taken over: docs/security.md, drills"));
        }
        if self.total == 0 || self.healthy > 0 {
            return Ok(());
        }
        let cause = format!("of the {} devices that were granted it, none is healthy", self.total);
        Err(Failure::new(Exit::Conflict, cause)
            .next("`bellwether rollout status` says what they wait for; --force signs all the same"))
    }

    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        if self.reaches.is_empty() {
            return vec!["no grant before this one".to_owned()];
        }
        let mut lines = vec![format!(
            "granted so far: {}; of {} devices {} healthy, {} on the way, by their own signed reports",
            self.reaches.join(", "),
            self.total,
            self.healthy,
            self.on_the_way
        )];
        lines.extend(self.failed.iter().map(|(why, devices)| format!("  failed: {why}: {}", shown(devices))));
        if !self.silent.is_empty() {
            lines.push(format!("  silent: {}", shown(&self.silent)));
        }
        if !self.forged.is_empty() {
            lines.push(format!("  NOT THEIR OWN WORDS, the signature does not hold: {}", shown(&self.forged)));
        }
        lines
    }

    fn count(&mut self, said: Said, release: &Release, digest: Digest) {
        self.total += 1;
        match said.standing(release, digest) {
            _ if said.forged => self.forged.push(said.device),
            Some(Standing::Healthy) => self.healthy += 1,
            Some(Standing::Failed(reject)) => {
                self.failed.entry(format!("{reject} (code {})", reject.code())).or_default().push(said.device);
            }
            _ if said.presence != Presence::Online => self.silent.push(said.device),
            _ => self.on_the_way += 1,
        }
    }
}

fn shown(devices: &[String]) -> String {
    let some: Vec<&str> = devices.iter().map(String::as_str).take(NAMES_MAX).collect();
    let rest = devices.len().saturating_sub(NAMES_MAX);
    if rest > 0 { format!("{} and {rest} more", some.join(", ")) } else { some.join(", ") }
}

/// What the devices report that grants of this release reach so far.
pub(in crate::cli) async fn before(
    context: &Context,
    fleet: FleetId,
    release: &Release,
    digest: Digest,
) -> Result<Before, Failure> {
    let grants = context.client.grants(release.name.as_str(), release.version.number()).await?.items;
    let cohorts: Vec<CohortView> = grants.into_iter().map(|grant| grant.cohort).collect();
    let mut found = Before { reaches: cohorts.iter().map(CohortView::label).collect(), ..Before::default() };
    if !cohorts.is_empty() {
        let reached = |said: &Said| reached(&cohorts, fleet, release, said);
        each(context, fleet, |said| {
            if reached(&said) {
                found.count(said, release, digest);
            }
        })
        .await?;
    }
    Ok(found)
}

fn reached(cohorts: &[CohortView], fleet: FleetId, release: &Release, said: &Said) -> bool {
    cohorts.iter().any(|cohort| match cohort {
        CohortView::Devices(names) => names.contains(&said.device),
        CohortView::Percent(percent) => {
            Cohort::Buckets(crate::cli::sign::buckets(*percent)).reaches(fleet, &release.salt, said.key.id())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_in_which_nothing_works_blocks_the_next_and_an_empty_one_does_not() {
        let mut before = Before { reaches: vec!["gw-1".to_owned()], total: 1, ..Before::default() };
        before.failed.insert("golden vectors not reproduced (code 41)".to_owned(), vec!["gw-1".to_owned()]);
        assert!(before.demand().is_err());
        assert!(before.lines().join("\n").contains("code 41): gw-1"));
        before.healthy = 1;
        before.demand().unwrap();
        before.forged.push("gw-2".to_owned());
        assert!(before.demand().is_err());
        assert!(before.lines().join("\n").contains("NOT THEIR OWN WORDS"));
        Before::default().demand().unwrap();
    }

    #[test]
    fn a_long_list_of_devices_is_cut() {
        let many: Vec<String> = (0..13).map(|n| format!("d{n}")).collect();
        assert!(shown(&many).ends_with("d9 and 3 more"));
    }
}
