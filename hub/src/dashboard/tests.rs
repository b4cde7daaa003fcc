//! The pages as text: nothing hostile gets through, nothing inline, every empty state helps.

use crate::api::types::*;

use super::shell::{Counts, Frame, document};
use super::{
    approval, approvals, device, events, fixtures, fleet, keys, model, models, monitor, monitors, overview, rollout,
    rollouts,
};

/// A monitor's page among all groups.
fn incident(detail: &MonitorDetail, column: Option<&str>) -> super::shell::Page {
    let rollouts = [fixtures::ended()];
    monitor::page(&monitor::Shown { monitor: detail, groups: &fixtures::monitors(), rollouts: &rollouts, column })
}

/// A device with an FPGA, and models on it, waiting for it, fallen from it, and on a simulation and a twin.
fn offloaded() -> DeviceView {
    let offload = OffloadView::example;
    let fault = Some("the engine's answer to a known question is wrong".to_owned());
    let mut untouched = offload(Accelerator::Ice40Up5k, ScoredBy::Waiting);
    (untouched.engine_rows, untouched.cycles_per_row, untouched.utilisation, untouched.us_per_row) =
        (0, None, None, None);
    let twin = OffloadView { build: None, ..untouched.clone() };
    let models = [
        ("digits", offload(Accelerator::Ice40Up5k, ScoredBy::Engine)),
        ("gauge", untouched),
        ("wake", OffloadView { cause: fault, ..offload(Accelerator::Ice40Up5k, ScoredBy::Twin) }),
        ("valve", offload(Accelerator::Simulated, ScoredBy::Engine)),
        ("motor", OffloadView { accelerator: Accelerator::Twin, by: ScoredBy::Twin, ..twin }),
    ];
    let mut device = fixtures::device(3);
    let bare = device.models.remove(0);
    device.models = models
        .map(|(name, offload)| ModelOnDevice { name: name.to_owned(), offload: Some(offload), ..bare.clone() })
        .into();
    device
}

/// The greatest figures there are, beside this text.
fn made_up(text: &str) -> OffloadView {
    OffloadView {
        accelerator: Accelerator::Simulated,
        build: Some(text.to_owned()),
        by: ScoredBy::Twin,
        engine_rows: u64::MAX,
        twin_rows: u64::MAX,
        cycles_per_row: Some(u64::MAX),
        macs_per_row: Some(u64::MAX),
        utilisation: Some(u32::MAX),
        clock_khz: u32::MAX,
        us_per_row: Some(u64::MAX),
        recovered: u64::MAX,
        cause: Some(text.to_owned()),
    }
}

