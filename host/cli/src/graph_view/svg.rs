//! The graph as an SVG picture, left to right, by a small layered layout.
//!
//! Nodes stand in columns, each right of all its inputs; a link that crosses columns passes through an empty place
//! in each. Within a column places are ordered by the mean position of their neighbours, swept forth and back some
//! times, which removes most crossings (Sugiyama's method). Chains are drawn by thick links without arrowheads.

use super::{Kind, View};

const NODE_WIDTH: f64 = 228.0;
const NODE_HEIGHT: f64 = 56.0;
/// An empty place is as high as a label needs.
const EMPTY_HEIGHT: f64 = 20.0;
const COLUMN_GAP: f64 = 156.0;
const ROW_GAP: f64 = 26.0;
const MARGIN: f64 = 24.0;
const SWEEPS: usize = 12;
/// Longest detail that fits into a node, in characters of the smaller font.
const DETAIL_LENGTH: usize = 34;
const NAME_LENGTH: usize = 26;

/// Draws the picture.
pub fn render(view: &View) -> String {
    let layout = Layout::new(view);
    let (width, height) = layout.size();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\">\n\
         <title>{}</title>\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escape(&view.name)
    );
    for (link, path) in view.links.iter().zip(&layout.paths) {
        let stroke = if link.fused {
            "stroke-width=\"4\""
        } else {
            "stroke-width=\"1.5\" marker-end=\"url(#arrow)\""
        };
        text += &format!(
            "<path d=\"{}\" fill=\"none\" stroke=\"#555\" {stroke}/>\n",
            curve(&layout, path)
        );
        if !link.label.is_empty() {
            let (x, y) = (
                layout.right(path[0]) + COLUMN_GAP / 2.0,
                layout.middle_between(path[0], path[1]) - 5.0,
            );
            text += &format!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" text-anchor=\"middle\" fill=\"#333\" \
                 stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{}</text>\n",
                escape(&link.label)
            );
        }
    }
    for (node, it) in view.nodes.iter().enumerate() {
        let place = &layout.places[node];
        let (fill, radius) = match it.kind {
            Kind::Source => ("#d9efe0", 28.0),
            Kind::Sink => ("#dfe6f7", 28.0),
            Kind::Watermarks => ("#f6ecd2", 6.0),
            Kind::Function => ("#f3f3f3", 6.0),
        };
        let (x, y, center) = (place.x, place.y, place.x + NODE_WIDTH / 2.0);
        text += &format!(
            "<g><title>{} ({})</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{NODE_WIDTH}\" height=\"{NODE_HEIGHT}\" \
             rx=\"{radius}\" fill=\"{fill}\" stroke=\"#555\"/>\
             <text x=\"{center:.1}\" y=\"{:.1}\" font-size=\"14\" font-weight=\"bold\" text-anchor=\"middle\">{}</text>\
             <text x=\"{center:.1}\" y=\"{:.1}\" font-size=\"11\" text-anchor=\"middle\" fill=\"#333\">{}</text></g>\n",
            escape(&it.name),
            escape(&it.detail),
            y + 24.0,
            escape(&clip(&it.name, NAME_LENGTH)),
            y + 42.0,
            escape(&clip(&it.detail, DETAIL_LENGTH)),
        );
    }
    text + "</svg>\n"
}

/// A node, or an empty place that a link passes through.
#[derive(Debug, Clone)]
struct Place {
    column: usize,
    height: f64,
    x: f64,
    y: f64,
}

struct Layout {
    /// The view's nodes, then the empty places.
    places: Vec<Place>,
    /// For each link, the places from its sender to its receiver.
    paths: Vec<Vec<usize>>,
}

impl Layout {
    fn new(view: &View) -> Self {
        let layers = view.layers();
        let place = |column, height| Place {
            column,
            height,
            x: MARGIN + column as f64 * (NODE_WIDTH + COLUMN_GAP),
            y: 0.0,
        };
        let mut places: Vec<Place> = layers.iter().map(|layer| place(*layer, NODE_HEIGHT)).collect();
        let mut paths = Vec::new();
        for link in &view.links {
            let mut path = vec![link.from];
            for column in layers[link.from] + 1..layers[link.to] {
                path.push(places.len());
                places.push(place(column, EMPTY_HEIGHT));
            }
            path.push(link.to);
            paths.push(path);
        }
        let mut layout = Layout { places, paths };
        let columns = layout.ordered_columns();
        layout.stack(&columns);
        layout
    }

