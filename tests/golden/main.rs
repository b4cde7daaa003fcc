//! Golden frames: the bytes of the wire, frozen. Each fixed value of [`values`] must encode to the
//! bytes in `protocol/vectors/NAME.hex` and those must decode to the value; `NAME.txt` says in
//! words what they hold.
//!
//! `BELLWETHER_BLESS=1 cargo test --test golden` writes them anew. Do that for a new vector only:
//! a change of one that is there is a change of the wire, and devices in the field speak the old.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails says where, and that is what it is for")]

mod values;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::error::Reject;
use bellwether_protocol::frame;
use bellwether_protocol::limit::FRAME_BYTES_MAX;
use bellwether_protocol::message::{Down, Up};
use bellwether_protocol::package::{Package, chunk_digests, encode_head};
use bellwether_protocol::policy::{Collect, Policy};
use bellwether_protocol::profile::Baseline;
use bellwether_protocol::trust::{
    Ack, Assignment, Attestation, AuditHead, Batch, Checkpoint, Cohort, Command, Connect, Enrol, Epoch, FleetId,
    KeyName, Known, Recall, Release, Report, RoleSet, Root, Signed, StageGrant, Statement, TrustedRoot, bucket,
    open_by,
};
use serde::{Deserialize, Serialize};

use values::{Values, key, public};

/// Statements that are also kept as they were written before key tags.
const BEFORE_TAGS: [&str; 2] = ["release-before-tags", "report-before-tags"];

/// Bytes of a line of hexadecimal.
const LINE_BYTES: usize = 32;

#[test]
fn every_statement_keeps_its_bytes() {
    let values = Values::new();
    for (name, words, statement) in values.statements() {
        let signed: Signed<'_> = frame::decode(statement).unwrap();
        let body = match name {
            "root-v1" | "root-v2" => shown::<Root>(&signed),
            "recall" => shown::<Recall>(&signed),
            "checkpoint" => shown::<Checkpoint>(&signed),
            "epoch" => shown::<Epoch>(&signed),
            "known" => shown::<Known>(&signed),
            "audit-head" => shown::<AuditHead>(&signed),
            "release" => shown::<Release>(&signed),
            "grant-buckets" | "grant-devices" => shown::<StageGrant>(&signed),
            "assignment" | "assignment-modes" => shown::<Assignment>(&signed),
            "command" | "command-log" => shown::<Command>(&signed),
            "ack" => shown::<Ack>(&signed),
            "report" | "report-held" => shown::<Report>(&signed),
            "batch" | "batch-watched" | "batch-agreement" | "batch-offload" => shown::<Batch>(&signed),
            "connect" => shown::<Connect>(&signed),
            "enrol" => shown::<Enrol>(&signed),
            "attestation" => shown::<Attestation>(&signed),
            other => panic!("say here which statement {other} is"),
        };
        let signers: Vec<_> = signed.signatures.iter().map(|signature| format!("  {}\n", signature.key)).collect();
        let text = format!("{body}\n\nsigned by the keys\n{}", signers.concat());
        frozen(name, words, &text, &signed);
    }
}

/// Stores and packages from before hold statements with whole ids: they are read for ever.
#[test]
fn statements_from_before_tags_keep_their_bytes() {
    let values = Values::new();
    for (name, _, statement) in values.statements() {
        let Some(before) = BEFORE_TAGS.iter().find(|before| before.strip_suffix("-before-tags") == Some(name)) else {
            continue;
        };
        let mut signed: Signed<'_> = frame::decode(statement).unwrap();
        for signature in &mut signed.signatures {
            let id = (1..=40).map(|seed| public(seed).id()).find(|id| signature.key.names(*id));
            signature.key = KeyName::Id(id.unwrap());
        }
        let words = format!("{name}, its keys named by their whole ids.");
        frozen(before, &words, &format!("See {name}.txt.\n"), &signed);
    }
}

#[test]
fn every_message_up_keeps_its_bytes() {
    let values = Values::new();
    for (name, words, message) in values.ups() {
        let text = match &message {
            Up::Hello(hello) => format!("{hello:#?}\n"),
            Up::Gone(gone) => format!("{gone:#?}\n"),
            Up::Need(need) => format!("{need:#?}\n"),
            Up::State(signed) | Up::Batch(signed) | Up::Known(signed) => holds(signed),
        };
        frozen(name, words, &text, &message);
    }
}

#[test]
fn every_message_down_keeps_its_bytes() {
    let values = Values::new();
    for (name, words, message) in values.downs() {
        let text = match &message {
            Down::Desired(desired) => {
                let evidence = desired.evidence.iter().map(|one| {
                    let grant = one.grant.as_ref().map_or_else(|| "none\n".to_owned(), holds);
                    format!("release: {}grant: {grant}", holds(&one.release))
                });
                format!("assignment: {}{}", holds(&desired.assignment), evidence.collect::<String>())
            }
            Down::Command(signed)
            | Down::Ack(signed)
            | Down::Root(signed)
            | Down::Recall(signed)
            | Down::Checkpoint(signed)
            | Down::Epoch(signed) => holds(signed),
            Down::Chunk(chunk) => format!("bytes of the chunk: {}\n", hex::encode(chunk.bytes)),
            Down::Table(table) => {
                format!("digests of the chunks: {}\n", hex::encode(table.digests))
            }
        };
        frozen(name, words, &text, &message);
    }
}

