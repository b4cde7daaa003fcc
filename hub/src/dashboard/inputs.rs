//! The latest inputs of a device as small pictures with their predictions. A picture is one path a
//! grey level, so that it needs neither a script nor an image that the content policy would refuse.

use maud::{Markup, html};

use crate::api::types::{Elements, RowView, TensorValues};

use super::format::{age, percent};
use super::pieces::empty;

/// Values shown of an input that is no picture.
const VALUES_MAX: usize = 6;
/// Least side of a picture whose shape says so, and of one that is only a square number of values.
const SIDE_MIN: usize = 4;
const SQUARE_SIDE_MIN: usize = 8;
/// Greatest side of a picture: above, the page would carry more markup than it is worth.
const SIDE_MAX: usize = 64;
/// Grey levels beside the empty one.
const LEVELS: u32 = 15;

/// Rows side by side, the newest first.
pub(super) fn strip(rows: &[RowView]) -> Markup {
    if rows.is_empty() {
        return empty(
            "No row yet",
            "Devices send a sample of what they score if the version asks for it and the device allows it. \
             Register a version that does, and set collect_rows_per_minute_max in agent.toml:",
            &["bellwether model register NAME FILE --collect-one-in 100 --collect-below 0.6"],
        );
    }
    html! { ul.strip { @for row in rows { (card(row)) } } }
}

fn card(row: &RowView) -> Markup {
    let answer = answer(&row.outputs);
    html! {
        li {
            @for input in row.inputs.iter().take(1) { (shown(input, &answer)) }
            b { (answer) }
            small.soft { (row.model) " " (row.version) }
            small.faint { (row.reason) " · " (age(row.taken_at_ms)) }
        }
    }
}

fn shown(input: &TensorValues, answer: &str) -> Markup {
    let values = numbers(&input.data);
    match sides(&input.shape, values.len()) {
        Some((height, width)) => picture(&values, height, width, &format!("{}, answered {answer}", input.name)),
        None => {
            let first: Vec<String> = values.iter().take(VALUES_MAX).map(|value| written(*value)).collect();
            html! {
                p.values.mono {
                    (first.join(" "))
                    @if values.len() > VALUES_MAX { span.faint { " … of " (values.len()) } }
                }
            }
        }
    }
}

fn numbers(data: &Elements) -> Vec<Option<f64>> {
    match data {
        Elements::Bool(values) => values.iter().map(|value| Some(f64::from(u8::from(*value)))).collect(),
        Elements::Whole(values) => values.iter().map(|value| Some(*value as f64)).collect(),
        Elements::Natural(values) => values.iter().map(|value| Some(*value as f64)).collect(),
        Elements::Double(values) => values.clone(),
        Elements::Single(values) => values.iter().map(|value| value.map(f64::from)).collect(),
    }
}

fn written(value: Option<f64>) -> String {
    let Some(value) = value else { return "missing".to_owned() };
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Height and width of what can be drawn.
fn sides(shape: &[u32], values: usize) -> Option<(usize, usize)> {
    let all: Vec<usize> = shape.iter().filter_map(|size| usize::try_from(*size).ok()).collect();
    // Leading ones are the batch and a single channel; a trailing one is a channel too.
    let inner: Vec<usize> = all.into_iter().filter(|size| *size != 1).collect();
    let fits = |least: usize, side: usize| (least..=SIDE_MAX).contains(&side);
    match inner.as_slice() {
        [height, width] if fits(SIDE_MIN, *height) && fits(SIDE_MIN, *width) && height * width == values => {
            Some((*height, *width))
        }
        [flat] if *flat == values => {
            let side = (1..=SIDE_MAX).find(|side| side * side >= values)?;
            (side * side == values && fits(SQUARE_SIDE_MIN, side)).then_some((side, side))
        }
        _ => None,
    }
}

/// Least value empty, greatest in full ink; if all are the same, it is zero that is empty.
fn picture(values: &[Option<f64>], height: usize, width: usize, label: &str) -> Markup {
    let finite = values.iter().flatten().copied().filter(|value| value.is_finite());
    let least = finite.clone().fold(f64::INFINITY, f64::min);
    let greatest = finite.fold(f64::NEG_INFINITY, f64::max);
    let least = if least < greatest { least } else { least.min(0.0) };
    let level = |value: Option<f64>| {
        let part = value.map_or(0.0, |value| (value - least) / (greatest - least));
        (1..=LEVELS).take_while(|level| part * f64::from(LEVELS) >= f64::from(*level)).last().unwrap_or(0)
    };
    let levels: Vec<u32> = values.iter().map(|value| level(*value)).collect();
    let paths = (1..=LEVELS).map(|level| (level, path(&levels, width, level))).filter(|(_, path)| !path.is_empty());
    html! {
        svg.picture viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(label) shape-rendering="crispEdges" {
            @for (level, path) in paths { path d=(path) fill-opacity=(format!("{:.2}", f64::from(level) / f64::from(LEVELS))) {} }
        }
    }
}

/// The runs of one level, row by row.
fn path(levels: &[u32], width: usize, level: u32) -> String {
    let mut path = String::new();
    for (y, row) in levels.chunks(width.max(1)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run.first() == Some(&level) {
                path.push_str(&format!("M{x} {y}h{0}v1h-{0}z", run.len()));
            }
            x += run.len();
        }
    }
    path
}

