//! From pinned maps to what is shown of them: [`records`] reads the maps, [`snapshot`] has what
//! they held at one time, [`prometheus`] writes a snapshot as text, and [`diagnose`] draws
//! conclusions.

pub mod diagnose;
pub mod history;
pub mod prometheus;
pub mod proxy;
pub mod records;
pub mod samples;
pub mod snapshot;
pub mod success;
pub mod text;
pub mod unreadable;
