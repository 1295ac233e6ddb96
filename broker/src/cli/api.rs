//! How a command reaches the HTTP API: the flags, the requests, the answers as documents.
//!
//! Knows no rule of the broker: what is asked for is sent as it is, and the broker judges.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde_json::Value;

use super::{
    exit::Usage,
    format::parse_duration,
    output::{self, Output},
};

mod base;
mod error;
pub(super) mod model;
mod tls;

use self::base::Base;
pub(super) use self::error::Error;

/// Where the API is, and who we are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The broker's HTTP API: HOST:PORT, or with http:// or https:// before it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "TOLLGATE_API")]
    api: Base,
    /// https: the directory with an operator's cert.pem, key.pem and ca.pem, as `tollgate cert
    /// issue --role operator` leaves it
    #[arg(long, value_name = "DIR", env = "TOLLGATE_CERTS")]
    certs: Option<PathBuf>,
    /// https: who vouches for the broker, PEM [default: ca.pem of --certs]
    #[arg(long, value_name = "FILE", env = "TOLLGATE_CA")]
    ca: Option<PathBuf>,
    /// A file with a bearer token
    #[arg(long, value_name = "FILE", env = "TOLLGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

impl Api {
    /// The API of a broker on this machine that is open to it.
    pub(super) fn at(addr: SocketAddr) -> anyhow::Result<Api> {
        let base = format!("http://{addr}").parse().map_err(Usage::error)?;
        Api::new(base, tls::unused(), header::HeaderMap::new(), TIMEOUT)
    }

    fn new(
        base: Base,
        tls: rustls::ClientConfig,
        headers: header::HeaderMap,
        timeout: Duration,
    ) -> anyhow::Result<Api> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .default_headers(headers)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            // What the API answers is final, and a token goes nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Api { http, base, timeout })
    }
}

/// How long the demo waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Args {
    /// A client that is set up, but has not connected.
    ///
    /// # Errors
    /// [`Usage`], when a certificate or a token cannot be read, or must not be sent in the clear.
    pub(super) fn client(&self) -> anyhow::Result<Api> {
        let mut headers = header::HeaderMap::new();
        if let Some(path) = &self.token_file {
            if !self.api.is_private() {
                return Err(Usage::error(format!(
                    "a token is not sent in the clear: use https instead of {}",
                    self.api
                )));
            }
            headers.insert(header::AUTHORIZATION, bearer(path)?);
        }
        let tls = if self.api.is_https() {
            tls::config(self.certs.as_deref(), self.ca.as_deref())?
        } else {
            tls::unused()
        };
        Api::new(self.api.clone(), tls, headers, self.timeout)
    }
}

fn bearer(path: &std::path::Path) -> anyhow::Result<header::HeaderValue> {
    let wrong = |why: &dyn std::fmt::Display| {
        Usage::error(format!("cannot use the token in {}: {why}", path.display()))
    };
    let token = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(wrong(&"the file is empty"));
    }
    let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| wrong(&"a token is one line of visible characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The API of a broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    base: Base,
    timeout: Duration,
}

impl Api {
    /// A request to a path below `/api/v1`; every segment is escaped.
    pub(super) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        self.http.request(method, self.url(path)).timeout(self.timeout)
    }

    fn url(&self, path: &[&str]) -> Url {
        self.base.join(["api", "v1"].into_iter().chain(path.iter().copied()))
    }

    /// The document at a path.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Value, Error> {
        self.send(self.request(Method::GET, path).query(query)).await
    }

    /// Sends a request; the document that answers it, null when there is none.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Value, Error> {
        let response = self.begin(request).await?;
        let status = response.status();
        let body = body(response).await.map_err(|e| self.failed(&e))?;
        if status == StatusCode::NO_CONTENT || body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| self.foreign(status))
    }

    /// Sends a request whose answer is read bit by bit, for as long as it lasts.
    pub(super) async fn follow(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        last: Option<&str>,
    ) -> Result<Response, Error> {
        let mut request = self.http.get(self.url(path)).query(query);
        request = request.header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.begin(request).await
    }

    /// Sends a request whose answer is lines of JSON, for as long as it lasts.
    pub(super) async fn lines(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Response, Error> {
        self.begin(self.http.get(self.url(path)).query(query)).await
    }

    /// Sends a request and looks at its status.
    async fn begin(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = body(response).await.map_err(|e| self.failed(&e))?;
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(Error::problem(problem, status.as_u16())),
            Err(_) => Err(self.foreign(status)),
        }
    }

    /// Every page of a list, or the first of them: its items, and where to go on.
    pub(super) async fn list(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        pages: &Pages,
    ) -> Result<Value, Error> {
        let mut cursor = pages.cursor.clone();
        let mut items = Vec::new();
        loop {
            let mut query = query.to_vec();
            let limit = if pages.all { PAGE_MAX } else { pages.limit };
            query.push(("limit", limit.to_string()));
            query.extend(cursor.take().map(|c| ("cursor", c)));
            let mut page = self.get(path, &query).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            let next = page["next_cursor"].take();
            match next {
                Value::String(next) if pages.all => cursor = Some(next),
                next => {
                    page["items"] = items.into();
                    page["next_cursor"] = next;
                    return Ok(page);
                }
            }
        }
    }

    pub(super) fn failed(&self, error: &reqwest::Error) -> Error {
        Error::failed(error, &self.base)
    }

    fn foreign(&self, status: StatusCode) -> Error {
        Error::Foreign { base: self.base.to_string(), status: status.as_u16() }
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.base.fmt(f)
    }
}

/// The largest page that the API gives.
const PAGE_MAX: u32 = 1_000;

/// The longest answer that is read.
const BODY_MAX: usize = 64 << 20;

/// The body of an answer, as far as it is not out of all proportion; what is cut is no JSON.
async fn body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > BODY_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// How much of a list is wanted.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Pages {
    /// How many to show, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
    limit: u32,
    /// Go on where a page before this one ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Show all of them, however many pages that takes
    #[arg(long)]
    all: bool,
}

/// Says on standard error how to see the rest of a list, if there is more.
pub(super) fn note_the_rest(page: &Value, output: Output) {
    if let (Some(next), Output::Table) = (page["next_cursor"].as_str(), output) {
        let next = output::printable(next);
        output::note(format_args!("there are more: --all shows them, --cursor {next} goes on"));
    }
}
