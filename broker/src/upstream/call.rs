//! A recipe that is a request: sent, answered, read, within the bounds of its item.
//!
//! When the item ends first, the future is dropped, and with it the connection: the upstream sees
//! that nobody waits.

use std::{
    error::Error as _,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Request, Response, Url, header};
use tollgate_protocol::Code;

use super::{
    answer,
    gate::Pass,
    headers,
    ndjson::{Answer, BadStream, Reader},
    service::Service,
};
use crate::{
    batch::{Context, Error, Grown, Recipe, Reply},
    metrics::RequestEnd,
    rules::breaker::Ending,
};

/// One recipe of an upstream.
#[derive(Debug)]
pub(super) struct Call {
    pub service: Arc<Service>,
    /// Its place in the plan of its upstream.
    pub at: usize,
    /// The longest an attempt may take.
    pub timeout: Duration,
}

/// How a request ended, for those who count and for the item.
struct Ended {
    how: RequestEnd,
    ending: Ending,
    outcome: Result<Reply, Error>,
}

impl Recipe for Call {
    async fn run(&self, ctx: Context, payload: Bytes) -> Result<Reply, Error> {
        // What is wrong with the item is its own fault: the upstream is not asked.
        let url = self.url(&ctx)?;
        let entered = self.service.gate.enter(&ctx, self.timeout);
        let pass = entered.map_err(|wait| self.left_alone(wait))?;
        let ended = self.exchange(&ctx, &pass, url, payload).await;
        pass.ends(ended.how, ended.ending);
        ended.outcome.map_err(|e| e.detail("upstream", &self.service.plan.name))
    }
}

impl Call {
    fn url(&self, ctx: &Context) -> Result<Url, Error> {
        let plan = &self.service.plan;
        let path = plan.recipes[self.at].template.fill(ctx)?;
        let url = Url::parse(&format!("{}{path}", plan.base));
        url.map_err(|e| Error::internal(format!("the path can not be asked: {e}")).permanent())
    }

    async fn exchange(&self, ctx: &Context, pass: &Pass<'_>, url: Url, payload: Bytes) -> Ended {
        let live = self.service.live();
        let config = &self.service.plan.recipes[self.at].config;
        let mut request = Request::new(config.method.into(), url);
        *request.headers_mut() = live.headers[self.at].clone();
        headers::of_item(request.headers_mut(), ctx, Instant::now());
        if config.method.has_body() {
            *request.body_mut() = Some(payload.into());
        }
        match live.client.execute(request).await {
            Ok(response) => {
                self.service.reached();
                self.answered(ctx, pass, response).await
            }
            Err(e) => self.not_answered(&e),
        }
    }

    async fn answered(&self, ctx: &Context, pass: &Pass<'_>, mut response: Response) -> Ended {
        let status = response.status().as_u16();
        let max = self.service.plan.recipes[self.at].config.result_bytes_max;
        let content_type = text(&response, &header::CONTENT_TYPE);
        let mut room = Growing { ctx, pass, max, grown: None };
        let outcome = if answer::meaning(status).0 != Code::Ok {
            Ok(Err(failed(status, content_type.as_deref(), &mut response).await))
        } else if answer::media_type(content_type.as_deref()) == Some("application/x-ndjson") {
            lines(&mut room, &mut response).await
        } else {
            whole(&mut room, &mut response).await.map(Ok)
        };
        match outcome {
            Ok(outcome) => Ended {
                how: of_status(status),
                ending: match self.service.gate.is_failure(status) {
                    true => Ending::Failed,
                    false => Ending::Served,
                },
                outcome: outcome.map(|body| reply(body, status, content_type.as_deref())),
            },
            Err(Unread::Broken(e)) => self.broken_off(&e, status),
            Err(Unread::TooLarge { length }) => {
                let message = format!("the upstream answered with more than {max} bytes");
                let error = Error::with_code(Code::ResultTooLarge, message).detail("limit", max);
                let error = match length {
                    Some(length) => error.detail("length", length),
                    None => error,
                };
                Ended::malformed(error.detail("config_key", "result_bytes_max of the recipe"))
            }
            Err(Unread::NoAnswer(BadStream::TooLong { line, max: of_line })) => {
                let message = format!("line {line} of the upstream's answer is too long");
                let error = Error::with_code(Code::ResultTooLarge, message);
                Ended::malformed(error.detail("limit", of_line))
            }
            Err(Unread::NoAnswer(why)) => {
                let message = format!("the upstream's stream is no answer: {why}");
                Ended::malformed(Error::with_code(Code::UpstreamFailed, message))
            }
        }
    }

