//! What may be typed about keys, roots, and statements that people sign.

use std::path::PathBuf;

use bellwether_protocol::id::{DeviceId, ModelRef, Person};
use bellwether_protocol::trust::{FleetId, PublicKey};
use clap::{Args, Subcommand, ValueEnum};

use super::args::percent;
use super::key::Class;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make or adopt a signing key; the public half is printed and saved
    #[command(after_help = "Examples:\n  bellwether key new bob --person \"Bob Brown\" --role approve\n  \
                      bellwether key new bob --person \"Bob Brown\" --class ssh-agent --identity bob@laptop\n  \
                      bellwether key new bob --person \"Bob Brown\" --class pkcs11 \\\n      \
                      --module /usr/lib/softhsm/libsofthsm2.so --token people")]
    New(NewKey),
    /// The keys on this machine
    List,
    /// One key: what keeps it, and its public half
    Show {
        /// Its name, or a .pub file
        key: String,
    },
    /// Draft the next root with a key more
    #[command(after_help = "Examples:\n  bellwether key enroll dee.pub --role approve --role grant\n  \
                            bellwether key enroll --request 0123456789abcdef --role approve")]
    Enroll(Box<Enroll>),
    /// Draft the next root in which a key signs no more, but what it signed counts
    #[command(after_help = "Example:\n  bellwether key retire bob --key cy")]
    Retire {
        /// Its name, a .pub file, or its id
        key: String,
        #[command(flatten)]
        draft: Draft,
    },
    /// Draft the next root in which nothing that a key ever signed counts: it was stolen
    #[command(after_help = "Example:\n  bellwether key revoke bob --key cy")]
    Revoke {
        /// Its name, a .pub file, or its id
        key: String,
        #[command(flatten)]
        draft: Draft,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewKey {
    /// Name of the key's files
    pub(super) name: String,
    /// Whose it is; thresholds count persons
    #[arg(long)]
    pub(super) person: Person,
    /// What it is meant for; the root decides
    #[arg(long = "role", value_enum)]
    pub(super) roles: Vec<KeyRole>,
    /// What keeps the private half
    #[arg(long, value_enum, default_value_t = Class::File)]
    pub(super) class: Class,
    /// Which key of the ssh-agent (fingerprint or comment) or of the token (label) [default: NAME]
    #[arg(long, value_name = "WHICH")]
    pub(super) identity: Option<String>,
    /// PKCS#11 module of the token; its PIN is asked for, or taken from BELLWETHER_PIN
    #[arg(long, value_name = "FILE")]
    pub(super) module: Option<String>,
    /// Label of the token
    #[arg(long, value_name = "LABEL")]
    pub(super) token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyRole {
    Publish,
    Approve,
    Grant,
    Root,
    Witness,
}

#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// Its name, or a .pub file
    #[arg(required_unless_present = "request")]
    pub(super) key: Option<String>,
    /// Instead: a request that a browser posted at the hub, by the id of its key
    #[arg(long, value_name = "ID", conflicts_with = "key")]
    pub(super) request: Option<String>,
    /// What it may sign
    #[arg(long = "role", value_enum, required = true)]
    pub(super) roles: Vec<KeyRole>,
    /// Only models whose names begin so
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    #[command(flatten)]
    pub(super) draft: Draft,
}

/// Where a draft goes, and who signs it at once.
#[derive(Debug, Default, Args)]
pub(super) struct Draft {
    /// Sign it with this key
    #[arg(long = "key", value_name = "KEY")]
    pub(super) keys: Vec<String>,
    /// Write it here [default: root-VERSION.json]
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
    /// Make the root of trust and with it the fleet; once
    #[command(after_help = "Examples:\n  bellwether root init --publisher alice --approver bob --approver carol\n  \
                      bellwether root init --publisher alice.pub --approver bob --approver carol.pub --out root-1.json")]
    Init(Box<InitRoot>),
    /// Draft the next version of the root, for two people to sign and one to submit
    #[command(
        after_help = "Examples:\n  bellwether root rotate --add dee.pub --role approve --role grant --key bob\n  \
                      bellwether root rotate --retire bob --approve-threshold 1 --key carol"
    )]
    Rotate(Box<Rotate>),
    /// The keys and thresholds of the root
    Show,
    /// Trust this fleet on this machine, after comparing its id with whoever made the root
    Pin {
        /// The fleet's id: 32 hexadecimal digits
        fleet: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct InitRoot {
    /// Key that publishes: a name, or a colleague's .pub file
    #[arg(long = "publisher", value_name = "KEY", required = true)]
    pub(super) publishers: Vec<String>,
    /// Key that approves, grants and signs roots
    #[arg(long = "approver", value_name = "KEY", required = true)]
    pub(super) approvers: Vec<String>,
    /// Key outside the hub that signs checkpoints
    #[arg(long = "witness", value_name = "KEY")]
    pub(super) witnesses: Vec<String>,
    /// Persons who must approve a release
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) approve_threshold: u8,
    /// Persons who must sign a grant
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) grant_threshold: u8,
    /// Persons who must sign a root [default: as many as approve]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) root_threshold: Option<u8>,
    /// At least one approval must come from a key that is not in a browser
    #[arg(long)]
    pub(super) offline_approval: bool,
    /// A key decides only about models whose names begin so
    #[arg(long = "prefix", value_name = "KEY=PREFIX", value_parser = pair)]
    pub(super) prefixes: Vec<(String, String)>,
    /// Write it to a file for others to sign, instead of sending it
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub(super) struct Rotate {
    /// Take this key in: a name, a .pub file
    #[arg(long, value_name = "KEY", requires = "roles")]
    pub(super) add: Vec<String>,
    /// Take in the key of a request at the hub, by its id
    #[arg(long, value_name = "ID", requires = "roles")]
    pub(super) request: Vec<String>,
    /// What the keys taken in may sign
    #[arg(long = "role", value_enum)]
    pub(super) roles: Vec<KeyRole>,
    /// Of which models: those whose names begin so
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    /// This key signs no more, but what it signed counts
    #[arg(long, value_name = "KEY")]
    pub(super) retire: Vec<String>,
    /// Nothing that this key ever signed counts
    #[arg(long, value_name = "KEY")]
    pub(super) revoke: Vec<String>,
    /// Leave a key out that was retired or revoked: nothing it ever signed counts, and its place is free
    #[arg(long, value_name = "KEY")]
    pub(super) forget: Vec<String>,
    /// Persons who must approve a release
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) approve_threshold: Option<u8>,
    /// Persons who must sign a grant
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) grant_threshold: Option<u8>,
    /// Persons who must sign a root
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) root_threshold: Option<u8>,
    /// Whether at least one approval must come from a key that is not in a browser
    #[arg(long, value_name = "true|false")]
    pub(super) offline_approval: Option<bool>,
    /// The hub's director key from now on, as `bellwether-hub new-key` prints it; the one before is retired
    #[arg(long, value_name = "PUBLIC")]
    pub(super) new_director: Option<PublicKey>,
    /// The hub's registry key from now on, in hexadecimal; the one before is retired
    #[arg(long, value_name = "PUBLIC")]
    pub(super) new_registry: Option<PublicKey>,
    /// The hub's time key from now on, in hexadecimal; the one before is retired
    #[arg(long, value_name = "PUBLIC")]
    pub(super) new_time: Option<PublicKey>,
    #[command(flatten)]
    pub(super) draft: Draft,
}

