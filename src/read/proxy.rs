//! What a proxy has recorded: a file, or a pinned map, which is read by an iterator or as text.

use std::io::{self, ErrorKind};
use std::path::Path;

use metricd_l7::layout::{self, ELEMENT, ELEMENT_SIZE};
use metricd_l7::snapshot::{Snapshot, Unreadable, iter_path, open, words_of_records};

use crate::abi::{self, BUCKETS, GRPC_STATUS_NONE, Layout, protocol};
use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::is_bpffs;
use crate::read::text::{self, Form, Shape};

// The kernel side and proxies must use equal numbers for what they say of a request.
const _: () = assert!(layout::BUCKETS == BUCKETS && layout::GRPC_STATUS_NONE == GRPC_STATUS_NONE);
const _: () = assert!(layout::protocol::HTTP1 == protocol::HTTP1);
const _: () = assert!(layout::protocol::HTTP2 == protocol::HTTP2);
const _: () = assert!(layout::protocol::GRPC == protocol::GRPC);

/// Bytes of a map's key, which an iterator writes before each element.
const KEY: usize = u32::SIZE;

/// Reads the file that a proxy has made, or the pinned map, in the way that `by` says.
///
/// # Errors
///
/// [`Unreadable`], if the file or the map can't be read.
pub fn read(path: &Path, by: ReadBy) -> Result<Snapshot, Unreadable> {
    let is_map = path
        .parent()
        .is_some_and(|folder| is_bpffs(folder).unwrap_or(false));
    if !is_map {
        return Snapshot::read(path);
    }
    let iter = iter_path(path);
    let words = match by {
        ReadBy::Auto if !iter.exists() => words_of_text(path),
        ReadBy::Text => words_of_text(path),
        ReadBy::Auto | ReadBy::Iterator => words_of_records(&iter, KEY),
    };
    Snapshot::of_words(path, words)
}

/// The words of a map as text, whose lines are in the order of the elements.
fn words_of_text(path: &Path) -> io::Result<Vec<u64>> {
    let form = Form::new::<u32, [u64; ELEMENT]>(Shape::Plain, ELEMENT_SIZE, true);
    let mut words = Vec::new();
    let mut in_order = true;
    let read = form.read(open(path)?, &mut vec![0; 64 << 10], |mut record| {
        let number = u32::read(&mut record).unwrap_or_default();
        in_order &= number as usize * ELEMENT == words.len();
        let element = <[u64; ELEMENT]>::read(&mut record);
        words.extend(element.into_iter().flatten());
    });
    let problem = match read {
        Ok(()) if in_order => return Ok(words),
        Ok(()) => "its elements are not in order".into(),
        Err(text::Error::Io(error)) => return Err(error),
        Err(error) => error.to_string(),
    };
    Err(io::Error::new(
        ErrorKind::InvalidInput,
        format!("is shown by the kernel in an unknown form: {problem}"),
    ))
}

/// A proxy's histogram in the form of the kernel's histograms.
pub fn histogram(durations: &metricd_l7::Histogram) -> abi::Histogram {
    abi::Histogram {
        buckets: durations.buckets,
        sum_ns: durations.sum_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::settings::Settings;

    #[test]
    fn both_have_the_usual_bounds() {
        let settings = Settings::default();
        let usual = &settings.bounds_ns[..settings.bounds as usize];
        assert_eq!(layout::BOUNDS_NS, usual);
    }
}
