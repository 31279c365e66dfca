//! The lock on a pin directory: one run at a time changes what is in it.

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::bpffs;
use super::look::PinDir;

/// How long another run may hold the lock: an attach takes a second, under emulation a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A pin directory that nobody else changes while this lives.
#[derive(Debug)]
pub struct LockedPinDir {
    dir: PinDir,
    _lock: Flock<File>,
}

impl Deref for LockedPinDir {
    type Target = PinDir;

    fn deref(&self) -> &PinDir {
        &self.dir
    }
}

impl fmt::Display for LockedPinDir {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.dir.fmt(f)
    }
}

impl PinDir {
    /// Makes the directory, for the reader's group to search, and locks it. A directory that is there
    /// already stays as it is.
    ///
    /// # Errors
    /// If the directory is not on a bpffs, can't be given to the group, or another run does not end.
    pub fn prepare(&self, reader_gid: u32) -> Result<LockedPinDir> {
        loop {
            bpffs::make(self.path(), reader_gid)?;
            // Another run may have removed the directory before it was locked.
            if let Some(locked) = self.lock(PATIENCE)? {
                return Ok(locked);
            }
        }
    }

    /// Locks the directory. `None` if there is no such directory.
    ///
    /// # Errors
    /// If another run holds the lock for longer than `patience`.
    pub fn lock(&self, patience: Duration) -> Result<Option<LockedPinDir>> {
        let context = || format!("lock pin directory {self}");
        let mut file = match File::open(self.path()) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(context)?,
        };
        let inode = file.metadata().with_context(context)?.ino();
        let deadline = Instant::now() + patience;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((_, errno)) if errno != Errno::EWOULDBLOCK => {
                    return Err(errno).with_context(context);
                }
                Err(_) if Instant::now() > deadline => {
                    return Err(anyhow!(
                        "another metricd-init or linkerd-metricd is at work in it"
                    ))
                    .with_context(context);
                }
                Err((back, _)) => file = back,
            }
            thread::sleep(Duration::from_millis(20));
        };
        let is_there = fs::metadata(self.path()).is_ok_and(|there| there.ino() == inode);
        Ok(is_there.then(|| LockedPinDir {
            dir: self.clone(),
            _lock: lock,
        }))
    }
}
