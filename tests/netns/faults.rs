//! Lost, repeated and reordered segments, on either side of the hook.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::thread;

use crate::client::{Responses, connect, pipeline};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::load::{check, command, h2load, requests};
use crate::netns::Netns;
use crate::observed::{Connections, Http};
use crate::server::{HTTP, Nginx, STATUSES, urls};
use crate::wire::Faults;

fn assert_faults(pod: &Pod) {
    let wire = pod.wire.as_ref().expect("a wire");
    wire.there.assert_faults();
    wire.back.assert_faults();
}

/// One outstanding request on each connection: exact, wherever segments are lost.
fn one_outstanding(pod: &Pod, family: Family, paths: &[&str], requests: u64) -> Scrape {
    let nginx = Nginx::start(pod);
    let before = nginx.requests(pod);
    h2load(pod, requests, &urls(pod, family, paths));
    assert_eq!(nginx.requests(pod) - before - 1, requests);
    let scrape = pod.ended();
    assert_faults(pod);
    Http::answered(nginx.responses(requests)).assert_in(&scrape, HTTP);
    Connections::of(&scrape, HTTP).assert_ended(50);
    scrape
}

/// Every segment that the server sends passes the hook, so the server's kernel has counted what
/// was sent again.
fn assert_sent_retransmits(pod: &Pod, scrape: &Scrape) {
    let truth = pod.server().kernel_counter("Tcp", "RetransSegs");
    assert!(truth > 0, "nothing was sent again");
    let sent = [("io", "sent")];
    let counted = scrape.sum("linkerd_ebpf_tcp_retransmits_total", &sent);
    assert_eq!(counted, truth, "served (left), TcpRetransSegs (right)");
}

fn before_the_hook(family: Family, seed: u64) {
    let pod = Pod::measured(Shape::FaultsBefore(Faults::of_each_kind(seed)), &[]);
    let scrape = one_outstanding(&pod, family, &["200"], requests());
    assert_sent_retransmits(&pod, &scrape);
}

#[test]
fn before_the_hook_over_ipv4() {
    before_the_hook(Family::V4, 1);
}

#[test]
fn before_the_hook_over_ipv6() {
    before_the_hook(Family::V6, 2);
}

#[test]
fn behind_the_hook_over_ipv4() {
    let pod = Pod::measured(Shape::FaultsBehind(Faults::of_each_kind(3)), &[]);
    one_outstanding(&pod, Family::V4, &["200"], requests());
}

#[test]
fn behind_the_hook_over_ipv6() {
    let pod = Pod::measured(Shape::FaultsBehind(Faults::of_each_kind(4)), &[]);
    one_outstanding(&pod, Family::V6, &["200"], requests());
}

/// Responses of many packets, with losses in heads and bodies, between small ones of every status.
#[test]
fn bodies_with_gaps() {
    let paths = [
        "20k", "200", "204", "20k", "304", "404", "500", "20k", "503",
    ];
    let pod = Pod::measured(Shape::FaultsBefore(Faults::of_each_kind(5)), &[]);
    let scrape = one_outstanding(&pod, Family::V4, &paths, 9000);
    assert_sent_retransmits(&pod, &scrape);
    let pod = Pod::measured(Shape::FaultsBehind(Faults::of_each_kind(6)), &[]);
    one_outstanding(&pod, Family::V6, &paths, 9000);
}

/// Requests of many packets, the next one not before the answer.
fn uploads(pod: &Pod) {
    const CLIENTS: usize = 10;
    const REQUESTS: usize = 100;
    let nginx = Nginx::start(pod);
    let at = pod.server_at(Family::V4, HTTP);
    let streams = Vec::from_iter((0..CLIENTS).map(|_| connect(&pod.client, at)));
    thread::scope(|scope| {
        for (client, mut stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                let mut responses = Responses::of(&stream);
                for i in 0..REQUESTS {
                    let status = [204, 404, 503][(client + i) % 3];
                    let body = "GET / HTTP/1.1\r\n\r\n".repeat(i * 37);
                    let length = body.len();
                    let request = format!(
                        "POST /{status} HTTP/1.1\r\nHost: pod\r\nContent-Length: {length}\r\n\r\n{body}"
                    );
                    stream.write_all(request.as_bytes()).expect("write");
                    assert_eq!(responses.next("POST"), status);
                }
            });
        }
    });
    let scrape = pod.ended();
    assert_faults(pod);
    let expected = nginx.responses((CLIENTS * REQUESTS) as u64);
    Http::answered(expected).assert_in(&scrape, HTTP);
}

#[test]
fn uploads_before_the_hook() {
    uploads(&Pod::measured(
        Shape::FaultsBefore(Faults::of_each_kind(7)),
        &[],
    ));
}

