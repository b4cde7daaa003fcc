//! The law suite that every store adapter passes.

use super::{Expect, Store, StoreError, Write};

/// Runs every law; `open` opens the same store again after it was dropped.
pub(crate) fn hold(open: impl Fn() -> Box<dyn Store>) {
    let store = open();
    reads_back(store.as_ref());
    commits_all_or_nothing(store.as_ref());
    scans_in_order(store.as_ref());
    store.commit(&[Write::put("kept".to_owned(), b"flushed".to_vec())]).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(open().get("kept").unwrap().unwrap().value, b"flushed", "what was flushed survives");
}

fn reads_back(store: &dyn Store) {
    assert!(store.get("a").unwrap().is_none());
    store.commit(&[Write::put("a".to_owned(), b"1".to_vec())]).unwrap();
    let first = store.get("a").unwrap().unwrap();
    store.commit(&[Write::put("a".to_owned(), b"1".to_vec())]).unwrap();
    let second = store.get("a").unwrap().unwrap();
    assert_eq!(first.value, second.value);
    assert_ne!(first.version, second.version, "every write gives a new version");
    store.commit(&[Write::remove("a".to_owned())]).unwrap();
    assert!(store.get("a").unwrap().is_none());
}

fn commits_all_or_nothing(store: &dyn Store) {
    let put = |key: &str, expect| Write { key: key.to_owned(), expect, value: Some(b"x".to_vec()) };
    store.commit(&[put("b", Expect::Absent)]).unwrap();
    let version = store.get("b").unwrap().unwrap().version;
    let refused = store.commit(&[put("c", Expect::Absent), put("b", Expect::Absent)]);
    assert!(matches!(refused, Err(StoreError::Conflict { key }) if key == "b"));
    assert!(store.get("c").unwrap().is_none(), "nothing of a refused commit is there");
    store.commit(&[put("b", Expect::Version(version)), put("c", Expect::Absent)]).unwrap();
    assert!(store.commit(&[put("b", Expect::Version(version))]).is_err(), "the version went by");
}

fn scans_in_order(store: &dyn Store) {
    let writes: Vec<Write> =
        ["s/3", "s/1", "s/2", "t/1", "r/9"].map(|key| Write::put(key.to_owned(), key.into())).into();
    store.commit(&writes).unwrap();
    let keys = |after: Option<&str>, limit| -> Vec<String> {
        store.scan("s/", after, limit).unwrap().into_iter().map(|stored| stored.key).collect()
    };
    assert_eq!(keys(None, 10), ["s/1", "s/2", "s/3"]);
    assert_eq!(keys(Some("s/1"), 10), ["s/2", "s/3"]);
    assert_eq!(keys(Some("s/1"), 1), ["s/2"]);
    assert_eq!(keys(Some("s/3"), 10), [""; 0]);
    assert_eq!(keys(Some("a"), 1), ["s/1"]);
}
