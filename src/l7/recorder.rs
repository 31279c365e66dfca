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

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;
    use crate::kernel::options::ReadBy;
    use crate::l7::{Protocol, Snapshot};

    fn request(status: u16) -> Request {
        Request {
            src: "10.1.0.1".parse().unwrap(),
            dst: "10.1.0.2:80".parse().unwrap(),
            protocol: Protocol::Http1,
            status,
            grpc_status: None,
            duration: Duration::from_millis(1),
            sent: 1,
            received: 2,
        }
    }

    fn total(snapshot: &Snapshot) -> u64 {
        snapshot.series.iter().map(|series| series.requests).sum()
    }

    #[test]
    fn it_goes_on_where_another_has_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        for round in 1..=3 {
            // The size is the first one's to say.
            let recorder = Recorder::open(&path, 10 * round).unwrap();
            recorder.record(&request(200));
            let snapshot = Snapshot::read(&path, ReadBy::Auto).unwrap();
            assert_eq!(total(&snapshot), round as u64);
            assert_eq!(snapshot.slots, 10);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_who_make_it_at_once_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Recorder::open(&path, 100).unwrap().record(&request(200)));
            }
        });
        assert_eq!(total(&Snapshot::read(&path, ReadBy::Auto).unwrap()), 16);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_comes_before_there_is_a_folder_is_counted_as_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume/l7");
        let error = Recorder::open(&path, 10).err().unwrap().to_string();
        assert!(error.contains("there is no folder"), "{error}");
        assert!(
            error.ends_with("mount the volume that metricd reads"),
            "{error}"
        );
        let recorder = Recorder::waiting(path.clone(), 10).unwrap();
        for _ in 0..3 {
            recorder.record(&request(200));
            recorder.sync().unwrap_err();
        }
        assert!(!recorder.is_recording());
        fs::create_dir(folder.path().join("volume")).unwrap();
        recorder.sync().unwrap();
        recorder.record(&request(200));
        recorder.sync().unwrap();
        let snapshot = Snapshot::read(&path, ReadBy::Auto).unwrap();
        assert_eq!((total(&snapshot), snapshot.missed), (1, 3));
    }

    #[test]
    fn a_file_that_is_replaced_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        let recorder = Recorder::open(&path, 10).unwrap();
        recorder.record(&request(200));
        fs::remove_file(&path).unwrap();
        recorder.sync().unwrap();
        recorder.record(&request(404));
        let snapshot = Snapshot::read(&path, ReadBy::Auto).unwrap();
        assert_eq!(snapshot.series[0].key.unwrap().status, 404);
        assert_eq!(total(&snapshot), 1);
        fs::rename(&path, folder.path().join("other")).unwrap();
        Recorder::open(&path, 10).unwrap().record(&request(503));
        recorder.sync().unwrap();
        recorder.record(&request(503));
        assert_eq!(total(&Snapshot::read(&path, ReadBy::Auto).unwrap()), 2);
    }

    #[test]
    fn the_loop_finds_what_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume/l7");
        let recorder = Recorder::waiting(path.clone(), 10).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::spawn(recorder.clone().run_sync_loop());
            tokio::task::yield_now().await;
            assert!(!recorder.is_recording());
            fs::create_dir(folder.path().join("volume")).unwrap();
            let mut waited = 0;
            while !recorder.is_recording() && waited < 200 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                waited += 1;
            }
            assert!(recorder.is_recording());
            // There is nothing for it to do, ever.
            Recorder::disabled().run_sync_loop().await;
        });
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        let file = folder.path().join("good");
        Recorder::open(&file, 10).unwrap();
        let good = fs::read(&file).unwrap();
        let mut other_version = good.clone();
        other_version[8] += 1;
        for (content, problem) in [
            (&b"precious"[..], "is too short for a table"),
            (&[b'x'; 5000], "is not a table"),
            (&good[..good.len() - 8], "is a damaged table"),
            (&other_version, "of version 2"),
        ] {
            fs::write(&path, content).unwrap();
            let error = format!("{:#}", Recorder::open(&path, 10).err().unwrap());
            assert!(error.contains(problem), "{error}");
            let reason = Snapshot::read(&path, ReadBy::Auto).unwrap_err().reason();
            assert!(reason.contains(problem), "{reason}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Recorder::open(&path, 10).is_err());
        let reason = Snapshot::read(&path, ReadBy::Auto).unwrap_err().reason();
        assert_eq!(reason, "the proxy's file is not a file");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let reason = Snapshot::read(&pipe, ReadBy::Auto).unwrap_err().reason();
        assert_eq!(reason, "the proxy's file is not a file");
        let reason = Snapshot::read(&folder.path().join("none"), ReadBy::Auto)
            .unwrap_err()
            .reason();
        assert_eq!(reason, "no proxy has recorded anything yet");
    }

    #[test]
    fn sizes_that_can_not_be() {
        for slots in [0, MAX_SLOTS + 1] {
            let error = Recorder::open("/nowhere/l7", slots)
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("1 to 65536 are"), "{error}");
        }
    }
}
