//! HTTP/2 frames in every order: the test plays both ends, so it knows what was said, and what had
//! been said when.

use crate::client::{Pair, reset};
use crate::fixture::{Pod, Shape};
use crate::observed::{Connections, Http};

/// Not a well-known port: what is HTTP/2 is found by the preface.
const PORT: u16 = 9000;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNHEARD_OF: u8 = 99;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;

const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

/// :method GET, :scheme http, :path /
const GET: &[u8] = b"\x82\x86\x84";
/// :method POST, :scheme http, :path /, content-type application/grpc
const CALL: &[u8] = b"\x83\x86\x84\x5f\x10application/grpc";
const OK: &[u8] = b"\x88";
const NOT_FOUND: &[u8] = b"\x8d";
/// :status 418, to be remembered.
const TEAPOT: &[u8] = b"\x48\x03418";
/// grpc-status 5, to be remembered.
const GRPC_NOT_FOUND: &[u8] = b"\x40\x0bgrpc-status\x015";
/// What was remembered last, and the time before.
const LAST: &[u8] = b"\xbe";
const LAST_BUT_ONE: &[u8] = b"\xbf";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a length")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// A head with which the stream ends.
fn whole(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A head that more follows.
fn head(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block)
}

fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

fn goaway(last: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

struct Session {
    pod: Pod,
    pair: Pair,
}

impl Session {
    fn begin() -> Self {
        let mut session = Self::begin_in(Shape::Plain);
        session.pair.client_says([PREFACE, &settings()].concat());
        session.pair.server_says(settings());
        session
    }

    /// Nothing said yet.
    fn begin_in(shape: Shape) -> Self {
        let pod = Pod::measured(shape, &[]);
        let pair = pod.pair(PORT);
        Self { pod, pair }
    }

    fn client(&mut self, frames: &[Vec<u8>]) {
        self.pair.client_says(frames.concat());
    }

    fn server(&mut self, frames: &[Vec<u8>]) {
        self.pair.server_says(frames.concat());
    }

    #[track_caller]
    fn shows(&self, expected: &Http) {
        expected.assert_as("http2", &self.pod.settled(|_| true), PORT);
    }

    /// Closes it, and compares.
    #[track_caller]
    fn ends_with(self, expected: &Http) {
        self.ends_as("http2", expected);
    }

    #[track_caller]
    fn ends_as(self, protocol: &str, expected: &Http) {
        let one_byte = self.pair.said_one_byte;
        self.pair.close();
        let scrape = self.pod.ended();
        expected.assert_as(protocol, &scrape, PORT);
        Connections::closed("fin", 1)
            .sent_again_in(&self.pod, &scrape, PORT, one_byte)
            .assert_in(&scrape, PORT);
    }
}

#[test]
fn in_flight_until_the_stream_ends() {
    let mut s = Session::begin();
    s.shows(&Http::default());
    s.client(&[whole(1, GET)]);
    s.shows(&Http::requests(1).in_flight(1));
    s.client(&[head(3, GET)]);
    s.shows(&Http::requests(2).in_flight(2));
    s.server(&[whole(3, NOT_FOUND)]);
    let not_found = |requests| Http::requests(requests).response("404", 1);
    s.shows(&not_found(2).in_flight(1));
    s.server(&[head(1, OK)]);
    s.shows(&not_found(2).in_flight(1));
    s.server(&[frame(DATA, 0, 1, b"ab")]);
    s.shows(&not_found(2).in_flight(1));
    s.server(&[frame(DATA, END_STREAM, 1, b"c")]);
    s.ends_with(&not_found(2).response("200", 1));
}

/// Everything that a frame can have around what it says, cut everywhere.
#[test]
fn one_byte_per_segment() {
    let mut s = Session::begin_in(Shape::Frames);
    s.pair.client_spells(PREFACE);
    let requests = [
        settings(),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 15]),
        frame(
            HEADERS,
            PADDED | WITH_PRIORITY | END_HEADERS | END_STREAM,
            1,
            &[&[3, 0, 0, 0, 0, 15], GET, &[0; 3]].concat(),
        ),
        frame(HEADERS, END_STREAM, 3, &GET[..1]),
        frame(CONTINUATION, 0, 3, &[]),
        frame(CONTINUATION, 0, 3, &GET[1..2]),
        frame(CONTINUATION, END_HEADERS, 3, &GET[2..]),
        frame(PING, 0, 0, b"12345678"),
        head(5, GET),
        frame(DATA, PADDED, 5, b"\x02body\0\0"),
        frame(DATA, END_STREAM, 5, &whole(7, GET)),
    ];
    for bytes in requests {
        s.pair.client_spells(bytes);
    }
    let responses = [
        settings(),
        frame(SETTINGS, ACK, 0, &[]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
        frame(UNHEARD_OF, 0xff, 1, b"whatever"),
        whole(1, TEAPOT),
        frame(HEADERS, PADDED, 5, &[&[1], LAST, &[0]].concat()),
        frame(CONTINUATION, END_HEADERS, 5, b"\x40\x01a\x01b"),
        frame(DATA, END_STREAM | PADDED, 5, b"\x02ok\0\0"),
        frame(HEADERS, END_STREAM, 3, b""),
        frame(CONTINUATION, END_HEADERS, 3, LAST_BUT_ONE),
    ];
    for bytes in responses {
        s.pair.server_spells(bytes);
    }
    s.ends_with(&Http::requests(3).response("418", 3));
}

