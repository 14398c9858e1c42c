//! `print-config`: the configuration as the program understands it.

use super::exit::{Code, Failure};
use super::input::Input;
use super::output::print;
use crate::config;

/// Prints TOML that loads back to the same settings.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,

    /// Print every setting with its meaning and default instead; needs no file.
    #[arg(long)]
    defaults: bool,
}

/// Prints either.
pub(super) fn run(args: &Args) -> Result<Code, Failure> {
    let text =
        if args.defaults { config::example() } else { config::effective(&args.input.load(Vec::new())?) };
    print(text)?;
    Ok(Code::Success)
}
