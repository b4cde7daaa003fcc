//! Rows 22 to 24: what belongs to something else.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::manifest::Kind;
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Cohort, Release, Requires};

use crate::rogue::{BO, Serve, body};
use crate::stage::{ALL, Stage, packed, release};

const EVERYBODY: Option<(Cohort, &[u8])> = Some((Cohort::Buckets(1000), &[BO]));

/// Offers what is lawful until its bytes are looked at; the agent refuses it with this code.
async fn refused_later(stage: &Stage, two: &[u8], expected: Reject) {
    stage.rogue.send_bytes(DownTopic::Desired, stage.offer(two, &ALL, EVERYBODY), false).await;
    stage.refused(expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_22_the_approval_of_one_with_the_bytes_of_another() {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let mut other = packed("digits-linear").bytes;
    other.resize(cnn.bytes.len(), 0);
    stage.rogue.serve(Serve::Swapped(other));
    refused_later(&stage, &body(&release(2, &cnn)), Reject::DigestMismatch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_bitstream_where_a_model_belongs() {
    // A model with the wrong bitstream is deepened where there is an FPGA; here as far as today's parts go.
    let stage = Stage::running().await;
    let linear = packed("digits-linear");
    for kind in [Kind::Bitstream, Kind::Agent, Kind::Firmware] {
        let two = body(&Release { kind, ..release(2, &linear) });
        stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::WrongKind).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_other_hardware_tensors_agent_operators_or_memory() {
    let stage = Stage::running().await;
    let linear = packed("digits-linear");
    let honest = || release(2, &linear);
    let fpga = std::iter::once("ice40-up5k".parse().unwrap()).collect();
    let requires = honest().requires;
    for (changed, expected) in [
        (Release { hardware: fpga, ..honest() }, Reject::WrongHardware),
        (Release { requires: Requires { agent: [99, 0, 0], ..requires }, ..honest() }, Reject::AgentTooOld),
        (Release { requires: Requires { operators: 999, ..requires }, ..honest() }, Reject::OperatorsUnsupported),
        (Release { requires: Requires { memory_kib: u32::MAX, ..requires }, ..honest() }, Reject::NotEnoughMemory),
    ] {
        stage.refuses(stage.offer(&body(&changed), &ALL, EVERYBODY), expected).await;
    }
    let tensors = body(&Release { tensors: Digest::of(b"other tensors"), ..honest() });
    refused_later(&stage, &tensors, Reject::TensorMismatch).await;
}
