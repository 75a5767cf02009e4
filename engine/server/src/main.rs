//! The `shardcast` binary.

use std::process::ExitCode;

use shardcast::{cli, serve};

#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(serve::serve)
}
