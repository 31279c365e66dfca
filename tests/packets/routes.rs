//! Routes: what is made of a path, by whatever way it comes.

use std::collections::BTreeMap;

use metricd::abi::protocol;
use proptest::prelude::*;

use crate::flow::{Client, Flow};
use crate::http1_property::config;
use crate::http2::block::{Form, NEWEST, Text, indexed, named};
use crate::http2::wire::{END_STREAM, headers};
use crate::http2::{answer, get, start};
use crate::kernel::{Kernel, Shared};

/// Of bpf/http/route.h and bpf/layout/abi.h: bytes of a path as it comes, and of what is made of it.
const RAW: usize = 256;
const TEXT: usize = 128;

/// A static index of a name.
const PATH: usize = 4;

fn is_id(segment: &str) -> bool {
    let count = |f: fn(&char) -> bool| segment.chars().filter(f).count();
    let (digits, dashes) = (count(char::is_ascii_digit), count(|c| *c == '-'));
    let letters = count(char::is_ascii_hexdigit) - digits;
    let only = digits + dashes + letters == segment.len();
    let number = letters == 0;
    let hex = letters > 0 && digits > 0 && segment.len() >= 8;
    let uuid = dashes == 4 && segment.len() == 36;
    !segment.is_empty() && only && ((dashes == 0 && (number || hex)) || uuid)
}

/// The route of a path, by other means than the kernel's; that of anything else is empty.
fn route(path: &str) -> String {
    if !path.starts_with('/') {
        return String::new();
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut text = String::new();
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            text.push('/');
        }
        if text.len() + segment.len() > TEXT {
            return "other".into();
        }
        text.push_str(if is_id(segment) { "{id}" } else { segment });
    }
    text
}

fn load(routes: &str) -> Kernel {
    Kernel::load(&["--routes", routes, "--connections", "64"])
}

/// What both versions make of paths. The first goes by HTTP/1, the others by HTTP/2: plain,
/// Huffman-coded, and by reference to that.
fn play(kernel: &Kernel, paths: &[String]) -> [BTreeMap<String, u64>; 2] {
    let f = Flow::open(kernel, Shared::port());
    for path in paths {
        f.request(format!("GET {path} HTTP/1.1\r\n\r\n"));
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
    }
    f.rst(Client);
    let f = Flow::open(kernel, Shared::port());
    start(&f);
    for (i, path) in paths.iter().enumerate() {
        let field = |text| named(Form::Indexed, PATH, text);
        let blocks = [
            field(Text::plain(path)),
            field(Text::huffman(path)),
            indexed(NEWEST),
        ];
        for (j, block) in blocks.iter().enumerate() {
            let stream = (6 * i + 2 * j + 1) as u32;
            f.request(headers(
                stream,
                END_STREAM,
                [&[0x82, 0x86][..], block].concat(),
            ));
            f.response(answer(stream, [0x88]));
        }
    }
    f.rst(Client);
    kernel.routes()
}

fn expected(paths: &[String]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for path in paths {
        *all.entry(route(path)).or_default() += 4;
    }
    all
}

#[test]
fn templates() {
    for (path, template) in [
        ("/", "/"),
        ("/users/7", "/users/{id}"),
        ("/users/7/", "/users/{id}/"),
        ("/users/7/orders/42?page=2", "/users/{id}/orders/{id}"),
        ("/users/007a", "/users/007a"),
        ("/o/0123456789abcdef", "/o/{id}"),
        ("/o/0123456789ABCDEF#f", "/o/{id}"),
        ("/o/deadbeef", "/o/deadbeef"),
        ("/o/1234abc", "/o/1234abc"),
        ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/{id}"),
        ("/o/2024-01-02", "/o/2024-01-02"),
        ("/v1/things", "/v1/things"),
        (
            "/helloworld.Greeter/SayHello",
            "/helloworld.Greeter/SayHello",
        ),
        ("//1//2", "//{id}//{id}"),
        ("*", ""),
        ("?x=1", ""),
        ("example.org:443", ""),
    ] {
        assert_eq!(route(path), template);
        let kernel = load("4");
        let paths = [path.to_string()];
        let [asked, answered] = play(&kernel, &paths);
        assert_eq!(asked, expected(&paths), "{path}");
        assert_eq!(answered, asked, "{path}");
    }
}