    /// Places of each column from top to bottom: of the orders that the sweeps go through, the one with the fewest
    /// crossings.
    fn ordered_columns(&self) -> Vec<Vec<usize>> {
        let count = self.places.iter().map(|place| place.column + 1).max().unwrap_or(0);
        let mut columns: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (index, place) in self.places.iter().enumerate() {
            columns[place.column].push(index);
        }
        let steps = self
            .paths
            .iter()
            .flat_map(|path| path.windows(2).map(|pair| (pair[0], pair[1])));
        let steps: Vec<(usize, usize)> = steps.collect();
        let mut heights = vec![0.0; self.places.len()];
        for column in &columns {
            set_heights(column, &mut heights);
        }
        let mut best = (self.crossings(&steps, &heights), columns.clone());
        for sweep in 0..SWEEPS {
            let forth = sweep % 2 == 0;
            for step in 0..count {
                let column = &mut columns[if forth { step } else { count - 1 - step }];
                sort_by_neighbours(column, &steps, &mut heights, forth);
            }
            let crossings = self.crossings(&steps, &heights);
            if crossings < best.0 {
                best = (crossings, columns.clone());
            }
        }
        best.1
    }

    /// Pairs of steps between the same columns that cross.
    fn crossings(&self, steps: &[(usize, usize)], heights: &[f64]) -> usize {
        let cross = |a: &(usize, usize), b: &(usize, usize)| {
            self.places[a.0].column == self.places[b.0].column
                && (heights[a.0] - heights[b.0]) * (heights[a.1] - heights[b.1]) < 0.0
        };
        let pairs = steps.iter().enumerate();
        pairs
            .map(|(index, a)| steps[..index].iter().filter(|b| cross(a, b)).count())
            .sum()
    }

    /// Gives each place its height on the page, columns centred.
    fn stack(&mut self, columns: &[Vec<usize>]) {
        let heights: Vec<f64> = columns
            .iter()
            .map(|column| {
                let places: f64 = column.iter().map(|place| self.places[*place].height + ROW_GAP).sum();
                (places - ROW_GAP).max(0.0)
            })
            .collect();
        let highest = heights.iter().copied().fold(0.0, f64::max);
        for (column, height) in columns.iter().zip(&heights) {
            let mut y = MARGIN + (highest - height) / 2.0;
            for place in column {
                self.places[*place].y = y;
                y += self.places[*place].height + ROW_GAP;
            }
        }
    }

    fn size(&self) -> (f64, f64) {
        let right = self.places.iter().map(|place| place.x + NODE_WIDTH).fold(0.0, f64::max);
        let bottom = self
            .places
            .iter()
            .map(|place| place.y + place.height)
            .fold(0.0, f64::max);
        (right + MARGIN, bottom + MARGIN)
    }

    fn middle(&self, place: usize) -> f64 {
        self.places[place].y + self.places[place].height / 2.0
    }

    fn middle_between(&self, a: usize, b: usize) -> f64 {
        f64::midpoint(self.middle(a), self.middle(b))
    }

    fn right(&self, place: usize) -> f64 {
        self.places[place].x + NODE_WIDTH
    }
}

/// Orders a column by the mean height of each place's neighbours on the side that the sweep comes from; a place
/// without any stays where it is.
fn sort_by_neighbours(column: &mut Vec<usize>, steps: &[(usize, usize)], heights: &mut [f64], forth: bool) {
    let wanted = |place: usize| {
        let neighbours = steps.iter().filter_map(|(from, to)| match forth {
            true => (*to == place).then_some(*from),
            false => (*from == place).then_some(*to),
        });
        let (sum, count) = neighbours.fold((0.0, 0), |(sum, count), neighbour| {
            (sum + heights[neighbour], count + 1)
        });
        if count == 0 {
            heights[place]
        } else {
            sum / f64::from(count)
        }
    };
    let mut keyed: Vec<(f64, usize)> = column.iter().map(|place| (wanted(*place), *place)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    *column = keyed.into_iter().map(|(_, place)| place).collect();
    set_heights(column, heights);
}

/// Heights of a column's places between 0 and 1, so that columns of different length can be compared.
fn set_heights(column: &[usize], heights: &mut [f64]) {
    for (position, place) in column.iter().enumerate() {
        heights[*place] = (position as f64 + 0.5) / column.len() as f64;
    }
}

/// A smooth line through the places of a path, level at each of them.
fn curve(layout: &Layout, path: &[usize]) -> String {
    let mut text = format!("M{:.1} {:.1}", layout.right(path[0]), layout.middle(path[0]));
    for pair in path.windows(2) {
        let (x0, y0) = (layout.right(pair[0]), layout.middle(pair[0]));
        let (x1, y1) = (layout.places[pair[1]].x, layout.middle(pair[1]));
        let bend = f64::midpoint(x0, x1);
        text += &format!("C{bend:.1} {y0:.1} {bend:.1} {y1:.1} {x1:.1} {y1:.1}");
        if Some(&pair[1]) != path.last() {
            text += &format!("H{:.1}", layout.right(pair[1]));
        }
    }
    text
}

fn clip(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept: String = text.chars().take(length - 1).collect();
    format!("{kept}…")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
