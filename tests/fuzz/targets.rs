//! Everything that reads bytes from outside, each a plain function of bytes: it must not panic, and
//! what it accepts must be exactly what would be written. Any fuzzer can call them.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use bellwether_protocol::chunk::Chunks;
use bellwether_protocol::digest::Digest;
use bellwether_protocol::frame;
use bellwether_protocol::id::{DeviceId, FileName, HardwareClass, ModelName, ModelRef, Person, TransferId};
use bellwether_protocol::limit::PACKAGE_BYTES_MAX;
use bellwether_protocol::manifest::Manifest;
use bellwether_protocol::message::{Down, Up};
use bellwether_protocol::package::{Package, chunk_digests, encode_head};
use bellwether_protocol::policy::Policy;
use bellwether_protocol::profile::{Baseline, columns};
use bellwether_protocol::topic::Topic;
use bellwether_protocol::trust::{
    Ack, Assignment, Attestation, AuditHead, Batch, Checkpoint, Command, Connect, Enrol, Epoch, FleetId, KeyId, Known,
    OutboxId, PublicKey, Recall, RecordBody, Release, Report, Root, Signed, StageGrant,
};
use serde::{Deserialize, Serialize};

/// Reads bytes; whether they were accepted. A broken promise panics.
pub(crate) type Target = fn(&[u8]) -> bool;

/// Every target by its name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("up", up),
    ("down", down),
    ("signed", |bytes| exact::<Signed<'_>>(bytes)),
    ("root", |bytes| exact::<Root>(bytes)),
    ("release", |bytes| exact::<Release>(bytes)),
    ("grant", |bytes| exact::<StageGrant>(bytes)),
    ("recall", |bytes| exact::<Recall>(bytes)),
    ("checkpoint", |bytes| exact::<Checkpoint>(bytes)),
    ("assignment", |bytes| exact::<Assignment>(bytes)),
    ("command", |bytes| exact::<Command>(bytes)),
    ("ack", |bytes| exact::<Ack>(bytes)),
    ("epoch", |bytes| exact::<Epoch>(bytes)),
    ("report", |bytes| exact::<Report>(bytes)),
    ("batch", batch),
    ("connect", |bytes| exact::<Connect>(bytes)),
    ("enrol", |bytes| exact::<Enrol>(bytes)),
    ("attestation", |bytes| exact::<Attestation>(bytes)),
    ("known", |bytes| exact::<Known>(bytes)),
    ("audit head", |bytes| exact::<AuditHead>(bytes)),
    ("manifest", |bytes| exact::<Manifest>(bytes)),
    ("package", package),
    ("baseline", baseline),
    ("policy", policy),
    ("columns", |bytes| counted(columns(bytes), bytes.len()) > 0),
    ("chunks", chunks),
    ("topic", topic),
    ("names", names),
];

/// Targets that take almost anything: their word does not make an input worth keeping.
pub(crate) const LOOSE: [&str; 3] = ["columns", "chunks", "names"];

/// Reads a frame; what is accepted, written again, gives the same bytes.
fn exact<'b, T: Serialize + Deserialize<'b> + Debug>(bytes: &'b [u8]) -> bool {
    let Ok(value) = frame::decode::<T>(bytes) else { return false };
    let mut buffer = vec![0; bytes.len()];
    let written = frame::encode(&value, &mut buffer).map(|written| &*written);
    assert_eq!(written, Ok(bytes), "{value:?} is written otherwise than it was read");
    true
}

fn up(bytes: &[u8]) -> bool {
    if let Ok(message) = frame::decode(bytes) {
        match message {
            Up::State(signed) => exact::<Report>(signed.body),
            Up::Batch(signed) => batch(signed.body),
            Up::Known(signed) => exact::<Known>(signed.body),
            Up::Need(need) => need.chunks(64).count() <= 64,
            Up::Hello(_) | Up::Gone(_) => true,
        };
    }
    exact::<Up<'_>>(bytes)
}

