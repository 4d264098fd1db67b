//! A teacher that is asked at the refresh: which pairs it sees, what its scores do, and how good a filter was where the truth is known.

use std::collections::BTreeMap;

use corpus::Judgments;

use super::{LINE, Placed, config, documents, line};
use crate::{EncodeError, Encoders, Miner, MiningError, Moment, PairScorer, RowEncoder, Visit};

/// The encoder in training, and a teacher that gives each document its own score.
struct Taught {
    current: Placed,
    teacher: Option<Table>,
}

struct Table {
    scores: Vec<f32>,
    asked: Vec<(u32, u32)>,
}

impl Encoders for Taught {
    fn current(&mut self) -> &mut dyn RowEncoder {
        &mut self.current
    }

    fn named(&mut self, model: &str) -> Result<&mut dyn RowEncoder, EncodeError> {
        Err(EncodeError::new(model.to_owned()))
    }

    fn teacher(&mut self) -> Option<&mut dyn PairScorer> {
        self.teacher.as_mut().map(|it| it as &mut dyn PairScorer)
    }
}

impl PairScorer for Table {
    fn scores(&mut self, pairs: &[(u32, u32)]) -> Result<Vec<f32>, EncodeError> {
        self.asked.extend_from_slice(pairs);
        Ok(pairs.iter().filter_map(|&(_, document)| self.scores.get(document as usize).copied()).collect())
    }
}

/// Documents 1, 2 and 5 look relevant to it.
fn taught() -> Taught {
    let scores = vec![0.99, 0.9, 0.8, 0.05, 0.01, 0.7, 0.02, 0.03];
    Taught { current: line().2, teacher: Some(Table { scores, asked: Vec::new() }) }
}

const DENSE: &str = "[[source]]\nfrom = \"dense\"\ndepth = 6\n";

#[test]
fn candidates_that_look_relevant_to_the_teacher_are_dropped_and_only_those_that_came_so_far_are_judged() {
    let (mut data, judgments, _) = line();
    // Relevant but not judged: documents 1, 5 and 7; the last is no candidate.
    data.truth = Some(Judgments::from_pairs(1, vec![(0, 0, 1), (0, 1, 1), (0, 5, 1), (0, 7, 1)]));
    let recipe = config(&format!(
        "{DENSE}[[filter]]\nrule = \"score\"\nmax = 0.9\n[[filter]]\nrule = \"teacher\"\nbelow = 0.1\n[[filter]]\nrule = \"rank-window\"\nskip = 1\n[draw]\nrule = \"top\""
    ));
    let mut encoders = taught();
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    let report = miner.refresh(Moment::new(0, 0), &mut encoders).unwrap();
    // Document 1 (similarity .95) has gone before; the window comes after.
    assert_eq!(encoders.teacher.unwrap().asked, [(0, 2), (0, 3), (0, 4), (0, 5), (0, 6)]);
    let drawn = miner.draw(&Visit::new(0, 0, 9, 0));
    assert_eq!(documents(&drawn), [4, 6]);
    assert_eq!(drawn.iter().map(|it| it.teacher).collect::<Vec<_>>(), [Some(0.01), Some(0.02)]);
    let source = &report.by_source[0];
    // The judged document was found, too.
    assert_eq!((source.found, source.found_relevant), (7, Some(2)));
    let counts = |pairs: &[(&str, u64)]| pairs.iter().map(|&(name, count)| (name.to_owned(), count)).collect::<BTreeMap<_, _>>();
    assert_eq!(source.removed, counts(&[("judged", 1), ("score", 1), ("teacher", 2), ("rank-window", 1)]));
    assert_eq!(source.removed_relevant, Some(counts(&[("score", 1), ("teacher", 1)])));
}

#[test]
fn bins_of_margins_are_made_of_the_teachers_scores() {
    let (data, judgments, _) = line();
    let recipe = config(&format!("{DENSE}[draw]\nrule = \"margin-bins\"\nbins = 2"));
    let mut encoders = taught();
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    miner.refresh(Moment::new(0, 0), &mut encoders).unwrap();
    // Of six candidates three lie in the upper half of the scores .01 to .9: half of the draws, as of each of these three a sixth.
    let mut counts = [0; LINE.len()];
    (0..3000).for_each(|visit| counts[documents(&miner.draw(&Visit::new(0, 0, 1, visit)))[0] as usize] += 1);
    let upper = counts[1] + counts[2] + counts[5];
    // 5 standard deviations of 3000 fair coins are 137.
    assert!((1363..=1637).contains(&upper), "{counts:?}");
    let twice = config(&format!("{DENSE}[[filter]]\nrule = \"teacher\"\nmax = 0.85\n[draw]\nrule = \"margin-bins\"\nbins = 2"));
    let mut encoders = taught();
    Miner::new(&twice, &data, &judgments, 7).unwrap().refresh(Moment::new(0, 0), &mut encoders).unwrap();
    assert_eq!(encoders.teacher.unwrap().asked.len(), 6, "nothing is judged twice");
}

#[test]
fn without_a_teacher_nothing_is_scored_and_a_teacher_that_loses_pairs_is_an_error() {
    let (data, judgments, _) = line();
    let recipe = config(&format!("{DENSE}[[filter]]\nrule = \"teacher\"\nbelow = 0.1\n[draw]\nrule = \"top\""));
    let mut miner = Miner::new(&recipe, &data, &judgments, 7).unwrap();
    miner.refresh(Moment::new(0, 0), &mut Taught { teacher: None, ..taught() }).unwrap();
    assert_eq!(documents(&miner.draw(&Visit::new(0, 0, 9, 0))).len(), 6);
    let mut short = taught();
    short.teacher.as_mut().unwrap().scores.truncate(4);
    let error = Miner::new(&recipe, &data, &judgments, 7).unwrap().refresh(Moment::new(0, 0), &mut short).unwrap_err();
    assert!(matches!(&error, MiningError::Model { .. }) && error.to_string().contains("3 scores for 6 pairs"), "{error}");
}
