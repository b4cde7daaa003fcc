//! What goes to stdout: data only, as a table, JSON, a JSON line each, or bare names.
#![expect(clippy::print_stdout, reason = "stdout is what a command line is for")]

use clap::ValueEnum;
use serde::Serialize;

use super::failure::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
    /// Only names, one a line
    Name,
}

/// The way to stdout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
}

/// A column of a table: its head and what a row shows there.
pub(super) type Column<'a, T> = (&'a str, &'a dyn Fn(&T) -> String);

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// The same for a list that never ends: a JSON document a line, for there is no last one.
    pub(super) const fn endless(self) -> Self {
        match self.format {
            Format::Json => Self { format: Format::Ndjson },
            Format::Table | Format::Ndjson | Format::Name => self,
        }
    }

    pub(super) const fn for_people(&self) -> bool {
        matches!(self.format, Format::Table)
    }

    /// A list; an empty one is `[]` in JSON and a sentence on stderr for people.
    pub(super) fn list<T: Serialize>(
        &self,
        items: &[T],
        columns: &[Column<'_, T>],
        name: impl Fn(&T) -> String,
        empty: &str,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => println!("{}", json(items, true)?),
            Format::Ndjson => {
                for item in items {
                    println!("{}", json(item, false)?);
                }
            }
            Format::Name => items.iter().for_each(|item| println!("{}", name(item))),
            Format::Table if items.is_empty() => eprintln!("{empty}"),
            Format::Table => print!("{}", table(items, columns)),
        }
        Ok(())
    }

    /// A document for another program: JSON, whatever was asked for.
    pub(super) fn document<T: Serialize>(&self, item: &T) -> Result<(), Failure> {
        println!("{}", json(item, self.format != Format::Ndjson)?);
        Ok(())
    }

    /// One thing: its fields for people.
    pub(super) fn one<T: Serialize>(&self, item: &T, fields: &[(&str, String)], name: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => println!("{}", json(item, true)?),
            Format::Ndjson => println!("{}", json(item, false)?),
            Format::Name => println!("{name}"),
            Format::Table => {
                let width = fields.iter().map(|(head, _)| head.chars().count()).max().unwrap_or_default();
                for (head, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
                    println!("{}", format!("{head:width$}  {}", clean(value)).trim_end());
                }
            }
        }
        Ok(())
    }
}

fn json<T: Serialize + ?Sized>(value: &T, pretty: bool) -> Result<String, Failure> {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.map_err(|fault| Failure::error(format!("the answer cannot be written as JSON: {fault}")))
}

fn table<T>(items: &[T], columns: &[Column<'_, T>]) -> String {
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>();
    let rows = items.iter().map(|item| columns.iter().map(|(_, cell)| clean(&cell(item))).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A name from outside must not move the terminal's cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_are_replaced() {
        let items = [("gw-1", 12), ("\u{1b}[2Jx", 3)];
        let text = table(&items, &[("DEVICE", &|item| item.0.to_owned()), ("ROWS", &|item| item.1.to_string())]);
        assert_eq!(text, "DEVICE  ROWS\ngw-1    12\n\u{fffd}[2Jx   3\n");
    }
}
