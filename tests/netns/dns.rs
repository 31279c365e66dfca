//! DNS with dnsmasq as the server, dig and dnsperf as the clients: what they have seen is the truth.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::process::{PATIENCE, Process, eventually};

const QUERIES: &str = "linkerd_ebpf_dns_queries_total";
const UNANSWERED: &str = "linkerd_ebpf_dns_queries_unanswered_total";
const IN_FLIGHT: &str = "linkerd_ebpf_dns_queries_in_flight";
const DURATION: &str = "linkerd_ebpf_dns_duration_seconds_count";

/// Of those that dnsmasq asks on the loopback, for what it can't be made to say itself.
const FAILING: u16 = 5300;
const SILENT: u16 = 5301;

/// A server of DNS in the pod.
struct Dnsmasq {
    _process: Process,
}

impl Dnsmasq {
    fn start(pod: &Pod) -> Self {
        let failing = upstream(pod, FAILING);
        thread::spawn(move || {
            let mut message = [0; 512];
            while let Ok((n, from)) = failing.recv_from(&mut message) {
                // The question again, as an answer: SERVFAIL.
                message[2] |= 0x80;
                message[3] = 0x80 | 2;
                let _ = failing.send_to(&message[..n], from);
            }
        });
        let silent = upstream(pod, SILENT);
        silent.set_read_timeout(None).expect("no timeout");
        thread::spawn(move || while silent.recv(&mut [0; 512]).is_ok() {});
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-hosts",
        ]);
        command.args([
            "--no-resolv",
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
        ]);
        command.args(["--cache-size=0", "--local=/test/", "--edns-packet-max=4096"]);
        command.args(["--address=/here.test/10.1.2.3", "--bind-interfaces"]);
        command.arg(format!("--server=/fail.other/127.0.0.1#{FAILING}"));
        command.arg(format!("--server=/silent.other/127.0.0.1#{SILENT}"));
        let text = format!(
            "--txt-record=long.test{}",
            format!(",{}", "x".repeat(200)).repeat(6)
        );
        command.arg(text);
        let process = Process::start(&pod.hook, command, pod.tmp.file("dnsmasq.log"));
        let at = pod.server_ip(Family::V4).to_string();
        // On the loopback: it is not observed.
        let is_up = || {
            let mut dig = dig("127.0.0.1");
            dig.args(["here.test", "+tries=1", "+time=1"]);
            let said = pod.hook.inside(|| dig.output()).expect("dig");
            String::from_utf8_lossy(&said.stdout).contains("status: NOERROR")
        };
        assert!(eventually(PATIENCE, is_up), "{at}: {}", process.said());
        Self { _process: process }
    }
}

fn upstream(pod: &Pod, port: u16) -> UdpSocket {
    let socket = pod.hook.inside(|| UdpSocket::bind(("127.0.0.1", port)));
    let socket = socket.expect("bind");
    // The threads end some time after the test.
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    socket
}

fn dig(server: &str) -> Command {
    let mut command = Command::new("dig");
    command.arg(format!("@{server}"));
    command
}

/// Asks for each name in turn. Returns the statuses that dig has seen.
fn statuses(pod: &Pod, family: Family, names: &[&str], flags: &[&str]) -> BTreeMap<String, u64> {
    let file = pod.tmp.file(&crate::netns::unique("names"));
    fs::write(&file, names.join("\n")).expect("names");
    let mut command = dig(&pod.server_ip(family).to_string());
    command.arg("-f").arg(file).args(flags);
    let said = pod.client.run(&mut command);
    let mut seen = BTreeMap::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("status: ") {
            let status = rest.split(',').next().unwrap_or_default();
            *seen.entry(status.to_owned()).or_default() += 1;
        }
    }
    seen
}

fn by_code(scrape: &Scrape) -> BTreeMap<String, u64> {
    scrape.by("rcode", QUERIES, &[])
}

fn named(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let pairs = counts.iter().map(|(name, n)| ((*name).to_owned(), *n));
    pairs.collect()
}

#[test]
fn what_dig_has_seen() {
    // dnsmasq's own, for what dig has not set a name to.
    let expected = [("NOERROR", 100), ("NXDOMAIN", 50), ("SERVFAIL", 50)];
    let names = ["here.test", "gone.test", "here.test", "a.fail.other"];
    dig_sees(&["+tries=1"], &names, &expected);
}

/// A connection for each query, and one for all of them.
#[test]
fn what_dig_has_seen_over_tcp() {
    for flags in [
        &["+tries=1", "+tcp"][..],
        &["+tries=1", "+tcp", "+keepopen"],
    ] {
        let expected = [("NOERROR", 100), ("NXDOMAIN", 100)];
        dig_sees(flags, &["here.test", "gone.test"], &expected);
    }
}