#[test]
fn a_manifest_and_its_package_keep_their_bytes() {
    let values = Values::new();
    let manifest = &values.manifest;
    frozen("manifest", "What a package of two files holds.", &format!("{manifest:#?}\n"), manifest);
    let mut buffer = [0; 4096];
    let head = encode_head(manifest, &mut buffer).unwrap();
    let words = "Header of that package: \"BWPK\", the length of the manifest frame, the frame.";
    stored("package-head", words, "See manifest.txt.\n", head);
    let words = "The whole package: header, model, vectors.";
    stored("package", words, "See manifest.txt.\n", &values.package);
    assert!(values.package.starts_with(head));
    assert_eq!(Package::open(&values.package).unwrap().manifest(), manifest);
}

#[test]
fn a_baseline_and_a_policy_keep_their_bytes() {
    let policy = Policy {
        p95_us_max: Some(5000),
        collect: Collect { one_in: 100, uncertain_below: 600, rows_per_minute_max: 60 },
    };
    frozen(
        "policy",
        "A budget of 5 ms; one row in a hundred, and those below 60 %.",
        &format!("{policy:#?}\n"),
        &policy,
    );
    let bytes = values::column();
    let baseline = Baseline { columns: 1, bytes: &bytes };
    let words = "One column of an input: element 12 in two bins from 0 to 1, holding 3 and 4 values.";
    let text = baseline.iter().map(|column| format!("{:#?}\n", column.unwrap())).collect::<String>();
    frozen("baseline", words, &text, &baseline);
    assert!(Baseline::read(&read_hex(&vector("baseline", "hex"))).is_ok());
}

/// What is stored must hold for the verifier as it stands, not only for the encoder.
#[test]
fn the_stored_statements_pass_the_verifier() {
    if blessing() {
        return; // other tests are writing what this one reads
    }
    let read = |name: &str| read_hex(&vector(name, "hex"));
    let root_bytes = read("root-v1");
    let root: Signed<'_> = frame::decode(&root_bytes).unwrap();
    let fleet = FleetId::of_root(root.body);
    let trusted = TrustedRoot::first(fleet, &root).unwrap();
    let release_bytes = read("release");
    let approved = trusted.approve(&frame::decode(&release_bytes).unwrap()).unwrap();
    assert_eq!(approved.release().package.digest, Digest::of(&read("package")));
    for name in ["grant-buckets", "grant-devices"] {
        let bytes = read(name);
        let granted = trusted.grant(&approved, &frame::decode(&bytes).unwrap()).unwrap();
        assert!(trusted.reaches(&approved, &granted, public(20).id()), "{name}");
    }
    let online = |name: &str, check: fn(&TrustedRoot, &Signed<'_>) -> Result<(), Reject>| {
        let bytes = read(name);
        assert_eq!(check(&trusted, &frame::decode(&bytes).unwrap()), Ok(()), "{name}");
    };
    online("assignment", |root, signed| root.hub::<Assignment>(signed, RoleSet::DIRECTOR).map(drop));
    online("command", |root, signed| root.hub::<Command>(signed, RoleSet::DIRECTOR).map(drop));
    online("ack", |root, signed| root.hub::<Ack>(signed, RoleSet::DIRECTOR).map(drop));
    online("attestation", |root, signed| root.hub::<Attestation>(signed, RoleSet::REGISTRY).map(drop));
    online("report", |root, signed| open_by::<Report>(root.fleet(), signed, &public(20)).map(drop));
    online("batch", |root, signed| open_by::<Batch>(root.fleet(), signed, &public(20)).map(drop));
    online("connect", |root, signed| open_by::<Connect>(root.fleet(), signed, &public(20)).map(drop));
    online("root-v2", |root, signed| root.next(signed).map(drop));
    online("recall", |root, signed| root.recall(signed).map(drop));
    online("checkpoint", |root, signed| root.checkpoint(signed).map(drop));
    online("epoch", |root, signed| root.hub::<Epoch>(signed, RoleSet::TIME).map(drop));
    online("audit-head", |root, signed| root.hub::<AuditHead>(signed, RoleSet::REGISTRY).map(drop));
    online("known", |root, signed| open_by::<Known>(root.fleet(), signed, &public(20)).map(drop));
    online("report-before-tags", |root, signed| open_by::<Report>(root.fleet(), signed, &public(20)).map(drop));
    online("release-before-tags", |root, signed| root.approve(signed).map(drop));
    online("enrol", |root, signed| open_by::<Enrol>(root.fleet(), signed, &public(20)).map(drop));
}

