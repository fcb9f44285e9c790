//! The project's own commands: `cargo xtask demo` and `cargo xtask test` do everything.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod cluster;
mod demo;
mod fuzz;
mod generate;
mod python;
mod test;

use std::process::ExitCode;

use bedplate_devcluster::{run, tools};
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the example platform, explain each incident, and write an HTML report
    Demo,
    /// Set up and run every test
    Test(test::Options),
    /// Build the Python package, and check and test it
    Python,
    /// Fuzz each target for a while, from the corpus kept in fuzz/corpus
    Fuzz(fuzz::Options),
    /// Measure ours beside its peers, in one run
    #[command(subcommand)]
    Bench(bench::Command),
    /// A real Kubernetes on this machine: up, down, status
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Build bedplate-wrap as one static program, for images, and print its path
    Wrap,
    /// Build a pinned tool once, outside target/, and print the path of its program
    Tools(tools::Options),
    /// Make documents, schemas and completions anew from the program
    Generate {
        /// Change nothing; fail where a file is not as it would be made
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Test(options) => test::run(&options),
        Command::Python => python::run(),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench(command) => bench::run(&command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Wrap => run::wrap().map(|program| {
            println!("{}", program.display());
            ExitCode::SUCCESS
        }),
        Command::Tools(options) => tools::run(&options),
        Command::Generate { check } => generate::run(check),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
