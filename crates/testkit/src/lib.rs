//! Tools for simulations: a clock that a test moves, a generator that repeats
//! itself, a link that loses packets.
//!
//! Dev-only, std-only, and knows nothing of our protocol: a packet is whatever
//! the test sends. Nothing here reads the system's clock after a [`Clock`] was
//! made or draws randomness from anywhere but a seed, so a run is repeated
//! exactly by its seed; how many seeds is the one thing the environment may say.
//! For real networks see the crate `netlab`.
#![forbid(unsafe_code)]

mod bottleneck;
mod clock;
mod link;
mod prng;
mod seeds;

pub use bottleneck::Bottleneck;
pub use clock::Clock;
pub use link::{Conditions, Link};
pub use prng::Prng;
pub use seeds::with_seeds;
