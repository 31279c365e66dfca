//! What `metricd-init` and `linkerd-metricd` do to a network namespace: attach to its interfaces,
//! put other programs and maps in the place of what is there, or take everything away again.
//!
//! Each step may be the last one, and then the next run finds a state that it can go on from:
//! - The egress program is pinned last and removed first, so without it nothing is attached, and
//!   everything is made anew.
//! - An epoch's folder becomes visible as a whole.
//! - New programs are pinned beside the old ones until they have taken their places at every hook.
//!   Programs of a run that was interrupted stay pinned, too, for they may run.
//! - Maps can be read as text all the time. While iterators come or go, the one over the info map is
//!   there only while all are.
//! - While programs are replaced, the newest epoch does not say which programs run. Unless it says
//!   that ours do, they are loaded again.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};

use crate::abi::{Info, LAYOUT_VERSION, Layout, MetricEntry, RequestEntry, STATE_VERSION};
use crate::kernel::attached::Running;
use crate::kernel::epoch;
use crate::kernel::gc;
use crate::kernel::hook::{Hook, LOOPBACK};
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::iterators::Iterators;
use crate::kernel::load::{self, Plan};
use crate::kernel::options::{Options, READER_GID, ReadBy};
use crate::kernel::pin_dir::{LockedPinDir, Observed, PATIENCE, PinDir};
use crate::kernel::pinned::Installed;
use crate::kernel::release;
use crate::kernel::settings::{LARGE_MAP, Settings};
use crate::redirect;
use crate::skel::MetricdSkel;

/// The highest number of an epoch, which has a byte in the kernel.
const EPOCHS: u32 = 255;

/// Attaches to the interfaces of the network namespace that the thread is in, as far as nothing is
/// attached there yet. Programs of another build, or with other settings, are replaced. Returns a
/// line for each hook, and one that says how the maps are read.
///
/// # Errors
/// With what was tried on what; nothing stays attached that was not before, and what was attached
/// goes on.
pub fn attach(options: &Options) -> Result<Vec<String>> {
    let all = Interfaces::list().context("list the interfaces")?;
    // What can't be found is said before anything is done.
    all.to_observe(&options.interfaces, options.loopback, &BTreeSet::new())?;
    let dir = prepare(options)?;
    dir.clear_failure();
    gc::collect_beside(&dir);
    let found = find(&dir)?;
    let is_new = found.is_none();
    let (installed, mut lines) = match found {
        Some(installed) => renew(&dir, installed, options)?,
        None => (install(&dir, options)?, Vec::new()),
    };
    let attached = epoch::settle(&dir, options.read, options.reader_gid).and_then(|read| {
        // Requests through the proxy are followed on the loopback.
        let loopback = options.loopback || installed.info.proxy_user != 0;
        let before = installed.hooks()?.interfaces();
        let interfaces = all.to_observe(&options.interfaces, loopback, &before)?;
        let mut lines = attach_to(&dir, &installed, options, &interfaces)?;
        lines.extend(say_observed(&dir, &installed, options, &all)?);
        Ok((lines, read))
    });
    if attached.is_err() && is_new {
        // What failed is worth more than what fails in cleaning up behind it.
        let _ = detach_locked(&dir);
    }
    let (attached, read) = attached?;
    lines.extend(attached);
    lines.push(read);
    Ok(lines)
}

/// Leaves word of a failure where the sidecar looks, if that is possible.
///
/// # Errors
/// If no word can be left there.
pub fn say_failure(options: &Options, reason: &str) -> Result<()> {
    let dir = options.pin_dir.prepare(reader(options))?;
    dir.say_failure(reason)
        .with_context(|| format!("leave word in {dir}"))
}

