//! Connections, and what is counted of packets of every kind.

mod connections;
mod decided;
mod gso;
mod headers;
mod limits;
mod retransmits;
mod scans;
mod series;
