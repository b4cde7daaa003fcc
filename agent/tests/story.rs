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
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_agent::{Agent, AgentError, Config, Running, Status, journal};
use bellwether_agent_core::update::STARTS_MAX;
use bellwether_link::{Arrival, Greeting, Link, Options, Qos};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::limit::CHUNK_BYTES;
use bellwether_protocol::manifest::{File, FileRole};
use bellwether_protocol::message::{Chunk, Down, Table, Up};
use bellwether_protocol::package::{chunk_digests, encode_head};
use bellwether_protocol::topic::{DownTopic, HUB_FILTER, Part, Topic, UpTopic};
use bellwether_protocol::trust::{Ack, Batch, Command, Exit, LogWhy, Phase, RecordBody, Report, Request, Root, Signed};
use bellwether_runtime::prepare::{package_ref, tensors_digest};
use bellwether_runtime::{Beside, Data, Prepared, Tensor, prepare};
use bytes::Bytes;
use fleet::{DIRECTOR, Fleet, Made, Offer};
use mqtt5::broker::MqttBroker;
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

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
    /// Number of every record, and whether it tells of scored rows.
    records: BTreeMap<u64, bool>,
    /// By number: why an install failed, and pieces of logs.
    failures: BTreeMap<u64, Told>,
    logs: BTreeMap<u64, (LogWhy, u8, u8, Vec<u8>)>,
    reports: Vec<Report>,
    /// Chunks asked for; the first answers are withheld if so told.
    asked: usize,
    withhold: usize,
}

/// A record of a failure.
struct Told {
    version: u32,
    reject: Reject,
    cause: String,
    exit: Option<Exit>,
    peak_kib: u32,
}

impl Desk {
    fn take(&mut self, batch: &Batch<'_>) {
        for (number, record) in (batch.first..).zip(&batch.records) {
            self.records.insert(number, tells_of_scores(&record.body));
            match &record.body {
                RecordBody::Failure(failure) => {
                    let told = Told {
                        version: failure.version.number(),
                        reject: failure.reject,
                        cause: failure.cause.to_owned(),
                        exit: failure.exit,
                        peak_kib: failure.peak_kib,
                    };
                    self.failures.insert(number, told);
                }
                RecordBody::Log(log) => {
                    self.logs.insert(number, (log.why, log.piece, log.pieces, log.text.to_vec()));
                }
                RecordBody::Scores(_)
                | RecordBody::Event(_)
                | RecordBody::Gap(_)
                | RecordBody::Profile(_)
                | RecordBody::Sample(_)
                | RecordBody::Agreement(_)
                | RecordBody::Offload(_) => {}
            }
        }
    }

    /// The text of the log that begins with this record, and why it was sent.
    fn log(&self, first: u64) -> (LogWhy, String) {
        let (why, piece, pieces, _) = self.logs[&first];
        assert_eq!(piece, 0);
        let text = (0..pieces).zip(first..).flat_map(|(n, number)| {
            let (same, piece, of, text) = &self.logs[&number];
            assert_eq!((*same, *piece, *of), (why, n, pieces));
            text.clone()
        });
        (why, String::from_utf8_lossy(&text.collect::<Vec<u8>>()).into_owned())
    }
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
            trust: bellwether_link::tls::Trust::default(),
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
            prepare(&fleet::name("digits"), "m.onnx", &onnx, &Beside { vectors: Some(&vectors), ..Beside::default() })
                .unwrap();
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

    /// The linear model with vectors that another model answered: no publisher's tool would pack it.
    fn stock_that_answers_wrongly(&self, version: u32) -> Stock {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
        let onnx = std::fs::read(data.join("digits-linear.onnx")).unwrap();
        let vectors = std::fs::read(data.join("bad/wrong-answer.vectors.npz")).unwrap();
        let mut manifest = prepare(&fleet::name("digits"), "m.onnx", &onnx, &Beside::default()).unwrap().manifest;
        let (role, size) = (FileRole::Vectors, u32::try_from(vectors.len()).unwrap());
        let file = File { name: "vectors.npz".parse().unwrap(), role, size, digest: Digest::of(&vectors) };
        manifest.files.push(file).unwrap();
        let mut buffer = vec![0; 8192];
        let package = [encode_head(&manifest, &mut buffer).unwrap(), &onnx, &vectors].concat();
        self.stock_of(version, package.clone(), |release| {
            release.package = package_ref(&package);
            release.tensors = tensors_digest(&manifest.tensors).unwrap();
        })
    }

