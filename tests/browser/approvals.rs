//! Approving in the browser: a key is made there, the root lists it, it signs and signs again after
//! a reload; who may not sign is told why; an address that is not secure names the command.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_hub::api::types::{KeyRequestView, VersionState, VersionView};
use bellwether_protocol::trust::{FleetId, KeyClass, KeyEntry, KeyStatus, RoleSet, Root, Signed, Thresholds, sign};
use bellwether_protocol::{SigningKey, frame, heapless};
use bellwether_tests::files::data;
use bellwether_tests::wait::{wait_for, wait_until};
use bellwether_tests::{Fleet, Hub};
use serde_json::json;

use super::driver::Browser;
use super::{HOSTILE, HOSTILE_SCRIPT};

/// A fleet whose root lists a key that was made in this browser, which is still open.
struct Story {
    fleet: Fleet,
    browser: Browser,
    request: KeyRequestView,
}

impl Story {
    /// Makes `person`'s key in the browser, then a root that lists it beside Ada's (publishes), Bo's
    /// and Cy's (approve).
    async fn begin(person: &str, offline_approval: bool) -> Self {
        let fleet = Fleet::without_root(Hub::start());
        let browser = Browser::open(&fleet.hub).await;
        browser.log_in(&fleet.hub.code).await;
        let request = make_key(&fleet, &browser, person).await;
        for (key, person, role) in [("ada", "Ada", "publish"), ("bo", "Bo", "approve"), ("cy", "Cy", "approve")] {
            fleet.cli.ok(&["key", "new", key, "--person", person, "--role", role]);
        }
        set_root(&fleet, &request, offline_approval).await;
        Self { fleet, browser, request }
    }

    /// Registers `tests/data/digits-linear.onnx`, published by Ada with a comment.
    fn publish(&self, comment: &str) {
        let (model, vectors) = (data("digits-linear.onnx"), data("digits-linear.vectors.npz"));
        let (model, vectors) = (model.to_string_lossy(), vectors.to_string_lossy());
        let words = ["model", "register", "digits", &model, "--vectors", &vectors, "--key", "ada"];
        self.fleet.cli.ok(&[&words[..], &["--description", comment]].concat());
    }

    async fn version(&self, number: u32) -> VersionView {
        self.fleet.api().version("digits", number).await.unwrap()
    }

    /// Opens the page of a version and waits until the script has looked at it.
    async fn review(&self, version: u32) {
        self.browser.go(&format!("/approvals/digits/{version}")).await;
        self.browser.until_live().await;
        self.browser.until("#sign-key", "of this browser").await;
    }

    /// Types the version and signs.
    async fn sign(&self, version: u32) {
        self.browser.until("#sign-why", &format!("Type {version} to confirm")).await;
        assert_eq!(self.browser.count("#sign-now:not([disabled])").await, 0, "nothing is signed by a slip");
        self.browser.find("#sign-typed").await.send_keys(&version.to_string()).await.unwrap();
        self.browser.click("#sign-now").await;
        self.browser.until("#sign-done", "Signed as").await;
    }
}

async fn make_key(fleet: &Fleet, browser: &Browser, person: &str) -> KeyRequestView {
    browser.go("/keys").await;
    browser.until_live().await;
    browser.find("#key-person").await.send_keys(person).await.unwrap();
    browser.find("#key-name").await.send_keys("its-laptop").await.unwrap();
    browser.click("#browser-key-make").await;
    browser.until("#browser-key-state", "asks to be listed").await;
    let requests = fleet.api().key_requests().await.unwrap().items;
    let [request] = requests.as_slice() else { panic!("one key asks to be listed: {requests:?}") };
    assert_eq!((request.person.as_str(), request.class.as_str()), (person, "browser"));
    browser.until("#browser-key-command", &format!("bellwether key enroll --request {}", request.id)).await;
    browser.until("#key-requests", "its-laptop").await;
    request.clone()
}

