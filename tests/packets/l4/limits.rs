//! Full tables: what does not fit is counted nonetheless.

use std::thread;
use std::time::{Duration, Instant};

use metricd::abi::series_kind;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::flow::{Client, Flow, Server, ends};
use crate::frame;
use crate::kernel::{Kernel, SLOT_LIVE, Way};

#[test]
fn more_connections_than_slots() {
    let kernel = Kernel::load(&["--connections", "16"]);
    for i in 0..500 {
        let f = Flow::open(&kernel, 1000 + i);
        f.request("GET / HTTP/1.1\r\n\r\n");
        if i % 3 == 0 {
            f.response("HTTP/1.1 204 No Content\r\n\r\n");
        }
        if i % 5 == 0 {
            f.close();
        }
        kernel.check();
    }
    let total = kernel.total();
    assert_eq!(total.opened, 500);
    assert!(total.active <= 16, "{}", total.active);
    assert_eq!(kernel.counters().untracked, 0);
    assert!(total.closed.evicted > 300 && total.aborted.evicted > 200);
    assert_eq!(total.requests.http1, 500);
    assert_eq!(kernel.responses()[&204], 167);
}

#[test]
fn an_evicted_connection_goes_on() {
    let kernel = Kernel::load(&["--connections", "4"]);
    let first = Flow::open(&kernel, 999);
    for i in 0..50 {
        Flow::open(&kernel, 1000 + i);
    }
    first.request("GET / HTTP/1.1\r\n\r\n");
    first.ack(Server);
    first.rst(Client);
    let total = kernel.total();
    // As one that is older than the programs.
    assert_eq!((total.opened, total.lost.midstream), (52, 1));
    assert_eq!(total.requests.http1, 0);
}

/// How many jiffies a second has, as a connection shows that goes on meanwhile.
fn hertz(f: &Flow) -> u32 {
    let jiffies = || {
        f.ack(Client);
        let slots = f.kernel.slots();
        let live = slots.iter().find(|slot| slot.state == SLOT_LIVE);
        live.expect("its slot").seen_jiffies
    };
    let (start, before) = (Instant::now(), jiffies());
    thread::sleep(Duration::from_secs(1));
    let passed = jiffies().wrapping_sub(before);
    let measured = f64::from(passed) / start.elapsed().as_secs_f64();
    // What CONFIG_HZ can be.
    let off_by = |hertz: &f64| (hertz - measured).abs();
    let hertz = [100.0, 250.0, 300.0, 1000.0];
    let nearest = hertz
        .into_iter()
        .min_by(|a, b| off_by(a).total_cmp(&off_by(b)));
    nearest.expect("one of them") as u32
}

/// Each CPU measures the length of a jiffy for itself, so a test of idle times stays on one.
fn on_one_cpu() {
    let mut cpu = CpuSet::new();
    cpu.set(0).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpu).expect("sched_setaffinity");
}

/// Keep-alive probes begin after two hours of silence, so a connection that has them lives.
#[test]
fn silent_for_as_long_as_tcp_allows() {
    on_one_cpu();
    for (minutes, idle) in [(2 * 60 + 3, 0), (2 * 60 + 10, 1)] {
        let kernel = Kernel::load(&["--connections", "16"]);
        let first = Flow::open(&kernel, 999);
        kernel.silence(minutes * 60 * hertz(&first));
        // Each looks for idle ones, in a part of the table.
        for i in 0..8 {
            Flow::open(&kernel, 1000 + i).close();
        }
        first.request("GET / HTTP/1.1\r\n\r\n");
        first.response("HTTP/1.1 204 No Content\r\n\r\n");
        let total = kernel.total();
        assert_eq!(total.closed.idle, idle, "after {minutes} minutes");
        assert_eq!(total.requests.http1, 1 - idle, "after {minutes} minutes");
        assert_eq!(total.lost.midstream, idle, "after {minutes} minutes");
    }
}

/// Flows that are over their time end with any packets, without new connections.
#[test]
fn idle_flows_end_with_any_packet() {
    on_one_cpu();
    let kernel = Kernel::load(&["--connections", "1024"]);
    let first = Flow::open(&kernel, 999);
    let [client, server] = ends(2000);
    for port in 0..100 {
        let from = frame::End { port, ..client };
        kernel.run(Way::Out, &frame::udp(server, from, b"a:1|c"));
    }
    let hertz = hertz(&first);
    assert_eq!(kernel.total().active, 101);
    kernel.silence(50 * hertz);
    for (silent, active) in [(0, 101), (20, 1)] {
        kernel.silence(silent * hertz);
        for _ in 0..50 {
            first.ack(Client);
            thread::sleep(Duration::from_millis(100));
            if kernel.total().active == 1 {
                break;
            }
        }
        let total = kernel.total();
        assert_eq!((total.active, total.closed.idle), (active, 101 - active));
        kernel.check();
    }
}

