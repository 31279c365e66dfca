//! docs/redirect.md, tried as it is written: from iptables to eBPF and back, and what says which of
//! the two redirects.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::fixture::{Family, binary};
use crate::proxy::uid;
use crate::world::{PORT, World, ask, outside, serve};

/// The commands of the blocks that are marked so.
fn commands(mark: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redirect.md");
    let text = fs::read_to_string(path).expect("the playbook");
    let mut commands = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(rest) => inside = !inside && rest == format!("sh {mark}"),
            None if inside => commands.push(line.to_owned()),
            None => {}
        }
    }
    assert!(!commands.is_empty(), "{mark}");
    commands
}

fn shell(world: &World, command: &str) {
    let folder = Path::new(env!("CARGO_BIN_EXE_metricd-init")).parent();
    let folder = folder.expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]);
    shell.env("PATH", format!("{folder}:{path}:/usr/sbin:/sbin"));
    shell.env("NETNS", world.pod.hook.path());
    shell.env("PINS", world.pod.pins.path());
    shell.env("PROXY_UID", uid());
    let done = shell.output().expect("sh");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command}: {said}");
}

fn status(world: &World) -> String {
    let mut command = binary(env!("CARGO_BIN_EXE_linkerd-metricd"));
    command.args(["redirection", "--netns", &world.pod.hook.path()]);
    command.arg("--pin-dir").arg(world.pod.pins.path());
    let done = command.output().expect("linkerd-metricd");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{:?}", done.stderr);
    said.lines().next().expect("a line").to_owned()
}

#[test]
fn from_iptables_and_back() {
    let world = World::new();
    let pod = &world.pod;
    serve(&pod.hook, PORT);
    serve(&pod.client, PORT);
    let inbound = pod.server_at(Family::V4, PORT);
    let outbound = outside(Family::V4, PORT)[0];
    let had = |way: &str, at: SocketAddr| {
        let log = world.proxy.log();
        log.get(&(way.to_owned(), at)).copied().unwrap_or_default()
    };
    // Answered, by whom it was for; and whether by the proxy.
    let answered = || {
        let before = (had("inbound", inbound), had("outbound", outbound));
        for (netns, at) in [(&pod.client, inbound), (&pod.hook, outbound)] {
            let answer = ask(netns, at).unwrap_or_else(|e| panic!("{at}: {e}"));
            assert_eq!(answer, at.to_string());
        }
        let after = (had("inbound", inbound), had("outbound", outbound));
        (after.0 - before.0, after.1 - before.1)
    };
    pod.attach(&[]);
    assert_eq!(status(&world), "none");
    assert_eq!(answered(), (0, 0));
    let (to_ebpf, to_iptables) = (commands("to-ebpf"), commands("to-iptables"));
    for command in &to_iptables {
        shell(&world, command);
    }
    assert_eq!(status(&world), "iptables");
    assert_eq!(answered(), (1, 1));
    for _ in 0..2 {
        for command in &to_ebpf {
            shell(&world, command);
            assert_eq!(answered(), (1, 1), "after {command}");
        }
        assert_eq!(status(&world), "ebpf");
        for command in &to_iptables {
            shell(&world, command);
            assert_eq!(answered(), (1, 1), "after {command}");
        }
        assert_eq!(status(&world), "iptables");
    }
}
