//! What a build is of, for `dialtone_build_info`.

use std::env::var;
use std::process::Command;

fn main() {
    let told = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let rustc = var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = told(&rustc, &["--version"]).and_then(|text| text.split(' ').nth(1).map(str::to_owned));
    let revision = told("git", &["rev-parse", "--short=12", "HEAD"]);
    println!("cargo::rustc-env=DIALTONE_RUSTC={}", version.unwrap_or_default());
    println!("cargo::rustc-env=DIALTONE_REVISION={}", revision.unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    // A commit changes the file that HEAD names; a path that is not there would make every build one anew.
    let head = std::fs::read_to_string(".git/HEAD").unwrap_or_default();
    let named = head.strip_prefix("ref: ").map(|name| format!(".git/{}", name.trim()));
    for path in [".git/HEAD".to_owned()].into_iter().chain(named) {
        if std::path::Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
