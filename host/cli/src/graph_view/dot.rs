//! The graph for Graphviz.

use super::{Kind, View};

/// A digraph, chains as clusters: `jobctl inspect --graph dot x.wasm | dot -Tpng`.
pub fn render(view: &View) -> String {
    let mut text = format!("digraph {} {{\n", quote(&view.name));
    text += "  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\"];\n";
    for node in 0..view.nodes.len() {
        let it = &view.nodes[node];
        let shape = match it.kind {
            Kind::Source => ", shape=cds",
            Kind::Sink => ", shape=folder",
            Kind::Watermarks => ", shape=hexagon",
            Kind::Function => "",
        };
        text += &format!(
            "  n{node} [label={}{shape}];\n",
            quote(&format!("{}\n{}", it.name, it.detail))
        );
    }
    for chain in 0..view.chains {
        let Some(members) = view.group(chain) else { continue };
        let members: Vec<String> = members.iter().map(|node| format!("n{node};")).collect();
        text += &format!(
            "  subgraph cluster_{chain} {{ label=\"chain {chain}\"; style=dashed; {} }}\n",
            members.join(" ")
        );
    }
    for link in &view.links {
        let mut attributes = Vec::new();
        if !link.label.is_empty() {
            attributes.push(format!("label={}", quote(&link.label)));
        }
        if link.fused {
            attributes.push("arrowhead=none".to_owned());
        }
        let attributes = if attributes.is_empty() {
            String::new()
        } else {
            format!(" [{}]", attributes.join(", "))
        };
        text += &format!("  n{} -> n{}{attributes};\n", link.from, link.to);
    }
    text + "}\n"
}

/// A string of the DOT language.
fn quote(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
    )
}
