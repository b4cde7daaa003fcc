//! Power cuts, backups and full disks: what was decided stays decided, and work goes on.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use bellwether_hub::api::types::{EventQuery, Presence, RolloutMode, RolloutRequest, RolloutState, VersionState};
use bellwether_hub::client::ClientError;
use bellwether_tests::fleet::runs;
use bellwether_tests::wait::{wait_for, wait_until};
use bellwether_tests::{Fleet, Hub, files};

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_survives_the_hub_being_killed_in_the_middle() {
    let mut fleet = Fleet::start();
    fleet.two_versions();
    let agents = [fleet.agent("gw-1"), fleet.agent("gw-2")];
    fleet.roll_out("digits:1");
    let id = fleet.start_rollout("digits:2", 3);
    // Whatever it was doing, twice: just told, and in the middle of its soak.
    fleet.hub.kill();
    fleet.hub.restart();
    fleet.rollout_until(&id, "soaking", |r| r.stages[0].counts.healthy == 2).await;
    fleet.hub.kill();
    for agent in &agents {
        assert_eq!(agent.score().await, Some(("2".to_owned(), 7)), "devices score without a hub");
    }
    fleet.hub.restart();
    let rollout = fleet.rollout_until(&id, "completed", |r| r.state == RolloutState::Completed).await;
    assert_eq!(rollout.stages[0].counts.healthy, 2);
    for name in ["gw-1", "gw-2"] {
        fleet.device_until(name, "online and in sync", |d| d.in_sync && d.presence == Presence::Online).await;
    }
    let all = EventQuery { limit: Some(500), ..EventQuery::default() };
    let events = fleet.api().events(&all).await.unwrap().items;
    assert!(events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "no event is lost or doubled");
    let completed = events.iter().filter(|event| event.kind == "rollout_completed").count();
    assert_eq!(completed, 2);
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_a_killed_agent_left_it() {
    const EXTRA_BYTES: usize = 96 * 1024 * 1024;
    let fleet = Fleet::start();
    let mut agent = fleet.agent("gw-1");
    let extra = fleet.hub.home().join("labels.bin");
    std::fs::write(&extra, files::noise(EXTRA_BYTES)).unwrap();
    let (model, vectors) = (files::data("digits-linear.onnx"), files::data("digits-linear.vectors.npz"));
    fleet.cli.ok(&[
        "model",
        "register",
        "digits",
        &model.to_string_lossy(),
        "--vectors",
        &vectors.to_string_lossy(),
        "--extra",
        &extra.to_string_lossy(),
        "--key",
        "ada",
    ]);
    fleet.approve("digits:1");
    let id = fleet.start_rollout("digits:1", 1);
    let progress = async || {
        let device = fleet.api().device("gw-1").await.ok()?;
        let digits = device.models.into_iter().find(|model| model.name == "digits")?;
        Some((digits.phase, digits.progress))
    };
    let at_kill = wait_for("a part of it has arrived", async || {
        progress().await.filter(|(_, present)| (600..900).contains(present))
    })
    .await
    .1;
    agent.kill();
    assert_eq!(agent.score().await, None);
    agent.restart();
    // The hub still shows the report from before the cut, so every value until the end counts: a
    // download that begins anew climbs through the lower ones. Zero is said while the slot is read.
    let mut least = at_kill;
    let mut fetching = 0;
    wait_until("it has all of it", async || {
        let Some((phase, present)) = progress().await else { return false };
        if phase == "fetching" && present > 0 {
            least = least.min(present);
            fetching += usize::from(agent.log().contains("connected"));
        }
        phase == "committed"
    })
    .await;
    assert!(fetching > 0, "the rest came too fast to be seen: make the file larger");
    assert!(least >= at_kill, "it had {at_kill} per mille and fell back to {least}");
    fleet.rollout_until(&id, "completed", |r| r.state == RolloutState::Completed).await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_the_chain_that_was_told_is_there_after_a_power_cut() {
    let mut fleet = Fleet::start();
    let mut agent = fleet.agent("gw-1");
    fleet.device_until("gw-1", "online", |device| device.presence == Presence::Online).await;
    for _ in 0..3 {
        // What devices cause goes to disk at leisure, unless somebody is told of it.
        let client = fleet.api();
        let before = client.audit_head().await.unwrap().sequence;
        agent.kill();
        let told =
            wait_for("an event is told", async || client.audit_head().await.ok().filter(|head| head.sequence > before))
                .await;
        fleet.hub.kill();
        fleet.hub.restart();
        let lines = fleet.api().audit_lines(Some(told.sequence - 1)).await.unwrap();
        let line = lines.lines().next().expect("the event that was told is there");
        assert!(line.contains(&format!("{}", told.sequence)), "{line}");
        fleet.cli.ok(&["audit", "verify", "--head", &told.head]);
        agent.restart();
        fleet.device_until("gw-1", "online", |device| device.presence == Presence::Online).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_restored_from_a_backup_knows_its_fleet() {
    let mut fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let backup = fleet.hub.home().join("fleet.bwb");
    let backup = backup.to_string_lossy().into_owned();
    fleet.cli.ok(&["backup", &backup]);
    fleet.cli.run(&["backup", &backup]).refused(6, &["exists already"]);
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600, "it holds secret keys");
    // Later than the backup: what happens now will be forgotten by the hub, but not by the device.
    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));

    fleet.hub.kill();
    let restored = fleet.hub.home().join("restored");
    let said = Hub::command(&["restore", &backup, "--data", &restored.to_string_lossy()]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let again = Hub::command(&["restore", &backup, "--data", &restored.to_string_lossy()]);
    assert_eq!(again.status.code(), Some(1), "never over a hub that is there");
    fleet.hub.restart_with(&restored, None);

    let detail = fleet.api().model("digits").await.unwrap();
    let versions: Vec<_> = detail.items.iter().map(|v| (v.version, v.state, v.approvals.given.len())).collect();
    assert_eq!(versions, [(2, VersionState::Approved, 2), (1, VersionState::Approved, 2)]);
    // The hub remembers version 1 as the one to have; the device follows its newest word.
    fleet
        .device_until("gw-1", "online, and on what this hub says", |device| {
            device.presence == Presence::Online && device.in_sync && runs(device) == Some(1)
        })
        .await;
    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
    let second = fleet.agent("gw-2");
    wait_until("a new device gets the version, too", async || second.score().await.is_some()).await;
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_new_work_and_nothing_else() {
    let mut fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    fleet.hub.process().stop();
    let data = fleet.hub.data().to_owned();
    fleet.hub.restart_with(&data, Some("disk_free_mib = 1000000000\n"));

    let full =
        |error: &ClientError| error.problem().map(|p| (p.status, p.code.clone())) == Some((507, "disk_full".into()));
    let api = fleet.api();
    let error = api.put_package(b"BWPK".to_vec()).await.unwrap_err();
    assert!(full(&error), "{error:?}");
    let stages = vec!["100%".parse().unwrap()];
    let start = RolloutRequest {
        model: "digits".into(),
        version: 2,
        stages,
        soak_seconds: None,
        max_failures: None,
        on_failure: None,
        max_p95_us: None,
        mode: RolloutMode::Active,
    };
    assert!(full(&api.start_rollout(&start).await.unwrap_err()));
    let model = files::data("digits-linear.onnx");
    fleet
        .cli
        .run(&["model", "register", "digits", &model.to_string_lossy()])
        .refused(1, &["MiB left", "next:", "disk_free_mib"]);
    let hub = api.hub().await.unwrap();
    assert!(!hub.accepting_work && hub.refusing_because.unwrap().contains("MiB left"));
    let doctor = fleet.cli.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("takes no new work"), "{doctor}");

    fleet.device_until("gw-1", "online again", |device| device.presence == Presence::Online).await;
    let before = fleet.device("gw-1").await.rows_scored;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    fleet.device_until("gw-1", "reporting its scores", |device| device.rows_scored > before).await;
    fleet.hub.process().stop();
    fleet.hub.restart_with(&data, Some(""));
    tokio::time::timeout(Duration::from_secs(5), fleet.still_serves()).await.unwrap();
    fleet.roll_out("digits:2");
}
