//! Collected rows through outbox, broker and hub, against what the broker alone carries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_agent::{Agent, Config};
use bellwether_hub::broker::{Broker as _, Embedded, Gatekeeper};
use bellwether_link::tls::Trust;
use bellwether_link::{Arrival, Greeting, Link, Options, Qos};
use bellwether_protocol::id::DeviceId;
use bellwether_protocol::topic::{HUB_FILTER, Topic, UpTopic};
use bellwether_runtime::{Data, Tensor};
use bellwether_tests::Fleet;
use bellwether_tests::hub::folder;
use bellwether_tests::wait::wait_until;
use bytes::Bytes;

/// Devices that send.
const DEVICES: usize = 8;
/// Rows from all of them together.
const ROWS: u64 = 20_000;
/// Rows of one call.
const BLOCK: usize = 64;
/// Messages through the broker alone, and their size: a full batch.
const MESSAGES: usize = 10_000;
const MESSAGE_BYTES: usize = 4096;

pub(crate) async fn measure() {
    let alone = broker_alone().await;
    let (rows, seconds, bytes) = collected().await;
    let rate = rows as f64 / seconds;
    println!("collected rows, {DEVICES} devices");
    println!("  broker alone, {MESSAGE_BYTES} B at QoS 1         {alone:>8.0} messages/s");
    let rows_per_message = MESSAGE_BYTES as f64 / bytes as f64;
    println!(
        "  outbox, broker and hub            {rate:>8.0} rows/s       {:>5.1} % of what the broker carries",
        100.0 * rate / (alone * rows_per_message)
    );
}

/// Lets every device in.
struct Open;

impl Gatekeeper for Open {
    fn admits(&self, _device: &DeviceId, _password: &[u8]) -> bool {
        true
    }
}

/// Messages a second from eight devices to the hub's session, through the broker that the hub embeds
/// and under its rules.
async fn broker_alone() -> f64 {
    let free: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let broker = Embedded::start(free, Arc::new(Open)).await.expect("the broker starts");
    let open = |name: String, login: Option<(String, String)>, subscriptions| {
        Link::open(Options {
            address: broker.url().parse().expect("the broker's address"),
            trust: Trust::default(),
            client_id: name,
            subscriptions,
            keep_alive: Duration::from_secs(30),
            greet: Box::new(move || Ok(Greeting { login: login.clone(), will: None })),
        })
    };
    let access = broker.hub_access();
    let login = Some((access.username.clone(), access.password));
    let (taker, mut arrivals) = open(access.username, login, vec![HUB_FILTER.to_owned()]);
    wait_until("the subscriber is there", async || taker.is_up()).await;
    let mut givers = Vec::new();
    for number in 0..DEVICES {
        let device: DeviceId = format!("giver-{number}").parse().expect("a device id");
        let login = Some((device.to_string(), "00".to_owned()));
        let (link, mut coming) = open(device.to_string(), login, Vec::new());
        tokio::spawn(async move { while coming.recv().await.is_some() {} });
        wait_until("a publisher is there", async || link.is_up()).await;
        givers.push((link, Topic::Up(device, UpTopic::Batch).text()));
    }
    let start = Instant::now();
    let payload = Bytes::from(vec![7; MESSAGE_BYTES]);
    for (link, topic) in givers {
        let payload = payload.clone();
        tokio::spawn(async move {
            for _ in 0..MESSAGES / DEVICES {
                if link.publish(&topic, payload.clone(), Qos::AtLeastOnce, false).await.is_err() {
                    return;
                }
            }
        });
    }
    // A broker may drop what a slow subscriber does not take: what arrived counts, and how fast.
    let (mut got, mut last) = (0, start);
    while got < MESSAGES / DEVICES * DEVICES {
        match tokio::time::timeout(Duration::from_secs(3), arrivals.recv()).await {
            Ok(Some(Arrival::Message { .. })) => (got, last) = (got + 1, Instant::now()),
            Ok(Some(Arrival::Up | Arrival::Down { .. })) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let rate = got as f64 / last.duration_since(start).as_secs_f64().max(f64::MIN_POSITIVE);
    broker.stop().await;
    rate
}

/// Rows taken by the hub, the seconds from the first call to the last acknowledgement, and bytes of a row.
async fn collected() -> (u64, f64, usize) {
    let fleet = Fleet::start();
    fleet.release("digits", 1, "digits-linear", &["--collect-one-in", "1", "--collect-per-minute", "60000"]);
    let home = folder();
    let mut agents = Vec::new();
    for number in 0..DEVICES {
        let name = format!("gw-{number}");
        let config = Config {
            hub: fleet.hub.url.clone(),
            token: Some(fleet.device_token(1)),
            data: home.path().join(&name),
            name: Some(name),
            serve: false,
            probation_ms: 500,
            collect_rows_per_minute_max: 60_000,
            ..Config::default()
        };
        agents.push(Agent::start(config).await.expect("an agent starts"));
    }
    fleet.roll_out("digits:1");
    let pixels: Vec<f32> = (0..BLOCK * 64).map(|index| (index % 17) as f32 / 16.0).collect();
    let block = Tensor::new("image".parse().unwrap(), vec![BLOCK, 64], Data::Fp32(pixels)).unwrap();
    let model = "digits".parse().unwrap();
    let client = fleet.api();
    let taken = async || client.overview().await.map_or(0, |overview| overview.rows_collected);
    let before = taken().await;
    let start = Instant::now();
    let mut sent = 0;
    while sent < ROWS {
        for agent in &agents {
            agent.score(&model, std::slice::from_ref(&block)).expect("the model scores");
            sent += BLOCK as u64;
        }
        // The sampler hands over every second; no more is scored than it keeps.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut last = (taken().await, Instant::now());
    while last.1.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = taken().await;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    let seconds = last.1.duration_since(start).as_secs_f64();
    for agent in agents {
        agent.stop().await;
    }
    (last.0 - before, seconds, 64 * 4 + 10 * 4 + 32)
}