/// Puts the programs of this build, and maps of the size that is wanted, in the place of what runs,
/// whatever that is. Returns a line for each hook.
///
/// # Errors
/// With what was tried on what; then the old programs go on.
pub fn upgrade(options: &Options) -> Result<Vec<String>> {
    let dir = prepare(options)?;
    let Some(installed) = Installed::open(&dir)? else {
        bail!("nothing of ours is pinned in {dir}: attach first, by metricd-init");
    };
    let mut lines = replace(&dir, &installed, options)?;
    lines.push(epoch::settle(&dir, options.read, options.reader_gid)?);
    lines.extend(redirect::upgrade(&dir, &installed)?);
    Ok(lines)
}

/// Replaces programs and maps as [`upgrade`] does, for the sake of the maps' size.
///
/// # Errors
/// If [`upgrade`] fails, or no size is given.
pub fn resize(options: &Options) -> Result<Vec<String>> {
    check_resize(options)?;
    upgrade(options)
}

/// Whether a size is given.
///
/// # Errors
/// If no size is given.
pub fn check_resize(options: &Options) -> Result<()> {
    if options.wanted.map_size.is_none() {
        bail!("name the size, in entries: --map-size");
    }
    Ok(())
}

/// Detaches what was attached and removes the pins. Returns a line for each thing that was done.
///
/// # Errors
/// If a hook could not be cleaned; then the pins stay, for another try.
pub fn detach(dir: &PinDir) -> Result<Vec<String>> {
    load::log_libbpf();
    match dir.lock(PATIENCE)? {
        Some(dir) => detach_locked(&dir),
        None => Ok(vec![format!("nothing of ours in {dir}")]),
    }
}

fn detach_locked(dir: &LockedPinDir) -> Result<Vec<String>> {
    let installed = Installed::open(dir)?;
    let mut lines = redirect::detach_locked(dir, installed.as_ref())?;
    if let Some(installed) = installed {
        lines.extend(installed.hooks()?.detach_all()?);
    }
    let pins = dir.remove_all()?;
    lines.push(match pins {
        0 => format!("nothing of ours in {dir}"),
        _ => format!("{dir}: {pins} pins removed"),
    });
    Ok(lines)
}

/// Probes what can be probed before anything is changed, and makes and locks the pin directory.
fn prepare(options: &Options) -> Result<LockedPinDir> {
    load::log_libbpf();
    release::check_kernel()?;
    if options.read == ReadBy::Iterator {
        // Iterators are tried before anything is changed that would have to be taken back.
        Iterators::load(&mut MaybeUninit::uninit())?;
    }
    options.pin_dir.prepare(reader(options))
}

/// The group that is to read what is pinned.
fn reader(options: &Options) -> u32 {
    options.reader_gid.unwrap_or(READER_GID)
}

fn reopen(dir: &PinDir) -> Result<Installed> {
    Installed::open(dir)?.context("the pins just made are gone")
}

/// What is installed, if that is to be kept.
fn find(dir: &PinDir) -> Result<Option<Installed>> {
    Ok(match Installed::open(dir)? {
        // Pins of a sandbox that is gone, whose state can't be taken over, are nothing to keep.
        Some(old) if old.info.state != STATE_VERSION && old.hooks()?.all().is_empty() => None,
        found => found,
    })
}

/// Loads and pins everything, attached to nothing.
fn install(dir: &LockedPinDir, options: &Options) -> Result<Installed> {
    let settings = options.wanted.settle(None)?;
    warn_if_large(&settings);
    let plan = Plan {
        settings: &settings,
        loopback: LOOPBACK,
        ordered: load::ORDERED,
        epoch: 1,
        state: None,
        exported: None,
    };
    let mut object = MaybeUninit::uninit();
    let skel = load::load(&mut object, &plan)?;
    // Pins without programs are what an interrupted start has left.
    dir.check_maps()?;
    dir.remove_pins()?;
    let pinned = (|| {
        dir.pin_state(&skel)?;
        let epoch = epoch::publish(&skel, dir, plan.epoch, options.read, reader(options))?;
        dir.pin_programs(programs(&skel))?;
        dir.point(&epoch)?;
        let installed = reopen(dir)?;
        installed.say_current(&settings)?;
        Ok(installed)
    })();
    if pinned.is_err() {
        let _ = dir.remove_pins();
    }
    pinned
}

