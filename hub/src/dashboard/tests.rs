//! The pages as text: nothing hostile gets through, nothing inline, every empty state helps.

use crate::api::types::*;

use super::shell::{Counts, Frame, document};
use super::{device, events, fixtures, fleet, keys, model, models, overview, rollout, rollouts};

type Shown = (&'static str, super::shell::Page);

fn full(role: Role) -> Vec<Shown> {
    let caller = fixtures::caller(role);
    let (list, recent) = (fixtures::devices(), fixtures::events());
    let waiting = fixtures::version(2, VersionState::AwaitingApproval);
    let approved = fixtures::version(2, VersionState::Approved);
    let detail = fixtures::detail();
    vec![
        ("overview", overview::page(&fixtures::overview(), &[fixtures::model()], &recent.items)),
        ("fleet", fleet::page(&DeviceQuery::default(), &list, &fixtures::sites())),
        ("device", device::page(&fixtures::device(14), &recent.items, &caller)),
        ("models", models::page(&ModelQuery::default(), &[fixtures::model()])),
        ("model", model::page(&detail, &approved, &fixtures::grants(), &caller)),
        ("model-waiting", model::page(&detail, &waiting, &[], &caller)),
        ("rollouts", rollouts::page(&[fixtures::rollout(), fixtures::ended()])),
        ("rollout", rollout::page(&fixtures::rollout(), &list.items, &caller)),
        ("rollout-ended", rollout::page(&fixtures::ended(), &list.items, &caller)),
        ("events", events::page(&EventQuery::default(), &recent)),
        ("keys", keys::page(&fixtures::hub(), Some(&fixtures::keys()))),
    ]
}

fn bare() -> Vec<Shown> {
    let nothing = Page::whole(Vec::new());
    vec![
        ("overview-empty", overview::page(&OverviewView::default(), &[], &[])),
        ("fleet-empty", fleet::page(&DeviceQuery::default(), &nothing, &[])),
        ("models-empty", models::page(&ModelQuery::default(), &[])),
        ("rollouts-empty", rollouts::page(&[])),
        ("events-empty", events::page(&EventQuery::default(), &Page::whole(Vec::new()))),
        ("keys-empty", keys::page(&HubView { fleet: None, ..fixtures::hub() }, None)),
    ]
}

fn render((name, mut page): Shown, role: Role) -> (&'static str, String) {
    let caller = fixtures::caller(role);
    let counts = Counts { needs: 3, devices: 24, models: 1, rollouts: 1 };
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
    let mut bad = fixtures::rollout();
    bad.model = HOSTILE.to_owned();
    bad.timeline[0].what = HOSTILE.to_owned();
    bad.failures[0].devices = vec![HOSTILE.to_owned()];
    let mut glance = fixtures::overview();
    glance.needs[0].link = "javascript:alert(1)".to_owned();
    glance.needs[1].link = "//elsewhere".to_owned();
    glance.sites[0].site = HOSTILE.to_owned();
    glance.sites[0].devices[0].id = HOSTILE.to_owned();
    let pages = vec![
        ("device", device::page(&hostile, &[], &caller)),
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

#[test]
fn the_form_offers_the_granted_stages_smallest_first() {
    let approved = fixtures::version(2, VersionState::Approved);
    let page = model::page(&fixtures::detail(), &approved, &fixtures::grants(), &fixtures::caller(Role::Operator));
    assert!(page.body.into_string().contains("device=gw-01\n25%\n100%"));
}

#[test]
fn the_script_stays_small() {
    assert!(include_str!("assets/live.js").len() < 8 * 1024);
}
