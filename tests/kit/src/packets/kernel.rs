//! The programs, loaded but attached to nothing, fed by BPF_PROG_TEST_RUN.

use std::collections::BTreeMap;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use libbpf_rs::{MapCore, MapFlags, OpenObject, ProgramInput, ProgramMut};
use metricd::abi::{
    AbortedValue, CLASS_ABORTED, Counters, GRPC_STATUS_NONE, HandshakeKey, HandshakeValue,
    LatencyEntry, LatencyValue, Layout, Merge, MetricEntry, MetricKey, MetricValue, RequestEntry,
    RequestKey, RouteEntry, STATUS_ABORTED, STATUS_REQUESTS, abort_reason, protocol, route,
    series_kind,
};
use metricd::kernel::load::{self, Plan};
use metricd::kernel::options::Options;
use metricd::skel::{MetricdSkel, types};

/// The number of the protocol.
const TCP: u8 = 6;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

/// The options that these flags give.
pub fn options(flags: &[&str]) -> Options {
    Cli::parse_from([&["test"], flags].concat()).options
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// What a hook was fed, as it is to be counted.
#[derive(Default)]
struct Fed {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// The programs and maps of one load: nothing is shared with any other. What must hold at all
/// times is checked when it is dropped, so at the end of every test.
pub struct Kernel {
    skel: MetricdSkel<'static>,
    fed: [Fed; 2],
}

// SAFETY: what libbpf keeps of a loaded object is only read, and the kernel's side of a program or
// map is made for many CPUs.
unsafe impl Send for Kernel {}
// SAFETY: likewise.
unsafe impl Sync for Kernel {}

impl Drop for Kernel {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

impl Kernel {
    /// As for a machine whose atomic additions are no barriers, with METRICD_TEST_UNORDERED set.
    pub fn load(flags: &[&str]) -> Self {
        // test_run's packets come from the loopback: here it is an interface like any other.
        Self::load_with_loopback(flags, 0)
    }

    /// With `loopback` as the index of the interface where both ends are local.
    pub fn load_with_loopback(flags: &[&str], loopback: u32) -> Self {
        // One object a test, for as long as the process.
        let object: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        // The default's 16,384 would be read over and over.
        let mut flags = flags.to_vec();
        if !flags.contains(&"--map-size") {
            flags.extend(["--map-size", "256"]);
        }
        let settings = options(&flags).wanted.settle(None).expect("settings");
        let plan = Plan {
            settings: &settings,
            loopback,
            ordered: load::ORDERED && std::env::var_os("METRICD_TEST_UNORDERED").is_none(),
            epoch: 1,
            state: None,
            exported: None,
        };
        let skel = load::load(object, &plan).expect("load the programs");
        Self {
            skel,
            fed: Default::default(),
        }
    }

    pub fn skel(&self) -> &MetricdSkel<'static> {
        &self.skel
    }

    fn program(&self, way: Way) -> &ProgramMut<'static> {
        match way {
            Way::In => &self.skel.progs.linkerd_ingress,
            Way::Out => &self.skel.progs.linkerd_egress,
        }
    }

    /// Feeds a frame. Checks that it is passed on as it came. Returns how long the program took.
    pub fn run(&self, way: Way, frame: &[u8]) -> Duration {
        self.run_with_context(way, frame, None)
            .expect("BPF_PROG_TEST_RUN")
    }

    /// The same for a frame that may be too short for BPF_PROG_TEST_RUN itself: newer kernels want
    /// a whole IP header. Returns whether it was taken.
    pub fn run_if_taken(&self, way: Way, frame: &[u8]) -> bool {
        match self.run_with_context(way, frame, None) {
            Ok(_) => true,
            Err(e) => {
                assert!(
                    e.kind() == libbpf_rs::ErrorKind::InvalidInput && frame.len() < 14 + 40,
                    "BPF_PROG_TEST_RUN: {e}"
                );
                false
            }
        }
    }

    /// Feeds a frame that stands for several, of `headers` and at most `size` bytes each. The
    /// kernel may know how many there are (`segments`), or not (0).
    pub fn run_gso(&self, way: Way, frame: &[u8], headers: usize, size: usize, segments: usize) {
        let mut context = [0; 192];
        context[GSO_SEGS..][..4].copy_from_slice(&(segments as u32).to_ne_bytes());
        context[GSO_SIZE..][..4].copy_from_slice(&(size as u32).to_ne_bytes());
        let segments = (frame.len() - headers).div_ceil(size) as u64;
        // run_with_context counts the frame as one.
        self.fed(way, segments - 1, (segments - 1) * headers as u64);
        self.run_with_context(way, frame, Some(&mut context))
            .expect("BPF_PROG_TEST_RUN");
    }

    /// The same with nothing known of what should be counted. Returns whether it was taken.
    pub fn run_unsound_gso(&self, way: Way, frame: &[u8], size: usize, segments: usize) -> bool {
        let mut context = [0; 192];
        context[GSO_SEGS..][..4].copy_from_slice(&(segments as u32).to_ne_bytes());
        context[GSO_SIZE..][..4].copy_from_slice(&(size as u32).to_ne_bytes());
        self.run_with_context(way, frame, Some(&mut context))
            .is_ok()
    }

    fn run_with_context(
        &self,
        way: Way,
        frame: &[u8],
        context_in: Option<&mut [u8]>,
    ) -> libbpf_rs::Result<Duration> {
        let mut out = vec![0; frame.len() + 64];
        let output = self.program(way).test_run(ProgramInput {
            context_in,
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: 1,
            ..Default::default()
        })?;
        assert_eq!(
            output.return_value as i32, -1,
            "the packet is not passed on"
        );
        assert_eq!(
            output.data.as_deref(),
            Some(frame),
            "the packet was changed"
        );
        self.fed(way, 1, frame.len() as u64);
        Ok(output.duration)
    }

    /// Notes what was fed by other means than `run`.
    pub fn fed(&self, way: Way, packets: u64, bytes: u64) {
        let fed = &self.fed[way as usize];
        fed.packets.fetch_add(packets, Ordering::Relaxed);
        fed.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All series with their counters.
    pub fn series(&self) -> Vec<(MetricKey, MetricValue)> {
        let maps = &self.skel.maps;
        both(&maps.linkerd_metrics_map, &maps.linkerd_metrics_more_map)
            .into_iter()
            .map(|entry: MetricEntry| (entry.key, entry.value))
            .filter(|(key, _)| *key != MetricKey::default())
            .collect()
    }

    /// All series in one.
    pub fn total(&self) -> MetricValue {
        merged(&self.series())
    }

    fn request_entries(&self) -> Vec<RequestEntry> {
        let maps = &self.skel.maps;
        both(&maps.linkerd_requests_map, &maps.linkerd_requests_more_map)
    }

    /// All responses by status.
    pub fn responses(&self) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for (answer, n) in self.answers() {
            *all.entry(answer.status).or_default() += n;
        }
        all
    }

    /// All responses by all that is told of them.
    pub fn answers(&self) -> BTreeMap<Answer, u64> {
        let mut all = BTreeMap::new();
        for entry in self.request_entries() {
            let is_response = ![STATUS_REQUESTS, STATUS_ABORTED].contains(&entry.key.status);
            if entry.value.responses > 0 && is_response {
                assert_ne!(entry.key, RequestKey::default(), "an element of nobody");
                let answer = Answer {
                    protocol: entry.key.protocol,
                    status: entry.key.status,
                    grpc_status: entry.key.grpc_status,
                };
                *all.entry(answer).or_default() += entry.value.responses;
            }
        }
        all
    }

    /// Requests that never got their whole response, by protocol and reason.
    pub fn aborted(&self) -> BTreeMap<(u8, &'static str), u64> {
        let mut all = BTreeMap::new();
        for entry in self.request_entries() {
            let RequestEntry { key, value, .. } = entry;
            if key.status == STATUS_ABORTED && value.responses > 0 {
                let why = (key.protocol, abort_reason::label(key.grpc_status));
                *all.entry(why).or_default() += value.responses;
            }
        }
        all
    }

    /// Requests by the text of their route, and then what ended them.
    pub fn routes(&self) -> [BTreeMap<String, u64>; 2] {
        let texts: BTreeMap<u32, String> =
            entries::<u32, RouteEntry>(&self.skel.maps.linkerd_route_map)
                .iter()
                .map(|(number, entry)| (*number, entry.path()))
                .collect();
        let mut all = [BTreeMap::new(), BTreeMap::new()];
        for entry in self.request_entries() {
            if entry.value.responses == 0 {
                continue;
            }
            let text = match entry.key.route {
                route::OTHER => "other".into(),
                route::UNKNOWN => "unknown".into(),
                route::NONE => String::new(),
                route::PENDING => "pending".into(),
                number => texts[&u32::from(number)].clone(),
            };
            let answered = usize::from(entry.key.status != STATUS_REQUESTS);
            *all[answered].entry(text).or_default() += entry.value.responses;
        }
        all
    }

    fn latency_entries(&self) -> Vec<LatencyEntry> {
        let maps = &self.skel.maps;
        both(&maps.linkerd_latency_map, &maps.linkerd_latency_more_map)
    }

    /// How many histograms of responses there are.
    pub fn histograms(&self) -> usize {
        self.latency_entries().len()
    }

    /// The histograms of requests in one.
    pub fn latency(&self) -> LatencyValue {
        self.latency_of(|_| true)
    }

    /// The histograms of requests of some classes of status in one.
    pub fn latency_of(&self, is_of: impl Fn(u8) -> bool) -> LatencyValue {
        let mut total = LatencyValue::default();
        for entry in self.latency_entries() {
            if !is_of(entry.key.status_class) {
                continue;
            }
            total.merge(&entry.value);
        }
        total
    }

    /// The histograms of connections in one.
    pub fn handshake(&self) -> HandshakeValue {
        merged(&entries::<HandshakeKey, _>(
            &self.skel.maps.linkerd_handshake_map,
        ))
    }

    pub fn counters(&self) -> Counters {
        entries::<u32, Counters>(&self.skel.maps.linkerd_counters_map)[0].1
    }

    /// All slots of the table of connections.
    pub fn slots(&self) -> Vec<Slot> {
        let map = &self.skel.maps.linkerd_connection_map;
        let slots: Vec<_> = map
            .lookup_batch(map.max_entries(), MapFlags::ANY, MapFlags::ANY)
            .expect("look up a batch")
            .map(|(_, value)| Slot::of(&value))
            .collect();
        // The iterator ends at an error too.
        assert_eq!(slots.len(), map.max_entries() as usize);
        slots
    }

    /// Packets and bytes received, and sent: in a series, or held for one.
    pub fn io(&self) -> [(u64, u64); 2] {
        let total = self.total();
        let mut io = [&total.recv, &total.sent].map(|io| (io.packets, io.bytes));
        for slot in self.slots() {
            for (io, held) in io.iter_mut().zip(slot.held) {
                *io = (io.0 + held.0, io.1 + held.1);
            }
        }
        io
    }

    /// Makes both sides of every connection silent for so many jiffies more.
    pub fn silence(&self, jiffies: u32) {
        let map = &self.skel.maps.linkerd_connection_map;
        for slot in 0..map.max_entries() {
            let key = slot.to_ne_bytes();
            let value = map.lookup(&key, MapFlags::ANY).expect("look up a slot");
            let mut value = value.expect("a slot");
            for at in SEEN_JIFFIES {
                let seen = &mut value[at..at + 4];
                let since = u32::from_ne_bytes(seen.try_into().unwrap()).wrapping_sub(jiffies);
                seen.copy_from_slice(&since.to_ne_bytes());
            }
            map.update(&key, &value, MapFlags::ANY)
                .expect("write a slot");
        }
    }

    /// What is told apart of aborted requests is what their series have, unless it did not fit.
    fn check_aborted(&self) {
        let mut told: BTreeMap<(MetricKey, u8), u64> = BTreeMap::new();
        for RequestEntry { key, value, .. } in self.request_entries() {
            if key.status == STATUS_ABORTED {
                let reason = abort_reason::of_series(key.grpc_status);
                *told.entry((key.series, reason)).or_default() += value.responses;
            }
        }
        let fits = self.counters().requests_overflow == 0;
        for (key, v) in self.series() {
            if key.kind == series_kind::OTHER {
                continue;
            }
            for (reason, count) in v.aborted.by_reason().into_iter().enumerate() {
                let told = told.remove(&(key, reason as u8)).unwrap_or(0);
                let why = abort_reason::LABELS[reason];
                assert!(told <= count, "{key:?} {why}: {told} of {count}");
                assert!(told == count || !fits, "{key:?} {why}: {told} of {count}");
            }
        }
        assert!(told.values().all(|n| *n == 0), "{told:?}");
        let told: u64 = self.aborted().values().sum();
        let other: u64 = self.counters().aborted.by_reason().iter().sum();
        let all = aborted(&self.total().aborted);
        assert_eq!(told + other, all, "with what did not fit");
    }

    /// What holds at all times: every packet is in one series, every connection opened is closed or
    /// active, every request is answered, aborted or in flight.
    pub fn check(&self) {
        for (key, v) in self.series() {
            let c = v.closed;
            let closed = c.fin + c.rst + c.refused + c.idle + c.evicted;
            assert_eq!(
                v.opened,
                closed + v.active,
                "opened = closed + active: {key:?}"
            );
            let decided = v.decided.total() + v.tls + v.dns;
            if key.proto == TCP {
                assert!(decided <= v.opened, "{key:?} {v:?}");
                assert!(
                    decided == v.opened || v.active > 0,
                    "opened = classified + opaque: {key:?} {v:?}"
                );
            }
            assert!(
                v.active <= v.opened && v.ended <= v.requests.total(),
                "{v:?}"
            );
        }
        let [recv, sent] = self.io();
        let v = self.total();
        let responses: u64 = self.responses().values().sum();
        let r = v.requests;
        assert_eq!(
            r.http1 + r.http2 + r.grpc,
            responses + aborted(&v.aborted) + (r.total() - v.ended),
            "requests = responses + aborted + in flight: {v:?}"
        );
        let timed = self.latency();
        let told = self.aborted();
        let of = |reason| -> u64 {
            let of_reason = told.iter().filter(|((_, why), _)| *why == reason);
            of_reason.map(|(_, n)| n).sum()
        };
        let failures = aborted(&v.aborted) - v.aborted.evicted - of("stopped");
        assert_eq!(
            responses + failures,
            timed.duration().count() + v.untimed,
            "each response, and each that failed, is timed or counted as untimed"
        );
        let failed = self.latency_of(|class| class == CLASS_ABORTED);
        assert!(failed.duration().count() <= failures);
        let answered = timed.duration().count() - failed.duration().count();
        let c = self.counters();
        // What does not fit is in histograms without a class.
        let fits = c.metrics_overflow + c.requests_overflow + c.latency_overflow == 0;
        assert!(answered >= timed.ttfb().count());
        assert!(answered == timed.ttfb().count() || !fits);
        self.check_aborted();
        // On the loopback what is sent and what is received is not told by the hook.
        let [fed_in, fed_out] = self.fed.each_ref().map(|f| {
            (
                f.packets.load(Ordering::Relaxed),
                f.bytes.load(Ordering::Relaxed),
            )
        });
        assert_eq!(
            (recv.0 + sent.0, recv.1 + sent.1),
            (fed_in.0 + fed_out.0, fed_in.1 + fed_out.1),
            "every packet and byte is in one series, or held"
        );
        if self.loopback() == 0 {
            assert_eq!(recv, fed_in);
        }
    }

    /// Of the two programs.
    pub fn program_ids(&self) -> Vec<u32> {
        let id = |way| libbpf_rs::Program::id_from_fd(self.program(way).as_fd()).expect("an id");
        vec![id(Way::In), id(Way::Out)]
    }

    fn loopback(&self) -> u32 {
        let rodata = self.skel.maps.rodata_data.as_ref();
        rodata.expect("rodata").config.loopback_ifindex
    }
}

/// What matters of struct conn of bpf/net/state.h.
#[derive(Debug)]
pub struct Slot {
    pub state: u8,
    /// When the client last sent.
    pub seen_jiffies: u32,
    pub busy: bool,
    pub key: Vec<u8>,
    /// It is live and has a series.
    pub is_active: bool,
    /// Packets and bytes that are held while it has none: received, and sent.
    pub held: [(u64, u64); 2],
}

/// Where a connection has when each of its sides last sent.
const SEEN_JIFFIES: [usize; 2] = [
    offset_of!(types::conn, client) + offset_of!(types::side, seen_jiffies),
    offset_of!(types::conn, server) + offset_of!(types::side, seen_jiffies),
];

pub const SLOT_FREE: u8 = 0;
pub const SLOT_LIVE: u8 = 1;
pub const SLOT_CLOSED: u8 = 2;

impl Slot {
    fn of(value: &[u8]) -> Self {
        const CLIENT_LOCAL: u8 = 1 << 0;
        const UNSETTLED: u8 = 1 << 1;
        let at = |offset: usize, size: usize| &value[offset..offset + size];
        let word = |offset| u64::from(u32::from_ne_bytes(at(offset, 4).try_into().unwrap()));
        // Of the brief word: generation, state, flags, seen, l7.
        let [state, flags] = [4, 5].map(|byte| value[offset_of!(types::conn, brief) + byte]);
        let is_live = state == SLOT_LIVE;
        let mut held = [0, size_of::<types::held>()].map(|role| {
            let of = offset_of!(types::conn, held) + role;
            match is_live && flags & UNSETTLED != 0 {
                true => (word(of), word(of + 4)),
                false => (0, 0),
            }
        });
        if flags & CLIENT_LOCAL != 0 {
            held.reverse();
        }
        Self {
            state,
            is_active: is_live && flags & UNSETTLED == 0,
            held,
            seen_jiffies: u32::from_ne_bytes(at(SEEN_JIFFIES[0], 4).try_into().unwrap()),
            busy: [
                offset_of!(types::conn, client),
                offset_of!(types::conn, server),
            ]
            .iter()
            .any(|side| at(side + offset_of!(types::side, busy), 4) != [0; 4]),
            key: at(offset_of!(types::conn, key), size_of::<types::conn_key>()).to_vec(),
        }
    }
}

/// A load that others have used before, since loading takes longer than most tests. Its flows
/// should be over when it is given back, so that their end is not counted by the next.
pub struct Shared(Option<Kernel>);

static POOL: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());

