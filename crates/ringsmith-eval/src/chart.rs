//! Charts as inline SVG, coloured by the page's CSS variables `--c0` to `--c5` so that they follow its theme.

use std::fmt::Write;

/// Text as it may stand in HTML, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// One bar: its height and, where there is one, its interval, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

/// A group of bars, one for each series; `None` where a series has no value.
#[derive(Clone, Debug, PartialEq)]
pub struct BarGroup {
    pub label: String,
    pub bars: Vec<Option<Bar>>,
}

/// The class that colours the n-th series.
pub fn series_class(series: usize) -> String {
    format!("s{}", series % 6)
}

/// Grouped bars on a scale of 0 to 100 percent, with intervals as whiskers. `series` names the bars of each
/// group. Long rows of groups wrap into several panels, so that labels stay readable.
pub fn bars(title: &str, series: &[String], groups: &[BarGroup]) -> String {
    const LEFT: f64 = 40.0;
    const TOP: f64 = 26.0;
    const PLOT: f64 = 200.0;
    const GAP: f64 = 26.0;
    // The page's text width less the axis.
    const ROOM: f64 = 880.0 - LEFT - GAP;
    let count = series.len().max(1) as f64;
    let fit = ((ROOM / (26.0 * count + GAP)) as usize).max(1);
    let panels = groups.len().div_ceil(fit).max(1);
    let each = groups.len().div_ceil(panels).max(1);
    // Few groups get wider bars, so that the panel fills the page.
    let bar_width = ((ROOM / each as f64 - GAP) / count - 2.0).clamp(24.0, 42.0);
    let group_width = (bar_width + 2.0) * count;
    let width = LEFT + GAP + (group_width + GAP) * each as f64;
    let height = TOP + PLOT + 34.0;
    let mut svg = String::new();
    for panel in groups.chunks(each) {
        let _ = write!(
            svg,
            r#"<svg class="chart" viewBox="0 0 {width:.0} {height:.0}" style="max-width:{width:.0}px" role="img" aria-label="{}">"#,
            escape(title)
        );
        let y = |value: f64| TOP + PLOT * (1.0 - value.clamp(0.0, 100.0) / 100.0);
        for tick in [0, 25, 50, 75, 100] {
            let at = y(f64::from(tick));
            let class = if tick == 0 { "axis" } else { "grid" };
            let _ = write!(
                svg,
                r#"<line class="{class}" x1="{LEFT}" y1="{at:.1}" x2="{width:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{tick}</text>"#,
                LEFT - 6.0,
                at + 4.0
            );
        }
        for (g, group) in panel.iter().enumerate() {
            let start = LEFT + GAP + (group_width + GAP) * g as f64;
            for (s, bar) in group.bars.iter().enumerate() {
                let Some(bar) = bar else { continue };
                let x = start + (bar_width + 2.0) * s as f64;
                let top = y(bar.value);
                let name = series.get(s).map_or("", String::as_str);
                let mut tip = format!("{} {name}: {:.1} %", group.label, bar.value);
                if let Some((low, high)) = bar.interval {
                    let _ = write!(tip, ", 95 % interval {low:.1} to {high:.1}");
                }
                let _ = write!(
                    svg,
                    r#"<g><title>{}</title><rect class="{}" x="{x:.1}" y="{top:.1}" width="{bar_width:.1}" height="{:.1}" rx="2"/>"#,
                    escape(&tip),
                    series_class(s),
                    (TOP + PLOT - top).max(0.8)
                );
                let middle = x + bar_width / 2.0;
                let mut label_at = top;
                if let Some((low, high)) = bar.interval {
                    let (low, high) = (y(low), y(high));
                    label_at = high;
                    let _ = write!(
                        svg,
                        r#"<path class="whisker" d="M{middle:.1} {low:.1}V{high:.1}M{:.1} {high:.1}h6M{:.1} {low:.1}h6"/>"#,
                        middle - 3.0,
                        middle - 3.0
                    );
                }
                // 99.5 must not read 100.
                let shown = format!("{:.1}", bar.value);
                let _ = write!(
                    svg,
                    r#"<text class="value" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text></g>"#,
                    label_at - 5.0,
                    shown.trim_end_matches(".0")
                );
            }
            let _ = write!(
                svg,
                r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                start + group_width / 2.0 - 1.0,
                TOP + PLOT + 21.0,
                escape(&group.label)
            );
        }
        svg.push_str("</svg>");
    }
    svg
}

