//! SVG without a background and a style sheet: its colours are legible on white and on near black, wherever it is shown.

use std::fmt::{Display, Write as _};

/// With the margins on both sides.
const WIDTH: f64 = 780.0;
const MARGIN: f64 = 14.0;
const FONT: &str = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif";
/// Text and axes.
pub const GREY: &str = "#747c86";
/// What the processor is compared with.
pub const OTHER: &str = "#8a929b";
pub const OWN: &str = "#2a72c0";
/// What was drawn so far.
#[derive(Default)]
pub struct Picture(String);

impl Picture {
    pub fn text(&mut self, x: f64, y: f64, attributes: &str, text: impl Display) {
        let _ = writeln!(self.0, r#"<text x="{x:.0}" y="{y:.0}" {attributes}>{text}</text>"#);
    }

    /// What a panel shows, and in which unit.
    pub fn title(&mut self, x: f64, top: f64, title: &str, unit: &str) {
        let text = format!(r#"{title}<tspan font-weight="400">, {unit}</tspan>"#);
        self.text(x, top + 18.0, r#"font-weight="600""#, text);
    }

    pub fn bar(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let _ = writeln!(
            self.0,
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        );
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(self.0, r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" {attributes}/>"#);
    }

    pub fn dot(&mut self, x: f64, y: f64, fill: &str) {
        let _ = writeln!(self.0, r#"<circle cx="{x:.1}" cy="{y:.1}" r="5" fill="{fill}"/>"#);
    }

    /// `title` says what it shows, `source` from which figures it is made.
    pub fn finish(self, height: f64, title: &str, source: &str) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-{MARGIN} 0 {WIDTH} {height}" font-family="{FONT}" font-size="16" fill="{GREY}" role="img" aria-labelledby="title">
<title id="title">{title}</title>
<!-- Made from {source}. -->
{}</svg>
"#,
            self.0
        )
    }
}

pub const END: &str = r#"text-anchor="end""#;
pub const MIDDLE: &str = r#"text-anchor="middle""#;
