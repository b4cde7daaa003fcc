//! Events: the latest, and the following as they happen, across restarts of the hub.

use super::Context;
use super::args::Events;
use super::failure::{Exit, Failure};
use super::model::ASK_EVERY;
use super::output::Output;
use crate::api::types::{EventQuery, EventView, LIMIT_MAX, WAIT_SECONDS_MAX};
use crate::client::ClientError;

pub(super) async fn run(context: &Context, given: Events) -> Result<Exit, Failure> {
    let Events { follow, kinds, device, model, limit } = given;
    let kind = (!kinds.is_empty()).then(|| kinds.join(","));
    let client = &context.client;
    let query = EventQuery { limit: Some(limit), kind, device, model, ..EventQuery::default() };
    if !follow {
        show(context.output, &client.events(&query).await?.items, "nothing happened yet that fits")?;
        return Ok(Exit::Ok);
    }
    let newest = client.events(&EventQuery { limit: Some(1), ..EventQuery::default() }).await?.items;
    let page = client.events(&query).await?.items;
    let latest = |events: &[EventView]| events.last().map_or(0, |event| event.seq);
    let mut after = latest(&newest).max(latest(&page));
    let output = context.output.endless();
    show(output, &page, "nothing happened yet that fits; waiting")?;
    let mut query = EventQuery { limit: Some(LIMIT_MAX), wait_seconds: Some(WAIT_SECONDS_MAX), ..query };
    let mut lost = false;
    loop {
        query.after = Some(after);
        match client.events(&query).await {
            Ok(page) => {
                if std::mem::take(&mut lost) {
                    eprintln!("the hub is back; going on after event {after}");
                }
                if !page.items.is_empty() {
                    show(output, &page.items, "")?;
                }
                let next = page.next.and_then(|next| next.parse().ok()).unwrap_or(after);
                after = next.max(latest(&page.items)).max(after);
            }
            Err(error) if passes(&error) => {
                if !std::mem::replace(&mut lost, true) {
                    eprintln!("{error}; waiting for it, and then going on after event {after}");
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a hub that is being restarted explains this.
fn passes(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Foreign { .. } => true,
        ClientError::Untrusted(_) => false,
        ClientError::Refused(problem) => problem.status >= 500,
    }
}

fn show(output: Output, events: &[EventView], empty: &str) -> Result<(), Failure> {
    output.list(
        events,
        &[
            ("SEQ", &|event| event.seq.to_string()),
            ("WHO", &|event| event.who.clone()),
            ("KIND", &|event| event.kind.clone()),
            ("WHAT", &|event| event.text.clone()),
        ],
        |event| event.seq.to_string(),
        empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Problem;

    #[test]
    fn following_events_outlives_the_hub_and_nothing_else() {
        let refused = |problem| ClientError::Refused(Box::new(problem));
        assert!(passes(&ClientError::Unreachable { url: "u".to_owned(), cause: "c".to_owned() }));
        assert!(passes(&refused(Problem::unavailable("too_slow", "x"))));
        assert!(!passes(&refused(Problem::unauthenticated("x"))));
        assert!(!passes(&refused(Problem::bad_request("bad_query", "x"))));
    }
}
