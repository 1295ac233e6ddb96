//! One line of a batch: an item, or what is wrong with it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;
use tollgate_protocol::{Code, PairsBuf, batch::Request, limits};

use super::super::extract;
use crate::batch::Failure;

/// An item that was read.
#[derive(Debug)]
pub(super) struct Item {
    pub id: u64,
    recipe: String,
    timeout_ms: Option<u64>,
    idempotency_key: Option<String>,
    /// Unix milliseconds.
    not_before: Option<u64>,
    metadata: PairsBuf,
    payload: Vec<u8>,
}

impl Item {
    pub(super) fn request(&self) -> Request<'_> {
        Request {
            timeout_ms: self.timeout_ms,
            idempotency_key: self.idempotency_key.as_deref(),
            not_before_unix_ms: self.not_before,
            metadata: self.metadata.as_pairs(),
            ..Request::new(self.id, &self.recipe, &self.payload)
        }
    }
}

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    Item(Item),
    /// An item whose id is known, and what is wrong with it.
    Bad(u64, Failure),
    /// Nobody can say whose it is: the end of the batch.
    Fatal(Failure),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys<'a> {
    id: Option<u64>,
    recipe: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    payload_base64: Option<String>,
    timeout_ms: Option<u64>,
    idempotency_key: Option<String>,
    not_before: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// All that is needed to say whose a line is.
#[derive(Deserialize)]
struct OnlyId {
    id: Option<u64>,
}

/// Reads a line; `number` is its place in the body, `next` the id that it has if it names none, and
/// `counted` whether the ids so far are those of counting: then what can not be read has the next one too.
pub(super) fn read(line: &[u8], number: u64, next: Option<u64>, counted: bool) -> Line {
    // Serde would read an array as the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        let failure = Failure::new(Code::ValidationError, "an item is a JSON object");
        return bad(next.filter(|_| counted), failure, number);
    }
    let mut reader = serde_json::Deserializer::from_slice(line);
    let keys: Result<Keys<'_>, _> = serde_path_to_error::deserialize(&mut reader);
    let keys = keys.map_err(|e| {
        let path = e.path().to_string();
        extract::named(&path, &e.into_inner().to_string())
    });
    let keys = keys.and_then(|keys| match reader.end() {
        Ok(()) => Ok(keys),
        Err(e) => Err((String::new(), e.to_string())),
    });
    match keys {
        Ok(keys) => match keys.id.or(next) {
            Some(id) => keys.item(id).map_or_else(|e| Line::Bad(id, e), Line::Item),
            None => Line::Fatal(at_line(no_id(), number)),
        },
        Err((field, message)) => {
            let failure = match field.as_str() {
                "" => Failure::new(Code::ValidationError, message),
                field => Failure::validation(field, format!("{field}: {message}")),
            };
            let id = match serde_json::from_slice::<OnlyId>(line) {
                Ok(known) => known.id.or(next),
                Err(_) => next.filter(|_| counted),
            };
            bad(id, failure, number)
        }
    }
}

/// A line that is no item, whose id is known or not.
fn bad(id: Option<u64>, failure: Failure, number: u64) -> Line {
    let failure = at_line(failure, number);
    match id {
        Some(id) => Line::Bad(id, failure),
        None => Line::Fatal(failure),
    }
}

fn at_line(failure: Failure, number: u64) -> Failure {
    failure.detail("line", number)
}

fn no_id() -> Failure {
    Failure::validation("id", "there is no id after the largest one")
}

impl Keys<'_> {
    fn item(self, id: u64) -> Result<Item, Failure> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => {
                let message = "payload and payload_base64 are there both";
                return Err(Failure::validation("payload", message));
            }
            (Some(json), None) => json.get().as_bytes().to_vec(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|e| {
                Failure::validation("payload_base64", format!("payload_base64: {e}"))
            })?,
            (None, None) => Vec::new(),
        };
        let mut metadata = PairsBuf::new();
        for (key, value) in self.metadata.iter().flatten() {
            let push = metadata.push(key, value);
            push.map_err(|e| Failure::validation("metadata", format!("metadata: {e}")))?;
        }
        bounded("recipe", &self.recipe, limits::RECIPE_NAME_BYTES_MAX)?;
        if let Some(key) = &self.idempotency_key {
            bounded("idempotency_key", key, limits::IDEMPOTENCY_KEY_BYTES_MAX)?;
        }
        let not_before = self.not_before.as_deref().map(moment).transpose()?;
        Ok(Item {
            id,
            not_before,
            recipe: self.recipe,
            timeout_ms: self.timeout_ms,
            idempotency_key: self.idempotency_key,
            metadata,
            payload,
        })
    }
}

