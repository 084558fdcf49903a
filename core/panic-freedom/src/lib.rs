//! Finds the public functions in the source of the core, all of which the proof must call.

use std::fs;
use std::path::Path;

/// Returns `Type::function` for each public function in a folder of the core, and a call of a generic
/// function for each implementation of `Display`, `LowerHex`, `FromStr`, and `From`.
pub fn public_functions(source: &Path) -> Vec<String> {
    let mut functions = Vec::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("registry.rs") {
            continue;
        }
        if path.is_dir() {
            functions.extend(public_functions(&path));
            continue;
        }
        let mut owner = String::new();
        for line in read_code(&path).lines() {
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
pub fn read_code(path: &Path) -> String {
    let source = fs::read_to_string(path).unwrap();
    source
        .lines()
        .filter(|line| !line.trim().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}
