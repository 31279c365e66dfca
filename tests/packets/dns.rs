//! DNS: what is counted of given messages, here over UDP.

mod over_tcp;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags};
use metricd::abi::{DnsKey, DnsValue, Merge, direction};
use metricd::skel::types;

use crate::frame::{End, udp};
use crate::kernel::{Kernel, Way, entries};

/// Places for queries in all: DNS_SETS and DNS_WAYS of the kernel's side.
const PLACES: u64 = 512;
/// DNS_TIMEOUT.
const TIMEOUT: Duration = Duration::from_secs(10);

const NAME: &[u8] = b"\x04name\x04test\0\0\x01\0\x01";
/// A record of EDNS with these upper bits of the code.
fn opt(code: u8) -> Vec<u8> {
    vec![0, 0, 41, 4, 208, code, 0, 0, 0, 0, 0]
}

fn message(id: u16, flags: [u8; 2], counts: [u8; 4], rest: &[u8]) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend(flags);
    counts.iter().for_each(|n| out.extend([0, *n]));
    out.extend(rest);
    out
}

fn query(id: u16) -> Vec<u8> {
    message(id, [1, 0], [1, 0, 0, 0], NAME)
}

/// An answer with this code.
fn answer(id: u16, rcode: u8) -> Vec<u8> {
    message(id, [0x81, 0x80 | rcode], [1, 0, 0, 0], NAME)
}

fn end(ip: [u8; 4], port: u16) -> End {
    End {
        ip: IpAddr::from(ip),
        port,
    }
}

fn counted(kernel: &Kernel) -> BTreeMap<DnsKey, DnsValue> {
    entries(&kernel.skel().maps.linkerd_dns_map)
        .into_iter()
        .collect()
}

struct Dns {
    kernel: Kernel,
    pod: End,
    server: End,
}

impl Dns {
    fn new() -> Self {
        Self::load(&[])
    }

    fn load(flags: &[&str]) -> Self {
        Self {
            kernel: Kernel::load(flags),
            pod: end([10, 0, 0, 1], 40000),
            server: end([10, 0, 0, 53], 53),
        }
    }

    /// The pod asks.
    fn ask(&self, message: &[u8]) {
        self.kernel
            .run(Way::Out, &udp(self.pod, self.server, message));
    }

    fn answer(&self, message: &[u8]) {
        self.kernel
            .run(Way::In, &udp(self.server, self.pod, message));
    }

    fn counted(&self) -> BTreeMap<DnsKey, DnsValue> {
        counted(&self.kernel)
    }

    /// All servers in one. Each query has ended in one way, or is one of those in the table.
    fn total(&self) -> DnsValue {
        let mut total = DnsValue::default();
        for value in self.counted().values() {
            total.merge(value);
        }
        assert_eq!(total.in_flight(), self.waiting());
        let answers: u64 = total.answers.iter().sum();
        assert_eq!(total.duration.count(), answers);
        total
    }

    /// Places of the table that are taken.
    fn waiting(&self) -> u64 {
        let map = &self.kernel.skel().maps.linkerd_dns_query_map;
        let queries = std::mem::offset_of!(types::dns_set, ways);
        let size = size_of::<types::dns_query>();
        let used = std::mem::offset_of!(types::dns_query, direction);
        let mut waiting = 0;
        for key in map.keys() {
            let set = map.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            let ways = set[queries..].chunks_exact(size);
            waiting += ways.filter(|query| query[used] != 0).count();
        }
        waiting as u64
    }
}

#[test]
fn answers_by_their_code() {
    let dns = Dns::new();
    for (id, rcode) in [0, 0, 3, 2, 5, 0].into_iter().enumerate() {
        dns.ask(&query(id as u16));
        dns.answer(&answer(id as u16, rcode));
    }
    let total = dns.total();
    assert_eq!(total.queries, 6);
    assert_eq!(total.answers[..6], [3, 0, 1, 1, 0, 1]);
    assert_eq!((total.unsolicited, total.truncated), (0, 0));
    assert_eq!(dns.waiting(), 0);
    let (key, _) = dns
        .counted()
        .into_iter()
        .find(|(_, v)| v.queries > 0)
        .unwrap();
    assert_eq!(key.direction, direction::OUTBOUND);
    assert_eq!(key.server[12..], [10, 0, 0, 53]);
}

