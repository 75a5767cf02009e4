//! Bars beside each other, with whiskers from the lowest to the highest value, as inline SVG.
//!
//! Pure. Bars lie, so that names have room at a phone's width; lengths are from zero.

use super::{escape, put, ticks};
use crate::metrics::Unit;
use crate::report::compare::Spread;

const WIDTH: f64 = 400.0;
const BAR_HEIGHT: f64 = 18.0;
const ROW_HEIGHT: f64 = 44.0;
/// Room for the value at the end of the longest bar.
const RIGHT: f64 = 8.0;
const LEFT: f64 = 4.0;
const AXIS_HEIGHT: f64 = 22.0;

/// A bar plot of one metric.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    /// What is shown.
    pub(crate) title: String,
    /// What the values are.
    pub(crate) unit: Unit,
    /// Which way is better, in words.
    pub(crate) note: String,
    /// From the top.
    pub(crate) bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Whose it is.
    pub(crate) name: String,
    /// Its length, and those of its whisker.
    pub(crate) spread: Spread,
    /// It is drawn hollow: not all runs in it may be believed.
    pub(crate) is_doubted: bool,
}

impl Bars {
    /// A `figure`.
    pub(crate) fn figure(&self) -> String {
        let most = self.bars.iter().fold(0.0_f64, |most, bar| most.max(bar.spread.max));
        let (base, base_name) = self.unit.base_of(most);
        let title =
            if base_name.is_empty() { self.title.clone() } else { format!("{} ({base_name})", self.title) };
        let (title, note) = (escape(&title), escape(&self.note));
        let ticks = ticks::linear(0.0, most / base);
        let labels = ticks::labels(&ticks);
        let end = ticks.last().copied().unwrap_or(1.0) * base;
        let place = |value: f64| LEFT + (value / end).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let bottom = self.bars.len() as f64 * ROW_HEIGHT;
        let height = bottom + AXIS_HEIGHT;
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.in_words())
        );
        for (index, (tick, label)) in ticks.iter().zip(&labels).enumerate() {
            let at = place(*tick * base);
            put(&mut svg, format_args!("<path class=\"grid\" d=\"M{at:.1} 0V{bottom}\"/>"));
            // The first and the last would be cut off in their middle.
            if index % 2 == 0 && index > 0 && index + 1 < ticks.len() {
                let low = bottom + 15.0;
                put(&mut svg, format_args!("<text class=\"x\" x=\"{at:.1}\" y=\"{low}\">{label}</text>"));
            }
        }
        put(&mut svg, format_args!("<text x=\"{LEFT}\" y=\"{}\">0</text>", bottom + 15.0));
        for (row, bar) in self.bars.iter().enumerate() {
            self.draw_bar(&mut svg, row as f64 * ROW_HEIGHT, bar, &place);
        }
        format!("<figure><figcaption>{title}</figcaption>{svg}</svg><p class=\"note\">{note}</p></figure>\n")
    }

    fn draw_bar(&self, svg: &mut String, top: f64, bar: &Bar, place: &dyn Fn(f64) -> f64) {
        let Bar { name, spread, is_doubted } = bar;
        let value = self.unit.format(spread.median);
        let title = escape(&self.bar_in_words(bar));
        let (name, value) = (escape(name), escape(&value));
        let (below, from, to) = (top + 18.0, place(0.0), place(spread.median));
        let class = if *is_doubted { "bar doubted" } else { "bar" };
        put(svg, format_args!("<g><title>{title}</title>"));
        put(svg, format_args!("<text class=\"label\" x=\"{from:.1}\" y=\"{:.1}\">{name}</text>", top + 13.0));
        put(
            svg,
            format_args!(
                "<text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{value}</text>",
                WIDTH - RIGHT,
                top + 13.0
            ),
        );
        put(
            svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{below:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\"/>",
                (to - from).max(1.0)
            ),
        );
        if spread.count > 1 {
            let (low, high, middle) = (place(spread.min), place(spread.max), below + BAR_HEIGHT / 2.0);
            let (up, down) = (middle - 5.0, middle + 5.0);
            put(
                svg,
                format_args!(
                    "<path class=\"whisker\" d=\"M{low:.1} {up:.1}V{down:.1}M{high:.1} {up:.1}V{down:.1}M{low:.1} {middle:.1}H{high:.1}\"/>"
                ),
            );
        }
        svg.push_str("</g>");
    }

    fn bar_in_words(&self, bar: &Bar) -> String {
        let Spread { median, min, max, count } = bar.spread;
        let [median, min, max] = [median, min, max].map(|value| self.unit.format(value));
        match count {
            1 => format!("{}: {median}, one run", bar.name),
            count => format!("{}: {median}, {min} to {max} in {count} runs", bar.name),
        }
    }

    fn in_words(&self) -> String {
        let bars: Vec<_> = self.bars.iter().map(|bar| self.bar_in_words(bar)).collect();
        format!("{}. {}.", self.title, bars.join("; "))
    }
}
