//! `trainer devices`: every adapter of this machine, what it offers, and which one `auto` takes.

use anyhow::Result;
use kernels::AdapterKind;
use serde_json::json;

use crate::args::DevicesArgs;
use crate::output;

pub(super) fn run(args: &DevicesArgs) -> Result<()> {
    let adapters = kernels::adapters();
    let auto =
        adapters.iter().enumerate().filter(|(_, adapter)| adapter.kind != AdapterKind::Software).min_by_key(|(_, adapter)| adapter.kind);
    let auto = auto.map_or_else(|| "cpu".to_owned(), |(number, _)| format!("gpu:{number}"));
    let mut rows = vec![
        ["device", "kind", "name", "compiler", "binding MiB", "shared KiB", "subgroup", "f16", "matrix units"].map(str::to_owned).to_vec(),
    ];
    let mut listed = vec![json!({ "device": "cpu", "kind": "cpu", "name": "burn Flex" })];
    rows.push(vec!["cpu".into(), "cpu".into(), "burn Flex".into()]);
    for (number, adapter) in adapters.iter().enumerate() {
        let name = format!("gpu:{number}");
        let limits = match adapter.open() {
            Ok(device) => kernels::describe(&device),
            Err(error) => {
                rows.push(vec![name.clone(), adapter.kind.to_string(), error.to_string()]);
                listed.push(json!({ "device": name, "kind": adapter.kind.to_string(), "error": error.to_string() }));
                continue;
            }
        };
        let Some(limits) = limits else { continue };
        rows.push(vec![
            name.clone(),
            adapter.kind.to_string(),
            limits.name.clone(),
            limits.compiler.clone(),
            (limits.max_binding_bytes >> 20).to_string(),
            (limits.shared_memory_bytes >> 10).to_string(),
            format!("{}-{}", limits.subgroup_min, limits.subgroup_max),
            limits.f16.to_string(),
            limits.matrix_units.clone().unwrap_or_else(|reason| format!("no: {reason}")),
        ]);
        listed.push(json!({
            "device": name, "kind": adapter.kind.to_string(), "name": limits.name, "compiler": limits.compiler,
            "max_binding_bytes": limits.max_binding_bytes, "shared_memory_bytes": limits.shared_memory_bytes,
            "subgroup": [limits.subgroup_min, limits.subgroup_max], "f16": limits.f16, "matrix_units": limits.matrix_units.as_ref().ok(),
            "no_matrix_units": limits.matrix_units.as_ref().err(),
        }));
    }
    if args.json {
        return output::json(&json!({ "auto": auto, "devices": listed }));
    }
    output::table(&rows);
    output::line(&format!("auto takes {auto}"));
    Ok(())
}
