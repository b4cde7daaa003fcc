//! What one device may do at the broker, tried with mosquitto's own clients. The test looks for
//! leaks, not for codes: a broker may refuse, ignore or disconnect.

use std::time::Duration;

use bellwether_hub::api::types::{DeviceView, Presence};
use bellwether_protocol::frame;
use bellwether_protocol::message::{Gone, Hello, Up};
use bellwether_tests::agent::Settings;
use bellwether_tests::hub::Options;
use bellwether_tests::raw::RawDevice;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Agent, DevCa, Fleet, Mosquitto, Process};

const LEAK: &[u8] = b"LEAK";
const LEAK_HEX: &str = "4c45414b";
/// How long listeners listen; everything else happens meanwhile.
const SECONDS: u32 = 6;
/// Whoever takes part, for brokers that must know them beforehand.
const ALL: [&str; 3] = ["attacker", "victim", "listener"];

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_the_embedded_broker() {
    let fleet = Fleet::start_with(Options::default());
    the_embedded_broker_holds(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_the_embedded_broker_by_tls() {
    let ca = DevCa::new();
    let fleet = Fleet::start_with(ca.hub(&ca.server("hub", &[]), ""));
    the_embedded_broker_holds(&fleet).await;
}

async fn the_embedded_broker_holds(fleet: &Fleet) {
    let attacker = break_in(fleet, None).await;
    // Only this broker checks the devices' own signatures: a password is good once.
    let password = attacker.password();
    let id = attacker.id.as_str();
    let hello = ("bw/v1/d/attacker/up/hello", b"".as_slice());
    assert!(attacker.publish_as(id, id, &password, hello, &[]));
    assert!(!attacker.publish_as(id, id, &password, hello, &[]), "a replayed password opens nothing");
    for (client, user) in [("victim", id), (id, "victim"), ("victim", "victim"), ("other", id), ("$hub", "$hub")] {
        let entered = attacker.publish_as(client, user, &attacker.password(), hello, &[]);
        assert!(!entered, "{client} entered as {user}");
    }
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_mosquitto() {
    mosquitto_holds(&Mosquitto::start(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_mosquitto_by_tls() {
    mosquitto_holds(&Mosquitto::start_tls(&DevCa::new()), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_mosquitto_by_certificates() {
    let ca = DevCa::new();
    mosquitto_holds(&Mosquitto::start_mutual(&ca), Some(&ca)).await;
}

async fn mosquitto_holds(broker: &Mosquitto, ca: Option<&DevCa>) {
    let fleet = Fleet::start_with(broker.options());
    broker.admit(&fleet.hub, &ALL);
    let attacker = break_in(&fleet, ca).await;
    let hello = ("bw/v1/d/victim/up/hello", b"".as_slice());
    if ca.is_none() {
        assert!(!attacker.publish_as("victim", "victim", &attacker.password(), hello, &[]));
        assert!(!attacker.publish_as("attacker", "attacker", "wrong", hello, &[]));
    }
    fleet.still_serves().await;
}

/// Three devices: one attacks, one runs an agent and has something to lose, one only listens. With an
/// authority each shows a certificate of it.
async fn break_in(fleet: &Fleet, ca: Option<&DevCa>) -> RawDevice {
    fleet.two_versions();
    let shows = ca.map(|ca| ca.client("victim").agent()).unwrap_or_default();
    let agent = fleet.agent_as("victim", &Settings { config: &shows, ..Settings::default() });
    let mut attacker = RawDevice::enrol(fleet, "attacker").await;
    let mut listener = RawDevice::enrol(fleet, "listener").await;
    if let Some(ca) = ca {
        attacker.show(&ca.client("attacker"));
        listener.show(&ca.client("listener"));
    }
    fleet.device_until("victim", "online", |device| device.presence == Presence::Online).await;
    listen(fleet, &attacker, &listener).await;
    speak(fleet, &attacker, &listener).await;
    impersonate(fleet, &attacker, &agent).await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    let strange = ["does not decode", "of another kind", "for another device"];
    assert!(!strange.iter().any(|text| agent.log().contains(text)), "the victim heard it:\n{}", agent.log());
    attacker
}

/// Listens to everything that is said to and by others.
async fn listen(fleet: &Fleet, attacker: &RawDevice, listener: &RawDevice) {
    // Both ears are open before anything happens.
    let victims = ["bw/v1/d/victim/down/#", "bw/v1/d/victim/up/#", "#", "+/+/+/+/down/#", "bw/v1/d/+/down/#"];
    let shared =
        ["$share/x/bw/v1/d/victim/down/#", "$share/x/#", "$share/g/bw/v1/d/+/up/#", "bw/v1/d/+/up/#", "$SYS/#"];
    let own = ["bw/v1/d/attacker/down/#"];
    let filters: Vec<&str> = victims.into_iter().chain(shared).chain(own).collect();
    let mut ear = attacker.subscribe(&filters, SECONDS, &[]);
    let mut neighbour = listener.subscribe(&["bw/v1/d/listener/down/#"], SECONDS, &[]);
    // Things that the victim is told, among them what is retained for it, and the attacker too.
    let _id = fleet.start_rollout("digits:1", 1);
    fleet.device_until("victim", "in sync", |device| bellwether_tests::fleet::runs(device) == Some(1)).await;
    fleet.cli.ok(&["device", "report", "victim"]);
    ear.end(Duration::from_secs(20));
    neighbour.end(Duration::from_secs(20));
    let heard = ear.stdout();
    assert!(heard.contains("bw/v1/d/attacker/down/desired"), "the ear hears what is its own: {heard}");
    let foreign: Vec<&str> = heard.lines().filter(|line| !line.starts_with("bw/v1/d/attacker/down/")).collect();
    assert!(foreign.is_empty(), "the attacker heard {foreign:?}");
    assert!(neighbour.stdout().contains("bw/v1/d/listener/down/desired"), "{}", neighbour.stdout());
}

/// Speaks in every voice that is not the attacker's own.
async fn speak(fleet: &Fleet, attacker: &RawDevice, listener: &RawDevice) {
    let before = settled(fleet).await;
    let mut neighbour = listener.subscribe(&["bw/v1/d/listener/down/#"], 2 * SECONDS, &["-d"]);
    wait_until("the listener listens", async || neighbour.stdout().contains("SUBACK")).await;
    let frame = |up: &Up<'_>| {
        let mut buffer = [0; 64];
        frame::encode(up, &mut buffer).unwrap().to_vec()
    };
    let hello = frame(&Up::Hello(Hello { boot: 7, session: 9 }));
    let gone = frame(&Up::Gone(Gone { boot: 7, session: 9 }));
    let need = format!("bw/v1/d/victim/up/need/{}", "0".repeat(16));
    for (topic, payload) in [
        ("bw/v1/d/victim/up/hello", hello.as_slice()),
        ("bw/v1/d/victim/up/gone", &gone),
        ("bw/v1/d/victim/up/state", LEAK),
        ("bw/v1/d/victim/up/batch", LEAK),
        ("bw/v1/d/victim/up/known", LEAK),
        (&need, LEAK),
        ("bw/v1/d/victim/down/desired", LEAK),
        ("bw/v1/d/victim/down/trust", LEAK),
        ("bw/v1/d/listener/down/cmd", LEAK),
        ("bw/v1/d/listener/down/trust", LEAK),
        ("bw/v1/d/listener/down/desired", LEAK),
        ("bw/v1/d/attacker/down/desired", LEAK),
        ("bw/v1/b/hub", LEAK),
    ] {
        let _ = attacker.publish(topic, payload, &["--retain"]);
        let _ = attacker.publish(topic, payload, &[]);
    }
    for (client, user) in [("victim", "victim"), ("victim", "attacker"), ("attacker", "victim")] {
        let forged = ("bw/v1/d/victim/up/state", LEAK);
        let _ = attacker.publish_as(client, user, &attacker.password(), forged, &[]);
    }
    // Last wills, each of a connection that dies.
    for topic in ["bw/v1/d/listener/down/cmd", "bw/v1/d/victim/up/gone", "bw/v1/d/victim/up/state"] {
        die(attacker, topic).await;
    }
    // The proof that the hub would have noticed: the same nonsense in the attacker's own voice, and
    // in its own last will.
    assert!(attacker.publish("bw/v1/d/attacker/up/state", LEAK, &[]), "its own voice it may use");
    die(attacker, "bw/v1/d/attacker/up/batch").await;
    // What was said, not who was kept out: `session refused` is as it should be.
    let refused = |device: &str, kind: &str| {
        let said = format!("WARN refused device={device}");
        fleet.hub.log().lines().any(|line| line.contains(&said) && line.contains(kind))
    };
    wait_until("the hub refuses nonsense in the attacker's own voice", async || refused("attacker", "kind=State"))
        .await;
    wait_until("the hub refuses nonsense in its last will", async || refused("attacker", "kind=Batch")).await;
    assert!(!refused("victim", ""), "the hub heard the attacker as the victim:\n{}", fleet.hub.log());
    neighbour.end(Duration::from_secs(30));
    assert!(!neighbour.stdout().contains(LEAK_HEX), "the listener heard {}", neighbour.stdout());
    let mut retained = attacker.subscribe(&["bw/v1/d/attacker/down/#", "bw/v1/b/hub"], 2, &[]);
    retained.end(Duration::from_secs(10));
    assert!(!retained.stdout().contains(LEAK_HEX), "kept for whoever comes: {}", retained.stdout());
    let mut retained = listener.subscribe(&["bw/v1/d/listener/down/#"], 2, &[]);
    retained.end(Duration::from_secs(10));
    assert!(!retained.stdout().contains(LEAK_HEX), "kept for the listener: {}", retained.stdout());
    let after = settled(fleet).await;
    assert_eq!(before, after, "the hub holds something else of the victim");
}

/// Leaves a last will on a topic, and a retained one, each by a connection that breaks.
async fn die(attacker: &RawDevice, topic: &str) {
    for more in [&[][..], &["--will-retain"]] {
        let will = ["-d", "--will-topic", topic, "--will-payload", "LEAK", "--will-qos", "1"];
        let mut dying = attacker.subscribe(&["bw/v1/d/attacker/down/#"], 2 * SECONDS, &[&will, more].concat());
        // A broker may as well refuse the connection: then there is no will.
        if stands(&mut dying).await {
            dying.kill();
        }
    }
}

/// Whether a client that tells of itself got in; not, once it has ended.
async fn stands(client: &mut Process) -> bool {
    let mut stands = false;
    wait_until("a client got in or was refused", async || {
        stands = client.stdout().contains("SUBACK");
        stands || client.ended().is_some()
    })
    .await;
    stands
}

/// Comes under another's client id, and twice under its own: nobody else's session may end by it, nor
/// be heard through it.
async fn impersonate(fleet: &Fleet, attacker: &RawDevice, victim: &Agent) {
    let downs = || victim.log().matches("not connected").count();
    let before = downs();
    let own = "bw/v1/d/attacker/down/#";
    let mut masked = attacker.subscribe_as("victim", &["bw/v1/d/victim/down/#", own], SECONDS, &["-d"]);
    let mut first = attacker.subscribe(&[own], SECONDS, &["-d"]);
    stands(&mut masked).await;
    stands(&mut first).await;
    let mut second = attacker.subscribe(&[own], SECONDS, &["-d"]);
    assert!(stands(&mut second).await, "a device may always come back: {second}");
    fleet.cli.ok(&["device", "report", "victim"]);
    assert!(attacker.publish("bw/v1/d/attacker/up/state", LEAK, &[]));
    for ear in [&mut masked, &mut first, &mut second] {
        ear.end(Duration::from_secs(30));
        let is_foreign = |line: &str| line.starts_with("bw/v1/d/victim/");
        assert!(!ear.stdout().lines().any(is_foreign), "it heard the victim: {}", ear.stdout());
    }
    assert_eq!(downs(), before, "the victim lost its session:\n{}", victim.log());
    fleet.device_until("victim", "online", |device| device.presence == Presence::Online).await;
}

/// The victim by the hub's word, without what changes by itself.
async fn settled(fleet: &Fleet) -> DeviceView {
    let device = fleet.device_until("victim", "at rest", |device| device.in_sync).await;
    DeviceView { last_seen_ms: None, rows_scored: 0, ..device }
}
