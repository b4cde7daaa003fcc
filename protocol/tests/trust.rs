//! The attacks of the trust table that concern the verifier, one test each, with the exact code of
//! the refusal. The number in a test's comment is the row of the table.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "a test that fails says where, and that is what it is for")]

mod fleet;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::limit::{BUCKETS, SIGNATURES_MAX, STATEMENT_BYTES_MAX};
use bellwether_protocol::trust::{
    Ack, Assignment, Attestation, Cohort, Command, Connect, Enrol, FleetId, KeyClass, KeyId, KeyName, KeyStatus,
    KeyTag, Mode, Order, OutboxId, PublicKey, Release, Request, RoleSet, Root, RootFault, SignatureBytes, Signed,
    StageGrant, TrustedRoot, Wanted, bucket, open_by, sign, signature_bytes, signature_made, signing_bytes,
};

use fleet::{
    ADA, ADA_APPROVES, BO, BO_AGAIN, BROWSER, CY, DEE, DEVICE, DIRECTOR, OTHER, REGISTRY, RETIRED, REVOKED, STRANGER,
    body, by, grant, key, public, release, root, trusted,
};

/// What the verifier says to a release signed by these keys.
fn approve(seeds: &[u8]) -> Result<(), Reject> {
    let trusted = trusted(&root());
    let body = body(&release());
    trusted.approve(&by::<Release>(trusted.fleet(), &body, seeds)).map(drop)
}

/// What the verifier says to a grant for everyone signed by these keys.
fn grant_by(seeds: &[u8]) -> Result<(), Reject> {
    let trusted = trusted(&root());
    let release = body(&release());
    let approved = trusted.approve(&by::<Release>(trusted.fleet(), &release, &[ADA, BO, CY])).unwrap();
    let grant = body(&grant(&release, Cohort::Buckets(BUCKETS)));
    trusted.grant(&approved, &by::<StageGrant>(trusted.fleet(), &grant, seeds)).map(drop)
}

#[test]
fn what_people_signed_is_accepted_in_any_order() {
    for seeds in [[ADA, BO, CY], [CY, ADA, BO], [DEE, BO_AGAIN, ADA]] {
        assert_eq!(approve(&seeds), Ok(()));
    }
    assert_eq!(approve(&[ADA, BO, CY, DEE]), Ok(()));
    assert_eq!(grant_by(&[BO]), Ok(()));
    assert_eq!(grant_by(&[CY, DEE]), Ok(()));
}

/// Row 1.
#[test]
fn what_nobody_signed_is_refused() {
    assert_eq!(approve(&[]), Err(Reject::NoPublisher));
    assert_eq!(grant_by(&[]), Err(Reject::TooFewSignatures));
    let (root, trusted) = (root(), trusted(&root()));
    let root_body = body(&root);
    let nobody: [u8; 0] = [];
    let unsigned = by::<Root>(trusted.fleet(), &root_body, &nobody);
    assert_eq!(TrustedRoot::first(trusted.fleet(), &unsigned), Err(Reject::TooFewSignatures));
    let assignment = body(&assignment());
    let unsigned = by::<Assignment>(trusted.fleet(), &assignment, &nobody);
    let opened = trusted.hub::<Assignment>(&unsigned, RoleSet::DIRECTOR);
    assert_eq!(opened, Err(Reject::TooFewSignatures));
    let connect = body(&connect(1));
    let unsigned = by::<Connect>(trusted.fleet(), &connect, &nobody);
    let opened = open_by::<Connect>(trusted.fleet(), &unsigned, &public(DEVICE));
    assert_eq!(opened, Err(Reject::TooFewSignatures));
}

