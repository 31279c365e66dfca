//! A pod that is observed: its namespaces, the servers in it, the clients before it, and what a scrape says
//! about them.

pub mod client;
pub mod fixture;
pub mod load;
pub mod observed;
pub mod peers;
pub mod server;
