//! The two ways in which a map can be read.

use std::path::PathBuf;

use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::EpochDir;

/// How a map is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// By a pinned iterator over it.
    #[default]
    Iterator,
    /// As the text that bpffs makes of it.
    Text,
}

impl Way {
    /// The way in which an epoch is to be read: by iterators if it has them, unless another way is
    /// asked for.
    pub fn of(epoch: &EpochDir, by: ReadBy) -> Self {
        match by {
            ReadBy::Iterator => Self::Iterator,
            ReadBy::Text => Self::Text,
            ReadBy::Auto if epoch.has_iterators() => Self::Iterator,
            ReadBy::Auto => Self::Text,
        }
    }

    /// The value of the label `read`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Iterator => "iterator",
            Self::Text => "text",
        }
    }

    /// The file that has the records of an epoch's map.
    pub fn path(self, epoch: &EpochDir, map: &str) -> PathBuf {
        match self {
            Self::Iterator => epoch.iterator_path(map),
            Self::Text => epoch.map_path(map),
        }
    }
}
