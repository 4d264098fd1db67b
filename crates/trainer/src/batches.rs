//! Batches: which documents become columns, and which columns count for which query. Which pairs go together is the plan's.
//!
//! Everything here is a function of (seed, step), never of thread timing, so a resumed run sees the same batches. A tokio task
//! assembles them ahead of the device; the channel holds a few, and the device never waits for a draw.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;
use encoder::TokenBatch;
use mining::{Candidate, Miner, Topics, Visit};
use objective::Marks;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::BatchConfig;
use crate::data::Data;
use crate::plan::{Plan, Turn};
use crate::rounds::{Clock, Course};

/// Batches waiting for the device.
const AHEAD: usize = 3;

/// Cells of a batch beyond which only one waits: its two tables have a bit for each, half a GiB.
const MANY_CELLS: usize = 1 << 31;

/// One step's input, on the host.
pub(crate) struct Batch {
    pub(crate) step: usize,
    /// (query, positive) of each row.
    pub(crate) pairs: Vec<(u32, u32)>,
    /// What goes through the trained encoder, a chunk after the other: the queries, and behind them the documents of the columns unless these have rows of another kind.
    pub(crate) encoded: Vec<TokenBatch>,
    /// The documents of the columns, in chunks, when they do not go with the queries.
    pub(crate) documents: Vec<TokenBatch>,
    /// The documents behind the columns.
    pub(crate) columns: Vec<u32>,
    /// Column of each query's positive.
    pub(crate) targets: Vec<usize>,
    /// The negatives drawn for each query.
    pub(crate) drawn: Vec<Vec<Candidate>>,
    // Tables of [queries, columns].
    /// The column is no candidate for the query.
    pub(crate) blocked: Marks,
    /// The column was drawn for the query, or is its positive.
    pub(crate) own: Marks,
    /// The teacher's score, row-major, NaN where unknown; empty without a teacher.
    pub(crate) teacher: Vec<f32>,
    /// By column: the text was written by a model; empty when none was.
    pub(crate) synthetic: Vec<bool>,
}

impl Batch {
    /// How many of the drawn negatives come from which source.
    pub(crate) fn drawn_by_source(&self, miner: &Miner) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for candidate in self.drawn.iter().flatten() {
            *counts.entry(miner.source_name(candidate.source).unwrap_or("unknown").to_owned()).or_default() += 1;
        }
        counts
    }
}

/// Fewest rows of a chunk that is cut for its length: below that, a launch costs more than what it spares.
const FEWEST: usize = 8;

/// Cuts rows, longest first, where they have become a quarter shorter than the longest of their chunk, and at `most` rows.
fn cut_by_length<'a, 'b>(rows: &'a [&'b [u32]], most: usize) -> Vec<&'a [&'b [u32]]> {
    let (mut chunks, mut start) = (Vec::new(), 0);
    for end in 1..=rows.len() {
        let size = end - start;
        let shorter = size >= FEWEST && rows.get(end).is_some_and(|row| row.len() * 4 <= rows[start].len() * 3);
        if end == rows.len() || size == most || shorter {
            chunks.push(&rows[start..end]);
            start = end;
        }
    }
    chunks
}

/// Everything a batch is made from between two refreshes.
pub(crate) struct Assembler {
    pub(crate) data: Arc<Data>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) miner: Arc<Miner>,
    pub(crate) config: BatchConfig,
    /// Whether documents go through the trained encoder, with the queries.
    pub(crate) together: bool,
    /// Whether the encoder packs texts (`Network::packs`): one pass for all of them then, for the fewest launches, and passes of like length otherwise.
    pub(crate) packed: bool,
    /// Whether the other queries' positives are candidates.
    pub(crate) in_batch: bool,
    pub(crate) course: Course,
    pub(crate) clock: Clock,
    /// With `batch.compose` = topics or groups.
    pub(crate) topics: Option<Arc<Topics>>,
}

impl Assembler {
    /// Assembles the batches of `steps` on a blocking tokio task, in order, a few ahead of the receiver. Dropping the receiver ends it.
    pub(crate) fn spawn(self: Arc<Self>, steps: std::ops::Range<usize>) -> (mpsc::Receiver<Batch>, JoinHandle<Result<()>>) {
        let BatchConfig { queries, negatives, .. } = self.config;
        let (sender, receiver) = mpsc::channel(if queries * queries * (1 + negatives) > MANY_CELLS { 1 } else { AHEAD });
        let task = tokio::task::spawn_blocking(move || {
            for step in steps {
                if sender.blocking_send(self.batch(step)?).is_err() {
                    break;
                }
            }
            Ok(())
        });
        (receiver, task)
    }

