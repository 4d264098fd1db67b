//! An evaluation in trec_eval's text form: the lines of `trec_eval -m all_trec [-q]`, name padded to 22, tab, query, tab, value.

use std::fmt::Write;

use crate::evaluate::Evaluation;
use crate::measure::Measure;

/// trec_eval's `-m all_trec`, in its order, after `runid` and `num_q`. A name ending in `_` stands for one line per cutoff.
const FAMILIES: [(&str, &[&str]); 35] = [
    ("num_ret", &[]),
    ("num_rel", &[]),
    ("num_rel_ret", &[]),
    ("map", &[]),
    ("gm_map", &[]),
    ("Rprec", &[]),
    ("bpref", &[]),
    ("recip_rank", &[]),
    ("iprec_at_recall_", &["0.00", "0.10", "0.20", "0.30", "0.40", "0.50", "0.60", "0.70", "0.80", "0.90", "1.00"]),
    ("P_", CUTOFFS),
    ("relstring", &[]),
    ("recall_", CUTOFFS),
    ("infAP", &[]),
    ("gm_bpref", &[]),
    ("Rprec_mult_", &["0.20", "0.40", "0.60", "0.80", "1.00", "1.20", "1.40", "1.60", "1.80", "2.00"]),
    ("utility", &[]),
    ("11pt_avg", &[]),
    ("binG", &[]),
    ("G", &[]),
    ("ndcg", &[]),
    ("ndcg_rel", &[]),
    ("Rndcg", &[]),
    ("ndcg_cut_", CUTOFFS),
    ("map_cut_", CUTOFFS),
    ("relative_P_", CUTOFFS),
    ("success_", &["1", "5", "10"]),
    ("set_P", &[]),
    ("set_relative_P", &[]),
    ("set_recall", &[]),
    ("set_map", &[]),
    ("set_F", &[]),
    ("num_nonrel_judged_ret", &[]),
    ("rbp", &[]),
    ("rbp_resid", &[]),
    ("unj_", &["5", "10", "20"]),
];

const CUTOFFS: &[&str] = &["5", "10", "15", "20", "30", "100", "200", "500", "1000"];

/// Characters of the `relstring` lines.
const STRING_LENGTH: usize = 10;

/// The text `trec_eval -m all_trec` prints, with the lines of every query first when `per_query` (`-q`). `tag` is the run's name.
pub fn trec_eval_text(evaluation: &Evaluation, tag: &str, per_query: bool) -> String {
    let mut text = String::new();
    if per_query {
        for (id, query) in &evaluation.per_query {
            for name in names() {
                if name == "relstring" {
                    line(&mut text, &name, id, &format!("'{}'", query.relevance_string(STRING_LENGTH)));
                } else if let Some(measure) = known(&name).filter(|measure| !measure.is_summary_only()) {
                    line(&mut text, &name, id, &number(measure, query.value(measure)));
                }
            }
        }
    }
    line(&mut text, "runid", "all", tag);
    line(&mut text, "num_q", "all", &evaluation.queries().to_string());
    for name in names() {
        if let Some(measure) = known(&name) {
            line(&mut text, &name, "all", &number(measure, evaluation.mean(measure)));
        }
    }
    text
}

fn names() -> impl Iterator<Item = String> {
    FAMILIES.iter().flat_map(|&(family, members)| {
        let single = members.is_empty().then(|| family.to_owned());
        single.into_iter().chain(members.iter().map(move |member| format!("{family}{member}")))
    })
}

fn known(name: &str) -> Option<Measure> {
    name.parse().ok()
}

fn number(measure: Measure, value: f64) -> String {
    if measure.is_count() { format!("{value:.0}") } else { format!("{value:6.4}") }
}

fn line(text: &mut String, name: &str, query: &str, value: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:<22}\t{query}\t{value}");
}
