//! The webhook's binary, asked as an API server asks it, with a small API server behind it.

mod answers;
mod api;
mod cluster;
mod fixture;
mod http;
mod pki;
mod tls;
