//! Reference and current histogram of a column: as a picture, in words, and as a table.

use maud::{Markup, html};

use crate::api::types::ColumnView;

use super::format::{count, percent, ppm};

/// Height of the picture in its own units; it is stretched to the room there is.
const HEIGHT: u64 = 200;
/// Where the buckets beside the bins begin, and how wide they are.
const BELOW_X: u64 = 10;
const ABOVE_X: u64 = 740;
const MISSING_X: u64 = 880;
const SIDE_WIDTH: u64 = 110;
/// Where the bins begin and end.
const BINS_X: (u64, u64) = (150, 710);

/// One bucket of both histograms.
struct Bucket {
    /// `below`, `0`, `1` …, `above`, `missing`: for whoever reads the table by program.
    key: String,
    /// What it holds.
    label: String,
    reference: u64,
    current: u64,
    x: u64,
    width: u64,
}

/// The buckets in the order of the picture.
fn buckets(column: &ColumnView) -> Vec<Bucket> {
    let (reference, current) = (&column.reference, &column.current);
    let edges: Vec<f32> = column.lower.iter().copied().chain([column.top]).collect();
    let decimals = decimals(&edges);
    let edge = |at: usize| edges.get(at).map(|edge| written(*edge, decimals)).unwrap_or_default();
    let side = |key: &str, label: String, reference, current, x| Bucket {
        key: key.to_owned(),
        label,
        reference,
        current,
        x,
        width: SIDE_WIDTH,
    };
    let number = column.lower.len().max(1);
    let (from, until) = BINS_X;
    let place = |at: usize| from + (until - from) * at as u64 / number as u64;
    let mut buckets = vec![side("below", format!("below {}", edge(0)), reference.below, current.below, BELOW_X)];
    buckets.extend((0..column.lower.len()).map(|at| Bucket {
        key: at.to_string(),
        label: range(&edge(at), &edge(at + 1)),
        reference: reference.bins.get(at).copied().unwrap_or_default(),
        current: current.bins.get(at).copied().unwrap_or_default(),
        x: place(at),
        width: place(at + 1) - place(at),
    }));
    let above = format!("above {}", edge(column.lower.len()));
    buckets.push(side("above", above, reference.above, current.above, ABOVE_X));
    buckets.push(side("missing", "missing".to_owned(), reference.missing, current.missing, MISSING_X));
    buckets
}

/// `0 to 0.25`; a bin of one value is that value.
fn range(from: &str, until: &str) -> String {
    if from == until { from.to_owned() } else { format!("{from} to {until}") }
}

/// Most decimals of an edge: more are noise of `f32`.
const DECIMALS_MAX: usize = 7;

/// Decimals that tell neighbouring edges apart.
fn decimals(edges: &[f32]) -> usize {
    let steps = edges.iter().zip(edges.iter().skip(1)).map(|(low, high)| f64::from(*high) - f64::from(*low));
    let mut least = steps.filter(|step| *step > 0.0).fold(f64::INFINITY, f64::min);
    let mut decimals = 1;
    while least < 1.0 && decimals < DECIMALS_MAX {
        least *= 10.0;
        decimals += 1;
    }
    decimals
}

