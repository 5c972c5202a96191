//! Moorline.
#![allow(dead_code)] // while the house is being furnished

pub mod cli;
pub mod edge;
pub mod rest;
pub mod streams;
pub mod agentapi;
pub mod domain;
pub mod tailnet;
pub mod store;
pub mod wire;
pub mod config;
pub mod model;
pub mod ops;
