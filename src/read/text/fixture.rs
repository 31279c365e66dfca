//! Writing the form, for tests.

use super::*;

/// What bpffs writes in front.
pub const HEAD: &str = "# WARNING!! The output is for debug purpose only\n\
                        # WARNING!! The output format will change\n";

/// The integers of something, as they stand in a struct.
pub fn integers<T: Declared>(value: &T) -> String {
    let bytes = value.to_bytes();
    let mut widths = Vec::new();
    T::widths(&mut widths);
    let mut at = 0;
    let mut text = String::new();
    for width in widths {
        let mut word = [0; 8];
        word[..width].copy_from_slice(&bytes[at..at + width]);
        at += width;
        text += &format!("{},", u64::from_le_bytes(word));
    }
    text
}

/// The line of an element that is found by its key.
pub fn plain<K: Declared, V: Declared>(key: &K, value: &V) -> String {
    let key = match K::SIZE {
        ..=8 => integers(key).trim_end_matches(',').to_owned(),
        _ => format!("{{{}}}", integers(key)),
    };
    format!("{key}: {{{}}}\n", integers(value))
}

/// The line of an element that is found by number.
pub fn entry<T: Declared>(number: usize, entry: &T) -> String {
    format!("{number}: {{{}}}\n", integers(entry))
}
