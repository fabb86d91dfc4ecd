//! Decimals whose text has more digits than their column: the parsers would cut them off without a word.

use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray};
use arrow_schema::{DataType, Field, FieldRef};

/// The error of a block with such a text.
pub(crate) const CUT: &str = "a number has more digits than its decimal";

/// The field with every decimal in it a text; `None` if it has none.
pub(crate) fn as_texts(field: &FieldRef) -> Option<FieldRef> {
    let data_type = match field.data_type() {
        DataType::Decimal128(_, _) => DataType::Utf8,
        DataType::List(item) => DataType::List(as_texts(item)?),
        DataType::Struct(members) => {
            let members: Vec<FieldRef> = members.iter().filter_map(as_texts).collect();
            if members.is_empty() {
                return None;
            }
            DataType::Struct(members.into())
        }
        _ => return None,
    };
    Some(Field::new(field.name(), data_type, true).into())
}

/// Whether the texts of a column say what its decimals can hold; `decimals` is the column's own type.
pub(crate) fn are_exact(texts: &dyn Array, decimals: &DataType) -> bool {
    match (texts.data_type(), decimals) {
        (DataType::Utf8, DataType::Decimal128(_, scale)) => {
            let texts: &StringArray = texts.as_string();
            texts.iter().flatten().all(|text| is_exact(text, *scale))
        }
        (DataType::List(_), DataType::List(item)) => {
            are_exact(texts.as_list::<i32>().values().as_ref(), item.data_type())
        }
        (DataType::Struct(fields), DataType::Struct(members)) => {
            let columns = fields.iter().zip(texts.as_struct().columns());
            columns.into_iter().all(|(field, column)| {
                let own = members.iter().find(|member| member.name() == field.name());
                own.is_none_or(|own| are_exact(column.as_ref(), own.data_type()))
            })
        }
        _ => true,
    }
}

/// Whether a decimal of this scale holds the number; of what is no number the parser will say so.
pub(crate) fn is_exact(text: &str, scale: i8) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().unwrap_or(0)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count() as i64;
    // The place of the last digit that is not 0: 2 in `1.250`, -2 in `300`.
    let significant = fraction.trim_end_matches('0');
    let last = if significant.is_empty() {
        let significant = whole.trim_end_matches('0');
        if digits(significant) == 0 {
            return true;
        }
        -(digits(whole) - digits(significant))
    } else {
        digits(significant)
    };
    last - exponent <= i64::from(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_do_not_fit_are_seen() {
        for (text, scale, exact) in [
            ("12.50", 2, true),
            ("12.500", 2, true),
            ("12.505", 2, false),
            ("-0.001", 2, false),
            ("1e-3", 2, false),
            ("1e-2", 2, true),
            ("1.25e1", 1, true),
            ("1.25e1", 0, false),
            ("1.5", 0, false),
            ("1.0", 0, true),
            ("100", 0, true),
            ("150", -2, false),
            ("1200", -2, true),
            ("12e2", -2, true),
            ("0.000", -2, true),
            ("0", 0, true),
            (".5", 1, true),
            (".05", 1, false),
            ("+7.25", 2, true),
            ("word", 0, true),
        ] {
            assert_eq!(is_exact(text, scale), exact, "{text} in {scale}");
        }
    }
}
