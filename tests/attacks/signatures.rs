//! Rows 1 to 10, 36 to 38, 40 and 49: who signed what.

use bellwether_protocol::SigningKey;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::message::Down;
use bellwether_protocol::trust::{
    Checkpoint, Cohort, Floor, KeyStatus, Otherwise, PublicKey, Recall, Release, Root, Signature, SignatureBytes,
    Signed,
};

use crate::rogue::{
    ADA, ADA_APPROVES, BO, BO_AGAIN, BROWSER, BROWSER_TOO, CY, DIRECTOR, OTHER, REGISTRY, RETIRED, REVOKED, STRANGER,
    body, by, key, root,
};
use crate::stage::{ALL, Stage, packed, release};

const EVERYBODY: Option<(Cohort, &[u8])> = Some((Cohort::Buckets(1000), &[BO]));

/// Version 2, packed and kept by the rogue.
async fn two() -> (Stage, Vec<u8>) {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let two = body(&release(2, &cnn));
    (stage, two)
}

async fn refused_by(signers: &[u8], expected: Reject) {
    let (stage, two) = two().await;
    stage.refuses(stage.offer(&two, signers, EVERYBODY), expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_unsigned() {
    refused_by(&[], Reject::NoPublisher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_a_bit_flipped_in_body_or_signature() {
    let (stage, two) = two().await;
    let honest = by::<Release>(stage.rogue.fleet, &two, &ALL);
    for flipped in 0..honest.signatures.len() {
        let mut signed = honest.clone();
        let mut bytes = signed.signatures[flipped].bytes.to_bytes();
        bytes[17] ^= 4;
        signed.signatures[flipped].bytes = SignatureBytes::new(bytes);
        stage.refuses(stage.offer_signed(&signed, EVERYBODY), Reject::BadSignature).await;
    }
    // The last byte of a release without validity says so: one bit of the salt before it, instead.
    let mut changed = two.clone();
    let last = changed.len() - 4;
    changed[last] ^= 1;
    let signed = Signed { body: &changed, signatures: honest.signatures.clone() };
    stage.refuses(stage.offer_signed(&signed, EVERYBODY), Reject::BadSignature).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_one_approval_too_few() {
    refused_by(&[ADA, BO], Reject::TooFewSignatures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_one_key_twice() {
    refused_by(&[ADA, BO, BO], Reject::DuplicateKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_two_keys_of_one_person() {
    refused_by(&[ADA, BO, BO_AGAIN], Reject::TooFewSignatures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_06_the_publisher_approves_itself() {
    refused_by(&[ADA, ADA_APPROVES, BO], Reject::TooFewSignatures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_07_an_approver_of_another_prefix() {
    refused_by(&[ADA, BO, OTHER], Reject::WrongPrefix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_08_a_revoked_key_and_a_retired_one_still_counts() {
    let (stage, two) = two().await;
    stage.refuses(stage.offer(&two, &[ADA, BO, REVOKED], EVERYBODY), Reject::KeyRevoked).await;
    stage.installs(stage.offer(&two, &[ADA, BO, RETIRED], EVERYBODY), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_09_the_bytes_of_one_statement_as_another_type() {
    let (stage, two) = two().await;
    // Signed as a stage grant (type 3), sent as a release (type 2): the type is in what is signed.
    let as_grant = |seed: &u8| -> Signature {
        let message = [b"BWL1\0\x03".as_slice(), &stage.rogue.fleet.0, &two].concat();
        let signing: SigningKey = key(*seed);
        let id = PublicKey(signing.verifying_key().to_bytes()).id();
        Signature { key: id.into(), bytes: SignatureBytes::new(sign_raw(&signing, &message)) }
    };
    let signed = Signed { body: &two, signatures: ALL.iter().map(as_grant).collect() };
    stage.refuses(stage.offer_signed(&signed, EVERYBODY), Reject::BadSignature).await;
}

/// Ed25519 over any bytes, by ring: the protocol signs nothing but statements.
fn sign_raw(signing: &SigningKey, message: &[u8]) -> [u8; 64] {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&signing.to_bytes()).unwrap();
    pair.sign(message).as_ref().try_into().unwrap()
}

/// The order of the group: a signature with it added to `s` verifies where that is not looked at.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[tokio::test(flavor = "multi_thread")]
async fn row_10_malleable_ed25519() {
    let (stage, two) = two().await;
    let mut signed = by::<Release>(stage.rogue.fleet, &two, &ALL);
    let mut bytes = signed.signatures[1].bytes.to_bytes();
    let mut carry = 0u16;
    for (at, order) in ORDER.into_iter().enumerate() {
        let sum = u16::from(bytes[32 + at]) + u16::from(order) + carry;
        (bytes[32 + at], carry) = (sum as u8, sum >> 8);
    }
    signed.signatures[1].bytes = SignatureBytes::new(bytes);
    stage.refuses(stage.offer_signed(&signed, EVERYBODY), Reject::BadSignature).await;
    // Weak points as keys and the rest of the published vectors: protocol/tests/wycheproof.rs.
}

#[tokio::test(flavor = "multi_thread")]
async fn row_36_a_stage_widened_past_its_grant_and_ground_buckets() {
    let (stage, two) = two().await;
    let none = Some((Cohort::Buckets(0), [BO].as_slice()));
    stage.refuses(stage.offer(&two, &ALL, none), Reject::NotGranted).await;
    let others = Cohort::Devices(std::iter::once(crate::rogue::public(77).id()).collect());
    stage.refuses(stage.offer(&two, &ALL, Some((others, &[BO]))), Reject::NotGranted).await;
    stage.refuses(stage.offer(&two, &ALL, None), Reject::NotGranted).await;
    // The hub grants more itself, with every key it has.
    for seed in [[DIRECTOR], [REGISTRY]] {
        let own = Some((Cohort::Buckets(1000), seed.as_slice()));
        stage.refuses(stage.offer(&two, &ALL, own), Reject::TooFewSignatures).await;
    }
    let stranger = Some((Cohort::Buckets(1000), [STRANGER].as_slice()));
    stage.refuses(stage.offer(&two, &ALL, stranger), Reject::UnknownKey).await;
    // Another salt puts this device first, but then nobody signed it.
    let honest = by::<Release>(stage.rogue.fleet, &two, &ALL);
    let ground = body(&Release { salt: [4; 16], ..honest.peek().unwrap() });
    let signed = Signed { body: &ground, signatures: honest.signatures.clone() };
    stage.refuses(stage.offer_signed(&signed, EVERYBODY), Reject::BadSignature).await;
}

fn recall_of(release: &[u8]) -> Vec<u8> {
    let name = "digits".parse().unwrap();
    body(&Recall { name, releases: std::iter::once(Digest::of(release)).collect(), otherwise: Otherwise::Stop })
}

#[tokio::test(flavor = "multi_thread")]
async fn row_37_a_recalled_release_offered_again_to_a_device_that_knows() {
    let (stage, two) = two().await;
    let recall = recall_of(&two);
    stage.tells(Down::Recall(by::<Recall>(stage.rogue.fleet, &recall, &[BO])), Ok(())).await;
    stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::Recalled).await;
    stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::Recalled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_38_a_forged_recall_and_one_outside_the_prefix() {
    let (stage, _) = two().await;
    let recall = recall_of(&stage.one);
    for (seed, reject) in [
        (DIRECTOR, Reject::WrongRole),
        (REGISTRY, Reject::WrongRole),
        (ADA, Reject::WrongRole),
        (OTHER, Reject::WrongPrefix),
        (REVOKED, Reject::KeyRevoked),
        (STRANGER, Reject::UnknownKey),
    ] {
        stage.tells(Down::Recall(by::<Recall>(stage.rogue.fleet, &recall, &[seed])), Err(reject)).await;
    }
    let unsigned = Down::Recall(Signed { body: &recall, signatures: std::iter::empty().collect() });
    stage.tells(unsigned, Err(Reject::TooFewSignatures)).await;
    stage.still_runs("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_40_a_quorum_of_browser_keys_where_the_root_forbids_it() {
    let strict = Root { offline_approval: true, ..root() };
    let stage = Stage::under(&strict, "").await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let two = body(&release(2, &cnn));
    stage.refuses(stage.offer(&two, &[ADA, BROWSER, BROWSER_TOO], EVERYBODY), Reject::OfflineKeyMissing).await;
    stage.installs(stage.offer(&two, &[ADA, BROWSER, CY], EVERYBODY), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_49_one_approver_drives_no_floor_to_its_maximum() {
    let (stage, two) = two().await;
    let floor = Floor { name: "digits".parse().unwrap(), version: u32::MAX.try_into().unwrap() };
    let checkpoint = body(&Checkpoint {
        number: 1,
        recalls: std::iter::empty().collect(),
        floors: std::iter::once(floor).collect(),
    });
    let alone = by::<Checkpoint>(stage.rogue.fleet, &checkpoint, &[BO]);
    stage.tells(Down::Checkpoint(alone), Err(Reject::TooFewSignatures)).await;
    let twice = by::<Checkpoint>(stage.rogue.fleet, &checkpoint, &[BO, BO_AGAIN]);
    stage.tells(Down::Checkpoint(twice), Err(Reject::TooFewSignatures)).await;
    // In a release k people may raise it, but never above that very release.
    let honest = by::<Release>(stage.rogue.fleet, &two, &ALL);
    let greedy = body(&Release { security_floor: u32::MAX, ..honest.peek().unwrap() });
    stage.installs(stage.offer(&greedy, &ALL, EVERYBODY), 2).await;
    let linear = packed("digits-linear");
    let three = body(&release(3, &linear));
    stage.installs(stage.offer(&three, &ALL, EVERYBODY), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_43_a_forged_command() {
    use bellwether_protocol::trust::{Command, Order, Request};
    let (stage, _) = two().await;
    let command = |sequence| Command {
        device: stage.rogue.device.clone(),
        order: Order { generation: 1, sequence },
        request: Request::Report,
    };
    for (seed, reject) in [(REGISTRY, Reject::WrongRole), (BO, Reject::WrongRole), (STRANGER, Reject::UnknownKey)] {
        let bytes = body(&command(9));
        let refused = stage.agent.log().matches(&crate::stage::logged(Err(reject))).count();
        let signed = by::<Command>(stage.rogue.fleet, &bytes, &[seed]);
        stage.rogue.send(bellwether_protocol::topic::DownTopic::Command, &Down::Command(signed), false).await;
        bellwether_tests::wait_until("the command is refused", async || {
            stage.agent.log().matches(&crate::stage::logged(Err(reject))).count() > refused
        })
        .await;
    }
    stage.still_runs("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_43_a_forged_acknowledgement_deletes_nothing() {
    use bellwether_protocol::trust::{Ack, OutboxId};
    let (stage, _) = two().await;
    bellwether_tests::wait_until("a batch was sent", async || stage.rogue.batches() > 0).await;
    let ack = body(&Ack { device: stage.rogue.device.clone(), outbox: OutboxId([0; 16]), through: u64::MAX });
    for seed in [REGISTRY, BO, STRANGER, DIRECTOR] {
        let signed = by::<Ack>(stage.rogue.fleet, &ack, &[seed]);
        stage.rogue.send(bellwether_protocol::topic::DownTopic::Ack, &Down::Ack(signed), false).await;
    }
    let refused = || stage.agent.log().matches("an acknowledgement is refused").count();
    // The director's key is the attacker's, so it must fail by naming an outbox that is not this one.
    bellwether_tests::wait_until("all four are refused", async || refused() >= 4).await;
    let before = stage.rogue.batches();
    bellwether_tests::wait_until("the records are sent again", async || stage.rogue.batches() > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lost_after_it_signed_stops_counting_on_the_device() {
    let (stage, two) = two().await;
    let mut next = root();
    next.version = 2;
    next.keys.iter_mut().find(|entry| entry.public == crate::rogue::public(BO)).unwrap().status = KeyStatus::Revoked;
    let next = body(&next);
    stage.tells(Down::Root(by::<Root>(stage.rogue.fleet, &next, &[CY, crate::rogue::DEE])), Ok(())).await;
    let by_cy = Some((Cohort::Buckets(1000), [CY].as_slice()));
    stage.refuses(stage.offer(&two, &ALL, by_cy), Reject::KeyRevoked).await;
}
