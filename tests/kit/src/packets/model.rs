//! What is to be counted of a connection, from its two streams and the order of the segments in
//! which they were seen. Written from RFC 9112 and RFC 9293: the messages are found in the whole
//! streams beforehand, and the segments then only say how far each stream is known.

use std::collections::BTreeMap;
use std::ops::Range;

use metricd::abi::{AbortedValue, LostValue, Merge, RequestsValue};

use crate::packets::flow::{Client, Flow, Role, Server};
use crate::packets::kernel::{Answer, Seen};

/// What is counted of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L7 {
    pub requests: RequestsValue,
    pub responses: BTreeMap<Answer, u64>,
    pub aborted: AbortedValue,
    pub in_flight: u64,
    pub lost: LostValue,
}

impl L7 {
    /// What the programs have counted of a connection.
    pub fn of(flow: &Flow) -> Self {
        let Seen { total, answers, .. } = flow.seen();
        Self {
            requests: total.requests,
            responses: answers,
            aborted: total.aborted,
            in_flight: total.requests.total().wrapping_sub(total.ended),
            lost: total.lost,
        }
    }

    /// Requests of HTTP/1 and their responses by status; those without are in flight.
    pub fn seen(http1: u64, responses: &[(u16, u64)]) -> Self {
        let requests = RequestsValue {
            http1,
            ..Default::default()
        };
        Self::answered(requests, responses, Answer::http1)
    }

    /// The same of HTTP/2.
    pub fn http2(http2: u64, responses: &[(u16, u64)]) -> Self {
        let requests = RequestsValue {
            http2,
            ..Default::default()
        };
        Self::answered(requests, responses, Answer::http2)
    }

    /// The same of gRPC, by status and gRPC status.
    pub fn grpc(grpc: u64, responses: &[((u16, u8), u64)]) -> Self {
        let requests = RequestsValue {
            grpc,
            ..Default::default()
        };
        Self::answered(requests, responses, |(status, grpc_status)| {
            Answer::grpc(status, grpc_status)
        })
    }

    fn answered<A: Copy>(
        requests: RequestsValue,
        responses: &[(A, u64)],
        answer: impl Fn(A) -> Answer,
    ) -> Self {
        let responses: BTreeMap<_, _> = responses.iter().map(|(a, n)| (answer(*a), *n)).collect();
        Self {
            requests,
            in_flight: requests.total() - responses.values().sum::<u64>(),
            responses,
            ..Self::default()
        }
    }

    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.requests.merge(&other.requests);
        for (answer, n) in other.responses {
            *self.responses.entry(answer).or_default() += n;
        }
        self.aborted.merge(&other.aborted);
        self.in_flight += other.in_flight;
        self.lost.merge(&other.lost);
        self
    }

    pub fn lost(mut self, lost: LostValue) -> Self {
        self.lost = lost;
        self
    }

    /// With what is in flight aborted.
    pub fn aborted(mut self, aborted: AbortedValue) -> Self {
        self.in_flight = 0;
        self.aborted = aborted;
        self
    }
}

/// Where the parts of a message are in its stream. What has no end is not there.
#[derive(Debug, Default)]
struct Message {
    /// Of a request; that a response answers.
    method: Vec<u8>,
    status: u16,
    line_end: Option<usize>,
    head_end: Option<usize>,
    end: Option<usize>,
    until_close: bool,
    /// The connection is something else from here on.
    switches: bool,
    /// Bytes that need not be seen to know how the message goes on.
    opaque: Vec<Range<usize>>,
}

/// The line at `at` without its end, and where the next one begins.
fn line(stream: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = stream.get(at..)?;
    let len = rest.iter().position(|b| *b == b'\n')?;
    let text = &rest[..len];
    Some((text.strip_suffix(b"\r").unwrap_or(text), at + len + 1))
}

/// The fields from `at` on, and where the empty line behind them ends.
fn fields(stream: &[u8], mut at: usize) -> Option<(Vec<(String, String)>, usize)> {
    let mut all = Vec::new();
    loop {
        let (text, next) = line(stream, at)?;
        at = next;
        if text.is_empty() {
            return Some((all, at));
        }
        let text = String::from_utf8_lossy(text);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        all.push((name.to_ascii_lowercase(), value.trim().to_ascii_lowercase()));
    }
}

