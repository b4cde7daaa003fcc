//! What may be typed: every command with its help and an example.

use std::path::PathBuf;

use bellwether_protocol::id::{DeviceId, ModelRef};
use clap::{Args, Parser, Subcommand};

use crate::api::scope::Scope;
use crate::api::types::{CohortView, FailureAction, Role, RolloutMode};

use super::audit::AuditCommand;
use super::catalogue::ModelCommand;
use super::ceremony::{Approve, Grant, KeyCommand, NewCheckpoint, Recall, RootCommand, Sign, Status, Submit, Verify};
use super::data::DataCommand;
use super::dev_ca::DevCaCommand;
use super::output::Format;

const EXITS: &str = "\
Exit codes:
  0 reached its goal      4 not allowed                 8 waits for a person
  1 error                 5 not found                 130 interrupted
  2 usage                 6 conflict or precondition
  3 rollout failed,       7 timed out waiting
    aborted or rolled back

Examples:
  bellwether login                                  keep an API token for this hub
  bellwether model register digits model.onnx --vectors digits.npz --key publisher
  bellwether approve digits:1 --key bob
  bellwether rollout start digits:1 --stage device=gw-1 --stage 25% --stage 100% --key bob
  bellwether rollout status                         waits until the latest rollout ends";

/// Register models, approve them, roll them out to devices.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, after_help = EXITS, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Address of the hub
    #[arg(long, global = true, env = "BELLWETHER_HUB", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub(super) hub: String,
    /// Authorities to trust at an https hub (PEM), instead of this machine's
    #[arg(long, global = true, env = "BELLWETHER_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// API token; otherwise the one `bellwether login` kept
    #[arg(long, global = true, env = "BELLWETHER_TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,
    /// How results are written to stdout
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
    #[command(flatten)]
    pub(super) bounds: super::bounded::Bounds,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Signing keys on this machine
    #[command(subcommand)]
    Key(KeyCommand),
    /// The fleet's root of trust: who may publish, approve and grant
    #[command(subcommand)]
    Root(RootCommand),
    /// Models and their versions
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check a version's package and sign its release
    #[command(after_help = "Example:\n  bellwether approve digits:1 --key bob")]
    Approve(Approve),
    /// Refuse to approve a version, and say why
    #[command(after_help = "Example:\n  bellwether reject digits:2 --reason \"trained on the test set\"")]
    Reject(super::reject::Reject),
    /// Sign whom a stage may reach
    #[command(after_help = "Example:\n  bellwether grant digits:2 --device gw-1 --percent 25 --percent 100 --key bob")]
    Grant(Grant),
    /// Forbid every device to run a version
    #[command(after_help = "Example:\n  bellwether recall digits:2 --stop --key bob")]
    Recall(Recall),
    /// Sign all recalls and floors in force, so that none can be withheld from a device unseen
    #[command(after_help = "Examples:\n  bellwether checkpoint --key witness\n  \
                            bellwether checkpoint --floor digits:2 --key bob --key carol")]
    Checkpoint(NewCheckpoint),
    /// Check a package without a hub: every digest, its signatures, its golden vectors
    #[command(after_help = "Examples:\n  bellwether verify digits-1.bwp\n  \
                            bellwether verify digits-1.bwp --release digits-1.json --fleet FLEET")]
    Verify(Verify),
    /// Show what a statement handed over as a file says, and sign it
    #[command(after_help = "Example:\n  bellwether sign root-2.json --key cy")]
    Sign(Sign),
    /// Say who signed a statement handed over as a file, and how many are missing
    #[command(after_help = "Example:\n  bellwether status root-2.json")]
    Status(Status),
    /// Send a statement that was handed over as a file
    #[command(after_help = "Examples:\n  bellwether submit root-2.json\n  \
                            bellwether submit root-2-from-bo.json root-2-from-cy.json")]
    Submit(Submit),
    /// Bring a version to the fleet in stages
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// The devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// How values look now against the baseline of the version that scores them
    #[command(after_help = "Examples:\n  bellwether drift\n  bellwether drift digits:2 --site lyon\n  \
                            bellwether drift digits:2 --site lyon --column 'image[12]'")]
    Drift(Drift),
    /// Rows that devices sampled and sent
    #[command(subcommand)]
    Data(DataCommand),
    /// The chain of events, checked; what ran where, and who approved it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What happened, and who did it
    #[command(after_help = "Examples:\n  bellwether events --kind rollout --limit 20\n  \
                            bellwether events --follow -o ndjson")]
    Events(Events),
    /// Send events on to another service, signed and retried
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// Certificates for development, to try TLS with
    #[command(subcommand)]
    DevCa(DevCaCommand),
    /// API tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Keep an API token for this hub, for you only
    #[command(after_help = "Example:\n  bellwether login < token.txt")]
    Login(Login),
    /// Write the hub's whole state to a file
    #[command(after_help = "Example:\n  bellwether backup hub-backup.bwb")]
    Backup(Backup),
    /// Check hub, token, root, keys, broker and clock; print the mend for each failure
    Doctor,
}

