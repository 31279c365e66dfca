//! `linkerd-metricd tap`: requests as they happen.
//!
//! The programs write each request's head and end into a ring buffer while somebody listens
//! ([`listen`]); [`events`] puts them together, with what [`hpack`] makes of HTTP/2's heads.

pub mod events;
mod filter;
mod hpack;
mod listen;
mod remote;
mod show;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::{Args, ValueHint};
use libbpf_rs::{MapCore, MapFlags};

use crate::abi::{Counters, Layout, RouteEntry};
use crate::cluster::remote::RemoteArgs;
use crate::duration::duration;
use crate::kernel::load;
use crate::kernel::maps;
use crate::kernel::options::PIN_DIR;
use crate::kernel::pin_dir::PinDir;
use crate::kernel::target;
use crate::web;
use events::{Events, Request};
use filter::Filter;
use listen::{Epoch, Listening};
use show::Output;

/// How long to wait for events before it is checked whether to stop.
const PAUSE: Duration = Duration::from_millis(100);
/// How many events to take before it is checked whether to stop.
const ROUND: usize = 4096;
/// How long to wait for events that were being written when the programs were told to stop.
const LAST: Duration = Duration::from_millis(20);

/// What to show, and for how long.
#[derive(Args, Clone, Debug)]
pub struct TapArgs {
    /// Pod of the cluster, on whichever node: a short-lived privileged pod listens there
    #[arg(value_name = "[NAMESPACE/]POD", conflicts_with_all = ["pod", "pin_dir"])]
    cluster_pod: Option<String>,

    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Pod of this node, as root there; its pins are in linkerd-metricd/UID of the bpffs
    #[arg(long, value_name = "[NAMESPACE/]NAME", conflicts_with = "pin_dir")]
    pod: Option<String>,

    /// Folder with the pins
    #[arg(
        long,
        env = "METRICD_PIN_DIR",
        value_name = "DIR",
        value_hint = ValueHint::AnyPath,
        default_value = PIN_DIR
    )]
    pin_dir: PinDir,

    #[command(flatten)]
    filter: Filter,

    /// End when so many have been shown
    #[arg(long, value_name = "N")]
    max: Option<NonZeroU64>,

    /// End after this time, such as 30s or 5m0s [default: never; 1h0m0s for a pod of the cluster]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,

    /// How to write requests
    #[arg(long, short, value_enum, default_value_t = Output::Default)]
    output: Output,
}

/// Shows requests until it is told to stop.
///
/// # Errors
/// If nothing is attached; if the right to listen is missing; if another listens. Through the
/// cluster, as [`crate::cluster::remote::follow`].
pub fn run(args: &TapArgs) -> Result<()> {
    if let Some(pod) = &args.cluster_pod {
        return remote::run(pod, args);
    }
    load::log_libbpf();
    let stop = stop_flag()?;
    let pin_dir = match &args.pod {
        Some(pod) => target::pins_of(pod)?,
        None => args.pin_dir.clone(),
    };
    let tap = RefCell::new(Tap::new(args, &pin_dir)?);
    let mut totals = Counters::default();
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let is_over = || {
        stop.load(Ordering::Relaxed)
            || tap.borrow().is_done()
            || deadline.is_some_and(|deadline| Instant::now() >= deadline)
    };
    while !is_over() {
        let epoch = Epoch::open(&pin_dir)?;
        let dropped = listen_to(&epoch, &tap, &is_over, &pin_dir)?;
        totals.events_dropped += dropped.events_dropped;
        totals.heads_dropped += dropped.heads_dropped;
    }
    let tap = tap.into_inner();
    let (shown, passed_over) = (tap.shown, tap.passed_over);
    let (events, heads) = (totals.events_dropped, totals.heads_dropped);
    let mut line = format!("{shown} requests shown");
    if passed_over > 0 {
        line += &format!(", {passed_over} not asked for");
    }
    line += &format!(", {events} dropped");
    if heads > 0 {
        line += &format!("; {heads} heads dropped, so that method and path are not known");
    }
    if events + heads > 0 {
        line += " (a larger buffer: --perf-buffer-size)";
    }
    eprintln!("{line}");
    Ok(())
}

