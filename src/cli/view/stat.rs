//! `linkerd-metricd stat`: requests and connections once, by server port and by peer.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;
use tokio::time;

use super::source::{Source, SourceArgs};
use super::table::{self, NONE, bytes, latency, percent};
use super::traffic::{Counts, Traffic};
use crate::cluster::client;
use crate::duration::duration;

/// What to show, and of whom.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub source: SourceArgs,

    /// How long to look
    #[arg(
        long,
        short,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration,
        conflicts_with = "total"
    )]
    window: Duration,

    /// What was counted since the programs were attached, rather than rates
    #[arg(long)]
    total: bool,

    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How to write what was found: as a table or as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// Reads the source, and returns what there is to see.
///
/// # Errors
/// If the source does not answer, or nothing is counted there.
pub fn run(options: &Options) -> Result<String> {
    let traffic = client::block_on(async {
        let source = options.source.open().await?;
        let first = read(&source).await?;
        if options.total {
            return Ok(first);
        }
        time::sleep(options.window).await;
        Ok::<_, anyhow::Error>(read(&source).await?.since(&first))
    })??;
    Ok(match options.output {
        Output::Table => tables(&traffic),
        Output::Json => json(&traffic)?,
    })
}

/// A scrape, as numbers.
///
/// # Errors
/// If the source does not answer, or nothing is counted there.
pub async fn read(source: &Source) -> Result<Traffic> {
    let text = source.scrape().await?;
    Traffic::read(&text).map_err(|e| e.context(source.name.clone()))
}

/// Rows under headings.
pub struct Table {
    pub headings: Vec<&'static str>,
    /// How many columns are no numbers.
    pub left: usize,
    pub rows: Vec<Vec<String>>,
}

/// What the peers' table says where it has no latencies.
pub const NOT_BY_PEER: &str =
    "latency is kept by server port, not by peer; --detail full of metricd-init keeps both";

/// All of a direction, whatever the port and the peer: what comes in, what goes out and, where there is some,
/// what else there is.
pub fn directions(traffic: &Traffic) -> Table {
    let headings = ["DIRECTION", "SUCCESS", requests_heading(traffic), "ABORTED"];
    let rows = traffic.directions().into_iter().map(|direction| {
        let total = traffic.total(direction);
        let mut row = vec![text(direction), percent(total.success_rate())];
        row.push(requests(traffic, total.requests));
        row.push(format!("{:.0}", total.aborted));
        row.extend(latencies(&total));
        row
    });
    Table {
        left: 1,
        rows: rows.collect(),
        headings: headings.into_iter().chain(LATENCIES).collect(),
    }
}

/// By server port, and by route where routes are told apart.
pub fn servers(traffic: &Traffic, sort: Sort) -> Table {
    let routes = traffic.servers.keys().any(|key| !key.route.is_empty());
    let mut headings = vec!["DIRECTION", "PORT", "PROTOCOL"];
    if routes {
        headings.push("ROUTE");
    }
    let left = headings.len();
    headings.extend(["SUCCESS", requests_heading(traffic), "ABORTED"]);
    headings.extend(LATENCIES);
    let rows = sorted(&traffic.servers, sort)
        .into_iter()
        .map(|(key, counts)| {
            let mut row = vec![text(&key.direction), text(&key.port), text(&key.protocol)];
            if routes {
                row.push(text(&key.route));
            }
            row.push(percent(counts.success_rate()));
            row.push(requests(traffic, counts.requests));
            row.push(format!("{:.0}", counts.aborted));
            row.extend(latencies(counts));
            row
        });
    Table {
        left,
        rows: rows.collect(),
        headings,
    }
}

/// By peer, with what there is without requests, too.
pub fn peers(traffic: &Traffic, sort: Sort) -> Table {
    let rate = |bytes_or_total| match traffic.window {
        Some(window) => bytes_or_total / window.as_secs_f64(),
        None => bytes_or_total,
    };
    let origins = traffic.peers.keys().any(|key| !key.origin.is_empty());
    let mut headings = vec!["DIRECTION", "PEER", "PORT", "PROTO"];
    if origins {
        headings.push("ORIGIN");
    }
    let left = headings.len();
    headings.extend(["SUCCESS", requests_heading(traffic), "ABORTED", "TCP_CONN"]);
    headings.extend(match traffic.window {
        Some(_) => ["READ_BYTES/SEC", "WRITE_BYTES/SEC"],
        None => ["READ_BYTES", "WRITE_BYTES"],
    });
    if traffic.durations_by_peer {
        headings.extend(LATENCIES);
    }
    let rows = sorted(&traffic.peers, sort)
        .into_iter()
        .map(|(key, counts)| {
            let parts = [&key.direction, &key.ip, &key.port, &key.proto];
            let mut row: Vec<String> = parts.iter().map(|part| text(part)).collect();
            if origins {
                row.push(text(&key.origin));
            }
            row.push(percent(counts.success_rate()));
            row.push(match counts.requests {
                0.0 => NONE.into(),
                count => requests(traffic, count),
            });
            row.push(format!("{:.0}", counts.aborted));
            row.push(format!("{:.0}", counts.active));
            row.push(bytes(rate(counts.received)));
            row.push(bytes(rate(counts.sent)));
            if traffic.durations_by_peer {
                row.extend(latencies(counts));
            }
            row
        });
    Table {
        left,
        rows: rows.collect(),
        headings,
    }
}

