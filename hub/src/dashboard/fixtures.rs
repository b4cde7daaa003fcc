//! An invented fleet, as the facade would describe it: for tests of the pages.

use std::collections::BTreeMap;

use super::keys::Counting;
use crate::api::auth::Caller;
use crate::api::types::*;

pub(super) const NOW: u64 = 1_760_780_000_000;

pub(super) fn caller(role: Role) -> Caller {
    Caller { name: "demo".to_owned(), role, scopes: Vec::new() }
}

pub(super) fn hub() -> HubView {
    HubView {
        version: "0.1.0".to_owned(),
        fleet: Some("9c1f5e0b7a3d4c28b1e6f0a95d7c3e42".to_owned()),
        director_key: "d1".repeat(32),
        registry_key: "e2".repeat(32),
        time_key: "f3".repeat(32),
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
    let (failed, moves) = (state == DeviceState::Failed, state == DeviceState::Updating);
    let updated = index < 8 || failed || moves;
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
            phase: ["committed", "fetching", "rolled_back"][usize::from(moves) + 2 * usize::from(failed)].to_owned(),
            reject: failed.then(|| RejectView { code: 84, text: "scoring failed in probation".to_owned() }),
            progress: if moves { 640 } else { 1000 },
            desired_version: Some(if updated { 2 } else { 1 }),
            rows_scored: 18_204 + index as u64 * 311,
            errors: 0,
            p50_us: Some(640),
            p95_us: Some(1_940),
            shadow: None,
            offload: None,
        }],
        in_sync: state == DeviceState::Healthy,
        refused: None,
        rows_scored: 18_204 + index as u64 * 311,
        gaps: 0,
        rows_collected: 41,
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
        counts: CountsView { total, healthy, updating, held: 0, failed, offline, slow: 0 },
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
        stopped_because: None,
        stage: 1,
        stages: vec![
            stage(CohortView::Devices(vec!["gw-01".to_owned()]), StageState::Done, true, [1, 1, 0, 0, 0]),
            stage(CohortView::Percent(50.0), StageState::Now, true, [12, 8, 2, 1, 1]),
            stage(CohortView::Percent(100.0), StageState::Next, false, [24, 0, 0, 0, 0]),
        ],
        failures: vec![FailureView {
            code: 84,
            text: "scoring failed in probation".to_owned(),
            count: 1,
            devices: vec!["gw-15".to_owned()],
        }],
        actions: ActionsView {
            resume: Some("it is running".to_owned()),
            promote: Some("the next stage is not granted".to_owned()),
            ..ActionsView::default()
        },
        soak_seconds: 60,
        max_failures: 2,
        on_failure: FailureAction::Rollback,
        max_p95_us: Some(5_000),
        mode: RolloutMode::Active,
        agreement: None,
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

/// A rollout whose devices were too slow, on their way back or back.
pub(super) fn taken_back(state: RolloutState) -> RolloutView {
    let mut stopped = stage(CohortView::Devices(vec!["gw-01".to_owned()]), StageState::Stopped, true, [3, 1, 0, 2, 0]);
    stopped.counts.slow = 1;
    RolloutView {
        id: "r-8".to_owned(),
        version: 3,
        from_version: Some(2),
        state,
        phase: None,
        waiting_on: "devices to return to what they had".to_owned(),
        stopped_because: Some("3 devices are slower than the latency budget".to_owned()),
        stage: 0,
        stages: vec![stopped, stage(CohortView::Percent(100.0), StageState::Next, true, [24, 0, 0, 0, 0])],
        failures: vec![FailureView {
            code: 85,
            text: "slower than its latency budget".to_owned(),
            count: 103,
            devices: vec!["gw-02".to_owned(), "gw-15".to_owned()],
        }],
        actions: ActionsView {
            pause: Some("the rollout has ended".to_owned()),
            resume: Some("the rollout has ended".to_owned()),
            promote: Some("the rollout has ended".to_owned()),
            abort: Some("the rollout has ended".to_owned()),
            rollback: Some("the rollout has ended".to_owned()),
        },
        ended_ms: state.ended().then_some(NOW - 1_000),
        ..rollout()
    }
}

