//! Connections from clients.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use metricd_l7::Recorder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time;
use tokio_rustls::TlsAcceptor;

use crate::destination::{Destination, Route};
use crate::forward::{self, Upstream};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For what is under way when the proxy stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Before accepting again when that failed, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection needs.
pub struct Proxy {
    /// Without it, clients speak plain HTTP.
    pub tls: Option<TlsAcceptor>,
    pub route: Route,
    pub upstream: Upstream,
    pub recorder: Recorder,
}

/// # Errors
/// As of [`Route::prepare`], and if the address is taken.
pub fn listen(address: SocketAddr, route: &Route) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    route.prepare(&socket)?;
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

/// The handshake if there is one, and then requests until the client has no more.
async fn converse(stream: TcpStream, client: IpAddr, proxy: Arc<Proxy>, watcher: Watcher) {
    let to = match proxy.route.destination(&stream) {
        Ok(to) => Arc::new(to),
        Err(error) => return tracing::warn!(%client, %error, "nowhere to go"),
    };
    let Some(tls) = &proxy.tls else {
        return answer(stream, client, to, proxy, watcher).await;
    };
    match time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, client, to, proxy, watcher).await,
        Ok(Err(error)) => tracing::debug!(%client, %error, "no handshake"),
        Err(_) => tracing::debug!(%client, "no handshake in time"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: IpAddr,
    to: Arc<Destination>,
    proxy: Arc<Proxy>,
    watcher: Watcher,
) {
    let service = service_fn(|request| {
        let (proxy, to) = (proxy.clone(), to.clone());
        async move {
            Ok::<_, Infallible>(
                forward::forward(request, client, &to, &proxy.upstream, &proxy.recorder).await,
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
