//! The catalogue on every device at hand against the reference, random problems, and what is refused.

use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::catalogue::{Ask, BASE, CASES, Case, HALF_CASES, Problem, Values};
use crate::search::{Budget, search_within};
use crate::{Bins, Choice, Exclusions, SearchError, SearchRequest, TopK, reference, search};

/// As callers get it; several tiles of several blocks of queries; tiles of one query, and a pass over the store for every few queries.
const BUDGETS: [Budget; 3] = [Budget::GPU, Budget { running: 4000, scratch: 8193 }, Budget { running: 64, scratch: 97 }];

fn tensor(values: &[f32], rows: usize, width: usize, dtype: DType, device: &Device) -> Tensor<2> {
    // Rounded here: a cast that burn 0.22 fuses with one of an empty tensor gives wrong numbers (PITFALLS.md).
    let data = TensorData::new(values.to_vec(), [rows, width]).convert_dtype(dtype);
    Tensor::<2>::from_data(data, (device, dtype))
}

fn solve(case: &Case, problem: &Problem, device: &Device) -> Result<TopK, SearchError> {
    solve_within(case, problem, device, BUDGETS[0])
}

fn solve_within(case: &Case, problem: &Problem, device: &Device, budget: Budget) -> Result<TopK, SearchError> {
    let dtype = if case.half { DType::F16 } else { DType::F32 };
    let mut begin = 0;
    let store: Vec<Tensor<2>> = case
        .shards
        .iter()
        .map(|&rows| {
            let values = &problem.rows[begin * case.dimension..(begin + rows) * case.dimension];
            begin += rows;
            tensor(values, rows, case.dimension, dtype, device)
        })
        .collect();
    let reference::Rules { k, exclusions, ceiling, floor, choice, bins } = problem.rules(case);
    let format = if case.half_queries { DType::F16 } else { DType::F32 };
    let queries = tensor(&problem.queries, case.queries, case.dimension, format, device);
    search_within(SearchRequest { queries, store: (&store).into(), k, exclusions, ceiling, floor, choice, bins }, budget)
}

fn close(got: f32, want: f32) -> bool {
    got == want || (got - want).abs() <= 1e-5 + 1e-5 * want.abs()
}

/// Ids and scores must be the reference's: exactly for whole numbers; for fractions, and for draws by keys that are fractions, scores to rounding, and ids
/// wherever keys are clearly apart.
fn check(case: &Case, device: &Device, budget: Budget) {
    let problem = case.problem(7);
    let expected = reference::search(&problem.queries, &problem.rows, case.dimension, problem.rules(case));
    let answer = solve_within(case, &problem, device, budget).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let settled = compare(case, &problem, &answer, &expected);
    assert!(settled > 0.8 || case.values != Values::Whole || case.queries == 0, "{}: only {settled} of the ids were compared", case.name);
}

/// Gives the share of ids that had to agree.
fn compare(case: &Case, problem: &Problem, answer: &TopK, expected: &reference::Solution) -> f64 {
    let mut settled = 0;
    let (keys, expected) = (&expected.keys, &expected.top);
    assert_eq!((answer.k, &answer.counts), (expected.k, &expected.counts), "{}", case.name);
    match (case.values, case.ask) {
        (Values::Real, _) | (_, Ask::Near(_)) => {
            assert_eq!((answer.scores.len(), answer.ids.len()), (expected.scores.len(), expected.ids.len()), "{}", case.name);
            for query in 0..case.queries {
                let row = query * case.k..(query + 1) * case.k;
                let (ids, next) = (&answer.ids[row.clone()], keys[case.queries * case.k + query]);
                let keys: Vec<f64> = std::iter::once(f64::INFINITY).chain(keys[row.clone()].iter().copied()).chain([next]).collect();
                // Keys far from the centre are large, and f32 rounds them three times.
                let apart = |a: f64, b: f64| a.is_infinite() || b.is_infinite() || (a - b).abs() > 1e-4 + 5e-7 * a.abs().min(b.abs());
                for (place, &id) in ids.iter().enumerate() {
                    if apart(keys[place], keys[place + 1]) && apart(keys[place + 1], keys[place + 2]) {
                        assert_eq!(id, expected.ids[row.start + place], "{}: query {query}, place {place}", case.name);
                        settled += 1;
                    }
                    // The score is that of the row, whichever row it is, and that of the place.
                    let score = answer.scores[row.start + place];
                    if matches!(case.ask, Ask::Best(_)) {
                        let want = expected.scores[row.start + place];
                        assert!(close(score, want), "{}: query {query}, place {place} has {score}, expected {want}", case.name);
                    }
                    let want = if id == u32::MAX { f32::NEG_INFINITY } else { exact(case, problem, query, id as usize) };
                    assert!(close(score, want), "{}: query {query}, place {place} is {score}, expected {want}", case.name);
                }
            }
        }
        // A device may flush denormals to zero: the scores are 0 then and ids follow the rule for ties.
        (Values::Denormal, _) if answer != expected => {
            assert!(answer.scores.iter().all(|score| *score == 0.0), "{}: {:?}", case.name, answer.scores);
            assert!(answer.ids.chunks(case.k).all(|ids| ids.iter().copied().eq(0..case.k as u32)), "{}: {:?}", case.name, answer.ids);
        }
        _ => {
            assert_eq!(answer, expected, "{}", case.name);
            settled = answer.ids.len();
        }
    }
    settled as f64 / answer.ids.len() as f64
}

