//! The story, killed with -9 at named places of hub and device: it completes all the same, no
//! acknowledged row is lost, none is counted twice.

use std::collections::BTreeSet;

use bellwether_hub::api::types::{Presence, RolloutState};
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::Options;
use bellwether_tests::wait::{wait_for, wait_until};
use bellwether_tests::{Fleet, files};
use serde_json::Value;

/// Every row that is scored is collected.
const COLLECT: [&str; 4] = ["--collect-one-in", "1", "--collect-per-minute", "600"];
const ALLOWED: &str = "collect_rows_per_minute_max = 600\n";

/// A hub that ends at `point` after its root and its first steps are made.
fn armed(point: &'static str, config: &str) -> Fleet {
    let mut fleet = Fleet::start_with(Options { config: config.to_owned(), ..Options::default() });
    fleet.hub.kill();
    fleet.hub.arm(point);
    fleet.hub.restart();
    fleet
}

/// Rows that the hub exports, by device, outbox and sequence; panics if one comes twice.
fn exported(fleet: &Fleet) -> Vec<Value> {
    let text = fleet.cli.ok(&["data", "export", "--format", "ndjson", "--to", "-"]).stdout;
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect();
    let name = |row: &Value| format!("{} {} {}", row["device"], row["outbox"], row["sequence"]);
    let names: BTreeSet<String> = rows.iter().map(name).collect();
    assert_eq!(names.len(), rows.len(), "no row comes twice");
    rows
}

