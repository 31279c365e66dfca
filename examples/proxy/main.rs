//! A reverse proxy that ends TLS, and records what only it sees by metricd's library.
//!
//! See README.md beside this file.

mod forward;
mod recorded;
mod serve;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use metricd::l7::Recorder;
use metricd::{logging, server};

use forward::Upstream;
use serve::Proxy;

/// Takes HTTPS (HTTP/1.1 and HTTP/2, by ALPN), asks an upstream in plain HTTP, and records every
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

    /// The application speaks HTTP/2 without TLS (h2c, by prior knowledge)
    #[arg(long, env = "PROXY_H2C")]
    h2c: bool,

    /// The certificate with its chain, in PEM
    #[arg(long, env = "PROXY_CERT", value_name = "FILE")]
    cert: PathBuf,

    /// The certificate's key, in PEM
    #[arg(long, env = "PROXY_KEY", value_name = "FILE")]
    key: PathBuf,

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
    let proxy = Proxy {
        tls: tls::acceptor(&args.cert, &args.key)?,
        upstream: Upstream::new(args.upstream, args.h2c),
        recorder,
    };
    let listener = serve::listen(args.listen)?;
    tracing::info!(listen = %listener.local_addr()?, upstream = %args.upstream, "proxying");
    serve::serve(listener, proxy, server::stop_signal()?).await;
    Ok(())
}