impl Shared {
    pub fn get() -> Self {
        let pooled = POOL.lock().expect("the pool").pop();
        let load = || Kernel::load(&["--connections", "1024", "--map-size", "512"]);
        Self(pooled.or_else(|| Some(load())))
    }

    /// A port that no other connection has, for long enough.
    pub fn port() -> u16 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        1024 + (NEXT.fetch_add(1, Ordering::Relaxed) % 60000) as u16
    }
}

impl std::ops::Deref for Shared {
    type Target = Kernel;

    fn deref(&self) -> &Kernel {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // One that a test has failed on is not used again.
        if !std::thread::panicking()
            && let Some(kernel) = self.0.take()
        {
            kernel.check();
            POOL.lock().expect("the pool").push(kernel);
        }
    }
}

/// What a response is counted under, beside its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    pub protocol: u8,
    pub status: u16,
    pub grpc_status: u8,
}

impl Answer {
    pub fn http1(status: u16) -> Self {
        Self::of(protocol::HTTP1, status)
    }

    pub fn http2(status: u16) -> Self {
        Self::of(protocol::HTTP2, status)
    }

    pub fn grpc(status: u16, grpc_status: u8) -> Self {
        Self {
            grpc_status,
            ..Self::of(protocol::GRPC, status)
        }
    }

