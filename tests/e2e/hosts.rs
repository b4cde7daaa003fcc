//! Models in processes of their own: what ends one ends no agent, loses no other call, and is told.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_hub::api::types::RolloutState;
use bellwether_tests::Fleet;
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::files;
use bellwether_tests::fleet::runs;
use bellwether_tests::wait::{wait_for, wait_until};
use serde_json::Value;

/// Devices that switch side by side.
const DEVICES: usize = 4;
/// Connections that score on each of them without a pause.
const CALLERS: usize = 3;
/// Switches that are aimed at, and the time after which what came of them must do.
const SWITCHES: usize = 100;
const SWITCHING_MAX: Duration = Duration::from_secs(60);
const SWITCHES_LEAST: usize = 20;

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "{process} takes no {name}");
}

/// The process of the one model that answers.
async fn host_of(agent: &Agent) -> u32 {
    wait_for("the model has one process", async || match agent.hosts().as_slice() {
        [host] => Some(*host),
        _ => None,
    })
    .await
}

fn is_gone(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

/// Kills the process of the model that answers, and waits until the agent knows.
async fn crash(agent: &Agent) {
    let host = host_of(agent).await;
    signal(host, "KILL");
    wait_until("it is gone", async || !agent.hosts().contains(&host)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_model_whose_process_is_killed_answers_again_and_the_hub_hears_why() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &[]);
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    crash(&agent).await;
    wait_until("it answers again", async || agent.score().await == Some(("1".to_owned(), 7))).await;
    let failed = wait_for("the hub has heard", async || {
        let diagnosis = fleet.cli.json(&["device", "diagnose", "gw-1"]);
        let failed = diagnosis["troubles"]["failures"][0].clone();
        failed["log"].as_str().is_some_and(|log| log.contains("loaded")).then_some(failed)
    })
    .await;
    assert_eq!((&failed["version"], &failed["reject"]["code"]), (&Value::from(1), &Value::from(83)));
    assert_eq!(failed["exit"], "signal 9");
    assert!(failed["cause"].as_str().unwrap().contains("SIGKILL"), "{failed}");
    assert!(failed["peak_kib"].as_u64().unwrap() > 1024, "{failed}");
    let log = failed["log"].as_str().unwrap();
    assert!(log.starts_with("hosting a package of") && log.len() <= 4096, "{log}");
    let text = fleet.cli.ok(&["device", "diagnose", "gw-1"]);
    assert!(text.stdout.contains("last failure: digits 1"), "{text}");
    fleet.device_until("gw-1", "still at version 1", |device| runs(device) == Some(1) && device.in_sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_given_up_in_time_while_everything_else_goes_on() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &[]);
    let agent = fleet.agent_as("gw-1", &Settings { config: "call_ms_max = 1000\n", ..Settings::default() });
    fleet.roll_out("digits:1");
    assert!(agent.score().await.is_some());
    let host = host_of(&agent).await;
    signal(host, "STOP");
    let request = std::fs::read(files::data("digits-request.json")).unwrap();
    let call = || async {
        let begun = Instant::now();
        (agent.post("/v2/models/digits/infer", request.clone()).await.unwrap(), begun.elapsed())
    };
    let metadata = format!("{}/v2/models/digits", agent.url);
    let others = async {
        let (begun, mut answered) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_millis(700) {
            assert_eq!(bellwether_tests::http::client().get(&metadata).send().await.unwrap().status(), 200);
            answered += 1;
        }
        answered
    };
    // More callers than the agent has threads for connections.
    let (a, b, c, d, answered) = tokio::join!(call(), call(), call(), call(), others);
    assert!(answered > 10, "{answered}");
    let all = [a, b, c, d];
    // Those that waited behind it may hear why the process was ended, in more words.
    let hung = all.iter().filter(|((status, answer), _)| {
        *status == 503 && answer["error"].as_str().unwrap().ends_with("again: a call took longer than 1000 ms")
    });
    assert_eq!(hung.count(), 1, "one call hung: {all:?}");
    assert!(all.iter().all(|((status, _), took)| [200, 503].contains(status) && *took < Duration::from_secs(5)));
    wait_until("it answers again", async || agent.score().await.is_some()).await;
    assert!(is_gone(host));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_too_often_gives_way_to_the_version_before_until_it_is_ordered_anew() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let mut agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    fleet.roll_out("digits:2");
    let is_at = async |version: &str| agent.score().await.is_some_and(|(answers, _)| answers == version);
    wait_until("version 2 answers", async || is_at("2").await).await;
    for _ in 0..5 {
        crash(&agent).await;
        wait_until("a version answers", async || agent.score().await.is_some()).await;
    }
    wait_until("version 1 answers", async || is_at("1").await).await;
    let device = fleet.device_until("gw-1", "back", |device| runs(device) == Some(1)).await;
    let digits = device.models.iter().find(|model| model.name == "digits").unwrap();
    assert_eq!((digits.phase.as_str(), digits.reject.as_ref().map(|reject| reject.code)), ("rolled_back", Some(83)));
    assert!(!device.in_sync);
    // Neither a restart nor the same order, said again on the next connection, brings it back.
    agent.kill();
    agent.restart();
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    let log = || agent.log();
    wait_until("it is connected", async || log().contains("connected session=1")).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    let id = fleet.start_rollout("digits:1", 0);
    fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await.map(|(version, _)| version), Some("2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_crash_on_probation_takes_a_version_back() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let config = "probation_ms = 4000\n";
    let agent = fleet.agent_as("gw-1", &Settings { config, ..Settings::default() });
    fleet.roll_out("digits:1");
    let id = fleet.start_rollout("digits:2", 1);
    wait_until("version 2 answers", async || {
        agent.score().await.is_some_and(|(version, _)| version == "2") && agent.hosts().len() == 1
    })
    .await;
    crash(&agent).await;
    wait_until("version 1 answers", async || agent.score().await == Some(("1".to_owned(), 7))).await;
    let rollout = fleet.rollout_until(&id, "stopped", |r| !r.failures.is_empty()).await;
    assert_eq!(rollout.failures[0].code, 83);
    let diagnosis = fleet.cli.json(&["device", "diagnose", "gw-1"]);
    let failed = &diagnosis["troubles"]["failures"][0];
    assert_eq!((&failed["version"], &failed["exit"]), (&Value::from(2), &Value::from("signal 9")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_its_agent_and_each_has_limits_and_no_files_of_it() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &[]);
    let mut agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let host = host_of(&agent).await;
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{host}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .filter(|to| !to.starts_with("socket:") && !to.starts_with("pipe:") && to != "/dev/null")
        .collect();
    assert!(open.is_empty(), "{open:?}");
    let environment = std::fs::read_to_string(format!("/proc/{host}/environ")).unwrap();
    assert!(!environment.contains("BELLWETHER_"), "{environment}");
    let limits = std::fs::read_to_string(format!("/proc/{host}/limits")).unwrap();
    for what in ["Max cpu time", "Max address space"] {
        let line = limits.lines().find(|line| line.starts_with(what)).unwrap();
        let soft = line.strip_prefix(what).and_then(|rest| rest.split_whitespace().next());
        assert!(soft.is_some_and(|soft| soft.parse::<u64>().is_ok()), "{line}");
    }
    agent.kill();
    wait_until("it is gone", async || is_gone(host)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_lose_no_call_and_every_answer_is_one_of_the_two_versions() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let settings = Settings { config: "probation_ms = 50\n", ..Settings::default() };
    let agents: Vec<Agent> = (0..DEVICES).map(|n| fleet.agent_as(&format!("gw-{n}"), &settings)).collect();
    fleet.roll_out("digits:1");
    let is_over = Arc::new(AtomicBool::new(false));
    let request = std::fs::read(files::data("digits-request.json")).unwrap();
    let mut callers = Vec::new();
    for agent in agents.iter().flat_map(|agent| std::iter::repeat_n(agent, CALLERS)) {
        let (is_over, request) = (Arc::clone(&is_over), request.clone());
        let url = format!("{}/v2/models/digits/infer", agent.url);
        callers.push(tokio::spawn(async move {
            let client = bellwether_tests::http::client();
            let (mut answers, mut failed) = (BTreeMap::<String, u64>::new(), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                match client.post(&url).body(request.clone()).send().await {
                    Ok(response) if response.status().is_success() => {
                        let answer: Value = response.json().await.expect("an answer is JSON");
                        let digit = bellwether_tests::agent::digit(&answer);
                        let version = answer["model_version"].as_str().unwrap_or("none");
                        *answers.entry(format!("version {version} says {digit}")).or_default() += 1;
                    }
                    other => failed.push(format!("{other:?}")),
                }
            }
            (answers, failed)
        }));
    }
    let (begun, mut switches) = (Instant::now(), 0);
    while switches < SWITCHES && begun.elapsed() < SWITCHING_MAX {
        let version = 2 - switches / DEVICES % 2;
        let id = fleet.start_rollout(&format!("digits:{version}"), 0);
        fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
        switches += DEVICES;
    }
    let took = begun.elapsed();
    is_over.store(true, Ordering::Relaxed);
    let (mut answers, mut failed) = (BTreeMap::<String, u64>::new(), Vec::new());
    for caller in callers {
        let (some, lost) = caller.await.expect("a caller ends");
        some.into_iter().for_each(|(answer, count)| *answers.entry(answer).or_default() += count);
        failed.extend(lost);
    }
    let calls: u64 = answers.values().sum();
    assert!(failed.is_empty(), "{} of {calls} calls failed in {switches} switches: {:?}", failed.len(), &failed[..1]);
    let known = ["version 1 says 7", "version 2 says 7"];
    assert_eq!(answers.keys().collect::<Vec<_>>(), known, "{answers:?}");
    assert!(switches >= SWITCHES_LEAST, "{switches} switches in {took:?}");
    let shown = format!("{calls} calls, {switches} switches in {took:.1?}, none failed");
    std::io::Write::write_all(&mut std::io::stderr(), format!("{shown}\n").as_bytes()).unwrap();
}