    /// The batch of one step.
    ///
    /// # Errors
    /// When the batches of its epoch cannot be composed.
    pub(crate) fn batch(&self, step: usize) -> Result<Batch> {
        let epoch = self.plan.epoch_of(step);
        let batches = self.plan.epoch(epoch, &self.data.same_text, self.topics.as_ref())?;
        Ok(self.assemble(step, batches[step % self.plan.steps_per_epoch()].clone()))
    }

    fn assemble(&self, step: usize, mut turns: Vec<Turn>) -> Batch {
        turns.sort_by_key(|&Turn { query, positive, .. }| (Reverse(self.data.tokens.query(query).len()), query, positive));
        let progress = self.course.progress(step, self.clock.seconds());
        let draw = |&Turn { query, positive, visit }: &Turn| {
            self.miner.draw(&Visit { query, positive, n: self.config.negatives, visit, progress })
        };
        let drawn: Vec<Vec<Candidate>> = turns.iter().map(draw).collect();
        let pairs: Vec<(u32, u32)> = turns.iter().map(|turn| (turn.query, turn.positive)).collect();
        let own: Vec<Vec<u32>> = drawn.iter().map(|drawn| drawn.iter().map(|candidate| candidate.document).collect()).collect();
        // A document is one column however often it was drawn: counting it twice would weigh it twice (and encode it twice).
        let mut columns: Vec<u32> = Vec::new();
        let mut seen = HashMap::new();
        for document in pairs.iter().map(|pair| pair.1).chain(own.iter().flatten().copied()) {
            seen.entry(document).or_insert_with(|| {
                columns.push(document);
                columns.len() - 1
            });
        }
        // Longest first, so that neighbours are of like length where chunks are cut. The order of rows and columns means nothing to the loss.
        let tokens = &self.data.tokens;
        columns.sort_by_key(|&document| (Reverse(tokens.document(document).len()), document));
        let place: HashMap<u32, usize> = columns.iter().enumerate().map(|(column, &document)| (document, column)).collect();
        let targets: Vec<usize> = pairs.iter().map(|(_, positive)| place[positive]).collect();
        let blocked = self.blocked(&pairs, &own, &columns, &place);
        let queries: Vec<&[u32]> = pairs.iter().map(|&(query, _)| tokens.query(query)).collect();
        let documents: Vec<&[u32]> = columns.iter().map(|&document| tokens.document(document)).collect();
        let (encoded, documents) = self.cut(queries, documents);
        let mine = self.own(&pairs, &own, columns.len(), &place);
        let teacher = self.teacher(&pairs, &drawn, &columns, &place);
        let corpus = self.data.documents() as u32;
        let any_synthetic = columns.iter().any(|&document| document >= corpus);
        let synthetic = if any_synthetic { columns.iter().map(|&document| document >= corpus).collect() } else { Vec::new() };
        Batch { step, encoded, documents, pairs, columns, targets, drawn, blocked, own: mine, teacher, synthetic }
    }

    /// The column was drawn for the query, or is its positive.
    fn own(&self, pairs: &[(u32, u32)], own: &[Vec<u32>], count: usize, place: &HashMap<u32, usize>) -> Marks {
        let mut table = Marks::new(pairs.len(), count);
        for (row, (negatives, (_, positive))) in own.iter().zip(pairs).enumerate() {
            negatives.iter().chain([positive]).for_each(|document| table.set(row, place[document], true));
        }
        table
    }

    /// Scores from a file of the teacher's, and those that the drawn candidates carry; empty when there is no teacher.
    fn teacher(&self, pairs: &[(u32, u32)], drawn: &[Vec<Candidate>], columns: &[u32], place: &HashMap<u32, usize>) -> Vec<f32> {
        let file = self.data.side.teacher.as_ref();
        if file.is_none() && drawn.iter().flatten().all(|candidate| candidate.teacher.is_none()) {
            return Vec::new();
        }
        let score = |query, document| file.and_then(|file| file.score(query, document)).unwrap_or(f32::NAN);
        let mut table: Vec<f32> =
            pairs.iter().flat_map(|&(query, _)| columns.iter().map(move |&document| score(query, document))).collect();
        for (row, candidates) in drawn.iter().enumerate() {
            for candidate in candidates {
                if let Some(teacher) = candidate.teacher {
                    table[row * columns.len() + place[&candidate.document]] = teacher;
                }
            }
        }
        table
    }

