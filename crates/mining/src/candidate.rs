//! One document that may be served as a negative for one query, with its provenance.
//!
//! Sources make candidates, filters drop them, draws choose among them; none of the latter two needs to know the source.

/// A document and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Dense document id; a generated document's is at least the number of documents in the corpus.
    pub document: u32,
    /// Position of its source in the configuration, or [`Candidate::FILL`].
    pub source: u8,
    /// Place in the source's list, from 1, judged documents counted; 0 for a document drawn at random.
    pub rank: u32,
    /// The source's own score (a similarity, a BM25 score, the score in a file); NaN when it has none.
    pub score: f32,
    /// A teacher's score, when one was asked.
    pub teacher: Option<f32>,
    /// Whether the text was generated rather than found.
    pub synthetic: bool,
    /// Its score on the scale of the positive's score that draws compare it with; NaN when unknown.
    pub similarity: f32,
    /// Similarity to the positive of the visit; NaN unless the draw asked for it.
    pub to_positive: f32,
    /// Every source that lists it, bit i for source i; of several, `source` is the one with the best rank.
    pub found_by: u64,
}

impl Candidate {
    /// The `source` of a document that fills a row which came out short.
    pub const FILL: u8 = u8::MAX;

    /// A document found by search.
    pub(crate) fn found(document: u32, source: u8, rank: u32, score: f32) -> Self {
        let found_by = 1_u64.checked_shl(u32::from(source)).unwrap_or(0);
        Self { document, source, rank, score, teacher: None, synthetic: false, similarity: f32::NAN, to_positive: f32::NAN, found_by }
    }

    /// A document drawn without search.
    pub(crate) fn random(document: u32, source: u8) -> Self {
        Self::found(document, source, 0, f32::NAN)
    }
}

/// Bitwise in the scores: an unscored candidate equals itself.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        let scores = |it: &Self| [it.score, it.similarity, it.to_positive].map(f32::to_bits);
        let rest = |it: &Self| (it.document, it.source, it.rank, it.teacher.map(f32::to_bits), it.synthetic, it.found_by);
        scores(self) == scores(other) && rest(self) == rest(other)
    }
}

impl Eq for Candidate {}
