//! From the declaration of a pattern to its automaton: elements are unrolled, position by position, and each new position is
//! joined to the *open ends* that may come before it. An open end gathers what lies between: rows that must not come, and
//! what a greedy repetition would rather take itself. (Glushkov's construction, with contiguity on its edges.)

use crate::check::check;
use crate::{ALWAYS, Conditions, EDGES_MAX, Edge, POSITIONS_MAX, PassOver, Position, Program, Target, refused, skip};
use crate::{Connection, Contiguity, PatternDecl, PatternElement, Refused};

pub(super) fn compile(pattern: &PatternDecl) -> Result<Program, Refused> {
    check(pattern)?;
    let mut build = Build::new(pattern);
    let begin = Open::new(From::Start, 0);
    let ends = build.sequence(&mut 0, usize::MAX, vec![begin], Contiguity::Any, 0)?;
    let has_time = pattern.within_ms.is_some() || pattern.within_gap_ms.is_some();
    build.finish(ends, has_time)?;
    let iterative = (0..).zip(&pattern.conditions).filter(|(_, iterative)| **iterative);
    let moved_by = build.positions.iter().map(moved_by).collect::<Vec<_>>();
    let begun_by = build.start.iter().map(Edge::asks);
    let all = moved_by.iter().copied().chain(begun_by);
    Ok(Program {
        after_match: skip(&pattern.after_match, &build.stage_names)?,
        stages: build.stage_names,
        iterative: iterative.fold(0, |set, (number, _)| set | bit(number)),
        within_ms: pattern.within_ms,
        within_gap_ms: pattern.within_gap_ms,
        timeouts: pattern.timeouts,
        partials_max: pattern.partial_matches_max as usize,
        ignores_others: all.fold(0, |all, conditions| all | conditions) & ALWAYS == 0,
        moved_by,
        positions: build.positions,
        start: build.start,
    })
}

/// What every row has at least one of that a match in this position does not pass over, and be what it was.
fn moved_by(position: &Position) -> Conditions {
    let moves = |(number, edge): (usize, &Edge)| {
        let stays = edge.pass_over != PassOver::Nothing && usize::from(edge.passed) == number;
        if stays { edge.asks() } else { Conditions::MAX }
    };
    let edges = position.edges.iter().enumerate();
    edges.map(moves).fold(0, |all, conditions| all | conditions)
}

fn bit(condition: u32) -> Conditions {
    1 << condition
}

/// Where an open end comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Start,
    Position(u16),
    /// The end of the repetition that is being made, in the loop of this number.
    Repetition(usize),
}

/// A place from which the next element is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    from: From,
    /// Rows that must not come before the next row that is taken, nor be it.
    guards: Conditions,
    /// What the very next row must not be.
    first: Conditions,
    /// Rows that a greedy repetition takes itself, unless it was ended by one of the second.
    greedy: Option<(Conditions, Conditions)>,
    /// The very next row, if one of these holds of it, is taken by a greedy repetition that may be left out.
    greedy_first: Conditions,
    /// What ends the repetitions that it is in,
    until: Conditions,
    /// and those that are about to begin.
    until_first: Conditions,
    /// How the next element is reached, if not as that says.
    how: Option<Contiguity>,
}

impl Open {
    fn new(from: From, until: Conditions) -> Self {
        Open {
            from,
            guards: 0,
            first: 0,
            greedy: None,
            greedy_first: 0,
            until,
            until_first: 0,
            how: None,
        }
    }

    /// The same, past an optional element. A greedy one that comes after all would have taken the row.
    fn past(&self, greedy: Option<(Conditions, Conditions)>, how: Contiguity) -> Self {
        let past = Open {
            how: None,
            ..self.clone()
        };
        let Some((takes, until)) = greedy else {
            return past;
        };
        match (self.how.unwrap_or(how), self.greedy) {
            (Contiguity::Strict, _) if until == 0 => Open {
                greedy_first: past.greedy_first | takes,
                ..past
            },
            (Contiguity::Strict, _) => past,
            (Contiguity::Relaxed | Contiguity::Any, before) => Open {
                greedy: both(before, greedy),
                ..past
            },
        }
    }
}

/// A position that is to be joined to the end of a repetition.
struct Joined {
    through: Open,
    position: u16,
    how: Contiguity,
    takes: Takes,
}

/// What a position takes.
#[derive(Debug, Clone, Copy)]
struct Takes {
    all: Conditions,
    none: Conditions,
}

/// What greedy repetitions take that come one after the other, where the same ends them.
fn both(
    last: Option<(Conditions, Conditions)>,
    other: Option<(Conditions, Conditions)>,
) -> Option<(Conditions, Conditions)> {
    match (last, other) {
        (Some((takes, until)), Some((others, same))) if same == until => Some((takes | others, until)),
        (last, other) => last.or(other),
    }
}

