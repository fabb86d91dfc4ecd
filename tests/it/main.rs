//! Tests of the whole: pipelines in wasm on the engine, one file per feature.

mod applied;
mod backends;
mod backpressure;
mod building;
mod connectors;
mod contract;
mod durable;
mod enums;
mod errors;
mod errors_cli;
mod every_operator;
mod fixture;
mod groups;
mod kept;
mod kills;
mod large;
mod lifetimes;
mod lookups;
mod lookups_postgres;
mod object_store;
mod operator_state;
mod parallelism;
mod patterns;
mod postgres;
mod postgres_access;
mod postgres_kept;
mod quarantine;
mod queried;
mod redis;
mod rejects;
mod requests;
mod requests_tls;
mod running;
mod running_ends;
mod savepoint;
mod sinks;
mod state;
mod state_commands;
mod stop;
mod testing;
mod time;
mod two_inputs;
mod unaligned;
mod upgrade;
mod webhooks;
mod webhooks_tls;
mod windows;

/// Every file of this folder is a module of this binary: a forgotten one would pass for ever.
#[test]
fn no_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("it");
    for name in millrace_tests::jobs::all_files(&folder) {
        let module = name.trim_end_matches(".rs");
        let declared = format!("\nmod {module};\n");
        assert!(
            module == "main" || include_str!("main.rs").contains(&declared),
            "{name} is not a module of main.rs"
        );
    }
}
