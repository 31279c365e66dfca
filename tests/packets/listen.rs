//! What who listens hears of requests: through the ring buffer, put together as `tap` does.

use std::cell::RefCell;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, RingBuffer, RingBufferBuilder};
use metricd::abi::{GRPC_STATUS_NONE, protocol};
use metricd::cli::tap::events::{Events, Request};
use nix::time::{ClockId, clock_gettime};

use crate::flow::{Client, Flow, Server};
use crate::http2::block::{Form, Text, indexed, literal, named};
use crate::http2::wire::{END_STREAM, PADDED, RST_STREAM, WITH_PRIORITY, frame, headers, padded};
use crate::http2::{answer, start};
use crate::kernel::{Kernel, Shared};

/// Bytes of a head that are shown: TAP_DATA of bpf/layout/abi.h.
const SHOWN: usize = 256;

fn until(kernel: &Kernel) -> u64 {
    let value = kernel.skel().maps.data_tap.lookup(&[0; 4], MapFlags::ANY);
    let value = value.expect("a lookup").expect("an element");
    u64::from_ne_bytes(value.try_into().expect("eight bytes"))
}

fn listen_until(kernel: &Kernel, until: u64) {
    let map = &kernel.skel().maps.data_tap;
    map.update(&[0; 4], &until.to_ne_bytes(), MapFlags::ANY)
        .expect("an update");
}

fn now() -> u64 {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .expect("a clock")
        .into();
    now.as_nanos() as u64
}

fn listen(kernel: &Kernel) {
    listen_until(kernel, now() + 60_000_000_000);
}

/// Takes what has come, and stops.
fn heard(kernel: &Kernel) -> Vec<Request> {
    listen_until(kernel, 0);
    let requests = RefCell::new(Vec::new());
    let events = RefCell::new(Events::default());
    ring(kernel, |event| {
        events
            .borrow_mut()
            .take(event, |request| requests.borrow_mut().push(request));
    })
    .consume()
    .expect("consume");
    requests.into_inner()
}

fn ring<'a>(kernel: &'a Kernel, mut take: impl FnMut(&[u8]) + 'a) -> RingBuffer<'a> {
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&kernel.skel().maps.linkerd_perf_map, move |event| {
            take(event);
            0
        })
        .expect("a ring buffer");
    builder.build().expect("a ring buffer")
}