const LATENCIES: [&str; 3] = ["LATENCY_P50", "LATENCY_P95", "LATENCY_P99"];

fn latencies(counts: &Counts) -> [String; 3] {
    [0.5, 0.95, 0.99].map(|q| latency(counts.duration.quantile(q)))
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Most requests, then most bytes.
    Requests,
    /// Most that was answered with an error or aborted.
    Failures,
    /// Slowest.
    Latency,
    /// Most bytes.
    Bytes,
}

impl Sort {
    /// The next one, in a circle.
    pub fn next(self) -> Self {
        match self {
            Self::Requests => Self::Failures,
            Self::Failures => Self::Latency,
            Self::Latency => Self::Bytes,
            Self::Bytes => Self::Requests,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Failures => "failures",
            Self::Latency => "p99",
            Self::Bytes => "bytes",
        }
    }

    fn order(self, a: &Counts, b: &Counts) -> Ordering {
        let more = |of: fn(&Counts) -> f64| of(b).total_cmp(&of(a));
        let busier = more(|c| c.requests).then(more(|c| c.received + c.sent));
        match self {
            Self::Requests => busier,
            Self::Failures => more(|c| c.failure + c.aborted).then(busier),
            Self::Latency => more(|c| c.duration.quantile(0.99).unwrap_or(-1.0)).then(busier),
            Self::Bytes => more(|c| c.received + c.sent),
        }
    }
}

fn sorted<K>(counts: &BTreeMap<K, Counts>, sort: Sort) -> Vec<(&K, &Counts)> {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|(_, a), (_, b)| sort.order(a, b));
    sorted
}

fn requests_heading(traffic: &Traffic) -> &'static str {
    match traffic.window {
        Some(_) => "RPS",
        None => "REQUESTS",
    }
}

fn requests(traffic: &Traffic, count: f64) -> String {
    match traffic.window {
        Some(window) => format!("{:.1}rps", count / window.as_secs_f64()),
        None => format!("{count:.0}"),
    }
}

fn text(label: &str) -> String {
    match label {
        "" => NONE.into(),
        label => label.into(),
    }
}

fn tables(traffic: &Traffic) -> String {
    if traffic.servers.is_empty() && traffic.peers.is_empty() {
        return match traffic.window {
            Some(window) => format!("no traffic within {}s\n", window.as_secs_f64().round()),
            None => "no traffic so far\n".into(),
        };
    }
    let show = |table: Table| table::render(&table.headings, &table.rows, table.left);
    let mut shown = String::new();
    if !traffic.servers.is_empty() {
        shown += &format!("{}\n", show(directions(traffic)));
        shown += &format!("{}\n", show(servers(traffic, Sort::Requests)));
    }
    if !traffic.durations_by_peer && !traffic.servers.is_empty() {
        shown += &format!("# {NOT_BY_PEER}\n");
    }
    shown + &show(peers(traffic, Sort::Requests))
}

/// Names of fields as `linkerd viz stat -o json` has them.
#[derive(Serialize)]
struct Stats {
    success: Option<f64>,
    rps: Option<f64>,
    requests: f64,
    /// With what was lost from sight.
    responses_unclassified: f64,
    /// What counts against `success`.
    requests_aborted: f64,
    requests_stopped: f64,
    latency_ms_p50: Option<f64>,
    latency_ms_p95: Option<f64>,
    latency_ms_p99: Option<f64>,
}

impl Stats {
    fn new(counts: &Counts, traffic: &Traffic) -> Self {
        let ms = |q| counts.duration.quantile(q).map(|seconds| seconds * 1e3);
        let window = traffic.window;
        Self {
            success: counts.success_rate(),
            rps: window.map(|window| counts.requests / window.as_secs_f64()),
            requests: counts.requests,
            responses_unclassified: counts.unclassified,
            requests_aborted: counts.aborted,
            requests_stopped: counts.stopped,
            latency_ms_p50: ms(0.5),
            latency_ms_p95: ms(0.95),
            latency_ms_p99: ms(0.99),
        }
    }
}

#[derive(Serialize)]
struct Direction<'a> {
    direction: &'a str,
}

/// What JSON has of one direction, server port or peer.
#[derive(Serialize)]
struct Row<K, L> {
    #[serde(flatten)]
    key: K,
    #[serde(flatten)]
    stats: Stats,
    #[serde(flatten)]
    l4: L,
}

#[derive(Serialize)]
struct L4 {
    tcp_open_connections: f64,
    tcp_read_bytes: f64,
    tcp_write_bytes: f64,
}

fn json(traffic: &Traffic) -> Result<String> {
    let servers = traffic.servers.iter().map(|(key, counts)| Row {
        key,
        stats: Stats::new(counts, traffic),
        l4: (),
    });
    let peers = traffic.peers.iter().map(|(key, counts)| Row {
        key,
        stats: Stats::new(counts, traffic),
        l4: L4 {
            tcp_open_connections: counts.active,
            tcp_read_bytes: counts.received,
            tcp_write_bytes: counts.sent,
        },
    });
    let directions = traffic.directions().into_iter().map(|direction| Row {
        key: Direction { direction },
        stats: Stats::new(&traffic.total(direction), traffic),
        l4: (),
    });
    let all = json!({
        "window_seconds": traffic.window.map(|window| window.as_secs_f64()),
        "latency_by_peer": traffic.durations_by_peer,
        "directions": directions.collect::<Vec<_>>(),
        "servers": servers.collect::<Vec<_>>(),
        "peers": peers.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}
