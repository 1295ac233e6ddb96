//! Where items come from: lines, files, elements of an array, text.
//!
//! Only as many are in memory as are being sent; a document with an array is read as a whole.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tollgate_protocol::limits::FRAME_BYTES_HARD_MAX;

use crate::cli::{exit::Usage, format};

/// Where to take items from.
#[derive(Debug)]
pub(in crate::cli) enum Sources<'a> {
    /// The lines of a file that are not blank, without blanks at their ends; `-` is standard input.
    Lines { path: &'a Path },
    /// The lines of a file, whatever is in them, without their ends; `-` is standard input.
    ExactLines { path: &'a Path },
    /// The elements of an array in a JSON document.
    Elements { path: &'a Path, pointer: &'a str },
    /// Whole files.
    Files(&'a [PathBuf]),
    /// Texts.
    Texts { texts: &'a [String], called: &'static str },
}

/// An item to be sent.
#[derive(Debug)]
pub(in crate::cli) struct Item {
    /// Where it comes from, for people.
    pub source: String,
    /// What is sent, or why nothing is.
    pub payload: Result<Bytes, Unsent>,
}

/// Why an item is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Unsent {
    pub code: &'static str,
    pub message: String,
}

impl std::fmt::Display for Unsent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// The items, one after the other.
pub(in crate::cli) struct Items<'a> {
    from: From<'a>,
    schema: Option<Box<RawValue>>,
}

enum From<'a> {
    Lines { reader: Box<dyn AsyncBufRead + Unpin>, name: String, line: u64, exact: bool },
    Elements { elements: std::vec::IntoIter<Box<RawValue>>, name: String, index: u64 },
    Files(std::slice::Iter<'a, PathBuf>),
    Texts { texts: std::iter::Enumerate<std::slice::Iter<'a, String>>, called: &'static str },
}

impl<'a> Items<'a> {
    /// Opens the sources, and reads the schema that records are wrapped with.
    ///
    /// # Errors
    /// When the input or the schema cannot be read, or has no array where one is expected. A file
    /// that is an item is only opened in its turn.
    pub(in crate::cli) async fn open(
        sources: Sources<'a>,
        schema: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let from = match sources {
            Sources::Lines { path } => lines(path, false).await?,
            Sources::ExactLines { path } => lines(path, true).await?,
            Sources::Elements { path, pointer } => {
                let document = read_document(path).await?;
                let elements = elements(&document, pointer)
                    .map_err(|e| Usage::error(format!("{}: {e}", path.display())))?;
                From::Elements { elements: elements.into_iter(), name: name(path), index: 0 }
            }
            Sources::Files(paths) => From::Files(paths.iter()),
            Sources::Texts { texts, called } => {
                From::Texts { texts: texts.iter().enumerate(), called }
            }
        };
        let schema = match schema {
            None => None,
            Some(path) => {
                let text = read_document(path).await?;
                let schema = serde_json::from_str(&text);
                Some(schema.map_err(|e| Usage::error(format!("{}: {e}", path.display())))?)
            }
        };
        Ok(Items { from, schema })
    }

    /// The next item; `None` when there are no more.
    ///
    /// # Errors
    /// When the input fails half-way. A file that cannot be read is that item's own matter.
    pub(in crate::cli) async fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let item = match &mut self.from {
            From::Lines { reader, name, line, exact } => {
                next_line(reader, name, line, *exact).await?
            }
            From::Elements { elements, name, index } => elements.next().map(|element| {
                let source = format!("{name}[{index}]");
                *index += 1;
                Item { source, payload: Ok(Box::<str>::from(element).into_boxed_bytes().into()) }
            }),
            From::Files(paths) => match paths.next() {
                Some(path) => Some(Item { source: name(path), payload: read_file(path).await }),
                None => None,
            },
            From::Texts { texts, called } => texts.next().map(|(n, text)| Item {
                source: format!("{called} {}", n + 1),
                payload: Ok(Bytes::copy_from_slice(text.as_bytes())),
            }),
        };
        Ok(item.map(|item| self.wrap(item)))
    }

    /// Puts the schema beside the payload. One that is no JSON stays none: the broker says so.
    fn wrap(&self, item: Item) -> Item {
        let (Some(schema), Ok(value)) = (&self.schema, &item.payload) else { return item };
        let parts: [&[u8]; 5] =
            [b"{\"schema\":", schema.get().as_bytes(), b",\"value\":", value, b"}"];
        Item { payload: Ok(parts.concat().into()), ..item }
    }
}

