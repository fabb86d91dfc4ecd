//! What Apache Flink's own tests and documentation say of its pattern library: rows, a pattern, and the matches to be found.
//!
//! A pattern is written as its stages. `>b` is `next`, `~b` `followed_by`, `~~b` `followed_by_any`, `!b` `not_next`, `!~b`
//! `not_followed_by`; behind a stage come its repetitions (`+`, `{2}`, `{2,}`, `{1,3}`), then `?` optional, `=` consecutive, `%`
//! combinations, `^` greedy, `/u` until. A stage takes rows with its letter in their name, `.` any. Rows are a
//! millisecond apart, unless they say when they come (`a@7`).

use std::iter::Peekable;
use std::str::Chars;

use crate::{
    AfterMatch, Connection, Contiguity, Incoming, Key, Matcher, Node, PatternDecl, PatternElement, Place, Program,
};

/// Of each: pattern, rows, matches; what else the pattern says.
const FACTS: &str = "\
# Contiguity: the documentation, NFAITCase
a >b                 | a c b1 b2          |
a ~b                 | a c b1 b2          | a b1
a ~~b                | a c b1 b2          | a b1, a b2
a >b                 | a b                | a b
a >b                 | a c b              |
. ~.                 | a b c d e          | a b, b c, c d, d e
. ~~.                | a b c d e          | a b, a c, a d, a e, b c, b d, b e, c d, c e, d e
. ~.+                | a b c d            | a b c d, a b c, a b, b c d, b c, c d
c ~~a ~~f ~~e        | c a1 a2 f1 f2 e    | c a1 f1 e, c a2 f1 e, c a1 f2 e, c a2 f2 e
c? ~b                | c b                | c b, b
c ~a? ~b             | c a b              | c a b, c b
c ~a?                | c a                | c a, c
# Repetitions: the documentation, NFAITCase
a ~~b+= ~c           | a b1 d1 b2 d2 b3 c | a b1 c, a b2 c, a b3 c
a ~~b+ ~c            | a b1 d1 b2 d2 b3 c | a b1 c, a b1 b2 c, a b1 b2 b3 c, a b2 c, a b2 b3 c, a b3 c
a ~~b+% ~c           | a b1 d b2 b3 c     | a b1 c, a b1 b2 c, a b1 b3 c, a b1 b2 b3 c, a b2 c, a b2 b3 c, a b3 c
c ~~a+?% ~b          | c a1 a2 b          | c a1 a2 b, c a1 b, c a2 b, c b
c ~a+? ~b            | c a1 a2 d a3 b     | c a1 a2 a3 b, c a1 a2 b, c a1 b, c b
a+? ~b               | a1 a2 a3 b         | a1 a2 a3 b, a1 a2 b, a2 a3 b, a1 b, a2 b, a3 b, b
c ~~a+?% ~d+?% ~e    | c a d1 d2 e        | c a d1 d2 e, c a d1 e, c d1 d2 e, c d1 e, c a e, c e
c ~~a ~~f ~~d+?% ~e  | c a f d1 d2 e      | c a f e, c a f d1 e, c a f d2 e, c a f d1 d2 e
d ~a+? >b            | d a1 a2 c b        |
d ~~a+?% >b          | d a1 a2 b          | d a1 a2 b, d a2 b
c ~~a+% ~~b          | c a1 a2 b          | c a1 a2 b, c a1 b, c a2 b
a+% ~b               | a1 a2 a3 b         | a1 a2 a3 b, a1 a2 b, a1 a3 b, a2 a3 b, a1 b, a2 b, a3 b
s >m+?= ~e           | s x m1 m2 m3 e     | s e
c ~~a+ ~~b           | c a1 a2 a3 b       | c a1 a2 a3 b, c a1 a2 b, c a2 a3 b, c a3 b, c a2 b, c a1 b
c >a{2}% ~b          | c a1 a2 a3 b       | c a1 a2 b, c a1 a3 b
c >a{2}% ~b          | c a1 f a2 f a3 b   | c a1 a2 b, c a1 a3 b
c >a{2}= ~b          | c a1 f a2 a3 b     |
a{2}= ~b             | a1 a2 a3 b         | a1 a2 b, a2 a3 b
c ~a{2} ~b           | c a1 a2 a3 b       | c a1 a2 b
c ~~a{2}% ~b         | c a1 a2 a3 b       | c a1 a2 b, c a2 a3 b, c a1 a3 b
c ~a{3}? ~b          | c f b              | c b
c ~a+?               | c a1 a2 a3         | c a1 a2 a3, c a1 a2, c a1, c
c ~a+                | c a1 a2 a3         | c a1 a2 a3, c a1 a2, c a1
a+?                  | c a1 a2 a3 d1 d2   | a1 a2 a3, a1 a2, a1, a2 a3, a2, a3
# TimesRangeITCase
c >a{1,3}% ~b        | c a1 a2 a3 b       | c a1 a2 a3 b, c a1 a2 b, c a1 a3 b, c a1 b
c >a{1,2}?% ~b       | c a1 a2 a3 b       | c a1 a2 b, c a1 a3 b, c a1 b, c b
c ~~a{1,3}% ~b       | c f a1 f a2 a3 b   | c a1 a2 a3 b, c a1 a2 b, c a1 a3 b, c a2 a3 b, c a1 b, c a2 b, c a3 b
c ~~a{1,3}?= ~b      | c f a1 f a2 a3 b   | c a2 a3 b, c a1 b, c a2 b, c a3 b, c b
c >a{1,3}?= ~b       | c a1 a2 a3 b       | c a1 a2 a3 b, c a1 a2 b, c a1 b, c b
c ~a{1,3}? ~b        | c f b              | c b
# TimesOrMoreITCase
c ~a{2,}% ~b         | c a1 a2 a3 b       | c a1 a2 a3 b, c a1 a2 b, c a1 a3 b
c ~~a{2,}% ~b        | c f a1 f a2 a3 b   | c a1 a2 a3 b, c a1 a2 b, c a1 a3 b, c a2 a3 b
c ~~a{2}= ~b         | c f a1 f a2 a3 b   | c a2 a3 b
c ~~a{2,}?= ~b       | c f a1 f a2 a3 b   | c a2 a3 b, c b
c >a{2,}?= ~b        | c a1 a2 a3 b       | c a1 a2 a3 b, c a1 a2 b, c b
c ~a{2,}? ~b         | c f b              | c b
# SameElementITCase
c ~a+? ~b            | c@1 a1@3 a1@3 a1@3 a2@4 d@5 a3@6 a3@6 b@7 | c a1 a1 a1 a2 a3 a3 b, c a1 a1 a1 a2 a3 b, c a1 a1 a1 a2 b, c a1 a1 a1 b, c a1 a1 b, c a1 b, c b
c ~~a ~b             | c@1 a1@3 a1@3 b@7  | c a1 b, c a1 b
a ~b ~c ~d           | a@1 b@2 c@2 d@2    | a b c d
# Time: NFAITCase
s ~m ~e              | s1@1 s2@2 m@3 x@4 e1@11 e2@13 | s2 m e1 | within 10
s ~m ~e              | s1@1 s2@2 m@3 x@4 e1@11 e2@13 | s1 m e1, s2 m e1 | gap 9
# GreedyITCase
c ~a+?^ ~d           | c a1 a2 a3 d       | c a1 a2 a3 d
c ~a+?^ ~d           | c x a1 x a2 x a3 d | c a1 a2 a3 d
c ~a+?^ ~d           | c a1 a2 x d        | c a1 a2 d
c ~a+?^ ~d           | c x d              | c d
c ~a+?^ ~d? ~e       | c a1 a2 x e        | c a1 a2 e
c ~a+?^ ~d? ~e       | c a1 a2 d e        | c a1 a2 e, c a1 a2 d e
c ~a+?^/u ~d         | c a1 a2 a3 au d    | c a1 a2 a3 d
c ~a+?^/u ~d         | c au a1 a2 a3 d    | c d
c ~a+^ ~d            | c a1 a2 a3 d       | c a1 a2 a3 d
c ~a+^ ~d            | c x a1 x a2 x a3 d | c a1 a2 a3 d
c ~a+^ ~d            | c a1 a2 x d        | c a1 a2 d
c ~a+^ ~d            | c x d              |
c ~a+^/u ~d          | c a1 a2 a3 au d    | c a1 a2 a3 d
c ~a+^/u ~d          | c au a1 a2 a3 d    |
c ~a+?^ ~(d ~e){2} ~f | c a1 a2 x a3 d1 e1 d2 e2 f | c a1 a2 a3 d1 e1 d2 e2 f
# NotPatternITCase
a !b ~~c ~d          | a c1 b c2 d        | a c1 d, a c2 d
a !b ~c ~d           | a b c1 c2 d        |
a !~b ~~c ~d         | a c1 b c2 d        | a c1 d
a !~b ~~c? ~d        | a c1 b c2 d        | a c1 d
a ~~b{2} !~c ~d      | a b1 c b2 d        |
a !~b ~~c{2}? ~d     | a d1 e b c1 c2 d2  | a d1
# UntilConditionITCase
c ~a+/u ~u           | c a1 a2 au a4      | c a1 a2 au, c a1 au
c ~a+%/u ~u          | c a1 a2 a3 au a4   | c a1 a2 a3 au, c a1 a2 au, c a1 a3 au, c a1 au
c ~a+=/u ~u          | c a1 a2 au a4      | c a1 a2 au, c a1 au
c ~a+=/u ~u          | c a1 b a3 au a4    | c a1 au
c ~a+?/u ~u          | c a1 a2 au a4      | c a1 a2 au, c a1 au, c au
# GroupITCase
c ~(a ~b){2} ~d      | c a1 b1 a2 b2 d    | c a1 b1 a2 b2 d
c ~(a ~b)? ~d        | c a1 b1 d          | c a1 b1 d, c d
# AfterMatchSkipITCase, the documentation
a{3}                 | a1 a2 a3 a4 a5 a6  | a1 a2 a3, a2 a3 a4, a3 a4 a5, a4 a5 a6
a{3}                 | a1 a2 a3 a4 a5 a6  | a1 a2 a3, a4 a5 a6 | past
a ~~b                | a1 b1 a2 b2        | a1 b1, a1 b2, a2 b2
a ~~b                | a1 b1 a2 b2        | a1 b1, a2 b2 | next
a >b+                | a1 b1 b2 b3        | a1 b1 b2 b3, a1 b1 b2, a1 b1
a >b+                | a1 b1 b2 b3        | a1 b1 | next
a{2} >b{2}           | ab1 ab2 ab3 ab4 ab5 ab6     | ab1 ab2 ab3 ab4, ab3 ab4 ab5 ab6 | first b
a{2} >b{2}           | ab1 ab2 ab3 ab4 ab5 ab6 ab7 | ab1 ab2 ab3 ab4, ab4 ab5 ab6 ab7 | last b
a ~~b ~~c ~d         | a1 a2 b1 b2 c1 c2 d1 d2     | a1 b1 c1 d1 | past
a >b                 | a1 c a2 b2         | a2 b2 | past
x+? >b >c            | ab1 c1 ab2 c2      | ab1 c1, ab2 c2 | first b
b >c                 | ab1 c1 ab2 c2      | ab1 c1, ab2 c2 | first b
a >b+=               | a1 b1 a2 b2 b3 a3 b4 | a1 b1, a2 b2, a3 b4 | first b
a >b+?= >c           | a c                | a c | first b
b+= >c               | b1 b2 b3 c         | b1 b2 b3 c, b2 b3 c, b3 c
b+= >c               | b1 b2 b3 c         | b1 b2 b3 c, b2 b3 c, b3 c | next
b+= >c               | b1 b2 b3 c         | b1 b2 b3 c | past
b+= >c               | b1 b2 b3 c         | b1 b2 b3 c, b2 b3 c, b3 c | first b
b+= >c               | b1 b2 b3 c         | b1 b2 b3 c, b3 c | last b
";

