//! Moorline.
#![allow(dead_code)]

pub mod config;
pub mod domain;
pub mod model;
pub mod ops;
pub mod store;
pub mod streams;
pub mod tailnet;
