//! An epoch's maps, and whether they have iterators.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};

use crate::abi::{FIRST_AS_TEXT, LAYOUT_VERSION};
use crate::kernel::iterators::Iterators;
use crate::kernel::options::{READER_GID, ReadBy};
use crate::kernel::pin_dir::{EpochDir, LockedPinDir};
use crate::skel::MetricdSkel;

/// Pins the maps of an epoch, which readers then see as a whole. The group `reader_gid` may read what
/// is exported, which has iterators unless `by` or the kernel says otherwise: a sidecar of an earlier
/// version reads by iterators alone.
///
/// # Errors
/// With the path that can't be made, pinned, given to the group or renamed; also if iterators are
/// asked for and the kernel refuses them.
pub fn publish(
    skel: &MetricdSkel,
    dir: &LockedPinDir,
    number: u32,
    by: ReadBy,
    reader_gid: u32,
) -> Result<EpochDir> {
    let next = dir.pin_epoch(skel, number, reader_gid)?;
    if by != ReadBy::Text
        && let Err(error) = pin_iterators(dir, &[&next], Some(reader_gid))
    {
        if by == ReadBy::Iterator {
            return Err(error);
        }
        dir.remove_iterators(&next)?;
    }
    dir.publish(&next)
}

/// Pins iterators beside the maps of every epoch that has none, or takes iterators away, as `by`
/// says. Without iterators, maps are read as text. Returns a line that says how maps are read.
///
/// # Errors
/// If iterators are asked for and the kernel refuses them, or what is to go does not.
pub fn settle(dir: &LockedPinDir, by: ReadBy, reader_gid: Option<u32>) -> Result<String> {
    let epochs = dir.epochs().with_context(|| format!("list {dir}"))?;
    let mut without = Vec::new();
    for epoch in &epochs {
        let layout = epoch.info()?.layout;
        let has_iterators = epoch.has_iterators();
        if by == ReadBy::Text && has_iterators && layout >= FIRST_AS_TEXT {
            dir.remove_iterators(epoch)?;
        } else if by != ReadBy::Text && !has_iterators && layout == LAYOUT_VERSION {
            without.push(epoch);
        }
    }
    match pin_iterators(dir, &without, reader_gid) {
        Err(error) if by == ReadBy::Auto => {
            for epoch in without {
                dir.remove_iterators(epoch)?;
            }
            Ok(format!("maps are read as text: {error:#}"))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(match by {
            ReadBy::Text => "maps are read as text, as asked for".into(),
            _ => "maps are read by iterators".into(),
        }),
    }
}

fn pin_iterators(dir: &LockedPinDir, epochs: &[&EpochDir], reader_gid: Option<u32>) -> Result<()> {
    if epochs.is_empty() {
        return Ok(());
    }
    let mut object = MaybeUninit::uninit();
    let iterators = Iterators::load(&mut object)?;
    for epoch in epochs {
        // A run that was interrupted may have left some iterators.
        dir.remove_iterators(epoch)?;
        let reader = reader_gid.or_else(|| epoch.reader()).unwrap_or(READER_GID);
        dir.pin_iterators(epoch, reader, |name, map| iterators.attach(name, map))?;
    }
    Ok(())
}
