//! What operating systems call the parts of a terminal; the only place with `cfg`.

#[cfg(unix)]
pub mod modes;
