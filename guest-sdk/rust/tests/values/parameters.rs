//! Parameters as programs declare them.

use std::time::Duration;

use millrace::Parameters;
use millrace::parameters::{ParameterDecl, ParameterType};

#[derive(Parameters, Debug, PartialEq)]
struct Params {
    /// Files to read,
    /// one after the other.
    ///
    /// Globs are fine.
    input: String,
    /// Length of the window.
    #[parameter(default = "10s")]
    window: Duration,
    #[parameter(default = "-3")]
    level: i64,
    #[parameter(default = "7")]
    r#type: u64,
    #[parameter(default = "0.5")]
    ratio: f64,
    #[parameter(default = "true")]
    loud: bool,
    limit: Option<i64>,
    idle: Option<Duration>,
}

fn parse(changes: &[(&str, &str)]) -> Result<Params, String> {
    let mut values: Vec<(String, String)> = Params::declare()
        .into_iter()
        .map(|parameter| (parameter.name, parameter.default_value.unwrap_or("a.txt".into())))
        .collect();
    for (name, text) in changes {
        let value = values
            .iter_mut()
            .find(|(declared, _)| declared == name)
            .expect("the parameter is declared");
        value.1 = (*text).to_owned();
    }
    Params::parse(&values)
}

#[test]
fn declarations_follow_the_fields() {
    let declared = Params::declare();
    let first = ParameterDecl {
        name: "input".into(),
        parameter_type: ParameterType::Text,
        default_value: None,
        doc: "Files to read, one after the other. Globs are fine.".into(),
    };
    assert_eq!(declared[0], first);
    let rest: Vec<_> = declared[1..]
        .iter()
        .map(|parameter| {
            (
                parameter.name.as_str(),
                parameter.parameter_type,
                parameter.default_value.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        rest,
        [
            ("window", ParameterType::Duration, Some("10s")),
            ("level", ParameterType::Integer, Some("-3")),
            ("type", ParameterType::Integer, Some("7")),
            ("ratio", ParameterType::Float, Some("0.5")),
            ("loud", ParameterType::Boolean, Some("true")),
            ("limit", ParameterType::Text, Some("")),
            ("idle", ParameterType::Text, Some("")),
        ]
    );
}

#[test]
fn values_are_read() {
    let expected = Params {
        input: "a.txt".into(),
        window: Duration::from_secs(10),
        level: -3,
        r#type: 7,
        ratio: 0.5,
        loud: true,
        limit: None,
        idle: None,
    };
    assert_eq!(parse(&[]), Ok(expected));
    let params = parse(&[("window", "250"), ("limit", "5"), ("idle", "2m"), ("loud", "false")]).expect("all are right");
    assert_eq!(params.window, Duration::from_millis(250));
    assert_eq!(
        (params.limit, params.idle, params.loud),
        (Some(5), Some(Duration::from_secs(120)), false)
    );
}

#[test]
fn errors_name_the_parameter() {
    let refused = |name, text| parse(&[(name, text)]).expect_err("the value is wrong");
    assert_eq!(
        refused("type", "-1"),
        "parameter `type`: `-1` is not a whole number from 0 on"
    );
    assert_eq!(
        refused("loud", "yes"),
        "parameter `loud`: `yes` is not `true` or `false`"
    );
    assert_eq!(refused("limit", "x"), "parameter `limit`: `x` is not a whole number");
    let length = "is not a length of time such as `250ms`, `10s`, `5m`, `2h`";
    assert_eq!(refused("idle", "2 m"), format!("parameter `idle`: `2 m` {length}"));
    assert_eq!(refused("window", "s"), format!("parameter `window`: `s` {length}"));
    assert_eq!(
        refused("window", "18446744073709551615d"),
        format!("parameter `window`: `18446744073709551615d` {length}")
    );
    assert_eq!(Params::parse(&[]), Err("parameter `input` is missing".into()));
}