#[test]
fn a_server_that_speaks_first() {
    let mut s = Session::begin_in(Shape::Plain);
    s.server(&[settings(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0])]);
    s.shows(&Http::default());
    s.pair.client_says([PREFACE, &settings()].concat());
    s.client(&[whole(1, GET)]);
    s.server(&[whole(1, OK)]);
    s.ends_with(&Http::requests(1).response("200", 1));
}

/// The preface, the settings and the first requests in one segment, the answers in another.
#[test]
fn all_at_once() {
    let mut s = Session::begin_in(Shape::Plain);
    let requests = [PREFACE.to_vec(), settings(), whole(1, GET), whole(3, GET)];
    s.client(&requests);
    s.server(&[settings(), whole(3, TEAPOT), whole(1, LAST)]);
    s.ends_with(&Http::requests(2).response("418", 2));
}

/// 250 outstanding, answered from the last to the first.
#[test]
fn many_streams_in_reverse() {
    let mut s = Session::begin();
    let streams = Vec::from_iter((0..250).map(|n| 2 * n + 1));
    let requests = Vec::from_iter(streams.iter().map(|&id| whole(id, GET)));
    s.client(&requests);
    s.shows(&Http::requests(250).in_flight(250));
    let answer = |&id: &u32| match id % 3 {
        0 => [head(id, OK), frame(DATA, END_STREAM, id, b"abc")].concat(),
        _ => whole(id, NOT_FOUND),
    };
    s.server(&Vec::from_iter(streams.iter().rev().map(answer)));
    let ok = streams.iter().filter(|id| *id % 3 == 0).count() as u64;
    let expected = Http::requests(250).response("200", ok);
    s.ends_with(&expected.response("404", 250 - ok));
}

/// Streams that live long, while many others come and go.
#[test]
fn a_stream_that_outlives_others() {
    let mut s = Session::begin();
    // One that ends before the stream which takes its place is answered, and one after that.
    s.client(&[whole(1, GET), whole(3, GET)]);
    s.server(&[head(1, OK), head(3, OK)]);
    for id in (5..1001).step_by(2) {
        s.client(&[whole(id, GET)]);
        if id == 257 {
            s.server(&[frame(DATA, END_STREAM, 1, b"abc")]);
        }
        s.server(&[whole(id, NOT_FOUND)]);
    }
    s.shows(
        &Http::requests(500)
            .response("404", 498)
            .response("200", 1)
            .in_flight(1),
    );
    s.server(&[whole(3, b"\x10\x01a\x01b")]);
    s.ends_with(&Http::requests(500).response("404", 498).response("200", 2));
}

/// However a parser cuts packets into pieces: a head is whole with its last byte.
#[test]
fn heads_of_every_length() {
    let mut s = Session::begin();
    let padding = |length: usize| {
        // A length of 7 bits and more, RFC 7541 section 5.1.
        let mut field = b"\x10\x01a".to_vec();
        match length.checked_sub(127) {
            None => field.push(length as u8),
            Some(more) => field.extend([127, more as u8 & 127 | 128, (more >> 7) as u8]),
        }
        field.resize(field.len() + length, b'x');
        field
    };
    for length in 0..1200 {
        let (id, field) = (2 * length as u32 + 1, padding(length));
        s.client(&[whole(id, &[GET, &field].concat())]);
        s.server(&[whole(id, &[NOT_FOUND, &field].concat())]);
    }
    s.shows(&Http::requests(1200).response("404", 1200));
    s.ends_with(&Http::requests(1200).response("404", 1200));
}

