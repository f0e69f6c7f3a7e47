//! The terminal of the person who runs us: raw mode and prompts.

mod askpass;
pub mod prompt;
pub mod raw;
