//! `bedplate`: keeps machine-learning platforms on Kubernetes standing.

mod commands;
mod files;
mod profile;

use std::process::ExitCode;

use clap::Parser;

// Trees of small strings are made and dropped by the million.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
