//! The report as one HTML page: no scripts, no outside resources, light and dark.

use crate::benchmark::Group;
use crate::chart::{self, Bar, BarGroup, escape};
use crate::interval::{percent, wilson};
use crate::report::Report;
use ringsmith_data::grade::Class;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A stage's loss over its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    pub stage: String,
    pub points: Vec<(u64, f64)>,
}

/// What became of a source's records: `read` = `kept` + the drops.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerEntry {
    /// The data set of the recipe.
    pub data: String,
    pub source: String,
    pub read: u64,
    pub kept: u64,
    /// Reason and count.
    pub drops: Vec<(String, u64)>,
}

/// A question with a model's answer to it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleAnswer {
    pub benchmark: String,
    pub model: String,
    pub question: String,
    pub answer: String,
    pub class: Class,
}

/// All that the page shows. Sections without material are left out.
#[derive(Clone, Debug)]
pub struct ReportInputs<'a> {
    pub report: &'a Report,
    pub curves: &'a [Curve],
    pub ledger: &'a [LedgerEntry],
    pub samples: &'a [SampleAnswer],
    /// The recipe as written.
    pub recipe_text: &'a str,
    /// Name and value: revision, digests, machine, times, ...
    pub provenance: &'a [(String, String)],
}

const STYLE: &str = include_str!("report.css");

/// The page.
pub fn html(inputs: &ReportInputs<'_>) -> String {
    let report = inputs.report;
    let recipe = escape(&report.recipe);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{recipe} · ringsmith report</title>\
         <style>{STYLE}</style></head>\n<body><main><header><p class=\"kicker\">ringsmith report</p><h1>{recipe}</h1>{}</header>",
        tiles(report)
    );
    let mut section = |id: &str, title: &str, body: String| {
        if !body.is_empty() {
            let _ = write!(page, "\n<section id=\"{id}\"><h2>{title}</h2>{body}</section>");
        }
    };
    section("figure", "Reasoning and general skill, stage by stage", figure(report));
    section("scores", "Scores by task", scores(report));
    section("think", "Wrong &lt;think&gt; pairs", think(report));
    section("loss", "Loss", curves(inputs.curves));
    section("ledger", "Record ledger", ledger(inputs.ledger));
    section("answers", "Sample answers", samples(inputs.samples));
    section("provenance", "Provenance", provenance(inputs.provenance));
    if !inputs.recipe_text.is_empty() {
        let text = escape(inputs.recipe_text);
        section(
            "recipe",
            "Recipe",
            format!("<details><summary>as written</summary><pre class=\"box\">{text}</pre></details>"),
        );
    }
    page.push_str("\n</main></body></html>\n");
    page
}

const GROUPS: [(Group, &str); 2] = [(Group::Reasoning, "reasoning"), (Group::General, "general")];

fn names(report: &Report) -> Vec<String> {
    report.models.iter().map(|model| model.model.clone()).collect()
}

/// The last model's means, with how they moved since the first.
fn tiles(report: &Report) -> String {
    let (Some(first), Some(last)) = (report.models.first(), report.models.last()) else {
        return String::new();
    };
    let mut tiles = String::new();
    for (group, label) in GROUPS {
        if let (Some(before), Some(after)) = (first.mean(group), last.mean(group)) {
            let (from, to) = (escape(&first.model), escape(&last.model));
            let _ = write!(
                tiles,
                "<div class=\"tile\"><span>{label} mean, {to}</span><strong>{after:.1}</strong>\
                 <span>{} since {from}</span></div>",
                signed(after - before)
            );
        }
    }
    if last.think_total > 0 {
        let _ = write!(
            tiles,
            "<div class=\"tile\"><span>wrong &lt;think&gt; pairs, {}</span><strong>{}</strong><span>of {}</span></div>",
            escape(&last.model),
            last.think_wrong,
            last.think_total
        );
    }
    format!("<div class=\"tiles\">{tiles}</div>")
}

/// One decimal with a plus or a true minus sign.
fn signed(x: f64) -> String {
    format!("{x:+.1}").replace('-', "\u{2212}")
}

fn figure(report: &Report) -> String {
    let series = names(report);
    let means: Vec<BarGroup> = GROUPS
        .iter()
        .map(|(group, label)| BarGroup {
            label: format!("{label} mean"),
            bars: report
                .models
                .iter()
                .map(|model| model.mean(*group).map(|value| Bar { value, interval: None }))
                .collect(),
        })
        .filter(|group| group.bars.iter().any(Option::is_some))
        .collect();
    if means.is_empty() {
        return String::new();
    }
    let tasks = |group: Group| -> Vec<BarGroup> {
        let bar = |task: &crate::report::TaskScore| Bar {
            value: task.percent(),
            interval: Some((task.low, task.high)),
        };
        let names = report.tasks(group).into_iter();
        names
            .map(|name| BarGroup {
                label: name.to_string(),
                bars: report.models.iter().map(|model| model.task(name).map(bar)).collect(),
            })
            .collect()
    };
    let mut body = chart::legend(&series) + &chart::bars("Means of the models", &series, &means);
    for (group, label) in GROUPS {
        let groups = tasks(group);
        if !groups.is_empty() {
            let _ = write!(body, "<h3>{label} by task</h3>{}", chart::bars(label, &series, &groups));
        }
    }
    body + "<p class=\"note\">Percent right on held-out items. Whiskers: 95 % Wilson interval.</p>"
}

