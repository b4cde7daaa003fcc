//! What whoever approves a package can know by themselves: every digest again, the preparation
//! again, the golden vectors again, and what changes against the version that runs.
//!
//! Rooms: here what follows from the package and its release alone; [`compare`] what changes;
//! [`reports`] what devices signed of themselves; [`stage`] what follows for the next stage.

pub(super) mod compare;
pub(super) mod reports;
pub(super) mod stage;

use bellwether_protocol::digest::Digest;
use bellwether_protocol::manifest::{File, FileRole};
use bellwether_protocol::package::Package;
use bellwether_protocol::trust::Release;
use bellwether_runtime::prepare::{repeat, repeat_from, tensors_digest};
use bellwether_runtime::{ExamineError, Examined, examine};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::handover::Standing;
use super::handover::words::conditions;
use super::release::refused;
use compare::Compared;

/// Where the salt of the buckets comes from (decision 0003).
const SALT_FROM: &str = "drawn at random by the publisher's command line and signed with the release; not by the hub";

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    /// Its name and, if a release says so, its version.
    pub(super) model: String,
    /// Digest of the package.
    pub(super) package: String,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Every check, in the order in which they were made.
    pub(super) checks: Vec<Check>,
    /// The files in it.
    pub(super) files: Vec<FileFound>,
    /// Whether it came with golden vectors, all reproduced here.
    pub(super) golden: bool,
    /// The version below which there is no way back; 0 for none.
    pub(super) floor: u32,
    /// What the release demands and forbids beyond its package, in words.
    pub(super) conditions: Vec<String>,
    /// What decides who goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) salt: Option<Salt>,
    /// What changes against the version that runs on the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<Compared>,
    /// Who signed, where a release was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signatures: Option<Standing>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was compared.
    pub(super) what: &'static str,
    /// Whether it is as it should be.
    pub(super) ok: bool,
    /// What was found.
    pub(super) found: String,
}

/// A file in the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FileFound {
    /// Its name.
    pub(super) name: String,
    /// Its size in bytes.
    pub(super) size: u32,
    /// Its digest, computed here.
    pub(super) digest: String,
}

/// The salt and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Salt {
    /// In hexadecimal.
    pub(super) value: String,
    /// Who drew it.
    pub(super) from: &'static str,
}

impl Evidence {
    /// Looks into a package, and at what its release says of it if there is one.
    pub(super) fn of(bytes: &[u8], release: Option<&Release>, source: Option<&[u8]>) -> Result<Self, Failure> {
        let damaged = |why: &dyn std::fmt::Display| {
            Failure::new(Exit::Conflict, format!("the package does not hold: {why}"))
                .next("do not sign it, do not use it")
        };
        let opened = Package::open(bytes).map_err(|reject| damaged(&reject))?;
        let examined = examine(bytes).map_err(|fault| damaged(&fault))?;
        let again = repeat(bytes).map_err(|fault| damaged(&fault))?;
        let mut checks = vec![Check::new("preparation", again.package == bytes, {
            let taken = if examined.baseline.is_empty() { "" } else { ", the baseline taken as it is" };
            format!("repeated here from {}{taken}: {}", examined.source, said(again.package == bytes, "the same bytes"))
        })];
        checks.extend(from_source(bytes, &examined, source).map_err(|fault| damaged(&fault))?);
        if let Some(release) = release {
            checks.extend(against(&examined, release)?);
        }
        let files = opened.files().map(|(file, bytes)| FileFound {
            name: file.name.to_string(),
            size: file.size,
            digest: Digest::of(bytes).to_string(),
        });
        let golden = examined.golden.as_ref();
        checks.push(Check::new("golden vectors", true, golden.map_or_else(unchecked, ToString::to_string)));
        Ok(Self {
            model: release.map_or_else(|| examined.manifest.name.to_string(), |release| release.model().to_string()),
            package: examined.package_ref.digest.to_string(),
            size: examined.package_ref.size,
            checks,
            files: files.collect(),
            golden: golden.is_some(),
            floor: release.map_or(0, |release| release.security_floor),
            conditions: release.map(conditions).unwrap_or_default(),
            salt: release.map(|release| Salt { value: hex::encode(release.salt), from: SALT_FROM }),
            against: None,
            signatures: None,
        })
    }

