//! The HTTP API as its users meet it: over real sockets, with a client of its own.

#[path = "http/access.rs"]
mod access;
#[path = "http/batches.rs"]
mod batches;
#[path = "http/document.rs"]
mod document;
#[path = "http/events.rs"]
mod events;
#[path = "http/jobs.rs"]
mod jobs;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/lists.rs"]
mod lists;
#[path = "http/tenants.rs"]
mod tenants;
#[path = "http/tls.rs"]
mod tls;
#[path = "http/workers.rs"]
mod workers;

use reqwest::{Method, Response, header::HeaderMap};
use serde_json::Value;
use tollgate_tests::Rig;

/// A client of the API.
struct Http {
    client: reqwest::Client,
    base: String,
    headers: HeaderMap,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Http {
    /// Whoever is on this machine.
    fn of(rig: &Rig) -> Http {
        let addr = rig.broker.http_addr().expect("HTTP is on");
        Http { client: plain(), base: format!("http://{addr}"), headers: HeaderMap::new() }
    }

    /// The same, with a bearer token.
    fn token(mut self, token: &str) -> Http {
        let value = format!("Bearer {token}").parse().expect("a header");
        self.headers.insert("authorization", value);
        self
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answered {
        let request = self.client.request(method, format!("{}{path}", self.base));
        let request = request.headers(self.headers.clone());
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Answered::read(request.send().await.expect("an answer")).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.send(Method::GET, path, None).await
    }
}

impl Answered {
    async fn read(response: Response) -> Answered {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.text().await.expect("a whole body");
        Answered { status, headers, body }
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The JSON of an answer that succeeded.
    #[track_caller]
    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Shows that it is a whole problem document of this status and code.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        for key in ["type", "title", "detail", "instance"] {
            assert!(problem[key].as_str().is_some_and(|s| !s.is_empty()), "{key}: {problem}");
        }
        for key in ["retryable", "side_effect_free"] {
            assert!(problem[key].is_boolean(), "{key}: {problem}");
        }
        problem
    }

    /// Shows that it is a problem that names a field.
    #[track_caller]
    fn wrong(&self, field: &str) {
        let problem = self.problem(400, "VALIDATION_ERROR");
        assert_eq!(problem["details"]["field"], field, "{problem}");
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// A client without TLS. Its own provider all the same: nothing here asks for a default one.
fn plain() -> reqwest::Client {
    let tls = tollgate_certs::crypto::provider();
    // The default of a process can be set once; whichever test comes first does it.
    let _ = tls.as_ref().clone().install_default();
    reqwest::Client::builder().build().expect("a client")
}