#[derive(Debug, Subcommand)]
pub(super) enum RolloutCommand {
    /// Start a rollout
    #[command(
        after_help = "Examples:\n  bellwether rollout start digits:1 --stage device=gw-1 --stage 25% --stage 100% --key bob\n  bellwether rollout start digits:2 --stage 100% --mode shadow --key bob"
    )]
    Start {
        /// Model and version
        model: ModelRef,
        /// device=ID,ID or a share such as 25%; in order, smallest first
        #[arg(long = "stage", value_name = "STAGE", required = true)]
        stages: Vec<CohortView>,
        /// How long a stage must stay healthy
        #[arg(long, value_name = "SECONDS")]
        soak_seconds: Option<u32>,
        /// Devices that may fail or be slow; one more stops the rollout
        #[arg(long, value_name = "NUMBER")]
        max_failures: Option<u32>,
        /// What stopping means: every device goes back, or a person decides [default: rollback]
        #[arg(long, value_name = "rollback|pause", value_parser = failure_action)]
        on_failure: Option<FailureAction>,
        /// Slowest calls that are borne, at the 95th percentile [default: the version's own budget]
        #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
        max_p95_ms: Option<f64>,
        /// How devices run it: `shadow` beside what answers, answering nobody; `urgent` without waiting
        /// for their windows, power, connections or applications; `patient` not before a device knows the
        /// time of its window
        #[arg(long, value_name = "active|shadow|urgent|patient", default_value = "active", hide_default_value = true)]
        mode: RolloutMode,
        /// Also sign the grant of the first stage with this key; the next ones with `bellwether grant`
        #[arg(long = "key")]
        keys: Vec<String>,
        /// Sign the grants of all stages now: a hub that is taken over could then go to the widest at once
        #[arg(long, requires = "keys")]
        grant_ahead: bool,
    },
    /// The rollouts, latest first
    List,
    /// Follow a rollout until it ends or waits for a person
    #[command(
        after_help = "Examples:\n  bellwether rollout status --timeout 600\n  bellwether rollout status ID --no-wait -o json"
    )]
    Status {
        /// The latest if absent
        id: Option<String>,
        /// Say how it stands and leave
        #[arg(long)]
        no_wait: bool,
        /// Give up waiting after this long (exit code 7)
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// Offer it to no further device
    Pause(Act),
    /// Go on after a pause
    Resume(Act),
    /// Go to the next stage now
    Promote(Act),
    /// Give it up: devices return to the version before
    Abort(Act),
    /// Give it up, or take back what completed, and follow until every device has returned
    Rollback(Act),
}

#[derive(Debug, Args)]
pub(super) struct Act {
    /// The rollout's id
    pub(super) id: String,
    /// Why, for the audit trail
    #[arg(long)]
    pub(super) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Drift {
    /// NAME for the monitors of one model, NAME:VERSION for the columns of one version
    pub(super) model: Option<String>,
    /// Of devices with this tag `site`; otherwise of the fleet
    #[arg(long)]
    pub(super) site: Option<String>,
    /// Only this column, with both histograms
    #[arg(long)]
    pub(super) column: Option<String>,
    /// Also versions that no device runs any more
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// The devices
    List {
        /// Only with this tag
        #[arg(long, value_name = "TAG=VALUE")]
        tag: Option<String>,
        /// online, stale, offline, never, updating, failed or out_of_sync
        #[arg(long)]
        state: Option<String>,
    },
    /// One device
    Show {
        /// Its name
        id: DeviceId,
    },
    /// Make a token with which devices enrol
    #[command(after_help = "Example:\n  bellwether device token --tag site=lyon --uses 8")]
    Token {
        /// A tag each of them gets
        #[arg(long = "tag", value_name = "TAG=VALUE", value_parser = pair)]
        tags: Vec<(String, String)>,
        /// How many devices may use it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it is valid
        #[arg(long, value_name = "SECONDS")]
        valid_seconds: Option<u64>,
        /// The one name that may use it
        #[arg(long, value_name = "ID", conflicts_with = "uses")]
        device: Option<DeviceId>,
    },
    /// Make a token with which another machine, or a wiped one, takes a device's name and history
    #[command(after_help = "Example:
  bellwether device replace lyon-03")]
    Replace {
        /// Its name
        id: DeviceId,
        /// How long it is valid
        #[arg(long, value_name = "SECONDS")]
        valid_seconds: Option<u64>,
    },
    /// Register devices by keys that were made elsewhere: a CSV with the columns device and key
    #[command(after_help = "Example:
  bellwether device import batch-7.csv

                            Every other column is a tag. A device makes its key, and prints it, with: bellwether-agent key")]
    Import {
        /// The CSV
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Ask a device to report now
    Report {
        /// Its name
        id: DeviceId,
    },
    /// The end of a device's log, fetched from it now
    #[command(
        after_help = "Examples:\n  bellwether device logs lyon-03\n  bellwether device logs lyon-03 --timeout 60"
    )]
    Logs {
        /// Its name
        id: DeviceId,
        /// How long to wait for it, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 20)]
        timeout: u64,
        /// Show what the hub has, without asking the device
        #[arg(long)]
        no_wait: bool,
    },
    /// What is wrong with a device, and what to do: presence, desired against reported, failures
    #[command(after_help = "Example:\n  bellwether device diagnose lyon-03")]
    Diagnose {
        /// Its name
        id: DeviceId,
    },
    /// Decommission a device: its key no longer connects
    Delete {
        /// Its name
        id: DeviceId,
    },
}

