//! What must not happen does not, and says why: wrong models, missing signatures, missing rights.

use bellwether_hub::api::types::{ModelQuery, RegisterRequest, VersionState};
use bellwether_hub::client::{Client, ClientError};
use bellwether_protocol::digest::Digest;
use bellwether_protocol::limit::STATEMENT_BYTES_MAX;
use bellwether_protocol::manifest::{File, FileRole};
use bellwether_protocol::package::{HEADER_BYTES, encode_head};
use bellwether_runtime::{Beside, prepare};
use bellwether_tests::files::data;
use bellwether_tests::{Cli, Fleet, Hub, Ran, files};

fn register(cli: &Cli, file: &str, vectors: Option<&str>) -> Ran {
    let file = data(file).to_string_lossy().into_owned();
    let vectors = vectors.map(|vectors| data(vectors).to_string_lossy().into_owned());
    let mut words = vec!["model", "register", "digits", &file, "--key", "ada"];
    if let Some(vectors) = &vectors {
        words.extend(["--vectors", vectors]);
    }
    cli.run(&words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_computes_something_else_is_refused_by_the_command_line_and_by_the_hub() {
    let fleet = Fleet::start();
    register(&fleet.cli, "digits-linear.onnx", Some("digits-cnn.vectors.npz"))
        .refused(6, &["golden vectors are not reproduced", "nothing was sent"]);

    let refused = register_unchecked(&fleet.api()).await.unwrap_err();
    let problem = refused.problem().expect("the hub answers with a problem").clone();
    assert_eq!((problem.status, problem.code.as_str()), (422, "golden_mismatch"), "{problem:?}");
    assert!(problem.detail.contains("golden vectors"), "{problem:?}");
    assert!(!problem.hint.is_empty());
    assert!(fleet.api().models(&ModelQuery::default()).await.unwrap().items.is_empty());
    let events = fleet.cli.json(&["events", "--kind", "registration_refused"]);
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    fleet.still_serves().await;
}

/// Uploads one network with the vectors of another, packed by somebody who does not check.
async fn register_unchecked(api: &Client) -> Result<u32, ClientError> {
    let model = std::fs::read(data("digits-linear.onnx")).unwrap();
    let vectors = std::fs::read(data("digits-cnn.vectors.npz")).unwrap();
    let mut manifest = prepare(&"digits".parse().unwrap(), "x.onnx", &model, &Beside::default()).unwrap().manifest;
    let file = File {
        name: "vectors.npz".parse().unwrap(),
        role: FileRole::Vectors,
        size: u32::try_from(vectors.len()).unwrap(),
        digest: Digest::of(&vectors),
    };
    manifest.files.push(file).unwrap();
    let mut buffer = vec![0; STATEMENT_BYTES_MAX + HEADER_BYTES];
    let head = encode_head(&manifest, &mut buffer).unwrap();
    let package = [head, &model, &vectors].concat();
    let package = api.put_package(package).await?.digest;
    let source = Digest::of(&model).to_string();
    let request = RegisterRequest { package, source, file_name: "x.onnx".into(), ..RegisterRequest::default() };
    api.register("digits", &request).await.map(|view| view.version)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_onnx_is_kept_with_advice_and_never_rolled_out() {
    let fleet = Fleet::start();
    let ran = register(&fleet.cli, "digits.pkl", None);
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("devices cannot run this file"), "{ran}");
    let view = fleet.api().version("digits", 1).await.unwrap();
    assert!(!view.deployable && view.state == VersionState::Draft, "{view:?}");
    let advice = view.advice.expect("it says how to convert it");
    assert!(advice.contains("skl2onnx") || advice.to_lowercase().contains("onnx"), "{advice}");
    let start = ["rollout", "start", "digits:1", "--stage", "100%"];
    fleet.cli.run(&start).refused(6, &["next:"]);
    fleet.cli.run(&["model", "publish", "digits:1", "--key", "ada"]).refused(6, &["devices cannot run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_files_are_refused_each_with_its_cause() {
    let fleet = Fleet::start();
    let linear = "digits-linear.onnx";
    for (file, vectors, says) in [
        ("bad/truncated.onnx", None, "cut short"),
        ("bad/unsupported-operator.onnx", None, "LpPool"),
        (linear, Some("bad/wrong-shape.vectors.npz"), "63"),
        (linear, Some("bad/missing-output.vectors.npz"), "out/"),
        (linear, Some("bad/wrong-answer.vectors.npz"), "not reproduced"),
        (linear, Some("bad/truncated.vectors.npz"), "vectors"),
        ("bad/not-onnx.onnx", None, "not an ONNX model"),
    ] {
        register(&fleet.cli, file, vectors).refused(6, &[says, "next:"]);
    }
    let missing = ["model", "register", "digits", "/nowhere/model.onnx"];
    fleet.cli.run(&missing).refused(5, &["/nowhere/model.onnx"]);
    let empty = fleet.hub.home().join("empty.onnx");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_string_lossy().into_owned();
    fleet.cli.run(&["model", "register", "digits", &empty]).refused(6, &["empty"]);
    assert!(fleet.api().models(&ModelQuery::default()).await.unwrap().items.is_empty());
    fleet.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_counted_by_person_and_the_missing_ones_are_named() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let start = ["rollout", "start", "digits:1", "--stage", "100%"];
    fleet.cli.run(&start).refused(6, &["0 given", "2 needed", "bellwether approve digits:1"]);
    fleet.cli.run(&["approve", "digits:1", "--key", "ada-approves"]).refused(6, &["Ada"]);
    fleet.cli.run(&["approve", "digits:1", "--key", "ada"]).refused(4, &["ada may not approve"]);
    fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    // The very same signature again changes nothing; another key of the same person is refused.
    fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    fleet.cli.run(&["approve", "digits:1", "--key", "bo-again"]).refused(6, &["Bo", "another approver"]);
    fleet.cli.run(&start).refused(6, &["1 given", "2 needed", "bellwether approve digits:1"]);
    let grant = ["grant", "digits:1", "--percent", "100", "--key", "bo"];
    fleet.cli.run(&grant).refused(6, &["not approved"]);
    let view = fleet.api().version("digits", 1).await.unwrap();
    assert_eq!((view.approvals.given.len(), view.approvals.needed), (1, 2));
    fleet.cli.ok(&["approve", "digits:1", "--key", "cy"]);
    fleet.cli.ok(&start);
    // Without a grant the rollout waits for a person, and says for what.
    let status = ["rollout", "status", "--timeout", "10"];
    fleet.cli.run(&status).refused(8, &["bellwether grant digits:1 --percent 100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_has_or_should_have_stays() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    fleet.cli.run(&["model", "delete", "digits:1"]).refused(6, &["digits:1", "roll out another version first"]);
    let problem = fleet.api().delete_version("digits", 1).await.unwrap_err();
    let problem = problem.problem().unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (409, "in_use"));
    fleet.cli.ok(&["model", "delete", "digits:2"]);
    fleet.cli.run(&["model", "show", "digits:2"]).refused(5, &["digits:2"]);
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    // A number is never given twice.
    let ran = fleet.register("digits", "digits-cnn");
    assert!(ran.stdout.contains("digits:3") || ran.stdout.contains(" 3"), "{ran}");
    assert_eq!(fleet.api().model("digits").await.unwrap().model.latest, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_does_more_than_their_token_allows() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let linear = data("digits-linear.onnx").to_string_lossy().into_owned();
    let register: &[&str] = &["model", "register", "digits", &linear];
    let approve: &[&str] = &["approve", "digits:1", "--key", "bo"];
    let rollout: &[&str] = &["rollout", "start", "digits:1", "--stage", "100%"];
    let device: &[&str] = &["device", "token"];
    let token: &[&str] = &["token", "new", "more", "--role", "admin"];
    let backup = fleet.hub.home().join("stolen.bwb").to_string_lossy().into_owned();
    let backup: &[&str] = &["backup", &backup];
    let delete: &[&str] = &["model", "delete", "digits:1"];
    let all = [register, approve, rollout, device, token, backup, delete];
    for (role, may) in [
        ("viewer", [].as_slice()),
        ("operator", &[rollout, device]),
        ("publisher", &[register]),
        ("approver", &[approve]),
    ] {
        let cli = fleet.cli_as(role);
        cli.ok(&["model", "list"]);
        for words in all.iter().filter(|words| !may.contains(words)) {
            cli.run(words).refused(4, &[&format!("has the role {role}"), "next:"]);
        }
    }
    for token in [None, Some("bwt_0000"), Some("")] {
        let cli = fleet.cli.with_token(token);
        cli.run(&["model", "list"]).refused(4, &["bellwether login"]);
    }
    fleet.cli.run(&["root", "init", "--publisher", "ada", "--approver", "bo"]).refused(6, &[]);
    assert_eq!(fleet.api().model("digits").await.unwrap().items.len(), 1);
}

#[test]
fn a_configuration_that_is_wrong_names_what_is() {
    let home = bellwether_tests::hub::folder();
    let file = home.path().join("wrong.toml");
    let said = |program: &str, text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(files::binary(program));
        if program == "bellwether-hub" {
            command.arg("serve");
        }
        let output = command.arg("--config").arg(&file).arg("--data").arg(home.path().join("d")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (program, text, code, says) in [
        ("bellwether-hub", "lisen = \"127.0.0.1:0\"", 1, "`listen`"),
        ("bellwether-hub", "listen = 5", 1, "listen"),
        ("bellwether-hub", "broker = \"nonsense\"", 1, "embedded://"),
        ("bellwether-agent", "heartbeat = 5", 2, "`heartbeat_ms`"),
        ("bellwether-agent", "heartbeat_ms = 5", 2, "500 to"),
        ("bellwether-agent", "name = \"a b\"\ntoken = \"bw1.x\"", 2, ""),
        ("bellwether-agent", "", 2, "--token"),
    ] {
        let (got, stderr) = said(program, text);
        assert_eq!(got, Some(code), "{program}: {text}\n{stderr}");
        assert!(stderr.contains(says) && !stderr.contains("panicked"), "{program}: {text}\n{stderr}");
    }
    let missing = Hub::command(&["restore", "/nowhere/backup", "--data", "/nowhere/else"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere/backup"));
}
