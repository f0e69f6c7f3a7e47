//! The program `tsshd`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    tsshd::run(&arguments).into()
}
