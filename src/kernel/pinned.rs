//! What an earlier run has pinned, and what of it runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, Program};

use crate::abi::{Info, Layout};
use crate::kernel::attached::Hooks;
use crate::kernel::attachments::Attachments;
use crate::kernel::hook::{Hook, Owner};
use crate::kernel::netns;
use crate::kernel::pin_dir::{EpochDir, PinDir};
use crate::kernel::settings::Settings;

/// A pin directory with programs in it.
pub struct Installed {
    dir: PinDir,
    /// The pinned programs, indexed by [`Hook`].
    programs: [OwnedFd; 2],
    /// The ids of the pinned programs, and of programs that an interrupted run has pinned to take
    /// their place.
    ours: Vec<u32>,
    /// Whether a run was interrupted.
    interrupted: bool,
    pub records: Attachments,
    /// The newest epoch.
    pub epoch: EpochDir,
    /// What the maps of the newest epoch say of themselves.
    pub info: Info,
}

impl Installed {
    /// Opens what is pinned in a directory. `None` if no programs are pinned there, so that nothing
    /// can be attached.
    ///
    /// # Errors
    /// If what is pinned can't be opened, or is not ours.
    pub fn open(dir: &PinDir) -> Result<Option<Self>> {
        if !dir.has_programs()? {
            return Ok(None);
        }
        let programs = [dir.program(Hook::Ingress)?, dir.program(Hook::Egress)?];
        let mut ours = Vec::new();
        for program in &programs {
            ours.push(Program::id_from_fd(program.as_fd())?);
        }
        let left = dir.left()?;
        ours.extend(left.iter().flatten());
        let epoch = dir
            .epochs()
            .with_context(|| format!("look into pin directory {dir}"))?
            .pop()
            .with_context(|| format!("{dir} has programs and no maps"))?;
        Ok(Some(Self {
            dir: dir.clone(),
            programs,
            ours,
            interrupted: left.is_some(),
            records: Attachments::open(dir)?,
            info: epoch.info()?,
            epoch,
        }))
    }

    /// The hooks of the network namespace that the thread is in.
    pub fn hooks(&self) -> Result<Hooks<'_>> {
        Ok(Hooks {
            owner: Owner::Observer,
            dir: &self.dir,
            records: &self.records,
            netns: netns::inode()?,
            ours: self.ours.clone(),
        })
    }

    /// The program that is pinned for a hook.
    pub fn program(&self, hook: Hook) -> BorrowedFd<'_> {
        self.programs[hook as usize].as_fd()
    }

    pub fn dir(&self) -> &PinDir {
        &self.dir
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
        self.epoch
            .info_map()?
            .update(&0u32.to_ne_bytes(), &info.to_bytes(), MapFlags::ANY)
            .context("write the pinned info map")
    }
}

/// A hash of this build's BPF object.
fn object() -> u64 {
    env!("METRICD_OBJECT").parse().expect("build.rs makes it")
}
