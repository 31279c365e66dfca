//! Whether this machine can do it: what the kernel has, what this process may, and then the thing
//! itself, in a network namespace that is thrown away.

use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};

use crate::cluster::check::report::{Outcome, Problem, Report, error, warning};
use crate::kernel::hook::{Hook, LOOPBACK};
use crate::kernel::interfaces::Interfaces;
use crate::kernel::load::{self, Plan};
use crate::kernel::options::{self, Options, PIN_DIR, ReadBy};
use crate::kernel::pin_dir::{self, PATIENCE, PinDir};
use crate::kernel::pinned::Installed;
use crate::kernel::release;
use crate::kernel::settings::{Settings, Wanted};
use crate::lifecycle;
use crate::read::records::Way;
use crate::read::snapshot::Snapshot;

pub const CATEGORY: &str = "linkerd-metricd-ebpf";

/// Pins of a trial: these, and a process id.
const TRIAL: &str = "linkerd-metricd-check-";
/// A trial takes seconds: one that is older was killed.
const STALE: Duration = Duration::from_secs(600);

/// linux/capability.h: number, name.
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (SYS_ADMIN, "CAP_SYS_ADMIN"),
    (38, "CAP_PERFMON"),
    (39, "CAP_BPF"),
];
/// It stands in for CAP_PERFMON and CAP_BPF, too: capabilities(7).
const SYS_ADMIN: u32 = 21;
const SYS_RESOURCE: u32 = 24;

/// Less than the maps take below 5.11 is of no use: 64 KB is the default there.
const MEMLOCK: u64 = 64 << 20;

/// Runs the checks of this machine.
pub fn check(report: &mut Report) {
    report.category(CATEGORY);
    let release = release::kernel_release();
    let kernel = || -> Result<()> {
        release::check_release(release.as_ref().map_err(|e| anyhow!("{e:#}"))?)
    };
    report.add(
        "kernel is 5.10 or later",
        "kernel",
        kernel().map_err(Problem::from),
    );
    report.add(
        "kernel compiles BPF programs (JIT)",
        "jit",
        jit(Path::new("/proc/sys/net/core/bpf_jit_enable")),
    );
    let held = held();
    report.add(
        "process has the capabilities it takes",
        "capabilities",
        held.as_ref()
            .map_err(|e| Problem::Error(format!("{e:#}")))
            .and_then(|held| capabilities(*held)),
    );
    if release.is_ok_and(|release| release::version(&release) < (5, 11)) {
        report.add(
            "memory for maps may be locked",
            "memlock",
            memlock(held.unwrap_or_default()),
        );
    }
    let dir = Path::new(PIN_DIR);
    report.add("bpffs is mounted", "bpffs", mounted(dir));
    // Each of these would only say again what is wrong above.
    if !report.success() {
        return;
    }
    sweep(dir);
    let trial = PinDir::new(dir.join(format!("{TRIAL}{}", std::process::id())));
    report.add(
        "bpffs is writable",
        "bpffs-writable",
        writable(trial.path()),
    );
    if !report.success() {
        return;
    }
    for (description, hint, outcome) in in_throwaway_netns(&trial) {
        report.add(description, hint, outcome);
    }
}

fn jit(path: &Path) -> Outcome {
    match fs::read_to_string(path) {
        Ok(value) if value.trim() == "0" => warning(format!(
            "{} is 0: programs are interpreted, and cost several times as much; switch it on \
             (sysctl -w net.core.bpf_jit_enable=1)",
            path.display()
        )),
        Ok(_) => Ok(()),
        // Of the host's network namespace alone.
        Err(e) => warning(format!(
            "can't read {} ({e}): the kernel has no JIT (CONFIG_BPF_JIT=y), or this is not the \
             host's network namespace",
            path.display()
        )),
    }
}

/// The effective capabilities of this process, a bit each.
fn held() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.context("/proc/self/status tells no capabilities")?;
    u64::from_str_radix(set.trim(), 16).context("read CapEff of /proc/self/status")
}

fn capabilities(held: u64) -> Outcome {
    let has = |number: u32| held & (1 << number) != 0;
    let stands_in = |number: u32| number >= 38 && has(SYS_ADMIN);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, _)| !has(*number) && !stands_in(*number))
        .map(|(_, name)| *name)
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => error(format!(
            "this process lacks {}: run it as root on the host (sudo linkerd-metricd check --ebpf)",
            missing.join(", ")
        )),
    }
}