fn exact(case: &Case, problem: &Problem, query: usize, id: usize) -> f32 {
    let [query, row] =
        [(&problem.queries, query), (&problem.rows, id)].map(|(values, at)| &values[at * case.dimension..][..case.dimension]);
    query.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

#[test]
fn the_catalogue_on_the_cpu() {
    for budget in BUDGETS {
        CASES.iter().chain(HALF_CASES).for_each(|case| check(case, &Device::flex(), budget));
    }
}

/// Real embeddings, 256 queries of them, on the CPU and on a GPU when one is asked for; rows of 32 bits, and both sides of 16 where the device has them.
#[test]
fn embeddings_of_a_collection_also_on_a_software_gpu() {
    let Some(folder) = std::env::var_os("DREDGE_VECTORS").map(std::path::PathBuf::from) else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: embeddings of a collection (DREDGE_VECTORS names no folder; see scripts/embed-collection)");
        }
        return;
    };
    let width = std::env::var("DREDGE_VECTORS_WIDTH").map_or(384, |width| width.parse().expect("DREDGE_VECTORS_WIDTH is a number"));
    let read = |name: &str, half: bool| -> Vec<f32> {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", folder.join(name).display()));
        let values = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        values.map(|value| if half { burn::tensor::f16::from_f32(value).to_f32() } else { value }).collect()
    };
    for half in [false, true] {
        let (mut queries, rows) = (read("queries.f32", half), read("rows.f32", half));
        queries.truncate(256 * width);
        let count = rows.len() / width;
        let shards: &'static [usize] = vec![count / 3, count - count / 3].leak();
        let case = Case {
            name: "embeddings",
            queries: queries.len() / width,
            dimension: width,
            shards,
            k: 100,
            values: Values::Real,
            half,
            half_queries: half,
            ..BASE
        };
        let problem = Problem { queries, rows, exclusions: None, ceiling: None, floor: None, keys: Vec::new(), centres: Vec::new() };
        let expected = reference::search(&problem.queries, &problem.rows, width, problem.rules(&case));
        let mut devices = vec![(Device::flex(), Budget::CPU)];
        devices.extend(
            crate::test_gpu()
                .filter(|device| !half || crate::describe(device).is_some_and(|limits| limits.f16))
                .map(|device| (device, Budget::GPU)),
        );
        for (device, budget) in devices {
            let answer = solve_within(&case, &problem, &device, budget).expect("the search works");
            let settled = compare(&case, &problem, &answer, &expected);
            assert!(settled > 0.2, "only {settled} of the ids were far enough from their neighbours to be compared");
        }
    }
}

#[test]
fn the_catalogue_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    for budget in BUDGETS {
        // Passes of a few queries and tiles of one are thousands of launches where the case is large.
        let small = |case: &&Case| budget.scratch > 1000 || case.queries * case.rows() < 100_000;
        CASES.iter().filter(small).for_each(|case| check(case, &device, budget));
    }
}

