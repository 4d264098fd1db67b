//! The negatives of single queries over a run: what each version held, what filters dropped, what came and what went. A run that keeps no lists
//! but wrote batches.jsonl is shown by visits instead: what the query was trained against each time.
//!
//! Rows are read as their writer's successors may write them: of a candidate only the id must be there. `files` finds the files and goes through them.

mod files;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use corpus::{Collection, Judgments};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config;
use crate::data;
use crate::errors::{OrUsage, Usage};
use crate::runfolder::RunFolder;
use crate::splits;
use files::{VersionFile, Visits, each_row, versions};

/// A run whose negatives can be looked at.
pub(crate) struct Inspection {
    pub(crate) run: String,
    pub(crate) collection: Collection,
    judgments: Judgments,
    versions: Vec<VersionFile>,
    /// In a run without lists: its batches.jsonl.
    visits: Option<Visits>,
}

/// A query and its negatives, version by version.
#[derive(Debug, Serialize)]
pub(crate) struct History {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) positives: Vec<Document>,
    pub(crate) versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) text: String,
}

/// The list of one query in one version, or what it was trained against in one visit.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) version: u64,
    /// Steps done when it was mined, or when it was visited.
    pub(crate) step: Option<u64>,
    /// The positive's score on the scale of the negatives', where the file has it.
    pub(crate) positive_score: Option<f64>,
    /// Length of the list.
    pub(crate) candidates: usize,
    /// Candidates that the version before did not have; `None` in the first.
    pub(crate) new: Option<usize>,
    /// Candidates that are in fact relevant; `None` where relevance is not completely known.
    pub(crate) false_negatives: Option<usize>,
    /// The best candidates in the order of their ranks, and false negatives whatever their rank.
    pub(crate) negatives: Vec<Candidate>,
    /// How many of the version before are gone, and the best of them, as they were there.
    pub(crate) dropped: usize,
    pub(crate) dropped_negatives: Vec<Candidate>,
    /// The best of the candidates that were found and that a filter took out, by rank.
    pub(crate) removed: Vec<Removed>,
}

/// A candidate that is in no list, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Removed {
    /// The filter that dropped it.
    pub(crate) filter: String,
    #[serde(flatten)]
    pub(crate) candidate: Candidate,
}

/// A query's list as it stands in a file.
#[derive(Clone, Debug, Default)]
struct List {
    candidates: Vec<Candidate>,
    removed: Vec<Removed>,
    positive_score: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Candidate {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) rank: Option<u64>,
    pub(crate) score: Option<f64>,
    pub(crate) teacher: Option<f64>,
    pub(crate) source: String,
    pub(crate) new: Option<bool>,
    pub(crate) relevant: Option<bool>,
}

/// The part of a row that tells whose it is.
#[derive(Deserialize)]
struct RowId {
    query_id: String,
}

/// The part of a row that tells what it holds.
#[derive(Deserialize)]
struct RowIds {
    query_id: String,
    negatives: Vec<CandidateId>,
}

#[derive(Deserialize)]
struct CandidateId {
    id: String,
}

