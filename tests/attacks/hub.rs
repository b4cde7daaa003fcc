//! Rows 6, 21, 39, 41, 42, 44 to 46 and 50: the real hub, and who tries to deceive it.

use bellwether_hub::api::types::{ModelQuery, MonitorQuery, MonitorState, RolloutState};
use bellwether_hub::store::{SledStore, Store as _, Write};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::id::ModelName;
use bellwether_protocol::message::Up;
use bellwether_protocol::time::Millis;
use bellwether_protocol::trust::{
    Batch, ModelReport, Order, OutboxId, Phase, Profile, Reason, Record, RecordBody, Report, Running, Sample, Scores,
    Signed,
};
use bellwether_tests::hub::Options;
use bellwether_tests::raw::RawDevice;
use bellwether_tests::wait::wait_for;
use bellwether_tests::{Fleet, Hub, wait_until};

fn report(device: &RawDevice, sequence: u64, models: Vec<ModelReport>) -> Report {
    Report {
        device: device.id.clone(),
        boot: 1,
        sequence,
        seen: Order { generation: 1, sequence: 1 },
        agent: [0, 2, 0],
        operators: 21,
        hardware: "linux-x86_64".parse().unwrap(),
        memory_kib: 1 << 20,
        models: models.into_iter().collect(),
        refused: None,
        audit: Digest::default(),
    }
}

