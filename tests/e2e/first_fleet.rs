//! The README's lines as they stand, then version 2 under load, an abort, and an agent that comes
//! back before its hub does. Once on the embedded broker, once on mosquitto.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bellwether_hub::api::types::RolloutState;
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::{Hub, Options};
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Agent, Fleet, Mosquitto, files};

const DEVICE: &str = "gw-1";

#[tokio::test(flavor = "multi_thread")]
async fn the_fifteen_lines_work_on_the_embedded_broker() {
    let (fleet, agent) = by_hand(Hub::start_with(Options::default()), |_| {});
    the_rest_of_the_story(fleet, agent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fifteen_lines_work_on_mosquitto() {
    let broker = Mosquitto::start();
    let (fleet, agent) = by_hand(Hub::start_with(broker.options()), |hub| broker.admit(hub, &[DEVICE]));
    the_rest_of_the_story(fleet, agent).await;
}

/// Does what the README says, line by line; only addresses and waiting times are the test's.
fn by_hand(hub: Hub, before_enrolment: impl Fn(&Hub)) -> (Fleet, Agent) {
    let fleet = Fleet::without_root(hub);
    let (mut token, mut agent, mut seen) = (String::new(), None, 0);
    for line in readme_lines() {
        seen += 1;
        match line.split_whitespace().next().unwrap_or_default() {
            // Built and started before.
            "cargo" | "bellwether-hub" => {}
            "bellwether-agent" => {
                assert!(line.starts_with("bellwether-agent --token bw1.…"), "{line}");
                before_enrolment(&fleet.hub);
                agent = Some(Agent::start(&fleet.hub.url, &token, DEVICE));
            }
            "curl" => {
                let agent: &Agent = agent.as_ref().expect("the README starts the agent before");
                assert!(line.contains("127.0.0.1:8600"), "{line}");
                let line = line.replace("127.0.0.1:8600", agent.url.trim_start_matches("http://"));
                let ran = fleet.cli.shell(&line);
                assert_eq!(ran.code, 0, "{ran}");
                let answer = serde_json::from_str(&ran.stdout).expect("JSON is answered");
                assert_eq!(bellwether_tests::agent::digit(&answer), 7, "{ran}");
            }
            "bellwether" => {
                let ran =
                    fleet.cli.shell(line.split_once(" # ").map_or(line.as_str(), |(command, _)| command.trim_end()));
                assert_eq!(ran.code, 0, "{ran}");
                if line.starts_with("bellwether device token") {
                    token = ran.last_word();
                }
            }
            other => panic!("the README has a line that this test does not know: {other}"),
        }
    }
    assert!((13..=20).contains(&seen), "the README has {seen} lines: it promises about fifteen");
    (fleet, agent.expect("the README starts an agent"))
}

/// The commands of the README's first long block, continued lines joined.
fn readme_lines() -> Vec<String> {
    let text = std::fs::read_to_string(files::repository().join("README.md")).unwrap();
    let block = text.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

async fn the_rest_of_the_story(mut fleet: Fleet, mut agent: Agent) {
    fleet.register("digits", "digits-cnn");
    fleet.approve("digits:2");
    let agent_for_load = Caller::start(&agent);

    let id = fleet.start_rollout("digits:2", 60);
    fleet.rollout_until(&id, "healthy everywhere", |r| r.stages[0].counts.healthy == 1).await;
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
    fleet.cli.ok(&["rollout", "abort", &id, "--reason", "the test takes it back"]);
    fleet.device_until(DEVICE, "back on version 1", |d| runs(d) == Some(1) && d.in_sync).await;
    assert_eq!(fleet.cli.run(&["rollout", "status", &id]).code, 3);
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));

    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
    let (calls, failed, versions) = agent_for_load.stop().await;
    assert_eq!(failed, 0, "of {calls} calls across three switches");
    assert!(calls > 100, "only {calls} calls were made");
    assert_eq!(versions, [1, 2, 1, 2], "each switch was seen once");
    let scored = |rows: u64| move |device: &bellwether_hub::api::types::DeviceView| device.rows_scored >= rows;
    fleet.device_until(DEVICE, "done reporting its scores", scored(calls)).await;

    // Nobody else is there, and it still answers; the hub returns, and it is found again.
    fleet.hub.process().stop();
    agent.kill();
    agent.restart();
    wait_until("the agent answers without a hub", async || agent.score().await == Some(("2".to_owned(), 7))).await;
    fleet.hub.restart();
    fleet
        .device_until(DEVICE, "online and in sync", |d| {
            d.in_sync && d.presence == bellwether_hub::api::types::Presence::Online && runs(d) == Some(2)
        })
        .await;
    let rollouts = fleet.api().rollouts().await.unwrap().items;
    let states: Vec<_> = rollouts.iter().map(|rollout| rollout.state).collect();
    assert_eq!(states, [RolloutState::Completed, RolloutState::Aborted, RolloutState::Completed]);
    fleet.still_serves().await;
}

/// Somebody who scores without a pause.
struct Caller {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<(u64, Vec<u32>)>,
}

impl Caller {
    fn start(agent: &Agent) -> Self {
        let url = format!("{}/v2/models/digits/infer", agent.url);
        let body = std::fs::read(files::data("digits-request.json")).unwrap();
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            let http = bellwether_tests::http::client();
            let (mut calls, mut versions) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                calls += 1;
                let answer = http.post(&url).body(body.clone()).timeout(Duration::from_secs(5)).send().await;
                let seven = match answer {
                    Ok(answer) if answer.status().is_success() => answer.json().await.ok(),
                    Ok(_) | Err(_) => None,
                };
                let seven = seven.filter(|answer| bellwether_tests::agent::digit(answer) == 7);
                let version = seven.as_ref().and_then(|answer| answer["model_version"].as_str()?.parse().ok());
                match version {
                    Some(version) if versions.last() != Some(&version) => versions.push(version),
                    Some(_) => {}
                    None => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (calls, versions)
        });
        Self { stop, failed, task }
    }

    /// Calls, failed calls, and the versions that answered in order.
    async fn stop(self) -> (u64, u64, Vec<u32>) {
        self.stop.store(true, Ordering::Relaxed);
        let (calls, versions) = self.task.await.unwrap();
        (calls, self.failed.load(Ordering::Relaxed), versions)
    }
}
