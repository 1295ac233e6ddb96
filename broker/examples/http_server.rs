//! An HTTP server over an embedded broker: `POST /run/{recipe}` runs one item.
//!
//! The broker meters, bounds and cancels the work; axum only translates. The server is a client
//! of the broker like any other, with a certificate of its own.
//!
//! ```sh
//! cargo run -p tollgate-broker --example http_server
//! ```

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tollgate_broker::{recipes, tenancy::Settings};
use tollgate_client::{CallError, Client, Code};

mod support;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let local = support::Local::start(recipes::builtin().build()?).await?;
    // All that comes by HTTP is one tenant's here. A server that knows its users would hold a
    // gateway's certificate and name each user's tenant (see `gateway`).
    local.broker.tenants().create_named("web", Settings::default()).await?;
    let client = local.client("web").await?;

    let app = Router::new().route("/run/{recipe}", post(run)).with_state(client.clone());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        // A stop that was dropped means the same.
        let _ = stopped.await;
    });
    let server = tokio::spawn(async { server.await });
    println!("curl -d hello http://{addr}/run/echo");

    let ok = http_post(addr, "/run/echo", "hello").await?;
    assert_eq!((ok.status, ok.body.as_str()), (200, "hello"));
    // A failure is an HTTP status of the table of codes, and says more in its body.
    let unknown = http_post(addr, "/run/no.such.recipe", "").await?;
    println!("{} {}", unknown.status, unknown.body);
    assert_eq!(unknown.status, 404);
    assert_eq!(serde_json::from_str::<Value>(&unknown.body)?["code"], "RECIPE_NOT_FOUND");
    // A rate that is used up is a 429, whether the broker says so or, as here, the recipe.
    let order = json!({"code": "RATE_LIMITED", "message": "busy", "retry_after_ms": 1_500});
    let busy = http_post(addr, "/run/fail", &order.to_string()).await?;
    println!("{} {}", busy.status, busy.body);
    assert_eq!(busy.status, 429);
    assert!(busy.head.contains("\r\nretry-after: 2"), "{}", busy.head);

    // In the order of the dependencies: no more requests, no more calls, no more broker.
    drop(stop);
    server.await??;
    client.close().await;
    local.stop().await
}

/// Runs one item. When the HTTP client hangs up, axum drops this future, which drops the call, which
/// cancels the item in the broker.
async fn run(State(client): State<Client>, Path(recipe): Path<String>, body: Bytes) -> Response {
    match client.call_bytes(&recipe, body).deadline(Duration::from_secs(5)).await {
        Ok(answer) => answer.into_response(),
        Err(error) => problem(&error),
    }
}

/// A failure as HTTP: the code's status, when to come back, and the words.
fn problem(error: &CallError) -> Response {
    let code = error.code();
    let status = code.and_then(|c| StatusCode::from_u16(c.status()).ok());
    let body = json!({"code": code.map(Code::name), "message": error.to_string()});
    let mut response = (status.unwrap_or(StatusCode::BAD_GATEWAY), Json(body)).into_response();
    if let Some(wait) = error.failure().and_then(|f| f.retry_after) {
        let seconds = wait.as_millis().div_ceil(1_000) as u64;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// As plain as HTTP gets: one request on one connection, read to its end.
async fn http_post(addr: SocketAddr, path: &str, body: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(addr).await?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\
        content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").context("a head and a body")?;
    let status = head.split(' ').nth(1).context("a status line")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
