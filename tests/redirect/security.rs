//! docs/redirect.md, "What a container in the pod can do": its rows, tried by a process with what they
//! are about and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use crate::fixture::{Family, Pod};
use crate::kernel::packet_socket;
use crate::netns::unique;
use crate::process::{PATIENCE, Process, eventually, output, run};
use crate::proxy::{INBOUND, OUTBOUND, uid};
use crate::unchanged::{TCP, UDP, checksum, mac, packet, syn, udp};
use crate::world::{FAMILIES, PORT, World, ask, expected, outside, serve};

const NOBODY: &str = "65534";

/// A user with these capabilities, ",+net_raw" for instance, and no way to more.
fn as_user(uid: &str, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", uid, "--regid", NOBODY, "--clear-groups"]);
    command.arg(format!("--inh-caps=-all{capabilities}"));
    command.arg(format!("--ambient-caps=-all{capabilities}"));
    command.arg("--no-new-privs");
    command
}

fn python(uid: &str, capabilities: &str, script: &str) -> Command {
    let mut command = as_user(uid, capabilities);
    command.args(["/usr/bin/python3", "-c", script]);
    command
}

/// Asks as [`ask`] does, by a socket that the third argument makes a peculiar one.
const ASK: &str = r#"
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
stream = socket.socket(family, socket.SOCK_STREAM)
exec(sys.argv[3])
stream.settimeout(2)
stream.connect((host, port))
stream.sendall(b"who?")
print(stream.makefile().readline())
"#;

/// The answer, or why there is none.
fn ask_as(
    pod: &Pod,
    (uid, capabilities): (&str, &str),
    at: SocketAddr,
    peculiar: &str,
) -> Result<String, String> {
    let mut command = python(uid, capabilities, ASK);
    command.args([at.ip().to_string(), at.port().to_string()]);
    let done = pod.hook.inside(|| output(command.arg(peculiar)));
    let [said, error] =
        [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    match done.status.success() {
        true => Ok(said.trim().to_owned()),
        false => Err(error.lines().last().unwrap_or_default().to_owned()),
    }
}

fn nobody_answers(answer: Result<String, String>) {
    let error = answer.expect_err("nobody is there");
    assert!(error.contains("timed out"), "{error}");
}

/// Peculiar sockets get nowhere, or there by the proxy.
#[test]
fn without_capabilities_no_socket_gets_around_it() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    let nobody = (NOBODY, "");
    let mut taken = BTreeMap::new();
    for at in FAMILIES.map(|family| outside(family, PORT)[0]) {
        for peculiar in [
            "",
            // MPTCP
            "stream = socket.socket(family, socket.SOCK_STREAM, 262)",
            // TCP_FASTOPEN_CONNECT
            "stream.setsockopt(6, 30, 1)",
            // IP_OPTIONS
            "stream.setsockopt(0, 4, bytes([1] * 40))",
            // SO_BINDTODEVICE
            "stream.setsockopt(1, 25, b'eth0')",
        ] {
            match ask_as(pod, nobody, at, peculiar) {
                Ok(answer) => {
                    assert_eq!(answer, at.to_string(), "{peculiar}");
                    *taken.entry(("outbound".to_owned(), at)).or_default() += 1;
                }
                Err(error) => assert!(!peculiar.is_empty(), "{error}"),
            }
        }
    }
    assert_eq!(world.proxy.logged(taken.values().sum()), taken);
    // SO_MARK, IP_TRANSPARENT, IPV6_DSTOPTS, and what sends packets made by hand.
    for peculiar in [
        "stream.setsockopt(1, 36, 0x6d74)",
        "stream.setsockopt(0, 19, 1)",
        "socket.socket(socket.AF_INET6).setsockopt(41, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))",
        "socket.socket(family, socket.SOCK_RAW, 255)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    ] {
        let error = ask_as(pod, nobody, outside(Family::V4, PORT)[0], peculiar);
        let error = error.expect_err(peculiar);
        assert!(error.contains("not permitted"), "{peculiar}: {error}");
    }
}