#[test]
fn a_server_and_ipv6() {
    let ip = |last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]);
    let dns = Dns::new();
    let (client, pod) = (
        End {
            ip: ip(2),
            port: 5000,
        },
        End {
            ip: ip(1),
            port: 53,
        },
    );
    dns.kernel.run(Way::In, &udp(client, pod, &query(7)));
    dns.kernel.run(Way::Out, &udp(pod, client, &answer(7, 3)));
    assert_eq!(dns.total().answers[3], 1);
    let (key, _) = dns
        .counted()
        .into_iter()
        .find(|(_, v)| v.queries > 0)
        .unwrap();
    assert_eq!(key.direction, direction::INBOUND);
    assert_eq!(IpAddr::from(key.server), ip(1));
}

#[test]
fn without_addresses() {
    let dns = Dns::load(&["--detail", "pod"]);
    dns.ask(&query(1));
    dns.answer(&answer(1, 0));
    assert_eq!(dns.total().answers[0], 1);
    assert!(dns.counted().keys().all(|key| key.server == [0; 16]));
}

#[test]
fn several_questions_on_one_socket_answered_in_any_order() {
    let dns = Dns::new();
    let mut other = Dns {
        server: end([10, 0, 0, 54], 53),
        ..dns
    };
    // The same ids of another server are other queries.
    for id in 0..4 {
        other.ask(&query(id));
    }
    other.server = end([10, 0, 0, 53], 53);
    let dns = other;
    for id in 0..4 {
        dns.ask(&query(id));
    }
    assert_eq!(dns.waiting(), 8);
    for id in [2, 0, 3, 1] {
        dns.answer(&answer(id, 0));
    }
    let total = dns.total();
    assert_eq!((total.queries, total.answers[0]), (8, 4));
    assert_eq!(dns.waiting(), 4);
}

#[test]
fn answers_that_nobody_waits_for() {
    let dns = Dns::new();
    dns.answer(&answer(1, 0));
    dns.ask(&query(1));
    dns.answer(&answer(2, 0));
    dns.answer(&answer(1, 0));
    dns.answer(&answer(1, 0));
    let total = dns.total();
    assert_eq!(
        (total.queries, total.answers[0], total.unsolicited),
        (1, 1, 3)
    );
}

#[test]
fn the_same_asked_again() {
    let dns = Dns::new();
    dns.ask(&query(1));
    thread::sleep(Duration::from_millis(20));
    dns.ask(&query(1));
    assert_eq!(dns.waiting(), 1);
    dns.answer(&answer(1, 0));
    dns.answer(&answer(1, 0));
    let total = dns.total();
    assert_eq!((total.queries, total.unanswered.retried), (2, 1));
    assert_eq!((total.answers[0], total.unsolicited), (1, 1));
    // Who asks has waited since it first did.
    assert!(total.duration.sum_ns >= 20_000_000);
}

#[test]
fn truncated_answers() {
    let dns = Dns::new();
    dns.ask(&query(1));
    dns.answer(&message(1, [0x83, 0x80], [1, 0, 0, 0], NAME));
    let total = dns.total();
    assert_eq!((total.answers[0], total.truncated), (1, 1));
}

#[test]
fn codes_of_edns() {
    // The lower bits are the header's.
    for (upper, lower, counted) in [
        (0, 0, 0),
        (1, 0, 16),
        (1, 7, 23),
        (1, 14, 30),
        (1, 15, 31),
        (255, 15, 31),
    ] {
        let dns = Dns::new();
        dns.ask(&query(1));
        let rest = [NAME, &opt(upper)].concat();
        dns.answer(&message(1, [0x81, 0x80 | lower], [1, 0, 0, 1], &rest));
        // No question at all.
        dns.ask(&query(2));
        dns.answer(&message(2, [0x81, 0x80 | lower], [0, 0, 0, 1], &opt(upper)));
        // Cut short, what is behind is none, or something else is: the header's alone.
        dns.ask(&query(3));
        dns.answer(&message(
            3,
            [0x81, 0x80 | lower],
            [1, 0, 0, 1],
            &rest[..rest.len() - 6],
        ));
        dns.ask(&query(4));
        let other = [NAME, &[0, 0, 250, 0, 1, upper, 0, 0, 0, 0, 0]].concat();
        dns.answer(&message(4, [0x81, 0x80 | lower], [1, 0, 0, 1], &other));
        let total = dns.total();
        let mut expected = [0; 32];
        expected[counted] += 2;
        expected[lower as usize] += 2;
        assert_eq!(total.answers, expected, "{upper} {lower}");
    }
}

