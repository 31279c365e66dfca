//! Redirection: connections are given to a proxy in the pod by programs of their own
//! (`bpf/redirect.bpf.c`), without iptables and without NAT.
//!
//! Redirection is added to a pin directory that has the observers, and goes with them. Programs of
//! another build, or with another configuration, take their predecessors' places at one hook after
//! the other; which connections are the proxy's is kept with the sockets (`linkerd_redirect_map`),
//! so these connections go on. As in [`crate::lifecycle`], each step may be the last.

pub mod config;
pub mod flags;
mod iptables;
mod loader;
mod original;
mod programs;
mod routing;
mod status;

use anyhow::{Context, Result, bail};

use crate::kernel::attached::Running;
use crate::kernel::hook::{Hook, LOOPBACK};
use crate::kernel::interfaces::{Interface, Interfaces};
use crate::kernel::load;
use crate::kernel::options::{Options, Way};
use crate::kernel::pin_dir::{LockedPinDir, PATIENCE, PinDir};
use crate::kernel::pinned::Installed;
use config::RedirectConfig;
use programs::{Programs, hooks};
pub use status::status;

/// Redirects on the interfaces of the network namespace that the thread is in, where the observers
/// are attached already. Programs of another build or for something else are replaced. Returns a
/// line for each hook.
///
/// # Errors
/// With what was tried on what; what was redirected before goes on being redirected.
pub fn attach(options: &Options, config: &RedirectConfig) -> Result<Vec<String>> {
    let interfaces = Interfaces::list()?.choose(&options.interfaces)?;
    let (dir, observers) = open(&options.pin_dir)?;
    let before = Programs::newest(&dir)?;
    let is_new = before.is_none();
    let attached = (|| {
        let (programs, mut lines) = match before {
            Some(programs)
                if programs.are(config)?
                    && (config.cgroup.is_none() || programs.original().is_some()) =>
            {
                (programs, Vec::new())
            }
            before => replace(&dir, &observers, before.as_ref(), config)?,
        };
        lines.extend(attach_to(
            &dir,
            &observers,
            &programs,
            &interfaces,
            options.attach,
        )?);
        if let (Some(cgroup), Some(program)) = (&config.cgroup, programs.original()) {
            original::attach(&dir, cgroup, program)?;
            lines.push(format!(
                "cgroup {}: SO_ORIGINAL_DST is answered",
                cgroup.display()
            ));
        }
        Ok(lines)
    })();
    if attached.is_err() && is_new {
        // What failed is worth more than what fails in cleaning up behind it.
        let _ = detach_locked(&dir, Some(&observers));
    }
    attached
}

/// Puts this build's programs in the place of those that redirect, if there are any. Returns a line
/// for each hook.
///
/// # Errors
/// With what was tried on what; then the old programs go on.
pub fn upgrade(dir: &LockedPinDir, observers: &Installed) -> Result<Vec<String>> {
    let Some(before) = Programs::newest(dir)? else {
        return Ok(Vec::new());
    };
    let config = before.config()?;
    Ok(replace(dir, observers, Some(&before), &config)?.1)
}

/// Takes redirection away, and leaves the observers. Returns a line for each hook.
///
/// # Errors
/// If something could not be taken away; what is left stays known, for another try.
pub fn detach(dir: &PinDir) -> Result<Vec<String>> {
    let (dir, observers) = open(dir)?;
    detach_locked(&dir, Some(&observers))
}

/// [`detach`] for a caller that holds the lock, whether there are observers or not.
pub(crate) fn detach_locked(
    dir: &LockedPinDir,
    observers: Option<&Installed>,
) -> Result<Vec<String>> {
    if dir.redirects()?.is_empty() {
        // Before the folder is there, nothing is attached; what there is then goes unsaid.
        dir.remove_redirect()?;
        return Ok(Vec::new());
    }
    let mut lines = match observers {
        Some(observers) => hooks(observers)?.detach_all()?,
        None => Vec::new(),
    };
    routing::remove(!dir.has_redirect_note())?;
    dir.remove_redirect()?;
    lines.push(
        "no longer redirected: connections from outside go on in the proxy, those to outside that \
         it has are reset, new ones go straight"
            .into(),
    );
    Ok(lines)
}

