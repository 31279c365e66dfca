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

use std::fmt::Display;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::abi::{Info, LAYOUT_VERSION, Layout, MetricEntry, RequestEntry, STATE_VERSION};
use crate::kernel::attach::Running;
use crate::kernel::epoch;
use crate::kernel::gc;
use crate::kernel::hook::{Hook, LOOPBACK};
use crate::kernel::iterators::Iterators;
use crate::kernel::load::{self, Plan};
use crate::kernel::netns::{self, Interface};
use crate::kernel::options::{Options, READER_GID, ReadBy};
use crate::kernel::pin_dir::{self, Lock};
use crate::kernel::pinned::{self, Installed};
use crate::kernel::pins;
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
    let interfaces = netns::interfaces(&options.interfaces, options.loopback)?;
    let lock = prepare(options)?;
    pins::clear_failure(&options.pin_dir);
    gc::collect_beside(&options.pin_dir);
    let mut lines = Vec::new();
    let found = Installed::open(&options.pin_dir)?;
    // Pins of a sandbox that is gone, whose state can't be taken over, are nothing to keep.
    let found = match found {
        Some(old) if old.info.state != STATE_VERSION && old.hooks()?.all().is_empty() => None,
        found => found,
    };
    let (installed, fresh) = match found {
        Some(installed) => {
            let settings = options.wanted.settle(Some(&installed.info))?;
            if installed.is_current(&keep_state(settings, &installed.info))? {
                (installed, false)
            } else {
                lines = replace(&installed, options)?;
                (reopen(options)?, false)
            }
        }
        None => (install(options)?, true),
    };
    let attached = epoch::settle(&options.pin_dir, options.read, options.reader_gid)
        .and_then(|read| Ok((attach_to(&installed, options, &interfaces)?, read)));
    match attached {
        Ok((attached, read)) => {
            lines.extend(attached);
            lines.push(read);
        }
        Err(error) => {
            if fresh {
                // What failed is worth more than what fails in cleaning up behind it.
                let _ = detach_locked(&options.pin_dir, &lock);
            }
            return Err(error);
        }
    }
    Ok(lines)
}

/// Leaves word of a failure where the sidecar looks, if that is possible.
///
/// # Errors
/// If no word can be left there.
pub fn say_failure(options: &Options, reason: &str) -> Result<()> {
    let dir = &options.pin_dir;
    let _lock = pin_dir::prepare(dir, options.reader_gid.unwrap_or(READER_GID))?;
    pins::say_failure(dir, reason).with_context(|| format!("leave word in {}", dir.display()))
}