/// Replaces what is installed, unless it is of this build and with the settings that are wanted.
/// Returns a line for each hook where programs were replaced.
fn renew(
    dir: &LockedPinDir,
    installed: Installed,
    options: &Options,
) -> Result<(Installed, Vec<String>)> {
    let settings = options.wanted.settle(Some(&installed.info))?;
    if installed.is_current(&keep_state(settings, &installed.info))? {
        return Ok((installed, Vec::new()));
    }
    let lines = replace(dir, &installed, options)?;
    Ok((reopen(dir)?, lines))
}

/// Puts new programs, and if need be new maps, in the place of what is installed.
fn replace(dir: &LockedPinDir, installed: &Installed, options: &Options) -> Result<Vec<String>> {
    let info = &installed.info;
    if info.state != STATE_VERSION {
        bail!(
            "the connections' state in {dir} is of version {}, this one has {STATE_VERSION}: detach \
             first (--detach)",
            info.state
        );
    }
    let settings = keep_state(options.wanted.settle(Some(info))?, info);
    let same_maps = info.layout == LAYOUT_VERSION && settings.same_maps(&Settings::of(info));
    let number = installed.epoch.number + u32::from(!same_maps);
    if number > EPOCHS {
        bail!("the maps have been replaced {EPOCHS} times, detach first (--detach)");
    }
    if !same_maps {
        warn_if_large(&settings);
    }
    let plan = Plan {
        settings: &settings,
        loopback: LOOPBACK,
        ordered: load::ORDERED,
        epoch: number,
        state: Some(dir),
        exported: same_maps.then_some(&installed.epoch),
    };
    let mut object = MaybeUninit::uninit();
    let skel = load::load(&mut object, &plan)?;
    dir.pin_added(&skel)?;
    let epoch = if same_maps {
        installed.epoch.clone()
    } else {
        let reader = options.reader_gid.or_else(|| installed.epoch.reader());
        let reader = reader.unwrap_or(READER_GID);
        epoch::publish(&skel, dir, number, options.read, reader)?
    };
    let next = dir.pin_next(programs(&skel))?;
    // A new epoch does not say yet that anything runs.
    if same_maps {
        installed.say_changing()?;
    }
    let switched = switch(dir, installed, &skel);
    if switched.is_err() && same_maps {
        installed.say_unchanged()?;
    }
    // What has been counted in a new epoch meanwhile stays.
    let hooks = switched.context("the programs that were there go on")?;
    dir.rename_next(next)?;
    // Now no program of an interrupted run runs.
    dir.remove_next()?;
    dir.point(&epoch)?;
    reopen(dir)?.say_current(&settings)?;
    let what = match same_maps {
        true => "programs replaced".into(),
        false => format!("programs and maps replaced, epoch {number}"),
    };
    Ok(hooks
        .iter()
        .map(|running| {
            let (index, hook) = (running.ifindex, running.hook.name());
            format!("interface {index} {hook}: {what} ({})", running.attached)
        })
        .collect())
}

/// Lets new programs run at every hook that has one of ours, or, if one refuses, at none.
fn switch(dir: &LockedPinDir, installed: &Installed, skel: &MetricdSkel) -> Result<Vec<Running>> {
    let hooks = installed.hooks()?;
    let running = hooks.all();
    for (done, place) in running.iter().enumerate() {
        let (_, program) = programs(skel)[place.hook as usize];
        if let Err(error) = hooks.switch(place, program) {
            for place in &running[..done] {
                hooks.switch(place, installed.program(place.hook))?;
            }
            // The pins go if no program of them runs.
            if running.iter().all(|at| installed.is_pinned(at.program)) {
                dir.remove_next()?;
            }
            return Err(error);
        }
    }
    Ok(running)
}

