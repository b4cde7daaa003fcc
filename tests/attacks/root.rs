//! Rows 11 to 14: roots that do not follow.

use bellwether_protocol::error::Reject;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::message::Down;
use bellwether_protocol::topic::DownTopic;
use bellwether_protocol::trust::{Cohort, KeyClass, KeyEntry, KeyStatus, RoleSet, Root, Signed};
use bellwether_tests::wait_until;

use crate::rogue::{BO, CY, DIRECTOR, REGISTRY, body, by, public, root};
use crate::stage::{ALL, Stage, a_while, packed, release};

/// Keys of the attacker, for roots of its own.
const EVE: u8 = 60;
const MALLORY: u8 = 61;

fn entry(seed: u8, person: &str) -> KeyEntry {
    KeyEntry {
        public: public(seed),
        person: person.parse().unwrap(),
        roles: RoleSet::ROOT.with(RoleSet::APPROVE).with(RoleSet::GRANT),
        class: KeyClass::File,
        prefix: bellwether_protocol::heapless::String::new(),
        status: KeyStatus::Active,
    }
}

/// The root with this version, changed.
fn changed(version: u32, change: impl FnOnce(&mut Root)) -> Vec<u8> {
    let mut next = root();
    next.version = version;
    change(&mut next);
    body(&next)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_root_signed_only_by_its_new_keys() {
    let stage = Stage::running().await;
    let taken = changed(2, |root| {
        for entry in root.keys.iter_mut().filter(|entry| entry.roles.contains(RoleSet::ROOT)) {
            entry.status = KeyStatus::Retired;
        }
        root.keys.extend([entry(EVE, "Eve"), entry(MALLORY, "Mallory")]);
    });
    let fleet = stage.rogue.fleet;
    stage.tells(Down::Root(by::<Root>(fleet, &taken, &[EVE, MALLORY])), Err(Reject::TooFewSignatures)).await;
    // With one honest person, or with every key the hub has.
    stage.tells(Down::Root(by::<Root>(fleet, &taken, &[EVE, MALLORY, BO])), Err(Reject::TooFewSignatures)).await;
    let hubs = by::<Root>(fleet, &taken, &[EVE, MALLORY, DIRECTOR, REGISTRY]);
    stage.tells(Down::Root(hubs), Err(Reject::TooFewSignatures)).await;
    let cnn = packed("digits-cnn");
    let two = body(&release(2, &cnn));
    let by_eve = Some((Cohort::Buckets(1000), [EVE].as_slice()));
    stage.refuses(stage.offer(&two, &[ALL[0], EVE, MALLORY], by_eve), Reject::UnknownKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_version_of_the_root_skipped() {
    let stage = Stage::running().await;
    let third = changed(3, |_| {});
    stage.tells(Down::Root(by::<Root>(stage.rogue.fleet, &third, &[BO, CY])), Err(Reject::RootSkipped)).await;
    stage.still_runs("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_the_root_rolled_back() {
    let mut stage = Stage::running().await;
    let fleet = stage.rogue.fleet;
    let second = changed(2, |root| root.director_generation = 2);
    stage.tells(Down::Root(by::<Root>(fleet, &second, &[BO, CY])), Ok(())).await;
    let first = changed(1, |_| {});
    for old in [&first, &second] {
        stage.tells(Down::Root(by::<Root>(fleet, old, &[BO, CY])), Err(Reject::RootSkipped)).await;
    }
    // Nor across a restart: the agent says which root it believes.
    stage.agent.kill();
    stage.agent.restart();
    wait_until("the agent is back with root 2", async || stage.rogue.known().is_some_and(|known| known.root == 2))
        .await;
    stage.still_runs("1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_14_an_oversized_step_and_an_endless_chain() {
    let stage = Stage::running().await;
    let honest = changed(2, |_| {});
    let signatures = by::<Root>(stage.rogue.fleet, &honest, &[BO, CY]).signatures;
    let oversized = vec![1; STATEMENT_BYTES_MAX + 1];
    stage.tells(Down::Root(Signed { body: &oversized, signatures }), Err(Reject::TooLarge)).await;
    // Two thousand steps that nobody signed: each is refused by itself, and the agent goes on.
    for version in 2..2002 {
        let step = changed(version, |_| {});
        let bytes = crate::stage::framed(&Down::Root(by::<Root>(stage.rogue.fleet, &step, &[DIRECTOR])));
        stage.rogue.send_bytes(DownTopic::Trust, bytes, false).await;
        if version % 500 == 0 {
            stage.still_runs("1").await;
        }
    }
    a_while().await;
    assert_eq!(stage.rogue.known().unwrap().root, 1);
    let honest = by::<Root>(stage.rogue.fleet, &honest, &[BO, CY]);
    stage.tells(Down::Root(honest), Ok(())).await;
    stage.still_runs("1").await;
}
