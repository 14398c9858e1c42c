//! The program: all of it is in [`dynamirror::cli`].

use std::process::ExitCode;

/// Costs 8 to 15 % less processor time per change than the system's allocator, for some 20 MB of memory (measured
/// with 1-KB changes on the path through both SDK clients).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    dynamirror::cli::main()
}
