//! The calendar in UTC: days, under which collected rows are filed, and moments as they are written.

use std::fmt;
use std::str::FromStr;

use bellwether_protocol::time::Millis;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Days from 0000-03-01 to 1970-01-01: a year that begins in March ends with its leap day.
const SHIFT_DAYS: u64 = 719_468;
/// The last day that four digits can name: 9999-12-31.
const LAST: u64 = 2_932_896;

/// A day, from 1970-01-01 to 9999-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date(u64);

/// An instant in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    pub(crate) millis: u64,
}

impl Moment {
    /// The figures of an instant.
    pub(crate) const fn of(at: Millis) -> Self {
        let (year, month, day) = Date(at.0 / DAY_MS).civil();
        let of_day = at.0 % DAY_MS;
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        Self { year, month, day, hour, minute, second: of_day / 1000 % 60, millis: of_day % 1000 }
    }
}

/// As RFC 3339 writes it, in UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, millis } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// A text that is no day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no day: write it as 2026-11-24")]
pub(crate) struct BadDate(String);

impl Date {
    /// The day of an instant.
    pub(crate) const fn of(at: Millis) -> Self {
        let days = at.0 / DAY_MS;
        Self(if days > LAST { LAST } else { days })
    }

    /// The day so many days before this one, or the first.
    pub(crate) const fn before(self, days: u64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Year, month and day (H. Hinnant, "chrono-compatible low-level date algorithms").
    const fn civil(self) -> (u64, u64, u64) {
        let days = self.0 + SHIFT_DAYS;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        (year, month, day)
    }

    /// The inverse of [`Date::civil`]; a day that no month has gives another one.
    fn from_civil(year: u64, month: u64, day: u64) -> Option<Self> {
        let year = if month <= 2 { year.checked_sub(1)? } else { year };
        let (era, of_era) = (year / 400, year % 400);
        let shifted = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (153 * shifted + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        days.checked_sub(SHIFT_DAYS).map(Self)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Date {
    type Err = BadDate;

    fn from_str(text: &str) -> Result<Self, BadDate> {
        let bad = || BadDate(text.chars().take(32).collect());
        let number = |part: Option<&str>| part.and_then(|part| part.parse::<u64>().ok()).ok_or_else(bad);
        let mut parts = text.splitn(3, '-');
        let (year, month, day) = (number(parts.next())?, number(parts.next())?, number(parts.next())?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(bad());
        }
        // Only what is written back the same is a day: neither 2026-2-3 nor 2026-02-30.
        Self::from_civil(year, month, day).filter(|date| date.to_string() == text).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_reads_back_as_it_was_written() {
        for days in (0..=LAST).step_by(13).chain([LAST]) {
            assert_eq!(Date(days).to_string().parse(), Ok(Date(days)));
        }
        assert_eq!(Date::of(Millis(1_709_164_800_123)).to_string(), "2024-02-29");
        assert_eq!(Date::of(Millis(0)).to_string(), "1970-01-01");
        assert_eq!(Date::of(Millis(u64::MAX)).to_string(), "9999-12-31");
        assert_eq!("2024-03-01".parse::<Date>().unwrap().before(1).to_string(), "2024-02-29");
    }

    #[test]
    fn a_text_that_is_no_day_is_refused() {
        for bad in [
            "",
            "2026",
            "2026-02-30",
            "2026-2-3",
            "2026-13-01",
            "../../etc",
            "2026-01-01/..",
            "1969-12-31",
            "+2026-01-1",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
    }
}
