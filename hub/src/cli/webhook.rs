//! Webhooks: add, list, remove, test; what could not be delivered, and one more try of it.

use super::Context;
use super::args::WebhookCommand;
use super::failure::{Exit, Failure};
use crate::api::types::{DeadLetterView, WebhookRequest, WebhookView};

pub(super) async fn run(context: &Context, command: WebhookCommand) -> Result<Exit, Failure> {
    match command {
        WebhookCommand::Add { url, name, kinds } => add(context, &WebhookRequest { url, name, kinds }).await,
        WebhookCommand::List => list(context).await,
        WebhookCommand::Remove { id } => {
            context.client.delete_webhook(&id).await?;
            eprintln!("nothing more is sent by the webhook {id}");
            Ok(Exit::Ok)
        }
        WebhookCommand::Dead { id } => dead(context, &id).await,
        WebhookCommand::Redeliver { id, sequence } => {
            let taken = context.client.redeliver(&id, sequence).await?;
            let letters = taken.letters.to_string();
            context.output.one(&taken, &[("tried again", letters.clone())], &letters)?;
            if taken.letters > 0 {
                eprintln!("what is delivered leaves the list: bellwether webhook dead {id}");
            }
            Ok(Exit::Ok)
        }
        WebhookCommand::Test { id } => test(context, &id).await,
    }
}

async fn add(context: &Context, request: &WebhookRequest) -> Result<Exit, Failure> {
    let made = context.client.create_webhook(request).await?;
    let fields = [
        ("webhook", made.id.clone()),
        ("name", made.name.clone()),
        ("url", made.url.clone()),
        ("kinds", made.kinds.join(", ")),
        ("secret", made.secret.clone()),
    ];
    context.output.one(&made, &fields, &made.id)?;
    if context.output.for_people() {
        eprintln!("the secret is not shown again: the receiver checks signatures with it");
        eprintln!("try it: bellwether webhook test {}", made.id);
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let hooks = context.client.webhooks().await?.items;
    context.output.list(
        &hooks,
        &[
            ("ID", &|hook: &WebhookView| hook.id.clone()),
            ("NAME", &|hook| hook.name.clone()),
            ("STATE", &|hook| hook.state.label().to_owned()),
            ("DELIVERED", &|hook| hook.delivered.to_string()),
            ("DEAD", &|hook| hook.dead.to_string()),
            ("URL", &|hook| hook.url.clone()),
            ("LAST ERROR", &|hook| hook.last_error.clone().unwrap_or_default()),
        ],
        |hook| hook.id.clone(),
        "no webhook; add one: bellwether webhook add URL",
    )?;
    Ok(Exit::Ok)
}

async fn dead(context: &Context, id: &str) -> Result<Exit, Failure> {
    let letters = context.client.dead_letters(id).await?.items;
    context.output.list(
        &letters,
        &[
            ("SEQ", &|letter: &DeadLetterView| letter.sequence.to_string()),
            ("KIND", &|letter| letter.event.kind.clone()),
            ("TRIES", &|letter| letter.attempts.to_string()),
            ("AGAIN", &|letter| if letter.redelivering { "yes" } else { "" }.to_owned()),
            ("WHAT", &|letter| letter.event.text.clone()),
            ("ERROR", &|letter| letter.error.clone()),
        ],
        |letter| letter.sequence.to_string(),
        "everything was delivered so far",
    )?;
    Ok(Exit::Ok)
}

async fn test(context: &Context, id: &str) -> Result<Exit, Failure> {
    let said = context.client.test_webhook(id).await?;
    let status = said.status.map(|status| status.to_string()).unwrap_or_default();
    let fields = [
        ("status", status.clone()),
        ("answer", said.answer.clone()),
        ("error", said.error.clone().unwrap_or_default()),
        ("took", format!("{} ms", said.took_ms)),
    ];
    context.output.one(&said, &fields, &status)?;
    if said.delivered {
        return Ok(Exit::Ok);
    }
    Err(Failure::error("the test event was not taken")
        .next("look at the receiver and its log; `bellwether webhook list` shows the address"))
}
