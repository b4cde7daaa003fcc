//! Preparing, and what is found again in a package.

use super::*;

const LINEAR: &[u8] = include_bytes!("../../../../tests/data/digits-linear.onnx");
const VECTORS: &[u8] = include_bytes!("../../../../tests/data/digits-linear.vectors.npz");

fn digits() -> ModelName {
    "digits".parse().unwrap()
}

fn extra(name: &str) -> Extra {
    Extra { name: name.parse().unwrap(), bytes: name.as_bytes().to_vec() }
}

fn with(extras: &[Extra]) -> Beside<'_> {
    let policy = Policy { p95_us_max: Some(5000), ..Policy::default() };
    Beside { vectors: Some(VECTORS), policy, extras, ..Beside::default() }
}

#[test]
fn preparing_is_deterministic_and_examining_finds_the_same() {
    let one = prepare(&digits(), "a/linear.onnx", LINEAR, &with(&[extra("b"), extra("a")])).unwrap();
    let two = prepare(&digits(), "other.onnx", LINEAR, &with(&[extra("a"), extra("b")])).unwrap();
    assert_eq!(one, two);
    let (examined, scorer) = open(&one.package).unwrap();
    assert_eq!(
        (examined.package_ref, examined.source, &examined.manifest, &examined.golden),
        (one.package_ref, one.source, &one.manifest, &one.golden)
    );
    assert_eq!(*scorer.signature(), one.manifest.tensors);
    let described = describe(&one.package).unwrap();
    assert_eq!((described.manifest, described.policy), (one.manifest, examined.policy));
    assert_eq!((examined.policy.p95_us_max, examined.baseline.len()), (Some(5000), 0));
}

#[test]
fn a_package_repeats_from_what_is_in_it_and_one_packed_by_other_hands_does_not() {
    let extras = [extra("b"), extra("a")];
    let sample = include_bytes!("../../../../tests/data/digits-input.npz");
    let signature = inspect::inspect(LINEAR).unwrap().signature;
    let rows = crate::Sample::read("digits-input.npz", sample, &signature).unwrap();
    let samples = Samples { inputs: Some(rows), held_out: None };
    let whole = prepare(&digits(), "a.onnx", LINEAR, &Beside { samples: Some(&samples), ..with(&extras) }).unwrap();
    assert!(whole.manifest.files.iter().any(|file| file.role == FileRole::Baseline));
    assert_eq!(repeat(&whole.package).unwrap().package, whole.package);
    // The same files in another order are a package, but not the one that preparing gives.
    let files: Vec<_> = Package::open(&whole.package)
        .unwrap()
        .files()
        .map(|(file, bytes)| (file.name.clone(), file.role, bytes.to_vec()))
        .collect();
    let files: Vec<_> = files.iter().rev().map(|(name, role, bytes)| (name.clone(), *role, bytes.as_slice())).collect();
    let (other, _) = pack(&digits(), &files, whole.manifest.tensors.clone()).unwrap();
    assert!(examine(&other).is_ok());
    assert_ne!(repeat(&other).unwrap().package, other);
}

#[test]
fn what_was_rewritten_is_said_and_repeats_to_the_same_bytes() {
    let words = include_bytes!("../../tests/data/words.onnx");
    let prepared = prepare(&digits(), "m.onnx", words, &Beside::default()).unwrap();
    assert_eq!((prepared.rewritten.len(), prepared.source), (2, Digest::of(words)));
    let again = repeat(&prepared.package).unwrap();
    assert_eq!((again.package, again.rewritten), (prepared.package.clone(), Vec::<String>::new()));
    assert_eq!(examine(&prepared.package).unwrap().facts, prepared.facts);
}

#[test]
fn a_wrong_answer_is_refused_before_anybody_signs() {
    let vectors = include_bytes!("../../../../tests/data/bad/wrong-answer.vectors.npz");
    let why =
        prepare(&digits(), "m.onnx", LINEAR, &Beside { vectors: Some(vectors), ..Beside::default() }).unwrap_err();
    assert!(matches!(why, PrepareError::Golden(_)), "{why}");
    let bad = include_bytes!("../../../../tests/data/bad/wrong-shape.vectors.npz");
    let why = prepare(&digits(), "m.onnx", LINEAR, &Beside { vectors: Some(bad), ..Beside::default() })
        .unwrap_err()
        .to_string();
    assert!(why.contains("[16, 63]: expected [-1, 64]"), "{why}");
}

#[test]
fn a_file_that_is_not_onnx_is_kept_but_not_deployable() {
    let pickle = include_bytes!("../../../../tests/data/digits.pkl");
    let prepared = prepare(&digits(), "models/my model.pkl", pickle, &Beside::default()).unwrap();
    assert!(prepared.deployable.clone().unwrap_err().contains("skl2onnx"));
    assert_eq!(prepared.manifest.files[0].name.as_str(), "my_model.pkl");
    assert_eq!(examine(&prepared.package).unwrap().deployable, prepared.deployable);
    assert_eq!(open(&prepared.package).err().unwrap().reject(), Reject::ModelDoesNotLoad);
}

#[test]
fn a_changed_byte_of_header_or_files_is_refused() {
    let package = prepare(&digits(), "m.onnx", LINEAR, &Beside::default()).unwrap().package;
    for at in [0, 5, package.len() / 2, package.len() - 1] {
        let mut changed = package.clone();
        changed[at] ^= 1;
        assert!(examine(&changed).is_err(), "byte {at}");
    }
    assert!(examine(&package[..package.len() - 1]).is_err());
}
