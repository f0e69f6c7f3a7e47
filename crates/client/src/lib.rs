//! `tssh`: a drop-in ssh client whose sessions survive sleep, roaming and outages.

pub mod app;
pub mod background;
pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod dns;
pub mod forward;
pub mod guard;
pub mod link;
mod local_command;
pub mod logging;
pub mod login;
pub mod mux;
mod proxy_command;
pub mod remote;
pub mod report;
mod request;
pub mod session;
pub mod sys;
pub mod terminal;
mod wire;
