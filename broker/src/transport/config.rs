//! The limits of connections and streams.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tollgate_protocol::limits;

/// The limits of connections and streams, under `[limits]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Handshakes under way; beyond them a client's first packet is ignored, and it sends another.
    pub handshakes_max: usize,
    /// Handshakes under way from which a client must prove its address first (QUIC Retry).
    pub handshakes_retry_from: usize,
    /// How long a handshake may take, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// New connections a second from one source (an IPv4 address or an IPv6 /64).
    pub source_connections_per_second: u32,
    /// How many of them may come at once.
    pub source_connections_burst: u32,
    /// Whether connections from this machine are exempt from the limits of a source.
    pub source_loopback_exempt: bool,
    /// Connections of the process.
    pub connections_max: usize,
    /// Streams a connection may have open before its certificate is mapped to a tenant.
    pub streams_unknown: u32,
    /// Streams it may have open then; doubled whenever half of them are.
    pub streams_first: u32,
    /// Streams it may have open at most.
    pub streams_max: u32,
    /// How long the first frame of a stream may take, in milliseconds.
    pub first_frame_timeout_ms: u64,
    /// How long a frame may go without a new byte, in milliseconds.
    pub frame_timeout_ms: u64,
    /// How long results may wait without one byte taken, in milliseconds.
    pub reader_timeout_ms: u64,
    /// What a client may send on a stream ahead of the broker, in bytes.
    pub stream_window_bytes: u32,
    /// What it may send on a connection before its certificate is mapped to a tenant, in bytes.
    pub connection_window_unknown_bytes: u32,
    /// What it may send on a connection then, in bytes.
    pub connection_window_bytes: u32,
    /// What it may send on a connection at most, in bytes.
    pub connection_window_max_bytes: u32,
    /// What all connections of a tenant, or of a gateway, may raise their windows by, in bytes.
    pub window_pool_tenant_bytes: u32,
    /// What all connections of the process may raise their windows by, in bytes.
    pub window_pool_bytes: u32,
    /// What the broker sends on a connection ahead of its acknowledgement, in bytes.
    pub send_window_bytes: u64,
    /// A connection silent for this long is gone, in milliseconds.
    pub idle_timeout_ms: u32,
    /// An operation on which the broker was silent for this long gets an empty frame, in
    /// milliseconds.
    pub alive_interval_ms: u64,
    /// The largest frame that is read, in bytes after its prefix; at most 16 MiB.
    pub frame_bytes_max: usize,
    /// Streams that a peer resets without a cancel code, a second and connection.
    pub resets_per_second: u32,
    /// Streams ended without a completed operation, a second and connection.
    pub unfinished_per_second: u32,
    /// How many of those may come at once.
    pub unfinished_burst: u32,
    /// The memory of the process: from 70 % of it no new connections, from 85 % no new batches. 0
    /// takes the control group's limit, or the machine's memory.
    pub memory_bytes: u64,
    /// Buffers of the UDP socket, in bytes each way.
    pub socket_buffer_bytes: usize,
    /// The size of the first packets, in bytes of UDP payload.
    pub mtu_initial: u16,
    /// The largest packets looked for, in bytes of UDP payload.
    pub mtu_max: u16,
    /// Whether the kernel cuts trains of packets (GSO).
    pub segmentation_offload: bool,
    /// How many packets a client is asked to take before it acknowledges: fewer cost CPU at both ends.
    pub ack_threshold: u32,
    /// How long running batches may go on after a drain began, in milliseconds.
    pub drain_timeout_ms: u64,
    /// How long before its expiry a certificate's holder is told, in milliseconds.
    pub expiry_notice_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            handshakes_max: 256,
            handshakes_retry_from: 64,
            handshake_timeout_ms: 3_000,
            source_connections_per_second: 20,
            source_connections_burst: 40,
            source_loopback_exempt: true,
            connections_max: 4_096,
            streams_unknown: 8,
            streams_first: 16,
            streams_max: 256,
            first_frame_timeout_ms: 5_000,
            frame_timeout_ms: 10_000,
            reader_timeout_ms: 10_000,
            stream_window_bytes: 256 << 10,
            connection_window_unknown_bytes: 256 << 10,
            connection_window_bytes: 1 << 20,
            connection_window_max_bytes: 8 << 20,
            window_pool_tenant_bytes: 32 << 20,
            window_pool_bytes: 512 << 20,
            send_window_bytes: 1 << 20,
            idle_timeout_ms: 15_000,
            alive_interval_ms: 5_000,
            frame_bytes_max: limits::FRAME_BYTES_DEFAULT,
            resets_per_second: 1_000,
            unfinished_per_second: 500,
            unfinished_burst: 1_000,
            memory_bytes: 0,
            socket_buffer_bytes: 4 << 20,
            mtu_initial: 1_200,
            mtu_max: 1_452,
            segmentation_offload: true,
            ack_threshold: 40,
            drain_timeout_ms: 30_000,
            expiry_notice_ms: 60_000,
        }
    }
}