    fn of(protocol: u8, status: u16) -> Self {
        Self {
            protocol,
            status,
            grpc_status: GRPC_STATUS_NONE,
        }
    }
}

/// Requests that never got their whole response, for whatever reason.
fn aborted(a: &AbortedValue) -> u64 {
    a.by_reason().iter().sum()
}

/// All that the programs have counted of traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub total: MetricValue,
    /// By status.
    pub responses: BTreeMap<u16, u64>,
    pub answers: BTreeMap<Answer, u64>,
    /// Requests that never got their whole response, by protocol and reason.
    pub aborted: BTreeMap<(u8, &'static str), u64>,
    pub latency: LatencyValue,
    pub handshake: HandshakeValue,
    /// Connections that were followed again.
    pub resumed: u64,
}

impl Seen {
    pub fn of(kernel: &Kernel) -> Self {
        Self {
            total: kernel.total(),
            responses: kernel.responses(),
            answers: kernel.answers(),
            aborted: kernel.aborted(),
            latency: kernel.latency(),
            handshake: kernel.handshake(),
            resumed: kernel.counters().resumed,
        }
    }

    /// What came after `before`.
    pub fn since(mut self, before: &Self) -> Self {
        self.total = minus(&self.total, &before.total);
        self.latency = minus(&self.latency, &before.latency);
        self.handshake = minus(&self.handshake, &before.handshake);
        self.resumed -= before.resumed;
        subtract(&mut self.responses, &before.responses);
        subtract(&mut self.answers, &before.answers);
        subtract(&mut self.aborted, &before.aborted);
        self
    }
}

