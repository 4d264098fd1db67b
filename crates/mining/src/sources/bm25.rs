//! The documents that BM25 ranks best: tantivy's scorer (k1 1.2, b 0.75) over lower-case alphanumeric words, stemmed as English
//! (Snowball), no stop words. Words of other languages mostly pass through the stemmer unchanged or alike in document and query.
//!
//! The index lives in memory as one segment, so document numbers are dense ids. A query is the disjunction of its words, repeated words
//! counting repeatedly; it never goes through a query parser, so no punctuation has a meaning. Ties go to the lower id.

use corpus::Collection;
use rayon::prelude::*;
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::BooleanQuery;
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TokenStream;
use tantivy::{Index, Searcher, TantivyDocument, Term};

use super::{Block, Source};
use crate::candidate::Candidate;
use crate::error::MiningError;

/// Bytes that the index writer starts with.
const WRITER_BYTES: usize = 50 << 20;

/// The best documents of `collection` for each of `queries` as `(document, score)`, at most `k`, best first. Documents that share no word
/// with a query are not listed.
///
/// # Errors
/// When the index cannot be built or searched.
pub fn bm25_run(collection: &Collection, queries: &[u32], k: usize) -> Result<Vec<Vec<(u32, f32)>>, MiningError> {
    let texts: Vec<&str> = queries.iter().map(|&query| collection.queries.text(query)).collect();
    bm25_of_texts(collection, &texts, k)
}

/// The same for any texts.
///
/// # Errors
/// As [`bm25_run`].
pub fn bm25_of_texts(collection: &Collection, texts: &[&str], k: usize) -> Result<Vec<Vec<(u32, f32)>>, MiningError> {
    let lexicon = Lexicon::new(collection)?;
    texts.par_iter().map(|text| lexicon.search(text, k)).collect()
}

/// The lexical source.
pub struct Bm25 {
    lexicon: Lexicon,
    /// Texts of the training queries, by query.
    texts: Vec<(u32, String)>,
    depth: usize,
    number: u8,
}

impl Bm25 {
    /// Indexes the documents and keeps the texts of the `training` queries (ascending); `number` tags the candidates.
    ///
    /// # Errors
    /// When the index cannot be built.
    pub fn new(collection: &Collection, training: &[u32], depth: usize, number: u8) -> Result<Self, MiningError> {
        let texts = training.iter().map(|&query| (query, collection.queries.text(query).to_owned())).collect();
        Ok(Self { lexicon: Lexicon::new(collection)?, texts, depth, number })
    }
}

impl Source for Bm25 {
    fn name(&self) -> &'static str {
        "bm25"
    }

    fn candidates(&self, block: &Block<'_>) -> Result<Vec<Vec<Candidate>>, MiningError> {
        let row = |(&query, judged): (&u32, &Vec<u32>)| {
            let Ok(place) = self.texts.binary_search_by_key(&query, |it| it.0) else { return Ok(Vec::new()) };
            let found = self.lexicon.search(&self.texts[place].1, self.depth + judged.len())?;
            let mut unjudged = 0;
            let ranked = found.into_iter().zip(1..).take_while(|((document, _), _)| {
                let open = unjudged < self.depth;
                unjudged += usize::from(judged.binary_search(document).is_err());
                open
            });
            Ok(ranked.map(|((document, score), rank)| Candidate::found(document, self.number, rank, score)).collect())
        };
        block.queries.par_iter().zip(block.judged).map(row).collect()
    }
}

/// An index of all documents.
struct Lexicon {
    index: Index,
    searcher: Searcher,
    text: Field,
}

impl Lexicon {
    fn new(collection: &Collection) -> Result<Self, MiningError> {
        let indexing = TextFieldIndexing::default().set_tokenizer("en_stem").set_index_option(IndexRecordOption::WithFreqs);
        let mut schema = Schema::builder();
        let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        let mut writer = Index::builder().schema(schema.build()).single_segment_index_writer(RamDirectory::create(), WRITER_BYTES)?;
        for content in collection.documents.texts().iter() {
            let mut document = TantivyDocument::default();
            document.add_text(text, content);
            writer.add_document(document)?;
        }
        let index = writer.finalize()?;
        let searcher = index.reader()?.searcher();
        Ok(Self { index, searcher, text })
    }

    fn search(&self, query: &str, k: usize) -> Result<Vec<(u32, f32)>, MiningError> {
        let mut words = self.index.tokenizer_for_field(self.text)?;
        let mut terms = Vec::new();
        words.token_stream(query).process(&mut |token| terms.push(Term::from_field_text(self.text, &token.text)));
        if terms.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        let disjunction = BooleanQuery::new_multiterms_query(terms);
        let found = self.searcher.search(&disjunction, &TopDocs::with_limit(k).order_by_score())?;
        Ok(found.into_iter().map(|(score, address)| (address.doc_id, score)).collect())
    }
}
