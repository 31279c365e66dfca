//! A proxy that only knows SO_ORIGINAL_DST.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::fixture::{Pod, Shape};
use crate::netns::unique;
use crate::process::{PATIENCE, Process, eventually, run};
use crate::world::{FAMILIES, ask};

/// Answers with what it is told of each connection, or with the error.
const PROXY: &str = r#"
import socket, struct, sys
listener = socket.create_server(("::", 4143), family=socket.AF_INET6, dualstack_ipv6=True)
print("listens", flush=True)
while True:
    stream, peer = listener.accept()
    stream.recv(4)
    try:
        if peer[0].startswith("::ffff:"):
            said = stream.getsockopt(socket.SOL_IP, 80, 16)
            port, address = struct.unpack("!2xH4s8x", said)
            text = "%s:%d" % (socket.inet_ntop(socket.AF_INET, address), port)
        else:
            said = stream.getsockopt(41, 80, 28)
            port, address = struct.unpack("!2xH4x16s4x", said)
            text = "[%s]:%d" % (socket.inet_ntop(socket.AF_INET6, address), port)
    except OSError as error:
        text = str(error)
    stream.sendall(text.encode() + b"\n")
    stream.close()
"#;

/// A cgroup of its own, in a hierarchy that is mounted for it.
struct Cgroup {
    mount: PathBuf,
    folder: PathBuf,
}

impl Cgroup {
    fn new(pod: &Pod) -> Self {
        let mount = pod.tmp.file("cgroup");
        fs::create_dir(&mount).expect("a folder");
        run(Command::new("mount")
            .args(["-t", "cgroup2", "none"])
            .arg(&mount));
        let folder = mount.join(unique("metricd-test"));
        fs::create_dir(&folder).expect("a cgroup");
        Self { mount, folder }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Once the last process in it is gone.
        eventually(PATIENCE, || fs::remove_dir(&self.folder).is_ok());
        let _ = Command::new("umount").arg(&self.mount).status();
    }
}

#[test]
fn the_original_destination_is_answered() {
    let pod = Pod::new(Shape::Plain);
    let cgroup = Cgroup::new(&pod);
    let mut command = Command::new("python3");
    command.args(["-c", PROXY]);
    let proxy = Process::start(&pod.hook, command, pod.tmp.file("proxy.log"));
    let procs = cgroup.folder.join("cgroup.procs");
    fs::write(procs, proxy.id().to_string()).expect("into the cgroup");
    assert!(eventually(PATIENCE, || proxy.said().contains("listens")));
    let at = FAMILIES.map(|family| pod.server_at(family, 80));
    pod.attach(&["--redirect-inbound", "4143"]);
    for at in at {
        let answer = ask(&pod.client, at).expect("an answer");
        assert_ne!(answer, at.to_string());
    }
    let path = cgroup.folder.to_str().expect("a path");
    let flags = ["--redirect-inbound", "4143", "--redirect-cgroup", path];
    for more in [&[][..], &["--skip-inbound-ports", "81"]] {
        let said = pod.attach(&[&flags[..], more].concat());
        assert!(said.contains("SO_ORIGINAL_DST is answered"), "{said}");
        for at in at {
            assert_eq!(ask(&pod.client, at).expect("an answer"), at.to_string());
        }
    }
    // Said once, it stays so.
    pod.attach(&["--redirect-inbound", "4143"]);
    for at in at {
        assert_eq!(ask(&pod.client, at).expect("an answer"), at.to_string());
    }
    pod.attach(&["--detach"]);
    assert_eq!(pod.pins.list(), [""; 0]);
    drop(proxy);
}
