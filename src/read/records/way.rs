//! The two ways in which a map can be read.

use std::path::{Path, PathBuf};

use crate::kernel::maps::{has_iterators, iter_path, text_path};
use crate::kernel::options::ReadBy;

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
    pub fn of(epoch: &Path, by: ReadBy) -> Self {
        match by {
            ReadBy::Iterator => Self::Iterator,
            ReadBy::Text => Self::Text,
            ReadBy::Auto if has_iterators(epoch) => Self::Iterator,
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

    /// The file that has a map's records, in the folder of an epoch.
    pub fn path(self, epoch: &Path, map: &str) -> PathBuf {
        match self {
            Self::Iterator => iter_path(epoch, map),
            Self::Text => text_path(epoch, map),
        }
    }
}