fn on(test: impl FnOnce(&Kernel, &Flow)) {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    test(&kernel, &flow);
    flow.rst(Client);
    heard(&kernel);
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const MISSING: &str = "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno";

fn path(request: &Request) -> &str {
    request.head.path.as_deref().unwrap_or("-")
}

/// `path status`, or `path aborted`.
fn lines(requests: &[Request]) -> Vec<String> {
    let line = |r: &Request| match r.end.aborted {
        0 => format!("{} {}", path(r), r.end.status),
        _ => format!("{} aborted", path(r)),
    };
    requests.iter().map(line).collect()
}

#[test]
fn http1_with_all_that_is_known() {
    on(|kernel, flow| {
        listen(kernel);
        flow.request("POST /a?b=c HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        flow.response(OK);
        flow.request(get("/missing"));
        flow.response(MISSING);
        let requests = heard(kernel);
        assert_eq!(lines(&requests), ["/a?b=c 200", "/missing 404"]);
        let [first, second] = &requests[..] else {
            unreachable!()
        };
        assert_eq!(first.head.method.as_deref(), Some("POST"));
        assert_eq!(second.head.method.as_deref(), Some("GET"));
        assert_eq!((first.number, second.number), (Some(0), Some(1)));
        assert_eq!(first.connection, second.connection);
        assert_eq!(first.end.protocol, protocol::HTTP1);
        assert_eq!(first.end.grpc_status, GRPC_STATUS_NONE);
        assert_eq!(first.end.src_port, flow.ends[0].port);
        assert_eq!(first.source(), Some(flow.ends[0].ip));
        assert_eq!(first.destination(), flow.ends[1].ip);
        assert_eq!(first.end.dst_port, 80);
        assert!(first.end.ttfb_ns > 0 && first.end.ttfb_ns <= first.end.duration_ns);
    });
}

#[test]
fn nothing_while_nobody_listens() {
    on(|kernel, flow| {
        flow.request(get("/a"));
        flow.response(OK);
        // Who listened was killed some time ago: the programs stop asking.
        listen_until(kernel, now() - 1);
        flow.request(get("/b"));
        flow.response(OK);
        assert_eq!(until(kernel), 0);
        assert!(heard(kernel).is_empty());
    });
}

#[test]
fn a_request_from_before_has_no_path() {
    on(|kernel, flow| {
        flow.request(get("/a"));
        listen(kernel);
        flow.response(OK);
        flow.request(get("/b"));
        flow.response(OK);
        assert_eq!(lines(&heard(kernel)), ["- 200", "/b 200"]);
    });
}

#[test]
fn pipelined_requests_have_their_own_paths() {
    on(|kernel, flow| {
        listen(kernel);
        flow.request([get("/a"), get("/b"), get("/c")].concat());
        flow.request(get("/d"));
        flow.response([OK, MISSING].concat());
        flow.response([OK, MISSING].concat());
        let expected = ["/a 200", "/b 404", "/c 200", "/d 404"];
        assert_eq!(lines(&heard(kernel)), expected);
    });
}

#[test]
fn an_http1_head_that_is_cut_anywhere() {
    let path_of = "/a/path/that/is/longer/than/what/is/carried/over";
    let request = get(path_of);
    for cut in 1..request.len() {
        on(|kernel, flow| {
            listen(kernel);
            flow.request(&request[..cut]);
            flow.request(&request[cut..]);
            flow.response(OK);
            let requests = heard(kernel);
            let [request] = &requests[..] else {
                panic!("cut at {cut}: {requests:?}")
            };
            let path = path(request);
            assert_eq!(request.head.method.as_deref(), Some("GET"), "cut at {cut}");
            match request.head.is_cut {
                true => assert!(path_of.starts_with(path) && path.len() > 20, "{path}"),
                false => assert_eq!(path, path_of, "cut at {cut}"),
            }
        });
    }
}

#[test]
fn a_request_line_at_the_bound_and_beyond() {
    let around = "GET  HTTP/1.1".len();
    for (length, is_cut) in [
        (SHOWN, false),
        (SHOWN + 8, false),
        (SHOWN + 9, true),
        (2000, true),
    ] {
        on(|kernel, flow| {
            let path_of = format!("/{}", "x".repeat(length - around - 1));
            listen(kernel);
            flow.request(get(&path_of));
            flow.response(OK);
            let requests = heard(kernel);
            let [request] = &requests[..] else {
                panic!("{requests:?}")
            };
            assert_eq!(request.head.is_cut, is_cut, "{length}");
            match is_cut {
                true => assert_eq!(path(request), &path_of[..SHOWN - 4]),
                false => assert_eq!(path(request), path_of),
            }
        });
    }
}

#[test]
fn requests_that_a_connection_takes_with_it() {
    for rst in [true, false] {
        let kernel = Shared::get();
        let flow = Flow::open(&kernel, Shared::port());
        listen(&kernel);
        flow.request([get("/a"), get("/b"), get("/c")].concat());
        flow.response(OK);
        match rst {
            true => flow.rst(Server),
            false => flow.close(),
        }
        let requests = heard(&kernel);
        assert_eq!(lines(&requests), ["/a 200", "/b aborted", "/c aborted"]);
        // fin is the first of the reasons, rst the second.
        assert_eq!(requests[1].end.aborted, 1 + u8::from(rst));
    }
}

#[test]
fn answers_that_are_lost_are_shown_as_unknown() {
    on(|kernel, flow| {
        listen(kernel);
        flow.request([get("/a"), get("/b")].concat());
        flow.response("HTTP/1.1 2x0 OK\r\n\r\n");
        flow.request(get("/c"));
        assert_eq!(lines(&heard(kernel)), ["/a 0", "/b 0", "/c 0"]);
    });
}

#[test]
fn what_finds_no_room_is_counted() {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    let before = kernel.counters();
    let n = 500;
    listen(&kernel);
    for i in 0..n {
        flow.request(get(&format!("/{i}")));
        flow.response(OK);
    }
    // They are aborted at once.
    let (pipelined, shown) = (get("/last").repeat(7), heard(&kernel).len() as u64);
    listen(&kernel);
    flow.request(pipelined);
    flow.rst(Client);
    let aborted = heard(&kernel).len() as u64;
    let after = kernel.counters();
    let dropped = after.events_dropped - before.events_dropped;
    assert!(shown > 10 && dropped > 10, "{shown} and {dropped}");
    assert_eq!(shown + aborted + dropped, n + 7);
    assert_eq!(aborted, 7);
    assert!(after.heads_dropped > before.heads_dropped);
}

/// Of HTTP/2.
fn block(method: usize, path: Vec<u8>) -> Vec<u8> {
    [indexed(method), indexed(6), path].concat()
}

fn on2(test: impl FnOnce(&Kernel, &Flow)) {
    on(|kernel, flow| {
        start(flow);
        test(kernel, flow);
    });
}

#[test]
fn http2_by_table_literal_and_huffman() {
    on2(|kernel, flow| {
        listen(kernel);
        let paths = [
            indexed(4),
            indexed(5),
            named(Form::Plain, 4, Text::plain("/plain")),
            named(Form::Indexed, 4, Text::huffman("/huffman?1")),
            literal(Form::Never, Text::huffman(":path"), Text::plain("/by/name")),
            // The one that was inserted.
            indexed(62),
        ];
        let streams = (1..).step_by(2);
        for (path, stream) in paths.into_iter().zip(streams) {
            flow.request(headers(stream, END_STREAM, block(3, path)));
            flow.response(answer(stream, [0x88]));
        }
        let requests = heard(kernel);
        let expected = [
            "/ 200",
            "/index.html 200",
            "/plain 200",
            "/huffman?1 200",
            "/by/name 200",
            "/huffman?1 200",
        ];
        assert_eq!(lines(&requests), expected);
        assert!(
            requests
                .iter()
                .all(|r| r.head.method.as_deref() == Some("POST"))
        );
        assert_eq!(requests[5].number, Some(11));
        assert_eq!(requests[0].end.protocol, protocol::HTTP2);
    });
}

#[test]
fn what_was_inserted_unseen_is_unknown_and_what_came_after_is_not() {
    on2(|kernel, flow| {
        let insert = |path| block(2, named(Form::Indexed, 4, Text::plain(path)));
        flow.request(headers(1, END_STREAM, insert("/unseen")));
        listen(kernel);
        flow.request(headers(3, END_STREAM, insert("/seen")));
        flow.request(headers(5, END_STREAM, block(2, indexed(62))));
        flow.request(headers(7, END_STREAM, block(2, indexed(63))));
        for stream in [1, 3, 5, 7] {
            flow.response(answer(stream, [0x88]));
        }
        let expected = ["- 200", "/seen 200", "/seen 200", "- 200"];
        assert_eq!(lines(&heard(kernel)), expected);
    });
}

#[test]
fn a_head_that_found_no_room_spoils_no_other() {
    on2(|kernel, flow| {
        let insert = |path| block(2, named(Form::Indexed, 4, Text::plain(path)));
        listen(kernel);
        flow.request(headers(1, END_STREAM, insert("/seen")));
        listen_until(kernel, 0);
        flow.request(headers(3, END_STREAM, insert("/lost")));
        listen(kernel);
        flow.request(headers(5, END_STREAM, block(2, indexed(62))));
        flow.request(headers(7, END_STREAM, block(2, indexed(63))));
        for stream in [1, 3, 5, 7] {
            flow.response(answer(stream, [0x88]));
        }
        let expected = ["/seen 200", "- 200", "- 200", "/seen 200"];
        assert_eq!(lines(&heard(kernel)), expected);
    });
}

#[test]
fn http2_heads_that_are_cut_anywhere() {
    let insert = named(Form::Indexed, 4, Text::huffman("/a/path/of/some/length"));
    let payload = padded(4, [&[0, 0, 0, 0, 7][..], &block(2, insert)].concat());
    let flags = END_STREAM | 0x4 | PADDED | WITH_PRIORITY;
    let bytes = [
        frame(1, flags, 1, payload),
        headers(3, END_STREAM, block(3, indexed(62))),
    ]
    .concat();
    for cut in 1..bytes.len() {
        on2(|kernel, flow| {
            listen(kernel);
            flow.request(&bytes[..cut]);
            flow.request(&bytes[cut..]);
            flow.response(answer(3, [0x88]));
            flow.response(answer(1, [0x8d]));
            let expected = ["/a/path/of/some/length 200", "/a/path/of/some/length 404"];
            assert_eq!(lines(&heard(kernel)), expected, "cut at {cut}");
        });
    }
    on2(|kernel, flow| {
        listen(kernel);
        flow.send_in(Client, 1, &bytes);
        flow.response(answer(3, [0x88]));
        // Packets within a string of no interest to the counters are passed over unseen.
        assert_eq!(lines(&heard(kernel)), ["- 200"], "byte by byte");
    });
}

#[test]
fn many_requests_in_one_packet() {
    on2(|kernel, flow| {
        listen(kernel);
        let path = |n| {
            named(
                Form::Plain,
                4,
                Text::plain(["/a", "/b"][n as usize / 2 % 2]),
            )
        };
        let requests: Vec<u8> = (1..41)
            .step_by(2)
            .flat_map(|stream| headers(stream, END_STREAM, block(2, path(stream))))
            .collect();
        flow.request(requests);
        for stream in (1..41).step_by(2) {
            flow.response(answer(stream, [0x88]));
        }
        let expected = ["/a 200", "/b 200"].repeat(10);
        assert_eq!(lines(&heard(kernel)), expected);
    });
}

#[test]
fn streams_that_are_cancelled_and_those_the_connection_takes_with_it() {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    start(&flow);
    listen(&kernel);
    let path = |path| block(2, named(Form::Plain, 4, Text::plain(path)));
    for (stream, name) in [(1, "/a"), (3, "/b"), (5, "/c"), (7, "/d")] {
        flow.request(headers(stream, END_STREAM, path(name)));
    }
    flow.request(frame(RST_STREAM, 0, 3, [0, 0, 0, 8]));
    flow.response(frame(RST_STREAM, 0, 5, [0, 0, 0, 2]));
    flow.rst(Client);
    let requests = heard(&kernel);
    let mut lines = lines(&requests);
    assert_eq!(lines[..2], ["/b aborted", "/c aborted"]);
    lines.sort();
    assert_eq!(
        lines,
        ["/a aborted", "/b aborted", "/c aborted", "/d aborted"]
    );
    // cancelled, reset, rst: numbers of enum abort_reason, plus one.
    let reasons: Vec<u8> = requests.iter().map(|r| r.end.aborted).collect();
    assert_eq!(reasons, [5, 7, 2, 2]);
}

#[test]
fn grpc_with_its_status() {
    on2(|kernel, flow| {
        listen(kernel);
        let request = [
            block(3, named(Form::Plain, 4, Text::plain("/pkg.Service/Method"))),
            named(Form::Plain, 31, Text::plain("application/grpc")),
        ];
        flow.request(headers(1, END_STREAM, request.concat()));
        let status = literal(Form::Plain, Text::plain("grpc-status"), Text::plain("5"));
        flow.response([headers(1, 0, [0x88]), answer(1, status)].concat());
        let requests = heard(kernel);
        assert_eq!(lines(&requests), ["/pkg.Service/Method 200"]);
        assert_eq!(requests[0].end.protocol, protocol::GRPC);
        assert_eq!(requests[0].end.grpc_status, 5);
    });
}