/// Puts the programs of this build, and maps of the size that is wanted, in the place of what runs,
/// whatever that is. Returns a line for each hook.
///
/// # Errors
/// With what was tried on what; then the old programs go on.
pub fn upgrade(options: &Options) -> Result<Vec<String>> {
    let _lock = prepare(options)?;
    let Some(installed) = Installed::open(&options.pin_dir)? else {
        bail!(
            "nothing of ours is pinned in {}: attach first, by metricd-init",
            options.pin_dir.display()
        );
    };
    let mut lines = replace(&installed, options)?;
    lines.push(epoch::settle(
        &options.pin_dir,
        options.read,
        options.reader_gid,
    )?);
    lines.extend(redirect::upgrade(&installed)?);
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
pub fn detach(pin_dir: &Path) -> Result<Vec<String>> {
    load::log_libbpf();
    match pin_dir::lock(pin_dir, pin_dir::PATIENCE)? {
        Some(lock) => detach_locked(pin_dir, &lock),
        None => Ok(vec![format!("nothing of ours in {}", pin_dir.display())]),
    }
}

fn detach_locked(pin_dir: &Path, _lock: &Lock) -> Result<Vec<String>> {
    let installed = Installed::open(pin_dir)?;
    let mut lines = redirect::detach_locked(pin_dir, installed.as_ref())?;
    if let Some(installed) = installed {
        lines.extend(installed.hooks()?.detach_all()?);
    }
    let pins = pins::remove_all(pin_dir)?;
    lines.push(match pins {
        0 => format!("nothing of ours in {}", pin_dir.display()),
        _ => format!("{}: {pins} pins removed", pin_dir.display()),
    });
    Ok(lines)
}

fn prepare(options: &Options) -> Result<Lock> {
    load::log_libbpf();
    release::check_kernel()?;
    if options.read == ReadBy::Iterator {
        // Iterators are tried before anything is changed that would have to be taken back.
        Iterators::load(&mut MaybeUninit::uninit())?;
    }
    pin_dir::prepare(&options.pin_dir, options.reader_gid.unwrap_or(READER_GID))
}

fn reopen(options: &Options) -> Result<Installed> {
    Installed::open(&options.pin_dir)?.context("the pins just made are gone")
}

/// Loads and pins everything, attached to nothing.
fn install(options: &Options) -> Result<Installed> {
    let dir = &options.pin_dir;
    let settings = options.wanted.settle(None)?;
    warn_if_large(&settings);
    let plan = Plan {
        settings: &settings,
        loopback: LOOPBACK,
        epoch: 1,
        state: None,
        exported: None,
    };
    let mut object = MaybeUninit::uninit();
    let skel = load::load(&mut object, &plan)?;
    // Pins without programs are what an interrupted start has left.
    pinned::check_maps(dir)?;
    pins::remove_pins(dir)?;
    let reader = options.reader_gid.unwrap_or(READER_GID);
    let pinned = epoch::pin_state(&skel, dir)
        .and_then(|()| epoch::publish(&skel, dir, plan.epoch, options.read, reader))
        .and_then(|()| {
            for (hook, program) in programs(&skel) {
                pins::pin(program, &dir.join(pins::program(hook)))?;
            }
            pins::point(dir, &pins::epoch(dir, plan.epoch))?;
            let installed = reopen(options)?;
            installed.say_current(&settings)?;
            Ok(installed)
        });
    if pinned.is_err() {
        let _ = pins::remove_pins(dir);
    }
    pinned
}

/// Puts new programs, and if need be new maps, in the place of what is installed.
fn replace(installed: &Installed, options: &Options) -> Result<Vec<String>> {
    let dir = &options.pin_dir;
    let info = &installed.info;
    if info.state != STATE_VERSION {
        bail!(
            "the connections' state in {} is of version {}, this one has {STATE_VERSION}: detach \
             first (--detach)",
            dir.display(),
            info.state
        );
    }
    let settings = keep_state(options.wanted.settle(Some(info))?, info);
    let same_maps = info.layout == LAYOUT_VERSION && settings.same_maps(&Settings::of(info));
    let number = installed.epoch + u32::from(!same_maps);
    if number > EPOCHS {
        bail!("the maps have been replaced {EPOCHS} times, detach first (--detach)");
    }
    if !same_maps {
        warn_if_large(&settings);
    }
    let current = pins::epoch(dir, installed.epoch);
    let plan = Plan {
        settings: &settings,
        loopback: LOOPBACK,
        epoch: number,
        state: Some(dir),
        exported: same_maps.then_some(current.as_path()),
    };
    let mut object = MaybeUninit::uninit();
    let skel = load::load(&mut object, &plan)?;
    epoch::pin_added(&skel, dir)?;
    if !same_maps {
        let reader = options.reader_gid.or_else(|| pin_dir::reader(&current));
        let reader = reader.unwrap_or(READER_GID);
        epoch::publish(&skel, dir, number, options.read, reader)?;
    }
    let next = pin_next(&skel, dir)?;
    // A new epoch does not say yet that anything runs.
    if same_maps {
        installed.say_changing()?;
    }
    let switched = switch(installed, &skel);
    if switched.is_err() && same_maps {
        installed.say_unchanged()?;
    }
    // What has been counted in a new epoch meanwhile stays.
    let hooks = switched.context("the programs that were there go on")?;
    for (hook, next) in Hook::BOTH.into_iter().zip(&next) {
        pins::rename(dir, next, &pins::program(hook))?;
    }
    // Now no program of an interrupted run runs.
    pins::remove_next(dir)?;
    pins::point(dir, &pins::epoch(dir, number))?;
    reopen(options)?.say_current(&settings)?;
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

/// Pins the programs beside those that run. Returns the pins' names.
fn pin_next(skel: &MetricdSkel, dir: &Path) -> Result<[String; 2]> {
    let names = |number| Hook::BOTH.map(|hook| pins::next_program(hook, number));
    let is_free = |names: &[String; 2]| !names.iter().any(|name| dir.join(name).exists());
    let names = (0..).map(names).find(is_free).context("no name is free")?;
    for ((_, program), name) in programs(skel).into_iter().zip(&names) {
        pins::pin(program, &dir.join(name))?;
    }
    Ok(names)
}

/// Lets new programs run at every hook that has one of ours, or, if one refuses, at none.
fn switch(installed: &Installed, skel: &MetricdSkel) -> Result<Vec<Running>> {
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
                pins::remove_next(installed.pin_dir())?;
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

/// Attaches to the hooks of the interfaces that have no program of ours yet.
fn attach_to(
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
                    let attached = hooks.attach(interface, hook, program, options.attach)?;
                    format!("attached ({attached})")
                }
            };
            lines.push(format!("{} {}: {line}", interface.name, hook.name()));
        }
    }
    Ok(lines)
}
