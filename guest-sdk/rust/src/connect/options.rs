//! Options that several connectors share.

/// Options by name; a later value replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options(Vec<(String, String)>);

impl Options {
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets an option, or adds to what it lists, behind a comma.
    pub(crate) fn append(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = format!("{known},{value}"),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn into_list(self) -> Vec<(String, String)> {
        self.0
    }
}

/// The option that every connector has: any by name.
macro_rules! any_option {
    ($example:literal) => {
        /// Sets any option by name.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = $example]
        /// ```
        pub fn option(mut self, name: &str, value: impl ToString) -> Self {
            self.options.set(name, value);
            self
        }
    };
}
pub(crate) use any_option;

/// The options of CSV that reading and writing have in common.
macro_rules! csv_options {
    ($example:literal) => {
        /// CSV: whether the first line has the names of the columns. It has, without this; if it has not, columns
        /// go by position.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let csv = ", $example, ".header(false);")]
        /// ```
        pub fn header(self, header: bool) -> Self {
            self.option("csv.header", header)
        }

        /// CSV: what separates columns. Without this, a comma.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let csv = ", $example, ".delimiter(';');")]
        /// ```
        pub fn delimiter(self, delimiter: char) -> Self {
            self.option("csv.delimiter", delimiter)
        }

        /// CSV: the text that stands for null. Without this, the empty text.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let csv = ", $example, ".null(\"NA\");")]
        /// ```
        pub fn null(self, null: &str) -> Self {
            self.option("csv.null", null)
        }
    };
}
pub(crate) use csv_options;

/// The policy of a source.
macro_rules! reject_option {
    ($example:literal) => {
        /// What happens to rows that cannot be read. Without this the job fails.
        ///
        /// ```
        /// # use millrace::prelude::*;
        /// # #[derive(Record)]
        /// # struct Row { text: String }
        #[doc = concat!("let csv = ", $example, ".on_reject(Reject::Skip);")]
        /// ```
        pub fn on_reject(self, on_reject: Reject) -> Self {
            Self { on_reject, ..self }
        }
    };
}
pub(crate) use reject_option;
