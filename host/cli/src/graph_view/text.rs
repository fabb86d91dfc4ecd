//! The graph as an indented tree for a terminal, sources first.
//!
//! An operator with several inputs is drawn below the first and named below the others.

use super::{Kind, Link, View};

/// Draws the tree.
pub fn render(view: &View) -> String {
    let mut tree = Tree {
        view,
        drawn: vec![false; view.nodes.len()],
        text: format!("{}\n", view.name),
    };
    let has_input = |node: usize| view.links.iter().any(|link| link.to == node);
    let roots: Vec<usize> = (0..view.nodes.len()).filter(|node| !has_input(*node)).collect();
    // The nodes of a cycle, which is no valid graph, have no root; they are drawn all the same.
    for node in roots.into_iter().chain(0..view.nodes.len()) {
        if !tree.drawn[node] {
            tree.node(node, "", "", "");
        }
    }
    tree.text
}

struct Tree<'a> {
    view: &'a View,
    drawn: Vec<bool>,
    text: String,
}

impl Tree<'_> {
    /// Draws a node and what is below it. `branch` leads to its line, `indent` to the lines below.
    fn node(&mut self, node: usize, branch: &str, indent: &str, label: &str) {
        let Self { view, .. } = *self;
        let it = &view.nodes[node];
        if self.drawn[node] {
            self.text += &format!("{branch}{label}{} (see above)\n", it.name);
            return;
        }
        self.drawn[node] = true;
        self.text += &format!("{branch}{label}{} {}  ({})\n", symbol(it.kind), it.name, it.detail);
        let links: Vec<&Link> = view.links.iter().filter(|link| link.from == node).collect();
        for (position, link) in links.iter().enumerate() {
            let last = position + 1 == links.len();
            let branch = match (last, link.fused) {
                (true, true) => "└╴",
                (true, false) => "└─",
                (false, true) => "├╴",
                (false, false) => "├─",
            };
            let below = if last { "   " } else { "│  " };
            let label = if link.label.is_empty() {
                String::new()
            } else {
                format!("[{}] ", link.label)
            };
            self.node(
                link.to,
                &format!("{indent}{branch} "),
                &format!("{indent}{below}"),
                &label,
            );
        }
    }
}

fn symbol(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "▶",
        Kind::Sink => "■",
        Kind::Watermarks => "◷",
        Kind::Function => "λ",
    }
}
