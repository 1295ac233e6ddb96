//! How a command reaches a broker: the flags, the names, the connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use futures::{StreamExt, stream::FuturesUnordered};
use tollgate_certs::inspect;
use tollgate_client::{Client, ClientCredentials, ConnectError};

use super::{
    exit::{UnknownHost, Usage},
    format::parse_duration,
};

/// Where the broker is, and who we are.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The broker's address: HOST, HOST:PORT or [IPV6]:PORT
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4433", env = "TOLLGATE_ADDR")]
    addr: Target,
    /// The directory with cert.pem, key.pem and ca.pem, as `tollgate cert issue` leaves it
    #[arg(long, value_name = "DIR", env = "TOLLGATE_CERTS")]
    certs: PathBuf,
    /// The name in the broker's certificate [default: the host of the address]
    #[arg(long, value_name = "NAME", env = "TOLLGATE_SERVER_NAME")]
    server_name: Option<String>,
    /// How long to wait for a connection
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    connect_timeout: Duration,
}

impl Args {
    /// Connects, and waits until the broker has let us in.
    ///
    /// # Errors
    /// When the certificates cannot be read, the host is unknown, or the broker does not answer or
    /// refuses.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let credentials = credentials(&self.certs)?;
        let addresses = self.addr.resolve().await?;
        let name = self.server_name.as_deref().unwrap_or(&self.addr.host);
        let client = first(&addresses, |addr| {
            Client::builder(addr)
                .server_name(name)
                .credentials(credentials.clone())
                .connect_timeout(self.connect_timeout)
                .connect()
        });
        client.await.with_context(|| format!("cannot connect to {}", self.addr))
    }
}

impl Args {
    /// The tenant whose certificate it is, if it is one's.
    pub(super) fn own_tenant(&self) -> Option<String> {
        let pem = std::fs::read(self.certs.join("cert.pem")).ok()?;
        let id = inspect(&pem, SystemTime::now()).ok()?.spiffe_id?;
        let mut path = id.strip_prefix("spiffe://")?.split('/').skip(1);
        let of_tenant = path.next() == Some("tenant");
        path.next().filter(|_| of_tenant).map(str::to_owned)
    }
}

/// Reads a certificate with its key and roots.
///
/// # Errors
/// [`Usage`], naming the file at fault.
pub(super) fn credentials(dir: &std::path::Path) -> anyhow::Result<ClientCredentials> {
    ClientCredentials::load_dir(dir).map_err(|e| {
        Usage::error(format!(
            "cannot use the certificates in {}: {e}; `tollgate cert issue --tenant acme --out \
             {0}` makes them",
            dir.display()
        ))
    })
}

/// Tries addresses one after the other, each without waiting long for the one before; the first
/// that works is taken, or the first failure told.
async fn first<F: Future<Output = Result<Client, ConnectError>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<Client, ConnectError> {
    const HEAD_START: Duration = Duration::from_millis(250);
    let mut tries: FuturesUnordered<_> = (0u32..)
        .zip(addresses)
        .map(|(n, &addr)| {
            let connecting = connect(addr);
            async move {
                tokio::time::sleep(HEAD_START * n).await;
                connecting.await
            }
        })
        .collect();
    let mut failure = None;
    while let Some(end) = tries.next().await {
        match end {
            Ok(client) => return Ok(client),
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    Err(failure.unwrap_or(ConnectError::Config("there is no address to connect to".into())))
}

/// A host with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
}

impl Target {
    const PORT: u16 = 4433;

    /// The addresses of the host, IPv4 first: where a name has both, as `localhost` does, most
    /// brokers listen there.
    ///
    /// # Errors
    /// [`UnknownHost`].
    pub(super) async fn resolve(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let unknown = |source| UnknownHost { host: self.host.clone(), source };
        let found = tokio::net::lookup_host((&*self.host, self.port)).await.map_err(unknown)?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() {
            return Err(unknown(io::Error::other("it has no address")).into());
        }
        Ok(addresses)
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let target = |host: &str, port| Target { host: host.to_owned(), port };
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(target(&addr.ip().to_string(), addr.port()));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(target(&ip.to_string(), Self::PORT));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().map_err(|_| format!("`{port}` is not a port"))?;
                (host, port)
            }
            None => (text, Self::PORT),
        };
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err("expected HOST, HOST:PORT or [IPV6]:PORT".to_owned());
        }
        Ok(target(host, port))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_port() {
        for (text, host, port) in [
            ("localhost", "localhost", 4433),
            ("broker.example.org:5000", "broker.example.org", 5000),
            ("127.0.0.1", "127.0.0.1", 4433),
            ("[::1]:1", "::1", 1),
            ("[::1]", "::1", 4433),
            ("::1", "::1", 4433),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!((&*target.host, target.port), (host, port), "{text}");
            assert_eq!(target.to_string().parse::<Target>(), Ok(target), "{text}");
        }
        for bad in ["", ":1", "host:port", "host:70000", "a b", "http://host"] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }
}