/// The class and its share, or the values.
fn answer(outputs: &[TensorValues]) -> String {
    let read: Vec<Vec<Option<f64>>> = outputs.iter().map(|output| numbers(&output.data)).collect();
    let many = read.iter().find(|values| values.len() > 1);
    let Some(many) = many else {
        let values: Vec<String> = read.iter().flatten().map(|value| written(*value)).collect();
        return if values.is_empty() { "no answer".to_owned() } else { values.join(" ") };
    };
    let numbered = many.iter().enumerate().filter_map(|(class, value)| Some((class, (*value)?)));
    let Some((class, best)) = numbered.max_by(|(_, a), (_, b)| a.total_cmp(b)) else {
        return "no number".to_owned();
    };
    let sum: f64 = many.iter().flatten().sum();
    let is_share = many.iter().flatten().all(|value| (0.0..=1.0).contains(value)) && (sum - 1.0).abs() < 0.01;
    if is_share {
        format!("{class} · {}", percent(millionths(best)))
    } else {
        format!("{class} · {}", written(Some(best)))
    }
}

/// A share from 0 to 1 in parts per million, exact to a tenth of a percent.
fn millionths(share: f64) -> u64 {
    let tenths = format!("{:.0}", share.clamp(0.0, 1.0) * 1000.0);
    tenths.parse::<u64>().unwrap_or_default() * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_and_what_says_its_sides_are_pictures() {
        assert_eq!(sides(&[1, 64], 64), Some((8, 8)));
        assert_eq!(sides(&[1, 1, 28, 28], 784), Some((28, 28)));
        assert_eq!(sides(&[1, 4, 6], 24), Some((4, 6)));
        for (shape, values) in [(&[1, 9][..], 9), (&[1, 65], 65), (&[1, 3, 8, 8], 192), (&[1, 128, 128], 16_384)] {
            assert_eq!(sides(shape, values), None, "{shape:?}");
        }
    }

    #[test]
    fn a_picture_is_a_path_a_level_and_one_of_nothing_is_empty() {
        let mut values = vec![Some(0.0); 64];
        values[8] = Some(16.0);
        values[9] = Some(16.0);
        values[63] = Some(8.0);
        values[0] = None;
        let text = picture(&values, 8, 8, "image").into_string();
        assert!(
            text.contains(r#"d="M0 1h2v1h-2z" fill-opacity="1.00""#) && text.matches("<path").count() == 2,
            "{text}"
        );
        assert!(picture(&[Some(3.0); 64], 8, 8, "image").into_string().contains(r#"fill-opacity="1.00""#));
        assert!(!picture(&[Some(0.0); 64], 8, 8, "image").into_string().contains("<path"));
        assert!(!picture(&[None; 64], 8, 8, "image").into_string().contains("<path"));
    }

    #[test]
    fn an_answer_is_a_class_with_its_share_or_the_values() {
        let output = |data| TensorValues { name: "y".to_owned(), datatype: String::new(), shape: vec![1], data };
        assert_eq!(answer(&[output(Elements::Double(vec![Some(0.1), Some(0.9)]))]), "1 · 90 %");
        assert_eq!(answer(&[output(Elements::Double(vec![Some(9.5), Some(-3.0)]))]), "0 · 9.5");
        assert_eq!(answer(&[output(Elements::Whole(vec![7]))]), "7");
        assert_eq!(answer(&[]), "no answer");
    }
}
