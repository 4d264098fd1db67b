//! Which scores a row holds: documents, extra blocks and mixed vectors, less what the batch or a mask excludes.

use super::{Batch, dot};
use crate::loss::{Block, LossConfig, MaskConfig, MaskRule, Now};

/// All plain scores that losses over unlabelled negatives read.
pub(super) struct Matrix {
    pub(super) rows: Vec<Row>,
}

/// The scores of one query.
pub(super) struct Row {
    pub(super) target: f64,
    /// Every document column, `None` where excluded; the target's is there.
    pub(super) documents: Vec<Option<f64>>,
    target_column: usize,
    /// Open cells of the blocks, and mixed vectors.
    extra: Vec<f64>,
    /// Open own negatives.
    pub(super) own: Vec<f64>,
}

impl Row {
    /// Every open negative of all columns.
    pub(super) fn negatives(&self) -> impl Iterator<Item = f64> + '_ {
        let documents = self.documents.iter().enumerate().filter(|&(column, _)| column != self.target_column);
        documents.filter_map(|(_, score)| *score).chain(self.extra.iter().copied())
    }
}

/// One text of the batch.
#[derive(Clone, Copy, PartialEq)]
enum Text {
    Query(usize),
    Document(usize),
}

impl Batch {
    fn rows_of(&self, text: Text) -> (&[f64], Vec<f64>) {
        let guide = |rows: &[f64], count: usize, index: usize| {
            let width = rows.len() / count;
            if width == 0 { Vec::new() } else { unit(&rows[index * width..][..width]) }
        };
        match text {
            Text::Query(index) => (self.query(index), guide(&self.guide_queries, self.targets.len(), index)),
            Text::Document(index) => (self.document(index), guide(&self.guide_documents, self.columns(), index)),
        }
    }

    /// The student's inner product and the guide's cosine of two texts.
    fn pair(&self, first: Text, second: Text) -> (f64, f64) {
        let ((a, guide_a), (b, guide_b)) = (self.rows_of(first), self.rows_of(second));
        (dot(a, b), dot(&guide_a, &guide_b))
    }

    /// Whether query `query` has an answer that is also known for query `other`.
    fn share_an_answer(&self, query: usize, other: usize) -> bool {
        let (a, b) = (self.targets[query], self.targets[other]);
        a == b || !self.is_candidate(query, b) || !self.is_candidate(other, a)
    }
}

impl Matrix {
    pub(super) fn new(config: &LossConfig, batch: &Batch, now: &Now, mixed: &[Vec<Vec<f64>>]) -> Self {
        let row = |query: usize| {
            let target_column = batch.targets[query];
            let kept = |first: Text, second: Text| {
                let scores = batch.pair(first, second);
                let target = batch.pair(Text::Query(query), Text::Document(target_column));
                let generated = matches!(second, Text::Document(column) if batch.synthetic.get(column) == Some(&true));
                let removed =
                    |mask: &MaskConfig| now.step >= mask.from_step && (mask.synthetic || !generated) && removes(mask, scores, target);
                (!config.mask.iter().any(removed)).then_some(scores.0)
            };
            let target = batch.pair(Text::Query(query), Text::Document(target_column)).0;
            let document = |column: usize| match column == target_column {
                true => Some(target),
                false => batch.is_candidate(query, column).then(|| kept(Text::Query(query), Text::Document(column))).flatten(),
            };
            let documents: Vec<Option<f64>> = (0..batch.columns()).map(document).collect();
            let cells = config.blocks.iter().flat_map(|block| block_cells(*block, batch, query));
            let mut extra: Vec<f64> = cells.filter_map(|(first, second)| kept(first, second)).collect();
            extra.extend(mixed.get(query).into_iter().flatten().map(|vector| dot(batch.query(query), vector)));
            let own = (0..batch.columns()).filter(|&column| column != target_column && batch.is_own(query, column));
            let own = own.filter_map(|column| documents[column]).collect();
            Row { target, documents, target_column, extra, own }
        };
        Self { rows: (0..batch.targets.len()).map(row).collect() }
    }
}

