//! The address of an API: what people type, and the URLs below it.

use std::fmt;

use reqwest::Url;

/// Where an API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Base(Url);

impl Base {
    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether nobody on the way can read what is sent: encrypted, or not leaving this machine.
    pub(super) fn is_private(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse::<std::net::IpAddr>();
        self.is_https() || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// The URL of a path, segment by segment: a slash within one is escaped.
    pub(super) fn join<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut().expect("http has a path").pop_if_empty().extend(path);
        url
    }
}

impl std::str::FromStr for Base {
    type Err = String;

    fn from_str(text: &str) -> Result<Base, String> {
        const EXPECTED: &str = "expected HOST:PORT, http://HOST:PORT or https://HOST:PORT";
        let text = text.trim();
        let with_scheme = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let url = Url::parse(&with_scheme).map_err(|e| format!("{e}; {EXPECTED}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(EXPECTED.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("secrets are not for the command line: see --token-file".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(EXPECTED.to_owned());
        }
        Ok(Base(url))
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn base(text: &str) -> Base {
        text.parse().expect(text)
    }

    #[test]
    fn an_address_is_read_with_and_without_a_scheme() {
        for (text, shown) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost:1/", "http://localhost:1"),
            ("https://broker.example.org", "https://broker.example.org"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(base(text).to_string(), shown);
        }
        for bad in ["", "ftp://a", "http://", "https://user:word@host", "http://a/?x=1", "a b"] {
            assert!(bad.parse::<Base>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_id_cannot_leave_its_segment() {
        let url = base("127.0.0.1:1").join(["api", "v1", "tenants", "../usage?x#y z"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/api/v1/tenants/..%2Fusage%3Fx%23y%20z");
        assert_eq!(base("http://h/below/").join(["a"]).as_str(), "http://h/below/a");
    }

    #[test]
    fn a_token_stays_on_this_machine_or_is_encrypted() {
        for private in ["127.0.0.1:1", "localhost:1", "[::1]:1", "https://example.org"] {
            assert!(base(private).is_private(), "{private}");
        }
        for open in ["10.0.0.1:1", "http://example.org", "localhost.example.org"] {
            assert!(!base(open).is_private(), "{open}");
        }
    }
}
