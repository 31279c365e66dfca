//! Listening: who does holds the epoch's lock, says so to the programs again and again, and reads
//! the ring buffer.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle, RingBuffer, RingBufferBuilder};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};

use crate::abi::{Counters, read_grown};
use crate::kernel::maps::{self, PERF, TAP};
use crate::kernel::pin_dir::{EpochDir, PinDir};

/// How long the programs go on writing events once the listener has been killed.
const AHEAD: Duration = Duration::from_secs(5);
/// How often the programs are told to go on.
const AGAIN: Duration = Duration::from_secs(1);

/// An epoch of a pin directory, listened to by nobody else.
pub struct Epoch {
    pub number: u32,
    _lock: Flock<File>,
    perf: MapHandle,
    switch: MapHandle,
    counters: MapHandle,
}

impl Epoch {
    /// Opens the newest epoch of a pin directory.
    ///
    /// # Errors
    /// If nothing is attached, or an earlier version is; if the right to listen is missing; if
    /// somebody else listens.
    pub fn open(pin_dir: &PinDir) -> Result<Self> {
        let epoch = newest(pin_dir)?;
        let open = |map: &str| {
            let path = epoch.map_path(map);
            if !path.exists() {
                bail!(
                    "{} is not there: the programs are of an earlier version, see linkerd-metricd \
                     upgrade",
                    path.display()
                );
            }
            MapHandle::from_pinned_path(&path)
                .with_context(|| format!("open the pinned map {} (as root)", path.display()))
        };
        Ok(Self {
            number: epoch.number,
            _lock: lock(epoch.path())?,
            perf: open(PERF)?,
            switch: open(TAP)?,
            counters: open(maps::COUNTERS)?,
        })
    }

    /// What the programs had no room for so far.
    ///
    /// # Errors
    /// If the map of counters can't be read.
    pub fn counters(&self) -> Result<Counters> {
        let bytes = self.counters.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let bytes = bytes.context("read the counters")?;
        Ok(read_grown(&bytes.unwrap_or_default()))
    }

    /// The events, each of which is handed to `event`; it ends a round by returning false.
    ///
    /// # Errors
    /// If the ring buffer can't be mapped.
    pub fn ring<'a>(&'a self, mut event: impl FnMut(&[u8]) -> bool + 'a) -> Result<RingBuffer<'a>> {
        let mut builder = RingBufferBuilder::new();
        let take = move |bytes: &[u8]| if event(bytes) { 0 } else { -nix::libc::EAGAIN };
        builder.add(&self.perf, take)?;
        builder.build().with_context(|| format!("map {PERF}"))
    }

    fn set(&self, until: u64) -> Result<()> {
        let key = 0u32.to_ne_bytes();
        let set = self
            .switch
            .update(&key, &until.to_ne_bytes(), MapFlags::ANY);
        set.with_context(|| format!("write into {TAP}"))
    }
}

/// The programs write events while this lives.
pub struct Listening<'a> {
    epoch: &'a Epoch,
    said: Instant,
}

impl<'a> Listening<'a> {
    /// Lets the programs write events.
    ///
    /// # Errors
    /// If the programs can't be told that somebody listens.
    pub fn start(epoch: &'a Epoch) -> Result<Self> {
        let mut listening = Self {
            epoch,
            said: Instant::now(),
        };
        listening.say()?;
        Ok(listening)
    }

    fn say(&mut self) -> Result<()> {
        self.said = Instant::now();
        self.epoch.set(now_ns()? + AHEAD.as_nanos() as u64)
    }

    /// Tells the programs to go on. To be called more often than once a second. If the programs
    /// have stopped meanwhile, returns for how long nothing was heard.
    ///
    /// # Errors
    /// If the programs can't be told that somebody listens.
    pub fn go_on(&mut self) -> Result<Option<Duration>> {
        let since = self.said.elapsed();
        if since < AGAIN {
            return Ok(None);
        }
        self.say()?;
        Ok(since.checked_sub(AHEAD))
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.epoch.set(0) {
            tracing::warn!("{error:#}; the programs stop by themselves in {AHEAD:?}");
        }
    }
}

/// The newest epoch.
///
/// # Errors
/// If there is no epoch.
pub fn newest(pin_dir: &PinDir) -> Result<EpochDir> {
    let epochs = pin_dir
        .epochs()
        .with_context(|| format!("look into pin directory {pin_dir}"))?;
    epochs.into_iter().next_back().with_context(|| {
        format!(
            "nothing of ours is pinned in {pin_dir}: attach first, by metricd-init, or name another \
             --pin-dir or --pod"
        )
    })
}

/// Locks an epoch's folder, so that nobody else takes events out of its ring.
fn lock(folder: &Path) -> Result<Flock<File>> {
    let context = || format!("lock {}", folder.display());
    let file = File::open(folder).with_context(context)?;
    let inode = file.metadata().with_context(context)?.ino();
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => match holder(inode) {
            Some(pid) => anyhow!(
                "process {pid} listens there already, and each event is for one: stop it first"
            ),
            None => anyhow!("another listens there already, and each event is for one"),
        },
        errno => anyhow::Error::from(errno).context(context()),
    })
}

/// Who has a flock(2) on this file, as /proc/locks tells: its process's number, if it can be seen
/// from here.
fn holder(inode: u64) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else {
            return None;
        };
        let its_inode: u64 = file.rsplit(':').next()?.parse().ok()?;
        pid.parse()
            .ok()
            .filter(|pid| its_inode == inode && *pid > 0)
    })
}

/// The programs' clock: CLOCK_MONOTONIC, nanoseconds.
///
/// # Errors
/// Never, on Linux.
pub fn now_ns() -> Result<u64> {
    let now: Duration = clock_gettime(ClockId::CLOCK_MONOTONIC)?.into();
    Ok(now.as_nanos() as u64)
}