fn written(edge: f32, decimals: usize) -> String {
    let text = format!("{edge:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The bucket whose share changed most, in words.
fn change(column: &ColumnView, buckets: &[Bucket]) -> String {
    let (m, n) = (column.reference.n, column.current.n);
    let share = |bucket: &Bucket| (ppm(bucket.reference, m), ppm(bucket.current, n));
    let most = buckets.iter().max_by_key(|bucket| {
        let (then, now) = share(bucket);
        then.abs_diff(now)
    });
    match most {
        Some(bucket) if n > 0 => {
            let (then, now) = share(bucket);
            format!("Most changed: {} held {} of the reference, {} now.", bucket.label, percent(then), percent(now))
        }
        _ => "No current values yet.".to_owned(),
    }
}

/// The picture with its legend and its sentence.
pub(super) fn picture(column: &ColumnView) -> Markup {
    let buckets = buckets(column);
    let (m, n) = (column.reference.n, column.current.n);
    let highest = buckets.iter().map(|bucket| ppm(bucket.reference, m).max(ppm(bucket.current, n))).max();
    let highest = highest.unwrap_or_default().max(1);
    let height = |share: u64| share * (HEIGHT - 4) / highest;
    let change = change(column, &buckets);
    let label = format!(
        "Histograms of {}: reference of {} values as outlines, current of {} values as filled bars. {change}",
        column.name,
        count(m),
        count(n)
    );
    html! {
        figure.chart {
            p.soft.scale { "share of the values, up to " (percent(highest)) }
            svg.plot.tall viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-label=(label) {
                line.ground x1="0" x2="1000" y1=(HEIGHT) y2=(HEIGHT) {}
                @for bucket in &buckets {
                    @let (then, now) = (ppm(bucket.reference, m), ppm(bucket.current, n));
                    g {
                        title { (bucket.label) ": reference " (percent(then)) ", current " (percent(now)) }
                        rect.hit x=(bucket.x) y="0" width=(bucket.width) height=(HEIGHT) {}
                        @if now > 0 { rect.current x=(bucket.x) y=(HEIGHT - height(now).max(1)) width=(bucket.width) height=(height(now).max(1)) {} }
                        @if then > 0 { rect.reference x=(bucket.x) y=(HEIGHT - height(then).max(1)) width=(bucket.width) height=(height(then).max(1)) {} }
                    }
                }
            }
            div.buckets aria-hidden="true" {
                span { "below" }
                span.bins { b { (buckets.get(1).map_or("", |bucket| bucket.label.split(" to ").next().unwrap_or_default())) } b { (last_edge(column)) } }
                span { "above" }
                span { "missing" }
            }
            ul.legend {
                li { svg.key viewBox="0 0 20 10" aria-hidden="true" { rect.reference x="1" y="1" width="18" height="9" {} } "reference, " b { (count(m)) } " values" }
                li { svg.key viewBox="0 0 20 10" aria-hidden="true" { rect.current x="1" y="1" width="18" height="9" {} } "current, " b { (count(n)) } " values" }
            }
            figcaption.soft { (change) }
        }
    }
}

fn last_edge(column: &ColumnView) -> String {
    let edges: Vec<f32> = column.lower.iter().copied().chain([column.top]).collect();
    written(column.top, decimals(&edges))
}

/// Every count, for people and programs.
pub(super) fn table(column: &ColumnView) -> Markup {
    let (m, n) = (column.reference.n, column.current.n);
    html! {
        div.scroll tabindex="0" role="region" aria-label=(format!("Histograms of {} as a table", column.name)) {
            table.tight id="histogram" data-column=(column.name) data-reference-n=(m) data-current-n=(n) {
                thead {
                    tr { th { "Bucket" } th.num colspan="2" { "Reference" } th.num colspan="2" { "Current" } }
                }
                tbody {
                    @for bucket in buckets(column) {
                        tr data-bucket=(bucket.key) data-reference=(bucket.reference) data-current=(bucket.current) {
                            th scope="row" { (bucket.label) }
                            td.num.mono { (count(bucket.reference)) }
                            td.num.mono.soft { (percent(ppm(bucket.reference, m))) }
                            td.num.mono { (count(bucket.current)) }
                            td.num.mono.soft { (percent(ppm(bucket.current, n))) }
                        }
                    }
                }
                tfoot { tr { th scope="row" { "all" } td.num.mono { (count(m)) } td {} td.num.mono { (count(n)) } td {} } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::HistogramView;

    fn column() -> ColumnView {
        let counts = |bins: &[u64], above: u64| HistogramView {
            bins: bins.to_vec(),
            above,
            n: bins.iter().sum::<u64>() + above,
            ..HistogramView::default()
        };
        ColumnView {
            name: "image[3]".to_owned(),
            side: "input".to_owned(),
            psi: 6.2,
            corrected: 6.1,
            threshold: 0.2,
            shifted: true,
            lower: vec![0.0, 0.25, 0.5],
            top: 1.0,
            reference: counts(&[10, 20, 70], 0),
            current: counts(&[0, 0, 0], 400),
        }
    }

    #[test]
    fn what_lies_all_above_fills_one_bar_and_leaves_the_outlines() {
        let text = picture(&column()).into_string();
        assert_eq!(text.matches("class=\"current\" x=\"740\" y=\"4\"").count(), 1);
        assert_eq!(text.matches("class=\"reference\"").count(), 3 + 1, "three bins and the legend");
        assert!(text.contains("Most changed: above 1 held 0 % of the reference, 100 % now."));
    }

    #[test]
    fn the_table_has_every_bucket_with_both_counts() {
        let text = table(&column()).into_string();
        assert_eq!(text.matches("data-bucket=").count(), 6);
        assert!(text.contains(r#"data-bucket="2" data-reference="70" data-current="0""#));
        assert!(text.contains(r#"data-bucket="above" data-reference="0" data-current="400""#));
        assert!(text.contains("0.25 to 0.5"));
    }

    #[test]
    fn a_histogram_of_nothing_is_drawn_without_a_division_by_it() {
        let empty = ColumnView { lower: Vec::new(), current: HistogramView::default(), ..column() };
        assert!(picture(&empty).into_string().contains("No current values yet."));
        assert_eq!(table(&empty).into_string().matches("data-bucket=").count(), 3);
    }

    #[test]
    fn edges_have_as_many_digits_as_tell_them_apart() {
        assert_eq!(decimals(&[0.0, 16.0]), 1);
        assert_eq!(written(16.0, 1), "16");
        assert_eq!(written(101_325.5, 1), "101325.5");
        let fine = [0.001, 0.002, 0.003];
        assert_eq!([range("9", "9"), range("0", "0.5")], ["9", "0 to 0.5"]);
        assert_eq!(written(0.002, decimals(&fine)), "0.002");
    }
}
