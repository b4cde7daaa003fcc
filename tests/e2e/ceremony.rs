//! What people sign, wherever their keys are and whether the hub can be reached or not.

use std::path::Path;

use bellwether_hub::api::types::KeyRequestRequest;
use bellwether_tests::fleet::runs;
use bellwether_tests::hub::folder;
use bellwether_tests::keepers::{SoftToken, SshAgent};
use bellwether_tests::{Cli, Fleet, Hub};
use serde_json::Value;

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

/// Registers the linear digits, has it approved by these keys of this command line, rolls it out,
/// and expects that a device runs it.
async fn approved_by_it_runs(fleet: &Fleet, cli: &Cli, approvers: [&str; 2], grants: &str) {
    fleet.register("digits", "digits-linear");
    for key in approvers {
        cli.ok(&["approve", "digits:1", "--key", key]);
    }
    let _agent = fleet.agent("gw-1");
    let start = ["rollout", "start", "digits:1", "--stage", "100%", "--soak-seconds", "1", "--key", grants];
    cli.ok(&start);
    fleet.device_until("gw-1", "running version 1", |device| runs(device) == Some(1)).await;
}

fn keys(fleet: &Fleet, keys: &[(&str, &str, &str)]) {
    for (key, person, role) in keys {
        fleet.cli.ok(&["key", "new", key, "--person", person, "--role", role]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_an_ssh_agent_approves_what_a_device_then_runs() {
    let fleet = Fleet::without_root(Hub::start());
    keys(&fleet, &[("ada", "Ada", "publish"), ("cy", "Cy", "approve")]);
    let adopt = ["key", "new", "bo", "--person", "Bo", "--role", "approve", "--class", "ssh-agent"];
    fleet.cli.run(&adopt).refused(5, &["SSH_AUTH_SOCK", "ssh-agent"]);
    let agent = SshAgent::start();
    let cli = agent.session(&fleet.cli);
    cli.run(&adopt).refused(5, &["no Ed25519 key", "ssh-add"]);
    agent.add_key("bo@desk");
    agent.add_key("bo@laptop");
    cli.run(&adopt).refused(6, &["bo@desk", "bo@laptop", "--identity"]);
    let made = cli.json(&[&adopt[..], &["--identity", "bo@laptop"]].concat());
    assert_eq!(made["class"], "ssh-agent");
    assert!(!fleet.config().join("keys/bo.key").exists(), "the private half stays where it is");
    cli.ok(&["root", "init", "--publisher", "ada", "--approver", "bo", "--approver", "cy"]);
    let listed = cli.json(&["root", "show"]);
    let bo = listed.as_array().unwrap().iter().find(|key| key["person"] == "Bo").unwrap().clone();
    assert_eq!((bo["class"].as_str(), &bo["public"]), (Some("ssh-agent"), &made["public"]));
    approved_by_it_runs(&fleet, &cli, ["bo", "cy"], "bo").await;
    fleet.cli.run(&["approve", "digits:1", "--key", "bo"]).refused(5, &["SSH_AUTH_SOCK"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_token_approves_what_a_device_then_runs() {
    let fleet = Fleet::without_root(Hub::start());
    keys(&fleet, &[("ada", "Ada", "publish"), ("bo", "Bo", "approve")]);
    let token = SoftToken::make("people");
    let cli = token.session(&fleet.cli);
    let module = token.module();
    let words = ["key", "new", "cy", "--person", "Cy", "--role", "approve", "--class", "pkcs11", "--module"];
    let with = |module: &str, token: &str| -> Vec<String> {
        words.iter().copied().chain([module, "--token", token]).map(str::to_owned).collect()
    };
    fleet.cli.run(&words[..words.len() - 1]).refused(2, &["--module", "--token"]);
    cli.run(&with("/nowhere/module.so", "people")).refused(5, &["/nowhere/module.so"]);
    cli.run(&with(&module, "others")).refused(5, &["others", "people"]);
    token.plugged(&fleet.cli).run(&with(&module, "people")).refused(2, &["BELLWETHER_PIN"]);
    let wrong = token.plugged(&fleet.cli).with("BELLWETHER_PIN", "0000");
    wrong.run(&with(&module, "people")).refused(4, &["PIN"]);
    let made = cli.json(&with(&module, "people"));
    assert_eq!((made["class"].as_str(), made["token"].as_str()), (Some("pkcs11"), Some("people")));
    assert!(!fleet.config().join("keys/cy.key").exists(), "the private half stays where it is");
    // The same key under another name: it is found in the token, not made anew.
    let again: Vec<String> = with(&module, "people")
        .into_iter()
        .map(|word| if word == "cy" { "cy-again".to_owned() } else { word })
        .collect();
    let adopted = cli.json(&[&again[..], &["--identity".to_owned(), "cy".to_owned()]].concat());
    assert_eq!(adopted["public"], made["public"]);
    cli.ok(&["root", "init", "--publisher", "ada", "--approver", "bo", "--approver", "cy"]);
    approved_by_it_runs(&fleet, &cli, ["bo", "cy"], "cy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_root_is_signed_on_two_machines_and_sent_when_it_is_complete() {
    let fleet = Fleet::without_root(Hub::start());
    let (theirs, files) = (folder(), folder());
    let cy = Cli::new("http://127.0.0.1:9", None, theirs.path());
    keys(&fleet, &[("ada", "Ada", "publish"), ("bo", "Bo", "approve"), ("wit", "Wit", "witness")]);
    cy.ok(&["key", "new", "cy", "--person", "Cy", "--role", "approve"]);
    let public = path(theirs.path(), "keys/cy.pub");
    let init = ["root", "init", "--publisher", "ada", "--approver", "bo", "--approver", &public, "--witness", "wit"];
    fleet.cli.run(&init).refused(5, &["1 given (Bo), 2 needed", "--out"]);
    let file = path(files.path(), "root-1.json");
    let more = ["--root-threshold", "2", "--offline-approval", "--prefix", "bo=dig", "--out", &file];
    fleet.cli.ok(&[&init[..], &more].concat());
    let waits = fleet.cli.run(&["status", &file]);
    waits.refused(8, &["a root takes 2 persons", "only dig*", "Wit may witness", "outside browsers", "hub may time"]);
    fleet.cli.run(&["submit", &file]).refused(8, &["1 given (Bo), 2 needed"]);
    fleet.cli.run(&["sign", &file, "--key", "ada"]).refused(4, &["ada may not sign this root"]);
    cy.ok(&["sign", &file, "--key", "cy"]);
    fleet.cli.ok(&["status", &file]);
    let hub: Value = serde_json::to_value(fleet.api().hub().await.unwrap()).unwrap();
    assert_eq!(hub["fleet"], Value::Null, "nothing was sent yet");
    fleet.cli.ok(&["submit", &file]);
    let shown = fleet.cli.json(&["root", "show"]);
    let may = |key: &Value| (key["person"].clone(), key["prefix"].clone());
    assert!(shown.as_array().unwrap().iter().any(|key| may(key) == ("Bo".into(), "dig".into())), "{shown}");
    approved_by_it_runs(&fleet, &with_key_of(&fleet, theirs.path()), ["bo", "cy"], "bo").await;
}

/// The admin's command line, after somebody brought their key.
fn with_key_of(fleet: &Fleet, theirs: &Path) -> Cli {
    for file in ["cy.key", "cy.pub"] {
        std::fs::copy(theirs.join("keys").join(file), fleet.config().join("keys").join(file)).unwrap();
    }
    fleet.cli.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_signed_by_two_persons_by_file_takes_a_key_in() {
    let fleet = Fleet::start();
    let (theirs, files) = (folder(), folder());
    let dee = Cli::new(&fleet.hub.url, Some(&fleet.hub.token), theirs.path());
    dee.ok(&["key", "new", "dee", "--person", "Dee", "--role", "approve"]);
    let public = path(theirs.path(), "keys/dee.pub");
    let file = path(files.path(), "root-2.json");
    let draft = ["key", "enroll", &public, "--role", "approve", "--role", "grant", "--key", "bo", "--out", &file];
    let drafted = fleet.cli.ok(&draft);
    assert!(drafted.stderr.contains("+ Dee may approve and grant"), "{drafted}");
    let elsewhere = fleet.cli.offline();
    elsewhere.run(&["status", &file]).refused(8, &["+ Dee may approve"]);
    // A second key of one person makes no second person.
    elsewhere.ok(&["sign", &file, "--key", "bo-again"]);
    let standing = elsewhere.run(&["status", &file, "-o", "json"]);
    assert_eq!(standing.code, 8, "{standing}");
    let needs: Value = serde_json::from_str(&standing.stdout).unwrap();
    assert_eq!(needs["needs"][0]["given"], serde_json::json!(["Bo"]));
    fleet.cli.run(&["submit", &file]).refused(8, &["1 given (Bo), 2 needed"]);
    dee.run(&["sign", &file, "--key", "dee"]).refused(4, &["not pinned here", "--fleet"]);
    elsewhere.ok(&["sign", &file, "--key", "cy"]);
    elsewhere.ok(&["status", &file]);
    fleet.cli.ok(&["submit", &file]);
    assert_eq!(fleet.api().root().await.unwrap().version, 2);
    dee.ok(&["root", "pin", &fleet.api().hub().await.unwrap().fleet.unwrap()]);
    fleet.register("digits", "digits-linear");
    dee.ok(&["approve", "digits:1", "--key", "dee"]);
    fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    let _agent = fleet.agent("gw-1");
    fleet.cli.ok(&["rollout", "start", "digits:1", "--stage", "100%", "--soak-seconds", "1", "--key", "bo"]);
    fleet.device_until("gw-1", "running version 1", |device| runs(device) == Some(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_asked_to_be_listed_is_taken_in_by_its_id() {
    let fleet = Fleet::start();
    let (theirs, files) = (folder(), folder());
    let dee = Cli::new(&fleet.hub.url, Some(&fleet.hub.token), theirs.path());
    let made = dee.json(&["key", "new", "dee", "--person", "Dee", "--role", "approve"]);
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    let request = KeyRequestRequest {
        public: text("public"),
        person: "Dee".to_owned(),
        class: "file".to_owned(),
        name: "dee".to_owned(),
    };
    let asked = fleet.api().request_key(&request).await.unwrap();
    assert_eq!(asked.id, text("id"));
    let file = path(files.path(), "root-2.json");
    let by = fleet.api().root_keys().await.unwrap().signed_by;
    assert_eq!(by, ["Ada", "Bo", "Cy"], "each person once, though two of them have two keys");
    let enroll = |id: &str| {
        let more = ["--role", "approve", "--key", "bo", "--key", "cy", "--out", &file];
        fleet.cli.run(&[&["key", "enroll", "--request", id][..], &more].concat())
    };
    enroll(&"0".repeat(32)).refused(5, &["no request", "its owner sees the id"]);
    let drafted = enroll(&asked.id);
    assert_eq!(drafted.code, 0, "{drafted}");
    for said in ["compare with Dee", &asked.id, "kept in a file, by the word", "+ Dee may approve"] {
        assert!(drafted.stderr.contains(said), "`{said}` is not in {drafted}");
    }
    fleet.cli.ok(&["submit", &file]);
    assert!(fleet.api().key_requests().await.unwrap().items.is_empty(), "it is answered");
    fleet.register("digits", "digits-linear");
    dee.ok(&["root", "pin", &fleet.api().hub().await.unwrap().fleet.unwrap()]);
    dee.ok(&["approve", "digits:1", "--key", "dee"]);
    enroll(&asked.id).refused(5, &["no request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_approval_of_a_revoked_key_counts_no_more_and_that_of_a_retired_one_does() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    fleet.approve("digits:1");
    let files = folder();
    let rotate = |verb: &str, version: u32| {
        let file = path(files.path(), &format!("root-{version}.json"));
        let keys = ["--key", "bo", "--key", "ada-approves", "--out", &file];
        fleet.cli.ok(&[&["key", verb, "cy"][..], &keys].concat());
        fleet.cli.ok(&["submit", &file]);
    };
    let grant = ["grant", "digits:1", "--percent", "100", "--key", "bo"];
    rotate("retire", 2);
    fleet.cli.ok(&grant);
    fleet.cli.run(&["approve", "digits:1", "--key", "cy"]).refused(4, &["no longer in use"]);
    rotate("revoke", 3);
    fleet.cli.run(&grant).refused(6, &["not approved", "revoked"]);
    let start = ["rollout", "start", "digits:1", "--stage", "100%"];
    let refused = fleet.cli.run(&start);
    assert_ne!(refused.code, 0, "{refused}");
    let shown = fleet.cli.json(&["root", "show"]);
    let cy = shown.as_array().unwrap().iter().find(|key| key["person"] == "Cy").unwrap();
    assert_eq!(cy["status"], "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_hides_a_rotation_is_not_believed() {
    let fleet = Fleet::start();
    let files = folder();
    let file = path(files.path(), "root-2.json");
    fleet.cli.ok(&["root", "rotate", "--grant-threshold", "2", "--key", "bo", "--key", "cy", "--out", &file]);
    fleet.cli.ok(&["submit", &file]);
    fleet.cli.ok(&["root", "show"]);
    // As if the next version had been seen here before the hub was put back.
    std::fs::write(
        fleet.config().join("roots.json"),
        format!("{{\"{}\": \"3\"}}", fleet.api().hub().await.unwrap().fleet.unwrap()),
    )
    .unwrap();
    fleet.cli.run(&["root", "show"]).refused(6, &["root version 2", "3 was seen here"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_is_verified_where_no_hub_is() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let files = folder();
    let (package, early, late) =
        (path(files.path(), "digits.bwp"), path(files.path(), "early.json"), path(files.path(), "late.json"));
    fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    fleet.cli.ok(&["model", "download", "digits:1", &package, "--release", &early]);
    let offline = fleet.cli.offline();
    offline.ok(&["verify", &package]);
    offline.run(&["verify", &package, "--release", &early]).refused(8, &["1 given (Bo), 2 needed", "not approved"]);
    // An approval given offline completes it, and the hub takes it later.
    std::fs::copy(&early, &late).unwrap();
    offline.ok(&["sign", &late, "--key", "cy"]);
    let found = offline.json(&["verify", &package, "--release", &late]);
    assert_eq!((&found["signatures"]["complete"], &found["golden"]), (&true.into(), &true.into()), "{found}");
    assert!(found["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{found}");
    let stranger = Cli::new("http://127.0.0.1:9", None, files.path());
    stranger.run(&["verify", &package, "--release", &late]).refused(4, &["not pinned here"]);
    let known = fleet.api().hub().await.unwrap().fleet.unwrap();
    stranger.ok(&["verify", &package, "--release", &late, "--fleet", &known]);
    let mut bytes = std::fs::read(&package).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let damaged = path(files.path(), "damaged.bwp");
    std::fs::write(&damaged, bytes).unwrap();
    offline.run(&["verify", &damaged, "--release", &late]).refused(6, &["does not hold"]);
    offline.run(&["verify", "/nowhere/digits.bwp"]).refused(5, &["/nowhere/digits.bwp"]);
    fleet.cli.ok(&["submit", &late]);
    let view = fleet.api().version("digits", 1).await.unwrap();
    assert_eq!(view.approvals.given.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn approving_shows_what_changes_and_signs_nothing_when_only_asked() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let _agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let found = fleet.cli.json(&["approve", "digits:2", "--dry-run"]);
    assert_eq!(found["against"]["running"], 1, "{found}");
    let differs: Vec<&str> =
        found["against"]["signed"].as_array().unwrap().iter().filter_map(|one| one["what"].as_str()).collect();
    assert!(differs.contains(&"source") && differs.contains(&"size"), "{found}");
    assert!(found["salt"]["from"].as_str().unwrap().contains("publisher's command line"));
    fleet.register("digits", "digits-linear");
    fleet.cli.ok(&["approve", "digits:3", "--key", "bo", "--dry-run"]);
    assert_eq!(fleet.api().version("digits", 3).await.unwrap().approvals.given.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_grant_needs_somebody_healthy_and_travels_as_a_file() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.cli.ok(&["grant", "digits:1", "--device", "gw-1", "--key", "bo"]);
    let wide = ["grant", "digits:1", "--percent", "100", "--key", "bo"];
    fleet.cli.run(&wide).refused(6, &["none is healthy", "--force"]);
    fleet.cli.ok(&["rollout", "start", "digits:1", "--stage", "device=gw-1", "--soak-seconds", "1"]);
    fleet.cli.ok(&["rollout", "status", "--timeout", "40"]);
    let files = folder();
    let file = path(files.path(), "grant.json");
    let written = fleet.cli.ok(&[&wide[..], &["--out", &file]].concat());
    assert!(written.stderr.contains("of 1 devices 1 healthy, 0 on the way, by their own signed reports"), "{written}");
    let found = fleet.cli.json(&["audit", "verify"]);
    assert_eq!(found["devices"], 1, "the device holds a head of the chain: {found}");
    let status = fleet.cli.offline().ok(&["status", &file]);
    assert!(status.stderr.contains("digits:1 may reach 100 % of the fleet"), "{status}");
    assert_eq!(fleet.api().grants("digits", 1).await.unwrap().items.len(), 1);
    fleet.cli.ok(&["submit", &file]);
    assert_eq!(fleet.api().grants("digits", 1).await.unwrap().items.len(), 2);
    drop(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_approver_recalls_a_version_and_a_checkpoint_carries_it() {
    let fleet = Fleet::start();
    fleet.two_versions();
    let agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    fleet.roll_out("digits:2");
    fleet.cli.run(&["recall", "digits:2", "--key", "ada"]).refused(4, &["ada may not recall"]);
    let recalled = fleet.cli.ok(&["recall", "digits:2", "--key", "bo"]);
    assert!(recalled.stderr.contains("RECALLED") && recalled.stderr.contains("it goes on answering"), "{recalled}");
    fleet.device_until("gw-1", "back on version 1", |device| runs(device) == Some(1)).await;
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)));
    let refused = fleet.cli.run(&["rollout", "start", "digits:2", "--stage", "100%"]);
    assert_ne!(refused.code, 0, "{refused}");

    let files = folder();
    let file = path(files.path(), "checkpoint.json");
    let first = fleet.cli.ok(&["checkpoint", "--key", "cy"]);
    assert!(first.stderr.contains("checkpoint 1") && first.stderr.contains("recalled: digits"), "{first}");
    let floor = ["checkpoint", "--floor", "digits:1", "--key", "bo"];
    fleet.cli.run(&floor).refused(4, &["checkpoint does not hold", "--out FILE"]);
    fleet.cli.ok(&[&floor[..], &["--out", &file]].concat());
    fleet.cli.offline().run(&["status", &file]).refused(8, &["checkpoint 2", "no digits below version 1"]);
    fleet.cli.offline().ok(&["sign", &file, "--key", "cy"]);
    fleet.cli.ok(&["submit", &file]);
    let latest = fleet.api().checkpoint().await.unwrap().expect("a checkpoint was signed");
    assert_eq!((latest.number, latest.recalls, latest.floors.len()), (2, 1, 1));
    let lower = ["checkpoint", "--floor", "digits:1", "--key", "bo", "--key", "cy"];
    fleet.cli.ok(&lower);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_release_is_approved_anew_and_installed() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    fleet.approve("digits:1");
    let before = fleet.api().release("digits", 1).await.unwrap().digest;
    fleet.cli.run(&["model", "publish", "digits:1", "--key", "ada"]).refused(6, &["published before", "--renew"]);
    fleet.cli.ok(&["model", "publish", "digits:1", "--key", "ada", "--renew", "--valid-days", "30"]);
    assert_ne!(fleet.api().release("digits", 1).await.unwrap().digest, before);
    assert_eq!(fleet.api().version("digits", 1).await.unwrap().approvals.given.len(), 0);
    let shown = fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    assert!(shown.stderr.contains("may be newly installed from epoch"), "{shown}");
    fleet.cli.ok(&["approve", "digits:1", "--key", "cy"]);
    let _agent = fleet.agent("gw-1");
    fleet.roll_out("digits:1");
    let device = fleet.device_until("gw-1", "running version 1", |device| runs(device) == Some(1)).await;
    let active = device.models[0].active.clone().unwrap();
    assert_eq!(active.release, fleet.api().release("digits", 1).await.unwrap().digest);
}
