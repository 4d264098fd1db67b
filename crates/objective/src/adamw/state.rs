//! The optimiser's state as named tensors: what a checkpoint stores.
//!
//! Three tensors per parameter path: `PATH.step` (i64, `[1]`), `PATH.exp_avg` and `PATH.exp_avg_sq` (f32, the parameter's shape), the
//! names PyTorch gives them. A parameter that never had a gradient has step 0 and no moments. Loading is strict: every parameter of
//! the module must be there and nothing else, because a state silently dropped is a run silently changed.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData, Transaction};

use super::{AdamW, OptimizerError};
use crate::path::Path;

/// State of one parameter.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// Updates made so far.
    pub(super) step: u64,
    pub(super) moments: Option<Moments>,
}

/// First and second moment, flat so that one type holds every rank.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) first: Tensor<1>,
    pub(super) second: Tensor<1>,
    /// The parameter's shape.
    pub(super) shape: Vec<usize>,
}

const STEP: &str = "step";
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";

impl AdamW {
    /// The state of every parameter seen so far, sorted by name. Reads the device once, for all tensors together.
    pub fn state(&self) -> Vec<(String, TensorData)> {
        let mut reading = Transaction::default();
        let mut read = Vec::new();
        let mut state = Vec::new();
        for (path, slot) in &self.slots {
            state.push((format!("{path}.{STEP}"), TensorData::new(vec![slot.step as i64], [1])));
            if let Some(Moments { first, second, shape }) = &slot.moments {
                reading = reading.register(first.clone()).register(second.clone());
                read.push((format!("{path}.{FIRST}"), shape));
                read.push((format!("{path}.{SECOND}"), shape));
            }
        }
        if !read.is_empty() {
            let data = reading.execute();
            state.extend(read.into_iter().zip(data).map(|((name, shape), data)| (name, with_shape(data, shape))));
        }
        state.sort_by(|a, b| a.0.cmp(&b.0));
        state
    }

    /// Replaces the state by one that [`state`](Self::state) gave for the same module. An empty state is that of an optimiser that
    /// made no step. On an error nothing is changed.
    ///
    /// # Errors
    /// Names that are missing or unknown, or a tensor that does not have its parameter's shape.
    pub fn load_state<M: Module>(&mut self, module: &M, state: Vec<(String, TensorData)>) -> Result<(), OptimizerError> {
        if state.is_empty() {
            self.slots.clear();
            return Ok(());
        }
        let layouts = layouts(module);
        let mut state: BTreeMap<String, TensorData> = state.into_iter().collect();
        check_names(&layouts, &state)?;
        let mut slots = BTreeMap::new();
        for (path, layout) in &layouts {
            let step = read_step(&format!("{path}.{STEP}"), &mut state)?;
            let first = read_moment(&format!("{path}.{FIRST}"), layout, &mut state)?;
            let second = read_moment(&format!("{path}.{SECOND}"), layout, &mut state)?;
            let moments = first.zip(second).map(|(first, second)| Moments { first, second, shape: layout.shape.clone() });
            slots.insert(path.clone(), Slot { step, moments });
        }
        self.slots = slots;
        Ok(())
    }
}

/// Shape and device of a parameter.
struct Layout {
    shape: Vec<usize>,
    device: Device,
}

fn layouts<M: Module>(module: &M) -> BTreeMap<String, Layout> {
    let mut visitor = Layouts::default();
    module.visit(&mut visitor);
    visitor.found
}

#[derive(Default)]
struct Layouts {
    path: Path,
    found: BTreeMap<String, Layout>,
}

impl ModuleVisitor for Layouts {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let layout = Layout { shape: parameter.lazy_shape().to_vec(), device: parameter.lazy_device().without_autodiff() };
        self.found.insert(self.path.dotted(), layout);
    }
}

/// Every parameter needs its step, and both moments or neither.
fn check_names(layouts: &BTreeMap<String, Layout>, state: &BTreeMap<String, TensorData>) -> Result<(), OptimizerError> {
    let mut missing = Vec::new();
    let mut known = BTreeSet::new();
    for path in layouts.keys() {
        let [step, first, second] = [STEP, FIRST, SECOND].map(|part| format!("{path}.{part}"));
        let stepped = state.get(&step).and_then(|data| data.iter::<i64>().next()).is_some_and(|count| count > 0);
        let has_moment = state.contains_key(&first) || state.contains_key(&second);
        let needed = if stepped || has_moment { vec![step, first, second] } else { vec![step] };
        missing.extend(needed.iter().filter(|name| !state.contains_key(*name)).cloned());
        known.extend(needed);
    }
    let unknown: Vec<String> = state.keys().filter(|name| !known.contains(*name)).cloned().collect();
    if missing.is_empty() && unknown.is_empty() { Ok(()) } else { Err(OptimizerError::Names { missing, unknown }) }
}

fn read_step(name: &str, state: &mut BTreeMap<String, TensorData>) -> Result<u64, OptimizerError> {
    let Some(data) = state.remove(name) else { return Ok(0) };
    let expected = || "one I64 from 0".to_owned();
    if data.dtype() != DType::I64 || data.num_elements() != 1 {
        return Err(OptimizerError::Layout { name: name.to_owned(), got: describe(&data), expected: expected() });
    }
    let step = data.iter::<i64>().next().unwrap_or(0);
    u64::try_from(step).map_err(|_| OptimizerError::Layout { name: name.to_owned(), got: step.to_string(), expected: expected() })
}

fn read_moment(name: &str, layout: &Layout, state: &mut BTreeMap<String, TensorData>) -> Result<Option<Tensor<1>>, OptimizerError> {
    let Some(data) = state.remove(name) else { return Ok(None) };
    if data.dtype() != DType::F32 || data.shape()[..] != layout.shape[..] {
        let expected = format!("F32 {:?}", layout.shape);
        return Err(OptimizerError::Layout { name: name.to_owned(), got: describe(&data), expected });
    }
    let elements = data.num_elements();
    Ok(Some(Tensor::from_data(with_shape(data, &[elements]), &layout.device)))
}

fn describe(data: &TensorData) -> String {
    format!("{:?} {:?}", data.dtype(), data.shape().to_vec())
}

/// The same bytes under another shape of as many elements.
fn with_shape(data: TensorData, shape: &[usize]) -> TensorData {
    let (bytes, _, dtype) = data.into_parts();
    TensorData::from_bytes(bytes, shape.to_vec(), dtype)
}
