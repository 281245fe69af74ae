//! The `ringsmith` program.

use clap::Parser;
use ringsmith::cli::{Args, End, error};
use std::process::ExitCode;

fn main() -> ExitCode {
    match Args::parse().run() {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::No) => ExitCode::from(1),
        Ok(End::Stopped) => ExitCode::from(130),
        // Whoever reads our output has seen enough: no error.
        Err(e) if error::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", error::describe(&e));
            ExitCode::from(2)
        }
    }
}
