//! Beginning, changing and ending, with connections that go on.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::connect_from;
use crate::fixture::{Family, Pod, binary};
use crate::load::from_environment;
use crate::netns::Netns;
use crate::process::{PATIENCE, output};
use crate::proxy::INBOUND;
use crate::world::{
    FAMILIES, PORT, WAYS, World, ask, ask_again, ask_all, ask_all_for_good, ask_for_good, expected,
    outside, serve,
};

/// No rule, route, qdisc, program, setting or pin.
#[test]
fn detach_leaves_nothing() {
    for way in WAYS {
        let world = World::new();
        let before = world.state();
        world.redirect(&["--attach", way]);
        assert_ne!(world.state(), before);
        world.pod.attach(&["--detach"]);
        assert_eq!(world.state(), before, "{way}");
        // Redirection alone.
        world.pod.attach(&["--attach", way]);
        let observed = world.state();
        world.redirect(&["--attach", way]);
        world.pod.attach(&["--redirect-off"]);
        assert_eq!(world.state(), observed, "{way}");
        world.pod.attach(&["--detach"]);
        assert_eq!(world.state(), before, "{way}");
    }
}

/// Connections of before are not touched when redirection begins; nor are those that the proxy has
/// when it is replaced, nor those from outside when it ends.
#[test]
fn connections_go_on() {
    for way in WAYS {
        let world = World::new();
        let pod = &world.pod;
        serve(&pod.hook, PORT);
        serve(&pod.client, PORT);
        let connect = |family| {
            let inbound = pod.server_at(family, PORT);
            let outbound = outside(family, PORT)[0];
            let to = |at: SocketAddr| TcpStream::connect_timeout(&at, PATIENCE).expect("connect");
            let streams = [
                pod.client.inside(|| to(inbound)),
                pod.hook.inside(|| to(outbound)),
            ];
            streams.into_iter().zip([inbound, outbound])
        };
        let ask_each = |streams: &mut Vec<(TcpStream, SocketAddr)>| {
            for (stream, at) in streams {
                let answer = ask_again(stream);
                assert_eq!(answer.expect("an answer"), at.to_string(), "{way}");
            }
        };
        let mut old: Vec<_> = FAMILIES.into_iter().flat_map(connect).collect();
        ask_each(&mut old);
        world.redirect(&["--attach", way]);
        ask_each(&mut old);
        let mut new: Vec<_> = FAMILIES.into_iter().flat_map(connect).collect();
        ask_each(&mut new);
        // Other programs, for nothing that is new.
        let said = world.redirect(&[
            "--attach",
            way,
            "--skip-outbound-ports=80",
            "--skip-inbound-ports=80",
        ]);
        assert!(said.contains("redirection replaced"), "{said}");
        ask_each(&mut old);
        ask_each(&mut new);
        pod.attach(&["--detach"]);
        ask_each(&mut old);
        new.retain(|(_, at)| {
            at.ip() == pod.server_ip(Family::V4) || at.ip() == pod.server_ip(Family::V6)
        });
        assert_eq!(new.len(), 2);
        ask_each(&mut new);
        ask(&pod.hook, outside(Family::V4, PORT)[0]).expect("an answer");
        let inbound = FAMILIES.map(|family| pod.server_at(family, PORT));
        let outbound = FAMILIES.map(|family| outside(family, PORT)[0]);
        let mut taken = expected("inbound", &inbound, 1);
        taken.append(&mut expected("outbound", &outbound, 1));
        assert_eq!(world.proxy.logged(4), taken);
    }
}

