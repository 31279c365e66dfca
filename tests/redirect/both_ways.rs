//! What goes to the proxy, and what does not.

use std::net::SocketAddr;

use crate::fixture::Family;
use crate::world::{FAMILIES, PORT, WAYS, World, ask, ask_all, expected, outside, serve};

const CONNECTIONS: usize = 200;

/// The proxy's log says of each connection where it was to go, and it was passed on to there.
#[test]
fn inbound_connections_go_through_the_proxy() {
    for way in WAYS {
        let world = World::redirected(&["--attach", way]);
        let pod = &world.pod;
        let ports = [PORT, 8000];
        ports.iter().for_each(|&port| serve(&pod.hook, port));
        let at: Vec<SocketAddr> = FAMILIES
            .iter()
            .flat_map(|&family| ports.map(|port| pod.server_at(family, port)))
            .collect();
        ask_all(&pod.client, &at, CONNECTIONS);
        let total = (at.len() * CONNECTIONS) as u64;
        let expected = expected("inbound", &at, CONNECTIONS as u64);
        assert_eq!(world.proxy.logged(total), expected, "{way}");
        // By the loopback the pod reaches itself without it.
        ask_all(&pod.hook, &at, 1);
        assert_eq!(world.proxy.log(), expected, "{way}");
    }
}

#[test]
fn outbound_connections_go_through_the_proxy() {
    for way in WAYS {
        let world = World::redirected(&["--attach", way]);
        let pod = &world.pod;
        serve(&pod.client, PORT);
        let mut at: Vec<SocketAddr> = FAMILIES
            .iter()
            .flat_map(|&family| outside(family, PORT))
            .collect();
        at.extend(FAMILIES.map(|family| SocketAddr::new(pod.client_ip(family), PORT)));
        ask_all(&pod.hook, &at, CONNECTIONS);
        let total = (at.len() * CONNECTIONS) as u64;
        let expected = expected("outbound", &at, CONNECTIONS as u64);
        assert_eq!(world.proxy.logged(total), expected, "{way}");
    }
}

/// Chosen and skipped ports and subnets, by what the proxy had of each.
#[test]
fn what_is_skipped_goes_straight() {
    let world = World::redirected(&[
        "--redirect-inbound-ports=80,8000-8010",
        "--skip-inbound-ports=8005",
        "--skip-outbound-ports=81,90-92",
        "--skip-outbound-subnets=203.0.113.2,203.0.113.4/31,2001:db8::2",
    ]);
    let pod = &world.pod;
    let inbound = [80, 81, 7999, 8000, 8005, 8010, 8011];
    let outbound = [80, 81, 89, 90, 91, 92, 93];
    inbound.iter().for_each(|&port| serve(&pod.hook, port));
    outbound.iter().for_each(|&port| serve(&pod.client, port));
    let mut taken = Vec::new();
    for family in FAMILIES {
        for port in inbound {
            let at = pod.server_at(family, port);
            assert_eq!(ask(&pod.client, at).expect("an answer"), at.to_string());
            if [80, 8000, 8010].contains(&port) {
                taken.push(("inbound".to_owned(), at));
            }
        }
        for port in outbound {
            let there = outside(family, port);
            for (host, at) in there.into_iter().enumerate() {
                assert_eq!(ask(&pod.hook, at).expect("an answer"), at.to_string());
                let skipped = match family {
                    Family::V4 => [1, 3].contains(&host),
                    Family::V6 => host == 1,
                };
                if [80, 89, 93].contains(&port) && !skipped {
                    taken.push(("outbound".to_owned(), at));
                }
            }
        }
    }
    let expected = taken.iter().map(|at| (at.clone(), 1)).collect();
    assert_eq!(world.proxy.logged(taken.len() as u64), expected);
}

/// From a subnet that is skipped. Another than the client's address would do, too.
#[test]
fn connections_from_a_skipped_subnet_go_straight() {
    for (subnets, taken) in [("10.9.0.0/24,fd00::/16", 0), ("10.9.1.0/24", 2)] {
        let world = World::redirected(&["--skip-inbound-subnets", subnets]);
        serve(&world.pod.hook, PORT);
        for family in FAMILIES {
            let at = world.pod.server_at(family, PORT);
            ask(&world.pod.client, at).expect("an answer");
        }
        let logged = world.proxy.logged(taken).values().sum::<u64>();
        assert_eq!(logged, taken, "{subnets}");
    }
}

/// The kernel remembers nothing of a handshake whose end is yet to come, as under a flood.
#[test]
fn handshakes_by_cookies_end_at_the_proxy() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    pod.hook.sysctl("net/ipv4/tcp_syncookies", "2");
    serve(&pod.hook, PORT);
    let at = FAMILIES.map(|family| pod.server_at(family, PORT));
    ask_all(&pod.client, &at, CONNECTIONS);
    let expected = expected("inbound", &at, CONNECTIONS as u64);
    assert_eq!(world.proxy.logged(2 * CONNECTIONS as u64), expected);
    let received = pod.hook.kernel_counter("TcpExt", "SyncookiesRecv");
    assert!(received >= 2 * CONNECTIONS as u64, "{received} cookies");
}
