//! The dynamic table: what it evicts, its size, and how deep it is remembered.

use metricd::abi::GRPC_STATUS_NONE;

use super::block::{
    CONTENT_TYPE, Form, NEWEST, STATUS, Text, filler, indexed, literal, named, size_update,
};
use super::wire::{headers, settings};
use super::{GET, OK, answer, assert_l7, exchange, get, with};
use crate::flow::{Client, Flow, Server};
use crate::kernel::Answer;
use crate::model::L7;

/// HPACK_ENTRIES of bpf/http/state.h: fields whose meaning is remembered.
const DEPTH: usize = 128;

fn kept(status: &str) -> Vec<u8> {
    named(Form::Indexed, STATUS, Text::plain(status))
}

#[test]
fn newest_comes_first() {
    with(|f| {
        f.request([get(1), get(3), get(5), get(7)].concat());
        let all = [kept("201"), kept("202"), kept("203")].concat();
        // The status is the block's last here, but all are kept.
        f.response(answer(1, &all));
        for (stream, index) in [(3, NEWEST), (5, NEWEST + 1), (7, NEWEST + 2)] {
            f.response(answer(stream, indexed(index)));
        }
        let mut responses = f.seen().answers;
        for status in [201, 202, 203] {
            *responses.get_mut(&Answer::http2(status)).expect("one") -= 1;
        }
        // What the first answer was, which has three statuses, nobody can say.
        assert_eq!(responses.values().sum::<u64>(), 1);
    });
}

#[test]
fn statuses_wander_as_fields_are_kept() {
    with(|f| {
        f.request(get(1));
        f.response(answer(1, kept("418")));
        // Of 4,096 bytes a status takes 42 and a filler 32.
        for i in 0..126 {
            let stream = 2 * i as u32 + 3;
            f.request(get(stream));
            f.response(answer(stream, [indexed(NEWEST + i), filler(1)].concat()));
            assert_eq!(f.seen().responses, [(418, i as u64 + 2)].into(), "at {i}");
        }
    });
}

#[test]
fn many_times_around() {
    with(|f| {
        let mut expected = std::collections::BTreeMap::<u16, u64>::new();
        for i in 0..1000_u16 {
            // Of what was kept, 97 are still in the table.
            let back = i.min(90);
            let stream = 4 * u32::from(i) + 1;
            f.request([get(stream), get(stream + 2)].concat());
            f.response(answer(stream, kept(&(200 + i % 59).to_string())));
            f.response(answer(stream + 2, indexed(NEWEST + usize::from(back))));
            *expected.entry(200 + i % 59).or_default() += 1;
            *expected.entry(200 + (i - back) % 59).or_default() += 1;
        }
        assert_eq!(f.seen().responses, expected);
    });
}

/// Both sides allow tables of 64 KB, and make use of it.
fn large_tables(f: &Flow) {
    let size = 1 << 16;
    f.request(settings(&[(1, size)]));
    f.response(settings(&[(1, size)]));
    let block = |rest: &[u8]| [&size_update(size as usize), rest].concat();
    f.request(answer(1, block(&GET)));
    f.response(answer(1, block(&OK)));
}

#[test]
fn as_deep_as_is_remembered() {
    with(|f| {
        large_tables(f);
        f.request([get(3), get(5), get(7)].concat());
        f.response(answer(3, kept("418")));
        f.response(answer(5, [indexed(NEWEST), filler(DEPTH - 1)].concat()));
        f.response(answer(7, indexed(NEWEST + DEPTH - 1)));
        assert_l7(f, L7::http2(4, &[(200, 1), (418, 3)]));
        // By its name.
        f.request(get(9));
        let name = named(Form::Plain, NEWEST + DEPTH - 1, Text::plain("503"));
        f.response(answer(9, name));
        assert_l7(f, L7::http2(5, &[(200, 1), (418, 3), (503, 1)]));
    });
}

#[test]
fn one_deeper_is_unknown() {
    with(|f| {
        large_tables(f);
        f.request([get(3), get(5), get(7), get(9), get(11)].concat());
        f.response(answer(3, kept("418")));
        f.response(answer(5, [indexed(NEWEST), filler(DEPTH)].concat()));
        f.response(answer(7, indexed(NEWEST + DEPTH)));
        let name = named(Form::Plain, NEWEST + DEPTH, Text::plain("503"));
        f.response(answer(9, name));
        // Only of these.
        f.response(answer(11, OK));
        exchange(f, 13);
        assert_l7(f, L7::http2(7, &[(0, 2), (200, 2), (204, 1), (418, 2)]));
    });
}

