//! An invented fleet, as the facade would describe it: for tests of the pages.

use std::collections::BTreeMap;

use crate::api::auth::Caller;
use crate::api::types::*;

pub(super) const NOW: u64 = 1_760_780_000_000;

pub(super) fn caller(role: Role) -> Caller {
    Caller { name: "demo".to_owned(), role }
}

pub(super) fn hub() -> HubView {
    HubView {
        version: "0.1.0".to_owned(),
        fleet: Some("9c1f5e0b7a3d4c28b1e6f0a95d7c3e42".to_owned()),
        director_key: "d1".repeat(32),
        registry_key: "e2".repeat(32),
        time_ms: NOW,
        broker: BrokerView { kind: "embedded".to_owned(), url: "mqtt://127.0.0.1:1883".to_owned() },
        accepting_work: true,
        refusing_because: None,
    }
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(tag, value)| ((*tag).to_owned(), (*value).to_owned())).collect()
}

const SITES: [&str; 3] = ["brno", "lyon", "turku"];

fn state(index: usize) -> DeviceState {
    match index {
        5 | 11 => DeviceState::Updating,
        14 => DeviceState::Failed,
        19 => DeviceState::Offline,
        22 | 23 => DeviceState::Idle,
        _ => DeviceState::Healthy,
    }
}

pub(super) fn device(index: usize) -> DeviceView {
    let state = state(index);
    let running = |version: u32| Some(RunningView { version, release: "ab".repeat(32) });
    let failed = state == DeviceState::Failed;
    let updated = index < 8 || failed || state == DeviceState::Updating;
    DeviceView {
        id: format!("gw-{:02}", index + 1),
        key: "5f".repeat(16),
        tags: tags(&[("site", SITES[index / 8]), ("line", ["a", "b"][index % 2])]),
        presence: if state == DeviceState::Offline { Presence::Offline } else { Presence::Online },
        last_seen_ms: Some(NOW - index as u64 * 700),
        enrolled_ms: NOW - 86_400_000,
        agent: Some("0.1.0".to_owned()),
        hardware: Some("linux-x86_64".to_owned()),
        memory_kib: Some(262_144),
        operators: Some(21),
        models: vec![ModelOnDevice {
            name: "digits".to_owned(),
            active: running(if index < 8 { 2 } else { 1 }),
            target: running(2).filter(|_| updated),
            phase: if failed {
                "rolled_back"
            } else if state == DeviceState::Updating {
                "fetching"
            } else {
                "committed"
            }
            .to_owned(),
            reject: failed.then(|| RejectView { code: 84, text: "scoring failed in probation".to_owned() }),
            progress: if state == DeviceState::Updating { 640 } else { 1000 },
            desired_version: Some(if updated { 2 } else { 1 }),
            rows_scored: 18_204 + index as u64 * 311,
            errors: 0,
            p50_us: Some(640),
            p95_us: Some(1_940),
        }],
        in_sync: state == DeviceState::Healthy,
        refused: None,
        rows_scored: 18_204 + index as u64 * 311,
        gaps: 0,
    }
}

pub(super) fn devices() -> Page<DeviceView> {
    Page { items: (0..24).map(device).collect(), next: None }
}

pub(super) fn sites() -> Vec<SiteView> {
    let square = |index: usize| SiteDevice { id: device(index).id, state: state(index) };
    let site = |(number, name): (usize, &&str)| SiteView {
        site: (*name).to_owned(),
        devices: (number * 8..number * 8 + 8).map(square).collect(),
    };
    SITES.iter().enumerate().map(site).collect()
}

fn stage(cohort: CohortView, state: StageState, granted: bool, counts: [u32; 5]) -> StageView {
    let [total, healthy, updating, failed, offline] = counts;
    StageView {
        label: cohort.label(),
        cohort,
        state,
        granted,
        counts: CountsView { total, healthy, updating, failed, offline },
        since_ms: (state != StageState::Next).then_some(NOW - 90_000),
    }
}

