//! `csv.profile`: what is in the columns of a CSV text.
//!
//! Reads the payload once, row by row, and keeps numbers (8 bytes each) and a bounded number of
//! distinct values: never the rows.

use std::time::Duration;

use csv::{ByteRecord, ReaderBuilder};
use serde::Serialize;
use tollgate_protocol::{Pairs, truncate};

use crate::batch::{Error, Inline, InlineContext, Reply, Spec};

use self::column::{Column, Room};

mod column;
mod numbers;

pub(super) struct CsvProfile;

pub(super) fn spec() -> Spec {
    Spec {
        timeout: Some(Duration::from_secs(60)),
        estimated_duration: Duration::from_millis(50),
        blocking: true,
        idempotent: true,
        description: format!(
            "Profiles a CSV text (UTF-8): per column its type, counts, distinct values, and \
            quantiles or the most common values. Metadata: `delimiter` (one ASCII character, or \
            `tab`; comma), `header` (`true` or `false`; true). Answers JSON {{\"rows\", \
            \"columns\": [{{\"name\", \"type\", \"count\", \"empty\", \"distinct\", …}}], \
            \"malformed\": {{\"count\", \"rows\": [{{\"line\", \"fields\", \"expected\"}}]}}}}. \
            At most {COLUMNS_MAX} columns."
        ),
        ..Spec::bytes()
    }
}

impl Inline for CsvProfile {
    fn run(&self, ctx: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        let options = Options::parse(ctx.metadata())?;
        let profile = read(ctx, &options, payload)?;
        serde_json::to_writer(out, &profile)?;
        Ok(())
    }
}

struct Options {
    delimiter: u8,
    header: bool,
}

impl Options {
    fn parse(metadata: Pairs<'_>) -> Result<Self, Error> {
        let delimiter = match metadata.find("delimiter") {
            None => b',',
            Some("tab") => b'\t',
            Some(text) => match text.as_bytes() {
                [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => *byte,
                _ => return Err(wrong("delimiter", "one ASCII character, or `tab`", text)),
            },
        };
        let header = match metadata.find("header") {
            None | Some("true") => true,
            Some("false") => false,
            Some(text) => return Err(wrong("header", "`true` or `false`", text)),
        };
        Ok(Options { delimiter, header })
    }
}

fn wrong(field: &str, expected: &str, found: &str) -> Error {
    let found = truncate(found, TEXT_CHARS);
    Error::validation(format!("metadata {field}: {found:?} is not {expected}"))
        .detail("field", field)
        .detail("expected", expected)
        .detail("found", found)
        .permanent()
}

#[derive(Serialize)]
struct Profile {
    /// Rows that were profiled: neither the header nor malformed ones.
    rows: u64,
    columns: Vec<column::Profile>,
    malformed: Malformed,
}

#[derive(Default, Serialize)]
struct Malformed {
    count: u64,
    /// The first ones.
    rows: Vec<MalformedRow>,
}

#[derive(Serialize)]
struct MalformedRow {
    /// Where it begins, from 1.
    line: u64,
    fields: usize,
    expected: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
}

fn read(ctx: &InlineContext<'_>, options: &Options, payload: &[u8]) -> Result<Profile, Error> {
    let total = payload.len() as u64;
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(options.delimiter)
        .from_reader(payload);
    let mut record = ByteRecord::new();
    let mut columns: Option<Vec<Column>> = None;
    let (mut rows, mut malformed) = (0_u64, Malformed::default());
    let mut room = Room::new();
    for n in 0_u64.. {
        if n % ROWS_A_REPORT == 0 {
            stop_if_cancelled(ctx)?;
            ctx.progress(reader.position().byte(), total, "reading rows");
        }
        if !reader.read_byte_record(&mut record)? {
            break;
        }
        let cells = match &mut columns {
            Some(columns) => columns,
            None => {
                columns = Some(header(&record, options.header)?);
                if options.header {
                    continue;
                }
                columns.as_mut().expect("just made")
            }
        };
        let is_text = record.iter().all(|cell| std::str::from_utf8(cell).is_ok());
        if record.len() == cells.len() && is_text {
            rows += 1;
            for (column, cell) in cells.iter_mut().zip(&record) {
                column.add(trimmed(cell), &mut room);
            }
        } else {
            malformed.count += 1;
            if malformed.rows.len() < MALFORMED_LISTED {
                malformed.rows.push(MalformedRow {
                    line: record.position().map_or(0, |at| first_line(payload, at)),
                    fields: record.len(),
                    expected: cells.len(),
                    problem: (!is_text).then_some("not UTF-8"),
                });
            }
        }
    }
    let Some(columns) = columns else {
        return Err(Error::validation("the payload is empty: it has no columns").permanent());
    };
    let mut profiles = Vec::with_capacity(columns.len());
    for column in columns {
        stop_if_cancelled(ctx)?;
        profiles.push(column.finish());
    }
    ctx.progress(total, total, "done");
    Ok(Profile { rows, columns: profiles, malformed })
}

fn header(record: &ByteRecord, named: bool) -> Result<Vec<Column>, Error> {
    if record.len() > COLUMNS_MAX {
        let n = record.len();
        return Err(Error::validation(format!("{n} columns, at most {COLUMNS_MAX} are profiled"))
            .detail("limit", COLUMNS_MAX)
            .detail("found", n)
            .permanent());
    }
    let mut columns = Vec::with_capacity(record.len());
    for (i, cell) in record.iter().enumerate() {
        let name = if named {
            let cell = std::str::from_utf8(cell)
                .map_err(|_| Error::validation("the header is not UTF-8").permanent())?;
            clipped(cell.trim_matches([' ', '\t']))
        } else {
            format!("column_{}", i + 1)
        };
        columns.push(Column::new(name));
    }
    Ok(columns)
}

/// The line on which a row begins, from 1. The reader stands before whatever ends the row before it,
/// and before empty lines.
fn first_line(payload: &[u8], at: &csv::Position) -> u64 {
    let rest = payload.get(at.byte() as usize..).unwrap_or_default();
    let between = rest.iter().take_while(|b| b"\r\n".contains(b));
    at.line() + between.filter(|b| **b == b'\n').count() as u64
}

/// A cell of a row that is known to be text.
fn trimmed(cell: &[u8]) -> &str {
    std::str::from_utf8(cell).unwrap_or_default().trim_matches([' ', '\t'])
}

fn stop_if_cancelled(ctx: &InlineContext<'_>) -> Result<(), Error> {
    if ctx.is_cancelled() { Err(Error::new("stopped before the end")) } else { Ok(()) }
}

/// The first characters of a text: what is shown of one value.
fn clipped(text: &str) -> String {
    text.chars().take(TEXT_CHARS).collect()
}

/// With some 400 bytes for each and as much again for its values, the answer stays below the
/// default frame.
const COLUMNS_MAX: usize = 256;
/// Malformed rows that are listed.
const MALFORMED_LISTED: usize = 20;
/// Characters shown of a name or a value.
const TEXT_CHARS: usize = 100;
/// Rows between two reports of progress, and two looks at the cancellation: well below 1 ms.
const ROWS_A_REPORT: u64 = 256;

#[cfg(test)]
mod tests;