pub(super) fn monitor(state: MonitorState, site: Option<&str>) -> MonitorView {
    let (judged, raised) = (state != MonitorState::NotEnoughData, state == MonitorState::Alarm);
    let group = site.map_or_else(|| "fleet".to_owned(), |site| format!("site {site}"));
    let point = |index: u32| PointView {
        at_ms: NOW - u64::from(24 - index) * 300_000,
        rows: 1_200,
        column: "image[12]".to_owned(),
        psi: if raised && index > 16 { f64::from(index - 15) * 0.31 } else { f64::from(index % 5) * 0.03 },
    };
    MonitorView {
        model: "digits".to_owned(),
        version: 2,
        site: site.map(str::to_owned),
        state,
        sentence: match state {
            MonitorState::Alarm => format!(
                "digits 2: image[12], image[13], image[20] and 4 more shifted on 8 devices of {group} since 09:40 UTC"
            ),
            MonitorState::Watch => {
                format!("digits 2: image[12] may have shifted on 8 devices of {group} since 09:40 UTC")
            }
            MonitorState::NotEnoughData => format!("digits 2: not enough data of {group} yet"),
            MonitorState::Calm => format!("digits 2: {group} looks like the baseline"),
        },
        group,
        since_ms: raised.then_some(NOW - 2_000_000),
        devices: 8,
        rows: if judged { 1_204 } else { 0 },
        judged_ms: judged.then_some(NOW - 30_000),
        open_rows: 64,
        rows_min: 200,
        window_seconds: 300,
        columns: 75,
        shifted: if raised { (12..19).map(|pixel| format!("image[{pixel}]")).collect() } else { Vec::new() },
        timeline: if judged { (0..24).map(point).collect() } else { Vec::new() },
    }
}

pub(super) fn monitors() -> Vec<MonitorView> {
    vec![
        monitor(MonitorState::Alarm, Some("lyon")),
        monitor(MonitorState::Watch, None),
        monitor(MonitorState::NotEnoughData, Some("turku")),
        monitor(MonitorState::Calm, Some("brno")),
    ]
}

fn counted(bins: &[u64], above: u64) -> HistogramView {
    let n = bins.iter().sum::<u64>() + above;
    HistogramView {
        bins: bins.to_vec(),
        above,
        n,
        mean: 4.2,
        deviation: 2.1,
        min: Some(0.0),
        max: Some(16.0),
        ..HistogramView::default()
    }
}

/// A monitor whose worst column has all its values above the last edge.
pub(super) fn monitor_detail(state: MonitorState) -> MonitorDetail {
    let raised = state == MonitorState::Alarm;
    let reference: Vec<u64> = (0..16).map(|bin: u64| 200 - bin.abs_diff(6).pow(2)).collect();
    let current: Vec<u64> = reference.iter().enumerate().map(|(bin, count)| count * 2 / 5 + bin as u64 % 7).collect();
    let column = |index: u32| {
        let shifted = raised && index < 7;
        let nothing = vec![0; 16];
        ColumnView {
            name: format!("image[{}]", index + 12),
            side: if index < 64 { "input" } else { "output" }.to_owned(),
            psi: if shifted { 2.9 / f64::from(index + 1) + 0.03 } else { 0.05 },
            corrected: if shifted { 2.9 / f64::from(index + 1) } else { 0.02 },
            threshold: 0.2,
            shifted,
            lower: (0..16u8).map(f32::from).collect(),
            top: 16.0,
            reference: counted(&reference, 0),
            current: match index {
                0 if raised => counted(&nothing, 1_204),
                _ => counted(&current, 3),
            },
        }
    };
    let items = if state == MonitorState::NotEnoughData { Vec::new() } else { (0..75).map(column).collect() };
    MonitorDetail { monitor: monitor(state, Some("lyon")), items }
}

/// Rows as pictures and as values.
pub(super) fn rows() -> Vec<RowView> {
    let tensor = |name: &str, shape: &[u32], data: Vec<f64>| TensorValues {
        name: name.to_owned(),
        datatype: "FP32".to_owned(),
        shape: shape.to_vec(),
        data: Elements::Double(data.into_iter().map(Some).collect()),
    };
    let row = |index: u32| {
        let pixel = |at: u32| f64::from((at % 8 * at / 8 + index * 3) % 17);
        let shares = (0..10).map(|class| if class == index % 10 { 0.91 } else { 0.01 }).collect();
        let input = match index % 4 {
            3 => tensor("features", &[1, 9], (0..9).map(pixel).collect()),
            _ => tensor("image", &[1, 64], (0..64).map(pixel).collect()),
        };
        RowView {
            device: "gw-15".to_owned(),
            site: Some("lyon".to_owned()),
            model: "digits".to_owned(),
            version: 2,
            at_ms: NOW - u64::from(index) * 9_000,
            taken_at_ms: NOW - u64::from(index) * 9_000,
            reason: if index.is_multiple_of(3) { "uncertain" } else { "turn" }.to_owned(),
            outbox: "00".repeat(16),
            sequence: u64::from(index),
            inputs: vec![input],
            outputs: vec![tensor("probabilities", &[1, 10], shares)],
        }
    };
    (0..12).map(row).collect()
}

