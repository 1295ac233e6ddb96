//! The span of a batch, and the W3C trace context that recipes hand on.
//!
//! Without anybody who listens to the span it is not made, and recipes get what the client sent.

use tollgate_protocol::{batch::BatchOpen, id::TenantId};
use tracing::{Span, field};

/// What a batch is traced by.
#[derive(Debug)]
pub(crate) struct Trace {
    /// Disabled when nobody listens.
    pub span: Span,
    /// For recipes: of the span where it is recorded, else of the client.
    pub traceparent: Option<Box<str>>,
}

impl Trace {
    /// Nobody listens, and the client sent nothing.
    pub(super) fn none() -> Trace {
        Trace { span: Span::none(), traceparent: None }
    }

    /// Begins a batch's span, as a child of what the client sent.
    pub(super) fn begin(open: &BatchOpen<'_>, tenant: Option<&TenantId>) -> Trace {
        let parent = open.traceparent.filter(is_traceparent);
        let span = tracing::debug_span!(
            "batch",
            tenant = tenant.map(TenantId::as_str),
            batch = %open.batch_id,
            ended = field::Empty,
            items = field::Empty,
            failed = field::Empty,
        );
        let own = if span.is_disabled() { None } else { join(&span, parent) };
        Trace { span, traceparent: own.or_else(|| parent.map(Into::into)) }
    }
}

/// Makes a span a part of the client's trace; its own trace context, if OpenTelemetry has it.
#[cfg(feature = "traces")]
fn join(span: &Span, parent: Option<&str>) -> Option<Box<str>> {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    if let Some(parent) = parent.and_then(remote) {
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        span.set_parent(context).ok()?;
    }
    let context = span.context();
    let span = context.span();
    let own = span.span_context();
    let flags = own.trace_flags().to_u8();
    own.is_valid().then(|| format!("00-{}-{}-{flags:02x}", own.trace_id(), own.span_id()).into())
}

#[cfg(not(feature = "traces"))]
fn join(_: &Span, _: Option<&str>) -> Option<Box<str>> {
    None
}

/// A trace context that parses, as OpenTelemetry has it.
#[cfg(feature = "traces")]
fn remote(traceparent: &str) -> Option<opentelemetry::trace::SpanContext> {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    // Later versions may define more of them.
    let flags = u8::from_str_radix(parts.next()?, 16).ok()? & TraceFlags::SAMPLED.to_u8();
    Some(SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default()))
}

/// Whether a trace context parses, as W3C's Trace Context has it: recipes hand it on to others.
fn is_traceparent(text: &&str) -> bool {
    let hex = |part: &str, len| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|b| b != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, span, flags) = (next(), next(), next(), next());
    // Later versions may say more behind it.
    let more = parts
        .next()
        .is_none_or(|rest| version != "00" && rest.bytes().all(|b| b.is_ascii_graphic()));
    hex(version, 2) && version != "ff" && id(trace, 32) && id(span, 16) && hex(flags, 2) && more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_parses_or_is_none() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let cases = [
            (format!("00-{trace}-{span}-01"), true),
            (format!("cc-{trace}-{span}-01-later"), true),
            (format!("00-{trace}-{span}-01-more"), false),
            (format!("ff-{trace}-{span}-01"), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{span}-01", trace.to_uppercase()), false),
            (String::new(), false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_traceparent(&text.as_str()), expected, "{text}");
        }
    }
}
