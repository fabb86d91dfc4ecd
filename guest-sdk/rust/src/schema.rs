//! Schemas: names and types of columns, as trees.
//!
//! The contract writes a schema flat, parents before children ([`flatten`] does that); here it is the tree
//! that [`crate::value::Value::data_type`] builds. The types are those of Apache Arrow that cross between
//! host and guest. Nobody writes these by hand: they follow from the Rust types of a record's fields.
//!
//! ```
//! use millrace::schema::{DataType, Field};
//! use millrace::value::Value;
//!
//! assert_eq!(<Option<i64>>::field("n"), Field::new("n", DataType::Int64, true));
//! ```

/// Resolution of a timestamp.
///
/// ```
/// use millrace::schema::TimeUnit;
/// assert_ne!(TimeUnit::Millisecond, TimeUnit::Microsecond);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// 1 s.
    Second,
    /// 1/1,000 s.
    Millisecond,
    /// 1/1,000,000 s.
    Microsecond,
    /// 1/1,000,000,000 s.
    Nanosecond,
}

/// Type of a column, with its children.
///
/// ```
/// use millrace::schema::DataType;
/// use millrace::value::Value;
/// assert_eq!(String::data_type(), DataType::Utf8);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataType {
    /// One bit.
    Boolean,
    /// `i8`.
    Int8,
    /// `i16`.
    Int16,
    /// `i32`.
    Int32,
    /// `i64`.
    Int64,
    /// `u8`.
    UInt8,
    /// `u16`.
    UInt16,
    /// `u32`.
    UInt32,
    /// `u64`.
    UInt64,
    /// `f32`.
    Float32,
    /// `f64`.
    Float64,
    /// An integer of 128 bits, scaled by 10^scale.
    Decimal128 {
        /// Digits, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// Text.
    Utf8,
    /// Bytes, any number.
    Binary,
    /// Exactly this many bytes.
    FixedSizeBinary(u32),
    /// Days since 1970-01-01.
    Date32,
    /// Microseconds since midnight.
    Time64,
    /// A point on the time line, since 1970-01-01.
    Timestamp {
        /// What is counted.
        unit: TimeUnit,
        /// Absent: a wall-clock time.
        zone: Option<String>,
    },
    /// A list; its field is named `item`.
    List(Box<Field>),
    /// Members with names.
    Struct(Vec<Field>),
    /// A map; its field is a struct named `entries` of `key` and `value`.
    Map(Box<Field>),
}

impl DataType {
    /// Direct children, in order.
    ///
    /// ```
    /// use millrace::value::Value;
    /// assert_eq!(<Vec<i64>>::data_type().children()[0].name, "item");
    /// ```
    pub fn children(&self) -> &[Field] {
        match self {
            DataType::List(field) | DataType::Map(field) => std::slice::from_ref(field),
            DataType::Struct(fields) => fields,
            DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal128 { .. }
            | DataType::Utf8
            | DataType::Binary
            | DataType::FixedSizeBinary(_)
            | DataType::Date32
            | DataType::Time64
            | DataType::Timestamp { .. } => &[],
        }
    }
}

/// A named column or member.
///
/// ```
/// use millrace::schema::{DataType, Field};
/// let field = Field::new("word", DataType::Utf8, false);
/// assert!(field.data_type.children().is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Differs from its siblings'.
    pub name: String,
    /// What it holds.
    pub data_type: DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// What it says of earlier versions of itself.
    pub hints: Hints,
}

/// What a field says of earlier versions of itself: how state that they stored is converted. `#[record(alias = "...")]`
/// and `#[record(default)]` make them.
///
/// ```
/// use millrace::Record;
/// use millrace::schema::Missing;
///
/// #[derive(Record)]
/// struct Total { #[record(alias = "sum")] cents: i64, #[record(default = "EUR")] currency: String }
///
/// assert_eq!(Total::fields()[0].hints.aliases, ["sum"]);
/// assert_eq!(Total::fields()[1].hints.missing, Missing::Text("EUR".into()));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Names that it had.
    pub aliases: Vec<String>,
    /// What a value gets that was stored before there was this field.
    pub missing: Missing,
    /// Of the tag of an enum: its variants in order.
    pub variants: Vec<Variant>,
}

/// What a value gets that was stored before there was a field.
///
/// ```
/// use millrace::schema::Missing;
/// assert_eq!(Missing::default(), Missing::Undeclared);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Missing {
    /// Null, where the field is an `Option`; otherwise such state is refused.
    #[default]
    Undeclared,
    /// Zero, false, empty, or the first variant.
    Zero,
    /// The value that this text is.
    Text(String),
}

/// A variant of an enum.
///
/// ```
/// use millrace::Record;
///
/// #[derive(Record)]
/// enum Kind { View, #[record(alias = "tap")] Click { x: i32 } }
///
/// let variants = &Kind::fields()[0].hints.variants;
/// assert_eq!((variants[0].name.as_str(), variants[1].aliases[0].as_str()), ("view", "tap"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Names that it had.
    pub aliases: Vec<String>,
}

impl Field {
    /// A field that says nothing of earlier versions.
    ///
    /// ```
    /// use millrace::schema::{DataType, Field};
    /// assert!(Field::new("at", DataType::Date32, true).hints.aliases.is_empty());
    /// ```
    pub fn new(name: &str, data_type: DataType, nullable: bool) -> Self {
        Field {
            name: name.to_owned(),
            data_type,
            nullable,
            hints: Hints::default(),
        }
    }

    /// The same field with these hints.
    ///
    /// ```
    /// use millrace::schema::{DataType, Field, Hints};
    /// let field = Field::new("at", DataType::Date32, true);
    /// assert_eq!(field.clone().with_hints(Hints::default()), field);
    /// ```
    #[must_use]
    pub fn with_hints(mut self, hints: Hints) -> Self {
        self.hints = hints;
        self
    }
}

/// One node of a flat schema: what the contract calls a `field`.
///
/// ```
/// use millrace::schema::flatten;
/// use millrace::value::Value;
/// let flat = [<Vec<i64>>::field("values")];
/// assert_eq!(flatten(&flat)[0].children, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlatField<'a> {
    /// The field's name.
    pub name: &'a str,
    /// Its type; the children inside are listed after this node as well.
    pub data_type: &'a DataType,
    /// Whether it may hold nulls.
    pub nullable: bool,
    /// Number of direct children, which follow with their own descendants.
    pub children: u32,
    /// What it says of earlier versions of itself.
    pub hints: &'a Hints,
}

/// Writes a schema flat: every field before its children.
///
/// ```
/// use millrace::schema::flatten;
/// use millrace::value::Value;
/// let names: Vec<String> = flatten(&[<Vec<i64>>::field("a"), bool::field("b")]).iter().map(|f| f.name.to_owned()).collect();
/// assert_eq!(names, ["a", "item", "b"]);
/// ```
pub fn flatten(fields: &[Field]) -> Vec<FlatField<'_>> {
    fn visit<'a>(field: &'a Field, flat: &mut Vec<FlatField<'a>>) {
        let children = field.data_type.children();
        flat.push(FlatField {
            name: &field.name,
            data_type: &field.data_type,
            nullable: field.nullable,
            children: children.len() as u32,
            hints: &field.hints,
        });
        for child in children {
            visit(child, flat);
        }
    }
    let mut flat = Vec::new();
    for field in fields {
        visit(field, &mut flat);
    }
    flat
}
