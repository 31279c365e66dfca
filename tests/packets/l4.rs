//! Connections, and what is counted of packets of every kind.

mod connections;
mod gso;
mod headers;
mod limits;
mod retransmits;
mod scans;
mod series;
