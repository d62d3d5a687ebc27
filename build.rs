//! Tells the program which commit it was built from.

use std::process::Command;

fn main() {
    for path in [".git/HEAD", ".git/index", "src", "kernels", "Cargo.lock"] {
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
