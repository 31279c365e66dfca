//! The checks of a machine: this one, and what of it can be broken in namespaces of their own.

use std::fs;
use std::process::{Command, Output};

use crate::golden::{bare, binary, check, golden, output, stdout};

const TRIAL: &str = "linkerd-metricd-check-";

/// How the maps are read is this kernel's to say.
const WAYS: [(&str, &str); 2] = [("as text", "by WAY"), ("by iterators", "by WAY")];

/// The check, after a script has changed its own mount namespace: "$@" runs it.
fn after(script: &str, format: &str) -> Output {
    let mut command = Command::new("unshare");
    bare(&mut command);
    command.args(["--mount", "sh", "-ec", script, "sh"]);
    command.args([
        env!("CARGO_BIN_EXE_linkerd-metricd"),
        "check",
        "--ebpf",
        "-o",
    ]);
    output(command.arg(format))
}

/// What this breaks is found; what the check says to do about it mends it.
#[track_caller]
fn is_mended(name: &str, fails: bool, broken: &str, remedy: &str) {
    check(
        name,
        !fails,
        |format| after(&format!("{broken}; exec \"$@\""), format),
        &WAYS,
    );
    let found = golden(&format!("{name}.txt"));
    assert!(found.contains(remedy), "{found}");
    let mended = after(&format!("{broken}; {remedy} >&2; exec \"$@\""), "table");
    let text = stdout(&mended);
    assert!(mended.status.success(), "{text}");
    assert!(!text.contains('×') && !text.contains('‼'), "{text}");
    assert!(text.contains("\neBPF metrics: OK\n"), "{text}");
}

#[test]
fn this_machine() {
    let run = |format: &str| output(binary().args(["check", "--pre", "--ebpf", "-o", format]));
    check("machine", true, run, &WAYS);
    // Beside what others do at the same time, it leaves nothing.
    let ours = binary()
        .args(["check", "--ebpf"])
        .stdout(std::process::Stdio::null())
        .spawn();
    let mut ours = ours.unwrap();
    let pins = format!("{TRIAL}{}", ours.id());
    assert!(ours.wait().unwrap().success());
    let left = fs::read_dir("/sys/fs/bpf").unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name == pins));
}

#[test]
fn several_at_a_time() {
    let start = || binary().args(["check", "--ebpf", "-o", "short"]).spawn();
    let running: Vec<_> = (0..2).map(|_| start().unwrap()).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn no_bpffs() {
    is_mended(
        "no-bpffs",
        true,
        "umount -l /sys/fs/bpf",
        "mount -t bpf bpf /sys/fs/bpf",
    );
}

#[test]
fn a_bpffs_that_is_read_only() {
    is_mended(
        "read-only-bpffs",
        true,
        "mount -t bpf -o ro bpf /sys/fs/bpf",
        "mount -o remount,rw /sys/fs/bpf",
    );
}

#[test]
fn a_kernel_without_jit() {
    // A file of our own in the place of the kernel's.
    is_mended(
        "no-jit",
        false,
        "mount -t tmpfs tmpfs /mnt; echo 0 >/mnt/jit; \
         mount --bind /mnt/jit /proc/sys/net/core/bpf_jit_enable",
        "sysctl -w net.core.bpf_jit_enable=1",
    );
}

#[test]
fn a_kernel_without_btf() {
    let hidden = "mount -t tmpfs tmpfs /sys/kernel/btf; exec \"$@\"";
    let text = stdout(&after(hidden, "table"));
    assert!(text.contains("√ counters can be read, as text\n"), "{text}");
    assert!(text.contains("\neBPF metrics: OK\n"), "{text}");
}

#[test]
fn a_kernel_that_is_too_old() {
    let broken = "mount -t tmpfs tmpfs /mnt; \
                  echo 5.4.0-80-generic >/mnt/release; \
                  mount --bind /mnt/release /proc/sys/kernel/osrelease; ulimit -l 64; \
                  exec setpriv --bounding-set=-sys_resource \"$@\"";
    check("old-kernel", false, |format| after(broken, format), &[]);
}

#[test]
fn a_process_without_rights() {
    let run = |format: &str| {
        let mut command = Command::new("setpriv");
        bare(&mut command);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
        command.args([
            env!("CARGO_BIN_EXE_linkerd-metricd"),
            "check",
            "--ebpf",
            "-o",
        ]);
        output(command.arg(format))
    };
    check("no-rights", false, run, &[]);
}

/// Root of a user namespace has all capabilities, as far as it can tell.
#[test]
fn a_kernel_that_refuses() {
    let mut command = Command::new("unshare");
    bare(&mut command);
    command.args(["--user", "--map-root-user", "--mount"]);
    command.args([env!("CARGO_BIN_EXE_linkerd-metricd"), "check", "--ebpf"]);
    let found = output(&mut command);
    let text = stdout(&found);
    assert!(!found.status.success(), "{text}");
    assert!(
        text.contains("× kernel accepts the programs\n    load the BPF programs (needs CAP_BPF"),
        "{text}"
    );
    assert!(text.contains("Operation not permitted"), "{text}");
    assert!(!text.contains("eBPF metrics: OK"), "{text}");
}

#[test]
fn what_a_killed_check_has_left_goes() {
    let pins = format!("/sys/fs/bpf/{TRIAL}killed-{}", std::process::id());
    fs::create_dir(&pins).unwrap();
    let touched = Command::new("touch")
        .args(["-d", "1 hour ago", &pins])
        .status();
    assert!(touched.unwrap().success());
    let found = output(binary().args(["check", "--ebpf"]));
    let is_there = fs::exists(&pins).unwrap();
    let _ = fs::remove_dir(&pins);
    assert!(found.status.success(), "{}", stdout(&found));
    assert!(!is_there);
}