async fn lines(path: &Path, exact: bool) -> anyhow::Result<From<'static>> {
    let (reader, name): (Box<dyn AsyncBufRead + Unpin>, _) = if path == Path::new("-") {
        (Box::new(BufReader::new(tokio::io::stdin())), "stdin".to_owned())
    } else {
        let file = tokio::fs::File::open(path).await;
        let file = file.with_context(|| format!("cannot read {}", path.display()))?;
        (Box::new(BufReader::new(file)), name(path))
    };
    Ok(From::Lines { reader, name, line: 0, exact })
}

/// The next line; unless `exact`, the next that is not blank. One that is too long for any broker is
/// read to its end and dropped.
async fn next_line(
    reader: &mut (dyn AsyncBufRead + Unpin),
    name: &str,
    line: &mut u64,
    exact: bool,
) -> anyhow::Result<Option<Item>> {
    loop {
        let mut text = Vec::new();
        let mut limited = (&mut *reader).take(FRAME_BYTES_HARD_MAX as u64 + 2);
        let reading = || format!("cannot read {name}");
        if limited.read_until(b'\n', &mut text).await.with_context(reading)? == 0 {
            return Ok(None);
        }
        *line += 1;
        let source = format!("{name}:{line}");
        if text.len() > FRAME_BYTES_HARD_MAX && text.last() != Some(&b'\n') {
            skip_line(reader).await.with_context(reading)?;
            return Ok(Some(Item { source, payload: Err(too_large(text.len() as u64)) }));
        }
        let kept = if exact {
            let line = text.strip_suffix(b"\n").unwrap_or(&text);
            line.strip_suffix(b"\r").unwrap_or(line)
        } else {
            text.trim_ascii_end()
        };
        text.truncate(kept.len());
        if exact || !text.is_empty() {
            return Ok(Some(Item { source, payload: Ok(text.into()) }));
        }
    }
}

