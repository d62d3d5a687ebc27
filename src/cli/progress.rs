//! The line on stderr that says what is going on; absent when nobody watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress line with an estimate of the time left.
pub struct Progress(ProgressBar);

impl Progress {
    /// Hidden when stderr is no terminal, and under CI.
    pub fn new(cells: usize) -> Self {
        let hidden = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        let target =
            if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(cells as u64), target);
        let style = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg} {eta} left");
        bar.set_style(style.expect("the template is well formed"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    pub fn at(&self, id: &str, stage: &str) {
        self.0.set_message(format!("{stage} {id}"));
    }

    pub fn done(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
