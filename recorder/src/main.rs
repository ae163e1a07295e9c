//! The command `recorder`.

use std::process::ExitCode;

fn main() -> ExitCode {
    recorder::cli::main()
}