fn head(report: &Report) -> String {
    let cells: String = report
        .models
        .iter()
        .map(|model| format!("<th scope=\"col\">{}</th>", escape(&model.model)))
        .collect();
    format!("<thead><tr><th></th>{cells}</tr></thead>")
}

fn scores(report: &Report) -> String {
    let mut rows = String::new();
    for (group, label) in GROUPS {
        for task in report.tasks(group) {
            let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", escape(task));
            for model in &report.models {
                let _ = match model.task(task) {
                    None => write!(rows, "<td>–</td>"),
                    Some(t) => write!(
                        rows,
                        "<td>{:.1}<small>{:.0}–{:.0}</small><small>{}/{}</small></td>",
                        t.percent(),
                        t.low,
                        t.high,
                        t.correct,
                        t.total
                    ),
                };
            }
            rows.push_str("</tr>");
        }
        if report.models.iter().any(|model| model.mean(group).is_some()) {
            let cell =
                |mean: Option<f64>| format!("<td>{}</td>", mean.map_or("–".into(), |m| format!("{m:.1}")));
            let cells: String = report.models.iter().map(|model| cell(model.mean(group))).collect();
            let _ = write!(rows, "<tr class=\"mean\"><th scope=\"row\">{label} mean</th>{cells}</tr>");
        }
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<div class=\"wide\"><table>{}<tbody>{rows}</tbody></table></div>\
         <p class=\"note\">Percent right, its 95 % Wilson interval, right/asked. Means are unweighted over tasks.</p>",
        head(report)
    )
}

fn think(report: &Report) -> String {
    if report.models.iter().all(|model| model.think_total == 0) {
        return String::new();
    }
    let cells: String = report
        .models
        .iter()
        .map(|model| {
            if model.think_total == 0 {
                return "<td>–</td>".to_string();
            }
            let (low, high) = wilson(model.think_wrong, model.think_total);
            let share = percent(model.think_wrong, model.think_total);
            let (wrong, total) = (model.think_wrong, model.think_total);
            format!(
                "<td>{wrong}<small>of {total}</small><small>{share:.1} %</small><small>{low:.0}–{high:.0} %</small></td>"
            )
        })
        .collect();
    format!(
        "<div class=\"wide\"><table>{}<tbody><tr><th scope=\"row\">wrong\u{a0}pairs</th>{cells}</tr></tbody></table></div>\
         <p class=\"note\">Subjective queries. A pair is right with exactly one &lt;think&gt; at the start, exactly one \
         &lt;/think&gt; after it and a non-empty answer after that.</p>",
        head(report)
    )
}

fn curves(curves: &[Curve]) -> String {
    let drawn: String =
        curves.iter().enumerate().map(|(i, curve)| chart::curve(&curve.stage, &curve.points, i)).collect();
    if drawn.is_empty() { drawn } else { format!("<div class=\"curves\">{drawn}</div>") }
}