struct Build<'p> {
    elements: &'p [PatternElement],
    /// Of each element its number among stages.
    stages: Vec<u16>,
    stage_names: Vec<String>,
    positions: Vec<Position>,
    start: Vec<Edge>,
    /// Of each loop that is open.
    loops: Vec<Vec<Joined>>,
    /// Edges between the repetitions of the stage made last: position, edge.
    inner: Vec<(u16, usize)>,
}

impl<'p> Build<'p> {
    fn new(pattern: &'p PatternDecl) -> Self {
        let (mut stages, mut stage_names) = (Vec::new(), Vec::new());
        for element in &pattern.elements {
            stages.push(stage_names.len() as u16);
            if element.is_taken() && element.children == 0 {
                stage_names.push(element.name.clone());
            }
        }
        Build {
            elements: &pattern.elements,
            stages,
            stage_names,
            positions: Vec::new(),
            start: Vec::new(),
            loops: Vec::new(),
            inner: Vec::new(),
        }
    }

    /// So many elements, or all that there are, one after the other.
    fn sequence(
        &mut self,
        next: &mut usize,
        count: usize,
        mut opens: Vec<Open>,
        head: Contiguity,
        until: Conditions,
    ) -> Result<Vec<Open>, Refused> {
        for number in 0..count {
            let Some(element) = self.elements.get(*next) else {
                break;
            };
            let condition = element.condition.map_or(ALWAYS, bit);
            let how = match element.connection {
                _ if number == 0 => head,
                Connection::Next => Contiguity::Strict,
                Connection::FollowedBy => Contiguity::Relaxed,
                Connection::FollowedByAny => Contiguity::Any,
                Connection::NotNext => {
                    *next += 1;
                    opens.iter_mut().for_each(|open| open.first |= condition);
                    continue;
                }
                Connection::NotFollowedBy => {
                    *next += 1;
                    opens.iter_mut().for_each(|open| open.guards |= condition);
                    for (position, edge) in &self.inner {
                        self.positions[usize::from(*position)].edges[*edge].guards |= condition;
                    }
                    continue;
                }
            };
            opens = self.element(next, opens, how, until)?;
        }
        Ok(opens)
    }

    /// All repetitions of an element.
    fn element(
        &mut self,
        next: &mut usize,
        before: Vec<Open>,
        how: Contiguity,
        until: Conditions,
    ) -> Result<Vec<Open>, Refused> {
        let (at, element) = (*next, &self.elements[*next]);
        let own_until = element.until.map_or(0, bit);
        let greedy = (element.condition.map_or(ALWAYS, bit), own_until);
        let last = element.most.unwrap_or(element.least);
        let (mut ends, mut inner) = (Vec::new(), Vec::new());
        if element.optional {
            let greedy = element.greedy.then_some(greedy);
            ends.extend(before.iter().map(|open| open.past(greedy, how)));
        }
        let (mut entering, mut how) = (before, how);
        entering.iter_mut().for_each(|open| open.until_first |= own_until);
        for number in 1..=last {
            *next = at;
            let loops = element.most.is_none() && number == last;
            let made = self.repetition(next, entering, how, until | own_until, loops, &mut inner)?;
            let goes_on = element.greedy && (loops || number < last);
            if number >= element.least {
                let exits = made.iter().map(|open| Open {
                    until,
                    until_first: open.until_first & !own_until,
                    greedy: if goes_on { Some(greedy) } else { open.greedy },
                    ..*open
                });
                ends.extend(exits);
            }
            (entering, how) = (made, element.repeated);
        }
        self.inner = if element.children == 0 { inner } else { Vec::new() };
        let mut distinct: Vec<Open> = Vec::new();
        for end in ends {
            if !distinct.contains(&end) {
                distinct.push(end);
            }
        }
        Ok(distinct)
    }

    /// One repetition of an element, which is followed by itself if it `loops`.
    fn repetition(
        &mut self,
        next: &mut usize,
        mut entering: Vec<Open>,
        how: Contiguity,
        until: Conditions,
        loops: bool,
        inner: &mut Vec<(u16, usize)>,
    ) -> Result<Vec<Open>, Refused> {
        let element = &self.elements[*next];
        let number = self.loops.len();
        if loops {
            let repeated = Open::new(From::Repetition(number), until);
            entering.push(Open {
                how: Some(element.repeated),
                ..repeated
            });
            self.loops.push(Vec::new());
        }
        *next += 1;
        let mut ends = match element.children {
            0 => vec![self.stage(*next - 1, entering, how, until, inner)?],
            children => self.sequence(next, children as usize, entering, how, until)?,
        };
        if !loops {
            return Ok(ends);
        }
        ends.retain(|open| open.from != From::Repetition(number));
        for joined in self.loops.pop().unwrap_or_default() {
            for end in &ends {
                let through = &joined.through;
                let open = Open {
                    from: end.from,
                    guards: end.guards | through.guards,
                    first: end.first | through.first,
                    greedy: both(end.greedy, through.greedy),
                    greedy_first: end.greedy_first | through.greedy_first,
                    until: end.until | through.until,
                    until_first: end.until_first | through.until_first,
                    how: None,
                };
                self.join(&open, joined.position, joined.how, joined.takes, inner)?;
            }
        }
        Ok(ends)
    }

