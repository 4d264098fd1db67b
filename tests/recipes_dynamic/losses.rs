//! Recipes that differ in the loss: runs that differ only in its settings see the same pairs, so their losses are compared step by step.

use std::fs;

use super::runs::{MODELS, Run, TEMPERATURE, alike, assert_alike, assert_apart, mean, mined, train};
use crate::matrix::{Block, Matrix, log_loss};

/// Rounding, over a few steps.
const BOUND: f64 = 1e-4;

/// InfoNCE over the documents and these blocks without the cells that `seen` scores above the limit of the row: the share of masked cells and the
/// loss, by hand.
fn masked(student: &Matrix, seen: &Matrix, blocks: &[Block], limit: impl Fn(f64) -> f64) -> (f64, f64) {
    let (mut removed, mut all, mut losses) = (0.0, 0.0, Vec::new());
    for row in student.rows() {
        let limit = limit(seen.target(row));
        let (scores, seen) = (student.negatives(row, blocks), seen.negatives(row, blocks));
        let left: Vec<f64> = scores.iter().zip(&seen).filter(|it| *it.1 <= limit).map(|it| *it.0).collect();
        all += scores.len() as f64;
        removed += (scores.len() - left.len()) as f64;
        losses.push(log_loss(student.target(row), &left));
    }
    (removed / all, mean(losses))
}

#[test]
fn qwen3_mask() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, more: &[&str]| train(folder.path(), "qwen3-mask", out, &[&["train.steps=4"], more].concat());
    let (run, wide) = (with("run", &[]), with("wide", &["loss.mask.0.margin=1e6"]));
    let plain = with("plain", &["loss.mask=[]"]);
    assert!(run.drawn().iter().all(|row| row.negatives.len() == 1), "a mined negative each");
    // Four blocks: documents and hard negatives, the other queries, and the positive against all documents.
    let student = Matrix::new(folder.path(), &MODELS.start, &run, 0);
    let (share, loss) = masked(&student, &student, &[Block::Queries, Block::Documents], |positive| positive + 0.1);
    assert!(share > 0.001, "the rule holds somewhere");
    assert!(alike(run.steps("masked_share")[0], share, 1e-3), "{} and {share}", run.steps("masked_share")[0]);
    assert!(alike(run.losses()[0], loss, BOUND), "{} and {loss}", run.losses()[0]);
    assert!(wide.steps("masked_share").iter().all(|&share| share == 0.0));
    assert_alike(&wide.losses(), &plain.losses(), BOUND);
    assert_apart(&run.losses()[..1], &plain.losses()[..1]);
}

#[test]
fn gistembed() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, more: &[&str]| train(folder.path(), "gistembed", out, &[&["train.steps=8"], more].concat());
    let run = with("run", &[]);
    let shares: Vec<Option<f64>> = run.events("step").iter().map(|step| step["masked_share"].as_f64()).collect();
    assert!(shares[..4].iter().all(Option::is_none) && shares[4..].iter().all(|share| share.is_some_and(|it| it > 0.0)), "{shares:?}");
    // Round 2 starts over; the model of round 1 guides it.
    let blocks = [Block::Queries, Block::Positives];
    let by_hand = |run: &Run, guide: &str| {
        let [student, guide] = [&MODELS.start, guide].map(|model| Matrix::new(folder.path(), model, run, 4));
        masked(&student, &guide, &blocks, |positive| positive)
    };
    let assert_guided = |run: &Run, guide: &str| {
        let step = run.events("step")[4];
        let (share, loss) = by_hand(run, guide);
        assert!(alike(step["masked_share"].as_f64().unwrap(), share, 1e-3), "{guide}: {step} and {share}");
        assert!(alike(run.losses()[4], loss, BOUND), "{guide}: {} and {loss}", run.losses()[4]);
    };
    assert_guided(&run, "run/rounds/round-1");
    assert!(by_hand(&run, "run/rounds/round-1").0 > 0.0, "nothing is masked");
    // With the fourth block, the query against hard negatives; and with a guide that is named.
    let source = "negatives.source=[{from=\"in-batch\"},{from=\"dense\",model=\"start\",depth=100}]";
    let hard = with("hard", &["batch.negatives=1", source]);
    assert!(hard.drawn().iter().all(|row| row.negatives.len() == 1));
    assert_guided(&hard, "hard/rounds/round-1");
    let named = with("named", &[&format!("guide.model=\"{}\"", MODELS.trained)]);
    assert_guided(&named, &MODELS.trained);
    assert_ne!(by_hand(&named, "named/rounds/round-1"), by_hand(&named, &MODELS.trained));
    // Its rows of both sides are kept for a later round or a resumed run.
    assert_eq!(fs::read_dir(run.path.join("guides")).unwrap().count(), 2);
    // A guide's margin lowers the limit: an enormous one leaves nothing to contrast with.
    let all = with("all", &["loss.mask.0.margin=1e6"]);
    assert!(all.steps("loss")[4..].iter().all(|loss| loss.abs() < 1e-6), "{:?}", all.losses());
    assert!(all.events("step")[4..].iter().all(|step| alike(step["masked_share"].as_f64().unwrap(), 1.0, 1e-6)));
}

