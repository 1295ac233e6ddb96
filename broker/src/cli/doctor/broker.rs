//! The broker itself, as ourselves: whether it lets us in, and how the path is.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tollgate_client::{Client, ClientCredentials, ConnectError, Transport};

use super::{Args, Findings};
use crate::cli::{
    exit,
    format::{self, bytes},
};

/// How often the round trip is taken.
const ROUND_TRIPS: u32 = 8;
/// How long the search for the path's packet size may take.
const MTU_SEARCH: Duration = Duration::from_secs(1);

pub(super) async fn examine(
    addr: SocketAddr,
    args: &Args,
    credentials: ClientCredentials,
    findings: &mut Findings,
) {
    let connecting = Client::builder(addr)
        .server_name(args.name())
        .credentials(credentials)
        .connect_timeout(args.timeout)
        .connect();
    let client = match connecting.await {
        Ok(client) => client,
        Err(e) => {
            let hint = match &e {
                ConnectError::Unauthorized { .. } => {
                    ". If it is valid by your clock, compare the clocks of both machines"
                }
                _ => "",
            };
            return findings.bad("broker", exit::of_connect(&e), format!("{e}{hint}"));
        }
    };
    match client.version().await {
        Ok(version) => findings.good(
            "broker",
            format!("{}, {}: lets us in", version.broker, version.protocol),
            json!({ "version": version.broker, "protocol": version.protocol }),
        ),
        Err(e) => findings.bad("broker", exit::classify(&e.clone().into()), e.to_string()),
    }
    // A gateway has no limits of its own to ask for.
    if let Ok(limits) = client.limits().await {
        let (payload, frame) = (limits.payload_bytes_max, limits.frame_bytes_max.into());
        findings.good(
            "limits",
            format!(
                "payloads up to {}, frames up to {}, {} items at once",
                bytes(payload),
                bytes(frame),
                limits.concurrency_max
            ),
            json!({
                "payload_bytes_max": payload,
                "frame_bytes_max": frame,
                "batch_items_max": limits.batch_items_max,
                "concurrency_max": limits.concurrency_max,
            }),
        );
    }
    path(&client, findings).await;
    client.close().await;
}

/// Takes the round trip, and waits for the packet size to be found.
async fn path(client: &Client, findings: &mut Findings) {
    let mut best = Duration::MAX;
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        if client.version().await.is_err() {
            return findings.warn("path", "the connection was lost while it was measured");
        }
        best = best.min(began.elapsed());
    }
    let values = json!({ "round_trip_us": best.as_micros() as u64 });
    findings.good("round trip", format::duration(best), values);
    let wanted = Transport::default().mtu_max;
    let deadline = Instant::now() + MTU_SEARCH;
    let found = loop {
        let Some(connection) = client.connection() else { return };
        let mtu = connection.stats().path.current_mtu;
        if mtu >= wanted || Instant::now() >= deadline {
            break mtu;
        }
        // Packets are looked for with packets.
        let _ = client.version().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    if found >= wanted {
        findings.good("packets", format!("{found} bytes get through"), json!({ "mtu": found }));
    } else {
        findings.warn(
            "packets",
            format!("only {found} bytes get through, {wanted} were tried: a tunnel or a VPN?"),
        );
    }
}