    async fn command(&self, sequence: u64, request: Request) {
        let body = self.fleet.command(sequence, request);
        let command = encoded(&Down::Command(self.fleet.signed::<Command>(&body, &[DIRECTOR])));
        let topic = Topic::Down("gw-1".parse().unwrap(), DownTopic::Command).text();
        self.link.publish(&topic, command, Qos::AtLeastOnce, false).await.unwrap();
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
            // This very program does not begin with `run_if_child`.
            trial_program: Some(env!("CARGO_BIN_EXE_bellwether-agent").into()),
            ..Config::default()
        }
    }
}

fn tells_of_scores(body: &RecordBody<'_>) -> bool {
    matches!(body, RecordBody::Scores(scores) if scores.rows > 0)
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
                let batch: Batch<'_> = signed.peek().unwrap();
                let through = batch.first + batch.records.len() as u64 - 1;
                desk.lock().unwrap().take(&batch);
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
            (UpTopic::Hello, Up::Hello(_)) | (UpTopic::Gone, Up::Gone(_)) | (UpTopic::Known, Up::Known(_)) => {}
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
    bellwether_link::tls::install();
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
    assert!(desk.records.values().any(|scored| *scored));
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
async fn a_model_that_answers_wrongly_is_told_of_with_cause_memory_and_log_and_a_log_may_be_asked_for() {
    keep_journals();
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let agent = Agent::start(hub.config(data.path())).await.unwrap();
    hub.want(1, &hub.stock_that_answers_wrongly(1)).await;
    until(&agent, "rejected", |status| {
        status.models.first().is_some_and(|model| model.phase == Phase::Rejected) && status.waiting == 0
    })
    .await;
    assert_eq!(agent.status().models[0].reject, Some(Reject::GoldenMismatch));
    {
        let desk = hub.desk.lock().unwrap();
        let (number, told) = desk.failures.first_key_value().unwrap();
        assert_eq!((told.version, told.reject, told.exit), (1, Reject::GoldenMismatch, Some(Exit::Code(3))));
        assert!(told.cause.contains("golden vectors are not reproduced") && told.peak_kib > 1024, "{}", told.cause);
        let (why, text) = desk.log(number + 1);
        assert_eq!(why, LogWhy::Failure);
        // Of the child first, then of the agent.
        assert!(text.starts_with("trying a package of") && text.contains("refused: the golden"), "{text}");
        assert!(text.contains("a version failed") && text.contains("phase=Rejected"), "{text}");
        assert_eq!(desk.failures.len(), 1);
    }
    let before = hub.desk.lock().unwrap().logs.len();
    hub.command(1, Request::Log).await;
    let last = |desk: &Desk| desk.logs.last_key_value().is_some_and(|(_, (_, piece, pieces, _))| piece + 1 == *pieces);
    let is_told = || {
        let desk = hub.desk.lock().unwrap();
        desk.logs.len() > before && last(&desk)
    };
    let start = Instant::now();
    while !is_told() {
        assert!(start.elapsed() < Duration::from_secs(30), "the log never came");
        tokio::task::yield_now().await;
    }
    let desk = hub.desk.lock().unwrap();
    let first = *desk.logs.keys().nth(before).unwrap();
    let (why, text) = desk.log(first);
    assert!(why == LogWhy::Asked && text.contains("connected session=1"), "{text}");
    assert!(!text.contains("ab12"), "no token is in a log: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_cannot_be_started_fails_the_install_and_says_why() {
    let hub = Hub::start().await;
    let data = tempfile::tempdir().unwrap();
    let none = data.path().join("no-program");
    let config = Config { trial_program: Some(none), ..hub.config(data.path()) };
    let agent = Agent::start(config).await.unwrap();
    hub.want(1, &hub.stock(1, "digits-linear")).await;
    until(&agent, "rejected", |status| {
        status.models.first().is_some_and(|model| model.phase == Phase::Rejected) && status.waiting == 0
    })
    .await;
    let desk = hub.desk.lock().unwrap();
    let (_, told) = desk.failures.first_key_value().unwrap();
    assert_eq!((told.reject, told.exit), (Reject::Crashed, None));
    assert!(told.cause.contains("no-program there"), "{}", told.cause);
}

/// Keeps journals as the agent's program does; once for all tests of this process.
fn keep_journals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing_subscriber::registry().with(journal::layer()).init());
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