#[test]
fn cached_gist() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.steps=4", "batch.queries=128"];
    let chunked = train(folder.path(), "cached-gist", "chunked", &set);
    let whole = train(folder.path(), "cached-gist", "whole", &[&set[..], &["batch.chunk=0"]].concat());
    let other = train(folder.path(), "gistembed", "other", &set);
    let all = |run: &Run| [run.losses(), run.steps("gradient_norm")].concat();
    assert_alike(&all(&chunked), &all(&whole), BOUND);
    assert_eq!(whole.losses(), other.losses());
    let share = |run: &Run| run.events("step")[2..].iter().map(|step| step["masked_share"].as_f64().unwrap()).collect::<Vec<_>>();
    assert_alike(&share(&chunked), &share(&whole), 1e-3);
}

/// The debiased loss by hand, hard negatives weighted by their own exponential to the power of `beta`.
fn corrected(matrix: &Matrix, tau_plus: f64, beta: f64) -> f64 {
    mean(matrix.rows().map(|row| {
        let power = |score: f64, to: f64| (to * score / TEMPERATURE).exp();
        let (negatives, positive) = (matrix.negatives(row, &[]), power(matrix.target(row), 1.0));
        let count = negatives.len() as f64;
        let sum = |to: f64| negatives.iter().map(|score| power(*score, to)).sum::<f64>();
        let mass = count * sum(1.0 + beta) / sum(beta);
        let left = ((mass - tau_plus * count * positive) / (1.0 - tau_plus)).max(count * power(-1.0, 1.0));
        ((positive + left) / positive).ln()
    }))
}

#[test]
fn debiased() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let plain = with("in-batch", "plain", &[]);
    assert_alike(&with("debiased", "zero", &["loss.tau_plus=0"]).losses(), &plain.losses(), BOUND);
    let run = with("debiased", "run", &["loss.tau_plus=0.02"]);
    let expected = corrected(&Matrix::new(folder.path(), &MODELS.start, &run, 0), 0.02, 0.0);
    assert!(alike(run.losses()[0], expected, BOUND), "{} and {expected}", run.losses()[0]);
    assert!(
        run.losses()[0] < plain.losses()[0] - 1e-3,
        "what is subtracted makes the loss smaller: {:?} {:?}",
        run.losses(),
        plain.losses()
    );
    assert!(run.steps("floor_share").iter().all(|share| (0.0..=1.0).contains(share)));
}

#[test]
fn hcl() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let debiased = with("debiased", "debiased", &[]);
    assert_alike(&with("hcl", "zero", &["loss.beta=0"]).losses(), &debiased.losses(), BOUND);
    let run = with("hcl", "run", &[]);
    let expected = corrected(&Matrix::new(folder.path(), &MODELS.start, &run, 0), 0.005, 0.5);
    assert!(alike(run.losses()[0], expected, BOUND), "{} and {expected}", run.losses()[0]);
    assert!(run.losses()[0] > debiased.losses()[0] + 1e-2, "hard negatives weigh more: {:?} {:?}", run.losses(), debiased.losses());
}

#[test]
fn ccr() {
    let folder = tempfile::tempdir().unwrap();
    let with = |out: &str, more: &[&str]| train(folder.path(), "ccr", out, &[&["train.steps=12"], more].concat());
    let (run, zero) = (with("run", &[]), with("zero", &["round.1.loss.beta=0.0"]));
    let plain = with("plain", &["round.1.loss={ kind = \"info-nce\" }"]);
    assert_alike(&zero.losses(), &plain.losses(), BOUND);
    assert_eq!(run.losses()[..6], plain.losses()[..6], "round 1 is ordinary training");
    // The regulariser is a mean of logarithms of shares: negative, and proportional to beta.
    let one = with("one", &["round.1.loss.beta=1.0"]);
    let [half, one] = [&run, &one].map(|run| run.losses()[6] - plain.losses()[6]);
    assert!(half < -0.1 && alike(one, 2.0 * half, 1e-3), "{half} {one}");
    // Which mean that is: over the positive and all columns of a query.
    let matrix = Matrix::new(folder.path(), "run/rounds/round-1", &run, 6);
    let expected = mean(matrix.rows().map(|row| {
        let (target, negatives) = (matrix.target(row), matrix.negatives(row, &[]));
        let loss = log_loss(target, &negatives);
        loss + 0.5 * mean(negatives.iter().chain([&target]).map(|score| (score - target) / TEMPERATURE - loss))
    }));
    assert!(alike(run.losses()[6], expected, BOUND), "{} and {expected}", run.losses()[6]);
}

