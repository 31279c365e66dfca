//! What is done to a Kubernetes cluster: pods are injected ([`inject`] is the rule, [`injector`] the
//! webhook), the injector is installed, what is there is checked, and pods on nodes are reached.

pub mod check;
pub mod client;
pub mod inject;
pub mod injector;
pub mod install;
pub mod remote;
pub mod sidecars;