#[derive(Debug, Args)]
pub(super) struct Approve {
    /// Model and version
    pub(super) model: ModelRef,
    /// The approver's key
    #[arg(long, required_unless_present = "dry_run")]
    pub(super) key: Option<String>,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
    /// Check everything and print what was found, without signing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Write the signed release to a file instead of sending the signature
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// The model file that the package was made from: what was rewritten is rewritten here once more
    #[arg(long, value_name = "FILE")]
    pub(super) source: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Grant {
    /// Model and version
    pub(super) model: ModelRef,
    /// A device by name; all named ones make one stage
    #[arg(long = "device", value_name = "ID", required_unless_present = "percents")]
    pub(super) devices: Vec<DeviceId>,
    /// A share of the fleet; each makes a stage
    #[arg(long = "percent", value_name = "SHARE", value_parser = percent)]
    pub(super) percents: Vec<f64>,
    /// An approver's key; repeat it where the root asks for more than one person
    #[arg(long = "key", required = true)]
    pub(super) keys: Vec<String>,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
    /// Sign even if no device of the stage before is healthy
    #[arg(long)]
    pub(super) force: bool,
    /// Write the grant to a file, for others to sign, instead of sending it
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Recall {
    /// Model and version
    pub(super) model: ModelRef,
    /// An approver's key: one is enough, for stopping is cheaper than starting
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(super) keys: Vec<String>,
    /// Where a device has nothing lawful to go back to, let nothing answer
    #[arg(long)]
    pub(super) stop: bool,
    /// Where a device has nothing lawful to go back to, let it go on answering; so unless --stop
    #[arg(long, conflicts_with = "stop")]
    pub(super) keep: bool,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
    /// Write it to a file instead of sending it
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct NewCheckpoint {
    /// A key of an approver, or of a witness outside the hub; with --floor as many approvers as a
    /// release takes
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(super) keys: Vec<String>,
    /// No version of this model below this one may be installed any more
    #[arg(long = "floor", value_name = "MODEL:VERSION")]
    pub(super) floors: Vec<ModelRef>,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
    /// Write it to a file, for others to sign, instead of sending it
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The package, as `bellwether model download` keeps it
    pub(super) package: PathBuf,
    /// The model file that it was made from: what was rewritten is rewritten here once more
    #[arg(long, value_name = "FILE")]
    pub(super) source: Option<PathBuf>,
    /// Its release with signatures, a file that was handed over
    #[arg(long, value_name = "FILE")]
    pub(super) release: Option<PathBuf>,
    /// The root to check signatures against, a file that was handed over [default: the release's]
    #[arg(long, value_name = "FILE", requires = "release")]
    pub(super) root: Option<PathBuf>,
    /// The fleet it must be for, if none is pinned here
    #[arg(long, requires = "release")]
    pub(super) fleet: Option<FleetId>,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The file
    pub(super) file: PathBuf,
    /// The key to sign with
    #[arg(long = "key", value_name = "KEY", required = true)]
    pub(super) keys: Vec<String>,
    /// The fleet it must be for, if none is pinned here
    #[arg(long)]
    pub(super) fleet: Option<FleetId>,
    /// Don't ask before signing
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// The file
    pub(super) file: PathBuf,
    /// The fleet it must be for, if none is pinned here
    #[arg(long)]
    pub(super) fleet: Option<FleetId>,
}

#[derive(Debug, Args)]
pub(super) struct Submit {
    /// The file; several copies of one statement are put together
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// The fleet it must be for, if none is pinned here
    #[arg(long)]
    pub(super) fleet: Option<FleetId>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, prefix)) if !key.is_empty() => Ok((key.to_owned(), prefix.to_owned())),
        _ => Err("write KEY=PREFIX, such as bob=vision-".to_owned()),
    }
}
