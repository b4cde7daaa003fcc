//! Devices by keys that were made elsewhere, devices that take another's place, and devices that go:
//! whose key no longer counts loses its session at once.

use std::process::Command;

use bellwether_hub::api::types::Presence;
use bellwether_tests::fleet::runs;
use bellwether_tests::{Agent, Fleet, files, wait_until};

/// How often the agent lost its connection.
fn lost(agent: &Agent) -> usize {
    agent.log().matches("not connected; trying again").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_imported_keys_needs_no_token() {
    let fleet = Fleet::start();
    let home = bellwether_tests::hub::folder();
    let data = home.path().join("made-elsewhere");
    let printed = Command::new(files::binary("bellwether-agent")).arg("key").arg("--data").arg(&data).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let key = String::from_utf8(printed.stdout).unwrap().trim().to_owned();
    let csv = home.path().join("batch.csv");
    std::fs::write(&csv, format!("device,site,key\ngw-7,lyon,{key}\n")).unwrap();
    let csv = csv.to_string_lossy();
    let done = fleet.cli.json(&["device", "import", &csv]);
    assert_eq!((done["registered"].as_u64(), done["known"].as_u64()), (Some(1), Some(0)), "{done}");
    assert_eq!(fleet.cli.json(&["device", "import", &csv])["known"].as_u64(), Some(1), "a repeat changes nothing");
    let id = fleet.api().hub().await.unwrap().fleet.unwrap();
    let agent = Agent::open(&data, &fleet.hub.url, &format!("bw1.{id}"), "gw-7");
    let view = fleet.device_until("gw-7", "is online", |view| view.presence == Presence::Online).await;
    assert_eq!(view.tags.get("site").map(String::as_str), Some("lyon"));
    drop(agent);
    // Nobody else comes in without a token, and a CSV that does not read registers nothing.
    let bad = home.path().join("bad.csv");
    std::fs::write(&bad, "device,key\ngw-8,0000\n").unwrap();
    assert_ne!(fleet.cli.run(&["device", "import", &bad.to_string_lossy()]).code, 0);
    std::fs::write(&bad, "name,key\ngw-8,0000\n").unwrap();
    fleet.cli.run(&["device", "import", &bad.to_string_lossy()]).refused(2, &["no column `device`"]);
    assert!(fleet.api().device("gw-8").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_replaced_loses_name_and_session_and_history_goes_on() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let old = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let before = lost(&old);
    // A plain token does not take a name that is another's.
    let token = fleet.cli.ok(&["device", "replace", "gw-1", "-o", "name"]).last_word();
    let new = Agent::start(&fleet.hub.url, &token, "gw-1");
    wait_until("the old one is thrown out", async || lost(&old) > before).await;
    fleet.device_until("gw-1", "runs what its name should have", |view| runs(view) == Some(1)).await;
    assert_eq!(new.score().await, Some(("1".to_owned(), 7)));
    assert_eq!(old.score().await, Some(("1".to_owned(), 7)), "it keeps serving, and is nobody to the fleet");
    let events = fleet.cli.json(&["events", "--kind", "device_replaced"]);
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decommissioned_device_loses_its_session() {
    let fleet = Fleet::start();
    let agent = fleet.agent("gw-1");
    fleet.device_until("gw-1", "is online", |view| view.presence == Presence::Online).await;
    let before = lost(&agent);
    fleet.cli.ok(&["device", "delete", "gw-1"]);
    wait_until("it is thrown out", async || lost(&agent) > before).await;
    assert!(fleet.api().device("gw-1").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_brings_the_latest_checkpoint_to_a_device_that_knows_nothing() {
    let fleet = Fleet::start();
    fleet.two_versions();
    fleet.cli.ok(&["recall", "digits:2", "--stop", "--key", "bo", "--yes"]);
    fleet.cli.ok(&["checkpoint", "--key", "bo", "--yes"]);
    let token = fleet.device_token(1);
    assert_eq!(token.split('.').count(), 4, "fleet, secret and checkpoint: {token}");
    let agent = Agent::start(&fleet.hub.url, &token, "gw-1");
    fleet.device_until("gw-1", "is online", |view| view.presence == Presence::Online).await;
    // A token whose checkpoint was tampered with does not enrol.
    let mut other = fleet.device_token(1);
    let last = if other.pop() == Some('A') { 'B' } else { 'A' };
    other.push(last);
    let home = bellwether_tests::hub::folder();
    let mut command = Command::new(files::binary("bellwether-agent"));
    command.args(["--hub", &fleet.hub.url, "--token", &other, "--name", "gw-2", "--listen", "127.0.0.1:0", "--data"]);
    let refused = command.arg(home.path().join("agent")).output().unwrap();
    assert!(!refused.status.success(), "{refused:?}");
    drop(agent);
}
