//! Drift: how the monitors stand, and one of them column by column.

use bellwether_protocol::id::{ModelName, ModelRef};

use super::Context;
use super::args::Drift;
use super::failure::{Exit, Failure};
use crate::api::types::{ColumnView, GroupQuery, HistogramView, MonitorQuery, MonitorView};

/// Columns shown of one monitor unless one is asked for.
const SHOWN: usize = 12;
/// Letters of the longest bar.
const BAR: u64 = 30;

pub(super) async fn run(context: &Context, given: Drift) -> Result<Exit, Failure> {
    match given.model.as_deref() {
        Some(text) if text.contains(':') => {
            let model: ModelRef = text.parse().map_err(|bad| Failure::new(Exit::Usage, format!("`{text}`: {bad}")))?;
            one(context, &model, given).await
        }
        _ => list(context, given).await,
    }
}

async fn list(context: &Context, given: Drift) -> Result<Exit, Failure> {
    let bad = |text: &str, why: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("`{text}`: {why}"));
    if let Some(text) = &given.model {
        ModelName::parse(text).map_err(|why| bad(text, &why))?;
    }
    let query = MonitorQuery { model: given.model, version: None, site: given.site, all: Some(given.all) };
    let monitors = context.client.monitors(&query).await?.items;
    context.output.list(
        &monitors,
        &[
            ("VERSION", &|monitor: &MonitorView| format!("{}:{}", monitor.model, monitor.version)),
            ("GROUP", &|monitor| monitor.group.clone()),
            ("STATE", &|monitor| monitor.state.label().to_owned()),
            ("ROWS", &|monitor| monitor.rows.to_string()),
            ("WORST PSI", &|monitor| monitor.timeline.last().map_or(String::new(), |last| format!("{:.3}", last.psi))),
            ("COLUMN", &|monitor| monitor.timeline.last().map_or(String::new(), |last| last.column.clone())),
            ("SAYS", &|monitor| monitor.sentence.clone()),
        ],
        |monitor| format!("{}:{}", monitor.model, monitor.version),
        "no version with a baseline runs; register one: bellwether model register NAME FILE --baseline SAMPLE.csv",
    )?;
    Ok(Exit::Ok)
}

async fn one(context: &Context, model: &ModelRef, given: Drift) -> Result<Exit, Failure> {
    let query = GroupQuery { site: given.site };
    let mut detail = context.client.monitor(model.name.as_str(), model.version.number(), &query).await?;
    if let Some(column) = &given.column {
        detail.items.retain(|item| item.name == *column);
        if detail.items.is_empty() {
            let cause = format!("{model} has no column `{column}`, or no window of it was judged yet");
            return Err(Failure::new(Exit::NotFound, cause).next(format!("bellwether drift {model}")));
        }
    }
    if !context.output.for_people() {
        context.output.one(&detail, &[], &model.to_string())?;
        return Ok(Exit::Ok);
    }
    eprintln!("{}", detail.monitor.sentence);
    if given.column.is_none() {
        let more = detail.items.len().saturating_sub(SHOWN);
        detail.items.truncate(SHOWN);
        if more > 0 {
            eprintln!("the {SHOWN} columns with the highest score; {more} more with -o json");
        }
    }
    context.output.list(
        &detail.items,
        &[
            ("COLUMN", &|column: &ColumnView| column.name.clone()),
            ("SIDE", &|column| column.side.clone()),
            ("PSI", &|column| format!("{:.3}", column.corrected)),
            ("SHIFTED ABOVE", &|column| format!("{:.3}", column.threshold)),
            ("SHIFTED", &|column| if column.shifted { "yes" } else { "no" }.to_owned()),
            ("N", &|column| column.current.n.to_string()),
            ("MEAN THEN", &|column| format!("{:.4}", column.reference.mean)),
            ("MEAN NOW", &|column| format!("{:.4}", column.current.mean)),
        ],
        |column| column.name.clone(),
        "no window was judged yet: it takes the rows and the time that bellwether drift shows",
    )?;
    if let ([column], Some(_)) = (detail.items.as_slice(), &given.column) {
        bars(column);
    }
    Ok(Exit::Ok)
}

/// Both histograms side by side, as letters.
fn bars(column: &ColumnView) {
    let share =
        |histogram: &HistogramView, count: u64| count.saturating_mul(BAR * 2).checked_div(histogram.n).unwrap_or(0);
    let line = |label: &str, then: u64, now: u64| {
        let bar = |length: u64, letter: &str| letter.repeat(usize::try_from(length.min(BAR)).unwrap_or(0));
        let (then, now) = (share(&column.reference, then), share(&column.current, now));
        eprintln!("{label:>12}  then {}\n{:>12}   now {}", bar(then, "░"), "", bar(now, "█"));
    };
    line("below", column.reference.below, column.current.below);
    for ((edge, then), now) in column.lower.iter().zip(&column.reference.bins).zip(&column.current.bins) {
        line(&format!("{edge:.4}"), *then, *now);
    }
    line("above", column.reference.above, column.current.above);
    line("missing", column.reference.missing, column.current.missing);
}
