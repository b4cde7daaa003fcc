//! Rows 26 to 29: logical time.

use bellwether_protocol::error::Reject;
use bellwether_protocol::message::Down;
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Cohort, Epoch, Release, StageGrant, Validity};
use bellwether_tests::wait_until;

use crate::rogue::{BO, Serve, TIME, body, by};
use crate::stage::{ALL, Stage, grant, packed, release};

/// Version 2 with a grant of this validity, as a frame.
fn granted(stage: &Stage, two: &[u8], validity: Validity) -> Vec<u8> {
    let signed = by::<Release>(stage.rogue.fleet, two, &ALL);
    let grant = body(&StageGrant { validity: Some(validity), ..grant(two, Cohort::Buckets(1000)) });
    let grant = by::<StageGrant>(stage.rogue.fleet, &grant, &[BO]);
    stage.desired(&signed, Some(&grant), stage.rogue.next())
}

async fn two() -> (Stage, Vec<u8>) {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let two = body(&release(2, &cnn));
    (stage, two)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_a_frozen_clock_an_old_epoch_for_a_new_nonce() {
    let (stage, two) = two().await;
    stage.tell_time(100).await;
    let old = stage.rogue.known().unwrap().nonce;
    stage.rogue.disconnect().await;
    wait_until("the agent asks anew", async || stage.rogue.known().is_some_and(|known| known.nonce != old)).await;
    let frozen = body(&Epoch { generation: 1, epoch: 100, nonce: old });
    let signed = by::<Epoch>(stage.rogue.fleet, &frozen, &[TIME]);
    stage.tells(Down::Epoch(signed), Err(Reject::NonceMismatch)).await;
    // The agent has no time on this connection, so nothing that expires begins.
    let offer = granted(&stage, &two, Validity { from: 90, until: 110 });
    stage.rogue.send_bytes(DownTopic::Desired, offer, false).await;
    stage.refused(Reject::NotInEpoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_an_epoch_rolled_back() {
    let (stage, two) = two().await;
    stage.tell_time(100).await;
    let nonce = stage.rogue.known().unwrap().nonce;
    let earlier = body(&Epoch { generation: 1, epoch: 99, nonce });
    let earlier = by::<Epoch>(stage.rogue.fleet, &earlier, &[TIME]);
    let refused = || stage.agent.log().matches(&crate::stage::logged(Err(Reject::StaleEpoch))).count();
    stage.rogue.send(DownTopic::Trust, &Down::Epoch(earlier), false).await;
    wait_until("the earlier epoch is refused", async || refused() > 0).await;
    stage.refuses(granted(&stage, &two, Validity { from: 90, until: 99 }), Reject::NotInEpoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_an_approval_that_expired_meanwhile_is_refused_and_a_newer_one_accepted() {
    let (stage, two) = two().await;
    stage.tell_time(156).await;
    stage.refuses(granted(&stage, &two, Validity { from: 90, until: 110 }), Reject::NotInEpoch).await;
    stage.installs(granted(&stage, &two, Validity { from: 150, until: 170 }), 2).await;
    // Eight weeks in virtual time, with a chain of roots: agent/core/tests/trust.rs.
}

#[tokio::test(flavor = "multi_thread")]
async fn row_29_expiry_between_download_and_activation() {
    let (stage, two) = two().await;
    stage.tell_time(100).await;
    stage.rogue.serve(Serve::Silent);
    let offer = granted(&stage, &two, Validity { from: 90, until: 100 });
    stage.rogue.send_bytes(DownTopic::Desired, offer, false).await;
    wait_until("the download began", async || {
        let report = stage.rogue.report();
        report.is_some_and(|report| report.models.iter().any(|model| model.phase.name() == "fetching"))
    })
    .await;
    stage.tell_time(101).await;
    stage.rogue.serve(Serve::Honest);
    stage.refused(Reject::NotInEpoch).await;
}
