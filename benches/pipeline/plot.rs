//! The results as one picture: what there is of four plots.

use std::path::Path;

use plotters::{
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, ValueFormatter},
        types::RangedCoordf64,
    },
    prelude::*,
};

use super::report::{Latency, Plot};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const SIZE: (u32, u32) = (1100, 760);
const TITLE: (&str, u32) = ("sans-serif", 18);
const SMALL: (&str, u32) = ("sans-serif", 12);

/// # Panics
///
/// Where the file can't be written.
pub fn draw(plot: &Plot, file: &Path) {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let areas = root.split_evenly((2, 2));
    let drawn = (|| -> Drawn {
        root.fill(&WHITE)?;
        rates(plot, &areas[0])?;
        cpu(plot, &areas[1])?;
        latency(plot, &areas[2])?;
        growth(plot, &areas[3])?;
        // Writes the file, once: what is drawn after it is not in it.
        root.present()?;
        Ok(())
    })();
    drawn.expect("the plot");
}

/// The middle of a bar's place, of which each is 1 wide.
fn middle(index: usize) -> f64 {
    index as f64 + 0.5
}

fn highest(values: impl Iterator<Item = f64>) -> f64 {
    // Room above.
    values.fold(0.0, f64::max) * 1.15
}

/// Labels stand where the axis has its marks; those in the middle of a place are wanted.
fn in_the_middle(names: &[&str], at: f64) -> String {
    let name = names.get(at as usize).filter(|_| (at.fract() - 0.5).abs() < 0.01);
    name.map_or(String::new(), |name| (*name).to_owned())
}

/// Bars in places 0, 1, 2, … with names below.
fn bars<'a, 'b, Y>(
    area: &'a Area<'b>,
    title: &str,
    unit: &str,
    names: &[&str],
    values: Y,
) -> Result<Chart<'a, 'b, Y::CoordDescType>, Box<dyn std::error::Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, TITLE)
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..names.len() as f64, values)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * names.len() + 1)
        .x_label_formatter(&|at| in_the_middle(names, *at))
        .y_desc(unit)
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(SMALL)
        .draw()?;
    Ok(chart)
}

/// What the colours mean.
fn legend<'a, 'b: 'a, Y: Ranged<ValueType = f64>>(chart: &mut Chart<'a, 'b, Y>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(SMALL)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}

type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

fn rates(plot: &Plot, area: &Area<'_>) -> Drawn {
    if plot.rates.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = plot.rates.iter().map(|bar| bar.name.as_str()).collect();
    let top = highest(plot.rates.iter().map(|bar| bar.spread.highest));
    let mut chart = bars(area, "Throughput", "commands/s, median and range", &names, 0.0..top)?;
    chart.draw_series(plot.rates.iter().enumerate().map(|(index, bar)| {
        let x = middle(index);
        Rectangle::new([(x - 0.3, 0.0), (x + 0.3, bar.spread.median)], BLUE.mix(0.6).filled())
    }))?;
    chart.draw_series(plot.rates.iter().enumerate().map(|(index, bar)| {
        PathElement::new([(middle(index), bar.spread.lowest), (middle(index), bar.spread.highest)], BLACK)
    }))?;
    Ok(())
}

fn cpu(plot: &Plot, area: &Area<'_>) -> Drawn {
    if plot.cpu.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = plot.cpu.iter().map(|stack| stack.name.as_str()).collect();
    let top = highest(plot.cpu.iter().map(|stack| stack.parts.iter().map(|(_, time)| time).sum()));
    let mut chart = bars(area, "CPU time", "µs a command", &names, 0.0..top)?;
    for part in 0..plot.cpu[0].parts.len() {
        let color = Palette99::pick(part).filled();
        let rectangles = plot.cpu.iter().enumerate().map(|(index, stack)| {
            let below: f64 = stack.parts[..part].iter().map(|(_, time)| time).sum();
            let x = middle(index);
            Rectangle::new([(x - 0.3, below), (x + 0.3, below + stack.parts[part].1)], color)
        });
        chart
            .draw_series(rectangles)?
            .label(plot.cpu[0].parts[part].0)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 10, y + 4)], color));
    }
    legend(&mut chart)
}

fn latency(plot: &Plot, area: &Area<'_>) -> Drawn {
    let top = highest(plot.latency.iter().map(|it| it.processor.max(it.copy_loop)));
    if plot.latency.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = plot.latency.iter().map(|it| it.name.as_str()).collect();
    let mut chart = bars(area, "Latency", "ms", &names, (1.0..top).log_scale())?;
    let bars_of = |value: fn(&Latency) -> f64, left: f64, color: RGBAColor| {
        plot.latency.iter().enumerate().map(move |(index, it)| {
            let x = index as f64 + left;
            Rectangle::new([(x, 1.0), (x + 0.3, value(it))], color.filled())
        })
    };
    for (name, value, left, color) in [
        ("copy loop", (|it| it.copy_loop) as fn(&Latency) -> f64, 0.2, BLACK.mix(0.3)),
        ("exactly-once, FULL", |it| it.processor, 0.5, GREEN.mix(0.6)),
    ] {
        chart
            .draw_series(bars_of(value, left, color))?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 10, y + 4)], color.filled()));
    }
    legend(&mut chart)
}

fn growth(plot: &Plot, area: &Area<'_>) -> Drawn {
    let (Some(first), Some(last)) = (plot.growth.first(), plot.growth.last()) else { return Ok(()) };
    let top = highest(plot.growth.iter().map(|(_, cost)| *cost));
    let mut chart = ChartBuilder::on(area)
        .caption("Append as the log grows", TITLE)
        .margin(12)
        .margin_right(40)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((first.0..last.0.max(first.0 + 1.0)).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("events in the log")
        .y_desc("µs of CPU a command")
        .x_label_formatter(&|events| format!("{events:.0}"))
        .label_style(SMALL)
        .draw()?;
    chart.draw_series(LineSeries::new(plot.growth.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(plot.growth.iter().map(|&at| Circle::new(at, 4, BLUE.filled())))?;
    Ok(())
}