/// Names that people and other programs write down: they may never come out otherwise.
#[test]
fn derived_names_keep_their_value() {
    let values = Values::new();
    let digests: Vec<String> = chunk_digests(&values.package).map(|digest| digest.to_string()).collect();
    let buckets: Vec<u16> = (20..28).map(|n| bucket(values.fleet, &[7; 16], public(n).id())).collect();
    let text = format!(
        "fleet {}\nkey of seed 1 {}\nits id {}\ntransfer {}\nchunks {}\nbuckets of devices 20 to 27 {:?}\n",
        values.fleet,
        public(1),
        public(1).id(),
        Digest::of(&values.package).transfer(),
        digests.join(" "),
        buckets,
    );
    let file = vector("names", "txt");
    bless(&file, &text);
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "{}", file.display());
    assert_eq!(key(1).verifying_key().to_bytes(), public(1).0);
    assert!(Cohort::Buckets(1000).reaches(values.fleet, &[7; 16], public(20).id()));
}

#[test]
fn every_vector_has_its_words_and_nothing_else_lies_there() {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if blessing() {
        return; // as above
    }
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (name, kind) = name.rsplit_once('.').unwrap();
        kinds.entry(name.to_owned()).or_default().push(kind.to_owned());
    }
    let values = Values::new();
    let statements = values.statements().into_iter().map(|(name, ..)| name);
    let ups = values.ups().into_iter().map(|(name, ..)| name);
    let downs = values.downs().into_iter().map(|(name, ..)| name);
    let files = ["manifest", "package-head", "package", "policy", "baseline"];
    let known: Vec<&str> = statements.chain(ups).chain(downs).chain(files).chain(BEFORE_TAGS).collect();
    for (name, mut kinds) in kinds {
        kinds.sort();
        match name.as_str() {
            "names" => assert_eq!(kinds, ["txt"]),
            "README" => assert_eq!(kinds, ["md"]),
            name => {
                assert!(known.contains(&name), "{name} is the vector of no test");
                assert_eq!(kinds, ["hex", "txt"], "{name}");
            }
        }
    }
}

/// Compares a value with its stored frame, in both directions.
fn frozen<T>(name: &str, words: &str, text: &str, value: &T)
where
    T: Serialize + for<'b> Reads<'b>,
{
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let bytes: &[u8] = frame::encode(value, &mut buffer).unwrap();
    stored(name, words, text, bytes);
    assert!(value.is_read_from(bytes), "{name} does not decode to the value it was made from");
}

/// A type that may borrow from the bytes it is read from.
trait Reads<'b> {
    /// Whether the bytes decode to this very value.
    fn is_read_from(&self, bytes: &'b [u8]) -> bool;
}

macro_rules! reads {
    ($($value:ty => $read:ty),+) => {$(
        impl<'b> Reads<'b> for $value {
            fn is_read_from(&self, bytes: &'b [u8]) -> bool {
                same::<$read>(self, bytes)
            }
        }
    )+};
}

reads!(Up<'_> => Up<'_>, Down<'_> => Down<'_>, Signed<'_> => Signed<'_>);
reads!(bellwether_protocol::manifest::Manifest => bellwether_protocol::manifest::Manifest);
reads!(Policy => Policy, Baseline<'_> => Baseline<'_>);

fn same<'b, T: Serialize + Deserialize<'b> + PartialEq + Debug>(value: &T, bytes: &'b [u8]) -> bool {
    frame::decode::<T>(bytes).as_ref() == Ok(value)
}

/// Compares bytes and words with what is stored; stores them first when blessing.
fn stored(name: &str, words: &str, text: &str, bytes: &[u8]) {
    let (hex_file, text_file) = (vector(name, "hex"), vector(name, "txt"));
    let lines: String = bytes.chunks(LINE_BYTES).map(|line| hex::encode(line) + "\n").collect();
    let text = format!("{words}\n{} bytes.\n\n{text}", bytes.len());
    bless(&hex_file, &lines);
    bless(&text_file, &text);
    let mend = "the wire has changed: see the head of tests/golden/main.rs";
    assert_eq!(fs::read_to_string(&hex_file).unwrap_or_default(), lines, "{name}.hex: {mend}");
    assert_eq!(fs::read_to_string(&text_file).unwrap_or_default(), text, "{name}.txt: {mend}");
    assert_eq!(read_hex(&hex_file), bytes, "{name}.hex");
}

fn bless(file: &PathBuf, text: &str) {
    if blessing() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(file, text).unwrap();
    }
}

fn read_hex(file: &PathBuf) -> Vec<u8> {
    let text = fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
    hex::decode(text.replace('\n', "")).unwrap()
}

fn blessing() -> bool {
    std::env::var_os("BELLWETHER_BLESS").is_some_and(|set| set == "1")
}

fn vector(name: &str, kind: &str) -> PathBuf {
    folder().join(format!("{name}.{kind}"))
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors"))
}

fn shown<'a, T: Statement + Debug + Deserialize<'a>>(signed: &Signed<'a>) -> String {
    format!("{:#?}", signed.peek::<T>().unwrap())
}

/// An inner statement in one line; its own vector says more.
fn holds(signed: &Signed<'_>) -> String {
    let (bytes, digest, signatures) = (signed.body.len(), signed.digest(), signed.signatures.len());
    format!("{bytes} bytes, digest {digest}, signatures: {signatures}\n")
}