/// The key that the command line keeps under this name.
fn kept(fleet: &Fleet, name: &str) -> SigningKey {
    let text = std::fs::read_to_string(fleet.config().join("keys").join(format!("{name}.key"))).unwrap();
    SigningKey::from_bytes(&hex::decode(text.trim()).unwrap().try_into().unwrap())
}

/// Makes and signs the root, as whoever holds the keys would.
async fn set_root(fleet: &Fleet, request: &KeyRequestView, offline_approval: bool) {
    let entry = |public: &str, person: &str, roles, class| KeyEntry {
        public: public.parse().unwrap(),
        person: person.parse().unwrap(),
        roles,
        class,
        prefix: heapless::String::new(),
        status: KeyStatus::Active,
    };
    let approves = RoleSet::APPROVE.with(RoleSet::GRANT).with(RoleSet::ROOT);
    let public = |name: &str| hex::encode(kept(fleet, name).verifying_key().to_bytes());
    let hub = fleet.api().hub().await.unwrap();
    let keys = [
        entry(&public("ada"), "Ada", RoleSet::PUBLISH, KeyClass::File),
        entry(&public("bo"), "Bo", approves, KeyClass::File),
        entry(&public("cy"), "Cy", approves, KeyClass::File),
        entry(&request.public, &request.person, RoleSet::APPROVE.with(RoleSet::GRANT), KeyClass::Browser),
        entry(&hub.director_key, "hub", RoleSet::DIRECTOR, KeyClass::Hub),
        entry(&hub.registry_key, "hub", RoleSet::REGISTRY, KeyClass::Hub),
    ];
    let root = Root {
        version: 1,
        nonce: [7; 16],
        keys: keys.into_iter().collect(),
        thresholds: Thresholds { root: 1, approve: 2, grant: 1 },
        offline_approval,
        director_generation: 1,
        time_generation: 1,
    };
    let mut buffer = vec![0; 4096];
    let body = frame::encode(&root, &mut buffer).unwrap().to_vec();
    let id = FleetId::of_root(&body);
    let signature = sign::<Root>(id, &body, &kept(fleet, "bo")).unwrap();
    let signed = Signed { body: &body, signatures: [signature].into_iter().collect() };
    let mut buffer = vec![0; 8192];
    let statement = STANDARD.encode(frame::encode(&signed, &mut buffer).unwrap());
    fleet.api().put_root(statement).await.unwrap();
    fleet.cli.ok(&["root", "pin", &id.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_in_the_browser_signs_and_after_a_reload_signs_again() {
    let story = Story::begin("Dee", false).await;
    let (browser, api) = (&story.browser, story.fleet.api());
    // The root answers the request: it waits no more, and the page says so by itself.
    browser.until("#browser-key-state", "The root lists it as active").await;
    assert!(api.key_requests().await.unwrap().items.is_empty());
    browser.photograph("keys-browser").await;
    story.publish("two thousand more digits from Lyon");
    story.publish("the same, again");

    // Somebody else looks on: the slot fills before their eyes.
    let watching = Browser::open(&story.fleet.hub).await;
    watching.log_in_with(&story.fleet.hub.token).await;
    watching.go("/approvals/digits/1").await;
    watching.until_live().await;
    watching.until("#sign-why", "This browser has no key yet").await;
    watching.script("window.untouched = 'since before the signature'").await;
    assert_eq!(watching.count("#slots .slot.filled").await, 1, "the publisher's");

    browser.go("/approvals").await;
    browser.until("#waiting", "two thousand more digits from Lyon").await;
    browser.photograph("approvals").await;
    story.review(1).await;
    assert_eq!(browser.text("#policy").await.split(". ").next().unwrap(), "2 of 3 persons");
    browser.photograph("approval").await;
    for width in [390, 320] {
        assert!(browser.content_width(width).await <= u64::from(width), "it scrolls sideways at {width} px");
    }
    let shown = browser.text("#release-digest").await;
    assert_eq!(Some(shown), story.version(1).await.release);
    story.sign(1).await;
    browser.until("#slots", "Dee").await;
    browser.until("#sign-why", "Dee has signed it already").await;

    watching.until("#slots", "Dee").await;
    assert_eq!(watching.count("#slots .slot.filled").await, 2);
    watching.until("#approval-line", "1 given, 2 needed").await;
    assert_eq!(watching.script("return window.untouched").await, "since before the signature");
    watching.close().await;

    // The key outlives the page; the hub counts what it signs like any other signature.
    story.review(2).await;
    story.sign(2).await;
    for version in [1, 2] {
        let given = story.version(version).await.approvals.given;
        assert_eq!(
            given.iter().map(|given| (&given.person, &given.key)).collect::<Vec<_>>(),
            [(&story.request.person, &story.request.id)]
        );
    }
    story.fleet.cli.ok(&["approve", "digits:1", "--key", "bo"]);
    assert_eq!(story.version(1).await.state, VersionState::Approved);
    let exported = "const done = arguments[0]; const ask = indexedDB.open('bellwether', 1); ask.onsuccess = () => { \
                    const all = ask.result.transaction('keys').objectStore('keys').getAll(); all.onsuccess = () => \
                    crypto.subtle.exportKey('pkcs8', all.result[0].pair.privateKey).then(() => done('out'), \
                    (no) => done(no.name)); };";
    assert_eq!(browser.page.execute_async(exported, Vec::new()).await.unwrap(), "InvalidAccessError");
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_publication_and_the_page_says_so_first() {
    let story = Story::begin("Ada", false).await;
    story.publish("mine");
    story.review(1).await;
    story.browser.until("#sign-why", "Ada published digits 1; approval takes other persons").await;
    assert_eq!(story.browser.count("#sign-now:not([disabled]), #sign-typed:not([disabled])").await, 0);
    // The hub refuses it, too: the page's word is not what protects.
    let posted = "const [done] = arguments; (async () => { const m = await import('/assets/statement.js'); \
                  const b = await import('/assets/browser-key.js'); const key = await b.kept(); const d = \
                  document.getElementById('sign-panel').dataset; const held = await \
                  b.ask('/models/digits/versions/1/release'); const body = m.bodyOf(m.unbase64(held.statement)); \
                  const signature = await b.sign(key, m.message(m.RELEASE, m.unhex(d.fleet), body)); const statement = \
                  m.base64(m.statement(body, m.unhex(key.id), signature)); await \
                  b.ask('/models/digits/versions/1/signatures', { statement }); })().then(() => done('taken'), \
                  (no) => done(no.code));";
    assert_eq!(story.browser.page.execute_async(posted, Vec::new()).await.unwrap(), "own_publication");
    assert!(story.version(1).await.approvals.given.is_empty());
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_takes_a_reason_and_stops_the_signing() {
    let story = Story::begin("Dee", true).await;
    story.publish("trained in a hurry");
    story.review(1).await;
    story.browser.until("#slots", "one with a key outside browsers").await;
    story.browser.click("#reject").await;
    story.browser.click("#reject-now").await;
    assert_eq!(story.version(1).await.state, VersionState::AwaitingApproval, "a reason is required");
    story.browser.find("#reject-reason").await.send_keys(&format!("on the test set {HOSTILE}")).await.unwrap();
    story.browser.click("#reject-now").await;
    story.browser.until("#approval-line", "Rejected by admin").await;
    story.browser.photograph("approval-rejected").await;
    story.browser.until("#sign-why", "It was rejected").await;
    let rejection = story.version(1).await.rejection.unwrap();
    assert_eq!(rejection.why, format!("on the test set {HOSTILE}"));
    story.fleet.cli.run(&["approve", "digits:1", "--key", "bo"]).refused(6, &["admin rejected digits:1"]);
    let shown = story.fleet.cli.ok(&["model", "show", "digits:1"]).stdout;
    assert!(shown.contains("rejected") && shown.contains("on the test set"), "{shown}");
    story.browser.go("/approvals").await;
    story.browser.until("#rejected", "on the test set").await;
    story.browser.go("/events").await;
    story.browser.until("#events", "digits:1 rejected by admin").await;
    assert!(story.browser.script("return window.hacked ?? null").await.is_null());
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_words_of_a_publisher_or_a_key_run_no_script() {
    let story = Story::begin("Dee", false).await;
    story.publish(HOSTILE_SCRIPT);
    let public = hex::encode(SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes());
    let request = json!({ "public": public, "person": HOSTILE, "class": "file", "name": HOSTILE });
    story.fleet.api().request_key(&serde_json::from_value(request).unwrap()).await.unwrap();
    for page in ["/approvals", "/approvals/digits/1", "/keys", "/events"] {
        story.browser.go(page).await;
        story.browser.until_live().await;
        assert!(story.browser.script("return window.hacked ?? null").await.is_null(), "{page} ran a script");
        assert_eq!(story.browser.count("main img, main script, main [onerror], main [style]").await, 0, "{page}");
    }
    story.browser.go("/approvals/digits/1").await;
    assert!(story.browser.text("#comment").await.contains("window.hacked=2"), "it is shown as it is");
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_secure_shows_the_command_instead() {
    let story = Story::begin("Dee", false).await;
    story.publish("seen from afar");
    let far = Browser::elsewhere(&story.fleet.hub, "hub.example").await;
    far.log_in_with(&story.fleet.hub.token).await;
    assert_eq!(far.script("return window.isSecureContext").await, false);
    far.go("/approvals/digits/1").await;
    far.until_live().await;
    far.until("#sign-unable", "is not a secure one").await;
    wait_until("the form stays away", async || far.count("#sign-form:not([hidden])").await == 0).await;
    far.until("#sign-panel code.shell", "bellwether approve digits:1 --key KEY").await;
    far.go("/keys").await;
    far.until("#browser-key-note", "is not a secure one").await;
    assert_eq!(far.count("#browser-key-form:not([hidden])").await, 0);
    far.until("#browser-key > code.shell", "bellwether key new").await;
    far.close().await;
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_may_read_the_evidence_and_is_told_why_not_more() {
    let story = Story::begin("Dee", false).await;
    story.publish("to be looked at");
    let token = story.fleet.cli.ok(&["token", "new", "eve", "--role", "viewer", "-o", "name"]).last_word();
    let eve = Browser::open(&story.fleet.hub).await;
    eve.log_in_with(&token).await;
    eve.go("/approvals/digits/1").await;
    eve.until("#sign-why", "Signing takes the role approver; you are viewer").await;
    assert_eq!(eve.count("main form button:not([disabled])").await, 0);
    let said = wait_for("the reason is written", async || Some(eve.text("#reject-form").await)).await;
    assert!(said.contains("needs the role approver; you are viewer"), "{said}");
    eve.go("/keys").await;
    eve.until("#browser-key-note", "takes the role approver or publisher").await;
    eve.close().await;
    story.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_granted_by_the_key_in_the_browser() {
    let story = Story::begin("Dee", false).await;
    story.publish("to be rolled out");
    story.fleet.approve("digits:1");
    let agent = story.fleet.agent("gw-1");
    let words = ["rollout", "start", "digits:1", "--stage", "100%", "--soak-seconds", "1"];
    let id = story.fleet.cli.json(&words)["id"].as_str().unwrap().to_owned();
    story.browser.go(&format!("/rollouts/{id}")).await;
    story.browser.until("#grant-facts", "Waits for a grant: all of the fleet").await;
    story.browser.until("#grant-why", "Type 1 to confirm").await;
    story.browser.photograph("rollout-grant").await;
    story.browser.find("#grant-typed").await.send_keys("1").await.unwrap();
    story.browser.click("#grant-now").await;
    story.browser.until("#grant-done", "Signed as Dee").await;
    story.browser.until("#rollout-line", "completed").await;
    let grants = story.fleet.api().grants("digits", 1).await.unwrap().items;
    assert_eq!(grants.iter().map(|grant| grant.persons.clone()).collect::<Vec<_>>(), [["Dee"]]);
    assert_eq!(agent.score().await, Some(("1".to_owned(), 7)), "the device took the browser's signature");
    story.browser.close().await;
}
