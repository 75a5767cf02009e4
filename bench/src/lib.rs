//! Criterion benchmarks of the hot path.