#[test]
fn who_becomes_the_proxys_user_goes_straight() {
    let world = World::redirected(&["--redirect-fallback", "drop"]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    let uid = uid();
    let become_it = format!("os.setuid({uid}); stream = socket.socket(family)");
    for family in FAMILIES {
        let at = outside(family, PORT)[0];
        for (who, peculiar) in [((&*uid, ""), ""), ((NOBODY, ",+setuid"), &become_it)] {
            assert_eq!(ask_as(pod, who, at, peculiar), Ok(at.to_string()));
        }
    }
    assert!(world.proxy.log().is_empty());
}

/// Sends frames by hand. Who does is told of some that are dropped.
const SEND: &str = r#"
import socket, sys
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
link.bind(("eth0", 0))
if sys.argv[1] == "past the queue":
    link.setsockopt(263, 20, 1) # PACKET_QDISC_BYPASS
for frame in map(bytes.fromhex, sys.argv[2:]):
    is_ipv4 = frame[12] == 8
    family, to = (socket.AF_INET, frame[30:34]) if is_ipv4 else (socket.AF_INET6, frame[38:54])
    try:
        if sys.argv[1] == "raw socket":
            raw = socket.socket(family, socket.SOCK_RAW, 255)
            raw.sendto(frame[14:], (socket.inet_ntop(family, to), 0))
        else:
            link.send(frame)
    except OSError as error:
        assert error.errno == 105 # ENOBUFS
"#;

/// Which of the packets leave the pod.
fn leave(pod: &Pod, by: &str, packets: &[Vec<u8>]) -> Vec<bool> {
    let socket = pod.client.inside(|| packet_socket("eth0"));
    let link = [mac(pod, true), mac(pod, false)].concat();
    let frame = |packet: &Vec<u8>| {
        let ethertype = if packet[0] >> 4 == 4 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        [&link[..], &ethertype, packet].concat()
    };
    let mut frames: Vec<_> = packets.iter().map(frame).collect();
    // The last one, which nobody holds up.
    let (from, to) = (pod.server_ip(Family::V4), pod.client_ip(Family::V4));
    frames.push(frame(&packet(from, to, UDP, udp(54), 6)));
    let hex =
        |frame: &Vec<u8>| -> String { frame.iter().map(|byte| format!("{byte:02x}")).collect() };
    let mut command = python(NOBODY, ",+net_raw", SEND);
    command.arg(by).args(frames.iter().map(hex));
    pod.hook.run(&mut command);
    let mut seen = BTreeSet::new();
    let mut deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut frame = vec![0; 2048];
        let Ok(n) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        frame.truncate(n);
        if frames.last() == Some(&frame) {
            // Two CPUs may have had them.
            deadline = Instant::now() + Duration::from_millis(100);
        }
        seen.insert(frame);
    }
    let mut left: Vec<bool> = frames.iter().map(|frame| seen.contains(frame)).collect();
    assert_eq!(left.pop(), Some(true), "{by}");
    left
}

const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// With so many IPv6 extension headers before its payload.
fn extended(packet: &[u8], kind: u8, number: usize) -> Vec<u8> {
    // The first of fragments, or options for the destination that say nothing.
    let rest = if kind == FRAGMENT {
        [0, 0, 1]
    } else {
        [0, 1, 4]
    };
    let (mut next, mut headers) = (packet[6], Vec::new());
    for _ in 0..number {
        headers = [&[next], &rest[..], &[0; 4], &headers].concat();
        next = kind;
    }
    let mut packet = [&packet[..40], &headers, &packet[40..]].concat();
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = next;
    packet
}

/// They have no connection to give away. With `drop` those are held up that are known for a first
/// segment, where they come by a program.
#[test]
fn segments_made_by_hand_are_not_redirected() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    let made = |family| {
        let to = outside(family, PORT)[0].ip();
        packet(pod.server_ip(family), to, TCP, syn(PORT), 16)
    };
    let [ipv4, ipv6] = FAMILIES.map(made);
    let mut fragment = ipv4.clone();
    fragment[6] = 0x20;
    fragment[10..12].fill(0);
    let sum = checksum(&fragment[..20]);
    fragment[10..12].copy_from_slice(&sum);
    let packets = [
        extended(&ipv6, OPTIONS, 4),
        ipv4,
        extended(&ipv6, FRAGMENT, 1),
        extended(&ipv6, OPTIONS, 5),
        fragment,
        ipv6,
    ];
    for family in FAMILIES {
        // Who is where, so that nobody asks in between.
        let at = pod.client_ip(family).to_string();
        pod.hook.run(Command::new("ping").args(["-c1", &at]));
    }
    for by in ["packet socket", "raw socket", "past the queue"] {
        assert_eq!(leave(pod, by, &packets), [true; 6], "{by}");
    }
    world.redirect(&["--redirect-fallback", "drop"]);
    for by in ["packet socket", "raw socket"] {
        let known = [false, false, true, true, true, false];
        assert_eq!(leave(pod, by, &packets), known, "{by}");
    }
    assert_eq!(leave(pod, "past the queue", &packets), [true; 6]);
    assert!(world.proxy.log().is_empty());
}

