//! A search of rounded rows, whose survivors are scored again from the full ones.

use crate::pairs::pair_scores;
use crate::search::{Budget, Choice, MAX_K, SearchError, SearchRequest, TopK, pairs, search};
use crate::stream::Store;

/// The best k by the scores of `full`, among the best `factor * k` (at most [`MAX_K`]) by the scores of the request's store, which holds the same rows rounded: 8-bit
/// ones, say.
///
/// Scores are exact for the rows that are found, in float32; a row is missed when rounding puts `factor * k` others before it. Floor and ceiling are applied to both
/// scores. Draws, rank windows and histograms would be those of the rounded rows, so they are refused.
///
/// # Errors
/// See [`SearchError`].
pub fn search_rescored<'a>(request: SearchRequest<'_>, full: impl Into<Store<'a>>, factor: usize) -> Result<TopK, SearchError> {
    let (full, k, count) = (full.into(), request.k, request.queries.dims()[0]);
    let refuse = |fault: String| Err(SearchError::Rescoring { fault });
    if !(1..=MAX_K).contains(&k) {
        return Err(SearchError::Depth { k });
    }
    if !matches!(request.choice, Choice::Best { skip: 0 }) || request.bins.is_some() {
        return refuse("a draw, a rank window or a histogram, expected the best k; search the full rows".to_owned());
    }
    if factor == 0 {
        return refuse("an over-fetch factor of 0, expected at least 1".to_owned());
    }
    full.check(&request.queries)?;
    if full.rows() != request.store.rows() {
        return refuse(format!("{} full rows for {} rounded ones", full.rows(), request.store.rows()));
    }
    let bound = |bounds: Option<&[f32]>, query: usize, otherwise: f32| bounds.map_or(otherwise, |bounds| bounds[query]);
    let (queries, floor, ceiling) = (request.queries.clone().without_autodiff(), request.floor, request.ceiling);
    let found = search(SearchRequest { k: k.saturating_mul(factor).min(MAX_K), ..request })?;
    let pairs: Vec<(u32, u32)> = pairs(&found).collect();
    let scores = if pairs.is_empty() { Ok(Vec::new()) } else { pair_scores(&queries, full, &pairs, Budget::CPU.scratch) };
    let scores = scores.map_err(|reason| SearchError::Device { query: 0, reason })?;
    let mut entries: Vec<(u32, f32, u32)> = pairs.iter().zip(scores).map(|(&(query, id), score)| (query, score + 0.0, id)).collect();
    if let Some(entry) = entries.iter().find(|entry| entry.1.is_nan()) {
        return Err(SearchError::NotANumber { query: entry.0 as usize });
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    let mut answer = TopK { k, scores: vec![f32::NEG_INFINITY; count * k], ids: vec![u32::MAX; count * k], counts: Vec::new() };
    for entries in entries.chunk_by(|a, b| a.0 == b.0) {
        let query = entries[0].0 as usize;
        let within = bound(floor, query, f32::NEG_INFINITY)..=bound(ceiling, query, f32::INFINITY);
        for (place, entry) in entries.iter().filter(|entry| within.contains(&entry.1)).take(k).enumerate() {
            (answer.scores[query * k + place], answer.ids[query * k + place]) = (entry.1, entry.2);
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, Tensor, TensorData};

    use super::*;
    use crate::catalogue::{BASE, CASES, Case, Values};
    use crate::{Bins, DiskStore, DiskWriter, RowFormat};

    fn tensor(values: &[f32], width: usize) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), (&Device::flex(), DType::F32))
    }

    fn rounded(folder: &std::path::Path, rows: &[f32], width: usize) -> DiskStore {
        let mut writer = DiskWriter::create(&folder.join("rows"), width, RowFormat::I8).unwrap();
        writer.append(rows).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_list_of_all_rows_is_the_search_of_the_full_rows() {
        let folder = tempfile::tempdir().unwrap();
        let fits = |case: &&Case| case.rows() > 0 && case.rows() <= MAX_K && case.queries > 0 && case.values != Values::Denormal;
        let plain = |case: &&Case| case.ask == BASE.ask && case.bins.is_none() && !case.half;
        let mut seen = 0;
        for case in CASES.iter().filter(fits).filter(plain) {
            let problem = case.problem(7);
            let store = rounded(folder.path(), &problem.rows, case.dimension);
            // Bounds are applied to the rounded scores too.
            let exclusions = problem.rules(case).exclusions;
            let full = [tensor(&problem.rows, case.dimension)];
            let ask = |store: Store<'_>| {
                let queries = tensor(&problem.queries, case.dimension);
                let k = case.k;
                let request = SearchRequest { exclusions, ..SearchRequest::new(queries, store, k) };
                if matches!(store, Store::Disk(_)) { search_rescored(request, &full, MAX_K) } else { search(request) }
            };
            let (got, expected) = (ask((&store).into()).unwrap(), ask((&full).into()).unwrap());
            assert_eq!(got.ids, expected.ids, "{}", case.name);
            assert!(got.scores.iter().zip(&expected.scores).all(|(a, b)| a == b || (a - b).abs() < 1e-5), "{}", case.name);
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn rounding_moves_a_row_back_and_scoring_again_moves_it_up() {
        let folder = tempfile::tempdir().unwrap();
        // The second number of row 1 is less than half a byte.
        let rows = [1.0, 0.0, 1.0, 0.003, 1.0, -0.5];
        let store = rounded(folder.path(), &rows, 2);
        let full = [tensor(&rows, 2)];
        let request = || SearchRequest::new(tensor(&[0.0, 1.0], 2), &store, 1);
        assert_eq!(search(request()).unwrap().ids, [0]);
        assert_eq!(search_rescored(request(), &full, 1).unwrap(), TopK { k: 1, scores: vec![0.0], ids: vec![0], counts: vec![] });
        assert_eq!(search_rescored(request(), &full, 2).unwrap(), TopK { k: 1, scores: vec![0.003], ids: vec![1], counts: vec![] });
        let below = search_rescored(SearchRequest { ceiling: Some(&[0.002]), ..request() }, &full, 3).unwrap();
        assert_eq!((below.ids, below.scores), (vec![0], vec![0.0]));
        let none = search_rescored(SearchRequest { floor: Some(&[0.1]), ..request() }, &full, 3).unwrap();
        assert_eq!(none.ids, [u32::MAX]);
    }

    #[test]
    fn what_cannot_be_scored_again_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = rounded(folder.path(), &[1.0; 8], 2);
        let request = || SearchRequest::new(tensor(&[0.0, 1.0], 2), &store, 2);
        let full = |rows: usize| [tensor(&vec![1.0; 2 * rows], 2)];
        let fault = |request, rows, factor| search_rescored(request, &full(rows), factor).unwrap_err().to_string();
        assert!(fault(request(), 3, 2).contains("3 full rows for 4 rounded ones"));
        assert!(fault(request(), 4, 0).contains("factor of 0"));
        assert!(fault(SearchRequest { k: 0, ..request() }, 4, 1).contains("k is 0"));
        let bins = Some(Bins { low: 0.0, high: 1.0, count: 3 });
        for asked in [
            SearchRequest { choice: Choice::Best { skip: 1 }, ..request() },
            SearchRequest { choice: Choice::Uniform { seed: 1, keys: &[1] }, ..request() },
            SearchRequest { bins, ..request() },
        ] {
            assert!(fault(asked, 4, 1).contains("expected the best k"));
        }
        let nan = [tensor(&[f32::NAN; 8], 2)];
        assert_eq!(search_rescored(request(), &nan, 1), Err(SearchError::NotANumber { query: 0 }));
    }
}