#[test]
fn passage_sieve() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "passage-sieve", "run", &["train.steps=12"]);
    let refreshes = run.events("refresh");
    // A fifth of the steps is the first round's.
    let refresh = refreshes.iter().find(|refresh| refresh["step"] == 3).expect("round 2 mines");
    // The model of round 1 mines the same lists with another command.
    let (lists, whole) = (run.version(refreshes.len()), mined(folder.path(), "run/rounds/round-1", "100"));
    assert!(!lists.is_empty());
    let mut dropped = 0;
    for (query, list) in &lists {
        let row = &whole[query];
        let mean = mean(row.negatives.iter().map(|it| it.1).chain([row.positive]));
        // Where one lies on the mean, rounding decides.
        let near = row.negatives.iter().any(|it| (it.1 - mean).abs() < 1e-6);
        let below = row.negatives.iter().filter(|it| it.1 < mean).count();
        assert!(list.iter().all(|it| it.score < mean + 1e-6), "{query}: {list:?} below {mean}");
        assert!(near || list.len() == below, "{query}: {} of {below} below {mean}", list.len());
        dropped += row.negatives.len() - list.len();
    }
    assert!(dropped > 1000);
    assert_eq!(refresh["removed"]["sieve"], dropped);
}

/// A teacher that is the start encoder itself.
const TAUGHT: [&str; 4] = ["train.steps=4", "data.teacher=mined.jsonl", "negatives.source.0.path=mined.jsonl", "loss.temperature=1.0"];

#[test]
fn margin_mse() {
    let folder = tempfile::tempdir().unwrap();
    let scores = mined(folder.path(), "builtin:tiny", "8");
    let with = |out: &str, scale: &str| train(folder.path(), "margin-mse", out, &[&TAUGHT[..], &[scale]].concat());
    let run = with("run", "loss.teacher_scale=1.0");
    assert!(run.losses()[0] < 1e-9, "the student agrees with itself: {:?}", run.losses());
    // A teacher whose margins are three times as wide: twice a margin is missing.
    let other = with("other", "loss.teacher_scale=3.0");
    let rows = other.drawn().into_iter().filter(|row| row.step == 0);
    let expected = mean(rows.map(|row| {
        let taught = &scores[&row.query];
        assert_eq!(row.negatives.len(), 1);
        (2.0 * (taught.positive - taught.score(&row.negatives[0].id))).powi(2)
    }));
    assert!(expected > 1e-4 && alike(other.losses()[0], expected, BOUND), "{} and {expected}", other.losses()[0]);

    // A teacher at work: another run's encoder, by the name of its folder.
    let source = "negatives.source=[{from=\"dense\",model=\"start\",depth=20}]";
    let model = format!("teacher.model=\"{}\"", MODELS.trained);
    let taught = train(folder.path(), "margin-mse", "taught", &["train.steps=2", source, &model]);
    let [student, teacher] = [&MODELS.start, &MODELS.trained].map(|model| Matrix::new(folder.path(), model, &taught, 0));
    let margin = |matrix: &Matrix, row: usize| matrix.target(row) - matrix.score(row, matrix.own(row)[0]);
    let expected = mean(student.rows().map(|row| (margin(&student, row) - margin(&teacher, row)).powi(2)));
    assert!(expected > 1e-4 && alike(taught.losses()[0], expected, 1e-3), "{} and {expected}", taught.losses()[0]);
}

