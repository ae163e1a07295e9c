//! `recorder fields`.

use std::io;

use super::{Failure, Format, output::to_stdout};
use crate::export::Fields;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let fields = Fields::new();
    to_stdout(|out| match arguments.format {
        Format::Text => fields.write_text(out),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, &fields)?;
            io::Write::write_all(out, b"\n")
        }
    })
}
