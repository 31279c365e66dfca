//! Why the maps can't be read.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::abi::{FIRST_AS_TEXT, FIRST_LAYOUT, Truncated};
use crate::read::text;

/// Why the maps could not be read, with what to do about it.
#[derive(Debug)]
pub enum Unreadable {
    /// Nothing is pinned yet, or not everything.
    Waiting {
        path: PathBuf,
    },
    /// Nothing is pinned, and metricd-init has left word of why.
    Failed {
        reason: String,
    },
    Denied {
        path: PathBuf,
    },
    /// The pins are of another version.
    Layout {
        path: PathBuf,
        found: u32,
    },
    /// Iterators are asked for, and there are none.
    NoIterators {
        path: PathBuf,
    },
    /// Text is asked for, and the pins are of a version that can't be read as text.
    NoText {
        path: PathBuf,
        found: u32,
    },
    /// Bytes that are no records.
    Truncated {
        path: PathBuf,
        error: Truncated,
    },
    /// Text that is not of the form that this version knows.
    Text {
        path: PathBuf,
        error: text::Error,
    },
    Io {
        path: PathBuf,
        tried: &'static str,
        error: io::Error,
    },
}

impl Unreadable {
    pub fn new(tried: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::NotFound => Self::Waiting { path },
            ErrorKind::PermissionDenied => Self::Denied { path },
            _ => Self::Io { path, tried, error },
        }
    }

    /// What is wrong with a file that was read as text.
    pub fn of_text(path: &Path, error: text::Error) -> Self {
        match error {
            text::Error::Io(error) => Self::new("reading", path, error),
            error => Self::Text {
                path: path.to_owned(),
                error,
            },
        }
    }

    /// The reason in a few words that do not change while the cause does not: the label of
    /// `linkerd_ebpf_up`.
    pub fn reason(&self) -> String {
        match self {
            Self::Waiting { .. } => "waiting for metricd-init".into(),
            Self::Failed { reason } => format!("metricd-init failed: {reason}"),
            Self::Denied { .. } => "no permission to read the pinned maps".into(),
            Self::Layout { found, .. } => {
                format!(
                    "pins have layout {found}, this metricd reads layout {FIRST_LAYOUT} and later \
                     ones"
                )
            }
            Self::NoIterators { .. } => "no iterators are pinned".into(),
            Self::NoText { found, .. } => {
                format!(
                    "pins have layout {found}, which can be read by iterators only (as text: \
                     {FIRST_AS_TEXT} and later ones)"
                )
            }
            Self::Truncated { .. } => "the pinned iterators do not write whole records".into(),
            Self::Text { .. } => "this kernel shows pinned maps in an unknown form".into(),
            Self::Io { tried, error, .. } => format!("{tried} a pinned map: {}", error.kind()),
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { path } => write!(
                f,
                "waiting for metricd-init: {} is not there yet; if it stays so, see how \
                 metricd-init ended and whether both have the same pin directory",
                path.display()
            ),
            Self::Failed { reason } => write!(
                f,
                "metricd-init failed, so there is nothing to read: {reason}"
            ),
            Self::Denied { path } => write!(
                f,
                "no permission to read {}: run metricd in the group that metricd-init gave its \
                 pins to",
                path.display()
            ),
            Self::Layout { path, found } => write!(
                f,
                "{} says layout {found}, this metricd reads layout {FIRST_LAYOUT} and later ones: \
                 run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::NoIterators { path } => write!(
                f,
                "{} is not there, since the kernel refused iterators or metricd-init was not to pin \
                 them: let metricd read maps as text (--read auto), or run metricd-init with \
                 --read iterator to see what the kernel says",
                path.display()
            ),
            Self::NoText { path, found } => write!(
                f,
                "{} says layout {found}, which can be read by iterators only (as text: \
                 {FIRST_AS_TEXT} and later ones): let metricd read them (--read auto)",
                path.display()
            ),
            Self::Truncated { path, error } => write!(
                f,
                "{}: {error}: run metricd-init and metricd of the same version",
                path.display()
            ),
            Self::Text { path, error } => write!(
                f,
                "{}: {error}: if metricd-init and metricd are of the same version, this kernel \
                 shows maps in a form that metricd does not know; please report it with the kernel's \
                 version, and use a kernel that takes iterators (linkerd-metricd check --ebpf)",
                path.display()
            ),
            Self::Io { path, tried, error } => write!(f, "{tried} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Unreadable {}
