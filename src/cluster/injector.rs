//! The webhook that puts metricd into pods as they are made, by [`crate::cluster::inject`].
//!
//! An API server asks it by TLS; the kubelet and Prometheus by plain HTTP on a port of its own.
//! Whatever is wrong with us, no pod is kept from being made: every answer allows.

#![forbid(unsafe_code)]

mod admin;
mod admission;
mod body;
mod cluster;
mod events;
mod metrics;
mod refusal;
mod tls;
mod webhook;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use hyper::{
    header::{CONNECTION, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{net::TcpStream, sync::watch, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::cluster::inject;
use crate::web::{http, listen};
use admin::Admin;
use cluster::Cluster;
use metrics::Metrics;
use tls::Certificates;
use webhook::Webhook;

/// Connections of API servers at a time, and of others; more wait in the backlog.
const CONNECTIONS: u32 = 256;
const ADMIN_CONNECTIONS: u32 = 64;
/// From TCP's handshake to the end of that of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Then a connection is to be made anew, over HTTP/1.1 behind the next answer. So none keeps its
/// place for ever, and API servers, which keep to one connection, come upon every replica.
const AGE: Duration = Duration::from_secs(300);
/// A connection over HTTP/1.1 that has nothing to do. An API server closes its own after 90 s without
/// use (apimachinery's and Go's default), and is to be the one who does it: a review that it sends at
/// the moment in which we close is lost, and its pod is without metricd.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Between questions whether an HTTP/2 client still lives, and for its answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that an HTTP/2 client may send before we have read what it sent.
const WINDOW: u32 = 256 << 10;
/// Some time passes until every node knows that this replica is no more. A review that is sent
/// meanwhile and not answered is a pod without metricd.
const DRAIN: Duration = Duration::from_secs(5);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct InjectorConfig {
    /// For reviews, by TLS.
    pub listen: SocketAddr,
    /// For `/metrics`, `/ready` and `/live`, by plain HTTP.
    pub admin: SocketAddr,
    /// The folder with tls.crt and tls.key. They may be replaced, and need not be there as yet.
    pub tls_dir: PathBuf,
    /// What to inject.
    pub inject: inject::InjectConfig,
}

/// Serves until `shutdown`, then a little longer.
///
/// # Errors
///
/// When an address cannot be had, or nothing tells where the API server is.
pub async fn serve(config: InjectorConfig, shutdown: impl Future<Output = ()>) -> Result<()> {
    let reviews = listen::bind(config.listen)?;
    let questions = listen::bind(config.admin)?;
    tracing::info!(
        listen = %reviews.local_addr()?,
        admin = %questions.local_addr()?,
        "serving"
    );
    let metrics = Arc::new(Metrics::new());
    let certificates = Arc::new(Certificates::new(config.tls_dir, metrics.clone()));
    let _ = certificates.current(); // to say at once what is wrong
    let cluster = Cluster::start(metrics.clone()).await?;
    let webhook = Arc::new(Webhook::new(
        &config.inject,
        cluster.clone(),
        metrics.clone(),
    ));
    let (stop, stopping) = watch::channel(false);
    let admin = Arc::new(Admin {
        certificates: certificates.clone(),
        cluster,
        metrics: metrics.clone(),
        stopping,
    });

    let reviews = async {
        let shutdown = async {
            shutdown.await;
            stop.send_replace(true);
            time::sleep(DRAIN).await;
        };
        listen::serve(reviews, CONNECTIONS, shutdown, |stream, stopped| {
            let (certificates, metrics) = (certificates.clone(), metrics.clone());
            let webhook = webhook.clone();
            async move {
                match handshake(stream, &certificates).await {
                    Ok(stream) => converse(stream, webhook, stopped).await,
                    Err(error) => {
                        metrics.handshake_failure();
                        tracing::debug!("a handshake: {error:#}");
                    }
                }
            }
        })
        .await;
    };
    let questions = listen::serve(
        questions,
        ADMIN_CONNECTIONS,
        std::future::pending(),
        |stream, stopped| {
            let admin = admin.clone();
            http::converse(stream, stopped, move |request| {
                let admin = admin.clone();
                async move { admin.answer(&request) }
            })
        },
    );
    tokio::select! {
        () = reviews => {}
        () = questions => {}
    }
    Ok(())
}

async fn handshake(stream: TcpStream, certificates: &Certificates) -> Result<TlsStream<TcpStream>> {
    let acceptor = TlsAcceptor::from(certificates.current()?);
    Ok(time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??)
}

/// Answers the requests of one connection.
async fn converse(
    stream: TlsStream<TcpStream>,
    webhook: Arc<Webhook>,
    mut stopped: watch::Receiver<()>,
) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(http::HEAD_SIZE)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(http::HEAD_SIZE as u32)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let builder = match is_http2 {
        true => builder.http2_only(),
        false => builder.http1_only(),
    };
    let begun = Instant::now();
    let service = service_fn(|request| {
        let webhook = webhook.clone();
        async move {
            let mut response = webhook.answer(request).await;
            if !is_http2 && begun.elapsed() > AGE {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = &mut connection => Ok(result),
        // The sender is never used, only dropped.
        _ = stopped.changed() => Err(()),
        () = time::sleep(AGE), if is_http2 => Err(()),
    };
    let result = match result {
        Ok(result) => result,
        Err(()) => {
            connection.as_mut().graceful_shutdown();
            match time::timeout(listen::STOP_TIMEOUT, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        // The client's doing: gone, too slow, or not HTTP.
        tracing::debug!(%error, "a connection ended");
    }
}