#[test]
fn kl_distill() {
    let folder = tempfile::tempdir().unwrap();
    let scores = mined(folder.path(), "builtin:tiny", "8");
    let source = "negatives.source.1.path=mined.jsonl";
    let set: Vec<&str> = TAUGHT.into_iter().filter(|it| !it.starts_with("negatives")).chain([source]).collect();
    let with = |out: &str, sharp: &str| train(folder.path(), "kl-distill", out, &[&set[..], &[sharp]].concat());
    let run = with("run", "loss.teacher_temperature=1.0");
    assert!(run.steps("kl")[0].abs() < 1e-6, "the student agrees with itself: {:?}", run.steps("kl"));
    // A teacher that is surer of the same order.
    let other = with("other", "loss.teacher_temperature=0.05");
    let rows = other.drawn().into_iter().filter(|row| row.step == 0);
    let expected = mean(rows.map(|row| {
        let taught = &scores[&row.query];
        let list: Vec<f64> = [taught.positive].into_iter().chain(row.negatives.iter().map(|it| taught.score(&it.id))).collect();
        assert_eq!(list.len(), 8);
        let log_shares = |temperature: f64| -> Vec<f64> {
            let total = list.iter().map(|score| (score / temperature).exp()).sum::<f64>().ln();
            list.iter().map(|score| score / temperature - total).collect()
        };
        log_shares(0.05).iter().zip(log_shares(1.0)).map(|(teacher, student)| teacher.exp() * (teacher - student)).sum()
    }));
    assert!(expected > 1e-2 && alike(other.steps("kl")[0], expected, 1e-3), "{} and {expected}", other.steps("kl")[0]);
    // Next to a fifth of InfoNCE over all columns.
    for run in [&run, &other] {
        let sum: Vec<f64> = run.steps("kl").iter().zip(run.steps("info-nce")).map(|(kl, nce)| kl + 0.2 * nce).collect();
        assert_alike(&run.losses(), &sum, BOUND);
    }
    assert!(run.batches[0]["columns"].as_u64().unwrap() > 32 * 5, "mined and in-batch columns");
}

#[test]
fn mochi() {
    let folder = tempfile::tempdir().unwrap();
    let with = |recipe: &str, out: &str, more: &[&str]| train(folder.path(), recipe, out, &[&["train.steps=8"], more].concat());
    let at_once = ["loss.mixing.pairs_from_step=0", "loss.mixing.with_query_from_step=0"];
    let (run, plain) = (with("mochi", "run", &at_once), with("in-batch", "plain", &[]));
    assert!(run.losses()[0] > plain.losses()[0] + 0.1, "more columns, and hard ones: {:?} {:?}", run.losses(), plain.losses());
    let off = with("mochi", "off", &["loss.mixing.pairs_from_step=8", "loss.mixing.with_query_from_step=8"]);
    assert_alike(&off.losses(), &plain.losses(), BOUND);
    // Each kind from its own step on.
    let late = with("mochi", "late", &["loss.mixing.pairs_from_step=3", "loss.mixing.with_query_from_step=5"]);
    assert_alike(&late.losses()[..3], &plain.losses()[..3], BOUND);
    assert!(late.losses()[3] > plain.losses()[3] + 1e-2);
    // One mixture for each query, of its hardest negatives, so that its loss is one integral over the share: the mean over the batch is that of the
    // integrals, give or take five standard deviations of what the shares do to it.
    for (out, mixing, with_query) in [("one", "{hardest=1,pairs=0,with_query=1}", true), ("two", "{hardest=2,pairs=1,with_query=0}", false)]
    {
        let run = with("mochi", out, &[&format!("loss.mixing={mixing}")]);
        let matrix = Matrix::new(folder.path(), &MODELS.start, &run, 0);
        let (mut sum, mut variance) = (0.0, 0.0);
        for row in matrix.rows() {
            let mut hardest = matrix.open(row);
            hardest.sort_by(|a, b| matrix.score(row, *b).total_cmp(&matrix.score(row, *a)));
            let negatives = matrix.negatives(row, &[]);
            let losses: Vec<f64> = (0..100)
                .map(|place| {
                    let share = (f64::from(place) + 0.5) / 100.0;
                    // Products of the query with what is mixed, and of the two with one another.
                    let second = matrix.score(row, hardest[0]);
                    let (share, first, between) = if with_query {
                        (share / 2.0, 1.0, second)
                    } else {
                        (share, matrix.score(row, hardest[1]), matrix.between(hardest[0], hardest[1]))
                    };
                    let length = (share.powi(2) + (1.0 - share).powi(2) + 2.0 * share * (1.0 - share) * between).sqrt();
                    let mixed = (share * first + (1.0 - share) * second) / length;
                    log_loss(matrix.target(row), &[&negatives[..], &[mixed]].concat())
                })
                .collect();
            let expected = mean(losses.iter().copied());
            sum += expected;
            variance += mean(losses.iter().map(|loss| (loss - expected).powi(2)));
        }
        let count = matrix.rows().len() as f64;
        let (got, expected, bound) = (run.losses()[0], sum / count, 5.0 * variance.sqrt() / count + 1e-4);
        assert!((got - expected).abs() < bound, "{mixing}: {got}, not {expected} within {bound}");
        assert!(
            expected > plain.losses()[0] + 2.0 * bound,
            "{mixing}: {expected} within {bound} tells nothing beside {:?}",
            plain.losses()
        );
    }
}
