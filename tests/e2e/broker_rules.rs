//! What one device may do at the broker, tried with mosquitto's own clients. The test looks for
//! leaks, not for codes: a broker may refuse, ignore or disconnect.

use std::time::Duration;

use bellwether_hub::api::types::{DeviceView, Presence};
use bellwether_protocol::frame;
use bellwether_protocol::message::{Gone, Hello, Up};
use bellwether_tests::hub::Options;
use bellwether_tests::raw::RawDevice;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Fleet, Mosquitto};

const LEAK: &[u8] = b"LEAK";
const LEAK_HEX: &str = "4c45414b";
/// How long listeners listen; everything else happens meanwhile.
const SECONDS: u32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_reaches_nobody_else_through_the_embedded_broker() {
    let fleet = Fleet::start_with(Options::default());
    let attacker = break_in(&fleet).await;
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
    let broker = Mosquitto::start();
    let fleet = Fleet::start_with(broker.options());
    broker.admit(&fleet.hub, &["attacker", "victim", "listener"]);
    let attacker = break_in(&fleet).await;
    let hello = ("bw/v1/d/victim/up/hello", b"".as_slice());
    assert!(!attacker.publish_as("victim", "victim", &attacker.password(), hello, &[]));
    assert!(!attacker.publish_as("attacker", "attacker", "wrong", hello, &[]));
    fleet.still_serves().await;
}

/// Three devices: one attacks, one runs an agent and has something to lose, one only listens.
async fn break_in(fleet: &Fleet) -> RawDevice {
    fleet.two_versions();
    let agent = fleet.agent("victim");
    let attacker = RawDevice::enrol(fleet, "attacker").await;
    let listener = RawDevice::enrol(fleet, "listener").await;
    fleet.device_until("victim", "online", |device| device.presence == Presence::Online).await;

    // Both ears are open before anything happens.
    let victims = ["bw/v1/d/victim/down/#", "bw/v1/d/victim/up/#", "#", "+/+/+/+/down/#", "bw/v1/d/+/down/#"];
    let shared = ["$share/x/bw/v1/d/victim/down/#", "$share/x/#", "bw/v1/d/+/up/#", "$SYS/#"];
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

    speak(fleet, &attacker, &listener).await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    let strange = ["does not decode", "of another kind", "for another device"];
    assert!(!strange.iter().any(|text| agent.log().contains(text)), "the victim heard it:\n{}", agent.log());
    attacker
}

/// Speaks in every voice that is not the attacker's own.
async fn speak(fleet: &Fleet, attacker: &RawDevice, listener: &RawDevice) {
    let before = settled(fleet).await;
    let mut neighbour = listener.subscribe(&["bw/v1/d/listener/down/#"], SECONDS, &[]);
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
        (&need, LEAK),
        ("bw/v1/d/victim/down/desired", LEAK),
        ("bw/v1/d/listener/down/cmd", LEAK),
        ("bw/v1/d/listener/down/desired", LEAK),
        ("bw/v1/d/attacker/down/desired", LEAK),
        ("bw/v1/b/hub", LEAK),
    ] {
        let _ = attacker.publish(topic, payload, &[]);
        let _ = attacker.publish(topic, payload, &["--retain"]);
    }
    // Last wills, each of a connection that dies.
    for (topic, text) in [("bw/v1/d/listener/down/cmd", "LEAK"), ("bw/v1/d/victim/up/gone", "LEAK")] {
        let will = ["--will-topic", topic, "--will-payload", text, "--will-qos", "1", "--will-retain"];
        let mut dying = attacker.subscribe(&["bw/v1/d/attacker/down/#"], SECONDS, &will);
        tokio::time::sleep(Duration::from_millis(400)).await;
        if dying.ended().is_none() {
            dying.kill();
        }
    }
    // The proof that the hub would have noticed: the same nonsense in the attacker's own voice.
    assert!(attacker.publish("bw/v1/d/attacker/up/state", LEAK, &[]), "its own voice it may use");
    let refusal = |line: &str, device: &str| line.contains("refused") && line.contains(&format!("device={device}"));
    wait_until("the hub refuses nonsense in the attacker's own voice", async || {
        fleet.hub.log().lines().any(|line| refusal(line, "attacker"))
    })
    .await;
    let forged: Vec<String> =
        fleet.hub.log().lines().filter(|line| refusal(line, "victim")).map(str::to_owned).collect();
    assert!(forged.is_empty(), "the hub heard the attacker as the victim: {forged:#?}");
    neighbour.end(Duration::from_secs(20));
    assert!(!neighbour.stdout().contains(LEAK_HEX), "the listener heard {}", neighbour.stdout());
    let retained = attacker.subscribe(&["bw/v1/d/attacker/down/#", "bw/v1/b/hub"], 2, &[]);
    let mut retained = retained;
    retained.end(Duration::from_secs(10));
    assert!(!retained.stdout().contains(LEAK_HEX), "kept for whoever comes: {}", retained.stdout());
    let after = settled(fleet).await;
    assert_eq!(before, after, "the hub holds something else of the victim");
}

/// The victim by the hub's word, without what changes by itself.
async fn settled(fleet: &Fleet) -> DeviceView {
    let device = fleet.device_until("victim", "at rest", |device| device.in_sync).await;
    DeviceView { last_seen_ms: None, rows_scored: 0, ..device }
}
