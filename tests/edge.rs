//! Tests of edge.