fn state(signed: Signed<'_>) -> Up<'_> {
    Up::State(signed)
}

fn batch_of(signed: Signed<'_>) -> Up<'_> {
    Up::Batch(signed)
}

fn digits(version: u32, release: Digest, phase: Phase) -> ModelReport {
    let running = Running { version: version.try_into().unwrap(), release };
    ModelReport {
        name: "digits".parse().unwrap(),
        active: Some(running),
        target: Some(running),
        phase,
        reject: None,
        progress: 1000,
    }
}

fn topic(device: &RawDevice, kind: &str) -> String {
    format!("bw/v1/d/{}/up/{kind}", device.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_an_old_report() {
    let fleet = Fleet::start();
    let device = RawDevice::enrol(&fleet, "gw-1").await;
    let newer = device.up(&report(&device, 9, vec![digits(2, Digest::of(b"two"), Phase::Committed)]), state);
    let older = device.up(&report(&device, 8, vec![digits(1, Digest::of(b"one"), Phase::Committed)]), state);
    assert!(device.publish(&topic(&device, "state"), &newer, &[]));
    fleet.device_until("gw-1", "runs 2", |view| bellwether_tests::fleet::runs(view) == Some(2)).await;
    assert!(device.publish(&topic(&device, "state"), &older, &[]));
    wait_until("the hub says so", async || fleet.hub.log().contains("the report is older than the latest")).await;
    assert_eq!(bellwether_tests::fleet::runs(&fleet.device("gw-1").await), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_39_the_audit_log_edited_or_cut() {
    let mut fleet = Fleet::start();
    fleet.two_versions();
    let whole = fleet.cli.ok(&["audit", "verify"]);
    assert!(whole.stdout.contains("nothing was edited or cut"), "{whole}");
    let kept = fleet.cli.json(&["audit", "head"])["head"].as_str().unwrap().to_owned();
    // Whoever has the hub's disk changes who approved, and then leaves out an event.
    let spoil = |fleet: &mut Fleet, how: &dyn Fn(&SledStore)| {
        fleet.hub.kill();
        let store = SledStore::open(&fleet.hub.data().join("store")).unwrap();
        how(&store);
        store.flush().unwrap();
        drop(store);
        fleet.hub.restart();
    };
    let read = |store: &SledStore| store.scan("event/", None, 1000).unwrap();
    spoil(&mut fleet, &|store| {
        let event = read(store).into_iter().find(|stored| contains(&stored.value, "approval_given")).unwrap();
        let text = String::from_utf8(event.value.clone()).unwrap();
        let person = if text.contains("\"Bo\"") { ("\"Bo\"", "\"Al\"") } else { ("\"Cy\"", "\"Al\"") };
        store.commit(&[Write::put(event.key, text.replace(person.0, person.1).into_bytes())]).unwrap();
    });
    let edited = fleet.cli.run(&["audit", "verify"]);
    edited.refused(6, &["was changed", "next:"]);
    spoil(&mut fleet, &|store| {
        let events = read(store);
        let middle = &events[events.len() / 2];
        store.commit(&[Write::remove(middle.key.clone())]).unwrap();
    });
    fleet.cli.run(&["audit", "verify"]).refused(6, &["does not hold"]);
    // A chain written anew from the edit on holds by itself, but not the head that was kept.
    let rewritten = fleet.cli.run(&["audit", "verify", "--head", &kept]);
    assert_ne!(rewritten.code, 0, "{rewritten}");
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn row_41_a_model_in_use_deleted() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    fleet.cli.run(&["model", "delete", "digits:1"]).refused(6, &["in use"]);
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_42_prepared_bytes_swapped_before_anyone_signs() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let package = fleet.api().version("digits", 1).await.unwrap().package.digest;
    // The hub is taken over: it serves other bytes under the digest that the publisher signed.
    let path = fleet.hub.data().join("packages").join(&package);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = fleet.cli.run(&["approve", "digits:1", "--key", "bo"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("damaged on disk") && refused.stderr.contains(&package), "{refused}");
    assert!(fleet.api().version("digits", 1).await.unwrap().approvals.given.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_44_success_reported_with_the_wrong_digest() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    fleet.approve("digits:1");
    let device = RawDevice::enrol(&fleet, "gw-1").await;
    let hello = device.up_hello();
    assert!(device.publish(&topic(&device, "hello"), &hello, &[]));
    let id = fleet.start_rollout("digits:1", 0);
    fleet
        .rollout_until(&id, "is offered", |view| view.stages.first().is_some_and(|stage| stage.counts.total == 1))
        .await;
    let lie = report(&device, 1, vec![digits(1, Digest::of(b"another release"), Phase::Committed)]);
    assert!(device.publish(&topic(&device, "state"), &device.up(&lie, state), &[]));
    fleet.device_until("gw-1", "has reported", |view| bellwether_tests::fleet::runs(view) == Some(1)).await;
    let rollout = fleet.api().rollout(&id).await.unwrap();
    assert_ne!(rollout.state, RolloutState::Completed, "{rollout:?}");
    assert!(rollout.stages.iter().all(|stage| stage.counts.healthy == 0), "{rollout:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_45_publishing_on_another_devices_topics() {
    // Wills, wildcards, shared subscriptions, and the same with mosquitto: tests/e2e/broker_rules.rs.
    let fleet = Fleet::start();
    let (one, two) = (RawDevice::enrol(&fleet, "gw-1").await, RawDevice::enrol(&fleet, "gw-2").await);
    let forged = two.up(&report(&two, 1, Vec::new()), state);
    let _said = two.publish(&topic(&one, "state"), &forged, &[]);
    let own = two.up(&report(&two, 2, Vec::new()), state);
    assert!(two.publish(&topic(&two, "state"), &own, &[]));
    fleet.device_until("gw-2", "reported itself", |view| view.hardware.is_some()).await;
    assert_eq!(fleet.device("gw-1").await.hardware, None, "nothing came under another's name");
}

fn scores(rows: u32) -> Record<'static> {
    let scores = Scores {
        name: "digits".parse().unwrap(),
        version: 1.try_into().unwrap(),
        rows,
        errors: 0,
        p50_us: 10,
        p95_us: 20,
    };
    Record { at: Millis(1), body: RecordBody::Scores(scores) }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_46_collected_data_forged_or_repeated() {
    let fleet = Fleet::start();
    let (one, two) = (RawDevice::enrol(&fleet, "gw-1").await, RawDevice::enrol(&fleet, "gw-2").await);
    let batch = |device: &RawDevice, first: u64, rows: u32| Batch {
        device: device.id.clone(),
        outbox: OutboxId([7; 16]),
        oldest: first,
        first,
        records: std::iter::once(scores(rows)).collect(),
    };
    let honest = one.up(&batch(&one, 1, 10), batch_of);
    // Signed by another device, under this one's name; and the same one again and again.
    let forged = two.up(&batch(&one, 2, 1000), batch_of);
    for payload in [&honest, &honest, &forged, &honest] {
        assert!(one.publish(&topic(&one, "batch"), payload, &[]));
    }
    let last = one.up(&batch(&one, 2, 5), batch_of);
    assert!(one.publish(&topic(&one, "batch"), &last, &[]));
    let view = fleet.device_until("gw-1", "the last batch came", |view| view.rows_scored >= 15).await;
    assert_eq!(view.rows_scored, 15, "each honest record once, no forged one");
}

/// Rows that a device may store in an hour at the hub below.
const ROWS_HOURLY: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn row_46_collected_data_over_quota_and_poisoned() {
    let config = format!("collect_rows_hourly_max = {ROWS_HOURLY}\ndrift_window_seconds = 1\ndrift_rows_min = 20\n");
    let fleet = Fleet::start_with(Options { config, ..Options::default() });
    let rows: Vec<Vec<f64>> = (0..300).map(|row| (0..64).map(|at| f64::from((row + at) % 17)).collect()).collect();
    let (baseline, held) = (fleet.csv("baseline.csv", &rows[..200]), fleet.csv("held-out.csv", &rows[200..]));
    let words = ["--baseline", &baseline.to_string_lossy(), "--held-out", &held.to_string_lossy()];
    fleet.release("digits", 1, "digits-linear", &words);
    let device = RawDevice::enrol(&fleet, "gw-1").await;
    let (name, version) = ("digits".parse::<ModelName>().unwrap(), 1.try_into().unwrap());
    let mut next = 1;
    let mut send = |bodies: Vec<RecordBody<'_>>| {
        let records = bodies.into_iter().map(|body| Record { at: Millis(1), body }).collect::<Vec<_>>();
        let count = records.len() as u64;
        let batch = Batch {
            device: device.id.clone(),
            outbox: OutboxId([8; 16]),
            oldest: next,
            first: next,
            records: records.into_iter().collect(),
        };
        next += count;
        assert!(device.publish(&topic(&device, "batch"), &device.up(&batch, batch_of), &[]));
    };
    // A row of the model's shape, one that is not, and more than may be stored.
    let row = |inputs, outputs| {
        RecordBody::Sample(Sample { name: name.clone(), version, reason: Reason::Turn, inputs, outputs })
    };
    let (inputs, outputs) = ([0; 64 * 4], [0; 10 * 4]);
    for _ in 0..ROWS_HOURLY + 2 {
        send(vec![row(&inputs, &outputs)]);
    }
    send(vec![row(&inputs[1..], &outputs), row(&[], &[])]);
    let view = fleet.device_until("gw-1", "every row was looked at", |view| view.gaps >= 4).await;
    assert_eq!((view.rows_collected, view.gaps), (u64::from(ROWS_HOURLY), 4));
    // Profiles out of thin air: too many rows for their counts, columns that there are none of,
    // counts cut short, another model's. Nothing of it is merged, and nothing alerts.
    let profile = |rows: u32, first: u16, columns: &'static [u8]| {
        RecordBody::Profile(Profile { name: name.clone(), version, span: Millis(1000), rows, first, columns })
    };
    let made_up = vec![
        profile(u32::MAX, 0, &[0xff; 900]),
        profile(1000, u16::MAX, &[1; 40]),
        profile(1000, 0, &[0x80]),
        profile(1000, 0, &[]),
        profile(0, 0, &[0; 64]),
    ];
    for body in made_up {
        send(vec![body]);
    }
    send(vec![scores(7).body]);
    fleet.device_until("gw-1", "the last record came", |view| view.rows_scored == 7).await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let all = MonitorQuery { all: Some(true), ..MonitorQuery::default() };
    let monitors = fleet.api().monitors(&all).await.unwrap().items;
    assert!(monitors.iter().all(|monitor| monitor.state == MonitorState::NotEnoughData), "{monitors:?}");
    assert!(!fleet.hub.log().contains("panicked"), "{}", fleet.hub.log());
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_50_a_hub_restored_from_an_old_backup_reissues_nothing() {
    let mut fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    fleet.approve("digits:1");
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let home = bellwether_tests::hub::folder();
    let (backup, data) = (home.path().join("fleet.backup"), home.path().join("restored"));
    fleet.cli.ok(&["backup", &backup.to_string_lossy()]);
    fleet.register("digits", "digits-cnn");
    fleet.approve("digits:2");
    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await.map(|score| score.0).as_deref(), Some("2"));
    fleet.hub.kill();
    let restored = Hub::command(&["restore", &backup.to_string_lossy(), "--data", &data.to_string_lossy()]);
    assert!(restored.status.success(), "{restored:?}");
    fleet.hub.restart_with(&data, None);
    // The device returns with what this hub has forgotten, and keeps it.
    let view =
        fleet.device_until("gw-1", "is back with 2", |view| bellwether_tests::fleet::runs(view) == Some(2)).await;
    assert!(view.refused.is_none(), "{view:?}");
    fleet.register("digits", "digits-cnn");
    let models = fleet.api().models(&ModelQuery::default()).await.unwrap().items;
    let latest = fleet.api().version("digits", 3).await.unwrap();
    assert_eq!((models.len(), latest.version), (1, 3), "2 is not given again");
    fleet.approve("digits:3");
    fleet.roll_out("digits:3");
    let score = wait_for("version 3 answers", async || agent.score().await.filter(|score| score.0 == "3")).await;
    assert_eq!(score.0, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_06_the_publisher_approves_at_the_hub() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let refused = fleet.cli.run(&["approve", "digits:1", "--key", "ada"]);
    refused.refused(4, &["may not approve"]);
}
