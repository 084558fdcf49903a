//! The core needs no std, and no panic is reachable from its public functions: shown by a link.
//!
//! `panic_freedom/` is a program without std that calls every one of them, and whose panic handler
//! calls a symbol that does not exist. It links only if the optimiser can drop the handler.
//!
//! The registry is left out: the panics by which `BTreeMap` guards its own invariants (in
//! `VacantEntry::insert_entry`, `bulk_steal_left`, `merge_tracking_child` and the like) stay.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CORE: &str = env!("CARGO_MANIFEST_DIR");

/// Builds the program, and says where it would be and how that went.
fn link(features: &str) -> (PathBuf, Output) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_freedom").join(features);
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--offline", "--features", features, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(Path::new(CORE).join("tests/panic_freedom/Cargo.toml"))
        // Flags for the test, such as for coverage, need not work without std.
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
    assert!(output.status.success(), "does the core panic?\n{errors}");
    assert!(Command::new(program).status().unwrap().success());
}

#[test]
fn an_index_that_may_be_out_of_bounds_does_not_link() {
    let (_, output) = link("index");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(errors.contains("dataserver_core_can_panic"), "failed otherwise:\n{errors}");
}

#[test]
fn every_public_function_is_called() {
    let functions = public_functions();
    for known in ["Key::from_name", "Connection::step", "show::<Error>"] {
        assert!(functions.iter().any(|function| function == known), "{known} is not found");
    }
    let program = read(&Path::new(CORE).join("tests/panic_freedom/src/main.rs"));
    let program: String = program.lines().map(str::trim).collect();
    let missing = functions.iter().filter(|function| {
        let call = format!("call!({function}");
        !program.contains(&format!("{call},")) && !program.contains(&format!("{call})"))
    });
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0]);
}

/// `Type::function` for each public function of the core, `show::<Type>` for each `Display`.
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
                if header.contains("Display for") {
                    functions.push(format!("show::<{owner}>"));
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

/// A source file without its comments.
fn read(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    source
        .lines()
        .filter(|line| !line.trim().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}
