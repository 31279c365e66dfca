//! What is not redirected: UDP, DNS' port among it, ICMP, and TCP ports that are skipped. The same frames
//! are sent with and without redirection, and what comes back must be the same to the byte. So must the
//! segments be of connections that go on meanwhile.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::AsRawFd;

use crate::client::Pair;
use crate::fixture::Pod;
use crate::kernel::packet_socket;
use crate::lifecycle::upgrade;
use crate::netns::Netns;
use crate::process::PATIENCE;
use crate::world::{FAMILIES, World, outside};

const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const ICMP6: u8 = 58;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// RFC 1071, of an even number of bytes or with a zero behind.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&byte| u32::from(byte)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A packet with the checksum of its payload put where it belongs.
pub fn packet(
    from: IpAddr,
    to: IpAddr,
    proto: u8,
    mut payload: Vec<u8>,
    checksum_at: usize,
) -> Vec<u8> {
    let (from, to) = (octets(from), octets(to));
    let length = (payload.len() as u16).to_be_bytes();
    let pseudo = [&from[..], &to, &[0, proto], &length].concat();
    let pseudo = if proto == ICMP { Vec::new() } else { pseudo };
    let sum = checksum(&[&pseudo[..], &payload].concat());
    payload[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    if from.len() == 16 {
        let head = [&[0x60, 0, 0, 0], &length[..], &[proto, 64], &from, &to].concat();
        return [head, payload].concat();
    }
    let total = (20 + payload.len() as u16).to_be_bytes();
    let mut head = [
        &[0x45, 0],
        &total[..],
        &[0, 1, 0x40, 0, 64, proto, 0, 0],
        &from,
        &to,
    ]
    .concat();
    let sum = checksum(&head);
    head[10..12].copy_from_slice(&sum);
    [head, payload].concat()
}

pub fn udp(port: u16) -> Vec<u8> {
    let text = b"as it was";
    let length = (8 + text.len() as u16).to_be_bytes();
    let ports = [40000u16.to_be_bytes(), port.to_be_bytes()].concat();
    [&ports[..], &length, &[0, 0], text].concat()
}

pub fn syn(port: u16) -> Vec<u8> {
    let ports = [40000u16.to_be_bytes(), port.to_be_bytes()].concat();
    [
        &ports[..],
        &[0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 0x10, 0, 0, 0, 0, 0],
    ]
    .concat()
}

pub fn mac(pod: &Pod, of_client: bool) -> Vec<u8> {
    let netns = if of_client { &pod.client } else { &pod.hook };
    let shown = netns.ip("-o link show eth0");
    let (_, text) = shown.split_once("link/ether ").expect("an address");
    let text = text.split_whitespace().next().expect("an address");
    let byte = |text| u8::from_str_radix(text, 16).expect("an address");
    text.split(':').map(byte).collect()
}

/// What comes back for each frame, but for what the kernel numbers as it likes.
fn answers(pod: &Pod) -> Vec<Vec<u8>> {
    let socket = pod.client.inside(|| packet_socket("eth0"));
    let link = [mac(pod, false), mac(pod, true)].concat();
    let mut answers = Vec::new();
    for family in FAMILIES {
        let (from, to) = (pod.client_ip(family), pod.server_ip(family));
        let is_ipv4 = to.is_ipv4();
        let (icmp, kind) = if is_ipv4 { (ICMP, 8) } else { (ICMP6, 128) };
        let echo = [&[kind, 0, 0, 0, 0, 1, 0, 1], &b"as it was"[..]].concat();
        let packets = [
            packet(from, to, icmp, echo, 2),
            packet(from, to, UDP, udp(53), 6),
            // Nobody is there: an ICMP message, and a reset.
            packet(from, to, UDP, udp(54), 6),
            packet(from, to, TCP, syn(81), 16),
        ];
        for packet in packets {
            let ethertype = if is_ipv4 { [8, 0] } else { [0x86, 0xdd] };
            let frame = [&link[..], &ethertype, &packet].concat();
            send(socket.as_raw_fd(), &frame, MsgFlags::empty()).expect("send");
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                assert!(Instant::now() < deadline, "no answer to {packet:x?}");
                let mut answer = vec![0; 2048];
                let Ok(n) = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                answer.truncate(n);
                let proto = answer[if is_ipv4 { 23 } else { 20 }];
                let is_neighbour = !is_ipv4 && proto == ICMP6 && (133..138).contains(&answer[54]);
                if answer[12..14] != ethertype || is_neighbour {
                    continue;
                }
                if is_ipv4 {
                    // Its number, and the checksum over it.
                    answer[18..20].fill(0);
                    answer[24..26].fill(0);
                }
                answers.push(answer);
                break;
            }
        }
    }
    answers
}

