//! What can go wrong between a configuration and a list of negatives. Each message says what, where, got, expected, what to do.

use kernels::{DiskError, SearchError};

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
    /// Rows could not be kept in a file.
    #[error("keeping document rows in a file: {0}")]
    Disk(#[from] DiskError),
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
    /// Nothing to cluster.
    #[error("cannot make {k} clusters of {rows} rows of width {dimension}: each of these must be at least 1")]
    NoClusters {
        /// Clusters asked for.
        k: usize,
        /// Rows given.
        rows: usize,
        /// Their width.
        dimension: usize,
    },
    /// Rows with values that are not finite.
    #[error(
        "{what}: row {row} holds a value that is not finite. The weights have diverged or a pass on the device failed: look at the loss \
         before this step, or try --device cpu"
    )]
    NotFinite {
        /// Which rows.
        what: &'static str,
        /// The first such row.
        row: usize,
    },
    /// Not one of something for each of something else.
    #[error("{got} {what}, expected {expected}")]
    Count {
        /// What is counted, and for what.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A batch that topics cannot fill.
    #[error("a batch of {batch} queries cannot come from {topics} topics: expected at least 1 topic and at least 1 query from each")]
    TopicSizes {
        /// Queries of a batch.
        batch: usize,
        /// Topics of a batch.
        topics: usize,
    },
    /// A training query without topic.
    #[error("query {query} has no topic: every training query must be clustered, or stand in a group")]
    NoTopic {
        /// Dense id.
        query: u32,
    },
    /// A query in more than one group.
    #[error("query {query} stands in two groups: list it once")]
    TwoTopics {
        /// Dense id.
        query: u32,
    },
    /// A queue that can hold nothing.
    #[error("a queue of {capacity} rows of width {dimension} holds nothing: both must be at least 1")]
    NoQueue {
        /// Rows at most.
        capacity: usize,
        /// Their width.
        dimension: usize,
    },
    /// A momentum that is none.
    #[error("the momentum is {got}, expected a number from 0 to 1")]
    Momentum {
        /// What was given.
        got: f64,
    },
    /// Two modules that are not copies of one another.
    #[error("the momentum encoder and the trained one differ at `{path}`: {got}, expected {expected}; make the one as a copy of the other")]
    NotACopy {
        /// The parameter.
        path: String,
        /// Its shape in the trained module, if it is there.
        got: String,
        /// Its shape in the momentum encoder.
        expected: String,
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
