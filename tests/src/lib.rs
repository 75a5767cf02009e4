//! End-to-end, conformance and simulation tests.
