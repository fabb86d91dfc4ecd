//! The graph for Mermaid, which wikis and code hosts draw.

use super::{Kind, View};

/// A Mermaid flowchart, chains as subgraphs.
pub fn render(view: &View) -> String {
    let mut text = "flowchart LR\n".to_owned();
    let mut grouped = vec![false; view.nodes.len()];
    for chain in 0..view.chains {
        let Some(members) = view.group(chain) else { continue };
        text += &format!("  subgraph chain{chain}[\"chain {chain}\"]\n");
        for node in members {
            grouped[node] = true;
            text += &format!("    {}\n", shape(view, node));
        }
        text += "  end\n";
    }
    for node in (0..view.nodes.len()).filter(|node| !grouped[*node]) {
        text += &format!("  {}\n", shape(view, node));
    }
    for link in &view.links {
        let arrow = if link.fused { "---" } else { "-->" };
        let label = if link.label.is_empty() {
            String::new()
        } else {
            format!("|\"{}\"|", escape(&link.label))
        };
        text += &format!("  n{} {arrow}{label} n{}\n", link.from, link.to);
    }
    text
}

fn shape(view: &View, node: usize) -> String {
    let it = &view.nodes[node];
    let label = format!("\"<b>{}</b><br/>{}\"", escape(&it.name), escape(&it.detail));
    match it.kind {
        Kind::Source => format!("n{node}([{label}])"),
        Kind::Sink => format!("n{node}[/{label}/]"),
        Kind::Watermarks => format!("n{node}{{{{{label}}}}}"),
        Kind::Function => format!("n{node}[{label}]"),
    }
}

/// Mermaid reads character references in quoted labels.
fn escape(text: &str) -> String {
    text.replace('&', "#amp;")
        .replace('"', "#quot;")
        .replace('<', "#lt;")
        .replace('>', "#gt;")
}
