//! Candidates of one block of queries from one source after another: found, measured, filtered, filled, reduced, and turned into rows of
//! lists with what the draw needs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::refresh::Work;
use super::views::{View, lowest};
use super::{Miner, Supply};
use crate::candidate::Candidate;
use crate::chance::{Purpose, generator};
use crate::config::{Model, Short};
use crate::draws::Reduction;
use crate::encoders::Encoders;
use crate::error::{EncodeError, MiningError};
use crate::filters::{FilterContext, Filtered, Scored};
use crate::lists::{self, Row};
use crate::sources::{Block, Embedded, Scale, Source};

/// A block of queries and what is known about it.
pub(super) struct Known<'a> {
    pub(super) queries: &'a [u32],
    /// Left out by searches.
    judged: Vec<Vec<u32>>,
    positives: Vec<Vec<u32>>,
    pub(super) views: BTreeMap<Model, View<'a>>,
}

impl Known<'_> {
    /// Similarities of positives by this model, or by another one where it was not asked.
    pub(super) fn reference_positives(&self, model: &Model) -> impl Iterator<Item = f32> {
        let view = self.views.get(model).or_else(|| self.views.values().next());
        view.into_iter().flat_map(|view| view.positives.iter().flatten().copied())
    }
}

impl Miner {
    /// Everything that mining these sources for `queries` takes.
    pub(super) fn know<'a>(&'a self, queries: &'a [u32], numbers: &[usize], encoders: &mut dyn Encoders) -> Result<Known<'a>, MiningError> {
        let judged: Vec<Vec<u32>> = if self.config.remove_judged {
            queries.iter().map(|&query| self.knowledge.excluded(query).collect()).collect()
        } else {
            vec![Vec::new(); queries.len()]
        };
        let positives: Vec<Vec<u32>> = queries.iter().map(|&query| self.knowledge.judgments().positives(query).collect()).collect();
        let mut views = BTreeMap::new();
        for model in numbers.iter().flat_map(|&number| self.models(&self.supplies[number])) {
            if let Entry::Vacant(place) = views.entry(model) {
                let view = self.view(place.key(), queries, &judged, &positives, encoders)?;
                place.insert(view);
            }
        }
        Ok(Known { queries, judged, positives, views })
    }

    /// Rows of lists for one source.
    pub(super) fn mine_block(
        &self,
        number: usize,
        known: &Known<'_>,
        encoders: &mut dyn Encoders,
        work: &mut Work,
    ) -> Result<Vec<(u32, Row)>, MiningError> {
        let supply = &self.supplies[number];
        let Some(source) = &supply.source else { return Ok(Vec::new()) };
        let searching = Instant::now();
        let model = self.filter_model(supply);
        let view = model.as_ref().and_then(|model| known.views.get(model));
        let embedded = view.map(|view| Embedded { queries: &view.rows, store: view.store, judged: &view.judged, ceilings: &view.ceilings });
        let candidates = source.candidates(&Block { queries: known.queries, judged: &known.judged, embedded })?;
        let mut lists = self.measure(supply, candidates, view.zip(model.as_ref()), encoders)?;
        work.search_seconds += searching.elapsed().as_secs_f64();

        let filtering = Instant::now();
        let bounds: Vec<f32> = (0..known.queries.len())
            .map(|row| match supply.scale {
                Scale::Own => source.lowest_positive(known.queries[row]),
                _ => view.map_or(f32::NAN, |view| view.lowest[row]),
            })
            .collect();
        let found: usize = lists.iter().map(Vec::len).sum();
        let found_relevant = self.unjudged_relevant(known.queries, &lists);
        let context = |row: usize| {
            let positive_cosines = view.map_or(&[][..], |view| &view.cosines[row]);
            FilterContext { query: known.queries[row], lowest_positive: bounds[row], positive_cosines, survivors: 0 }
        };
        if self.chain.reads_teacher() {
            let reached: Vec<Vec<usize>> =
                lists.par_iter().enumerate().map(|(row, list)| self.chain.reach_teacher(context(row), list)).collect();
            teach(known.queries, &mut lists, &reached, encoders)?;
        }
        let mut filtered: Vec<Filtered> =
            lists.into_par_iter().enumerate().map(|(row, list)| self.filter(number as u8, context(row), list)).collect();
        work.filter_seconds += filtering.elapsed().as_secs_f64();

        let tally = work.tallies.entry(number).or_default();
        if supply.is_generated() {
            tally.spared.add(&self.chain.exemptions());
        }
        tally.queries += known.queries.len();
        tally.found += found as u64;
        tally.found_relevant += found_relevant;
        for (filtered, &bound) in filtered.iter().zip(&bounds) {
            tally.removed.add(&filtered.removed);
            tally.spared.add(&filtered.spared);
            tally.removed_relevant.add(&filtered.removed_relevant);
            work.removed.add(&filtered.removed);
            tally.scores.extend(filtered.kept.iter().map(|it| it.similarity));
            tally.differences.extend(filtered.kept.iter().map(|it| bound - it.similarity));
        }
        let dropped = work.dropped.entry(number).or_default();
        // Entered even when empty, in the place of those of the version before.
        dropped.extend(known.queries.iter().zip(&mut filtered).map(|(&query, it)| (query, std::mem::take(&mut it.dropped))));
        let searching = Instant::now();
        let mut kept: Vec<Vec<Scored>> = filtered.into_iter().map(|it| it.kept).collect();
        if supply.draw.needs().teacher {
            let all: Vec<Vec<usize>> = kept.iter().map(|list| (0..list.len()).collect()).collect();
            teach(known.queries, &mut kept, &all, encoders)?;
        }
        let rows = self.rows(number, known, kept, encoders)?;
        work.search_seconds += searching.elapsed().as_secs_f64();
        Ok(rows)
    }

