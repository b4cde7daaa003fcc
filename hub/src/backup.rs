//! The whole state in one file: a tar archive with the hub's keys, every record and every package.
//!
//! Files of collected rows are not in it: they never change once written, so that any tool copies
//! them, and there may be gigabytes. Rows that are still records are.

use std::io::{self, Read, Write};
use std::path::Path;

use bellwether_protocol::digest::Digest;

use crate::keys;
use crate::store::{SledStore, Store, Write as Put};

/// Name of the entry with the records: key length, key, value length, value, lengths in four bytes.
const RECORDS: &str = "records";
/// Records read or written at once.
const PAGE: usize = 1000;
/// Longest key or value accepted from an archive.
const FIELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the parts lie in the data directory.
#[must_use]
pub fn directories(data: &Path) -> [std::path::PathBuf; 3] {
    [data.join("store"), data.join("packages"), data.join("keys")]
}

/// Writes everything to `out`. Records first, then packages: a package is stored before a record
/// names it, so an archive made while the hub runs is whole.
///
/// # Errors
///
/// As the file system or the store.
pub fn write(data: &Path, store: &dyn Store, out: impl Write) -> io::Result<()> {
    let [_, packages, key_directory] = directories(data);
    let mut archive = tar::Builder::new(out);
    for name in keys::FILES {
        let bytes = std::fs::read(key_directory.join(name))?;
        append(&mut archive, &format!("keys/{name}"), &bytes)?;
    }
    for name in keys::NEXT_FILES {
        match std::fs::read(key_directory.join(name)) {
            Ok(bytes) => append(&mut archive, &format!("keys/{name}"), &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut records = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.scan("", after.as_deref(), PAGE).map_err(io::Error::other)?;
        for stored in &page {
            for field in [stored.key.as_bytes(), &stored.value] {
                let length = u32::try_from(field.len()).map_err(io::Error::other)?;
                records.extend_from_slice(&length.to_le_bytes());
                records.extend_from_slice(field);
            }
        }
        match page.last() {
            Some(last) => after = Some(last.key.clone()),
            None => break,
        }
    }
    append(&mut archive, RECORDS, &records)?;
    for entry in std::fs::read_dir(packages)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<Digest>().is_ok() {
            append(&mut archive, &format!("packages/{name}"), &std::fs::read(entry.path())?)?;
        }
    }
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)
}

/// Restores an archive into a data directory that does not exist or is empty.
///
/// # Errors
///
/// If the directory is in use, or the archive is damaged or cut short: nothing of it is then used.
pub fn restore(archive: impl Read, data: &Path) -> io::Result<()> {
    if data.exists() && std::fs::read_dir(data)?.next().is_some() {
        let text = format!("{} is not empty: restore into a new directory", data.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let [store, packages, key_directory] = directories(data);
    for directory in [&store, &packages, &key_directory] {
        std::fs::create_dir_all(directory)?;
    }
    let outcome = fill(archive, &store, &packages, &key_directory);
    if outcome.is_err() {
        std::fs::remove_dir_all(data)?;
    }
    outcome
}

fn fill(archive: impl Read, store: &Path, packages: &Path, key_directory: &Path) -> io::Result<()> {
    let bad = |text: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the backup is damaged: {text}"));
    let mut seen_records = false;
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        match path.split_once('/') {
            None if path == RECORDS => {
                put_records(&bytes, store).ok_or_else(|| bad("its records do not read"))??;
                seen_records = true;
            }
            Some(("keys", name)) if keys::FILES.contains(&name) || keys::NEXT_FILES.contains(&name) => {
                keys::write_secret(&key_directory.join(name), &bytes)?
            }
            Some(("packages", name)) if name.parse() == Ok(Digest::of(&bytes)) => {
                std::fs::write(packages.join(name), &bytes)?;
            }
            _ => return Err(bad(&format!("entry {path:?} does not belong"))),
        }
    }
    let mut needed = keys::FILES.iter().filter(|name| **name != keys::TIME);
    let whole = seen_records && needed.all(|name| key_directory.join(name).exists());
    if whole { Ok(()) } else { Err(bad("it was cut short")) }
}

fn put_records(mut bytes: &[u8], directory: &Path) -> Option<io::Result<()>> {
    let mut writes = Vec::new();
    while !bytes.is_empty() {
        let key = String::from_utf8(field(&mut bytes)?.to_vec()).ok()?;
        writes.push(Put::put(key, field(&mut bytes)?.to_vec()));
    }
    let put = || -> Result<(), crate::store::StoreError> {
        let store = SledStore::open(directory)?;
        for page in writes.chunks(PAGE) {
            store.commit(page)?;
        }
        store.flush()
    };
    Some(put().map_err(io::Error::other))
}

fn field<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > FIELD_BYTES_MAX {
        return None;
    }
    let (field, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(data: &Path) -> Vec<u8> {
        let [store, packages, key_directory] = directories(data);
        for directory in [&store, &packages, &key_directory] {
            std::fs::create_dir_all(directory).unwrap();
        }
        keys::HubKeys::open(&key_directory).unwrap();
        keys::new_key(&key_directory, keys::Which::Director).unwrap();
        std::fs::write(packages.join(Digest::of(b"package").to_string()), b"package").unwrap();
        let store = SledStore::open(&store).unwrap();
        store.commit(&[Put::put("device/a".into(), b"\x01{}".to_vec()), Put::put("root".into(), vec![1, 2])]).unwrap();
        let mut archive = Vec::new();
        write(data, &store, &mut archive).unwrap();
        archive
    }

    #[test]
    fn a_restored_hub_has_the_same_records_packages_and_keys() {
        let home = tempfile::tempdir().unwrap();
        let archive = made(&home.path().join("a"));
        let data = home.path().join("b");
        restore(archive.as_slice(), &data).unwrap();
        let [store, packages, key_directory] = directories(&data);
        let store = SledStore::open(&store).unwrap();
        assert_eq!(store.get("root").unwrap().unwrap().value, [1, 2]);
        assert_eq!(store.scan("", None, 10).unwrap().len(), 2);
        assert!(packages.join(Digest::of(b"package").to_string()).exists());
        for name in ["director.key", "director.next.key"] {
            let read = |directory: &Path| std::fs::read(directory.join(name)).unwrap();
            assert_eq!(read(&key_directory), read(&home.path().join("a/keys")), "{name}");
        }
    }

    #[test]
    fn a_damaged_backup_restores_nothing() {
        let home = tempfile::tempdir().unwrap();
        let archive = made(&home.path().join("a"));
        for cut in [0, 100, archive.len() / 2] {
            let data = home.path().join("cut");
            assert!(restore(&archive[..cut], &data).is_err(), "cut at {cut}");
            assert!(!data.exists());
        }
        assert!(restore(archive.as_slice(), &home.path().join("a")).is_err(), "never over a hub that is there");
    }
}
