//! Records as programs write them: what derived code reads, writes and declares.

use millrace::schema::{DataType, Field, Hints, Variant, flatten};
use millrace::value::FieldRef;
use millrace::{Owned, Record};

use crate::{read, write};

#[derive(Record, Debug, Clone, Copy, PartialEq)]
struct Line<'a> {
    text: &'a str,
    #[record(rename = "type")]
    kind: Option<&'a str>,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Word {
    word: String,
    n: i64,
    #[record(skip)]
    seen: usize,
}

#[derive(Record, Debug, Clone, PartialEq)]
enum Happening<'a> {
    Nothing,
    PageView { url: &'a str, seconds: f64 },
    Search(&'a str),
    Move(i32, i32),
}

#[derive(Record, Debug, Clone, Copy, PartialEq)]
pub(crate) enum Switch {
    Off,
    On,
}

#[derive(Record, Debug, Clone, PartialEq)]
pub(crate) struct Nested {
    word: Word,
    maybe: Option<Word>,
    pub(crate) switch: Switch,
    r#type: bool,
}

fn word(word: &str, n: i64) -> Word {
    Word {
        word: word.into(),
        n,
        seen: 0,
    }
}

#[test]
fn rows_may_borrow() {
    let lines = vec![
        Line {
            text: "a b",
            kind: None,
        },
        Line {
            text: "",
            kind: Some("c"),
        },
    ];
    let block = write::<Line<'static>>(lines.clone());
    let read = read::<Line<'static>>(&block);
    assert_eq!(read, lines);
    let (_, data, _) = block.clone().into_parts();
    assert!(data.windows(3).any(|window| window == b"a b"));
}

#[test]
fn skipped_fields_have_no_column() {
    let mut written = word("x", 2);
    written.seen = 7;
    assert_eq!(read::<Word>(&write::<Word>(vec![written])), [word("x", 2)]);
    assert_eq!(Word::fields().len(), 2);
}

#[test]
fn enums_are_a_tag_and_members() {
    let all = vec![
        Happening::Move(1, -2),
        Happening::Nothing,
        Happening::PageView {
            url: "/a",
            seconds: 0.5,
        },
        Happening::Search("b"),
    ];
    assert_eq!(
        read::<Happening<'static>>(&write::<Happening<'static>>(all.clone())),
        all
    );
    let fields = <Happening<'static>>::fields();
    let flat: Vec<_> = flatten(&fields)
        .iter()
        .map(|field| (field.name, field.nullable, field.children))
        .collect();
    assert_eq!(
        flat,
        [
            ("tag", false, 0),
            ("page_view", true, 2),
            ("url", false, 0),
            ("seconds", false, 0),
            ("search", true, 0),
            ("move", true, 2),
            ("0", false, 0),
            ("1", false, 0),
        ]
    );
}

#[test]
fn records_nest() {
    let rows = vec![
        Nested {
            word: word("a", 1),
            maybe: None,
            switch: Switch::On,
            r#type: true,
        },
        Nested {
            word: word("", -1),
            maybe: Some(word("b", 2)),
            switch: Switch::Off,
            r#type: false,
        },
    ];
    assert_eq!(read::<Nested>(&write::<Nested>(rows.clone())), rows);
    assert_eq!(
        read::<Option<Nested>>(&write::<Option<Nested>>(vec![None, Some(rows[1].clone())])),
        [None, Some(rows[1].clone())]
    );
    let variant = |name: &str| Variant {
        name: name.into(),
        aliases: Vec::new(),
    };
    let tag = Field::new("tag", DataType::Int8, false).with_hints(Hints {
        variants: vec![variant("off"), variant("on")],
        ..Hints::default()
    });
    let expected = Field::new("switch", DataType::Struct(vec![tag]), false);
    assert_eq!(Nested::fields()[2], expected);
}

#[test]
fn fields_are_named_and_reached() {
    let kind: FieldRef<Line<'static>, Option<&'static str>, _> = Line::FIELDS.kind;
    assert_eq!((kind.name(), kind.index()), ("type", 1));
    let text = String::from("not static");
    let mut line = Line {
        text: &text,
        kind: None,
    };
    assert_eq!(*Line::FIELDS.text.get(&line), "not static");
    *kind.get_mut(&mut line) = Some(&text);
    assert_eq!(line.kind, Some("not static"));
    assert_eq!(Nested::FIELDS.r#type.name(), "type");
}

#[test]
fn records_without_a_lifetime_are_owned() {
    fn owned<T: Owned>() {}
    owned::<Word>();
    owned::<Nested>();
    owned::<Option<Switch>>();
}