    /// Fails with what does not fit.
    pub(super) fn demand(&self) -> Result<(), Failure> {
        let wrong: Vec<String> = self
            .checks
            .iter()
            .filter(|check| !check.ok)
            .map(|check| format!("{}: {}", check.what, check.found))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Conflict,
            format!("the release of {} does not describe its package: {}", self.model, wrong.join("; ")),
        )
        .next("do not sign it; ask the publisher to register it again"))
    }

    /// For people, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{}: package {} ({} bytes)", self.model, self.package, self.size)];
        for check in &self.checks {
            lines.push(format!("  {} {:14} {}", if check.ok { "ok " } else { "NO " }, check.what, check.found));
        }
        if !self.golden {
            lines.push("  !   it came without golden vectors: nobody knows whether it scores rightly".to_owned());
        }
        if let Some(salt) = &self.salt {
            lines.push(format!("      who goes first {} ({})", salt.value, salt.from));
        }
        lines.extend(self.conditions.iter().map(|line| format!("  !!  {line}")));
        lines.extend(self.against.iter().flat_map(Compared::lines));
        if let Some(standing) = &self.signatures {
            lines.extend(standing.needs.iter().map(|need| format!("      {}", need.line())));
            lines.extend(standing.void.iter().map(|why| format!("  !   {why}")));
        }
        lines
    }
}

impl Check {
    fn new(what: &'static str, ok: bool, found: String) -> Self {
        Self { what, ok, found }
    }

    fn same(what: &'static str, found: &Digest, release: &Digest) -> Self {
        let ok = found == release;
        let text = if ok { found.to_string() } else { format!("{found} here, {release} in the release") };
        Self::new(what, ok, text)
    }
}

fn unchecked() -> String {
    "none: it came without".to_owned()
}

fn said(ok: bool, what: &str) -> String {
    if ok { what.to_owned() } else { format!("NOT {what}") }
}

/// A model that was rewritten, repeated from the file it was made from, if that is here.
fn from_source(bytes: &[u8], examined: &Examined, source: Option<&[u8]>) -> Result<Option<Check>, ExamineError> {
    const WHAT: &str = "rewriting";
    let is_model = |file: &&File| file.role == FileRole::Model;
    let is_whole = examined.manifest.files.iter().find(is_model).is_some_and(|file| file.digest == examined.source);
    let Some(source) = source else {
        let found = format!("made from {}, which is not in the package: --source FILE repeats it", examined.source);
        return Ok((!is_whole).then(|| Check::new(WHAT, true, found)));
    };
    let is_it = Digest::of(source) == examined.source;
    let same = is_it && (is_whole || repeat_from(bytes, source)?.package == bytes);
    let found = format!("repeated here from {}: {}", Digest::of(source), said(same, "the same bytes"));
    Ok(Some(Check::new(WHAT, same, found)))
}

