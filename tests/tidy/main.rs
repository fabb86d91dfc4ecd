//! The house rules that a machine can check: the shape of files and functions, who may depend on whom, who may
//! use `unsafe` or a clock, words that must not stay, and links in Markdown that must lead somewhere.
//!
//! Each rule is a table test over the repository's own files. An exception is a line in the rule's table with
//! its reason; one that is no longer needed fails as well, so the tables only shrink by themselves. The rules
//! are those of ARCHITECTURE.md (lines marked **Invariant**).

mod arrows;
mod lengths;
mod links;
mod places;
mod tree;
mod words;

/// Fails with one line per finding.
fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}
