//! The load of the side-by-side benchmarks, and the servers that no package brings.
//!
//! `bench-load run` opens its connections, warms up and says "ready". For each line that it is given
//! it makes its requests and prints what it saw as JSON; it ends with its standard input.

mod caller;
mod grpc;
mod http;
mod pace;
mod run;
mod tcp;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Parser)]
enum Cli {
    /// Make requests
    Run(run::Flags),
    /// Answer them
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    #[command(subcommand)]
    what: Server,
}

#[derive(Subcommand)]
enum Server {
    /// gRPC without TLS: every call is answered with one message
    Grpc {
        #[arg(long)]
        listen: SocketAddr,
        /// Bytes of a response's message
        #[arg(long)]
        response: usize,
    },
    /// Reads so many bytes, answers with so many, again and again
    Tcp {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        request: usize,
        #[arg(long)]
        response: usize,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    Http,
    Grpc,
    Tcp,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli {
            Cli::Run(flags) => run::run(&flags).await,
            Cli::Serve(serve) => match serve.what {
                Server::Grpc { listen, response } => grpc::serve(listen, response).await,
                Server::Tcp {
                    listen,
                    request,
                    response,
                } => tcp::serve(listen, request, response).await,
            },
        }
    })
}
