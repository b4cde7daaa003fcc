//! Drift, seen by the hub and by somebody else's arithmetic: numpy, on the edges that the hub publishes.

use std::process::Command;

use bellwether_hub::api::types::{GroupQuery, MonitorQuery, MonitorState};
use bellwether_tests::agent::Settings;
use bellwether_tests::files::venv_python;
use bellwether_tests::hub::Options;
use bellwether_tests::wait::wait_for;
use bellwether_tests::{Fleet, files};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/psi.py");
const PIXELS: usize = 64;

/// Rows of grey levels, drawn from a seed; those of a dim camera are darker.
fn rows(count: usize, seed: u64, gain: f64) -> Vec<Vec<f64>> {
    let noise = files::noise(count * PIXELS + usize::try_from(seed).unwrap());
    let noise = &noise[usize::try_from(seed).unwrap()..];
    // Sixteenths are exact in single precision, as the digits are.
    let level = |byte: &u8| (f64::from(byte % 17) * gain).floor() / 16.0;
    noise.chunks_exact(PIXELS).map(|row| row.iter().map(level).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_every_column_is_numpys_and_a_dim_camera_raises_an_alert() {
    let config = "drift_window_seconds = 1\ndrift_rows_min = 300\n";
    let fleet = Fleet::start_with(Options { config: config.to_owned(), ..Options::default() });
    let (then, held_out, now) = (rows(1000, 1, 1.0), rows(400, 2, 1.0), rows(300, 3, 0.6));
    let (baseline, held) = (fleet.csv("baseline.csv", &then), fleet.csv("held-out.csv", &held_out));
    let (baseline, held) = (baseline.to_string_lossy(), held.to_string_lossy());
    fleet.release("digits", 1, "digits-linear", &["--baseline", &baseline, "--held-out", &held]);
    let settings =
        Settings { words: &["--tag", "site=lyon"], config: "profile_window_ms = 500\n", ..Settings::default() };
    let agent = fleet.agent_as("gw-1", &settings);
    fleet.roll_out("digits:1");
    // Two whole windows of the same rows: the alert needs two, and either gives the same counts.
    let client = fleet.api();
    let group = || GroupQuery { site: Some("lyon".to_owned()) };
    let alert = wait_for("the site is in alarm", async || {
        let judged = client.monitors(&MonitorQuery::default()).await.ok()?.items;
        let here = judged.into_iter().find(|monitor| monitor.site.as_deref() == Some("lyon"));
        if here.as_ref().is_none_or(|monitor| monitor.open_rows == 0) {
            agent.score_rows(&now).await;
        }
        here.filter(|monitor| monitor.state == MonitorState::Alarm)
    })
    .await;
    assert!(alert.sentence.contains("1 device of site lyon since"), "{}", alert.sentence);
    let detail = client.monitor("digits", 1, &group()).await.unwrap();
    assert_eq!(detail.items.len(), PIXELS + 11);
    assert!(detail.items[0].shifted && detail.items[0].corrected > detail.items[0].threshold);

    let facts = json!({ "monitor": detail, "then": then, "now": now });
    let path = fleet.hub.home().join("facts.json");
    std::fs::write(&path, facts.to_string()).unwrap();
    let output = Command::new(venv_python()).arg(SCRIPT).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(verdict["columns"], PIXELS);
    assert!(verdict["worst"].as_f64().unwrap() < 1e-9, "{verdict}");
    // The command line tells the same.
    let shown = fleet.cli.ok(&["drift", "digits:1", "--site", "lyon"]);
    assert!(shown.stderr.contains(&alert.sentence[..20]), "{shown}");
}
