//! Reads the repository's own files for the tidy tests: what is committed, never what is built.

use std::fs;
use std::path::{Path, PathBuf};

/// What is built, and what the README's programs keep where they are started; git ignores them too.
const NOT_OURS: [&str; 5] = ["target", "node_modules", "__pycache__", "bellwether-data", "bellwether-agent"];

/// One text file: its path from the repository's root, with `/`, and its text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn extension(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    pub(crate) fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    /// The tidy tests name what they ban.
    pub(crate) fn is_tidy(&self) -> bool {
        self.path.starts_with("tests/tidy/")
    }

    /// Every line, numbered from 1.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).map(|(line, at)| (at, line))
    }

    /// Every line less its comment.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(at, line)| (at, without_comment(line)))
    }

    /// Code that is compiled into a product: nothing of a test module, which comes last in a file.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let end = if is_test_file { 1 } else { self.first_test_line() };
        self.code().take_while(move |(at, _)| *at < end)
    }

    fn first_test_line(&self) -> usize {
        let gate = |line: &str| line.trim_start().starts_with("#[cfg(test)]");
        let module = |line: &str| line.trim_start().starts_with("mod ") && line.ends_with('{');
        let mut gated_at = None;
        for (at, line) in self.lines() {
            match gated_at {
                Some(start) if module(line) => return start,
                Some(_) if line.trim_start().starts_with("#[") => {}
                _ => gated_at = gate(line).then_some(at),
            }
        }
        usize::MAX
    }
}

/// Cuts a line at `//`, unless that stands in an address (`mqtt://`).
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line.get(..*at).is_some_and(|before| before.ends_with(':')));
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line)
}

/// The repository's root: the folder above the `tests` crate.
pub(crate) fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Every text file of ours with one of these extensions, in the order of their paths.
pub(crate) fn sources(extensions: &[&str]) -> Vec<Source> {
    let root = repository();
    let mut found = Vec::new();
    walk(&root, "", extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {extensions:?} file under {}", root.display());
    found
}

fn walk(folder: &Path, prefix: &str, extensions: &[&str], found: &mut Vec<Source>) {
    for (name, is_folder) in entries(folder) {
        let path = format!("{prefix}{name}");
        if is_folder {
            walk(&folder.join(&name), &format!("{path}/"), extensions, found);
        } else if extensions.iter().any(|end| name.ends_with(&format!(".{end}"))) {
            match fs::read_to_string(folder.join(&name)) {
                Ok(text) => found.push(Source { path, text }),
                Err(why) => unreachable!("{path} must be readable text: {why}"),
            }
        }
    }
}

/// What a folder holds of ours: each name, and whether it is a folder itself.
pub(crate) fn entries(folder: &Path) -> Vec<(String, bool)> {
    let Ok(listing) = fs::read_dir(folder) else {
        return Vec::new();
    };
    listing
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()))
        .filter(|(name, _)| !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()))
        .collect()
}
