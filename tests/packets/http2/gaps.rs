//! Bytes that were never seen, or too late.

use super::block::plain;
use super::wire::{END_STREAM, data, frame, headers};
use super::{GET, NOT_FOUND, OK, aborted, answer, assert_l7, exchange, get, lost, with};
use crate::flow::{Client, Flow, Role, Server};
use crate::model::{EARLY_RANGES, L7};

#[test]
fn within_data_is_none() {
    with(|f| {
        f.request(headers(1, 0, GET));
        f.request(&data(1, END_STREAM, [1; 5000])[..1000]);
        f.skip(Client, 2000);
        f.request([1; 2009]);
        f.response(headers(1, 0, OK));
        f.response(&data(1, END_STREAM, [1; 5000])[..9]);
        f.skip(Server, 3000);
        f.response([1; 1999]);
        assert_l7(f, L7::http2(1, &[]));
        f.response([1]);
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn reordered_within_data() {
    with(|f| {
        f.request(get(1));
        f.response(headers(1, 0, OK));
        let body = data(1, END_STREAM, [1; 2991]);
        f.response(&body[..300]);
        let start = f.said[Server as usize].get() - 300;
        for i in [2, 1, 3, 5, 4, 9, 8, 7, 6] {
            let from = i * 300;
            f.send_at(Server, start + from, &body[from as usize..][..300]);
        }
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn beyond_data() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response(headers(1, 0, OK));
        f.response(&data(1, END_STREAM, [1; 100])[..50]);
        let gap = f.said[Server as usize].get();
        f.skip(Server, 60);
        f.response(&answer(3, NOT_FOUND)[1..]);
        // Nobody knows yet whether the bytes will come.
        assert_l7(f, L7::http2(2, &[]));
        f.send_at(Server, gap, [&[1; 59], &answer(3, NOT_FOUND)[..1]].concat());
        exchange(f, 5);
        assert_l7(f, L7::http2(3, &[(200, 1), (204, 1), (404, 1)]));
    });
}

#[test]
fn in_header_blocks() {
    // Each byte before those that precede it, in as many pieces as are kept.
    let block = [plain(":status", "418"), plain("a", "b")].concat();
    let (requests, responses) = (
        [get(1), get(3)].concat(),
        [answer(1, &block), answer(3, &block)],
    );
    for size in [5, 7, 11, 30] {
        with(|f| {
            for (role, all) in [(Client, &requests), (Server, &responses.concat())] {
                let from = f.said[role as usize].get();
                for at in (1..all.len())
                    .step_by(size)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                {
                    let end = (at + size).min(all.len());
                    f.send_at(role, from + at as u32, &all[at..end]);
                }
                f.send_at(role, from, &all[..1]);
            }
            exchange(f, 5);
            assert_eq!(L7::of(f), L7::http2(3, &[(204, 1), (418, 2)]), "by {size}");
        });
    }
}

#[test]
fn never_filled() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response(answer(1, OK));
        f.skip(Server, 9);
        f.response(answer(3, OK));
        assert_l7(f, L7::http2(2, &[(200, 1)]));
        f.close();
        let expected = L7::http2(2, &[(200, 1)]).aborted(aborted(|a| a.fin = 1));
        assert_l7(f, expected);
    });
}

/// Bytes with gaps between them, one more than are kept, then those that fill the gaps.
fn too_many_gaps(f: &Flow, role: Role, bytes: &[u8]) {
    let from = f.said[role as usize].get();
    let gaps = EARLY_RANGES + 1;
    for i in 0..gaps {
        f.send_at(role, from + 1 + 2 * i as u32, &bytes[1 + 2 * i..][..1]);
    }
    for i in 0..gaps {
        f.send_at(role, from + 2 * i as u32, &bytes[2 * i..][..1]);
    }
    f.send_at(role, from + 2 * gaps as u32, &bytes[2 * gaps..]);
}

#[test]
fn more_of_the_server_than_are_kept() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        let block = [&OK[..], &plain("server", "name")].concat();
        too_many_gaps(f, Server, &answer(1, block));
        assert_l7(f, L7::http2(2, &[(0, 2)]).lost(lost(|l| l.gap = 1)));
        assert_eq!(f.total().untimed, 2);
        // From now on each request counts at once, with an unknown answer.
        exchange(f, 5);
        assert_l7(f, L7::http2(3, &[(0, 3)]).lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn more_of_the_client_than_are_kept() {
    with(|f| {
        f.request(get(1));
        let block = [&GET[..], &plain("user-agent", "name")].concat();
        too_many_gaps(f, Client, &answer(3, block));
        f.request(get(5));
        // What was not seen is counted when it is answered.
        f.response([answer(1, OK), answer(3, OK), answer(5, OK)].concat());
        assert_l7(f, L7::http2(3, &[(200, 3)]).lost(lost(|l| l.gap = 1)));
        assert_eq!(f.total().untimed, 2);
    });
}

/// What the client said is lost for good, and the server's answers tell how many requests there
/// were.
#[test]
fn stream_ids_give_back_the_requests() {
    with(|f| {
        exchange(f, 1);
        // CONTINUATION without HEADERS.
        f.request(frame(9, 4, 3, GET));
        let seen = L7::http2(1, &[(204, 1)]).lost(lost(|l| l.malformed = 1));
        assert_l7(f, seen);
        f.request([get(3), get(5), get(7), get(9)].concat());
        f.response(answer(7, NOT_FOUND));
        let seen = L7::http2(4, &[(204, 1), (404, 1)]).lost(lost(|l| l.malformed = 1));
        assert_l7(f, seen);
        f.response(headers(3, 0, OK));
        f.response([data(3, END_STREAM, "x"), answer(5, OK)].concat());
        f.response(answer(9, plain("content-type", "application/grpc")));
        f.close();
        let http2 = L7::http2(4, &[(200, 2), (204, 1), (404, 1)]);
        let grpc = L7::grpc(1, &[((0, metricd::abi::GRPC_STATUS_NONE), 1)]);
        assert_l7(f, http2.and(grpc).lost(lost(|l| l.malformed = 1)));
        assert_eq!(f.total().untimed, 4);
    });
}
