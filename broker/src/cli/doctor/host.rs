//! This machine: the buffers of its UDP sockets.

use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::Findings;
use crate::cli::format::bytes;

/// What brokers and clients ask for, each way.
const WANTED_BYTES: usize = 4 << 20;

pub(super) fn examine(findings: &mut Findings) {
    let (receive, send) = match granted() {
        Ok(granted) => granted,
        Err(e) => return findings.warn("buffers", format!("no UDP socket can be opened: {e}")),
    };
    let (got_in, got_out) = (bytes(receive as u64), bytes(send as u64));
    if receive.min(send) >= WANTED_BYTES {
        let values = json!({ "wanted": WANTED_BYTES, "receive": receive, "send": send });
        return findings.good("buffers", format!("UDP: {got_in} in, {got_out} out"), values);
    }
    let maximum = |name: &str| {
        let read = std::fs::read_to_string(format!("/proc/sys/net/core/{name}"));
        read.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    };
    findings.warn(
        "buffers",
        format!(
            "UDP: {got_in} in, {got_out} out, where {} were asked for; bursts will be lost. As \
             root: sysctl -w net.core.rmem_max={WANTED_BYTES} net.core.wmem_max={WANTED_BYTES} \
             (now {} and {})",
            bytes(WANTED_BYTES as u64),
            maximum("rmem_max"),
            maximum("wmem_max"),
        ),
    );
}

/// What the kernel grants. Linux counts its own book-keeping in: twice what was asked for.
fn granted() -> std::io::Result<(usize, usize)> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Cut to the maximum, silently, where it is more.
    let _ = socket.set_recv_buffer_size(WANTED_BYTES);
    let _ = socket.set_send_buffer_size(WANTED_BYTES);
    Ok((socket.recv_buffer_size()?, socket.send_buffer_size()?))
}
