//! What can go wrong between a configuration and a list of negatives. Each message says what, where, got, expected, what to do.

use kernels::SearchError;

/// An encoder that could not encode.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct EncodeError {
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl EncodeError {
    /// Wraps the encoder's own error.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into() }
    }
}

/// A value in `[negatives]` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("negatives.{field}: got {got}, expected {expected}")]
pub struct ConfigError {
    /// Where, below `negatives`.
    pub field: String,
    /// What stands there.
    pub got: String,
    /// What would be right.
    pub expected: String,
}

/// Everything that can stop mining.
#[derive(Debug, thiserror::Error)]
pub enum MiningError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The encoder failed.
    #[error("encoding {what} failed: {source}")]
    Encode {
        /// `documents` or `queries`.
        what: &'static str,
        /// The encoder's error.
        source: EncodeError,
    },
    /// An encoder that a source names is not there.
    #[error("negatives.source: model = \"{model}\": {source}")]
    Model {
        /// What the source names.
        model: String,
        /// Why it is not there.
        source: EncodeError,
    },
    /// Rows of the wrong shape.
    #[error("{what} have the shape {got:?}, expected {expected:?}")]
    Shape {
        /// Which rows.
        what: &'static str,
        /// Rows, dimension.
        got: [usize; 2],
        /// Rows, dimension.
        expected: [usize; 2],
    },
    /// Rows that are not finite, or zero: an encode pass failed, or the weights broke.
    #[error(
        "{bad} of {rows} document rows are unusable; the first is document {document} with a squared norm of {norm}. The weights \
         have diverged or a pass on the device failed: look at the loss before this step, or try --device cpu"
    )]
    BadRows {
        /// How many.
        bad: usize,
        /// Of how many.
        rows: usize,
        /// The first of them.
        document: u32,
        /// Its squared norm.
        norm: f32,
    },
    /// A store that was never filled, or whose last fill failed.
    #[error("the embedding store holds no complete set of rows: fill it first")]
    Unfilled,
    /// The device failed.
    #[error("the device failed while {doing}: {message}")]
    Device {
        /// What it was doing.
        doing: &'static str,
        /// What it said.
        message: String,
    },
    /// The search refused its input or failed.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A depth that exact search does not offer.
    #[error(
        "mining needs the {needed} best documents of each query, and search gives at most {most}: lower the depth, the skip or the number of negatives"
    )]
    Depth {
        /// Asked for.
        needed: usize,
        /// Offered.
        most: usize,
    },
    /// The lexical index failed.
    #[error("the BM25 index failed: {0}")]
    Lexical(#[from] Box<tantivy::TantivyError>),
    /// A file source without file.
    #[error("negatives.source: from = \"file\", but `{collection}` came without negatives: give `path`, or data that lists negatives")]
    NoNegatives {
        /// The collection's name.
        collection: String,
    },
    /// A generated source without texts.
    #[error("negatives.source: from = \"generated\", but no generated texts were given: read the file at its `path` first")]
    NoGenerated,
    /// A generated text that is not there.
    #[error("the lists of generated texts name document {id}, but generated texts have the ids {first} to {last}")]
    NotGenerated {
        /// Dense id.
        id: u32,
        /// The first one, which is the number of documents in the corpus.
        first: usize,
        /// The last one.
        last: usize,
    },
    /// A curve without judged queries.
    #[error("negatives.draw: rule = \"rank-curve\" fits its curve on the judged queries of split \"{split}\", but none were given")]
    NoJudged {
        /// The split that the configuration names.
        split: String,
    },
    /// A file could not be read.
    #[error(transparent)]
    Corpus(#[from] Box<corpus::CorpusError>),
    /// A judged query or document that the collection lacks.
    #[error("a judgment names {side} {id}, but the collection has {count}: judgments and collection do not belong together")]
    Beyond {
        /// `query` or `document`.
        side: &'static str,
        /// Dense id.
        id: u32,
        /// How many there are.
        count: usize,
    },
    /// A saved state that does not fit.
    #[error("the saved negatives cannot be restored: {problem}")]
    State {
        /// What does not fit.
        problem: String,
    },
}

impl From<tantivy::TantivyError> for MiningError {
    fn from(error: tantivy::TantivyError) -> Self {
        Self::Lexical(Box::new(error))
    }
}

impl From<corpus::CorpusError> for MiningError {
    fn from(error: corpus::CorpusError) -> Self {
        Self::Corpus(Box::new(error))
    }
}