#[test]
fn what_is_not_redirected_stays_as_it_is() {
    let world = World::new();
    let pod = &world.pod;
    let echo = pod
        .hook
        .inside(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)));
    let echo = echo.expect("a socket");
    thread::spawn(move || {
        let mut text = [0; 100];
        while let Ok((n, from)) = echo.recv_from(&mut text) {
            let _ = echo.send_to(&text[..n], from);
        }
    });
    for family in FAMILIES {
        let at = pod.server_ip(family).to_string();
        // Who is where, so that nobody asks in between.
        pod.client.run(Command::new("ping").args(["-c1", &at]));
    }
    let before = answers(pod);
    assert_eq!(before.len(), 8);
    // One such message a second is what the kernel sends to a peer.
    thread::sleep(Duration::from_millis(1500));
    world.redirect(&["--skip-inbound-ports", "81"]);
    assert_eq!(answers(pod), before);
    assert!(world.proxy.log().is_empty());
}

/// Without what depends on time, or is the kernel's to choose.
#[derive(Debug, PartialEq)]
struct Segment {
    flags: u8,
    header: usize,
    seq: u32,
    ack: u32,
    payload: Vec<u8>,
}

/// Segments by whether they arrive at the client's side, are IPv4, and come from port 81, where the
/// server is: of a connection each way and family, both directions.
type Arrived = BTreeMap<(bool, bool, bool), Vec<Segment>>;

/// Takes down a frame, unless it does nothing but acknowledge: how many of those there are depends on
/// time.
fn take_down(arrived: &mut Arrived, at_client: bool, frame: &[u8]) {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let number = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
    let (is_ipv4, proto, tcp) = match word(12) {
        0x0800 => (true, frame[23], 34),
        0x86dd => (false, frame[20], 54),
        _ => return,
    };
    if proto != TCP || ![word(tcp), word(tcp + 2)].contains(&81) {
        return;
    }
    let header = usize::from(frame[tcp + 12] >> 4) * 4;
    let segment = Segment {
        flags: frame[tcp + 13],
        header,
        seq: number(tcp + 4),
        ack: number(tcp + 8),
        payload: frame[tcp + header..].to_vec(),
    };
    if segment.flags != ACK || !segment.payload.is_empty() {
        let key = (at_client, is_ipv4, word(tcp) == 81);
        arrived.entry(key).or_default().push(segment);
    }
}

const FIN: u8 = 1;
const ACK: u8 = 16;

/// Something is said both ways before, between and after these changes.
fn exchange(pod: &Pod, changes: &[&dyn Fn()]) -> Arrived {
    let capture = |at_client, netns: &Netns| (at_client, netns.inside(|| packet_socket("eth0")));
    let sockets = [capture(true, &pod.client), capture(false, &pod.hook)];
    let connections = FAMILIES.map(|family| {
        [
            Pair::new(&pod.client, &pod.hook, pod.server_at(family, 81)),
            Pair::new(&pod.hook, &pod.client, outside(family, 81)[0]),
        ]
    });
    let mut connections: Vec<Pair> = connections.into_iter().flatten().collect();
    for (step, change) in [&(|| ()) as &dyn Fn()].iter().chain(changes).enumerate() {
        change();
        for pair in &mut connections {
            pair.client_says(format!("question {step}"));
            pair.server_says([b'x'; 1000]);
        }
    }
    connections.into_iter().for_each(Pair::close);

    let mut arrived = Arrived::new();
    let ended = |segments: &Vec<Segment>| segments.iter().any(|one| one.flags & FIN != 0);
    let deadline = Instant::now() + PATIENCE;
    while arrived.len() < 8 || !arrived.values().all(ended) {
        assert!(Instant::now() < deadline, "no end: {arrived:x?}");
        for (at_client, socket) in &sockets {
            let mut frame = vec![0; 2048];
            while let Ok(n) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                take_down(&mut arrived, *at_client, &frame[..n]);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    // Both directions are numbered from where they begin.
    let begin: BTreeMap<_, _> = arrived
        .iter()
        .map(|(&key, all)| (key, all[0].seq))
        .collect();
    for (key, segments) in &mut arrived {
        for segment in segments {
            segment.seq = segment.seq.wrapping_sub(begin[key]);
            if segment.flags & ACK != 0 {
                let peer = begin[&(!key.0, key.1, !key.2)];
                segment.ack = segment.ack.wrapping_sub(peer);
            }
        }
    }
    arrived
}

#[test]
fn connections_to_a_skipped_port_stay_as_they_are() {
    let world = World::new();
    let pod = &world.pod;
    let nothing = &(|| ()) as &dyn Fn();
    let before = exchange(pod, &[nothing; 4]);
    // A SYN, what is said, a FIN.
    assert!(before.values().all(|all| all.len() == 7), "{before:x?}");
    let skip = ["--skip-inbound-ports=81", "--skip-outbound-ports=81"];
    let and_drop = [&skip[..], &["--redirect-fallback=drop"]].concat();
    let redirected = exchange(
        pod,
        &[
            &|| drop(world.redirect(&skip)),
            &|| drop(world.redirect(&and_drop)),
            &|| upgrade(pod),
            &|| drop(pod.attach(&["--detach"])),
        ],
    );
    assert_eq!(redirected, before);
    // What is lost on its way does not arrive, but is sent again.
    for netns in [&pod.client, &pod.hook] {
        assert_eq!(netns.kernel_counter("Tcp", "RetransSegs"), 0);
    }
    assert!(world.proxy.log().is_empty());
}
