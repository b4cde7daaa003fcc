//! The hub's own keys are replaced while devices run: by people, who sign a root that lists the new
//! ones.

use std::path::Path;

use bellwether_tests::Fleet;
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::{Hub, folder};
use serde_json::Value;

fn new_key(data: &Path, which: &str) -> String {
    let made = Hub::command(&["new-key", which, "--data", &data.to_string_lossy()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_gets_new_keys_while_its_devices_run() {
    let mut fleet = Fleet::start();
    fleet.two_versions();
    let near = fleet.agent("near");
    let mut away = fleet.agent("away");
    fleet.roll_out("digits:1");
    for name in ["near", "away"] {
        fleet.device_until(name, "running version 1", |device| runs(device) == Some(1)).await;
    }
    away.kill();

    let nowhere = Hub::command(&["new-key", "director", "--data", "/nowhere"]);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("no hub has ever run in /nowhere"), "{nowhere:?}");
    let data = fleet.hub.data().to_owned();
    let before = fleet.api().hub().await.unwrap();
    let made = ["director", "registry", "time"].map(|which| new_key(&data, which));
    assert_eq!(new_key(&data, "director"), made[0], "asked again, it is the same");
    let now = fleet.api().hub().await.unwrap();
    assert_eq!(now.director_key, before.director_key, "nothing changes before people sign");

    let files = folder();
    let rotate = |director: &str, version: u32| {
        let file = files.path().join(format!("root-{version}.json")).to_string_lossy().into_owned();
        let keys = ["--new-registry", &made[1], "--new-time", &made[2], "--key", "bo", "--key", "cy", "--out", &file];
        fleet.cli.ok(&[&["root", "rotate", "--new-director", director][..], &keys].concat());
        fleet.cli.run(&["submit", &file])
    };
    // A director that this hub does not hold would leave the fleet without one.
    let stranger = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    rotate(stranger, 9).refused(1, &["director", "bellwether-hub new-key"]);
    assert_eq!(fleet.api().root().await.unwrap().version, 1);
    let sent = rotate(&made[0], 2);
    assert_eq!(sent.code, 0, "{sent}");
    let now = fleet.api().hub().await.unwrap();
    assert_eq!([now.director_key, now.registry_key, now.time_key], made);
    let keys = data.join("keys");
    assert!(!keys.join("director.next.key").exists(), "it took the place of the old one, which is gone");

    // Who is there follows the new director; who was away learns of it on its return.
    fleet.roll_out("digits:2");
    fleet.device_until("near", "running version 2", |device| runs(device) == Some(2)).await;
    assert_eq!(near.score().await, Some(("2".to_owned(), 7)));
    away.restart();
    fleet.device_until("away", "running version 2", |device| runs(device) == Some(2)).await;

    // The attestation is by the new registry key, and a hub that starts again has the new keys.
    fleet.hub.kill();
    fleet.hub.restart();
    assert_eq!(fleet.api().hub().await.unwrap().director_key, made[0]);
    let exported = fleet.cli.json(&["model", "export", "digits:2"]);
    assert_eq!(exported["signatures"].as_array().unwrap().len(), 1, "{exported}");
    fleet.cli.ok(&["audit", "verify"]);
    fleet.cli.ok(&["recall", "digits:2", "--key", "bo"]);
    for name in ["near", "away"] {
        fleet.device_until(name, "back on version 1", |device| runs(device) == Some(1)).await;
    }
    let shown = fleet.cli.json(&["root", "show"]);
    let hubs = |status: &str| {
        let is_so = |key: &&Value| key["person"] == "hub" && key["status"] == status;
        shown.as_array().unwrap().iter().filter(is_so).count()
    };
    assert_eq!((hubs("active"), hubs("retired")), (3, 3));
    for log in [near.log(), away.log()] {
        assert!(!log.contains("panicked"), "{log}");
    }
}
