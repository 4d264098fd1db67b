//! The filtered candidates of one source, compressed rows by query. Immutable: a refresh makes new ones.
//!
//! What only some draws read (similarities, teacher scores, similarities to positives) lies in columns of its own, which are empty where
//! nobody asked.

use crate::candidate::Candidate;

/// What a list keeps of every candidate; the source is the same for the whole list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    pub(crate) document: u32,
    /// The rank, with [`FILLED`] set for a document that fills a short row.
    rank: u32,
    pub(crate) score: f32,
}

/// Ranks stay far below.
const FILLED: u32 = 1 << 31;

impl Entry {
    pub(crate) fn new(candidate: &Candidate) -> Self {
        let filled = if candidate.source == Candidate::FILL { FILLED } else { 0 };
        Self { document: candidate.document, rank: candidate.rank | filled, score: candidate.score }
    }

    pub(crate) fn candidate(self, source: u8) -> Candidate {
        let mut candidate = Candidate::found(self.document, source, self.rank & !FILLED, self.score);
        if self.is_fill() {
            candidate.source = Candidate::FILL;
        }
        candidate
    }

    pub(crate) fn is_fill(self) -> bool {
        self.rank & FILLED != 0
    }

    pub(crate) fn rank(self) -> u32 {
        self.rank & !FILLED
    }

    pub(crate) fn numbers(self) -> [u32; 3] {
        [self.document, self.rank, self.score.to_bits()]
    }

    pub(crate) fn from_numbers([document, rank, score]: [u32; 3]) -> Self {
        Self { document, rank, score: f32::from_bits(score) }
    }
}

/// Rows of different lengths, one per query; queries beyond have empty rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ragged<T> {
    /// Row `q` is `values[offsets[q]..offsets[q + 1]]`.
    offsets: Vec<u64>,
    values: Vec<T>,
}

impl<T> Default for Ragged<T> {
    fn default() -> Self {
        Self { offsets: Vec::new(), values: Vec::new() }
    }
}

impl<T> Ragged<T> {
    fn with_room(queries: usize) -> Self {
        let mut offsets = Vec::with_capacity(queries + 1);
        offsets.push(0);
        Self { offsets, values: Vec::new() }
    }

    /// From raw parts, `None` when they do not belong together.
    pub(crate) fn from_parts(offsets: Vec<u64>, values: Vec<T>) -> Option<Self> {
        let whole = offsets.first() == Some(&0) && offsets.last() == Some(&(values.len() as u64));
        // Lists that were never found have no rows at all.
        let none = offsets.is_empty() && values.is_empty();
        ((whole && offsets.is_sorted()) || none).then_some(Self { offsets, values })
    }

    pub(crate) fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    pub(crate) fn row(&self, query: u32) -> &[T] {
        let query = query as usize;
        match (self.offsets.get(query), self.offsets.get(query + 1)) {
            (Some(&start), Some(&end)) => &self.values[start as usize..end as usize],
            _ => &[],
        }
    }

    /// The row of `query`, which lies above all queries pushed before.
    fn push(&mut self, query: u32, row: impl IntoIterator<Item = T>) {
        let end = self.values.len() as u64;
        debug_assert!(self.offsets.len() <= query as usize + 1, "queries come in ascending order");
        self.offsets.resize(query as usize + 1, end);
        self.values.extend(row);
        self.offsets.push(self.values.len() as u64);
    }

    fn finish(&mut self, queries: usize) {
        // A column that nobody asked for has no rows.
        if self.values.is_empty() {
            *self = Self::default();
            return;
        }
        let end = self.values.len() as u64;
        self.offsets.resize((queries + 1).max(self.offsets.len()), end);
        self.values.shrink_to_fit();
    }
}

/// The candidates of one query.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    /// Best first.
    pub(crate) entries: Vec<Entry>,
    /// On the scale of `positives`, by entry; empty where that is the entry's own score, or nobody asked.
    pub(crate) similarity: Vec<f32>,
    /// By entry, NaN where no teacher scored; empty without teacher.
    pub(crate) teacher: Vec<f32>,
    /// Scores of the query's positives, in the order of the judgments; empty when unknown.
    pub(crate) positives: Vec<f32>,
    /// Similarity of each positive to each entry, positive by positive; empty when nobody asked.
    pub(crate) to_positive: Vec<f32>,
}

/// One row per query of the collection; rows of other than training queries are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lists {
    pub(crate) entries: Ragged<Entry>,
    pub(crate) similarity: Ragged<f32>,
    pub(crate) teacher: Ragged<f32>,
    pub(crate) positives: Ragged<f32>,
    pub(crate) to_positive: Ragged<f32>,
}

impl Lists {
    /// Lists of these rows, ascending by query.
    pub(crate) fn of(queries: usize, rows: impl IntoIterator<Item = (u32, Row)>) -> Self {
        let mut lists = Self {
            entries: Ragged::with_room(queries),
            similarity: Ragged::with_room(queries),
            teacher: Ragged::with_room(queries),
            positives: Ragged::with_room(queries),
            to_positive: Ragged::with_room(queries),
        };
        for (query, row) in rows {
            lists.entries.push(query, row.entries);
            lists.similarity.push(query, row.similarity);
            lists.teacher.push(query, row.teacher);
            lists.positives.push(query, row.positives);
            lists.to_positive.push(query, row.to_positive);
        }
        lists.entries.finish(queries);
        lists.columns_mut().into_iter().for_each(|column| column.finish(queries));
        lists
    }

