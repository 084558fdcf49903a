//! Plots, as SVG.

use std::io;
use std::path::Path;

use plotters::prelude::*;
use serde_json::{Value, json};

const SIZE: (u32, u32) = (800, 480);

/// Told apart by people who see colours differently, too (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(120, 120, 120),
];

/// Lines over one axis that grows by factors.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What its file is called.
    pub name: &'static str,
    /// What is above it.
    pub title: String,
    /// What the horizontal axis counts, in bytes.
    pub across: &'static str,
    /// What the vertical axis counts.
    pub up: &'static str,
    /// Name, and points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    pub(crate) fn to_json(&self) -> Value {
        json!({ "title": self.title, "across": self.across, "up": self.up, "lines": self.lines })
    }

    /// Draws it.
    ///
    /// # Errors
    /// What the file system says.
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
            .x_desc(self.across)
            .y_desc(self.up)
            .x_label_formatter(&|bytes| binary(*bytes))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
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

/// Draws pairs of bars: name, ours, and the baseline's.
///
/// # Errors
/// What the file system says.
pub fn bars(path: &Path, title: &str, pairs: &[(String, f64, f64)]) -> io::Result<()> {
    try_bars(path, title, pairs).map_err(|error| io::Error::other(error.to_string()))
}

fn try_bars<'a>(
    path: &'a Path,
    title: &str,
    pairs: &[(String, f64, f64)],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let right = pairs.iter().map(|(_, ours, theirs)| ours.max(*theirs)).fold(0.0, f64::max) * 1.1;
    let height = 80 + 44 * u32::try_from(pairs.len())?; // the title and the axis, then each pair
    let canvas = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(32)
        .build_cartesian_2d(0.0..right, pairs.len() as f64..0.0)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().draw()?;
    for (row, (name, ours, theirs)) in pairs.iter().enumerate() {
        let top = row as f64;
        let bars = [(0.40, 0.62, *ours, "ours"), (0.66, 0.88, *theirs, "bare")];
        for ((from, to, value, of), colour) in bars.into_iter().zip(COLOURS) {
            let corners = [(0.0, top + from), (value, top + to)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let text = format!("{of}: {value:.3}");
            let place = (right * 0.01, top + from + 0.02);
            chart.draw_series([Text::new(
                text,
                place,
                ("sans-serif", 12).into_font().color(&WHITE),
            )])?;
        }
        let place = (0.0, top + 0.12);
        chart.draw_series([Text::new(name.clone(), place, ("sans-serif", 14).into_font())])?;
    }
    canvas.present()?;
    Ok(())
}

/// Bytes, in a unit that keeps the number short.
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
