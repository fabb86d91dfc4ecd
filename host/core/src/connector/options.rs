//! Options of a connector as the pipeline wrote them: names and texts, read once, with errors in the
//! user's words and no unknown name left unnoticed.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Named options, taken one by one; [`Options::finish`] refuses what nobody took.
#[derive(Debug, Clone, Default)]
pub struct Options {
    values: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl Options {
    /// From name and value pairs; a repeated name is an error.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            if values.insert(name.clone(), value).is_some() {
                return Err(Error::user("CN0001", format!("option `{name}` is given twice")));
            }
        }
        Ok(Options {
            values,
            known: Vec::new(),
        })
    }

    /// Takes an option as text.
    ///
    /// ```
    /// # use millrace_core::connector::Options;
    /// let mut options = Options::new([("path".into(), "a.txt".into())])?;
    /// assert_eq!(options.text("path"), Some("a.txt".into()));
    /// options.finish()?;
    /// # Ok::<(), millrace_core::Error>(())
    /// ```
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.values.remove(name)
    }

    /// Takes an option that must be there.
    pub fn required(&mut self, name: &'static str) -> Result<String> {
        self.text(name)
            .ok_or_else(|| Error::user("CN0002", format!("option `{name}` is missing")))
    }

    /// Takes an option of another type; `expected` says what it should be ("a number of rows").
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::user(
                "CN0003",
                format!("option `{name}` is `{text}`, not {expected}"),
            )),
        }
    }

    /// Takes all options whose name starts with `prefix`, in name order, the prefix cut off.
    pub fn prefixed(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        self.known.push(prefix);
        let names: Vec<String> = self
            .values
            .keys()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        names
            .into_iter()
            .filter_map(|name| {
                self.values
                    .remove(&name)
                    .map(|value| (name[prefix.len()..].to_owned(), value))
            })
            .collect()
    }

    /// Refuses options that were not taken.
    pub fn finish(self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::user(
                "CN0004",
                format!("there is no option `{name}`; known are: {}", self.known.join(", ")),
            )),
        }
    }
}
