//! Devices that must not be disturbed, and models that score in the shadow of what answers.

use std::time::{SystemTime, UNIX_EPOCH};

use bellwether_hub::api::types::{ModelOnDevice, RolloutState, ShadowView};
use bellwether_tests::Fleet;
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::fleet::runs;
use bellwether_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

/// A window of the configuration that is days away, wherever the device is.
fn closed_window() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    // 1970 began on a Thursday.
    let day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][usize::try_from((days + 3 + 3) % 7).unwrap()];
    format!("install_windows = [\"{day} 02:00-03:00\"]\n")
}

async fn hold(agent: &Agent, method: reqwest::Method, what: &str) -> Value {
    let http = bellwether_tests::http::client();
    let response = http.request(method, format!("{}/holds/{what}", agent.url)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn phase(fleet: &Fleet, device: &str, phase: &str) -> ModelOnDevice {
    let is = |model: &ModelOnDevice| model.phase == phase;
    let device = fleet.device_until(device, phase, |device| device.models.iter().any(is)).await;
    device.models.into_iter().find(is).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_outside_its_window_holds_nobody_up_and_an_urgent_rollout_does_not_ask() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let free = fleet.agent("gw-1");
    let closed = fleet.agent_as("gw-2", &Settings { config: &closed_window(), ..Settings::default() });
    let id = fleet.start_rollout("digits:1", 1);
    let done = fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    let counts = done.stages[0].counts;
    assert_eq!((counts.total, counts.healthy, counts.held, counts.updating), (2, 1, 1, 0), "{counts:?}");
    assert!(free.score().await.is_some() && closed.score().await.is_none());
    let held = phase(&fleet, "gw-2", "held_window").await;
    assert_eq!((held.target.unwrap().version, held.active.is_none()), (1, true));
    let told = fleet.cli.ok(&["rollout", "status", &id, "--no-wait"]);
    assert!(told.stdout.contains("1 held"), "{told}");
    // The next one is urgent.
    let words = ["rollout", "start", "digits:2", "--stage", "100%", "--mode", "urgent", "--soak-seconds", "0"];
    let urgent = fleet.cli.json(&[words.as_slice(), &["--key", "bo"]].concat());
    assert_eq!(urgent["mode"], "urgent");
    fleet.device_until("gw-2", "at version 2", |device| runs(device) == Some(2) && device.in_sync).await;
    assert_eq!(closed.score().await, Some(("2".to_owned(), 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_busy_is_not_disturbed_and_a_restart_forgets_that_it_was() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let mut agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let held = hold(&agent, reqwest::Method::PUT, "busy?seconds=600").await;
    assert_eq!(held, json!({ "holds": [{ "reason": "busy", "seconds": 600 }] }));
    // As the agent looks once a second.
    wait_until("it has heard", async || agent.log().contains("installs wait for changed")).await;
    let id = fleet.start_rollout("digits:2", 0);
    phase(&fleet, "gw-1", "held_busy").await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)), "what answers answers");
    let waits = fleet.rollout_until(&id, "waiting", |rollout| rollout.stages[0].counts.held == 1).await;
    assert!(waits.waiting_on.contains("held by a condition"), "{}", waits.waiting_on);
    hold(&agent, reqwest::Method::DELETE, "busy").await;
    fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
    // What an application asked for does not outlive the agent: the application asks again.
    hold(&agent, reqwest::Method::PUT, "busy?seconds=600").await;
    agent.kill();
    agent.restart();
    fleet.roll_out("digits:1");
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}

/// Scores until that many rows were compared; what the hub heard.
async fn compared(fleet: &Fleet, agent: &Agent, least: u64) -> ShadowView {
    wait_for("rows are compared", async || {
        assert_eq!(agent.score().await, Some(("1".to_owned(), 7)), "the other answers");
        let device = fleet.api().device("gw-1").await.ok()?;
        device.models[0].shadow.filter(|shadow| shadow.rows >= least)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_the_shadow_is_compared_and_answers_only_when_it_is_to() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let mut agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let words = ["rollout", "start", "digits:2", "--stage", "100%", "--mode", "shadow", "--soak-seconds", "1"];
    let started = fleet.cli.json(&[words.as_slice(), &["--key", "bo"]].concat());
    let id = started["id"].as_str().unwrap();
    fleet.cli.ok(&["rollout", "status", id, "--timeout", "40"]);
    let shadow = phase(&fleet, "gw-1", "shadow").await;
    assert_eq!((shadow.active.unwrap().version, shadow.target.unwrap().version), (1, 2));
    let told = compared(&fleet, &agent, 5).await;
    let ShadowView { version, against, rows, agreed, errors, .. } = told;
    assert_eq!((version, against, agreed, errors), (2, 1, rows, 0), "both see a seven");
    // It comes back with the agent.
    agent.kill();
    agent.restart();
    wait_until("it answers", async || agent.score().await.is_some()).await;
    let told = compared(&fleet, &agent, rows + 5).await;
    assert_eq!((told.agreed, told.errors), (told.rows, 0));
    let rollout = fleet.api().rollout(id).await.unwrap();
    assert_eq!(rollout.agreement.map(|shadow| (shadow.against, shadow.rows >= rows)), Some((1, true)));
    // A device that joins late gets what answers first, and then its shadow.
    let late = fleet.agent("gw-2");
    fleet.device_until("gw-2", "at version 1", |device| runs(device) == Some(1)).await;
    phase(&fleet, "gw-2", "shadow").await;
    assert_eq!(late.score().await, Some(("1".to_owned(), 7)));
    // Now it is to answer.
    fleet.roll_out("digits:2");
    for (agent, name) in [(&agent, "gw-1"), (&late, "gw-2")] {
        fleet.device_until(name, "at version 2", |device| runs(device) == Some(2) && device.in_sync).await;
        assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
        assert_eq!(agent.hosts().len(), 1, "the shadow is gone");
    }
}
