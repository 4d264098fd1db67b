//! Documents, queries, judgments and training pairs: what a retrieval collection is, in memory and on disk.
//!
//! | part | owns |
//! |---|---|
//! | [`Collection`] | documents, queries, judgments by split, negatives that came along |
//! | [`Records`], [`Texts`] | arenas of texts under dense `u32` ids, about 32 bytes a record over its text |
//! | [`Judgments`], [`NegativeLists`], [`TeacherScores`] | compressed rows by query |
//! | [`Decisions`] | what a model said about listed negatives, and the judgments that come of it |
//! | [`Generated`] | negatives that a model wrote: texts outside the corpus, under ids behind it |
//! | [`QueryUse`], [`QueryCounts`] | queries that a model wrote, as a training split ([`Collection::add_queries`]) |
//! | [`Groups`] | which queries may share a batch |
//! | `read` | one file per format; the format is recognised from the content ([`Collection::open`], [`read_lists`]) |
//! | [`TextTokenizer`], [`Tokens`] | token rows, made once, in parallel, memory-mapped from a cache |
//! | [`demo`] | the collection that the program makes itself |
//! | [`mod@write`] | mined negatives in five forms, collections as BEIR folders |
//!
//! External string ids live at the edge only; everything inside the project speaks dense `u32` ids. Nothing here knows
//! tensors or devices. Every error names file and line, what stood there, what was expected and what to do.

mod collection;
mod decisions;
pub mod demo;
mod error;
mod generated;
mod groups;
mod index;
mod judgments;
mod negatives;
mod queries;
mod read;
mod records;
mod teacher;
mod texts;
mod tokenizer;
mod tokens;
pub mod write;

pub use collection::Collection;
pub use decisions::{Decision, Decisions, Policy, Relabelled};
pub use error::{CorpusError, Place, Side};
pub use generated::{Generated, GeneratedCounts};
pub use groups::Groups;
pub use judgments::Judgments;
pub use negatives::{Listed, NegativeLists};
pub use queries::{QueryCounts, QueryUse};
pub use read::{ListCounts, Unknown, read_answers, read_groups, read_lists, read_lists_counted, read_own, read_provenance, read_rows};
pub use records::{DuplicateId, Records};
pub use teacher::TeacherScores;
pub use texts::Texts;
pub use tokenizer::TextTokenizer;
pub use tokens::{TokenSpec, Tokens};
