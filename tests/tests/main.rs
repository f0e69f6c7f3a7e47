//! The end-to-end suite: one module per family of behaviour.
//!
//! Every test runs in every mode it makes sense in, OpenSSH's own client among
//! them: that one checks the fixture, and the expectation.

mod agent;
mod auth;
mod bulk;
mod bytes;
mod callers;
mod carriers;
mod connect;
mod ends;
mod env;
mod escapes;
mod exec;
mod flags;
mod forward;
mod handover;
mod hostkey;
mod interrupt;
mod jump;
mod jump_roam;
mod key_options;
mod keywords;
mod leftovers;
mod like_sshd;
mod missing;
mod mux;
mod notice;
mod outage;
mod policy;
mod prompt_time;
mod quoting;
mod remote_forward;
mod roam;
mod sftp;
mod shell;
mod shells;
mod tty;
mod udp_forward;
mod x11;
