//! The catalogue on every device at hand against the reference, random problems, and what is refused.

use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::prelude::*;

use crate::catalogue::{CASES, Case, HALF_CASES, Problem, Values};
use crate::search::{Budget, search_within};
use crate::{Exclusions, SearchError, SearchRequest, TopK, reference, search};

/// As callers get it; several tiles of several blocks of queries; tiles of one query, and a pass over the store for every few queries.
const BUDGETS: [Budget; 3] =
    [Budget { running: 8 << 20, scratch: 4 << 20 }, Budget { running: 4000, scratch: 8193 }, Budget { running: 64, scratch: 97 }];

fn tensor(values: &[f32], rows: usize, width: usize, dtype: DType, device: &Device) -> Tensor<2> {
    Tensor::<2>::from_data(TensorData::new(values.to_vec(), [rows, width]), (device, DType::F32)).cast(dtype)
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
    let request = SearchRequest {
        queries: tensor(&problem.queries, case.queries, case.dimension, DType::F32, device),
        store: &store,
        k: case.k,
        exclusions: problem.exclusions.as_ref(),
        ceiling: problem.ceiling.as_deref(),
    };
    search_within(request, budget)
}

/// Ids and scores must be the reference's: exactly for whole numbers; for fractions scores to rounding, and ids wherever scores are clearly apart.
fn check(case: &Case, device: &Device, budget: Budget) {
    let problem = case.problem(7);
    let expected =
        reference::search(&problem.queries, &problem.rows, case.dimension, case.k, problem.exclusions.as_ref(), problem.ceiling.as_deref());
    let answer = solve_within(case, &problem, device, budget).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert_eq!(answer.k, expected.k, "{}", case.name);
    match case.values {
        Values::Real => {
            for (place, (got, want)) in answer.scores.iter().zip(&expected.scores).enumerate() {
                assert!((got - want).abs() <= 1e-5 + 1e-5 * want.abs(), "{}: score {place} is {got}, expected {want}", case.name);
                let apart = |other: Option<&f32>| other.is_none_or(|other| (other - want).abs() > 1e-4);
                let first = place % case.k == 0;
                if apart(expected.scores.get(place + 1)) && (first || apart(expected.scores.get(place.wrapping_sub(1)))) {
                    assert_eq!(answer.ids[place], expected.ids[place], "{}: id {place}", case.name);
                }
            }
        }
        // A device may flush denormals to zero: the scores are 0 then and ids follow the rule for ties.
        Values::Denormal if answer != expected => {
            assert!(answer.scores.iter().all(|score| *score == 0.0), "{}: {:?}", case.name, answer.scores);
            assert!(answer.ids.chunks(case.k).all(|ids| ids.iter().copied().eq(0..case.k as u32)), "{}: {:?}", case.name, answer.ids);
        }
        _ => assert_eq!(answer, expected, "{}", case.name),
    }
}

#[test]
fn the_catalogue_on_the_cpu() {
    for budget in BUDGETS {
        CASES.iter().chain(HALF_CASES).for_each(|case| check(case, &Device::flex(), budget));
    }
}

/// The software device, when the environment asks for it.
fn software() -> Option<Device> {
    if std::env::var("DREDGE_TEST_DEVICE").as_deref() != Ok("software") {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: software GPU (DREDGE_TEST_DEVICE is not software)");
        }
        return None;
    }
    Some(crate::software_device().expect("a software Vulkan driver"))
}

#[test]
fn the_catalogue_on_a_software_gpu() {
    let Some(device) = software() else { return };
    for budget in BUDGETS {
        // Passes of a few queries and tiles of one are thousands of launches where the case is large.
        let small = |case: &&Case| budget.scratch > 1000 || case.queries * case.rows() < 100_000;
        CASES.iter().filter(small).for_each(|case| check(case, &device, budget));
    }
}

#[test]
fn software_limits_are_read_and_nan_is_refused_there() {
    let Some(device) = software() else { return };
    let limits = crate::describe(&device).expect("a GPU describes itself");
    assert_eq!(limits.compiler, "wgsl");
    assert!(limits.max_binding_bytes >= 128 << 20 && limits.shared_memory_bytes >= 16 << 10, "{limits:?}");
    let mut problem = CASES[0].problem(1);
    problem.rows[13] = f32::NAN;
    assert_eq!(solve(&CASES[0], &problem, &device), Err(SearchError::NotANumber { query: 0 }));
    let rows = crate::max_rows_per_shard(&device, 384, 4);
    assert_eq!(rows as u64, limits.max_binding_bytes / (384 * 4));
}