fn open(dir: &PinDir) -> Result<(LockedPinDir, Installed)> {
    load::log_libbpf();
    let locked = dir.lock(PATIENCE)?;
    match (locked, Installed::open(dir)?) {
        (Some(dir), Some(observers)) => Ok((dir, observers)),
        _ => bail!("nothing of ours is pinned in {dir}: attach first"),
    }
}

/// Loads programs for a configuration and lets them run in the place of those before. Returns them
/// and a line for each hook.
fn replace(
    dir: &LockedPinDir,
    observers: &Installed,
    before: Option<&Programs>,
    config: &RedirectConfig,
) -> Result<(Programs, Vec<String>)> {
    let number = before.map_or(1, |before| before.folder.number + 1);
    let answers = original::exists(dir);
    loader::publish(dir, number, config, answers || config.cgroup.is_some())?;
    let programs = Programs::newest(dir)?.context("the programs that were just pinned are gone")?;
    let hooks = hooks(observers)?;
    let running = hooks.all();
    for (done, place) in running.iter().enumerate() {
        if let Err(error) = hooks.switch(place, programs.at(place.hook, place.ifindex)) {
            if let Some(before) = before {
                for place in &running[..done] {
                    hooks.switch(place, before.at(place.hook, place.ifindex))?;
                }
                dir.remove_redirect_folder(number)?;
            }
            return Err(error.context("the programs that were there go on"));
        }
    }
    if let (true, Some(program)) = (answers, programs.original()) {
        original::switch(dir, program)?;
    }
    for old in dir.redirects()? {
        if old.number != number {
            dir.remove_redirect_folder(old.number)?;
        }
    }
    let line = |at: &Running| {
        let (index, hook) = (at.ifindex, at.hook.name());
        format!(
            "interface {index} {hook}: redirection replaced ({})",
            at.attached
        )
    };
    Ok((programs, running.iter().map(line).collect()))
}

/// Attaches at hooks that have no program yet: at the loopback first, so that what is led there is
/// expected.
fn attach_to(
    dir: &LockedPinDir,
    observers: &Installed,
    programs: &Programs,
    interfaces: &[Interface],
    way: Way,
) -> Result<Vec<String>> {
    let config = programs.config()?.kernel;
    let hooks = hooks(observers)?;
    let mut lines = Vec::new();
    let mut attach = |interface: &Interface, hook: Hook, what: String| -> Result<()> {
        let line = match hooks.find(interface.index, hook) {
            Some(running) => format!("already redirects {what} ({})", running.attached),
            None => {
                let program = programs.at(hook, interface.index);
                let attached = hooks.attach(dir, interface, hook, program, way)?;
                format!("redirects {what} ({attached})")
            }
        };
        lines.push(format!("{} {}: {line}", interface.name, hook.name()));
        Ok(())
    };
    let (inbound, outbound) = (config.inbound_port, config.outbound_port);
    if outbound != 0 {
        if !routing::accepts_local()? && !dir.has_redirect_note() {
            dir.leave_redirect_note()?;
        }
        routing::add()?;
    }
    // The loopback is needed where only inbound connections are redirected, too: connections that
    // follow another come by there.
    let lo = Interface {
        name: "lo".into(),
        index: LOOPBACK,
    };
    attach(&lo, Hook::Ingress, "what is led there".into())?;
    for interface in interfaces {
        if interface.index == LOOPBACK {
            continue;
        }
        if inbound != 0 {
            let what = format!("inbound connections to port {inbound}");
            attach(interface, Hook::Ingress, what)?;
        }
        // Egress is needed where only inbound connections are redirected, too: their answers are
        // looked at.
        let what = match outbound {
            0 => "no outbound connections".into(),
            port => format!("outbound connections to port {port}"),
        };
        attach(interface, Hook::Egress, what)?;
    }
    Ok(lines)
}