pub(super) fn troubles() -> TroublesView {
    let log = "09:41:07 digits 3 fetched, 61204 bytes\n09:41:08 self-test: 64 rows reproduced\n09:41:09 probation: p95 of 12 calls is 9.1 ms, budget 5.0 ms\n";
    TroublesView {
        failures: vec![FailedView {
            at_ms: NOW - 12_000,
            model: "digits".to_owned(),
            version: 3,
            reject: RejectView { code: 85, text: "slower than its latency budget".to_owned() },
            cause: "p95 of 12 calls is 9.1 ms, budget 5.0 ms".to_owned(),
            exit: Some("exit code 3".to_owned()),
            peak_kib: Some(41_288),
            log: log.to_owned(),
        }],
        log: Some(LogView { at_ms: NOW - 4_000, whole: true, text: log.repeat(4) }),
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
        rejection: None,
        requires: RequiresView { agent: "0.1.0".to_owned(), operators: 17, memory_kib: 2_048 },
        policy: PolicyView { max_p95_us: Some(5_000), collect_one_in: 100, collect_below: 600, collect_per_minute: 60 },
        baseline_columns: 75,
        running_on: 8,
        desired_on: 12,
    }
}

pub(super) fn detail() -> ModelDetail {
    ModelDetail { model: model(), items: vec![version(2, VersionState::Approved), version(1, VersionState::Retired)] }
}

/// A version before its approvers.
pub(super) fn approval(state: VersionState) -> ApprovalDetail {
    let mut version = version(2, state);
    version.rejection = (state == VersionState::Rejected).then(|| RejectionView {
        person: "carol".to_owned(),
        why: "Trained on the test set.".to_owned(),
        at_ms: NOW - 600_000,
    });
    version.tags.insert("accuracy".to_owned(), "0.989".to_owned());
    let mut running = self::version(1, VersionState::Approved);
    running.package.size = 48_310;
    running.outputs[0].shape = vec![-1, 8];
    ApprovalDetail {
        version,
        running: Some(running),
        fleet: "9c".repeat(16),
        bytes: Some("42574c3100".to_owned() + &"02".repeat(180)),
        words: Some("acid acorn actor adobe agent album alder alley".to_owned()),
        body: Some("01".repeat(160)),
        floor: 2,
        policy: ApprovalPolicyView {
            needed: 2,
            persons: ["bob", "carol", "dee"].map(str::to_owned).to_vec(),
            offline: true,
            offline_given: false,
        },
    }
}

pub(super) fn key_requests() -> Vec<KeyRequestView> {
    vec![KeyRequestView {
        id: "5a".repeat(16),
        public: "6b".repeat(32),
        person: "dee".to_owned(),
        class: "browser".to_owned(),
        name: "dee-laptop".to_owned(),
        at_ms: NOW - 120_000,
        by: "demo".to_owned(),
    }]
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
        rows_collected: 1_234,
        alerts: vec![monitor(MonitorState::Alarm, Some("lyon"))],
        scores_per_minute: 41_230,
        needs: vec![
            need(
                "drift",
                "digits 2 drifts at site lyon",
                "image[12] shifted on 8 devices of site lyon since 09:40 UTC",
                "/monitors/digits/2?site=lyon",
                "Look",
            ),
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
        offline_approval: true,
        keys: vec![
            key("alice", &["publish"], "file"),
            key("bob", &["approve", "grant", "root"], "file"),
            key("carol", &["approve", "grant", "root"], "file"),
            key("hub", &["director"], "hub"),
            key("hub", &["registry"], "hub"),
        ],
        version: 3,
        signed_by: vec!["bob".to_owned(), "carol".to_owned()],
        signed_ms: Some(NOW - 86_400_000),
        devices_behind: 2,
    }
}

pub(super) fn counting() -> Counting {
    let recall = |version: u32, otherwise: &str, in_force: bool| RecallView {
        model: "digits".to_owned(),
        versions: vec![version],
        releases: vec!["5e".repeat(32)],
        otherwise: otherwise.to_owned(),
        persons: vec!["carol".to_owned()],
        in_force,
        at_ms: NOW - 3_600_000,
        statement: String::new(),
    };
    Counting {
        keys: Some(keys()),
        requests: key_requests(),
        recalls: vec![recall(2, "stop", true), recall(1, "keep", false)],
        checkpoint: Some(CheckpointView {
            number: 4,
            recalls: 1,
            floors: vec![FloorView { model: "digits".to_owned(), version: 1 }],
            persons: vec!["bob".to_owned(), "carol".to_owned()],
            at_ms: NOW - 1_800_000,
            statement: String::new(),
        }),
    }
}
