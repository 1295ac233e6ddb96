//! Text from strangers, made fit for a log line or a terminal.
//!
//! Never lets a control character through, and never more than [`EXCERPT_CHARS_MAX`] characters.

use std::fmt;

/// Text from a certificate or a file, as an error shows it: escaped, quoted and cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    pub(crate) fn new(text: &str) -> Excerpt {
        match text.char_indices().nth(EXCERPT_CHARS_MAX) {
            None => Excerpt(format!("{text:?}")),
            Some((end, _)) => Excerpt(format!("{:?}... ({} bytes)", &text[..end], text.len())),
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Escapes whatever a terminal might act on; quotes and letters stay as they are.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            other => out.extend(other.escape_debug()),
        }
    }
    out
}

/// Bytes as lower-case hex without separators.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const EXCERPT_CHARS_MAX: usize = 80;
