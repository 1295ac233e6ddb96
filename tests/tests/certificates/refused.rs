//! Certificates that do not get in: each wrong in one way, with what its holder is told.

use std::time::{Duration, SystemTime};

use quinn::ConnectionError;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType};
use tollgate_certs::Identity;
use tollgate_client::{CloseCode, Code, ConnectError};
use tollgate_tests::{
    Rig,
    forge::{Forge, Forged, knock, uri},
};

use super::{close_code, is_served};

const HOUR: Duration = Duration::from_secs(3_600);

/// TLS alerts, RFC 8446, section 6.
mod alert {
    pub const UNSUPPORTED_CERTIFICATE: u64 = 43;
    pub const CERTIFICATE_EXPIRED: u64 = 45;
    pub const CERTIFICATE_UNKNOWN: u64 = 46;
    pub const UNKNOWN_CA: u64 = 48;
    pub const CERTIFICATE_REQUIRED: u64 = 116;
}

/// Knocks with each and compares what its holder is told: the alert, and a part of the reason.
async fn check(rig: &Rig, root: &str, cases: Vec<(&str, Option<Forged>, u64, &str)>) {
    for (name, presented, alert, part) in cases {
        let error = knock(rig.addr(), root, presented.as_ref()).await;
        let ConnectionError::ConnectionClosed(close) = &error else {
            panic!("{name}: not refused by TLS: {error}");
        };
        let reason = String::from_utf8_lossy(&close.reason);
        assert_eq!(u64::from(close.error_code), 0x100 + alert, "{name}: {error}");
        assert!(reason.contains(part), "{name}: {reason:?} does not say {part:?}");
    }
    let tenant = rig.broker.tenants().get("acme").expect("acme");
    let used = tenant.used(tollgate_broker::tenancy::Quota::Connections, std::time::Instant::now());
    assert_eq!((used, rig.broker.counters().connections), (0, 0), "nobody got in");
    is_served(&rig.client("acme").await).await;
}

#[tokio::test]
async fn certificates_that_tls_does_not_accept() {
    let rig = Rig::start().await;
    let ours = Forge::of(&rig.path("dev-ca"));
    let (foreign, namesake) = (Forge::new("foreign"), Forge::new("Tollgate development authority"));
    let now = SystemTime::now();
    let cases = vec![
        ("no certificate", None, alert::CERTIFICATE_REQUIRED, ""),
        ("an authority that is not trusted", Some(foreign.leaf(|_| {})), alert::UNKNOWN_CA, ""),
        ("one of the same name", Some(namesake.leaf(|_| {})), alert::UNKNOWN_CA, ""),
        (
            "expired an hour ago",
            Some(ours.leaf(|p| p.not_after = (now - HOUR).into())),
            alert::CERTIFICATE_EXPIRED,
            "",
        ),
        (
            "valid in an hour",
            Some(ours.leaf(|p| p.not_before = (now + HOUR).into())),
            alert::CERTIFICATE_EXPIRED,
            "",
        ),
        (
            "for servers only",
            Some(ours.leaf(|p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })),
            alert::UNSUPPORTED_CERTIFICATE,
            "",
        ),
        (
            "an authority's own",
            Some(ours.leaf(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
            alert::UNSUPPORTED_CERTIFICATE,
            "",
        ),
    ];
    check(&rig, &ours.certificate_pem, cases).await;
}

#[tokio::test]
async fn certificates_that_name_nobody() {
    let rig = Rig::start().await;
    let ours = Forge::of(&rig.path("dev-ca"));
    let named = |uris: &[&str]| {
        Some(ours.leaf(|p| p.subject_alt_names = uris.iter().map(|u| uri(u)).collect()))
    };
    let dns = SanType::DnsName("acme.tollgate.local".try_into().expect("a name"));
    let acme = "spiffe://tollgate.local/tenant/acme/client";
    let long = format!("spiffe://tollgate.local/tenant/{}/client", "x".repeat(300));
    let cases: Vec<(&str, Option<Forged>, &str)> = vec![
        ("no URI", Some(ours.leaf(|p| p.subject_alt_names = vec![dns])), "NoUri"),
        ("two URIs", named(&[acme, "spiffe://tollgate.local/tenant/globex/client"]), "Several"),
        ("the same URI twice", named(&[acme, acme]), "Several"),
        ("another trust domain", named(&["spiffe://evil.local/tenant/acme/client"]), "evil.local"),
        ("an unknown path", named(&["spiffe://tollgate.local/tenant/acme/admin"]), "UnknownPath"),
        ("a tenant in capitals", named(&["spiffe://tollgate.local/tenant/ACME/client"]), "'A'"),
        ("percent signs", named(&["spiffe://tollgate.local/tenant/%61cme/client"]), "NotSpiffe"),
        ("an empty segment", named(&["spiffe://tollgate.local/tenant//acme/client"]), "NotSpiffe"),
        ("300 characters", named(&[long.as_str()]), "Tenant"),
        ("not SPIFFE at all", named(&["https://tollgate.local/tenant/acme/client"]), "NotSpiffe"),
    ];
    let cases = cases.into_iter().map(|(n, f, part)| (n, f, alert::CERTIFICATE_UNKNOWN, part));
    check(&rig, &ours.certificate_pem, cases.collect()).await;
}

#[tokio::test]
async fn roles_that_have_no_business_here_are_told_so() {
    let rig = Rig::start().await;
    let operator = Identity::operator("root").expect("an identity");
    let builder = rig.builder("acme").credentials(rig.credentials_of(&operator));
    refused(builder, CloseCode::Forbidden, operator.role().as_str()).await;
    assert_eq!(rig.broker.counters().connections, 0);
    is_served(&rig.client("acme").await).await;
}

#[tokio::test]
async fn tenants_that_are_not_active_are_told_so() {
    let rig = Rig::start().await;
    refused(rig.builder("nobody"), CloseCode::TenantUnknown, "`nobody`").await;

    rig.broker.tenants().suspend("acme", None).await.expect("acme");
    refused(rig.builder("acme"), CloseCode::TenantSuspended, "suspended").await;
    is_served(&rig.client("globex").await).await;

    rig.broker.tenants().activate("acme", None).await.expect("acme");
    is_served(&rig.client("acme").await).await;

    rig.broker.tenants().delete_now("acme", None).await.expect("acme");
    refused(rig.builder("acme"), CloseCode::TenantDeleted, "deleted").await;
    is_served(&rig.client("globex").await).await;
}

async fn refused(builder: tollgate_client::ClientBuilder, code: CloseCode, part: &str) {
    let error = builder.connect().await.expect_err("nobody gets in");
    let ConnectError::Refused { code: found, reason } = &error else {
        panic!("not refused by the broker: {error}");
    };
    assert_eq!(*found, code, "{error}");
    assert!(reason.contains(part), "{reason:?} does not say {part:?}");
    assert!(!error.retryable() && error.code().is_some_and(|c| c != Code::Ok), "{error}");
}

#[tokio::test]
async fn without_asking_first_a_refusal_shows_in_the_first_operation() {
    let rig = Rig::start().await;
    rig.broker.tenants().suspend("acme", None).await.expect("acme");
    let client = rig.builder("acme").confirm(false).connect().await.expect("a handshake");
    let conn = client.connection();
    let error = client.version().await.expect_err("nobody gets in");
    assert_eq!(error.code(), Some(Code::Forbidden), "{error}");
    if let Some(conn) = conn {
        let (code, _) = close_code(&conn.closed().await).expect("closed by the broker");
        assert_eq!(code, CloseCode::TenantSuspended);
    }
}
