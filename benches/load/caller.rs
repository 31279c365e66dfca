//! What can be called again and again.

use anyhow::Result;

/// Makes a request and takes its response. An error ends the run.
pub trait Caller: Send + Sized + 'static {
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}