#[test]
fn the_catalogue_of_sixteen_bits_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let limits = crate::describe(&device).expect("a GPU describes itself");
    if !limits.f16 {
        return;
    }
    // Where lavapipe stands in for hardware, matrix units are what is to be tested.
    assert!(limits.matrix_units.is_ok() || std::env::var_os("DREDGE_SOFTWARE_COMPILER").is_none(), "{limits:?}");
    for budget in BUDGETS {
        let small = |case: &&Case| budget.scratch > 1000 || case.queries * case.rows() < 100_000;
        HALF_CASES.iter().for_each(|case| check(case, &device, budget));
        // Both sides of 16 bits: by matrix units where there are any.
        for case in CASES.iter().filter(small) {
            check(&Case { half: true, half_queries: true, ..*case }, &device, budget);
        }
    }
}

#[test]
fn software_limits_are_read_and_nan_is_refused_there() {
    let Some(device) = crate::test_gpu() else { return };
    let limits = crate::describe(&device).expect("a GPU describes itself");
    let native = std::env::var("DREDGE_TEST_DEVICE").as_deref() == Ok("gpu") || std::env::var_os("DREDGE_SOFTWARE_COMPILER").is_some();
    assert!(limits.compiler == "wgsl" || native, "{limits:?}");
    assert!(limits.max_binding_bytes >= 128 << 20 && limits.shared_memory_bytes >= 16 << 10, "{limits:?}");
    let mut problem = CASES[0].problem(1);
    problem.rows[13] = f32::NAN;
    assert_eq!(solve(&CASES[0], &problem, &device), Err(SearchError::NotANumber { query: 0 }));
    let rows = crate::max_rows_per_shard(&device, 384, 4);
    // What kernels count in 32 bits can be less than what a large GPU binds.
    assert_eq!(rows as u64, (limits.max_binding_bytes / (384 * 4)).min(i32::MAX as u64 / 384));
}

#[test]
fn the_pools_of_a_software_gpu_hold_what_lives() {
    assert_eq!(crate::device_memory(&Device::flex()), None);
    let Some(device) = crate::test_gpu() else { return };
    let rows = Tensor::<2>::ones([1 << 14, 1024], (&device, DType::F32));
    device.sync().expect("the device works");
    let held = crate::device_memory(&device).expect("a GPU has pools");
    assert!(held.in_use >= 64 << 20 && held.reserved >= held.in_use, "{held:?}");
    drop(rows);
}

#[test]
fn sixteen_bit_rows_are_searched_or_refused_by_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let half = |value: f32| burn::tensor::f16::from_f32(value);
    let values: Vec<_> = (0..30).map(|place| half((place / 3) as f32)).collect();
    let store = [Tensor::<2>::from_data(TensorData::new(values, [10, 3]), (&device, DType::F16))];
    let queries = tensor(&[1.0, 1.0, 1.0], 1, 3, DType::F32, &device);
    let answer = search(SearchRequest::new(queries, &store, 2));
    let expected = match crate::describe(&device).expect("a GPU describes itself").f16 {
        true => Ok(TopK { k: 2, scores: vec![27.0, 24.0], ids: vec![9, 8], counts: vec![] }),
        false => Err(SearchError::Half { what: "shard 0".to_owned() }),
    };
    assert_eq!(answer, expected);
}

#[test]
fn queries_on_another_device_than_the_store_are_refused_by_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    let store = [Tensor::<2>::zeros([10, 4], (&Device::flex(), DType::F32))];
    let queries = tensor(&[0.0; 4], 1, 4, DType::F32, &device);
    let answer = search(SearchRequest::new(queries, &store, 2));
    assert!(matches!(answer, Err(SearchError::Elsewhere { shard: 0, .. })), "{answer:?}");
}

#[test]
fn nan_is_refused_wherever_it_stands() {
    let device = Device::flex();
    let clean = CASES[0].problem(1);
    for (query, row) in [(true, 0), (true, 17), (false, 0), (false, 555)] {
        let mut problem = clean.clone();
        let values = if query { &mut problem.queries } else { &mut problem.rows };
        values[row] = f32::NAN;
        for ask in [Ask::Best(0), Ask::Uniform, Ask::Near(0.5)] {
            for bins in [None, Some(Bins { low: -1.0, high: 1.0, count: 2 })] {
                let case = Case { ask, bins, ..CASES[0] };
                assert!(matches!(solve(&case, &problem, &device), Err(SearchError::NotANumber { .. })), "{query} {row} {ask:?} {bins:?}");
            }
        }
    }
    let mut problem = clean;
    problem.ceiling = Some(vec![0.0, f32::NAN, 0.0]);
    assert_eq!(solve(&CASES[0], &problem, &device), Err(SearchError::NotANumber { query: 1 }));
}

