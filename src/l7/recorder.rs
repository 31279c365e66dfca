//! What a proxy calls.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwapOption;

use super::Request;
use super::layout::MAX_SLOTS;
use super::place::Open;

/// Where to record; the injector sets it.
pub const FILE: &str = "METRICD_L7_FILE";
/// How many series a file has room for that is made anew.
pub const SLOTS: &str = "METRICD_L7_SLOTS";
/// If that is not set.
pub const DEFAULT_SLOTS: usize = 1024;

/// How often [`Recorder::run_sync_loop`] looks.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// Adds requests up where the sidecar reads them. Clones are the same recorder.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    /// `None` records nothing, ever.
    path: Option<PathBuf>,
    slots: usize,
    open: ArcSwapOption<Open>,
    /// Requests that came while nothing was open.
    missed: AtomicU64,
}

impl Recorder {
    /// Opens a file, or makes it with room for so many series (1 to 65,536, 336 bytes each).
    ///
    /// # Errors
    ///
    /// If there is nothing to record into: with what to do about it.
    pub fn open(path: impl Into<PathBuf>, slots: usize) -> Result<Self> {
        let recorder = Self::waiting(path.into(), slots)?;
        recorder.sync()?;
        Ok(recorder)
    }

    /// By METRICD_L7_FILE and METRICD_L7_SLOTS. A proxy goes on without: what is wrong is logged, and
    /// [`Self::run_sync_loop`] tries again.
    pub fn from_env() -> Self {
        match Self::try_from_env() {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::warn!("requests are not recorded: {error:#}");
                Self::disabled()
            }
        }
    }

    fn try_from_env() -> Result<Self> {
        let Some(path) = env::var_os(FILE) else {
            bail!(
                "{FILE} is not set: the pod's annotation metricd.linkerd.io/l7-container must name \
                 this container"
            );
        };
        let slots = match env::var(SLOTS) {
            Ok(slots) => slots
                .parse()
                .with_context(|| format!("{SLOTS}={slots:?} is not a number"))?,
            Err(_) => DEFAULT_SLOTS,
        };
        let recorder = Self::waiting(path.into(), slots)?;
        if let Err(error) = recorder.sync() {
            tracing::warn!("requests are not recorded yet: {error:#}");
        }
        Ok(recorder)
    }

    /// Records nothing.
    pub fn disabled() -> Self {
        Self(Arc::new(Inner {
            path: None,
            slots: 0,
            open: ArcSwapOption::empty(),
            missed: AtomicU64::new(0),
        }))
    }

    fn waiting(path: PathBuf, slots: usize) -> Result<Self> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            bail!("{slots} slots are not possible, 1 to {MAX_SLOTS} are");
        }
        Ok(Self(Arc::new(Inner {
            path: Some(path),
            slots,
            open: ArcSwapOption::empty(),
            missed: AtomicU64::new(0),
        })))
    }

    /// Counts a request that has ended. It takes no lock, allocates nothing, does not wait, and is
    /// done when it returns: there is nothing to flush.
    pub fn record(&self, request: &Request) {
        match &*self.0.open.load() {
            Some(open) => open.table.add(request),
            None => drop(self.0.missed.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether requests are recorded at the moment.
    pub fn is_recording(&self) -> bool {
        self.0.open.load().is_some()
    }

    /// Opens what there is to record into if nothing is open, or if another file has taken its place,
    /// and says there how many requests were missed.
    ///
    /// # Errors
    ///
    /// If there is nothing to record into. Requests are then counted as missed, until there is.
    pub fn sync(&self) -> Result<()> {
        let Some(path) = &self.0.path else {
            return Ok(());
        };
        let open = match self.0.open.load_full() {
            Some(open) if open.is_at(path) => open,
            _ => {
                let opened = Open::at(path, self.0.slots).map(Arc::new);
                self.0.open.store(opened.as_ref().ok().cloned());
                opened?
            }
        };
        match self.0.missed.swap(0, Ordering::Relaxed) {
            0 => {}
            missed => open.table.add_missed(missed),
        }
        Ok(())
    }

    /// Does [`Self::sync`] again and again, for a task of its own. What is recorded is shared memory
    /// and needs no sending; this is for files that come later, or are replaced.
    pub async fn run_sync_loop(self) {
        if self.0.path.is_none() {
            return;
        }
        let mut ticks = tokio::time::interval(SYNC_EVERY);
        loop {
            ticks.tick().await;
            let before = self.is_recording();
            match self.sync() {
                Ok(()) if !before => tracing::info!("requests are recorded"),
                Err(error) if before => tracing::warn!("requests are not recorded: {error:#}"),
                _ => {}
            }
        }
    }
}