pub(super) fn rollout() -> RolloutView {
    RolloutView {
        id: "r-7".to_owned(),
        model: "digits".to_owned(),
        version: 2,
        from_version: Some(1),
        state: RolloutState::Running,
        phase: Some(RolloutPhase::Offering),
        waiting_on: "2 devices installing".to_owned(),
        paused_because: None,
        stage: 1,
        stages: vec![
            stage(CohortView::Devices(vec!["gw-01".to_owned()]), StageState::Done, true, [1, 1, 0, 0, 0]),
            stage(CohortView::Percent(50.0), StageState::Now, true, [12, 8, 2, 1, 1]),
            stage(CohortView::Percent(100.0), StageState::Next, false, [24, 0, 0, 0, 0]),
        ],
        failures: vec![FailureView {
            code: 84,
            text: "scoring failed in probation".to_owned(),
            devices: vec!["gw-15".to_owned()],
        }],
        actions: ActionsView {
            resume: Some("it is running".to_owned()),
            promote: Some("the next stage is not granted".to_owned()),
            ..ActionsView::default()
        },
        soak_seconds: 60,
        max_failures: 2,
        started_ms: NOW - 300_000,
        started_by: "operator-2".to_owned(),
        ended_ms: None,
        timeline: [
            (12_000, "hub", "gw-15 rolled back: scoring failed in probation"),
            (90_000, "operator-2", "promoted to 50 % · “canary clean”"),
            (150_000, "hub", "stage 1 passed its gate"),
            (300_000, "operator-2", "started digits 2 in 3 stages"),
        ]
        .map(|(ago, who, what)| TimelineView { at_ms: NOW - ago, who: who.to_owned(), what: what.to_owned() })
        .into(),
    }
}

pub(super) fn ended() -> RolloutView {
    RolloutView {
        id: "r-3".to_owned(),
        version: 1,
        from_version: None,
        state: RolloutState::Completed,
        phase: None,
        waiting_on: String::new(),
        failures: Vec::new(),
        ended_ms: Some(NOW - 4_000_000),
        started_ms: NOW - 4_300_000,
        stages: vec![stage(CohortView::Percent(100.0), StageState::Done, true, [24, 24, 0, 0, 0])],
        ..rollout()
    }
}

pub(super) fn model() -> ModelView {
    ModelView {
        name: "digits".to_owned(),
        latest: 2,
        versions: 2,
        tags_of_latest: tags(&[("team", "vision"), ("family", "cnn")]),
        running: [(1, 15), (2, 8)].into(),
        state_of_latest: VersionState::Approved,
        updated_ms: NOW - 3_600_000,
    }
}

pub(super) fn version(number: u32, state: VersionState) -> VersionView {
    let file = |name: &str, role: &str, size| FileView {
        name: name.to_owned(),
        role: role.to_owned(),
        size,
        digest: "c4".repeat(32),
    };
    let tensor = |name: &str, shape: &[i64]| TensorView {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.to_vec(),
    };
    let approval =
        |person: &str| ApprovalView { person: person.to_owned(), key: "77".repeat(16), at_ms: NOW - 1_800_000 };
    let given =
        if state == VersionState::Approved { vec![approval("bob"), approval("carol")] } else { vec![approval("bob")] };
    VersionView {
        name: "digits".to_owned(),
        version: number,
        kind: "model".to_owned(),
        state,
        deployable: true,
        advice: None,
        golden: GoldenView { checked: true, rows: Some(64), runtime: Some("onnxruntime 1.22.0".to_owned()) },
        description: "A small convolutional network for 8×8 digits, 98.9 % on the holdout.".to_owned(),
        tags: tags(&[("team", "vision"), ("family", "cnn")]),
        git: Some(GitView { commit: "3f9c2ab81d07".to_owned(), branch: "main".to_owned(), dirty: number == 1 }),
        dataset: Some("UCI optical digits, 1,797 images".to_owned()),
        run: Some("train-2024-11-cnn".to_owned()),
        file_name: "digits-cnn.onnx".to_owned(),
        source: "9b".repeat(32),
        package: PackageView { digest: "6e".repeat(32), size: 61_204 },
        files: vec![file("model.onnx", "model", 44_812), file("vectors.npz", "vectors", 16_210)],
        inputs: vec![tensor("image", &[-1, 1, 8, 8])],
        outputs: vec![tensor("probabilities", &[-1, 10])],
        facts: Some(FactsView {
            operators: [("Conv", 2), ("Relu", 3), ("MaxPool", 1), ("Gemm", 2), ("Softmax", 1)]
                .map(|(name, times)| (name.to_owned(), times))
                .into(),
            opset: 17,
            parameters: 10_986,
        }),
        registered_ms: NOW - 3_600_000,
        registered_by: "publisher-ci".to_owned(),
        attestation: Some("AQID".to_owned()),
        release: Some("1d".repeat(32)),
        publisher: Some("alice".to_owned()),
        approvals: ApprovalsView { given, needed: 2 },
        requires: RequiresView { agent: "0.1.0".to_owned(), operators: 17, memory_kib: 2_048 },
        running_on: 8,
        desired_on: 12,
    }
}