    /// Candidates that are relevant but not judged so, where that can be known.
    fn unjudged_relevant(&self, queries: &[u32], lists: &[Vec<Scored>]) -> u64 {
        let Some(truth) = &self.truth else { return 0 };
        let wrong = |query: u32, it: &Scored| {
            let document = it.candidate.document;
            truth.is_positive(query, document) && !self.knowledge.judgments().is_positive(query, document)
        };
        queries.iter().zip(lists).map(|(&query, list)| list.iter().filter(|it| wrong(query, it)).count() as u64).sum()
    }

    /// What the filters measure each candidate by: its own score where that is on the scale of the positives, otherwise the encoder's.
    fn measure(
        &self,
        supply: &Supply,
        candidates: Vec<Vec<Candidate>>,
        view: Option<(&View<'_>, &Model)>,
        encoders: &mut dyn Encoders,
    ) -> Result<Vec<Vec<Scored>>, MiningError> {
        let documents: Vec<Vec<u32>> = candidates.iter().map(|row| row.iter().map(|it| it.document).collect()).collect();
        let mut encoded = |cosine: bool| match view {
            None => Ok(documents.iter().map(|row| vec![f32::NAN; row.len()]).collect()),
            Some((view, model)) if supply.is_generated() => view.scores_outside(&documents, cosine, model, encoders),
            Some((view, _)) => view.scores(&documents, cosine),
        };
        let similarities: Option<Vec<Vec<f32>>> = if supply.scale == Scale::Foreign { Some(encoded(false)?) } else { None };
        let cosines: Option<Vec<Vec<f32>>> = if self.chain.reads_cosine() { Some(encoded(true)?) } else { None };
        let of = |scores: &Option<Vec<Vec<f32>>>, row: usize, place: usize| scores.as_ref().map(|scores| scores[row][place]);
        let scored = |row: usize, place: usize, candidate: Candidate| Scored {
            candidate,
            similarity: of(&similarities, row, place).unwrap_or(candidate.score),
            cosine: of(&cosines, row, place).unwrap_or(f32::NAN),
        };
        let row = |(row, list): (usize, Vec<Candidate>)| list.into_iter().enumerate().map(|(place, it)| scored(row, place, it)).collect();
        Ok(candidates.into_iter().enumerate().map(row).collect())
    }

    /// Filters one list, and fills it from deeper ranks where that is configured.
    fn filter(&self, number: u8, context: FilterContext<'_>, list: Vec<Scored>) -> Filtered {
        let Short::Beyond { from, until } = self.config.short else { return self.chain.run(context, list) };
        let mut filtered = self.chain.run(context, list.clone());
        let missing = self.wanted.saturating_sub(filtered.kept.len());
        if missing > 0 {
            let there: HashSet<u32> = filtered.kept.iter().map(|it| it.candidate.document).collect();
            let mut reserve = self.chain.reserve(context, &list, from..=until);
            reserve.retain(|it| !there.contains(&it.candidate.document));
            reserve.shuffle(&mut generator(self.seed, context.query, self.version, Purpose::Beyond(number)));
            reserve.truncate(missing);
            reserve.iter_mut().for_each(|it| it.candidate.source = Candidate::FILL);
            filtered.kept.extend(reserve);
        }
        filtered
    }

    /// Rows of a list with the columns that the draw reads.
    fn rows(
        &self,
        number: usize,
        known: &Known<'_>,
        mut kept: Vec<Vec<Scored>>,
        encoders: &mut dyn Encoders,
    ) -> Result<Vec<(u32, Row)>, MiningError> {
        let supply = &self.supplies[number];
        let needs = supply.draw.needs();
        let model = self.draw_model(supply);
        let view = model.as_ref().and_then(|model| known.views.get(model));
        let measured = self.measures_for_draw(supply);
        // From here on a candidate's similarity is the one that the draw compares with the positive. What has no scale of its own was
        // measured for the filters already.
        let remeasured = measured && supply.scale != Scale::Foreign;
        kept.iter_mut().flatten().for_each(|it| it.candidate.similarity = it.similarity);
        if let Some((view, model)) = view.zip(model.as_ref()).filter(|_| remeasured) {
            let documents: Vec<Vec<u32>> = kept.iter().map(|row| row.iter().map(|it| it.candidate.document).collect()).collect();
            let scores = if supply.is_generated() {
                view.scores_outside(&documents, false, model, encoders)?
            } else {
                view.scores(&documents, false)?
            };
            for (list, scores) in kept.iter_mut().zip(scores) {
                list.iter_mut().zip(scores).for_each(|(it, score)| it.candidate.similarity = score);
            }
        }
        let positives = self.positive_scores(supply, known, needs.to_positive);
        let mut lists: Vec<Vec<Candidate>> = kept.into_iter().map(|list| list.into_iter().map(|it| it.candidate).collect()).collect();
        for (row, list) in lists.iter_mut().enumerate() {
            let store = view.map(|view| view.store).filter(|_| needs.rows);
            let lowest_positive = lowest(&positives[row]);
            let reduction = Reduction { seed: self.seed, query: known.queries[row], source: number as u8, lowest_positive, store };
            // Generated documents have no rows to be compared by.
            let reduced = if needs.rows && supply.is_generated() { None } else { supply.draw.reduce(&reduction, list)? };
            if let Some(places) = reduced {
                *list = places.into_iter().map(|place| list[place]).collect();
            }
        }
        let to_positive = match view.filter(|_| needs.to_positive && !supply.is_generated()) {
            Some(view) => self.to_positives(view, known, &lists)?,
            None => vec![Vec::new(); lists.len()],
        };
        let columns = known.queries.iter().zip(lists).zip(positives).zip(to_positive);
        Ok(columns.map(|(((&query, list), positives), to_positive)| (query, row(&list, measured, positives, to_positive))).collect())
    }

    /// Scores of positives on the scale that the draw compares on; empty rows when unknown.
    fn positive_scores(&self, supply: &Supply, known: &Known<'_>, to_positive: bool) -> Vec<Vec<f32>> {
        let own: Option<&dyn Source> = supply.source.as_deref().filter(|_| supply.scale == Scale::Own && !self.united() && !to_positive);
        let models = [self.draw_model(supply), self.filter_model(supply)];
        let view = models.iter().flatten().find_map(|model| known.views.get(model));
        match (own, view) {
            (Some(source), _) => {
                let row = |(&query, positives): (&u32, &Vec<u32>)| positives.iter().map(|&it| source.positive_score(query, it)).collect();
                known.queries.iter().zip(&known.positives).map(row).collect()
            }
            (None, Some(view)) => view.positives.clone(),
            (None, None) => vec![Vec::new(); known.queries.len()],
        }
    }

    /// Similarities of every positive to every candidate, positive by positive.
    fn to_positives(&self, view: &View<'_>, known: &Known<'_>, lists: &[Vec<Candidate>]) -> Result<Vec<Vec<f32>>, MiningError> {
        let pairs: Vec<Vec<(u32, u32)>> = known
            .positives
            .iter()
            .zip(lists)
            .map(|(positives, list)| positives.iter().flat_map(|&positive| list.iter().map(move |it| (positive, it.document))).collect())
            .collect();
        let mut flat = view.store.between(&pairs.concat())?.into_iter();
        Ok(pairs.iter().map(|pairs| flat.by_ref().take(pairs.len()).collect()).collect())
    }
}

/// Has the teacher judge the candidates at `places` of each list that bring no teacher's score. Without a teacher they stay unscored.
fn teach(queries: &[u32], lists: &mut [Vec<Scored>], places: &[Vec<usize>], encoders: &mut dyn Encoders) -> Result<(), MiningError> {
    let Some(teacher) = encoders.teacher() else { return Ok(()) };
    let open: Vec<(usize, usize)> = places
        .iter()
        .enumerate()
        .flat_map(|(row, places)| places.iter().map(move |&place| (row, place)))
        .filter(|&(row, place)| lists[row][place].candidate.teacher.is_none())
        .collect();
    let pairs: Vec<(u32, u32)> = open.iter().map(|&(row, place)| (queries[row], lists[row][place].candidate.document)).collect();
    let scores = teacher.scores(&pairs).map_err(|source| MiningError::Model { model: "teacher".to_owned(), source })?;
    if scores.len() != pairs.len() {
        let source = EncodeError::new(format!("{} scores for {} pairs", scores.len(), pairs.len()));
        return Err(MiningError::Model { model: "teacher".to_owned(), source });
    }
    open.into_iter()
        .zip(scores)
        .for_each(|((row, place), score)| lists[row][place].candidate.teacher = Some(score).filter(|score| !score.is_nan()));
    Ok(())
}

fn row(list: &[Candidate], measured: bool, positives: Vec<f32>, to_positive: Vec<f32>) -> Row {
    let taught = list.iter().any(|it| it.teacher.is_some());
    Row {
        entries: list.iter().map(lists::Entry::new).collect(),
        similarity: if measured { list.iter().map(|it| it.similarity).collect() } else { Vec::new() },
        teacher: if taught { list.iter().map(|it| it.teacher.unwrap_or(f32::NAN)).collect() } else { Vec::new() },
        positives,
        to_positive,
    }
}