fn subtract<K: Copy + Ord>(counts: &mut BTreeMap<K, u64>, before: &BTreeMap<K, u64>) {
    for (key, n) in before {
        *counts.entry(*key).or_default() -= n;
    }
    counts.retain(|_, n| *n > 0);
}

/// The difference of two values that are nothing but 64-bit counters.
fn minus<V: Layout>(a: &V, b: &V) -> V {
    let words = |v: &V| {
        let mut bytes = Vec::new();
        v.write(&mut bytes);
        bytes
    };
    let (a, b) = (words(a), words(b));
    let mut out = Vec::new();
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        let word = |w: &[u8]| u64::from_ne_bytes(w.try_into().expect("eight bytes"));
        out.extend(word(a).wrapping_sub(word(b)).to_ne_bytes());
    }
    V::read(&mut out.as_slice()).expect("as many bytes")
}

/// Offsets in struct __sk_buff of linux/bpf.h.
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;

fn merged<K, V: Merge + Default>(entries: &[(K, V)]) -> V {
    let mut total = V::default();
    for (_, value) in entries {
        total.merge(value);
    }
    total
}

/// A map's entries, decoded.
pub fn entries<K: Layout, V: Layout>(map: &impl MapCore) -> Vec<(K, V)> {
    map.keys()
        .map(|key| {
            let value = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            (
                K::read(&mut key.as_slice()).unwrap(),
                V::read(&mut value.as_slice()).unwrap(),
            )
        })
        .collect()
}

/// The elements of an array and of the map behind it that are in use.
fn both<V: Layout + PartialEq + Default>(array: &impl MapCore, more: &impl MapCore) -> Vec<V> {
    let mut all = elements(array);
    let more = entries::<u32, V>(more).into_iter().map(|(_, value)| value);
    all.extend(more.filter(|value| *value != V::default()));
    all
}

/// The elements of an array that are in use.
pub fn elements<V: Layout>(map: &impl MapCore) -> Vec<V> {
    let unused = vec![0; map.value_size() as usize];
    let mut seen = 0;
    let elements = map
        .lookup_batch(4096, MapFlags::ANY, MapFlags::ANY)
        .expect("look up a batch")
        .inspect(|_| seen += 1)
        .filter(|(_, value)| *value != unused)
        .map(|(_, value)| V::read(&mut value.as_slice()).unwrap())
        .collect();
    // The iterator ends at an error too.
    assert_eq!(seen, map.max_entries());
    elements
}

/// The descriptor of a program, for calls that libbpf-rs does not wrap.
pub fn program_fd(kernel: &Kernel, way: Way) -> std::os::fd::BorrowedFd<'_> {
    kernel.program(way).as_fd()
}