/// In one packet a stream ends and the one that wanted its place is answered.
#[test]
fn a_place_that_becomes_free() {
    for end in [
        whole(1, b"\x10\x01a\x01b"),
        frame(DATA, END_STREAM, 1, b"abc"),
    ] {
        let mut s = Session::begin();
        s.client(&[whole(1, GET)]);
        s.server(&[head(1, OK)]);
        s.client(&[whole(257, GET)]);
        s.server(&[end, whole(257, NOT_FOUND)]);
        s.ends_with(&Http::requests(2).response("200", 1).response("404", 1));
    }
}

/// Streams may be left out; they were never requests.
#[test]
fn stream_ids_that_are_skipped() {
    let mut s = Session::begin();
    s.client(&[whole(5, GET), whole(1001, GET)]);
    s.server(&[whole(1001, OK), whole(5, NOT_FOUND)]);
    s.client(&[whole(0x7fff_ffff, GET)]);
    s.server(&[whole(0x7fff_ffff, OK)]);
    let expected = Http::requests(3).response("200", 2);
    s.ends_with(&expected.response("404", 1));
}

/// More heads than the first one are no more requests or responses.
#[test]
fn trailers_and_interim_responses() {
    let mut s = Session::begin();
    s.client(&[
        head(1, GET),
        frame(DATA, 0, 1, b"abc"),
        whole(1, b"\x10\x01a\x01b"),
    ]);
    // 100 and 103.
    s.server(&[
        head(1, b"\x08\x03100"),
        head(1, b"\x48\x03103"),
        head(1, OK),
    ]);
    s.shows(&Http::requests(1).in_flight(1));
    s.server(&[frame(DATA, 0, 1, b"abc"), whole(1, b"\x10\x01a\x01b")]);
    s.client(&[whole(3, GET)]);
    s.server(&[whole(3, NOT_FOUND)]);
    let expected = Http::requests(2).response("200", 1);
    s.ends_with(&expected.response("404", 1));
}

/// Entries that come in, are used, are pushed out by a smaller table, and come in again.
#[test]
fn the_dynamic_table() {
    let mut s = Session::begin();
    let requests = Vec::from_iter((0..7).map(|n| whole(2 * n + 1, GET)));
    s.client(&requests);
    s.server(&[
        whole(1, TEAPOT),
        whole(3, b"\x48\x03503"),
        whole(5, LAST_BUT_ONE),
        whole(7, LAST),
        // The table's size to 0 and to 4,096 again: it is empty.
        whole(9, &[b"\x20\x3f\xe1\x1f", TEAPOT].concat()),
        // By the name of an entry, not remembered itself; then as one never to be.
        whole(11, b"\x0f\x2f\x03500"),
        whole(13, b"\x1f\x2f\x03204"),
    ]);
    s.ends_with(
        &Http::requests(7)
            .response("418", 3)
            .response("503", 2)
            .response("500", 1)
            .response("204", 1),
    );
}

#[test]
fn cancelled_by_the_client() {
    let mut s = Session::begin();
    s.client(&[whole(1, GET), head(3, GET), whole(5, GET), whole(7, GET)]);
    s.server(&[head(5, OK), whole(7, OK)]);
    // The last one has its answer already; another never was a request.
    let resets = [1, 3, 5, 7].map(|id| rst(id, CANCEL));
    s.client(&resets);
    let expected = || {
        let shown = Http::requests(4).response("200", 1);
        shown.aborted("cancelled", 2).aborted("stopped", 1)
    };
    s.shows(&expected());
    // What was on its way.
    s.server(&[
        whole(1, NOT_FOUND),
        frame(DATA, END_STREAM, 5, b"abc"),
        rst(3, 1),
    ]);
    s.ends_with(&expected());
}

/// A server that wants no more of a request says so after its response.
#[test]
fn a_response_before_the_request_ends() {
    let mut s = Session::begin();
    s.client(&[head(1, GET), frame(DATA, 0, 1, b"abc")]);
    s.server(&[head(1, NOT_FOUND), frame(DATA, END_STREAM, 1, b"no")]);
    s.shows(&Http::requests(1).response("404", 1));
    s.server(&[rst(1, NO_ERROR)]);
    s.client(&[frame(DATA, END_STREAM, 1, b"abc"), rst(1, CANCEL)]);
    s.ends_with(&Http::requests(1).response("404", 1));
}

