//! Taking versions out of use: recalls, and checkpoints that say which recalls and floors there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::heapless;
use bellwether_protocol::id::{ModelName, ModelRef, Version};
use bellwether_protocol::limit::{MODELS_MAX, RECALL_RELEASES_MAX, RECALLS_MAX};
use bellwether_protocol::trust::{Checkpoint, Floor, Otherwise, Recall, Recalled, RoleSet, Signed, TrustedRoot};

use super::Context;
use super::ask::confirm;
use super::ceremony;
use super::failure::{Exit, Failure};
use super::handover::{Document, Kind, add, hand_over, says, standing};
use super::key::signers;
use super::release::{Chain, Held, body_of, chain, may_sign};
use super::sign::release_of;
use super::signer::Signer;
use crate::api::types::{DeviceQuery, LIMIT_MAX};

pub(super) async fn recall(context: &Context, given: ceremony::Recall) -> Result<Exit, Failure> {
    let chain = chain(context).await?;
    let signers = signers(&context.home, &given.keys)?;
    for signer in &signers {
        may_sign(&chain.trusted, signer, RoleSet::APPROVE, "recall")?;
    }
    let digests = releases(context, &given.model).await?;
    let releases = heapless::Vec::from_slice(&digests).map_err(|_| {
        Failure::new(Exit::Conflict, format!("one recall names at most {RECALL_RELEASES_MAX} releases"))
            .next("raise a floor instead: bellwether checkpoint --floor MODEL:VERSION")
    })?;
    let otherwise = if given.stop { Otherwise::Stop } else { Otherwise::Keep };
    let recall = Recall { name: given.model.name.clone(), releases, otherwise };
    let document = document(Kind::Recall, &chain, &body_of(&recall)?, Some(given.model.clone()))?;
    let Some(signed) = signed(context, &chain, &document, &signers, (given.yes, given.out.as_deref()))? else {
        return Ok(Exit::Ok);
    };
    context.client.post_recall(signed.statement).await?;
    eprintln!("{} is recalled; `bellwether device list` shows who still runs it", given.model);
    Ok(Exit::Ok)
}

/// The release of a version, and every other that devices report of it: a renewed one has several.
async fn releases(context: &Context, model: &ModelRef) -> Result<Vec<Digest>, Failure> {
    let (held, _) = release_of(context, model).await?;
    let mut found: BTreeSet<Digest> = BTreeSet::from([held.signed()?.digest()]);
    let mut query = DeviceQuery { limit: Some(LIMIT_MAX), ..DeviceQuery::default() };
    loop {
        let page = context.client.devices(&query).await?;
        let models = page.items.iter().flat_map(|device| &device.models).filter(|on| on.name == model.name.as_str());
        let running = models.flat_map(|on| [&on.active, &on.target]).flatten();
        let version = model.version.number();
        found.extend(running.filter(|one| one.version == version).filter_map(|one| one.release.parse::<Digest>().ok()));
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(found.into_iter().collect()),
        }
    }
}

pub(super) async fn checkpoint(context: &Context, given: ceremony::NewCheckpoint) -> Result<Exit, Failure> {
    let chain = chain(context).await?;
    let signers = signers(&context.home, &given.keys)?;
    let known = Known::of(context, &chain.trusted).await?;
    let checkpoint = known.next(&given.floors)?;
    let document = document(Kind::Checkpoint, &chain, &body_of(&checkpoint)?, None)?;
    let Some(signed) = signed(context, &chain, &document, &signers, (given.yes, given.out.as_deref()))? else {
        return Ok(Exit::Ok);
    };
    context.client.post_checkpoint(signed.statement).await?;
    eprintln!("checkpoint {} is signed", checkpoint.number);
    Ok(Exit::Ok)
}

/// What is in force, each statement checked here.
#[derive(Debug, Default)]
struct Known {
    number: u64,
    /// By model and release: whether nothing answers rather than this.
    recalls: BTreeMap<(ModelName, Digest), bool>,
    floors: BTreeMap<ModelName, Version>,
}

