//! Where an encoder puts the documents: how many of them score how high for a query, beside the candidates and the positives.
//!
//! The documents are counted on the device, by the search itself, so that no score leaves it.

use burn::tensor::Tensor;
use kernels::{Bins, Exclusions};
use serde::Serialize;

use crate::error::MiningError;
use crate::store::{EmbeddingStore, read, squared_norms};

/// Bins on either side of 0, at most, up to the longest query times the longest document: of cosines .005 each.
const BINS: usize = 200;
/// How far rounding can bring a score beyond that, and more.
const SLACK: f64 = 1e-3;

/// Scores of some training queries, counted in bins of equal width; bin i holds scores from `low + i * width` on. From the lowest to the highest bin that is not empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreHistogram {
    /// Queries that were looked at, evenly spaced among those that were mined.
    pub queries: usize,
    /// Lower end of the first bin.
    pub low: f64,
    /// Width of a bin.
    pub width: f64,
    /// All documents but those whose judgment keeps them from being served.
    pub documents: Vec<u64>,
    /// The candidates in the lists.
    pub candidates: Vec<u64>,
    /// The positives.
    pub positives: Vec<u64>,
}

impl ScoreHistogram {
    /// Of the rows `queries`, `[q, dimension]`, each with its judged documents. `candidates` and `positives` are scores of all queries together. `None` where no score can differ
    /// from 0.
    ///
    /// # Errors
    /// When the store is not filled, or the device fails.
    pub(crate) fn count(
        store: &EmbeddingStore,
        queries: &Tensor<2>,
        judged: &[Vec<u32>],
        candidates: &[f32],
        positives: &[f32],
    ) -> Result<Option<Self>, MiningError> {
        let squares = read(squared_norms(queries), "measuring query rows")?;
        let longest = squares.iter().copied().fold(0.0, f32::max).sqrt();
        let reach = f64::from(longest) * f64::from(store.longest());
        if !(reach > 1e-30 && reach < 1e30) {
            return Ok(None);
        }
        let width = round_width(reach * (1.0 - SLACK) / BINS as f64);
        let side = (reach * (1.0 + SLACK) / width).ceil() as usize;
        let end = (side as f64 * width) as f32;
        let bins = Bins { low: -end, high: end, count: 2 * side };
        let counts = store.count_scores(queries.clone(), Some(&Exclusions::from_rows(judged.iter().cloned())), bins)?;
        let mut documents = vec![0; bins.counters()];
        for row in counts.chunks(bins.counters()) {
            documents.iter_mut().zip(row).for_each(|(sum, &count)| *sum += u64::from(count));
        }
        let of = |scores: &[f32]| {
            let mut counts = vec![0; bins.counters()];
            scores.iter().filter(|score| !score.is_nan()).for_each(|&score| counts[bins.counter(score)] += 1);
            counts
        };
        let whole = Self { queries: squares.len(), low: 0.0, width, documents, candidates: of(candidates), positives: of(positives) };
        // One counter lies below the first bin.
        Ok(Some(whole.trimmed(side + 1)))
    }

    /// Without the empty bins at either end; `below` bins lie below 0.
    fn trimmed(mut self, below: usize) -> Self {
        let empty = |bin: &usize| [&self.documents, &self.candidates, &self.positives].iter().all(|counts| counts[*bin] == 0);
        let first = (0..self.documents.len()).take_while(empty).count();
        let last = (first..self.documents.len()).rev().take_while(empty).count();
        for counts in [&mut self.documents, &mut self.candidates, &mut self.positives] {
            counts.truncate(counts.len() - last);
            counts.drain(..first);
        }
        self.low = self.width * (first as f64 - below as f64);
        self
    }
}