/// The settings, but with the connections' maps as they are, since these maps are taken over.
fn keep_state(mut settings: Settings, info: &Info) -> Settings {
    let running = Settings::of(info);
    let stays = |flag: &str, runs: &dyn Display| {
        tracing::warn!(
            "{flag} stays {runs}: it can't be changed while connections are followed, detach first \
             (--detach)"
        );
    };
    for (flag, wanted, runs) in [
        (
            "--connections",
            &mut settings.connections,
            running.connections,
        ),
        (
            "--http2-connections",
            &mut settings.http2_connections,
            running.http2_connections,
        ),
        ("--routes", &mut settings.routes, running.routes),
    ] {
        if *wanted != runs {
            stays(flag, &runs);
            *wanted = runs;
        }
    }
    if settings.proxy_uid != running.proxy_uid {
        match running.proxy_uid {
            Some(uid) => stays("--proxy-uid", &uid),
            None => stays("--proxy-uid", &"unset"),
        }
        settings.proxy_uid = running.proxy_uid;
    }
    settings
}

fn warn_if_large(settings: &Settings) {
    if settings.map_size > LARGE_MAP {
        let entry = (MetricEntry::SIZE + RequestEntry::SIZE) as u64;
        let mib = (u64::from(settings.map_size) * entry) >> 20;
        tracing::warn!("a map of {} entries takes {mib} MiB", settings.map_size);
    }
}

/// The programs of a loaded object, in the order of [`Hook`].
fn programs<'a>(skel: &'a MetricdSkel) -> [(Hook, BorrowedFd<'a>); 2] {
    let programs = &skel.progs;
    [
        (Hook::Ingress, programs.linkerd_ingress.as_fd()),
        (Hook::Egress, programs.linkerd_egress.as_fd()),
    ]
}

/// Leaves word for the sidecar of what is observed, and warns of what is counted twice. Returns a line for
/// each interface that is left out.
fn say_observed(
    dir: &LockedPinDir,
    installed: &Installed,
    options: &Options,
    all: &Interfaces,
) -> Result<Vec<String>> {
    let hooks = installed.hooks()?;
    let observed = Observed {
        netns: hooks.netns,
        attached: hooks.interfaces(),
        named: options.interfaces.clone(),
    };
    if let Err(error) = dir.say_observed(&observed) {
        tracing::warn!("the sidecar can't say which interfaces are observed: {error}");
    }
    for line in all.seen_twice(&observed.attached) {
        tracing::warn!("{line}");
    }
    Ok(match observed.named.is_empty() {
        true => all.left_out(&observed.attached),
        false => Vec::new(),
    })
}

/// Attaches to the hooks of the interfaces that have no program of ours yet.
fn attach_to(
    dir: &LockedPinDir,
    installed: &Installed,
    options: &Options,
    interfaces: &[Interface],
) -> Result<Vec<String>> {
    let hooks = installed.hooks()?;
    let mut lines = Vec::new();
    for interface in interfaces {
        for hook in Hook::BOTH {
            // On the loopback each packet comes by both hooks: one is enough to count it, and what is
            // redirected there comes by this one alone. Beside a proxy the other one tells whose the
            // connections are.
            let has_proxy = installed.info.proxy_user != 0;
            if interface.index == LOOPBACK && hook == Hook::Egress && !has_proxy {
                continue;
            }
            let line = match hooks.find(interface.index, hook) {
                Some(running) => format!("already attached ({})", running.attached),
                None => {
                    let program = installed.program(hook);
                    let attached = hooks.attach(dir, interface, hook, program, options.attach)?;
                    format!("attached ({attached})")
                }
            };
            lines.push(format!("{} {}: {line}", interface.name, hook.name()));
        }
    }
    Ok(lines)
}
