//! The binary `tollgate`: hands over to the command line.
fn main() {}
