//! Where time is taken: from the first byte of a request's first frame, to that of the response's
//! final header block and to END_STREAM.

use std::thread::sleep;
use std::time::Duration;

use super::block::plain;
use super::wire::{END_STREAM, data, headers, headers_in};
use super::{GET, OK, answer, get, with};
use crate::flow::Flow;

const PAUSE: Duration = Duration::from_millis(20);

fn pause() {
    sleep(PAUSE);
}

/// How long the responses took, and how long until they began, in all.
fn times(f: &Flow) -> [Duration; 2] {
    let latency = f.seen().latency;
    assert_eq!(f.total().untimed, 0);
    [latency.duration(), latency.ttfb()].map(|h| Duration::from_nanos(h.sum_ns))
}

#[test]
fn to_the_end_of_the_stream() {
    with(|f| {
        f.request(get(1));
        f.response(headers(1, 0, OK));
        pause();
        f.response(data(1, 0, "x"));
        pause();
        f.response(data(1, END_STREAM, "x"));
        let [duration, first] = times(f);
        assert!(duration >= first + 2 * PAUSE, "{duration:?} {first:?}");
    });
}

#[test]
fn from_the_first_byte() {
    with(|f| {
        let request = headers_in(1, END_STREAM, &[&GET[..1], &GET[1..]]);
        f.request(&request[..1]);
        pause();
        f.request(&request[1..9]);
        pause();
        f.request(&request[9..]);
        f.response(answer(1, OK));
        let [duration, first] = times(f);
        assert!(duration >= 2 * PAUSE, "{duration:?}");
        assert_eq!(duration, first);
    });
}

#[test]
fn from_the_first_byte_of_many_segments() {
    for n in 1..5 {
        with(|f| {
            let request = get(1);
            for byte in &request[..n] {
                f.request([*byte]);
                pause();
            }
            f.request(&request[n..]);
            f.response(answer(1, OK));
            let [duration, _] = times(f);
            assert!(duration >= n as u32 * PAUSE, "{n}: {duration:?}");
        });
    }
}

#[test]
fn of_the_request_not_its_body() {
    with(|f| {
        f.request(headers(1, 0, GET));
        pause();
        f.request(data(1, END_STREAM, "x"));
        f.response(answer(1, OK));
        let [duration, first] = times(f);
        assert!(
            first >= PAUSE && duration == first,
            "{duration:?} {first:?}"
        );
    });
}

#[test]
fn interim_response_is_not_the_first_byte() {
    with(|f| {
        f.request(get(1));
        f.response(headers(1, 0, plain(":status", "103")));
        pause();
        f.response(headers(1, 0, OK));
        f.response(answer(1, plain("trailer", "1")));
        let [duration, first] = times(f);
        assert!(
            duration >= first && first >= PAUSE,
            "{duration:?} {first:?}"
        );
    });
}

#[test]
fn trailers_are_not_the_first_byte() {
    with(|f| {
        f.request(get(1));
        f.response(headers(1, 0, OK));
        pause();
        f.response(answer(1, plain("grpc-status", "0")));
        let [duration, first] = times(f);
        assert!(duration >= first + PAUSE, "{duration:?} {first:?}");
    });
}

#[test]
fn each_stream_has_its_own() {
    with(|f| {
        f.request(get(1));
        pause();
        f.request(get(3));
        f.response(answer(3, OK));
        let [short, _] = times(f);
        pause();
        f.response(answer(1, OK));
        let [both, first] = times(f);
        assert!(both - short >= 2 * PAUSE, "{short:?} {both:?}");
        assert_eq!(both, first);
    });
}
