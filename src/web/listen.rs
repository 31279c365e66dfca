//! Listening sockets.

use std::{
    future::Future,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    time,
};

/// How many connections the kernel keeps waiting while all places are taken.
const BACKLOG: u32 = 128;
/// Bytes that the kernel takes off a slow reader's scrape; it would keep megabytes, on the pod's
/// account.
const SEND_BUFFER: u32 = 64 << 10;
/// How long sent bytes, or the question for room, may go unanswered before the kernel gives the
/// connection up. A reader that has stopped reading does not keep its place for ever.
const STALLED: Duration = Duration::from_secs(10);
/// How long what is under way may take when a server stops.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before accepting again when that failed, for lack of file descriptors for
/// example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

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
    // Connections inherit the size of the buffer.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `places` connections at a time, more wait in the backlog, until `shutdown`; then
/// finishes what is under way, which learns it by the channel that is closed.
pub async fn serve<F>(
    listener: TcpListener,
    places: u32,
    shutdown: impl Future<Output = ()>,
    converse: impl Fn(TcpStream, watch::Receiver<()>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(places as usize));
    let (stop, stopped) = watch::channel(());
    let accept = async {
        loop {
            let place = free.clone().acquire_owned().await;
            match accept(&listener).await {
                Ok(stream) => {
                    let conversation = converse(stream, stopped.clone());
                    tokio::spawn(async move {
                        conversation.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    drop(listener);
    drop(stop);
    let all_gone = free.acquire_many(places);
    if time::timeout(STOP_TIMEOUT, all_gone).await.is_err() {
        tracing::info!("stopping with connections open");
    }
}

/// Accepts the next connection.
///
/// # Errors
///
/// Not for what concerns a single connection, only for what the next call would meet as well.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
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