type Shown = (&'static str, super::shell::Page);

fn full(role: Role) -> Vec<Shown> {
    let caller = fixtures::caller(role);
    let (list, recent) = (fixtures::devices(), fixtures::events());
    let beside =
        device::Beside { events: &recent.items, rows: Some(fixtures::rows()), troubles: Some(fixtures::troubles()) };
    let waiting = fixtures::version(2, VersionState::AwaitingApproval);
    let approved = fixtures::version(2, VersionState::Approved);
    let detail = fixtures::detail();
    let approver = fixtures::caller(Role::Approver);
    let queue = [waiting.clone(), fixtures::approval(VersionState::Rejected).version];
    vec![
        ("overview", overview::page(&fixtures::overview(), &[fixtures::model()], &recent.items)),
        ("fleet", fleet::page(&DeviceQuery::default(), &list, &fixtures::sites())),
        ("device", device::page(&fixtures::device(14), &beside, &caller)),
        ("device-fpga", device::page(&offloaded(), &beside, &caller)),
        ("fleet-fpga", fleet::page(&DeviceQuery::default(), &Page::whole(vec![offloaded()]), &fixtures::sites())),
        ("device-hidden", device::page(&fixtures::device(14), &device::Beside::default(), &caller)),
        ("models", models::page(&ModelQuery::default(), &[fixtures::model()])),
        ("model", model::page(&detail, &approved, &fixtures::grants(), &caller)),
        ("model-waiting", model::page(&detail, &waiting, &[], &caller)),
        ("rollouts", rollouts::page(&[fixtures::rollout(), fixtures::ended()])),
        ("rollout", rollout::page(&fixtures::rollout(), &list.items, &caller)),
        ("rollout-ended", rollout::page(&fixtures::ended(), &list.items, &caller)),
        ("rollout-back", rollout::page(&fixtures::taken_back(RolloutState::RolledBack), &list.items, &caller)),
        ("rollout-returning", rollout::page(&fixtures::taken_back(RolloutState::RollingBack), &list.items, &caller)),
        ("monitors", monitors::page(&MonitorQuery::default(), &fixtures::monitors())),
        ("monitor", incident(&fixtures::monitor_detail(MonitorState::Alarm), None)),
        ("monitor-calm", incident(&fixtures::monitor_detail(MonitorState::Calm), Some("image[20]"))),
        ("monitor-young", incident(&fixtures::monitor_detail(MonitorState::NotEnoughData), None)),
        ("events", events::page(&EventQuery::default(), &recent)),
        ("keys", keys::page(&fixtures::hub(), &fixtures::counting(), &caller)),
        ("approvals", approvals::page(&queue, Some(&fixtures::keys()))),
        ("approval", approval::page(&fixtures::approval(VersionState::AwaitingApproval), &approver)),
        ("approval-rejected", approval::page(&fixtures::approval(VersionState::Rejected), &approver)),
        ("approval-looked-at", approval::page(&fixtures::approval(VersionState::AwaitingApproval), &caller)),
    ]
}

fn bare() -> Vec<Shown> {
    let nothing = Page::whole(Vec::new());
    vec![
        ("overview-empty", overview::page(&OverviewView::default(), &[], &[])),
        ("fleet-empty", fleet::page(&DeviceQuery::default(), &nothing, &[])),
        ("models-empty", models::page(&ModelQuery::default(), &[])),
        ("approvals-empty", approvals::page(&[], None)),
        ("rollouts-empty", rollouts::page(&[])),
        ("monitors-empty", monitors::page(&MonitorQuery::default(), &[])),
        ("events-empty", events::page(&EventQuery::default(), &Page::whole(Vec::new()))),
        (
            "keys-empty",
            keys::page(
                &HubView { fleet: None, ..fixtures::hub() },
                &keys::Counting::default(),
                &fixtures::caller(Role::Operator),
            ),
        ),
    ]
}

fn render((name, mut page): Shown, role: Role) -> (&'static str, String) {
    let caller = fixtures::caller(role);
    let counts = Counts { needs: 4, devices: 24, models: 1, approvals: 1, rollouts: 1, alerts: 1 };
    let frame = Frame { caller: &caller, hub: &fixtures::hub(), counts, note: None };
    (name, document(&mut page, &frame).into_string())
}

#[test]
fn every_page_renders_without_anything_inline() {
    for (name, text) in full(Role::Operator).into_iter().chain(bare()).map(|page| render(page, Role::Operator)) {
        assert!(!text.contains(" style="), "{name}: an inline style breaks the content policy");
        assert!(!text.contains(" onclick") && !text.contains("<script>"), "{name}: an inline script");
        assert_eq!(text.matches("<h1").count(), 1, "{name}: one heading");
        if let Ok(folder) = std::env::var("BELLWETHER_PAGES") {
            let text = text.replace("/assets/", "assets/");
            std::fs::write(format!("{folder}/{name}.html"), text).unwrap();
        }
    }
}

#[test]
fn ids_are_given_once_a_page() {
    for (name, text) in full(Role::Operator).into_iter().map(|page| render(page, Role::Operator)) {
        let mut ids: Vec<&str> = text.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all, "{name}: an id twice");
    }
}

#[test]
fn every_empty_page_names_a_command() {
    for (name, text) in bare().into_iter().map(|page| render(page, Role::Operator)) {
        assert!(text.contains("bellwether "), "{name}");
    }
}

