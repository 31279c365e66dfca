//! Inputs through BPF_PROG_TEST_RUN, and what must hold after each.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use libbpf_rs::{MapCore, MapFlags, MapMut};
use metricd::abi::{MetricValue, STATUS_OTHER};

use crate::flow::{Client, Flow, Role, Server, ends, ends6};
use crate::frame::{self, ACK, End, RST, SYN};
use crate::http2::block::plain;
use crate::http2::wire::{END_STREAM, PREFACE, headers, settings};
use crate::input::{Input, Segment};
use crate::kernel::{Answer, Kernel, SLOT_LIVE, Slot, Way};
use crate::model::L7;

/// Slots of the programs that nobody knows the connections of. Few, so that they are soon others';
/// and an odd number, so that each is the first to be looked at now and then.
const WILD_SLOTS: u16 = 17;
/// Most packets of a stretch that come in another order than they were sent: no more gaps are kept.
const EARLY: usize = 8;

/// The programs, and what is fed to them.
pub struct Programs {
    tame: Kernel,
    /// Loaded when there is an input for it.
    wild: OnceCell<Kernel>,
    /// The next inputs' connections have ports from here on.
    port: u16,
    /// Inputs that were compared with a calm one.
    pub compared: u64,
    /// What was counted so far.
    before: Counted,
}

/// What the programs have counted.
#[derive(Clone, Default)]
struct Counted {
    total: MetricValue,
    answers: BTreeMap<Answer, u64>,
    /// Connections that were followed again.
    resumed: u64,
}

impl Counted {
    fn of(kernel: &Kernel) -> Self {
        Self {
            total: kernel.total(),
            answers: kernel.answers(),
            resumed: kernel.counters().resumed,
        }
    }

    /// The counters of all series, as far as they count what is said.
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        let v = &self.total;
        let (r, a, l) = (v.requests, v.aborted, v.lost);
        BTreeMap::from([
            ("http1", r.http1),
            ("http2", r.http2),
            ("grpc", r.grpc),
            ("responses", self.answers.values().sum()),
            ("untimed", v.untimed),
            ("resumed", self.resumed),
            ("tls", v.tls),
            ("dns", v.dns),
            ("opened", v.opened),
            ("again recv", v.recv.retransmits),
            ("again sent", v.sent.retransmits),
            ("aborted fin", a.fin),
            ("aborted rst", a.rst),
            ("aborted idle", a.idle),
            ("aborted evicted", a.evicted),
            ("aborted cancelled", a.cancelled),
            ("aborted refused", a.refused),
            ("aborted reset", a.reset),
            ("lost gap", l.gap),
            ("lost malformed", l.malformed),
            ("lost bound", l.bound),
            ("lost pipeline", l.pipeline),
            ("lost unsolicited", l.unsolicited),
            ("lost midstream", l.midstream),
            ("closed fin", v.closed.fin),
        ])
    }

    /// What of it is new.
    fn since(&self, before: &Self) -> Delta {
        let mut counters = self.counters();
        for (name, n) in before.counters() {
            *counters.entry(name).or_default() -= n;
        }
        counters.retain(|_, n| *n > 0);
        let mut answers = self.answers.clone();
        for (answer, n) in &before.answers {
            *answers.entry(*answer).or_default() -= n;
        }
        answers.retain(|_, n| *n > 0);
        Delta { counters, answers }
    }
}

#[derive(Debug, PartialEq)]
struct Delta {
    /// Those that have moved.
    counters: BTreeMap<&'static str, u64>,
    answers: BTreeMap<Answer, u64>,
}

fn load(connections: &str, http2: &str, routes: bool) -> Kernel {
    Kernel::load(&[
        "--connections",
        connections,
        "--http2-connections",
        http2,
        "--map-size",
        "512",
        "--routes",
        if routes { "40" } else { "0" },
    ])
}

impl Programs {
    pub fn load(routes: bool) -> Self {
        let mut programs = Self {
            tame: load("64", "24", routes),
            wild: OnceCell::new(),
            port: 0,
            compared: 0,
            before: Counted::default(),
        };
        // What these are counted under has a place from now on.
        programs.fresh();
        programs
    }