impl Inspection {
    /// Opens a run, its collection and the list of its versions.
    ///
    /// # Errors
    /// When there is no such run, its collection is gone, or it has no negatives.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = RunFolder::open(root.to_owned())?;
        let path = folder.config();
        let config = config::merge(&path.display().to_string(), &config::read(&path)?, &[])?;
        let versions = versions(root)?;
        let batches = root.join("batches.jsonl");
        let visits = (versions.is_empty() && batches.is_file()).then(|| Visits { path: batches, in_batch: config.negatives.in_batch() });
        if versions.is_empty() && visits.is_none() {
            let negatives = serde_json::to_value(&config.negatives)?;
            let sources = negatives["source"].as_array().into_iter().flatten().filter_map(|source| source["from"].as_str());
            return Err(Usage::new(format!(
                "the run {} has no lists of negatives: its sources ({}) keep none, or it has not come to its first refresh; \
                 with train.log_batches = true it shows what each step compared",
                root.display(),
                sources.collect::<Vec<_>>().join(", ")
            ))
            .into());
        }
        let mut collection = data::open_of_run(&folder, &config.data)?;
        splits::enter(&mut collection, &config.data)?;
        let judgments = collection.split(&config.data.train).or_usage()?.clone();
        Ok(Self { run: root.display().to_string(), collection, judgments, versions, visits })
    }

    /// Versions of the negatives; 0 where visits are shown instead.
    pub(crate) fn versions(&self) -> usize {
        self.versions.len()
    }

    /// The training query with this id, or the one whose text these words fill best: the shortest text that holds them, in any case of
    /// letters. With it, how many other training queries hold them.
    ///
    /// # Errors
    /// When there is none; the message names those that come nearest.
    pub(crate) fn find(&self, asked: &str) -> Result<(u32, usize), Usage> {
        let queries = &self.collection.queries;
        if let Some(query) = queries.find(asked) {
            if self.judgments.positives(query).next().is_some() {
                return Ok((query, 0));
            }
            return Err(Usage::new(format!("the query {asked} is not trained on, so nothing is mined for it")));
        }
        let words = asked.to_lowercase();
        let holding: Vec<u32> = self.training().filter(|&query| queries.text(query).to_lowercase().contains(&words)).collect();
        if let (false, Some(&best)) = (words.trim().is_empty(), holding.iter().min_by_key(|&&query| queries.text(query).len())) {
            return Ok((best, holding.len() - 1));
        }
        let near: Vec<String> =
            self.nearest(asked, 3).into_iter().map(|query| format!("{} ({})", queries.id(query), queries.text(query))).collect();
        Err(Usage::new(format!("no training query has the id or holds the text `{asked}`; the nearest are {}", near.join(", "))))
    }

    /// Queries by words in common, then by likeness of the id.
    fn nearest(&self, asked: &str, count: usize) -> Vec<u32> {
        let queries = &self.collection.queries;
        let lower = asked.to_lowercase();
        let words: HashSet<&str> = lower.split_whitespace().collect();
        let likeness = |query: u32| {
            let text = queries.text(query).to_lowercase();
            let common = text.split_whitespace().collect::<HashSet<_>>().intersection(&words).count();
            (common, strsim::jaro_winkler(asked, queries.id(query)))
        };
        let mut all: Vec<(u32, (usize, f64))> = self.training().map(|query| (query, likeness(query))).collect();
        all.sort_by(|(_, a), (_, b)| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)));
        all.into_iter().take(count).map(|(query, _)| query).collect()
    }

    fn training(&self) -> impl Iterator<Item = u32> {
        self.judgments.queries().filter(|&query| self.judgments.positives(query).next().is_some())
    }

    /// The queries with the most candidates that came or went over all versions; equal ones in the order of the collection.
    pub(crate) fn most_changed(&self, count: usize) -> Result<Vec<u32>> {
        let queries = self.collection.queries.len();
        let mut changes = vec![0usize; queries];
        let mut listed = vec![false; queries];
        let mut before: Vec<Vec<u32>> = vec![Vec::new(); queries];
        if let Some(visits) = &self.visits {
            // Whatever was drawn is new each time, so the queries visited most.
            visits.each(|_, row, _| {
                if let Some(query) = row["query"].as_str().and_then(|id| self.collection.queries.find(id)) {
                    (listed[query as usize], changes[query as usize]) = (true, changes[query as usize] + 1);
                }
            })?;
        }
        for (position, version) in self.versions.iter().enumerate() {
            let mut now: Vec<Vec<u32>> = vec![Vec::new(); queries];
            each_row(&version.path, |number, line| {
                let row: RowIds = serde_json::from_str(line).with_context(|| format!("{}, line {number}", version.path.display()))?;
                if let Some(query) = self.collection.queries.find(&row.query_id) {
                    let mut ids: Vec<u32> =
                        row.negatives.iter().filter_map(|candidate| self.collection.documents.find(&candidate.id)).collect();
                    ids.sort_unstable();
                    ids.dedup();
                    listed[query as usize] = true;
                    now[query as usize] = ids;
                }
                Ok(true)
            })?;
            if position > 0 {
                for ((changes, before), now) in changes.iter_mut().zip(&before).zip(&now) {
                    let kept = now.iter().filter(|id| before.binary_search(id).is_ok()).count();
                    *changes += before.len() + now.len() - 2 * kept;
                }
            }
            before = now;
        }
        let mut order: Vec<u32> = (0..queries as u32).filter(|&query| listed[query as usize]).collect();
        order.sort_by_key(|&query| std::cmp::Reverse(changes[query as usize]));
        order.truncate(count);
        Ok(order)
    }

    /// The negatives of each query over all versions, `limit` of each list (0 = all). Every file is read once.
    pub(crate) fn histories(&self, queries: &[u32], limit: usize) -> Result<Vec<History>> {
        let mut histories: Vec<History> = queries.iter().map(|&query| self.without_versions(query)).collect();
        if let Some(visits) = &self.visits {
            self.visited(visits, queries, limit, &mut histories)?;
        }
        let mut before: Option<HashMap<u32, List>> = None;
        for file in &self.versions {
            let mut lists = self.lists(file, queries)?;
            for (history, &query) in histories.iter_mut().zip(queries) {
                let list = lists.entry(query).or_default();
                let before = before.as_ref().map(|before| before.get(&query).map_or(&[][..], |list| &list.candidates));
                history.versions.push(self.version((file.number, file.step), list, before, limit));
            }
            before = Some(lists);
        }
        Ok(histories)
    }

    fn without_versions(&self, query: u32) -> History {
        let Collection { queries, documents, .. } = &self.collection;
        let positives = self.judgments.positives(query);
        History {
            id: queries.id(query).to_owned(),
            text: queries.text(query).to_owned(),
            positives: positives.map(|it| Document { id: documents.id(it).to_owned(), text: documents.text(it).to_owned() }).collect(),
            versions: Vec::new(),
        }
    }

    /// Marks what is new in a list, and says what of it is to be shown and what is gone.
    fn version(&self, (number, step): (u64, Option<u64>), whole: &mut List, before: Option<&[Candidate]>, limit: usize) -> Version {
        let list = &mut whole.candidates;
        if let Some(before) = before {
            let known: HashSet<&str> = before.iter().map(|it| it.id.as_str()).collect();
            list.iter_mut().for_each(|candidate| candidate.new = Some(!known.contains(candidate.id.as_str())));
        }
        let now: HashSet<&str> = list.iter().map(|it| it.id.as_str()).collect();
        let dropped: Vec<&Candidate> = before.unwrap_or_default().iter().filter(|it| !now.contains(it.id.as_str())).collect();
        let shown = |position: usize| limit == 0 || position < limit;
        let ranked = list.iter().enumerate().filter(|(position, it)| shown(*position) || it.relevant == Some(true));
        let count = |holds: fn(&Candidate) -> bool| list.iter().filter(|it| holds(it)).count();
        Version {
            version: number,
            step,
            positive_score: whole.positive_score,
            candidates: list.len(),
            new: before.map(|_| count(|it| it.new == Some(true))),
            false_negatives: list.iter().any(|it| it.relevant.is_some()).then(|| count(|it| it.relevant == Some(true))),
            negatives: ranked.map(|(_, it)| self.with_text(it)).collect(),
            dropped: dropped.len(),
            dropped_negatives: dropped
                .iter()
                .enumerate()
                .filter(|(position, _)| shown(*position))
                .map(|(_, it)| self.with_text(it))
                .collect(),
            removed: whole
                .removed
                .iter()
                .map(|it| Removed { filter: it.filter.clone(), candidate: self.with_text(&it.candidate) })
                .collect(),
        }
    }

    /// The visits of the queries, in the order of the steps.
    fn visited(&self, visits: &Visits, queries: &[u32], limit: usize, histories: &mut [History]) -> Result<()> {
        let place: HashMap<&str, usize> =
            queries.iter().enumerate().map(|(place, &query)| (self.collection.queries.id(query), place)).collect();
        let mut before: Vec<Option<Vec<Candidate>>> = vec![None; queries.len()];
        visits.each(|step, row, positives| {
            let Some(&place) = row["query"].as_str().and_then(|id| place.get(id)) else { return };
            let query = queries[place];
            let mut candidates: Vec<Candidate> =
                row["negatives"].as_array().into_iter().flatten().filter_map(|it| self.candidate(query, it)).collect();
            let mut known: HashSet<String> = candidates.iter().map(|it| it.id.clone()).collect();
            let mut more = |id: &str, rank: Option<u64>, source: &str| {
                let judged = self.collection.documents.find(id).is_some_and(|document| self.judgments.grade(query, document).is_some());
                if !judged && known.insert(id.to_owned()) {
                    candidates.extend(self.candidate(query, &json!({ "id": id, "rank": rank, "source": source })));
                }
            };
            let retrieved = row["retrieved"].as_array().into_iter().flatten().filter_map(Value::as_str);
            retrieved.zip(1..).for_each(|(id, rank)| more(id, Some(rank), "per-step"));
            if visits.in_batch {
                positives.iter().for_each(|id| more(id, None, "in-batch"));
            }
            let mut list = List { candidates, ..List::default() };
            let number = histories[place].versions.len() as u64 + 1;
            histories[place].versions.push(self.version((number, Some(step)), &mut list, before[place].as_deref(), limit));
            before[place] = Some(list.candidates);
        })
    }

    /// The candidates of the queries in one version, by rank, those without rank last; a query that has none is left out.
    fn lists(&self, file: &VersionFile, queries: &[u32]) -> Result<HashMap<u32, List>> {
        let wanted: HashSet<u32> = queries.iter().copied().collect();
        // Rows are long: for a single query, only those that hold its id somewhere are taken apart.
        let quoted = (queries.len() == 1).then(|| Value::from(self.collection.queries.id(queries[0])).to_string());
        let mut lists = HashMap::with_capacity(wanted.len());
        each_row(&file.path, |number, line| {
            if quoted.as_ref().is_some_and(|quoted| !line.contains(quoted)) {
                return Ok(true);
            }
            let faulty = || format!("{}, line {number}", file.path.display());
            let RowId { query_id } = serde_json::from_str(line).with_context(faulty)?;
            let query = self.collection.queries.find(&query_id).filter(|query| wanted.contains(query) && !lists.contains_key(query));
            if let Some(query) = query {
                let row: Value = serde_json::from_str(line).with_context(faulty)?;
                let written = |key: &str| row[key].as_array().into_iter().flatten();
                let mut candidates: Vec<Candidate> = written("negatives").filter_map(|it| self.candidate(query, it)).collect();
                candidates.sort_by_key(|candidate| candidate.rank.unwrap_or(u64::MAX));
                let removed =
                    |it: &Value| Some(Removed { filter: it["filter"].as_str()?.to_owned(), candidate: self.candidate(query, it)? });
                let removed = written("removed").filter_map(removed).collect();
                lists.insert(query, List { candidates, removed, positive_score: row["positive_score"].as_f64() });
            }
            Ok(lists.len() < wanted.len())
        })?;
        Ok(lists)
    }

    /// A candidate as written, its text still left out: most are never shown.
    fn candidate(&self, query: u32, written: &Value) -> Option<Candidate> {
        let id = written["id"].as_str()?;
        let document = self.collection.documents.find(id);
        // Of a query that was written later nobody knows all that is relevant.
        let truth = self.collection.truth.as_ref().filter(|truth| !truth.judged(query).is_empty());
        Some(Candidate {
            id: id.to_owned(),
            text: String::new(),
            // Rank 0 is what a document has that no search found.
            rank: written["rank"].as_u64().filter(|&rank| rank > 0),
            score: written["score"].as_f64(),
            teacher: written["teacher"].as_f64(),
            source: sources(written),
            new: None,
            relevant: truth.zip(document).map(|(truth, document)| truth.is_positive(query, document)),
        })
    }

    fn with_text(&self, candidate: &Candidate) -> Candidate {
        let documents = &self.collection.documents;
        let text = documents.find(&candidate.id).map_or("(not in the collection)", |document| documents.text(document));
        Candidate { text: text.to_owned(), ..candidate.clone() }
    }
}

