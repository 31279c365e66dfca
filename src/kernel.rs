//! What is done to a kernel: programs are loaded, attached to the interfaces of a network
//! namespace, replaced and taken away, and maps are pinned. An attach goes through [`load`],
//! [`pin_dir`], [`epoch`] and [`attach`], in this order; [`crate::lifecycle`] has the steps.

pub mod attach;
pub mod attached;
pub mod attachments;
pub mod clsact;
pub mod detach;
pub mod epoch;
pub mod gc;
pub mod hook;
pub mod interfaces;
pub mod iterators;
pub mod load;
pub mod maps;
pub mod netlink;
pub mod netns;
pub mod options;
pub mod pin_dir;
pub mod pinned;
pub mod release;
pub mod settings;
#[allow(unsafe_code)]
pub mod sys;
pub mod target;