pub(super) fn detail() -> ModelDetail {
    ModelDetail { model: model(), items: vec![version(2, VersionState::Approved), version(1, VersionState::Retired)] }
}

pub(super) fn grants() -> Vec<GrantView> {
    let grant = |cohort| GrantView {
        model: "digits".to_owned(),
        version: 2,
        cohort,
        persons: vec!["bob".to_owned()],
        at_ms: NOW - 1_700_000,
    };
    vec![
        grant(CohortView::Percent(100.0)),
        grant(CohortView::Percent(25.0)),
        grant(CohortView::Devices(vec!["gw-01".to_owned()])),
    ]
}

pub(super) fn events() -> Page<EventView> {
    let lines = [
        ("publisher-ci", "version.registered", "registered digits 2, golden check passed on 64 rows"),
        ("bob", "release.approved", "approved digits 2 · 1 given, 2 needed"),
        ("carol", "release.approved", "approved digits 2 · 2 given, 2 needed"),
        ("publisher-ci", "version.refused", "refused digits-int8.onnx: its golden vectors are not reproduced"),
        ("operator-2", "rollout.started", "started digits 2 in 3 stages"),
        ("gw-01", "device.committed", "gw-01 runs digits 2"),
        ("hub", "rollout.stage_passed", "stage 1 of digits 2 passed its gate"),
        ("gw-15", "device.rolled_back", "gw-15 rolled back digits 2: scoring failed in probation"),
    ];
    let event = |(index, (who, kind, text)): (usize, &(&str, &str, &str))| EventView {
        seq: index as u64 + 1,
        at_ms: NOW - (8 - index as u64) * 71_000,
        who: (*who).to_owned(),
        kind: (*kind).to_owned(),
        text: (*text).to_owned(),
        model: Some("digits".to_owned()),
        version: Some(2),
        device: who.starts_with("gw").then(|| (*who).to_owned()),
        rollout: None,
    };
    Page { items: lines.iter().enumerate().map(event).collect(), next: Some("1".to_owned()) }
}

pub(super) fn overview() -> OverviewView {
    let need = |kind: &str, title: &str, detail: &str, link: &str, action: &str| NeedView {
        kind: kind.to_owned(),
        title: title.to_owned(),
        detail: detail.to_owned(),
        link: link.to_owned(),
        action: action.to_owned(),
    };
    OverviewView {
        devices: DeviceTotals { total: 24, online: 23, offline: 1, updating: 2, failed: 1 },
        models_running: 1,
        rows_scored: 418_204,
        scores_per_minute: 41_230,
        needs: vec![
            need(
                "device",
                "gw-15 rolled back digits 2",
                "scoring failed in probation (code 84) · Lyon",
                "/devices/gw-15",
                "Look",
            ),
            need(
                "approval",
                "defect-net 9 waits for one more signature",
                "1 given, 2 needed · registered by publisher-ci",
                "/models/defect-net/9",
                "Review",
            ),
            need(
                "grant",
                "digits 2: stage 3 is not granted",
                "1 signature needed · the rollout waits there",
                "/rollouts/r-7",
                "Open",
            ),
        ],
        rollouts: vec![rollout()],
        sites: sites(),
    }
}

pub(super) fn keys() -> KeysView {
    let key = |person: &str, roles: &[&str], class: &str| KeyView {
        id: "3c".repeat(16),
        public: "4d".repeat(32),
        person: person.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        class: class.to_owned(),
        prefix: String::new(),
        status: "active".to_owned(),
    };
    KeysView {
        thresholds: ThresholdsView { root: 1, approve: 2, grant: 1 },
        keys: vec![
            key("alice", &["publish"], "file"),
            key("bob", &["approve", "grant", "root"], "file"),
            key("carol", &["approve", "grant", "root"], "file"),
            key("hub", &["director"], "hub"),
            key("hub", &["registry"], "hub"),
        ],
    }
}