#[test]
fn sixteen_bit_rows_are_searched_or_refused_by_a_software_gpu() {
    let Some(device) = software() else { return };
    let half = |value: f32| burn::tensor::f16::from_f32(value);
    let values: Vec<_> = (0..30).map(|place| half((place / 3) as f32)).collect();
    let store = [Tensor::<2>::from_data(TensorData::new(values, [10, 3]), (&device, DType::F16))];
    let queries = tensor(&[1.0, 1.0, 1.0], 1, 3, DType::F32, &device);
    let answer = search(SearchRequest { queries, store: &store, k: 2, exclusions: None, ceiling: None });
    let expected = match crate::describe(&device).expect("a GPU describes itself").f16 {
        true => Ok(TopK { k: 2, scores: vec![27.0, 24.0], ids: vec![9, 8] }),
        false => Err(SearchError::Half { shard: 0 }),
    };
    assert_eq!(answer, expected);
}

#[test]
fn queries_on_another_device_than_the_store_are_refused_by_a_software_gpu() {
    let Some(device) = software() else { return };
    let store = [Tensor::<2>::zeros([10, 4], (&Device::flex(), DType::F32))];
    let queries = tensor(&[0.0; 4], 1, 4, DType::F32, &device);
    let answer = search(SearchRequest { queries, store: &store, k: 2, exclusions: None, ceiling: None });
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
        assert!(matches!(solve(&CASES[0], &problem, &device), Err(SearchError::NotANumber { .. })), "{query} {row}");
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
        search(SearchRequest { queries: zeros(2, width), store: &store, k, exclusions, ceiling }).map(|_| ())
    };
    assert_eq!(ask(4, 0, None, None), Err(SearchError::Depth { k: 0 }));
    assert_eq!(ask(4, 1025, None, None), Err(SearchError::Depth { k: 1025 }));
    assert_eq!(ask(5, 3, None, None), Err(SearchError::Dimension { shard: 0, got: 4, expected: 5 }));
    assert_eq!(ask(4, 3, Some(&Exclusions::none(3)), None), Err(SearchError::Queries { what: "exclusions", got: 3, expected: 2 }));
    let beyond = Exclusions::from_rows([vec![3, 10], vec![]]);
    assert_eq!(ask(4, 3, Some(&beyond), None), Err(SearchError::Excluded { id: 10, rows: 10 }));
    assert_eq!(ask(4, 3, None, Some(&[1.0])), Err(SearchError::Queries { what: "ceilings", got: 1, expected: 2 }));
    assert_eq!(ask(4, 3, Some(&Exclusions::none(2)), Some(&[1.0, 2.0])), Ok(()));
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
    let answer = search(SearchRequest { queries, store: &store, k: 4, exclusions: None, ceiling: None }).unwrap();
    assert_eq!(answer.ids, [0, 3, 2, 1]);
    assert_eq!(answer.scores, [f32::INFINITY, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
    assert_eq!(answer.row(0).count(), 4);
}

#[test]
fn the_cpu_has_no_limits_but_those_of_ids() {
    assert!(crate::describe(&Device::flex()).is_none());
    assert_eq!(crate::max_rows_per_shard(&Device::flex(), 1, 4), i32::MAX as usize - 1);
    assert_eq!(crate::max_rows_per_shard(&Device::flex(), 384, 2), u32::MAX as usize / 384);
}

#[test]
fn no_queries_is_an_empty_answer() {
    let device = Device::flex();
    let store = [Tensor::<2>::zeros([10, 4], (&device, DType::F32))];
    let queries = Tensor::<2>::zeros([0, 4], (&device, DType::F32));
    let answer = search(SearchRequest { queries, store: &store, k: 3, exclusions: None, ceiling: None }).unwrap();
    assert_eq!(answer, TopK { k: 3, scores: vec![], ids: vec![] });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn random_problems_match_the_reference(
        queries in 1usize..6, first in 0usize..400, second in 0usize..60, dimension in 1usize..20, k in 1usize..70, exclude in 0usize..5,
        ceiling in prop::option::of(-5f32..10.0), seed in 1u64..1000,
    ) {
        let shards: &'static [usize] = Box::leak(vec![first, second].into_boxed_slice());
        let case = Case { name: "random", queries, shards, dimension, k, values: Values::Whole, exclude, ceiling, half: false };
        let problem = case.problem(seed);
        let expected = reference::search(&problem.queries, &problem.rows, dimension, k, problem.exclusions.as_ref(), problem.ceiling.as_deref());
        prop_assert_eq!(solve(&case, &problem, &Device::flex()).unwrap(), expected);
    }
}
