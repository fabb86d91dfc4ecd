//! Text with columns in it: `user:{id}:visits`. Braces that are meant are doubled: `{{`, `}}`.

use arrow_schema::Schema;
use millrace_core::{Error, Result};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Column(String),
}

impl Template {
    /// `option` is the one that it is the value of.
    pub(super) fn parse(option: &str, template: &str) -> Result<Self> {
        let refuse = |why: &str| Error::user("CN0140", format!("option `{option}` is `{template}`: {why}"));
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template.chars();
        while let Some(character) = rest.next() {
            match character {
                '{' if rest.as_str().starts_with('{') => {
                    rest.next();
                    text.push('{');
                }
                '{' => {
                    let (name, after) = rest
                        .as_str()
                        .split_once('}')
                        .ok_or_else(|| refuse("a `{` has no `}`; a brace that is meant is doubled"))?;
                    if name.is_empty() {
                        return Err(refuse("between `{` and `}` is the name of a column"));
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Column(name.to_owned()));
                    rest = after.chars();
                }
                '}' if rest.as_str().starts_with('}') => {
                    rest.next();
                    text.push('}');
                }
                '}' => return Err(refuse("a `}` has no `{`; a brace that is meant is doubled")),
                other => text.push(other),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template(parts))
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Column(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The rows must have the columns, in keys without nulls.
    pub(super) fn check(&self, option: &str, schema: &Schema, may_be_null: bool) -> Result<()> {
        for column in self.columns() {
            let Ok(field) = schema.field_with_name(column) else {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let names = names.join("`, `");
                let message = format!("option `{option}`: the rows have no column `{column}`; they have `{names}`");
                return Err(Error::user("CN0140", message));
            };
            if field.is_nullable() && !may_be_null {
                let message = format!("option `{option}`: column `{column}` may be null, and then there is no key");
                return Err(Error::user("CN0140", message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn columns_stand_in_braces() {
        let text = |text: &str| Part::Text(text.to_owned());
        let column = |name: &str| Part::Column(name.to_owned());
        let check = |template: &str, parts: Vec<Part>| {
            assert_eq!(Template::parse("key", template).unwrap(), Template(parts), "{template}");
        };
        check("", vec![]);
        check("words", vec![text("words")]);
        check("{id}", vec![column("id")]);
        check(
            "user:{id}:{day} x",
            vec![text("user:"), column("id"), text(":"), column("day"), text(" x")],
        );
        check("{{{a b}}}", vec![text("{"), column("a b"), text("}")]);
        for wrong in ["{", "a}", "{}", "{a", "}{"] {
            assert_eq!(Template::parse("key", wrong).unwrap_err().code(), "CN0140", "{wrong}");
        }
    }

    #[test]
    fn columns_must_be_there() {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("note", DataType::Utf8, true),
        ]);
        let check =
            |template: &str, may_be_null: bool| Template::parse("key", template)?.check("key", &schema, may_be_null);
        check("a:{id}", false).unwrap();
        check("a:{id}:{note}", true).unwrap();
        assert!(
            check("{note}", false)
                .unwrap_err()
                .to_string()
                .contains("`note` may be null")
        );
        assert!(check("{x}", true).unwrap_err().to_string().contains("`id`, `note`"));
    }
}