/// Such as the kernel's own TCP sends.
#[test]
fn extension_headers_hide_no_connection() {
    let world = World::redirected(&[]);
    serve(&world.pod.client, PORT);
    let at = outside(Family::V6, PORT)[0];
    // IPV6_HOPOPTS and IPV6_DSTOPTS
    let peculiar =
        "for kind in 54, 59: stream.setsockopt(41, kind, bytes([0, 0, 1, 4, 0, 0, 0, 0]))";
    let answer = ask_as(&world.pod, (NOBODY, ",+net_raw"), at, peculiar);
    assert_eq!(answer, Ok(at.to_string()));
    assert_eq!(world.proxy.logged(1), expected("outbound", &[at], 1));
}

/// It takes no capability to have one, and nobody on the loopback follows it.
#[test]
fn a_routing_header_leads_to_nobody() {
    let world = World::new();
    let pod = &world.pod;
    serve(&pod.client, PORT);
    for name in ["all", "eth0"] {
        let name = format!("net/ipv6/conf/{name}/seg6_enabled");
        pod.client.sysctl(&name, "1");
    }
    let at = outside(Family::V6, PORT)[0];
    // IPV6_RTHDR: by the host itself.
    let peculiar =
        "hops = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + socket.inet_pton(family, host)
stream.setsockopt(41, 57, hops)";
    let answer = || ask_as(pod, (NOBODY, ""), at, peculiar);
    assert_eq!(answer(), Ok(at.to_string()));
    world.redirect(&[]);
    nobody_answers(answer());
}