    /// What goes through the trained encoder, and the documents that do not, in chunks.
    fn cut<'a>(&self, mut queries: Vec<&'a [u32]>, mut documents: Vec<&'a [u32]>) -> (Vec<TokenBatch>, Vec<TokenBatch>) {
        let most = if self.config.chunk > 0 { self.config.chunk } else { usize::MAX };
        if self.together && self.packed {
            queries.append(&mut documents);
        }
        let cut = |rows: &[&[u32]]| -> Vec<TokenBatch> {
            let chunks = if self.packed { rows.chunks(most).collect() } else { cut_by_length(rows, most) };
            chunks.into_iter().map(|rows| self.data.tokens.batch(rows)).collect()
        };
        let (mut encoded, mut documents) = (cut(&queries), cut(&documents));
        if self.together {
            encoded.append(&mut documents);
        }
        (encoded, documents)
    }

    fn blocked(&self, pairs: &[(u32, u32)], own: &[Vec<u32>], columns: &[u32], place: &HashMap<u32, usize>) -> Marks {
        let texts = self.miner.knowledge().places(columns);
        // What no row may be compared with unless it is its own.
        let mut shared = vec![true; columns.len()];
        if self.in_batch {
            pairs.iter().for_each(|(_, positive)| shared[place[positive]] = false);
        }
        if self.config.share_negatives {
            own.iter().flatten().for_each(|document| shared[place[document]] = false);
        }
        let mut blocked = Marks::repeat(&shared, pairs.len());
        for (row, (&(query, positive), negatives)) in pairs.iter().zip(own).enumerate() {
            negatives.iter().for_each(|document| blocked.set(row, place[document], false));
            // By text, so that copies count: whatever was judged for the query or another one of its text, with grade 0 as well (dropped by a
            // relabelling, refused by a round trip), the query's own text, and the positive of this row.
            texts.copies(query).chain(texts.alike(positive)).for_each(|column| blocked.set(row, column, true));
            blocked.set(row, place[&positive], false);
        }
        blocked
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use corpus::{Collection, Decision, Decisions, Generated, Judgments, Listed, NegativeLists, Policy};
    use encoder::Encoder;
    use mining::{Moment, NegativesConfig, Only};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::Config;
    use crate::plan::generator;
    use crate::rows::Rows;
    use crate::side_files::SideFiles;

    const WORDS: [&str; 8] = ["alpha", "beta", "gamma", "delta", "alpha beta", "beta gamma", "delta alpha", "gamma gamma"];

    /// A small collection with few different texts, random judgments of grades 0 to 2, a decision that drops a pair, and generated texts.
    fn world(chance: &mut ChaCha8Rng) -> (Collection, Judgments, Generated) {
        let text = |chance: &mut ChaCha8Rng| WORDS[chance.random_range(0..WORDS.len())];
        let (documents, queries) = (chance.random_range(4..24), chance.random_range(2..8));
        let mut collection = Collection::default();
        for number in 0..documents {
            collection.documents.push(&format!("d{number}"), text(chance)).unwrap();
        }
        for number in 0..queries {
            collection.queries.push(&format!("q{number}"), text(chance)).unwrap();
        }
        let pair = |chance: &mut ChaCha8Rng| (chance.random_range(0..queries), chance.random_range(0..documents));
        let judged: Vec<(u32, u32, i32)> = (0..chance.random_range(4..20))
            .map(|_| {
                let (query, document) = pair(chance);
                (query, document, chance.random_range(0..3))
            })
            .chain([(0, 0, 1), (1, 1, 1)])
            .collect();
        let (query, document) = pair(chance);
        let decisions = Decisions::from_pairs(vec![(query, document, Decision::Drop), (0, 1, Decision::Drop)]);
        let (judgments, _) = decisions.apply(&Judgments::from_pairs(queries as usize, judged), Policy::Promote);
        let mut generated = Generated { offset: documents, ..Generated::default() };
        ["alpha", "written", "beta gamma"].iter().for_each(|text| _ = generated.texts.push(text));
        let lists = (0..queries).map(|_| (0..3).map(|it| Listed { document: documents + it, score: None }).collect()).collect();
        generated.lists = NegativeLists::from_rows(lists);
        (collection, judgments, generated)
    }

    /// The assembler of a world, its lists mined.
    fn assembler(
        (collection, judgments, generated): (Collection, Judgments, Generated),
        sources: &str,
        share: bool,
        seed: u64,
    ) -> Assembler {
        let device = Device::flex();
        let texts = || collection.documents.texts().iter().chain(collection.queries.texts().iter());
        let encoder = Encoder::tiny(texts().chain(generated.texts.iter()), 1, &device);
        let config = BatchConfig { queries: 4, negatives: 3, share_negatives: share, ..BatchConfig::default() };
        let plan = Arc::new(Plan::new(&judgments, 0, &config, seed));
        let negatives: NegativesConfig = toml::from_str(sources).unwrap();
        let mined = plan.judgments(&judgments, collection.queries.len());
        let mut miner = Miner::new(&negatives, &collection, &mined, seed).unwrap().expecting(3);
        if sources.contains("generated") {
            miner = miner.generated(&collection, &generated.texts, generated.lists.clone()).unwrap();
        }
        let mut side = SideFiles::default();
        side.generated = Some(generated);
        let data = Arc::new(Data::cached(None, collection, side, &encoder.tokenizer, &encoder.settings).unwrap());
        let mut rows = Rows::new(encoder.network, &device, &data.tokens);
        if miner.due(Moment::new(0, 0)) {
            miner.refresh(Moment::new(0, 0), &mut Only(&mut rows)).unwrap();
        }
        let (course, clock) = (Course::new(&Config::default()), Clock::default());
        Assembler {
            data,
            plan,
            miner: Arc::new(miner),
            in_batch: negatives.in_batch(),
            config,
            together: true,
            packed: true,
            course,
            clock,
            topics: None,
        }
    }

    #[test]
    fn a_column_is_open_unless_its_text_was_judged_for_the_query_or_is_the_querys_own() {
        let source = |from: &str| format!("[[source]]\nfrom = {from}\n");
        let [in_batch, random, bm25, dense, generated] =
            ["\"in-batch\"", "\"random\"", "\"bm25\"", "\"dense\"", "\"generated\"\npath = \"x\""].map(source);
        let recipes =
            [in_batch.clone(), random.clone(), in_batch.clone() + &bm25 + &random, dense + &in_batch, in_batch + &generated, generated];
        let (mut open, mut barred) = (0, 0);
        for seed in 0..60 {
            for (recipe, share) in recipes.iter().flat_map(|recipe| [(recipe, true), (recipe, false)]) {
                let mut chance = generator(seed, 7);
                let (collection, judgments, texts) = world(&mut chance);
                let assembler = assembler((collection.clone(), judgments.clone(), texts.clone()), recipe, share, seed);
                let batch = assembler.batch(0).unwrap();
                let first = texts.offset;
                let text =
                    |document: u32| if document < first { collection.documents.text(document) } else { texts.texts.get(document - first) };
                let all: Vec<u32> = batch.drawn.iter().flatten().map(|it| it.document).collect();
                for (row, &(query, positive)) in batch.pairs.iter().enumerate() {
                    // What is judged for a query is judged for all that are trained on and have its text.
                    let trained = judgments.queries().filter(|&it| collection.queries.text(it) == collection.queries.text(query));
                    let known_texts: Vec<&str> = trained.flat_map(|it| judgments.judged(it)).map(|&(other, _)| text(other)).collect();
                    for (column, &document) in batch.columns.iter().enumerate() {
                        let own = batch.drawn[row].iter().any(|it| it.document == document);
                        let foreign =
                            assembler.in_batch && batch.pairs.iter().any(|pair| pair.1 == document) || share && all.contains(&document);
                        let known = known_texts.contains(&text(document)) || text(document) == collection.queries.text(query);
                        let expected = document == positive || (own || foreign) && !known;
                        assert_eq!(!batch.blocked.get(row, column), expected, "{recipe}, seed {seed}: {document} for {query}");
                        assert!(!(own && known), "drawn though known");
                        open += usize::from(expected && document != positive);
                        barred += usize::from(foreign && known && document != positive);
                    }
                }
            }
        }
        assert!(open > 1000 && barred > 1000, "{open} cells open, {barred} barred");
    }

    #[test]
    fn what_a_decision_dropped_is_no_column_where_it_is_another_rows_positive() {
        let mut collection = Collection::default();
        ["one", "two", "three"].iter().for_each(|text| _ = collection.documents.push(text, text).unwrap());
        ["first", "second"].iter().for_each(|text| _ = collection.queries.push(text, text).unwrap());
        // The second query's positive was found to answer the first as well, but not to be fit to train on.
        let decisions = Decisions::from_pairs(vec![(0, 1, Decision::Drop)]);
        for policy in [Policy::Promote, Policy::Remove] {
            let (judgments, changed) = decisions.apply(&Judgments::from_pairs(2, vec![(0, 0, 1), (1, 1, 1)]), policy);
            assert_eq!(changed.removed, 1);
            let batch = assembler(
                (collection.clone(), judgments, Generated { offset: 3, ..Generated::default() }),
                "[[source]]\nfrom = \"in-batch\"",
                true,
                1,
            );
            let batch = Assembler { config: BatchConfig { negatives: 0, ..batch.config.clone() }, ..batch }.batch(0).unwrap();
            let open = |query: u32, document: u32| {
                let row = batch.pairs.iter().position(|pair| pair.0 == query).unwrap();
                !batch.blocked.get(row, batch.columns.iter().position(|&it| it == document).unwrap())
            };
            assert_eq!([open(0, 0), open(0, 1), open(1, 0), open(1, 1)], [true, false, true, true]);
        }
    }

    #[test]
    fn chunks_by_length_keep_every_row_in_order() {
        let rows: Vec<Vec<u32>> =
            [64, 60, 50, 50, 49, 49, 48, 48, 48, 30, 20, 10, 10, 9, 8, 8, 8, 3].iter().map(|&length| vec![1; length]).collect();
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        let lengths = |most| cut_by_length(&rows, most).iter().map(|chunk| chunk.len()).collect::<Vec<_>>();
        // 48 is a quarter less than 64, and 30 than 48, but no chunk has fewer than eight rows save the last.
        assert_eq!(lengths(usize::MAX), [8, 8, 2]);
        assert_eq!(lengths(5), [5, 5, 5, 3]);
        assert_eq!(cut_by_length(&rows, usize::MAX).concat(), rows);
        assert!(cut_by_length(&[], 4).is_empty());
    }

    #[test]
    fn queries_and_documents_go_together_or_apart_in_chunks() {
        let source = "[[source]]\nfrom = \"random\"\n";
        for (together, packed, chunk) in
            [(true, true, 0), (true, true, 3), (true, false, 3), (false, true, 0), (false, false, 0), (false, true, 3)]
        {
            let assembler = assembler(world(&mut generator(3, 7)), source, true, 3);
            let config = BatchConfig { chunk, ..assembler.config.clone() };
            let assembler = Assembler { together, packed, config, ..assembler };
            let batch = assembler.batch(0).unwrap();
            let tokens = &assembler.data.tokens;
            let row = |row: &[u32]| row.iter().map(|&token| token as i32).collect::<Vec<_>>();
            let queries: Vec<Vec<i32>> = batch.pairs.iter().map(|pair| row(tokens.query(pair.0))).collect();
            let documents: Vec<Vec<i32>> = batch.columns.iter().map(|&column| row(tokens.document(column))).collect();
            assert!(queries.len() + documents.len() > 3, "more than a chunk");
            let expected = if together { [[queries, documents].concat(), Vec::new()] } else { [queries, documents] };
            for (chunks, expected) in [&batch.encoded, &batch.documents].into_iter().zip(expected) {
                let got = chunks.iter().flat_map(|chunk| (0..chunk.rows()).map(|row| chunk.row(row).to_vec())).collect::<Vec<_>>();
                assert_eq!(got, expected);
                let most = if chunk == 0 { usize::MAX } else { chunk };
                assert!(chunks.iter().all(|chunk| chunk.rows() <= most));
                assert!(!packed || chunks.iter().rev().skip(1).all(|chunk| chunk.rows() == most));
            }
        }
    }
}