type Text<'t> = Peekable<Chars<'t>>;

/// Reads this if it comes next.
fn reads(text: &mut Text<'_>, what: char) -> bool {
    text.next_if_eq(&what).is_some()
}

fn connection(text: &mut Text<'_>) -> Connection {
    let negative = reads(text, '!');
    let strict = reads(text, '>');
    match (negative, strict, reads(text, '~'), reads(text, '~')) {
        (true, _, true, _) => Connection::NotFollowedBy,
        (true, _, false, _) => Connection::NotNext,
        (false, true, _, _) => Connection::Next,
        (false, false, _, true) => Connection::FollowedByAny,
        (false, false, _, false) => Connection::FollowedBy,
    }
}

fn number(text: &mut Text<'_>) -> Option<u32> {
    text.next_if(char::is_ascii_digit)?.to_digit(10)
}

/// Letters of conditions, by number.
#[derive(Default)]
struct Conditions(Vec<char>);

impl Conditions {
    fn number(&mut self, letter: char) -> u32 {
        let known = self.0.iter().position(|known| *known == letter);
        known.unwrap_or_else(|| {
            self.0.push(letter);
            self.0.len() - 1
        }) as u32
    }
}

/// Reads stages up to the end, or that of their group; how many there are.
fn read(text: &mut Text<'_>, elements: &mut Vec<PatternElement>, conditions: &mut Conditions) -> u32 {
    let mut count = 0;
    while let Some(next) = text.peek() {
        if *next == ' ' {
            text.next();
            continue;
        }
        if reads(text, ')') {
            break;
        }
        count += 1;
        let at = elements.len();
        elements.push(PatternElement {
            name: format!("group{at}"),
            connection: connection(text),
            condition: None,
            least: 1,
            most: Some(1),
            optional: false,
            repeated: Contiguity::Relaxed,
            greedy: false,
            until: None,
            children: 0,
        });
        let (mut children, letter) = (0, text.next().expect("a stage"));
        match letter {
            '(' => children = read(text, elements, conditions),
            '.' => elements[at].name = format!("any{at}"),
            letter => {
                elements[at].condition = Some(conditions.number(letter));
                elements[at].name = letter.to_string();
            }
        }
        elements[at].children = children;
        repetitions(text, &mut elements[at], conditions);
    }
    count
}