/// The forms of a request target: RFC 9112 section 3.2.
#[test]
fn targets() {
    let long = format!("http://{}/a", "x".repeat(240));
    for (method, target, expected) in [
        ("GET", "http://example.org/users/7?x=/y", "/users/{id}"),
        ("GET", "HTTPS://user@[::1]:8443/users/7/", "/users/{id}/"),
        ("GET", "http://a/b://c/d", "/b://c/d"),
        ("GET", &long, "/a"),
        ("GET", "http://example.org", "/"),
        ("GET", "http://example.org?x=/y", "/"),
        ("GET", "https://example.org:80#/y", "/"),
        ("GET", "http:/users/7", ""),
        ("GET", "ftp://example.org/users/7", ""),
        ("OPTIONS", "*", ""),
        ("CONNECT", "example.org:443", ""),
    ] {
        let kernel = load("4");
        let f = Flow::open(&kernel, Shared::port());
        f.request(format!("{method} {target} HTTP/1.1\r\n\r\n"));
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
        f.rst(Client);
        let [asked, answered] = kernel.routes();
        assert_eq!(asked, [(expected.to_string(), 1)].into(), "{target}");
        assert_eq!(answered, asked, "{target}");
    }
}

#[test]
fn no_more_than_asked_for() {
    let kernel = load("3");
    let paths: Vec<String> = ["/a", "/b", "/c", "/d", "/e", "/a"]
        .map(String::from)
        .into();
    let [asked, answered] = play(&kernel, &paths);
    let counts = [("/a", 8), ("/b", 4), ("/c", 4), ("other", 8)];
    assert_eq!(asked, counts.map(|(r, n)| (r.to_string(), n)).into());
    assert_eq!(answered, asked);
}

#[test]
fn bounds() {
    for (len, text) in [(TEXT, true), (TEXT + 1, false)] {
        let kernel = load("4");
        let paths = [format!("/{}", "x".repeat(len - 1))];
        let [asked, _] = play(&kernel, &paths);
        let route = if text { paths[0].as_str() } else { "other" };
        assert_eq!(asked, [(route.to_string(), 4)].into());
    }
    // A query that goes on beyond what is read of a path, and a path that does.
    let kernel = load("4");
    let paths = [format!("/a?{}", "x".repeat(RAW)), "/1".repeat(RAW / 2 + 1)];
    let [asked, _] = play(&kernel, &paths);
    assert_eq!(
        asked,
        [("/a".to_string(), 4), ("other".to_string(), 4)].into()
    );
}

#[test]
fn path_that_is_cut() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    let path = "/a/path/that/is/longer/than/what/is/carried/over";
    f.send_in(Client, 40, format!("GET {path} HTTP/1.1\r\n\r\n"));
    f.response("HTTP/1.1 204 No Content\r\n\r\n");
    f.rst(Client);
    let [asked, answered] = kernel.routes();
    assert_eq!(asked, [("unknown".to_string(), 1)].into());
    assert_eq!(answered, asked);
}

#[test]
fn pipelined() {
    let kernel = load("9");
    let f = Flow::open(&kernel, Shared::port());
    let paths = ["/a", "/b", "/a", "/c"];
    let requests = paths.map(|p| format!("GET {p} HTTP/1.1\r\n\r\n"));
    f.request(requests.concat());
    f.response("HTTP/1.1 204 No Content\r\n\r\n".repeat(4));
    f.rst(Client);
    let [asked, answered] = kernel.routes();
    let counts = [("/a", 2), ("/b", 1), ("/c", 1)];
    assert_eq!(asked, counts.map(|(r, n)| (r.to_string(), n)).into());
    assert_eq!(answered, asked);
}

/// A request by HTTP/1, without its answer.
fn ask(f: &Flow, path: &str) {
    f.request(format!("GET {path} HTTP/1.1\r\n\r\n"));
}

