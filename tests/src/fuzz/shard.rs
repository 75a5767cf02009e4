//! Event sequences of shards: the bytes decide what a seed decides in a simulation, and the model says what must
//! happen.

use crate::sim;

/// One world, compared with the model after every turn; it ends with the input.
pub(super) fn run(data: &[u8]) {
    sim::run_bytes(data);
}

/// The last `events_max` events of a world that fails.
///
/// # Errors
/// Something was not as the model says.
pub fn explain(data: &[u8], events_max: usize) -> Result<(), String> {
    sim::explain_bytes(data, events_max).map(drop).map_err(|failure| failure.to_string())
}
