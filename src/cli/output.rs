//! Standard output: lines, tables and JSON.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For a person.
    #[default]
    Text,
    /// For a program.
    Json,
}

/// Prints text, which ends with a line break or gets one.
pub(super) fn print(text: impl fmt::Display) -> Result<(), Failure> {
    let text = text.to_string();
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = write!(out, "{text}{end}").and_then(|()| out.flush());
    written.map_err(Failure::Stream)
}

/// Prints `data` as JSON.
pub(super) fn print_json(data: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(data).map_err(|error| Failure::Stream(error.into()))?;
    print(text)
}

/// A time as text, or `None` for one that no calendar has.
pub(super) fn rfc3339(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok()?;
    Some(time.to_string())
}

/// Seconds since a time, never negative: clocks of two machines may differ a little.
pub(super) fn seconds_since(unix_ms: i64, now_unix_ms: i64) -> f64 {
    now_unix_ms.saturating_sub(unix_ms).max(0) as f64 / 1_000.0
}

/// Rows of text in columns. Columns are as wide as their widest cell and two spaces apart.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// A table with these headings.
    pub(super) fn new(headings: &[&str]) -> Self {
        let headings = headings.iter().map(|text| (*text).to_owned()).collect();
        Self { rows: vec![headings] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let padded = row.iter().zip(&widths);
            let line: Vec<_> = padded.map(|(cell, &width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "LAG"]);
        table.row(vec!["a-long-name".to_owned(), "1 s".to_owned()]);
        table.row(vec!["ä".to_owned(), "2 s".to_owned()]);
        assert_eq!(table.to_string(), "NAME         LAG\na-long-name  1 s\nä            2 s\n");
    }

    #[test]
    fn a_time_is_rfc3339() {
        assert_eq!(rfc3339(1_500).as_deref(), Some("1970-01-01T00:00:01.5Z"));
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
