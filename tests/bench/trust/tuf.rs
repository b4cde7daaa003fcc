//! The peer: the least TUF repository (specification 1.0.33) that says the same of one package, as
//! compact JSON with keys in order, signed by the same keys with the same thresholds.
//!
//! Approvals are a delegation to publisher and approvers, all of whom must sign. What TUF has no
//! place for is left out, not put into `custom`: that is to TUF's advantage.

use bellwether_protocol::digest::Digest;
use bellwether_protocol::trust::signature_bytes;
use serde_json::{Value, json};

use super::native::{APPROVERS, Native, PACKAGE_BYTES, PUBLISHER, REGISTRY, TIME, key, public};

const EXPIRES: &str = "2027-11-25T00:00:00Z";
const SPEC: &str = "1.0.33";

/// The files of the repository.
pub(crate) struct Repository {
    pub(crate) root: Vec<u8>,
    pub(crate) timestamp: Vec<u8>,
    pub(crate) snapshot: Vec<u8>,
    pub(crate) targets: Vec<u8>,
    pub(crate) delegated: Vec<u8>,
}

impl Repository {
    pub(crate) fn new(native: &Native) -> Self {
        let thresholds = native.trusted.root().thresholds;
        let everybody = [PUBLISHER, 2, 3];
        let role = |seeds: &[u8], threshold: u8| json!({ "keyids": seeds.iter().map(|seed| keyid(*seed)).collect::<Vec<_>>(), "threshold": threshold });
        let root = file(
            "root",
            json!({
                "consistent_snapshot": true,
                "keys": keys(&[2, 3, REGISTRY, TIME]),
                "roles": {
                    "root": role(&APPROVERS, thresholds.root),
                    "targets": role(&APPROVERS, thresholds.root),
                    "snapshot": role(&[REGISTRY], 1),
                    "timestamp": role(&[TIME], 1),
                },
            }),
            &APPROVERS,
        );
        let mut delegation = role(&everybody, 1 + thresholds.approve);
        let more = json!({ "name": "digits", "paths": ["digits/*"], "terminating": true });
        if let (Value::Object(delegation), Value::Object(more)) = (&mut delegation, more) {
            delegation.extend(more);
        }
        let delegations = json!({ "keys": keys(&everybody), "roles": [delegation] });
        let targets = file("targets", json!({ "targets": {}, "delegations": delegations }), &APPROVERS);
        let package = json!({ "length": PACKAGE_BYTES, "hashes": { "sha256": Digest::of(b"package").to_string() } });
        let delegated = file("targets", json!({ "targets": { "digits/digits-3.bwp": package } }), &everybody);
        let meta = json!({ "targets.json": { "version": 1 }, "digits.json": { "version": 3 } });
        let snapshot = file("snapshot", json!({ "meta": meta }), &[REGISTRY]);
        let of_snapshot = json!({
            "version": 1,
            "length": snapshot.len(),
            "hashes": { "sha256": Digest::of(&snapshot).to_string() },
        });
        let timestamp = file("timestamp", json!({ "meta": { "snapshot.json": of_snapshot } }), &[TIME]);
        Self { root, timestamp, snapshot, targets, delegated }
    }

    /// Bytes that a client fetches that knows the root and nothing newer.
    pub(crate) fn update(&self) -> usize {
        self.timestamp.len() + self.snapshot.len() + self.targets.len() + self.delegated.len()
    }
}

/// A metadata file of a kind: what it says, and who signs it.
fn file(kind: &str, says: Value, seeds: &[u8]) -> Vec<u8> {
    let mut signed = json!({ "_type": kind, "spec_version": SPEC, "version": 1, "expires": EXPIRES });
    if let (Value::Object(signed), Value::Object(says)) = (&mut signed, says) {
        signed.extend(says);
    }
    // Keys in order and no spaces: for these values that is TUF's canonical JSON.
    let canonical = signed.to_string();
    let sign = |seed: &u8| {
        let signature = signature_bytes(canonical.as_bytes(), &key(*seed));
        json!({ "keyid": keyid(*seed), "sig": hex::encode(signature) })
    };
    let signatures: Vec<Value> = seeds.iter().map(sign).collect();
    json!({ "signed": signed, "signatures": signatures }).to_string().into_bytes()
}

fn keys(seeds: &[u8]) -> Value {
    seeds.iter().map(|seed| (keyid(*seed), described(*seed))).collect::<serde_json::Map<_, _>>().into()
}

fn described(seed: u8) -> Value {
    json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public(seed).to_string() } })
}

/// A key's id by TUF's rule: the digest of its canonical description.
fn keyid(seed: u8) -> String {
    Digest::of(described(seed).to_string().as_bytes()).to_string()
}
