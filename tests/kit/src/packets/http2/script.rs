//! Random exchanges, how their fields are encoded, and what becomes of them.

use httlib_hpack::Encoder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A header field, and the encoder's flags for it.
pub type Field = (Vec<u8>, Vec<u8>, u8);

/// Huffman or not, kept, not kept or never, by index where there is one or not.
fn flags() -> impl Strategy<Value = u8> {
    let keep = select(vec![
        0,
        Encoder::WITH_INDEXING,
        Encoder::WITH_INDEXING,
        Encoder::NEVER_INDEXED,
    ]);
    let best = select(vec![0, Encoder::BEST_FORMAT, Encoder::BEST_FORMAT]);
    (0u8..4, keep, best).prop_map(|(huffman, keep, best)| huffman | keep | best)
}

fn fixed(name: &'static str, values: Vec<&'static str>) -> impl Strategy<Value = Field> {
    (select(values), flags()).prop_map(move |(value, flags)| {
        (name.as_bytes().to_vec(), value.as_bytes().to_vec(), flags)
    })
}

/// Fields that do not matter, some of which look as if they did.
fn other() -> impl Strategy<Value = Field> {
    let name = prop_oneof![
        3 => select(vec![
            "a", "server", "date", "cookie", "grpc-statu", "grpc-status-details-bin",
            "grpc-message", "content-typ", "x-status", "user-agent", "content-length",
        ]).prop_map(|name| name.as_bytes().to_vec()),
        1 => vec(b'a'..=b'z', 1..40),
    ];
    let value = prop_oneof![
        3 => select(vec!["", "0", "7", "200", "404", "application/grpc"])
            .prop_map(|value| value.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 0..60),
        1 => vec(b' '..=b'~', 0..2000),
    ];
    (name, value, flags())
}

/// Fields that matter, with others around them.
fn fields<S: Strategy<Value = Vec<Field>>>(essential: S) -> impl Strategy<Value = Vec<Field>> {
    (essential, vec(other(), 0..5)).prop_map(|(mut all, others)| {
        // Pseudo-header fields come first.
        let rest = all.iter().position(|f| f.0[0] != b':');
        let rest = rest.map_or_else(Vec::new, |at| all.split_off(at));
        let middle = others.len() / 2;
        all.extend_from_slice(&others[..middle]);
        all.extend(rest);
        all.extend_from_slice(&others[middle..]);
        all
    })
}

/// How a block or body is put into frames.
#[derive(Clone, Debug)]
pub struct Framing {
    pub cuts: Vec<Index>,
    pub pad: Option<u8>,
    pub priority: bool,
    /// New sizes of the dynamic table, before the block.
    pub sizes: Vec<u32>,
}

fn framing() -> impl Strategy<Value = Framing> {
    (
        prop_oneof![3 => vec(any::<Index>(), 0..1), 1 => vec(any::<Index>(), 0..4)],
        prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        prop::bool::weighted(0.2),
        prop_oneof![
            9 => Just(vec![]),
            1 => vec(select(vec![0u32, 100, 1000, 4096]), 1..3),
        ],
    )
        .prop_map(|(cuts, pad, priority, sizes)| Framing {
            cuts,
            pad,
            priority,
            sizes,
        })
}

/// What a side says on a stream, in frames that belong together.
#[derive(Clone, Debug)]
pub enum Say {
    Headers(Vec<Field>, Framing),
    Data(usize, Option<u8>),
    Reset(u32),
}

#[derive(Clone, Debug)]
pub struct Exchange {
    /// By role.
    pub says: [Vec<Say>; 2],
    /// Which sides end the stream with the last that they say.
    pub ends: [bool; 2],
}

fn data() -> impl Strategy<Value = Vec<Say>> {
    let pad = prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let one = (prop_oneof![0usize..20, 0usize..3000], pad);
    vec(one.prop_map(|(len, pad)| Say::Data(len, pad)), 0..3)
}

fn headers<S: Strategy<Value = Vec<Field>>>(essential: S) -> impl Strategy<Value = Say> {
    (fields(essential), framing()).prop_map(|(fields, framing)| Say::Headers(fields, framing))
}

fn request(grpc: bool) -> impl Strategy<Value = Vec<Say>> {
    let types = if grpc {
        vec![
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;a=b",
        ]
    } else {
        vec![
            "application/grpc-web",
            "application/grp",
            "text/html",
            "",
            "application/json",
        ]
    };
    let essential = (
        fixed(":method", vec!["GET", "POST", "PATCH"]),
        fixed(":scheme", vec!["http", "https"]),
        fixed(":path", vec!["/", "/index.html", "/a.Service/Method"]),
        fixed(":authority", vec!["localhost", "example.org:8080"]),
        fixed("content-type", types),
    )
        .prop_map(|(a, b, c, d, e)| vec![a, b, c, d, e]);
    let trailers = prop_oneof![4 => Just(None), 1 => headers(Just(vec![])).prop_map(Some)];
    (headers(essential), data(), trailers).prop_map(|(head, data, trailers)| {
        let mut says = vec![head];
        says.extend(data);
        says.extend(trailers);
        says
    })
}

fn response(grpc: bool) -> impl Strategy<Value = Vec<Say>> {
    let interim = fixed(":status", vec!["100", "103"]).prop_map(|f| vec![f]);
    let status = fixed(
        ":status",
        vec!["200", "200", "204", "299", "307", "404", "418", "503"],
    );
    let grpc_status = || fixed("grpc-status", vec!["0", "0", "1", "5", "13", "16"]);
    let trailers = if grpc {
        headers(grpc_status().prop_map(|f| vec![f])).boxed()
    } else {
        headers(Just(vec![])).boxed()
    };
    (
        prop_oneof![3 => Just(vec![]), 1 => vec(headers(interim), 1..3)],
        status,
        prop::option::of(grpc_status()),
        headers(Just(vec![])),
        data(),
        prop::option::of(trailers),
    )
        .prop_map(move |(mut says, status, only, head, data, trailers)| {
            let Say::Headers(others, framing) = head else {
                unreachable!("headers make nothing else");
            };
            // Trailers alone have both statuses and nothing behind them.
            let only = only.filter(|_| grpc);
            let alone = only.is_some();
            let fields = [vec![status], others, only.into_iter().collect()].concat();
            says.push(Say::Headers(fields, framing));
            if !alone {
                says.extend(data);
                says.extend(trailers);
            }
            says
        })
}

pub fn exchange() -> impl Strategy<Value = Exchange> {
    let reset =
        || prop_oneof![8 => Just(None), 1 => select(vec![0u32, 2, 7, 8, 11]).prop_map(Some)];
    any::<bool>()
        .prop_flat_map(move |grpc| (request(grpc), response(grpc)))
        .prop_flat_map(move |(request, response)| {
            (
                Just([request, response]),
                [reset(), reset()],
                [any::<Index>(), any::<Index>()],
            )
        })
        .prop_map(|(mut says, resets, at)| {
            let ends = resets.map(|r| r.is_none());
            for ((says, reset), at) in says.iter_mut().zip(resets).zip(at) {
                if let Some(code) = reset {
                    // Behind something; of the client, its HEADERS.
                    says.truncate(1 + at.index(says.len()));
                    says.push(Say::Reset(code));
                }
            }
            Exchange { says, ends }
        })
}
