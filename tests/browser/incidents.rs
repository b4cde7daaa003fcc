//! What goes wrong arrives by itself: a rollback with its cause, and drift with its histograms.

use std::time::Duration;

use bellwether_hub::api::types::{ColumnView, GroupQuery, MonitorDetail, RolloutState};
use bellwether_tests::agent::Settings;
use bellwether_tests::files::noise;
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::Options;
use bellwether_tests::wait::{wait_for_within, wait_until, wait_within};
use bellwether_tests::{Agent, Fleet};
use serde_json::{Value, json};

use super::driver::Browser;

const PIXELS: usize = 64;
/// A rollback or an alert takes windows of seconds, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_arrives_without_reload() {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &[]);
    // No call is that fast.
    fleet.release("digits", 2, "digits-cnn", &["--max-p95-ms", "0.001"]);
    let agents = ["gw-1", "gw-2"].map(|name| fleet.agent(name));
    fleet.roll_out("digits:1");
    let words =
        ["rollout", "start", "digits:2", "--stage", "100%", "--soak-seconds", "600", "--on-failure", "rollback"];
    let id = fleet.cli.json(&words)["id"].as_str().unwrap().to_owned();

    let browser = Browser::open(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    browser.go(&format!("/rollouts/{id}")).await;
    browser.until_live().await;
    browser.until("#rollout-line", "waiting for a grant").await;
    browser.script("window.untouched = 'since before the grant'").await;
    fleet.cli.ok(&["grant", "digits:2", "--percent", "100", "--key", "bo"]);
    wait_within(PATIENCE, "the page says that it is rolled back", async || {
        // Half a second of probation must see twenty calls of each.
        for agent in agents.iter().cycle().take(60) {
            agent.score().await;
        }
        browser.text("#rollout-line").await.contains("rolled back")
    })
    .await;
    assert_eq!(browser.script("return window.untouched").await, "since before the grant", "the page was loaded anew");
    assert_eq!(
        browser.script("return document.getElementById('said').textContent").await,
        "The rollout is now rolled back"
    );
    let line = browser.text("#rollout-line").await;
    assert!(line.contains("Stopped in stage 1 of 1: ") && line.contains("latency budget"), "{line}");
    assert!(line.contains("All that could be reached are back on version 1."), "{line}");
    let rollout = fleet.api().rollout(&id).await.unwrap();
    assert_eq!(rollout.state, RolloutState::RolledBack);
    let failure = &rollout.failures[0];
    browser.until("#failures", &format!("{} × {}", failure.count, failure.text)).await;
    browser.until("#stages li:first-child", "rolled back").await;
    assert_eq!(browser.count("#rollout-actions button:not([disabled])").await, 0);
    browser.photograph("rollout-rolled-back").await;
    for agent in &agents {
        fleet.device_until(&agent.name, "back on version 1", |device| runs(device) == Some(1)).await;
    }

    // The device says why, and hands out its log.
    let failed = &failure.devices[0];
    browser.go(&format!("/devices/{failed}")).await;
    browser.until("#device-troubles", &failure.text).await;
    browser.click("#fetch-log").await;
    wait_until("the note is shown", async || browser.text("main").await.contains("was asked for its log")).await;
    browser.until("#device-log", "came").await;
    assert!(!browser.text("#device-log pre").await.is_empty());
    browser.photograph("device-failed").await;
    browser.close().await;
}

/// Rows of grey levels in sixteenths, as the digits have them.
fn rows(count: usize) -> Vec<Vec<f64>> {
    let noise = noise(count * PIXELS);
    noise.chunks_exact(PIXELS).map(|row| row.iter().map(|byte| f64::from(byte % 17) / 16.0).collect()).collect()
}

/// A device at a site that scores a version with a baseline, and sends every row it may.
fn watched() -> (Fleet, Agent) {
    let config = "drift_window_seconds = 1\ndrift_rows_min = 200\n";
    let fleet = Fleet::start_with(Options { config: config.to_owned(), ..Options::default() });
    let (baseline, held_out) = (fleet.csv("baseline.csv", &rows(1000)), fleet.csv("held-out.csv", &rows(400)));
    let (baseline, held_out) = (baseline.to_string_lossy(), held_out.to_string_lossy());
    let more = ["--baseline", &baseline, "--held-out", &held_out, "--collect-one-in", "1"];
    fleet.release("digits", 1, "digits-linear", &more);
    let config = "profile_window_ms = 500\ncollect_rows_per_minute_max = 60\n";
    let settings = Settings { words: &["--tag", "site=lyon"], config, ..Settings::default() };
    let agent = fleet.agent_as("gw-1", &settings);
    fleet.roll_out("digits:1");
    (fleet, agent)
}

