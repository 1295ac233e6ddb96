//! A payload as it is shown: JSON where it is that, else text, else base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::value::RawValue;

/// A payload, by what it is.
#[derive(Debug)]
pub(super) enum Shown<'a> {
    /// JSON in one line, every number as it was written.
    Json(Box<RawValue>),
    /// Other text.
    Text(&'a str),
    /// Neither.
    Bytes(&'a [u8]),
}

impl<'a> Shown<'a> {
    pub(super) fn of(payload: &'a [u8]) -> Self {
        let Ok(text) = std::str::from_utf8(payload) else { return Shown::Bytes(payload) };
        match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => match RawValue::from_string(compact(text)) {
                Ok(json) => Shown::Json(json),
                Err(_) => Shown::Text(text),
            },
            Err(_) => Shown::Text(text),
        }
    }

    /// In words, for a column.
    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Shown::Json(json) => json.get().into(),
            Shown::Text(text) => (*text).into(),
            Shown::Bytes(bytes) => format!("({} bytes)", bytes.len()).into(),
        }
    }
}

/// The base64 of bytes.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Good JSON without the white space between its tokens.
fn compact(json: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    let kept = json.chars().filter(|&c| {
        if quoted {
            (quoted, escaped) = (c != '"' || escaped, c == '\\' && !escaped);
            return true;
        }
        quoted = c == '"';
        !c.is_ascii_whitespace()
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_numbers_and_strings_and_loses_its_lines() {
        let json =
            "{\n  \"a b\": [1.50, 12345678901234567890123],\n \"q\": \"\\\" \\\\\" , \"é\":\"\"}";
        let Shown::Json(shown) = Shown::of(json.as_bytes()) else { panic!("it is JSON") };
        let one_line = r#"{"a b":[1.50,12345678901234567890123],"q":"\" \\","é":""}"#;
        assert_eq!(shown.get(), one_line);
    }

    #[test]
    fn what_is_not_json_is_text_or_bytes() {
        assert!(matches!(Shown::of(b"hello"), Shown::Text("hello")));
        assert!(matches!(Shown::of(b""), Shown::Text("")));
        assert!(matches!(Shown::of(b"{} {}"), Shown::Text(_)));
        assert!(matches!(Shown::of(&[0xff]), Shown::Bytes(_)));
        assert_eq!(base64(&[0xff, 0]), "/wA=");
    }
}
