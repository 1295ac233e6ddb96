//! The UDP socket, with buffers that hold a burst.

use std::{io, net::SocketAddr, net::UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds a UDP socket with buffers of `buffer_bytes` each way, as far as the kernel grants them.
///
/// # Errors
/// When the address can not be bound.
pub(super) fn bind(addr: SocketAddr, buffer_bytes: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    // Granted only in part, or not at all: slower, not wrong.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    // Linux counts its own bookkeeping in, and reports twice what it was asked for.
    let granted = socket.recv_buffer_size()?.min(socket.send_buffer_size()?);
    if granted < buffer_bytes {
        tracing::warn!(
            asked = buffer_bytes,
            granted,
            "the kernel cut the UDP buffers: bursts of handshakes and bulk transfers suffer; \
             raise net.core.rmem_max and net.core.wmem_max to at least the size asked for"
        );
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
