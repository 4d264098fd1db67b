//! Scores with and without a cache, and training step by step, on a handful of texts.

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use corpus::Collection;
use encoder::{CrossEncoder, Encoder};
use teacher::{
    Counts, Group, LearnerState, List, ListLoss, PairScorer, RerankerLearner, RerankerTraining, ScoreCache, TeacherError, tokenize_lists,
};

const DOCUMENTS: [&str; 6] = [
    "a red bridge over the cold river",
    "the river runs under an old bridge",
    "bread is baked in the morning",
    "old towers of the red town",
    "a baker sells cakes and bread",
    "cold mornings in the old town",
];
const QUERIES: [&str; 3] = ["where is a bridge", "who bakes bread", "which towers are old"];

fn collection() -> Collection {
    let mut collection = Collection::default();
    for (number, text) in DOCUMENTS.iter().enumerate() {
        collection.documents.push(&format!("d{number}"), text).unwrap();
    }
    for (number, text) in QUERIES.iter().enumerate() {
        collection.queries.push(&format!("q{number}"), text).unwrap();
    }
    collection
}

fn model(seed: u64) -> CrossEncoder {
    let encoder = Encoder::tiny(DOCUMENTS.into_iter().chain(QUERIES), 3, &Device::flex());
    CrossEncoder::from_encoder(&encoder, seed).unwrap()
}

fn all_pairs() -> Vec<(u32, u32)> {
    (0..QUERIES.len() as u32).flat_map(|query| (0..DOCUMENTS.len() as u32).map(move |document| (query, document))).collect()
}

fn close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance * (1.0 + expected.abs()), "[{place}] {got} against {expected}");
    }
}

#[test]
fn a_scorer_gives_the_scores_of_the_model_and_computes_none_twice() {
    let texts = Arc::new(collection());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores");
    let pairs = all_pairs();
    let strings: Vec<(&str, &str)> =
        pairs.iter().map(|&(query, document)| (QUERIES[query as usize], DOCUMENTS[document as usize])).collect();
    let expected = model(1).scores(&strings, 4).unwrap();

    let mut scorer = PairScorer::new(model(1), Some(ScoreCache::open(&path).unwrap()), Arc::clone(&texts) as _).with_batch_tokens(40);
    let some: Vec<(u32, u32)> = pairs.iter().rev().step_by(2).copied().collect();
    let first = scorer.scores(&some).unwrap();
    close(&first, &expected.iter().rev().step_by(2).copied().collect::<Vec<_>>(), 1e-5);
    assert_eq!(scorer.counts(), Counts { hits: 0, misses: 9 });
    let twice = scorer.scores(&[pairs[0], pairs[0], some[0]]).unwrap();
    assert_eq!((twice[0], twice[2]), (twice[1], first[0]), "the cache gives the same bits");
    assert_eq!(scorer.counts(), Counts { hits: 2, misses: 10 });
    drop(scorer);

    // A later process finds what is there and computes the rest.
    let mut scorer = PairScorer::new(model(1), Some(ScoreCache::open(&path).unwrap()), Arc::clone(&texts) as _);
    close(&scorer.scores(&pairs).unwrap(), &expected, 1e-5);
    assert_eq!(scorer.counts(), Counts { hits: 10, misses: 8 });
    let known = scorer.scores(&pairs).unwrap();
    assert_eq!(scorer.scores(&pairs).unwrap(), known);

    // Neither another model nor another length is served from it.
    scorer.set_model(model(2));
    let other = scorer.scores(&pairs).unwrap();
    assert!(other.iter().zip(&known).all(|(a, b)| a != b));
    let mut short = model(1);
    short.set_max_length(8).unwrap();
    scorer.set_model(short);
    scorer.scores(&pairs).unwrap();
    assert_eq!(scorer.counts(), Counts { hits: 46, misses: 44 });
    assert_eq!(scorer.into_parts().1.unwrap().len(), 54);
}

