//! What injection makes of pods and manifests: nothing is needed to run these.
//!
//! METRICD_TEST_GOLDEN=write writes the golden files anew; read them before they are committed.

mod bad;
mod cases;
mod golden;
mod manifests;
mod orders;
mod properties;
mod settings;
