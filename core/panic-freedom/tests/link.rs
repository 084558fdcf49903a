//! Proves at link time that the core works without std and that none of its public functions can panic.
//!
//! `program/` is a program without std that calls all of these functions. Its panic handler calls
//! a symbol that does not exist, so the program links only if the optimizer removes the handler.
//!
//! The registry is excluded. `BTreeMap` guards its own invariants with panics, for example in
//! `VacantEntry::insert_entry`, `bulk_steal_left`, and `merge_tracking_child`.

#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dataserver_panic_freedom::{public_functions, read_code};

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Builds the program. Returns its path and the output of the build.
fn link(features: &str) -> (PathBuf, Output) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-freedom").join(features);
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--features", features, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(Path::new(PACKAGE).join("program/Cargo.toml"))
        // Flags for the tests, such as those for coverage, may not work without std.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    (target.join("release/panic-freedom"), output)
}

#[test]
fn no_panic_is_reachable() {
    let (program, output) = link("");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a panic may be reachable:\n{errors}");
    assert!(Command::new(program).status().unwrap().success());
}

#[test]
fn a_program_with_an_unchecked_index_does_not_link() {
    let (_, output) = link("index");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        errors.contains("dataserver_core_can_panic"),
        "the build failed for another reason:\n{errors}"
    );
}

#[test]
fn every_public_function_is_called() {
    let functions = public_functions(&Path::new(PACKAGE).join("../src"));
    for known in [
        "Key::from_name",
        "Connection::step",
        "Connection::handle_timeout",
        "Config::chunk",
        "show::<Cause>",
        "show_hex::<Key>",
        "parse::<Key>",
        "convert::<Key>",
    ] {
        assert!(functions.iter().any(|function| function == known), "{known} was not found");
    }
    let program = read_code(&Path::new(PACKAGE).join("program/src/main.rs"));
    let program: String = program.lines().map(str::trim).collect();
    let missing = functions.iter().filter(|function| {
        let call = format!("call!({function}");
        let generic = call.trim_end_matches('>'); // further parameters may follow
        ![format!("{call},"), format!("{call})"), format!("{generic}, _>,")]
            .iter()
            .any(|call| program.contains(call))
    });
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}
