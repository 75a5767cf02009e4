//! Plots as inline SVG: lines, stems and marks on two axes.
//!
//! Pure. Every text goes through [`escape`]; what has no value is a gap, never a zero. The drawing is laid out for a
//! phone's width and scales up.

use super::{escape, put, ticks};
use crate::metrics::significant;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 240.0;
/// Room for the name of the y axis.
const TOP: f64 = 24.0;
/// Room for the numbers and the name of the x axis.
const BOTTOM: f64 = 38.0;
const RIGHT_MIN: f64 = 24.0;
/// About the width of a character.
const CHARACTER: f64 = 6.8;
/// Least distance between the names of two lines.
const NAME_HEIGHT: f64 = 13.0;
/// A line with no more points than this has them drawn as dots.
const DOTTED_MAX: usize = 12;
/// Most places with a tooltip: more would be narrower than a pointer.
const TOOLTIPS_MAX: usize = 200;

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// What it shows.
    pub(super) title: String,
    /// To the right.
    pub(super) x: Axis,
    /// Upwards.
    pub(super) y: Axis,
    /// What is drawn, in order.
    pub(super) series: Vec<Series>,
    /// A level drawn across.
    pub(super) rule: Option<Rule>,
    /// A sentence below; may be empty.
    pub(super) note: String,
}

/// One axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// What it measures.
    pub(super) name: &'static str,
    /// In what; empty for plain numbers.
    pub(super) unit: &'static str,
    /// How it is laid out.
    pub(super) scale: Scale,
}

/// How an axis is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By powers of ten.
    Log,
    /// Percentiles by the number of their nines.
    Nines,
}

/// Values that belong together.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What they are.
    pub(super) name: &'static str,
    /// By x; a y that is `None` was not measured.
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// How they are drawn.
    pub(super) drawn: Drawn,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// A line in one of three colours.
    Line(u8),
    /// A stem from the bottom for every value above zero.
    Stems,
    /// A ring a value: what held.
    Rings,
    /// A cross a value: what broke.
    Crosses,
}

/// A level drawn across a plot.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Where.
    pub(super) y: f64,
    /// What it is.
    pub(super) name: String,
}

impl Axis {
    fn caption(&self) -> String {
        if self.unit.is_empty() { self.name.to_owned() } else { format!("{} ({})", self.name, self.unit) }
    }

    /// A value with its unit.
    fn tell(&self, value: f64) -> String {
        match self.scale {
            Scale::Nines => format!("{} %", plain(value)),
            _ if self.unit.is_empty() => significant(value),
            _ => format!("{} {}", significant(value), self.unit),
        }
    }
}

