//! Who may ask what: hosts, origins, tokens, tenants.

use reqwest::Method;
use tollgate_broker::{TokenOf, TokenRole};
use tollgate_tests::Rig;

use super::Http;

pub(super) const OPERATOR: &str = "operator-0123456789abcdef";
pub(super) const ACME: &str = "acme-0123456789abcdef";
pub(super) const ACME_WORKER: &str = "acme-worker-0123456789abcdef";

/// A broker that wants tokens.
pub(super) async fn guarded() -> Rig {
    Rig::with(|config| {
        let dir = config.data_dir.clone().expect("a directory");
        let file = |name: &str, token: &str| {
            let path = dir.join(name);
            std::fs::write(&path, token).expect("written");
            path
        };
        let of = |role, file| TokenOf { tenant: "acme".into(), role, file };
        config.http.operator_token_file = Some(file("operator", OPERATOR));
        config.http.tokens = vec![
            of(TokenRole::Client, file("acme", ACME)),
            of(TokenRole::Worker, file("worker", ACME_WORKER)),
        ];
    })
    .await
}

#[tokio::test]
async fn only_this_machines_own_hosts_and_pages_get_through() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    let ask = async |name: &str, value: &str| {
        let request = http.client.get(format!("{}/api/v1/recipes", http.base)).header(name, value);
        super::Answered::read(request.send().await.expect("an answer")).await
    };
    ask("host", "evil.example").await.problem(403, "FORBIDDEN");
    ask("host", "localhost.evil.example:80").await.problem(403, "FORBIDDEN");
    ask("host", "localhost").await.ok();
    ask("host", "[::1]:8080").await.ok();
    ask("origin", "http://evil.example").await.problem(403, "FORBIDDEN");
    ask("origin", "null").await.problem(403, "FORBIDDEN");
    ask("origin", "http://localhost:1").await.problem(403, "FORBIDDEN");
    ask("origin", &http.base).await.ok();
    // Not even what is for anyone.
    let request = http.client.get(format!("{}/health", http.base)).header("host", "evil.example");
    super::Answered::read(request.send().await.expect("an answer")).await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let rig = Rig::start().await;
    let http = Http::of(&rig);
    for path in ["/", "/api", "/api/v1/", "/api/v1/recipes/", "/api/v2/recipes", "/swagger/x.html"]
    {
        http.get(path).await.problem(404, "NOT_FOUND");
    }
    let answer = http.send(Method::DELETE, "/api/v1/recipes", None).await;
    answer.problem(405, "INVALID_ACTION");
    assert_eq!(answer.header("allow"), "GET, HEAD");
    let answer = http.send(Method::OPTIONS, "/health", None).await;
    answer.problem(405, "INVALID_ACTION");
    let head = http.send(Method::HEAD, "/api/v1/recipes", None).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn with_tokens_nothing_is_open_but_what_is_for_anyone() {
    let rig = guarded().await;
    let nobody = Http::of(&rig);
    for path in ["/health", "/ready", "/openapi.json", "/swagger/"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
    for path in ["/api/v1/recipes", "/api/v1/connections", "/nowhere"] {
        let answer = nobody.get(path).await;
        answer.problem(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    }
    let wrong = Http::of(&rig).token("operator-0123456789abcdeg");
    wrong.get("/api/v1/recipes").await.problem(401, "UNAUTHORIZED");
    let operator = Http::of(&rig).token(OPERATOR);
    operator.get("/api/v1/connections").await.ok();
    operator.get("/api/v1/tenants/globex/usage").await.ok();
    operator.get("/nowhere").await.problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_tenants_token_opens_its_own_tenants_routes_only() {
    let rig = guarded().await;
    let acme = Http::of(&rig).token(ACME);
    acme.get("/api/v1/recipes").await.ok();
    acme.get("/api/v1/tenants/acme/usage").await.ok();
    acme.get("/api/v1/connections").await.problem(403, "FORBIDDEN");
    // Another tenant answers exactly as one that does not exist.
    let body = |answer: super::Answered| {
        let mut problem = answer.problem(404, "NOT_FOUND");
        problem.as_object_mut().expect("an object").remove("instance");
        problem
    };
    let other = body(acme.get("/api/v1/tenants/globex/usage").await);
    let nobody = body(acme.get("/api/v1/tenants/nobody/usage").await);
    assert_eq!(other, nobody);
    let operator = Http::of(&rig).token(OPERATOR);
    assert_eq!(body(operator.get("/api/v1/tenants/nobody/usage").await), nobody);
    let worker = Http::of(&rig).token(ACME_WORKER);
    worker.get("/api/v1/tenants/acme/usage").await.problem(403, "FORBIDDEN");
}

#[tokio::test]
async fn a_token_is_read_again_with_the_configuration() {
    let rig = guarded().await;
    let operator = Http::of(&rig).token(OPERATOR);
    operator.get("/api/v1/connections").await.ok();
    std::fs::write(rig.path("operator"), "operator-of-another-day").expect("written");
    rig.broker.reload().await.expect("good files");
    operator.get("/api/v1/connections").await.problem(401, "UNAUTHORIZED");
    Http::of(&rig).token("operator-of-another-day").get("/api/v1/connections").await.ok();
}
