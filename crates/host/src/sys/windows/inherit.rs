//! What the programs we start inherit.

/// Does nothing: a handle is inherited only if its owner says so, and we never do.
pub fn only_standard_streams() {}