/// A percentile without digits that say nothing: `99.9`.
fn plain(value: f64) -> String {
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// An axis with its ticks laid out over a length of the drawing.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Ruler {
    /// `fits` says whether the axis ends with its data, and not with the next tick.
    fn new(axis: &Axis, values: &[f64], fits: bool) -> Self {
        // Zero has no place among powers of ten: it is drawn at the bottom.
        let is_placed = |value: &f64| axis.scale != Scale::Log || *value > 0.0;
        let least = values.iter().copied().filter(is_placed).fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (ticks, labels) = match axis.scale {
            Scale::Linear => {
                let ticks = ticks::linear(least.min(0.0), most);
                let labels = ticks::labels(&ticks);
                (ticks, labels)
            }
            Scale::Log => {
                let ticks = ticks::logarithmic(least, most);
                let labels = ticks.iter().copied().map(ticks::logarithmic_label).collect();
                (ticks, labels)
            }
            Scale::Nines => {
                let ticks = ticks::nines(most);
                let labels = ticks.iter().copied().map(ticks::percentile_label).collect();
                (ticks, labels)
            }
        };
        let mut ruler =
            Self { scale: axis.scale, low: 0.0, high: 1.0, from: 0.0, to: 1.0, ticks: Vec::new() };
        let bound = |tick: Option<&f64>| ruler.flat(tick.copied().unwrap_or(0.0));
        let (low, last) = (bound(ticks.first()), bound(ticks.last()));
        ruler.high = if fits && ruler.flat(most) > low { ruler.flat(most) } else { last };
        ruler.low = low;
        let seen = ticks.into_iter().zip(labels);
        ruler.ticks = seen.filter(|(tick, _)| ruler.flat(*tick) <= ruler.high + 1e-9).collect();
        ruler
    }

    /// The value on an even scale.
    fn flat(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => ticks::nines_of(value),
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (self.flat(value) - self.low) / (self.high - self.low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

impl Plot {
    /// A `figure` with title, drawing and note; a sentence in place of the drawing when there is nothing to draw.
    pub(super) fn figure(&self) -> String {
        let title = escape(&self.title);
        let note = match self.note.as_str() {
            "" => String::new(),
            note => format!("<p class=\"note\">{}</p>", escape(note)),
        };
        let drawing =
            self.drawing().unwrap_or_else(|| "<p class=\"none\">Nothing was measured.</p>".to_owned());
        format!("<figure><figcaption>{title}</figcaption>{drawing}{note}</figure>\n")
    }

    fn drawing(&self) -> Option<String> {
        let measured = self.series.iter().flat_map(|series| &series.points);
        let (xs, mut ys): (Vec<f64>, Vec<f64>) = measured
            .filter_map(|(x, y)| Some((*x, (*y)?)))
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .unzip();
        if ys.is_empty() {
            return None;
        }
        ys.extend(self.rule.as_ref().map(|rule| rule.y));
        let fits = !matches!(self.x.scale, Scale::Log);
        let (mut x, mut y) = (Ruler::new(&self.x, &xs, fits), Ruler::new(&self.y, &ys, false));
        let longest = y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        let names = self.named_lines().map(|series| series.name.chars().count()).max();
        x.from = longest as f64 * CHARACTER + 10.0;
        x.to = WIDTH - names.map_or(RIGHT_MIN, |longest| longest as f64 * CHARACTER + 12.0);
        (y.from, y.to) = (HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.in_words())
        );
        self.draw_axes(&mut svg, &x, &y);
        for series in &self.series {
            self.draw_series(&mut svg, series, &x, &y);
        }
        self.draw_rule(&mut svg, &x, &y);
        self.draw_names(&mut svg, &x, &y);
        self.draw_tooltips(&mut svg, &x);
        svg.push_str("</svg>");
        Some(svg)
    }

    /// The lines that need a name: those that are not alone.
    fn named_lines(&self) -> impl Iterator<Item = &Series> {
        let is_line = |series: &&Series| matches!(series.drawn, Drawn::Line(_));
        self.series.iter().filter(move |series| self.series.len() > 1 && is_line(series))
    }

    fn draw_axes(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        for (value, label) in &y.ticks {
            let at = y.place(*value);
            put(svg, format_args!("<path class=\"grid\" d=\"M{:.1} {at:.1}H{:.1}\"/>", x.from, x.to));
            put(
                svg,
                format_args!(
                    "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                    x.from - 5.0,
                    at + 4.0
                ),
            );
        }
        let mut free_from = f64::NEG_INFINITY;
        for (value, label) in &x.ticks {
            let (at, half) = (x.place(*value), label.chars().count() as f64 * CHARACTER / 2.0);
            put(svg, format_args!("<path class=\"tick\" d=\"M{at:.1} {:.1}v4\"/>", y.from));
            if at - half > free_from {
                put(
                    svg,
                    format_args!("<text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>", y.from + 16.0),
                );
                free_from = at + half + 4.0;
            }
        }
        put(svg, format_args!("<path class=\"axis\" d=\"M{:.1} {:.1}H{:.1}\"/>", x.from, y.from, x.to));
        put(svg, format_args!("<text x=\"4\" y=\"12\">{}</text>", escape(&self.y.caption())));
        let (middle, bottom) = ((x.from + x.to) / 2.0, HEIGHT - 6.0);
        let caption = escape(&self.x.caption());
        put(svg, format_args!("<text class=\"x\" x=\"{middle:.1}\" y=\"{bottom:.1}\">{caption}</text>"));
    }

    fn draw_series(&self, svg: &mut String, series: &Series, x: &Ruler, y: &Ruler) {
        let places = series.points.iter().map(|(at, value)| {
            let value = value.filter(|value| value.is_finite());
            value.map(|value| (*at, value, x.place(*at), y.place(value)))
        });
        match series.drawn {
            Drawn::Line(color) => draw_line(svg, color, places.map(|place| place.map(|(.., x, y)| (x, y)))),
            Drawn::Stems => {
                for (.., at, top) in places.flatten().filter(|(_, value, ..)| *value > 0.0) {
                    put(svg, format_args!("<path class=\"stem\" d=\"M{at:.1} {:.1}V{top:.1}\"/>", y.from));
                }
            }
            Drawn::Rings | Drawn::Crosses => {
                for (value_x, value_y, at, top) in places.flatten() {
                    let (value_x, value_y) = (self.x.tell(value_x), self.y.tell(value_y));
                    let title = escape(&format!("{value_x}: {value_y}, {}", series.name));
                    let shape = if series.drawn == Drawn::Rings {
                        format!("<circle class=\"held\" cx=\"{at:.1}\" cy=\"{top:.1}\" r=\"4.5\">")
                    } else {
                        let (left, up) = (at - 4.0, top - 4.0);
                        format!("<path class=\"broke\" d=\"M{left:.1} {up:.1}l8 8m0 -8l-8 8\">")
                    };
                    let end = if series.drawn == Drawn::Rings { "circle" } else { "path" };
                    put(svg, format_args!("{shape}<title>{title}</title></{end}>"));
                }
            }
        }
    }

    fn draw_rule(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        let Some(rule) = &self.rule else { return };
        let (at, name) = (y.place(rule.y), escape(&rule.name));
        put(svg, format_args!("<path class=\"rule\" d=\"M{:.1} {at:.1}H{:.1}\"/>", x.from, x.to));
        let (left, above) = (x.from + 4.0, at - 4.0);
        put(svg, format_args!("<text class=\"rule-name\" x=\"{left:.1}\" y=\"{above:.1}\">{name}</text>"));
    }

    /// Names of lines at their ends, apart from each other; names of marks above the drawing.
    fn draw_names(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        let end = |series: &Series| series.points.iter().rev().find_map(|(_, value)| *value);
        let mut names: Vec<(f64, u8, &str)> = Vec::new();
        for series in self.named_lines() {
            if let (Some(value), Drawn::Line(color)) = (end(series), series.drawn) {
                names.push((y.place(value), color, series.name));
            }
        }
        names.sort_by(|a, b| a.0.total_cmp(&b.0));
        for index in 1..names.len() {
            names[index].0 = names[index].0.max(names[index - 1].0 + NAME_HEIGHT);
        }
        // Pushed down below the axis, they go up again.
        let mut lowest = y.from;
        for name in names.iter_mut().rev() {
            name.0 = name.0.min(lowest);
            lowest = name.0 - NAME_HEIGHT;
        }
        for (at, color, name) in names {
            let (left, at, name) = (x.to + 6.0, at + 4.0, escape(name));
            put(
                svg,
                format_args!("<text class=\"name c{color}\" x=\"{left:.1}\" y=\"{at:.1}\">{name}</text>"),
            );
        }
        let mut right = x.to;
        for series in self.series.iter().rev() {
            let (mark, class) = match series.drawn {
                Drawn::Rings => ("○", "held-name"),
                Drawn::Crosses => ("✕", "broke-name"),
                _ => continue,
            };
            let name = escape(series.name);
            put(svg, format_args!("<text class=\"{class}\" x=\"{right:.1}\" y=\"12\">{mark} {name}</text>"));
            right -= (series.name.chars().count() + 4) as f64 * CHARACTER;
        }
    }

    /// Invisible bands that tell all values at their place.
    fn draw_tooltips(&self, svg: &mut String, x: &Ruler) {
        let Some(first) = self.series.first() else { return };
        if matches!(first.drawn, Drawn::Rings | Drawn::Crosses) {
            return;
        }
        let stride = first.points.len().div_ceil(TOOLTIPS_MAX).max(1);
        let told: Vec<usize> = (0..first.points.len()).step_by(stride).collect();
        let places: Vec<f64> = told.iter().map(|index| x.place(first.points[*index].0)).collect();
        for (nth, index) in told.iter().enumerate() {
            let left = if nth == 0 { x.from } else { (places[nth - 1] + places[nth]) / 2.0 };
            let right = places.get(nth + 1).map_or(x.to, |next| (places[nth] + next) / 2.0);
            let mut title = format!("{}:", self.x.tell(first.points[*index].0));
            for (nth, series) in self.series.iter().enumerate() {
                let value = series.points.get(*index).and_then(|(_, value)| *value);
                let value = value.map_or("nothing".to_owned(), |value| self.y.tell(value));
                let comma = if nth == 0 { "" } else { "," };
                put(&mut title, format_args!("{comma} {} {value}", series.name));
            }
            put(
                svg,
                format_args!(
                    "<rect class=\"tip\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                    (right - left).max(0.0),
                    HEIGHT - TOP - BOTTOM,
                    escape(&title)
                ),
            );
        }
    }

    /// The plot for those who do not see it.
    fn in_words(&self) -> String {
        let mut words = format!("{}: {} by {}.", self.title, self.y.caption(), self.x.caption());
        for series in &self.series {
            let values = || series.points.iter().filter_map(|(_, value)| *value);
            let Some(last) = values().next_back() else { continue };
            let least = self.y.tell(values().fold(f64::INFINITY, f64::min));
            let most = self.y.tell(values().fold(f64::NEG_INFINITY, f64::max));
            let last = self.y.tell(last);
            put(&mut words, format_args!(" {}: {least} to {most}, at last {last}.", series.name));
        }
        if let Some(rule) = &self.rule {
            put(&mut words, format_args!(" {}.", rule.name));
        }
        words
    }
}

/// A path that begins anew after every gap; points are dots when they are few, or alone between two gaps.
fn draw_line(svg: &mut String, color: u8, places: impl Iterator<Item = Option<(f64, f64)>>) {
    let places: Vec<_> = places.collect();
    let mut path = String::new();
    for segment in places.split(Option::is_none) {
        let is_dotted = segment.len() == 1 || places.len() <= DOTTED_MAX;
        for (index, (x, y)) in segment.iter().flatten().enumerate() {
            let step = if index == 0 { 'M' } else { 'L' };
            put(&mut path, format_args!("{step}{x:.1} {y:.1}"));
            if is_dotted {
                put(
                    svg,
                    format_args!("<circle class=\"dot c{color}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"),
                );
            }
        }
    }
    put(svg, format_args!("<path class=\"line c{color}\" d=\"{path}\"/>"));
}