    /// The columns beside the entries, in the order in which they are written.
    pub(crate) fn columns(&self) -> [&Ragged<f32>; 4] {
        [&self.similarity, &self.teacher, &self.positives, &self.to_positive]
    }

    fn columns_mut(&mut self) -> [&mut Ragged<f32>; 4] {
        [&mut self.similarity, &mut self.teacher, &mut self.positives, &mut self.to_positive]
    }

    /// From raw columns, `None` when they do not belong together.
    pub(crate) fn from_columns(entries: Ragged<Entry>, [similarity, teacher, positives, to_positive]: [Ragged<f32>; 4]) -> Option<Self> {
        let rows = entries.offsets.len().max(1) as u32 - 1;
        let fits = (0..rows).all(|query| {
            let length = entries.row(query).len();
            let same = |column: &Ragged<f32>| [0, length].contains(&column.row(query).len());
            let matrix = [0, length * positives.row(query).len()].contains(&to_positive.row(query).len());
            same(&similarity) && same(&teacher) && matrix
        });
        fits.then_some(Self { entries, similarity, teacher, positives, to_positive })
    }

    pub(crate) fn row(&self, query: u32) -> &[Entry] {
        self.entries.row(query)
    }

    /// Everything about one query.
    pub(crate) fn whole_row(&self, query: u32) -> Row {
        Row {
            entries: self.row(query).to_vec(),
            similarity: self.similarity.row(query).to_vec(),
            teacher: self.teacher.row(query).to_vec(),
            positives: self.positives.row(query).to_vec(),
            to_positive: self.to_positive.row(query).to_vec(),
        }
    }

    /// The candidates of `query` from `source`, as a draw sees them when the positive at place `positive` is trained on. With `comparable`,
    /// the source's own scores are on the scale of the positives.
    pub(crate) fn candidates(&self, query: u32, source: u8, positive: Option<usize>, comparable: bool) -> Vec<Candidate> {
        let entries = self.row(query);
        let (similarity, teacher) = (self.similarity.row(query), self.teacher.row(query));
        let to_positive = positive.and_then(|place| self.to_positive.row(query).chunks_exact(entries.len().max(1)).nth(place));
        let candidate = |(place, entry): (usize, &Entry)| {
            let mut candidate = entry.candidate(source);
            candidate.similarity = similarity.get(place).copied().unwrap_or(if comparable { entry.score } else { f32::NAN });
            candidate.teacher = teacher.get(place).copied().filter(|score| !score.is_nan());
            candidate.to_positive = to_positive.map_or(f32::NAN, |scores| scores[place]);
            candidate
        };
        entries.iter().enumerate().map(candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(document: u32) -> Entry {
        Entry::new(&Candidate::found(document, 0, 1, 0.5))
    }

    #[test]
    fn rows_of_queries_that_were_left_out_are_empty() {
        let row = |documents: &[u32]| Row { entries: documents.iter().map(|&it| entry(it)).collect(), ..Row::default() };
        let lists = Lists::of(5, [(1, row(&[7, 8])), (3, row(&[9]))]);
        let row = |query| lists.row(query).iter().map(|entry| entry.document).collect::<Vec<_>>();
        assert_eq!([row(0), row(1), row(2), row(3), row(4), row(99)], [vec![], vec![7, 8], vec![], vec![9], vec![], vec![]]);
        assert_eq!(lists.entries.offsets().len(), 6);
        assert!(lists.columns().iter().all(|column| column.offsets().is_empty()), "nobody asked for them");
        assert!(Ragged::from_parts(vec![0, 2, 1], vec![entry(1); 1]).is_none());
        assert!(Ragged::from_parts(vec![0, 2], vec![entry(1); 1]).is_none());
    }

    #[test]
    fn columns_follow_their_candidates_and_the_positive_of_the_visit() {
        let mut filled = Candidate::found(8, 3, 60, 0.2);
        filled.source = Candidate::FILL;
        let row = Row {
            entries: vec![entry(7), Entry::new(&filled)],
            similarity: vec![0.6, 0.3],
            teacher: vec![f32::NAN, 4.0],
            positives: vec![0.9, 0.8],
            to_positive: vec![0.1, 0.2, 0.3, 0.4],
        };
        let lists = Lists::of(4, [(2, row.clone())]);
        assert_eq!(lists.whole_row(2).entries, row.entries);
        let of = |positive| lists.candidates(2, 3, positive, true);
        let found = of(Some(1));
        assert_eq!((found[0].source, found[0].similarity, found[0].teacher, found[0].to_positive), (3, 0.6, None, 0.3));
        assert_eq!((found[1].source, found[1].rank, found[1].teacher, found[1].to_positive), (Candidate::FILL, 60, Some(4.0), 0.4));
        assert_eq!(found[1].found_by, 1 << 3);
        assert!(of(None)[0].to_positive.is_nan() && of(Some(2))[0].to_positive.is_nan());
        // A column that is neither whole nor empty does not fit.
        let columns = |teacher| [Ragged::default(), teacher, Ragged::default(), Ragged::default()];
        let entries = || Ragged::from_parts(vec![0, 2], vec![entry(1), entry(2)]).unwrap();
        assert!(Lists::from_columns(entries(), columns(Ragged::from_parts(vec![0, 1], vec![0.5]).unwrap())).is_none());
        assert!(Lists::from_columns(entries(), columns(Ragged::default())).is_some());
    }
}