/// Scores so often; each call is answered.
async fn score(agent: &Agent, calls: usize) {
    for _ in 0..calls {
        assert!(agent.score().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_when_a_version_was_stored() {
    let mut fleet = armed("hub.register.stored", "");
    let (model, vectors) = (files::data("digits-linear.onnx"), files::data("digits-linear.vectors.npz"));
    let (model, vectors) = (model.to_string_lossy(), vectors.to_string_lossy());
    let words = ["model", "register", "digits", &model, "--vectors", &vectors, "--key", "ada"];
    assert_ne!(fleet.cli.run(&words).code, 0, "the publisher is not told that it worked");
    fleet.hub.restart_after_crash();
    // It is there, a draft; publishing goes on where it stopped, and numbers go on.
    fleet.cli.ok(&["model", "publish", "digits:1", "--key", "ada"]);
    fleet.approve("digits:1");
    assert_eq!(fleet.cli.json(&words)["version"], 2);
    let _agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_between_approval_and_first_stage() {
    let mut fleet = armed("hub.rollout.started", "");
    fleet.two_versions();
    let _agent = fleet.agent("gw-1");
    let started = fleet.cli.run(&["rollout", "start", "digits:1", "--stage", "100%", "--soak-seconds", "1"]);
    assert_ne!(started.code, 0, "{started}");
    fleet.hub.restart_after_crash();
    fleet.cli.ok(&["grant", "digits:1", "--percent", "100", "--key", "bo"]);
    fleet.rollout_until("1", "completed", |rollout| rollout.state == RolloutState::Completed).await;
    fleet.device_until("gw-1", "at version 1", |device| runs(device) == Some(1) && device.in_sync).await;
}

/// A device killed at `point` of its second install runs version 2 in the end.
async fn device_killed_at(point: &str) {
    let fleet = Fleet::start();
    let extra = fleet.hub.home().join("labels.bin");
    std::fs::write(&extra, files::noise(2 * 1024 * 1024)).expect("a temporary folder takes a file");
    fleet.release("digits", 1, "digits-linear", &["--extra", &extra.to_string_lossy()]);
    let mut agent = fleet.agent_as("gw-1", &Settings { crash: Some(point), ..Settings::default() });
    let id = fleet.start_rollout("digits:1", 1);
    agent.restart_after_crash();
    fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    let device = fleet.device_until("gw-1", "in sync", |device| device.in_sync).await;
    assert_eq!((runs(&device), device.presence), (Some(1), Presence::Online));
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn device_killed_mid_download() {
    device_killed_at("agent.fetch.midway").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_killed_after_the_hash() {
    device_killed_at("agent.hashed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_killed_mid_activation() {
    device_killed_at("agent.activate.pointed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_killed_in_probation() {
    device_killed_at("agent.probation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn device_killed_with_a_batch_under_way() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &COLLECT);
    // The first batches tell of the install; a later one carries rows.
    let settings = Settings { config: ALLOWED, crash: Some("agent.batch.sent:14"), ..Settings::default() };
    let mut agent = fleet.agent_as("gw-1", &settings);
    fleet.roll_out("digits:1");
    let mut scored = 0;
    while agent.score().await.is_some() {
        scored += 1;
    }
    agent.restart_after_crash();
    score(&agent, 5).await;
    let device = fleet
        .device_until("gw-1", "heard of its new rows", |device| device.rows_collected >= 5 && device.rows_scored >= 5)
        .await;
    // What the device had not written down when it died is gone with it; nothing is made up.
    assert!(device.rows_scored <= scored + 5 && device.rows_collected <= scored + 5, "{device:?}");
    wait_until("every row is exported once", async || {
        let device = fleet.api().device("gw-1").await.expect("the hub answers");
        exported(&fleet).len() as u64 == device.rows_collected
    })
    .await;
}

/// A hub killed at `point` while rows come in has all of them in the end, each once.
async fn rows_survive(point: &'static str, config: &str) {
    let mut fleet = armed(point, config);
    fleet.release("digits", 1, "digits-linear", &COLLECT);
    let agent = fleet.agent_as("gw-1", &Settings { config: ALLOWED, ..Settings::default() });
    // It may end during the rollout already: whoever waits is told so, and the rollout goes on.
    let _rollout = fleet.start_rollout("digits:1", 1);
    wait_until("a model answers", async || agent.score().await.is_some()).await;
    score(&agent, 20).await;
    fleet.hub.restart_after_crash();
    score(&agent, 20).await;
    let device = fleet.device_until("gw-1", "heard of every row", |device| device.rows_scored >= 41).await;
    assert_eq!((device.rows_scored, device.gaps), (41, 0), "none is lost, none is counted twice");
    fleet.device_until("gw-1", "collected from", |device| device.rows_collected >= 41).await;
    let rows = exported(&fleet);
    assert_eq!(rows.len(), 41);
    assert!(rows.iter().all(|row| row["model"] == "digits" && row["version"] == 1), "{:?}", rows.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_between_effect_and_acknowledgement() {
    rows_survive("hub.batch.committed:5", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_when_rows_are_in_a_file_and_still_in_the_store() {
    rows_survive("hub.rows.filed", "collect_seal_seconds = 1\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_while_rolling_back() {
    let mut fleet = armed("hub.rollback.begun", "");
    fleet.release("digits", 1, "digits-linear", &[]);
    fleet.release("digits", 2, "digits-cnn", &["--max-p95-ms", "0.001"]);
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let id = fleet.start_rollout("digits:2", 1);
    wait_for("the device scores until the hub dies", async || {
        // A thousandth of a millisecond is less than any call takes, and twenty calls say so.
        score(&agent, 25).await;
        ended(&fleet).await.then_some(())
    })
    .await;
    fleet.hub.restart_after_crash();
    let rollout = fleet.rollout_until(&id, "rolled back", |r| r.state == RolloutState::RolledBack).await;
    assert_eq!(rollout.stopped_because.as_deref(), Some("1 device is slower than the latency budget"));
    let device = fleet.device_until("gw-1", "back", |device| runs(device) == Some(1) && device.in_sync).await;
    assert_eq!(device.presence, Presence::Online);
}

/// Whether the hub does not answer any more.
async fn ended(fleet: &Fleet) -> bool {
    fleet.api().overview().await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn hub_killed_while_an_alert_is_being_sent() {
    let receiver = crate::webhooks::Receiver::start().await;
    let mut fleet = armed("hub.webhook.sent", "webhook_retry_ms_first = 20\n");
    let url = receiver.url();
    let made = fleet.cli.json(&["webhook", "add", &url, "--kind", "version_registered"]);
    let secret = made["secret"].as_str().expect("a secret is shown once").to_owned();
    // The hub may end before it has answered the command.
    let model = files::data("digits-linear.onnx").to_string_lossy().into_owned();
    let _ran = fleet.cli.run(&["model", "register", "digits", &model]);
    fleet.hub.restart_after_crash();
    wait_until("the event has arrived again", async || receiver.got().len() >= 2).await;
    let got = receiver.got();
    got.iter().for_each(|got| got.check(&secret));
    assert!(got.iter().all(|one| one.id == got[0].id), "it is the same event, by its id");
}