    /// There is no answer.
    fn not_answered(&self, e: &reqwest::Error) -> Ended {
        if !e.is_connect() {
            let message = "the upstream closed the connection before it answered";
            tracing::debug!(upstream = &*self.service.plan.name, error = chain(e), "{message}");
            return Ended::broken_off(message.to_owned(), "request");
        }
        let why = if e.is_timeout() {
            "it did not answer in time"
        } else if e.is_dns() {
            "its name is not known"
        } else if caused_by::<rustls::Error>(e).is_some() {
            "TLS failed"
        } else {
            match caused_by::<io::Error>(e).map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => "it refused",
                Some(io::ErrorKind::ConnectionReset) => "it hung up",
                _ => "the network failed",
            }
        };
        let upstream = &*self.service.plan.name;
        match self.service.warn_once() {
            // Addresses and certificates are for the operator's eyes.
            true => tracing::warn!(upstream, error = chain(e), "cannot connect to the upstream"),
            false => tracing::debug!(upstream, error = chain(e), "cannot connect to the upstream"),
        }
        let message = format!("cannot connect to the upstream: {why}");
        let error = Error::with_code(Code::UpstreamFailed, message).detail("phase", "connect");
        Ended {
            how: RequestEnd::NotConnected,
            ending: Ending::Failed,
            // Nothing was sent, so nothing was done.
            outcome: Err(error.side_effect_free()),
        }
    }

    fn broken_off(&self, e: &reqwest::Error, status: u16) -> Ended {
        let message = format!("the upstream answered {status} and broke off");
        tracing::debug!(upstream = &*self.service.plan.name, error = chain(e), "{message}");
        Ended::broken_off(message, "answer")
    }

    /// The breaker is open.
    fn left_alone(&self, wait: Duration) -> Error {
        let message = "the upstream fails, and is left alone for a while";
        Error::with_code(Code::UpstreamFailed, message)
            .retry_after(wait)
            .detail("phase", "breaker")
            .detail("upstream", &self.service.plan.name)
            .side_effect_free()
    }
}

impl Ended {
    fn malformed(error: Error) -> Ended {
        Ended { how: RequestEnd::Malformed, ending: Ending::Served, outcome: Err(error) }
    }

    fn broken_off(message: String, phase: &'static str) -> Ended {
        let error = Error::with_code(Code::UpstreamFailed, message).detail("phase", phase);
        Ended { how: RequestEnd::BrokenOff, ending: Ending::Failed, outcome: Err(error) }
    }
}

/// Why an answer could not be read.
enum Unread {
    Broken(reqwest::Error),
    TooLarge { length: Option<u64> },
    NoAnswer(BadStream),
}

/// The room that an answer takes of its tenant's bytes in flight.
struct Growing<'a> {
    ctx: &'a Context,
    pass: &'a Pass<'a>,
    /// The largest it may be.
    max: usize,
    grown: Option<Grown>,
}

impl Growing<'_> {
    /// Waits until there is room for an answer that has come so far, or is announced to. It grows
    /// once, to all that it may be: who holds some of it and waits for more might wait for another
    /// that does the same.
    async fn to(&mut self, bytes: usize, announced: Option<u64>) {
        if self.grown.is_some() || self.ctx.holds_room_for(bytes) {
            return;
        }
        let announced = announced.and_then(|n| usize::try_from(n).ok());
        let all = announced.map_or(self.max, |n| n.clamp(bytes, self.max.max(bytes)));
        self.grown = self.pass.wait(self.ctx.room_for(all)).await;
    }
}

