//! Who gets in, who does not, and who has to leave: certificates and tenants over real QUIC.

use std::time::Duration;

use quinn::{Connection, ConnectionError};
use tollgate_client::{Client, CloseCode};
use tollgate_tests::SOON;

#[path = "certificates/live.rs"]
mod live;
#[path = "certificates/refused.rs"]
mod refused;
#[path = "certificates/reload.rs"]
mod reload;

/// Revocation, expiry and suspension act within a second; this is ten times that.
const ACTS_WITHIN: Duration = Duration::from_secs(10);

/// Why the broker closes a client's connection, and its words; fails when it does not.
async fn closed(client: &Client) -> (CloseCode, String) {
    closed_connection(&client.connection().expect("the client is connected")).await
}

/// As [`closed`], for a connection that was looked up before.
async fn closed_connection(conn: &Connection) -> (CloseCode, String) {
    let error = tokio::time::timeout(ACTS_WITHIN, conn.closed())
        .await
        .expect("the broker closes the connection");
    close_code(&error).unwrap_or_else(|| panic!("not closed by the broker: {error}"))
}

/// The close code and the reason of a connection that the broker closed.
fn close_code(error: &ConnectionError) -> Option<(CloseCode, String)> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    let reason = String::from_utf8_lossy(&close.reason).into_owned();
    Some((CloseCode::from_number(close.error_code.into_inner())?, reason))
}

/// Shows that a client is served, on the connection it has.
async fn is_served(client: &Client) {
    let before = client.connection().expect("it is still connected").stable_id();
    let answer: String = tokio::time::timeout(SOON, client.call("echo", "hello"))
        .await
        .expect("an answer in time")
        .expect("an answer");
    assert_eq!(answer, "hello");
    let after = client.connection().expect("it is still connected").stable_id();
    assert_eq!(before, after, "the connection was never lost");
}