/// A flow that was over its time, and goes on, is another one.
#[test]
fn an_idle_flow_that_goes_on() {
    on_one_cpu();
    let kernel = Kernel::load(&["--connections", "1024"]);
    let first = Flow::open(&kernel, 999);
    let hertz = hertz(&first);
    let [client, server] = ends(2000);
    for (silent, opened) in [(0, 2), (50, 2), (70, 3), (0, 3)] {
        kernel.silence(silent * hertz);
        kernel.run(Way::Out, &frame::udp(server, client, b"a:1|c"));
        let total = kernel.total();
        assert_eq!(
            (total.opened, total.active),
            (opened, 2),
            "after {silent} s"
        );
        assert_eq!(total.closed.idle, opened - 2);
        kernel.check();
    }
}

#[test]
fn one_slot() {
    let kernel = Kernel::load(&["--connections", "1"]);
    for i in 0..20 {
        let f = Flow::open(&kernel, 1000 + i);
        f.request("GET / HTTP/1.1\r\n\r\n");
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
        kernel.check();
    }
    assert_eq!(kernel.responses()[&204], 20);
    assert_eq!(kernel.total().closed.evicted, 19);
}

#[test]
fn more_series_than_the_map_holds() {
    let kernel = Kernel::load(&[
        "--connections",
        "256",
        "--map-size",
        "4",
        "--detail",
        "full",
    ]);
    let flows: Vec<Flow> = (0..100).map(|i| Flow::open(&kernel, 1000 + i)).collect();
    for f in &flows {
        f.request("GET / HTTP/1.1\r\n\r\n");
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
        f.request("GET / HTTP/1.1\r\n\r\n");
    }
    kernel.check();
    for (i, f) in flows.iter().enumerate() {
        if i % 2 == 0 {
            f.close();
        } else {
            f.rst(Client);
        }
    }
    let [client, server] = ends(1);
    kernel.run(Way::Out, &frame::udp(server, client, b"x"));
    assert_eq!(kernel.series().len(), 5);
    let total = kernel.total();
    assert_eq!((total.opened, total.active), (101, 1));
    assert_eq!((total.closed.fin, total.closed.rst), (50, 50));
    assert_eq!((total.aborted.fin, total.aborted.rst), (50, 50));
    let responses: u64 = kernel.responses().values().sum();
    assert_eq!((total.requests.http1, responses), (200, 100));
    let other = kernel.series();
    let (_, other) = other
        .iter()
        .find(|(k, _)| k.kind == series_kind::OTHER)
        .unwrap();
    assert_eq!(other.opened, 97);
    let counters = kernel.counters();
    assert!(counters.metrics_overflow >= 97);
}

/// Series, their statuses and their histograms that are in the maps behind the arrays.
#[test]
fn more_than_the_arrays_hold() {
    let flags = ["--detail", "full", "--map-size", "8192", "--routes", "300"];
    let kernel = Kernel::load(&flags);
    let letter = |n: u16| char::from(b'a' + n as u8);
    for i in 0..1500 {
        let f = Flow::open(&kernel, 1000 + i);
        let path: String = [i % 300 / 20, i % 20].map(letter).iter().collect();
        for _ in 0..2 {
            f.request(format!("GET /{path} HTTP/1.1\r\n\r\n"));
            f.response("HTTP/1.1 204 No Content\r\n\r\n");
        }
        f.close();
    }
    kernel.check();
    let counters = kernel.counters();
    assert_eq!(counters.metrics_overflow, 0);
    assert_eq!(counters.requests_overflow, 0);
    assert_eq!(counters.latency_overflow, 0);
    let series = kernel.series();
    let own: Vec<_> = series.iter().filter(|(_, v)| v.opened > 0).collect();
    assert_eq!(own.len(), 1500);
    for (key, v) in own {
        assert_eq!((v.opened, v.closed.fin), (1, 1), "{key:?}");
        assert_eq!((v.requests.http1, v.ended), (2, 2), "{key:?}");
    }
    assert_eq!(kernel.responses()[&204], 3000);
    let [requests, responses] = kernel.routes();
    assert_eq!((requests.len(), responses.len()), (300, 300));
    assert!(
        requests
            .values()
            .chain(responses.values())
            .all(|n| *n == 10)
    );
    assert_eq!(kernel.latency().duration().count(), 3000);
    assert!(kernel.histograms() >= 300);
}

#[test]
fn more_statuses_than_the_map_holds() {
    let kernel = Kernel::load(&["--connections", "64", "--map-size", "4"]);
    let f = Flow::open(&kernel, 1000);
    for status in 200..300 {
        f.request("GET / HTTP/1.1\r\n\r\n");
        f.response(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
    }
    let responses = kernel.responses();
    assert_eq!(responses.values().sum::<u64>(), 100);
    assert_eq!(responses[&metricd::abi::STATUS_OTHER], 96);
    assert_eq!(kernel.counters().requests_overflow, 96);
}