/// What is marked so is local, also to a port that is skipped.
#[test]
fn our_mark_leads_to_the_proxy_or_to_nobody() {
    let mut world = World::redirected(&["--skip-outbound-ports", "81"]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    serve(&pod.client, 81);
    // IPv4 finds no address of ours to come from by itself.
    let mark = FAMILIES.map(|family| {
        let from = pod.server_ip(family);
        format!("stream.setsockopt(1, 36, 0x6d74); stream.bind(('{from}', 0))")
    });
    let ask_marked = |pod, at: SocketAddr| {
        let mark = &mark[usize::from(at.is_ipv6())];
        ask_as(pod, (NOBODY, ",+net_raw"), at, mark)
    };
    let at = [PORT, 81].map(|port| FAMILIES.map(|family| outside(family, port)[0]));
    let at = at.concat();
    for &at in &at {
        assert_eq!(ask_marked(pod, at), Ok(at.to_string()));
    }
    assert_eq!(world.proxy.logged(4), expected("outbound", &at, 1));
    world.proxy.kill();
    for at in at {
        nobody_answers(ask_marked(&world.pod, at));
    }
}

/// Whether a user with no other capability can do so.
fn net_admin_can(pod: &Pod, words: &str) -> bool {
    let mut command = as_user(NOBODY, ",+net_admin");
    let done = pod.hook.inside(|| output(command.args(words.split(' '))));
    done.status.success()
}

#[test]
fn net_admin_removes_filters() {
    let world = World::redirected(&["--attach", "clsact"]);
    serve(&world.pod.client, PORT);
    assert!(net_admin_can(&world.pod, "tc qdisc del dev eth0 clsact"));
    let at = outside(Family::V4, PORT)[0];
    ask(&world.pod.hook, at).expect("an answer");
    assert!(world.proxy.log().is_empty());
}

#[test]
fn net_admin_removes_no_link() {
    let world = World::redirected(&["--attach", "tcx"]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    let mut links = pod.pins.list();
    links.retain(|pin| pin.starts_with("linkerd_redirect_") && pin.contains("_link_"));
    assert_eq!(links.len(), 3);
    for link in links {
        let pin = pod.pins.path().join(link);
        let pin = pin.to_str().expect("a path");
        let shown = run(Command::new("bpftool").args(["link", "show", "pinned", pin]));
        let (id, _) = shown.split_once(':').expect("an id");
        for words in [
            format!("bpftool link detach id {id}"),
            format!("bpftool link detach pinned {pin}"),
            format!("rm {pin}"),
        ] {
            assert!(!net_admin_can(pod, &words), "{words}");
        }
    }
    assert!(!net_admin_can(pod, "tc qdisc del dev eth0 clsact"));
    let at = outside(Family::V4, PORT)[0];
    ask(&pod.hook, at).expect("an answer");
    assert_eq!(world.proxy.logged(1), expected("outbound", &[at], 1));
}

/// Then what is led to the loopback is for nobody there, until redirection begins anew.
#[test]
fn net_admin_removes_rule_and_route() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    let at = outside(Family::V4, PORT)[0];
    for words in ["ip rule del pref 1", "ip route flush table 28020"] {
        assert!(net_admin_can(pod, words));
        nobody_answers(ask_as(pod, (NOBODY, ""), at, ""));
        world.redirect(&[]);
    }
    ask(&pod.hook, at).expect("an answer");
    assert_eq!(world.proxy.logged(1), expected("outbound", &[at], 1));
}

/// A tunnel to somebody outside who knows of it.
#[test]
fn net_admin_sends_by_a_device_of_its_own() {
    let world = World::redirected(&["--redirect-fallback", "drop"]);
    let pod = &world.pod;
    serve(&pod.client, PORT);
    let [client, server] = [pod.client_ip(Family::V4), pod.server_ip(Family::V4)];
    let tunnel = |local, remote, host| {
        let device = format!("link add tunnel type vxlan id 5 dstport 4789 local {local}");
        let address = format!("addr add 192.0.2.{host}/24 dev tunnel");
        [
            format!("{device} remote {remote}"),
            address,
            "link set tunnel up".to_owned(),
        ]
    };
    for words in tunnel(client, server, 1) {
        pod.client.ip(&words);
    }
    for words in tunnel(server, client, 2) {
        assert!(net_admin_can(pod, &format!("ip {words}")), "{words}");
    }
    let at = "192.0.2.1:80".parse().expect("an address");
    assert_eq!(ask(&pod.hook, at).expect("an answer"), "192.0.2.1:80");
    assert!(world.proxy.log().is_empty());
}

/// Answers "mine".
const LISTEN: &str = r#"
import socket, sys
listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
listener.setsockopt(41, 26, 0) # IPV6_V6ONLY
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
exec(sys.argv[3])
listener.bind((sys.argv[1], int(sys.argv[2])))
listener.listen()
print("listens", flush=True)
while True:
    stream, _ = listener.accept()
    stream.recv(4)
    stream.sendall(b"mine\n")
"#;

#[test]
fn who_listens_in_the_proxys_place_is_given_its_connections() {
    let mut world = World::redirected(&[]);
    let impostor = |capabilities, at: (&str, u16), peculiar: &str| {
        let mut command = python(NOBODY, capabilities, LISTEN);
        command.args([at.0, &at.1.to_string(), peculiar]);
        command
    };
    // SO_REUSEPORT
    let reuse = "listener.setsockopt(1, 15, 1)";
    for at in ["::", "::1", "::ffff:127.0.0.1"] {
        for port in [INBOUND, OUTBOUND] {
            let mut command = impostor("", (at, port), reuse);
            let done = world.pod.hook.inside(|| output(&mut command));
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(said.contains("Address already in use"), "{at} {said}");
        }
    }
    world.proxy.kill();
    let pod = &world.pod;
    let start = |command| {
        let process = Process::start(&pod.hook, command, pod.tmp.file(&unique("impostor.log")));
        assert!(eventually(PATIENCE, || process.said().contains("listens")));
        process
    };
    let _inbound = start(impostor("", ("::", INBOUND), ""));
    for family in FAMILIES {
        let at = pod.server_at(family, PORT);
        assert_eq!(ask(&pod.client, at).expect("an answer"), "mine");
    }
    // Its answers have no route by IPv4, unless it is transparent.
    let outbound = start(impostor("", ("::", OUTBOUND), ""));
    let answer = |family| ask_as(pod, (NOBODY, ""), outside(family, PORT)[0], "");
    nobody_answers(answer(Family::V4));
    assert_eq!(answer(Family::V6).as_deref(), Ok("mine"));
    drop(outbound);
    // IPV6_TRANSPARENT
    let transparent = "listener.setsockopt(41, 75, 1)";
    let _outbound = start(impostor(",+net_raw", ("::", OUTBOUND), transparent));
    assert_eq!(answer(Family::V4).as_deref(), Ok("mine"));
}
