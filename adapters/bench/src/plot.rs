//! Plots, as SVG files.

use std::io;
use std::path::Path;

use plotters::prelude::*;
use serde_json::{Value, json};

const SIZE: (u32, u32) = (800, 480);

/// Of the labels in bars, in pixels.
const FONT_SIZE: u32 = 12;

/// The largest average width of a character in that size.
const CHARACTER_WIDTH: f64 = 7.5;

/// The palette of Okabe and Ito, which people with color blindness can distinguish.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
];

/// A line chart with a logarithmic horizontal axis.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The name of its file.
    pub name: &'static str,
    /// The title.
    pub title: String,
    /// The label of the horizontal axis, whose unit is bytes.
    pub x_label: &'static str,
    /// The label of the vertical axis.
    pub y_label: &'static str,
    /// The label and the points of each line.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    pub(crate) fn to_json(&self) -> Value {
        json!({ "title": self.title, "x_label": self.x_label, "y_label": self.y_label, "lines": self.lines })
    }

    /// Draws the chart.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn draw(&self, path: &Path) -> io::Result<()> {
        self.try_draw(path).map_err(|error| io::Error::other(error.to_string()))
    }

    fn try_draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error + '_>> {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter().copied());
        let left = points().map(|(x, _)| x).fold(f64::MAX, f64::min);
        let right = points().map(|(x, _)| x).fold(0.0, f64::max);
        let top = points().map(|(_, y)| y).fold(0.0, f64::max) * 1.1;

        let canvas = SVGBackend::new(path, SIZE).into_drawing_area();
        canvas.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&canvas)
            .caption(&self.title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(64)
            .build_cartesian_2d((left..right).log_scale().base(2.0), 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|bytes| binary(*bytes))
            .y_label_formatter(&|value| value.to_string())
            .light_line_style(TRANSPARENT)
            .draw()?;
        for ((name, points), color) in self.lines.iter().zip(COLORS) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .border_style(BLACK.mix(0.3))
            .draw()?;
        canvas.present()?;
        Ok(())
    }
}

/// Two bars under a title.
#[derive(Clone, Debug)]
pub struct Bars {
    /// The title.
    pub title: String,
    /// The label and the value of each bar: of the subject, then of the baseline.
    pub bars: [(String, f64); 2],
}

/// Draws a bar chart. Values are rounded to integers.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn draw_bars(path: &Path, title: &str, pairs: &[Bars]) -> io::Result<()> {
    try_draw_bars(path, title, pairs).map_err(|error| io::Error::other(error.to_string()))
}

fn try_draw_bars<'a>(
    path: &'a Path,
    title: &str,
    pairs: &[Bars],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let right =
        pairs.iter().flat_map(|pair| &pair.bars).map(|(_, value)| *value).fold(0.0, f64::max) * 1.1;
    let height = 80 + 44 * u32::try_from(pairs.len())?; // 80 for the title and the axis
    let canvas = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(32)
        .build_cartesian_2d(0.0..right, pairs.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|value| grouped(*value))
        .draw()?;
    for (row, Bars { title, bars }) in pairs.iter().enumerate() {
        let top = row as f64;
        let places = [(0.40, 0.62), (0.66, 0.88)];
        for (((label, value), (from, to)), color) in bars.iter().zip(places).zip(COLORS) {
            let corners = [(0.0, top + from), (*value, top + to)];
            chart.draw_series([Rectangle::new(corners, color.filled())])?;
            let text = format!("{label}: {}", grouped(*value));
            // Inside the bar if it is long enough, otherwise to the right of it.
            let width = text.len() as f64 * CHARACTER_WIDTH / f64::from(SIZE.0) * right;
            let (x, color) = if width < *value { (0.0, WHITE) } else { (*value, BLACK) };
            let place = (x + right * 0.01, top + from + 0.02);
            let font = ("sans-serif", FONT_SIZE).into_font().color(&color);
            chart.draw_series([Text::new(text, place, font)])?;
        }
        let place = (0.0, top + 0.12);
        chart.draw_series([Text::new(title.clone(), place, ("sans-serif", 14).into_font())])?;
    }
    canvas.present()?;
    Ok(())
}

/// Rounds to an integer, with a comma between groups of three digits.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// A number of bytes with a binary unit.
pub fn binary(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let value = (value * 10.0).round() / 10.0;
    format!("{value} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_integers_with_grouped_digits() {
        let cases = [(0.4, "0"), (999.5, "1,000"), (23_456.789, "23,457"), (1e6, "1,000,000")];
        for (value, text) in cases {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn sizes_have_a_binary_unit() {
        for (bytes, text) in [(21.0, "21 B"), (1536.0, "1.5 KiB"), (4_194_304.0, "4 MiB")] {
            assert_eq!(binary(bytes), text);
        }
    }
}
