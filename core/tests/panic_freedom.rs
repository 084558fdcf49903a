//! Proves at link time that the core works without std and that none of its public functions can panic.
//!
//! `panic_freedom/` is a program without std that calls all of these functions. Its panic handler calls
//! a symbol that does not exist, so the program links only if the optimizer removes the handler.
//!
//! The registry is excluded. `BTreeMap` guards its own invariants with panics, for example in
//! `VacantEntry::insert_entry`, `bulk_steal_left`, and `merge_tracking_child`.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CORE: &str = env!("CARGO_MANIFEST_DIR");

/// Builds the program. Returns its path and the output of the build.
fn link(features: &str) -> (PathBuf, Output) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_freedom").join(features);
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--features", features, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(Path::new(CORE).join("tests/panic_freedom/Cargo.toml"))
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
    let functions = public_functions();
    for known in [
        "Key::from_name",
        "Connection::step",
        "Config::chunk",
        "show::<Cause>",
        "show_hex::<Key>",
        "parse::<Key>",
        "convert::<Key>",
    ] {
        assert!(functions.iter().any(|function| function == known), "{known} was not found");
    }
    let program = read(&Path::new(CORE).join("tests/panic_freedom/src/main.rs"));
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

/// Returns `Type::function` for each public function of the core, and a call of a generic function for
/// each implementation of `Display`, `LowerHex`, `FromStr`, and `From`.
fn public_functions() -> Vec<String> {
    let mut functions = Vec::new();
    for entry in fs::read_dir(Path::new(CORE).join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("registry.rs") {
            continue;
        }
        let mut owner = String::new();
        for line in read(&path).lines() {
            if line.starts_with("impl") {
                let header = line.trim_end_matches(" {");
                let name = header.rsplit(' ').next().unwrap_or_default();
                owner = name.split('<').next().unwrap_or_default().to_owned();
                for (implementation, function) in [
                    ("Display for", "show"),
                    ("LowerHex for", "show_hex"),
                    ("FromStr for", "parse"),
                    ("impl From<", "convert"),
                ] {
                    if header.contains(implementation) {
                        functions.push(format!("{function}::<{owner}>"));
                    }
                }
            }
            let code = line.trim();
            let declared = ["pub fn ", "pub const fn "].iter().find_map(|it| code.strip_prefix(it));
            if let Some(name) = declared.and_then(|rest| rest.split(['(', '<']).next()) {
                functions.push(format!("{owner}::{name}"));
            }
        }
    }
    functions
}

/// Reads a source file without its comments.
fn read(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    source
        .lines()
        .filter(|line| !line.trim().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}
