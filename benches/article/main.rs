//! The reader of the design that metricd is compared with (article.bpf.c): it takes an event for
//! every packet, and every five seconds copies the hash into a registry of Prometheus metrics.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use libbpf_rs::{
    MapCore, MapFlags, MapHandle, Object, ObjectBuilder, PerfBufferBuilder, TC_EGRESS, TC_INGRESS,
    TcHookBuilder,
};
use prometheus::{IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

const SYNC: Duration = Duration::from_secs(5);
/// Pages of events for each CPU: 4,096 bytes.
const PAGES: usize = 1;

#[derive(Parser)]
struct Cli {
    #[arg(long)]
    interface: String,
    /// Where programs and maps are pinned, for whoever measures them
    #[arg(long)]
    pin_dir: PathBuf,
    #[arg(long)]
    listen: SocketAddr,
}

/// What the registry is filled with.
struct Metrics {
    registry: Registry,
    peers: [IntGaugeVec; 3],
    events: IntGaugeVec,
}

#[derive(Default)]
struct Events {
    taken: AtomicU64,
    lost: AtomicU64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut object = ObjectBuilder::default()
        .open_file(concat!(env!("OUT_DIR"), "/article.bpf.o"))?
        .load()
        .context("load article.bpf.o")?;
    attach(&mut object, &cli)?;
    let map = |name: &str| {
        let map = object.maps().find(|map| map.name() == OsStr::new(name));
        MapHandle::try_from(&map.context("no such map")?).context("take a map")
    };
    let events = Arc::new(Events::default());
    take_events(map("events")?, events.clone());
    let metrics = Arc::new(Metrics::new()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(serve(cli.listen, metrics.clone()));
        let hash = map("metrics")?;
        let mut ticks = tokio::time::interval(SYNC);
        loop {
            ticks.tick().await;
            metrics.sync(&hash, &events)?;
        }
    })
}

fn attach(object: &mut Object, cli: &Cli) -> Result<()> {
    let interface = cli.interface.as_str();
    let ifindex = nix::net::if_::if_nametoindex(interface).context("find the interface")? as i32;
    for (name, point) in [
        ("article_ingress", TC_INGRESS),
        ("article_egress", TC_EGRESS),
    ] {
        let mut program = object
            .progs_mut()
            .find(|program| program.name() == name)
            .context("no such program")?;
        program.pin(cli.pin_dir.join(name))?;
        let mut hook = TcHookBuilder::new(program.as_fd())
            .ifindex(ifindex)
            .hook(point);
        if point == TC_INGRESS {
            hook.create().context("make a clsact qdisc")?;
        }
        hook.attach().context("attach a filter")?;
    }
    for mut map in object.maps_mut() {
        let path = cli.pin_dir.join(map.name());
        map.pin(path)?;
    }
    Ok(())
}

/// On a thread of its own.
fn take_events(map: MapHandle, events: Arc<Events>) {
    std::thread::spawn(move || {
        let buffer = PerfBufferBuilder::new(&map)
            .pages(PAGES)
            .sample_cb(|_, event: &[u8]| {
                std::hint::black_box(event);
                events.taken.fetch_add(1, Ordering::Relaxed);
            })
            .lost_cb(|_, lost| {
                events.lost.fetch_add(lost, Ordering::Relaxed);
            })
            .build()
            .expect("a perf buffer");
        loop {
            // Interrupted or not, there is nothing else to do.
            let _ = buffer.poll(Duration::from_secs(1));
        }
    });
}

impl Metrics {
    fn new() -> Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, labels: &[&str]| -> Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, name), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let labels = ["src_ip", "dst_ip", "src_port", "dst_port"];
        let peers = [
            gauge("article_packets", &labels)?,
            gauge("article_bytes", &labels)?,
            gauge("article_requests", &labels)?,
        ];
        let events = gauge("article_events", &["what"])?;
        Ok(Self {
            registry,
            peers,
            events,
        })
    }

    fn sync(&self, hash: &MapHandle, events: &Events) -> Result<()> {
        for key in hash.keys() {
            let Some(value) = hash.lookup(&key, MapFlags::ANY)? else {
                continue;
            };
            let ip = |at: usize| {
                let ip: [u8; 16] = key[at..at + 16].try_into().expect("16 bytes");
                Ipv6Addr::from(ip).to_canonical().to_string()
            };
            let port = |at: usize| u16::from_ne_bytes([key[at], key[at + 1]]).to_string();
            let (src_ip, dst_ip, src_port, dst_port) = (ip(0), ip(16), port(32), port(34));
            for (gauge, value) in self.peers.iter().zip(value.chunks_exact(8)) {
                let value = i64::from_ne_bytes(value.try_into().expect("8 bytes"));
                gauge
                    .with_label_values(&[&src_ip, &dst_ip, &src_port, &dst_port])
                    .set(value);
            }
        }
        for (what, count) in [("taken", &events.taken), ("lost", &events.lost)] {
            let count = count.load(Ordering::Relaxed) as i64;
            self.events.with_label_values(&[what]).set(count);
        }
        Ok(())
    }
}

async fn serve(listen: SocketAddr, metrics: Arc<Metrics>) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let answer = service_fn(|_: Request<_>| {
                let text = TextEncoder::new().encode_to_string(&metrics.registry.gather());
                let text = text.expect("encodes what it gathered");
                async move { Ok::<_, Infallible>(Response::new(text)) }
            });
            http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await
        });
    }
}