#[test]
fn uploads_behind_the_hook() {
    uploads(&Pod::measured(
        Shape::FaultsBehind(Faults::of_each_kind(8)),
        &[],
    ));
}

/// Bursts of requests from one namespace to nginx in the other; what nginx has logged.
fn bursts(pod: &Pod, from: &Netns, to: &Netns, ip: IpAddr) -> BTreeMap<String, u64> {
    let nginx = Nginx::start_in(pod, to);
    let statuses = STATUSES.map(|status| if status == 304 { 200 } else { status });
    let requests: Vec<String> = (0..500)
        .map(|i| statuses[i % statuses.len()])
        .map(|status| format!("GET /{status} HTTP/1.1\r\nHost: pod\r\n\r\n"))
        .collect();
    let mut total = 0;
    for _ in 0..20 {
        let stream = connect(from, SocketAddr::new(ip, HTTP));
        pipeline(&stream, &requests);
        total += requests.len() as u64;
    }
    nginx.responses(total)
}

/// With many outstanding, what a gap hides may be lost; it must show as lost, and nothing may be
/// counted that was not.
fn assert_nothing_invented(scrape: &Scrape, logged: &BTreeMap<String, u64>) {
    let served = Http::of(scrape, HTTP);
    let mut unknown = 0;
    for (status, count) in &served.responses {
        match status.as_str() {
            "unknown" => unknown += count,
            _ => assert!(count <= &logged[status], "{status}: {served:?} {logged:?}"),
        }
    }
    let total: u64 = logged.values().sum();
    assert!(served.requests <= total, "{served:?}");
    if unknown > 0 || served.requests < total {
        assert!(served.lost.values().sum::<u64>() > 0, "{served:?}");
    } else {
        assert_eq!(&served.responses, logged);
    }
}

/// Requests come in with gaps.
#[test]
fn pipelined_before_the_hook() {
    let pod = Pod::measured(Shape::FaultsBefore(Faults::of_each_kind(9)), &[]);
    let logged = bursts(&pod, &pod.client, &pod.hook, pod.server_ip(Family::V4));
    let scrape = pod.ended();
    assert_nothing_invented(&scrape, &logged);
    assert_sent_retransmits(&pod, &scrape);
}

/// Requests go out whole, so each of them is counted; the answers come in with gaps.
#[test]
fn pipelined_on_the_way_out() {
    let pod = Pod::measured(Shape::FaultsBefore(Faults::of_each_kind(10)), &[]);
    let logged = bursts(&pod, &pod.hook, &pod.client, pod.client_ip(Family::V4));
    let scrape = pod.ended();
    assert_nothing_invented(&scrape, &logged);
    let requests = Http::of(&scrape, HTTP).requests;
    assert_eq!(requests, logged.values().sum::<u64>());
}

#[test]
fn pipelined_behind_the_hook() {
    let pod = Pod::measured(Shape::FaultsBehind(Faults::of_each_kind(11)), &[]);
    let logged = bursts(&pod, &pod.client, pod.server(), pod.server_ip(Family::V4));
    assert_nothing_invented(&pod.ended(), &logged);
}

/// The pod as the client, one outstanding request on each connection.
#[test]
fn outbound_with_one_outstanding() {
    let pod = Pod::measured(Shape::FaultsBefore(Faults::of_each_kind(12)), &[]);
    let nginx = Nginx::start_in(&pod, &pod.client);
    let url = |path| format!("http://{}/{path}", pod.client_ip(Family::V4));
    let urls = ["200", "20k", "404"].map(url);
    let said = pod.hook.run(&mut command(9000, &urls));
    check(&said, 9000);
    let scrape = pod.ended();
    assert_faults(&pod);
    Http::answered(nginx.responses(9000)).assert_in(&scrape, HTTP);
    assert_sent_retransmits(&pod, &scrape);
}

/// The injector itself: without faults everything passes, and the same seed does the same.
#[test]
fn a_wire_without_faults_changes_nothing() {
    let none = Faults {
        seed: 1,
        drop: 0.0,
        duplicate: 0.0,
        reorder: 0.0,
    };
    for shape in [Shape::FaultsBefore(none), Shape::FaultsBehind(none)] {
        let pod = Pod::measured(shape, &[]);
        let nginx = Nginx::start(&pod);
        h2load(&pod, 2000, &urls(&pod, Family::V6, &["20k"]));
        let scrape = pod.ended();
        Http::answered(nginx.responses(2000)).assert_in(&scrape, HTTP);
        // With so short a timer, a busy machine may send again what was not lost.
        Connections::closed("fin", 50)
            .sent_again(&pod)
            .assert_in(&scrape, HTTP);
        assert_eq!(pod.wire.as_ref().expect("a wire").there.dropped(), 0);
    }
}