/// Row 1.
#[test]
fn what_a_stranger_signed_is_refused() {
    assert_eq!(approve(&[ADA, BO, STRANGER]), Err(Reject::UnknownKey));
    assert_eq!(approve(&[ADA, BO, CY, STRANGER]), Err(Reject::UnknownKey));
    assert_eq!(grant_by(&[STRANGER]), Err(Reject::UnknownKey));
    let fleet = trusted(&root()).fleet();
    let connect = body(&connect(1));
    let signed = by::<Connect>(fleet, &connect, &[STRANGER]);
    assert_eq!(open_by::<Connect>(fleet, &signed, &public(DEVICE)), Err(Reject::UnknownKey));
}

/// Row 2.
#[test]
fn one_bit_flipped_anywhere_in_the_body_is_refused() {
    let trusted = trusted(&root());
    let good = body(&release());
    let signed = by::<Release>(trusted.fleet(), &good, &[ADA, BO, CY]);
    for bit in 0..good.len() * 8 {
        let mut body = good.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        let flipped = Signed { body: &body, signatures: signed.signatures.clone() };
        assert_eq!(trusted.approve(&flipped), Err(Reject::BadSignature), "bit {bit}");
    }
}

/// Row 2.
#[test]
fn one_bit_flipped_in_any_signature_is_refused() {
    let trusted = trusted(&root());
    let body = body(&release());
    let good = by::<Release>(trusted.fleet(), &body, &[ADA, BO, CY]);
    for index in 0..good.signatures.len() {
        for bit in 0..64 * 8 {
            let mut bytes = good.signatures[index].bytes.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut flipped = good.clone();
            flipped.signatures[index].bytes = SignatureBytes::new(bytes);
            let refused = trusted.approve(&flipped);
            assert_eq!(refused, Err(Reject::BadSignature), "signature {index}, bit {bit}");
        }
        let mut renamed = good.clone();
        let KeyTag([first, second]) = good.signatures[index].key.tag();
        renamed.signatures[index].key = KeyName::Tag(KeyTag([first ^ 1, second]));
        assert_eq!(trusted.approve(&renamed), Err(Reject::UnknownKey), "signature {index}");
    }
    let mut swapped = good.clone();
    swapped.signatures[0].bytes = good.signatures[1].bytes;
    assert_eq!(trusted.approve(&swapped), Err(Reject::BadSignature));
}

/// Row 3.
#[test]
fn one_approval_too_few_is_refused() {
    assert_eq!(approve(&[ADA]), Err(Reject::TooFewSignatures));
    assert_eq!(approve(&[ADA, BO]), Err(Reject::TooFewSignatures));
    assert_eq!(approve(&[BO, CY, DEE]), Err(Reject::NoPublisher));
    let mut two_grant = root();
    two_grant.thresholds.grant = 2;
    let trusted = trusted(&two_grant);
    let release = body(&release());
    let approved = trusted.approve(&by::<Release>(trusted.fleet(), &release, &[ADA, BO, CY])).unwrap();
    let grant = body(&grant(&release, Cohort::Buckets(1)));
    let granted = |seeds: &[u8]| trusted.grant(&approved, &by::<StageGrant>(trusted.fleet(), &grant, seeds)).map(drop);
    assert_eq!(granted(&[BO]), Err(Reject::TooFewSignatures));
    assert_eq!(granted(&[BO, BO_AGAIN]), Err(Reject::TooFewSignatures));
    assert_eq!(granted(&[BO, CY]), Ok(()));
}

/// Row 4.
#[test]
fn one_key_that_signs_twice_is_refused() {
    assert_eq!(approve(&[ADA, BO, BO]), Err(Reject::DuplicateKey));
    assert_eq!(approve(&[ADA, ADA, BO, CY]), Err(Reject::DuplicateKey));
    assert_eq!(grant_by(&[BO, BO]), Err(Reject::DuplicateKey));
}

/// Row 5.
#[test]
fn two_keys_of_one_person_count_once() {
    assert_eq!(approve(&[ADA, BO, BO_AGAIN]), Err(Reject::TooFewSignatures));
    assert_eq!(approve(&[ADA, BO, BO_AGAIN, CY]), Ok(()));
}

