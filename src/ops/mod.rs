//! What every part of a running server needs: named threads, work queues, mailboxes, topics, bounded
//! places, shared memory, metrics.

pub mod budget;
pub mod hub;
pub mod jobs;
pub mod lock;
pub mod mail;
pub mod metrics;
pub mod places;
pub mod spare;
