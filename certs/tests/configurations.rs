//! The TLS configurations: what they refuse to speak, and that no session is ever resumed.

mod support;

use std::sync::Arc;

use rustls::{
    CipherSuite, ClientConfig, HandshakeKind, client::Resumption, crypto::aws_lc_rs,
    pki_types::ServerName,
};
use tollgate_certs::{
    Authority, ClientCredentials, Identity, IssueOptions, ServerCredentials, TrustDomain, crypto,
};
use tollgate_protocol::id::TenantId;

use support::{Broker, Forge};

#[test]
fn a_second_connection_presents_its_certificate_again() {
    let forge = Forge::root("root");
    let broker = Broker::new();
    let mut client = broker.client(Some(&forge.leaf(|_| {})));
    client.resumption = Resumption::in_memory_sessions(8);
    client.enable_early_data = true;
    let client = Arc::new(client);
    let server = Arc::new(broker.config(&support::trusting(&[&forge])));
    for _ in 0..3 {
        let kind = support::handshake(client.clone(), server.clone()).expect("a handshake");
        assert_eq!(kind, HandshakeKind::Full);
    }
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    assert!(!server.session_storage.can_cache() && !server.ticketer.enabled());
}

#[test]
fn another_protocol_or_an_older_tls_is_refused() {
    let forge = Forge::root("root");
    let broker = Broker::new();
    let trust = support::trusting(&[&forge]);
    let mut client = broker.client(Some(&forge.leaf(|_| {})));
    client.alpn_protocols = vec![b"h3".to_vec()];
    let error = support::handshake(client, broker.config(&trust)).expect_err("another protocol");
    assert_eq!(error, rustls::Error::NoApplicationProtocol);

    let old = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let error = support::handshake(old, broker.config(&trust)).expect_err("TLS 1.2");
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error}");
}

#[test]
fn the_cheapest_cipher_comes_first() {
    let first = crypto::provider().cipher_suites[0].suite();
    assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn what_an_authority_issued_connects_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::create("dev", &TrustDomain::default()).expect("created");
    let options = IssueOptions::default();
    let tenant = TenantId::parse("acme").expect("a tenant");
    let identity = Identity::client(tenant, Some("laptop")).expect("an identity");
    authority.issue(&identity, &options).expect("issued").write(dir.path()).expect("written");
    let client = ClientCredentials::load_dir(dir.path()).expect("loaded");
    let names = ["localhost", "127.0.0.1"].map(|name| ServerName::try_from(name).expect("a name"));
    let server = authority.issue_server(&names, &options).expect("issued");
    server.write(&dir.path().join("server")).expect("written");
    let path = |name| dir.path().join("server").join(name);
    let server = ServerCredentials::load(&path("cert.pem"), &path("key.pem")).expect("loaded");
    let roots = vec![authority.certificate().clone()];
    let trust =
        tollgate_certs::Trust::new(roots, vec![], Default::default(), TrustDomain::default())
            .expect("trust");
    let client_config = tollgate_certs::client_config(&client).expect("a configuration");
    let server_config = tollgate_certs::server_config(&server, &trust).expect("a configuration");
    support::handshake(client_config, server_config.clone()).expect("a handshake");
    assert_eq!(trust.check(client.chain(), support::now()), Ok(identity));

    // A server's certificate does not make a client.
    let posing = ClientCredentials::load_dir(&dir.path().join("server")).expect("loaded");
    let posing = tollgate_certs::client_config(&posing).expect("a configuration");
    support::handshake(posing, server_config).expect_err("a server's certificate");

    let mixed = ServerCredentials::load(&path("cert.pem"), &dir.path().join("key.pem"));
    let error = mixed.expect_err("another's key").to_string();
    assert!(error.contains("do not go together"), "{error}");
}

#[test]
fn secrets_do_not_show_in_debug_output_or_errors() {
    let authority = Authority::create("dev", &TrustDomain::default()).expect("created");
    let identity = Identity::operator("root").expect("an identity");
    let issued = authority.issue(&identity, &IssueOptions::default()).expect("issued");
    let (cert, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
    let client = ClientCredentials::from_pem(cert, key, issued.ca_pem.as_bytes()).expect("good");
    let server = ServerCredentials::from_pem(cert, key).expect("good");
    let broken = ServerCredentials::from_pem(cert, &key[..key.len() - 30]).expect_err("cut");
    let swapped = ServerCredentials::from_pem(key, cert).expect_err("swapped");
    let shown = format!("{authority:?}{issued:?}{client:?}{server:?}{broken:?}{broken}{swapped:?}");
    let secret = issued.key_pem.lines().nth(1).expect("the first line of the key");
    assert!(!shown.contains(&secret[..32]) && !shown.contains("PRIVATE KEY"), "{shown}");
}
