//! Header blocks, field by field: RFC 7541 sections 5 and 6.

use httlib_hpack::Encoder;

/// A string, and whether it is Huffman-coded.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a [u8], pub bool);

impl<'a> Text<'a> {
    pub fn plain(text: &'a str) -> Self {
        Self(text.as_bytes(), false)
    }

    pub fn huffman(text: &'a str) -> Self {
        Self(text.as_bytes(), true)
    }

    /// Both ways.
    pub fn each(text: &'a str) -> [Self; 2] {
        [Self::plain(text), Self::huffman(text)]
    }

    pub fn bytes(self) -> Vec<u8> {
        let flags = if self.1 { Encoder::HUFFMAN_VALUE } else { 0 };
        let field = (Vec::new(), self.0.to_vec(), flags);
        let mut out = Vec::new();
        Encoder::default()
            .encode(field, &mut out)
            .expect("a literal");
        // Behind a literal's first byte and an empty name.
        out.split_off(2)
    }
}

/// How a literal is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Indexed,
    Plain,
    Never,
}

pub const FORMS: [Form; 3] = [Form::Indexed, Form::Plain, Form::Never];

impl Form {
    /// Its bits, and the number of bits left for an index.
    fn prefix(self) -> (u8, u32) {
        match self {
            Form::Indexed => (0x40, 6),
            Form::Plain => (0, 4),
            Form::Never => (0x10, 4),
        }
    }
}

/// An integer behind the bits of its first byte.
pub fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let mut out = vec![first | most as u8];
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A literal whose name is in a table.
pub fn named(form: Form, index: usize, value: Text) -> Vec<u8> {
    let (first, prefix) = form.prefix();
    let mut out = integer(first, prefix, index);
    out.extend(value.bytes());
    out
}

pub fn literal(form: Form, name: Text, value: Text) -> Vec<u8> {
    let mut out = vec![form.prefix().0];
    out.extend(name.bytes());
    out.extend(value.bytes());
    out
}

/// A literal in the usual way, with a new name and not kept.
pub fn plain(name: &str, value: &str) -> Vec<u8> {
    literal(Form::Plain, Text::plain(name), Text::plain(value))
}

pub fn size_update(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// The smallest fields there are, kept.
pub fn filler(n: usize) -> Vec<u8> {
    [0x40, 0, 0].repeat(n)
}

/// The first index of the dynamic table: of the field that was kept last.
pub const NEWEST: usize = 62;
/// A static index of a name.
pub const STATUS: usize = 8;
pub const CONTENT_TYPE: usize = 31;
