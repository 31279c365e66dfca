//! The webhook's binary, asked as an API server asks it, with a small API server behind it.

mod answers;
mod cluster;
mod http;
mod tls;

// Of the kit, for all files of this test.
use kit::admission::{api, fixture, pki};
