//! A server to test against.