#[test]
fn hostile_names_stay_text() {
    const HOSTILE: &str = "\"><script>alert(1)</script>";
    let caller = fixtures::caller(Role::Operator);
    let mut hostile = fixtures::device(3);
    hostile.id = HOSTILE.to_owned();
    hostile.tags.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    hostile.models[0].phase = HOSTILE.to_owned();
    hostile.models[0].offload = Some(made_up(HOSTILE));
    let mut bad = fixtures::rollout();
    bad.model = HOSTILE.to_owned();
    bad.timeline[0].what = HOSTILE.to_owned();
    bad.failures[0].devices = vec![HOSTILE.to_owned()];
    let mut glance = fixtures::overview();
    glance.needs[0].link = "javascript:alert(1)".to_owned();
    glance.needs[1].link = "//elsewhere".to_owned();
    glance.sites[0].site = HOSTILE.to_owned();
    glance.sites[0].devices[0].id = HOSTILE.to_owned();
    glance.alerts[0].sentence = HOSTILE.to_owned();
    glance.alerts[0].site = Some(HOSTILE.to_owned());
    let mut detail = fixtures::monitor_detail(MonitorState::Alarm);
    detail.monitor = glance.alerts[0].clone();
    detail.items[0].name = HOSTILE.to_owned();
    let (mut rows, mut troubles) = (fixtures::rows(), fixtures::troubles());
    rows[0].reason = HOSTILE.to_owned();
    rows[0].inputs[0].name = HOSTILE.to_owned();
    troubles.failures[0].cause = HOSTILE.to_owned();
    troubles.failures[0].log = HOSTILE.to_owned();
    let beside = device::Beside { events: &[], rows: Some(rows), troubles: Some(troubles) };
    let mut back = fixtures::taken_back(RolloutState::RolledBack);
    back.stopped_because = Some(HOSTILE.to_owned());
    let mut waiting = fixtures::approval(VersionState::Rejected);
    waiting.version.description = HOSTILE.to_owned();
    waiting.version.publisher = Some(HOSTILE.to_owned());
    waiting.version.tags.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    waiting.version.approvals.given[0].person = HOSTILE.to_owned();
    waiting.version.rejection.as_mut().unwrap().why = HOSTILE.to_owned();
    let mut requests = fixtures::key_requests();
    requests[0].name = HOSTILE.to_owned();
    requests[0].person = HOSTILE.to_owned();
    let mut hostile_keys = keys::Counting { keys: None, requests, ..fixtures::counting() };
    hostile_keys.recalls[0].persons = vec![HOSTILE.to_owned()];
    let pages = vec![
        ("approvals", approvals::page(&[waiting.version.clone()], None)),
        ("approval", approval::page(&waiting, &caller)),
        ("keys", keys::page(&fixtures::hub(), &hostile_keys, &caller)),
        ("device", device::page(&hostile, &beside, &caller)),
        ("monitors", monitors::page(&MonitorQuery::default(), &glance.alerts)),
        ("monitor", incident(&detail, Some(HOSTILE))),
        ("rollout-back", rollout::page(&back, &[], &caller)),
        (
            "fleet",
            fleet::page(
                &DeviceQuery { text: Some(HOSTILE.to_owned()), ..DeviceQuery::default() },
                &Page::whole(vec![hostile.clone()]),
                &glance.sites,
            ),
        ),
        ("rollout", rollout::page(&bad, &[hostile], &caller)),
        ("overview", overview::page(&glance, &[], &[])),
    ];
    for (name, text) in pages.into_iter().map(|page| render(page, Role::Operator)) {
        assert!(!text.contains("<script>alert"), "{name}");
        assert!(!text.contains("javascript:") && !text.contains("//elsewhere"), "{name}");
    }
}