#[test]
fn wrong_requests_are_refused_before_the_device_sees_them() {
    let device = Device::flex();
    let zeros = |rows, width| Tensor::<2>::zeros([rows, width], (&device, DType::F32));
    let store = [zeros(10, 4)];
    let ask = |width, k, exclusions: Option<&Exclusions>, ceiling: Option<&[f32]>| {
        search(SearchRequest { exclusions, ceiling, ..SearchRequest::new(zeros(2, width), &store, k) }).map(|_| ())
    };
    assert_eq!(ask(4, 0, None, None), Err(SearchError::Depth { k: 0 }));
    assert_eq!(ask(4, 1025, None, None), Err(SearchError::Depth { k: 1025 }));
    assert_eq!(ask(5, 3, None, None), Err(SearchError::Dimension { shard: 0, got: 4, expected: 5 }));
    assert_eq!(ask(4, 3, Some(&Exclusions::none(3)), None), Err(SearchError::Queries { what: "exclusions", got: 3, expected: 2 }));
    let beyond = Exclusions::from_rows([vec![3, 10], vec![]]);
    assert_eq!(ask(4, 3, Some(&beyond), None), Err(SearchError::Excluded { id: 10, rows: 10 }));
    assert_eq!(ask(4, 3, None, Some(&[1.0])), Err(SearchError::Queries { what: "ceilings", got: 1, expected: 2 }));
    assert_eq!(ask(4, 3, Some(&Exclusions::none(2)), Some(&[1.0, 2.0])), Ok(()));

    let plain = || SearchRequest::new(zeros(2, 4), &store, 3);
    for (skip, end) in [(1022, 1025), (usize::MAX, usize::MAX)] {
        let window = search(SearchRequest { choice: Choice::Best { skip }, ..plain() });
        assert_eq!(window, Err(SearchError::Window { end }));
    }
    let floors = |floor| search(SearchRequest { floor: Some(floor), ..plain() }).map(|_| ());
    assert_eq!(floors(&[1.0]), Err(SearchError::Queries { what: "floors", got: 1, expected: 2 }));
    assert_eq!(floors(&[1.0, f32::NAN]), Err(SearchError::NotANumber { query: 1 }));
    let draw = |keys: &[u64], sharpness, centres: &[f32]| {
        search(SearchRequest { choice: Choice::Near { seed: 0, keys, sharpness, centres }, ..plain() }).map(|_| ())
    };
    assert_eq!(draw(&[1, 2, 3], 1.0, &[0.0; 2]), Err(SearchError::Queries { what: "keys", got: 3, expected: 2 }));
    assert_eq!(draw(&[1, 2], 1.0, &[0.0; 3]), Err(SearchError::Queries { what: "centres", got: 3, expected: 2 }));
    for (sharpness, centre) in [(0.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (f32::INFINITY, 0.0), (1.0, f32::NAN), (1.0, f32::INFINITY)] {
        assert!(matches!(draw(&[1, 2], sharpness, &[0.0, centre]), Err(SearchError::Weights { .. })), "{sharpness} {centre}");
    }
    assert_eq!(draw(&[1, 2], 1.0, &[0.0; 2]), Ok(()));
    for (low, high, count) in
        [(0.0, 0.0, 1), (1.0, 0.0, 1), (f32::NAN, 1.0, 1), (0.0, f32::INFINITY, 1), (0.0, 1.0, 0), (0.0, 1.0, 511), (0.0, 1e-45, 9)]
    {
        let counted = search(SearchRequest { bins: Some(Bins { low, high, count }), ..plain() });
        assert!(matches!(counted, Err(SearchError::Bins { .. })), "{low} {high} {count}");
    }
}

#[test]
fn draws_are_uniform_without_replacement_and_independent_of_shards() {
    let device = Device::flex();
    let store = tensor(&[0.5; 40], 40, 1, DType::F32, &device);
    let parts = [store.clone().slice([0..7, 0..1]), store.clone().slice([7..40, 0..1])];
    let queries = 5000;
    let keys: Vec<u64> = (0..queries as u64).collect();
    let ask = |store: &[Tensor<2>], seed| {
        let request = SearchRequest::new(Tensor::<2>::ones([queries, 1], (&device, DType::F32)), store, 10);
        search(SearchRequest { choice: Choice::Uniform { seed, keys: &keys }, ..request }).unwrap()
    };
    let answer = ask(&[store], 5);
    assert_eq!(answer, ask(&parts, 5));
    assert_ne!(answer, ask(&parts, 6));
    let mut drawn = [[0i32; 40]; 2];
    for ids in answer.ids.chunks(10) {
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 10, "without replacement");
        ids.iter().for_each(|&id| drawn[0][id as usize] += 1);
        drawn[1][ids[0] as usize] += 1;
    }
    // Binomial with probability 1/4 (1/40 for the first): 1250 and 125, five standard deviations.
    assert!(drawn[0].iter().all(|&count| (count - 1250).abs() < 155), "{drawn:?}");
    assert!(drawn[1].iter().all(|&count| (count - 125).abs() < 56), "{drawn:?}");
}

