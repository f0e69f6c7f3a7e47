//! State × event of the client machine, as a table that a review can read.
