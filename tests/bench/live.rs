//! From an event at the hub to the fragment on a page's socket, while a fleet scores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_hub::api::types::TagsRequest;
use bellwether_simulator::data::{Image, held_out};
use bellwether_simulator::fleet::{Fleet as Cameras, Plan};
use bellwether_tests::hub::folder;
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Fleet, Hub};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// Devices that score meanwhile.
const DEVICES: usize = 24;
/// Events that are timed.
const EVENTS: usize = 200;
/// The project's own limit for the median.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

pub(crate) async fn measure() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let home = folder();
    let token = fleet.device_token(u32::try_from(DEVICES).unwrap_or(u32::MAX));
    let plan = Plan {
        hub: &fleet.hub.url,
        token: &token,
        home: home.path(),
        sites: &["lyon", "oslo"],
        devices: DEVICES,
        accelerator: None,
    };
    let images: Arc<[Image]> = held_out().expect("the digits are built in").into();
    let cameras = Cameras::start(&plan, &"digits".parse().unwrap(), &images, |_| ()).await.expect("devices start");
    fleet.roll_out("digits:2");
    wait_until("the fleet scores", async || cameras.tally().scored() > 500).await;
    println!("event to fragment, {DEVICES} devices scoring        p50        p95");
    let cookie = login(&fleet.hub).await;
    for (page, what) in [("/events", "events"), ("/devices/lyon-01", "device")] {
        let mut socket = open(&fleet.hub, &cookie, page).await;
        let mut times = Vec::new();
        for number in 0..EVENTS {
            let tag = format!("n{number}");
            let tags = BTreeMap::from([("site".to_owned(), "lyon".to_owned()), ("mark".to_owned(), tag.clone())]);
            let client = fleet.api();
            // Events come when they come, not the moment the last one was shown.
            let pause = 120 + u64::try_from(number * 37 % 150).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                () = until(&mut socket, |_| false) => {}
            }
            let start = Instant::now();
            let tagged = tokio::spawn(async move { client.set_tags("lyon-01", &TagsRequest { tags }).await });
            // The first frame after it that tells of it; frames of other changes are let by.
            let is_it =
                |text: &str| if what == "events" { text.contains("tags of lyon-01") } else { text.contains(&tag) };
            until(&mut socket, is_it).await;
            times.push(start.elapsed());
            tagged.await.expect("it ends").expect("the hub tags");
        }
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
        let verdict = if at(50) <= MEDIAN_MAX { "within 50 ms" } else { "ABOVE 50 ms" };
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("  page {what:<12}                 {:>8.1} ms {:>7.1} ms   {verdict}", ms(at(50)), ms(at(95)));
    }
    cameras.stop().await;
}

async fn login(hub: &Hub) -> String {
    let client = bellwether_tests::http::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = client.get(format!("{}/login?code={}", hub.url, hub.code)).send().await.expect("the hub answers");
    let cookie =
        answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok()).expect("a login sets a cookie");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

async fn open(hub: &Hub, cookie: &str, page: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{}/live?page={page}", hub.address()).into_client_request().expect("an address");
    for (name, value) in [("cookie", cookie), ("origin", &hub.url), ("sec-fetch-site", "same-origin")] {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    let stream = TcpStream::connect(hub.address()).await.expect("the hub listens");
    tokio_tungstenite::client_async(request, stream).await.expect("the socket opens").0
}

/// Acknowledges frames, as a page does, until one tells of it.
async fn until(socket: &mut WebSocketStream<TcpStream>, is_it: impl Fn(&str) -> bool) {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.expect("a frame within 10 s");
        let Some(Ok(Message::Text(text))) = message else { continue };
        let frame: serde_json::Value = serde_json::from_str(&text).expect("a frame is JSON");
        let ack = serde_json::json!({ "ack": frame.get("seq") }).to_string();
        let found = is_it(&text);
        socket.send(Message::text(ack)).await.expect("the socket stands");
        if found {
            return;
        }
    }
}