#[test]
fn kept_by_a_name_too_deep() {
    // What is kept under a name that is forgotten can't be known later either.
    with(|f| {
        large_tables(f);
        f.request([get(3), get(5), get(7)].concat());
        f.response(answer(3, kept("418")));
        f.response(answer(5, [indexed(NEWEST), filler(DEPTH)].concat()));
        let name = named(Form::Indexed, NEWEST + DEPTH, Text::plain("503"));
        f.response(answer(7, name));
        f.request(get(9));
        f.response(answer(9, indexed(NEWEST)));
        assert_l7(f, L7::http2(5, &[(0, 2), (200, 1), (418, 2)]));
    });
}

#[test]
fn trailers_too_deep() {
    // A status of gRPC there may be, but nobody knows which.
    with(|f| {
        large_tables(f);
        let grpc = named(Form::Plain, CONTENT_TYPE, Text::plain("application/grpc"));
        f.request(answer(3, [&GET[..], &grpc].concat()));
        let status = literal(Form::Indexed, Text::plain("grpc-status"), Text::plain("13"));
        f.response(headers(3, 0, [&OK[..], &status, &filler(DEPTH)].concat()));
        f.response(answer(3, indexed(NEWEST + DEPTH)));
        let grpc = L7::grpc(1, &[((200, GRPC_STATUS_NONE), 1)]);
        assert_l7(f, grpc.and(L7::http2(1, &[(200, 1)])));
    });
}

#[test]
fn grpc_as_deep_as_is_remembered() {
    let grpc = named(
        Form::Indexed,
        CONTENT_TYPE,
        Text::huffman("application/grpc"),
    );
    with(|f| {
        large_tables(f);
        f.request(answer(3, [&GET[..], &grpc, &filler(DEPTH - 1)].concat()));
        f.request(answer(5, [&GET[..], &indexed(NEWEST + DEPTH - 1)].concat()));
        assert_l7(f, L7::http2(1, &[(200, 1)]).and(L7::grpc(2, &[])));
    });
}

#[test]
fn size_updates() {
    for size in [0, 30, 31, 158, 159, 4096] {
        with(|f| {
            f.request(get(1));
            f.response(answer(1, [size_update(size), kept("418")].concat()));
            f.request(get(3));
            f.response(answer(
                3,
                [size_update(0), size_update(4096), kept("419")].concat(),
            ));
            f.request(get(5));
            f.send_in(Server, 1, answer(5, indexed(NEWEST)));
            f.request(answer(7, [&size_update(size)[..], &GET].concat()));
            f.send_in(
                Client,
                1,
                answer(9, [&size_update(size)[..], &GET].concat()),
            );
            f.response([answer(7, OK), answer(9, OK)].concat());
            assert_eq!(L7::of(f), L7::http2(5, &[(200, 2), (418, 1), (419, 2)]));
        });
    }
}

#[test]
fn field_too_large_to_be_kept() {
    // It empties the table and is not in it, but has a place in the order of fields. What is
    // kept next is the newest.
    with(|f| {
        f.request([get(1), get(3), get(5), get(7)].concat());
        f.response(answer(1, kept("418")));
        let huge = vec![b'x'; 5000];
        let huge = literal(Form::Indexed, Text::plain("a"), Text(&huge, false));
        f.send_in(Server, 3000, answer(3, [&OK[..], &huge].concat()));
        f.response(answer(5, kept("419")));
        f.response(answer(7, indexed(NEWEST)));
        assert_l7(f, L7::http2(4, &[(200, 1), (418, 1), (419, 2)]));
    });
}

#[test]
fn never_kept() {
    // An index that nothing was kept under: unknown, in whatever way.
    for index in [0, NEWEST + 1, NEWEST + 200, 1 << 20] {
        with(|f| {
            f.request(get(1));
            f.response(answer(1, kept("418")));
            f.request(get(3));
            f.response(answer(3, indexed(index)));
            assert_eq!(f.seen().responses, [(0, 1), (418, 1)].into(), "{index}");
        });
    }
}

#[test]
fn each_side_has_its_own() {
    with(|f| {
        f.request(answer(1, [&GET[..], &kept("500")].concat()));
        f.response(answer(1, kept("418")));
        f.request(answer(3, [&GET[..], &indexed(NEWEST)].concat()));
        f.response(answer(3, indexed(NEWEST)));
        assert_l7(f, L7::http2(2, &[(418, 2)]));
    });
}
