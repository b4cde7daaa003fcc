//! Rows 15 to 20 and 25: what was true once, or elsewhere.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Assignment, Cohort, FleetId, Release, Root, StageGrant};
use bellwether_tests::wait_until;

use crate::rogue::{BO, CY, DIRECTOR, body, by, root};
use crate::stage::{ALL, Stage, framed, grant, packed, release};

const EVERYBODY: Option<(Cohort, &[u8])> = Some((Cohort::Buckets(1000), &[BO]));

#[tokio::test(flavor = "multi_thread")]
async fn row_15_below_the_security_floor() {
    let stage = Stage::running().await;
    let linear = packed("digits-linear");
    // Version 2 of the same bytes raises the floor to itself when it commits.
    let two = body(&Release { security_floor: 2, ..release(2, &linear) });
    stage.installs(stage.offer(&two, &ALL, EVERYBODY), 2).await;
    let old = stage.offer(&stage.one, &ALL, EVERYBODY);
    stage.rogue.send_bytes(DownTopic::Desired, old, false).await;
    wait_until("the agent refuses version 1", async || {
        stage.rogue.report().is_some_and(|report| crate::stage::refusal(&report) == Some(Reject::BelowFloor))
    })
    .await;
    stage.still_runs("2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_an_old_sequence() {
    let stage = Stage::running().await;
    let release = by::<Release>(stage.rogue.fleet, &stage.one, &ALL);
    let newer = stage.offer(&stage.one, &ALL, EVERYBODY);
    stage.installs(newer, 1).await;
    stage.refuses(stage.desired(&release, None, 1), Reject::StaleSequence).await;
    stage.refuses(stage.desired(&release, None, 0), Reject::StaleSequence).await;
}

/// A desired state whose assignment is what `make` makes of the honest one, signed for `fleet`.
fn forged(stage: &Stage, fleet: FleetId, make: impl FnOnce(&mut Assignment)) -> Vec<u8> {
    let mut assignment = stage.assignment(Digest::of(&stage.one), stage.rogue.next());
    make(&mut assignment);
    let bytes = body(&assignment);
    let release = by::<Release>(stage.rogue.fleet, &stage.one, &ALL);
    let desired = Desired {
        assignment: by::<Assignment>(fleet, &bytes, &[DIRECTOR]),
        evidence: std::iter::once(Evidence { release, grant: None }).collect(),
    };
    framed(&Down::Desired(desired))
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_the_assignment_of_another_device() {
    let stage = Stage::running().await;
    let other = forged(&stage, stage.rogue.fleet, |assignment| assignment.device = "gw-2".parse().unwrap());
    stage.refuses(other, Reject::WrongDevice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_the_assignment_of_another_fleet() {
    let stage = Stage::running().await;
    stage.refuses(forged(&stage, FleetId([9; 16]), |_| {}), Reject::BadSignature).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_a_stale_retained_message_after_a_reconnect() {
    let stage = Stage::running().await;
    let stale = stage.offer(&stage.one, &ALL, EVERYBODY);
    let newer = stage.offer(&stage.one, &ALL, EVERYBODY);
    stage.installs(newer, 1).await;
    stage.rogue.send_bytes(DownTopic::Desired, stale, true).await;
    stage.refused(Reject::StaleSequence).await;
    let connected = || stage.agent.log().matches("connected session=").count();
    let before = connected();
    stage.rogue.disconnect().await;
    wait_until("the agent connects again", async || connected() > before).await;
    stage.refused(Reject::StaleSequence).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_the_grant_of_an_older_release() {
    let stage = Stage::running().await;
    let two = body(&release(2, &packed("digits-cnn")));
    let old = body(&grant(&stage.one, Cohort::Buckets(1000)));
    let signed = by::<Release>(stage.rogue.fleet, &two, &ALL);
    let old = by::<StageGrant>(stage.rogue.fleet, &old, &[BO]);
    stage.refuses(stage.desired(&signed, Some(&old), stage.rogue.next()), Reject::GrantMismatch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_a_sequence_driven_to_its_maximum_then_recovery_by_rotation() {
    let mut stage = Stage::running().await;
    let one = by::<Release>(stage.rogue.fleet, &stage.one, &ALL);
    stage.installs(stage.desired(&one, None, u64::MAX), 1).await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let two = body(&release(2, &cnn));
    stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::StaleSequence).await;
    let mut next = root();
    (next.version, next.director_generation) = (2, 2);
    let next = body(&next);
    stage.tells(Down::Root(by::<Root>(stage.rogue.fleet, &next, &[BO, CY])), Ok(())).await;
    stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::StaleGeneration).await;
    stage.generation = 2;
    stage.installs(stage.offer(&two, &ALL, EVERYBODY), 2).await;
}