impl Known {
    async fn of(context: &Context, root: &TrustedRoot) -> Result<Self, Failure> {
        let mut known = Self::default();
        if let Some(view) = context.client.checkpoint().await? {
            let held = Held::read(&view.statement)?;
            // One that does not hold any more, its key being revoked, still used its number up.
            known.number = view.number;
            if let Ok(checkpoint) = root.checkpoint(&held.signed()?) {
                known.number = known.number.max(checkpoint.number);
                for one in checkpoint.recalls {
                    known.recalled(one.name, one.release, one.stop);
                }
                known.floors.extend(checkpoint.floors.into_iter().map(|floor| (floor.name, floor.version)));
            }
        }
        for view in context.client.recalls().await?.items {
            let held = Held::read(&view.statement)?;
            let Ok(recall) = root.recall(&held.signed()?) else { continue };
            for release in recall.releases {
                known.recalled(recall.name.clone(), release, recall.otherwise == Otherwise::Stop);
            }
        }
        Ok(known)
    }

    fn recalled(&mut self, name: ModelName, release: Digest, stop: bool) {
        *self.recalls.entry((name, release)).or_default() |= stop;
    }

    /// The checkpoint after the latest; floors only rise.
    fn next(mut self, floors: &[ModelRef]) -> Result<Checkpoint, Failure> {
        for floor in floors {
            match self.floors.get(&floor.name) {
                Some(now) if *now > floor.version => {
                    return Err(Failure::new(
                        Exit::Conflict,
                        format!("the floor of {} is version {now}: floors do not go down", floor.name),
                    ));
                }
                _ => drop(self.floors.insert(floor.name.clone(), floor.version)),
            }
        }
        let full = |what: &str, most: usize| {
            Failure::new(Exit::Conflict, format!("a checkpoint holds at most {most} {what}"))
                .next("raise a floor above what was recalled: bellwether checkpoint --floor MODEL:VERSION")
        };
        let mut recalls: heapless::Vec<Recalled, RECALLS_MAX> = heapless::Vec::new();
        for ((name, release), stop) in self.recalls {
            recalls.push(Recalled { name, release, stop }).map_err(|_| full("recalls", RECALLS_MAX))?;
        }
        let mut listed: heapless::Vec<Floor, MODELS_MAX> = heapless::Vec::new();
        for (name, version) in self.floors {
            listed.push(Floor { name, version }).map_err(|_| full("floors", MODELS_MAX))?;
        }
        let number = self.number.checked_add(1).ok_or_else(|| Failure::error("checkpoints are used up"))?;
        Ok(Checkpoint { number, recalls, floors: listed })
    }
}

fn document(kind: Kind, chain: &Chain, body: &[u8], model: Option<ModelRef>) -> Result<Document, Failure> {
    let unsigned = Held::of(&Signed { body, signatures: heapless::Vec::new() })?;
    Ok(Document { model, ..Document::new(kind, chain, &unsigned) })
}

/// Shows, asks, signs. Gives the document to be sent; nothing if it was written to a file.
fn signed(
    context: &Context,
    chain: &Chain,
    document: &Document,
    signers: &[Signer],
    (yes, out): (bool, Option<&Path>),
) -> Result<Option<Document>, Failure> {
    for line in says(document, Some(&chain.trusted))? {
        eprintln!("{line}");
    }
    confirm("Sign this?", yes)?;
    let signed = add(document, signers)?;
    if let Some(out) = out {
        hand_over(context, &signed, out)?;
        return Ok(None);
    }
    let standing = standing(&signed, Some(&chain.trusted))?;
    if !standing.complete {
        let because = standing.because.unwrap_or_default();
        let cause = format!("the {} does not hold with these keys: {because}", standing.kind);
        return Err(Failure::new(Exit::NotAllowed, cause).next("hand it over to whoever else must sign: --out FILE"));
    }
    Ok(Some(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_counts_up_keeps_what_is_in_force_and_lowers_no_floor() {
        let digits: ModelName = "digits".parse().unwrap();
        let mut known = Known { number: 4, ..Known::default() };
        known.recalled(digits.clone(), Digest::of(b"a"), false);
        known.recalled(digits.clone(), Digest::of(b"a"), true);
        known.floors.insert(digits.clone(), "3".parse().unwrap());
        let floors = |text: &str| [text.parse::<ModelRef>().unwrap()];
        let again = || Known { number: 4, recalls: known.recalls.clone(), floors: known.floors.clone() };
        let next = again().next(&floors("digits:5")).unwrap();
        assert_eq!((next.number, next.recalls.len(), next.recalls[0].stop), (5, 1, true));
        assert_eq!(next.floors[0].version, "5".parse().unwrap());
        assert!(again().next(&floors("digits:2")).is_err());
        assert_eq!(again().next(&[]).unwrap().floors[0].version, "3".parse().unwrap());
        let last = Known { number: u64::MAX, ..Known::default() };
        assert!(last.next(&[]).is_err());
    }
}
