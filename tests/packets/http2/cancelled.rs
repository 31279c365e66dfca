//! Streams that end before their answers: by whom, and whether at the client's deadline.

use std::thread::sleep;
use std::time::Duration;

use metricd::abi::protocol::{GRPC, HTTP2};

use super::block::{Form, NEWEST, Text, indexed, literal, named, plain};
use super::wire::{END_STREAM, data, headers, rst_stream};
use super::{OK, get, with};
use crate::flow::{Client, Flow, Server};

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;

/// A request of gRPC, with further fields.
fn call(stream: u32, fields: impl AsRef<[u8]>) -> Vec<u8> {
    let grpc = named(Form::Plain, 31, Text::plain("application/grpc"));
    let block = [&[0x83, 0x86, 0x84][..], &grpc, fields.as_ref()].concat();
    headers(stream, END_STREAM, block)
}

fn timeout(form: Form, value: Text) -> Vec<u8> {
    literal(form, Text::plain("grpc-timeout"), value)
}

/// The head of an answer, and a message.
fn begun(stream: u32) -> Vec<u8> {
    [headers(stream, 0, OK), data(stream, 0, "\0\0\0\0\x02hi")].concat()
}

#[track_caller]
fn assert_aborted(f: &Flow, expected: &[((u8, &'static str), u64)]) {
    let seen = f.seen();
    assert_eq!(seen.aborted, expected.iter().copied().collect());
    assert_eq!(seen.total.ended, seen.total.requests.total());
}

/// What a call's end is called whose request has these fields. The client resets it after a pause, with
/// or without the answer's beginning.
fn ended(fields: &[u8], answer: bool, pause: Duration) -> &'static str {
    let mut reason = "";
    with(|f| {
        f.request(call(1, fields));
        if answer {
            f.response(begun(1));
        }
        sleep(pause);
        f.send(Client, rst_stream(1, CANCEL));
        let aborted = f.seen().aborted;
        assert_eq!(aborted.values().sum::<u64>(), 1, "{aborted:?}");
        reason = aborted.keys().next().expect("one").1;
    });
    reason
}

#[test]
fn at_and_before_the_deadline() {
    let pause = Duration::from_millis(20);
    // Ten milliseconds, and what is much longer than the pause.
    for value in [
        "10m",
        "10000u",
        "10000000n",
        "00000010m",
        "1n",
        "0S",
        "20m",
        "3m",
    ] {
        for text in [Text::plain(value), Text::huffman(value)] {
            for form in [Form::Plain, Form::Never, Form::Indexed] {
                let fields = timeout(form, text);
                assert_eq!(ended(&fields, false, pause), "timeout", "{value}");
                assert_eq!(ended(&fields, true, pause), "timeout", "{value}");
            }
        }
    }
    for value in [
        "30S",
        "30000m",
        "30000000u",
        "1M",
        "1H",
        "99999999H",
        "99999999M",
        "99999999S",
        "99999999m",
    ] {
        for text in [Text::plain(value), Text::huffman(value)] {
            let fields = timeout(Form::Plain, text);
            assert_eq!(ended(&fields, false, pause), "cancelled", "{value}");
            assert_eq!(ended(&fields, true, pause), "stopped", "{value}");
        }
    }
}

#[test]
fn what_is_no_deadline() {
    for value in [
        "",
        "S",
        "1",
        "1s",
        "1 S",
        "1SS",
        "-1S",
        "1S ",
        "1.5S",
        "123456789m",
        "\u{7f}1m",
    ] {
        let fields = timeout(Form::Plain, Text::plain(value));
        let pause = Duration::from_millis(2);
        assert_eq!(ended(&fields, true, pause), "stopped", "{value}");
        assert_eq!(ended(&fields, false, pause), "cancelled", "{value}");
    }
    // Of an answer it says nothing, and of a request a status does not.
    with(|f| {
        f.request(call(1, plain("grpc-status", "1")));
        let fields = timeout(Form::Plain, Text::plain("1n"));
        f.response(headers(1, 0, [&OK[..], &fields].concat()));
        f.send(Client, rst_stream(1, CANCEL));
        assert_aborted(f, &[((GRPC, "stopped"), 1)]);
    });
    with(|f| {
        f.request(call(1, []));
        let fields = timeout(Form::Plain, Text::plain("1n"));
        f.response(headers(
            1,
            END_STREAM,
            [&OK[..], &plain("grpc-status", "5"), &fields].concat(),
        ));
        let answers = f.seen().answers;
        assert_eq!(answers.keys().next().expect("one").grpc_status, 5);
    });
}

/// The table has the name, the whole field, and then a block that is short enough to be remembered.
#[test]
fn from_the_dynamic_table() {
    with(|f| {
        f.request(call(1, timeout(Form::Indexed, Text::plain("1n"))));
        f.request(call(3, indexed(NEWEST)));
        let short = [&[0x83, 0x86, 0x84][..], &indexed(NEWEST)].concat();
        for stream in [5, 7, 9] {
            f.request(headers(stream, END_STREAM, &short));
        }
        f.request(call(11, named(Form::Plain, NEWEST, Text::plain("30S"))));
        for stream in [1, 3, 5, 7, 9, 11] {
            f.send(Client, rst_stream(stream, CANCEL));
        }
        let expected = [
            ((HTTP2, "timeout"), 3),
            ((GRPC, "cancelled"), 1),
            ((GRPC, "timeout"), 2),
        ];
        assert_aborted(f, &expected);
    });
}

#[test]
fn by_code() {
    for (code, reason) in [
        (CANCEL, "stopped"),
        (NO_ERROR, "stopped"),
        (INTERNAL_ERROR, "cancelled"),
    ] {
        with(|f| {
            f.request(get(1));
            f.response(begun(1));
            f.send(Client, rst_stream(1, code));
            assert_aborted(f, &[((HTTP2, reason), 1)]);
        });
    }
    // The server never stops what it has begun.
    for (value, reason) in [("1n", "timeout"), ("30S", "cancelled")] {
        with(|f| {
            f.request(call(1, timeout(Form::Plain, Text::plain(value))));
            f.response(begun(1));
            f.send(Server, rst_stream(1, CANCEL));
            assert_aborted(f, &[((GRPC, reason), 1)]);
        });
    }
}

/// Each is told apart, and has the time that it was waited for; those that were stopped have none.
#[test]
fn times_of_what_ends_with_the_connection() {
    let pause = Duration::from_millis(20);
    with(|f| {
        for stream in 0..300 {
            let (request, stream) = (stream % 3, 2 * stream + 1);
            f.request(match request {
                0 => call(stream, []),
                _ => get(stream),
            });
        }
        f.response(begun(1));
        f.send(Client, rst_stream(1, CANCEL));
        sleep(pause);
        f.close();
        let seen = f.seen();
        let expected = [
            ((HTTP2, "fin"), 200),
            ((GRPC, "fin"), 99),
            ((GRPC, "stopped"), 1),
        ];
        assert_aborted(f, &expected);
        let [duration, ttfb] = [seen.latency.duration(), seen.latency.ttfb()];
        assert_eq!(
            (duration.count(), ttfb.count(), seen.total.untimed),
            (299, 0, 0)
        );
        let sum = Duration::from_nanos(duration.sum_ns);
        assert!(sum >= 299 * pause, "{sum:?}");
    });
}
