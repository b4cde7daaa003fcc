//! Rows 22 to 24: what belongs to something else.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::manifest::{FileRole, Kind};
use bellwether_protocol::package::{HEADER_BYTES, Package, encode_head};
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Cohort, Release, Requires};
use bellwether_runtime::fpga::UP5K;
use bellwether_runtime::prepare::tensors_digest;
use bellwether_runtime::{Beside, prepare};
use bellwether_tests::files::data;

use crate::rogue::{BO, Serve, body};
use crate::stage::{ALL, Packed, Stage, packed, release};

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
    // A pair that the engine itself denies is in `tests/offload`.
    let stage = Stage::running().await;
    let linear = packed("digits-linear");
    for kind in [Kind::Bitstream, Kind::Agent, Kind::Firmware] {
        let two = body(&Release { kind, ..release(2, &linear) });
        stage.refuses(stage.offer(&two, &ALL, EVERYBODY), Reject::WrongKind).await;
    }
}

/// A model with its bitstream, of which `change` makes another before all is hashed.
fn paired(change: &dyn Fn(&[u8]) -> Vec<u8>) -> Packed {
    let model = std::fs::read(data("digits-cnn-eight.onnx")).unwrap();
    let beside = Beside { bitstream: Some(UP5K), ..Beside::default() };
    let prepared = prepare(&"digits".parse().unwrap(), "model.onnx", &model, &beside).unwrap();
    let mut manifest = prepared.manifest.clone();
    let mut bytes = Vec::new();
    for (file, (_, content)) in manifest.files.iter_mut().zip(Package::open(&prepared.package).unwrap().files()) {
        let content = if file.role == FileRole::Bitstream { change(content) } else { content.to_vec() };
        (file.size, file.digest) = (u32::try_from(content.len()).unwrap(), Digest::of(&content));
        bytes.extend(content);
    }
    let mut buffer = vec![0; STATEMENT_BYTES_MAX + HEADER_BYTES];
    let head = encode_head(&manifest, &mut buffer).unwrap();
    let tensors = tensors_digest(&manifest.tensors).unwrap();
    Packed { source: prepared.source, tensors, bytes: [head, &bytes].concat() }
}

/// Whoever signs them: a damaged bitstream, half of one, that of a part that there is not, one without a name.
#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_model_with_the_wrong_bitstream() {
    let damaged = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[5000] ^= 1;
        bytes
    };
    let nameless = |bytes: &[u8]| {
        let comment_ends = bytes.windows(2).position(|pair| pair == [0x00, 0xff]).unwrap();
        [&[0xff, 0x00], &bytes[comment_ends..]].concat()
    };
    for change in
        [&damaged as &dyn Fn(&[u8]) -> Vec<u8>, &|bytes| bytes[..bytes.len() / 2].to_vec(), &|_| vec![0; 64], &nameless]
    {
        let stage = Stage::running().await;
        let mixed = paired(change);
        stage.rogue.keep(&mixed.bytes);
        refused_later(&stage, &body(&release(2, &mixed)), Reject::BitstreamMismatch).await;
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