#[test]
fn draws_near_a_score_have_the_probabilities_of_the_formula() {
    let device = Device::flex();
    let scores = [0.0f32, 0.5, 1.0, 1.5, 2.0];
    let store = [tensor(&scores, 5, 1, DType::F32, &device)];
    let queries = 40_000;
    let (keys, centres): (Vec<u64>, Vec<f32>) = (0..queries as u64).map(|query| (query, 1.25)).unzip();
    let request = SearchRequest::new(Tensor::<2>::ones([queries, 1], (&device, DType::F32)), &store, 2);
    let choice = Choice::Near { seed: 3, keys: &keys, sharpness: 1.5, centres: &centres };
    let answer = search(SearchRequest { choice, ..request }).unwrap();
    let weights = scores.map(|score| (-1.5 * (f64::from(score) - 1.25).powi(2)).exp());
    let total: f64 = weights.iter().sum();
    // The first by its weight; the second by its weight among those left.
    for first in 0..5 {
        for second in (0..5).filter(|&second| second != first) {
            let p = weights[first] / total * weights[second] / (total - weights[first]);
            let seen = answer.ids.chunks(2).filter(|ids| **ids == [first as u32, second as u32]).count() as f64;
            let deviation = (queries as f64 * p * (1.0 - p)).sqrt();
            assert!((seen - queries as f64 * p).abs() < 5.0 * deviation, "{first}, {second}: {seen}, expected {}", queries as f64 * p);
        }
    }
}

#[test]
fn a_draw_from_infinite_scores_and_from_none() {
    let device = Device::flex();
    let store = [tensor(&[f32::MAX, f32::MIN, 1.0], 3, 1, DType::F32, &device)];
    let queries = || tensor(&[2.0], 1, 1, DType::F32, &device);
    let ask =
        |choice, floor: f32| search(SearchRequest { choice, floor: Some(&[floor]), ..SearchRequest::new(queries(), &store, 3) }).unwrap();
    let mut all = ask(Choice::Uniform { seed: 1, keys: &[4] }, f32::NEG_INFINITY).ids;
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    // An infinite distance has no weight.
    assert_eq!(ask(Choice::Near { seed: 1, keys: &[4], sharpness: 1.0, centres: &[0.0] }, f32::NEG_INFINITY).ids, [2, u32::MAX, u32::MAX]);
    assert_eq!(ask(Choice::Uniform { seed: 1, keys: &[4] }, f32::INFINITY).ids, [0, u32::MAX, u32::MAX]);
}

#[test]
fn tensors_of_a_training_device_are_searched() {
    let (plain, training) = (Device::flex(), Device::flex().autodiff());
    let problem = CASES[0].problem(3);
    assert_eq!(solve(&CASES[0], &problem, &training), solve(&CASES[0], &problem, &plain));
}

