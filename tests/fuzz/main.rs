//! Hostile bytes for a bounded time: the golden vectors, mutated, given to everything that reads.
//!
//! ```text
//!  protocol/vectors -> mutate -> targets   no panic; what is read is written back the same
//!                         |        `-> accepted mutants join the corpus
//!                         `---> verifier   nothing is taken but the bodies that were signed
//! ```
//!
//! A failure prints the input in hexadecimal and the seed. `BELLWETHER_FUZZ_SEED` repeats a run,
//! `BELLWETHER_FUZZ_SECONDS` (default 20) makes it longer. There is no coverage to guide it: that
//! needs another compiler than the stable one. The targets are plain functions of bytes for it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and says where"
)]

mod mutate;
mod targets;
mod verifier;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bellwether_protocol::frame;
use bellwether_protocol::trust::Signed;

use mutate::{Random, mutated};
use targets::{LOOSE, TARGETS};
use verifier::{STATEMENTS, Verifier};

/// Seconds of each of the two tests that mutate, which run side by side.
const SECONDS: u64 = 20;
/// The corpus stops growing here: more would make what it began with too rare.
const CORPUS_MAX: usize = 4096;
/// Fewer inputs than this in the whole time would be a test of nothing.
const INPUTS_MIN: usize = 1000;

/// Longest input: far above every statement, short enough to try many.
const INPUT_BYTES_MAX: usize = 8 * 1024;

/// What is no vector but is read as well.
const TEXTS: [&str; 8] = [
    "bw/v1/d/cam-1/up/hello",
    "bw/v1/d/cam-1/up/need/00c573fcaa876e01",
    "bw/v1/d/cam-1/down/desired",
    "bw/v1/d/cam-1/down/x/00c573fcaa876e01/2047",
    "bw/v1/b/hub",
    "digits:3",
    "linux-x86_64",
    "f6e048fbf985295c711720a1bc05d87a",
];

#[test]
fn no_bytes_make_a_reader_panic_or_write_back_something_else() {
    let mut corpus: Vec<Vec<u8>> = vectors().into_iter().map(|(_, bytes)| bytes).collect();
    corpus.extend(TEXTS.map(|text| text.as_bytes().to_vec()));
    // Statements without their signatures, so that mutants of bodies are reached without them.
    let bodies = corpus.iter().filter_map(|bytes| frame::decode::<Signed<'_>>(bytes).ok());
    let bodies: Vec<Vec<u8>> = bodies.map(|signed| signed.body.to_vec()).collect();
    corpus.extend(bodies);
    let mut unread: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for bytes in &corpus {
        for name in read_by(bytes, 0) {
            unread.remove(name);
        }
    }
    assert!(unread.iter().all(|name| *name == "signature" || LOOSE.contains(name)), "no vector for {unread:?}");
    let begun = corpus.len();
    let (seed, inputs) =
        for_a_while(&mut corpus, |bytes, seed| read_by(bytes, seed).iter().any(|name| !LOOSE.contains(name)));
    assert!(inputs > INPUTS_MIN, "only {inputs} inputs with seed {seed}");
    assert!(corpus.len() > begun, "of {inputs} mutants none was read, with seed {seed}");
}

#[test]
fn a_change_of_any_bit_of_a_signed_statement_is_refused() {
    let fleet = fleet();
    for (name, rule) in STATEMENTS {
        let bytes = vector(name);
        assert!(fleet.takes(*rule, &bytes), "{name} itself is refused");
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[place] ^= 1u8 << bit;
                assert!(!fleet.takes(*rule, &changed), "{name} is taken with bit {bit} of byte {place} changed");
            }
            assert!(!fleet.takes(*rule, &bytes[..place]), "{name} is taken when cut to {place} bytes");
        }
    }
}

#[test]
fn nothing_is_taken_but_what_was_signed() {
    let fleet = fleet();
    let mut corpus: Vec<Vec<u8>> = STATEMENTS.iter().map(|(name, _)| vector(name)).collect();
    let signed: BTreeSet<Vec<u8>> = corpus.iter().map(|bytes| body(bytes)).collect();
    let mut taken = 0;
    let (seed, inputs) = for_a_while(&mut corpus, |bytes, seed| {
        if let Some((rule, body)) = fleet.taken(bytes) {
            taken += 1;
            let input = hex::encode(bytes);
            assert!(signed.contains(body), "by the rule of {rule} this is taken (seed {seed}): {input}");
        }
        false
    });
    assert!(inputs > INPUTS_MIN, "only {inputs} inputs with seed {seed}");
    // Signatures in another order, or fewer of them where fewer do, leave a statement what it was.
    assert!(taken < inputs / 2, "{taken} of {inputs} mutants are taken: nothing is mutated");
}

/// Gives mutants of the corpus to `keep` until the time is over; those it keeps join the corpus.
fn for_a_while(corpus: &mut Vec<Vec<u8>>, mut keep: impl FnMut(&[u8], u64) -> bool) -> (u64, usize) {
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let fresh = now.map_or(1, |now| u64::from(now.subsec_nanos()));
    let seed = number("BELLWETHER_FUZZ_SEED", fresh);
    let time = Duration::from_secs(number("BELLWETHER_FUZZ_SECONDS", SECONDS));
    let mut random = Random(seed);
    let begun = Instant::now();
    let mut inputs = 0;
    while begun.elapsed() < time {
        let bytes = mutated(&mut random, corpus, INPUT_BYTES_MAX);
        inputs += 1;
        if keep(&bytes, seed) && corpus.len() < CORPUS_MAX {
            corpus.push(bytes);
        }
    }
    eprintln!("{inputs} inputs with seed {seed}");
    (seed, inputs)
}

/// The targets that accept these bytes.
fn read_by(bytes: &[u8], seed: u64) -> Vec<&'static str> {
    let mut accepted = Vec::new();
    for (name, target) in TARGETS {
        match catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            Ok(true) => accepted.push(*name),
            Ok(false) => {}
            Err(_) => panic!("target {name} breaks (seed {seed}) on {}", hex::encode(bytes)),
        }
    }
    accepted
}

fn fleet() -> Verifier {
    Verifier::new(&vector("root-v1"), &vector("release"))
}

fn body(bytes: &[u8]) -> Vec<u8> {
    frame::decode::<Signed<'_>>(bytes).expect("a statement of the vectors decodes").body.to_vec()
}

/// Every golden vector with its name, in order.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder()).expect("protocol/vectors is there");
    let names = files.filter_map(|file| file.ok()?.file_name().to_str()?.strip_suffix(".hex").map(str::to_owned));
    let names: BTreeSet<String> = names.collect();
    names.into_iter().map(|name| (name.clone(), vector(&name))).collect()
}

fn vector(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    hex::decode(text.replace('\n', "")).expect("a vector is hexadecimal")
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors"))
}
