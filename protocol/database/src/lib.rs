//! How hub and agent open their sled databases: a crash, a kill or a full disk at any moment, the very
//! first one included, must not keep one closed for good.
//!
//! | what may be left | what is done |
//! |---|---|
//! | a database whose making was cut short | it is made beside its place and moved there when it is on disk |
//! | a snapshot half written, which sled takes for a whole one | removed: what it would hold is in the log |
//! | a lock that a child shares with a process that has just ended | waited for, half a second |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may"))]

use std::ffi::OsString;
use std::fs::{self, DirEntry, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sled::{Config, Db};

/// How often a lock that is held is tried again, and the pause before: half a second in all.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Opens the database in `path`, or makes it there; `config` says the rest. It is asked anew for each of
/// the two, as sled's configurations cannot be copied and then changed.
///
/// # Errors
///
/// As sled; also while another process has it open.
pub fn open(path: &Path, config: impl Fn() -> Config) -> sled::Result<Db> {
    if !path.try_exists()? {
        make(path, config())?;
    }
    forget_half_snapshots(path);
    locked(&config().path(path))
}

#[expect(clippy::disallowed_methods, reason = "whoever opens a database waits for it")]
fn locked(config: &Config) -> sled::Result<Db> {
    let mut tries = LOCK_TRIES;
    loop {
        match config.open() {
            Err(why) if tries > 0 && why.to_string().contains("could not acquire lock") => {
                tries -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// Makes an empty database. sled writes its settings in two steps, and one that is killed between them
/// never opens again.
fn make(path: &Path, config: Config) -> sled::Result<()> {
    let beside = beside(path);
    match fs::remove_dir_all(&beside) {
        Err(why) if why.kind() != ErrorKind::NotFound => return Err(why.into()),
        Ok(()) | Err(_) => {}
    }
    drop(locked(&config.path(&beside))?);
    for file in ["conf", "db", "."] {
        File::open(beside.join(file))?.sync_all()?;
    }
    fs::rename(&beside, path)?;
    File::open(parent(path))?.sync_all()?;
    Ok(())
}

/// `store.new` for `store`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    parent(path).join(name)
}

/// The directory that a path is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn forget_half_snapshots(path: &Path) {
    let half = |entry: &DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("snap.") && name.ends_with(".generating")
    };
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(half) {
        match fs::remove_file(entry.path()) {
            Ok(()) => tracing::info!(file = %entry.path().display(), "a snapshot was half written: removed"),
            Err(why) => tracing::error!(%why, file = %entry.path().display(), "a half snapshot cannot be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_whose_making_was_cut_short_is_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let (path, left) = (home.path().join("store"), home.path().join("store.new"));
        drop(Config::new().path(&left).open().unwrap());
        // As a kill between the two writes of sled's settings leaves them.
        let settings = left.join("conf");
        let whole = fs::read(&settings).unwrap();
        fs::write(&settings, &whole[..whole.len() - 4]).unwrap();
        assert!(Config::new().path(&left).open().is_err(), "sled does not open it any more");
        open(&path, Config::new).unwrap().insert("a", b"1").unwrap();
        assert!(!left.exists());
        assert!(open(&path, Config::new).unwrap().get("a").unwrap().is_some());
    }

    #[test]
    fn a_snapshot_that_was_half_written_does_not_keep_it_closed() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store");
        open(&path, Config::new).unwrap().insert("a", b"1").unwrap();
        for left in ["snap.FFFFFFFFFFFFFFF0.generating", "snap.0000000000000001.generating"] {
            fs::write(path.join(left), b"half").unwrap();
        }
        assert!(open(&path, Config::new).unwrap().get("a").unwrap().is_some());
    }
}