/// Row 6.
#[test]
fn a_publisher_does_not_approve_her_own_release_with_another_key() {
    assert_eq!(approve(&[ADA, ADA_APPROVES, BO]), Err(Reject::TooFewSignatures));
    assert_eq!(approve(&[ADA, ADA_APPROVES, BO, CY]), Ok(()));
}

/// Row 6: nor can one key be enrolled to do both.
#[test]
fn a_root_whose_key_both_publishes_and_approves_is_refused() {
    let mut root = root();
    root.keys[0].roles = RoleSet::PUBLISH.with(RoleSet::APPROVE);
    assert_eq!(first(&root, &[BO, CY]), Err(Reject::Malformed));
}

/// Row 7.
#[test]
fn an_approver_of_other_models_is_refused() {
    assert_eq!(approve(&[ADA, BO, OTHER]), Err(Reject::WrongPrefix));
    assert_eq!(approve(&[ADA, BO, CY, OTHER]), Err(Reject::WrongPrefix));
    assert_eq!(grant_by(&[OTHER]), Err(Reject::WrongPrefix));
    let trusted = trusted(&root());
    let release = Release { name: "other-model".parse().unwrap(), ..release() };
    let body = body(&release);
    assert!(trusted.approve(&by::<Release>(trusted.fleet(), &body, &[ADA, BO, OTHER])).is_ok());
}

/// Row 8.
#[test]
fn a_revoked_key_spoils_what_it_signed_and_a_retired_one_still_counts() {
    assert_eq!(approve(&[ADA, BO, REVOKED]), Err(Reject::KeyRevoked));
    assert_eq!(approve(&[ADA, BO, CY, REVOKED]), Err(Reject::KeyRevoked));
    assert_eq!(approve(&[ADA, BO, RETIRED]), Ok(()));
}

/// Row 8: the hub's keys sign what happens now, so a retired one is of no use.
#[test]
fn a_retired_director_directs_no_more() {
    for (status, refusal) in [(KeyStatus::Retired, Reject::WrongRole), (KeyStatus::Revoked, Reject::KeyRevoked)] {
        let mut root = root();
        root.keys.iter_mut().find(|key| key.public == public(DIRECTOR)).unwrap().status = status;
        let next = fleet::entry(50, "hub", RoleSet::DIRECTOR, KeyClass::Hub);
        root.keys.push(next).unwrap();
        let trusted = trusted(&root);
        let body = body(&assignment());
        let opened = |seed: u8| {
            let signed = by::<Assignment>(trusted.fleet(), &body, &[seed]);
            trusted.hub::<Assignment>(&signed, RoleSet::DIRECTOR).map(drop)
        };
        assert_eq!(opened(DIRECTOR), Err(refusal));
        assert_eq!(opened(50), Ok(()));
    }
}

/// Row 9: every statement's signature is tried as every other type, over the very same bytes.
#[test]
fn one_statements_bytes_are_no_other_statement() {
    let trusted = trusted(&root());
    let fleet = trusted.fleet();
    let command = Command {
        device: "cam-1".parse().unwrap(),
        order: Order { generation: 1, sequence: 1 },
        request: Request::Report,
    };
    let command = body(&command);
    let signed = by::<Command>(fleet, &command, &[DIRECTOR]);
    assert!(trusted.hub::<Command>(&signed, RoleSet::DIRECTOR).is_ok());
    let as_ack = trusted.hub::<Ack>(&signed, RoleSet::DIRECTOR).map(drop);
    assert_eq!(as_ack, Err(Reject::BadSignature));
    let as_assignment = trusted.hub::<Assignment>(&signed, RoleSet::DIRECTOR).map(drop);
    assert_eq!(as_assignment, Err(Reject::BadSignature));

    let release = body(&release());
    let approved = trusted.approve(&by::<Release>(fleet, &release, &[ADA, BO, CY])).unwrap();
    let grant = body(&grant(&release, Cohort::Buckets(1)));
    let as_release = trusted.approve(&by::<StageGrant>(fleet, &grant, &[ADA, BO, CY])).map(drop);
    assert_eq!(as_release, Err(Reject::BadSignature));
    let as_grant = trusted.grant(&approved, &by::<Release>(fleet, &release, &[BO])).map(drop);
    assert_eq!(as_grant, Err(Reject::BadSignature));

    let root = body(&root());
    let as_release = trusted.approve(&by::<Root>(fleet, &root, &[ADA, BO, CY])).map(drop);
    assert_eq!(as_release, Err(Reject::BadSignature));

    let connect = body(&connect(1));
    let as_enrol = open_by::<Enrol>(fleet, &by::<Connect>(fleet, &connect, &[DEVICE]), &public(DEVICE));
    assert_eq!(as_enrol, Err(Reject::BadSignature));
}

