//! Webhooks and followed events: whatever dies in between, every event arrives, in order and signed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::api::types::{EventQuery, Role, TokenRequest, WebhookState, WebhookView};
use bellwether_tests::hub::{Hub, Options};
use bellwether_tests::wait::{wait_for, wait_until};
use bellwether_tests::{Fleet, Process, files};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Pauses of milliseconds, so that a story takes seconds.
const HASTY: &str = "webhook_retry_ms_first = 20\nwebhook_timeout_ms = 2000\n";
/// Takes the request and closes without an answer.
const SILENT: u16 = 0;

/// One request that a receiver got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) id: String,
    headers: BTreeMap<String, String>,
    body: String,
    answered: u16,
}

impl Got {
    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn sequence(&self) -> u64 {
        self.event()["data"]["seq"].as_u64().unwrap()
    }

    /// Checks the signature as any receiver would, and that the envelope says what is in it.
    pub(crate) fn check(&self, secret: &str) {
        let header = |name: &str| self.headers.get(name).map(String::as_str).unwrap_or_default();
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let timestamp = header("webhook-timestamp");
        let signed = format!("{}.{timestamp}.{}", self.id, self.body);
        let tag = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
        ring::hmac::verify(&key, signed.as_bytes(), &tag).unwrap_or_else(|_| panic!("a wrong signature: {self:?}"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(timestamp.parse().unwrap()) < 300, "{self:?}");
        assert!(header("content-type").starts_with("application/cloudevents+json"), "{self:?}");
        let event = self.event();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["type"], format!("io.bellwether.{}", event["data"]["kind"].as_str().unwrap()));
        assert!(event["source"].as_str().unwrap().starts_with("/bellwether/"), "{event}");
        let ending = format!("-{}", event["data"]["seq"]);
        assert!(event["id"].as_str().unwrap().ends_with(&ending), "{event}");
    }
}

/// Somebody who is told, on a port of its own: it can be killed and started again.
pub(crate) struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<Got>>>,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (status, got) = (Arc::new(AtomicU16::new(200)), Arc::default());
        let mut receiver = Self { address, status, got, task: None };
        receiver.serve(listener);
        receiver
    }

    fn serve(&mut self, listener: TcpListener) {
        let (status, got) = (self.status.clone(), self.got.clone());
        // One connection after the other, within this task: whoever aborts it cuts them all.
        self.task = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let _ = take(stream, &status, &got).await;
            }
        }));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    async fn kill(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// Sequences of what was answered with success, repetitions included.
    fn taken(&self) -> Vec<u64> {
        self.got().iter().filter(|got| got.answered == 200).map(Got::sequence).collect()
    }

    async fn until_taken(&self, sequences: &[u64]) {
        let wanted: BTreeSet<u64> = sequences.iter().copied().collect();
        wait_until(&format!("{wanted:?} has arrived"), async || wanted.is_subset(&self.taken().into_iter().collect()))
            .await;
    }
}

