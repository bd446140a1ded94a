//! The figures as one picture: throughput, growth, CPU time and latency, as far as they were measured.

use super::{
    picture::{END, GREY, MIDDLE, OTHER, OWN, Picture},
    results::{Growth, Latency, Results, SubjectFigures, Throughput},
    table::grouped,
};

const TITLE: &str = "Throughput, cost of an append as the log grows, CPU time per command and latency, beside a loop that only copies records. The tables on the same page have all figures.";
/// Of the stages, in their order; white numbers stand on them.
const STAGES: [&str; 7] = ["#35736b", "#2a72c0", "#7a5195", "#a3472f", "#8a5a12", "#4c5661", "#8a929b"];
/// Narrower parts of a bar have no number.
const ROOM_FOR_NUMBER: f64 = 30.0;
const ROOM_FOR_NAME: f64 = 80.0;

pub fn svg(results: &Results) -> String {
    let mut picture = Picture::default();
    let mut top = 0.0;
    if let Some(measured) = &results.throughput {
        throughput(&mut picture, measured);
    }
    if let Some(measured) = &results.growth {
        growth(&mut picture, measured);
    }
    if results.throughput.is_some() || results.growth.is_some() {
        top += 206.0;
    }
    if let Some(measured) = &results.throughput {
        cpu(&mut picture, top, measured);
        top += 140.0;
    }
    if let Some(measured) = &results.latency {
        top = latency(&mut picture, top, measured);
    }
    picture.finish(top, TITLE, "benches/pipeline/results.json")
}

fn colour_of(subject: &str) -> &'static str {
    if subject == "copy loop" { OTHER } else { OWN }
}

