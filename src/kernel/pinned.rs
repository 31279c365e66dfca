//! What an earlier run has pinned, and what of it runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, Program};

use crate::abi::{AttachmentValue, Info, Layout, read_grown};
use crate::kernel::attach::Hooks;
use crate::kernel::hook::Hook;
use crate::kernel::hook::Owner;
use crate::kernel::maps::INFO;
use crate::kernel::netns;
use crate::kernel::pins;
use crate::kernel::settings::Settings;

const ATTACHMENTS: &str = "linkerd_attachment_map";

/// A pin directory with programs in it.
pub struct Installed {
    pin_dir: PathBuf,
    /// The pinned programs, indexed by [`Hook`].
    programs: [OwnedFd; 2],
    /// The ids of the pinned programs, and of programs that an interrupted run has pinned to take
    /// their place.
    ours: Vec<u32>,
    /// Whether a run was interrupted.
    interrupted: bool,
    records: MapHandle,
    /// The number of the newest epoch.
    pub epoch: u32,
    /// What the maps of the newest epoch say of themselves.
    pub info: Info,
}

impl Installed {
    /// Opens what is pinned in `pin_dir`. `None` if no programs are pinned there, so that nothing
    /// can be attached.
    pub fn open(pin_dir: &Path) -> Result<Option<Self>> {
        let look = || format!("look into pin directory {}", pin_dir.display());
        let is_there = |name: String| fs::exists(pin_dir.join(name)).with_context(look);
        if !is_there(pins::program(Hook::Egress))? {
            return Ok(None);
        }
        let programs = [
            program(&pin_dir.join(pins::program(Hook::Ingress)))?,
            program(&pin_dir.join(pins::program(Hook::Egress)))?,
        ];
        let mut ours = Vec::new();
        for program in &programs {
            ours.push(Program::id_from_fd(program.as_fd())?);
        }
        let left = pins::next(pin_dir)?;
        for (name, path) in &left {
            if pins::is_program(name) {
                ours.push(Program::id_from_fd(program(path)?.as_fd())?);
            }
        }
        let (epoch, folder) = pins::epochs(pin_dir)
            .with_context(look)?
            .pop()
            .with_context(|| format!("{} has programs and no maps", pin_dir.display()))?;
        Ok(Some(Self {
            pin_dir: pin_dir.to_owned(),
            programs,
            ours,
            interrupted: !left.is_empty(),
            records: map(&pin_dir.join(ATTACHMENTS))?,
            epoch,
            info: info(&folder)?,
        }))
    }

    /// The hooks of the network namespace that the thread is in.
    pub fn hooks(&self) -> Result<Hooks<'_>> {
        Ok(Hooks {
            owner: Owner::Observer,
            pin_dir: &self.pin_dir,
            records: &self.records,
            netns: netns::inode()?,
            ours: self.ours.clone(),
        })
    }

    /// The inodes of the network namespaces where filters were attached.
    pub fn filtered_namespaces(&self) -> BTreeSet<u64> {
        self.records
            .keys()
            .filter_map(|key| self.records.lookup(&key, MapFlags::ANY).ok()?)
            .filter_map(|value| AttachmentValue::read(&mut value.as_slice()))
            .filter(|record| record.priority != 0)
            .map(|record| record.netns)
            .collect()
    }

    /// The program that is pinned for a hook.
    pub fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        self.programs[hook as usize].as_fd()
    }

    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Whether a program is one of the pinned programs, and not of an interrupted run.
    pub fn is_pinned(&self, program: u32) -> bool {
        self.ours[..2].contains(&program)
    }

    /// Whether programs of this build, with such settings, are all that runs here.
    pub fn is_current(&self, settings: &Settings) -> Result<bool> {
        let running = self.hooks()?.all();
        Ok(!self.interrupted
            && self.info.object == object()
            && Settings::of(&self.info) == *settings
            && running.iter().all(|at| self.is_pinned(at.program)))
    }

    /// Notes in the info map that programs of this build, with these settings, are all that runs
    /// here.
    pub fn say_current(&self, settings: &Settings) -> Result<()> {
        self.say(Info {
            object: object(),
            ..settings.info()
        })
    }

    /// Notes in the info map that the programs that run are about to change.
    pub fn say_changing(&self) -> Result<()> {
        let object = 0;
        self.say(Info {
            object,
            ..self.info
        })
    }

    /// Notes in the info map what was noted there when this was opened.
    pub fn say_unchanged(&self) -> Result<()> {
        self.say(self.info)
    }

    fn say(&self, info: Info) -> Result<()> {
        map(&pins::epoch(&self.pin_dir, self.epoch).join(INFO))?
            .update(&0u32.to_ne_bytes(), &info.to_bytes(), MapFlags::ANY)
            .context("write the pinned info map")
    }
}

/// What the maps of an epoch say of themselves.
///
/// # Errors
/// If the info map can't be opened, or is not ours.
pub fn info(epoch: &Path) -> Result<Info> {
    let bytes = map(&epoch.join(INFO))?
        .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .context("read the pinned info map")?;
    Ok(read_grown(&bytes.unwrap_or_default()))
}

/// The pinned TCX links, and whether their devices are still there.
pub fn links(pin_dir: &Path) -> Result<Vec<(String, bool)>> {
    let mut links = Vec::new();
    for (name, path) in pins::links(pin_dir, Owner::Observer)? {
        let info = Link::open(&path)
            .and_then(|link| link.info())
            .with_context(|| format!("open the pinned link {}", path.display()))?;
        let is_alive = matches!(info.info, LinkTypeInfo::Tcx(tcx) if tcx.ifindex != 0);
        links.push((name, is_alive));
    }
    Ok(links)
}

/// A hash of this build's BPF object.
fn object() -> u64 {
    env!("METRICD_OBJECT").parse().expect("build.rs makes it")
}

/// Opens a pinned program.
pub fn program(path: &Path) -> Result<OwnedFd> {
    Program::fd_from_pinned_path(path)
        .with_context(|| format!("open the pinned program {}", path.display()))
}

fn map(path: &Path) -> Result<MapHandle> {
    let map = open_map(path)?;
    let called = map.name().to_string_lossy();
    if !is_ours(path, &called) {
        bail!(
            "{} is not ours but a map called {called}: remove it, or name another --pin-dir",
            path.display()
        );
    }
    Ok(map)
}

/// Opens a pinned map, whatever it is called.
pub fn open_map(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path)
        .with_context(|| format!("open the pinned map {}", path.display()))
}

/// Whether a pinned object has the name that its pin says, of which the kernel keeps 15 bytes.
fn is_ours(path: &Path, called: &str) -> bool {
    let pin = path.file_name().unwrap_or_default().to_string_lossy();
    called.len() >= 15 && pin.starts_with(&called[..15])
}

/// Makes sure that maps with names of ours are ours, before they are removed.
///
/// # Errors
/// If a map is not ours.
pub fn check_maps(pin_dir: &Path) -> Result<()> {
    pins::maps(pin_dir)?
        .iter()
        .try_for_each(|path| map(path).map(drop))
}
