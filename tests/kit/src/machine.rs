//! What a test has of the machine: network namespaces, processes, pin directories, sockets, and a wire that
//! loses frames.

pub mod binaries;
pub mod environment;
pub mod kernel;
pub mod netns;
pub mod pins;
pub mod process;
pub mod wire;
