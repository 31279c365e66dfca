//! The programs that a run has pinned, and what they are configured by.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, Program};

use super::config::{Kernel, RedirectConfig, Subnet};
use crate::abi::Layout;
use crate::kernel::attached::Hooks;
use crate::kernel::hook::{Hook, LOOPBACK, Owner};
use crate::kernel::pin_dir::PinDir;
use crate::kernel::pin_dir::redirect::{CONFIG, PROGRAMS, RedirectDir, SUBNETS};
use crate::kernel::pinned::Installed;

/// A folder of pinned programs.
pub struct Programs {
    pub folder: RedirectDir,
    /// The pinned programs, in the order of [`PROGRAMS`].
    programs: [OwnedFd; 3],
    original: Option<OwnedFd>,
    /// Whether there is another folder, so that other programs may run at some hook.
    interrupted: bool,
}

impl Programs {
    /// The programs that the last run has pinned; `None` if there are none.
    ///
    /// # Errors
    /// If what is pinned can't be opened.
    pub fn newest(dir: &PinDir) -> Result<Option<Self>> {
        let mut folders = dir
            .redirects()
            .with_context(|| format!("look into pin directory {dir}"))?;
        let Some(folder) = folders.pop() else {
            return Ok(None);
        };
        let [inbound, outbound, loopback] = PROGRAMS.map(|name| folder.program(name));
        Ok(Some(Self {
            programs: [inbound?, outbound?, loopback?],
            original: folder.original()?,
            folder,
            interrupted: !folders.is_empty(),
        }))
    }

    /// The program that belongs at a hook of an interface.
    pub fn at(&self, hook: Hook, ifindex: u32) -> BorrowedFd<'_> {
        let which = match hook {
            Hook::Ingress if ifindex == LOOPBACK => 2,
            Hook::Ingress => 0,
            Hook::Egress => 1,
        };
        self.programs[which].as_fd()
    }

    /// The program that answers SO_ORIGINAL_DST, if there is one.
    pub fn original(&self) -> Option<BorrowedFd<'_>> {
        self.original.as_ref().map(AsFd::as_fd)
    }

    /// The configuration that the programs are loaded for.
    ///
    /// # Errors
    /// If the configuration can't be read.
    pub fn config(&self) -> Result<RedirectConfig> {
        let path = self.folder.map_path(CONFIG);
        let bytes = self
            .folder
            .map(CONFIG)?
            .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
            .with_context(|| format!("read {}", path.display()))?
            .unwrap_or_default();
        let kernel = Kernel::read(&mut bytes.as_slice());
        let kernel = kernel.with_context(|| {
            format!(
                "{} is of another version: detach first (--detach)",
                path.display()
            )
        })?;
        let map = self.folder.map(SUBNETS)?;
        let mut subnets = Vec::new();
        for key in map.keys() {
            let value = map
                .lookup(&key, MapFlags::ANY)
                .context("read the subnets")?;
            let (mut key, value) = (key.as_slice(), value.unwrap_or_default());
            if let (Some(bits), Some(address), Some(ways)) = (
                Layout::read(&mut key),
                Layout::read(&mut key),
                Layout::read(&mut value.as_slice()),
            ) {
                subnets.push((Subnet { bits, address }, ways));
            }
        }
        Ok(RedirectConfig {
            kernel,
            subnets,
            cgroup: None,
        })
    }

    /// Whether the programs are this build's, do what is `wanted`, and are all that runs.
    ///
    /// # Errors
    /// If the programs' configuration can't be read.
    pub fn are(&self, wanted: &RedirectConfig) -> Result<bool> {
        let mut config = self.config()?;
        let is_ours = std::mem::take(&mut config.kernel.object) == object();
        Ok(!self.interrupted && is_ours && config.is(wanted))
    }
}

/// The hooks of the network namespace that the thread is in, as far as programs that redirect have
/// them.
///
/// # Errors
/// If what is pinned can't be opened.
pub fn hooks(observers: &Installed) -> Result<Hooks<'_>> {
    Ok(Hooks {
        owner: Owner::Redirect,
        ours: ids(observers.dir())?,
        ..observers.hooks()?
    })
}

/// The ids of all programs of redirection, of interrupted runs too.
fn ids(dir: &PinDir) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for folder in dir.redirects()? {
        for name in PROGRAMS {
            let program = folder.program(name)?;
            ids.push(Program::id_from_fd(program.as_fd())?);
        }
    }
    Ok(ids)
}

/// A hash of this build's programs.
pub fn object() -> u64 {
    env!("METRICD_REDIRECT_OBJECT")
        .parse()
        .expect("build.rs makes it")
}
