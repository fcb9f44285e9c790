//! Schemas, completions and the manual page: all made from what the program itself knows.

use std::process::ExitCode;

use bedplate_model::Profile;
use clap::{CommandFactory, ValueEnum};

use super::{Cli, Error, print};

/// Options of `schema`.
#[derive(clap::Args, Debug)]
pub(crate) struct SchemaArgs {
    /// Which one
    #[arg(value_enum, default_value = "profile")]
    of: Which,
}

/// A schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// bedplate.yaml
    Profile,
    /// The output of `check --format json`
    Report,
}

/// Options of `completions`.
#[derive(clap::Args, Debug)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) fn schema(args: &SchemaArgs) -> Result<ExitCode, Error> {
    let schema = match args.of {
        Which::Profile => Profile::json_schema(),
        Which::Report => bedplate_report::json_schema(),
    };
    print(&format!("{schema:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn completions(args: &CompletionArgs) -> Result<ExitCode, Error> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bedplate", &mut out);
    print(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man() -> Result<ExitCode, Error> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out).map_err(|e| Error::Other(e.to_string()))?;
    print(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}
