//! The terminal of the person who runs us: raw mode and prompts.

pub mod prompt;
pub mod raw;
