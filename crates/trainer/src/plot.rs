//! A scatter plot as one self-contained SVG: named points with error bars, named reference lines, titled axes.
//!
//! Colours are attributes that stand on a white ground; viewers that know style sheets and a dark mode get the dark pair. Names are set
//! beside their points where nothing else is, else further away with a thin line to the point.

use std::fmt::Write as _;

use crate::report::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
/// The plotting area inside the picture.
const AREA: Rectangle = Rectangle { left: 72.0, top: 44.0, right: WIDTH - 24.0, bottom: HEIGHT - 58.0 };
const FONT: f64 = 12.0;
/// Width of a letter, on the wide side: fonts differ between viewers.
const LETTER: f64 = 0.58 * FONT;
const RADIUS: f64 = 5.0;
/// Half the width of the end of an error bar.
const CAP: f64 = 4.0;
/// Middle tones, legible on white and on black; names stand beside the points, so colour carries nothing alone.
const COLOURS: [&str; 8] = ["#2f7fd6", "#d9602f", "#2a9d62", "#a45fd0", "#b8862b", "#d14b7f", "#3f93a8", "#7f8790"];

/// A named point; `spread` is half the length of its error bar.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) spread: Option<f64>,
}

/// What is plotted. Points and lines that are not finite are left out; x starts at 0.
#[derive(Clone, Debug)]
pub(crate) struct Scatter {
    pub(crate) title: String,
    pub(crate) x_title: String,
    pub(crate) y_title: String,
    pub(crate) points: Vec<Point>,
    /// Dashed horizontal lines: name and y.
    pub(crate) lines: Vec<(String, f64)>,
}

/// In pixels, y downwards.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rectangle {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rectangle {
    fn around(x: f64, y: f64, half_width: f64, half_height: f64) -> Self {
        Self { left: x - half_width, top: y - half_height, right: x + half_width, bottom: y + half_height }
    }

    /// Area in common.
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        if width > 0.0 && height > 0.0 { width * height } else { 0.0 }
    }

    /// Area outside of `other`.
    fn outside(&self, other: &Self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top) - self.overlap(other)
    }
}

/// Round marks of an axis: the first at or above `low`, the distance, one of 1, 2 or 5 times a power of ten.
fn marks(low: f64, high: f64, about: f64) -> (Vec<f64>, usize) {
    let rough = (high - low) / about;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
    ((first..=last).map(|mark| mark as f64 * step).collect(), decimals)
}

/// Places of names that were set, and of everything a name must not cover.
struct Taken(Vec<Rectangle>);

impl Taken {
    /// Takes the best of the centres for a text: the first that covers nothing and lies inside, else the one that covers least.
    fn set(&mut self, text: &str, centres: &[(f64, f64)]) -> (usize, (f64, f64)) {
        let half = text.chars().count() as f64 * LETTER / 2.0;
        let boxes = centres.iter().map(|&(x, y)| Rectangle::around(x, y, half, FONT * 0.6));
        let cost = |place: &Rectangle| self.0.iter().map(|taken| place.overlap(taken)).sum::<f64>() + 4.0 * place.outside(&AREA);
        let best = boxes.map(|place| (cost(&place), place)).enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0));
        let Some((chosen, (_, place))) = best else { return (0, (0.0, 0.0)) };
        self.0.push(place);
        (chosen, centres[chosen])
    }
}

