//! The binary `tollgate`: hands over to the command line.

mod cli;

/// Small allocations from many tasks: what it was measured to be best at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
