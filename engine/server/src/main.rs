//! The `shardcast` binary.

use std::process::ExitCode;

use shardcast::{cli, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main(serve::serve)
}
