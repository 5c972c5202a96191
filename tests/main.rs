//! Integration tests: one binary, so that the program is linked once.

mod cli;
mod crash;
mod edge;
mod golden;
mod harness;
mod interop;
mod layers;
mod store;
mod streams;
mod wire;