/// The most segments quinn hands to the kernel in one call.
const GSO_SEGMENTS: u32 = 10;
/// The largest train of packets the kernel takes; a larger one vanishes without an error.
const GSO_TRAIN_BYTES: u32 = 65_535;
/// Beyond this a sender learns too late what was lost.
const ACK_THRESHOLD_MAX: u32 = 255;

/// A setting that can not be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limits.{key} = {found}: {why}")]
pub struct BadLimit {
    /// The key, without its section.
    pub key: &'static str,
    /// What it is set to.
    pub found: u64,
    /// What is allowed, and why.
    pub why: &'static str,
}

impl Config {
    /// Finds the first setting that can not be honoured.
    ///
    /// # Errors
    /// [`BadLimit`], naming the key and what is allowed.
    pub fn check(&self) -> Result<(), BadLimit> {
        let bad = |key, found: u64, why| Err(BadLimit { key, found, why });
        if !(1_024..=limits::FRAME_BYTES_HARD_MAX).contains(&self.frame_bytes_max) {
            let found = self.frame_bytes_max as u64;
            return bad("frame_bytes_max", found, "must be from 1024 to 16777216");
        }
        if self.streams_max == 0 || self.streams_max > 4_096 {
            return bad("streams_max", self.streams_max.into(), "must be from 1 to 4096");
        }
        if self.stream_window_bytes < 16 << 10 {
            let found = self.stream_window_bytes.into();
            return bad("stream_window_bytes", found, "must be at least 16384");
        }
        if self.connection_window_bytes < self.stream_window_bytes {
            let found = self.connection_window_bytes.into();
            return bad("connection_window_bytes", found, "must be at least stream_window_bytes");
        }
        if self.mtu_initial < 1_200 {
            return bad("mtu_initial", self.mtu_initial.into(), "QUIC needs at least 1200");
        }
        if self.mtu_max < self.mtu_initial {
            return bad("mtu_max", self.mtu_max.into(), "must be at least mtu_initial");
        }
        if self.segmentation_offload && u32::from(self.mtu_max) * GSO_SEGMENTS > GSO_TRAIN_BYTES {
            let why = "at most 6553 with segmentation_offload: longer trains of packets are lost";
            return bad("mtu_max", self.mtu_max.into(), why);
        }
        if self.ack_threshold > ACK_THRESHOLD_MAX {
            return bad("ack_threshold", self.ack_threshold.into(), "must be at most 255");
        }
        if self.idle_timeout_ms < 1_000 {
            return bad("idle_timeout_ms", self.idle_timeout_ms.into(), "must be at least 1000");
        }
        Ok(())
    }
}

/// Reads a setting in milliseconds.
pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_asked_for_after_255_packets_at_most() {
        let of = |ack_threshold| Config { ack_threshold, ..Config::default() };
        assert!(of(0).check().is_ok() && of(255).check().is_ok());
        assert!(of(256).check().is_err());
    }
}
