//! What people see of the command line: requests as they happen, tables, a live screen, and an observer
//! of the machine that it runs on.

pub mod extension;
pub mod run;
pub mod tap;
pub mod view;
pub mod work;
