//! Every door with what does not belong there: an error that names cause and next step, and a door
//! that still opens afterwards.

use std::time::Duration;

use bellwether_hub::api::types::Presence;
use bellwether_protocol::limit::{FRAME_BYTES_MAX, PACKAGE_BYTES_MAX};
use bellwether_protocol::message::Up;
use bellwether_protocol::package::MAGIC;
use bellwether_protocol::trust::{Batch, OutboxId, Signed};
use bellwether_tests::raw::{Answer, RawDevice, exchange, request};
use bellwether_tests::wait::wait_until;
use bellwether_tests::{Fleet, files};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const JSON: &str = "Content-Type: application/json\r\n";

fn as_batch(signed: Signed<'_>) -> Up<'_> {
    Up::Batch(signed)
}

fn as_state(signed: Signed<'_>) -> Up<'_> {
    Up::State(signed)
}

/// A hub being asked wrong things.
struct Door {
    fleet: Fleet,
}

impl Door {
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let bytes = request(method, path, Some(&self.fleet.hub.token), headers, body);
        exchange(self.fleet.hub.address(), &bytes).await
    }

    /// Expects a problem with this status and code that says what to do next.
    async fn refuses(&self, (method, path): (&str, &str), headers: &str, body: &[u8], expected: (u16, &str)) {
        let answer = self.ask(method, path, headers, body).await;
        let asked: String = format!("{method} {path} {}", String::from_utf8_lossy(body)).chars().take(200).collect();
        assert_eq!(answer.status, expected.0, "{asked}\n{}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["code"], expected.1, "{asked}\n{problem}");
        for field in ["detail", "hint"] {
            let text = problem[field].as_str().unwrap_or_default();
            assert!(!text.is_empty() && text.len() < 1000, "{field} of {asked}\n{problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_explains_what_it_does_not_take() {
    let door = Door { fleet: Fleet::start() };
    door.fleet.register("digits", "digits-linear");
    let tokens = ("POST", "/api/v1/tokens");
    let big = vec![b' '; 1024 * 1024];
    let deep = [b"{\"name\":".as_slice(), &[b'['; 100_000]].concat();
    for (body, expected) in [
        (b"{".as_slice(), (400, "bad_body")),
        (b"\xff\xfe", (400, "bad_body")),
        (b"[]", (400, "bad_body")),
        (b"null", (400, "bad_body")),
        (b"", (400, "bad_body")),
        (br#"{"name":"x","role":"viewer","colour":"red"}"#, (400, "bad_body")),
        (br#"{"name":"x","role":"emperor"}"#, (400, "bad_body")),
        (br#"{"name":7,"role":"viewer"}"#, (400, "bad_body")),
        (br#"{"name":"x","role":"viewer","valid_days":-1}"#, (400, "bad_body")),
        (&deep, (400, "bad_body")),
        (&big, (413, "too_large")),
    ] {
        door.refuses(tokens, JSON, body, expected).await;
    }
    let good = br#"{"name":"x","role":"viewer"}"#;
    door.refuses(tokens, "Content-Type: text/plain\r\n", good, (415, "not_json")).await;
    door.refuses(tokens, "", good, (415, "not_json")).await;
    for (method, path) in [("PATCH", "/api/v1/tokens"), ("PUT", "/api/v1/models"), ("DELETE", "/api/v1/hub")] {
        door.refuses((method, path), "", b"", (405, "wrong_method")).await;
    }
    let answer = door.ask("POST", "/api/v1/tokens", JSON, good).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    door.fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_would_climb_or_flood_lead_nowhere() {
    let door = Door { fleet: Fleet::start() };
    let long = "x".repeat(10 * 1024);
    for id in ["..%2f..%2fetc%2fpasswd", "%00", "a%00b", "%2e%2e", "a%20b", "%C3%BC", "%FF", "*", "+", "%23", &long] {
        for path in [
            format!("/api/v1/devices/{id}"),
            format!("/api/v1/models/{id}"),
            format!("/api/v1/models/{id}/versions/1"),
            format!("/api/v1/packages/{id}"),
            format!("/api/v1/rollouts/{id}"),
        ] {
            let answer = door.ask("GET", &path, "", b"").await;
            assert!((400..500).contains(&answer.status), "{path:.60}: {:.600}", answer.text);
            assert!(!answer.text.contains("root:"), "{path:.60}");
            assert!(answer.text.len() < 4000, "{path:.60} is echoed whole");
        }
    }
    for path in ["/api/v1/../../../../etc/passwd", "/assets/../../Cargo.toml", "/api/v1/models/../hub/x"] {
        let answer = door.ask("GET", path, "", b"").await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.text);
    }
    for (path, expected) in [
        ("/api/v1/models/digits/versions/0", (400, "bad_id")),
        ("/api/v1/models/digits/versions/-1", (400, "bad_path")),
        ("/api/v1/models/digits/versions/99999999999", (400, "bad_path")),
        ("/api/v1/devices?limit=many", (400, "bad_query")),
        ("/api/v1/devices?colour=red", (400, "bad_query")),
        ("/api/v1/devices?tag=nonsense", (400, "bad_filter")),
        ("/api/v1/nonsense", (404, "no_such_route")),
    ] {
        door.refuses(("GET", path), "", b"", expected).await;
    }
    door.fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_and_statements_are_read_with_suspicion() {
    let door = Door { fleet: Fleet::start() };
    let packages = ("POST", "/api/v1/packages");
    door.refuses(packages, "", b"PK\x03\x04", (422, "not_a_package")).await;
    // The size alone is refused: nobody has to send 128 MiB to learn that.
    let token = &door.fleet.hub.token;
    let head = format!(
        "POST /api/v1/packages HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        PACKAGE_BYTES_MAX + 1
    );
    assert_eq!(exchange(door.fleet.hub.address(), head.as_bytes()).await.status, 413);
    // A header that promises more than there is, and bytes that are no manifest.
    for tail in
        [u32::MAX.to_le_bytes().to_vec(), vec![4, 0, 0, 0, 1, 2], [[16, 0, 0, 0].as_slice(), &[0xff; 16]].concat()]
    {
        let package = [MAGIC.as_slice(), &tail].concat();
        let answer = door.ask("POST", "/api/v1/packages", "", &package).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let package = answer.json()["digest"].clone();
        let body = json!({ "package": package, "source": package, "file_name": "x.onnx" }).to_string();
        let register = ("POST", "/api/v1/models/digits/versions");
        door.refuses(register, JSON, body.as_bytes(), (422, "package_refused")).await;
    }
    let unknown = json!({ "package": "0".repeat(64), "source": "0".repeat(64), "file_name": "x" }).to_string();
    let register = ("POST", "/api/v1/models/digits/versions");
    door.refuses(register, JSON, unknown.as_bytes(), (404, "no_package")).await;
    for (statement, expected) in [("?", (400, "bad_statement")), ("AAAA", (409, "root_exists"))] {
        let body = json!({ "statement": statement }).to_string();
        door.refuses(("PUT", "/api/v1/root"), JSON, body.as_bytes(), expected).await;
    }
    for name in ["", "a b", "../x", &"x".repeat(65)] {
        let body = json!({ "device": name, "secret": "00", "statement": "AAAA" }).to_string();
        door.refuses(("POST", "/api/v1/enrol"), JSON, body.as_bytes(), (400, "bad_id")).await;
    }
    door.fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_broken_uploads_hold_nobody_up() {
    let door = Door { fleet: Fleet::start() };
    let token = &door.fleet.hub.token;
    let head = format!(
        "POST /api/v1/packages HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\nBWPK"
    );
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(door.fleet.hub.address()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    // Half a request line, and a head that never ends.
    for half in ["GET /api/v1", "GET / HTTP/1.1\r\nX: "] {
        let mut stream = TcpStream::connect(door.fleet.hub.address()).await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    door.fleet.register("digits", "digits-linear");
    door.fleet.still_serves().await;
    drop(slow);
    // What was broken off is gone: the places for uploads are free again.
    door.fleet.register("digits", "digits-cnn");
    assert_eq!(exchange(door.fleet.hub.address(), b"\x16\x03\x01nonsense\r\n\r\n").await.status, 400);
    door.fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_over_mqtt_disturbs_nobody() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("good");
    let bad = RawDevice::enrol(&fleet, "bad").await;
    let own = |rest: &str| format!("bw/v1/d/bad/up/{rest}");
    let transfer = format!("need/{}", "0".repeat(16));
    let garbage: [&[u8]; 5] = [b"", b"\x01", b"\x02\x00", &[0xff; 300], b"{\"json\": true}"];
    for kind in ["hello", "gone", "state", "batch", &transfer] {
        for payload in garbage {
            assert!(bad.publish(&own(kind), payload, &[]), "a device may say nonsense on its own topic {kind}");
        }
    }
    // Well formed and signed, but a statement about another device.
    let batch = Batch {
        device: "good".parse().unwrap(),
        outbox: OutboxId([7; 16]),
        oldest: 1,
        first: 1,
        records: [].into_iter().collect(),
    };
    assert!(bad.publish(&own("batch"), &bad.up(&batch, as_batch), &[]));
    assert!(bad.publish(&own("state"), &bad.up(&batch, as_state), &[]));
    wait_until("the hub has refused the statement about another device", async || {
        fleet
            .hub
            .log()
            .lines()
            .any(|line| line.contains("refused") && line.contains("device=bad") && line.contains("Batch"))
    })
    .await;
    // Neither a frame beyond the limit nor a topic that is none.
    let _ = bad.publish(&own("state"), &vec![1; FRAME_BYTES_MAX + 4096], &[]);
    for topic in ["bw/v1/d/bad/up/colour", "bw/v1/d/bad/up/hello/more", "bw/v2/d/bad/up/hello", "other"] {
        let _ = bad.publish(topic, b"\x01", &[]);
    }
    fleet.roll_out("digits:1");
    let good = fleet.device("good").await;
    assert!(good.presence == Presence::Online && good.in_sync, "{good:?}");
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    assert!(!fleet.hub.log().lines().any(|line| line.contains("refused") && line.contains("device=good")));
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scoring_service_says_what_it_expected() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    let infer = "/v2/models/digits/infer";
    let (status, answer) = agent.post(infer, "{}").await.unwrap();
    assert_eq!((status, answer["error"].as_str().unwrap().contains("digits")), (404, true), "{answer}");
    fleet.roll_out("digits:1");
    let ask = |name: &str, shape: Value, datatype: &str, data: Value| {
        json!({ "inputs": [{ "name": name, "shape": shape, "datatype": datatype, "data": data }] }).to_string()
    };
    let row = json!([vec![0.5; 64]]);
    for (body, says) in [
        ("{".to_owned(), "not the JSON"),
        (String::new(), "not the JSON"),
        ("[]".to_owned(), "not the JSON"),
        (ask("picture", json!([1, 64]), "FP32", row.clone()), "image"),
        (ask("image", json!([1, 63]), "FP32", json!([vec![0.5; 63]])), "[-1, 64]"),
        (ask("image", json!([64]), "FP32", row.clone()), "[-1, 64]"),
        (ask("image", json!([2, 64]), "FP32", row.clone()), "64 elements"),
        (ask("image", json!([1, 64]), "INT32", json!([vec![1; 64]])), "FP32"),
        (ask("image", json!([1, 64]), "FP8", row.clone()), "expected one of"),
        (ask("image", json!([1, 64]), "FP32", json!(["a"])), "expected numbers"),
        (ask("image", json!([-1, 64]), "FP32", row.clone()), "not the JSON"),
        (r#"{"inputs":[]}"#.to_owned(), "missing"),
    ] {
        let (status, answer) = agent.post(infer, body.clone()).await.unwrap();
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && error.contains(says), "{body:.200}: {status} {answer}");
    }
    let address = agent.url.trim_start_matches("http://");
    // The size alone is refused, before the bytes are sent; and whoever sends them all the same
    // gets no further.
    let head = format!("POST {infer} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 20 * 1024 * 1024);
    let answer = exchange(address, head.as_bytes()).await;
    assert!(answer.status == 413 && answer.text.contains("fewer rows"), "{}", answer.text);
    let answer = exchange(address, &request("POST", infer, None, "", &vec![b' '; 20 * 1024 * 1024])).await;
    assert!(answer.status == 413 || answer.text.is_empty(), "{}", answer.text);
    let head =
        r#"{"inputs":[{"name":"image","shape":[1,64],"datatype":"FP32","parameters":{"binary_data_size":256}}]}"#;
    for (length, tail, says) in [("99999", 256, "99999"), ("-1", 256, "-1"), ("x", 256, "x"), ("", 256, "expected")] {
        binary(address, length, head, tail, says).await;
    }
    binary(address, &head.len().to_string(), head, 255, "255").await;
    binary(address, &head.len().to_string(), head, 300, "44 bytes follow").await;
    for (path, status) in [("/v2/models/faces/infer", 404), ("/v2/models/digits/versions/9/infer", 404)] {
        assert_eq!(agent.post(path, "{}").await.unwrap().0, status, "{path}");
    }
    // A caller who hangs up in the middle.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        .await
        .unwrap();
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), async {
        assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    })
    .await
    .unwrap();
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    let device = fleet.device("gw-1").await;
    assert_eq!(device.models[0].errors, 0, "a caller's mistake is not the model's");
}

async fn binary(address: &str, length: &str, head: &str, tail: usize, says: &str) {
    let headers = format!("Inference-Header-Content-Length: {length}\r\n");
    let body = [head.as_bytes(), &files::noise(tail)].concat();
    let answer = exchange(address, &request("POST", "/v2/models/digits/infer", None, &headers, &body)).await;
    assert!(answer.status == 400 && answer.text.contains(says), "{length} {tail}: {}", answer.text);
}
