//! A run: connections, warm-up, the measured part.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::{Protocol, grpc, http, pace, tcp};

/// Nanoseconds; a latency beyond is taken for this one.
const LONGEST: u64 = 60_000_000_000;

#[derive(Args)]
pub struct Flags {
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Where the server is; with several, connections are spread over them
    #[arg(long, value_delimiter = ',', required = true)]
    target: Vec<SocketAddr>,
    #[arg(long)]
    connections: usize,
    /// gRPC: calls at a time on each connection
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Requests a second in all, open loop. Without: closed loop, as many as there can be
    #[arg(long)]
    rate: Option<u32>,
    /// Closed loop: workers that are busy at a time; those of the connections take turns
    #[arg(long)]
    busy: Option<usize>,
    /// gRPC and TCP: bytes of a request
    #[arg(long, default_value_t = 0)]
    request: usize,
    /// Bytes of a response's body, message or, with TCP, of all of it
    #[arg(long)]
    response: usize,
    /// Seconds that are measured
    #[arg(long)]
    seconds: f64,
    /// Seconds before that
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
}

/// What one phase saw. Latencies in nanoseconds: from the intended start if the loop is open, from
/// the real one if it is closed.
struct Seen {
    latencies: Histogram<u64>,
    elapsed: Duration,
}

pub async fn run(flags: &Flags) -> Result<()> {
    let Flags {
        connections,
        request,
        response,
        ..
    } = *flags;
    let target = |number| flags.target[number % flags.target.len()];
    match flags.protocol {
        Protocol::Http => {
            let connect = |number| http::Client::connect(target(number), response);
            phases(flags, opened(connections, connect).await?).await
        }
        Protocol::Tcp => {
            let connect = |number| tcp::Client::connect(target(number), request, response);
            phases(flags, opened(connections, connect).await?).await
        }
        Protocol::Grpc => {
            let connect = |number| grpc::Client::connect(target(number), request, response);
            let clients = opened(connections, connect).await?;
            let calls = clients.into_iter();
            let calls = calls.flat_map(|client| vec![client; flags.streams]);
            phases(flags, calls.collect()).await
        }
    }
}

async fn opened<C: Send + 'static, F>(
    connections: usize,
    connect: impl Fn(usize) -> F,
) -> Result<Vec<C>>
where
    F: Future<Output = Result<C>> + Send + 'static,
{
    let mut opened = Vec::with_capacity(connections);
    let mut opening = JoinSet::new();
    for number in 0..connections {
        opening.spawn(connect(number));
        // No more SYNs at a time than a server's queue has room for.
        if opening.len() == 64 {
            opened.extend(opening.join_next().await.transpose()?.transpose()?);
        }
    }
    while let Some(one) = opening.join_next().await {
        opened.push(one??);
    }
    Ok(opened)
}

async fn phases<C: Caller>(flags: &Flags, callers: Vec<C>) -> Result<()> {
    let (mut callers, warm) = phase(flags, callers, flags.warm_up).await?;
    println!("ready");
    let mut lines = BufReader::new(stdin()).lines();
    while lines.next_line().await?.is_some() {
        let (same, seen) = phase(flags, callers, flags.seconds).await?;
        callers = same;
        let at = |quantile| seen.latencies.value_at_quantile(quantile);
        let report = json!({
            "requests": seen.latencies.len(),
            "warm_up": warm.latencies.len(),
            "connections": flags.connections,
            "elapsed": seen.elapsed.as_secs_f64(),
            "p50_ns": at(0.5),
            "p90_ns": at(0.9),
            "p99_ns": at(0.99),
            "p999_ns": at(0.999),
            "max_ns": seen.latencies.max(),
        });
        println!("{report}");
    }
    Ok(())
}

/// Gives the callers back, in another order.
async fn phase<C: Caller>(flags: &Flags, callers: Vec<C>, seconds: f64) -> Result<(Vec<C>, Seen)> {
    let latencies = Histogram::new_with_max(LONGEST, 3)?;
    let latencies = Arc::new(Mutex::new(latencies));
    let start = Instant::now();
    let length = Duration::from_secs_f64(seconds);
    let mut workers = JoinSet::new();
    match flags.rate {
        Some(rate) => {
            let mut queues = Vec::with_capacity(callers.len());
            for caller in callers {
                let (queue, starts) = unbounded_channel();
                queues.push(queue);
                workers.spawn(open(vec![caller], starts, latencies.clone()));
            }
            pace::pace(rate, length, &queues).await?;
        }
        None => {
            let busy = flags.busy.unwrap_or(callers.len()).min(callers.len());
            let mut shares: Vec<Vec<C>> = (0..busy).map(|_| Vec::new()).collect();
            for (number, caller) in callers.into_iter().enumerate() {
                shares[number % busy].push(caller);
            }
            for share in shares {
                workers.spawn(closed(share, start + length, latencies.clone()));
            }
        }
    }
    let mut callers = Vec::new();
    while let Some(worker) = workers.join_next().await {
        callers.extend(worker??);
    }
    let elapsed = start.elapsed();
    let latencies = Arc::into_inner(latencies).context("a worker is left")?;
    let latencies = latencies.into_inner().expect("nobody panicked");
    Ok((callers, Seen { latencies, elapsed }))
}

type Latencies = Arc<Mutex<Histogram<u64>>>;

fn record(latencies: &Latencies, since: Instant) {
    let nanoseconds = since.elapsed().as_nanos() as u64;
    let mut latencies = latencies.lock().expect("nobody panicked");
    latencies.saturating_record(nanoseconds);
}

async fn open<C: Caller>(
    mut callers: Vec<C>,
    mut starts: UnboundedReceiver<Instant>,
    latencies: Latencies,
) -> Result<Vec<C>> {
    while let Some(intended) = starts.recv().await {
        callers[0].call().await?;
        record(&latencies, intended);
    }
    Ok(callers)
}

async fn closed<C: Caller>(
    mut callers: Vec<C>,
    end: Instant,
    latencies: Latencies,
) -> Result<Vec<C>> {
    for turn in 0.. {
        let start = Instant::now();
        if start >= end {
            break;
        }
        let turn: usize = turn % callers.len();
        callers[turn].call().await?;
        record(&latencies, start);
    }
    Ok(callers)
}
