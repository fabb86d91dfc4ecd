//! Parameters of a pipeline: what the user may set with `--param name=value`.
//!
//! `#[derive(Parameters)]` on a struct declares one parameter per field and reads them all. The host checks
//! values against the declared types and fills in defaults before the pipeline is built.
//!
//! ```
//! use std::time::Duration;
//! use millrace::Parameters;
//!
//! #[derive(Parameters)]
//! struct Params {
//!     /// Files to read.
//!     input: String,
//!     /// Length of the window.
//!     #[parameter(default = "10s")]
//!     window: Duration,
//!     limit: Option<i64>,
//! }
//!
//! assert_eq!(Params::declare()[0].doc, "Files to read.");
//! let given = [("input", "a.txt"), ("window", "5000"), ("limit", "")];
//! let params = Params::parse(&given.map(|(name, value)| (name.to_owned(), value.to_owned()))).expect("all are right");
//! assert_eq!((params.input.as_str(), params.window, params.limit), ("a.txt", Duration::from_secs(5), None));
//! ```

use std::time::Duration;

/// What a parameter's value is checked against.
///
/// ```
/// use millrace::parameters::{ParameterType, ParameterValue};
/// assert_eq!(f64::TYPE, ParameterType::Float);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// Anything.
    Text,
    /// A decimal `i64`.
    Integer,
    /// An `f64`.
    Float,
    /// `true` or `false`.
    Boolean,
    /// `250ms`, `10s`, `5m`, `2h`; arrives in ms.
    Duration,
}

/// Declaration of one parameter.
///
/// ```
/// use millrace::parameters::{ParameterDecl, ParameterType};
/// let decl = ParameterDecl::of::<bool>("verbose", Some("false"), "Says more.");
/// assert_eq!(decl.parameter_type, ParameterType::Boolean);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterDecl {
    /// Name on the command line.
    pub name: String,
    /// What its value is checked against.
    pub parameter_type: ParameterType,
    /// Absent: the user must give one.
    pub default_value: Option<String>,
    /// One line of help.
    pub doc: String,
}

impl ParameterDecl {
    /// Declares a parameter of that Rust type.
    ///
    /// ```
    /// let decl = millrace::parameters::ParameterDecl::of::<Option<i64>>("limit", None, "");
    /// assert_eq!(decl.default_value.as_deref(), Some(""));
    /// ```
    pub fn of<T: ParameterValue>(name: &str, default: Option<&str>, doc: &str) -> Self {
        ParameterDecl {
            name: name.to_owned(),
            parameter_type: T::TYPE,
            default_value: default.or(T::ABSENT).map(str::to_owned),
            doc: doc.to_owned(),
        }
    }
}

/// All parameters of a pipeline. Derived; `()` has none.
///
/// ```
/// use millrace::parameters::Parameters;
/// assert!(<()>::declare().is_empty());
/// ```
pub trait Parameters: Sized {
    /// What the user may set, in order.
    fn declare() -> Vec<ParameterDecl>;

    /// Reads the values, names first. An error names the parameter.
    fn parse(values: &[(String, String)]) -> Result<Self, String>;
}

impl Parameters for () {
    fn declare() -> Vec<ParameterDecl> {
        Vec::new()
    }

    fn parse(_: &[(String, String)]) -> Result<Self, String> {
        Ok(())
    }
}

/// A type that a parameter may have.
///
/// An `Option` is declared as text whose default is empty: the contract has no absent values. Its text is
/// checked here.
///
/// ```
/// use std::time::Duration;
/// use millrace::parameters::ParameterValue;
/// assert_eq!(Duration::parse("1500"), Ok(Duration::from_millis(1500)));
/// assert_eq!(<Option<Duration>>::parse("2m"), Ok(Some(Duration::from_secs(120))));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter",
    note = "parameters are String, i64, u64, f64, bool, Duration or an Option of them"
)]
pub trait ParameterValue: Sized {
    /// What the host checks.
    const TYPE: ParameterType;

    /// The text that means that there is none, if that may be.
    const ABSENT: Option<&'static str> = None;

    /// Reads a value. An error says what would be right.
    fn parse(text: &str) -> Result<Self, String>;
}

impl ParameterValue for String {
    const TYPE: ParameterType = ParameterType::Text;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

macro_rules! parameter {
    ($($type:ty => $parameter_type:ident, $what:literal;)*) => {$(
        impl ParameterValue for $type {
            const TYPE: ParameterType = ParameterType::$parameter_type;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is not {}", $what))
            }
        }
    )*};
}
parameter! {
    i64 => Integer, "a whole number";
    u64 => Integer, "a whole number from 0 on";
    f64 => Float, "a number";
    bool => Boolean, "`true` or `false`";
}

impl ParameterValue for Duration {
    const TYPE: ParameterType = ParameterType::Duration;

    /// Milliseconds, as the host gives them, or with a unit, as people write them.
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let unit_ms = match &text[digits.len()..] {
            "" | "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        let number = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u64>().ok())
            .flatten();
        match number.zip(unit_ms).and_then(|(number, unit)| number.checked_mul(unit)) {
            Some(ms) => Ok(Duration::from_millis(ms)),
            None => Err(format!(
                "`{text}` is not a length of time such as `250ms`, `10s`, `5m`, `2h`"
            )),
        }
    }
}

impl<T: ParameterValue> ParameterValue for Option<T> {
    const TYPE: ParameterType = ParameterType::Text;
    const ABSENT: Option<&'static str> = Some("");

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }
}

/// Value of a parameter, for derived code.
#[doc(hidden)]
pub fn value<T: ParameterValue>(values: &[(String, String)], name: &str) -> Result<T, String> {
    let text = match values.iter().find(|(given, _)| given == name) {
        Some((_, text)) => text,
        None => return Err(format!("parameter `{name}` is missing")),
    };
    T::parse(text).map_err(|cause| format!("parameter `{name}`: {cause}"))
}
