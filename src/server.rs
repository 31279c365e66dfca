//! The HTTP server: `/metrics`, `/ready`, `/live` and a page that links them.
//!
//! It sleeps until a request comes in; there is no work between scrapes.

#![forbid(unsafe_code)]

mod body;
mod listen;
mod pins;

use std::{
    convert::Infallible, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Duration,
};

use anyhow::Result;
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    time,
};

use crate::metrics::{self, Exposition};
use pins::Pins;

/// Connections at a time; more wait in the backlog.
const CONNECTIONS: u32 = 64;
/// For a request's head, and for an idle connection to get its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_SIZE: usize = 16 << 10;
/// For what is under way when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Before accepting again when that failed, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory with the pinned iterators. It may be empty as yet.
    pub pin_dir: PathBuf,
    pub listen: SocketAddr,
}

/// A server that listens; connections wait until [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    pins: Arc<Pins>,
}

impl Server {
    /// Listens, within a runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn bind(config: Config) -> Result<Self> {
        Ok(Self {
            listener: listen::bind(config.listen)?,
            pins: Arc::new(Pins::new(config.pin_dir)),
        })
    }

    /// The address with the port that was really taken.
    ///
    /// # Errors
    ///
    /// What the socket call says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then finishes what is under way.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let (stop, stopped) = watch::channel(());
        let accept = async {
            loop {
                let place = places.clone().acquire_owned().await;
                match listen::accept(&self.listener).await {
                    Ok(stream) => {
                        let (pins, stopped) = (self.pins.clone(), stopped.clone());
                        tokio::spawn(async move {
                            converse(stream, pins, stopped).await;
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
        drop(self.listener);
        drop(stop);
        let all_gone = places.acquire_many(CONNECTIONS);
        if time::timeout(STOP_TIMEOUT, all_gone).await.is_err() {
            tracing::info!("stopping with connections open");
        }
    }
}

/// [`Server::bind`] and [`Server::serve`] in one.
///
/// # Errors
///
/// When the address cannot be had.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let pin_dir = config.pin_dir.display().to_string();
    let server = Server::bind(config)?;
    tracing::info!(listen = %server.local_addr()?, pin_dir, "serving metrics");
    server.serve(shutdown).await;
    Ok(())
}

/// A runtime that fits the server: one thread, and a small second one while pins are read.
///
/// # Errors
///
/// When the kernel refuses what it is made of.
pub fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(256 << 10)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When they cannot be listened to.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, pins: Arc<Pins>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(|request| {
        let pins = pins.clone();
        async move { Ok::<_, Infallible>(answer(&request, &pins).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        // The sender is never used, only dropped.
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // The client's doing: gone, too slow, or not HTTP.
        tracing::debug!(%error, "a connection ended");
    }
}

type Body = Either<Full<Bytes>, body::Scrape>;

async fn answer(request: &Request<Incoming>, pins: &Pins) -> Response<Body> {
    let path = request.uri().path();
    if !matches!(path, "/" | "/metrics" | "/ready" | "/live") {
        return text(StatusCode::NOT_FOUND, "not found; see /\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        let allow = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allow);
        return response;
    }
    match path {
        "/metrics" => {
            let exposition = Exposition::new(pins.read().await);
            let may_gzip = body::accepts_gzip(request.headers());
            scrape(body::Scrape::new(exposition, may_gzip))
        }
        "/ready" => match pins.probe().await {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        "/live" => text(StatusCode::OK, "live\n"),
        _ => full(StatusCode::OK, "text/html; charset=utf-8", PAGE),
    }
}

fn scrape(body: body::Scrape) -> Response<Body> {
    let gzip = body.is_gzip();
    let mut response = Response::new(Either::Right(body));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(metrics::CONTENT_TYPE),
    );
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    full(status, "text/plain; charset=utf-8", text)
}

fn full(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(content.into())));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<title>metricd</title>\n<h1>metricd ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n\
     <p>Request metrics of this pod, collected in the kernel.</p>\n\
     <ul>\n\
     <li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>\n\
     <li><a href=\"/ready\">/ready</a>: whether the kernel's maps can be read</li>\n\
     <li><a href=\"/live\">/live</a>: whether this process answers</li>\n\
     </ul>\n</html>\n"
);

#[cfg(test)]
mod tests;
