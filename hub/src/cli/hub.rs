//! The hub itself: API tokens, login, backup.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use bellwether_protocol::time::Millis;
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::args::{Backup, Login, TokenCommand};
use super::failure::{Exit, Failure};
use super::home::write_new;
use crate::api::types::TokenRequest;
use crate::date::Moment;

/// Longest token that is read from stdin.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(super) async fn token(context: &Context, command: TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::New { name, role, valid_days, forever, scopes } => {
            let request = TokenRequest { name, role, valid_days, forever, scopes };
            let made = context.client.create_token(&request).await?;
            context.output.one(&made, &[("token", made.token.clone()), ("id", made.id.clone())], &made.token)?;
        }
        TokenCommand::List => {
            let tokens = context.client.tokens().await?.items;
            context.output.list(
                &tokens,
                &[
                    ("ID", &|token| token.id.clone()),
                    ("NAME", &|token| token.name.clone()),
                    ("ROLE", &|token| token.role.name().to_owned()),
                    ("LIMITED TO", &|token| token.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
                    ("ENDS", &|token| token.expires_ms.map_or_else(|| "never".to_owned(), day)),
                ],
                |token| token.id.clone(),
                "no token",
            )?;
        }
        TokenCommand::Delete { id } => {
            context.client.delete_token(&id).await?;
            eprintln!("the token {id} is ended");
        }
    }
    Ok(Exit::Ok)
}

/// The day of a moment, such as `2027-02-23`.
fn day(at_ms: u64) -> String {
    let Moment { year, month, day, .. } = Moment::of(Millis(at_ms));
    format!("{year:04}-{month:02}-{day:02}")
}

pub(super) async fn login(context: &Context, given: Login) -> Result<Exit, Failure> {
    let hub = context.client.base();
    if given.forget {
        context.home.keep_token(hub, None)?;
        eprintln!("the token for {hub} is forgotten here; end it with `bellwether token delete ID`");
        return Ok(Exit::Ok);
    }
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        eprint!("API token for {hub}, then Enter and Ctrl-D: ");
    }
    let mut text = String::new();
    let read = std::io::Read::by_ref(&mut stdin).take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|fault| Failure::error(format!("no token on stdin: {fault}")))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::new(Exit::Usage, "no token was given").next("bellwether login < FILE"));
    }
    context.client.with_token(Some(token.to_owned())).overview().await?;
    let path = context.home.keep_token(hub, Some(token))?;
    eprintln!("kept for {hub} in {}", path.display());
    Ok(Exit::Ok)
}

pub(super) async fn backup(context: &Context, given: Backup) -> Result<Exit, Failure> {
    let path = given.file.as_path();
    let part = path.with_extension("part");
    if path.exists() {
        return Err(
            Failure::new(Exit::Conflict, format!("{} exists already", path.display())).next("choose another name")
        );
    }
    let mut response = context.client.backup().await?;
    let bar = ProgressBar::new(response.content_length().unwrap_or_default());
    if let Ok(style) = ProgressStyle::with_template("backing up {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    write_new(&part, &[], 0o600)?;
    let written = save(&mut response, &part, &bar).await;
    bar.finish_and_clear();
    let named = written.and_then(|()| std::fs::rename(&part, path).map_err(|fault| Failure::file(path, &fault)));
    if let Err(failure) = named {
        drop(std::fs::remove_file(&part));
        return Err(failure);
    }
    eprintln!(
        "{} holds the hub's whole state, its private keys included; restore it with `bellwether-hub restore`",
        path.display()
    );
    Ok(Exit::Ok)
}

async fn save(response: &mut reqwest::Response, part: &Path, bar: &ProgressBar) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().append(true).open(part);
    let mut file = file.map_err(|fault| Failure::file(part, &fault))?;
    let broken = |fault: reqwest::Error| Failure::error(format!("the backup broke off: {fault}")).next("try again");
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        file.write_all(&piece).map_err(|fault| Failure::file(part, &fault))?;
        bar.inc(piece.len() as u64);
    }
    file.sync_all().map_err(|fault| Failure::file(part, &fault))
}
