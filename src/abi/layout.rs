//! How a struct of the kernel side is read and written.

/// Something that lies in the kernel's maps.
pub trait Layout: Sized {
    /// The size in bytes, without padding.
    const SIZE: usize;

    /// Reads a value, and takes its [`Self::SIZE`] bytes off the front of `bytes`; `None` if there
    /// are fewer.
    fn read(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the value's [`Self::SIZE`] bytes to `out`.
    fn write(&self, out: &mut Vec<u8>);

    /// The value's bytes in a vector of their own: what libbpf takes for a key or a value.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::SIZE);
        self.write(&mut out);
        out
    }
}

/// Something of which bpf/layout/abi.h declares each integer, so that it can be told from others in text.
pub trait Declared: Layout {
    /// Appends how many bytes each integer has, in the order of their declaration.
    fn widths(out: &mut Vec<usize>);

    /// Appends how many bytes each integer of an array of `n` such values has.
    fn array_widths(n: usize, out: &mut Vec<usize>) {
        for _ in 0..n {
            Self::widths(out);
        }
    }
}

/// Values that add up: two readings of different entries make one.
pub trait Merge {
    fn merge(&mut self, other: &Self);
}

macro_rules! integers {
    ($($int:ty $({ $($more:tt)* })?),*) => {$(
        impl Layout for $int {
            const SIZE: usize = size_of::<$int>();

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$int>::from_ne_bytes(*head))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_ne_bytes());
            }
        }

        impl Declared for $int {
            fn widths(out: &mut Vec<usize>) {
                out.push(Self::SIZE);
            }

            $($($more)*)?
        }
    )*};
}

integers!(
    u8 {
        /// On the kernel's side arrays of bytes are arrays of __u64.
        fn array_widths(n: usize, out: &mut Vec<usize>) {
            u64::array_widths(n / u64::SIZE, out);
        }
    },
    u16, u32, u64
);

impl Merge for u64 {
    /// Adds with wrapping, as the kernel's own addition does.
    fn merge(&mut self, other: &Self) {
        *self = self.wrapping_add(*other);
    }
}

/// A time in nanoseconds of CLOCK_MONOTONIC. Of two, the later one counts.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Latest(pub u64);

impl Layout for Latest {
    const SIZE: usize = u64::SIZE;

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        u64::read(bytes).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl Declared for Latest {
    fn widths(out: &mut Vec<usize>) {
        u64::widths(out);
    }
}

impl Merge for Latest {
    fn merge(&mut self, other: &Self) {
        *self = (*self).max(*other);
    }
}

impl<T: Layout + Copy + Default, const N: usize> Layout for [T; N] {
    const SIZE: usize = N * T::SIZE;

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut array = [T::default(); N];
        for item in &mut array {
            *item = T::read(bytes)?;
        }
        Some(array)
    }

    fn write(&self, out: &mut Vec<u8>) {
        for item in self {
            item.write(out);
        }
    }
}

impl<T: Declared + Copy + Default, const N: usize> Declared for [T; N] {
    fn widths(out: &mut Vec<usize>) {
        T::array_widths(N, out);
    }
}

impl<T: Merge, const N: usize> Merge for [T; N] {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.iter_mut().zip(other) {
            mine.merge(theirs);
        }
    }
}

/// A struct of bpf/layout/abi.h: fields lie where they do in C, or this does not compile: they are
/// compared with the types that build.rs has generated from the header.
macro_rules! layout {
    (
        $(#[$meta:meta])*
        $name:ident = $c:ident {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        const _: () = assert!(<$name as Layout>::SIZE == size_of::<$name>(), "padding");
        // The next layout has fields that the Rust side does not know.
        #[cfg(not(feature = "next-layout"))]
        const _: () = {
            use crate::skel::types::$c;
            use std::mem::offset_of;

            assert!(size_of::<$name>() <= size_of::<$c>());
            $(assert!(offset_of!($name, $field) == offset_of!($c, $field));)*
        };

        impl Layout for $name {
            const SIZE: usize = 0 $(+ <$ty as Layout>::SIZE)*;

            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Layout::read(bytes)?,)* })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }
        }

        impl Declared for $name {
            fn widths(out: &mut Vec<usize>) {
                $(<$ty as Declared>::widths(out);)*
            }
        }
    };
}

/// A struct of bpf/layout/abi.h whose fields all add up.
macro_rules! counters {
    (
        $(#[$meta:meta])*
        $name:ident = $c:ident {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
        }
    ) => {
        layout! {
            $(#[$meta])*
            $name = $c {
                $($(#[$field_meta])* $field: $ty,)*
            }
        }

        impl Merge for $name {
            fn merge(&mut self, other: &Self) {
                $(self.$field.merge(&other.$field);)*
            }
        }
    };
}
