//! A reverse proxy that ends TLS, and records what only it sees by metricd's library. It can also be
//! what a pod's connections are redirected to.
//!
//! See README.md beside this file.

mod destination;
mod forward;
mod recorded;
mod serve;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use metricd::logging;
use metricd::web;
use metricd_l7::Recorder;

use destination::{Route, Way};
use forward::Upstream;
use serve::Proxy;

/// Takes HTTPS or HTTP (HTTP/1.1 and HTTP/2, by ALPN or by prior knowledge), asks an upstream in plain HTTP, and records every
/// request where METRICD_L7_FILE says.
#[derive(Parser)]
#[command(name = "proxy")]
struct Args {
    /// Address to listen on; several processes may share one
    #[arg(long, env = "PROXY_LISTEN", default_value = "[::]:8443")]
    listen: SocketAddr,

    /// Address of the application
    #[arg(long, env = "PROXY_UPSTREAM", default_value = "127.0.0.1:8080")]
    upstream: SocketAddr,

    /// Take connections that are redirected here, and pass each on to where it was to go
    #[arg(
        long,
        env = "PROXY_TRANSPARENT",
        value_name = "WAY",
        conflicts_with = "upstream"
    )]
    transparent: Option<Way>,

    /// The application speaks HTTP/2 without TLS (h2c, by prior knowledge)
    #[arg(long, env = "PROXY_H2C")]
    h2c: bool,

    /// The certificate with its chain, in PEM; without one it is plain HTTP
    #[arg(long, env = "PROXY_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// The certificate's key, in PEM
    #[arg(long, env = "PROXY_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// Threads
    #[arg(long, env = "PROXY_WORKERS", default_value_t = 4)]
    workers: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    logging::start();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.max(1))
        .enable_all()
        .build()?
        .block_on(run(args))
}

async fn run(args: Args) -> Result<()> {
    let recorder = Recorder::from_env();
    tokio::spawn(recorder.clone().run_sync_loop());
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => Some(tls::acceptor(cert, key)?),
        _ => None,
    };
    let route = match args.transparent {
        Some(way) => Route::Original(way, args.listen.port()),
        None => Route::Application(args.upstream),
    };
    let listener =
        serve::listen(args.listen, &route).with_context(|| format!("listen on {}", args.listen))?;
    let proxy = Proxy {
        tls,
        route,
        upstream: Upstream::new(args.h2c),
        recorder,
    };
    let listen = listener.local_addr()?;
    match args.transparent {
        Some(_) => tracing::info!(%listen, "proxying what is redirected here"),
        None => tracing::info!(%listen, upstream = %args.upstream, "proxying"),
    }
    serve::serve(listener, proxy, web::stop_signal()?).await;
    Ok(())
}