    /// Plays an input; panics if anything does not hold. Returns something to tell inputs apart by:
    /// how far it made which counters move.
    pub fn play(&mut self, input: &Input) -> Vec<(&'static str, u64)> {
        if input.wild {
            let slots = WILD_SLOTS.to_string();
            let kernel = self.wild.get_or_init(|| load(&slots, "4", input.routes));
            feed(kernel, input, self.port);
            flush(kernel);
            return Vec::new();
        }
        let first = self.tame(input);
        let few = |(name, n): (&&'static str, &u64)| (*name, (*n).min(4));
        let signature = first.counters.iter().map(few).collect();
        if let Some(calm) = calm(input) {
            let second = self.tame(&calm);
            compare(first, second);
            self.compared += 1;
        }
        signature
    }

    /// What is counted of an input.
    fn tame(&mut self, input: &Input) -> Delta {
        self.port = (self.port + 3) % 99;
        feed(&self.tame, input, self.port);
        self.tame.check();
        let counted = Counted::of(&self.tame);
        let delta = counted.since(&self.before);
        let total = &counted.total;
        assert_eq!(
            total.requests.total(),
            total.ended,
            "in flight when all is closed: {total:?}"
        );
        for (key, value) in self.tame.series() {
            // See has_end.
            if key.proto == 6 && (key.dst_port != 0 || key.src_port != 0) {
                assert_eq!(value.active, 0, "active when all is closed: {key:?}");
            }
        }
        // Without room for their series, those without an end are active under `other`, as a TCP
        // connection that is forgotten would be: the slots tell them apart.
        let mut live = self.tame.slots();
        live.retain(|slot| slot.state == SLOT_LIVE);
        assert!(
            !live.iter().any(has_end),
            "live when all is closed: {live:?}"
        );
        // A flow in which one end has spoken is held, and not active yet.
        let active = live.iter().filter(|slot| slot.is_active).count();
        assert_eq!(
            total.active, active as u64,
            "active is not what is live: {total:?}, {live:?}"
        );
        elements_are_back(&self.tame);
        self.before = counted;
        delta
    }

    /// Conversations with sense, each counted exactly.
    pub fn fresh(&mut self) {
        for _ in 0..3 {
            self.port = (self.port + 3) % 99;
            let port = 40_000 + self.port;
            let kernel = &self.tame;
            let open = |port, v6: bool| {
                let mut flow = Flow::new(kernel, if v6 { ends6(port) } else { ends(port) });
                flow.inbound = port % 2 == 0;
                flow.handshake();
                flow
            };
            let flow = open(port, false);
            flow.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            flow.response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            flow.request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            flow.response("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
            flow.close();
            assert_eq!(L7::of(&flow), L7::seen(2, &[(200, 1), (404, 1)]));
            let flow = open(port + 1, true);
            let get = [0x82, 0x86, 0x84];
            let grpc = [&get[..], &plain("content-type", "application/grpc")].concat();
            flow.request([&PREFACE[..], &settings(&[]), &headers(1, END_STREAM, get)].concat());
            flow.request(headers(3, END_STREAM, grpc));
            flow.response([settings(&[]), headers(3, 0, [0x88])].concat());
            flow.response(headers(3, END_STREAM, plain("grpc-status", "0")));
            flow.response(headers(1, END_STREAM, [0x89]));
            flow.close();
            let expected = L7::http2(1, &[(204, 1)]).and(L7::grpc(1, &[((200, 0), 1)]));
            assert_eq!(L7::of(&flow), expected);
            let total = flow.total();
            assert_eq!((total.untimed, total.opened, total.closed.fin), (0, 1, 1));
        }
        self.tame.check();
        self.before = Counted::of(&self.tame);
    }
}

/// Feeds all packets, then ends all connections.
fn feed(kernel: &Kernel, input: &Input, port: u16) {
    let mut flows = Vec::new();
    for (i, conversation) in input.conversations.iter().enumerate() {
        let port = 40_000 + port + i as u16;
        let flow = Lane {
            kernel,
            ends: if conversation.v6 {
                ends6(port)
            } else {
                ends(port)
            },
            inbound: conversation.inbound,
            said: [0; 2],
        };
        if conversation.handshake {
            flow.control(Client, SYN);
            flow.control(Server, SYN | ACK);
            flow.control(Client, ACK);
        }
        flows.push(flow);
    }
    for segment in &input.segments {
        let stream = &input.conversations[segment.conversation].streams;
        let payload = &stream[segment.role as usize][segment.bytes.clone()];
        flows[segment.conversation].segment(segment, payload);
    }
    for flow in flows {
        // What goes out is believed wherever the stream is.
        let local = if flow.inbound { Server } else { Client };
        flow.control(local, RST | ACK);
    }
}

/// Makes the slots of nobody knows whom others', and ends these.
fn flush(kernel: &Kernel) {
    let lanes: Vec<Lane> = (0..4 * WILD_SLOTS)
        .map(|i| Lane {
            kernel,
            ends: [1, 2].map(|last| End {
                ip: IpAddr::from([10, 1, 0, last]),
                port: if last == 2 { 80 } else { 50_000 + i },
            }),
            inbound: true,
            said: [0; 2],
        })
        .collect();
    // Only what has opened takes the slot of a connection that has.
    for lane in &lanes {
        lane.control(Client, SYN);
        lane.control(Server, SYN | ACK);
        lane.control(Client, ACK);
    }
    lanes
        .iter()
        .for_each(|lane| lane.control(Server, RST | ACK));
    kernel.check();
    let total = kernel.total();
    assert_eq!(
        total.active, 0,
        "active when all was closed or evicted: {total:?}"
    );
    assert_eq!(
        total.requests.total(),
        total.ended,
        "in flight when all was closed or evicted: {total:?}"
    );
    elements_are_back(kernel);
}

/// Whether a slot's connection is closed some time, by its struct conn_key of bpf/net/state.h: fragments,
/// and what is no TCP, have no end.
fn has_end(slot: &Slot) -> bool {
    let (ports, proto) = (&slot.key[32..36], slot.key[39]);
    proto == 6 && ports != [0; 4]
}

/// No connection is left: all elements are on their free lists, each once.
fn elements_are_back(kernel: &Kernel) {
    let maps = &kernel.skel().maps;
    for list in [&maps.linkerd_http2_free_map, &maps.linkerd_early_free_map] {
        let free = pop_and_push(list);
        let all: BTreeSet<u32> = free.iter().copied().collect();
        let name = list.name().to_string_lossy();
        assert_eq!(free.len(), all.len(), "{name}: twice there: {free:?}");
        assert_eq!(
            all.len() as u32,
            list.max_entries(),
            "{name}: lost, left are {all:?}"
        );
    }
}

/// What is in a free list that is a stack.
fn pop_and_push(list: &MapMut) -> Vec<u32> {
    let mut all = Vec::new();
    while let Ok(Some(element)) = list.lookup_and_delete(&[]) {
        all.push(u32::from_ne_bytes(element.try_into().expect("four bytes")));
    }
    for element in all.iter().rev() {
        let element = element.to_ne_bytes();
        list.update(&[], &element, MapFlags::ANY)
            .expect("room for what was there");
    }
    all
}

/// A connection.
struct Lane<'a> {
    kernel: &'a Kernel,
    ends: [End; 2],
    inbound: bool,
    said: [u32; 2],
}

/// Both streams wrap around soon.
const FIRST: [u32; 2] = [u32::MAX - 700, u32::MAX - 5000];

impl Lane<'_> {
    fn way(&self, role: Role) -> Way {
        if (role == Client) == self.inbound {
            Way::In
        } else {
            Way::Out
        }
    }