/// `source`, or all of `sources`, whether they are names or objects with one.
fn sources(candidate: &Value) -> String {
    let name = |value: &Value| value.as_str().or_else(|| value["name"].as_str()).or_else(|| value["source"].as_str()).map(str::to_owned);
    match candidate["sources"].as_array() {
        Some(all) => all.iter().filter_map(name).collect::<Vec<_>>().join("+"),
        None => name(&candidate["source"]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Two training queries and one that is not; the text of document `dN` is "text N"; `d4` is relevant to `q1` without being judged.
    fn inspection(folder: &Path, versions: &[Value]) -> Inspection {
        let mut collection = Collection::default();
        for number in 0..8 {
            collection.documents.push(&format!("d{number}"), &format!("text {number}")).unwrap();
        }
        for (id, text) in [("q1", "Where is the red dog"), ("q2", "the red dog"), ("q3", "a test query")] {
            collection.queries.push(id, text).unwrap();
        }
        collection.truth = Some(Judgments::from_pairs(3, vec![(0, 0, 1), (0, 4, 1), (1, 1, 1)]));
        fs::create_dir_all(folder.join("negatives")).unwrap();
        for (version, rows) in (1..).zip(versions) {
            let mut text = json!({ "provenance": { "sources": [{ "name": "dense", "refreshed": { "step": version * 10 } }] } }).to_string();
            for row in rows.as_array().unwrap() {
                text.push_str(&format!("\n{row}"));
            }
            fs::write(folder.join(format!("negatives/version-{version}.jsonl")), text).unwrap();
        }
        fs::write(folder.join("negatives/.version-9.jsonl.partial"), "{").unwrap();
        Inspection {
            run: "run".into(),
            collection,
            judgments: Judgments::from_pairs(3, vec![(0, 0, 1), (1, 1, 1)]),
            versions: super::versions(folder).unwrap(),
            visits: None,
        }
    }

    fn row(query: &str, ids: &[&str]) -> Value {
        let negatives: Vec<Value> =
            (1..).zip(ids).map(|(rank, id)| json!({ "id": id, "score": 0.5, "rank": rank, "source": "dense" })).collect();
        json!({ "query_id": query, "positive_id": "d0", "negatives": negatives })
    }

    #[test]
    fn versions_tell_what_came_what_went_and_what_is_false() {
        let folder = tempfile::tempdir().unwrap();
        let first = json!([row("q1", &["d2", "d3"]), row("q2", &["d2"])]);
        let second = json!([row("q1", &["d5", "d3", "d6", "d4"]), row("q2", &["d2"])]);
        let run = inspection(folder.path(), &[first, second, json!([row("q2", &["d2"])])]);
        let history = &run.histories(&[1, 0], 2).unwrap()[1];
        assert_eq!((history.text.as_str(), history.positives[0].id.as_str()), ("Where is the red dog", "d0"));
        let [one, two, three] = history.versions.as_slice() else { panic!("three versions") };
        assert_eq!((one.step, one.candidates, one.new, one.dropped, one.false_negatives), (Some(10), 2, None, 0, Some(0)));
        assert_eq!((two.step, two.candidates, two.new, two.dropped, two.false_negatives), (Some(20), 4, Some(3), 1, Some(1)));
        // Two by rank, and the false negative beyond them.
        let shown: Vec<_> = two.negatives.iter().map(|it| (it.id.as_str(), it.new, it.relevant)).collect();
        assert_eq!(shown, [("d5", Some(true), Some(false)), ("d3", Some(false), Some(false)), ("d4", Some(true), Some(true))]);
        assert_eq!((two.dropped_negatives[0].id.as_str(), two.dropped_negatives[0].rank), ("d2", Some(1)));
        assert_eq!((three.candidates, three.new, three.dropped, three.dropped_negatives.len()), (0, Some(0), 4, 2));
        assert_eq!(run.histories(&[0], 0).unwrap()[0].versions[1].negatives.len(), 4);
        assert_eq!(run.most_changed(5).unwrap(), [0, 1]);
    }

    #[test]
    fn files_with_more_and_with_fewer_fields_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let negatives = json!([
            { "id": "d2" },
            { "id": "d3", "rank": 2, "score": null, "teacher": 0.25, "sources": ["bm25", { "name": "dense", "rank": 4 }], "more": [1] },
            { "id": "gone", "rank": 1, "source": "random" },
            { "rank": 7 },
        ]);
        let run = inspection(folder.path(), &[json!([{ "query_id": "q1", "negatives": negatives, "extra": {} }])]);
        let version = &run.histories(&[0], 0).unwrap()[0].versions[0];
        let shown: Vec<_> =
            version.negatives.iter().map(|it| (it.id.as_str(), it.rank, it.teacher, it.source.as_str(), it.relevant)).collect();
        assert_eq!(
            shown,
            [
                ("gone", Some(1), None, "random", None),
                ("d3", Some(2), Some(0.25), "bm25+dense", Some(false)),
                ("d2", None, None, "", Some(false)),
            ]
        );
    }

    #[test]
    fn queries_are_found_by_id_and_by_text_and_missed_with_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let run = inspection(folder.path(), &[json!([])]);
        assert_eq!(run.find("q2").unwrap(), (1, 0));
        assert_eq!(run.find("RED DOG").unwrap(), (1, 1), "the shortest text, and one other");
        assert_eq!(run.find("where is").unwrap(), (0, 0));
        let message = |asked: &str| run.find(asked).unwrap_err().to_string();
        assert!(message("q3").contains("not trained on"));
        assert!(message("q11").contains("the nearest are q1 (Where is the red dog)"), "{}", message("q11"));
        assert!(message("red horse").contains("q2 (the red dog)"), "{}", message("red horse"));
        assert!(message(" ").contains("no training query"));
    }
}