#[test]
fn a_disabled_action_says_why() {
    let (_, text) =
        render(("rollout", rollout::page(&fixtures::rollout(), &[], &fixtures::caller(Role::Viewer))), Role::Viewer);
    assert!(text.contains("needs the role operator; you are viewer"));
    assert!(!text.contains("Abort and return"));
    let (_, text) = render(
        ("rollout", rollout::page(&fixtures::rollout(), &[], &fixtures::caller(Role::Operator))),
        Role::Operator,
    );
    assert!(text.contains("Promote: the next stage is not granted"));
    assert!(text.contains("10 devices return to version 1; 1 is offline and follows when it connects."));
    let waiting = fixtures::version(2, VersionState::AwaitingApproval);
    let page = model::page(&fixtures::detail(), &waiting, &[], &fixtures::caller(Role::Operator));
    let (_, text) = render(("model", page), Role::Operator);
    assert!(text.contains("1 of 2 approvals given") && text.contains("bellwether approve digits:2"));
}

fn words(page: super::shell::Page) -> String {
    let mut words = String::new();
    let mut inside = false;
    for letter in page.body.into_string().chars() {
        match letter {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => words.push(letter),
            _ => {}
        }
    }
    words
}

#[test]
fn a_rollback_says_where_why_and_what_became_of_the_devices() {
    let caller = fixtures::caller(Role::Operator);
    let page = |rollout: &RolloutView| words(rollout::page(rollout, &[], &caller));
    let back = page(&fixtures::taken_back(RolloutState::RolledBack));
    assert!(back.contains(
        "Stopped in stage 1 of 2: 3 devices are slower than the latency budget. All that could be reached are back on \
         version 2."
    ));
    assert!(back.contains("103 × slower than its latency budget") && back.contains("and 101 more"));
    assert!(back.contains("1 too slow"));
    let returning = page(&fixtures::taken_back(RolloutState::RollingBack));
    assert!(returning.contains("Its devices are returning to version 2."));
    assert!(
        page(&fixtures::rollout()).contains("More than 2 devices that fail or are too slow send every device back")
    );
}

#[test]
fn what_completed_can_be_rolled_back_and_not_aborted() {
    let caller = fixtures::caller(Role::Operator);
    let mut ended = fixtures::ended();
    ended.from_version = Some(1);
    ended.actions.abort = Some("the rollout has ended".to_owned());
    let text = rollout::page(&ended, &[], &caller).body.into_string();
    assert!(text.contains("24 devices return to version 1.") && text.contains("id=\"rollback-now\""));
    assert!(!text.contains("id=\"abort-now\""));
}

#[test]
fn an_alert_is_a_sentence_that_leads_to_its_page() {
    let text = overview::page(&fixtures::overview(), &[], &[]).body.into_string();
    assert!(text.contains("data-alert=\"/monitors/digits/2?site=lyon\""));
    assert!(text.contains("shifted on 8 devices of site lyon since 09:40 UTC"));
    let many = vec![fixtures::monitor(MonitorState::Alarm, None); 5];
    assert!(monitors::banners(&many).into_string().contains("2 more alerts"));
    assert!(monitors::banners(&[]).into_string().is_empty());
}

#[test]
fn a_monitor_tells_what_it_knows_and_how_far_it_is() {
    let alert = words(incident(&fixtures::monitor_detail(MonitorState::Alarm), None));
    assert!(alert.contains("Most changed: above 16 held 0 % of the reference, 100 % now."), "{alert}");
    assert!(alert.contains("63 more"), "the other columns are folded");
    let calm = words(incident(&fixtures::monitor_detail(MonitorState::Calm), Some("image[20]")));
    assert!(calm.contains("looks like the baseline") && calm.contains("Column image[20]"));
    let unknown = words(incident(&fixtures::monitor_detail(MonitorState::Calm), Some("nothing")));
    assert!(unknown.contains("The baseline has no column nothing"));
    let young = words(incident(&fixtures::monitor_detail(MonitorState::NotEnoughData), None));
    assert!(young.contains("64 of 200 needed") && young.contains("once it holds 200 rows"));
}

