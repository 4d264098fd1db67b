//! The measures by name, and how each one's values are summed up over queries. The formulas are in `query.rs`.

use std::fmt;
use std::str::FromStr;

/// A measure. Parsed from its own name (`ndcg@10`, `map`, `mrr@10`, `recall@100`, `p@5`, `success@1`) or from trec_eval's
/// (`ndcg_cut_10`, `recip_rank`, `recall_100`, `P_5`, `iprec_at_recall_0.10`, …); displayed under its own.
///
/// `None` as a cutoff means the whole ranking. Cutoffs are at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Measure {
    /// Number of documents retrieved (`num_ret`).
    Retrieved,
    /// Number of relevant documents (`num_rel`).
    Relevant,
    /// Number of relevant documents retrieved (`num_rel_ret`).
    RelevantRetrieved,
    /// Number of retrieved documents judged not relevant (`num_nonrel_judged_ret`).
    NonrelevantRetrieved,
    /// Average precision: the sum of the precisions at each relevant document found, over the number of relevant documents.
    Map(Option<usize>),
    /// Average precision, summed up with the geometric mean, each value at least 0.00001 (`gm_map`).
    GeometricMap,
    /// Precision at the number of relevant documents (`Rprec`).
    RPrecision,
    /// Binary preference (Buckley and Voorhees, SIGIR 2004).
    Bpref,
    /// [`Measure::Bpref`] summed up with the geometric mean (`gm_bpref`).
    GeometricBpref,
    /// 1 / rank of the first relevant document (`mrr`, `mrr@k`, `recip_rank`).
    ReciprocalRank(Option<usize>),
    /// Highest precision at or after a recall given in hundredths (`iprec_at_recall_0.10` is 10).
    InterpolatedPrecision(u16),
    /// Relevant documents among the first k, over k.
    Precision(usize),
    /// Relevant documents among the first k, over the number of relevant documents.
    Recall(usize),
    /// Inferred average precision for sampled pools (Yilmaz and Aslam, CIKM 2006; `infAP`).
    InferredAp,
    /// Precision at a multiple, in hundredths, of the number of relevant documents (`Rprec_mult_0.20` is 20).
    RPrecisionMultiple(u16),
    /// Relevant minus not relevant documents retrieved (`utility`).
    Utility,
    /// Mean interpolated precision at recall 0, 0.1, … 1 (`11pt_avg`).
    ElevenPoint,
    /// G with binary gains (`binG`).
    BinaryG,
    /// G: gain over the logarithm of the effort wasted so far (`G`).
    G,
    /// Discounted cumulative gain with linear gains and discount log2(rank + 1), over that of the ideal ranking of all judged
    /// documents (Järvelin and Kekäläinen, TOIS 2002).
    Ndcg(Option<usize>),
    /// Mean of nDCG at every relevant document (`ndcg_rel`).
    NdcgRelevant,
    /// Mean of nDCG at the ranks where the ideal gain changes (`Rndcg`).
    RNdcg,
    /// Relevant documents among the first k, over as many as there could be (`relative_P_k`).
    RelativePrecision(usize),
    /// 1 when a relevant document is among the first k (also known as accuracy@k or hit rate).
    Success(usize),
    /// Precision of the whole ranking (`set_P`).
    SetPrecision,
    /// Precision of the whole ranking over the best possible (`set_relative_P`).
    SetRelativePrecision,
    /// Recall of the whole ranking (`set_recall`).
    SetRecall,
    /// Set precision times set recall (`set_map`).
    SetMap,
    /// Harmonic mean of set precision and set recall (`set_F`).
    SetF,
    /// Rank-biased precision with persistence 0.9, grades scaled to at most 1 (Moffat and Zobel, TOIS 2008; `rbp`).
    RankBiasedPrecision,
    /// What rank-biased precision could still gain from documents without judgment (`rbp_resid`).
    RankBiasedResidual,
    /// Share of documents without judgment among the first k (`unj_k`).
    Unjudged(usize),
    /// nDCG with gain 1 for every relevant document, as sentence-transformers computes it (`ndcg_binary@k`).
    BinaryNdcg(usize),
    /// Average precision over min(k, relevant documents), as sentence-transformers computes it (`map_capped@k`).
    CappedMap(usize),
}

