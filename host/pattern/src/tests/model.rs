//! What a pattern means, by definition: all ways to write it out as a plain list of stages, and of each list all rows that
//! fit. There is no automaton in it, and it takes exponential time.

use crate::{Conditions, Connection, Contiguity, PatternDecl, PatternElement};

/// A row: which conditions hold of it, and when it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) holds: Conditions,
    pub(super) time: i64,
}

/// A stage of a pattern that is written out.
#[derive(Debug, Clone)]
struct Step {
    stage: usize,
    condition: u32,
    how: Contiguity,
    /// None of these holds of the row.
    not: Vec<u32>,
    /// None of these holds of rows since the step before, this one included.
    between: Vec<u32>,
    /// None of these holds of the first row since the step before.
    first: Vec<u32>,
    /// A greedy repetition before it would have taken such rows, until one of the other kind came.
    greedy: Vec<(u32, Option<u32>)>,
}

/// What is left open behind a list of steps.
#[derive(Debug, Clone, Default)]
struct Tail {
    between: Vec<u32>,
    first: Vec<u32>,
    /// The same, of greedy stages that were left out.
    greedy_first: Vec<u32>,
    greedy: Vec<(u32, Option<u32>)>,
    /// What ends the repetition that goes on.
    until: Vec<u32>,
}

/// A match: stage and row of each step, and the row or time at which it is complete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Match {
    pub(super) start: usize,
    /// Rows that had come when it was complete.
    pub(super) complete: usize,
    pub(super) steps: Vec<(usize, usize)>,
}

type Written = (Vec<Step>, Tail);

struct Writer<'p> {
    elements: &'p [PatternElement],
    steps_max: usize,
}

impl Writer<'_> {
    fn size(&self, at: usize) -> usize {
        let mut next = at + 1;
        for _ in 0..self.elements[at].children {
            next += self.size(next);
        }
        next - at
    }

    /// The elements of a list, behind what was written.
    fn sequence(&self, list: &[usize], head: Contiguity, before: Written, until: &[u32]) -> Vec<Written> {
        let mut all = vec![before];
        for (number, &at) in list.iter().enumerate() {
            let element = &self.elements[at];
            let how = match element.connection {
                _ if number == 0 => head,
                Connection::Next => Contiguity::Strict,
                Connection::FollowedBy => Contiguity::Relaxed,
                Connection::FollowedByAny => Contiguity::Any,
                Connection::NotNext => {
                    all.iter_mut()
                        .for_each(|(_, tail)| tail.first.extend(element.condition));
                    continue;
                }
                Connection::NotFollowedBy => {
                    let taken = list[..number].iter().rev().find(|at| self.elements[**at].is_taken());
                    let stage = taken.and_then(|at| self.stage(*at));
                    for (steps, tail) in &mut all {
                        tail.between.extend(element.condition);
                        // Nor between the repetitions before it.
                        let run = steps.iter().rev().take_while(|step| Some(step.stage) == stage).count();
                        let from = steps.len() - run + 1;
                        if run > 0 {
                            steps[from..]
                                .iter_mut()
                                .for_each(|step| step.between.extend(element.condition));
                        }
                    }
                    continue;
                }
            };
            all = all
                .into_iter()
                .flat_map(|before| self.element(at, how, before, until))
                .collect();
        }
        all
    }

    fn stage(&self, at: usize) -> Option<usize> {
        (self.elements[at].children == 0).then_some(at)
    }

    fn element(&self, at: usize, how: Contiguity, before: Written, until: &[u32]) -> Vec<Written> {
        let element = &self.elements[at];
        let mut all = Vec::new();
        if element.optional {
            let (steps, mut tail) = before.clone();
            if element.greedy {
                let same = tail.greedy.iter().all(|(_, until)| *until == element.until);
                match how {
                    Contiguity::Strict if element.until.is_none() => tail.greedy_first.extend(element.condition),
                    Contiguity::Relaxed | Contiguity::Any if same => {
                        tail.greedy.push((element.condition.unwrap(), element.until));
                    }
                    Contiguity::Strict | Contiguity::Relaxed | Contiguity::Any => {}
                }
            }
            all.push((steps, tail));
        }
        let inside = until.iter().copied().chain(element.until).collect::<Vec<_>>();
        let (steps, mut tail) = before;
        // Nor does a row that ends the repetitions come before the first.
        tail.until.extend(element.until);
        let mut made = vec![(steps, tail)];
        let most = element.most.unwrap_or(u32::MAX);
        for number in 1..=most {
            let how = if number == 1 { how } else { element.repeated };
            let once = |before: Written| {
                let steps = before.0.len();
                let mut once = self.once(at, how, before, &inside);
                // Repetitions of nothing add nothing.
                once.retain(|(after, _)| number <= element.least || after.len() > steps);
                once
            };
            made = made.into_iter().flat_map(once).collect();
            made.retain(|(steps, _)| steps.len() <= self.steps_max);
            if made.is_empty() {
                break;
            }
            for (steps, tail) in &mut made {
                if !steps.is_empty() {
                    tail.until.clone_from(&inside);
                }
            }
            if number >= element.least {
                let greedy = element.greedy && number < most;
                all.extend(made.iter().cloned().map(|(steps, mut tail)| {
                    tail.until = until.to_vec();
                    if greedy {
                        tail.greedy = vec![(element.condition.unwrap(), element.until)];
                    }
                    (steps, tail)
                }));
            }
        }
        all
    }

    fn once(&self, at: usize, how: Contiguity, before: Written, until: &[u32]) -> Vec<Written> {
        let element = &self.elements[at];
        if element.children > 0 {
            let mut list = vec![at + 1];
            for _ in 1..element.children {
                let last = *list.last().unwrap();
                list.push(last + self.size(last));
            }
            return self.sequence(&list, how, before, until);
        }
        let (mut steps, tail) = before;
        let starts = steps.is_empty();
        let keep = |of: Vec<u32>| if starts { Vec::new() } else { of };
        let between = tail.between.into_iter().chain(tail.until).collect();
        steps.push(Step {
            stage: at,
            condition: element.condition.unwrap(),
            how,
            not: until.to_vec(),
            between: keep(between),
            first: keep(tail.first.into_iter().chain(tail.greedy_first).collect()),
            greedy: tail.greedy,
        });
        let tail = Tail {
            until: until.to_vec(),
            ..Tail::default()
        };
        vec![(steps, tail)]
    }
}

