//! Who signed a statement, and how many are missing: `1 given, 2 needed`.

use bellwether_protocol::id::{ModelName, Person};
use bellwether_protocol::trust::{
    Checkpoint, FleetId, KeyClass, KeyEntry, KeyName, KeyStatus, Recall, Release, RoleSet, Root, Signed, StageGrant,
    Statement, TrustedRoot, signing_bytes,
};
use serde::{Deserialize, Serialize};

use super::{Document, Kind};
use crate::cli::failure::Failure;
use crate::cli::release::{Held, refused};

/// One thing that takes signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Need {
    /// What for.
    pub(in crate::cli) what: String,
    /// The persons who signed.
    pub(in crate::cli) given: Vec<String>,
    /// How many must.
    pub(in crate::cli) needed: usize,
}

impl Need {
    fn new(what: &str, given: Vec<&Person>, needed: usize) -> Self {
        Self { what: what.to_owned(), given: given.into_iter().map(ToString::to_string).collect(), needed }
    }

    /// `approvals: 1 given (Bo), 2 needed`.
    pub(in crate::cli) fn line(&self) -> String {
        let by = if self.given.is_empty() { String::new() } else { format!(" ({})", self.given.join(", ")) };
        format!("{}: {} given{by}, {} needed", self.what, self.given.len(), self.needed)
    }
}

/// How far a statement is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Standing {
    /// What it is.
    pub(in crate::cli) kind: &'static str,
    /// What it takes.
    pub(in crate::cli) needs: Vec<Need>,
    /// Signatures that count for nothing, and why.
    pub(in crate::cli) void: Vec<String>,
    /// Whether it holds, by the verifier that devices use.
    pub(in crate::cli) complete: bool,
    /// Why not.
    pub(in crate::cli) because: Option<String>,
}

/// A signature that is good, and whose it is.
type Signers<'r> = Vec<&'r KeyEntry>;

/// Counts. `trusted` is the root that counts; none for a fleet's first root.
pub(in crate::cli) fn standing(document: &Document, trusted: Option<&TrustedRoot>) -> Result<Standing, Failure> {
    let held = document.held()?;
    let signed = held.signed()?;
    let fleet = document.fleet;
    let mut void = Vec::new();
    let (needs, verdict) = match (document.kind, trusted) {
        (Kind::Root, None) => {
            let root: Root = signed.peek().map_err(|reject| refused("the root", reject))?;
            let signers = signers::<Root>(&root, fleet, &signed, &mut void)?;
            (vec![roots("the root", &signers, &root)], TrustedRoot::first(fleet, &signed).map(drop))
        }
        (_, None) => return Err(Failure::error(format!("a {} without a root", document.kind.name()))),
        (Kind::Root, Some(now)) => {
            let root: Root = signed.peek().map_err(|reject| refused("the root", reject))?;
            let old = signers::<Root>(now.root(), fleet, &signed, &mut Vec::new())?;
            let new = signers::<Root>(&root, fleet, &signed, &mut void)?;
            // A key that only the old root lists is not void.
            void.retain(|why: &String| !old.iter().any(|key| why.contains(&key.id().to_string())));
            let needs = vec![roots("under the old root", &old, now.root()), roots("under the new root", &new, &root)];
            (needs, now.next(&signed).map(drop))
        }
        (Kind::Release, Some(now)) => {
            let signers = signers::<Release>(now.root(), fleet, &signed, &mut void)?;
            let release: Release = signed.peek().map_err(|reject| refused("the release", reject))?;
            (release_needs(now.root(), &signers, &release.name), now.approve(&signed).map(drop))
        }
        (Kind::Grant, Some(now)) => {
            let signers = signers::<StageGrant>(now.root(), fleet, &signed, &mut void)?;
            let needed = usize::from(now.root().thresholds.grant);
            let needs = vec![Need::new("the grant", persons(&signers, RoleSet::GRANT), needed)];
            let release = Held::read(document.release.as_deref().unwrap_or_default())?;
            let approved = now.approve(&release.signed()?);
            (needs, approved.and_then(|approved| now.grant(&approved, &signed).map(drop)))
        }
        (Kind::Recall, Some(now)) => {
            let signers = signers::<Recall>(now.root(), fleet, &signed, &mut void)?;
            let needs = vec![Need::new("the recall", persons(&signers, RoleSet::APPROVE), 1)];
            (needs, now.recall(&signed).map(drop))
        }
        (Kind::Checkpoint, Some(now)) => {
            let signers = signers::<Checkpoint>(now.root(), fleet, &signed, &mut void)?;
            let checkpoint: Checkpoint = signed.peek().map_err(|reject| refused("the checkpoint", reject))?;
            let mut given = persons(&signers, RoleSet::APPROVE);
            let needed = if checkpoint.floors.is_empty() {
                given.extend(persons(&signers, RoleSet::WITNESS));
                given.dedup();
                1
            } else {
                usize::from(now.root().thresholds.approve)
            };
            (vec![Need::new("the checkpoint", given, needed)], now.checkpoint(&signed).map(drop))
        }
    };
    let because = verdict.as_ref().err().map(ToString::to_string);
    Ok(Standing { kind: document.kind.name(), needs, void, complete: verdict.is_ok(), because })
}

