//! Who may depend on whom: cli -> engine -> {operators, wasm, state, net, connectors} -> core -> pattern, operators -> pattern and
//! cli -> state, the five never see each other, and few crates own each heavy dependency.

use std::fs;

use toml::Table;

use crate::report;
use crate::tree::root;

/// What each part of the host may name of the others.
const ARROWS: &[(&str, &[&str])] = &[
    ("pattern", &[]),
    ("core", &["pattern"]),
    ("operators", &["core", "pattern"]),
    ("wasm", &["core"]),
    ("state", &["core"]),
    ("net", &["core"]),
    ("connectors", &["core"]),
    ("engine", &["core", "operators", "wasm", "state", "net", "connectors"]),
    ("cli", &["core", "engine", "state"]),
];

/// Heavy dependencies and the parts that own each: one, or it has a reason.
const OWNERS: &[(&str, &[&str])] = &[
    ("wasmtime", &["wasm"]),
    ("wasmparser", &["cli"]),
    ("wit-component", &["cli"]),
    ("parquet", &["connectors", "state"]),
    ("postgres", &["connectors"]),
    ("redis", &["connectors"]),
    ("rustls", &["connectors"]),
    ("rusqlite", &["connectors"]),
    ("reqwest", &["connectors"]),
    ("arrow-avro", &["connectors"]),
    // Checkpoints and files: they share no code but this client.
    ("object_store", &["state", "connectors"]),
    // The engine for its API.
    ("tokio", &["state", "connectors", "engine"]),
    // The engine for its API, connectors for webhooks.
    ("hyper", &["connectors", "engine"]),
];

/// External crates that `core` may have: it is read first and compiled by everyone.
const CORE_DEPENDENCIES_MAX: usize = 10;

/// What `pattern`, `core` and `operators` never see: they have no I/O to wait for.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "futures", "mio"];

/// Packages in the lock file; each is somebody to trust.
const PACKAGES_MAX: usize = 700;

fn manifest(path: &str) -> Table {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of all dependencies of a part, those of tests and build scripts too.
fn dependencies(part: &str, sections: &[&str]) -> Vec<String> {
    let manifest = manifest(&format!("host/{part}/Cargo.toml"));
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

const ALL: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn arrows_point_one_way() {
    let mut findings = Vec::new();
    for (part, allowed) in ARROWS {
        for dependency in dependencies(part, ALL) {
            let Some(other) = dependency.strip_prefix("millrace-") else {
                continue;
            };
            if !allowed.contains(&other) {
                findings.push(format!("host/{part} depends on {dependency}"));
            }
        }
    }
    report("a dependency between parts is not in the architecture", &findings);
}

#[test]
fn every_part_is_known() {
    let entries = fs::read_dir(root().join("host")).expect("host is a folder");
    let parts = entries.map(|entry| {
        entry
            .expect("host can be read")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    let unknown: Vec<String> = parts
        .filter(|part| !ARROWS.iter().any(|(known, _)| known == part))
        .collect();
    report("parts of the host are not in the architecture", &unknown);
}

#[test]
fn heavy_dependencies_have_one_owner() {
    let mut findings = Vec::new();
    for (part, _) in ARROWS {
        for dependency in dependencies(part, ALL) {
            let foreign = |(name, owners): &&(&str, &[&str])| *name == dependency && !owners.contains(part);
            if let Some((_, owners)) = OWNERS.iter().find(foreign) {
                findings.push(format!("host/{part} names {dependency}, which is of {owners:?}"));
            }
        }
    }
    for (name, owner) in OWNERS
        .iter()
        .flat_map(|(name, owners)| owners.iter().map(move |owner| (name, owner)))
    {
        if !dependencies(owner, ALL).iter().any(|dependency| dependency == name) {
            findings.push(format!("host/{owner} no longer needs {name}: take it off the list"));
        }
    }
    report("a heavy dependency is named by another part than its owner", &findings);
}

#[test]
fn the_core_stays_light() {
    let own = dependencies("core", &["dependencies"]);
    assert!(
        own.len() <= CORE_DEPENDENCIES_MAX,
        "host/core has {} dependencies: {own:?}",
        own.len()
    );
    let pure = ["pattern", "core", "operators"]
        .map(|part| dependencies(part, ALL))
        .concat();
    let runtimes: Vec<String> = pure
        .into_iter()
        .filter(|name| RUNTIMES.contains(&name.as_str()))
        .collect();
    report("pattern, core and operators wait for nothing", &runtimes);
}

#[test]
fn versions_are_named_once() {
    let mut findings = Vec::new();
    for (part, _) in ARROWS {
        let manifest = manifest(&format!("host/{part}/Cargo.toml"));
        for (name, wanted) in ALL
            .iter()
            .filter_map(|section| manifest.get(*section)?.as_table())
            .flatten()
        {
            let inherited = wanted.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !inherited {
                findings.push(format!("host/{part}: {name}"));
            }
        }
    }
    report("dependencies are not those of the workspace", &findings);
}

#[test]
fn the_lock_file_is_of_modest_size() {
    let lock = manifest("Cargo.lock");
    let packages = lock["package"].as_array().expect("a lock file lists packages").len();
    assert!(
        packages <= PACKAGES_MAX,
        "Cargo.lock has {packages} packages, over {PACKAGES_MAX}"
    );
}
