//! The operator's command line: arguments in, API calls and signatures between, data on stdout.
//!
//! Rooms: [`args`], [`catalogue`] and [`ceremony`] what may be typed; [`ask`] the last question; [`failure`] exit
//! codes and what is said on stderr; [`output`] what goes to stdout; [`home`] the files it keeps;
//! [`key`], [`root`], [`model`], [`sign`], [`reject`], [`recall`], [`rollout`], [`device`], [`data`], [`audit`],
//! [`events`], [`webhook`], [`hub`] the nouns; [`signer`] whatever keeps a private key; [`evidence`] and
//! [`verify`] what can be known before a signature; [`export`] a release for programs that know in-toto;
//! [`workbench`], [`vectors`] and [`quantize`] models on the desk, [`bounded`] the process in which they are opened; [`handover`] statements as files; [`doctor`] the
//! checks; [`dev_ca`] certificates to try TLS with. Private keys never leave this process, or never
//! enter it; the hub only ever sees signatures.

mod args;
mod ask;
mod audit;
mod bounded;
mod catalogue;
mod ceremony;
mod data;
mod dev_ca;
mod device;
mod diagnose;
mod doctor;
mod drift;
mod events;
mod evidence;
mod export;
mod failure;
mod handover;
mod home;
mod hub;
mod key;
mod model;
mod offload;
mod output;
mod quantize;
mod recall;
mod reject;
mod release;
mod rollout;
mod root;
mod sign;
mod signer;
mod vectors;
mod verify;
mod webhook;
mod workbench;

use std::ffi::OsString;
use std::process::ExitCode;

use bellwether_link::tls::Trust;
use clap::Parser as _;
use clap::error::ErrorKind;

use crate::client::Client;
use args::{Cli, Command};
use failure::{Exit, Failure};
use home::Home;
use output::Output;

/// What every command works with.
struct Context {
    client: Client,
    home: Home,
    output: Output,
}

/// Parses the arguments, runs the command, says what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = bounded::run_if_child(run) {
        return code;
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Ok(cli) = Cli::try_parse_from(&words)
        && bounded::opens_model(&cli.command)
    {
        let ended = bounded::run(cli.bounds, &words, bounded::beyond(&cli.command));
        return ended.unwrap_or_else(|failure| failure.report()).code();
    }
    run(words).code()
}

/// As [`main`], with these words as arguments, the program's name first.
#[must_use]
pub fn main_with(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    run(words.into_iter().collect()).code()
}

fn run(words: Vec<OsString>) -> Exit {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(refused) => {
            let asked = matches!(refused.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            drop(refused.print());
            return if asked { Exit::Ok } else { Exit::Usage };
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => return Failure::error(format!("no runtime: {fault}")).report(),
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = Box::pin(perform(cli)) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        }
    });
    done.unwrap_or_else(|failure| failure.report())
}

async fn perform(cli: Cli) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let token = match cli.token {
        Some(token) => Some(token),
        None => home.token(&cli.hub)?,
    };
    let client = Client::with_trust(&cli.hub, token, Trust::in_ca(cli.ca))?;
    let context = Context { client, home, output: Output::new(cli.output) };
    match cli.command {
        Command::Key(command) => Box::pin(key::run(&context, command)).await,
        Command::Root(command) => Box::pin(root::run(&context, command)).await,
        Command::Model(command) => Box::pin(model::run(&context, command)).await,
        Command::Approve(given) => Box::pin(sign::approve(&context, given)).await,
        Command::Reject(given) => reject::run(&context, given).await,
        Command::Grant(given) => Box::pin(sign::grant(&context, given)).await,
        Command::Recall(given) => Box::pin(recall::recall(&context, given)).await,
        Command::Checkpoint(given) => Box::pin(recall::checkpoint(&context, given)).await,
        Command::Verify(given) => verify::run(&context, &given),
        Command::Sign(given) => handover::sign(&context, &given),
        Command::Status(given) => handover::status(&context, &given),
        Command::Submit(given) => Box::pin(handover::submit(&context, &given)).await,
        Command::Rollout(command) => rollout::run(&context, command).await,
        Command::Device(command) => device::run(&context, command).await,
        Command::Drift(given) => drift::run(&context, given).await,
        Command::Data(command) => data::run(&context, command).await,
        Command::Audit(command) => audit::run(&context, command).await,
        Command::Events(given) => events::run(&context, given).await,
        Command::Webhook(command) => webhook::run(&context, command).await,
        Command::DevCa(command) => dev_ca::run(&context, command),
        Command::Token(command) => hub::token(&context, command).await,
        Command::Login(given) => hub::login(&context, given).await,
        Command::Backup(given) => hub::backup(&context, given).await,
        Command::Doctor => doctor::run(&context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(words: &[&str]) -> Exit {
        let hub = ["--hub", "http://127.0.0.1:9", "--token", "t"];
        let words = ["bellwether"].iter().chain(&hub).chain(words);
        run(words.map(OsString::from).collect())
    }

    #[test]
    fn exit_codes_tell_what_went_wrong() {
        assert_eq!(exit(&["--help"]), Exit::Ok);
        assert_eq!(exit(&["rollout", "--help"]), Exit::Ok);
        assert_eq!(exit(&["nonsense"]), Exit::Usage);
        assert_eq!(exit(&["rollout", "start", "digits"]), Exit::Usage);
        assert_eq!(exit(&["rollout", "start", "digits:1", "--stage", "half"]), Exit::Usage);
        assert_eq!(exit(&["grant", "digits:1", "--key", "k", "--percent", "120"]), Exit::Usage);
        assert_eq!(exit(&["-o", "yaml", "model", "list"]), Exit::Usage);
        assert_eq!(exit(&["model", "list"]), Exit::Error, "the hub is not there");
    }
}