/// Asks 100 times over either family for these names in turn.
fn dig_sees(flags: &[&str], names: &[&'static str], expected: &[(&str, u64)]) {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let _dnsmasq = Dnsmasq::start(&pod);
    let mut seen = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        let many: Vec<&str> = names.iter().copied().cycle().take(100).collect();
        for (status, n) in statuses(&pod, family, &many, flags) {
            *seen.entry(status).or_insert(0) += n;
        }
    }
    assert_eq!(seen, named(expected));
    let scrape = pod.settled(|scrape| scrape.sum(QUERIES, &[]) == 200);
    assert_eq!(by_code(&scrape), seen);
    assert_eq!(scrape.sum(IN_FLIGHT, &[]), 0);
    assert_eq!(scrape.sum(UNANSWERED, &[]), 0);
    assert_eq!(scrape.sum(DURATION, &[]), 200);
    let server = pod.server_ip(Family::V6).to_string();
    let labels = [("direction", "inbound"), ("dst_ip", server.as_str())];
    assert_eq!(scrape.sum(QUERIES, &labels), 100);
    assert_eq!(pod.metricd().state(), "running");
}

#[test]
fn no_answer_and_an_answer_that_says_to_ask_by_tcp() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _dnsmasq = Dnsmasq::start(&pod);
    let at = pod.server_ip(Family::V4).to_string();
    let mut silent = dig(&at);
    silent.args(["a.silent.other", "+tries=1", "+time=1"]);
    let output = pod.client.inside(|| crate::process::output(&mut silent));
    assert_eq!(output.status.code(), Some(9), "dig has no answer");
    let scrape = pod.scrape();
    assert_eq!(scrape.sum(IN_FLIGHT, &[]), 1);
    assert_eq!(scrape.sum(QUERIES, &[]), 0);

    // dig asks again over TCP.
    let flags = ["-t", "TXT", "+bufsize=512", "+tries=1"];
    assert_eq!(
        statuses(&pod, Family::V4, &["long.test"], &flags),
        named(&[("NOERROR", 1)])
    );
    let scrape = pod.settled(|scrape| scrape.sum(QUERIES, &[]) == 2);
    assert_eq!(
        scrape.sum("linkerd_ebpf_dns_answers_truncated_total", &[]),
        1
    );
    let tcp = [("proto", "tcp"), ("dst_port", "53"), ("protocol", "dns")];
    assert_eq!(
        scrape.sum("linkerd_ebpf_connections_classified_total", &tcp),
        1
    );

    // There is no timer: other messages find what has waited for too long.
    thread::sleep(Duration::from_secs(10));
    let many = vec!["here.test"; 40];
    statuses(&pod, Family::V4, &many, &["+tries=1"]);
    let scrape = pod.settled(|scrape| scrape.sum(QUERIES, &[]) == 42);
    assert_eq!(scrape.sum(UNANSWERED, &[("reason", "timeout")]), 1);
    assert_eq!(scrape.sum(IN_FLIGHT, &[]), 0);
}

#[test]
fn as_many_as_dnsperf_has_seen() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let _dnsmasq = Dnsmasq::start(&pod);
    let file = pod.tmp.file("queries");
    fs::write(&file, "here.test A\ngone.test A\n").expect("queries");
    let mut command = Command::new("dnsperf");
    command.args(["-s", &pod.server_ip(Family::V4).to_string()]);
    command.args(["-n", "5000", "-q", "20", "-c", "4", "-d"]);
    let said = pod.client.run(command.arg(&file));
    let number = |line: &str| -> u64 {
        let found = said.lines().find_map(|own| own.trim().strip_prefix(line));
        let words = found.and_then(|rest| rest.split_whitespace().next());
        words
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("no {line}\n{said}"))
    };
    let (sent, completed) = (number("Queries sent:"), number("Queries completed:"));
    let scrape = pod.settled(|scrape| scrape.sum(QUERIES, &[]) >= completed);
    let unanswered = scrape.sum(UNANSWERED, &[]) + scrape.sum(IN_FLIGHT, &[]);
    assert_eq!(scrape.sum(QUERIES, &[]) + unanswered, sent, "{said}");
    assert_eq!(scrape.sum(QUERIES, &[]), completed, "{said}");
    let half = completed / 2;
    let expected = [("NOERROR", half), ("NXDOMAIN", half)];
    assert_eq!(by_code(&scrape), named(&expected), "{said}");
}
