//! How the program is linked where it shall be small.

use std::env;
use std::process::Command;

/// The first glibc that reads packed relocations, of 2022.
const GLIBC_MIN: (u32, u32) = (2, 36);

/// Under a profile that optimises for size, the list of addresses that the loader must correct is
/// packed: a megabyte less to keep, and to read at each start. A program need not run on a glibc
/// older than the one it was built on, so that one decides.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_small = env::var("OPT_LEVEL").is_ok_and(|level| level == "s" || level == "z");
    if is_small && env::var("HOST") == env::var("TARGET") && glibc().is_some_and(|version| version >= GLIBC_MIN) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, if it has one.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