/// Row 9: nobody can be made to sign bytes that are no such statement.
#[test]
fn a_key_signs_only_what_it_can_read() {
    let fleet = trusted(&root()).fleet();
    let grant = body(&grant(b"release", Cohort::Buckets(1)));
    assert!(sign::<Release>(fleet, &grant, &key(BO)).is_err());
    assert_eq!(sign::<Release>(fleet, &[0; STATEMENT_BYTES_MAX + 1], &key(BO)), Err(Reject::TooLarge));
}

/// Row 10: S and S + L are the same scalar; only the smaller is a signature (RFC 8032, 5.1.7).
#[test]
fn a_malleable_signature_is_refused() {
    /// The order of the base point, little endian.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let trusted = trusted(&root());
    let body = body(&release());
    for index in 0..3 {
        let mut signed = by::<Release>(trusted.fleet(), &body, &[ADA, BO, CY]);
        let mut bytes = signed.signatures[index].bytes.to_bytes();
        let mut carry = 0;
        for (byte, add) in bytes[32..].iter_mut().zip(L) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "S + L fits 32 bytes");
        signed.signatures[index].bytes = SignatureBytes::new(bytes);
        assert_eq!(trusted.approve(&signed), Err(Reject::BadSignature), "signature {index}");
    }
}

/// Row 10: under a key of small order, one signature holds for every message.
#[test]
fn a_key_or_nonce_of_small_order_is_refused() {
    let identity = small(1, 0);
    // p + 1, p - 1 (order 2), 0 and p (order 4), with both signs: canonical and not.
    let points = [
        identity,
        small(0xee, 0x7f),
        small(0xec, 0x7f),
        small(0, 0),
        small(0, 0x80),
        small(0xed, 0x7f),
        small(1, 0x80),
        small(0xee, 0xff),
        small(0xec, 0xff),
        small(0xed, 0xff),
    ];
    let mut zero_s = [0; 64];
    for point in points {
        let weak = PublicKey(point);
        for nonce in points {
            zero_s[..32].copy_from_slice(&nonce);
            let universal = SignatureBytes::new(zero_s);
            for message in [b"one".as_slice(), b"two", b""] {
                assert!(!weak.verifies(message, &universal), "{weak} {universal:?}");
                assert!(!public(BO).verifies(message, &universal), "{universal:?}");
            }
        }
        let mut root = root();
        let at = root.keys.iter().position(|key| key.public == public(DEE)).unwrap();
        root.keys[at].public = weak;
        assert_eq!(root.check(), Err(RootFault::WeakKey(weak.id())), "no root lists a key that anybody can sign with");
        let body = body(&root);
        let fleet = FleetId::of_root(&body);
        assert_eq!(TrustedRoot::first(fleet, &by::<Root>(fleet, &body, &[BO, CY])), Err(Reject::Malformed));
    }
}

/// A point of small order by its first byte and its last two: 30 bytes between are all alike.
fn small(first: u8, last: u8) -> [u8; 32] {
    let mut point = [if last & 0x7f == 0x7f { 0xff } else { 0 }; 32];
    point[0] = first;
    point[31] = last;
    point
}