    fn frame(&self, role: Role, flags: u8, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = (self.ends[role as usize], self.ends[role.other() as usize]);
        frame::tcp(src, dst, seq, ack, flags, payload)
    }

    fn next(&self, role: Role) -> u32 {
        FIRST[role as usize].wrapping_add(self.said[role as usize])
    }

    /// A packet without payload, where the stream is. The first is one before the stream.
    fn control(&self, role: Role, flags: u8) {
        let seq = self.next(role).wrapping_sub(u32::from(flags & SYN != 0));
        let frame = self.frame(role, flags, seq, self.next(role.other()), b"");
        self.kernel.run(self.way(role), &frame);
    }

    fn segment(&mut self, segment: &Segment, payload: &[u8]) {
        let (role, way) = (segment.role, self.way(segment.role));
        let [shift, ack] = segment.shift;
        let from = FIRST[role as usize].wrapping_add(segment.bytes.start as u32);
        let ack = self.next(role.other()).wrapping_add(ack);
        let mut frame = self.frame(role, segment.flags, from.wrapping_add(shift), ack, payload);
        let said = &mut self.said[role as usize];
        *said = (*said).max(segment.bytes.end as u32);
        for (at, byte) in &segment.faults {
            if let Some(place) = frame.get_mut(*at) {
                *place = *byte;
            }
        }
        frame.truncate(segment.cut.unwrap_or(usize::MAX).max(15));
        let whole = segment.faults.is_empty() && segment.cut.is_none();
        match segment.gso {
            Some((size, known)) if whole && !payload.is_empty() => {
                let segments = payload.len().div_ceil(size);
                let segments = if known { segments } else { 0 };
                self.kernel
                    .run_gso(way, &frame, frame.len() - payload.len(), size, segments);
            }
            _ => {
                self.kernel.run_if_taken(way, &frame);
            }
        }
    }
}