impl Scatter {
    /// The picture. An empty one, axes and all, when there is nothing to plot.
    pub(crate) fn svg(&self) -> String {
        let points: Vec<&Point> = self.points.iter().filter(|point| point.x.is_finite() && point.y.is_finite()).collect();
        let lines: Vec<&(String, f64)> = self.lines.iter().filter(|line| line.1.is_finite()).collect();
        let most = points.iter().map(|point| point.x).fold(0.0, f64::max);
        let most = if most > 0.0 { most * 1.12 } else { 1.0 };
        let ends =
            points.iter().flat_map(|point| [point.y - spread(point), point.y + spread(point)]).chain(lines.iter().map(|line| line.1));
        let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let margin = ((high - low) * 0.08).max(1e-6);
        let (low, high) = (if low >= 0.0 { (low - margin).max(0.0) } else { low - margin }, high + margin);
        let place = |x: f64, y: f64| {
            let across = AREA.left + x / most * (AREA.right - AREA.left);
            (across, AREA.bottom - (y - low) / (high - low) * (AREA.bottom - AREA.top))
        };

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"dredge-plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
             font-family=\"system-ui, sans-serif\" font-size=\"{FONT}\">\n<title>{}</title>\n<style>@media (prefers-color-scheme: dark) {{ \
             .dredge-plot .paper {{ fill: #15181c }} .dredge-plot .ink {{ fill: #d5dae0 }} .dredge-plot .axis {{ stroke: #8a929b }} .dredge-plot .grid {{ stroke: #2c323a }} }}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n",
            escape(&self.title)
        );
        self.axes(&mut svg, (low, high), most, &place);
        let mut taken = Taken(Vec::new());
        for point in &points {
            let (x, y) = place(point.x, point.y);
            let (_, top) = place(point.x, point.y + spread(point));
            let reach = (y - top).max(RADIUS);
            taken.0.push(Rectangle::around(x, y, RADIUS + 1.0, reach + 1.0));
        }
        for (name, y) in &lines {
            let (_, height) = place(0.0, *y);
            let half = name.chars().count() as f64 * LETTER / 2.0;
            let (right, left) = (AREA.right - half - 4.0, AREA.left + half + 4.0);
            let centres: Vec<(f64, f64)> =
                [right, left, (left + right) / 2.0].iter().flat_map(|&x| [(x, height - 8.0), (x, height + 9.0)]).collect();
            let (_, centre) = taken.set(name, &centres);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{:.1}\" y1=\"{height:.1}\" x2=\"{:.1}\" y2=\"{height:.1}\" stroke=\"#6b7480\" stroke-dasharray=\"5 4\"/>",
                AREA.left, AREA.right
            );
            text(&mut svg, centre, name);
        }
        for (number, point) in points.iter().enumerate() {
            mark(&mut svg, point, COLOURS[number % COLOURS.len()], &place);
        }
        for point in &points {
            name(&mut svg, &mut taken, &point.name, place(point.x, point.y));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn axes(&self, svg: &mut String, (low, high): (f64, f64), most: f64, place: &dyn Fn(f64, f64) -> (f64, f64)) {
        let Rectangle { left, top, right, bottom } = AREA;
        let (rows, decimals) = marks(low, high, 6.0);
        for y in rows {
            let (_, height) = place(0.0, y);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{height:.1}\" x2=\"{right}\" y2=\"{height:.1}\" stroke=\"#e3e7eb\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"ink\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#24292f\">{y:.decimals$}</text>",
                left - 7.0,
                height + 4.0
            );
        }
        let (columns, decimals) = marks(0.0, most, 7.0);
        for x in columns {
            let (across, _) = place(x, low);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{across:.1}\" y1=\"{bottom}\" x2=\"{across:.1}\" y2=\"{}\" stroke=\"#6b7480\"/>\
                 <text class=\"ink\" x=\"{across:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#24292f\">{x:.decimals$}</text>",
                bottom + 5.0,
                bottom + 19.0
            );
        }
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#6b7480\"/>");
        let (middle, centre) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<text class=\"ink\" x=\"{middle}\" y=\"24\" text-anchor=\"middle\" font-size=\"15\" fill=\"#24292f\">{}</text>\n\
             <text class=\"ink\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\" fill=\"#24292f\">{}</text>\n\
             <text class=\"ink\" transform=\"translate(20 {centre}) rotate(-90)\" text-anchor=\"middle\" fill=\"#24292f\">{}</text>",
            escape(&self.title),
            HEIGHT - 16.0,
            escape(&self.x_title),
            escape(&self.y_title)
        );
    }
}

fn spread(point: &Point) -> f64 {
    point.spread.filter(|spread| spread.is_finite()).unwrap_or(0.0)
}

/// The point and its error bar.
fn mark(svg: &mut String, point: &Point, colour: &str, place: &dyn Fn(f64, f64) -> (f64, f64)) {
    let (x, y) = place(point.x, point.y);
    if spread(point) > 0.0 {
        let (_, top) = place(point.x, point.y + spread(point));
        let bottom = 2.0 * y - top;
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}M{:.1} {top:.1}h{}M{:.1} {bottom:.1}h{}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            x - CAP,
            2.0 * CAP,
            x - CAP,
            2.0 * CAP
        );
    }
    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\" fill=\"{colour}\"/>");
}