fn ledger(entries: &[LedgerEntry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let lost = entries.iter().filter(|e| e.read != e.kept + dropped(e)).count();
    let sums = match lost {
        0 => "Every row read was kept or dropped for a stated reason: the counts add up.".to_string(),
        n => format!("<strong>The counts of {n} sources do not add up.</strong>"),
    };
    let rows: String = entries.chunk_by(|a, b| a.data == b.data).map(ledger_rows).collect();
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in entries.iter().flat_map(|entry| &entry.drops) {
        *reasons.entry(reason).or_default() += count;
    }
    let reasons: String =
        reasons.iter().map(|(reason, count)| format!(", {} {count}", escape(reason))).collect();
    format!(
        "<p>{sums}</p><details><summary>rows dropped: {}{reasons}</summary><div class=\"wide\"><table>\
         <thead><tr><th>stage</th><th class=\"text\">source</th><th>read</th><th>kept</th><th>dropped</th>\
         <th class=\"text\">reasons</th></tr></thead><tbody>{rows}</tbody></table></div></details>",
        entries.iter().map(dropped).sum::<u64>()
    )
}

fn dropped(entry: &LedgerEntry) -> u64 {
    entry.drops.iter().map(|(_, count)| count).sum()
}

/// The sources of one stage, and their sum where there are several.
fn ledger_rows(entries: &[LedgerEntry]) -> String {
    let mut rows = String::new();
    for (i, entry) in entries.iter().enumerate() {
        let reasons: Vec<String> =
            entry.drops.iter().map(|(reason, count)| format!("{} {count}", escape(reason))).collect();
        let data = if i == 0 { escape(&entry.data) } else { String::new() };
        let _ = write!(
            rows,
            "<tr><th scope=\"row\">{data}</th><td class=\"text\">{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td class=\"text\">{}</td></tr>",
            escape(&entry.source),
            entry.read,
            entry.kept,
            dropped(entry),
            reasons.join(", ")
        );
    }
    if entries.len() > 1 {
        let sum = |of: fn(&LedgerEntry) -> u64| entries.iter().map(of).sum::<u64>();
        let _ = write!(
            rows,
            "<tr class=\"mean\"><th></th><td class=\"text\">all</td><td>{}</td><td>{}</td><td>{}</td><td></td></tr>",
            sum(|e| e.read),
            sum(|e| e.kept),
            sum(dropped)
        );
    }
    rows
}

fn samples(samples: &[SampleAnswer]) -> String {
    let mut body = String::new();
    let mut asked: Option<(&str, &str)> = None;
    for sample in samples {
        let key = (sample.benchmark.as_str(), sample.question.as_str());
        if asked != Some(key) {
            if asked.is_some() {
                body.push_str("</dl></article>");
            }
            let _ = write!(
                body,
                "<article class=\"box\"><p class=\"kicker\">{}</p><p class=\"question\">{}</p><dl>",
                escape(&sample.benchmark),
                escape(sample.question.trim())
            );
            asked = Some(key);
        }
        let (class, verdict) = match sample.class {
            Class::Right => ("right", "right"),
            Class::Wrong => ("wrong", "wrong"),
            Class::MissingClose => ("wrong", "thought never closed"),
            Class::Truncated => ("wrong", "truncated"),
            Class::Empty => ("wrong", "empty"),
        };
        let _ = write!(
            body,
            "<dt>{} <span class=\"{class}\">{verdict}</span></dt><dd><pre>{}</pre></dd>",
            escape(&sample.model),
            escape(&sample.answer)
        );
    }
    if asked.is_some() {
        body.push_str("</dl></article>");
    }
    body
}

fn provenance(entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(String, String)| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"text\"><code>{}</code></td></tr>",
            escape(name),
            escape(value)
        )
    };
    format!(
        "<div class=\"wide\"><table><tbody>{}</tbody></table></div>",
        entries.iter().map(row).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ModelScore, TaskScore};

    #[test]
    fn the_page_is_whole_and_safe() {
        let task = |task: &str, group, correct| {
            let (low, high) = wilson(correct, 20);
            TaskScore { task: task.into(), group, correct, total: 20, low, high }
        };
        let model = |model: &str, correct| ModelScore {
            model: model.into(),
            reasoning: Some(percent(correct, 20)),
            general: Some(40.0),
            think_wrong: 3,
            think_total: 30,
            tasks: vec![task("chain", Group::Reasoning, correct), task("<facts>", Group::General, 8)],
        };
        let report =
            Report { recipe: "tiny & co".into(), models: vec![model("base", 2), model("stage1", 17)] };
        let curve = Curve { stage: "base".into(), points: vec![(1, 3.0), (2, 2.0)] };
        let entry = LedgerEntry {
            data: "reasoning".into(),
            source: "gsm8k".into(),
            read: 10,
            kept: 7,
            drops: vec![("empty answer".into(), 2), ("duplicate".into(), 1)],
        };
        let sample = SampleAnswer {
            benchmark: "chain".into(),
            model: "base".into(),
            question: "What is d?".into(),
            answer: "<script>alert(1)</script>".into(),
            class: Class::Wrong,
        };
        let page = html(&ReportInputs {
            report: &report,
            curves: &[curve],
            ledger: std::slice::from_ref(&entry),
            samples: &[sample],
            recipe_text: "[sft]\nlr = \"<4e-5>\"",
            provenance: &[("revision".into(), "<abc>".into())],
        });
        for part in [
            "tiny &amp; co",
            "<td>85.0<small>64–95</small><small>17/20</small></td>",
            "&lt;facts&gt;",
            "<td>3<small>of 30</small>",
            "empty answer 2, duplicate 1",
            "the counts add up",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "&lt;4e-5&gt;",
            "&lt;abc&gt;",
            "+75.0 since base",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for part in ["<script", "<facts>", "http://", "https://", "src=", "NaN"] {
            assert!(!page.contains(part), "{part}");
        }
        let wrong = ledger(&[LedgerEntry { kept: 8, ..entry.clone() }]);
        assert!(wrong.contains("do not add up"));
        let whole = LedgerEntry { source: "chain".into(), read: 5, kept: 5, drops: vec![], ..entry.clone() };
        let other = LedgerEntry { data: "general".into(), ..whole.clone() };
        assert!(!ledger(std::slice::from_ref(&whole)).contains(">all<"));
        let page = ledger(&[entry, whole, other]);
        // Two sources of one stage are summed; another stage reads the same records again and is not.
        assert_eq!(page.matches(">all</td><td>15</td><td>12</td><td>3</td>").count(), 1, "{page}");
        assert!(page.contains("rows dropped: 3, duplicate 1, empty answer 2<"), "{page}");
        assert_eq!((signed(-22.04), signed(0.5)), ("\u{2212}22.0".to_string(), "+0.5".to_string()));
        assert!(
            !html(&ReportInputs {
                report: &Report { recipe: "empty".into(), models: vec![] },
                curves: &[],
                ledger: &[],
                samples: &[],
                recipe_text: "",
                provenance: &[],
            })
            .contains("<section")
        );
    }
}
