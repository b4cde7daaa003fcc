//! Figures and moments as people read them. Pure functions; the browser turns moments into its own
//! time zone where it can.

use bellwether_protocol::time::Millis;
use maud::{Markup, html};

use crate::date::Moment;

/// `1240` as `1,240`.
#[must_use]
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `41203` as `41.2 k`: for figures that are read, not compared.
#[must_use]
pub(super) fn short(number: u64) -> String {
    scaled(number, 1000, &["", " k", " M", " G", " T"])
}

/// `4300000` as `4.3 MB`.
#[must_use]
pub(super) fn bytes(number: u64) -> String {
    scaled(number, 1000, &[" B", " kB", " MB", " GB", " TB"])
}

/// `65536` KiB as `64.0 MiB`.
#[must_use]
pub(super) fn kib(number: u32) -> String {
    scaled(u64::from(number), 1024, &[" KiB", " MiB", " GiB", " TiB"])
}

fn scaled(number: u64, step: u64, units: &[&str]) -> String {
    let mut unit = 0;
    let mut whole = number;
    let mut tenth = 0;
    while whole >= step && unit + 1 < units.len() {
        tenth = (whole % step) * 10 / step;
        whole /= step;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if unit == 0 || whole >= 100 { format!("{whole}{name}") } else { format!("{whole}.{tenth}{name}") }
}

/// Microseconds as `1.9 ms` or `640 µs`.
#[must_use]
pub(super) fn micros(number: u32) -> String {
    match number {
        0..1_000 => format!("{number} µs"),
        1_000..100_000 => format!("{}.{} ms", number / 1_000, number % 1_000 / 100),
        _ => format!("{} ms", number / 1_000),
    }
}

/// `24000` kHz as `24.0 MHz`.
#[must_use]
pub(super) fn hertz(khz: u32) -> String {
    scaled(u64::from(khz), 1000, &[" kHz", " MHz", " GHz", " THz"])
}

/// Seconds as `45 s`, `19 min`, `2 h 5 min`.
#[must_use]
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Parts per million of a whole; 0 of nothing.
#[must_use]
pub(super) fn ppm(number: u64, whole: u64) -> u64 {
    let parts = u128::from(number) * 1_000_000 / u128::from(whole.max(1));
    u64::try_from(parts).unwrap_or(u64::MAX)
}

/// As [`percent`]; what is not all of it is at most `> 99.9 %`.
#[must_use]
pub(super) fn share(number: u64, whole: u64) -> String {
    match ppm(number, whole) {
        999_500.. if number < whole => "> 99.9 %".to_owned(),
        ppm => percent(ppm),
    }
}

/// `0 %`, `0.4 %`, `83 %` of parts per million; what is there but tiny is `< 0.1 %`.
#[must_use]
pub(super) fn percent(ppm: u64) -> String {
    let tenths = (ppm + 500) / 1000;
    match (ppm, tenths) {
        (0, _) => "0 %".to_owned(),
        (_, 0) => "< 0.1 %".to_owned(),
        (_, tenths) if tenths.is_multiple_of(10) => format!("{} %", tenths / 10),
        (_, tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// An index as people compare it: `0.31`, `4.2`, `17`.
#[must_use]
pub(super) fn score(number: f64) -> String {
    match number {
        small if small < 0.005 => "0.00".to_owned(),
        small if small < 2.0 => format!("{small:.2}"),
        middle if middle < 10.0 => format!("{middle:.1}"),
        great => format!("{great:.0}"),
    }
}

/// The first 12 digits of a digest, the whole of it for whoever points or copies.
#[must_use]
pub(super) fn digest(text: &str) -> Markup {
    let head: String = text.chars().take(12).collect();
    html! { span.mono.digest title=(text) { (head) @if text.len() > head.len() { "…" } } }
}

/// A moment as day and time; the browser shows it in its own zone.
#[must_use]
pub(super) fn moment(at_ms: u64) -> Markup {
    shaped(at_ms, "day")
}

/// A moment as day and time with seconds: for the audit trail.
#[must_use]
pub(super) fn exact(at_ms: u64) -> Markup {
    shaped(at_ms, "exact")
}

/// A moment as the time of its day, with seconds.
#[must_use]
pub(super) fn clock(at_ms: u64) -> Markup {
    shaped(at_ms, "clock")
}

/// A moment as how long ago it is, kept current by the script; without one, the time of its day.
#[must_use]
pub(super) fn age(at_ms: u64) -> Markup {
    shaped(at_ms, "age")
}

fn shaped(at_ms: u64, shape: &str) -> Markup {
    let Moment { year, month, day, hour, minute, second, .. } = Moment::of(Millis(at_ms));
    let full = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    let text = match shape {
        "clock" | "age" => format!("{hour:02}:{minute:02}:{second:02}"),
        "exact" => format!("{day} {} {hour:02}:{minute:02}:{second:02}", month_name(month)),
        _ => format!("{day} {} {hour:02}:{minute:02}", month_name(month)),
    };
    html! { time datetime=(full) title=(full) data-shape=(shape) { (text) } }
}

fn month_name(month: u64) -> &'static str {
    const NAMES: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    usize::try_from(month.saturating_sub(1)).ok().and_then(|index| NAMES.get(index)).copied().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(1_240), count(1_234_567)], ["0", "999", "1,240", "1,234,567"]);
        assert_eq!([short(41_203), short(999), short(1_000), short(250_000)], ["41.2 k", "999", "1.0 k", "250 k"]);
        assert_eq!([bytes(4_300_000), bytes(12)], ["4.3 MB", "12 B"]);
        assert_eq!([micros(640), micros(1_940), micros(140_000)], ["640 µs", "1.9 ms", "140 ms"]);
        assert_eq!([span(45), span(1_200), span(7_500)], ["45 s", "20 min", "2 h 5 min"]);
        assert_eq!((kib(65_536), hertz(24_000)), ("64.0 MiB".to_owned(), "24.0 MHz".to_owned()));
        let shares = [ppm(0, 9), ppm(1, 100_000), ppm(1, 200), ppm(5, 6), ppm(3, 3)];
        assert_eq!(shares.map(percent), ["0 %", "< 0.1 %", "0.5 %", "83.3 %", "100 %"]);
        assert_eq!([-0.2, 0.314, 4.21, 17.3].map(score), ["0.00", "0.31", "4.2", "17"]);
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert!(moment(951_782_400_000).into_string().contains("2000-02-29T00:00:00Z"));
        assert!(clock(1_735_689_599_000).into_string().contains("2024-12-31T23:59:59Z"));
    }
}