/// RFC 9112 section 6.3, from the head's end on.
fn body(stream: &[u8], message: &mut Message, fields: &[(String, String)]) {
    let at = message.head_end.expect("a head");
    let response = message.status != 0;
    let coding = fields.iter().filter(|f| f.0 == "transfer-encoding");
    let coding = coding.map(|f| f.1.as_str()).collect::<Vec<_>>().join(",");
    let length = fields.iter().find(|f| f.0 == "content-length");
    if response && (message.method == b"HEAD" || matches!(message.status, 100..200 | 204 | 304)) {
        message.end = Some(at);
    } else if coding.rsplit(',').next().map(str::trim) == Some("chunked") {
        message.end = chunks(stream, at, &mut message.opaque);
    } else if let (Some((_, length)), true) = (length, coding.is_empty()) {
        let end = at + length.parse::<usize>().expect("a length");
        message.opaque.push(at..end);
        message.end = (end <= stream.len()).then_some(end);
    } else if response {
        message.until_close = true;
        message.opaque.push(at..usize::MAX);
    } else {
        message.end = Some(at);
    }
}

/// RFC 9112 section 7.1: where the last chunk's trailers end.
fn chunks(stream: &[u8], mut at: usize, opaque: &mut Vec<Range<usize>>) -> Option<usize> {
    loop {
        let (text, next) = line(stream, at)?;
        let text = std::str::from_utf8(text).expect("a chunk's line");
        let digits = text.split(';').next().expect("a size").trim();
        let size = usize::from_str_radix(digits, 16).expect("a size");
        if size == 0 {
            return fields(stream, next).map(|f| f.1);
        }
        at = next + size + 2;
        opaque.push(next..at);
        if at > stream.len() {
            return None;
        }
    }
}

/// The messages of a stream. `asked` are the methods that the responses answer, for responses.
fn messages(stream: &[u8], asked: Option<&[Vec<u8>]>) -> Vec<Message> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut finals = 0;
    while at < stream.len() {
        let mut m = Message::default();
        let Some((first, next)) = line(stream, at) else {
            break;
        };
        if first.is_empty() {
            at = next;
            continue;
        }
        m.line_end = Some(next);
        let mut words = first.split(|b| *b == b' ');
        if let Some(asked) = asked {
            let status = words.nth(1).expect("a status");
            m.status = String::from_utf8_lossy(status).parse().expect("a status");
            m.method = asked.get(finals).cloned().unwrap_or_default();
        } else {
            m.method = words.next().expect("a method").to_vec();
        }
        if let Some((fields, head_end)) = fields(stream, next) {
            m.head_end = Some(head_end);
            m.switches = m.status == 101 || (m.method == b"CONNECT" && m.status / 100 == 2);
            if m.switches {
                m.end = Some(head_end);
            } else {
                body(stream, &mut m, &fields);
            }
        }
        finals += usize::from(m.status >= 200 || m.status == 101);
        let go_on = if m.switches { None } else { m.end };
        all.push(m);
        let Some(end) = go_on else {
            break;
        };
        at = end;
    }
    all
}

/// Something that a stream says when it is known up to a place.
#[derive(Clone, Copy, Debug)]
enum Event {
    Request,
    /// The head of a final response.
    Answer,
    Done(u16),
    Switch,
}

/// Of bpf/net/state.h.
pub const EARLY_RANGES: usize = 8;

/// What is known of one stream.
#[derive(Debug, Default)]
struct Side {
    /// In order, each with its place.
    events: Vec<(usize, Event)>,
    opaque: Vec<Range<usize>>,
    /// Status of the response that the end of the stream completes.
    closes_with: Option<(usize, u16)>,
    fired: usize,
    known: usize,
    lost: bool,
    /// Behind a response that no request has asked for.
    unasked: bool,
    /// What came too early and was kept.
    early: [Range<usize>; EARLY_RANGES],
    /// Hull of what was not.
    ahead: Range<usize>,
    /// By place: what was seen. A FIN is a byte behind the stream.
    seen: Vec<bool>,
    /// Two holes at a time, which the programs take for one, or the like.
    blurred: bool,
    retransmits: u64,
}

