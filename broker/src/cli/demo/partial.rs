//! Partial success: each item comes to its own end.

use std::time::Duration;

use serde_json::json;
use tollgate_client::{Code, Request, RetryPolicy};

use super::{Show, Stage};
use crate::cli::{
    format,
    output::{self, excerpt, padded},
};

/// An item, what it is about, and how it must end.
struct Case {
    about: &'static str,
    request: Request,
    ends: Code,
}

pub(super) async fn play(stage: &Stage, show: &mut Show) -> anyhow::Result<()> {
    show.scene(
        "Partial success",
        "nine items in one batch of acme, most of them wrong: each comes to its own end",
    )?;
    let cases = cases();
    let requests = cases.iter().map(|case| case.request.clone());
    let batch = stage.acme.batch().retry(RetryPolicy::none());
    let result = batch.execute(requests.collect::<Vec<_>>()).await?;
    let mut as_expected = result.len() == cases.len();
    for (item, case) in result.iter().zip(&cases) {
        as_expected &= item.code() == Some(case.ends);
        let said = match &item.outcome {
            Ok(payload) => String::from_utf8_lossy(payload).into_owned(),
            Err(failure) => failure.message.to_string(),
        };
        let cells = [
            case.about.to_owned(),
            format!("{} {}", item.status, item.code().map_or("?", Code::name)),
            format::duration(item.duration),
            excerpt(&said, output::width().saturating_sub(70).max(30)),
        ];
        show.line(padded(&cells, &[26, 22, 8, 0]))?;
    }
    let digest = result.iter().nth(1).and_then(|item| item.payload().cloned());
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    as_expected &= digest.as_deref() == Some(abc.as_bytes());
    show.promise(as_expected, "each ended with its own code, and the good ones with their answer")?;
    let summary = result.successes().count();
    show.promise(
        summary == 3 && result.failures().count() == 6,
        "3 of 9 succeeded, beside a panic, a time-out and what was refused unread",
    )?;
    Ok(())
}

fn cases() -> Vec<Case> {
    let case = |about, request, ends| Case { about, request, ends };
    let json = |recipe: &str, value: serde_json::Value| Request::new(recipe, "").json(&value);
    let schema = json!({ "type": "object", "required": ["order"] });
    vec![
        case("echo", Request::new("echo", "hello"), Code::Ok),
        case("sha256 of abc", Request::new("sha256", "abc"), Code::Ok),
        case(
            "json.validate",
            json("json.validate", json!({ "schema": schema, "value": { "order": 7 } })),
            Code::Ok,
        ),
        case(
            "fail, as asked",
            json("fail", json!({ "code": "NOT_FOUND", "message": "there is no order 8" })),
            Code::NotFound,
        ),
        case("panic", Request::new("panic", "index out of bounds"), Code::Panic),
        case(
            "delay of 5 s, given 0.1 s",
            json("delay", json!({ "ms": 5_000 })).timeout(Duration::from_millis(100)),
            Code::Timeout,
        ),
        case("delay of `soon`", json("delay", json!({ "ms": "soon" })), Code::ValidationError),
        case("a recipe nobody has", Request::new("bake.bread", ""), Code::RecipeNotFound),
        case(
            "1 MiB: beyond a frame",
            Request::new("echo", vec![b'x'; 1 << 20]),
            Code::FrameTooLarge,
        ),
    ]
}
