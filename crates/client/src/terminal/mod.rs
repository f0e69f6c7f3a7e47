//! The terminal of the person who runs us: raw mode, prompts, and what it shows.

mod askpass;
pub mod prompt;
pub mod raw;
pub mod screen;