/// A name that is no measure's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown measure {0:?}; known are ndcg, map, mrr, recall, p and success with `@k` (k from 1), e.g. ndcg@10, and trec_eval's names")]
pub struct UnknownMeasure(pub String);

/// Measures without a cutoff, under the names of trec_eval.
const PLAIN: [(&str, Measure); 24] = [
    ("num_ret", Measure::Retrieved),
    ("num_rel", Measure::Relevant),
    ("num_rel_ret", Measure::RelevantRetrieved),
    ("num_nonrel_judged_ret", Measure::NonrelevantRetrieved),
    ("gm_map", Measure::GeometricMap),
    ("Rprec", Measure::RPrecision),
    ("bpref", Measure::Bpref),
    ("gm_bpref", Measure::GeometricBpref),
    ("infAP", Measure::InferredAp),
    ("utility", Measure::Utility),
    ("11pt_avg", Measure::ElevenPoint),
    ("binG", Measure::BinaryG),
    ("G", Measure::G),
    ("ndcg_rel", Measure::NdcgRelevant),
    ("Rndcg", Measure::RNdcg),
    ("set_P", Measure::SetPrecision),
    ("set_relative_P", Measure::SetRelativePrecision),
    ("set_recall", Measure::SetRecall),
    ("set_map", Measure::SetMap),
    ("set_F", Measure::SetF),
    ("rbp", Measure::RankBiasedPrecision),
    ("rbp_resid", Measure::RankBiasedResidual),
    ("map", Measure::Map(None)),
    ("ndcg", Measure::Ndcg(None)),
];

/// Smallest value that enters a geometric mean: trec_eval prints four decimals.
const GEOMETRIC_FLOOR: f64 = 1e-5;

impl Measure {
    /// The value over queries from the values per query; see [`crate::Evaluation::mean`].
    pub(crate) fn summarise(self, values: impl Iterator<Item = f64>) -> f64 {
        let geometric = matches!(self, Self::GeometricMap | Self::GeometricBpref);
        let (mut sum, mut count) = (0.0, 0_usize);
        for value in values {
            sum += if geometric { value.max(GEOMETRIC_FLOOR).ln() } else { value };
            count += 1;
        }
        if count == 0 || self.is_count() {
            return sum;
        }
        let mean = sum / count as f64;
        if geometric { mean.exp() } else { mean }
    }

    /// Whether the measure is a number of documents: summed over queries, printed without decimals.
    pub(crate) fn is_count(self) -> bool {
        matches!(self, Self::Retrieved | Self::Relevant | Self::RelevantRetrieved | Self::NonrelevantRetrieved)
    }

    /// Whether trec_eval prints the measure for the whole run only.
    pub(crate) fn is_summary_only(self) -> bool {
        matches!(self, Self::GeometricMap | Self::GeometricBpref)
    }
}

impl FromStr for Measure {
    type Err = UnknownMeasure;

    fn from_str(name: &str) -> Result<Self, UnknownMeasure> {
        parse(name).ok_or_else(|| UnknownMeasure(name.to_owned()))
    }
}

fn parse(name: &str) -> Option<Measure> {
    if let Some(&(_, measure)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
        return Some(measure);
    }
    if name == "mrr" || name == "recip_rank" {
        return Some(Measure::ReciprocalRank(None));
    }
    if let Some(level) = name.strip_prefix("iprec_at_recall_") {
        return hundredths(level).filter(|&level| level <= 100).map(Measure::InterpolatedPrecision);
    }
    if let Some(multiple) = name.strip_prefix("Rprec_mult_") {
        return hundredths(multiple).map(Measure::RPrecisionMultiple);
    }
    let (family, k) = name.split_once('@').or_else(|| name.rsplit_once('_'))?;
    let k = k.bytes().all(|byte| byte.is_ascii_digit()).then(|| k.parse().ok())?.filter(|&k: &usize| k > 0)?;
    let at = name.contains('@');
    Some(match (family, at) {
        ("ndcg", true) | ("ndcg_cut", false) => Measure::Ndcg(Some(k)),
        ("map", true) | ("map_cut", false) => Measure::Map(Some(k)),
        ("mrr", true) => Measure::ReciprocalRank(Some(k)),
        ("recall", _) => Measure::Recall(k),
        ("p", true) | ("P", false) => Measure::Precision(k),
        ("success", _) => Measure::Success(k),
        ("relative_p", true) | ("relative_P", false) => Measure::RelativePrecision(k),
        ("unjudged", true) | ("unj", false) => Measure::Unjudged(k),
        ("ndcg_binary", true) => Measure::BinaryNdcg(k),
        ("map_capped", true) => Measure::CappedMap(k),
        _ => return None,
    })
}