fn repetitions(text: &mut Text<'_>, element: &mut PatternElement, conditions: &mut Conditions) {
    if reads(text, '+') {
        element.most = None;
    } else if reads(text, '{') {
        element.least = number(text).expect("a number");
        element.most = match reads(text, ',') {
            true => number(text),
            false => Some(element.least),
        };
        assert!(reads(text, '}'));
    }
    element.optional = reads(text, '?');
    if reads(text, '=') {
        element.repeated = Contiguity::Strict;
    } else if reads(text, '%') {
        element.repeated = Contiguity::Any;
    }
    element.greedy = reads(text, '^');
    if reads(text, '/') {
        element.until = Some(conditions.number(text.next().expect("a condition")));
    }
}

/// Finds the matches of a pattern, of which more is said in words.
fn found(pattern: &str, rows: &str, more: &str) -> Vec<String> {
    let (mut elements, mut conditions) = (Vec::new(), Conditions::default());
    read(&mut pattern.chars().peekable(), &mut elements, &mut conditions);
    let (word, value) = more.split_once(' ').unwrap_or((more, ""));
    let decl = PatternDecl {
        elements,
        conditions: vec![false; conditions.0.len()],
        within_ms: (word == "within").then(|| value.parse().unwrap()),
        within_gap_ms: (word == "gap").then(|| value.parse().unwrap()),
        after_match: match word {
            "next" => AfterMatch::SkipToNext,
            "past" => AfterMatch::SkipPastLast,
            "first" => AfterMatch::SkipToFirst(value.to_owned()),
            "last" => AfterMatch::SkipToLast(value.to_owned()),
            _ => AfterMatch::NoSkip,
        },
        timeouts: false,
        late_port: None,
        partial_matches_max: 1_000,
        orders_equal_times: false,
    };
    let (mut matcher, mut key) = (Matcher::new(Program::compile(&decl).unwrap()), Key::default());
    let mut names = Vec::new();
    for (row, text) in (0..).zip(rows.split(' ')) {
        let (name, time) = text.split_once('@').unwrap_or((text, ""));
        let time = time.parse().unwrap_or(i64::from(row) + 1);
        let holds = (0..).zip(&conditions.0).filter(|(_, letter)| name.contains(**letter));
        let holds = holds.fold(0, |holds, (number, _)| holds | 1_u64 << number);
        names.push(name);
        matcher.advance(&mut key, time);
        let mut incoming = Incoming::new(Place { batch: 0, row }, time, holds);
        matcher.step(&mut key, &mut incoming, std::iter::empty());
        matcher.buffer.end(incoming);
    }
    let paths = matcher.found.iter().map(|found| {
        let path = matcher.buffer.path(found.node);
        let row = |(_, node): (u32, &Node)| matcher.buffer.event(node.event).place.row;
        let mut path = path.map(row).map(|row| names[row as usize]).collect::<Vec<_>>();
        path.reverse();
        path.join(" ")
    });
    let mut paths = paths.collect::<Vec<_>>();
    paths.sort();
    paths
}

#[test]
fn finds_what_flink_finds() {
    let mut others = Vec::new();
    let facts = FACTS.lines().filter(|line| !line.starts_with('#'));
    for fact in facts.clone() {
        let mut columns = fact.split('|').map(str::trim);
        let mut next = || columns.next().unwrap_or_default();
        let (pattern, rows, expected, more) = (next(), next(), next(), next());
        let mut expected = expected.split(", ").filter(|path| !path.is_empty()).collect::<Vec<_>>();
        expected.sort_unstable();
        let found = found(pattern, rows, more);
        if found != expected {
            others.push(format!("{fact}: {found:?}"));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
    assert!(facts.count() > 80);
}
