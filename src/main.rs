//! The `dialtone` program.

mod allocator;

use std::process::ExitCode;

use allocator::Allocator;
use clap::Parser;
use dialtone::cli::Command;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Your Twilio app, your hardware: a self-hosted SIP and media edge server.
#[derive(Parser)]
#[command(name = "dialtone", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    // The allocator asks for huge pages: a server that needs 14 MB would hold 30. Where that cannot be forbidden it is
    // only larger.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    match Cli::parse().command.run() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("dialtone: {message}");
            ExitCode::FAILURE
        }
    }
}