#[test]
fn the_longest_name_and_one_beyond() {
    let dns = Dns::new();
    // 127 labels of one byte, RFC 1035 section 2.3.4; then one that has no end.
    let long = [b"\x01a".repeat(127), b"\0\0\x01\0\x01".to_vec()].concat();
    dns.ask(&query(1));
    let rest = [&long[..], &opt(1)].concat();
    dns.answer(&message(1, [0x81, 0x80], [1, 0, 0, 1], &rest));
    assert_eq!(dns.total().answers[16], 1);
    dns.ask(&query(2));
    let rest = [b"\x01a".repeat(400), opt(1)].concat();
    dns.answer(&message(2, [0x81, 0x80], [1, 0, 0, 1], &rest));
    assert_eq!(dns.total().answers[0], 1);
}

#[test]
fn what_is_no_query() {
    let dns = Dns::new();
    dns.ask(&query(1)[..11]);
    // NOTIFY and UPDATE: RFC 1996, RFC 2136.
    dns.ask(&message(2, [4 << 3, 0], [1, 0, 0, 0], NAME));
    dns.ask(&message(3, [5 << 3, 0], [1, 0, 0, 0], NAME));
    dns.ask(b"");
    // From the server's port to another.
    dns.answer(&query(4));
    let mdns = end([10, 0, 0, 53], 5353);
    dns.kernel.run(Way::Out, &udp(dns.pod, mdns, &query(5)));
    assert_eq!(dns.total(), DnsValue::default());
    // As short as there is.
    dns.ask(&query(6)[..12]);
    assert_eq!(dns.total().queries, 1);
}

#[test]
fn more_queries_than_there_are_places() {
    let dns = Dns::new();
    let n = 4 * PLACES;
    for id in 0..n {
        dns.ask(&query(id as u16));
        dns.total();
    }
    let total = dns.total();
    assert_eq!(total.queries, n);
    assert!(total.unanswered.evicted >= n - PLACES);
    assert!(dns.waiting() > PLACES / 2, "{}", dns.waiting());
    for id in 0..n {
        dns.answer(&answer(id as u16, 0));
    }
    let total = dns.total();
    assert_eq!(dns.waiting(), 0);
    assert_eq!(total.unsolicited, total.unanswered.evicted);
}

#[test]
fn queries_without_an_answer() {
    let dns = Dns::new();
    for id in 0..20 {
        dns.ask(&query(id));
    }
    thread::sleep(TIMEOUT + Duration::from_millis(100));
    assert_eq!(dns.total().unanswered.timeout, 0, "there is no timer");
    // Each message looks at some.
    for id in 1000..1030 {
        dns.ask(&query(id));
        dns.answer(&answer(id, 0));
    }
    let total = dns.total();
    assert_eq!(total.unanswered.timeout, 20);
    assert_eq!((total.queries, total.answers[0]), (50, 30));
    dns.answer(&answer(0, 0));
    assert_eq!(dns.total().unsolicited, 1);
}

#[test]
fn more_servers_than_are_told_apart() {
    let mut dns = Dns::new();
    for last in 0..100 {
        dns.server = end([10, 0, 1, last], 53);
        dns.ask(&query(1));
        dns.answer(&answer(1, 0));
    }
    let total = dns.total();
    assert_eq!((total.queries, total.answers[0]), (100, 100));
    assert_eq!(dns.counted().len(), 65);
    assert!(dns.kernel.counters().dns_overflow > 0);
}

/// An answer that is too long for one packet is an answer: its head is in the first fragment.
#[test]
fn an_answer_in_fragments() {
    let dns = Dns::new();
    dns.kernel
        .run(Way::Out, &udp(dns.pod, dns.server, &query(7)));
    let mut first = udp(dns.server, dns.pod, &answer(7, 0));
    first[18..22].copy_from_slice(&[0, 9, 0x20, 0]);
    dns.kernel.run(Way::In, &first);
    let mut later = udp(dns.server, dns.pod, &[0; 100]);
    later[18..22].copy_from_slice(&[0, 9, 0, 64]);
    dns.kernel.run(Way::In, &later);
    dns.kernel.check();
    let total = dns.kernel.total();
    assert_eq!((total.sent.packets, total.recv.packets), (1, 2));
    // Queries and answers need no connection, and no more do fragments of them.
    assert_eq!(total.opened, 0);
    let series = dns.kernel.series();
    let own: Vec<_> = series.iter().filter(|(_, v)| v.recv.packets > 0).collect();
    assert_eq!(own.len(), 1, "{own:?}");
    assert_eq!(
        (own[0].0.dst_port, own[0].0.direction),
        (53, direction::OUTBOUND)
    );
    let value = dns.total();
    assert_eq!(
        (value.queries, value.answers[0], value.duration.count()),
        (1, 1, 1)
    );
}
