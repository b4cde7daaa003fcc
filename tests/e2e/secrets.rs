//! No secret is ever written where others look: a whole story with every log turned up, then every
//! log, event, answer and page is searched for every secret that took part.

use std::path::Path;

use bellwether_hub::api::types::EventQuery;
use bellwether_hub::broker::device_password;
use bellwether_tests::agent::{Agent, Settings};
use bellwether_tests::hub::Options;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Fleet, Mosquitto};
use serde_json::Value;

/// All that our own crates can say.
const LOG: &str = "warn,bellwether=trace,bellwether_hub=trace,bellwether_hub_core=trace,bellwether_agent=trace,\
                   bellwether_agent_core=trace,bellwether_link=trace,bellwether_runtime=trace";
/// Every page, and every answer of the API that lists or describes something.
const PAGES: [&str; 13] = [
    "/",
    "/fleet",
    "/devices/gw-1",
    "/models",
    "/models/digits/1",
    "/approvals",
    "/approvals/digits/1",
    "/rollouts",
    "/rollouts/1",
    "/monitors",
    "/events",
    "/keys",
    "/metrics",
];
const ANSWERS: [&str; 12] = [
    "hub",
    "overview",
    "tokens",
    "root",
    "root/keys",
    "keys/requests",
    "approvals",
    "models/digits/versions/1",
    "devices",
    "devices/gw-1/troubles",
    "webhooks",
    "events?limit=500",
];

/// What must not be found, by name.
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.trim().len() >= 12, "{name} is too short to be looked for: {secret:?}");
        self.0.push((name.to_owned(), secret.trim().to_owned()));
    }

    /// Every private key in a folder, as it is written there.
    fn add_keys(&mut self, folder: &Path) {
        let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
        for path in files.filter(|path| path.extension().is_some_and(|kind| kind == "key" || kind == "secret")) {
            self.add(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap());
        }
    }

    /// The first secret that a text tells.
    fn told_by(&self, text: &str) -> Option<&str> {
        let text = text.to_lowercase();
        self.0.iter().find(|(_, secret)| text.contains(&secret.to_lowercase())).map(|(name, _)| name.as_str())
    }

    fn absent(&self, place: &str, text: &str) {
        assert!(!text.is_empty(), "{place} is empty: nothing was searched");
        assert_eq!(self.told_by(text), None, "{place} tells it");
    }
}

