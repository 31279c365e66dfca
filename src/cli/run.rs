//! `linkerd-metricd run`: init and sidecar in one process, on the network namespace it is in.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::abi::direction;
use crate::kernel::options::{Options, ReadBy};
use crate::kernel::pin_dir::PinDir;
use crate::lifecycle;
use crate::read::snapshot::Snapshot;
use crate::sidecar::{Server, SidecarConfig};
use crate::web;

/// Attaches, serves until it is told to stop, and detaches again.
///
/// # Errors
/// If attaching, listening or detaching failed; what was attached is detached in any case.
pub fn run(
    options: &Options,
    l7_file: Option<PathBuf>,
    show_idle: Duration,
    listen: SocketAddr,
) -> Result<()> {
    let lines = lifecycle::attach(options)?;
    lines.iter().for_each(|line| tracing::info!("{line}"));
    let served = serve(options, l7_file, show_idle, listen);
    let detached = lifecycle::detach(&options.pin_dir);
    served.and(detached.map(drop))
}

fn serve(
    options: &Options,
    l7_file: Option<PathBuf>,
    show_idle: Duration,
    listen: SocketAddr,
) -> Result<()> {
    web::runtime()?.block_on(async {
        let server = Server::bind(SidecarConfig {
            pin_dir: options.pin_dir.clone(),
            read: options.read,
            l7_file,
            show_idle,
            listen,
        })?;
        let address = reachable(server.local_addr()?);
        println!("open http://{address}/metrics");
        let (pin_dir, read) = (options.pin_dir.clone(), options.read);
        let first = thread::spawn(move || match first_request(address, &pin_dir, read) {
            Ok(line) => println!("{line}"),
            Err(e) => println!("no first request was measured: {e:#}"),
        });
        server.serve(web::stop_signal()?).await;
        let _ = first.join();
        Ok(())
    })
}

/// The address to connect to, for one to listen on.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V6(_) if TcpStream::connect((Ipv6Addr::LOCALHOST, listen.port())).is_ok() => {
                Ipv6Addr::LOCALHOST.into()
            }
            _ => Ipv4Addr::LOCALHOST.into(),
        });
    }
    listen
}

/// Makes a request and waits for the programs to have counted it. Returns what they measured.
fn first_request(address: SocketAddr, pin_dir: &PinDir, read: ReadBy) -> Result<String> {
    let count = || -> Result<(u64, u64)> {
        let snapshot = Snapshot::read(pin_dir, read).map_err(|e| anyhow::anyhow!("{e}"))?;
        let ours = |port, way| port == address.port() && way == direction::INBOUND;
        let responses = snapshot
            .requests
            .iter()
            .filter(|(key, _)| ours(key.series.dst_port, key.series.direction) && key.status == 200)
            .map(|(_, value)| value.responses)
            .sum();
        let duration = snapshot
            .latency
            .iter()
            .filter(|(key, _)| ours(key.port, key.direction))
            .map(|(_, value)| value.sum_ns.duration)
            .sum();
        Ok((responses, duration))
    };
    let (responses, duration) = count()?;
    let started = Instant::now();
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET /live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    stream.read_to_end(&mut Vec::new())?;
    let took = started.elapsed();
    for _ in 0..20 {
        let (now, sum) = count()?;
        if now > responses {
            let measured = Duration::from_nanos((sum - duration) / (now - responses));
            return Ok(format!(
                "first request measured in the kernel: GET http://{address}/live, status 200, \
                 {measured:.0?} (with the connection, the client saw {took:.0?})"
            ));
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("it went to {address}, and the interfaces attached to did not see it (name lo too)")
}
