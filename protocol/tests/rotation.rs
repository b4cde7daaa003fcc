//! Roots that follow one another, recalls, checkpoints and logical time: what the counters keep.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that fails says where, and that is what it is for")]
#![allow(dead_code, reason = "each test uses a part of the fleet")]

mod fleet;

use std::collections::BTreeMap;

use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::heapless::String as Text;
use bellwether_protocol::id::Version;
use bellwether_protocol::limit::{RECALL_RELEASES_MAX, RECALLS_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{
    Checkpoint, Counters, Epoch, Floor, KeyClass, KeyEntry, KeyStatus, Otherwise, PublicKey, Recall, Recalled, Release,
    RoleSet, Root, RootFault, Signed, Tick, TrustedRoot, Validity,
};
use fleet::{
    ADA, BO, BO_AGAIN, BROWSER, CY, DEE, DIRECTOR, OTHER, RETIRED, REVOKED, STRANGER, body, by, entry, public, release,
    root, trusted,
};

const TIME: u8 = 40;
const WITNESS: u8 = 41;
const FRESH: [u8; 16] = [8; 16];

/// The fleet with a time key and a witness.
fn timed() -> TrustedRoot {
    let mut root = root();
    root.keys.push(entry(TIME, "hub", RoleSet::TIME, KeyClass::Hub)).unwrap();
    root.keys.push(entry(WITNESS, "Wes", RoleSet::WITNESS, KeyClass::File)).unwrap();
    trusted(&root)
}

/// What the verifier says to the next root: what `change` makes of this one, signed by these keys.
fn next(trusted: &TrustedRoot, change: impl FnOnce(&mut Root), seeds: &[u8]) -> Result<TrustedRoot, Reject> {
    let mut root = trusted.root().clone();
    root.version += 1;
    change(&mut root);
    let body = body(&root);
    trusted.next(&by::<Root>(trusted.fleet(), &body, seeds))
}

fn status(root: &mut Root, seed: u8, status: KeyStatus) {
    root.keys.iter_mut().find(|key| key.public == public(seed)).unwrap().status = status;
}

/// Bo and Cy lose the role, Dee and a newcomer hold it.
fn hand_over(root: &mut Root) {
    for key in &mut root.keys {
        if key.person.as_str() == "Bo" || key.person.as_str() == "Cy" {
            key.roles = RoleSet::APPROVE.with(RoleSet::GRANT);
        }
    }
    root.keys.push(entry(60, "Eve", RoleSet::ROOT, KeyClass::File)).unwrap();
}

#[test]
fn a_root_takes_the_threshold_of_the_old_and_of_the_new() {
    let old = trusted(&root());
    let rotated = next(&old, hand_over, &[BO, CY, DEE, 60]).unwrap();
    assert_eq!((rotated.root().version, rotated.fleet()), (2, old.fleet()));
    assert_eq!(next(&old, hand_over, &[DEE, 60]), Err(Reject::TooFewSignatures), "only the new keys");
    assert_eq!(next(&old, hand_over, &[BO, CY]), Err(Reject::TooFewSignatures), "only the old keys");
    assert_eq!(next(&old, hand_over, &[BO, BO_AGAIN, 60]), Err(Reject::TooFewSignatures), "one person twice");
    assert_eq!(next(&old, hand_over, &[BO, CY, DEE, 60, STRANGER]), Err(Reject::UnknownKey));
    let third = next(&rotated, |root| root.thresholds.approve = 3, &[DEE, 60]).unwrap();
    assert_eq!(third.root().version, 3);
}

#[test]
fn two_keys_that_begin_alike_are_never_both_known() {
    // Birthdays: of some 300 keys, two share their first two bytes.
    let mut seen = BTreeMap::new();
    let (one, other) = (0u32..)
        .find_map(|number| {
            let mut seed = [77; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let public = PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
            seen.insert(public.id().tag(), public).map(|before| (before, public))
        })
        .unwrap();
    let lists = |public: PublicKey| {
        move |root: &mut Root| {
            root.keys.push(KeyEntry { public, ..entry(60, "Eve", RoleSet::APPROVE, KeyClass::File) }).unwrap();
        }
    };
    let mut both = root();
    lists(one)(&mut both);
    assert_eq!(both.check(), Ok(()));
    lists(other)(&mut both);
    assert_eq!(both.check(), Err(RootFault::SameTag(one.id(), other.id())));
    // Nor may the next root give the tag to another key.
    let with_one = next(&trusted(&root()), lists(one), &[BO, CY]).unwrap();
    let swaps = |root: &mut Root| {
        root.keys.pop();
        lists(other)(root);
    };
    assert_eq!(next(&with_one, swaps, &[BO, CY]), Err(Reject::Malformed));
    assert!(next(&with_one, |root| drop(root.keys.pop()), &[BO, CY]).is_ok());
}

#[test]
fn no_version_is_skipped_repeated_or_gone_back_to() {
    let old = trusted(&root());
    let two = next(&old, |_| {}, &[BO, CY]).unwrap();
    assert_eq!(next(&old, |root| root.version = 3, &[BO, CY]), Err(Reject::RootSkipped));
    assert_eq!(next(&two, |root| root.version = 2, &[BO, CY]), Err(Reject::RootSkipped));
    assert_eq!(next(&two, |root| root.version = 1, &[BO, CY]), Err(Reject::RootSkipped));
    let later = next(&old, |root| root.director_generation = 5, &[BO, CY]).unwrap();
    assert_eq!(next(&later, |root| root.director_generation = 4, &[BO, CY]), Err(Reject::Malformed));
    assert_eq!(next(&later, |root| root.thresholds.root = 0, &[BO, CY]), Err(Reject::Malformed));
}

#[test]
fn who_left_signs_no_root_and_who_lost_a_key_can_sign_it_away() {
    let old = trusted(&root());
    let retire = |root: &mut Root| status(root, CY, KeyStatus::Retired);
    let without = next(&old, retire, &[BO, DEE]).unwrap();
    assert_eq!(next(&without, |_| {}, &[BO, CY]), Err(Reject::TooFewSignatures));
    // Under the old root Bo's key counts; by the new one it is revoked, so two others must sign.
    let revoke = |root: &mut Root| status(root, BO, KeyStatus::Revoked);
    assert_eq!(next(&old, revoke, &[BO, CY]), Err(Reject::TooFewSignatures));
    let gone = next(&old, revoke, &[BO, CY, DEE]).unwrap();
    assert_eq!(next(&gone, |_| {}, &[BO, CY, DEE]), Err(Reject::KeyRevoked));
}

#[test]
fn what_a_retired_key_signed_counts_and_what_a_revoked_one_did_does_not() {
    let old = trusted(&root());
    let release = body(&release());
    let approve = |root: &TrustedRoot| root.approve(&by::<Release>(root.fleet(), &release, &[ADA, BO, CY])).map(drop);
    assert_eq!(approve(&old), Ok(()));
    let retired = next(&old, |root| status(root, BO, KeyStatus::Retired), &[CY, DEE]).unwrap();
    assert_eq!(approve(&retired), Ok(()));
    let revoked = next(&old, |root| status(root, BO, KeyStatus::Revoked), &[CY, DEE]).unwrap();
    assert_eq!(approve(&revoked), Err(Reject::KeyRevoked));
}

#[test]
fn a_root_of_another_fleet_or_above_its_limit_is_no_successor() {
    let old = trusted(&root());
    let mut other = root();
    other.nonce = [9; 16];
    let other = trusted(&other);
    let mut two = root();
    two.version = 2;
    let two = body(&two);
    assert_eq!(old.next(&by::<Root>(other.fleet(), &two, &[BO, CY])), Err(Reject::BadSignature));
    let big = vec![1; STATEMENT_BYTES_MAX + 1];
    let signatures = by::<Root>(old.fleet(), &two, &[BO, CY]).signatures;
    assert_eq!(old.next(&Signed { body: &big, signatures }), Err(Reject::TooLarge));
}

fn recall(name: &str, releases: &[Digest], otherwise: Otherwise) -> Vec<u8> {
    body(&Recall { name: name.parse().unwrap(), releases: releases.iter().copied().collect(), otherwise })
}

#[test]
fn one_approver_recalls_within_its_prefix_and_nobody_else_does() {
    let trusted = timed();
    let digest = Digest::of(b"release");
    let take = |body: &[u8], seeds: &[u8]| {
        let mut counters = Counters::default();
        let taken = counters.recall(&trusted, &by::<Recall>(trusted.fleet(), body, seeds)).map(drop);
        (taken, counters.recalls().count())
    };
    let digits = recall("digits", &[digest], Otherwise::Keep);
    assert_eq!(take(&digits, &[BO]), (Ok(()), 1));
    assert_eq!(take(&digits, &[BROWSER]), (Ok(()), 1));
    assert_eq!(take(&digits, &[RETIRED]), (Ok(()), 1), "what it signed counts");
    assert_eq!(take(&digits, &[OTHER]), (Err(Reject::WrongPrefix), 0));
    assert_eq!(take(&digits, &[ADA]), (Err(Reject::WrongRole), 0));
    assert_eq!(take(&digits, &[DIRECTOR]), (Err(Reject::WrongRole), 0));
    assert_eq!(take(&digits, &[WITNESS]), (Err(Reject::WrongRole), 0));
    assert_eq!(take(&digits, &[REVOKED]), (Err(Reject::KeyRevoked), 0));
    assert_eq!(take(&digits, &[STRANGER]), (Err(Reject::UnknownKey), 0));
    assert_eq!(take(&digits, &[]), (Err(Reject::TooFewSignatures), 0));
    assert_eq!(take(&recall("other-1", &[digest], Otherwise::Keep), &[OTHER]), (Ok(()), 1));
}

#[test]
fn a_recalled_release_is_unlawful_under_its_own_name_only() {
    let trusted = timed();
    let mut counters = Counters::default();
    let release = release();
    let digest = Digest::of(&body(&release));
    assert_eq!(counters.lawful(&release, digest), Ok(()));
    // Otto may decide about other models only: he cannot reach this one through another's name.
    let elsewhere = recall("other-1", &[digest], Otherwise::Keep);
    counters.recall(&trusted, &by::<Recall>(trusted.fleet(), &elsewhere, &[OTHER])).unwrap();
    assert_eq!(counters.lawful(&release, digest), Ok(()));
    let recall = recall("digits", &[digest], Otherwise::Keep);
    counters.recall(&trusted, &by::<Recall>(trusted.fleet(), &recall, &[BO])).unwrap();
    assert_eq!(counters.lawful(&release, digest), Err(Reject::Recalled));
    let renewed = Release { salt: [4; 16], ..release };
    assert_eq!(counters.lawful(&renewed, Digest::of(&body(&renewed))), Ok(()), "a new release takes k again");
}

#[test]
fn recalls_are_kept_within_bounds_and_never_pushed_out() {
    let trusted = timed();
    let mut counters = Counters::default();
    let mut first = None;
    for round in 0..(RECALLS_MAX / RECALL_RELEASES_MAX) {
        let releases: Vec<Digest> =
            (0..RECALL_RELEASES_MAX).map(|n| Digest::of(&[u8::try_from(round * 8 + n).unwrap()])).collect();
        first.get_or_insert(releases[0]);
        let body = recall("digits", &releases, Otherwise::Keep);
        counters.recall(&trusted, &by::<Recall>(trusted.fleet(), &body, &[BO])).unwrap();
    }
    let before = counters.clone();
    let one_more = recall("digits", &[Digest::of(b"one more")], Otherwise::Keep);
    let taken = counters.recall(&trusted, &by::<Recall>(trusted.fleet(), &one_more, &[BO]));
    assert_eq!((taken.map(drop), &counters), (Err(Reject::RecallsFull), &before));
    let again = recall("digits", &[first.unwrap()], Otherwise::Stop);
    counters.recall(&trusted, &by::<Recall>(trusted.fleet(), &again, &[BO])).unwrap();
    assert!(counters.recalled(&"digits".parse().unwrap(), first.unwrap()).unwrap().stop, "stop outweighs keep");
    assert_ne!(counters.recalls_digest(), before.recalls_digest());
    let sized = bellwether_protocol::frame::encode(&counters, &mut [0; 8192]).unwrap().len();
    assert!(sized < 4096, "{sized}");
}

fn checkpoint(number: u64, floors: &[(&str, u32)]) -> Vec<u8> {
    let floor =
        |(name, version): &(&str, u32)| Floor { name: name.parse().unwrap(), version: Version::new(*version).unwrap() };
    let recalls = [Recalled { name: "digits".parse().unwrap(), release: Digest::of(b"bad"), stop: false }];
    body(&Checkpoint { number, recalls: recalls.into_iter().collect(), floors: floors.iter().map(floor).collect() })
}

#[test]
fn a_checkpoint_goes_up_and_takes_k_to_move_a_floor() {
    let trusted = timed();
    let fleet = trusted.fleet();
    let name = "digits".parse().unwrap();
    let mut counters = Counters::default();
    let mut take = |body: &[u8], seeds: &[u8]| {
        let taken = counters.checkpoint(&trusted, &by::<Checkpoint>(fleet, body, seeds)).map(|taken| taken.number);
        (taken, counters.floor(&name))
    };
    assert_eq!(take(&checkpoint(3, &[]), &[WITNESS]), (Ok(3), 0), "a witness outside the hub");
    assert_eq!(take(&checkpoint(4, &[("digits", u32::MAX)]), &[BO]), (Err(Reject::TooFewSignatures), 0));
    assert_eq!(take(&checkpoint(4, &[("digits", u32::MAX)]), &[BO, BO_AGAIN]), (Err(Reject::TooFewSignatures), 0));
    assert_eq!(take(&checkpoint(4, &[("digits", 2)]), &[BO, WITNESS]), (Err(Reject::TooFewSignatures), 0));
    assert_eq!(take(&checkpoint(4, &[("digits", 2)]), &[BO, CY]), (Ok(4), 2));
    assert_eq!(take(&checkpoint(3, &[]), &[BO]), (Err(Reject::StaleCheckpoint), 2));
    assert_eq!(take(&checkpoint(5, &[]), &[BO]), (Ok(5), 2), "one alone does not lower it either");
    assert_eq!(take(&checkpoint(6, &[]), &[OTHER]), (Err(Reject::WrongPrefix), 2));
    assert_eq!(take(&checkpoint(6, &[]), &[ADA]), (Err(Reject::WrongRole), 2));
    assert_eq!(take(&checkpoint(6, &[]), &[BO, CY]), (Ok(6), 0), "k persons do");
    assert_eq!(counters.knows(6), Ok(()));
    assert_eq!(counters.knows(7), Err(Reject::CheckpointMissing));
    let old = Release { version: Version::FIRST, ..release() };
    assert_eq!(counters.lawful(&old, Digest::of(b"bad")), Err(Reject::Recalled), "its recalls count");
}

#[test]
fn a_number_driven_to_its_maximum_is_undone_by_revoking_its_key() {
    let old = timed();
    let mut counters = Counters::default();
    let last = checkpoint(u64::MAX, &[]);
    counters.checkpoint(&old, &by::<Checkpoint>(old.fleet(), &last, &[BROWSER])).unwrap();
    let own = recall("digits", &[Digest::of(b"good")], Otherwise::Stop);
    counters.recall(&old, &by::<Recall>(old.fleet(), &own, &[BROWSER])).unwrap();
    let kept = recall("digits", &[Digest::of(b"worse")], Otherwise::Keep);
    counters.recall(&old, &by::<Recall>(old.fleet(), &kept, &[BO])).unwrap();
    let retired = next(&old, |root| status(root, BROWSER, KeyStatus::Retired), &[BO, CY]).unwrap();
    counters.root_changed(&retired);
    assert_eq!((counters.checkpoint_number(), counters.recalls().count()), (u64::MAX, 3));
    let revoked = next(&old, |root| status(root, BROWSER, KeyStatus::Revoked), &[BO, CY]).unwrap();
    counters.root_changed(&revoked);
    assert_eq!((counters.checkpoint_number(), counters.recalls().count()), (0, 1));
    counters.checkpoint(&revoked, &by::<Checkpoint>(revoked.fleet(), &checkpoint(1, &[]), &[BO])).unwrap();
}

fn epoch(generation: u32, epoch: u64, nonce: [u8; 16]) -> Vec<u8> {
    body(&Epoch { generation, epoch, nonce })
}

#[test]
fn time_answers_the_question_and_never_goes_back() {
    let trusted = timed();
    let fleet = trusted.fleet();
    let mut counters = Counters::default();
    let valid = Some(Validity { from: 10, until: 20 });
    assert_eq!(counters.admits(valid), Err(Reject::NotInEpoch), "no time is known");
    assert_eq!(counters.admits(None), Ok(()));
    let mut tell = |body: &[u8], seed| counters.epoch(&trusted, &by::<Epoch>(fleet, body, &[seed]), &FRESH);
    assert_eq!(tell(&epoch(0, 15, [7; 16]), TIME), Err(Reject::NonceMismatch));
    assert_eq!(tell(&epoch(0, 15, FRESH), DIRECTOR), Err(Reject::WrongRole));
    assert_eq!(tell(&epoch(1, 15, FRESH), TIME), Err(Reject::StaleGeneration));
    assert_eq!(tell(&epoch(0, 15, FRESH), TIME), Ok(Tick { generation: 0, epoch: 15 }));
    assert_eq!(tell(&epoch(0, 14, FRESH), TIME), Err(Reject::StaleEpoch));
    assert_eq!(counters.admits(valid), Ok(()));
    let mut tell = |body: &[u8]| counters.epoch(&trusted, &by::<Epoch>(fleet, body, &[TIME]), &FRESH).map(drop);
    assert_eq!(tell(&epoch(0, u64::MAX, FRESH)), Ok(()));
    assert_eq!(counters.admits(valid), Err(Reject::NotInEpoch));
    let rotated = next(&trusted, |root| root.time_generation = 1, &[BO, CY]).unwrap();
    counters.root_changed(&rotated);
    assert_eq!(counters.tick(), None);
    let told = counters.epoch(&rotated, &by::<Epoch>(fleet, &epoch(1, 16, FRESH), &[TIME]), &FRESH);
    assert_eq!((told.map(drop), counters.admits(valid)), (Ok(()), Ok(())));
}

#[test]
fn an_unbounded_prefix_text_does_not_pass_for_a_shorter_one() {
    let mut root = root();
    root.keys.iter_mut().find(|key| key.public == public(DEE)).unwrap().prefix = Text::try_from("digits").unwrap();
    let trusted = trusted(&root);
    let take = |name: &str| trusted.recall(&by::<Recall>(trusted.fleet(), &recall(name, &[], Otherwise::Keep), &[DEE]));
    assert!(take("digits").is_ok() && take("digits-2").is_ok());
    assert_eq!(take("digit"), Err(Reject::WrongPrefix));
}