/// Squares with the series' names.
pub fn legend(series: &[String]) -> String {
    let entry = |(i, name): (usize, &String)| {
        format!(
            r#"<span><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{}" width="10" height="10" rx="2"/></svg>{}</span>"#,
            series_class(i),
            escape(name)
        )
    };
    format!(r#"<p class="legend">{}</p>"#, series.iter().enumerate().map(entry).collect::<String>())
}

/// One curve over steps: the points faint, their mean over a fiftieth of the curve around each step strong.
/// Points that are not finite are left out.
pub fn curve(title: &str, points: &[(u64, f64)], series: usize) -> String {
    const WIDTH: f64 = 420.0;
    const HEIGHT: f64 = 210.0;
    const LEFT: f64 = 48.0;
    const TOP: f64 = 30.0;
    const RIGHT: f64 = 12.0;
    const BOTTOM: f64 = 30.0;
    let points: Vec<(f64, f64)> =
        points.iter().filter(|point| point.1.is_finite()).map(|(step, loss)| (*step as f64, *loss)).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min).min(0.0);
    let high = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let tick = nice((high - low) / 4.0);
    let (low, high) = ((low / tick).floor() * tick, (high / tick).ceil() * tick);
    let span = (last.0 - first.0).max(1.0);
    let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * (step - first.0) / span;
    let y = |loss: f64| TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low).max(f64::MIN_POSITIVE);
    let window = (points.len() / 50).max(1);
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, point| {
        *sum += point.1;
        Some(*sum)
    }));
    let around = |i: usize| {
        let half = (window / 2).min(i).min(points.len() - 1 - i);
        (sums[i + half + 1] - sums[i - half]) / (2 * half + 1) as f64
    };
    let smooth: Vec<(f64, f64)> = points.iter().enumerate().map(|(i, point)| (point.0, around(i))).collect();
    let path = |points: &[(f64, f64)]| {
        // More points than pixels only make the page heavy.
        let stride = points.len().div_ceil(800).max(1);
        let kept = points.iter().enumerate().filter(|(i, _)| i % stride == 0 || i + 1 == points.len());
        kept.fold(String::new(), |mut path, (_, (step, loss))| {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", x(*step), y(*loss));
            path
        })
    };
    // The last window's mean: the last step alone is mostly noise.
    let end = (sums[points.len()] - sums[points.len() - window]) / window as f64;
    let mut svg = format!(
        r#"<svg class="chart curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{} loss"><text class="title" x="{LEFT}" y="16">{}</text><text class="tick" x="{}" y="16" text-anchor="end">ends at {end:.3}</text>"#,
        escape(title),
        escape(title),
        WIDTH - RIGHT
    );
    let ticks = ((high - low) / tick).round() as usize;
    for i in 0..=ticks {
        let value = low + tick * i as f64;
        let class = if i == 0 { "axis" } else { "grid" };
        let at = y(value);
        let digits = if tick >= 1.0 { 0 } else { (-tick.log10().floor()) as usize };
        let _ = write!(
            svg,
            r#"<line class="{class}" x1="{LEFT}" y1="{at:.1}" x2="{:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{value:.digits$}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (step, anchor) in [(first.0, "start"), (last.0, "end")] {
        let _ = write!(
            svg,
            r#"<text class="tick" x="{:.1}" y="{:.1}" text-anchor="{anchor}">step {step:.0}</text>"#,
            x(step),
            HEIGHT - BOTTOM + 18.0
        );
    }
    let class = series_class(series);
    let _ = write!(
        svg,
        r#"<path class="line faint {class}" d="{}"/><path class="line {class}" d="{}"/></svg>"#,
        path(&points),
        path(&smooth)
    );
    svg
}

/// The nearest of 1, 2 and 5 times a power of ten at or above `step`; 1 for nothing.
fn nice(step: f64) -> f64 {
    if step <= 0.0 || !step.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|tick| *tick >= step * 0.999)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        assert_eq!(escape(r#"<a href="x">'&"#), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        let bar = Some(Bar { value: 50.0, interval: Some((40.0, 60.0)) });
        let group = BarGroup { label: "<b>".into(), bars: vec![bar, None] };
        let svg = bars("<i>", &["<u>".into(), "x".into()], &[group]);
        assert!(!svg.contains("<b>") && !svg.contains("<i>") && !svg.contains("<u>"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1);
    }

    #[test]
    fn bars_stand_at_their_height() {
        let bar = |value| Some(Bar { value, interval: None });
        let svg = bars("t", &["m".into()], &[BarGroup { label: "g".into(), bars: vec![bar(50.0)] }]);
        assert!(svg.contains(r#"height="100.0""#), "{svg}");
        let many = vec![BarGroup { label: "g".into(), bars: vec![bar(1.0); 4] }; 12];
        let names = vec!["m".to_string(); 4];
        assert_eq!(bars("t", &names, &many).matches("<svg").count(), 2);
    }

    #[test]
    fn curves_take_what_they_are_given() {
        assert_eq!(curve("none", &[], 0), "");
        assert_eq!(curve("nan", &[(1, f64::NAN)], 0), "");
        let svg = curve("flat", &[(1, 2.0), (2, 2.0), (3, f64::INFINITY)], 1);
        assert!(svg.contains("ends at 2.000") && svg.contains("step 2<") && !svg.contains("NaN"), "{svg}");
        assert!(curve("one", &[(7, 0.0)], 0).contains("ends at 0.000"));
        assert_eq!((nice(0.3), nice(1.0), nice(7.0), nice(0.0)), (0.5, 1.0, 10.0, 1.0));
    }
}
