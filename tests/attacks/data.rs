//! Rows 30 to 35, 47 and 48: bytes that never end, never come, or are not what they seem.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::CHUNK_BYTES;
use bellwether_protocol::message::{Desired, Down, Evidence};
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Assignment, Cohort, PackageRef, Phase, Release};
use bellwether_tests::files::data;
use bellwether_tests::wait_until;

use crate::rogue::{BO, DIRECTOR, Serve, body, by};
use crate::stage::{ALL, Packed, Stage, framed, packed, release};

const EVERYBODY: Option<(Cohort, &[u8])> = Some((Cohort::Buckets(1000), &[BO]));

async fn refused_later(stage: &Stage, two: &[u8], expected: Reject) {
    stage.rogue.send_bytes(DownTopic::Desired, stage.offer(two, &ALL, EVERYBODY), false).await;
    stage.refused(expected).await;
}

/// Bytes that the device keeps.
fn disk(stage: &Stage) -> u64 {
    fn of(path: &std::path::Path) -> u64 {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .map(|entry| {
                entry.metadata().map_or(0, |facts| if facts.is_dir() { of(&entry.path()) } else { facts.len() })
            })
            .sum()
    }
    of(&stage.agent.data())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_30_endless_data() {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    let before = disk(&stage);
    stage.rogue.serve(Serve::Endless);
    refused_later(&stage, &body(&release(2, &cnn)), Reject::DigestMismatch).await;
    let grown = disk(&stage).saturating_sub(before);
    assert!(grown < cnn.bytes.len() as u64 + (1 << 20), "{grown} bytes more on disk");
    // A release larger than any package may be is refused before anything is fetched.
    let package = PackageRef { size: u64::MAX, ..release(3, &cnn).package };
    let huge = body(&Release { package, ..release(3, &cnn) });
    stage.refuses(stage.offer(&huge, &ALL, EVERYBODY), Reject::TooLarge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_download_that_never_ends() {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    stage.rogue.serve(Serve::Silent);
    stage.rogue.send_bytes(DownTopic::Desired, stage.offer(&body(&release(2, &cnn)), &ALL, EVERYBODY), false).await;
    wait_until("the download began", async || {
        let report = stage.rogue.report();
        report.is_some_and(|report| report.models.iter().any(|model| model.phase.name() == "fetching"))
    })
    .await;
    // It serves all the while, and something newer takes the place of what never comes.
    stage.still_runs("1").await;
    stage.rogue.serve(Serve::Honest);
    let linear = packed("digits-linear");
    let three = body(&release(3, &linear));
    stage.rogue.send_bytes(DownTopic::Desired, stage.offer(&three, &ALL, EVERYBODY), false).await;
    stage.runs(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_a_truncated_package_and_one_that_changes_while_it_is_fetched() {
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    stage.rogue.keep(&cnn.bytes);
    assert!(cnn.bytes.len() < 8 * CHUNK_BYTES, "one question asks for all of it");
    stage.rogue.serve(Serve::Cut(1));
    let two = body(&release(2, &cnn));
    stage.rogue.send_bytes(DownTopic::Desired, stage.offer(&two, &ALL, EVERYBODY), false).await;
    // The last chunk is short and has another digest: it is asked for until it comes whole.
    wait_until("the short chunk is thrown away", async || {
        let report = stage.rogue.report();
        report.is_some_and(|report| report.models.iter().any(|model| model.phase.name() == "fetching"))
    })
    .await;
    stage.still_runs("1").await;
    stage.rogue.serve(Serve::Honest);
    stage.runs(2).await;
}

/// A package whose manifest names a file outside of its folder: the same length, so the sizes hold.
fn traversing() -> Packed {
    let mut packed = packed("digits-linear");
    let name = b"model.onnx";
    let at = packed.bytes.windows(name.len()).position(|window| window == name).unwrap();
    packed.bytes[at..at + name.len()].copy_from_slice(b"../../evil");
    packed
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_path_traversal_and_a_file_that_claims_to_be_huge() {
    let stage = Stage::running().await;
    let evil = traversing();
    stage.rogue.keep(&evil.bytes);
    refused_later(&stage, &body(&release(2, &evil)), Reject::Malformed).await;
    assert!(!stage.agent.data().join("../evil").exists() && !stage.agent.data().join("../../evil").exists());
    // Nothing is compressed, so a bomb can only lie about lengths: the header claims 4 GiB of manifest.
    let mut bomb = packed("digits-linear");
    bomb.bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    stage.rogue.keep(&bomb.bytes);
    refused_later(&stage, &body(&release(3, &bomb)), Reject::TooLarge).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_34_trailing_bytes_overlong_numbers_and_unknown_formats() {
    let stage = Stage::running().await;
    let honest = |stage: &Stage| body(&stage.assignment(Digest::of(&stage.one), stage.rogue.next()));
    let trailing = [honest(&stage), vec![0]].concat();
    let mut unknown = honest(&stage);
    unknown[0] = 2;
    // The device id's length of 4, written in two bytes instead of one.
    let plain = honest(&stage);
    assert_eq!(plain[1], 4);
    let overlong = [&plain[..1], &[0x84, 0x00], &plain[2..]].concat();
    let cut = plain[..plain.len() / 2].to_vec();
    for (bytes, expected) in [
        (trailing, Reject::TrailingBytes),
        (unknown, Reject::UnknownFormat),
        (overlong, Reject::NotCanonical),
        (cut, Reject::Malformed),
    ] {
        // The director's key is the attacker's, so the signature is good.
        let signature = raw_signed(&stage, &bytes);
        let assignment =
            bellwether_protocol::trust::Signed { body: &bytes, signatures: std::iter::once(signature).collect() };
        let release = by::<Release>(stage.rogue.fleet, &stage.one, &ALL);
        let evidence = std::iter::once(Evidence { release, grant: None }).collect();
        stage.refuses(framed(&Down::Desired(Desired { assignment, evidence })), expected).await;
    }
}

/// The director's signature over bytes that are no assignment.
fn raw_signed(stage: &Stage, bytes: &[u8]) -> bellwether_protocol::trust::Signature {
    use bellwether_protocol::trust::{Signature, SignatureBytes, Statement as _};
    let kind = [Assignment::TYPE as u8];
    let message = [b"BWL1\0".as_slice(), &kind, &stage.rogue.fleet.0, bytes].concat();
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[DIRECTOR; 32]).unwrap();
    let bytes: [u8; 64] = pair.sign(&message).as_ref().try_into().unwrap();
    Signature { key: crate::rogue::public(DIRECTOR).id().into(), bytes: SignatureBytes::new(bytes) }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_35_a_model_that_the_runtime_cannot_bear() {
    // Twelve thousand kinds of them: `tests/hostile`. Here: two that everybody meets, approved and still harmless.
    let stage = Stage::running().await;
    let model = std::fs::read(data("digits-linear.onnx")).unwrap();
    for (version, file, expected) in [
        (2, "bad/truncated.onnx", Reject::ModelDoesNotLoad),
        (3, "bad/unsupported-operator.onnx", Reject::ModelDoesNotLoad),
    ] {
        let evil = repacked(&model, &std::fs::read(data(file)).unwrap());
        stage.rogue.keep(&evil.bytes);
        refused_later(&stage, &body(&release(version, &evil)), expected).await;
    }
}

/// The linear package with other bytes for its model.
fn repacked(honest: &[u8], evil: &[u8]) -> Packed {
    use bellwether_protocol::manifest::FileRole;
    use bellwether_protocol::package::{HEADER_BYTES, Package, encode_head};
    let linear = packed("digits-linear");
    let package = Package::open(&linear.bytes).unwrap();
    let mut manifest = package.manifest().clone();
    for file in manifest.files.iter_mut().filter(|file| file.role == FileRole::Model) {
        assert_eq!(file.size as usize, honest.len());
        (file.size, file.digest) = (evil.len() as u32, Digest::of(evil));
    }
    let mut buffer = vec![0; HEADER_BYTES + 4096];
    let mut bytes = encode_head(&manifest, &mut buffer).unwrap().to_vec();
    for (file, content) in package.files() {
        bytes.extend_from_slice(if file.role == FileRole::Model { evil } else { content });
    }
    Packed { bytes, source: Digest::of(evil), tensors: linear.tensors }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_47_the_slot_changed_between_check_and_activation() {
    use bellwether_tests::agent::{Agent, Settings};
    // The agent ends as by a power cut once the bytes were checked; then somebody changes one of them.
    let stage = Stage::running().await;
    let cnn = packed("digits-cnn");
    let rogue = &stage.rogue;
    rogue.keep(&cnn.bytes);
    let other = crate::rogue::Rogue::start(&crate::rogue::root(), "gw-7").await;
    let linear = packed("digits-linear");
    other.keep(&linear.bytes);
    let settings = Settings { crash: Some("agent.hashed"), ..Settings::default() };
    let mut agent = Agent::start_as(&other.url, &other.token(), "gw-7", &settings);
    bellwether_tests::wait::wait_for("it reports", async || other.report()).await;
    let one = body(&release(1, &linear));
    let elsewhere = Stage {
        rogue: other,
        brain: std::sync::Mutex::new(stage.brain.lock().unwrap().clone()),
        agent: stage.agent,
        one: one.clone(),
        generation: 1,
    };
    let offer = elsewhere.offer(&one, &ALL, EVERYBODY);
    elsewhere.rogue.send_bytes(DownTopic::Desired, offer, false).await;
    let status = agent.process().end(std::time::Duration::from_secs(30));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "it ends where it should");
    let slot = agent.data().join("models/digits/a.pkg");
    let mut bytes = std::fs::read(&slot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&slot, bytes).unwrap();
    agent.restart();
    // Either it asks for what was changed anew, or it gives the install up; the changed bytes never run.
    let phase = bellwether_tests::wait::wait_for("the install ends", async || {
        let report = elsewhere.rogue.report()?;
        let model = report.models.first()?;
        matches!(model.phase, Phase::Committed | Phase::Rejected).then_some((model.phase, model.reject))
    })
    .await;
    match phase {
        (Phase::Rejected, reject) => {
            assert_eq!((reject, agent.score().await), (Some(Reject::DigestMismatch), None));
        }
        _ => assert_eq!(Digest::of(&std::fs::read(&slot).unwrap()), Digest::of(&linear.bytes)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_48_a_power_cut_while_the_pointer_is_written() {
    // Every step and every write, with torn ones: the simulator. Here: a real agent, killed where it
    // has switched and not yet said so.
    use bellwether_tests::agent::{Agent, Settings};
    let rogue = crate::rogue::Rogue::start(&crate::rogue::root(), "gw-1").await;
    let linear = packed("digits-linear");
    rogue.keep(&linear.bytes);
    let settings = Settings { crash: Some("agent.activate.pointed"), ..Settings::default() };
    let mut agent = Agent::start_as(&rogue.url, &rogue.token(), "gw-1", &settings);
    let report = bellwether_tests::wait::wait_for("it reports", async || rogue.report()).await;
    assert_eq!(report.models.len(), 0);
    let one = body(&release(1, &linear));
    let assignment = body(&Assignment {
        device: rogue.device.clone(),
        order: bellwether_protocol::trust::Order { generation: 1, sequence: 1 },
        models: std::iter::once(bellwether_protocol::trust::Wanted {
            name: "digits".parse().unwrap(),
            release: Digest::of(&one),
            mode: bellwether_protocol::trust::Mode::Active,
        })
        .collect(),
        audit: Digest::default(),
    });
    let grant = body(&crate::stage::grant(&one, Cohort::Buckets(1000)));
    let evidence = Evidence {
        release: by::<Release>(rogue.fleet, &one, &ALL),
        grant: Some(by::<bellwether_protocol::trust::StageGrant>(rogue.fleet, &grant, &[BO])),
    };
    let assignment = by::<Assignment>(rogue.fleet, &assignment, &[DIRECTOR]);
    let desired = framed(&Down::Desired(Desired { assignment, evidence: std::iter::once(evidence).collect() }));
    rogue.send_bytes(DownTopic::Desired, desired, false).await;
    agent.restart_after_crash();
    wait_until("it is committed after the cut", async || {
        let report = rogue.report();
        report.is_some_and(|report| report.models.iter().any(|model| model.phase.name() == "committed"))
    })
    .await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}
