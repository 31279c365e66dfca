//! `linkerd-metricd check` and its sisters, as a shell and the Linkerd CLI see them: on this
//! machine, and against a fake API server that serves objects in the shapes of real ones.
//!
//! Needs root, and util-linux. METRICD_TEST_GOLDEN=write writes the golden files anew.

mod api;
mod cluster;
mod golden;
mod hints;
mod machine;
mod plugin;
mod quantile;
mod remote;
mod tap;
mod view;
mod world;