/// Logs in as a browser does: the cookie.
async fn log_in(fleet: &Fleet, http: &reqwest::Client) -> String {
    let answer = http.get(format!("{}/login?code={}", fleet.hub.url, fleet.hub.code)).send().await.unwrap();
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

/// The story: keys, a root, a version, a device that runs it, a webhook, wrong secrets, a restart.
async fn told(options: Options, admit: impl Fn(&Fleet)) {
    let password = options.broker.rsplit_once('@').and_then(|(user, _)| user.rsplit_once(':'));
    let password = password.map(|(_, password)| password.to_owned());
    let mut fleet = Fleet::start_with(Options { log: Some(LOG), ..options });
    let http = bellwether_tests::http::client();
    let mut secrets = Secrets(Vec::new());
    let cookie = log_in(&fleet, &http).await;
    secrets.add("the session", cookie.split_once('=').unwrap().1);
    secrets.add("the admin's token", &fleet.hub.token.clone());
    secrets.add("the login code", &fleet.hub.code.clone());
    let printed = fleet.hub.process().stdout();
    assert_eq!(secrets.told_by(&printed), Some("the admin's token"), "what is printed once would be found");
    if let Some(password) = password {
        secrets.add("the hub's password at its broker", &password);
    }
    let other = fleet.cli.ok(&["token", "new", "ci", "--role", "publisher", "-o", "name"]).last_word();
    secrets.add("another token", &other);
    let hook = fleet.cli.json(&["webhook", "add", "http://127.0.0.1:9/hook"]);
    secrets.add("the webhook's secret", hook["secret"].as_str().unwrap());
    secrets.add_keys(&fleet.hub.data().join("keys"));
    secrets.add_keys(&fleet.config().join("keys"));
    assert!(secrets.0.len() >= 13, "the hub's three, five of persons, and five more");
    admit(&fleet);

    let enrolment = fleet.device_token(1);
    secrets.add("the enrolment secret", enrolment.rsplit('.').next().unwrap());
    let settings = Settings { log: Some(LOG), ..Settings::default() };
    let mut agent = Agent::start_as(&fleet.hub.url, &enrolment, "gw-1", &settings);
    secrets.add_keys(&agent.data());
    fleet.release("digits", 1, "digits-linear", &[]);
    fleet.roll_out("digits:1");
    wait_until("the device scores", async || agent.score().await.is_some()).await;
    // At the embedded broker a password is a signed counter, another one each time; all hold this.
    secrets.add("the device's password", &hex::encode(b"\x01\x04gw-1"));
    let broker = std::fs::read_to_string(fleet.hub.data().join("keys/broker.secret")).unwrap();
    let broker = hex::decode(broker.trim()).unwrap().try_into().unwrap();
    let password = device_password(&broker, &"gw-1".parse().unwrap());
    secrets.add("the device's password at a broker of its own", &password);

    // What is wrong is not repeated either: it may be right elsewhere, or nearly right.
    let wrong = format!("bwt_{}", "5eed".repeat(16));
    secrets.add("a wrong token", &wrong);
    fleet.cli.with_token(Some(&wrong)).run(&["model", "list"]).refused(4, &["not known"]);
    let wrong_code = "c0de".repeat(8);
    secrets.add("a wrong code", &wrong_code);
    http.get(format!("{}/login?code={wrong_code}", fleet.hub.url)).send().await.unwrap();
    fleet.cli.ok(&["device", "logs", "gw-1", "--timeout", "20"]);
    let logs = [fleet.hub.log(), agent.log()];
    fleet.hub.process().stop();
    fleet.hub.restart();
    agent.process().stop();
    agent.restart();
    fleet.device_until("gw-1", "back", |device| device.in_sync).await;
    search(&fleet, &agent, &http, &cookie, &secrets, &logs).await;
}

async fn search(
    fleet: &Fleet,
    agent: &Agent,
    http: &reqwest::Client,
    cookie: &str,
    secrets: &Secrets,
    logs: &[String; 2],
) {
    // What both say as they start is read line by line: until they are connected nothing was searched.
    wait_until("both are connected again", async || {
        agent.log().contains("connected session=") && fleet.hub.log().contains("connected to the broker")
    })
    .await;
    for (place, text) in [
        ("the hub's log", &logs[0]),
        ("the agent's log", &logs[1]),
        ("the hub's second log", &fleet.hub.log()),
        ("the agent's second log", &agent.log()),
    ] {
        secrets.absent(place, text);
    }
    assert!(logs[0].contains("gw-1") && logs[1].contains("digits"), "the logs tell of the story:\n{}", logs.join("\n"));
    let events = fleet.api().events(&EventQuery { limit: Some(500), ..EventQuery::default() }).await.unwrap();
    assert!(events.items.len() > 10);
    secrets.absent("the events", &serde_json::to_string(&events).unwrap());
    for words in [&["doctor"][..], &["doctor", "-o", "json"], &["device", "diagnose", "gw-1"], &["token", "list"]] {
        let ran = fleet.cli.run(words);
        secrets.absent(&ran.words, &format!("{}{}", ran.stdout, ran.stderr));
    }
    for page in PAGES {
        let answer = http.get(format!("{}{page}", fleet.hub.url)).header("Cookie", cookie).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{page}");
        secrets.absent(page, &answer.text().await.unwrap());
    }
    for path in ANSWERS {
        let request = http.get(format!("{}/api/v1/{path}", fleet.hub.url)).bearer_auth(&fleet.hub.token);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        secrets.absent(path, &answer.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_an_event_an_answer_or_a_page() {
    told(Options::default(), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_any_with_a_broker_that_knows_passwords() {
    let mosquitto = Mosquitto::start();
    told(mosquitto.options(), |fleet| mosquitto.admit(&fleet.hub, &["gw-1"])).await;
}