/// Bars from left to right, with the range of the rounds.
fn throughput(picture: &mut Picture, measured: &Throughput) {
    const LEFT: f64 = 130.0;
    const LONGEST: f64 = 180.0;
    picture.title(0.0, 0.0, "Throughput", "commands/s");
    let top = measured.subjects.iter().map(|it| it.rate.highest).fold(0.0, f64::max);
    let x = |rate: f64| LEFT + rate / top * LONGEST;
    for (row, SubjectFigures { short_name, rate, .. }) in measured.subjects.iter().enumerate() {
        let y = 34.0 + row as f64 * 29.0;
        picture.text(LEFT - 10.0, y + 15.0, END, short_name);
        picture.bar(LEFT, y, x(rate.median) - LEFT, 20.0, colour_of(short_name));
        let middle = y + 10.0;
        let attributes = format!(r#"stroke="{GREY}" stroke-width="1.5""#);
        picture.line((x(rate.lowest), middle), (x(rate.highest), middle), &attributes);
        for end in [rate.lowest, rate.highest] {
            picture.line((x(end), middle - 4.0), (x(end), middle + 4.0), &attributes);
        }
        picture.text(x(rate.highest) + 8.0, y + 15.0, "", grouped(rate.median));
    }
}

/// From zero, so that a flat line is seen to be flat.
fn growth(picture: &mut Picture, measured: &Growth) {
    const LEFT: f64 = 460.0;
    const RIGHT: f64 = 700.0;
    const BOTTOM: f64 = 154.0;
    const HEIGHT: f64 = 84.0;
    picture.title(LEFT - 24.0, 0.0, "Append", "µs of CPU per command");
    let top = measured.sizes.iter().map(|size| size.cost.cpu.highest).fold(0.0, f64::max);
    let (Some(first), Some(last)) = (measured.sizes.first(), measured.sizes.last()) else { return };
    let (first, last) = ((first.events as f64).log10(), (last.events as f64).log10());
    let x = |events: u64| {
        let share = ((events as f64).log10() - first) / (last - first).max(1e-9);
        LEFT + 10.0 + share * (RIGHT - LEFT - 20.0)
    };
    let y = |time: f64| BOTTOM - time / top * HEIGHT;
    picture.line((LEFT - 24.0, BOTTOM), (RIGHT + 24.0, BOTTOM), &format!(r#"stroke="{GREY}""#));
    picture.text(LEFT - 32.0, BOTTOM + 6.0, END, "0");
    let line = format!(r#"stroke="{OWN}" stroke-width="2""#);
    for pair in measured.sizes.windows(2) {
        let [from, to] = [&pair[0], &pair[1]].map(|size| (x(size.events), y(size.cost.cpu.median)));
        picture.line(from, to, &line);
    }
    for size in &measured.sizes {
        let (x, cost) = (x(size.events), size.cost.cpu);
        picture.line((x, y(cost.lowest)), (x, y(cost.highest)), &line);
        picture.dot(x, y(cost.median), OWN);
        picture.text(x, y(cost.highest) - 12.0, MIDDLE, format!("{:.2}", cost.median));
        picture.text(x, BOTTOM + 19.0, MIDDLE, events(size.events));
    }
    picture.text(f64::midpoint(LEFT, RIGHT), BOTTOM + 38.0, MIDDLE, "events in the log");
}

fn events(count: u64) -> String {
    match count {
        0..1_000_000 => grouped(count as f64),
        _ => format!("{} million", count / 1_000_000),
    }
}

/// The stages as parts of one bar, named above it.
fn cpu(picture: &mut Picture, top: f64, measured: &Throughput) {
    const LEFT: f64 = 130.0;
    const LONGEST: f64 = 570.0;
    picture.title(0.0, top, "CPU time per command", "µs");
    let (copy_loop, full) = (&measured.subjects[0], &measured.subjects[1]);
    let sum = |subject: &SubjectFigures| subject.cpu.iter().map(|(_, time)| time).sum::<f64>();
    let scale = LONGEST / sum(copy_loop).max(sum(full));
    for (row, subject) in [full, copy_loop].into_iter().enumerate() {
        let y = top + 52.0 + row as f64 * 34.0;
        picture.text(LEFT - 10.0, y + 18.0, END, &subject.short_name);
        let mut x = LEFT;
        for ((stage, time), colour) in subject.cpu.iter().zip(STAGES) {
            let width = time * scale;
            picture.bar(x, y, width, 26.0, colour);
            if width >= ROOM_FOR_NUMBER {
                let middle = x + width / 2.0;
                let number = format!("{time:.2}");
                picture.text(
                    middle,
                    y + 18.0,
                    r##"text-anchor="middle" font-size="14" fill="#ffffff""##,
                    number,
                );
                // A name that is longer than its part begins where the part does.
                let (at, anchor) = if width < ROOM_FOR_NAME { (x, "start") } else { (middle, "middle") };
                if row == 0 {
                    let attributes = format!(r#"text-anchor="{anchor}" font-size="14""#);
                    picture.text(at, y - 7.0, &attributes, stage);
                }
            }
            x += width;
        }
        picture.text(x + 8.0, y + 18.0, r#"font-weight="600""#, format!("{:.1}", subject.process));
    }
}

/// A line from the median to the 99th percentile for each run. Returns where the panel ends.
fn latency(picture: &mut Picture, top: f64, measured: &Latency) -> f64 {
    const LEFT: f64 = 240.0;
    const RIGHT: f64 = 690.0;
    const ROW: f64 = 26.0;
    const SMALL: &str = r#"font-size="14""#;
    picture.title(0.0, top, "Latency from command to notification", "ms");
    let both = measured.runs.iter().filter_map(|run| Some((run, run.p50?, run.p99?)));
    let both: Vec<_> = both.filter(|(_, p50, _)| *p50 > 0.0).collect();
    let first = both.iter().map(|(_, p50, _)| *p50).fold(f64::INFINITY, f64::min).log10().floor();
    let last = both.iter().map(|(.., p99)| *p99).fold(0.0, f64::max).log10().ceil();
    if both.is_empty() {
        return top + 30.0;
    }
    let x = |time: f64| LEFT + (time.log10() - first) / (last - first).max(1.0) * (RIGHT - LEFT);
    let begin = top + 56.0;
    let bottom = begin + both.len() as f64 * ROW;
    let axis = format!(r#"stroke="{GREY}""#);
    picture.line((LEFT, bottom), (RIGHT, bottom), &axis);
    for decade in (first as i32)..=(last as i32) {
        let (value, x) = (10_f64.powi(decade), x(10_f64.powi(decade)));
        picture.line((x, bottom), (x, bottom + 5.0), &axis);
        let value = if decade < 0 { value.to_string() } else { grouped(value) };
        picture.text(x, bottom + 21.0, MIDDLE, value);
    }
    for (row, (run, p50, p99)) in both.iter().enumerate() {
        let y = begin + row as f64 * ROW + 8.0;
        let colour = colour_of(&run.subject);
        let is_same_rate = row > 0 && both[row - 1].0.rate == run.rate;
        if !is_same_rate {
            picture.text(LEFT - 148.0, y + 6.0, END, format!("{}/s", grouped(run.rate)));
        }
        let name = match run.subject.as_str() {
            "copy loop" => "copy loop",
            "exactly-once, NORMAL" => "with NORMAL",
            _ => "activity-stream",
        };
        picture.text(LEFT - 20.0, y + 6.0, END, name);
        let (from, to) = (x(*p50), x(*p99));
        picture.line((from, y), (to, y), &format!(r#"stroke="{colour}" stroke-width="3""#));
        picture.dot(from, y, colour);
        picture.dot(to, y, colour);
        picture.text(from - 10.0, y + 5.0, r#"text-anchor="end" font-size="14""#, format!("{p50:.1}"));
        picture.text(to + 10.0, y + 5.0, SMALL, format!("{p99:.1}"));
        if row == 0 {
            picture.text(from, y - 12.0, r#"text-anchor="middle" font-size="14""#, "p50");
            picture.text(to, y - 12.0, r#"text-anchor="middle" font-size="14""#, "p99");
        }
    }
    bottom + 30.0
}
