//! What a table lies in: a file in a folder that proxy and sidecar share, or a pinned map.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, io_error};
use crate::layout::{ELEMENT, ELEMENT_SIZE, Header};
#[cfg(feature = "map")]
use crate::map;
use crate::sys::{self, SharedWords};
use crate::table::Table;

/// A table, and which file or pin it has.
pub struct Open {
    pub table: Table<SharedWords>,
    /// The device and the inode of the file or pin.
    file: (u64, u64),
}

impl Open {
    /// Opens the table at `path`, or makes one with `slots` slots: in a file, or on a bpffs in a
    /// map.
    ///
    /// # Errors
    /// With what was tried, and what to do about it.
    pub fn at(path: &Path, slots: usize) -> Result<Self, Error> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            let folder = folder.to_owned();
            return Err(Error::NoFolder { folder });
        }
        let is_map = sys::is_bpffs(folder).map_err(io_error("look at", folder))?;
        // A process that is second in making the table opens what the first has made.
        for _ in 0..3 {
            if path.exists() {
                return match is_map {
                    true => Self::map(path),
                    false => Self::file(path),
                };
            }
            match is_map {
                true => make_map(path, slots)?,
                false => make(path, slots)?,
            }
        }
        let path = path.to_owned();
        Err(Error::Contested { path })
    }

    #[cfg(feature = "map")]
    fn map(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(io_error("open", path))?;
        let (words, header) = map::open(path)?;
        Ok(Self {
            table: Table::new(words, header),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    #[cfg(not(feature = "map"))]
    fn map(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        Err(Error::WithoutMaps { path })
    }

    fn file(path: &Path) -> Result<Self, Error> {
        let file = open(path).map_err(io_error("open", path))?;
        let metadata = file.metadata().map_err(io_error("open", path))?;
        if !metadata.is_file() {
            let path = path.to_owned();
            return Err(Error::NotAFile { path });
        }
        let mut bytes = [0; ELEMENT_SIZE];
        let read = file
            .read_at(&mut bytes, 0)
            .map_err(io_error("read", path))?;
        let header = Header::parse(&words(&bytes[..read])).map_err(|problem| Error::NotATable {
            path: path.to_owned(),
            problem,
        })?;
        let expected = (header.elements() * ELEMENT_SIZE) as u64;
        if metadata.len() != expected {
            return Err(Error::Damaged {
                path: path.to_owned(),
                bytes: metadata.len(),
                expected,
            });
        }
        let words = SharedWords::map(&file, header.elements() * ELEMENT)
            .map_err(io_error("map into memory", path))?;
        Ok(Self {
            table: Table::new(words, header),
            file: (metadata.dev(), metadata.ino()),
        })
    }

    /// Whether `path` still names this file, and the file is as long as it was.
    pub fn is_at(&self, path: &Path) -> bool {
        !self.table.is_lost()
            && fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == self.file)
    }
}

#[cfg(feature = "map")]
use map::make as make_map;

#[cfg(not(feature = "map"))]
fn make_map(path: &Path, _: usize) -> Result<(), Error> {
    let path = path.to_owned();
    Err(Error::WithoutMaps { path })
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        // Opening must not wait, should this be a pipe.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// A file that is removed when it is dropped.
struct Unnamed(PathBuf);

impl Drop for Unnamed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes an empty table in a file beside `path`, and gives it that name when it is whole, unless
/// another process has done so first.
fn make(path: &Path, slots: usize) -> Result<(), Error> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let tried = "make";
    let name = format!(".linkerd_l7_{}_{number}", process::id());
    let beside = path.with_file_name(name);
    // A process that was killed, and had the number of this one, may have left a file.
    let _ = fs::remove_file(&beside);
    let mut file = File::create_new(&beside).map_err(io_error(tried, path))?;
    let beside = Unnamed(beside);
    let header = Header::new(slots);
    let size = header.elements() * ELEMENT_SIZE;
    sys::reserve(&file, size).map_err(io_error("reserve room for", path))?;
    let header = header.words().map(u64::to_ne_bytes);
    file.write_all(header.as_flattened())
        // The sidecar, which is another user, must be able to read the file.
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
        .map_err(io_error(tried, path))?;
    match fs::hard_link(&beside.0, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(tried, path)(error)),
        _ => Ok(()),
    }
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}
