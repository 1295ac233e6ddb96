//! Validation of a payload before its item is queued: size, then JSON, then the schema.
//!
//! Never runs a recipe, never reaches for anything outside the payload and the schema, and never
//! quotes a payload back beyond a bound.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;
use tollgate_protocol::{Code, truncate};

use super::{catalog::Entry, error::Error, outcome::Failure};

/// Refuses a schema that could cost more than its size times the payload's, in time or in memory:
/// one that a tenant brings must not keep a thread from the others.
///
/// # Errors
/// `VALIDATION_ERROR`, naming the keyword or the size.
pub(crate) fn check_frugal(text: &str, schema: &Value) -> Result<(), Failure> {
    if text.len() > FRUGAL_BYTES_MAX {
        let message = format!(
            "a schema of a tenant's worker has at most {FRUGAL_BYTES_MAX} bytes, not {}",
            text.len()
        );
        return Err(Failure::validation("schema", message).detail("limit", FRUGAL_BYTES_MAX));
    }
    match costly(schema) {
        None => Ok(()),
        Some(keyword) => {
            let message = format!(
                "a schema of a tenant's worker must do without `{keyword}`: what it costs has no \
                 bound"
            );
            Err(Failure::validation("schema", message).detail("keyword", keyword))
        }
    }
}

/// The first keyword whose cost is not bounded by the sizes of schema and payload. The parser bounds
/// how deep this goes.
fn costly(schema: &Value) -> Option<&'static str> {
    match schema {
        Value::Array(all) => all.iter().find_map(costly),
        Value::Object(keywords) => keywords.iter().find_map(|(keyword, value)| {
            if let Some(found) = COSTLY.iter().find(|k| **k == keyword.as_str()) {
                return Some(*found);
            }
            match (keyword.as_str(), value) {
                // Names here are the payload's, not keywords.
                (
                    "properties" | "dependentSchemas" | "$defs" | "definitions",
                    Value::Object(of),
                ) => of.values().find_map(costly),
                ("enum" | "const" | "default" | "examples", _) => None,
                _ => costly(value),
            }
        }),
        _ => None,
    }
}

/// References make the work grow exponentially, patterns the memory, uniqueness the square.
const COSTLY: &[&str] =
    &["$ref", "$dynamicRef", "$recursiveRef", "pattern", "patternProperties", "uniqueItems"];
/// The largest schema of a tenant's worker.
const FRUGAL_BYTES_MAX: usize = 4 << 10;

/// Reads a schema as a worker describes it.
///
/// # Errors
/// `VALIDATION_ERROR` when it is not JSON.
pub(crate) fn parse_schema(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|e| Failure::validation("schema", format!("the schema is not JSON: {e}")))
}

/// Checks a payload against what the recipe's spec says.
///
/// Time and memory grow with the payload when there is a schema (see [`Entry::checks_on_pool`]).
///
/// # Errors
/// `PAYLOAD_TOO_LARGE` with `limit`, `length` and `config_key`; `VALIDATION_ERROR` with `field` (a
/// JSON pointer) when the schema refuses, with `line` and `column` when it is not JSON.
pub(crate) fn check(entry: &Entry, payload: &[u8]) -> Result<(), Error> {
    let max = entry.spec.payload_bytes_max;
    if payload.len() > max {
        return Err(too_large(entry, payload.len(), max));
    }
    match &entry.schema {
        None => Ok(()),
        Some(schema) => schema.check(payload),
    }
}

fn too_large(entry: &Entry, len: usize, max: usize) -> Error {
    let message = format!("the payload has {len} bytes, recipe {} takes at most {max}", entry.name);
    Error::with_code(Code::PayloadTooLarge, message)
        .detail("limit", max)
        .detail("length", len)
        .detail("config_key", "payload_bytes_max of the recipe's spec")
        .permanent()
}

/// A compiled schema.
pub(crate) struct Schema {
    validator: Validator,
    /// Whether it has alternatives: an error of one lists every error of every branch.
    forks: bool,
}

impl Schema {
    /// Compiles a schema. References that leave the schema are refused, and patterns are matched in
    /// linear time (no look-around, no back-references), so that a hostile payload gets no more
    /// time out of a pattern than its length.
    pub(crate) fn compile(schema: &Value) -> Result<Self, ValidationError<'static>> {
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().with_pattern_options(patterns).with_retriever(Nowhere);
        Ok(Schema { validator: options.build(schema)?, forks: forks(schema) })
    }

    /// Whether a value is valid: never allocates more than the value already takes.
    pub(crate) fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Every error of a value. Some 500 bytes for each: for small values only.
    pub(crate) fn errors<'v>(
        &'v self,
        value: &'v Value,
    ) -> impl Iterator<Item = ValidationError<'v>> + 'v {
        self.validator.iter_errors(value)
    }

    /// The first error of an invalid value, unless finding it could take memory out of proportion
    /// (`len` is the length of the value as text).
    pub(crate) fn fault<'v>(&self, value: &'v Value, len: usize) -> Option<ValidationError<'v>> {
        if self.forks && len > FORKS_SOUGHT_BYTES_MAX {
            return None;
        }
        self.validator.validate(value).err()
    }

    /// Checks that `payload` is JSON and that the schema accepts it.
    pub(crate) fn check(&self, payload: &[u8]) -> Result<(), Error> {
        let value: Value =
            serde_json::from_slice(payload).map_err(|e| malformed("the payload", &e))?;
        // The short way first: it allocates nothing and remembers what it saw of recursive schemas.
        if self.is_valid(&value) {
            return Ok(());
        }
        let Some(e) = self.fault(&value, payload.len()) else {
            return Err(Error::validation("the payload does not match the schema").permanent());
        };
        let field = pointer(&e);
        let at = if field.is_empty() { "the payload" } else { &field };
        Err(Error::validation(format!("{at}: {}", message(&e)))
            .detail("field", &field)
            .detail("keyword", e.kind().keyword())
            .permanent())
    }
}

