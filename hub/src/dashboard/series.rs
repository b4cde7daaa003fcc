//! Scores over time as pictures: a spark for a line of a table, and a timeline with the threshold
//! and what was deployed meanwhile. Both are drawn stretched; what they say is written beside them.

use maud::{Markup, html};

use crate::api::types::PointView;

use super::format::{clock, count, exact, score};

/// Width of a drawing, in its own units; it is stretched to the room there is.
const WIDTH: u64 = 1000;
/// Height of a drawing.
const HEIGHT: f64 = 100.0;
/// Marks in one timeline, the latest: more would hide the line.
const MARKS_MAX: usize = 6;
/// Room above the highest point, as a factor.
const HEADROOM: f64 = 1.15;

/// Something that happened while scores were taken.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at_ms: u64,
    pub(super) what: String,
}

/// Where points lie in a drawing.
struct Scale {
    from_ms: u64,
    until_ms: u64,
    top: f64,
}

impl Scale {
    fn of(points: &[PointView], threshold: f64) -> Self {
        let moments = points.iter().map(|point| point.at_ms);
        let highest = points.iter().map(|point| point.psi).fold(threshold, f64::max);
        Self {
            from_ms: moments.clone().min().unwrap_or_default(),
            until_ms: moments.max().unwrap_or_default(),
            top: if highest > 0.0 { highest * HEADROOM } else { 1.0 },
        }
    }

    /// One moment alone lies in the middle.
    fn x(&self, at_ms: u64) -> u64 {
        match self.until_ms.saturating_sub(self.from_ms) {
            0 => WIDTH / 2,
            span => at_ms.saturating_sub(self.from_ms).saturating_mul(WIDTH) / span,
        }
    }

    fn y(&self, psi: f64) -> String {
        format!("{:.1}", HEIGHT - psi.clamp(0.0, self.top) / self.top * HEIGHT)
    }

    fn line(&self, points: &[PointView]) -> String {
        let places: Vec<String> =
            points.iter().map(|point| format!("{},{}", self.x(point.at_ms), self.y(point.psi))).collect();
        match places.as_slice() {
            [only] => {
                let y = only.split(',').nth(1).unwrap_or_default();
                format!("0,{y} {WIDTH},{y}")
            }
            many => many.join(" "),
        }
    }
}

/// The scores at a glance; the last one is written beside it.
pub(super) fn spark(points: &[PointView], bad: bool) -> Markup {
    let scale = Scale::of(points, 0.0);
    html! {
        @if !points.is_empty() {
            svg.spark viewBox="0 -6 1000 112" preserveAspectRatio="none" aria-hidden="true" {
                polyline class=(if bad { "trace bad" } else { "trace" }) points=(scale.line(points)) {}
            }
        }
    }
}

/// The scores over time: picture, what it shows in words, and its table.
pub(super) fn timeline(points: &[PointView], threshold: f64, marks: &[Mark]) -> Markup {
    let scale = Scale::of(points, threshold);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! { p.soft { "No window has been judged yet; the first point appears when one is." } };
    };
    let mut within: Vec<&Mark> =
        marks.iter().filter(|mark| (scale.from_ms..=scale.until_ms).contains(&mark.at_ms)).collect();
    within.drain(..within.len().saturating_sub(MARKS_MAX));
    let above = points.iter().filter(|point| point.psi > threshold).count();
    let label = format!(
        "Worst score of {} windows: {above} above the threshold {}; the last is {} of {}.",
        points.len(),
        score(threshold),
        score(last.psi),
        last.column
    );
    let trace = if last.psi > threshold { "trace bad" } else { "trace" };
    html! {
        figure.chart {
            svg.plot viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label=(label) {
                @for mark in &within { line.deploy x1=(scale.x(mark.at_ms)) x2=(scale.x(mark.at_ms)) y1="0" y2="100" { title { (mark.what) } } }
                line.limit x1="0" x2=(WIDTH) y1=(scale.y(threshold)) y2=(scale.y(threshold)) {}
                polyline class=(trace) points=(scale.line(points)) {}
            }
            div.axis { span { (clock(first.at_ms)) } span { (clock(last.at_ms)) } }
            ul.legend {
                li { svg.key viewBox="0 0 20 10" aria-hidden="true" { polyline class=(trace) points="0,8 8,3 20,5" {} } "worst score, now " b { (score(last.psi)) } }
                li { svg.key viewBox="0 0 20 10" aria-hidden="true" { line.limit x1="0" x2="20" y1="5" y2="5" {} } "threshold " b { (score(threshold)) } }
                @if !within.is_empty() { li { svg.key viewBox="0 0 20 10" aria-hidden="true" { line.deploy x1="10" x2="10" y1="0" y2="10" {} } "rollout" } }
            }
            @for mark in &within { p.soft { (clock(mark.at_ms)) " " (mark.what) } }
        }
        details.plain id="timeline-table" {
            summary { "The same as a table" }
            (table(points))
        }
    }
}

fn table(points: &[PointView]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label="Scores as a table" {
            table.tight {
                thead { tr { th { "Window ended" } th.num { "Rows" } th { "Worst column" } th.num { "Score" } } }
                tbody {
                    @for point in points.iter().rev() {
                        tr { td { (exact(point.at_ms)) } td.num.mono { (count(point.rows)) } td.mono.wrap { (point.column) } td.num.mono { (score(point.psi)) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(scores: &[f64]) -> Vec<PointView> {
        let point = |(index, psi): (u64, &f64)| PointView {
            at_ms: 1_000 + index * 50,
            rows: 200,
            column: "image[3]".to_owned(),
            psi: *psi,
        };
        (0..).zip(scores).map(point).collect()
    }

    #[test]
    fn points_lie_by_time_and_none_outside_of_the_drawing() {
        let points = points(&[-0.4, 0.0, 1.0]);
        let scale = Scale::of(&points, 0.2);
        assert_eq!(scale.line(&points), "0,100.0 500,100.0 1000,13.0");
        assert_eq!((scale.x(5), scale.y(99.0)), (0, "0.0".to_owned()));
    }

    #[test]
    fn one_window_is_a_line_and_none_is_said() {
        assert!(spark(&points(&[0.5]), true).into_string().contains(r#"points="0,13.0 1000,13.0""#));
        assert!(spark(&[], false).into_string().is_empty());
        assert!(timeline(&[], 0.2, &[]).into_string().contains("No window has been judged yet"));
    }
}