/// Everything a release says of its package, computed again.
fn against(examined: &Examined, release: &Release) -> Result<Vec<Check>, Failure> {
    let got = &examined.package_ref;
    let tensors =
        tensors_digest(&examined.manifest.tensors).map_err(|reject| refused("the tensor signature", reject))?;
    let is_named = examined.manifest.name == release.name && examined.manifest.kind == release.kind;
    let mut checks = vec![
        Check::same("package", &got.digest, &release.package.digest),
        Check::new("size", got.size == release.package.size, format!("{} bytes", got.size)),
        Check::same("chunk table", &got.chunks, &release.package.chunks),
        Check::new("name", is_named, examined.manifest.name.to_string()),
        Check::same("source", &examined.source, &release.source),
        Check::same("tensors", &tensors, &release.tensors),
    ];
    let Some(facts) = &examined.facts else {
        let why = examined.deployable.clone().err().unwrap_or_default();
        checks.push(Check::new("deployable", false, format!("devices cannot run it: {why}")));
        return Ok(checks);
    };
    let (needs, had) = (release.requires, (facts.opset, facts.memory_kib));
    let enough = needs.operators >= facts.opset && needs.memory_kib >= facts.memory_kib;
    let found =
        format!("operator set {}, {} KiB; the model takes {}, {} KiB", needs.operators, needs.memory_kib, had.0, had.1);
    checks.push(Check::new("requirements", enough, found));
    Ok(checks)
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use bellwether_protocol::heapless;
    use bellwether_protocol::trust::Requires;
    use bellwether_runtime::{Beside, prepare};

    pub(in crate::cli) fn made() -> (Vec<u8>, Release) {
        let model = include_bytes!("../../../../tests/data/digits-linear.onnx");
        let vectors = include_bytes!("../../../../tests/data/digits-linear.vectors.npz");
        let beside = Beside { vectors: Some(vectors), ..Beside::default() };
        let prepared = prepare(&"digits".parse().unwrap(), "m.onnx", model, &beside).unwrap();
        let facts = prepared.facts.unwrap();
        let release = Release {
            kind: prepared.manifest.kind,
            name: "digits".parse().unwrap(),
            version: "1".parse().unwrap(),
            source: prepared.source,
            package: prepared.package_ref,
            requires: Requires { agent: [0, 1, 0], operators: facts.opset, memory_kib: facts.memory_kib },
            hardware: heapless::Vec::new(),
            tensors: tensors_digest(&prepared.manifest.tensors).unwrap(),
            security_floor: 0,
            salt: [7; 16],
            checkpoint: 0,
            validity: None,
        };
        (prepared.package, release)
    }

    #[test]
    fn a_true_release_passes_every_check_and_says_who_drew_the_salt() {
        let (package, release) = made();
        let found = Evidence::of(&package, Some(&release), None).unwrap();
        found.demand().unwrap();
        assert!(found.golden && found.checks.len() >= 8);
        let said = found.lines().join("\n");
        assert!(said.contains("by the publisher's command line") && !said.contains("NO WAY BACK"), "{said}");
        let floor = Evidence::of(&package, Some(&Release { security_floor: 3, ..release }), None).unwrap();
        assert!(floor.lines().join("\n").contains("NO WAY BACK below version 3"));
    }

    #[test]
    fn each_untrue_word_of_a_release_is_found() {
        let (package, release) = made();
        let wrong = Digest::of(b"wrong");
        let refs = release.package;
        let cases = [
            (
                "package",
                Release {
                    package: bellwether_protocol::trust::PackageRef { digest: wrong, ..refs },
                    ..release.clone()
                },
            ),
            (
                "size",
                Release { package: bellwether_protocol::trust::PackageRef { size: 1, ..refs }, ..release.clone() },
            ),
            (
                "chunk table",
                Release {
                    package: bellwether_protocol::trust::PackageRef { chunks: wrong, ..refs },
                    ..release.clone()
                },
            ),
            ("name", Release { name: "other".parse().unwrap(), ..release.clone() }),
            ("source", Release { source: wrong, ..release.clone() }),
            ("tensors", Release { tensors: wrong, ..release.clone() }),
            ("requirements", Release { requires: Requires { memory_kib: 1, ..release.requires }, ..release.clone() }),
        ];
        for (what, release) in cases {
            let found = Evidence::of(&package, Some(&release), None).unwrap();
            let wrong: Vec<_> = found.checks.iter().filter(|check| !check.ok).map(|check| check.what).collect();
            assert_eq!(wrong, [what]);
            assert!(found.demand().is_err());
        }
    }

    #[test]
    fn a_damaged_package_is_refused_before_it_is_looked_into() {
        let (mut package, release) = made();
        let last = package.len() - 1;
        package[last] ^= 1;
        assert!(Evidence::of(&package, None, None).is_err());
        assert!(Evidence::of(&package, Some(&release), None).is_err());
    }
}