/// The name of the point at (x, y), where it covers least.
fn name(svg: &mut String, taken: &mut Taken, name: &str, (x, y): (f64, f64)) {
    let half = name.chars().count() as f64 * LETTER / 2.0;
    let beside = RADIUS + 5.0 + half;
    let mut centres = vec![(x + beside, y), (x - beside, y), (x, y - 15.0), (x, y + 16.0)];
    let near = centres.len();
    for ring in 1..=5 {
        let rise = 15.0 + 15.0 * f64::from(ring);
        for side in [1.0, -1.0] {
            centres.extend([(x + side * (beside + 10.0), y - rise), (x + side * (beside + 10.0), y + rise)]);
        }
    }
    let (chosen, centre) = taken.set(name, &centres);
    if chosen >= near {
        // To the end of the name that is nearer to the point.
        let end = centre.0 - (centre.0 - x).signum() * (half + 2.0);
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{end:.1}\" y2=\"{:.1}\" stroke=\"#6b7480\" stroke-width=\"0.7\"/>",
            centre.1
        );
    }
    text(svg, centre, name);
}

fn text(svg: &mut String, (x, y): (f64, f64), text: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"ink\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#24292f\">{}</text>",
        y + FONT * 0.35,
        escape(text)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scatter(points: Vec<Point>) -> Scatter {
        Scatter {
            title: "a < b".into(),
            x_title: "seconds".into(),
            y_title: "nDCG@10".into(),
            points,
            lines: vec![("BM25".into(), 0.2), ("untrained".into(), 0.19)],
        }
    }

    fn point(name: &str, x: f64, y: f64) -> Point {
        Point { name: name.into(), x, y, spread: Some(0.01) }
    }

    /// Boxes of the names in a picture, from their middles and lengths.
    fn names(svg: &str, wanted: &[&str]) -> Vec<Rectangle> {
        let attribute = |line: &str, key: &str| -> f64 {
            line.split(&format!(" {key}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap().parse().unwrap()
        };
        let found = |name: &&&str| {
            let line =
                svg.lines().find(|line| line.starts_with("<text") && line.contains(&format!(">{name}</text>"))).expect("it is named");
            Rectangle::around(attribute(line, "x"), attribute(line, "y") - FONT * 0.35, name.len() as f64 * LETTER / 2.0, FONT * 0.6)
        };
        wanted.iter().map(|name| found(&name)).collect()
    }

    #[test]
    fn axes_have_round_marks() {
        assert_eq!(marks(0.0, 10.0, 6.0), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 0));
        let (values, decimals) = marks(0.013, 0.131, 6.0);
        assert_eq!((values.len(), decimals), (6, 2), "{values:?}");
        assert!((values[0] - 0.02).abs() < 1e-12 && (values[5] - 0.12).abs() < 1e-12, "{values:?}");
        assert_eq!(marks(0.0, 1234.0, 7.0).0, [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0, 1200.0]);
    }

    #[test]
    fn names_lie_inside_and_cover_nothing_even_where_points_crowd() {
        let all = ["in-batch", "ance", "static-dense", "random", "bm25", "adore", "rocketqa", "nv-retriever"];
        for spacing in [0.0, 0.002, 0.02] {
            let points = all.iter().enumerate().map(|(i, name)| point(name, 120.0, 0.4 + spacing * i as f64)).collect();
            let svg = scatter(points).svg();
            let mut wanted = all.to_vec();
            wanted.extend(["BM25", "untrained"]);
            let boxes = names(&svg, &wanted);
            for (i, one) in boxes.iter().enumerate() {
                assert!(one.outside(&AREA) < 1.0, "{} leaves the plot: {one:?}", wanted[i]);
                for (j, other) in boxes.iter().enumerate().take(i) {
                    assert!(one.overlap(other) < 1.0, "spacing {spacing}: {} covers {}", wanted[i], wanted[j]);
                }
            }
        }
    }

    #[test]
    fn a_plot_holds_points_bars_titles_and_a_dark_mode_and_escapes_names() {
        let svg = scatter(vec![point("a&b", 10.0, 0.5), Point { spread: None, ..point("plain", 20.0, 0.6) }]).svg();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert_eq!(svg.matches("stroke-width=\"1.5\"").count(), 1, "one error bar");
        assert_eq!(svg.matches("stroke-dasharray").count(), 2);
        for part in ["a&amp;b", "a &lt; b", "seconds", "nDCG@10", "prefers-color-scheme: dark", "xmlns=\"http://www.w3.org/2000/svg\""] {
            assert!(svg.contains(part), "{part} is missing in {svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn odd_figures_still_make_a_picture() {
        let odd = vec![point("x", f64::NAN, 0.1), point("y", 0.0, 0.0), Point { spread: Some(f64::NAN), ..point("z", 0.0, 0.0) }];
        for points in [odd, Vec::new()] {
            let mut scatter = scatter(points);
            scatter.lines.clear();
            let svg = scatter.svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.ends_with("</svg>\n"), "{svg}");
        }
    }
}