/// Bucket, reference and current of every line of the table, as a reader sees them.
const TABLE: &str = "const number = (cell) => Number(cell.textContent.replaceAll(',', ''));
    return [...document.querySelectorAll('#histogram tr[data-bucket]')]
        .map((row) => [row.dataset.bucket, number(row.cells[1]), number(row.cells[3])]);";

/// The same of the API's answer.
fn table(column: &ColumnView) -> Value {
    let (then, now) = (&column.reference, &column.current);
    let mut rows = vec![json!(["below", then.below, now.below])];
    let bins = then.bins.iter().zip(&now.bins).enumerate();
    rows.extend(bins.map(|(index, (then, now))| json!([index.to_string(), then, now])));
    rows.push(json!(["above", then.above, now.above]));
    rows.push(json!(["missing", then.missing, now.missing]));
    Value::Array(rows)
}

fn column<'d>(detail: &'d MonitorDetail, name: &str) -> &'d ColumnView {
    detail.items.iter().find(|column| column.name == name).expect("the page shows a column of the API")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_banner_arrives_without_reload_and_the_histogram_is_the_apis() {
    let (fleet, agent) = watched();
    let browser = Browser::open(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    browser.go("/").await;
    browser.until_live().await;
    assert_eq!(browser.text("#alerts").await, "", "nothing drifts yet");
    browser.script("window.untouched = 'since before the drift'").await;
    let ones = vec![vec![1.0; PIXELS]; 100];
    wait_within(PATIENCE, "the banner is there", async || {
        agent.score_rows(&ones).await;
        browser.text("#alerts").await.contains("shifted on 1 device of site lyon since")
    })
    .await;
    assert_eq!(browser.script("return window.untouched").await, "since before the drift", "the page was loaded anew");
    let said = browser.script("return document.getElementById('said').textContent").await;
    assert!(said.as_str().unwrap().contains("shifted on 1 device of"), "it is said once, politely: {said}");
    browser.until("#needs", "drift").await;
    browser.until("#nav-links", "alerts").await;
    browser.photograph("overview-drift").await;

    browser.click("[data-alert*=lyon] a").await;
    wait_until("the monitor's page follows", async || browser.path().await == "/monitors/digits/1").await;
    browser.until_live().await;
    browser.until("#monitor-line", "shifted on 1 device of site lyon since").await;
    let group = GroupQuery { site: Some("lyon".to_owned()) };
    // The last window may be judged between two looks; once nothing is scored both are the same.
    let api = fleet.api();
    let name = wait_for_within(PATIENCE, "the table is the API's, count by count", async || {
        let shown = browser.script("return document.getElementById('histogram').dataset.column").await;
        let name = shown.as_str()?.to_owned();
        let detail = api.monitor("digits", 1, &group).await.ok()?;
        (browser.script(TABLE).await == table(column(&detail, &name))).then_some(name)
    })
    .await;
    let detail = api.monitor("digits", 1, &group).await.unwrap();
    assert!(column(&detail, &name).shifted && column(&detail, &name).current.n >= 200);
    let label = browser.find("#monitor-column svg[role=img]").await.attr("aria-label").await.unwrap().unwrap();
    assert!(label.contains(&name) && label.contains("Most changed"), "{label}");
    for width in [390, 320] {
        assert!(browser.content_width(width).await <= u64::from(width), "it scrolls sideways at {width} px");
    }
    browser.photograph("monitor").await;
    // Another column, and the list.
    let other = &detail.items[3].name;
    // By its name: the order is that of the scores, which another window may have changed.
    let links =
        "Object.fromEntries([...document.querySelectorAll('#monitor-columns a')].map((a) => [a.textContent, a.href]))";
    let links = browser.script(&format!("return {links}")).await;
    let link = links[other].as_str().unwrap().trim_start_matches(&fleet.hub.url).to_owned();
    browser.go(&link).await;
    browser.until("#monitor-column h2", other).await;
    wait_until("the other column is the API's too", async || {
        let detail = api.monitor("digits", 1, &group).await.unwrap();
        browser.script(TABLE).await == table(column(&detail, other))
    })
    .await;
    browser.go("/monitors").await;
    browser.until("#monitors", "site lyon").await;
    browser.photograph("monitors").await;

    // What was sampled is drawn.
    browser.go("/devices/gw-1").await;
    wait_until("inputs are drawn", async || browser.count("#device-rows svg.picture").await > 0).await;
    browser.photograph("device-inputs").await;
    browser.close().await;
}
