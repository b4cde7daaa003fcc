//! The journal: the last lines that each agent of a process logged, kept in memory for the hub.
//!
//! ```text
//!  start ──> span `agent` ──> its Ring lives in the span        driver ──> tail(span) ──> outbox
//!                 ^                    ^
//!  tasks, threads ┘     events ── Layer┘  to the Ring of the nearest span around them
//! ```
//!
//! Only what our own crates log at `info` and above is kept, whatever is shown elsewhere; they log no
//! keys, tokens or inputs. Without the layer, or outside of such a span, nothing is.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Span, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// Bytes kept of each agent's log: an install and what came before it, some 150 lines.
pub const JOURNAL_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one line: what is longer is the text of somebody else's error.
const LINE_BYTES_MAX: usize = 1024;
/// Name of the span that has a journal.
const SPAN: &str = "agent";

/// The layer that keeps journals, to be added to the registry once a process.
#[must_use]
pub fn layer<S: Subscriber + for<'s> LookupSpan<'s>>() -> impl Layer<S> {
    Journals.with_filter(kept())
}

fn kept() -> FilterFn {
    let is_kept: fn(&Metadata<'_>) -> bool =
        |metadata| metadata.target().starts_with("bellwether") && *metadata.level() <= Level::INFO;
    FilterFn::new(is_kept).with_max_level_hint(Level::INFO)
}

/// The span for everything that one agent does; its device is recorded once that is known.
pub(crate) fn span() -> Span {
    // A name of its own, as a macro takes no constant; at the level that every filter lets through.
    tracing::error_span!("agent", device = tracing::field::Empty)
}

/// The last `bytes` of the journal of an agent, given its span; it may begin within a line.
pub(crate) fn tail(span: &Span, bytes: usize) -> Vec<u8> {
    let read = |(id, dispatch): (&Id, &tracing::Dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        let extensions = span.extensions();
        let ring = &extensions.get::<Ring>()?.0;
        Some(ring.iter().skip(ring.len().saturating_sub(bytes)).copied().collect())
    };
    span.with_subscriber(read).flatten().unwrap_or_default()
}

/// The last lines of one agent.
#[derive(Default)]
struct Ring(VecDeque<u8>);

impl Ring {
    fn push(&mut self, line: &str) {
        self.0.extend(line.bytes());
        self.0.drain(..self.0.len().saturating_sub(JOURNAL_BYTES_MAX));
    }
}

struct Journals;

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Journals {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() == SPAN
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(Ring::default());
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(ring) = span.extensions_mut().get_mut::<Ring>() {
                ring.push(&line(event));
                return;
            }
        }
    }
}

/// `2026-01-01T00:00:00.000000Z  INFO drive: connected session=1`
fn line(event: &Event<'_>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail, but for a clock that cannot be told.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    let metadata = event.metadata();
    let room = metadata.target().rsplit("::").next().unwrap_or_default();
    let _ = write!(text, " {:>5} {room}:", metadata.level());
    event.record(&mut Fields(&mut text));
    let mut end = text.len().min(LINE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    // One event is one line, whatever is in it.
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.push('\n');
    text
}

/// Writes the message as it is, and the other fields as `name=value`.
struct Fields<'t>(&'t mut String);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn every_agent_has_its_own_lines_and_only_ours_are_kept() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            let (one, two) = (span(), span());
            one.in_scope(|| tracing::info!(session = 7, why = "two\nlines", "connected"));
            two.in_scope(|| {
                let _inner = tracing::info_span!("inner").entered();
                tracing::warn!("in a span within");
                tracing::debug!("too small");
                tracing::info!(target: "rumqttc", "not ours");
            });
            tracing::info!("nobody's");
            let text = |span| String::from_utf8(tail(span, JOURNAL_BYTES_MAX)).unwrap();
            let (one, two) = (text(&one), text(&two));
            assert!(one.ends_with("  INFO tests: connected session=7 why=two lines\n"), "{one}");
            assert!(two.ends_with("  WARN tests: in a span within\n") && two.lines().count() == 1, "{two}");
        });
        assert_eq!(tail(&span(), 99), b"");
    }

    #[test]
    fn the_oldest_lines_go_and_long_ones_are_cut() {
        let subscriber = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = span();
            span.in_scope(|| {
                tracing::info!("{}", "ö".repeat(LINE_BYTES_MAX));
                assert!(tail(&span, JOURNAL_BYTES_MAX).len() <= LINE_BYTES_MAX + 1);
                (0..1000).for_each(|number| tracing::info!(number, "again"));
            });
            let all = tail(&span, JOURNAL_BYTES_MAX);
            assert_eq!(all.len(), JOURNAL_BYTES_MAX);
            assert!(all.ends_with(b"again number=999\n") && tail(&span, 17) == b"again number=999\n");
        });
    }
}
