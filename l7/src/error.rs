//! Why requests can't be recorded.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::MAX_SLOTS;

/// Where to record; the injector sets it.
pub const FILE: &str = "METRICD_L7_FILE";
/// How many series a file has room for that is made anew.
pub const SLOTS: &str = "METRICD_L7_SLOTS";
/// Why requests can't be recorded, with what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// METRICD_L7_FILE is not set.
    Unset,
    /// METRICD_L7_SLOTS is not a number.
    NoNumber { slots: String },
    /// So many slots are not possible.
    Slots { slots: usize },
    /// The folder is not there.
    NoFolder { folder: PathBuf },
    /// What is there is not a file.
    NotAFile { path: PathBuf },
    /// What is there is not a table, or one of another version.
    NotATable { path: PathBuf, problem: String },
    /// The table is shorter or longer than its header says, in bytes.
    Damaged {
        path: PathBuf,
        bytes: u64,
        expected: u64,
    },
    /// The file is removed as soon as it is made.
    Contested { path: PathBuf },
    /// It lies on a bpffs, and the crate was built without its feature `map`.
    WithoutMaps { path: PathBuf },
    /// The system refused.
    Io {
        tried: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// libbpf or the kernel refused.
    #[cfg(feature = "map")]
    Bpf {
        tried: &'static str,
        path: PathBuf,
        error: libbpf_rs::Error,
    },
}

/// Makes an error that says what could not be done with a path.
pub fn io_error(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { tried, path, error }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => write!(
                f,
                "{FILE} is not set: the pod's annotation metricd.linkerd.io/l7-container must name \
                 this container"
            ),
            Self::NoNumber { slots } => write!(f, "{SLOTS}={slots:?} is not a number"),
            Self::Slots { slots } => {
                write!(f, "{slots} slots are not possible, 1 to {MAX_SLOTS} are")
            }
            Self::NoFolder { folder } => write!(
                f,
                "there is no folder {} to record requests in: mount the volume that metricd reads",
                folder.display()
            ),
            Self::NotAFile { path } => write!(
                f,
                "{} is not a file: requests can't be recorded",
                path.display()
            ),
            Self::NotATable { path, problem } => write!(
                f,
                "{} {problem}: name another file, or remove it",
                path.display()
            ),
            Self::Damaged {
                path,
                bytes,
                expected,
            } => write!(
                f,
                "{} is a damaged table of requests: it has {bytes} bytes and should have {expected}: \
                 remove it",
                path.display()
            ),
            Self::Contested { path } => {
                write!(f, "{} is removed as soon as it is made", path.display())
            }
            Self::WithoutMaps { path } => write!(
                f,
                "{} would be a BPF map: name a file, or build metricd-l7 with its feature `map`",
                path.display()
            ),
            Self::Io { tried, path, error } => {
                write!(f, "{tried} {} to record requests: {error}", path.display())
            }
            #[cfg(feature = "map")]
            Self::Bpf { tried, path, error } => {
                write!(f, "{tried} {} to record requests: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            #[cfg(feature = "map")]
            Self::Bpf { error, .. } => Some(error),
            _ => None,
        }
    }
}