/// The Unix milliseconds of a moment; what lies before them is now.
fn moment(text: &str) -> Result<u64, Failure> {
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        let message = "not_before: a moment of RFC 3339, such as 2030-01-01T08:00:00Z";
        Failure::validation("not_before", message)
    })?;
    Ok(u64::try_from(at.as_millisecond()).unwrap_or(0))
}

fn bounded(field: &str, text: &str, max: usize) -> Result<(), Failure> {
    if text.len() <= max {
        return Ok(());
    }
    let message = format!("{field}: {} bytes, allowed are {max}", text.len());
    Err(Failure::validation(field, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        read(text.as_bytes(), 7, Some(3), false)
    }

    #[test]
    fn a_good_line_is_an_item() {
        let text = r#"{"id":9,"recipe":"echo","payload":{"a": [1.0e2, "é"]},"metadata":{"k":"v"}}"#;
        let Line::Item(item) = line(text) else { panic!("it is good") };
        let request = item.request();
        assert_eq!((request.id, request.recipe), (9, "echo"));
        assert_eq!(request.payload, r#"{"a": [1.0e2, "é"]}"#.as_bytes(), "as it stands");
        assert_eq!(request.metadata.find("k"), Some("v"));
        let Line::Item(item) = line(r#"{"recipe":"echo","payload_base64":"AP8="}"#) else {
            panic!("it is good")
        };
        assert_eq!((item.request().id, item.request().payload), (3, &[0, 255][..]));
        let text = r#"{"recipe":"echo","not_before":"2023-11-14T23:13:20.5+01:00"}"#;
        let Line::Item(item) = line(text) else { panic!("it is good") };
        assert_eq!(item.request().not_before_unix_ms, Some(1_700_000_000_500));
    }

    #[test]
    fn a_bad_line_is_its_items_if_that_can_be_told() {
        for (text, id, field) in [
            (r#"{"id":9,"recipe":1}"#, 9, "recipe"),
            (r#"{"id":9}"#, 9, "recipe"),
            (r#"{"recipe":"echo","pyload":1}"#, 3, "pyload"),
            (r#"{"recipe":"echo","payload":1,"payload_base64":""}"#, 3, "payload"),
            (r#"{"recipe":"echo","payload_base64":"?"}"#, 3, "payload_base64"),
            (r#"{"recipe":"echo","metadata":{"a":1}}"#, 3, "metadata.a"),
            (r#"{"recipe":"echo","timeout_ms":-1}"#, 3, "timeout_ms"),
            (r#"{"recipe":"echo","not_before":"soon"}"#, 3, "not_before"),
            (r#"{"recipe":"echo","not_before":7}"#, 3, "not_before"),
        ] {
            let Line::Bad(found, failure) = line(text) else { panic!("{text}") };
            assert_eq!(found, id, "{text}");
            assert_eq!(failure.details.as_pairs().find("field"), Some(field), "{text}");
        }
        for text in
            [r#"{"id":"x","recipe":"echo"}"#, "{", "1", "[9]", r#"{"id":-1,"recipe":"echo"}"#]
        {
            let Line::Fatal(failure) = line(text) else { panic!("{text}") };
            assert_eq!(failure.details.as_pairs().find("line"), Some("7"), "{text}");
            // Where lines are counted it has its number like any other.
            let Line::Bad(3, failure) = read(text.as_bytes(), 7, Some(3), true) else {
                panic!("{text}")
            };
            assert_eq!(failure.details.as_pairs().find("line"), Some("7"), "{text}");
        }
    }
}
