//! The UDP socket and the QUIC settings beneath a client.
//!
//! Opens no connection. Buffers are read back from the kernel, because it cuts them silently.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use quinn::{
    AckFrequencyConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::ConnectError;

/// How the client uses the network. The defaults suit a LAN and most of the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// How often a silent connection is probed (1.5 s): a lost broker is noticed after a few of
    /// these. `None` lets the connection fall idle.
    pub keep_alive: Option<Duration>,
    /// After how long without a sign of life the connection counts as lost (15 s).
    pub idle_timeout: Duration,
    /// What is asked of the kernel for the socket's buffers, each way, in bytes (4 MiB).
    pub socket_buffer_bytes: usize,
    /// The packet size to start with, in bytes (1,200: what every path carries). Set equal to
    /// `mtu_max` where the network is known: no probing, faster handshakes.
    pub mtu_initial: u16,
    /// The largest packet size to probe for, in bytes (1,452). Up to 6,553 where the network
    /// carries it; beyond that only without `segmentation_offload`.
    pub mtu_max: u16,
    /// Whether the kernel cuts trains of packets (GSO). Costs much throughput when off.
    pub segmentation_offload: bool,
    /// How much of one stream may wait unread, in bytes (1 MiB). On long paths: bandwidth × round
    /// trip time.
    pub stream_window: u32,
    /// How much of all streams of the connection may wait unread, in bytes (8 MiB): the bound of
    /// the memory that arriving results can take before they are read.
    pub connection_window: u32,
    /// How much may be sent and not acknowledged, in bytes (8 MiB).
    pub send_window: u64,
    /// How many packets the broker may take before it acknowledges (40). Fewer cost CPU.
    pub ack_threshold: u32,
}

impl Default for Transport {
    fn default() -> Self {
        Transport {
            keep_alive: Some(Duration::from_millis(1_500)),
            idle_timeout: Duration::from_secs(15),
            socket_buffer_bytes: 4 << 20,
            mtu_initial: 1_200,
            mtu_max: 1_452,
            segmentation_offload: true,
            stream_window: 1 << 20,
            connection_window: 8 << 20,
            send_window: 8 << 20,
            ack_threshold: 40,
        }
    }
}

/// What every QUIC path carries (RFC 9000, section 14).
const MTU_FLOOR: u16 = 1_200;
/// quinn sends ten segments a call: beyond this a train passes 65,535 bytes and vanishes.
const MTU_MAX_WITH_OFFLOAD: u16 = 6_553;

impl Transport {
    pub(crate) fn to_quinn(&self) -> Result<TransportConfig, ConnectError> {
        let config = |message: String| ConnectError::Config(message.into());
        if self.mtu_initial < MTU_FLOOR || self.mtu_max < self.mtu_initial {
            return Err(config(format!(
                "`mtu_initial` {} must be at least {MTU_FLOOR} and at most `mtu_max` {}",
                self.mtu_initial, self.mtu_max
            )));
        }
        if self.segmentation_offload && self.mtu_max > MTU_MAX_WITH_OFFLOAD {
            return Err(config(format!(
                "`mtu_max` {} is allowed only without `segmentation_offload`; with it at most {}",
                self.mtu_max, MTU_MAX_WITH_OFFLOAD
            )));
        }
        let idle = IdleTimeout::try_from(self.idle_timeout)
            .map_err(|_| config(format!("`idle_timeout` {:?} is too long", self.idle_timeout)))?;
        if self.keep_alive.is_some_and(|k| k >= self.idle_timeout) {
            return Err(config("`keep_alive` must be shorter than `idle_timeout`".into()));
        }
        let mut t = TransportConfig::default();
        t.keep_alive_interval(self.keep_alive)
            .max_idle_timeout(Some(idle))
            .initial_mtu(self.mtu_initial)
            .enable_segmentation_offload(self.segmentation_offload)
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            // A broker opens no streams towards its clients.
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None);
        let probing = (self.mtu_max > self.mtu_initial).then(|| {
            let mut m = MtuDiscoveryConfig::default();
            m.upper_bound(self.mtu_max);
            m
        });
        t.mtu_discovery_config(probing);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(self.ack_threshold));
        t.ack_frequency_config(Some(acks));
        Ok(t)
    }

    /// Opens an endpoint of its own, and says what the kernel granted.
    pub(crate) fn open(&self, bind: SocketAddr) -> Result<(Endpoint, SocketBuffers), ConnectError> {
        let socket = |e| ConnectError::Socket(Arc::new(e));
        let (udp, buffers) = self.bind(bind).map_err(socket)?;
        let mut config = EndpointConfig::default();
        if u64::from(self.mtu_max) > config.get_max_udp_payload_size() {
            config
                .max_udp_payload_size(self.mtu_max)
                .map_err(|e| ConnectError::Config(e.to_string().into()))?;
        }
        let endpoint = Endpoint::new(config, None, udp, Arc::new(TokioRuntime)).map_err(socket)?;
        Ok((endpoint, buffers))
    }

    fn bind(&self, bind: SocketAddr) -> std::io::Result<(UdpSocket, SocketBuffers)> {
        let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
        if bind.is_ipv6() {
            // One socket for both families, where the system has it.
            let _ = socket.set_only_v6(false);
        }
        let asked = self.socket_buffer_bytes;
        let _ = socket.set_recv_buffer_size(asked);
        let _ = socket.set_send_buffer_size(asked);
        let buffers = SocketBuffers {
            asked,
            receive: socket.recv_buffer_size()?,
            send: socket.send_buffer_size()?,
        };
        if buffers.is_cut() {
            tracing::debug!(
                asked,
                receive = buffers.receive,
                send = buffers.send,
                "the kernel cut the socket's buffers: raise net.core.rmem_max and wmem_max"
            );
        }
        socket.bind(&bind.into())?;
        Ok((socket.into(), buffers))
    }
}

/// What the kernel granted for the socket's buffers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// What was asked for, each way.
    pub asked: usize,
    /// What there is for arriving packets (Linux counts its own book-keeping in, twice the size).
    pub receive: usize,
    /// What there is for leaving packets.
    pub send: usize,
}

impl SocketBuffers {
    /// Whether less was granted than asked for: bursts may then be lost. On Linux the sysctls
    /// `net.core.rmem_max` and `net.core.wmem_max` are the bound.
    pub fn is_cut(&self) -> bool {
        self.receive < self.asked || self.send < self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(t: &Transport, part: &str) {
        let e = t.to_quinn().expect_err("must be refused").to_string();
        assert!(e.contains(part), "{e:?} does not say {part:?}");
    }

    #[test]
    fn settings_that_would_lose_packets_are_refused() {
        let d = Transport::default();
        assert!(d.to_quinn().is_ok());
        refused(&Transport { mtu_max: 6_554, ..d.clone() }, "segmentation_offload");
        let jumbo = Transport { mtu_max: 9_000, segmentation_offload: false, ..d.clone() };
        assert!(jumbo.to_quinn().is_ok());
        refused(&Transport { mtu_initial: 1_500, ..d.clone() }, "mtu_max");
        refused(&Transport { mtu_initial: 900, ..d.clone() }, "1200");
        refused(&Transport { keep_alive: Some(Duration::from_secs(60)), ..d }, "keep_alive");
    }
}
