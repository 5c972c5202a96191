//! Tests of store.

mod bench;
mod concurrency;
mod constraints;
mod crash;
mod damage;
mod full_disk;
mod opening;
mod place;
mod retention;
mod writing;
