//! `bellwether`: the operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    bellwether_hub::cli::main()
}
