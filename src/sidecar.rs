//! The HTTP server: `/metrics`, `/diagnose`, `/ready`, `/live` and a page that shows them.
//!
//! It sleeps until a request comes in; there is no work between scrapes.

#![forbid(unsafe_code)]

mod body;
mod l7;
mod negotiate;
mod page;
mod pins;

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use http_body_util::{Either, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY},
};
use tokio::{net::TcpListener, task::coop, time};

use crate::kernel::options::{self, ReadBy};
use crate::kernel::pin_dir::PinDir;
use crate::read::diagnose::{BETWEEN, Tally, diagnose};
use crate::read::prometheus::{Exposition, Format, Walk};
use crate::web::{http, listen};
use l7::Proxy;
use pins::Pins;

/// Where to serve, unless told otherwise: all addresses of both families.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), options::PORT);

/// The query of a scrape that is to show all series, also those that have not changed for long.
pub const WHOLE: &str = "show-idle=0";

/// Connections at a time; more wait in the backlog.
const CONNECTIONS: u32 = 64;

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct SidecarConfig {
    /// The directory with the pinned maps. It may be empty as yet.
    pub pin_dir: PinDir,
    /// How the maps are read.
    pub read: ReadBy,
    /// What a proxy of this pod records into, if there is one.
    pub l7_file: Option<PathBuf>,
    /// For how long a series is shown that does not change; 0 is for ever.
    pub show_idle: Duration,
    pub listen: SocketAddr,
}

/// A server that listens; connections wait until [`Server::serve`].
pub struct Server {
    listener: TcpListener,
    pins: Arc<Pins>,
    proxy: Arc<Proxy>,
}

impl Server {
    /// Listens, within a runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be had.
    pub fn bind(config: SidecarConfig) -> Result<Self> {
        Ok(Self {
            listener: listen::bind(config.listen)?,
            pins: Arc::new(Pins::new(config.pin_dir, config.read, config.show_idle)),
            proxy: Arc::new(Proxy::new(config.l7_file, config.read)),
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
        let (pins, proxy) = (self.pins, self.proxy);
        listen::serve(self.listener, CONNECTIONS, shutdown, |stream, stopped| {
            let (pins, proxy) = (pins.clone(), proxy.clone());
            http::converse(stream, stopped, move |request| {
                let (pins, proxy) = (pins.clone(), proxy.clone());
                async move { answer(&request, &pins, &proxy).await }
            })
        })
        .await;
    }
}

/// [`Server::bind`] and [`Server::serve`] in one.
///
/// # Errors
///
/// When the address cannot be had.
pub async fn serve(config: SidecarConfig, shutdown: impl Future<Output = ()>) -> Result<()> {
    let pin_dir = config.pin_dir.to_string();
    let server = Server::bind(config)?;
    tracing::info!(listen = %server.local_addr()?, pin_dir, "serving metrics");
    server.serve(shutdown).await;
    Ok(())
}

type Body = Either<Full<Bytes>, body::Scrape>;

async fn answer(request: &Request<Incoming>, pins: &Pins, proxy: &Proxy) -> Response<Body> {
    if let Some(refusal) = http::refuse(request, &["/", "/metrics", "/diagnose", "/ready", "/live"])
    {
        return refusal.map(Either::Left);
    }
    let page = match request.uri().path() {
        "/metrics" => {
            let format = negotiate::format(request);
            let (reading, proxied) = (pins.read().await, proxy.read().await);
            let mut exposition = Exposition::new(reading, proxied, format);
            if !negotiate::asks(request, WHOLE) {
                exposition = exposition.without_idle();
            }
            let may_gzip = negotiate::accepts_gzip(request.headers());
            return scrape(body::Scrape::new(exposition, may_gzip), format);
        }
        "/ready" => match pins.probe().await {
            Ok(()) => http::text(StatusCode::OK, "ready\n"),
            Err(error) => http::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        "/live" => http::text(StatusCode::OK, "live\n"),
        "/diagnose" => diagnosis(pins, proxy).await,
        _ => page::page(),
    };
    page.map(Either::Left)
}

fn scrape(body: body::Scrape, format: Format) -> Response<Body> {
    let gzip = body.is_gzip();
    let mut response = Response::new(Either::Right(body));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Reads twice, and answers with what the two readings tell of the pipeline.
async fn diagnosis(pins: &Pins, proxy: &Proxy) -> Response<Full<Bytes>> {
    let first = tally(pins, proxy).await;
    time::sleep(BETWEEN).await;
    let second = tally(pins, proxy).await;
    match serde_json::to_string_pretty(&diagnose(&first, &second)) {
        Ok(json) => http::full(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => http::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Adds up what would be exported now.
async fn tally(pins: &Pins, proxy: &Proxy) -> Tally {
    let mut tally = Tally::default();
    let mut walk = Walk::new(pins.read().await, proxy.read().await);
    while walk.step(&mut tally) {
        // So that others have their turn.
        coop::consume_budget().await;
    }
    tally
}

#[cfg(test)]
mod tests;
