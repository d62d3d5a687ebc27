//! Ctrl-C: the first ends the run after the current sample, the second ends the program.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::exit::Exit;

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// Starts listening for SIGINT and SIGTERM.
pub fn listen() {
    let heard = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
            // Workers end by themselves when their standard input closes.
            std::process::exit(Exit::Interrupted.code().into());
        }
    });
    // Only a second handler in one process fails, and then the first one listens.
    drop(heard);
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}