/// The next of 1, 2 and 5 times powers of ten: bins stay the same while the rows move a little.
fn round_width(least: f64) -> f64 {
    let unit = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|factor| factor * unit).find(|&width| width >= least).unwrap_or(10.0 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Miner;
    use crate::tests::{LINE, Placed, collection, config, judged, line, on_a_line, refresh, tensor, texts};
    use burn::tensor::Device;

    /// What the bin of `score` must count.
    fn at(histogram: &ScoreHistogram, counts: &[u64], score: f32) -> u64 {
        let bin = ((f64::from(score) - histogram.low) / histogram.width).floor();
        assert!(bin >= 0.0, "{score} below {}", histogram.low);
        counts.get(bin as usize).copied().unwrap_or_default()
    }

    #[test]
    fn a_refresh_counts_all_documents_beside_candidates_and_positives() {
        let (data, judgments, _) = line();
        // In the middle of bins.
        let scores = LINE.map(|score| score + 0.005);
        let mut encoder = on_a_line(&scores);
        let mut miner =
            Miner::new(&config("[[source]]\nfrom = \"dense\"\ndepth = 3\n[[source]]\nfrom = \"random\"\n"), &data, &judgments, 7).unwrap();
        let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
        let histogram = report.by_source[0].score_histogram.clone().unwrap();
        assert_eq!(histogram.queries, 1);
        let sums = [&histogram.documents, &histogram.candidates, &histogram.positives].map(|counts| counts.iter().sum::<u64>());
        assert_eq!(sums, [7, 3, 1], "the positive is judged: {histogram:?}");
        // The longest query has length 1, the longest document 1.38: a two hundredth is .0069.
        assert_eq!(histogram.width, 0.01);
        for (document, &score) in scores.iter().enumerate() {
            assert_eq!(at(&histogram, &histogram.positives, score) > 0, document == 0, "{document}");
            assert_eq!(at(&histogram, &histogram.candidates, score) > 0, [1, 2, 3].contains(&document), "{document}");
            assert_eq!(at(&histogram, &histogram.documents, score) > 0, document != 0, "{document}");
        }
        // Nothing empty at either end.
        assert_eq!((at(&histogram, &histogram.documents, scores[7]), histogram.documents[0]), (1, 1));
        assert_eq!(at(&histogram, &histogram.documents, scores[1]), *histogram.documents.last().unwrap());
    }

    #[test]
    fn the_queries_of_a_sample_are_spread_over_all_blocks() {
        let queries = 1300;
        let data = collection(&texts("document", 5), &texts("query", queries));
        let judgments = judged(queries, &(0..queries as u32).map(|query| (query, query % 5)).collect::<Vec<_>>());
        // Only every sixth of these queries scores anything but 0.
        let rows = (0..queries).map(|query| vec![f32::from(u8::from(query % 6 == 0)), 0.0]).collect();
        let mut encoder = Placed::new(vec![vec![0.6, 0.8]; 5], rows);
        let mut miner = Miner::new(&config("[[source]]\nfrom = \"dense\"\ndepth = 2\n"), &data, &judgments, 7).unwrap();
        let report = refresh(&mut miner, 0, 0, &mut encoder).unwrap();
        let histogram = report.by_source[0].score_histogram.clone().unwrap();
        assert_eq!(histogram.queries, 1300_usize.div_ceil(6));
        assert_eq!(
            (at(&histogram, &histogram.documents, 0.6005), at(&histogram, &histogram.positives, 0.6005)),
            (4 * 217, 217),
            "{histogram:?}"
        );
        assert_eq!(histogram.candidates.iter().sum::<u64>(), 2 * 217);
    }

    #[test]
    fn every_score_is_in_a_bin_whatever_the_length_of_the_rows() {
        let device = Device::flex();
        for scale in [1e-3_f32, 1.0, 40.0] {
            let scores: Vec<f32> = (0..200).map(|document| scale * (f32::from(document as u8) - 90.0)).collect();
            let mut encoder = on_a_line(&scores);
            let store = EmbeddingStore::encode(&mut encoder, scores.len(), &device).unwrap();
            let queries = tensor(vec![1.0, 0.0, -3.0, 0.0], 2, &device);
            let histogram = ScoreHistogram::count(&store, &queries, &[vec![3, 5], vec![]], &[scale], &[f32::NAN]).unwrap().unwrap();
            assert_eq!((histogram.queries, histogram.documents.iter().sum::<u64>()), (2, 398));
            let sums = [&histogram.candidates, &histogram.positives].map(|counts| counts.iter().sum::<u64>());
            assert_eq!(sums, [1, 0], "what is no number is nowhere");
            let expected = scores.iter().enumerate().filter(|&(document, _)| document != 3 && document != 5).map(|(_, &score)| score);
            let all: Vec<f32> = expected.chain(scores.iter().map(|&score| -3.0 * score)).collect();
            let highest = histogram.low + histogram.width * histogram.documents.len() as f64;
            assert!(
                all.iter().all(|&score| f64::from(score) > histogram.low - 1e-3 * histogram.width
                    && f64::from(score) < highest + 1e-3 * histogram.width)
            );
        }
    }

    #[test]
    fn widths_are_round() {
        for (least, width) in [(0.004_99, 0.005), (0.005, 0.005), (0.0051, 0.01), (1.0, 1.0), (1.2, 2.0), (47.0, 50.0), (51.0, 100.0)] {
            assert!((round_width(least) / width - 1.0).abs() < 1e-12, "{least}: {}", round_width(least));
        }
    }

    #[test]
    fn without_any_length_there_is_nothing_to_count() {
        let mut encoder = on_a_line(&[0.5, 0.25]);
        let store = EmbeddingStore::encode(&mut encoder, 2, &Device::flex()).unwrap();
        let zero = tensor(vec![0.0, 0.0], 2, &Device::flex());
        assert_eq!(ScoreHistogram::count(&store, &zero, &[vec![]], &[], &[]).unwrap(), None);
    }
}
