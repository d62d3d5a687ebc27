//! Tells the program which commit it was built from.

use std::path::Path;
use std::process::Command;

fn main() {
    // The log of HEAD grows with every commit and checkout. A path that is not there, as in a tree
    // without git, would make every build run this again.
    let watched = [".git/HEAD", ".git/logs/HEAD", "src", "kernels", "Cargo.lock"];
    for path in watched.into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changes =
        git(&["status", "--porcelain", "--", "src", "kernels", "Cargo.toml", "Cargo.lock"]);
    println!("cargo::rustc-env=FUSEBENCH_COMMIT={commit}");
    println!("cargo::rustc-env=FUSEBENCH_DIRTY={}", changes.is_some_and(|list| !list.is_empty()));
}
