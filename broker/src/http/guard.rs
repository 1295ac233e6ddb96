//! The guard of a listener without TLS: only pages and programs of this machine get through.
//!
//! A browser on this machine may be told by any page to ask us. It then names that page's host
//! (`Host`, after a DNS name was bound anew to this address) or the page itself (`Origin`): both are
//! turned away, whoever asks.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    api::Api,
    problem::{Answer, Problem},
};

/// The layer: does nothing over TLS.
pub(super) async fn layer(State(api): State<Api>, request: Request, next: Next) -> Response {
    if !api.config().is_tls()
        && let Err(problem) = check(request.headers())
    {
        return problem.into_response();
    }
    next.run(request).await
}

fn check(headers: &HeaderMap) -> Answer<()> {
    let text = |name| {
        let mut all = headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(one), None) => one.to_str().map(Some).map_err(|_| ()),
            _ => Err(()),
        }
    };
    let host = match text(HOST) {
        Ok(Some(host)) if is_own(host) => host,
        _ => {
            return Err(Problem::forbidden(
                "the Host is not this machine's own: ask localhost or a loopback address",
            ));
        }
    };
    match text(ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        _ => Err(Problem::forbidden("pages of another origin may not ask here")),
    }
}

/// Whether an authority (`host[:port]`) names this machine's loopback.
fn is_own(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, rest)) => (host, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("0")),
        },
    };
    let port = port.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let own = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    };
    port && own
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn hosts_of_this_machine_are_known() {
        for own in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.9.1", "[::1]", "[::1]:80"]
        {
            assert!(is_own(own), "{own}");
        }
        let foreign = ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"];
        for foreign in foreign.into_iter().chain([
            "10.0.0.1",
            "[::2]",
            "[::1",
            "localhost:",
            "localhost:80:80",
            "localhost@evil.example",
            "::1",
        ]) {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_turned_away() {
        let ask = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            check(&headers).is_ok()
        };
        assert!(ask("localhost:8080", None));
        assert!(ask("localhost:8080", Some("http://localhost:8080")));
        assert!(!ask("localhost:8080", Some("http://localhost:3000")));
        assert!(!ask("localhost:8080", Some("https://localhost:8080")));
        assert!(!ask("localhost:8080", Some("null")));
        assert!(!ask("localhost:8080", Some("http://evil.example")));
        assert!(!ask("evil.example", Some("http://evil.example")));
        assert!(check(&HeaderMap::new()).is_err(), "no Host at all");
    }
}
