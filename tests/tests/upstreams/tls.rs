//! Whom the broker trusts, and what it shows.

use std::{net::SocketAddr, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;
use tollgate_broker::upstream::Upstream;
use tollgate_certs::{Authority, IssueOptions, TrustDomain, crypto};
use tollgate_tests::{
    Rig,
    upstream::{Service, adds, upstream, whole},
};

use super::{call, failure, says};

/// An authority, and a service whose certificate is its, good for `name`.
struct Secure {
    dir: tempfile::TempDir,
    authority: Authority,
    service: Service,
}

async fn secure(name: &str, wants_client: bool) -> Secure {
    let dir = tempfile::tempdir().expect("a directory");
    let domain = TrustDomain::parse("reports.example").expect("a domain");
    let authority = Authority::create("reports", &domain).expect("an authority");
    authority.save(&dir.path().join("ca")).expect("saved");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let issued = authority.issue_server(&[name], &IssueOptions::default()).expect("issued");
    let builder = ServerConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if wants_client {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(issued.ca_pem.as_bytes()).expect("a root");
        roots.add(root).expect("a root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), crypto::provider());
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
    let config = builder.with_single_cert(chain, key).expect("a configuration");
    let tls = TlsAcceptor::from(Arc::new(config));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let service = Service::start_on(any, Some(tls), |_| whole(200, &[], "ok")).await;
    Secure { dir, authority, service }
}

impl Secure {
    /// The upstream by a name, trusted by the authority.
    fn upstream(&self, host: &str) -> Upstream {
        let url = format!("https://{host}:{}", self.service.addr.port());
        let of = upstream(&url, "call", |_| {});
        Upstream { tls_roots: Some(self.dir.path().join("ca/ca.pem")), ..of }
    }

    /// The result of one item.
    async fn result(&self, of: Upstream) -> tollgate_client::ItemResult {
        let rig = Rig::with(adds(of)).await;
        call(&rig.client("acme").await, "{}").await
    }
}

#[tokio::test]
async fn an_upstream_whose_authority_is_named_is_trusted() {
    let secure = secure("localhost", false).await;
    let result = secure.result(secure.upstream("localhost")).await;
    assert_eq!(result.payload().map(|p| &p[..]), Some(&b"ok"[..]), "{result:?}");
}

#[tokio::test]
async fn an_upstream_that_nobody_vouches_for_is_sent_nothing() {
    let good = secure("localhost", false).await;
    let stranger = secure("localhost", false).await;
    let mut of_another = good.upstream("localhost");
    of_another.url = stranger.upstream("localhost").url;
    let other_name = secure("other.example", false).await;
    for (what, of) in
        [("another authority", of_another), ("another name", other_name.upstream("localhost"))]
    {
        let result = good.result(of).await;
        assert_eq!(says(&result), ("UPSTREAM_FAILED", true, true), "{what}");
        let message = &*failure(&result).message;
        assert_eq!(message, "cannot connect to the upstream: TLS failed", "{what}");
    }
    for service in [&good.service, &stranger.service, &other_name.service] {
        assert_eq!(service.seen().asked.len(), 0);
    }
}

#[tokio::test]
async fn the_systems_authorities_do_not_vouch_for_a_stranger() {
    let secure = secure("localhost", false).await;
    let of = Upstream { tls_roots: None, ..secure.upstream("localhost") };
    // Where the system has none, the broker says so at its start instead.
    if tollgate_broker::upstream::check_files(&[("service".to_owned(), of.clone())].into()).is_ok()
    {
        assert_eq!(says(&secure.result(of).await), ("UPSTREAM_FAILED", true, true));
    }
    assert_eq!(secure.service.seen().asked.len(), 0);
}

#[tokio::test]
async fn an_upstream_that_wants_a_certificate_is_shown_the_configured_one() {
    let secure = secure("localhost", true).await;
    let result = secure.result(secure.upstream("localhost")).await;
    assert_eq!(says(&result), ("UPSTREAM_FAILED", false, false), "{result:?}");
    let identity = tollgate_tests::client_identity("acme");
    let issued = secure.authority.issue(&identity, &IssueOptions::default()).expect("issued");
    let dir = secure.dir.path().join("client");
    issued.write(&dir).expect("written");
    let of = Upstream {
        tls_certificate: Some(dir.join("cert.pem")),
        tls_key: Some(dir.join("key.pem")),
        ..secure.upstream("localhost")
    };
    let result = secure.result(of).await;
    assert!(result.is_success(), "{result:?}");
}
