//! `delay`: waits, and reports progress meanwhile.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use crate::batch::{Context, Error, Recipe, Reply, Spec, typed};

pub(super) struct Delay;

pub(super) fn spec() -> Spec {
    Spec {
        timeout: Some(Duration::from_millis(MS_MAX) + Duration::from_secs(10)),
        idempotent: true,
        description: format!(
            "Waits, reporting progress after each step. Payload: empty (100 ms), or JSON \
            {{\"ms\": 0 to {MS_MAX}, \"steps\": 1 to {STEPS_MAX}}}. Answers {{\"ms\", \"steps\"}}."
        ),
        ..Spec::json()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    ms: u64,
    steps: u32,
}

impl Default for Input {
    fn default() -> Self {
        Input { ms: 100, steps: 10 }
    }
}

impl Recipe for Delay {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        let Input { ms, steps } =
            if payload.is_empty() { Input::default() } else { typed::from_json(&payload)? };
        within("/ms", ms, 0, MS_MAX)?;
        within("/steps", steps.into(), 1, STEPS_MAX)?;
        let start = Instant::now();
        let total = u64::from(steps);
        for step in 1..=total {
            tokio::time::sleep_until(start + Duration::from_millis(ms) * step as u32 / steps).await;
            ctx.progress(step, total, "waiting");
        }
        Ok(format!("{{\"ms\":{ms},\"steps\":{steps}}}").into())
    }
}

fn within(field: &str, value: u64, min: u64, max: u64) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::validation(format!("{field}: {value} is not from {min} to {max}"))
        .detail("field", field)
        .detail("expected", format!("{min} to {max}"))
        .detail("found", value)
        .permanent())
}

const MS_MAX: u64 = 600_000;
const STEPS_MAX: u64 = 10_000;
