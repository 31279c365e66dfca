//! examples/proxy, which connections are redirected to: by its own records, every request was to go to
//! where its client has sent it.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::fixture::{METRICS, Pod, binary};
use crate::lifecycle::upgrade;
use crate::load::{check, command, from_environment, requests};
use crate::netns::{Netns, unique};
use crate::process::{PATIENCE, Process, eventually, run};
use crate::proxy::{INBOUND, OUTBOUND, uid};
use crate::server::{HTTP, Nginx};
use crate::world::{FAMILIES, World, outside};

/// cargo builds examples for the tests only where all targets are asked for.
fn example() -> &'static str {
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "--example", "proxy", "--manifest-path"]);
        run(build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")));
    });
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/debug/examples/proxy")
}

/// In a folder where the proxy's user may make a file.
fn records(pod: &Pod) -> PathBuf {
    pod.tmp.file("l7").join("records")
}

/// As the proxy's user, with the one capability that a transparent listener takes.
fn proxy(pod: &Pod, way: &str, port: u16) -> Process {
    let mut command = binary("setpriv");
    command.args(["--reuid", &uid(), "--clear-groups"]);
    command.args(["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"]);
    command.args([example(), "--transparent", way]);
    command.args(["--listen", &format!("[::]:{port}")]);
    command.env("METRICD_L7_FILE", records(pod));
    let process = Process::start(&pod.hook, command, pod.tmp.file(&unique("proxy.log")));
    let up = eventually(PATIENCE, || process.said().contains("proxying"));
    assert!(up, "the proxy does not listen\n{}", process.said());
    process
}

struct Mesh {
    world: World,
    nginx: [Nginx; 2],
    _proxies: [Process; 2],
}

impl Mesh {
    fn new(flags: &[&str]) -> Self {
        let mut world = World::redirected(flags);
        world.proxy.kill();
        let pod = &mut world.pod;
        let folder = pod.tmp.file("l7");
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("its mode");
        let proxies = [("inbound", INBOUND), ("outbound", OUTBOUND)];
        let proxies = proxies.map(|(way, port)| proxy(pod, way, port));
        let mut metricd = binary(env!("CARGO_BIN_EXE_metricd"));
        metricd.arg("--pin-dir").arg(pod.pins.path());
        metricd.args(["--listen", &format!("[::]:{METRICS}")]);
        metricd.env("METRICD_L7_FILE", records(pod));
        pod.start_as(metricd);
        let nginx = [&pod.hook, &pod.client].map(|netns| Nginx::start_in(pod, netns));
        Self {
            nginx,
            _proxies: proxies,
            world,
        }
    }

    /// Who asks whom: from outside and from the pod.
    fn ways(&self) -> [(&Netns, Vec<SocketAddr>); 2] {
        let pod = &self.world.pod;
        let inbound = FAMILIES.map(|family| pod.server_at(family, HTTP)).into();
        let outbound = FAMILIES.map(|family| outside(family, HTTP)[0]).into();
        [(&pod.client, inbound), (&pod.hook, outbound)]
    }

    /// What the proxies have recorded, once it is so much.
    fn recorded(&self, at: SocketAddr, requests: u64) -> u64 {
        let (ip, port) = (at.ip().to_string(), at.port().to_string());
        let labels = [("dst_ip", &*ip), ("dst_port", &*port), ("status", "200")];
        let recorded = || {
            let scrape = self.world.pod.scrape();
            scrape.sum("linkerd_proxy_requests_total", &labels)
        };
        eventually(PATIENCE, || recorded() >= requests);
        recorded()
    }
}

#[test]
fn requests_go_where_they_were_to_while_it_is_upgraded() {
    let upgrades = from_environment("METRICD_TEST_UPGRADES", 4);
    let mesh = Mesh::new(&[]);
    let pod = &mesh.world.pod;
    let done = AtomicBool::new(false);
    let some = requests() / 50;
    let load = |netns: &Netns, at: &[SocketAddr]| {
        let mut rounds = 0;
        while rounds == 0 || !done.load(Ordering::Relaxed) {
            for at in at {
                let said = netns.run(&mut command(some, &[format!("http://{at}/200")]));
                check(&said, some);
            }
            rounds += 1;
        }
        rounds
    };
    let ways = mesh.ways();
    let rounds: Vec<u64> = thread::scope(|scope| {
        let loads: Vec<_> = ways
            .iter()
            .map(|(netns, at)| scope.spawn(|| load(netns, at)))
            .collect();
        for _ in 0..upgrades {
            upgrade(pod);
        }
        done.store(true, Ordering::Relaxed);
        let load = |load: thread::ScopedJoinHandle<_>| load.join().expect("no request failed");
        loads.into_iter().map(load).collect()
    });
    let mut total = 0;
    for ((_, at), rounds) in ways.iter().zip(rounds) {
        for &at in at {
            assert_eq!(mesh.recorded(at, rounds * some), rounds * some, "{at}");
            total += rounds * some;
        }
    }
    let all = pod.scrape().sum("linkerd_proxy_requests_total", &[]);
    assert_eq!(all, total, "no other destination");
    // Both write to one log.
    let logged = mesh.nginx[0].responses(total);
    assert_eq!(logged.values().sum::<u64>(), total);
}

/// As many connections as wrk can make, each for one request.
#[test]
fn short_connections_go_where_they_were_to() {
    let mesh = Mesh::new(&[]);
    for (netns, at) in mesh.ways() {
        for at in at {
            let mut wrk = Command::new("wrk");
            wrk.args(["-t1", "-c20", "-d1s", "-H", "Connection: close"]);
            let said = netns.run(wrk.arg(format!("http://{at}/200")));
            let failed = said.contains("Socket errors") || said.contains("Non-2xx");
            assert!(!failed, "{said}");
            let requests = said
                .lines()
                .find_map(|line| line.trim().split_once(" requests in "));
            let requests: u64 = requests.expect("a sum").0.parse().expect("a number");
            // What is under way when time is up is not counted by wrk.
            let recorded = mesh.recorded(at, requests);
            assert!(
                (requests..=requests + 40).contains(&recorded),
                "{at}: {recorded} of {requests}"
            );
        }
    }
}
