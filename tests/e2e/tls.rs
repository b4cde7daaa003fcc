//! TLS from end to end: whom hub, devices and command line trust, what they say when they don't, and
//! that strangers at the door keep nobody out.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bellwether_hub::api::types::Presence;
use bellwether_hub::broker::{Broker, Embedded, Gatekeeper, Place};
use bellwether_hub::config::Config;
use bellwether_hub::tls::Shown;
use bellwether_link::tls::{Identity, Trust};
use bellwether_link::{Arrival, Greeting, Link};
use bellwether_protocol::id::DeviceId;
use bellwether_tests::agent::Settings;
use bellwether_tests::dev_ca::{Issued, trusting};
use bellwether_tests::files::binary;
use bellwether_tests::hub::{Options, folder};
use bellwether_tests::{Agent, DevCa, Fleet, Hub, Mosquitto, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_enrols_over_https_and_runs_a_release_over_mqtts() {
    let ca = DevCa::new();
    let fleet = Fleet::start_with(ca.hub(&ca.server("hub", &[]), ""));
    assert!(fleet.hub.url.starts_with("https://"), "{}", fleet.hub.url);
    assert!(fleet.hub.broker.starts_with("mqtts://"), "{}", fleet.hub.broker);
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:2");
    assert_eq!(agent.score().await, Some(("2".to_owned(), 7)));

    let stranger = DevCa::new();
    let trusts = |ca: Option<&std::path::Path>, words: &[&str]| fleet.cli.with_ca(ca).run(words);
    for words in [["model", "list"], ["device", "list"]] {
        trusts(Some(&stranger.file()), &words).refused(1, &["is not signed by the authority in", "--ca"]);
        trusts(None, &words).refused(1, &["--ca"]);
    }
    // A browser's session must never leave by plain HTTP.
    let url = format!("{}/login?code={}", fleet.hub.url, fleet.hub.code);
    let tls = ca.trust().config().unwrap();
    let browser = bellwether_tests::http::builder().tls_backend_preconfigured(tls).build().unwrap();
    let cookie = browser.get(url).send().await.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("; Secure") && cookie.contains("HttpOnly"), "{cookie}");
    // The caller's address is known behind TLS as well: figures are for this machine.
    let figures = browser.get(format!("{}/metrics", fleet.hub.url)).send().await.unwrap();
    assert_eq!(figures.status(), 200);
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_is_refused_and_the_agent_keeps_trying() {
    let (ca, stranger) = (DevCa::new(), DevCa::new());
    let fleet = Fleet::start_with(ca.hub(&ca.server("hub", &[]), ""));
    enrolling_fails(&fleet, &trusting(&stranger.file()), "is not signed by the authority in");

    let file = fleet.hub.home().join("trusted.pem");
    std::fs::copy(ca.file(), &file).unwrap();
    let settings = Settings { config: &trusting(&file), ..Settings::default() };
    let mut agent = Agent::start_as(&fleet.hub.url, &fleet.device_token(1), "gw-1", &settings);
    online(&fleet, "gw-1").await;
    agent.process().stop();
    std::fs::copy(stranger.file(), &file).unwrap();
    agent.restart();
    wait_until("it tried more than once and said why", async || {
        let why = format!("is not signed by the authority in {}", file.display());
        agent.log().lines().filter(|line| line.contains("trying again") && line.contains(&why)).count() > 1
    })
    .await;
    fleet.device_until("gw-1", "offline", |device| device.presence == Presence::Offline).await;
    std::fs::copy(ca.file(), &file).unwrap();
    online(&fleet, "gw-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_refused() {
    let ca = DevCa::new();
    let (good, expired) = (ca.server("good", &[]), ca.server("expired", &["--days", "0"]));
    let shown = shown_from(folder().keep(), &good);
    let mut fleet = Fleet::start_with(ca.hub(&shown, ""));
    let agent = fleet.agent("gw-1");
    online(&fleet, "gw-1").await;
    fleet.hub.process().stop();
    std::fs::copy(&expired.cert, &shown.cert).unwrap();
    std::fs::copy(&expired.key, &shown.key).unwrap();
    fleet.hub.restart();
    fleet.cli.run(&["model", "list"]).refused(1, &["has expired"]);
    wait_until("the agent says why", async || agent.log().contains("has expired")).await;
    enrolling_fails(&fleet, &trusting(&ca.file()), "has expired");
    std::fs::remove_dir_all(shown.cert.parent().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused() {
    let ca = DevCa::new();
    let options = ca.hub(&ca.server("hub", &[]), "");
    let hub = Hub::start_with(Options { listen: "127.0.0.2:0".to_owned(), ..options });
    let fleet = Fleet::without_root(hub);
    fleet.cli.run(&["model", "list"]).refused(1, &["not made for the name in the address", "127.0.0.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_tls_doors_keep_nobody_out() {
    const SILENT: usize = 40;
    let ca = DevCa::new();
    let fleet = Fleet::start_with(ca.hub(&ca.server("hub", &[]), ""));
    let broker = fleet.hub.broker.trim_start_matches("mqtts://").to_owned();
    let mut silent = Vec::new();
    for address in [broker.as_str(), fleet.hub.address()] {
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Plain MQTT, plain HTTP, and noise: each is closed, and none is answered in plain text.
        for said in [b"\x10\x10\0\x04MQTT\x05\x02\0\x3c\0\0\x03abc".as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0; 512]] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ = stream.write_all(said).await;
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
            assert!(closed.is_ok(), "{address} keeps a connection without TLS");
            assert!(!answer.starts_with(b"HTTP") && !answer.starts_with(b"\x20"), "{answer:?}");
        }
    }
    let agent = fleet.agent("gw-1");
    let patience = Duration::from_secs(8);
    tokio::time::timeout(patience, online(&fleet, "gw-1")).await.expect("silent strangers do not hold a device up");
    assert!(!agent.log().contains("trying again"), "{}", agent.log());
    fleet.still_serves().await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_hub_asks_for_certificates_a_device_without_one_stays_out() {
    let ca = DevCa::new();
    let asks = format!("tls_client_ca = {:?}\n", ca.file());
    let fleet = Fleet::start_with(ca.hub(&ca.server("hub", &[]), &asks));
    let shows = ca.client("gw-1").agent();
    let _agent = fleet.agent_as("gw-1", &Settings { config: &shows, ..Settings::default() });
    online(&fleet, "gw-1").await;
    let bare = fleet.agent("gw-2");
    wait_until("it is told why", async || bare.log().contains("wants a client certificate")).await;
    let other = DevCa::new();
    let foreign = other.client("gw-3").agent();
    let stranger = fleet.agent_as("gw-3", &Settings { config: &foreign, ..Settings::default() });
    wait_until("it is told why", async || stranger.log().contains("refuses the connection")).await;
    for name in ["gw-2", "gw-3"] {
        assert_eq!(fleet.device(name).await.last_seen_ms, None, "{name} was heard");
    }
}

/// A gatekeeper that would let everyone in.
struct Open;

impl Gatekeeper for Open {
    fn admits(&self, _: &DeviceId, _: &[u8]) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_way_around_the_door_of_the_embedded_broker() {
    let ca = DevCa::new();
    let (shown, own) = (ca.server("hub", &[]), ca.client("gw-1"));
    let config = Config {
        tls_cert: Some(shown.cert),
        tls_key: Some(shown.key),
        tls_client_ca: Some(ca.file()),
        ..Config::default()
    };
    let tls = Shown::of(&config).unwrap().map(|shown| shown.mqtt);
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let broker = Embedded::start(Place { address, host: None, tls }, Arc::new(Open)).await.unwrap();
    let identity = Some(Identity { cert: own.cert, key: own.key });
    let first = async |url: &str| {
        let (link, mut arrivals) = Link::open(bellwether_link::Options {
            address: url.parse().unwrap(),
            trust: Trust { identity: identity.clone(), ..ca.trust() },
            client_id: "gw-1".to_owned(),
            subscriptions: Vec::new(),
            keep_alive: Duration::from_secs(30),
            greet: Box::new(|| Ok(Greeting { login: Some(("gw-1".to_owned(), "x".to_owned())), will: None })),
        });
        let first = arrivals.recv().await.unwrap();
        link.stop();
        first
    };
    assert_eq!(first(broker.url()).await, Arrival::Up);
    let behind = broker.hub_access().url;
    assert!(behind.starts_with("mqtt://127.0.0.1:"), "{behind}");
    assert!(matches!(first(&behind).await, Arrival::Down { .. }));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_runs_over_mosquitto_by_tls() {
    let ca = DevCa::new();
    let broker = Mosquitto::start_tls(&ca);
    let fleet = Fleet::start_with(broker.options());
    broker.admit(&fleet.hub, &["gw-1"]);
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
}

#[test]
fn plain_text_beyond_loopback_is_refused_unless_asked_for() {
    let home = folder();
    let data = home.path().join("data").display().to_string();
    let refused = |more: &[&str], says: &[&str]| {
        let said = Hub::command(&[&["serve", "--data", &data], more].concat());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(says.iter().all(|word| text.contains(word)), "{says:?} in {text}");
    };
    let quiet = ["--broker", "embedded://127.0.0.1:0"];
    refused(&[&["--listen", "0.0.0.0:0"], quiet.as_slice()].concat(), &["HTTP", "--tls-cert", "--insecure-listen"]);
    refused(&["--listen", "127.0.0.1:0", "--broker", "embedded://0.0.0.0:0"], &["MQTT", "--tls-cert"]);
    let nameless = [&["--listen", "0.0.0.0:0", "--insecure-listen"], quiet.as_slice()].concat();
    refused(&nameless, &["--host"]);
    let asked = Hub::start_with(Options {
        listen: "0.0.0.0:0".to_owned(),
        config: "insecure_listen = true\nhost = \"127.0.0.1\"\n".to_owned(),
        ..Options::default()
    });
    assert!(asked.url.starts_with("http://127.0.0.1:"), "{}", asked.url);
}

/// A place for a hub's certificate that another may be put into later.
fn shown_from(folder: std::path::PathBuf, first: &Issued) -> Issued {
    let shown = Issued { cert: folder.join("shown.pem"), key: folder.join("shown.key") };
    std::fs::copy(&first.cert, &shown.cert).unwrap();
    std::fs::copy(&first.key, &shown.key).unwrap();
    shown
}

async fn online(fleet: &Fleet, name: &str) {
    fleet.device_until(name, "online", |device| device.presence == Presence::Online).await;
}

/// Tries to enrol a device, which must end by itself as one that does not reach its hub, and say why.
fn enrolling_fails(fleet: &Fleet, config: &str, why: &str) {
    let home = folder();
    let path = home.path().join("agent.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(binary("bellwether-agent"));
    command.args(["--hub", &fleet.hub.url, "--token", &token(fleet), "--name", "gw-9"]);
    command.arg("--data").arg(home.path().join("agent")).arg("--config").arg(&path).env_remove("BELLWETHER_CA");
    let said = command.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(4), "{text}");
    assert!(text.contains(why), "`{why}` is not said: {text}");
}

/// A token that was made while the command line still trusted the hub, or one that reads as such.
fn token(fleet: &Fleet) -> String {
    let made = fleet.cli.run(&["device", "token", "-o", "name"]);
    if made.code == 0 { made.last_word() } else { format!("bw1.{}.{}", "0".repeat(32), "0".repeat(32)) }
}
