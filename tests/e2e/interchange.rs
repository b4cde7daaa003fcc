//! A release for others: an in-toto statement in a DSSE envelope, verified by somebody else's
//! library, that quotes what people signed and devices get.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::api::types::{AttestationView, PREDICATE_TYPE};
use bellwether_protocol::frame;
use bellwether_protocol::trust::{FleetId, KeyId, PublicKey, Signed, TrustedRoot};
use bellwether_tests::Fleet;
use bellwether_tests::files::venv_python;
use bellwether_tests::raw::RawDevice;
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/dsse_reader.py");

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_release_verifies_elsewhere_and_quotes_what_devices_get() {
    let fleet = Fleet::start();
    fleet.register("digits", "digits-linear");
    let file = fleet.hub.home().join("digits-1.dsse.json");
    let words = ["model", "export", "digits:1", "--out", &file.to_string_lossy()].map(str::to_owned);
    fleet.cli.run(&words).refused(6, &["0 given, 2 needed", "approve digits:1"]);
    fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    fleet.cli.run(&words).refused(6, &["1 given, 2 needed"]);
    fleet.cli.run(&["model", "export", "digits:9"]).refused(5, &["digits:9"]);
    fleet.cli.ok(&["approve", "digits:1", "--key", "cy"]);
    fleet.cli_as("viewer").ok(&words);

    let attested = verified_elsewhere(&fleet, &file).await;
    let package = fleet.api().version("digits", 1).await.unwrap().package.digest;
    assert_eq!(attested.kind, "https://in-toto.io/Statement/v1");
    assert_eq!(attested.predicate_type, PREDICATE_TYPE);
    assert_eq!((attested.subject.len(), attested.subject[0].name.as_str()), (1, "digits:1"));
    assert_eq!(attested.subject[0].digest["sha256"], package);
    let said = &attested.predicate;
    assert_eq!((said.model.as_str(), said.version), ("digits", 1));
    assert!(said.golden.checked && said.golden.rows.is_some_and(|rows| rows > 0), "{:?}", said.golden);
    assert!(said.attested.contains("native signatures"), "{}", said.attested);
    let person = |person: &str, among: &[bellwether_hub::api::types::AttestedSigner]| {
        among.iter().any(|signer| signer.person == person)
    };
    assert!(said.publisher.len() == 1 && person("Ada", &said.publisher));
    assert!(said.approvers.len() == 2 && person("Bo", &said.approvers) && person("Cy", &said.approvers));

    // Without believing the hub: the fleet id alone, as a device has it from its token.
    let device = RawDevice::enrol(&fleet, "gw-1").await;
    let read = |text: &String| STANDARD.decode(text).unwrap();
    let root = read(&said.roots[0]);
    let root = TrustedRoot::first(device.fleet, &frame::decode(&root).unwrap()).unwrap();
    assert_eq!((said.fleet.parse(), said.roots.len()), (Ok::<FleetId, _>(device.fleet), 1));
    let quoted = read(&said.release);
    let release: Signed<'_> = frame::decode(&quoted).unwrap();
    let approved = root.approve(&release).unwrap();
    assert_eq!(approved.digest().to_string(), said.release_digest);
    assert_eq!(approved.release().package.digest.to_string(), package);
    let named: Vec<KeyId> =
        said.publisher.iter().chain(&said.approvers).map(|signer| signer.keyid.parse().unwrap()).collect();
    assert_eq!(named.len(), release.signatures.len());
    assert!(release.signatures.iter().all(|given| named.iter().any(|id| given.key.names(*id))), "{named:?}");

    // And it is, byte for byte, what the hub has for devices.
    assert_eq!(read(&fleet.api().release("digits", 1).await.unwrap().statement), quoted);

    // On stdout the same, for a pipe, whatever form other commands have.
    let printed: Value = serde_json::from_str(&fleet.cli.ok(&["model", "export", "digits:1"]).stdout).unwrap();
    let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(printed, written);
    // Once it is recalled, the hub attests it no more.
    fleet.cli.ok(&["recall", "digits:1", "--key", "bo"]);
    fleet.cli.run(&["model", "export", "digits:1"]).refused(1, &["recalled"]);
}

/// The statement in an envelope, by the word of securesystemslib, which knows only the registry's key.
async fn verified_elsewhere(fleet: &Fleet, file: &std::path::Path) -> AttestationView {
    let keys = fleet.api().root_keys().await.unwrap().keys;
    let registry = keys.into_iter().find(|key| key.roles == ["registry"]).unwrap();
    let public: PublicKey = registry.public.parse().unwrap();
    assert_eq!(public.id().to_string(), registry.id);
    let python =
        Command::new(venv_python()).arg(SCRIPT).arg(file).args([&registry.id, &hex::encode(public.0)]).output();
    let output = python.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let mut verdict: Value = serde_json::from_str(&said).unwrap();
    assert!(verdict["refused"].as_u64().unwrap() > 20, "{verdict}");
    serde_json::from_value(verdict["statement"].take()).unwrap()
}
