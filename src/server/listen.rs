//! Listening sockets.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How many connections the kernel keeps waiting while all places are taken.
const BACKLOG: u32 = 128;
/// Bytes that the kernel takes off a slow reader's scrape; it would keep megabytes, on the pod's
/// account.
const SEND_BUFFER: u32 = 64 << 10;
/// How long sent bytes, or the question for room, may go unanswered before the kernel gives the
/// connection up. A reader that has stopped reading does not keep its place for ever.
const STALLED: Duration = Duration::from_secs(10);

/// Listens on `address`. An IPv6 address that is unspecified takes IPv4 as well, and is replaced
/// by IPv4's where the kernel has no IPv6.
///
/// # Errors
///
/// What the socket calls say.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let result = bind_to(address);
    let result = match &result {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(error) => {
            bind_to((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        _ => result,
    };
    result.with_context(|| format!("listening on {address}"))
}

fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() {
        let socket = TcpSocket::new_v6()?;
        // The default is a sysctl's to say.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        socket
    } else {
        TcpSocket::new_v4()?
    };
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts the next connection.
///
/// # Errors
///
/// Not for what concerns a single connection, only for what the next call would meet as well.
pub async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Both only help: without them the connection works too.
                let _ = stream.set_nodelay(true);
                let milliseconds = STALLED.as_millis() as u32;
                let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &milliseconds);
                return Ok(stream);
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                _ => return Err(error),
            },
        }
    }
}