/// Shows what comes of an epoch, until it is over or another one has begun. Returns what was dropped
/// meanwhile.
fn listen_to(
    epoch: &Epoch,
    tap: &RefCell<Tap>,
    is_over: &impl Fn() -> bool,
    pin_dir: &PinDir,
) -> Result<Counters> {
    // What somebody has not come to.
    epoch.ring(|_| true)?.consume()?;
    let mut taken = 0;
    let ring = epoch.ring(|event| {
        tap.borrow_mut().take(event);
        taken += 1;
        taken % ROUND != 0 && !tap.borrow().is_done()
    })?;
    let before = epoch.counters()?;
    let mut listening = Listening::start(epoch)?;
    eprintln!("listening");
    while !is_over() {
        // What ends a round is an error to libbpf, too.
        ring.poll_raw(PAUSE);
        tap.borrow_mut().flush()?;
        if let Some(deaf) = listening.go_on()? {
            tracing::warn!("nothing was heard for {deaf:.1?}: this process did not run meanwhile");
        }
        if listen::newest(pin_dir)?.number != epoch.number {
            break;
        }
    }
    drop(listening);
    thread::sleep(LAST);
    while ring.consume_raw() < 0 && !tap.borrow().is_done() {}
    tap.borrow_mut().flush()?;
    let after = epoch.counters()?;
    Ok(Counters {
        events_dropped: after.events_dropped - before.events_dropped,
        heads_dropped: after.heads_dropped - before.heads_dropped,
        ..Counters::default()
    })
}

/// Set once the process is told to stop.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let runtime = web::runtime()?;
    // Signals are caught before anything else, so that none is missed.
    let signal = runtime.block_on(async { web::stop_signal() })?;
    thread::spawn(move || {
        runtime.block_on(signal);
        set.store(true, Ordering::Relaxed);
    });
    Ok(flag)
}

/// What has been shown, and how.
struct Tap<'a> {
    args: &'a TapArgs,
    events: Events,
    routes: Routes,
    out: BufWriter<Stdout>,
    /// From the programs' clock to 1970's, nanoseconds.
    since_1970: u64,
    shown: u64,
    passed_over: u64,
    /// Whether nobody reads any more what is written.
    is_closed: bool,
}

impl<'a> Tap<'a> {
    fn new(args: &'a TapArgs, pin_dir: &PinDir) -> Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        Ok(Self {
            args,
            events: Events::default(),
            routes: Routes::new(pin_dir),
            out: BufWriter::new(io::stdout()),
            since_1970: since_1970 - listen::now_ns()?,
            shown: 0,
            passed_over: 0,
            is_closed: false,
        })
    }

    fn is_done(&self) -> bool {
        self.is_closed || self.args.max.is_some_and(|max| self.shown >= max.get())
    }

    fn take(&mut self, event: &[u8]) {
        let mut requests = Vec::new();
        self.events.take(event, |request| requests.push(request));
        for request in requests {
            self.show(&request);
        }
    }

    fn show(&mut self, request: &Request) {
        if self.is_done() || !self.args.filter.takes(request) {
            self.passed_over += 1;
            return;
        }
        self.shown += 1;
        let ended_ns = request.end.end_ns + self.since_1970;
        let route = self.routes.text(request.end.route);
        let line = request.show(self.args.output, ended_ns, route);
        if writeln!(self.out, "{line}").is_err() {
            self.is_closed = true;
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self.out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            result => result.context("write to standard output"),
        }
    }
}

/// The texts of routes, by number.
struct Routes {
    pin_dir: PinDir,
    known: HashMap<u16, Option<String>>,
}

impl Routes {
    fn new(pin_dir: &PinDir) -> Self {
        Self {
            pin_dir: pin_dir.clone(),
            known: HashMap::new(),
        }
    }

    fn text(&mut self, number: u16) -> Option<&str> {
        if number == 0 {
            return None;
        }
        if let Some(text) = show::no_route(number) {
            return Some(text);
        }
        let read = || {
            let map = self.pin_dir.map(maps::ROUTES).ok()?;
            let key = u32::from(number).to_ne_bytes();
            let bytes = map.lookup(&key, MapFlags::ANY).ok()??;
            Some(RouteEntry::read(&mut bytes.as_slice())?.path())
        };
        self.known.entry(number).or_insert_with(read).as_deref()
    }
}
