//! Payloads to values, and what is said when they are not of the type.
//!
//! The place of a fault is looked for only once there is one, and reading past it costs nothing.

use serde::de::DeserializeOwned;
use tollgate_protocol::truncate;

use crate::batch::Error;

/// Reads a JSON payload.
pub(super) fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(payload).map_err(|e| json_fault(payload, &e))
}

fn json_fault(payload: &[u8], e: &serde_json::Error) -> Error {
    let text = e.to_string();
    let text = truncate(&text, TEXT_BYTES_MAX);
    let field = pointer(payload, offset(payload, e.line(), e.column()));
    let at = if field.is_empty() { "the payload" } else { &field };
    let error = Error::validation(format!("{at}: {text}"))
        .detail("line", e.line())
        .detail("column", e.column())
        .permanent();
    // serde's own words: `invalid type: string "x", expected u64 at line 1 column 9`, and
    // `missing field `x` at …`.
    if let Some(name) = between(text, "missing field `", "`") {
        return error
            .detail("field", format!("{field}/{}", escaped(name)))
            .detail("expected", "a value")
            .detail("found", "nothing");
    }
    let error = error.detail("field", &field);
    let Some((found, expected)) = text.split_once(", expected ") else { return error };
    let expected = expected.rsplit_once(" at line ").map_or(expected, |(what, _)| what);
    let found = ["invalid type: ", "invalid value: ", "invalid length "]
        .iter()
        .find_map(|kind| found.strip_prefix(kind))
        .unwrap_or(found);
    error.detail("expected", expected).detail("found", found)
}

/// Reads a postcard payload, all of it.
pub(super) fn postcard<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    let flavor = ::postcard::de_flavors::Slice::new(payload);
    let mut reader = ::postcard::Deserializer::from_flavor(flavor);
    let read = T::deserialize(&mut reader);
    // What is left tells how far it came.
    let left = reader.finalize().map_or(0, <[u8]>::len);
    let found = match read {
        Ok(value) if left == 0 => return Ok(value),
        Ok(_) => format!("{left} bytes after its end"),
        Err(::postcard::Error::DeserializeUnexpectedEnd) => "the end of the payload".to_owned(),
        Err(e) => truncate(&e.to_string(), TEXT_BYTES_MAX).to_owned(),
    };
    let position = payload.len() - left;
    let expected = type_name::<T>();
    Err(Error::validation(format!(
        "the payload is not a {expected} in postcard: at byte {position}: {found}"
    ))
    .detail("expected", expected)
    .detail("found", found)
    .detail("position", position)
    .permanent())
}

/// The offset that a line and a column (both from 1, in bytes) name.
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let ends = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    let start = std::iter::once(0).chain(ends).nth(line.saturating_sub(1)).unwrap_or(0);
    (start + column).min(text.len())
}

/// Something open at a place in JSON text.
enum Open<'t> {
    /// An array, and which element it is at; `None` before the first.
    Array(Option<usize>),
    /// An object, and the key it is at, with its quotes.
    Object(Option<&'t [u8]>),
}

/// The JSON pointer of what stands before `end`, which is as far as the text is known to be JSON.
fn pointer(text: &[u8], end: usize) -> String {
    let text = &text[..end];
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b':' => continue,
            b'}' | b']' => {
                open.pop();
                continue;
            }
            b'"' => at = string_end(text, at),
            _ => {}
        }
        match open.last_mut() {
            Some(Open::Array(index)) if byte == b',' => *index = index.map(|i| i + 1),
            Some(Open::Array(index @ None)) => *index = Some(0),
            Some(Open::Object(key)) if byte == b',' => *key = None,
            Some(Open::Object(key @ None)) if byte == b'"' => *key = Some(&text[start..at]),
            _ => {}
        }
        match byte {
            b'[' => open.push(Open::Array(None)),
            b'{' => open.push(Open::Object(None)),
            _ => {}
        }
    }
    let mut pointer = String::new();
    for step in &open {
        match step {
            Open::Array(Some(index)) => pointer.push_str(&format!("/{index}")),
            Open::Object(Some(key)) => {
                let key: String = serde_json::from_slice(key).unwrap_or_default();
                pointer.push('/');
                pointer.push_str(&escaped(&key));
            }
            Open::Array(None) | Open::Object(None) => {}
        }
    }
    pointer.truncate(pointer.floor_char_boundary(TEXT_BYTES_MAX));
    pointer
}

/// Where a string ends that begins before `at`.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => return at,
            b'\\' => at += 1,
            _ => {}
        }
    }
    text.len()
}

/// A key as it stands in a JSON pointer (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// A type's name without the modules it comes from: `Vec<Point>`.
fn type_name<T>() -> String {
    let mut short = String::new();
    let mut path = std::any::type_name::<T>();
    while let Some(end) = path.find(|c: char| !(c.is_alphanumeric() || c == '_')) {
        match path[end..].strip_prefix("::") {
            Some(rest) => path = rest,
            None => {
                // One more byte: every separator in a type's name is ASCII.
                short.push_str(&path[..=end]);
                path = &path[end + 1..];
            }
        }
    }
    short.push_str(path);
    short.truncate(short.floor_char_boundary(TEXT_BYTES_MAX));
    short
}

/// The longest text made from a fault, in bytes.
const TEXT_BYTES_MAX: usize = 512;
