//! The figures as a picture: steady rate and CPU time.

use super::{
    picture::{END, GREY, OTHER, OWN, Picture},
    results::{Measured, SubjectFigures},
    spread::Spread,
    table::grouped,
};

const TITLE: &str = "Steady rate, and CPU time per command of the process and of the broker, beside programs that do the core \
                     of the same work. The tables on the same page have all figures.";
const TOP: f64 = 34.0;
const ROW: f64 = 29.0;
const BAR: f64 = 20.0;
/// Of the broker's part of a bar, on which no text stands.
const BROKER_OPACITY: &str = "0.45";

pub fn svg(measured: &Measured) -> String {
    let mut picture = Picture::default();
    rate(&mut picture, measured);
    cpu(&mut picture, measured);
    let rows = measured.subjects.len() as f64;
    picture.finish(TOP + rows * ROW + 6.0, TITLE, "benches/peers/results.json")
}

fn colour(row: usize) -> &'static str {
    if row == 0 { OWN } else { OTHER }
}

fn whisker(picture: &mut Picture, y: f64, spread: Spread, x: impl Fn(f64) -> f64) {
    let attributes = format!(r#"stroke="{GREY}" stroke-width="1.5""#);
    let middle = y + BAR / 2.0;
    picture.line((x(spread.lowest), middle), (x(spread.highest), middle), &attributes);
    for end in [spread.lowest, spread.highest] {
        picture.line((x(end), middle - 4.0), (x(end), middle + 4.0), &attributes);
    }
}

fn rate(picture: &mut Picture, measured: &Measured) {
    const LEFT: f64 = 130.0;
    const LONGEST: f64 = 180.0;
    picture.title(0.0, 0.0, "Steady rate", "commands/s");
    let top = measured.subjects.iter().map(|it| it.steady_rate.value.highest).fold(0.0, f64::max);
    let x = |rate: f64| LEFT + rate / top * LONGEST;
    for (row, SubjectFigures { short_name, steady_rate, .. }) in measured.subjects.iter().enumerate() {
        let (y, rate) = (TOP + row as f64 * ROW, steady_rate.value);
        picture.text(LEFT - 10.0, y + 15.0, END, short_name);
        picture.bar(LEFT, y, x(rate.median) - LEFT, BAR, colour(row));
        whisker(picture, y, rate, x);
        picture.text(x(rate.highest) + 8.0, y + 15.0, "", grouped(rate.median));
    }
}

/// The broker's part follows the process's, lighter.
fn cpu(picture: &mut Picture, measured: &Measured) {
    const LEFT: f64 = 420.0;
    const LONGEST: f64 = 220.0;
    picture.title(LEFT, 0.0, "CPU per command", "µs, process + broker");
    let broker = |it: &SubjectFigures| it.broker.as_ref().map_or(0.0, |broker| broker.value.median);
    let sum = |it: &SubjectFigures| it.steady_cpu.value.median + broker(it);
    let top = measured.subjects.iter().map(sum).fold(0.0, f64::max);
    let width = |time: f64| time / top * LONGEST;
    for (row, subject) in measured.subjects.iter().enumerate() {
        let (y, process) = (TOP + row as f64 * ROW, subject.steady_cpu.value.median);
        picture.bar(LEFT, y, width(process), BAR, colour(row));
        let attributes =
            format!(r#"stroke="{}" stroke-opacity="{BROKER_OPACITY}" stroke-width="{BAR}""#, colour(row));
        let (middle, end) = (y + BAR / 2.0, LEFT + width(sum(subject)));
        picture.line((LEFT + width(process), middle), (end, middle), &attributes);
        picture.text(end + 8.0, y + 15.0, "", format!("{process:.1} + {:.1}", broker(subject)));
    }
}
