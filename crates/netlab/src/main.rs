//! `netlab`: the lab by hand.
//!
//! `netlab start` holds a lab until `netlab stop`; everything else is told to
//! it over the control socket. See `netlab help`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match netlab::by_hand::run(&args) {
        Ok(code) => code,
        Err(why) => {
            netlab::by_hand::say(&format!("netlab: {why}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::FAILURE
}
