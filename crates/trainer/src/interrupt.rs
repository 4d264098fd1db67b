//! Ctrl-C: once asks the work to end at a good place, twice ends it at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};

use crate::output;

/// A runtime with one thread, for what waits beside the work.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting tokio")
}

/// True from the first Ctrl-C on, which is answered with `note`; the second one ends the process.
pub(crate) fn listen(runtime: &Runtime, note: &'static str) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&flag);
    runtime.spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if seen.swap(true, Ordering::Relaxed) {
                std::process::exit(1);
            }
            output::note(&format!("interrupted: {note} (press Ctrl-C again to stop at once)"));
        }
    });
    flag
}
