//! What every target of `fuzz_targets` is made of: libFuzzer's bytes, a body of `shardcast_tests::fuzz`, and the
//! allocator by which that sees its memory.

use shardcast_tests::fuzz::memory::Counting;

pub use libfuzzer_sys;
pub use shardcast_tests;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The whole of a target's file.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| {
            $crate::shardcast_tests::fuzz::Target::named($name).run(input);
        });
    };
}
