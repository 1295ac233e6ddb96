//! `fail`: fails as it is asked to, with any code that a recipe may answer.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use tollgate_protocol::Code;

use crate::batch::{Error, Inline, InlineContext, Reply, Spec, typed};

pub(super) struct Fail;

pub(super) fn spec() -> Spec {
    Spec {
        description: "Fails as asked. Payload: empty, or JSON \
            {\"message\": text, \"code\": a name such as NOT_FOUND, \"permanent\": boolean, \
            \"app_code\": text, \"details\": {text: text}, \"retry_after_ms\": number}, \
            each of them optional."
            .into(),
        ..Spec::json()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    message: Option<String>,
    code: Option<String>,
    permanent: bool,
    app_code: Option<String>,
    details: BTreeMap<String, String>,
    retry_after_ms: Option<u32>,
}

impl Inline for Fail {
    fn run(&self, _: &InlineContext<'_>, payload: &[u8], _: &mut Reply) -> Result<(), Error> {
        let input = if payload.is_empty() { Input::default() } else { typed::from_json(payload)? };
        Err(failure(input)?)
    }
}

/// The failure that is asked for; the error is the one that says why there is no such failure.
fn failure(input: Input) -> Result<Error, Error> {
    let code = match &input.code {
        None => Code::RecipeExecution,
        Some(name) => CODES.iter().copied().find(|c| c.name() == name).ok_or_else(|| {
            let names: Vec<_> = CODES.iter().map(|c| c.name()).collect();
            Error::validation("/code: no code that a recipe may answer")
                .detail("field", "/code")
                .detail("expected", names.join(", "))
                .permanent()
        })?,
    };
    let message = input.message.unwrap_or_else(|| "failed as asked".to_owned());
    let mut error = Error::with_code(code, message);
    if let Some(ms) = input.retry_after_ms {
        error = error.retry_after(Duration::from_millis(ms.into()));
    }
    for (key, value) in &input.details {
        error = error.detail(key, value);
    }
    if let Some(app_code) = input.app_code {
        error = error.app_code(app_code);
    }
    Ok(if input.permanent { error.permanent() } else { error })
}

/// What a recipe may answer.
const CODES: [Code; 7] = [
    Code::RecipeExecution,
    Code::ValidationError,
    Code::NotFound,
    Code::Unauthorized,
    Code::Forbidden,
    Code::RateLimited,
    Code::InternalError,
];