/// `scores` and `target` are (student, guide).
fn removes(mask: &MaskConfig, scores: (f64, f64), target: (f64, f64)) -> bool {
    match mask.rule {
        MaskRule::Student => scores.0 > target.0 + mask.margin(),
        MaskRule::Guide => {
            let margin = if mask.relative { mask.margin() * target.1.abs() } else { mask.margin() };
            scores.1 > target.1 - margin || (mask.hard && scores.0 < target.0)
        }
    }
}

/// The open cells of a block in the row of a query.
fn block_cells(block: Block, batch: &Batch, query: usize) -> Vec<(Text, Text)> {
    let positive = Text::Document(batch.targets[query]);
    match block {
        Block::QueryQuery => {
            let others = (0..batch.targets.len()).filter(|&other| other != query && !batch.share_an_answer(query, other));
            others.map(|other| (Text::Query(query), Text::Query(other))).collect()
        }
        Block::PositivePositive | Block::DocumentDocument => {
            let open = |column: &usize| {
                let is_target = batch.targets.contains(column);
                let owners = (0..batch.targets.len()).filter(|&other| batch.targets[other] == *column);
                *column != batch.targets[query]
                    && batch.is_candidate(query, *column)
                    && owners.into_iter().all(|other| !batch.share_an_answer(query, other))
                    && (is_target || block == Block::DocumentDocument)
            };
            (0..batch.columns()).filter(open).map(|column| (positive, Text::Document(column))).collect()
        }
    }
}

/// The mixed vectors of each query, see [`MixingConfig`](crate::MixingConfig); empty without mixing.
pub fn mixed_vectors(config: &LossConfig, batch: &Batch, now: &Now) -> Vec<Vec<Vec<f64>>> {
    let Some(mixing) = &config.mixing else { return Vec::new() };
    let matrix = Matrix::new(config, batch, now, &[]);
    let queries = batch.targets.len();
    let [pairs, with_query] = mixing.draws(now, queries);
    let vectors = |query: usize| {
        let row = &matrix.rows[query];
        let mut negatives: Vec<usize> = (0..batch.columns()).filter(|&c| c != row.target_column && row.documents[c].is_some()).collect();
        negatives.sort_by(|&a, &b| row.documents[b].partial_cmp(&row.documents[a]).expect("scores are numbers"));
        negatives.truncate(mixing.hardest);
        let available = negatives.len();
        let place = |uniform: f32, below: usize| (f64::from(uniform) * below as f64) as usize;
        let cells = |list: &[f32]| query * (list.len() / queries)..(query + 1) * (list.len() / queries);
        let mut vectors = Vec::new();
        for cell in cells(&pairs.share).filter(|_| available >= 2) {
            let first = place(pairs.first[cell], available);
            let second = (first + 1 + place(pairs.second[cell], available - 1)) % available;
            let rows = (batch.document(negatives[first]), batch.document(negatives[second]));
            vectors.push(mix(rows.0, rows.1, f64::from(pairs.share[cell])));
        }
        for cell in cells(&with_query.share).filter(|_| available >= 1) {
            let negative = batch.document(negatives[place(with_query.first[cell], available)]);
            vectors.push(mix(batch.query(query), negative, f64::from(with_query.share[cell]) / 2.0));
        }
        vectors
    };
    (0..queries).map(vectors).collect()
}

fn mix(first: &[f64], second: &[f64], share: f64) -> Vec<f64> {
    unit(&first.iter().zip(second).map(|(a, b)| share * a + (1.0 - share) * b).collect::<Vec<f64>>())
}

pub(super) fn unit(row: &[f64]) -> Vec<f64> {
    let length = dot(row, row).sqrt();
    row.iter().map(|x| x / length).collect()
}
