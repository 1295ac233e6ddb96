//! What a broker that has started tells whoever started it: where it is, and what to type next.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::Serialize;
use tollgate_broker::{Broker, Config};

use crate::cli::{
    cert,
    output::{self, Output, say},
};

/// Everything that is told.
#[derive(Debug, Serialize)]
pub(super) struct Ready {
    ready: bool,
    listen: SocketAddr,
    /// Where HTTP listens, when it does.
    http: Option<SocketAddr>,
    version: &'static str,
    pid: u32,
    data_dir: Option<PathBuf>,
    tenants: usize,
    /// Where the development authority is, when the certificates are its.
    dev_ca: Option<PathBuf>,
    #[serde(skip)]
    hints: Hints,
}

/// What the flags of the next commands depend on.
#[derive(Debug)]
struct Hints {
    https: bool,
    token_file: Option<PathBuf>,
}

impl Ready {
    pub(super) fn of(broker: &Broker, config: &Config) -> Ready {
        let http = &config.http;
        Ready {
            ready: true,
            listen: broker.local_addr(),
            http: broker.http_addr(),
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            data_dir: config.data_dir.clone(),
            tenants: broker.tenants().len(),
            dev_ca: broker.dev_authority().map(|a| a.dir().to_owned()),
            hints: Hints { https: http.is_tls(), token_file: http.operator_token_file.clone() },
        }
    }

    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        if output == Output::Json {
            return Ok(output::json_line(self)?);
        }
        say!("tollgate {} is ready on {} (QUIC over UDP)", self.version, self.listen)?;
        if let Some(http) = self.http {
            let scheme = if self.hints.https { "https" } else { "http" };
            say!("  HTTP       {scheme}://{http}; a page to try it at /swagger/")?;
        }
        match self.tenants {
            0 => say!("  tenants    none yet, so nobody is let in")?,
            n => say!("  tenants    {n}")?,
        }
        if let Some(dir) = &self.dev_ca {
            let what = "for development: who reads it can let anyone in";
            say!("  authority  {}, {what}", dir.display())?;
            say!("Let a client in, and run something:")?;
            for line in self.commands(*dir == cert::default_ca()?) {
                say!("  tollgate {line}")?;
            }
        }
        Ok(())
    }

    /// What to type next, on this machine. `usual`: the authority is where it is looked for.
    fn commands(&self, usual: bool) -> Vec<String> {
        let dir = self.dev_ca.as_deref().map(|dir| dir.display().to_string()).unwrap_or_default();
        let ca = if usual { String::new() } else { format!("--ca {dir} ") };
        let mut lines = Vec::new();
        if let (0, Some(http)) = (self.tenants, self.http) {
            let api = match (&self.hints.token_file, self.hints.https) {
                (None, false) if http.port() == 8080 && http.ip().is_loopback() => String::new(),
                (None, false) => format!("--api {} ", reachable(http).0),
                (Some(token), false) => {
                    format!("--api {} --token-file {} ", reachable(http).0, token.display())
                }
                (token, true) => {
                    let host = match reachable(http) {
                        (addr, true) => addr.to_string(),
                        // The development authority's certificate is for this machine's names.
                        (addr, false) => format!("localhost:{}", addr.port()),
                    };
                    match token {
                        Some(token) => format!(
                            "--api https://{host} --ca {dir}/ca.pem --token-file {} ",
                            token.display()
                        ),
                        None => {
                            let role = "--role operator --name me --out certs/operator";
                            lines.push(format!("cert issue {ca}{role}"));
                            format!("--api https://{host} --certs certs/operator ")
                        }
                    }
                }
            };
            lines.push(format!("tenant create {api}acme"));
        }
        lines.push(format!("cert issue {ca}--tenant acme --role client --out certs/acme"));
        let (at, named) = reachable(self.listen);
        let name = if named { "" } else { " --server-name localhost" };
        lines.push(format!(
            "batch run --addr {at}{name} --certs certs/acme --recipe echo --payload hello"
        ));
        lines
    }
}

/// Where an address is reached from this machine, and whether the development authority's
/// certificate is for it.
fn reachable(addr: SocketAddr) -> (SocketAddr, bool) {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let named = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    (SocketAddr::new(ip, addr.port()), named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(listen: &str, http: &str, https: bool, token: Option<&str>) -> Vec<String> {
        let ready = Ready {
            ready: true,
            listen: listen.parse().expect("an address"),
            http: Some(http.parse().expect("an address")),
            version: "0",
            pid: 1,
            data_dir: None,
            tenants: 0,
            dev_ca: Some("data/dev-ca".into()),
            hints: Hints { https, token_file: token.map(Into::into) },
        };
        ready.commands(false)
    }

    #[track_caller]
    fn check(commands: &[String], expected: &[&str]) {
        let short: Vec<_> =
            commands.iter().map(|line| line.replace("--ca data/dev-ca ", "")).collect();
        assert_eq!(short, expected);
    }

    const ISSUE: &str = "cert issue --tenant acme --role client --out certs/acme";

    #[test]
    fn what_is_told_can_be_typed() {
        check(
            &commands("127.0.0.1:4433", "127.0.0.1:8080", false, None),
            &[
                "tenant create acme",
                ISSUE,
                "batch run --addr 127.0.0.1:4433 --certs certs/acme --recipe echo --payload hello",
            ],
        );
        check(
            &commands("0.0.0.0:4433", "0.0.0.0:8080", true, None),
            &[
                "cert issue --role operator --name me --out certs/operator",
                "tenant create --api https://127.0.0.1:8080 --certs certs/operator acme",
                ISSUE,
                "batch run --addr 127.0.0.1:4433 --certs certs/acme --recipe echo --payload hello",
            ],
        );
        check(
            &commands("10.0.0.5:4433", "10.0.0.5:8443", true, Some("op.token")),
            &[
                "tenant create --api https://localhost:8443 --ca data/dev-ca/ca.pem --token-file \
                 op.token acme",
                ISSUE,
                "batch run --addr 10.0.0.5:4433 --server-name localhost --certs certs/acme --recipe \
                 echo --payload hello",
            ],
        );
        check(
            &commands("[::]:4433", "[::1]:8081", false, Some("op.token")),
            &[
                "tenant create --api [::1]:8081 --token-file op.token acme",
                ISSUE,
                "batch run --addr [::1]:4433 --certs certs/acme --recipe echo --payload hello",
            ],
        );
    }
}
