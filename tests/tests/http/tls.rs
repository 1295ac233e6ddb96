//! The listener with TLS: operators' and tenants' certificates, and their end.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use reqwest::{Certificate, Identity as Presented};
use serde_json::Value;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tollgate_broker::{Broker, Config, config, recipes};
use tollgate_certs::{Identity, IssueOptions};
use tollgate_tests::{Rig, SOON, client_identity};

use super::{Answered, plain};

/// A client that presents a certificate, or none.
fn client(rig: &Rig, holder: Option<&Identity>) -> (reqwest::Client, String) {
    client_for(rig, holder, &IssueOptions::default())
}

fn client_for(
    rig: &Rig,
    holder: Option<&Identity>,
    options: &IssueOptions,
) -> (reqwest::Client, String) {
    let _ = plain();
    let ca = std::fs::read(rig.path("dev-ca/ca.pem")).expect("the authority");
    let mut builder = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(&ca).expect("a certificate")]);
    if let Some(holder) = holder {
        let issued = rig.issue(holder, options);
        let pem = format!("{}{}", issued.certificate_pem, issued.key_pem);
        builder = builder.identity(Presented::from_pem(pem.as_bytes()).expect("an identity"));
    }
    let port = rig.broker.http_addr().expect("HTTP is on").port();
    (builder.build().expect("a client"), format!("https://localhost:{port}"))
}

async fn get(client: &(reqwest::Client, String), path: &str) -> Answered {
    let request = client.0.get(format!("{}{path}", client.1));
    Answered::read(request.send().await.expect("an answer")).await
}

async fn secured() -> Rig {
    Rig::with(|config| {
        config.http.tls = true;
        let deny = config.data_dir.clone().expect("a directory").join("deny.txt");
        std::fs::write(&deny, "").expect("written");
        config.tls.deny = Some(deny);
    })
    .await
}

#[tokio::test]
async fn a_certificate_says_who_asks() {
    let rig = secured().await;
    let nobody = client(&rig, None);
    get(&nobody, "/health").await.ok();
    get(&nobody, "/api/v1/recipes").await.problem(401, "UNAUTHORIZED");
    let operator = client(&rig, Some(&Identity::operator("ann").expect("an identity")));
    get(&operator, "/api/v1/connections").await.ok();
    get(&operator, "/api/v1/tenants/globex/usage").await.ok();
    let acme = client(&rig, Some(&client_identity("acme")));
    get(&acme, "/api/v1/tenants/acme/usage").await.ok();
    get(&acme, "/api/v1/tenants/globex/usage").await.problem(404, "NOT_FOUND");
    get(&acme, "/api/v1/connections").await.problem(403, "FORBIDDEN");
    let gateway = client(&rig, Some(&Identity::gateway("edge").expect("an identity")));
    get(&gateway, "/api/v1/recipes").await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let rig = Rig::with(|config| {
        config.http.tls = true;
        config.http.connections_max = 16;
        config.http.source_connections_max = 8;
    })
    .await;
    let addr = rig.broker.http_addr().expect("HTTP is on");
    let operator = client(&rig, Some(&Identity::operator("ann").expect("an identity")));
    get(&operator, "/api/v1/connections").await.ok();
    // Some that never shake hands, and some that ask once and stay.
    let (mut silent, mut nobodies) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        silent.push(TcpStream::connect(addr).await.expect("a connection"));
    }
    for _ in 0..20 {
        let nobody = client(&rig, None);
        get(&nobody, "/health").await.ok();
        nobodies.push(nobody);
    }
    // Over the connection that it has, and over a new one.
    get(&operator, "/api/v1/connections").await.ok();
    let another = client(&rig, Some(&Identity::operator("bob").expect("an identity")));
    get(&another, "/api/v1/connections").await.ok();
    get(&client(&rig, Some(&client_identity("acme"))), "/api/v1/recipes").await.ok();
    get(&client(&rig, None), "/health").await.ok();
    // The first has given its place to another.
    let mut end = Vec::new();
    let read = timeout(SOON, silent[0].read_to_end(&mut end)).await.expect("it is closed");
    assert!(read.is_err() || end.is_empty(), "{end:?}");
}