    /// A position for a stage.
    fn stage(
        &mut self,
        element: usize,
        entering: Vec<Open>,
        how: Contiguity,
        until: Conditions,
        inner: &mut Vec<(u16, usize)>,
    ) -> Result<Open, Refused> {
        if self.positions.len() == POSITIONS_MAX {
            return Err(refused(format!(
                "the pattern has more than {POSITIONS_MAX} stages, repetitions counted one by one"
            )));
        }
        let position = self.positions.len() as u16;
        let takes = Takes {
            all: self.elements[element].condition.map_or(ALWAYS, bit),
            none: until,
        };
        self.positions.push(Position {
            stage: self.stages[element],
            edges: Vec::new(),
            initial: 0,
            accepts: false,
        });
        for open in entering {
            self.join(&open, position, open.how.unwrap_or(how), takes, inner)?;
        }
        Ok(Open::new(From::Position(position), until))
    }

    /// Joins a position to an open end.
    fn join(
        &mut self,
        open: &Open,
        position: u16,
        how: Contiguity,
        takes: Takes,
        inner: &mut Vec<(u16, usize)>,
    ) -> Result<(), Refused> {
        let pass_over = match how {
            Contiguity::Strict => PassOver::Nothing,
            Contiguity::Relaxed => PassOver::NotTaken,
            Contiguity::Any => PassOver::Anything,
        };
        let edge = Edge {
            target: Target::Position(position),
            take_all: takes.all,
            take_none: takes.none,
            guards: 0,
            pass_over,
            passed: 0,
            released: None,
        };
        match open.from {
            From::Start => {
                if !self.start.contains(&edge) {
                    self.start.push(edge);
                }
            }
            From::Repetition(number) => self.loops[number].push(Joined {
                through: open.clone(),
                position,
                how,
                takes,
            }),
            From::Position(from) => {
                let same_stage = self.positions[usize::from(from)].stage == self.positions[usize::from(position)].stage;
                if let (Some(edge), true) = (self.add(from, edge, open)?, same_stage) {
                    inner.push((from, edge));
                }
            }
        }
        Ok(())
    }

    /// Adds an edge, and what becomes of it when a row was passed over or a greedy repetition has ended; the number of
    /// its plainest form, if that is new.
    fn add(&mut self, from: u16, edge: Edge, open: &Open) -> Result<Option<usize>, Refused> {
        let position = &mut self.positions[usize::from(from)];
        let guards = open.guards | open.until | open.until_first;
        let own_first = open.first | open.greedy_first;
        let mut push = |guards, passed: Option<u8>, released| {
            let own = position.edges.len() as u8;
            position.edges.push(Edge {
                guards,
                passed: passed.unwrap_or(own),
                released,
                ..edge
            });
            own
        };
        let plain = match open.greedy {
            Some((_, 0)) => None,
            _ => Some(push(guards, None, None)),
        };
        let release = |to: Option<u8>| open.greedy.and_then(|(_, until)| Some((until, to?)));
        let greedy = open.greedy.map(|(takes, _)| push(guards | takes, None, release(plain)));
        let mut initial = greedy.or(plain);
        if own_first != 0 {
            let first = plain.map(|plain| push(guards | own_first, Some(plain), None));
            let both = open.greedy.zip(greedy);
            let both = both.map(|((takes, _), greedy)| push(guards | takes | own_first, Some(greedy), release(first)));
            initial = both.or(first);
        }
        let initial = initial.map_or(0, |edge| 1 << u32::from(edge).min(63));
        position.initial |= initial;
        if position.edges.len() > EDGES_MAX {
            return Err(refused(format!(
                "from stage `{}` the pattern can go on in more than {EDGES_MAX} ways",
                self.stage_names[usize::from(position.stage)]
            )));
        }
        Ok(plain.map(usize::from))
    }

    /// What is still open at the end of the pattern ends a match.
    fn finish(&mut self, ends: Vec<Open>, has_time: bool) -> Result<(), Refused> {
        for end in ends {
            let From::Position(from) = end.from else {
                continue;
            };
            if end.guards | end.first == 0 {
                self.positions[usize::from(from)].accepts = true;
                continue;
            }
            let waits = end.guards != 0;
            if waits && !has_time {
                return Err(refused(
                    "a pattern that can end with `not_followed_by` needs `within` or `within_gap`",
                ));
            }
            let edge = Edge {
                target: if waits { Target::Timeout } else { Target::Match },
                take_all: 0,
                take_none: 0,
                guards: 0,
                pass_over: if waits { PassOver::Anything } else { PassOver::Nothing },
                passed: 0,
                released: None,
            };
            let end = Open {
                greedy: None,
                greedy_first: 0,
                until_first: 0,
                ..end
            };
            if waits {
                self.add(from, edge, &end)?;
            } else {
                let guards = end.first;
                let end = Open {
                    first: 0,
                    guards,
                    ..end
                };
                self.add(from, edge, &end)?;
            }
        }
        Ok(())
    }
}
