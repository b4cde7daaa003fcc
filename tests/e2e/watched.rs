//! What devices tell beyond scores: collected rows, and what went wrong.

use std::process::Command;

use bellwether_hub::api::types::RolloutState;
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::fleet::runs;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Fleet, files};
use serde_json::Value;

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/parquet_reader.py");
const COLLECT: [&str; 4] = ["--collect-one-in", "2", "--collect-per-minute", "600"];

async fn score(agent: &Agent, calls: usize) {
    for _ in 0..calls {
        assert!(agent.score().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_collected_where_package_and_device_allow_it_and_others_read_them() {
    let mut fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &COLLECT);
    let allowed = Settings {
        config: "collect_rows_per_minute_max = 600\n",
        words: &["--tag", "site=lyon"],
        ..Settings::default()
    };
    let open = fleet.agent_as("gw-1", &allowed);
    let closed = fleet.agent("gw-2");
    fleet.roll_out("digits:1");
    for agent in [&open, &closed] {
        score(agent, 20).await;
    }
    fleet.device_until("gw-1", "collected from", |device| device.rows_collected == 10).await;
    let device = fleet.device_until("gw-2", "heard of its scores", |device| device.rows_scored == 20).await;
    assert_eq!((device.rows_collected, device.gaps), (0, 0), "what the device does not allow stays there");

    let asked: Value = serde_json::from_slice(&std::fs::read(files::data("digits-request.json")).unwrap()).unwrap();
    let text = fleet.cli.ok(&["data", "export", "--model", "digits:1", "--site", "lyon", "--to", "-"]).stdout;
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 10);
    for row in &rows {
        assert_eq!((&row["device"], &row["reason"]), (&Value::from("gw-1"), &Value::from("turn")));
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let input = row["inputs"].as_array().and_then(|inputs| inputs.first()).unwrap_or(&row["inputs"]["image"]);
        let input = if input["data"].is_array() { &input["data"] } else { input };
        assert_eq!(numbers(input), numbers(&asked["inputs"][0]["data"]), "{row}");
    }
    // Sealed by the export; somebody else's reader finds the same rows in place.
    let folder = fleet.hub.data().join("collected");
    let output = Command::new(files::venv_python()).arg(READER).arg(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["rows"], &found["distinct"]), (&Value::from(10), &Value::from(10)), "{said}");
    assert_eq!(found["list"]["lengths"], serde_json::json!([64]), "{said}");
    let listed = fleet.cli.json(&["data", "list"]);
    assert!(listed.to_string().contains("\"rows\":10"), "{listed}");
    fleet.hub.kill();
    fleet.hub.restart();
    let again = fleet.cli.ok(&["data", "export", "--model", "digits:1", "--to", "-"]).stdout;
    assert_eq!(again.lines().count(), 10, "each row once, also after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_too_slow_goes_back_and_the_device_says_why() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &[]);
    fleet.release("digits", 2, "digits-cnn", &["--max-p95-ms", "0.001"]);
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let id = fleet.start_rollout("digits:2", 1);
    let client = fleet.api();
    wait_until("it is rolled back", async || {
        score(&agent, 25).await;
        client.rollout(&id).await.is_ok_and(|rollout| rollout.state == RolloutState::RolledBack)
    })
    .await;
    let rollout = client.rollout(&id).await.unwrap();
    assert_eq!(rollout.stopped_because.as_deref(), Some("1 device is slower than the latency budget"));
    assert_eq!(
        (rollout.failures[0].code, rollout.failures[0].devices.as_slice()),
        (85, ["gw-1".to_owned()].as_slice())
    );
    assert_eq!((rollout.stages[0].counts.total, rollout.stages[0].counts.failed), (1, 1));
    assert_eq!(fleet.cli.run(&["rollout", "status", &id]).code, 3, "a rollout that was rolled back did not succeed");
    fleet.device_until("gw-1", "back", |device| runs(device) == Some(1) && device.in_sync).await;

    let diagnosis = fleet.cli.json(&["device", "diagnose", "gw-1"]);
    let failed = &diagnosis["troubles"]["failures"][0];
    assert_eq!((&failed["version"], &failed["reject"]["code"]), (&Value::from(2), &Value::from(85)));
    let log = failed["log"].as_str().unwrap();
    assert!(log.contains("digits") && log.len() <= 4096, "{log}");
    let text = fleet.cli.ok(&["device", "diagnose", "gw-1"]);
    assert!(text.stdout.contains("last failure: digits 2"), "{text}");
    let logs = fleet.cli.ok(&["device", "logs", "gw-1"]);
    assert!(logs.stdout.contains("connected"), "{logs}");
    let nobody = fleet.cli.run(&["device", "logs", "gw-9"]);
    assert_eq!(nobody.code, 5, "{nobody}");
    assert_ne!(fleet.cli_as("viewer").run(&["device", "logs", "gw-1"]).code, 0, "a log is not for everyone");
}