/// Reads one request, keeps it and answers.
async fn take(stream: TcpStream, status: &AtomicU16, got: &Mutex<Vec<Got>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
            None if line.trim_end().is_empty() => break,
            None => assert!(line.starts_with("POST /hook HTTP/1.1"), "{line}"),
        }
    }
    let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) else { return Ok(()) };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let answered = status.load(Ordering::SeqCst);
    let id = headers.get("webhook-id").cloned().unwrap_or_default();
    got.lock().unwrap().push(Got { id, headers, body: String::from_utf8(body).unwrap(), answered });
    if answered != SILENT {
        let answer = format!("HTTP/1.1 {answered} Whatever\r\nContent-Length: 5\r\nConnection: close\r\n\r\nheard");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

/// A hub whose webhooks are hasty.
fn hub_with(config: &str) -> Fleet {
    let config = format!("{HASTY}{config}");
    Fleet::without_root(Hub::start_with(Options { config, ..Options::default() }))
}

/// Makes events: a token each.
async fn happens(fleet: &Fleet, times: usize) {
    for _ in 0..times {
        let request = TokenRequest {
            name: "somebody".to_owned(),
            role: Role::Viewer,
            valid_days: None,
            forever: false,
            scopes: Vec::new(),
        };
        fleet.api().create_token(&request).await.unwrap();
    }
}

/// The sequences of what happened, as the audit trail has them.
async fn happened(fleet: &Fleet) -> Vec<u64> {
    let kind = Some("token_made".to_owned());
    let query = EventQuery { limit: Some(500), kind, ..EventQuery::default() };
    fleet.api().events(&query).await.unwrap().items.iter().map(|event| event.seq).collect()
}

/// A webhook's id and secret.
fn add(fleet: &Fleet, receiver: &Receiver, more: &[&str]) -> (String, String) {
    let url = receiver.url();
    let mut words = vec!["webhook", "add", &url, "--kind", "token_*"];
    words.extend(more);
    let made = fleet.cli.json(&words);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

async fn webhook(fleet: &Fleet, id: &str) -> WebhookView {
    let hooks = fleet.api().webhooks().await.unwrap().items;
    hooks.into_iter().find(|hook| hook.id == id).expect("the webhook is listed")
}

async fn until(fleet: &Fleet, id: &str, what: &str, is: impl Fn(&WebhookView) -> bool) -> WebhookView {
    let what = format!("the webhook is {what}");
    wait_for(&what, async || Some(webhook(fleet, id).await).filter(|hook| is(hook))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_arrives_in_order_through_crashes_of_both_sides() {
    let mut fleet = hub_with("");
    let mut receiver = Receiver::start().await;
    happens(&fleet, 2).await;
    let before = happened(&fleet).await.len();
    let (id, secret) = add(&fleet, &receiver, &[]);
    let expected = async |fleet: &Fleet| happened(fleet).await.split_off(before);

    happens(&fleet, 4).await;
    receiver.until_taken(&expected(&fleet).await).await;
    assert_eq!(receiver.taken(), expected(&fleet).await, "nothing from before, and nothing twice");
    for trouble in [500, SILENT] {
        receiver.answers(trouble);
        let so_far = receiver.got().len();
        happens(&fleet, 3).await;
        wait_until("it was tried again and again", async || receiver.got().len() >= so_far + 3).await;
        assert_eq!(until(&fleet, &id, "retrying", |hook| hook.attempts > 1).await.state, WebhookState::Retrying);
        receiver.answers(200);
        receiver.until_taken(&expected(&fleet).await).await;
    }
    // The receiver dies and comes back.
    receiver.kill().await;
    happens(&fleet, 3).await;
    let failing = until(&fleet, &id, "failing", |hook| hook.attempts > 0).await;
    assert!(failing.last_error.as_ref().is_some_and(|error| error.contains("refused")), "{failing:?}");
    receiver.restart().await;
    receiver.until_taken(&expected(&fleet).await).await;
    // The hub dies while it waits for an answer, twice, and while nobody is there to answer.
    receiver.answers(SILENT);
    happens(&fleet, 3).await;
    for _ in 0..2 {
        let so_far = receiver.got().len();
        wait_until("another try", async || receiver.got().len() > so_far).await;
        fleet.hub.kill();
        fleet.hub.restart();
    }
    receiver.kill().await;
    happens(&fleet, 2).await;
    fleet.hub.kill();
    fleet.hub.restart();
    receiver.answers(200);
    receiver.restart().await;
    receiver.until_taken(&expected(&fleet).await).await;

    let taken = receiver.taken();
    assert!(taken.is_sorted(), "in order: {taken:?}");
    let mut once = taken.clone();
    once.dedup();
    assert_eq!(once, expected(&fleet).await);
    let mut ids = BTreeMap::new();
    for got in receiver.got() {
        got.check(&secret);
        assert_eq!(ids.entry(got.sequence()).or_insert_with(|| got.id.clone()), &got.id, "the same at every try");
    }
    let hook = until(&fleet, &id, "at rest", |hook| hook.attempts == 0).await;
    assert_eq!((hook.dead, hook.missed, hook.state), (0, 0, WebhookState::Waiting));
    assert!(!fleet.hub.log().contains("panicked"));
    let status = fleet.hub.process().stop();
    assert!(status.success(), "it stops in good order: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_becomes_a_dead_letter_until_it_is_redelivered() {
    let fleet = hub_with("");
    let receiver = Receiver::start().await;
    let (id, secret) = add(&fleet, &receiver, &["--name", "on call"]);
    receiver.answers(400);
    happens(&fleet, 3).await;
    let hook = until(&fleet, &id, "out of patience", |hook| hook.dead == 3).await;
    assert!(hook.last_error.unwrap().contains("400: heard"));
    let letters = fleet.cli.json(&["webhook", "dead", &id]);
    let letters: Vec<u64> =
        letters.as_array().unwrap().iter().map(|letter| letter["sequence"].as_u64().unwrap()).collect();
    assert_eq!(letters, happened(&fleet).await, "each by itself, oldest first");
    assert_eq!(receiver.got().len(), 9, "three tries each");
    // One more try fails as before, and leaves it where it is.
    let first = letters[0].to_string();
    fleet.cli.ok(&["webhook", "redeliver", &id, &first]);
    wait_until("it was tried once more", async || receiver.got().len() == 10).await;
    let dead = async || fleet.api().dead_letters(&id).await.unwrap().items;
    wait_until("it rests again", async || {
        dead().await.iter().all(|letter| !letter.redelivering) && dead().await[0].attempts == 4
    })
    .await;
    receiver.answers(200);
    fleet.cli.ok(&["webhook", "redeliver", &id, &first]);
    wait_until("one is delivered", async || dead().await.len() == 2).await;
    assert_eq!(fleet.cli.ok(&["webhook", "redeliver", &id, "-o", "name"]).last_word(), "2");
    wait_until("all are delivered", async || dead().await.is_empty()).await;
    let taken: BTreeSet<u64> = receiver.taken().into_iter().collect();
    assert_eq!(taken, letters.iter().copied().collect());
    fleet.cli.run(&["webhook", "redeliver", &id, "999"]).refused(5, &["no dead letter 999", "next:"]);
    happens(&fleet, 1).await;
    receiver.until_taken(&happened(&fleet).await).await;
    receiver.got().iter().for_each(|got| got.check(&secret));
    // A receiver that says it is gone is left alone.
    receiver.answers(410);
    happens(&fleet, 1).await;
    until(&fleet, &id, "disabled", |hook| hook.state == WebhookState::Disabled).await;
    fleet.cli.run(&["webhook", "redeliver", &id]).refused(6, &["disabled", "next:"]);
    fleet.cli.ok(&["webhook", "remove", &id]);
    fleet.cli.run(&["webhook", "remove", &id]).refused(5, &["no webhook"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_the_admins_and_one_slow_receiver_holds_up_nobody() {
    let fleet = hub_with("");
    let receiver = Receiver::start().await;
    // It listens and never accepts: every try lasts as long as the hub allows.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let slow = format!("http://{}/", deaf.local_addr().unwrap());
    let slow = fleet.cli.ok(&["webhook", "add", &slow, "--kind", "*", "-o", "name"]).last_word();
    let (id, secret) = add(&fleet, &receiver, &[]);
    happens(&fleet, 5).await;
    receiver.until_taken(&happened(&fleet).await).await;
    assert_eq!(webhook(&fleet, &slow).await.delivered, 0);
    let failing = until(&fleet, &slow, "impatient", |hook| hook.attempts > 0).await;
    assert_eq!(failing.last_error.as_deref(), Some("no answer within 2000 ms"));
    fleet.cli.run(&["webhook", "test", &slow]).refused(1, &["not taken", "next:"]);
    fleet.cli.ok(&["webhook", "remove", &slow]);

    let said = fleet.cli.json(&["webhook", "test", &id]);
    assert_eq!((&said["status"], &said["answer"]), (&200.into(), &"heard".into()));
    let test = receiver.got().pop().unwrap();
    test.check(&secret);
    assert_eq!(test.event()["type"], "io.bellwether.test");
    let viewer = fleet.cli_as("viewer");
    let listed = viewer.ok(&["webhook", "list", "-o", "json"]);
    assert!(listed.stdout.contains(&receiver.url()) && !listed.stdout.contains("whsec_"), "{listed}");
    for words in [
        vec!["webhook", "add", "http://127.0.0.1:9/"],
        vec!["webhook", "remove", &id],
        vec!["webhook", "redeliver", &id],
        vec!["webhook", "test", &id],
    ] {
        viewer.run(&words).refused(4, &["needs admin", "next:"]);
    }
    for url in ["ftp://a.example/", "nonsense", "http://user:word@a.example/"] {
        fleet.cli.run(&["webhook", "add", url]).refused(1, &["cannot be sent there", "next:"]);
    }
    fleet.cli.run(&["webhook", "add", &receiver.url(), "--kind", "Rollout"]).refused(1, &["no kind of event"]);
    let notable = fleet.cli.json(&["webhook", "add", &receiver.url()]);
    assert!(notable["kinds"].as_array().unwrap().contains(&"rollout_paused".into()));
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_deleted_before_their_delivery_are_owned_up_to() {
    // No try between the deletion and the receiver's return: its error would be the latest.
    let config = "events_max = 10\nwebhook_retry_ms_first = 4000\n".to_owned();
    let fleet = Fleet::without_root(Hub::start_with(Options { config, ..Options::default() }));
    let mut receiver = Receiver::start().await;
    let (id, _) = add(&fleet, &receiver, &[]);
    receiver.kill().await;
    happens(&fleet, 30).await;
    receiver.restart().await;
    let last = happened(&fleet).await;
    assert_eq!(last.len(), 10);
    receiver.until_taken(&last).await;
    let hook = until(&fleet, &id, "at rest", |hook| hook.attempts == 0).await;
    assert!(hook.missed >= 19, "{hook:?}");
    assert!(hook.last_error.as_ref().is_some_and(|error| error.contains("deleted before")), "{hook:?}");
    assert!(receiver.taken().is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_events_survive_a_crash_of_the_hub() {
    let mut fleet = hub_with("");
    happens(&fleet, 2).await;
    let mut command = Command::new(files::binary("bellwether"));
    command
        .args(["events", "--follow", "-o", "json", "--kind", "token_made", "--kind", "nothing"])
        .args(["--hub", &fleet.hub.url, "--token", &fleet.hub.token])
        .env("BELLWETHER_CONFIG", fleet.config());
    let mut follower = Process::start("follower", &mut command);
    let printed = |follower: &Process| -> Vec<u64> {
        let text = follower.stdout();
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        text.lines().map(read).collect()
    };
    for _ in 0..3 {
        let expected = happened(&fleet).await;
        wait_until("all of it is printed", async || printed(&follower) == expected).await;
        // An event that it does not follow moves its cursor all the same.
        fleet.cli.ok(&["webhook", "list"]);
        happens(&fleet, 2).await;
        let expected = happened(&fleet).await;
        wait_until("what is new is printed", async || printed(&follower) == expected).await;
        fleet.hub.kill();
        wait_until("it says that it waits", async || {
            let said = follower.stderr();
            said.matches("waiting for it").count() == said.matches("the hub is back").count() + 1
        })
        .await;
        fleet.hub.restart();
        happens(&fleet, 2).await;
    }
    let expected = happened(&fleet).await;
    wait_until("nothing is lost or doubled", async || printed(&follower) == expected).await;
    follower.signal("INT");
    assert_eq!(follower.end(Duration::from_secs(5)).code(), Some(130));
}
