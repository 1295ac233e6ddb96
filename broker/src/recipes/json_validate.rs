//! `json.validate`: holds a value against a schema, both in the payload.
//!
//! Schema and value come from the same stranger, so what a validation may cost is counted before it
//! begins; a value that is not valid is a successful answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_protocol::limits;

use crate::batch::{Error, Inline, InlineContext, Reply, Spec, typed, validate};

mod cost;

pub(super) struct JsonValidate;

pub(super) fn spec() -> Spec {
    Spec {
        timeout: Some(Duration::from_secs(10)),
        idempotent: true,
        inline_bytes_max: Some(16 << 10),
        // Read into values it takes up to a hundred times as much.
        payload_bytes_max: 1 << 20,
        description: format!(
            "Validates a JSON value. Payload: JSON {{\"schema\": JSON Schema, \"value\": any}}. \
            Answers {{\"valid\": boolean, \"errors\": [{{\"path\": JSON pointer, \"message\": \
            text}}], \"complete\": boolean}}, with at most {ERRORS_LISTED} errors. References \
            must lead into the schema itself (`#/…`), and patterns have neither look-around nor \
            back-references."
        ),
        ..Spec::json()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    schema: Value,
    value: Value,
}

#[derive(Serialize)]
struct Answer {
    valid: bool,
    errors: Vec<Fault>,
    /// Whether every error is listed.
    complete: bool,
}

#[derive(Serialize)]
struct Fault {
    path: String,
    message: String,
}

impl Inline for JsonValidate {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], out: &mut Reply) -> Result<(), Error> {
        let Input { schema, value } = typed::from_json(payload)?;
        serde_json::to_writer(out, &answer(&schema, &value, payload.len())?)?;
        Ok(())
    }
}

fn answer(schema: &Value, value: &Value, payload_len: usize) -> Result<Answer, Error> {
    let len = schema.to_string().len();
    if len > limits::SCHEMA_BYTES_MAX {
        let max = limits::SCHEMA_BYTES_MAX;
        return Err(bad_schema("", &format!("it has {len} bytes, at most {max} are taken")));
    }
    let steps = cost::steps(schema, value, payload_len)
        .map_err(|e| bad_schema(&e.at, &e.problem.to_string()))?;
    let compiled = validate::Schema::compile(schema)
        .map_err(|e| bad_schema(&validate::pointer(&e), &validate::message(&e)))?;
    if compiled.is_valid(value) {
        return Ok(Answer { valid: true, errors: Vec::new(), complete: true });
    }
    let fault = |e: jsonschema::ValidationError<'_>| Fault {
        path: validate::pointer(&e),
        message: validate::message(&e),
    };
    // An error takes some 500 bytes, and there may be one for each step.
    if steps > STEPS_LISTED_MAX {
        let first = compiled.fault(value, usize::MAX).map(fault);
        return Ok(Answer { valid: false, errors: first.into_iter().collect(), complete: false });
    }
    let mut errors = compiled.errors(value).map(fault);
    let listed: Vec<_> = errors.by_ref().take(ERRORS_LISTED).collect();
    Ok(Answer { valid: false, errors: listed, complete: errors.next().is_none() })
}

fn bad_schema(at: &str, problem: &str) -> Error {
    let field = format!("/schema{at}");
    Error::validation(format!("{field}: {problem}")).detail("field", &field).permanent()
}

/// Errors that are listed.
const ERRORS_LISTED: usize = 32;
/// Validations of more steps tell the first error only.
const STEPS_LISTED_MAX: u64 = 20_000;

#[cfg(test)]
mod tests;