/// Row 10.
#[test]
fn a_public_key_that_is_no_point_verifies_nothing() {
    for bytes in [[0xff; 32], [2; 32], small(2, 0)] {
        assert!(!PublicKey(bytes).verifies(b"message", &SignatureBytes::new([0; 64])));
    }
}

/// Row 18.
#[test]
fn what_was_signed_for_another_fleet_is_refused() {
    let ours = trusted(&root());
    let theirs = trusted(&Root { nonce: [2; 16], ..root() });
    assert_ne!(ours.fleet(), theirs.fleet());
    let release = body(&release());
    let signed = by::<Release>(theirs.fleet(), &release, &[ADA, BO, CY]);
    assert!(theirs.approve(&signed).is_ok());
    assert_eq!(ours.approve(&signed), Err(Reject::BadSignature));
    let assignment = body(&assignment());
    let signed = by::<Assignment>(theirs.fleet(), &assignment, &[DIRECTOR]);
    assert_eq!(ours.hub::<Assignment>(&signed, RoleSet::DIRECTOR), Err(Reject::BadSignature));
    let root = body(&root());
    let signed = by::<Root>(ours.fleet(), &root, &[BO, CY]);
    assert_eq!(TrustedRoot::first(theirs.fleet(), &signed), Err(Reject::WrongFleet));
}

/// Row 20.
#[test]
fn an_older_releases_grant_does_not_grant_this_one() {
    let trusted = trusted(&root());
    let fleet = trusted.fleet();
    let older = body(&release());
    let newer = body(&Release { security_floor: 1, ..release() });
    let grant = body(&grant(&older, Cohort::Buckets(BUCKETS)));
    let grant = by::<StageGrant>(fleet, &grant, &[BO]);
    let approved = |body: &[u8]| trusted.approve(&by::<Release>(fleet, body, &[ADA, BO, CY])).unwrap();
    let granted = trusted.grant(&approved(&older), &grant).unwrap();
    assert_eq!(trusted.grant(&approved(&newer), &grant), Err(Reject::GrantMismatch));
    assert!(trusted.reaches(&approved(&older), &granted, public(DEVICE).id()));
    assert!(!trusted.reaches(&approved(&newer), &granted, public(DEVICE).id()));
}

/// Row 22.
#[test]
fn the_approval_of_one_release_is_none_of_another() {
    let trusted = trusted(&root());
    let a = body(&release());
    let mut other = release();
    other.package.digest = Digest::of(b"another blob");
    let b = body(&other);
    let mixed = Signed { body: &b, ..by::<Release>(trusted.fleet(), &a, &[ADA, BO, CY]) };
    assert_eq!(trusted.approve(&mixed), Err(Reject::BadSignature));
    let mut half = by::<Release>(trusted.fleet(), &b, &[ADA, BO]);
    half.signatures.push(by::<Release>(trusted.fleet(), &a, &[CY]).signatures[0]).unwrap();
    assert_eq!(trusted.approve(&half), Err(Reject::BadSignature));
}

#[test]
fn a_root_that_asks_for_an_offline_key_is_obeyed() {
    let strict = trusted(&Root { offline_approval: true, ..root() });
    let lax = trusted(&root());
    let mut two = root();
    two.keys.push(fleet::entry(51, "Wim", RoleSet::APPROVE, KeyClass::Browser)).unwrap();
    two.offline_approval = true;
    let two = trusted(&two);
    let body = body(&release());
    let approve = |root: &TrustedRoot, seeds: &[u8]| root.approve(&by::<Release>(root.fleet(), &body, seeds)).map(drop);
    assert_eq!(approve(&strict, &[ADA, BO, BROWSER]), Ok(()));
    assert_eq!(approve(&lax, &[ADA, BO, BROWSER]), Ok(()));
    assert_eq!(approve(&two, &[ADA, BROWSER, 51]), Err(Reject::OfflineKeyMissing));
    // The publisher's own offline key is not the one that is missing.
    let with_ada = approve(&two, &[ADA, ADA_APPROVES, BROWSER, 51]);
    assert_eq!(with_ada, Err(Reject::OfflineKeyMissing));
    assert_eq!(approve(&two, &[ADA, BROWSER, 51, BO]), Ok(()));
}