#[derive(Debug, Args)]
pub(super) struct Events {
    /// Go on as they happen, also after a restart of the hub
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Only kinds that begin with this; may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    pub(super) kinds: Vec<String>,
    /// Only about this device
    #[arg(long)]
    pub(super) device: Option<String>,
    /// Only about this model
    #[arg(long)]
    pub(super) model: Option<String>,
    /// How many of the latest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub(super) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum WebhookCommand {
    /// Send events to an address from now on; the secret is shown once
    #[command(after_help = "Examples:\n  bellwether webhook add https://alerts.example.com/bellwether\n  \
                      bellwether webhook add http://127.0.0.1:9000/ --name audit --kind 'rollout_*' --kind install\n\n\
                      Requests are signed as Standard Webhooks has it, and carry a CloudEvent 1.0.")]
    Add {
        /// The receiver's address: http or https
        url: String,
        /// What to call it; its host if absent
        #[arg(long)]
        name: Option<String>,
        /// Only this kind of event, `rollout_*` for all that begin so, `*` for all; may be repeated
        /// [default: drift alerts, and how rollouts end or stand still]
        #[arg(long = "kind", value_name = "KIND")]
        kinds: Vec<String>,
    },
    /// The webhooks, without their secrets
    List,
    /// Stop sending, and forget what could not be delivered
    #[command(after_help = "Example:\n  bellwether webhook remove 0123456789abcdef")]
    Remove {
        /// Its id
        id: String,
    },
    /// What could not be delivered
    #[command(after_help = "Example:\n  bellwether webhook dead 0123456789abcdef -o json")]
    Dead {
        /// Its id
        id: String,
    },
    /// Try dead letters once more
    #[command(after_help = "Examples:\n  bellwether webhook redeliver 0123456789abcdef\n  \
                            bellwether webhook redeliver 0123456789abcdef 42")]
    Redeliver {
        /// Its id
        id: String,
        /// Only the event with this number
        sequence: Option<u64>,
    },
    /// Send a test event now, and say what the receiver answered
    #[command(after_help = "Example:\n  bellwether webhook test 0123456789abcdef")]
    Test {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make an API token; it is shown once
    #[command(
        after_help = "Example:\n  bellwether token new ci --role publisher --scope models:write --scope model=digits\n  \
                            bellwether token new door --role operator --scope devices:enrol --valid-days 7"
    )]
    New {
        /// Who or what will use it
        name: String,
        /// viewer, operator, publisher, approver or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// For how many days; 90 if absent
        #[arg(long, value_name = "DAYS", conflicts_with = "forever")]
        valid_days: Option<u32>,
        /// Without an end
        #[arg(long)]
        forever: bool,
        /// Limit it besides: read, model=PREFIX, models:write, approvals:write, rollouts:write, devices:write,
        /// devices:enrol, webhooks:write or keys:write
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,
    },
    /// The tokens, without their secrets
    List,
    /// End a token
    Delete {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Login {
    /// Forget the token kept for this hub
    #[arg(long)]
    pub(super) forget: bool,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The file to write; it must not exist
    pub(super) file: PathBuf,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((tag, value)) if !tag.is_empty() => Ok((tag.to_owned(), value.to_owned())),
        _ => Err("write TAG=VALUE, such as team=vision".to_owned()),
    }
}

pub(super) fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches("ms").trim().parse().ok();
    number.filter(|ms: &f64| (0.001..=3_600_000.0).contains(ms)).ok_or_else(|| "milliseconds from 0.001 up".to_owned())
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share from 0 to 1".to_owned())
}

fn failure_action(text: &str) -> Result<FailureAction, String> {
    match text {
        "rollback" => Ok(FailureAction::Rollback),
        "pause" => Ok(FailureAction::Pause),
        _ => Err("rollback or pause".to_owned()),
    }
}

pub(super) fn percent(text: &str) -> Result<f64, String> {
    match format!("{}%", text.trim_end_matches('%')).parse() {
        Ok(CohortView::Percent(percent)) => Ok(percent),
        _ => Err("a share is more than 0 and at most 100".to_owned()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.name() == text);
    found.ok_or_else(|| "one of viewer, operator, publisher, approver, admin".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn stages_and_tags_are_read_as_written() {
        let words = "bellwether rollout start digits:2 --stage device=gw-1,gw-2 --stage 25% --key bob";
        let Command::Rollout(RolloutCommand::Start { stages, keys, .. }) =
            Cli::try_parse_from(words.split(' ')).unwrap().command
        else {
            panic!("another command");
        };
        assert_eq!(stages.len(), 2);
        assert_eq!(keys, ["bob"]);
        assert!(pair("team").is_err());
        assert_eq!(percent("0.5").unwrap().to_string(), "0.5");
    }
}
