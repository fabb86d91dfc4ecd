//! Patterns drawn from a seed. Another crate's tests include this file, so that names are those of both.

use millrace_pattern::{AfterMatch, Connection, Contiguity, PatternDecl, PatternElement, Program};

use crate::testing::Random;

pub(super) const CONDITIONS: u32 = 4;

fn element(random: &mut Random, number: usize, first: bool) -> PatternElement {
    let connections = [
        Connection::Next,
        Connection::FollowedBy,
        Connection::FollowedByAny,
        Connection::NotNext,
        Connection::NotFollowedBy,
    ];
    let connection = connections[random.below(if first { 3 } else { 5 }) as usize];
    let mut element = PatternElement {
        name: format!("s{number}"),
        connection,
        condition: Some(random.below(u64::from(CONDITIONS)) as u32),
        least: 1,
        most: Some(1),
        optional: false,
        repeated: [Contiguity::Strict, Contiguity::Relaxed, Contiguity::Any][random.below(3) as usize],
        greedy: false,
        until: None,
        children: 0,
    };
    if !element.is_taken() {
        return element;
    }
    element.optional = random.below(4) == 0;
    match random.below(5) {
        0 => element.most = None,
        1 => (element.least, element.most) = (2, None),
        2 => (element.least, element.most) = (1 + random.below(2) as u32, Some(2 + random.below(2) as u32)),
        _ => {}
    }
    element.greedy = element.most != Some(element.least) && random.below(3) == 0;
    if element.most.is_none() && random.below(3) == 0 {
        element.until = Some(random.below(u64::from(CONDITIONS)) as u32);
    }
    element
}

pub(super) fn pattern(random: &mut Random) -> PatternDecl {
    let mut elements = Vec::new();
    while elements.len() < 4 {
        if random.below(5) == 0 && elements.len() < 3 {
            let mut group = element(random, elements.len(), true);
            (group.condition, group.greedy, group.children) = (None, false, 2);
            group.most = group.most.map(|most| most.min(2)).filter(|_| random.below(2) == 0);
            group.least = 1;
            group.until = group.until.filter(|_| group.most.is_none());
            elements.push(group);
            elements.push(element(random, elements.len(), true));
            elements.push(element(random, elements.len(), false));
        } else {
            elements.push(element(random, elements.len(), elements.is_empty()));
        }
        if random.below(3) == 0 {
            break;
        }
    }
    let pattern = PatternDecl {
        elements,
        conditions: vec![false; CONDITIONS as usize],
        within_ms: (random.below(2) == 0).then(|| 2 + random.below(6) as i64),
        within_gap_ms: (random.below(4) == 0).then(|| 1 + random.below(4) as i64),
        after_match: AfterMatch::NoSkip,
        timeouts: false,
        late_port: None,
        partial_matches_max: 1_000_000,
        orders_equal_times: false,
    };
    let within_ms = Program::compile(&pattern).map_or(Some(4), |_| pattern.within_ms);
    PatternDecl { within_ms, ..pattern }
}
