//! The proxy is down, or comes and goes.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::connect;
use crate::fixture::Pod;
use crate::netns::Netns;
use crate::process::PATIENCE;
use crate::world::{FAMILIES, PORT, World, ask, ask_again, ask_for_good, expected, outside, serve};

fn both(pod: &Pod) -> Vec<(&Netns, SocketAddr, &'static str)> {
    let each = |family| {
        [
            (&pod.client, pod.server_at(family, PORT), "inbound"),
            (&pod.hook, outside(family, PORT)[0], "outbound"),
        ]
    };
    FAMILIES.into_iter().flat_map(each).collect()
}

#[test]
fn without_a_proxy_connections_go_straight() {
    let mut world = World::redirected(&[]);
    world.proxy.kill();
    serve(&world.pod.hook, PORT);
    serve(&world.pod.client, PORT);
    let World { proxy, pod } = &mut world;
    let mut straight = Vec::new();
    for (netns, at, _) in both(pod) {
        let mut stream =
            netns.inside(|| TcpStream::connect_timeout(&at, PATIENCE).expect("connect"));
        assert_eq!(ask_again(&mut stream).expect("an answer"), at.to_string());
        straight.push((stream, at));
    }
    proxy.start(&pod.hook);
    // What has gone straight goes on so, and what is new does not.
    for (stream, at) in &mut straight {
        assert_eq!(ask_again(stream).expect("an answer"), at.to_string());
    }
    assert!(proxy.log().is_empty());
    for (netns, at, way) in both(pod) {
        ask(netns, at).expect("an answer");
        assert_eq!(proxy.logged(1).remove(&(way.to_owned(), at)), Some(1));
    }
}

/// They wait for it: what is dropped is sent again after a second, and after two more.
#[test]
fn without_a_proxy_connections_wait_if_they_are_to() {
    let mut world = World::redirected(&["--redirect-fallback", "drop"]);
    serve(&world.pod.hook, PORT);
    serve(&world.pod.client, PORT);
    let World { proxy, pod } = &mut world;
    proxy.kill();
    nobody_takes_new_ones(pod);
    for (netns, at, way) in both(pod) {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ask(netns, at));
            thread::sleep(Duration::from_millis(200));
            proxy.start(&pod.hook);
            let answer = waiting.join().expect("no panic").expect("an answer");
            assert_eq!(answer, at.to_string());
        });
        let has = proxy.logged(1).contains_key(&(way.to_owned(), at));
        assert!(has, "{way} {at}");
        proxy.kill();
    }
}

fn nobody_takes_new_ones(pod: &Pod) {
    for (netns, at, way) in both(pod) {
        let short = Duration::from_millis(1500);
        let refused = netns.inside(|| TcpStream::connect_timeout(&at, short));
        let kind = refused.expect_err("nobody takes it").kind();
        assert_eq!(kind, ErrorKind::TimedOut, "{way} {at}");
    }
}

/// Of before redirection, and those that have gone straight: they go on, and end as they would.
#[test]
fn without_a_proxy_those_that_have_begun_go_on() {
    let mut world = World::new();
    let pod = &world.pod;
    serve(&pod.hook, PORT);
    serve(&pod.client, PORT);
    let begin = |pod| -> Vec<(TcpStream, SocketAddr)> {
        let each = both(pod).into_iter();
        each.map(|(netns, at, _)| (connect(netns, at), at))
            .collect()
    };
    let mut begun = begin(pod);
    world.redirect(&[]);
    world.proxy.kill();
    begun.extend(begin(&world.pod));
    world.redirect(&["--redirect-fallback", "drop"]);
    nobody_takes_new_ones(&world.pod);
    for question in [ask_again, ask_again, ask_for_good] {
        for (stream, at) in &mut begun {
            assert_eq!(question(stream).expect("an answer"), at.to_string());
        }
    }
    assert!(world.proxy.log().is_empty());
}

/// Killed and started again, over and over: only connections that had begun before it was gone fail.
#[test]
fn only_what_the_proxy_had_fails() {
    let mut world = World::redirected(&[]);
    serve(&world.pod.hook, PORT);
    serve(&world.pod.client, PORT);
    let done = AtomicBool::new(false);
    let (mut down, mut total) = (Vec::new(), 0);
    let failed: Vec<(Instant, Instant)> = {
        let pod = &world.pod;
        let done = &done;
        let load = |netns: &Netns, at: SocketAddr| {
            let (mut failed, mut asked) = (Vec::new(), 0);
            netns.inside(|| {
                while !done.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let answer = TcpStream::connect_timeout(&at, PATIENCE)
                        .and_then(|mut stream| ask_again(&mut stream));
                    asked += 1;
                    match answer {
                        Ok(answer) => assert_eq!(answer, at.to_string()),
                        Err(_) => failed.push((begin, Instant::now())),
                    }
                }
            });
            (failed, asked)
        };
        let load = &load;
        let (proxy, hook) = (&mut world.proxy, &pod.hook);
        thread::scope(|scope| {
            let loads: Vec<_> = both(pod)
                .into_iter()
                .map(|(netns, at, _)| scope.spawn(move || load(netns, at)))
                .collect();
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(400));
                let before = Instant::now();
                proxy.kill();
                down.push((before, Instant::now()));
                thread::sleep(Duration::from_millis(300));
                proxy.start(hook);
            }
            done.store(true, Ordering::Relaxed);
            let mut failed = Vec::new();
            for load in loads {
                let (some, asked) = load.join().expect("no panic");
                failed.extend(some);
                total += asked;
            }
            failed
        })
    };
    // What fails was under way when it was killed.
    for (begin, end) in &failed {
        let is_expected = |(before, after): &(Instant, Instant)| begin < after && end > before;
        let is_known = down.iter().any(is_expected);
        assert!(is_known, "one failed that had not been in the proxy");
    }
    let through: u64 = world.proxy.log().values().sum();
    assert!(failed.len() < total && through > 0 && through < total as u64);
    let known = both(&world.pod);
    let known: Vec<_> = known
        .iter()
        .map(|(_, at, way)| expected(way, &[*at], 1))
        .collect();
    let is_known = |key| known.iter().any(|known| known.contains_key(key));
    assert!(world.proxy.log().keys().all(is_known));
}