#[test]
fn an_fpga_is_shown_only_where_there_is_one_and_a_simulation_is_called_so() {
    let caller = fixtures::caller(Role::Viewer);
    let page = |device: &DeviceView| words(device::page(device, &device::Beside::default(), &caller));
    assert!(!page(&fixtures::device(3)).contains("FPGA"));
    let text = page(&offloaded());
    for told in [
        "iCE40 UP5K 1234abcd",
        "simulated gateware",
        "software twin",
        "✓engine",
        "○twin, waiting",
        "!twinlast fault: the engine's answer to a known question is wrong",
        "○twin0 by the engine 203 by the twin",
        "1,797 by the engine 203 by the twin11,405475 µs at 24.0 MHz92.3 %1",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    let list = Page::whole(vec![offloaded()]);
    let text = words(fleet::page(&DeviceQuery::default(), &list, &fixtures::sites()));
    let marks = ["digits 2 FPGA", "wake 2 !not on its FPGA", "valve 2 simulated FPGA"];
    assert!(marks.iter().all(|mark| text.contains(mark)) && text.matches("FPGA").count() == 4, "{text}");
}

#[test]
fn the_fpga_is_kept_current_also_where_it_comes_later() {
    let page = device::page(&fixtures::device(3), &device::Beside::default(), &fixtures::caller(Role::Viewer));
    let fragments = page.parts.into_fragments();
    assert!(fragments.contains(&("device-fpga".to_owned(), String::new())));
}

#[test]
fn a_viewer_is_told_why_inputs_and_logs_are_hidden() {
    let page = device::page(&fixtures::device(3), &device::Beside::default(), &fixtures::caller(Role::Viewer));
    let text = words(page);
    assert_eq!(text.matches("inputs and logs may tell more than a viewer should know").count(), 2);
    assert!(!text.contains("Fetch log"));
}

#[test]
fn the_form_offers_the_granted_stages_smallest_first() {
    let approved = fixtures::version(2, VersionState::Approved);
    let page = model::page(&fixtures::detail(), &approved, &fixtures::grants(), &fixtures::caller(Role::Operator));
    assert!(page.body.into_string().contains("device=gw-01\n25%\n100%"));
}

#[test]
fn the_scripts_stay_small() {
    assert!(include_str!("assets/live.js").len() < 8 * 1024);
    let signing = [
        include_str!("assets/statement.js"),
        include_str!("assets/browser-key.js"),
        include_str!("assets/signing.js"),
        include_str!("assets/approve.js"),
        include_str!("assets/grant.js"),
        include_str!("assets/keys.js"),
    ];
    assert!(signing.map(str::len).iter().sum::<usize>() < 20 * 1024);
}

#[test]
fn an_approver_sees_the_policy_what_changes_and_what_is_signed() {
    let approver = fixtures::caller(Role::Approver);
    let detail = fixtures::approval(VersionState::AwaitingApproval);
    let text = words(approval::page(&detail, &approver));
    assert!(text.contains("2 of 3 persons, one with a key outside browsers"), "{text}");
    assert!(text.contains("carol, dee"), "who has not signed is named");
    assert!(text.contains("no way back below version 2") && text.contains("acid acorn actor"));
    assert!(
        text.contains("probabilities FP32 [any, 8]") && text.contains("look"),
        "another shape asks for a look: {text}"
    );
    assert!(
        text.contains(detail.version.release.as_deref().unwrap()) && text.contains(detail.bytes.as_deref().unwrap())
    );
    assert!(text.contains("bellwether approve digits:2 --key KEY") && text.contains("This root does."));
    let page = |state, role| approval::page(&fixtures::approval(state), &fixtures::caller(role)).body.into_string();
    assert!(
        page(VersionState::AwaitingApproval, Role::Viewer).contains("Signing takes the role approver; you are viewer.")
    );
    assert!(page(VersionState::Approved, Role::Approver).contains("It is approved: nothing more is needed."));
    let rejected = page(VersionState::Rejected, Role::Approver);
    assert!(rejected.contains("Rejected by carol") && rejected.contains("Trained on the test set."));
    assert!(!rejected.contains("id=\"reject-now\""));
}
