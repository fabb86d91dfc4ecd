//! `jobctl explain`.

use millrace_core::{Error, Result};
use serde::Serialize;

use crate::output::{Align, Printer, Table};
use crate::pack;

/// Explain an error code
///
/// Prints what the code means, what causes it and what to do. Without a code, lists all of them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The code, as in `error[CL0006]`
    code: Option<String>,
}

#[derive(Serialize)]
struct Page {
    code: &'static str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'static str>,
}

/// Carries out the command.
pub fn run(args: &Args, printer: &Printer) -> Result<()> {
    let Some(code) = &args.code else {
        let pages: Vec<Page> = pack::error_pages()
            .map(|(code, text)| page(code, text, false))
            .collect();
        return printer.data(&pages, |pages| list(pages));
    };
    let wanted = code.trim().to_uppercase();
    match pack::error_pages().find(|(code, _)| *code == wanted) {
        Some((code, text)) => printer.data(&page(code, text, true), |page| page.text.unwrap_or_default().to_owned()),
        None => Err(Error::user("CL0011", format!("there is no error code `{code}`"))),
    }
}

fn page(code: &'static str, text: &'static str, whole: bool) -> Page {
    let title = text
        .lines()
        .next()
        .and_then(|line| line.split_once(": "))
        .map_or("", |(_, title)| title);
    Page {
        code,
        title,
        text: whole.then_some(text),
    }
}

fn list(pages: &[Page]) -> String {
    let mut table = Table::new(&[("code", Align::Left), ("title", Align::Left)]);
    for page in pages {
        table.row(vec![page.code.to_owned(), page.title.to_owned()]);
    }
    table.render()
}
