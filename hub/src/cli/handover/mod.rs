//! Statements handed from person to person as files: made on one machine, signed on others, sent by
//! any, with the hub reachable or not.
//!
//! ```text
//!   root rotate, approve, grant, recall, checkpoint --out FILE
//!        │
//!        ▼     bellwether sign FILE --key ...     (as often as it takes, where the keys are)
//!      FILE ── bellwether status FILE             who signed, how many are missing
//!        │
//!        ▼
//!      bellwether submit FILE [COPY ...]          copies of one statement are put together
//! ```
//!
//! A file is not trusted: it carries the roots from version 1 on, which are checked against the fleet
//! that is pinned on this machine or named with `--fleet`.

mod act;
mod count;
pub(super) mod words;

use std::path::Path;

use bellwether_protocol::id::ModelRef;
use bellwether_protocol::trust::{FleetId, TrustedRoot};
use serde::{Deserialize, Serialize};

use super::Context;
use super::failure::{Exit, Failure};
use super::home::{Home, read_up_to, write_new};
use super::release::{Chain, Held};

pub(super) use act::{add, sign, status, submit};
pub(super) use count::{Need, Standing, standing};
pub(super) use words::says;

/// Largest file: a chain of 256 roots, base64, and some room.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What kind of statement a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Root,
    Release,
    Grant,
    Recall,
    Checkpoint,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Grant => "grant",
            Self::Recall => "recall",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A statement on its way between people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// What it is.
    pub(super) kind: Kind,
    /// The fleet it is for.
    pub(super) fleet: FleetId,
    /// Base64 of a frame holding the statement and the signatures so far.
    pub(super) statement: String,
    /// Every root up to the one that counts, base64, oldest first; none beside a fleet's first root.
    #[serde(default)]
    pub(super) roots: Vec<String>,
    /// The model and version it is about, to send it to the right place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<ModelRef>,
    /// The release that a grant is for, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) release: Option<String>,
}

impl Document {
    /// A statement about nothing but itself.
    pub(super) fn new(kind: Kind, chain: &Chain, statement: &Held) -> Self {
        Self {
            kind,
            fleet: chain.trusted.fleet(),
            statement: statement.text(),
            roots: chain.statements.clone(),
            model: None,
            release: None,
        }
    }

    /// The first root of a fleet, which is its own authority.
    pub(super) fn first_root(fleet: FleetId, statement: &Held) -> Self {
        Self { kind: Kind::Root, fleet, statement: statement.text(), roots: Vec::new(), model: None, release: None }
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        serde_json::from_str(&read_up_to(path, FILE_BYTES_MAX)?).map_err(|fault| {
            Failure::error(format!("{} is no statement that was handed over: {fault}", path.display())).next(
                "`bellwether root rotate`, and approve, grant, recall and checkpoint with --out, write such files",
            )
        })
    }

    /// Writes a new file, and says what to do with it.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        write_new(path, self.text()?.as_bytes(), 0o644)?;
        eprintln!("written to {}; it holds no secret", path.display());
        Ok(())
    }

    /// Puts it in the place of the file it was read from.
    fn replace(&self, path: &Path) -> Result<(), Failure> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = Path::new(&fresh);
        write_new(fresh, self.text()?.as_bytes(), 0o644)?;
        std::fs::rename(fresh, path).map_err(|fault| Failure::file(path, &fault))
    }

    fn text(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|fault| Failure::error(fault.to_string()))?;
        Ok(text + "\n")
    }

    pub(super) fn held(&self) -> Result<Held, Failure> {
        Held::read(&self.statement)
    }

    /// The root that counts for it, by the chain it carries; nothing for a first root.
    pub(super) fn trusted(&self, home: &Home, fleet: Option<FleetId>) -> Result<Option<TrustedRoot>, Failure> {
        if self.roots.is_empty() && self.kind == Kind::Root {
            return Ok(None);
        }
        let is_ours = match fleet {
            Some(fleet) => fleet == self.fleet,
            None => home.pins(self.fleet)?,
        };
        if !is_ours {
            let cause = format!("this {} is for the fleet {}, which is not pinned here", self.kind.name(), self.fleet);
            return Err(Failure::new(Exit::NotAllowed, cause)
                .next(format!("compare the id with whoever made the root, then add --fleet {}", self.fleet)));
        }
        let trusted = Chain::walk(self.fleet, self.roots.clone())?.trusted;
        let (version, seen) = (trusted.root().version, home.root_seen(self.fleet)?);
        if version < seen {
            let cause = format!("it carries root version {version}, but {seen} was seen here");
            return Err(Failure::new(Exit::Conflict, cause).next("have it made again from the root that counts now"));
        }
        Ok(Some(trusted))
    }

    /// The same statement with the signatures of another copy too.
    fn merged(self, other: &Self) -> Result<Self, Failure> {
        let (mine, theirs) = (self.held()?, other.held()?);
        if self.kind != other.kind || self.fleet != other.fleet || mine.signed()?.body != theirs.signed()?.body {
            return Err(Failure::new(Exit::Conflict, "the files hold different statements, not copies of one"));
        }
        let statement = mine.with(&theirs.signed()?.signatures)?.text();
        Ok(Self { statement, ..self })
    }
}

/// Writes a statement for others to sign, and says how it stands.
pub(super) fn hand_over(context: &Context, document: &Document, path: &Path) -> Result<Exit, Failure> {
    document.write(path)?;
    let trusted = document.trusted(&context.home, Some(document.fleet))?;
    act::say_standing(context, document, trusted.as_ref(), path).map(|_| Exit::Ok)
}