fn reply(f: &Flow, status: u16) {
    f.response(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
}

/// A path's field for the dynamic table.
fn kept(path: &str) -> Vec<u8> {
    named(Form::Indexed, PATH, Text::huffman(path))
}

/// A request of HTTP/2 with this field as its path.
fn open(stream: u32, path: &[u8]) -> Vec<u8> {
    headers(stream, END_STREAM, [&[0x82, 0x86][..], path].concat())
}

/// The field that makes a request one of gRPC.
fn grpc() -> Vec<u8> {
    named(Form::Plain, 31, Text::plain("application/grpc"))
}

fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.map(|(route, n)| (route.to_string(), n)).into()
}

/// Asserts that requests and responses are these.
#[track_caller]
fn assert_both<const N: usize>(kernel: &Kernel, expected: [(&str, u64); N]) {
    assert_eq!(kernel.routes(), [counts(expected), counts(expected)]);
}

const NOT_FOUND: [u8; 1] = [0x8d];
const OK: [u8; 1] = [0x88];

#[test]
fn what_is_not_there_takes_no_number() {
    let kernel = load("1");
    let f = Flow::open(&kernel, Shared::port());
    for i in 0..30 {
        ask(&f, &format!("/.env{i}x"));
        assert_eq!(kernel.routes()[0].get("pending"), Some(&1));
        reply(&f, 404);
    }
    for _ in 0..3 {
        ask(&f, "/cart");
        reply(&f, 200);
    }
    // There is no other number.
    ask(&f, "/login");
    reply(&f, 200);
    // One that is proven keeps its number.
    ask(&f, "/cart");
    reply(&f, 404);
    f.rst(Client);
    assert_both(&kernel, [("/cart", 4), ("other", 31)]);
}

#[test]
fn statuses_that_prove_nothing() {
    let kernel = load("20");
    let f = Flow::open(&kernel, Shared::port());
    ask(&f, "/a");
    f.response("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(kernel.routes(), [counts([("pending", 1)]), counts([])]);
    reply(&f, 404);
    let mut expected = counts([("other", 4)]);
    for status in [
        200, 204, 301, 399, 400, 401, 403, 404, 405, 406, 410, 500, 999,
    ] {
        let path = format!("/x{status}");
        ask(&f, &path);
        reply(&f, status);
        if ![400, 404, 405].contains(&status) {
            expected.insert(path, 1);
        }
    }
    f.rst(Client);
    assert_eq!(kernel.routes(), [expected.clone(), expected]);
}

#[test]
fn methods_that_are_not_there() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    for (stream, status) in [(1, 0), (3, 11), (5, 12), (7, 13)] {
        let path = kept(&format!("/S/M{status}"));
        f.request(open(stream, &[path, grpc()].concat()));
        let status = crate::http2::block::plain("grpc-status", &status.to_string());
        f.response(answer(stream, [&OK[..], &status].concat()));
    }
    f.rst(Client);
    let named = [("/S/M0", 1), ("/S/M11", 1), ("/S/M13", 1)];
    assert_both(&kernel, [named[0], named[1], named[2], ("other", 1)]);
}

#[test]
fn many_in_flight() {
    let kernel = load("3");
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    let streams = || (0..100).map(|i| 2 * i + 1);
    for stream in streams() {
        f.request(open(stream, &kept(&format!("/p{stream}x"))));
    }
    assert_eq!(kernel.routes(), [counts([("pending", 100)]), counts([])]);
    for stream in streams() {
        let found = [51, 101, 151, 201].contains(&stream);
        f.response(answer(stream, if found { OK } else { NOT_FOUND }));
    }
    let pending = kernel.routes()[0].get("pending").copied();
    assert_eq!(pending, None);
    f.rst(Client);
    let named = [("/p101x", 1), ("/p151x", 1), ("/p51x", 1)];
    assert_both(&kernel, [named[0], named[1], named[2], ("other", 97)]);
}

#[test]
fn two_in_flight_of_one_path() {
    let kernel = load("2");
    let [f, g] = [(); 2].map(|()| Flow::open(&kernel, Shared::port()));
    ask(&f, "/a");
    ask(&g, "/a");
    reply(&f, 200);
    // The path is proven, whatever this answer is.
    reply(&g, 404);
    f.rst(Client);
    g.rst(Client);
    assert_both(&kernel, [("/a", 2)]);
}