/// Whether a schema has `anyOf` or `oneOf` anywhere.
fn forks(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            map.contains_key("anyOf") || map.contains_key("oneOf") || map.values().any(forks)
        }
        Value::Array(list) => list.iter().any(forks),
        _ => false,
    }
}

/// Says where text stops being JSON.
pub(crate) fn malformed(what: &str, e: &serde_json::Error) -> Error {
    let text = e.to_string();
    Error::validation(format!(
        "{what} is not well-formed JSON: {}",
        truncate(&text, TEXT_BYTES_MAX)
    ))
    .detail("line", e.line())
    .detail("column", e.column())
    .permanent()
}

/// Where in the instance (or, when compiling, in the schema) an error is, as a JSON pointer.
pub(crate) fn pointer(e: &ValidationError<'_>) -> String {
    truncate(e.instance_path().as_str(), TEXT_BYTES_MAX).to_owned()
}

/// What an error says, without the value at fault when that is long.
pub(crate) fn message(e: &ValidationError<'_>) -> String {
    let full = e.to_string();
    if full.len() <= TEXT_BYTES_MAX {
        return full;
    }
    let masked = e.masked().to_string();
    truncate(&masked, TEXT_BYTES_MAX).to_owned()
}

/// Refuses to fetch what a `$ref` names.
struct Nowhere;

impl jsonschema::Retrieve for Nowhere {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is outside the schema, and nothing is fetched").into())
    }
}

/// The longest text made from one error of a payload, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 512;
/// Alternatives are searched for the fault in payloads up to this, in bytes: with an error of some
/// 500 bytes for each of its values, they take less than 20 MiB a branch.
const FORKS_SOUGHT_BYTES_MAX: usize = 64 << 10;
/// The memory one compiled pattern may take, in bytes.
const PATTERN_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tollgate_protocol::describe::Encoding;

    use super::*;
    use crate::batch::{Catalog, Inline, InlineContext, Reply, Spec};

    struct Nothing;

    impl Inline for Nothing {
        fn run(&self, _: &InlineContext<'_>, _: &[u8], _: &mut Reply) -> Result<(), Error> {
            Ok(())
        }
    }

    fn catalog() -> Catalog {
        let schema = json!({
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 4}},
            },
        });
        let encoding = Encoding::Json;
        let spec =
            Spec { encoding, schema: Some(schema), payload_bytes_max: 4096, ..Spec::default() };
        Catalog::builder().inline("x", spec, Nothing).build().expect("valid")
    }

    #[track_caller]
    fn refused(payload: &[u8], code: Code, part: &str, details: &[(&str, &str)]) {
        let catalog = catalog();
        let e = check(catalog.find("x").expect("there"), payload).expect_err("must be refused");
        assert_eq!(e.code(), code);
        assert!(e.message().contains(part), "{:?} does not say {part:?}", e.message());
        assert!(e.message().len() <= 2 * TEXT_BYTES_MAX);
        let inner = e.into_inner();
        for &(key, value) in details {
            assert_eq!(inner.details.as_pairs().find(key), Some(value), "{key}");
        }
    }

    #[test]
    fn a_good_payload_passes() {
        let catalog = catalog();
        let entry = catalog.find("x").expect("there");
        check(entry, br#"{"id": 1, "tags": ["a", "b"]}"#).expect("valid");
    }

    #[test]
    fn a_bad_payload_is_refused_with_the_place_of_the_fault() {
        let bad = Code::ValidationError;
        refused(b"", bad, "EOF", &[("line", "1"), ("column", "0")]);
        refused(b"{\"id\":\n nope}", bad, "line 2", &[("line", "2")]);
        refused(b"[]", bad, "the payload: ", &[("field", ""), ("keyword", "type")]);
        refused(b"{}", bad, "\"id\" is a required property", &[("field", "")]);
        refused(b"{\"id\": \"1\"}", bad, "/id: ", &[("field", "/id"), ("keyword", "type")]);
        let tags = br#"{"id": 1, "tags": ["a", "too long"]}"#;
        refused(tags, bad, "/tags/1: ", &[("field", "/tags/1"), ("keyword", "maxLength")]);
        refused(&b"[".repeat(4_000), bad, "recursion limit", &[]);
        refused(&[b"\"".as_slice(), &[0xff], b"\""].concat(), bad, "unicode", &[]);
    }

    #[test]
    fn a_payload_over_the_limit_is_refused_with_the_limit() {
        let details = [("limit", "4096"), ("length", "4097")];
        refused(&[b' '; 4_097], Code::PayloadTooLarge, "4097 bytes", &details);
    }

    #[test]
    fn a_long_value_is_not_quoted_back() {
        let payload = format!("{{\"id\": \"{}\"}}", "x".repeat(4_000));
        refused(payload.as_bytes(), Code::ValidationError, "/id: ", &[("field", "/id")]);
    }
}