/// `0.35` → 35. Two decimals, as trec_eval prints.
fn hundredths(text: &str) -> Option<u16> {
    let (whole, part) = text.split_once('.')?;
    if part.len() != 2 || !part.bytes().chain(whole.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    whole.parse::<u16>().ok()?.checked_mul(100)?.checked_add(part.parse().ok()?)
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = PLAIN.iter().find(|(_, plain)| plain == self) {
            return f.write_str(name);
        }
        match *self {
            Self::Ndcg(Some(k)) => write!(f, "ndcg@{k}"),
            Self::Map(Some(k)) => write!(f, "map@{k}"),
            Self::ReciprocalRank(None) => f.write_str("mrr"),
            Self::ReciprocalRank(Some(k)) => write!(f, "mrr@{k}"),
            Self::Recall(k) => write!(f, "recall@{k}"),
            Self::Precision(k) => write!(f, "p@{k}"),
            Self::Success(k) => write!(f, "success@{k}"),
            Self::RelativePrecision(k) => write!(f, "relative_p@{k}"),
            Self::Unjudged(k) => write!(f, "unjudged@{k}"),
            Self::BinaryNdcg(k) => write!(f, "ndcg_binary@{k}"),
            Self::CappedMap(k) => write!(f, "map_capped@{k}"),
            Self::InterpolatedPrecision(level) => write!(f, "iprec_at_recall_{}.{:02}", level / 100, level % 100),
            Self::RPrecisionMultiple(multiple) => write!(f, "Rprec_mult_{}.{:02}", multiple / 100, multiple % 100),
            // The remaining variants are all in PLAIN, which a test checks.
            _ => f.write_str("?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let names = PLAIN.iter().map(|(name, _)| (*name).to_owned());
        let cut = ["ndcg", "map", "mrr", "recall", "p", "success", "relative_p", "unjudged", "ndcg_binary", "map_capped"];
        let cut = cut.iter().flat_map(|name| [1, 10, 1000].map(|k| format!("{name}@{k}")));
        let levels = ["mrr", "iprec_at_recall_0.00", "iprec_at_recall_0.05", "iprec_at_recall_1.00", "Rprec_mult_2.00"].map(str::to_owned);
        for name in names.chain(cut).chain(levels) {
            assert_eq!(name.parse::<Measure>().map(|measure| measure.to_string()), Ok(name));
        }
    }

    #[test]
    fn trec_eval_names_mean_the_same_measures() {
        for (theirs, ours) in [
            ("ndcg_cut_10", "ndcg@10"),
            ("map_cut_100", "map@100"),
            ("P_5", "p@5"),
            ("recall_100", "recall@100"),
            ("success_1", "success@1"),
            ("recip_rank", "mrr"),
            ("relative_P_20", "relative_p@20"),
            ("unj_5", "unjudged@5"),
        ] {
            assert_eq!(theirs.parse::<Measure>(), ours.parse::<Measure>(), "{theirs}");
        }
    }

    #[test]
    fn what_is_no_measure_is_refused_by_name() {
        for name in
            ["", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@+5", "ndcg@1.5", "mrr_10", "P@5", "iprec_at_recall_1.10", "precision@5", "@10", "_10"]
        {
            assert_eq!(name.parse::<Measure>(), Err(UnknownMeasure(name.to_owned())));
        }
    }
}
