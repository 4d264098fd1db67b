//! A collection: documents, queries, judgments by split, and whatever negatives its files carried.
//!
//! Holds no file format: `read/` fills it, `write/` stores it. Invariant: every dense id in judgments and lists exists.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{error::CorpusError, judgments::Judgments, negatives::NegativeLists, read, records::Records, tokenizer::hex};

/// Everything known about one retrieval collection, in memory.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Short name, for reports: the folder's or file's name.
    pub name: String,
    /// What is searched.
    pub documents: Records,
    /// What is asked.
    pub queries: Records,
    /// Judgments by split name (`train`, `dev`, `test`, …).
    pub splits: BTreeMap<String, Judgments>,
    /// Negatives and teacher scores that the files carried.
    pub negatives: Option<NegativeLists>,
    /// Complete judgments, where they are known: with them false negatives can be counted.
    pub truth: Option<Judgments>,
    /// Warnings that the reader wants shown, one sentence each.
    pub notes: Vec<String>,
}

impl Collection {
    /// Reads a folder, a file, or `builtin:demo`. The format is recognised from the content.
    ///
    /// # Errors
    /// When nothing is there, no format fits, or the data is faulty; the message names file and line.
    pub fn open(source: &str) -> Result<Self, CorpusError> {
        read::open(source)
    }

    /// As [`Self::open`], for who needs documents only: a folder with nothing but `corpus.jsonl`, or a file of this name, will do.
    ///
    /// # Errors
    /// As there.
    pub fn open_documents(source: &str) -> Result<Self, CorpusError> {
        read::open_documents(source)
    }

    /// The judgments of one split, if there is such. `valid`, `validation` and `val` mean `dev`, unless a split has that name itself.
    pub fn find_split(&self, name: &str) -> Option<&Judgments> {
        self.splits.get(name).or_else(|| self.splits.get(Self::split_name(name)))
    }

    /// What a split of this name is called where no split has the name itself: `dev` for `valid`, `validation` and `val`.
    pub fn split_name(name: &str) -> &str {
        read::split_name(name)
    }

    /// As [`Self::find_split`], for a split that has to be there.
    ///
    /// # Errors
    /// When there is no such split; the message lists those there are.
    pub fn split(&self, name: &str) -> Result<&Judgments, CorpusError> {
        self.find_split(name).ok_or_else(|| CorpusError::NoSplit {
            collection: self.name.clone(),
            asked: name.to_owned(),
            available: match self.splits.len() {
                0 => "none".to_owned(),
                _ => {
                    let there = self.splits.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    if name == "train" { format!("{there} (the name of a file says which split it is)") } else { there }
                }
            },
        })
    }

    /// As [`Self::split`], for training or evaluation on it: a split without a relevant pair is refused, whether all its grades are
    /// 0 or its file has nothing but a header.
    ///
    /// # Errors
    /// When there is no such split, or nothing in it is relevant.
    pub fn relevant_split(&self, name: &str) -> Result<&Judgments, CorpusError> {
        let judgments = self.split(name)?;
        if judgments.has_positives() {
            return Ok(judgments);
        }
        Err(CorpusError::NoPositives { collection: self.name.clone(), split: name.to_owned(), judgments: judgments.len() })
    }

    /// SHA-256 in hex over all content: ids, texts, judgments, negatives, in order. Name and notes do not count.
    pub fn fingerprint(&self) -> String {
        let mut digest = ContentDigest(Sha256::new());
        for (tag, side) in [("documents", &self.documents), ("queries", &self.queries)] {
            digest.section(tag, side.len());
            for index in 0..side.len() as u32 {
                digest.text(side.id(index));
                digest.text(side.text(index));
            }
        }
        digest.section("splits", self.splits.len());
        for (name, judgments) in &self.splits {
            digest.judgments(name, judgments);
        }
        if let Some(truth) = &self.truth {
            digest.section("truth", 1);
            digest.judgments("truth", truth);
        }
        if let Some(lists) = &self.negatives {
            digest.section("lists", self.queries.len());
            for query in 0..self.queries.len() as u32 {
                for row in [lists.row(query), lists.positive_scores(query)] {
                    digest.number(row.len() as u64);
                    for listed in row {
                        digest.number(u64::from(listed.document));
                        digest.number(listed.score.map_or(u64::MAX, |score| u64::from(score.to_bits())));
                    }
                }
            }
        }
        hex(&digest.0.finalize())
    }
}