#[test]
fn infinite_scores_are_scores() {
    let device = Device::flex();
    let store = [tensor(&[f32::MAX, f32::MIN, 1.0, f32::MAX], 4, 1, DType::F32, &device)];
    let queries = tensor(&[2.0], 1, 1, DType::F32, &device);
    let answer = search(SearchRequest::new(queries, &store, 4)).unwrap();
    assert_eq!(answer.ids, [0, 3, 2, 1]);
    assert_eq!(answer.scores, [f32::INFINITY, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
    assert_eq!(answer.row(0).count(), 4);
}

#[test]
fn the_cpu_has_no_limits_but_those_of_ids() {
    assert!(crate::describe(&Device::flex()).is_none());
    assert_eq!(crate::max_rows_per_shard(&Device::flex(), 1, 4), i32::MAX as usize - 1);
    assert_eq!(crate::max_rows_per_shard(&Device::flex(), 384, 2), i32::MAX as usize / 384);
    assert_eq!(crate::rows_per_shard(&Device::flex(), 384, 4), (512 << 20) / (384 * 4));
    // A row wider than a shard is one; rows of no width take no memory.
    assert_eq!([1 << 30, 0].map(|dimension| crate::rows_per_shard(&Device::flex(), dimension, 4)), [1, 512 << 20]);
}

#[test]
fn no_queries_is_an_empty_answer() {
    let device = Device::flex();
    let store = [Tensor::<2>::zeros([10, 4], (&device, DType::F32))];
    let queries = Tensor::<2>::zeros([0, 4], (&device, DType::F32));
    let answer = search(SearchRequest::new(queries, &store, 3)).unwrap();
    assert_eq!(answer, TopK { k: 3, scores: vec![], ids: vec![], counts: vec![] });
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![(0usize..40).prop_map(Ask::Best), Just(Ask::Uniform), (0.01f32..3.0).prop_map(Ask::Near)]
}

fn bins() -> impl Strategy<Value = Option<Bins>> {
    prop::option::of((-20f32..5.0, 0.5f32..40.0, 1usize..30).prop_map(|(low, width, count)| Bins { low, high: low + width, count }))
}

/// A problem, which budget to solve it in, and a seed.
fn random_problem() -> impl Strategy<Value = (Case, usize, u64)> {
    let sizes = (prop_oneof![1usize..12, 30usize..70], 0usize..400, 0usize..60, 1usize..20, 1usize..70);
    let rules = (0usize..5, prop::option::of(-5f32..10.0), prop::option::of(-9f32..4.0), ask(), bins());
    let formats = (any::<bool>(), any::<bool>());
    (sizes, rules, formats, 0..BUDGETS.len(), 1u64..1000).prop_map(|(sizes, rules, (half, half_queries), budget, seed)| {
        let (queries, first, second, dimension, k) = sizes;
        let (exclude, ceiling, floor, ask, bins) = rules;
        let shards: &'static [usize] = Box::leak(vec![first, second].into_boxed_slice());
        let case = Case { name: "random", queries, shards, dimension, k, exclude, ceiling, floor, ask, bins, half, half_queries, ..BASE };
        (case, budget, seed)
    })
}

/// Random problems on a device, without 16-bit floats where it has none.
fn random_problems(cases: u32, device: &Device) {
    let halves = crate::describe(device).is_none_or(|limits| limits.f16);
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) });
    let outcome = runner.run(&random_problem(), |(case, budget, seed)| {
        let case = Case { half: case.half && halves, half_queries: case.half_queries && halves, ..case };
        let problem = case.problem(seed);
        let expected = reference::search(&problem.queries, &problem.rows, case.dimension, problem.rules(&case));
        let answer = solve_within(&case, &problem, device, BUDGETS[budget]).map_err(|error| TestCaseError::fail(error.to_string()))?;
        if matches!(case.ask, Ask::Near(_)) {
            compare(&case, &problem, &answer, &expected);
        } else {
            prop_assert_eq!(answer, expected.top);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_problems_match_the_reference() {
    random_problems(160, &Device::flex());
}

#[test]
fn random_problems_on_a_software_gpu() {
    let Some(device) = crate::test_gpu() else { return };
    // Each way to choose and to count is a kernel of its own, which software Vulkan compiles slowly.
    random_problems(16, &device);
}