#[derive(Debug)]
pub struct Model {
    inbound: bool,
    sides: [Side; 2],
    len: [usize; 2],
    opaque: bool,
    answers_lost: bool,
    pub l7: L7,
}

impl Model {
    pub fn new(inbound: bool, client: &[u8], server: &[u8]) -> Self {
        let requests = messages(client, None);
        let asked: Vec<_> = requests.iter().map(|m| m.method.clone()).collect();
        let responses = messages(server, Some(&asked));
        let mut sides = [Side::default(), Side::default()];
        for m in requests {
            sides[0]
                .events
                .extend(m.line_end.map(|at| (at, Event::Request)));
            sides[0].opaque.extend(m.opaque);
        }
        for m in responses {
            let side = &mut sides[1];
            side.opaque.extend(m.opaque);
            let Some(head) = m.head_end else { continue };
            if m.status < 200 && m.status != 101 {
                continue;
            }
            side.events.push((head, Event::Answer));
            if m.until_close {
                side.closes_with = Some((head, m.status));
            }
            side.events
                .extend(m.end.map(|at| (at, Event::Done(m.status))));
            if m.switches {
                side.events.push((head, Event::Switch));
            }
        }
        for (side, stream) in sides.iter_mut().zip([client, server]) {
            side.seen = vec![false; stream.len() + 1];
        }
        Self {
            inbound,
            sides,
            len: [client.len(), server.len()],
            opaque: false,
            answers_lost: false,
            l7: L7::default(),
        }
    }

