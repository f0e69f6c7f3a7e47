//! The configuration means to us what it means to OpenSSH: `ssh -G` is the oracle.
//!
//! Every case is a command line and some files; both programs resolve them, and every keyword we
//! honour must have the same value, or both must refuse. Without an `ssh` the comparison is
//! skipped with a word, and only our own expectations are checked.

mod cases;
mod command_lines;
mod examples;
mod files;
mod generated;
mod place;