/// Where nothing but inbound connections is redirected, too, and without a second try.
#[test]
fn an_inbound_connection_can_follow_another_at_once() {
    for way in WAYS {
        let world = World::new();
        let pod = &world.pod;
        let port = INBOUND.to_string();
        pod.attach(&["--redirect-inbound", &port, "--attach", way]);
        serve(&pod.hook, PORT);
        pod.client
            .sysctl("net/ipv4/ip_local_port_range", "40000 40009");
        let inbound = FAMILIES.map(|family| pod.server_at(family, PORT));
        ask_all_for_good(&pod.client, &inbound, 50);
        assert_eq!(world.proxy.logged(100), expected("inbound", &inbound, 50));
        let again = pod.client.kernel_counter("TcpExt", "TCPSynRetrans");
        assert_eq!(again, 0, "{way}");
    }
}

/// The same port again while the proxy's end of the last one still waits for stray segments.
#[test]
fn a_connection_can_follow_another_from_the_same_port() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    serve(&pod.hook, PORT);
    serve(&pod.client, PORT);
    // From the pod the proxy goes on, from others of them.
    pod.client
        .sysctl("net/ipv4/ip_local_port_range", "40000 40009");
    let inbound = FAMILIES.map(|family| pod.server_at(family, PORT));
    ask_all_for_good(&pod.client, &inbound, 50);
    assert_eq!(world.proxy.logged(100), expected("inbound", &inbound, 50));
    for (family, at) in FAMILIES
        .into_iter()
        .zip(FAMILIES.map(|family| outside(family, PORT)[0]))
    {
        let from = SocketAddr::new(pod.server_ip(family), 4000);
        for _ in 0..5 {
            let stream = pod.hook.inside(|| connect_from(from, at));
            let mut stream = stream.unwrap_or_else(|e| panic!("from {from} to {at}: {e}"));
            assert_eq!(
                ask_for_good(&mut stream).expect("an answer"),
                at.to_string()
            );
        }
    }
    assert_eq!(world.proxy.logged(110).values().sum::<u64>(), 110);
}

/// Replaces the programs: all three of redirection's.
pub fn upgrade(pod: &Pod) {
    let mut upgrade = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
    upgrade.args(["upgrade", "--netns", &pod.hook.path(), "--pin-dir"]);
    let said = output(upgrade.arg(pod.pins.path()));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.matches("redirection replaced").count(), 3, "{said}");
}

/// What each of 20 upgrades meets: connections that begin and end, and some that stay.
#[test]
fn upgrades_under_load() {
    let upgrades = from_environment("METRICD_TEST_UPGRADES", 8);
    for way in WAYS {
        let world = World::redirected(&["--attach", way]);
        let pod = &world.pod;
        serve(&pod.hook, PORT);
        serve(&pod.client, PORT);
        let done = AtomicBool::new(false);
        let inbound = FAMILIES.map(|family| pod.server_at(family, PORT));
        let outbound = FAMILIES.map(|family| outside(family, PORT)[0]);
        let load = |netns: &Netns, at: &[SocketAddr]| {
            let connect = |at: &SocketAddr| TcpStream::connect_timeout(at, PATIENCE);
            let connect = |at| netns.inside(|| connect(at)).expect("connect");
            let mut stay: Vec<TcpStream> = at.iter().map(connect).collect();
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                ask_all(netns, at, 10);
                for (stream, at) in stay.iter_mut().zip(at) {
                    assert_eq!(ask_again(stream).expect("an answer"), at.to_string());
                }
                rounds += 10;
            }
            rounds + 1
        };
        let (inbound_rounds, outbound_rounds) = thread::scope(|scope| {
            let loads = [(&pod.client, &inbound), (&pod.hook, &outbound)];
            let loads = loads.map(|(netns, at)| scope.spawn(move || load(netns, at)));
            for _ in 0..upgrades {
                upgrade(pod);
            }
            done.store(true, Ordering::Relaxed);
            let [inbound, outbound] = loads.map(|load| load.join().expect("no connection failed"));
            (inbound, outbound)
        });
        let mut taken = expected("inbound", &inbound, inbound_rounds);
        taken.append(&mut expected("outbound", &outbound, outbound_rounds));
        let total = 2 * (inbound_rounds + outbound_rounds);
        assert_eq!(world.proxy.logged(total), taken, "{way}");
    }
}
