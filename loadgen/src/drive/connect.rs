//! One connection, from when it was due: handshake and first answer, held for a while, closed.
//!
//! Its latency ends with the broker's first answer: with TLS 1.3 a refused certificate shows only
//! after the handshake.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;
use tollgate_client::{Client, Code, ConnectError};

use super::{NO_ANSWER, Source};
use crate::{
    plan::Plan,
    record::{Outcome, nanos},
};

/// What is asked of the kernel for a socket that many connections share.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// A socket for many connections.
pub(super) fn socket(broker: SocketAddr) -> io::Result<Endpoint> {
    let any: SocketAddr = match broker {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = Socket::new(Domain::for_address(any), Type::DGRAM, Some(Protocol::UDP))?;
    // A system that grants less loses packets of bursts, which are sent again.
    let _ = udp.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = udp.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    udp.bind(&any.into())?;
    Endpoint::new(EndpointConfig::default(), None, udp.into(), Arc::new(TokioRuntime))
}

impl Source {
    /// Opens, holds and closes a connection. True if it was there until it was closed here.
    pub(super) async fn connection(
        &self,
        number: u64,
        due: Instant,
        hold: Duration,
        plan: &Plan,
    ) -> bool {
        let links = &self.links;
        let socket = &links.sockets[(number % links.sockets.len() as u64) as usize];
        let opened = Client::builder(links.addr)
            .server_name(&links.server_name)
            .credentials(links.credentials.clone())
            .endpoint(socket.clone())
            .connect_timeout(plan.limit)
            .connect();
        let opened = opened.await;
        let latency = due.elapsed();
        let mut outcome = Outcome { latency, ..Outcome::default() };
        match &opened {
            Ok(_) => {
                (outcome.complete, outcome.succeeded) = (true, 1);
                outcome.item_ns.push(nanos(latency));
            }
            Err(e) => outcome.errors.push((name(e), 1, self.allows(e.code()))),
        }
        let measured = plan.measured_in(due);
        self.record(&outcome, measured);
        let Ok(client) = opened else { return false };
        let held = self.hold(&client, hold, plan).await;
        if let Some((name, code)) = &held {
            self.record.late_error(name, self.allows(*code), measured);
        }
        client.close().await;
        held.is_none()
    }

    /// Holds a connection; how the broker ended it, if it did.
    async fn hold(
        &self,
        client: &Client,
        hold: Duration,
        plan: &Plan,
    ) -> Option<(String, Option<Code>)> {
        let left = plan.end.saturating_duration_since(Instant::now());
        let hold = hold.min(left);
        if hold.is_zero() {
            return None;
        }
        let Some(connection) = client.connection() else {
            return Some(("LOST_WHILE_HELD".into(), None));
        };
        let closed = tokio::select! {
            closed = timeout(hold, connection.closed()) => closed.ok()?,
            () = self.stopped() => return None,
        };
        let lost = ConnectError::from(tollgate_client::Disconnected::from(closed));
        Some((format!("LOST_WHILE_HELD_{}", name(&lost)), lost.code()))
    }
}

/// What a connection that did not come about is called.
fn name(e: &ConnectError) -> String {
    match (e, e.close_code(), e.code()) {
        (_, Some(close), _) => close.to_string(),
        (ConnectError::Timeout { .. }, ..) => NO_ANSWER.into(),
        (ConnectError::UntrustedBroker { .. }, ..) => "UNTRUSTED_BROKER".into(),
        (_, _, Some(code)) => code.name().into(),
        _ => "DISCONNECTED".into(),
    }
}
