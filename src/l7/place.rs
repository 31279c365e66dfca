//! What a table lies in: a file in a folder that proxy and sidecar share, or a pinned map.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, posix_fallocate};

use super::layout::{ELEMENT, ELEMENT_SIZE, Header};
use super::map;
use super::table::Table;
use crate::kernel::pin_dir::is_bpffs;
use crate::kernel::sys::SharedWords;

/// A table, and which file or pin it has.
pub struct Open {
    pub table: Table<SharedWords>,
    /// Device and inode.
    file: (u64, u64),
}

impl Open {
    /// Opens what is there, or makes it: a file, or on a bpffs a map.
    ///
    /// # Errors
    ///
    /// With what was tried, and what to do about it.
    pub fn at(path: &Path, slots: usize) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            bail!(
                "there is no folder {} to record requests in: mount the volume that metricd reads",
                folder.display()
            );
        }
        let is_map = is_bpffs(folder)?;
        // Who is second in making it opens what the first has made.
        for _ in 0..3 {
            if path.exists() {
                return match is_map {
                    true => Self::map(path),
                    false => Self::file(path),
                };
            }
            match is_map {
                true => map::make(path, slots)?,
                false => make(path, slots)?,
            }
        }
        bail!("{} is removed as soon as it is made", path.display())
    }

    fn map(path: &Path) -> Result<Self> {
        let look = || format!("open {} to record requests", path.display());
        let metadata = fs::metadata(path).with_context(look)?;
        let (words, header) = map::open(path)?;
        Ok(Self {
            table: Table::new(words, header),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    fn file(path: &Path) -> Result<Self> {
        let file = open(path);
        let look = || format!("open {} to record requests", path.display());
        let file = file.with_context(look)?;
        let metadata = file.metadata().with_context(look)?;
        if !metadata.is_file() {
            bail!(
                "{} is not a file: requests can't be recorded",
                path.display()
            );
        }
        let mut bytes = [0; ELEMENT_SIZE];
        let read = file.read_at(&mut bytes, 0).with_context(look)?;
        let header = Header::parse(&words(&bytes[..read])).map_err(|problem| {
            anyhow::anyhow!(
                "{} {problem}: name another file, or remove it",
                path.display()
            )
        })?;
        let size = (header.elements() * ELEMENT_SIZE) as u64;
        if metadata.len() != size {
            bail!(
                "{} is a damaged table of requests: it has {} bytes and should have {size}: remove \
                 it",
                path.display(),
                metadata.len()
            );
        }
        let words = SharedWords::map(file.as_fd(), header.elements() * ELEMENT)
            .with_context(|| format!("map {} into memory", path.display()))?;
        Ok(Self {
            table: Table::new(words, header),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    /// Whether it is still this file that has the name.
    pub fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == self.file)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        // Without waiting, should it be a pipe.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
}

/// Makes an empty table beside its place and gives it its name when it is whole, unless another
/// process has done so first.
fn make(path: &Path, slots: usize) -> Result<()> {
    let context = || format!("make {} to record requests", path.display());
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new()
        .prefix(".linkerd_l7_")
        .tempfile_in(folder)
        .with_context(context)?;
    let header = Header::new(slots);
    // All of it now: memory that can't be had later would end the process that writes to it.
    let size = header.elements() * ELEMENT_SIZE;
    posix_fallocate(file.as_file(), 0, size as i64)
        .with_context(|| format!("reserve {size} bytes for {}", path.display()))?;
    let header = header.words().map(u64::to_ne_bytes);
    file.write_all(header.as_flattened())
        .with_context(context)?;
    // For the sidecar, which is another user.
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))
        .with_context(context)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => {
            Err(error.error).with_context(context)
        }
        _ => Ok(()),
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}
