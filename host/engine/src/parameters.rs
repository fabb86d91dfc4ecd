//! Parameters given by the user against those the pipeline declares.

use millrace_core::graph::{Parameter, ParameterType};
use millrace_core::{Error, Result};

/// Checks given values, fills in defaults, and brings durations to ms. The result names every declared
/// parameter once, in declaration order.
pub fn resolve(declared: &[Parameter], given: &[(String, String)]) -> Result<Vec<(String, String)>> {
    for (index, (name, _)) in given.iter().enumerate() {
        if !declared.iter().any(|parameter| parameter.name == *name) {
            return Err(Error::user(
                "PM0001",
                format!("there is no parameter `{name}`; {}", known(declared)),
            ));
        }
        if given[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(Error::user("PM0004", format!("parameter `{name}` is given twice")));
        }
    }
    let mut resolved = Vec::new();
    for parameter in declared {
        let value = given
            .iter()
            .find(|(name, _)| *name == parameter.name)
            .map(|(_, value)| value);
        match value.or(parameter.default_value.as_ref()) {
            Some(value) => resolved.push((parameter.name.clone(), check(parameter, value)?)),
            None => return Err(Error::user("PM0002", missing(declared, parameter))),
        }
    }
    Ok(resolved)
}

fn known(declared: &[Parameter]) -> String {
    if declared.is_empty() {
        return "the pipeline has none".to_owned();
    }
    let names: Vec<&str> = declared.iter().map(|parameter| parameter.name.as_str()).collect();
    format!("known are: {}", names.join(", "))
}

fn missing(declared: &[Parameter], parameter: &Parameter) -> String {
    let doc = if parameter.doc.is_empty() {
        String::new()
    } else {
        format!(" ({})", parameter.doc)
    };
    let others = declared
        .iter()
        .filter(|other| other.default_value.is_none() && other.name != parameter.name);
    let others: Vec<String> = others.map(|other| format!("`{}`", other.name)).collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!("; also required: {}", others.join(", "))
    };
    format!(
        "parameter `{0}`{doc} is required: --param {0}=VALUE{others}",
        parameter.name
    )
}

fn check(parameter: &Parameter, value: &str) -> Result<String> {
    let wrong = |expected: &str| {
        Error::user(
            "PM0003",
            format!("parameter `{}` is `{value}`, not {expected}", parameter.name),
        )
    };
    match parameter.parameter_type {
        ParameterType::Text => Ok(value.to_owned()),
        ParameterType::Integer => value
            .parse::<i64>()
            .map(|n| n.to_string())
            .map_err(|_| wrong("a whole number")),
        ParameterType::Float => value
            .parse::<f64>()
            .map(|_| value.to_owned())
            .map_err(|_| wrong("a number")),
        ParameterType::Boolean => value
            .parse::<bool>()
            .map(|b| b.to_string())
            .map_err(|_| wrong("true or false")),
        ParameterType::Duration => {
            let duration =
                humantime::parse_duration(value).map_err(|_| wrong("a duration such as 10s, 5m or 250ms"))?;
            Ok(duration.as_millis().to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Vec<Parameter> {
        let parameter = |name: &str, parameter_type, default_value: Option<&str>| Parameter {
            name: name.into(),
            parameter_type,
            default_value: default_value.map(Into::into),
            doc: String::new(),
        };
        vec![
            parameter("input", ParameterType::Text, None),
            parameter("window", ParameterType::Duration, Some("10s")),
            parameter("limit", ParameterType::Integer, Some("5")),
            parameter("share", ParameterType::Float, Some("0.5")),
            parameter("strict", ParameterType::Boolean, Some("false")),
        ]
    }

    fn check(given: &[(&str, &str)], expect: Result<&str, &str>) {
        let given: Vec<_> = given
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let resolved = resolve(&declared(), &given).map(|pairs| {
            pairs
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        });
        assert_eq!(
            resolved.map_err(|error| error.to_string()),
            expect.map(Into::into).map_err(Into::into)
        );
    }

    #[test]
    fn values_are_checked_and_defaults_filled_in() {
        check(
            &[("input", "a")],
            Ok("input=a window=10000 limit=5 share=0.5 strict=false"),
        );
        check(
            &[("input", "a"), ("window", "1m 5s"), ("limit", "-7"), ("strict", "true")],
            Ok("input=a window=65000 limit=-7 share=0.5 strict=true"),
        );
        check(&[], Err("parameter `input` is required: --param input=VALUE"));
        check(
            &[("inptu", "a")],
            Err("there is no parameter `inptu`; known are: input, window, limit, share, strict"),
        );
        check(
            &[("input", "a"), ("input", "b")],
            Err("parameter `input` is given twice"),
        );
        check(
            &[("input", "a"), ("window", "ten")],
            Err("parameter `window` is `ten`, not a duration such as 10s, 5m or 250ms"),
        );
        check(
            &[("input", "a"), ("limit", "1.5")],
            Err("parameter `limit` is `1.5`, not a whole number"),
        );
        check(
            &[("input", "a"), ("share", "x")],
            Err("parameter `share` is `x`, not a number"),
        );
        check(
            &[("input", "a"), ("strict", "yes")],
            Err("parameter `strict` is `yes`, not true or false"),
        );
    }
}