/// Reads a body up to its bound.
async fn whole(room: &mut Growing<'_>, response: &mut Response) -> Result<Vec<u8>, Unread> {
    let (length, max) = (response.content_length(), room.max);
    if length.is_some_and(|length| length > max as u64) {
        return Err(Unread::TooLarge { length });
    }
    // Memory grows with the bytes that came, not with those that were announced.
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(Unread::TooLarge { length: None });
        }
        room.to(body.len() + chunk.len(), length).await;
        body.extend_from_slice(&chunk);
    }
    // A result may be kept for a while: what it takes is then what it counts.
    body.shrink_to_fit();
    Ok(body)
}

/// Reads lines up to the result.
async fn lines(room: &mut Growing<'_>, response: &mut Response) -> Result<Answer, Unread> {
    let mut reader = Reader::new(room.max);
    while let Some(chunk) = response.chunk().await.map_err(Unread::Broken)? {
        for piece in chunk.chunks(PIECE_BYTES) {
            room.to(reader.kept() + piece.len(), None).await;
            reader.take(piece).map_err(Unread::NoAnswer)?;
            if let Some(p) = reader.progress() {
                room.ctx.progress(p.done, p.total, &p.message);
            }
            if chunk.len() > PIECE_BYTES {
                // A flood of lines does not keep the others waiting.
                tokio::task::yield_now().await;
            }
        }
    }
    reader.finish().map_err(Unread::NoAnswer)
}

/// Reads what a failure says for itself, as far as it goes.
async fn failed(status: u16, content_type: Option<&str>, response: &mut Response) -> Error {
    let wait = text(response, &header::RETRY_AFTER);
    let wait = wait.and_then(|text| answer::retry_after(&text, jiff::Timestamp::now()));
    let mut body = Vec::new();
    // One that breaks off has said its status all the same.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = answer::BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    answer::failure(status, content_type, wait, &body)
}

fn reply(body: Vec<u8>, status: u16, content_type: Option<&str>) -> Reply {
    let mut reply = Reply::from(body);
    let mut tell = |key, value: &str| {
        // Two short pairs are far below the map's bounds.
        let _ = reply.metadata(key, value);
    };
    tell("http_status", &status.to_string());
    if let Some(text) = content_type {
        tell("content_type", &answer::clean(text, CONTENT_TYPE_BYTES_MAX));
    }
    reply
}

fn text(response: &Response, name: &header::HeaderName) -> Option<String> {
    let value = response.headers().get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

fn of_status(status: u16) -> RequestEnd {
    match status {
        200..=299 => RequestEnd::Status2xx,
        300..=399 => RequestEnd::Status3xx,
        400..=499 => RequestEnd::Status4xx,
        _ => RequestEnd::Status5xx,
    }
}

/// An error and its causes, in a line.
fn chain(e: &reqwest::Error) -> String {
    let mut line = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        line.push_str(": ");
        line.push_str(&c.to_string());
        cause = c.source();
    }
    answer::clean(&line, answer::MESSAGE_BYTES_MAX)
}

/// The first cause of this type; what an I/O error wraps is looked at too.
fn caused_by<E: std::error::Error + 'static>(e: &reqwest::Error) -> Option<&E> {
    let mut cause = e.source();
    while let Some(c) = cause {
        if let Some(found) = c.downcast_ref::<E>() {
            return Some(found);
        }
        let inside = c.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inside {
            Some(inside) => Some(inside as &(dyn std::error::Error + 'static)),
            None => c.source(),
        };
    }
    None
}

/// Lines are read so many bytes at a time.
const PIECE_BYTES: usize = 16 << 10;
const CONTENT_TYPE_BYTES_MAX: usize = 128;
