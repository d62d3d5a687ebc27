//! The command line of fusebench.

fn main() -> fusebench::cli::Exit {
    fusebench::cli::main()
}
