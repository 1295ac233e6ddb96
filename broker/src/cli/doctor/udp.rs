//! Whether datagrams get through, and whether what answers them speaks QUIC.
//!
//! A version that no server has makes every QUIC server say which it has (RFC 9000, section 6),
//! whatever certificates it wants: no handshake, no state.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{net::UdpSocket, time::timeout};

use super::Findings;
use crate::cli::{exit::Exit, format};

/// What a probe came to.
#[derive(Debug)]
enum Probe {
    /// A QUIC server, and the versions it speaks.
    Quic { versions: Vec<u32>, round_trip: Duration },
    /// Something that is no QUIC server.
    Stranger,
    /// The host says that nobody listens there.
    Refused,
    /// No answer.
    Silence,
}

/// QUIC version 1.
const V1: u32 = 1;
/// Of the form that RFC 9000, section 15, keeps for this.
const NOBODYS_VERSION: u32 = 0x1a2a_3a4a;
const SOURCE_ID: [u8; 8] = *b"tollgate";
/// What a first packet must have.
const DATAGRAM_BYTES: usize = 1_200;
const TRIES: u32 = 3;

/// Says whether a QUIC server of our version answers.
pub(super) async fn examine(addr: SocketAddr, wait: Duration, findings: &mut Findings) -> bool {
    match probe(addr, wait).await {
        Ok(Probe::Quic { versions, round_trip }) if versions.contains(&V1) => {
            let took = format::duration(round_trip);
            let values = json!({ "round_trip_us": round_trip.as_micros() as u64 });
            findings.good("udp", format!("{addr} speaks QUIC v1 and answered in {took}"), values);
            return true;
        }
        Ok(Probe::Quic { .. }) => {
            findings.bad(
                "udp",
                Exit::Unreachable,
                format!("{addr} speaks QUIC, but not version 1"),
            );
        }
        Ok(Probe::Stranger) => {
            findings.bad("udp", Exit::Unreachable, format!("what answers at {addr} is not QUIC"));
        }
        Ok(Probe::Refused) => findings.warn(
            "udp",
            format!("nobody listens at {addr}: packets arrive and are refused; is the broker up?"),
        ),
        Ok(Probe::Silence) => findings.warn(
            "udp",
            format!(
                "no answer from {addr} to {TRIES} packets within {}: UDP is blocked on the way, \
                 or the host is down",
                format::duration(wait)
            ),
        ),
        Err(e) => findings.warn("udp", format!("{addr} cannot be sent to: {e}")),
    }
    false
}

async fn probe(addr: SocketAddr, wait: Duration) -> io::Result<Probe> {
    let any: SocketAddr = if addr.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    let packet = packet();
    for _ in 0..TRIES {
        let sent = Instant::now();
        let mut answer = [0; 2_048];
        let exchange = async {
            socket.send(&packet).await?;
            socket.recv(&mut answer).await
        };
        match timeout(wait / TRIES, exchange).await {
            Ok(Ok(n)) => {
                return Ok(match versions(&answer[..n]) {
                    Some(versions) => Probe::Quic { versions, round_trip: sent.elapsed() },
                    None => Probe::Stranger,
                });
            }
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(Probe::Refused);
            }
            Ok(Err(e)) => return Err(e),
            Err(_) => {}
        }
    }
    Ok(Probe::Silence)
}

/// A long header of nobody's version, and padding.
fn packet() -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(NOBODYS_VERSION.to_be_bytes());
    for id in [*b"whatever", SOURCE_ID] {
        packet.push(id.len() as u8);
        packet.extend(id);
    }
    packet.resize(DATAGRAM_BYTES, 0);
    packet
}

/// The versions in a version negotiation packet that answers ours.
fn versions(answer: &[u8]) -> Option<Vec<u32>> {
    let (head, rest) = answer.split_first_chunk::<5>()?;
    if head[0] & 0x80 == 0 || head[1..] != [0; 4] {
        return None;
    }
    let (&to_len, rest) = rest.split_first()?;
    let (to, rest) = rest.split_at_checked(to_len.into())?;
    let (&from_len, rest) = rest.split_first()?;
    let (_, list) = rest.split_at_checked(from_len.into())?;
    let (versions, more) = list.as_chunks::<4>();
    if to != SOURCE_ID || !more.is_empty() {
        return None;
    }
    Some(versions.iter().map(|v| u32::from_be_bytes(*v)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lists_versions_or_is_no_answer() {
        let mut answer = vec![0x80, 0, 0, 0, 0, 8];
        answer.extend(SOURCE_ID);
        answer.extend([2, 7, 7]);
        assert_eq!(versions(&answer), Some(vec![]));
        answer.extend([0, 0, 0, 1, 0x0a, 0x1a, 0x2a, 0x3a]);
        assert_eq!(versions(&answer), Some(vec![V1, 0x0a1a_2a3a]));
        for cut in 0..16 {
            assert_eq!(versions(&answer[..cut]), None, "{cut}");
        }
        answer[6] ^= 1;
        assert_eq!(versions(&answer), None);
        assert_eq!(versions(&[0x40; 60]), None);
    }

    #[tokio::test]
    async fn silence_refusal_and_strangers_are_told_apart() {
        let wait = Duration::from_millis(60);
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let addr = silent.local_addr().expect("an address");
        assert!(matches!(probe(addr, wait).await, Ok(Probe::Silence)));
        drop(silent);
        assert!(matches!(probe(addr, wait).await, Ok(Probe::Refused)));
        let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let addr = stranger.local_addr().expect("an address");
        let answer = tokio::spawn(async move {
            let (n, from) = stranger.recv_from(&mut [0; 2_048]).await.expect("a packet");
            assert_eq!(n, DATAGRAM_BYTES);
            stranger.send_to(b"hello", from).await.expect("sent");
        });
        assert!(matches!(probe(addr, Duration::from_secs(9)).await, Ok(Probe::Stranger)));
        answer.await.expect("answered");
    }
}