fn roots(what: &str, signers: &Signers<'_>, root: &Root) -> Need {
    let active: Signers<'_> = signers.iter().copied().filter(|key| key.status == KeyStatus::Active).collect();
    Need::new(what, persons(&active, RoleSet::ROOT), usize::from(root.thresholds.root))
}

fn release_needs(root: &Root, signers: &Signers<'_>, name: &ModelName) -> Vec<Need> {
    let covering: Signers<'_> = signers.iter().copied().filter(|key| key.covers(name)).collect();
    let publishers = persons(&covering, RoleSet::PUBLISH);
    let mut approvers = persons(&covering, RoleSet::APPROVE);
    approvers.retain(|person| !publishers.contains(person));
    let outside = |key: &&&KeyEntry| key.class != KeyClass::Browser && approvers.contains(&&key.person);
    let offline: Vec<&Person> = covering.iter().filter(outside).map(|key| &key.person).take(1).collect();
    let mut needs = vec![
        Need::new("publisher", publishers.clone(), 1),
        Need::new("approvals", approvers.clone(), usize::from(root.thresholds.approve)),
    ];
    if root.offline_approval {
        needs.push(Need::new("approval outside browsers", offline, 1));
    }
    needs
}

/// The keys of this root whose signatures are good; why the others are not goes to `void`.
fn signers<'r, T: Statement + for<'b> Deserialize<'b>>(
    root: &'r Root,
    fleet: FleetId,
    signed: &Signed<'_>,
    void: &mut Vec<String>,
) -> Result<Signers<'r>, Failure> {
    let message = signing_bytes::<T>(fleet, signed.body).map_err(|reject| refused("the statement", reject))?;
    let mut good = Signers::new();
    for signature in &signed.signatures {
        match root.named(signature.key) {
            None => void.push(said(signature.key, "is not in the root")),
            Some(key) if key.status == KeyStatus::Revoked => void.push(said(signature.key, "is revoked")),
            Some(key) if !key.public.verifies(&message, &signature.bytes) => {
                void.push(said(signature.key, "did not make this signature"));
            }
            Some(key) => good.push(key),
        }
    }
    Ok(good)
}

fn said(key: KeyName, why: &str) -> String {
    format!("the key {key} {why}")
}

fn persons<'r>(signers: &Signers<'r>, role: RoleSet) -> Vec<&'r Person> {
    let mut persons = Vec::new();
    for key in signers.iter().filter(|key| key.roles.contains(role)) {
        if !persons.contains(&&key.person) {
            persons.push(&key.person);
        }
    }
    persons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::release::{Chain, body_of, signed_by};
    use crate::cli::root::body::tests::{key, person, small};
    use crate::cli::root::body::{Changes, next};
    use bellwether_protocol::trust::sign;

    /// The chain of the small root, and its next version signed by these.
    fn rotated(seeds: &[u8]) -> (TrustedRoot, Document) {
        let first = small();
        let body = body_of(&first).unwrap();
        let fleet = FleetId::of_root(&body);
        let signatures = |body: &[u8], seeds: &[u8]| -> Vec<_> {
            seeds.iter().map(|seed| sign::<Root>(fleet, body, &key(*seed)).unwrap()).collect()
        };
        let held = signed_by::<Root>(fleet, &body, &[]).unwrap().with(&signatures(&body, &[2, 3])).unwrap();
        let chain = Chain::walk(fleet, vec![held.text()]).unwrap();
        let decides = RoleSet::APPROVE.with(RoleSet::ROOT);
        let changes = Changes {
            add: vec![person(4, "Dee", decides)],
            end: vec![(first.keys[2].id(), KeyStatus::Revoked)],
            ..Changes::default()
        };
        let body = body_of(&next(&first, &changes).unwrap()).unwrap();
        let held = signed_by::<Root>(fleet, &body, &[]).unwrap().with(&signatures(&body, seeds)).unwrap();
        (chain.trusted.clone(), Document::new(Kind::Root, &chain, &held))
    }

    fn lines(seeds: &[u8]) -> (Vec<String>, bool) {
        let (trusted, document) = rotated(seeds);
        let standing = standing(&document, Some(&trusted)).unwrap();
        (standing.needs.iter().map(Need::line).collect(), standing.complete)
    }

    #[test]
    fn a_rotation_takes_the_old_threshold_and_the_new() {
        assert_eq!(
            lines(&[2]),
            (
                vec![
                    "under the old root: 1 given (Bo), 2 needed".to_owned(),
                    "under the new root: 1 given (Bo), 2 needed".to_owned()
                ],
                false
            )
        );
        // Cy may sign away his own key, which then counts for the old root only.
        let (said, complete) = lines(&[2, 3]);
        assert!(!complete && said[0].contains("2 given (Bo, Cy)") && said[1].contains("1 given (Bo)"), "{said:?}");
        let (said, complete) = lines(&[2, 3, 4]);
        assert!(complete && said[1].contains("2 given (Bo, Dee)"), "{said:?}");
        let (said, complete) = lines(&[2, 4]);
        assert!(!complete && said[0].contains("1 given (Bo)"), "Dee is new: {said:?}");
    }

    #[test]
    fn a_strangers_signature_is_named_and_counts_for_nothing() {
        let (trusted, document) = rotated(&[2, 9]);
        let standing = standing(&document, Some(&trusted)).unwrap();
        assert_eq!(standing.void.len(), 1, "{:?}", standing.void);
        assert!(standing.void[0].contains("is not in the root"));
    }
}
