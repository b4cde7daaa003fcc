//! Who gets in, for how long and to what: the first login once, tokens that end and are limited,
//! and guessing that is slowed down.

use bellwether_hub::api::attempts::WRONG_MAX;
use bellwether_tests::files::data;
use bellwether_tests::{Cli, Fleet, Hub, raw};
use serde_json::{Value, json};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn http() -> reqwest::Client {
    bellwether_tests::http::client()
}

/// A token pasted into the login page.
fn login(hub: &Hub, token: &str) -> reqwest::RequestBuilder {
    let form = http().post(format!("{}/login", hub.url)).header("Content-Type", "application/x-www-form-urlencoded");
    form.body(format!("token={token}"))
}

/// Statuses of the same request, made many times at once.
async fn at_once(times: usize, make: impl Fn() -> reqwest::RequestBuilder) -> Vec<u16> {
    let tasks: Vec<_> = (0..times).map(|_| tokio::spawn(make().send())).collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap().unwrap().status().as_u16());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_login_is_good_exactly_once() {
    let hub = Hub::start();
    let http = http();
    let url = format!("{}/login?code={}", hub.url, hub.code);
    let statuses = at_once(8, || http.get(&url)).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 7, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_use_a_browsers_session() {
    let hub = Hub::start();
    let entered = login(&hub, &hub.token).send().await.unwrap();
    let cookie = entered.headers()["set-cookie"].to_str().unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    let session = cookie.split(';').next().unwrap().to_owned();
    let body = json!({ "name": "x", "role": "viewer" }).to_string();
    let write = |path: &str, headers: &[(&'static str, &str)]| {
        let request = http().post(format!("{}{path}", hub.url)).header("Cookie", &session).body(body.clone());
        let request = request.header("Content-Type", "application/json");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    assert_eq!(write("/api/v1/tokens", &[("Origin", &hub.url)]).await.unwrap().status(), 201, "its own page may");
    let foreign = [
        [("Origin", "http://evil.example")],
        [("Origin", "null")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
    ];
    for headers in foreign {
        for path in ["/api/v1/tokens", "/api/v1/keys/requests", "/logout"] {
            assert_eq!(write(path, &headers).await.unwrap().status(), 403, "{path} {headers:?}");
        }
        let socket = http().get(format!("{}/live?page=/", hub.url)).header("Cookie", &session);
        let [(name, value)] = headers;
        assert_eq!(socket.header(name, value).send().await.unwrap().status(), 403, "the socket {headers:?}");
    }
    // The session ends with the token that opened it.
    let own = hub.client().tokens().await.unwrap().items.into_iter().find(|token| token.name == "first admin");
    hub.client().delete_token(&own.unwrap().id).await.unwrap();
    assert_eq!(write("/api/v1/tokens", &[("Origin", &hub.url)]).await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_waits_and_the_rest_works_on() {
    let hub = Hub::start();
    let http = http();
    let login = |token: &str| login(&hub, token);
    for _ in 0..WRONG_MAX {
        assert_eq!(login("bwt_wrong").send().await.unwrap().status(), 401);
    }
    let refused = login("bwt_wrong").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "60"));
    // Past the limit the right one waits, too, and the one-time code is not used up by it.
    assert_eq!(login(&hub.token).send().await.unwrap().status(), 429);
    assert_eq!(http.get(format!("{}/login?code={}", hub.url, hub.code)).send().await.unwrap().status(), 429);

    let models = |token: &str| http.get(format!("{}/api/v1/models", hub.url)).bearer_auth(token);
    let statuses = at_once(WRONG_MAX as usize + 5, || models("bwt_wrong")).await;
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), WRONG_MAX as usize, "{statuses:?}");
    let refused = models("bwt_wrong").send().await.unwrap();
    assert_eq!(refused.headers()["retry-after"], "60");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["code"], problem["hint"].as_str().unwrap().is_empty()), (&json!("too_many_attempts"), false));
    assert_eq!(models(&hub.token).send().await.unwrap().status(), 200, "a good token is not locked out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_guesses_enrolment_secrets_waits() {
    let fleet = Fleet::start();
    let good = fleet.device_token(1);
    let (fleet_id, _) = good.trim_start_matches("bw1.").split_once('.').unwrap();
    let mut guessing = Vec::new();
    for number in 0..=WRONG_MAX {
        let device = format!("gw-{number}");
        guessing.push(raw::enrol_with(&fleet, fleet_id, &device, &format!("{number:032x}")).await);
    }
    let statuses: Vec<u16> = guessing.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), WRONG_MAX as usize, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
    assert!(guessing.last().unwrap().text.to_lowercase().contains("retry-after: 60"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end_unless_they_are_for_ever() {
    let fleet = Fleet::without_root(Hub::start());
    fleet.cli.ok(&["token", "new", "default", "--role", "viewer"]);
    fleet.cli.ok(&["token", "new", "week", "--role", "viewer", "--valid-days", "7"]);
    fleet.cli.ok(&["token", "new", "always", "--role", "viewer", "--forever"]);
    let both = fleet.cli.run(&["token", "new", "both", "--role", "viewer", "--forever", "--valid-days", "7"]);
    assert_eq!(both.code, 2, "{both}");
    let tokens = fleet.api().tokens().await.unwrap().items;
    let days = |name: &str| {
        let token = tokens.iter().find(|token| token.name == name).unwrap();
        token.expires_ms.map(|ends| (ends - token.created_ms) / DAY_MS)
    };
    assert_eq!(
        [days("default"), days("week"), days("always"), days("first admin")],
        [Some(90), Some(7), None, Some(90)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_does_what_it_names_and_no_more() {
    let fleet = Fleet::start();
    let limited = |name: &str, role: &str, scopes: &[&str]| {
        let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let words: Vec<&str> = ["token", "new", name, "--role", role, "-o", "name"].into_iter().chain(scopes).collect();
        fleet.cli.with_token(Some(&fleet.cli.ok(&words).last_word()))
    };
    fleet.register("digits", "digits-linear");

    let reader = limited("reader", "admin", &["read"]);
    reader.ok(&["model", "list"]);
    reader.ok(&["device", "list"]);
    reader.run(&["device", "token"]).refused(4, &["limited to read", "POST /api/v1/devices/tokens"]);
    reader.run(&["token", "new", "more", "--role", "admin"]).refused(4, &["limited to read"]);
    reader.run(&["backup", "/tmp/never-written.bwb"]).refused(4, &["limited to read"]);

    let door = limited("door", "operator", &["devices:enrol"]);
    door.ok(&["device", "token"]);
    door.run(&["device", "list"]).refused(4, &["devices:enrol"]);

    // A publisher for one kind of model: registers these, and sees no others.
    let ci = limited("ci", "publisher", &["models:write", "model=wake"]);
    let (model, vectors) = (data("digits-linear.onnx"), data("digits-linear.vectors.npz"));
    let register = |name: &str| {
        let words = ["model", "register", name, &model.to_string_lossy(), "--vectors", &vectors.to_string_lossy()];
        ci.run(&[&words[..], &["--key", "ada"]].concat())
    };
    let taken = register("wake-word");
    assert_eq!(taken.code, 0, "{taken}");
    register("digits").refused(4, &["model=wake", "the model digits"]);
    assert_eq!(ci.json(&["model", "list"]).as_array().unwrap().len(), 1);
    ci.run(&["model", "show", "digits:1"]).refused(4, &["the model digits"]);
    ci.run(&["approve", "wake-word:1", "--key", "bo"]).refused(4, &["signatures"]);
    ci.run(&["rollout", "list"]).refused(4, &["rollouts"]);
    ci.run(&["events"]).refused(4, &["events"]);

    let token =
        fleet.cli.ok(&["token", "new", "page", "--role", "viewer", "--scope", "read", "-o", "name"]).last_word();
    assert_eq!(login(&fleet.hub, &token).send().await.unwrap().status(), 403, "the dashboard shows everything");
    fleet.cli.run(&["token", "new", "odd", "--role", "viewer", "--scope", "everything"]).refused(2, &["is no scope"]);
    let listed = fleet.cli.ok(&["token", "list"]).stdout;
    assert!(listed.contains("models:write,model=wake"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_requests_are_for_those_who_sign_and_last_until_withdrawn() {
    let mut fleet = Fleet::start();
    let ask = |cli: &Cli, public: &str| {
        let token = cli.token().unwrap_or_default().to_owned();
        let body = json!({ "public": public, "person": "Dee", "class": "browser", "name": "dee-laptop" });
        http().post(format!("{}/api/v1/keys/requests", fleet.hub.url)).bearer_auth(token).json(&body)
    };
    let good = hex::encode(bellwether_protocol::SigningKey::from_bytes(&[42; 32]).verifying_key().to_bytes());
    let viewer = fleet.cli_as("viewer");
    assert_eq!(ask(&viewer, &good).send().await.unwrap().status(), 403);
    let (approver, other) = (fleet.cli_as("approver"), fleet.cli_as("publisher"));
    for (public, status, code) in [("00", 400, "bad_id"), (&"00".repeat(32), 422, "weak_key")] {
        let answer = ask(&approver, public).send().await.unwrap();
        assert_eq!(answer.status(), status, "{public}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], code);
    }
    let made: Value = ask(&approver, &good).send().await.unwrap().json().await.unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    fleet.hub.kill();
    fleet.hub.restart();
    let waiting = fleet.api().key_requests().await.unwrap().items;
    assert_eq!(waiting.iter().map(|request| &request.id).collect::<Vec<_>>(), [&id], "it survives a crash");
    let withdraw = |cli: &Cli| fleet.hub.client_as(cli.token());
    assert_eq!(withdraw(&other).withdraw_key_request(&id).await.unwrap_err().problem().unwrap().status, 403);
    withdraw(&approver).withdraw_key_request(&id).await.unwrap();
    assert!(fleet.api().key_requests().await.unwrap().items.is_empty());
}
