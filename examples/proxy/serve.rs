//! Connections from clients.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use metricd::l7::Recorder;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::forward::{self, Upstream};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For what is under way when the proxy stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Before accepting again when that failed, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection needs.
pub struct Proxy {
    pub tls: TlsAcceptor,
    pub upstream: Upstream,
    pub recorder: Recorder,
}

/// Listens, beside other processes that do so on the same address.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves until `shutdown`, then finishes what is under way.
pub async fn serve(listener: TcpListener, proxy: Proxy, shutdown: impl Future<Output = ()>) {
    let proxy = Arc::new(proxy);
    let open = GracefulShutdown::new();
    let accepting = async {
        loop {
            match accept(&listener).await {
                Ok((stream, client)) => {
                    tokio::spawn(converse(stream, client, proxy.clone(), open.watcher()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    let _ = time::timeout(STOP_TIMEOUT, open.shutdown()).await;
}

/// The next connection, and who made it.
async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    let (stream, client) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, client.ip().to_canonical()))
}

/// The handshake, and then requests until the client has no more.
async fn converse(
    stream: TcpStream,
    client: IpAddr,
    proxy: Arc<Proxy>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let handshake = time::timeout(HANDSHAKE_TIMEOUT, proxy.tls.accept(stream)).await;
    let stream: TlsStream<TcpStream> = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%client, %error, "no handshake"),
        Err(_) => return tracing::debug!(%client, "no handshake in time"),
    };
    let service = service_fn(|request| {
        let proxy = proxy.clone();
        async move {
            Ok::<_, Infallible>(
                forward::forward(request, client, &proxy.upstream, &proxy.recorder).await,
            )
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    http.http2().timer(TokioTimer::new());
    let connection = http
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        // The client's doing: gone, or not HTTP.
        tracing::debug!(%client, %error, "a connection ended");
    }
}
