//! One folder for each kind of system, with the same modules in it.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::{account, inherit, interfaces, local, socket};
#[cfg(windows)]
pub use windows::{account, inherit, interfaces, local, socket};
