//! An agent against a little hub: enrol, install, score, restart, roll on. The broker is real, the
//! hub is a loop of a few lines that signs with the fleet's keys.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::large_futures,
    clippy::print_stdout,
    reason = "tests may"
)]

#[path = "../core/tests/fleet/mod.rs"]
mod fleet;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_agent::{Agent, AgentError, Config, Running, Status};
use bellwether_agent_core::update::STARTS_MAX;
use bellwether_link::{Arrival, Greeting, Link, Options, Qos};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::limit::CHUNK_BYTES;
use bellwether_protocol::message::{Chunk, Down, Table, Up};
use bellwether_protocol::package::chunk_digests;
use bellwether_protocol::topic::{DownTopic, HUB_FILTER, Part, Topic, UpTopic};
use bellwether_protocol::trust::{Ack, Batch, Phase, RecordBody, Report, Root, Signed};
use bellwether_runtime::prepare::{package_ref, tensors_digest};
use bellwether_runtime::{Data, Prepared, Tensor, prepare};
use bytes::Bytes;
use fleet::{DIRECTOR, Fleet, Made, Offer};
use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use serde_json::{Value, json};

/// A release with the package behind it.
struct Stock {
    made: Made,
    package: Vec<u8>,
}

/// What the hub gives out and what it was told.
#[derive(Default)]
struct Desk {
    desired: Vec<u8>,
    packages: BTreeMap<u64, Vec<u8>>,
    records: BTreeMap<u64, RecordBody>,
    reports: Vec<Report>,
    /// Chunks asked for; the first answers are withheld if so told.
    asked: usize,
    withhold: usize,
}

struct Hub {
    fleet: Fleet,
    url: String,
    link: Link,
    desk: Arc<Mutex<Desk>>,
    _tasks: tokio::task::JoinSet<()>,
}

fn encoded(down: &Down<'_>) -> Bytes {
    let mut buffer = vec![0; 1 << 17];
    Bytes::copy_from_slice(frame::encode(down, &mut buffer).unwrap())
}

fn config() -> BrokerConfig {
    let storage =
        StorageConfig { backend: StorageBackend::Memory, enable_persistence: false, ..StorageConfig::default() };
    BrokerConfig {
        bind_addresses: vec!["127.0.0.1:0".parse().unwrap()],
        storage_config: storage,
        ..BrokerConfig::default()
    }
}

