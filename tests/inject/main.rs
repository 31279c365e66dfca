//! What injection makes of pods: a pure function, so nothing is needed to run these.

mod properties;