fn down(bytes: &[u8]) -> bool {
    if let Ok(message) = frame::decode(bytes) {
        match message {
            Down::Desired(desired) => {
                for evidence in &desired.evidence {
                    exact::<Release>(evidence.release.body);
                    if let Some(grant) = &evidence.grant {
                        exact::<StageGrant>(grant.body);
                    }
                }
                exact::<Assignment>(desired.assignment.body)
            }
            Down::Command(signed) => exact::<Command>(signed.body),
            Down::Ack(signed) => exact::<Ack>(signed.body),
            Down::Root(signed) => exact::<Root>(signed.body),
            Down::Recall(signed) => exact::<Recall>(signed.body),
            Down::Checkpoint(signed) => exact::<Checkpoint>(signed.body),
            Down::Epoch(signed) => exact::<Epoch>(signed.body),
            Down::Chunk(_) | Down::Table(_) => true,
        };
    }
    exact::<Down<'_>>(bytes)
}

fn batch(bytes: &[u8]) -> bool {
    if let Ok(batch) = frame::decode::<Batch<'_>>(bytes) {
        for record in &batch.records {
            if let RecordBody::Profile(profile) = &record.body {
                counted(columns(profile.columns), profile.columns.len());
            }
        }
    }
    exact::<Batch<'_>>(bytes)
}

/// How many items there are; an item takes at least a byte, so there is an end.
fn counted<T>(items: impl Iterator<Item = T>, bytes: usize) -> usize {
    let count = items.take(bytes + 2).count();
    assert!(count <= bytes + 1, "{count} items out of {bytes} bytes");
    count
}

fn package(bytes: &[u8]) -> bool {
    let Ok(package) = Package::open(bytes) else { return false };
    let mut buffer = vec![0; bytes.len()];
    let head = encode_head(package.manifest(), &mut buffer).expect("a head that was read fits where it stood");
    let mut whole = head.to_vec();
    for (file, content) in package.files() {
        assert_eq!(Digest::of(content), file.digest, "{} is not what the manifest says", file.name);
        whole.extend_from_slice(content);
    }
    assert_eq!(whole, bytes, "there are bytes outside all files");
    assert!(chunk_digests(bytes).count() > 0);
    true
}

fn baseline(bytes: &[u8]) -> bool {
    let Ok(baseline) = Baseline::read(bytes) else { return false };
    assert_eq!(baseline.iter().filter_map(Result::ok).count(), usize::from(baseline.columns));
    exact::<Baseline<'_>>(bytes)
}

fn policy(bytes: &[u8]) -> bool {
    Policy::read(bytes).is_ok() && exact::<Policy>(bytes)
}

/// The set of chunks against a plain set: eight bytes of size, then numbers of chunks.
fn chunks(bytes: &[u8]) -> bool {
    let Some((size, numbers)) = bytes.split_first_chunk::<8>() else { return false };
    let size = u64::from_le_bytes(*size);
    let Some(mut chunks) = Chunks::none_of(size % (2 * PACKAGE_BYTES_MAX)) else { return false };
    let mut held = BTreeSet::new();
    for number in numbers.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]) % 4096) {
        chunks.insert(number);
        if number < chunks.count() {
            held.insert(number);
        }
        assert_eq!(chunks.contains(number), held.contains(&number), "chunk {number}");
    }
    assert_eq!(usize::from(chunks.present()), held.len());
    let Some(need) = chunks.need(8) else {
        assert!(chunks.is_complete());
        return true;
    };
    let asked: Vec<u16> = need.chunks(64).collect();
    assert!((1..=8).contains(&asked.len()), "{} chunks are asked for", asked.len());
    assert!(asked.iter().all(|number| *number < chunks.count() && !held.contains(number)), "{asked:?}");
    true
}

fn topic(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Some(topic) = Topic::parse(text) else { return false };
    assert_eq!(topic.text().as_str(), text, "a topic has two spellings");
    true
}

/// What people and other programs write down.
fn names(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    // A version may be written `007`, so its text alone may come out otherwise.
    if let Ok(model) = text.parse::<ModelRef>() {
        assert_eq!(model.to_string().parse::<ModelRef>().ok(), Some(model));
    }
    let read = [
        spelt::<DeviceId>(text),
        spelt::<ModelName>(text),
        spelt::<FileName>(text),
        spelt::<HardwareClass>(text),
        spelt::<Person>(text),
        spelt::<TransferId>(text),
        spelt::<Digest>(text),
        spelt::<FleetId>(text),
        spelt::<KeyId>(text),
        spelt::<PublicKey>(text),
        spelt::<OutboxId>(text),
    ];
    read.contains(&true)
}

fn spelt<T: FromStr + Display>(text: &str) -> bool {
    let Ok(name) = text.parse::<T>() else { return false };
    assert_eq!(name.to_string(), text, "a name has two spellings");
    true
}
