//! How a failed command ends: the message with its code, a remedy from the code's page, and an exit code
//! that says whose fault it was.

use std::io::Write as _;
use std::process::ExitCode;

use millrace_core::Error;
use serde_json::json;

use crate::output::{Format, printable};
use crate::pack;

/// Prints a failure to stderr and gives the exit code: 2 the pipeline or the command is wrong, 3 user code
/// failed while running, 4 a file or server failed, 70 a bug in Millrace.
pub fn report(error: &Error, format: Format) -> ExitCode {
    let text = match format {
        Format::Table => text(error),
        Format::Json => json!({
            "error": { "code": error.code(), "message": error.to_string(), "help": remedy(error.code()) }
        })
        .to_string(),
    };
    // Nobody is left to tell if stderr is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(error.fault().exit_code())
}

fn text(error: &Error) -> String {
    let code = error.code();
    let mut text = format!("error[{code}]: {}", printable(&error.to_string()));
    if let Some(remedy) = remedy(code) {
        text += &format!("\n  help: {remedy}");
    }
    if pack::error_page(code).is_some() {
        text += &format!("\n  more: jobctl explain {code}");
    }
    text
}

/// First paragraph of the page's section on the remedy, on one line.
pub fn remedy(code: &str) -> Option<String> {
    let page = pack::error_page(code)?;
    let (_, section) = page.split_once("## Remedy\n")?;
    let paragraph: Vec<&str> = section
        .trim_start()
        .lines()
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    Some(paragraph.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_with_its_code_and_remedy() {
        let error = Error::user("CL0002", "`x` is already there");
        let text = text(&error);
        assert!(
            text.starts_with("error[CL0002]: `x` is already there\n  help: "),
            "{text}"
        );
        assert!(text.ends_with("\n  more: jobctl explain CL0002"), "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let error = Error::user("ZZ0000", "row {\u{1b}[2J\0\r é}\n\tin f");
        assert_eq!(text(&error), "error[ZZ0000]: row {\\u{1b}[2J\\u{0}\\r é}\n\tin f");
    }

    #[test]
    fn an_error_without_a_page_is_printed_all_the_same() {
        assert_eq!(text(&Error::user("ZZ0000", "odd")), "error[ZZ0000]: odd");
    }

    #[test]
    fn every_page_has_a_title_and_the_three_sections() {
        for (code, page) in pack::error_pages() {
            assert!(page.starts_with(&format!("# {code}: ")), "title of {code}");
            for section in ["\n## Meaning\n", "\n## Cause\n", "\n## Remedy\n"] {
                assert!(page.contains(section), "{code} has no section {section:?}");
            }
            assert!(remedy(code).is_some_and(|text| !text.is_empty()), "remedy of {code}");
        }
    }
}