async fn skip_line(reader: &mut (dyn AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf().await?;
        let (used, over) = match buffer.iter().position(|&b| b == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if over {
            return Ok(());
        }
    }
}

async fn read_file(path: &Path) -> Result<Bytes, Unsent> {
    let unreadable = |e: io::Error| Unsent {
        code: "UNREADABLE",
        message: format!("{} cannot be read: {e}", path.display()),
    };
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > FRAME_BYTES_HARD_MAX as u64 {
        return Err(too_large(length));
    }
    tokio::fs::read(path).await.map(Bytes::from).map_err(unreadable)
}

/// What no broker can be made to read; what one reads less than that is the client's to say.
fn too_large(length: u64) -> Unsent {
    Unsent {
        code: "FRAME_TOO_LARGE",
        message: format!(
            "the item has {} or more; a broker reads frames of at most {}, when \
             `limits.frame_bytes_max` and the tenant's quota `payload_bytes` allow it. It was not \
             sent",
            format::bytes(length),
            format::bytes(FRAME_BYTES_HARD_MAX as u64)
        ),
    }
}

async fn read_document(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("cannot read {}", path.display());
    if path == Path::new("-") {
        let mut text = String::new();
        tokio::io::stdin().read_to_string(&mut text).await.with_context(reading)?;
        return Ok(text);
    }
    tokio::fs::read_to_string(path).await.with_context(reading)
}

/// The elements of the array that an RFC 6901 pointer leads to, byte for byte as they stand.
fn elements(document: &str, pointer: &str) -> Result<Vec<Box<RawValue>>, String> {
    let mut value: &RawValue = serde_json::from_str(document).map_err(|e| e.to_string())?;
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err(format!("`{pointer}` is not a JSON pointer: it begins with a /, or is empty"));
    }
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let nothing = || format!("there is nothing at `{pointer}`: no `{token}`");
        value = if value.get().starts_with('{') {
            let mut object: std::collections::HashMap<std::borrow::Cow<'_, str>, &RawValue> =
                serde_json::from_str(value.get()).map_err(|e| e.to_string())?;
            object.remove(&*token).ok_or_else(nothing)?
        } else {
            let index: usize = token.parse().map_err(|_| nothing())?;
            let array: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| nothing())?;
            array.get(index).ok_or_else(nothing)?
        };
    }
    serde_json::from_str(value.get()).map_err(|_| format!("what is at `{pointer}` is not an array"))
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        r#"{"a/b": {"x~": [1.50, {"k": 12345678901234567890123}, "s\n"]}, "n": 1}"#;

    #[test]
    fn a_pointer_leads_to_elements_as_they_stand() {
        let found = elements(DOCUMENT, "/a~1b/x~0").expect("an array");
        let texts: Vec<&str> = found.iter().map(|e| e.get()).collect();
        assert_eq!(texts, ["1.50", r#"{"k": 12345678901234567890123}"#, r#""s\n""#]);
        assert_eq!(elements("[[1],[2,3]]", "/1").expect("an array").len(), 2);
        assert_eq!(elements("[]", "").expect("an array").len(), 0);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_says_where_it_ends() {
        for (pointer, part) in [
            ("/b", "no `b`"),
            ("/n", "not an array"),
            ("/n/x", "no `x`"),
            ("/a~1b/x~0/9", "no `9`"),
            ("a", "not a JSON pointer"),
            ("", "not an array"),
        ] {
            let e = elements(DOCUMENT, pointer).expect_err(pointer);
            assert!(e.contains(part), "{pointer}: {e}");
        }
        assert!(elements("{", "").is_err());
    }

    async fn all(mut items: Items<'_>) -> Vec<(String, Result<Bytes, Unsent>)> {
        let mut all = Vec::new();
        while let Some(item) = items.next().await.expect("readable") {
            all.push((item.source, item.payload));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_numbered_and_empty_ones_skipped() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lines");
        std::fs::write(&path, "one\r\n\n  \ntwo\nthree").expect("written");
        let items = Items::open(Sources::Lines { path: &path }, None).await.expect("opened");
        let found = all(items).await;
        let lines: Vec<_> =
            found.iter().map(|(s, p)| (&s[s.len() - 2..], p.as_ref().expect("a line"))).collect();
        assert_eq!(lines, [(":1", &"one".into()), (":4", &"two".into()), (":5", &"three".into())]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_its_own_failure() {
        let dir = tempfile::tempdir().expect("a directory");
        let paths = [dir.path().join("missing"), dir.path().join("there"), dir.path().join("huge")];
        std::fs::write(&paths[1], "x").expect("written");
        let huge = std::fs::File::create(&paths[2]).expect("made");
        huge.set_len(FRAME_BYTES_HARD_MAX as u64 + 1).expect("long");
        let found = all(Items::open(Sources::Files(&paths), None).await.expect("opened")).await;
        assert_eq!(found[0].1.as_ref().expect_err("unreadable").code, "UNREADABLE");
        assert_eq!(found[1].1, Ok("x".into()));
        let e = found[2].1.as_ref().expect_err("too large");
        assert!(
            e.code == "FRAME_TOO_LARGE" && e.message.contains("limits.frame_bytes_max"),
            "{e:?}"
        );
    }

    #[tokio::test]
    async fn records_are_wrapped_with_the_schema() {
        let dir = tempfile::tempdir().expect("a directory");
        let schema = dir.path().join("schema");
        std::fs::write(&schema, "{\"type\": \"object\"}").expect("written");
        let texts = ["{\"a\":1}".to_owned()];
        let items = Items::open(Sources::Texts { texts: &texts, called: "payload" }, Some(&schema))
            .await
            .expect("opened");
        let found = all(items).await;
        let wrapped = br#"{"schema":{"type": "object"},"value":{"a":1}}"#;
        assert_eq!(found[0].1, Ok(Bytes::from_static(wrapped)));
    }
}
