//! What can be wrong around us: each has a clear line in the log, leaves what was there as it was,
//! and heals with the next start.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use libbpf_rs::MapHandle;

use crate::attach::{WAYS, attached};
use crate::fixture::{Pod, Shape};
use crate::netns::unique;
use crate::observed::Connections;
use crate::process::{PATIENCE, eventually, output};
use crate::server::HTTP;

/// What it said, if it failed in one line.
#[track_caller]
fn refusal(failed: &Output) -> String {
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() == 1 && said.contains("ERROR"), "{said}");
    said
}

/// Nothing is attached now, and the next start counts.
fn heals(pod: &mut Pod, flags: &[&str]) {
    assert!(!attached(pod).has_ours());
    pod.attach(flags);
    pod.start();
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
}

/// metricd-init in a mount namespace of its own, where this was done before.
fn init_after(pod: &Pod, mounts: &str, pins: &Path) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec"]);
    command.arg(format!("{mounts}; exec \"$@\""));
    command.args(["sh", env!("CARGO_BIN_EXE_metricd-init"), "--netns"]);
    command.arg(pod.hook.path()).arg("--pin-dir").arg(pins);
    output(&mut command)
}

#[test]
fn a_bpffs_that_is_read_only() {
    let mut pod = Pod::new(Shape::Plain);
    let said = refusal(&init_after(
        &pod,
        "mount -t bpf bpf /mnt; mount -o remount,ro,bind /mnt",
        Path::new("/mnt/pod"),
    ));
    assert!(
        said.contains("/mnt/pod") && said.contains("Read-only"),
        "{said}"
    );
    heals(&mut pod, &[]);
}

#[test]
fn a_bpffs_that_is_not_mounted() {
    let mut pod = Pod::new(Shape::Plain);
    let pins = Path::new("/sys/fs/bpf/pod");
    let said = refusal(&init_after(&pod, "umount -l /sys/fs/bpf", pins));
    assert!(said.contains("mount -t bpf"), "{said}");
    heals(&mut pod, &[]);
}

#[test]
fn a_kernel_without_btf() {
    let mut pod = Pod::new(Shape::Plain);
    let pins = pod.pins.path().to_owned();
    let done = init_after(&pod, "mount -t tmpfs none /sys/kernel/btf", &pins);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(
        said.contains("maps are read as text: load iterators"),
        "{said}"
    );
    pod.start();
    pod.pair(HTTP).close();
    let ended = pod.ended();
    Connections::closed("fin", 1).assert_in(&ended, HTTP);
    assert_eq!(
        ended.sum("linkerd_ebpf_kernel_info", &[("read", "text")]),
        1
    );
}

/// A map of somebody else's, under a name of ours: it stays, and we say so.
#[test]
fn a_map_that_is_not_ours() {
    let other = Pod::measured(Shape::Plain, &[]);
    let mut foreign =
        MapHandle::from_pinned_path(other.pins.path().join("linkerd_http2_map")).expect("a map");
    for before in [false, true] {
        let mut pod = Pod::new(Shape::Plain);
        if before {
            pod.attach(&[]);
        } else {
            fs::create_dir(pod.pins.path()).expect("a folder");
        }
        let at = pod.pins.path().join("linkerd_attachment_map");
        let _ = fs::remove_file(&at);
        foreign.pin(&at).expect("pin");
        let said = refusal(&pod.init(&[]));
        let what = format!("{} is not ours", at.display());
        assert!(said.contains(&what), "{said}");
        assert!(MapHandle::from_pinned_path(&at).is_ok(), "it is gone");
        fs::remove_file(&at).expect("remove");
        foreign.unpin(&at).ok();
        if !before {
            heals(&mut pod, &[]);
        }
    }
}

/// In a cgroup with this much memory, of which the programs alone take more.
#[test]
fn a_memory_limit() {
    let mut pod = Pod::new(Shape::Plain);
    // Version 1 of cgroups has a hierarchy for memory alone.
    let (root, limit) = match Path::new("/sys/fs/cgroup/memory") {
        memory if memory.exists() => (memory, "memory.limit_in_bytes"),
        _ => (Path::new("/sys/fs/cgroup"), "memory.max"),
    };
    let cgroup = root.join(unique("metricd-test"));
    fs::create_dir(&cgroup).expect("a cgroup");
    fs::write(cgroup.join(limit), "12M").expect("a limit");
    let init = pod.init_command(&["--connections", "100000"]);
    let mut command = Command::new("sh");
    command.args(["-ec", "echo $$ >\"$0/cgroup.procs\"; exec \"$@\""]);
    command
        .arg(&cgroup)
        .arg(init.get_program())
        .args(init.get_args());
    let failed = output(&mut command);
    let empty = eventually(PATIENCE, || fs::remove_dir(&cgroup).is_ok());
    assert!(empty, "{} stays", cgroup.display());
    // Killed by the kernel, or told that there is no memory.
    assert!(!failed.status.success(), "{failed:?}");
    if failed.status.code().is_some() {
        let said = refusal(&failed);
        assert!(said.contains("memory"), "{said}");
    }
    heals(&mut pod, &[]);
}

/// One goes, one comes, and what stays is counted all the time.
#[test]
fn interfaces_that_come_and_go() {
    for way in WAYS {
        let pod = Pod::new(Shape::Plain);
        let mut pod = pod;
        pod.hook.ip("tuntap add mode tun up0");
        pod.hook.ip("link set up0 up");
        let flags = ["--interface", "eth0,up0", "--attach", way];
        pod.attach(&flags);
        pod.start();
        pod.pair(HTTP).close();
        pod.hook.ip("link del up0");
        pod.pair(HTTP).close();
        let said = refusal(&pod.init(&flags));
        assert!(said.contains("up0"), "{said}");
        pod.hook.ip("tuntap add mode tun up0");
        pod.hook.ip("link set up0 up");
        let said = pod.attach(&flags);
        let again = format!("up0 ingress: attached ({way}");
        assert!(said.contains(&again), "{said}");
        let said = pod.attach(&[&flags[..], &["--map-size", "50"]].concat());
        assert_eq!(said.matches("maps replaced").count(), 4, "{said}");
        pod.hook.ip("link del up0");
        let said = pod.attach(&["--interface", "eth0", "--map-size", "60"]);
        assert_eq!(said.matches("maps replaced").count(), 2, "{said}");
        pod.pair(HTTP).close();
        Connections::closed("fin", 3).assert_in(&pod.ended(), HTTP);
        pod.attach(&["--detach"]);
        assert!(!attached(&pod).has_ours());
        assert_eq!(pod.pins.list(), [""; 0]);
    }
}