    /// The requests of the whole streams, and the responses by status.
    pub fn whole(&self) -> (u64, BTreeMap<u16, u64>) {
        let asked = self.sides[0].events.iter();
        let asked = asked
            .filter(|(_, event)| matches!(event, Event::Request))
            .count();
        let done = self.sides[1]
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Done(status) => Some(*status),
                _ => None,
            });
        let mut answered = BTreeMap::new();
        for status in done.chain(self.sides[1].closes_with.map(|(_, status)| status)) {
            *answered.entry(status).or_default() += 1;
        }
        (asked as u64, answered)
    }

    /// Bytes of a stream were seen, and its end with `fin`.
    pub fn segment(&mut self, role: Role, bytes: Range<usize>, fin: bool) {
        self.retransmit(role, bytes.clone(), fin);
        let side = &mut self.sides[role as usize];
        if !side.lost && !self.opaque && (!bytes.is_empty() || fin) {
            self.follow(role, bytes);
        }
        let side = &self.sides[role as usize];
        if fin
            && !side.lost
            && !side.unasked
            && !self.opaque
            && let Some((head, status)) = side.closes_with
            && side.known >= head
        {
            self.sides[role as usize].closes_with = None;
            self.fire(role, Event::Done(status));
        }
    }

    fn follow(&mut self, role: Role, bytes: Range<usize>) {
        let side = &mut self.sides[role as usize];
        if bytes.start > side.known && !side.skips(bytes.start) {
            if !side.keep(&bytes) {
                side.ahead = if side.ahead.is_empty() {
                    bytes
                } else {
                    side.ahead.start.min(bytes.start)..side.ahead.end.max(bytes.end)
                };
            }
            return;
        }
        if bytes.end <= side.known {
            return;
        }
        self.known(role, bytes.end);
        loop {
            let side = &mut self.sides[role as usize];
            if side.lost || self.opaque {
                return;
            }
            if let Some(end) = side.take() {
                self.known(role, end);
                continue;
            }
            if side.ahead.is_empty() || side.known < side.ahead.start {
                return;
            }
            let end = std::mem::take(&mut side.ahead).end;
            if end <= side.known {
                continue;
            }
            if side.skips(end) {
                self.known(role, end);
            } else {
                self.lose(role);
                self.l7.lost.gap += 1;
            }
        }
    }

    /// The stream is known up to `end`.
    fn known(&mut self, role: Role, end: usize) {
        // A server that speaks before there was a request does not speak HTTP.
        self.opaque |= role == Server && self.l7.requests.http1 == 0 && end > 0;
        self.sides[role as usize].known = end;
        if self.sides[role as usize].unasked && self.l7.in_flight > 0 && !self.opaque {
            self.lose(role);
            self.l7.lost.unsolicited += 1;
        }
        loop {
            let side = &mut self.sides[role as usize];
            let Some((at, event)) = side.events.get(side.fired).copied() else {
                return;
            };
            if at > end || side.lost || side.unasked || self.opaque {
                return;
            }
            side.fired += 1;
            self.fire(role, event);
        }
    }

    fn fire(&mut self, role: Role, event: Event) {
        match event {
            Event::Request => {
                self.l7.requests.http1 += 1;
                if self.answers_lost {
                    *self.l7.responses.entry(Answer::http1(0)).or_default() += 1;
                } else {
                    self.l7.in_flight += 1;
                }
            }
            Event::Answer if self.l7.in_flight == 0 => self.sides[role as usize].unasked = true,
            Event::Answer => {}
            Event::Done(status) => {
                *self.l7.responses.entry(Answer::http1(status)).or_default() += 1;
                self.l7.in_flight -= 1;
            }
            Event::Switch => self.opaque = true,
        }
    }

    fn lose(&mut self, role: Role) {
        self.sides[role as usize].lost = true;
        if role == Server {
            self.answers_lost = true;
            let n = std::mem::take(&mut self.l7.in_flight);
            if n > 0 {
                *self.l7.responses.entry(Answer::http1(0)).or_default() += n;
            }
        }
    }

    fn retransmit(&mut self, role: Role, bytes: Range<usize>, fin: bool) {
        let len = self.len[role as usize];
        let side = &mut self.sides[role as usize];
        let places = || bytes.clone().chain(fin.then_some(len));
        let end = side.seen.iter().rposition(|s| *s).map_or(0, |i| i + 1);
        // Other hosts probe with the last byte: what comes in so is no retransmission.
        let probe =
            (role == Client) == self.inbound && !fin && bytes.len() == 1 && bytes.end == end;
        if !probe && places().any(|at| side.seen[at]) {
            side.retransmits += 1;
        }
        // Part of it old, part of it in a hole: the programs leave the hole as it was.
        side.blurred |=
            places().any(|at| side.seen[at]) && places().any(|at| at < end && !side.seen[at]);
        for at in places() {
            side.seen[at] = true;
        }
        let holes = side.seen.windows(2).filter(|w| !w[0] && w[1]).count();
        side.blurred |= holes > 1;
    }

    /// Whether the programs' count of retransmits is right: exactly, or where what is missing
    /// was more than they remember, at most.
    pub fn retransmits(&self, role: Role, counted: u64) -> bool {
        let side = &self.sides[role as usize];
        if side.blurred {
            counted <= side.retransmits
        } else {
            counted == side.retransmits
        }
    }
}

impl Side {
    /// Keeps what came too early, if there is room.
    fn keep(&mut self, bytes: &Range<usize>) -> bool {
        let mut place = None;
        for range in &mut self.early {
            if Range::is_empty(range) {
                place = Some(range);
            } else if bytes.end >= range.start && range.end >= bytes.start {
                *range = range.start.min(bytes.start)..range.end.max(bytes.end);
                return true;
            }
        }
        place.map(|range| *range = bytes.clone()).is_some()
    }

    /// The end of what was kept from where the stream is known to.
    fn take(&mut self) -> Option<usize> {
        for range in &mut self.early {
            if range.end <= self.known {
                *range = 0..0;
            } else if range.start <= self.known {
                return Some(std::mem::take(range).end);
            }
        }
        None
    }

    /// Whether the bytes from where the stream is known up to `end` need not be seen.
    fn skips(&self, end: usize) -> bool {
        let known = self.known;
        !self.unasked
            && self
                .opaque
                .iter()
                .any(|o| o.contains(&known) && end <= o.end)
    }
}
