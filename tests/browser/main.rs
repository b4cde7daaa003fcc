//! The dashboard, clicked in headless Chromium, before a hub with real agents.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]

mod approvals;
mod driver;
mod incidents;

use bellwether_hub::api::types::{RolloutState, TagsRequest};
use bellwether_tests::fleet::runs;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Agent, Fleet, Hub};
use driver::Browser;

/// Every page that needs nothing to exist.
const PAGES: [&str; 8] = ["/", "/fleet", "/models", "/approvals", "/rollouts", "/monitors", "/events", "/keys"];
const HOSTILE: &str = "<img src=x onerror=window.hacked=1>";
/// As the others, without the sign that ends a tag's name.
const HOSTILE_TAG: &str = "<script>window.hacked(3)</script>";
const HOSTILE_SCRIPT: &str = "\"'></textarea><script>window.hacked=2</script>{{7*7}}";

/// Three devices at two sites, with version 1 on all of them and version 2 approved.
async fn fleet_of_three() -> (Fleet, Vec<Agent>) {
    let fleet = Fleet::start();
    fleet.two_versions();
    let token = fleet.device_token(3);
    let sites = [("gw-1", "site=lyon"), ("gw-2", "site=lyon"), ("gw-3", "site=oslo")];
    let agents = sites.map(|(name, site)| Agent::start_with(&fleet.hub.url, &token, name, &["--tag", site]));
    fleet.roll_out("digits:1");
    for agent in &agents {
        assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    }
    (fleet, agents.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_hub_says_on_every_page_what_to_do_next() {
    let hub = Hub::start();
    let browser = Browser::open(&hub).await;
    for page in PAGES {
        browser.go(page).await;
        assert_eq!(browser.path().await, "/login", "{page} is for those who are logged in");
    }
    browser.log_in(&hub.code).await;
    for page in PAGES {
        browser.go(page).await;
        browser.until_live().await;
        let text = browser.text("main").await;
        assert!(!text.contains("Loading") && !text.contains("…loading"), "{page}: {text}");
        assert_eq!(browser.count("[aria-busy=true], .spinner, progress").await, 0, "{page} spins");
        if page != "/events" {
            assert!(browser.count("main code.shell").await > 0, "{page} names no command: {text}");
        }
        assert!(browser.content_width(390).await <= 390, "{page} scrolls sideways at 390 px");
        assert!(browser.content_width(320).await <= 320, "{page} scrolls sideways at 320 px");
        let name = if page == "/" { "overview" } else { page.trim_start_matches('/') };
        browser.photograph(&format!("empty-{name}")).await;
    }
    // The code was good once; logging out ends the session and the socket.
    browser.click("form[action='/logout'] button").await;
    wait_until("the login page follows", async || browser.path().await == "/login").await;
    browser.go(&format!("/login?code={}", hub.code)).await;
    browser.until("main", "used already or has expired").await;
    browser.go("/fleet").await;
    assert_eq!(browser.path().await, "/login");
    browser.log_in_with(&hub.token).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_started_by_a_click_finishes_before_ones_eyes() {
    let (fleet, agents) = fleet_of_three().await;
    fleet.cli.ok(&["grant", "digits:2", "--device", "gw-1", "--percent", "100", "--key", "bo"]);
    let browser = Browser::open(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    for (name, path) in [
        ("overview", "/"),
        ("fleet", "/fleet"),
        ("device", "/devices/gw-1"),
        ("models", "/models"),
        ("model", "/models/digits/2"),
        ("events", "/events"),
        ("keys", "/keys"),
        ("rollouts", "/rollouts"),
    ] {
        browser.go(path).await;
        browser.until_live().await;
        browser.photograph(name).await;
        assert!(browser.content_width(390).await <= 390, "{path} scrolls sideways at 390 px");
    }

    // An overview in the first window follows by itself while a click elsewhere starts the rollout.
    let watching = browser.page.window().await.unwrap();
    browser.go("/").await;
    browser.until_live().await;
    browser.script("window.untouched = 'since before the click'").await;
    let clicking = browser.page.new_window(true).await.unwrap().handle;
    browser.page.switch_to_window(clicking).await.unwrap();
    browser.go("/models/digits/2").await;
    browser.until_live().await;
    assert_eq!(browser.find("#stages").await.prop("value").await.unwrap().unwrap(), "device=gw-1\n100%");
    browser.find("#soak").await.send_keys("2").await.unwrap();
    browser.click("#start-rollout").await;
    wait_until("the rollout's page follows", async || browser.path().await.starts_with("/rollouts/")).await;
    let id = browser.path().await.trim_start_matches("/rollouts/").to_owned();
    browser.script("window.untouched = 'since the click'").await;
    browser.until_live().await;
    browser.photograph("rollout").await;
    fleet.rollout_until(&id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    browser.until("#rollout-line", "completed").await;
    assert_eq!(browser.script("return window.untouched").await, "since the click", "the page was loaded anew");

    let rollout = fleet.api().rollout(&id).await.unwrap();
    assert_eq!(rollout.stages.iter().map(|stage| stage.counts.healthy).collect::<Vec<_>>(), [1, 3]);
    for (index, stage) in rollout.stages.iter().enumerate() {
        let shown = browser.text(&format!("#stages li:nth-child({})", index + 1)).await;
        let counts = format!("{} of {} run 2", stage.counts.healthy, stage.counts.total);
        assert!(shown.contains(&counts), "the page shows `{shown}`, the API {counts}");
    }
    browser.photograph("rollout-completed").await;
    browser.page.switch_to_window(watching).await.unwrap();
    browser.until("#models", "2").await;
    browser.until("#latest", "completed").await;
    assert_eq!(browser.script("return window.untouched").await, "since before the click");
    for agent in &agents {
        assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buttons_pause_and_abort_and_say_why_when_they_cannot() {
    let (fleet, _agents) = fleet_of_three().await;
    let id = fleet.start_rollout("digits:2", 600);
    let browser = Browser::open(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    browser.go(&format!("/rollouts/{id}")).await;
    browser.until("#rollout-line", "soaking").await;
    browser.click("#act-pause").await;
    browser.until("#rollout-line", "paused").await;
    browser.photograph("rollout-paused").await;
    browser.click("#act-resume").await;
    browser.until("#rollout-line", "soaking").await;
    browser.click("#act-rollback").await;
    assert!(browser.content_width(390).await <= 390, "the sheet is cut off at 390 px");
    browser.find("#back-reason").await.send_keys("seen in the browser").await.unwrap();
    browser.until("#rollout-actions", "3").await;
    browser.click("#abort-now").await;
    browser.until("#rollout-line", "aborted").await;
    browser.until("#timeline", "seen in the browser").await;
    assert_eq!(browser.count("#rollout-actions button:not([disabled])").await, 0);
    assert!(browser.text("#rollout-actions").await.contains("ended"), "a disabled button says why");
    for name in ["gw-1", "gw-2", "gw-3"] {
        fleet.device_until(name, "back on version 1", |device| runs(device) == Some(1) && device.in_sync).await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_restarts_is_missed_and_found_again() {
    let (mut fleet, _agents) = fleet_of_three().await;
    let browser = Browser::open(&fleet.hub).await;
    browser.log_in_with(&fleet.hub.token).await;
    browser.go("/events").await;
    browser.until_live().await;
    browser.script("window.untouched = 'since before the restart'").await;
    assert_eq!(browser.text("#stale").await, "", "nothing is stale yet");
    fleet.hub.process().stop();
    browser.until("#stale", "Stale since").await;
    browser.photograph("stale").await;
    fleet.hub.restart();
    wait_until("the band goes", async || browser.text("#stale").await.is_empty()).await;
    browser.until_live().await;
    assert_eq!(browser.script("return window.untouched").await, "since before the restart", "{}", browser.path().await);
    fleet.roll_out("digits:2");
    browser.until("#events", "completed").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_stay_texts() {
    let (fleet, _agents) = fleet_of_three().await;
    let api = fleet.api();
    let tags = [(HOSTILE_TAG.to_owned(), HOSTILE.to_owned()), ("site".to_owned(), HOSTILE.to_owned())];
    api.set_tags("gw-1", &TagsRequest { tags: tags.into() }).await.unwrap();
    let model = bellwether_tests::files::data("digits-linear.onnx").to_string_lossy().into_owned();
    let tag = format!("team={HOSTILE}");
    let words = ["model", "register", "digits", &model, "--description", HOSTILE_SCRIPT, "--tag", &tag];
    fleet.cli.ok(&[&words[..], &["--dataset", HOSTILE, "--run", HOSTILE_SCRIPT]].concat());
    let mallory = fleet.cli.ok(&["token", "new", HOSTILE, "--role", "operator", "-o", "name"]).last_word();
    let mallory = fleet.cli.with_token(Some(&mallory));
    let id = fleet.start_rollout("digits:2", 60);
    mallory.ok(&["rollout", "pause", &id, "--reason", HOSTILE_SCRIPT]);

    let browser = Browser::open(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    let rollout = format!("/rollouts/{id}");
    for page in [&PAGES[..], &["/devices/gw-1", "/models/digits/3", &rollout]].concat() {
        browser.go(page).await;
        browser.until_live().await;
        assert!(browser.script("return window.hacked ?? null").await.is_null(), "{page} ran a script");
        assert_eq!(browser.count("main img, main script").await, 0, "{page}");
        assert_eq!(browser.count("main [onerror], main [onclick], main [style]").await, 0, "{page}");
    }
    browser.until("#rollout-line", "window.hacked=2").await;
    browser.go("/devices/gw-1").await;
    assert!(browser.text("main").await.contains(HOSTILE), "it is shown as it is");
    // What comes later through the socket goes the same way.
    let tags = [("late".to_owned(), HOSTILE.to_owned())];
    api.set_tags("gw-1", &TagsRequest { tags: tags.into() }).await.unwrap();
    browser.until("#device-tags", "late=").await;
    assert!(browser.script("return window.hacked ?? null").await.is_null());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_can_look_and_nothing_else() {
    let (fleet, _agents) = fleet_of_three().await;
    fleet.cli.ok(&["grant", "digits:2", "--percent", "100", "--key", "bo"]);
    let id = fleet.start_rollout("digits:2", 600);
    let token = fleet.cli.ok(&["token", "new", "eve", "--role", "viewer", "-o", "name"]).last_word();
    let browser = Browser::open(&fleet.hub).await;
    browser.log_in_with(&token).await;
    let rollout = format!("/rollouts/{id}");
    for page in [&PAGES[..], &["/devices/gw-1", "/models/digits/2", &rollout]].concat() {
        browser.go(page).await;
        browser.until_live().await;
        let may = browser.count("main form[method=post] button:not([disabled])").await;
        assert_eq!(may, 0, "{page} offers a viewer something to do");
    }
    assert!(browser.text("#rollout-actions").await.contains("needs the role operator"), "and says why");
    let refused = browser.page.execute_async(
        "const [url, done] = arguments; fetch(url, { method: 'POST' }).then((answer) => done(answer.status))",
        vec![format!("{}/rollouts/{id}/abort", fleet.hub.url).into()],
    );
    let refused = refused.await.unwrap();
    assert!(refused == 403 || refused == 415, "{refused}");
    assert_eq!(fleet.api().rollout(&id).await.unwrap().state, RolloutState::Running);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_everything_can_be_read_and_done() {
    let (fleet, _agents) = fleet_of_three().await;
    fleet.cli.ok(&["grant", "digits:2", "--percent", "100", "--key", "bo"]);
    let browser = Browser::without_scripts(&fleet.hub).await;
    browser.log_in(&fleet.hub.code).await;
    for page in PAGES {
        browser.go(page).await;
        assert!(!browser.text("main h1").await.is_empty(), "{page}");
    }
    assert_eq!(browser.text("#link-word").await, "not live", "no script runs here");
    browser.go("/models/digits/2").await;
    browser.find("#soak").await.send_keys("1").await.unwrap();
    browser.click("#start-rollout").await;
    wait_until("the rollout's page follows", async || browser.path().await.starts_with("/rollouts/")).await;
    let path = browser.path().await;
    let id = path.trim_start_matches("/rollouts/");
    fleet.rollout_until(id, "completed", |rollout| rollout.state == RolloutState::Completed).await;
    browser.go(&path).await;
    browser.until("#rollout-line", "completed").await;
    browser.close().await;
}
