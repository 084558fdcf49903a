//! The programs of this package, for tests that run them.

use std::env;
use std::io;
use std::path::PathBuf;

/// The program that `cargo test` has built from this example.
///
/// # Errors
/// Returns an error if there is none.
pub fn example(name: &str) -> io::Result<PathBuf> {
    let test = env::current_exe()?; // target/debug/deps/name
    let target = test.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
    let path = target.join("examples").join(name);
    if !path.exists() {
        let command = "run `cargo build --examples --all-features` first";
        return Err(io::Error::other(format!("{}: {command}", path.display())));
    }
    Ok(path)
}