#[test]
fn goaway_refuses_what_is_above() {
    let mut s = Session::begin();
    s.client(&Vec::from_iter((0..5).map(|n| whole(2 * n + 1, GET))));
    s.server(&[whole(1, OK)]);
    // First that it is going to, as servers do.
    s.server(&[goaway(0x7fff_ffff), frame(PING, 0, 0, b"12345678")]);
    s.shows(&Http::requests(5).response("200", 1).in_flight(4));
    s.client(&[frame(PING, ACK, 0, b"12345678")]);
    s.server(&[goaway(5)]);
    let shown = Http::requests(5).response("200", 1).aborted("refused", 2);
    s.shows(&shown.in_flight(2));
    s.server(&[whole(5, NOT_FOUND), whole(3, OK)]);
    let expected = Http::requests(5).response("200", 2).response("404", 1);
    s.ends_with(&expected.aborted("refused", 2));
}

#[test]
fn goaway_with_many_streams() {
    let mut s = Session::begin();
    s.client(&Vec::from_iter((0..250).map(|n| whole(2 * n + 1, GET))));
    s.server(&[goaway(99)]);
    let refused = Http::requests(250).aborted("refused", 200);
    s.shows(&refused.clone().in_flight(50));
    s.server(&Vec::from_iter((0..50).map(|n| whole(2 * n + 1, OK))));
    s.ends_with(&refused.response("200", 50));
}

/// What is left of connections with many open streams is in no later one's way.
#[test]
fn many_connections_that_end_with_many_streams() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let streams = Vec::from_iter((0..250).map(|n| 2 * n + 1));
    let said = |frames: Vec<Vec<u8>>| frames.concat();
    let requests = said(streams.iter().map(|&id| whole(id, GET)).collect());
    let responses = said(streams.iter().map(|&id| whole(id, OK)).collect());
    let open = 40;
    for _ in 0..open {
        let mut pair = pod.pair(PORT);
        pair.client_says([PREFACE, &settings(), &requests].concat());
        pair.server_says(settings());
        reset(pair.client);
    }
    let mut pair = pod.pair(PORT);
    pair.client_says([PREFACE, &settings(), &requests].concat());
    pair.server_says([settings(), responses].concat());
    pair.close();
    let expected = Http::requests(250 * (open + 1)).response("200", 250);
    let scrape = pod.ended();
    expected
        .aborted("rst", 250 * open)
        .assert_as("http2", &scrape, PORT);
}

/// The client's GOAWAY is about what the server starts.
#[test]
fn goaway_by_the_client() {
    let mut s = Session::begin();
    s.client(&[whole(1, GET), goaway(0)]);
    s.shows(&Http::requests(1).in_flight(1));
    s.server(&[whole(1, OK)]);
    s.ends_with(&Http::requests(1).response("200", 1));
}

#[test]
fn connections_that_end_with_open_streams() {
    let mut s = Session::begin();
    s.client(&[whole(1, GET), whole(3, GET), head(5, GET)]);
    s.server(&[whole(1, OK), head(3, OK)]);
    let Session { pod, pair } = s;
    pair.close_server_first();
    let shown = Http::requests(3).response("200", 1);
    shown
        .aborted("fin", 2)
        .assert_as("http2", &pod.ended(), PORT);

    let mut s = Session::begin();
    s.client(&[whole(1, GET), whole(3, GET), whole(5, GET)]);
    s.server(&[whole(1, OK)]);
    let Session { pod, pair } = s;
    reset(pair.client);
    let shown = Http::requests(3).response("200", 1);
    shown
        .aborted("rst", 2)
        .assert_as("http2", &pod.ended(), PORT);
}

#[test]
fn a_status_of_grpc_by_the_table() {
    let mut s = Session::begin();
    s.client(&Vec::from_iter((0..3).map(|n| whole(2 * n + 1, CALL))));
    s.server(&[
        head(1, OK),
        frame(DATA, 0, 1, b"\0\0\0\0\x01x"),
        whole(1, GRPC_NOT_FOUND),
        // Trailers only.
        whole(3, &[OK, LAST].concat()),
        head(5, OK),
        whole(5, b"\x0f\x2f\x0216"),
    ]);
    let mut expected = Http::requests(3).response("200", 3);
    expected.grpc = [("5", 2), ("16", 1)]
        .map(|(status, count)| (status.to_owned(), count))
        .into();
    s.ends_as("grpc", &expected);
}
