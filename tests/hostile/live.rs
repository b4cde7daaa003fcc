//! A few of the kinds against the real programs: a hub that anybody with a publisher's token talks
//! to, and an agent to which people have approved them. Both must go on with what they do.

use std::time::Duration;

use bellwether_hub::api::types::RegisterRequest;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::manifest::FileRole;
use bellwether_protocol::package::{HEADER_BYTES, Package, encode_head};
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Cohort, Phase};
use bellwether_runtime::{Beside, prepare};
use bellwether_tests::Fleet;
use bellwether_tests::wait::wait_for_within;

use crate::kinds::Kind;
use crate::pool::Opened;
use crate::rogue::{BO, body};
use crate::stage::{ALL, Packed, Stage, packed, release};
use crate::worker::Outcome;

/// Kinds that are refused, spread over the families, which hub and agent are given.
const REFUSED: usize = 40;
/// Kinds that are scored, which the hub registers, of which the first few are rolled out.
const SCORED: usize = 12;
const ROLLED_OUT: usize = 3;
/// Longest that an agent may take with one of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Refused by the hub.
    pub(crate) refused: usize,
    /// Registered there.
    pub(crate) registered: usize,
    /// Refused by the agent.
    pub(crate) rejected: usize,
    /// Taken by an agent.
    pub(crate) taken: usize,
}

/// Every nth of those that are so.
fn spread(results: &[(Kind, Opened)], count: usize, is: impl Fn(&Outcome) -> bool) -> Vec<&Kind> {
    let found: Vec<&Kind> =
        results.iter().filter(|(kind, opened)| !kind.is_sound && is(&opened.outcome)).map(|(kind, _)| kind).collect();
    let step = (found.len() / count).max(1);
    found.into_iter().step_by(step).take(count).collect()
}

/// Gives them to both.
pub(crate) async fn attack(results: &[(Kind, Opened)]) -> Live {
    let mut refused = spread(results, REFUSED, |outcome| matches!(outcome, Outcome::Refused(_)));
    // What was caught or ended a child is of most interest.
    refused.extend(spread(results, REFUSED / 4, |outcome| matches!(outcome, Outcome::Caught(_) | Outcome::Died(_))));
    let scored = spread(results, SCORED, |outcome| *outcome == Outcome::Scored);
    let mut live = Live::default();
    hub(&refused, &scored, &mut live).await;
    agent(&refused, &mut live).await;
    live
}

/// The package of the linear model with other bytes for its model.
fn repacked(evil: &[u8]) -> Packed {
    let linear = packed("digits-linear");
    let package = Package::open(&linear.bytes).unwrap();
    let mut manifest = package.manifest().clone();
    for file in manifest.files.iter_mut().filter(|file| file.role == FileRole::Model) {
        (file.size, file.digest) = (evil.len() as u32, Digest::of(evil));
    }
    let mut buffer = vec![0; HEADER_BYTES + 4096];
    let mut bytes = encode_head(&manifest, &mut buffer).unwrap().to_vec();
    for (file, content) in package.files() {
        bytes.extend_from_slice(if file.role == FileRole::Model { evil } else { content });
    }
    Packed { bytes, source: Digest::of(evil), tensors: linear.tensors }
}

async fn hub(refused: &[&Kind], scored: &[&Kind], live: &mut Live) {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    fleet.approve("digits:1");
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let client = fleet.api();
    let request = |package: String, source: Digest| RegisterRequest {
        package,
        source: source.to_string(),
        file_name: "model.onnx".into(),
        ..RegisterRequest::default()
    };
    for kind in refused {
        let packed = repacked(&kind.bytes);
        let name = "digits";
        let uploaded = client.put_package(packed.bytes).await.unwrap();
        let answer = client.register(name, &request(uploaded.digest, packed.source)).await;
        assert!(answer.is_err(), "{} is registered: {answer:?}", kind.name);
        live.refused += 1;
    }
    for (index, kind) in scored.iter().enumerate() {
        let name = format!("stranger-{index}");
        let prepared = prepare(&name.parse().unwrap(), "model.onnx", &kind.bytes, &Beside::default()).unwrap();
        let uploaded = client.put_package(prepared.package).await.unwrap();
        if let Err(why) = client.register(&name, &request(uploaded.digest, prepared.source)).await {
            panic!("{} scores and is not registered: {why}", kind.name);
        }
        live.registered += 1;
        if index < ROLLED_OUT {
            fleet.cli.ok(&["model", "publish", &format!("{name}:1"), "--key", "ada"]);
            fleet.approve(&format!("{name}:1"));
            fleet.roll_out(&format!("{name}:1"));
            live.taken += 1;
        }
    }
    fleet.still_serves().await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)), "the agent answers as before");
    assert!(!agent.log().contains("panicked"), "the agent panicked:\n{}", agent.log());
}

async fn agent(refused: &[&Kind], live: &mut Live) {
    let stage = Stage::running().await;
    for (kind, version) in refused.iter().zip(2..) {
        let packed = repacked(&kind.bytes);
        stage.rogue.keep(&packed.bytes);
        let offer = stage.offer(&body(&release(version, &packed)), &ALL, Some((Cohort::Buckets(1000), &[BO])));
        stage.rogue.send_bytes(DownTopic::Desired, offer, false).await;
        let what = format!("the agent refuses {}", kind.name);
        wait_for_within(PATIENCE, &what, async || {
            let report = stage.rogue.report()?;
            let model = report.models.first()?;
            let is_target = model.target.is_some_and(|target| target.version.number() == version);
            (is_target && model.phase == Phase::Rejected).then_some(())
        })
        .await;
        live.rejected += 1;
        stage.still_runs("1").await;
    }
    assert!(!stage.agent.log().contains("panicked"), "the agent panicked:\n{}", stage.agent.log());
}