#[tokio::test]
async fn who_does_not_come_to_ask_is_let_go() {
    let rig = Rig::with(|config| {
        config.http.tls = true;
        config.http.first_request_timeout_ms = 300;
        config.http.header_timeout_ms = 600_000;
    })
    .await;
    let addr = rig.broker.http_addr().expect("HTTP is on");
    let mut silent = TcpStream::connect(addr).await.expect("a connection");
    let mut end = Vec::new();
    let read = timeout(SOON, silent.read_to_end(&mut end)).await.expect("it is closed");
    assert!(read.is_err() || end.is_empty(), "{end:?}");
    // Who has asked once may be silent for as long as a head may take.
    let nobody = client(&rig, None);
    get(&nobody, "/health").await.ok();
    tokio::time::sleep(Duration::from_millis(600)).await;
    get(&nobody, "/health").await.ok();
}

#[tokio::test]
async fn a_suspended_tenant_is_turned_away() {
    let rig = secured().await;
    let acme = client(&rig, Some(&client_identity("acme")));
    get(&acme, "/api/v1/tenants/acme/usage").await.ok();
    rig.broker.tenants().suspend("acme", None).await.expect("there is one");
    get(&acme, "/api/v1/tenants/acme/usage").await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn a_batch_is_told_that_the_certificate_it_came_with_is_about_to_expire() {
    for (ahead_ms, told) in [(24 * 3_600_000, true), (1, false)] {
        let rig = Rig::with(|config| {
            config.http.tls = true;
            config.limits.expiry_notice_ms = ahead_ms;
        })
        .await;
        let hour = IssueOptions {
            validity: Duration::from_secs(3_600),
            not_before: SystemTime::now() - Duration::from_secs(60),
        };
        let (client, base) = client_for(&rig, Some(&client_identity("acme")), &hour);
        let batch = client
            .post(format!("{base}/api/v1/tenants/acme/batches"))
            .header("content-type", "application/x-ndjson")
            .body("{\"recipe\":\"echo\",\"payload\":1}\n");
        let answer = Answered::read(batch.send().await.expect("an answer")).await;
        let lines = answer.body.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
        let notices: Vec<_> = lines.filter(|l| !l["notice"].is_null()).collect();
        assert_eq!(notices.len(), usize::from(told), "{answer:?}");
        assert!(notices.iter().all(|l| l["notice"]["kind"] == "certificate_expiring"));
        assert!(answer.body.contains("summary"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (rig, other) = (secured().await, secured().await);
    let holder = Identity::operator("mallory").expect("an identity");
    let issued = other.issue(&holder, &IssueOptions::default());
    let ca = std::fs::read(rig.path("dev-ca/ca.pem")).expect("the authority");
    let pem = format!("{}{}", issued.certificate_pem, issued.key_pem);
    let _ = plain();
    let client = reqwest::Client::builder()
        .tls_certs_only([Certificate::from_pem(&ca).expect("a certificate")])
        .identity(Presented::from_pem(pem.as_bytes()).expect("an identity"))
        .build()
        .expect("a client");
    let port = rig.broker.http_addr().expect("HTTP is on").port();
    let asked = client.get(format!("https://localhost:{port}/health")).send().await;
    assert!(asked.is_err(), "{asked:?}");
}

#[tokio::test]
async fn who_is_denied_is_cut_off_and_stays_out() {
    let rig = secured().await;
    let operator = client(&rig, Some(&Identity::operator("ann").expect("an identity")));
    get(&operator, "/api/v1/recipes").await.ok();
    std::fs::write(rig.path("deny.txt"), "spiffe://tollgate.local/operator/ann\n")
        .expect("written");
    rig.broker.reload().await.expect("good files");
    // On its open connection, if that is there still, and on new ones.
    for _ in 0..2 {
        let asked = operator.0.get(format!("{}/api/v1/recipes", operator.1)).send().await;
        assert!(asked.as_ref().map_or(true, |a| a.status() == 401), "{asked:?}");
    }
    let other = client(&rig, Some(&Identity::operator("bob").expect("an identity")));
    get(&other, "/api/v1/recipes").await.ok();
}

#[tokio::test]
async fn beyond_this_machine_tls_is_needed() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = async |http: config::Http| {
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: Some(dir.path().join("data")),
            http,
            ..Config::default()
        };
        Broker::start(config, recipes::builtin().build().expect("a catalog")).await
    };
    let everywhere =
        config::Http { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config::Http::anywhere() };
    let token = dir.path().join("token.txt");
    std::fs::write(&token, "0123456789abcdef").expect("written");
    let with_token = config::Http { operator_token_file: Some(token), ..everywhere.clone() };
    for http in [everywhere.clone(), with_token] {
        let error = start(http).await.expect_err("it is exposed").to_string();
        assert!(error.contains("http.listen") && error.contains("TLS"), "{error}");
    }
    start(config::Http { tls: true, ..everywhere })
        .await
        .expect("TLS, and operators' certificates");
}