/// Feeds content with its lengths, so that no two contents give the same bytes.
struct ContentDigest(Sha256);

impl ContentDigest {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text);
    }

    fn section(&mut self, tag: &str, items: usize) {
        self.text(tag);
        self.number(items as u64);
    }

    fn judgments(&mut self, name: &str, judgments: &Judgments) {
        self.section(name, judgments.len());
        for (query, document, grade) in judgments.iter() {
            self.number(u64::from(query));
            self.number(u64::from(document));
            self.0.update(grade.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negatives::Listed;

    fn small() -> Collection {
        let mut collection = Collection { name: "small".into(), ..Collection::default() };
        collection.documents.push("d1", "one").unwrap();
        collection.documents.push("d2", "two").unwrap();
        collection.queries.push("q1", "which").unwrap();
        collection.splits.insert("test".into(), Judgments::from_pairs(1, vec![(0, 1, 1)]));
        collection
    }

    #[test]
    fn an_unknown_split_is_answered_with_those_there_are() {
        let mut collection = small();
        collection.splits.insert("dev".into(), Judgments::default());
        assert_eq!(collection.split("test").unwrap().len(), 1);
        let message = collection.split("train").unwrap_err().to_string();
        assert_eq!(message, "`small` has no split `train`; it has dev, test (the name of a file says which split it is)");
        assert!(Collection::default().split("x").unwrap_err().to_string().ends_with("it has none"));
    }

    #[test]
    fn other_names_of_dev_find_it_unless_they_are_splits_themselves() {
        let mut collection = small();
        let judged = |document| Judgments::from_pairs(1, vec![(0, document, 1)]);
        collection.splits.insert("dev".into(), judged(0));
        assert_eq!(collection.split("validation").unwrap(), &judged(0));
        collection.splits.insert("validation".into(), judged(1));
        assert_eq!((collection.split("validation").unwrap(), collection.split("val").unwrap()), (&judged(1), &judged(0)));
        assert_eq!((collection.find_split("Valid"), collection.find_split("train")), (Some(&judged(0)), None));
    }

    #[test]
    fn a_split_in_which_nothing_is_relevant_can_be_refused() {
        let mut collection = small();
        assert_eq!(collection.relevant_split("test").unwrap().len(), 1);
        for (pairs, count) in [(vec![], 0), (vec![(0, 0, 0), (0, 1, -1)], 2)] {
            collection.splits.insert("dev".into(), Judgments::from_pairs(1, pairs));
            let message = collection.relevant_split("dev").unwrap_err().to_string();
            let expected = format!("the split `dev` of `small` has no relevant pair: none of its {count} judgment(s)");
            assert!(message.starts_with(&expected), "{message}");
        }
        assert!(matches!(collection.relevant_split("train"), Err(CorpusError::NoSplit { .. })));
    }

    #[test]
    fn the_fingerprint_sees_every_part_and_only_content() {
        let base = small().fingerprint();
        assert_eq!(base.len(), 64);
        let mut renamed = small();
        renamed.name = "other".into();
        renamed.notes.push("a note".into());
        assert_eq!(renamed.fingerprint(), base);

        let changes: [fn(&mut Collection); 6] = [
            |it| drop(it.documents.push("d3", "three")),
            |it| drop(it.queries.push("q2", "")),
            |it| drop(it.splits.insert("test".into(), Judgments::from_pairs(1, vec![(0, 1, 2)]))),
            |it| drop(it.splits.insert("dev".into(), Judgments::default())),
            |it| it.truth = Some(Judgments::default()),
            |it| it.negatives = Some(NegativeLists::from_rows(vec![vec![Listed { document: 0, score: None }]])),
        ];
        let mut seen = vec![base];
        for change in changes {
            let mut changed = small();
            change(&mut changed);
            let fingerprint = changed.fingerprint();
            assert!(!seen.contains(&fingerprint), "change {} is not seen", seen.len());
            seen.push(fingerprint);
        }
    }
}