#[test]
fn ids_without_text_are_refused() {
    let texts = Arc::new(collection());
    let mut scorer = PairScorer::new(model(1), None, Arc::clone(&texts) as _);
    for (pair, message) in [((3, 0), "query 3 has no text"), ((0, 6), "document 6 has no text")] {
        let error = scorer.scores(&[(0, 0), pair]).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(scorer.scores(&[]).unwrap().is_empty());
}

/// Lists of unequal length.
fn groups(model: &CrossEncoder) -> Vec<Group> {
    let list = |query: u32, documents: &[u32]| List { query, documents: documents.to_vec() };
    tokenize_lists(model, &collection(), &[list(0, &[0, 2, 3]), list(1, &[2, 0, 1, 5]), list(2, &[3, 1])]).unwrap()
}

fn training() -> RerankerTraining {
    RerankerTraining { steps: 20, learning_rate: 1e-3, ..RerankerTraining::default() }
}

fn weights(learner: &RerankerLearner) -> Vec<f32> {
    learner.state().weights.iter().flat_map(|(_, data)| data.iter::<f32>().collect::<Vec<_>>()).collect()
}

#[test]
fn training_lowers_either_loss() {
    let model = model(1);
    let groups = groups(&model);
    for loss in [ListLoss::Lce, ListLoss::BinaryCrossEntropy] {
        let mut learner = RerankerLearner::new(&model, RerankerTraining { loss, ..training() }).unwrap();
        let mut losses = Vec::new();
        let last = learner.train(|_| Ok::<_, TeacherError>(groups.clone()), |_, loss| losses.push(loss)).unwrap();
        assert_eq!((losses.len(), last, learner.steps_done()), (20, losses.last().copied(), 20));
        assert!(losses[19] < 0.5 * losses[0], "{loss:?}: {losses:?}");
        assert_eq!(learner.train(|_| Ok::<_, TeacherError>(groups.clone()), |_, _| {}).unwrap(), None, "nothing is left to do");
    }
}

#[test]
fn how_a_step_is_cut_into_chunks_changes_nothing() {
    let model = model(1);
    let groups = groups(&model);
    let after = |chunk: usize, cache_gradients: bool| {
        let mut learner =
            RerankerLearner::new(&model, RerankerTraining { chunk, cache_gradients, warmup: 0.into(), ..training() }).unwrap();
        let stepped = learner.step(&groups).unwrap();
        (stepped.loss.into_scalar::<f32>(), stepped.gradient_norm.into_scalar::<f32>())
    };
    let whole = after(100, false);
    for (chunk, cached) in [(100, true), (2, false), (2, true), (1, true)] {
        let cut = after(chunk, cached);
        close(&[cut.0, cut.1], &[whole.0, whole.1], 1e-4);
    }
}

#[test]
fn a_resumed_training_ends_with_the_same_bits() {
    let model = model(1);
    let all = groups(&model);
    let lists = |step: usize| Ok::<_, TeacherError>(all[step % 2..].to_vec());
    let mut whole = RerankerLearner::new(&model, training()).unwrap();
    whole.train(lists, |_, _| {}).unwrap();

    let mut first = RerankerLearner::new(&model, training()).unwrap();
    for step in 0..7 {
        first.step(&lists(step).unwrap()).unwrap();
    }
    let state: LearnerState = first.state();
    assert_eq!(state.step, 7);
    let mut second = RerankerLearner::new(&self::model(9), training()).unwrap();
    second.load_state(state.clone()).unwrap();
    second.train(lists, |_, _| {}).unwrap();
    assert_eq!(weights(&second), weights(&whole));

    let mut foreign = state;
    foreign.weights.remove(0);
    let before = weights(&second);
    assert!(second.load_state(foreign).is_err());
    assert_eq!((weights(&second), second.steps_done()), (before, 20), "a refused state changes nothing");
}

#[test]
fn a_loss_of_ones_own_takes_the_same_step() {
    let model = model(1);
    let groups = groups(&model)[..1].to_vec();
    let settings = RerankerTraining { warmup: 0.into(), ..training() };
    let mut inside = RerankerLearner::new(&model, settings.clone()).unwrap();
    inside.step(&groups).unwrap();
    let mut outside = RerankerLearner::new(&model, settings).unwrap();
    let batch = model.batch(&groups[0].pairs.iter().collect::<Vec<_>>());
    let loss: Tensor<1> = ListLoss::Lce.value(outside.logits(&batch), &[3], outside.device());
    let gradients = GradientsParams::from_grads(loss.backward(), outside.network());
    outside.update(gradients);
    close(&weights(&outside), &weights(&inside), 1e-5);
    assert_ne!(weights(&outside), weights(&RerankerLearner::new(&model, training()).unwrap()));
    assert_eq!(outside.steps_done(), 1);
}

/// Joint training: the scores that come with a step are those of the model before it, list after list, however it is cut.
#[test]
fn a_step_gives_the_scores_that_it_began_with() {
    let model = model(1);
    let mut groups = groups(&model);
    groups[1].pairs.truncate(1);
    let rows: Vec<_> = groups.iter().flat_map(|group| &group.pairs).collect();
    let expected = model.score_rows(&rows).unwrap();
    let settings = RerankerTraining { warmup: 0.into(), ..training() };
    for (chunk, cache_gradients) in [(100, false), (2, false), (2, true)] {
        let mut learner = RerankerLearner::new(&model, RerankerTraining { chunk, cache_gradients, ..settings.clone() }).unwrap();
        let before = weights(&learner);
        let (_, scores) = learner.step_scored(&groups, 0).unwrap();
        close(&scores, &expected, 1e-5);
        assert!(weights(&learner) != before && learner.steps_done() == 1);
        assert!(learner.step(&groups).is_err(), "a list without a negative teaches nothing");
    }
}

/// Under a budget of seconds the rate follows the time, not the number of steps.
#[test]
fn a_step_has_the_rate_that_its_place_says() {
    let model = model(1);
    let groups = groups(&model);
    let settings = RerankerTraining { steps: 100, warmup: 50.into(), ..training() };
    let moved = |at: usize| {
        let mut learner = RerankerLearner::new(&model, settings.clone()).unwrap();
        let before = weights(&learner);
        learner.step_scored(&groups, at).unwrap();
        weights(&learner) != before
    };
    assert!(!moved(0) && moved(50), "a warm-up begins with rate 0");
}

#[test]
fn scores_that_are_no_numbers_are_an_error_and_not_unknown_ones() {
    let model = model(1);
    let mut learner = RerankerLearner::new(&model, training()).unwrap();
    let mut state = learner.state();
    for (_, weights) in &mut state.weights {
        *weights = TensorData::new(vec![f32::NAN; weights.num_elements()], weights.shape().clone());
    }
    learner.load_state(state).unwrap();
    assert!(matches!(learner.step_scored(&groups(&model), 0), Err(TeacherError::Diverged { step: 0, .. })));
}

#[test]
fn impossible_steps_are_refused_and_change_nothing() {
    let model = model(1);
    let mut learner = RerankerLearner::new(&model, training()).unwrap();
    let mut short = groups(&model);
    short[1].pairs.truncate(1);
    let before = weights(&learner);
    assert!(matches!(learner.step(&[]), Err(TeacherError::NoLists)));
    assert!(matches!(learner.step(&short), Err(TeacherError::ShortList { list: 1, got: 1 })));
    assert_eq!((weights(&learner), learner.steps_done()), (before, 0));
    assert!(RerankerLearner::new(&model, RerankerTraining { steps: 0, ..training() }).is_err());
}

/// The model with dropout written into its configuration.
fn with_dropout() -> CrossEncoder {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model(1).save(&path).unwrap();
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    let dropping = config.replace("\"hidden_dropout_prob\": 0.0", "\"hidden_dropout_prob\": 0.2");
    assert_ne!(dropping, config);
    std::fs::write(path.join("config.json"), dropping).unwrap();
    CrossEncoder::load(path.to_str().unwrap(), &Device::flex()).unwrap()
}

#[test]
fn dropout_is_a_function_of_the_seed_and_the_same_with_cached_gradients() {
    let model = with_dropout();
    assert!(model.network.has_dropout());
    let groups = groups(&model);
    let loss = |seed: u64, cache_gradients: bool| {
        let settings = RerankerTraining { seed, cache_gradients, chunk: 4, warmup: 0.into(), ..training() };
        let mut learner = RerankerLearner::new(&model, settings).unwrap();
        let stepped = learner.step(&groups).unwrap();
        [stepped.loss.into_scalar::<f32>(), stepped.gradient_norm.into_scalar::<f32>()]
    };
    let first = loss(1, false);
    assert_eq!(first, loss(1, false));
    close(&loss(1, true), &first, 1e-4);
    assert!((first[0] - loss(2, false)[0]).abs() > 1e-4, "another seed drops other values");
}
