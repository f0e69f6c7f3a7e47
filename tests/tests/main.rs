//! The end-to-end suite: one module per family of behaviour.
//!
//! Every test runs in every mode it makes sense in, OpenSSH's own client among
//! them: that one checks the fixture, and the expectation.

mod exec;
mod shell;
