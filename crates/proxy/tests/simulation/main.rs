//! Both machines over a simulated network, in virtual time. A failing run
//! names its seed, and the seed repeats it.

mod connect;
mod hostile;
mod means;
mod outage;
mod reference;
mod roam;
mod silence;
mod world;