#[test]
fn the_hubs_keys_decide_nothing_that_people_decide() {
    assert_eq!(approve(&[ADA, BO, REGISTRY]), Err(Reject::TooFewSignatures));
    assert_eq!(approve(&[DIRECTOR, BO, CY]), Err(Reject::NoPublisher));
    assert_eq!(grant_by(&[DIRECTOR]), Err(Reject::TooFewSignatures));
    assert_eq!(grant_by(&[BROWSER]), Err(Reject::TooFewSignatures));
}

#[test]
fn a_hub_statement_takes_one_key_with_the_right_role() {
    let trusted = trusted(&root());
    let fleet = trusted.fleet();
    let ack = Ack { device: "cam-1".parse().unwrap(), outbox: OutboxId([1; 16]), through: 9 };
    let ack = body(&ack);
    let open = |seeds: &[u8], role| trusted.hub::<Ack>(&by::<Ack>(fleet, &ack, seeds), role).map(drop);
    assert_eq!(open(&[DIRECTOR], RoleSet::DIRECTOR), Ok(()));
    assert_eq!(open(&[REGISTRY], RoleSet::DIRECTOR), Err(Reject::WrongRole));
    assert_eq!(open(&[BO], RoleSet::DIRECTOR), Err(Reject::WrongRole));
    assert_eq!(open(&[STRANGER], RoleSet::DIRECTOR), Err(Reject::UnknownKey));
    assert_eq!(open(&[DIRECTOR, REGISTRY], RoleSet::DIRECTOR), Err(Reject::TooFewSignatures));
    let attestation = Attestation { model: "digits:1".parse().unwrap(), package: Digest::of(b"package"), golden: true };
    let attestation = body(&attestation);
    let signed = by::<Attestation>(fleet, &attestation, &[REGISTRY]);
    assert!(trusted.hub::<Attestation>(&signed, RoleSet::REGISTRY).is_ok());
}

#[test]
fn a_first_root_must_be_whole_and_signed_by_its_own_threshold() {
    assert_eq!(first(&root(), &[BO, CY]), Ok(()));
    assert_eq!(first(&root(), &[BO]), Err(Reject::TooFewSignatures));
    assert_eq!(first(&root(), &[BO, BO_AGAIN]), Err(Reject::TooFewSignatures));
    assert_eq!(first(&root(), &[ADA, OTHER]), Err(Reject::TooFewSignatures));
    assert_eq!(first(&root(), &[BO, STRANGER]), Err(Reject::UnknownKey));
    let change = |change: fn(&mut Root)| {
        let mut root = root();
        change(&mut root);
        first(&root, &[BO, CY])
    };
    assert_eq!(change(|root| root.version = 2), Err(Reject::Malformed));
    assert_eq!(change(|root| root.thresholds.root = 0), Err(Reject::Malformed));
    assert_eq!(change(|root| root.thresholds.approve = 0), Err(Reject::Malformed));
    assert_eq!(change(|root| root.thresholds.grant = 9), Err(Reject::Malformed));
    assert_eq!(change(|root| root.keys[1].public = root.keys[2].public), Err(Reject::Malformed));
    assert_eq!(change(|root| root.keys[1].class = KeyClass::Hub), Err(Reject::Malformed));
    assert_eq!(change(|root| root.keys.retain(|key| key.class != KeyClass::Hub)), Err(Reject::Malformed));
}

