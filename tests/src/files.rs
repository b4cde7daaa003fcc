//! Where the binaries under test and the test data lie.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the repository").to_owned()
}

/// A file of `tests/data`.
#[must_use]
pub fn data(name: &str) -> PathBuf {
    let path = repository().join("tests/data").join(name);
    assert!(path.exists(), "{} is missing: see tests/data/README.md", path.display());
    path
}

/// The folder of the programs under test: `BELLWETHER_BIN_DIR`, or where cargo puts them beside
/// this test (`target/debug/deps/e2e-…` is it, `target/debug/bellwether-hub` is what is wanted).
#[must_use]
pub fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("BELLWETHER_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let deps = test.parent().expect("a test lies in a folder");
    deps.parent().unwrap_or(deps).to_owned()
}

/// One program under test.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace --bins`, or set BELLWETHER_BIN_DIR",
        path.display()
    );
    path
}

/// A program of the system.
#[must_use]
pub fn tool(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("`{name}` is missing: apt-get install {package} (tests/run does it)"))
}

/// The Python that has numpy and the other packages the tests ask for.
#[must_use]
pub fn venv_python() -> std::ffi::OsString {
    std::env::var_os("BELLWETHER_TEST_PYTHON").expect(
        "BELLWETHER_TEST_PYTHON names no Python: run `tests/run e2e`, which makes one, or set it to a Python with \
         the packages that tests/run installs",
    )
}

/// Bytes that do not compress, the same in every run.
#[must_use]
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// A number that no other run has.
#[must_use]
pub fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default()
}
