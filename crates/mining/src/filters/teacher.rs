//! Keeps candidates whose teacher score says that they are negatives.
//!
//! RocketQA's denoising is `below = 0.1` before a window of the first ranks (Qu et al. 2021, arXiv 2010.08191). InDi's band is
//! `min = 0.1, max = 0.6` with `at_least = 84, ceiling = 0.95` (Cohen et al. 2024): when fewer than M stay, the M lowest with
//! min ≤ T ≤ ceiling; still fewer, the M highest with T ≤ ceiling. Candidates without a score stay beside them unless `drop_unscored`. (Their last resort, repeating candidates, has no place in a list.)

use super::{Filter, FilterContext, Scored};

/// Fixed bounds on the teacher's score.
#[derive(Debug, Clone, Copy, Default)]
pub struct Teacher {
    /// Lowest score kept, inclusive.
    pub min: Option<f64>,
    /// Highest score kept, inclusive.
    pub max: Option<f64>,
    /// Bound of the scores kept, exclusive.
    pub below: Option<f64>,
    /// Whether candidates without teacher score go.
    pub drop_unscored: bool,
    /// How many must stay, and up to which score others may stay for that.
    pub refill: Option<(usize, f64)>,
}

impl Filter for Teacher {
    fn name(&self) -> &'static str {
        "teacher"
    }

    fn reads_teacher(&self) -> bool {
        true
    }

    fn spares_generated(&self) -> bool {
        true
    }

    fn keep(&self, _: &FilterContext<'_>, it: &Scored) -> bool {
        let Some(score) = it.candidate.teacher.map(f64::from) else { return !self.drop_unscored };
        self.min.is_none_or(|min| score >= min) && self.max.is_none_or(|max| score <= max) && self.below.is_none_or(|below| score < below)
    }

    fn keep_of_list(&self, context: &FilterContext<'_>, list: &[Scored]) -> Option<Vec<bool>> {
        let (wanted, ceiling) = self.refill?;
        let mask: Vec<bool> = list.iter().map(|it| self.keep(context, it)).collect();
        if mask.iter().filter(|&&kept| kept).count() >= wanted {
            return Some(mask);
        }
        // Ascending by score, ties in the order of the list.
        let mut below: Vec<(f64, usize)> = (0..list.len())
            .filter_map(|place| Some((f64::from(list[place].candidate.teacher?), place)))
            .filter(|&(score, _)| score <= ceiling)
            .collect();
        below.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let from = below.partition_point(|&(score, _)| self.min.is_some_and(|min| score < min));
        let chosen = match below.len() - from {
            enough if enough >= wanted => &below[from..from + wanted],
            _ => &below[below.len().saturating_sub(wanted)..],
        };
        let mut mask: Vec<bool> = list.iter().map(|it| it.candidate.teacher.is_none() && !self.drop_unscored).collect();
        chosen.iter().for_each(|&(_, place)| mask[place] = true);
        Some(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::Candidate;

    fn kept(teacher: Teacher, scores: &[Option<f32>]) -> Vec<usize> {
        let list: Vec<Scored> = scores
            .iter()
            .map(|&score| {
                let candidate = Candidate { teacher: score, ..Candidate::found(0, 0, 1, 0.0) };
                Scored { candidate, similarity: f32::NAN, cosine: f32::NAN }
            })
            .collect();
        let context = FilterContext { query: 0, lowest_positive: f32::NAN, positive_cosines: &[], survivors: 0 };
        match teacher.keep_of_list(&context, &list) {
            Some(mask) => (0..list.len()).filter(|&place| mask[place]).collect(),
            None => (0..list.len()).filter(|&place| teacher.keep(&context, &list[place])).collect(),
        }
    }

    #[test]
    fn bounds_hold_as_written() {
        let scores = [Some(0.05), Some(0.5), None, Some(0.75), Some(0.25)];
        let teacher = Teacher::default();
        assert_eq!(kept(Teacher { below: Some(0.5), ..teacher }, &scores), [0, 2, 4]);
        assert_eq!(kept(Teacher { max: Some(0.5), drop_unscored: true, ..teacher }, &scores), [0, 1, 4]);
        assert_eq!(kept(Teacher { min: Some(0.25), max: Some(0.5), drop_unscored: true, ..teacher }, &scores), [1, 4]);
    }

    #[test]
    fn a_band_that_keeps_too_few_takes_the_lowest_then_the_highest() {
        let band =
            |wanted| Teacher { min: Some(0.1), max: Some(0.6), refill: Some((wanted, 0.95)), drop_unscored: true, ..Teacher::default() };
        let scores = [0.99, 0.9, 0.7, 0.05, 0.3, 0.5].map(Some);
        // Enough.
        assert_eq!(kept(band(2), &scores), [4, 5]);
        // Between .1 and .95 lie .3, .5, .7, .9: the three lowest.
        assert_eq!(kept(band(3), &scores), [2, 4, 5]);
        assert_eq!(kept(band(4), &scores), [1, 2, 4, 5]);
        // Only with the score of .05 are there five.
        assert_eq!(kept(band(5), &scores), [1, 2, 3, 4, 5]);
        assert_eq!(kept(band(50), &scores), [1, 2, 3, 4, 5]);
        // What nothing is known about stays where it may.
        let unscored = Teacher { drop_unscored: false, ..band(3) };
        assert_eq!(kept(unscored, &[None, Some(0.7), None, Some(0.99)]), [0, 1, 2]);
        assert_eq!(kept(unscored, &[None; 3]), [0, 1, 2]);
    }
}
