//! A new project from the template in `guest-sdk/rust/template`.
//!
//! The template is a project that builds where it is; its name and the path of the SDK are replaced as text, so
//! that comments stay. Files whose names cannot be in a repository as they are begin with `dot-`.

use std::path::Path;

use millrace_core::Result;

use crate::pack;

/// The template's name, as a package and as a Rust identifier.
const NAME: (&str, &str) = ("pipeline-template", "pipeline_template");

/// The line of the template's `Cargo.toml` that names the SDK.
const SDK_PATH: &str = "path = \"..\"";

/// Names that a package cannot have, or that would hide a crate the project uses.
pub const RESERVED_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "millrace",
    "millrace-sdk",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Files of a project of this name that uses the SDK crate in this folder.
pub fn instantiate(name: &str, sdk_crate: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let sdk_path = format!("path = {}", toml::Value::String(sdk_crate.display().to_string()));
    let identifier = name.replace('-', "_");
    let files = pack::template_files().map(|(path, content)| {
        let path = path.replace("dot-", ".");
        let content = match std::str::from_utf8(content) {
            Ok(text) => {
                let text = text.replace(NAME.0, name).replace(NAME.1, &identifier);
                let text = if path == "Cargo.toml" {
                    text.replace(SDK_PATH, &sdk_path)
                } else {
                    text
                };
                text.into_bytes()
            }
            Err(_) => content.to_vec(),
        };
        (path, content)
    });
    Ok(files.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_own_name_and_the_path_of_the_sdk() {
        let files = instantiate("my-clicks", Path::new("/cache/sdk \"x\"")).expect("template");
        let text = |wanted: &str| {
            let (_, content) = files.iter().find(|(path, _)| path == wanted).expect(wanted);
            String::from_utf8(content.clone()).expect("text")
        };
        let manifest: toml::Table = text("Cargo.toml").parse().expect("TOML");
        assert_eq!(manifest["package"]["name"].as_str(), Some("my-clicks"));
        assert_eq!(
            manifest["dependencies"]["millrace-sdk"]["path"].as_str(),
            Some("/cache/sdk \"x\"")
        );
        assert!(text("src/lib.rs").contains("fn my_clicks("));
        assert!(text(".gitignore").contains("*.wasm"));
        for (path, content) in &files {
            let content = String::from_utf8_lossy(content);
            assert!(
                !content.contains(NAME.0) && !content.contains(NAME.1),
                "{path} names the template"
            );
        }
    }
}