#[test]
fn a_statement_above_its_limit_is_refused_before_it_is_read() {
    let trusted = trusted(&root());
    let body = vec![1; STATEMENT_BYTES_MAX + 1];
    let signature = by::<Connect>(trusted.fleet(), &self::body(&connect(1)), &[BO]).signatures[0];
    let signatures = std::iter::once(signature).collect();
    let signed = Signed { body: &body, signatures };
    assert_eq!(trusted.approve(&signed), Err(Reject::TooLarge));
    assert_eq!(signed.peek::<Release>(), Err(Reject::TooLarge));
    assert_eq!(trusted.hub::<Ack>(&signed, RoleSet::DIRECTOR), Err(Reject::TooLarge));
}

#[test]
fn more_signatures_than_the_limit_do_not_decode() {
    let fleet = trusted(&root()).fleet();
    let release = body(&release());
    let full: Vec<u8> = vec![ADA, ADA_APPROVES, BO, BO_AGAIN, CY, DEE, RETIRED, BROWSER];
    assert_eq!(full.len(), SIGNATURES_MAX);
    assert_eq!(approve(&full), Ok(()));
    let signed = by::<Release>(fleet, &release, &full);
    let mut buffer = [0; 8192];
    let mut frame = frame::encode(&signed, &mut buffer).unwrap().to_vec();
    let count = frame.len() - SIGNATURES_MAX * (2 + 64) - 1;
    assert_eq!(usize::from(frame[count]), 0x10 + SIGNATURES_MAX);
    frame[count] += 1;
    frame.extend_from_slice(&[0; 66]);
    assert_eq!(frame::decode::<Signed<'_>>(&frame), Err(Reject::Malformed));
}

#[test]
fn signatures_that_name_keys_by_whole_ids_count_and_keep_their_bytes() {
    let trusted = trusted(&root());
    let release = body(&release());
    let mut signed = by::<Release>(trusted.fleet(), &release, &[ADA, BO, CY]);
    let tagged = body_of(&signed);
    for (signature, seed) in signed.signatures.iter_mut().zip([ADA, BO, CY]) {
        signature.key = KeyName::Id(public(seed).id());
    }
    let whole = body_of(&signed);
    assert_eq!(whole.len(), tagged.len() + 3 * 14);
    let read: Signed<'_> = frame::decode(&whole).unwrap();
    assert_eq!(read, signed);
    assert!(trusted.approve(&read).is_ok());
    // Some of both are written as tags; an id whose tag is known is no known key.
    signed.signatures[1].key = public(BO).id().into();
    assert_eq!(body_of(&signed), tagged);
    let KeyId(mut other) = public(BO).id();
    other[15] ^= 1;
    signed.signatures[1].key = KeyName::Id(KeyId(other));
    assert_eq!(trusted.approve(&signed).err(), Some(Reject::UnknownKey));
    // None at all is written in one way only.
    signed.signatures.clear();
    let mut none = body_of(&signed);
    assert!(frame::decode::<Signed<'_>>(&none).is_ok());
    *none.last_mut().unwrap() |= 0x10;
    assert_eq!(frame::decode::<Signed<'_>>(&none), Err(Reject::NotCanonical));
}

fn body_of(signed: &Signed<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 8192];
    frame::encode(signed, &mut buffer).unwrap().to_vec()
}

#[test]
fn a_grant_for_more_buckets_than_there_are_is_refused() {
    let trusted = trusted(&root());
    let release = body(&release());
    let approved = trusted.approve(&by::<Release>(trusted.fleet(), &release, &[ADA, BO, CY])).unwrap();
    let wide = body(&grant(&release, Cohort::Buckets(BUCKETS + 1)));
    let refused = trusted.grant(&approved, &by::<StageGrant>(trusted.fleet(), &wide, &[BO]));
    assert_eq!(refused, Err(Reject::Malformed));
}

#[test]
fn a_grant_reaches_whom_it_names_and_nobody_else() {
    let trusted = trusted(&root());
    let fleet = trusted.fleet();
    let release_body = body(&release());
    let approved = trusted.approve(&by::<Release>(fleet, &release_body, &[ADA, BO, CY])).unwrap();
    let reaches = |cohort: Cohort, device: KeyId| {
        let grant = body(&grant(&release_body, cohort));
        let granted = trusted.grant(&approved, &by::<StageGrant>(fleet, &grant, &[BO])).unwrap();
        trusted.reaches(&approved, &granted, device)
    };
    let device = public(DEVICE).id();
    let bucket = bucket(fleet, &release().salt, device);
    assert!(!reaches(Cohort::Buckets(bucket), device));
    assert!(reaches(Cohort::Buckets(bucket + 1), device));
    let named = Cohort::Devices(std::iter::once(device).collect());
    assert!(reaches(named.clone(), device));
    assert!(!reaches(named, public(DEVICE + 1).id()));
    assert!(!reaches(Cohort::Devices(std::iter::empty().collect()), device));
}

/// Who goes first is drawn evenly, and anew for each salt; the numbers themselves never change.
#[test]
fn buckets_are_even_independent_and_stable() {
    const KEYS: u32 = 10_000;
    let fleet = FleetId([5; 16]);
    let key = |n: u32| KeyId(Digest::of(&n.to_le_bytes()).0[..16].try_into().unwrap());
    let mut tenths = [0u32; 10];
    let mut both = 0u32;
    for n in 0..KEYS {
        let first = bucket(fleet, &[1; 16], key(n));
        assert!(first < BUCKETS);
        tenths[usize::from(first / 100)] += 1;
        let second = bucket(fleet, &[2; 16], key(n));
        both += u32::from(first < 100 && second < 100);
    }
    // 10,000 draws into ten: mean 1,000, standard deviation 30; five of those.
    for (tenth, count) in tenths.iter().enumerate() {
        assert!(count.abs_diff(1000) < 150, "tenth {tenth} has {count}");
    }
    // In the first tenth under both salts: mean 100, standard deviation 10.
    assert!(both.abs_diff(100) < 50, "{both}");
    let golden: Vec<u16> = (0..6).map(|n| bucket(fleet, &[1; 16], key(n))).collect();
    assert_eq!(golden, GOLDEN_BUCKETS);
}

/// A device in the field computes these for itself.
const GOLDEN_BUCKETS: [u16; 6] = [89, 124, 968, 646, 630, 506];

/// What the verifier says to a first root signed by these keys.
fn first(root: &Root, seeds: &[u8]) -> Result<(), Reject> {
    let body = body(root);
    let fleet = FleetId::of_root(&body);
    TrustedRoot::first(fleet, &by::<Root>(fleet, &body, seeds)).map(drop)
}

fn assignment() -> Assignment {
    let wanted = Wanted { name: "digits".parse().unwrap(), release: Digest::of(b"release"), mode: Mode::Active };
    Assignment {
        device: "cam-1".parse().unwrap(),
        order: Order { generation: 1, sequence: 1 },
        models: std::iter::once(wanted).collect(),
        audit: Digest::default(),
    }
}

fn connect(counter: u64) -> Connect {
    Connect { device: "cam-1".parse().unwrap(), counter }
}

#[test]
fn a_signature_made_outside_this_process_is_the_same_and_another_keys_is_refused() {
    let fleet = FleetId([5; 16]);
    let release = body(&release());
    let message = signing_bytes::<Release>(fleet, &release).unwrap();
    let made = signature_made(&message, &public(BO), signature_bytes(&message, &key(BO)));
    assert_eq!(made, sign::<Release>(fleet, &release, &key(BO)));
    assert_eq!(signature_made(&message, &public(CY), signature_bytes(&message, &key(BO))), Err(Reject::BadSignature));
    let elsewhere = signing_bytes::<Release>(FleetId([6; 16]), &release).unwrap();
    let other = signature_made(&message, &public(BO), signature_bytes(&elsewhere, &key(BO)));
    assert_eq!(other, Err(Reject::BadSignature), "of another fleet");
    assert_eq!(signing_bytes::<StageGrant>(fleet, &release).map(drop), Err(Reject::Malformed), "not of this type");
}