fn has(row: &Row, condition: u32) -> bool {
    row.holds >> condition & 1 == 1
}

fn has_none(row: &Row, conditions: &[u32]) -> bool {
    conditions.iter().all(|condition| !has(row, *condition))
}

/// Whether rows `last + 1 ..= row` may lie between two steps, of which the second takes the last of them.
fn joins(rows: &[Row], last: usize, row: usize, step: &Step) -> bool {
    let lets_pass = |(condition, until): &(u32, Option<u32>)| {
        let mut released = false;
        rows[last + 1..=row].iter().all(|between| {
            released |= until.is_some_and(|until| has(between, until));
            released || !has(between, *condition)
        })
    };
    let greedy = step.greedy.iter().all(lets_pass);
    let takes = |row: &Row| has(row, step.condition) && has_none(row, &step.not);
    let contiguous = match step.how {
        Contiguity::Strict => row == last + 1,
        Contiguity::Relaxed => !rows[last + 1..row].iter().any(takes),
        Contiguity::Any => true,
    };
    greedy
        && contiguous
        && rows[last + 1..=row]
            .iter()
            .all(|between| has_none(between, &step.between))
        && has_none(&rows[last + 1], &step.first)
}

/// All rows that fit a list of steps, from the next step on.
fn assign(rows: &[Row], steps: &[Step], taken: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
    let Some(step) = steps.get(taken.len()) else {
        all.push(taken.clone());
        return;
    };
    let from = taken.last().map_or(0, |last| last + 1);
    for row in from..rows.len() {
        let fits = has(&rows[row], step.condition) && has_none(&rows[row], &step.not);
        if fits && taken.last().is_none_or(|&last| joins(rows, last, row, step)) {
            taken.push(row);
            assign(rows, steps, taken, all);
            taken.pop();
        }
    }
}

/// All matches in these rows, after which time goes on for ever.
pub(super) fn matches(pattern: &PatternDecl, rows: &[Row]) -> Vec<Match> {
    let writer = Writer {
        elements: &pattern.elements,
        steps_max: rows.len(),
    };
    let mut list = vec![0];
    while let Some(next) = list.last().map(|last| last + writer.size(*last)) {
        if next >= pattern.elements.len() {
            break;
        }
        list.push(next);
    }
    let mut all = Vec::new();
    for (steps, tail) in writer.sequence(&list, Contiguity::Any, Written::default(), &[]) {
        let mut assigned = Vec::new();
        if !steps.is_empty() {
            assign(rows, &steps, &mut Vec::new(), &mut assigned);
        }
        all.extend(
            assigned
                .into_iter()
                .filter_map(|taken| finish(pattern, rows, &steps, &tail, taken)),
        );
    }
    all.sort();
    all.dedup();
    all
}

fn finish(pattern: &PatternDecl, rows: &[Row], steps: &[Step], tail: &Tail, taken: Vec<usize>) -> Option<Match> {
    let (start, last) = (*taken.first()?, *taken.last()?);
    let over = pattern.within_ms.map(|within| rows[start].time + within);
    let gap_over = pattern.within_gap_ms.map(|gap| rows[last].time + gap);
    let over = over.into_iter().chain(gap_over).min();
    let follows = |rows_of: &[usize]| {
        let gap = rows[rows_of[1]].time - rows[rows_of[0]].time;
        pattern.within_gap_ms.is_none_or(|most| gap < most)
    };
    if !taken.windows(2).all(follows) {
        return None;
    }
    let in_time = |row: usize| over.is_none_or(|over| rows[row].time < over);
    let mut complete = last + 1;
    if !in_time(last) {
        return None;
    }
    if !tail.between.is_empty() {
        let rest = last + 1..rows.len();
        let quiet = rest
            .clone()
            .filter(|row| in_time(*row))
            .all(|row| has_none(&rows[row], &tail.between));
        let first = rest.clone().next().filter(|row| in_time(*row));
        let first = first.is_none_or(|row| has_none(&rows[row], &tail.first));
        complete = { rest }.rfind(|row| in_time(*row)).map_or(last + 1, |row| row + 1);
        if !quiet || !first {
            return None;
        }
    } else if !tail.first.is_empty() {
        let next = rows.get(last + 1).filter(|_| in_time(last + 1))?;
        complete = last + 2;
        if !has_none(next, &tail.first) {
            return None;
        }
    }
    let steps = steps.iter().map(|step| step.stage).zip(taken).collect();
    Some(Match { start, complete, steps })
}