/// From 5.11 on memory is charged to the cgroup.
fn memlock(held: u64) -> Outcome {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)
        .map_err(|e| Problem::Error(format!("read the limit of locked memory: {e}")))?;
    match limit >= MEMLOCK || held & (1 << SYS_RESOURCE) != 0 {
        true => Ok(()),
        false => error(format!(
            "only {} KB may be locked, and this process lacks CAP_SYS_RESOURCE: give it that, or \
             raise the limit (ulimit -l unlimited)",
            limit >> 10
        )),
    }
}

fn mounted(dir: &Path) -> Outcome {
    match pin_dir::is_bpffs(dir) {
        Ok(true) => Ok(()),
        Ok(false) => error(format!(
            "{0} is not a bpffs: mount one (mount -t bpf bpf {0})",
            dir.display()
        )),
        Err(e) => error(format!("{e:#}")),
    }
}

fn writable(trial: &Path) -> Outcome {
    fs::create_dir(trial)
        .and_then(|()| fs::remove_dir(trial))
        .map_err(|e| {
            let dir = trial.parent().unwrap_or(trial).display();
            Problem::Error(format!(
                "can't make a folder in {dir} ({e}): if it is mounted read-only, mount it anew \
                 (mount -o remount,rw {dir})"
            ))
        })
}

/// Removes what a check that was killed has left.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if entry.file_name().to_string_lossy().starts_with(TRIAL)
            && age().is_some_and(|age| age > STALE)
            && let Err(e) = lifecycle::detach(&PinDir::new(entry.path()))
        {
            tracing::debug!("{}: {e:#}", entry.path().display());
        }
    }
}

type Row = (&'static str, &'static str, Outcome);
type Step = fn(&PinDir) -> Result<()>;

/// Loads, attaches and reads, as in a pod. What was made goes, whatever comes of it; the namespace
/// goes with its only thread.
fn in_throwaway_netns(trial: &PinDir) -> Vec<Row> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut rows: Vec<Row> = Vec::new();
            let steps: [(&str, &str, Step); 2] = [
                ("kernel accepts the programs", "load", load),
                ("programs attach to tc ingress and egress", "attach", attach),
            ];
            for (description, hint, step) in steps {
                let outcome = step(trial).map_err(Problem::from);
                let failed = outcome.is_err();
                rows.push((description, hint, outcome));
                if failed {
                    break;
                }
            }
            if rows.iter().all(|(_, _, outcome)| outcome.is_ok()) {
                rows.push(read(trial));
            }
            if let Err(e) = lifecycle::detach(trial) {
                rows.push(("trial leaves nothing behind", "attach", Err(e.into())));
            }
            rows
        });
        thread
            .join()
            .unwrap_or_else(|_| vec![("trial comes to its end", "attach", error("it panicked"))])
    })
}

fn load(_: &PinDir) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)
        .context("make a network namespace (it takes CAP_SYS_ADMIN, and a seccomp profile that allows unshare())")?;
    let plan = Plan {
        settings: &Settings::default(),
        loopback: LOOPBACK,
        ordered: load::ORDERED,
        epoch: 1,
        state: None,
        exported: None,
    };
    load::load(&mut MaybeUninit::uninit(), &plan).map(drop)
}

fn attach(trial: &PinDir) -> Result<()> {
    lifecycle::attach(&Options {
        interfaces: vec!["lo".into()],
        loopback: false,
        pin_dir: trial.clone(),
        wanted: Wanted::default(),
        attach: options::Way::Auto,
        read: ReadBy::Auto,
        reader_gid: None,
    })?;
    // The loopback gets one hook: the other is tried here.
    let lo = Interfaces::list()?.choose(&["lo".into()])?.remove(0);
    let gone = "the pins just made are gone";
    let trial = trial.lock(PATIENCE)?.context(gone)?;
    let installed = Installed::open(&trial)?.context(gone)?;
    let hooks = installed.hooks()?;
    hooks.attach(
        &trial,
        &lo,
        Hook::Egress,
        installed.program(Hook::Egress),
        options::Way::Auto,
    )?;
    match hooks.all().len() {
        2 => Ok(()),
        n => Err(anyhow!("of 2 programs {n} run at lo's hooks")),
    }
}

/// In the way in which the sidecars of this machine do.
fn read(trial: &PinDir) -> Row {
    let description = match Snapshot::read(trial, ReadBy::Auto) {
        Ok(Snapshot { way, .. }) => match way {
            Way::Iterator => "counters can be read, by iterators",
            Way::Text => "counters can be read, as text",
        },
        Err(e) => return ("counters can be read", "read", error(e.to_string())),
    };
    (description, "read", Ok(()))
}
