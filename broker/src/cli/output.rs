//! What is printed: data on standard output, words about it on standard error.
//!
//! Text that came over the wire never reaches a terminal with its control characters.

use std::{
    fmt::Arguments,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;
use console::{Style, measure_text_width};
use serde::Serialize;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    /// Columns and sentences, for people
    #[default]
    Table,
    /// JSON, for programs: one document, or one object a line where data streams
    Json,
}

/// A line of standard output.
///
/// # Errors
/// When it cannot be written, as to a reader that has gone.
pub(super) fn line(line: Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(line)?;
    out.write_all(b"\n")
}

/// Prints a line on standard output; `?` passes a reader that has gone on to `exit::report`.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::output::line(format_args!($($arg)*)) };
}
pub(super) use say;

/// Text on standard output, as it is.
///
/// # Errors
/// As [`line`].
pub(super) fn text(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// A value as JSON over several lines on standard output.
///
/// # Errors
/// As [`line`].
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    line(format_args!("{text}"))
}

/// A value as JSON in one line on standard output.
///
/// # Errors
/// As [`line`].
pub(super) fn json_line<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    line(format_args!("{text}"))
}

/// A word to people, on standard error.
pub(super) fn note(note: Arguments<'_>) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{note}");
}

/// An error and what led to it, on standard error.
pub(super) fn error(error: &anyhow::Error, exit: u8, output: Output) {
    let causes = causes(error);
    match output {
        Output::Table => {
            let label = Style::new().for_stderr().red().bold().apply_to("error:");
            note(format_args!("{label} {}", causes.join(": ")));
        }
        Output::Json => {
            let mut json = serde_json::json!({ "error": causes.join(": "), "exit_code": exit });
            let api = error.chain().find_map(|e| e.downcast_ref::<super::api::Error>());
            if let Some(problem) = api.and_then(super::api::Error::document) {
                json["problem"] = problem.clone();
            }
            note(format_args!("{json}"));
        }
    }
}

/// The chain of an error's messages, without those that the one before repeats.
fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !causes.last().is_some_and(|last| last.contains(&cause)) {
            causes.push(printable(&cause));
        }
    }
    causes
}

/// Escapes whatever a terminal might act on.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Text in one line of at most `width` columns.
pub(super) fn excerpt(text: &str, width: usize) -> String {
    // What is not shown need not be looked at.
    let end = text.char_indices().nth(width.saturating_mul(4)).map_or(text.len(), |(i, _)| i);
    let flat = printable(&text[..end]).split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = if end < text.len() { flat + " …" } else { flat };
    console::truncate_str(&cut, width, "…").into_owned()
}

/// How many columns a line of standard output has.
pub(super) fn width() -> usize {
    const WITHOUT_TERMINAL: usize = 160;
    match console::Term::stdout().size_checked() {
        Some((_, columns)) if io::stdout().is_terminal() => usize::from(columns).max(40),
        _ => WITHOUT_TERMINAL,
    }
}

/// Whether people watch: progress bars make sense.
pub(super) fn watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Rows under a header, on standard output; columns as wide as they need to be.
///
/// # Errors
/// As [`line`].
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    columns(&header, rows)
}

/// As [`table`], where the number of columns is data too.
///
/// # Errors
/// As [`line`].
pub(super) fn columns<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|h| measure_text_width(h)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(measure_text_width(cell));
        }
    }
    let heading = |h: &&str| Style::new().bold().apply_to(h).to_string();
    let heading: Vec<String> = header.iter().map(heading).collect();
    for row in std::iter::once(&heading[..]).chain(rows.iter().map(AsRef::as_ref)) {
        line(format_args!("{}", padded(row, &widths)))?;
    }
    Ok(())
}

/// Cells side by side; the last one is not padded.
pub(super) fn padded(cells: &[String], widths: &[usize]) -> String {
    let mut row = String::new();
    for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
        row.push_str(cell);
        if i + 1 < cells.len() {
            let missing = width.saturating_sub(measure_text_width(cell)) + 2;
            row.extend(std::iter::repeat_n(' ', missing));
        }
    }
    row.truncate(row.trim_end().len());
    row
}

/// Names and values, one below the other, on standard output.
///
/// # Errors
/// As [`line`].
pub(super) fn record(fields: &[(&str, String)]) -> io::Result<()> {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields {
        line(format_args!("{name:width$}  {value}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_gets_through() {
        assert_eq!(printable("a\u{1b}[31mb\r\n"), "a\\u{1b}[31mb\\u{d}\n");
        assert_eq!(excerpt("a\n  b\tc", 20), "a b\\u{9}c");
        assert_eq!(excerpt(&"x".repeat(100), 10), "xxxxxxxxx…");
    }

    #[test]
    fn columns_are_padded_but_for_the_last() {
        let row = ["a".to_owned(), "bb".to_owned()];
        assert_eq!(padded(&row, &[3, 5]), "a    bb");
    }

    #[test]
    fn a_cause_that_repeats_what_was_said_is_left_out() {
        let e = Err::<(), _>(anyhow::anyhow!("no room")).context("cannot write: no room");
        assert_eq!(causes(&e.expect_err("an error")), ["cannot write: no room"]);
    }
}