#[test]
fn what_is_not_answered() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    // Of two that are pipelined one is answered.
    f.request("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n");
    reply(&f, 404);
    f.rst(Client);
    assert_both(&kernel, [("other", 1), ("unknown", 1)]);

    // By RST_STREAM of either side, and by the connection's end.
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    for stream in [1, 3, 5] {
        f.request(open(stream, &kept("/a")));
    }
    f.request(open(7, &[kept("/S/M"), grpc()].concat()));
    f.request(crate::http2::wire::rst_stream(1, 8));
    f.response(crate::http2::wire::rst_stream(3, 2));
    assert_eq!(
        kernel.routes()[0],
        counts([("other", 1), ("unknown", 3), ("pending", 2)])
    );
    f.rst(Client);
    assert_eq!(kernel.routes()[0], counts([("other", 1), ("unknown", 5)]));

    // By another connection of the same ends, and where the answers can't be followed any more.
    let f = Flow::open(&kernel, Shared::port());
    ask(&f, "/a");
    let mut g = Flow::new(&kernel, f.ends);
    g.isn[0] = g.isn[0].wrapping_add(1 << 20);
    g.handshake();
    assert_eq!(kernel.routes()[0], counts([("other", 1), ("unknown", 6)]));
    ask(&g, "/a");
    ask(&g, "/a");
    g.response("nonsense\r\n\r\n");
    assert_both(&kernel, [("other", 1), ("unknown", 8)]);
    g.rst(Client);
}

/// The connection ends with pipelined requests of two routes, one of which nothing has proven.
#[test]
fn what_is_aborted_has_its_route() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    ask(&f, "/a");
    reply(&f, 200);
    f.request("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /a HTTP/1.1\r\n\r\n");
    f.rst(Client);
    assert_both(&kernel, [("/a", 3), ("unknown", 1)]);
    assert_eq!(f.seen().aborted, [((protocol::HTTP1, "rst"), 3)].into());
    assert_eq!(f.total().untimed, 0);
}

#[test]
fn pipelined_beyond_what_is_remembered() {
    let kernel = load("30");
    let f = Flow::open(&kernel, Shared::port());
    let requests: Vec<_> = (0..20)
        .map(|i| format!("GET /p{i}x HTTP/1.1\r\n\r\n"))
        .collect();
    f.request(requests.concat());
    for _ in 0..20 {
        reply(&f, 200);
    }
    ask(&f, "/p0x");
    reply(&f, 200);
    f.rst(Client);
    let [asked, answered] = kernel.routes();
    assert_eq!(asked, answered);
    assert_eq!((asked["/p0x"], asked["/p6x"], asked["unknown"]), (2, 1, 13));
}

#[test]
fn path_in_the_dynamic_table() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    f.request(open(1, &kept("/a")));
    f.response(answer(1, NOT_FOUND));
    // A long block and one that is remembered.
    for stream in [3, 5] {
        f.request(open(stream, &indexed(NEWEST)));
        f.response(answer(stream, NOT_FOUND));
    }
    let g = Flow::open(&kernel, Shared::port());
    ask(&g, "/a");
    reply(&g, 200);
    for stream in [7, 9] {
        f.request(open(stream, &indexed(NEWEST)));
        f.response(answer(stream, NOT_FOUND));
    }
    f.rst(Client);
    g.rst(Client);
    assert_both(&kernel, [("/a", 3), ("other", 3)]);
}

#[test]
fn upgrade() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    f.request("GET /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n");
    f.response("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
    f.response(answer(1, OK));
    f.rst(Client);
    assert_both(&kernel, [("unknown", 1)]);
}

#[test]
fn off() {
    let kernel = load("0");
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    f.request(get(1));
    f.response(answer(1, [0x88]));
    f.rst(Client);
    assert!(
        crate::kernel::entries::<u32, u64>(&kernel.skel().maps.linkerd_route_index_map).is_empty()
    );
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn any_path(paths in prop::collection::vec("/(([0-9]{1,9}|[0-9a-f]{6,10}|[!-~&&[^/?# ]]{0,12})/){0,6}[!-~&&[^ ]]{0,20}", 1..40)) {
        let kernel = load("4000");
        let [asked, answered] = play(&kernel, &paths);
        prop_assert_eq!(&asked, &expected(&paths));
        prop_assert_eq!(answered, asked);
    }
}