/// How far a stream is known behind these, if nothing is missing at any time.
fn reached(from: usize, ranges: &[Range<usize>]) -> Option<usize> {
    ranges
        .iter()
        .try_fold(from, |at, r| (r.start <= at).then_some(at.max(r.end)))
}

/// The same said in order and in large packets, if the input says it in packets that a network
/// could make of that, and that can be followed: then the same is to be counted.
fn calm(input: &Input) -> Option<Input> {
    // Whether a connection is older than the programs may depend on those before it.
    if !input.conversations.iter().all(|c| c.handshake) {
        return None;
    }
    let mut known: Vec<[usize; 2]> = vec![[0; 2]; input.conversations.len()];
    let mut segments = Vec::new();
    let stretches = input
        .segments
        .chunk_by(|a, b| (a.conversation, a.role) == (b.conversation, b.role));
    for stretch in stretches {
        let first = &stretch[0];
        if !stretch.iter().all(Segment::is_sound) {
            return None;
        }
        let from = known[first.conversation][first.role as usize];
        let end = stretch.iter().map(|s| s.bytes.end).max()?.max(from);
        let mut ranges: Vec<_> = stretch.iter().map(|s| s.bytes.clone()).collect();
        if reached(from, &ranges).is_none() {
            ranges.sort_by_key(|r| r.start);
            if ranges.len() > EARLY || reached(from, &ranges).is_none() {
                return None;
            }
        }
        for start in (from..end).step_by(2900) {
            let bytes = start..end.min(start + 2900);
            segments.push(Segment::new(first.conversation, first.role, bytes));
        }
        known[first.conversation][first.role as usize] = end;
    }
    Some(Input {
        segments,
        ..input.clone()
    })
}

/// Some bounds are of packets; what is beyond them may be lost in one way of cutting, visibly. And
/// whether a lost connection can be followed again depends on where packets begin.
fn compare(mut first: Delta, mut second: Delta) {
    let bounds = ["lost bound", "lost pipeline", "resumed"];
    for delta in [&mut first, &mut second] {
        if bounds.iter().any(|name| delta.counters.contains_key(name)) {
            return;
        }
        // What is sent again, and how often the time is not known, are of packets, too.
        for name in ["again recv", "again sent", "untimed"] {
            delta.counters.remove(name);
        }
    }
    // A route may not be known of a path that is cut; then it is another element, for which there may
    // be no room.
    let other = |d: &Delta| d.answers.keys().any(|a| a.status == STATUS_OTHER);
    if other(&first) || other(&second) {
        first.answers.clear();
        second.answers.clear();
    }
    assert_eq!(first, second, "counted otherwise when cut otherwise");
}
