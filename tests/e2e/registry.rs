//! Version numbers: one for each registration, whoever asks at the same time.

use std::collections::BTreeSet;

use bellwether_hub::api::types::RegisterRequest;
use bellwether_protocol::id::ModelName;
use bellwether_runtime::{Beside, prepare};
use bellwether_tests::{Fleet, files};

const REGISTRATIONS: u32 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_registrations_at_once_get_a_hundred_numbers() {
    let fleet = Fleet::start();
    let name: ModelName = "notes".parse().unwrap();
    let pickle = std::fs::read(files::data("digits.pkl")).unwrap();
    let prepared = prepare(&name, "digits.pkl", &pickle, &Beside::default()).unwrap();
    let api = fleet.api();
    let package = api.put_package(prepared.package.clone()).await.unwrap();
    let registrations = (0..REGISTRATIONS).map(|number| {
        let (api, package) = (api.clone(), package.digest.clone());
        let request = RegisterRequest {
            package,
            source: prepared.source.to_string(),
            file_name: "digits.pkl".to_owned(),
            tags: [("number".to_owned(), number.to_string())].into(),
            ..RegisterRequest::default()
        };
        tokio::spawn(async move { api.register("notes", &request).await })
    });
    let mut versions = BTreeSet::new();
    for registration in registrations.collect::<Vec<_>>() {
        let view = registration.await.unwrap().unwrap();
        assert!(versions.insert(view.version), "{} was given twice", view.version);
    }
    assert_eq!(versions, (1..=REGISTRATIONS).collect());

    let detail = api.model("notes").await.unwrap();
    let numbers: BTreeSet<_> = detail.items.iter().map(|version| version.tags["number"].clone()).collect();
    assert_eq!((detail.items.len(), numbers.len()), (100, 100), "no registration overwrote another");
    let mut registered = 0;
    for event in api
        .events(&bellwether_hub::api::types::EventQuery {
            limit: Some(500),
            kind: Some("version_registered".to_owned()),
            ..Default::default()
        })
        .await
        .unwrap()
        .items
    {
        registered += 1;
        assert_eq!(event.version, Some(registered), "the audit trail has each in order");
    }
    assert_eq!(registered, REGISTRATIONS);
}
