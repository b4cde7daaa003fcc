//! What an earlier version of hub and agent wrote to disk still opens, and nothing in it is lost.

use std::path::Path;
use std::process::Command;

use bellwether_hub::api::types::{DeviceTokenRequest, EventQuery, Presence, RolloutState};
use bellwether_tests::agent::Agent;
use bellwether_tests::files;
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::{Hub, Options, folder};
use bellwether_tests::wait::wait_for;

/// Rows that the device of the archive scored: three before its hub was killed, which took them, and
/// twelve after it, which wait in the outbox.
const ROWS: u64 = 15;

fn unpack(into: &Path) {
    let archive = files::data("store-before-profiles.tar.gz");
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "tar cannot unpack {}", archive.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_and_an_outbox_from_before_profiles_still_open() {
    let home = folder();
    unpack(home.path());
    let made = Hub::command(&["token", "--data", &home.path().join("hub").to_string_lossy(), "--name", "later"]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
    let token = said.split_whitespace().find(|word| word.starts_with("bwt_")).expect("a token is printed").to_owned();
    let hub = Hub::open(&home.path().join("hub"), &token, Options::default());
    let client = hub.client();
    let version = client.version("digits", 1).await.unwrap();
    assert_eq!((version.approvals.given.len(), version.baseline_columns), (2, 0));
    assert_eq!(client.rollout("1").await.unwrap().state, RolloutState::Completed);
    let before = client.device("gw-1").await.unwrap();
    assert!(before.rows_scored < ROWS, "{before:?}");

    // The device finds its hub at another port: it enrols anew, with the key and the outbox it has.
    let fleet = client.hub().await.unwrap().fleet.expect("it has a root");
    let secret = client.device_token(&DeviceTokenRequest::default()).await.unwrap().secret;
    let enrolment = format!("bw1.{fleet}.{secret}");
    let agent = Agent::open(&home.path().join("agent"), &hub.url, &enrolment, "gw-1");
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)), "it scores with what it had");
    let device = wait_for("every row to arrive", async || {
        client.device("gw-1").await.ok().filter(|device| device.rows_scored > ROWS)
    })
    .await;
    assert_eq!((device.rows_scored, device.gaps), (ROWS + 1, 0));
    assert_eq!((runs(&device), device.presence), (Some(1), Presence::Online));
    let all = EventQuery { limit: Some(500), ..EventQuery::default() };
    let events = client.events(&all).await.unwrap().items;
    assert!(events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "numbers go on");
}