impl Hub {
    async fn start() -> Self {
        let mut tasks = tokio::task::JoinSet::new();
        let mut broker = MqttBroker::with_config(config()).await.unwrap();
        let at = broker.local_addr().unwrap();
        let mut ready = broker.ready_receiver();
        tasks.spawn(async move { drop(broker.run().await) });
        ready.wait_for(|ready| *ready).await.unwrap();
        let fleet = Fleet::new();
        let mut buffer = vec![0; 8192];
        let root: &[u8] = frame::encode(&fleet.signed::<Root>(&fleet.root_body, &[1]), &mut buffer).unwrap();
        let root = json!({ "fleet": fleet.fleet.to_string(), "statement": STANDARD.encode(root) });
        let answer = json!({ "device": "gw-1", "broker": { "url": format!("mqtt://{at}"), "password": null } });
        let refusal = json!({ "code": "token_unknown", "title": "Token unknown", "detail": "No such token.", "hint": "Make one." });
        let router = Router::new().route("/api/v1/root", get(move || std::future::ready(Json(root)))).route(
            "/api/v1/enrol",
            post(move |Json(body): Json<Value>| {
                let is_good = body["secret"] == "ab12" && body["tags"]["site"] == "lyon";
                std::future::ready(if is_good {
                    (axum::http::StatusCode::CREATED, Json(answer))
                } else {
                    (axum::http::StatusCode::FORBIDDEN, Json(refusal))
                })
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(async move { drop(axum::serve(listener, router).await) });
        let (link, mut arrivals) = Link::open(Options {
            address: format!("mqtt://{at}").parse().unwrap(),
            client_id: "hub".into(),
            subscriptions: vec![HUB_FILTER.into()],
            keep_alive: Duration::from_secs(30),
            greet: Box::new(|| Ok(Greeting::default())),
        });
        while arrivals.recv().await != Some(Arrival::Up) {}
        let desk = Arc::new(Mutex::new(Desk::default()));
        let serving = serve(arrivals, link.clone(), Arc::clone(&desk));
        tasks.spawn(serving);
        Self { fleet, url, link, desk, _tasks: tasks }
    }

    fn stock(&self, version: u32, model: &str) -> Stock {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let read = |ending: &str| std::fs::read(data.join(format!("{model}.{ending}"))).unwrap();
        let (onnx, vectors) = (read("onnx"), read("vectors.npz"));
        let Prepared { package, package_ref, source, manifest, .. } =
            prepare(&fleet::name("digits"), "m.onnx", &onnx, Some(&vectors), &[]).unwrap();
        self.stock_of(version, package, |release| {
            (release.package, release.source) = (package_ref, source);
            release.tensors = tensors_digest(&manifest.tensors).unwrap();
        })
    }

    fn stock_of(
        &self,
        version: u32,
        package: Vec<u8>,
        change: impl FnOnce(&mut bellwether_protocol::trust::Release),
    ) -> Stock {
        let made = self.fleet.release_with("digits", version, change);
        let transfer = Digest::of(&package).transfer().0;
        self.desk.lock().unwrap().packages.insert(transfer, package.clone());
        Stock { made, package }
    }

    async fn want(&self, sequence: u64, stock: &Stock) {
        let mut desired = Bytes::new();
        self.fleet.assign(sequence, &[Offer::granted(&stock.made)], |message| {
            desired = encoded(&Down::Desired(message.clone()));
        });
        self.desk.lock().unwrap().desired = desired.to_vec();
        let topic = Topic::Down("gw-1".parse().unwrap(), DownTopic::Desired).text();
        self.link.publish(&topic, desired, Qos::AtLeastOnce, true).await.unwrap();
    }

    fn config(&self, data: &Path) -> Config {
        Config {
            name: Some("gw-1".into()),
            hub: self.url.clone(),
            token: Some(format!("bw1.{}.ab12", self.fleet.fleet)),
            data: data.to_owned(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
            tags: BTreeMap::from([("site".to_owned(), "lyon".to_owned())]),
            scores_window_ms: 200,
            probation_ms: 300,
            ..Config::default()
        }
    }
}

/// The hub's whole work: give out what is asked for, acknowledge what it was told.
async fn serve(mut arrivals: tokio::sync::mpsc::Receiver<Arrival>, link: Link, desk: Arc<Mutex<Desk>>) {
    let fleet = Fleet::new();
    while let Some(arrival) = arrivals.recv().await {
        let Arrival::Message { topic, payload } = arrival else { continue };
        let Some(Topic::Up(device, topic)) = Topic::parse(&topic) else { panic!("{topic}") };
        let up: Up<'_> = frame::decode(&payload).unwrap();
        let mut out = Vec::new();
        match (topic, up) {
            (UpTopic::Batch, Up::Batch(signed)) => {
                let batch: Batch = signed.peek().unwrap();
                let through = batch.first + batch.records.len() as u64 - 1;
                let numbered = (batch.first..).zip(batch.records.into_iter().map(|record| record.body));
                desk.lock().unwrap().records.extend(numbered);
                let body = fleet::encode(&Ack { device: device.clone(), outbox: batch.outbox, through });
                let ack: Signed<'_> = fleet.signed::<Ack>(&body, &[DIRECTOR]);
                out.push((DownTopic::Ack, encoded(&Down::Ack(ack))));
            }
            (UpTopic::State, Up::State(signed)) => desk.lock().unwrap().reports.push(signed.peek().unwrap()),
            (UpTopic::Need(transfer), Up::Need(need)) => {
                let mut desk = desk.lock().unwrap();
                desk.asked += 1;
                if desk.withhold > 0 {
                    desk.withhold -= 1;
                    continue;
                }
                let package = &desk.packages[&transfer.0];
                if need.table {
                    let digests: Vec<u8> = chunk_digests(package).flat_map(|digest| digest.0).collect();
                    let table = encoded(&Down::Table(Table { digests: &digests }));
                    out.push((DownTopic::Part(transfer, Part::Table), table));
                }
                for n in need.chunks(8) {
                    let bytes = package.chunks(CHUNK_BYTES).nth(usize::from(n)).unwrap();
                    out.push((DownTopic::Part(transfer, Part::Chunk(n)), encoded(&Down::Chunk(Chunk { bytes }))));
                }
            }
            (UpTopic::Hello, Up::Hello(_)) | (UpTopic::Gone, Up::Gone(_)) => {}
            other => panic!("{other:?}"),
        }
        for (topic, payload) in out {
            let topic = Topic::Down(device.clone(), topic).text();
            link.publish(&topic, payload, Qos::AtLeastOnce, false).await.unwrap();
        }
    }
}

async fn until(agent: &Running, what: &str, is: impl Fn(&Status) -> bool) {
    let mut watch = agent.watch();
    let reached = tokio::time::timeout(Duration::from_secs(30), watch.wait_for(|status| is(status)));
    assert!(matches!(reached.await, Ok(Ok(_))), "never {what}: {:?}", agent.status());
}

fn is_at(phase: Phase, version: u32) -> impl Fn(&Status) -> bool {
    move |status| {
        status.models.first().is_some_and(|model| {
            model.phase == phase && model.active.is_some_and(|active| active.version.number() == version)
        })
    }
}

fn pixels() -> Vec<f32> {
    (0..64u8).map(|i| f32::from(i % 17) / 16.0).collect()
}

async fn score_over_http(agent: &Running) -> Value {
    let url = format!("http://{}/v2/models/digits/infer", agent.listen().unwrap());
    let body = json!({ "inputs": [{ "name": "image", "shape": [1, 64], "datatype": "FP32", "data": pixels() }] });
    reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_enrols_installs_scores_and_comes_back_by_itself() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let (linear, cnn) = (hub.stock(1, "digits-linear"), hub.stock(2, "digits-cnn"));
    hub.want(1, &linear).await;
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    assert!(score_over_http(&agent).await["error"].as_str().unwrap().contains("none does yet"));
    until(&agent, "committed", is_at(Phase::Committed, 1)).await;
    let answer = score_over_http(&agent).await;
    assert_eq!((&answer["model_version"], &answer["outputs"][0]["shape"]), (&json!("1"), &json!([1, 10])));
    let image = Tensor::new("image".parse().unwrap(), vec![1, 64], Data::Fp32(pixels())).unwrap();
    assert_eq!(agent.score(&fleet::name("digits"), &[image]).unwrap().version.number(), 1);
    until(&agent, "acknowledged", |status| status.waiting == 0).await;
    agent.stop().await;
    // Without hub address or token: it is enrolled, and what it ran answers before the hub is asked.
    let again = Config { token: None, hub: "http://127.0.0.1:9".into(), ..hub.config(data.path()) };
    let agent = Agent::start(again).await.unwrap();
    assert_eq!(score_over_http(&agent).await["model_version"], "1");
    hub.want(2, &cnn).await;
    until(&agent, "rolled on", is_at(Phase::Committed, 2)).await;
    assert_eq!(score_over_http(&agent).await["model_version"], "2");
    until(&agent, "acknowledged", |status| status.waiting == 0).await;
    let desk = hub.desk.lock().unwrap();
    assert!(desk.reports.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let numbers: Vec<u64> = desk.records.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let scored = |body: &RecordBody| matches!(body, RecordBody::Scores(scores) if scores.rows > 0);
    assert!(desk.records.values().any(scored));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_fails_its_checks_never_answers_and_lost_requests_are_repeated() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let linear = hub.stock(1, "digits-linear");
    hub.desk.lock().unwrap().withhold = 1;
    hub.want(1, &linear).await;
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    until(&agent, "committed", is_at(Phase::Committed, 1)).await;
    assert!(hub.desk.lock().unwrap().asked >= 3);
    // People signed this package as it is, but its files are not those its manifest names.
    let mut package = linear.package.clone();
    let at = package.len() - 100;
    package[at] ^= 0xff;
    let release = |release: &mut bellwether_protocol::trust::Release| {
        release.package = package_ref(&package);
    };
    let damaged = hub.stock_of(2, package.clone(), release);
    hub.want(2, &damaged).await;
    until(&agent, "rejected", is_at(Phase::Rejected, 1)).await;
    assert_eq!(score_over_http(&agent).await["model_version"], "1");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_is_reported_and_the_model_keeps_answering() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let (linear, cnn) = (hub.stock(1, "digits-linear"), hub.stock(2, "digits-cnn"));
    hub.want(1, &linear).await;
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    until(&agent, "committed", is_at(Phase::Committed, 1)).await;
    // Something that is no file stands where the next package should go.
    std::fs::create_dir(data.path().join("models/digits/b.pkg")).unwrap();
    hub.want(2, &cnn).await;
    until(&agent, "rejected", is_at(Phase::Rejected, 1)).await;
    assert_eq!(agent.status().models[0].reject, Some(Reject::StorageFault));
    assert_eq!(score_over_http(&agent).await["model_version"], "1");
    // A later assignment tries again.
    std::fs::remove_dir(data.path().join("models/digits/b.pkg")).unwrap();
    hub.want(3, &cnn).await;
    until(&agent, "committed", is_at(Phase::Committed, 2)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_fails_leaves_the_old_model_answering() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let (linear, cnn) = (hub.stock(1, "digits-linear"), hub.stock(2, "digits-cnn"));
    hub.want(1, &linear).await;
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    until(&agent, "committed", is_at(Phase::Committed, 1)).await;
    // Something that is no file stands where the new pointer should be made, there and back.
    let half = data.path().join("models/digits/current.new");
    std::fs::create_dir(&half).unwrap();
    hub.want(2, &cnn).await;
    until(&agent, "rolled back", is_at(Phase::RolledBack, 1)).await;
    assert_eq!(agent.status().models[0].reject, Some(Reject::StorageFault));
    assert_eq!(score_over_http(&agent).await["model_version"], "1");
    std::fs::remove_dir(&half).unwrap();
    hub.want(3, &cnn).await;
    until(&agent, "committed", is_at(Phase::Committed, 2)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_the_agent_down_is_not_started_again_and_the_old_one_returns() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let (linear, cnn) = (hub.stock(1, "digits-linear"), hub.stock(2, "digits-cnn"));
    hub.want(1, &linear).await;
    let config = Config { probation_ms: 3_600_000, ..hub.config(data.path()) };
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    until(&agent, "committed", is_at(Phase::Committed, 1)).await;
    agent.stop().await;
    hub.want(2, &cnn).await;
    let mut agent = crash_and_start(None, &config).await;
    until(&agent, "on probation", is_at(Phase::Probation, 2)).await;
    for _ in 1..STARTS_MAX {
        agent = crash_and_start(Some(agent), &config).await;
        until(&agent, "on probation", is_at(Phase::Probation, 2)).await;
    }
    // Loading it once more, at the start that gives it up, would fail.
    std::fs::write(data.path().join("models/digits/b.pkg"), b"damaged").unwrap();
    agent = crash_and_start(Some(agent), &config).await;
    until(&agent, "rolled back", is_at(Phase::RolledBack, 1)).await;
    assert_eq!(agent.status().models[0].reject, Some(Reject::Crashed));
    assert_eq!(score_over_http(&agent).await["model_version"], "1");
    agent.stop().await;
}

/// Drops an agent without a farewell and starts it as soon as its store is free.
async fn crash_and_start(agent: Option<Running>, config: &Config) -> Running {
    drop(agent);
    let start = Instant::now();
    loop {
        match Agent::start(config.clone()).await {
            Err(AgentError::Store { .. }) if start.elapsed() < Duration::from_secs(20) => {
                tokio::task::yield_now().await
            }
            started => return started.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_may_look_into_the_directory_of_a_device() {
    let hub = Hub::start().await;
    let base = tempfile::tempdir().unwrap();
    let (new, old) = (base.path().join("new/agent"), base.path().join("old"));
    std::fs::create_dir(&old).unwrap();
    std::fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
    for data in [new, old] {
        let agent = Agent::start(hub.config(&data)).await.unwrap();
        assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        agent.stop().await;
    }
}

#[tokio::test]
async fn enrolment_says_why_not() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let fleet = hub.fleet.fleet;
    for (token, code, says) in [
        (Some(format!("bw1.{fleet}.ffff")), 3, "No such token. Make one."),
        (Some(format!("bw1.{}.ab12", "0".repeat(32))), 3, "another fleet"),
        (Some("nonsense".to_owned()), 2, "bw1.FLEET.SECRET"),
        (None, 2, "--token"),
    ] {
        let why = Agent::start(Config { token, ..hub.config(data.path()) }).await.unwrap_err();
        assert_eq!(why.exit_code(), code, "{why}");
        assert!(why.to_string().contains(says), "{why}");
    }
    let nowhere = Config { hub: "http://127.0.0.1:9".into(), ..hub.config(data.path()) };
    assert_eq!(Agent::start(nowhere).await.unwrap_err().exit_code(), 4);
}
