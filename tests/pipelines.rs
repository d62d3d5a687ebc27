//! Pipelines: what one stage hands on is what the next one takes, and every stage is verified.

mod common;

use std::collections::HashSet;

use common::{ran, session};
use fusebench::gpu::Checks;
use fusebench::inputs::{Distribution, Generator};
use fusebench::kernel::{Elem, Entry, Preset, Variant};
use fusebench::kernels;
use fusebench::pipeline::{Stage, Wire};
use fusebench::record::{Row, Status};
use fusebench::suite::{Item, PipelineCell, Session, Sources, Task, pipeline_cells};

fn stages(cell: &PipelineCell) -> Vec<Stage> {
    (cell.pipeline.stages)(&cell.shape, cell.strategy, cell.dtype)
}

fn kernel(stage: &Stage) -> &'static Entry {
    let found = kernels::ALL.iter().find(|entry| entry.name == stage.kernel);
    found.unwrap_or_else(|| panic!("`{}` names no kernel: {}", stage.name, stage.kernel))
}

/// A strategy of the kernel that does the shape and stores what the stage says.
fn variant(stage: &Stage) -> Option<&'static Variant> {
    let all = kernel(stage).kernel.spec().variants.iter();
    let mut fitting = all.filter(|variant| variant.storage(stage.dtype) == stage.storage);
    fitting.find(|variant| (variant.refuses)(&stage.shape).is_none())
}

/// Name, element type and number of elements.
type Slot = (&'static str, Elem, usize);

fn outputs(stage: &Stage) -> Vec<Slot> {
    let variant = variant(stage).unwrap_or_else(|| panic!("no variant for `{}`", stage.name));
    let launch = kernel(stage).kernel.launch(&stage.shape, stage.dtype, variant);
    launch.outputs.iter().map(|output| (output.name, output.elem, output.len())).collect()
}

fn inputs(stage: &Stage) -> Vec<Slot> {
    let variant = variant(stage).unwrap_or_else(|| panic!("no variant for `{}`", stage.name));
    let generator = Generator::new(stage.dtype, variant, Distribution::Normal, 1);
    let inputs = kernel(stage).kernel.inputs(&stage.shape, &generator);
    let slot = |tensor: &fusebench::inputs::Tensor| {
        (tensor.name, tensor.elem, tensor.dims().iter().product())
    };
    inputs.tensors.iter().map(slot).collect()
}

/// Says which wire of a pipeline does not fit.
fn check_wires(stages: &[Stage]) -> Result<(), String> {
    let mut names = HashSet::new();
    for (index, stage) in stages.iter().enumerate() {
        let takes = inputs(stage);
        for Wire { input, stage: from, output } in &stage.wires {
            let before = stages[..index].iter().find(|known| known.name == *from);
            let before = before.ok_or(format!("`{}` takes from no `{from}`", stage.name))?;
            let given = outputs(before).into_iter().find(|(name, ..)| name == output);
            let taken = takes.iter().find(|(name, ..)| name == input);
            let (Some(given), Some(taken)) = (given, taken) else {
                return Err(format!("`{from}`.{output} to `{}`.{input}: no such end", stage.name));
            };
            if (given.1, given.2) != (taken.1, taken.2) {
                let both = format!("{given:?} to {taken:?}");
                return Err(format!("`{from}` to `{}`: {both}", stage.name));
            }
        }
        if !names.insert(&stage.name) {
            return Err(format!("two stages `{}`", stage.name));
        }
    }
    Ok(())
}

#[test]
fn every_wire_has_two_ends_of_one_type_and_size() {
    let cells = pipeline_cells(Preset::Smoke);
    assert!(cells.len() > 30, "only {} pipelines", cells.len());
    for cell in cells {
        assert_eq!(check_wires(&stages(&cell)), Ok(()), "{}", cell.id());
    }
}

#[test]
fn a_wire_that_does_not_fit_is_found() {
    let cell = &pipeline_cells(Preset::Smoke)[0];
    let spoilt = |spoil: fn(&mut Wire)| {
        let mut stages = stages(cell);
        let wired = stages.iter_mut().find(|stage| !stage.wires.is_empty()).expect("a wire");
        spoil(&mut wired.wires[0]);
        check_wires(&stages)
    };
    assert_eq!(spoilt(|_| ()), Ok(()));
    assert!(spoilt(|wire| wire.stage.push('?')).is_err());
    assert!(spoilt(|wire| wire.output = "nothing").is_err());
    assert!(spoilt(|wire| wire.input = "g").is_err(), "a gain has another size");
}

#[test]
fn every_stage_of_the_models_has_a_strategy_within_the_portable_limits() {
    for cell in pipeline_cells(Preset::Models) {
        for stage in stages(&cell) {
            assert!(variant(&stage).is_some(), "{}: `{}` {}", cell.id(), stage.name, stage.shape);
            let largest = outputs(&stage).iter().map(|(.., len)| 4 * len).max().unwrap_or(0);
            assert!(largest <= 128 << 20, "{}: `{}` takes {largest} bytes", cell.id(), stage.name);
        }
    }
}

fn check(session: &mut Session, cell: &PipelineCell) -> Row {
    let task = Task::Check { flops: f64::INFINITY };
    session.run(&Item::Pipeline(cell.clone()), &task, &mut |_, _| {}).0
}

#[test]
fn every_stage_of_every_smoke_pipeline_agrees_with_its_reference() {
    let test = "every_stage_of_every_smoke_pipeline_agrees_with_its_reference";
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    for cell in pipeline_cells(Preset::Smoke) {
        let row = check(&mut session, &cell);
        if row.status == Status::Unsupported {
            common::skipped(test, row.reason.as_deref().unwrap_or_default());
            continue;
        }
        assert_eq!(row.status, Status::Ok, "{}: {:?}", row.id, row.reason);
        // Eleven bits of f16, seven of int8 and three of int4 leave at least this end to end.
        let accuracy = row.accuracy.expect("it was verified");
        let least = match row.dtype.as_str() {
            // One scale for features of unlike scale is what `raw` is there to show.
            "i8" | "i4" if cell.shape.option() == Some("raw") => 6.0,
            "f32" => 100.0,
            "f16" => 45.0,
            "i8" => 25.0,
            _ => 6.0,
        };
        assert!(accuracy.sqnr_db > least, "{}: {} dB", row.id, accuracy.sqnr_db);
        assert_eq!(accuracy.against.as_deref(), Some("f64 end to end"), "{}", row.id);
        assert_eq!(row.stages.len(), stages(&cell).len(), "{}", row.id);
    }
    ran(test);
}

/// The smoke cell of the pipeline on CMU-MOSEI whose id ends so.
fn mosei(end: &str) -> PipelineCell {
    let cells = pipeline_cells(Preset::Smoke).into_iter();
    let found = cells.filter(|cell| cell.pipeline.name == "mosei_mult");
    found.into_iter().find(|cell| cell.id().ends_with(end)).expect("a cell")
}

#[test]
fn standardising_is_worth_bits_where_unlike_scales_share_one() {
    let test = "standardising_is_worth_bits_where_unlike_scales_share_one";
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    let mut sqnr_db = |end: &str| {
        let row = check(&mut session, &mosei(end));
        row.accuracy.expect("it was verified").sqnr_db
    };
    let with = sqnr_db("aligned_concat/i8/b2t5a13v9l1r12");
    let without = sqnr_db("aligned_concat/i8/b2t5a13v9l1r12_raw");
    assert!(with > without + 6.0, "{with} dB with, {without} dB without");
    // Full precision does without.
    let full = sqnr_db("aligned_concat/f32/b2t5a13v9l1r12_raw");
    assert!(full > 100.0, "{full} dB");
    ran(test);
}

#[test]
fn an_absent_modality_reaches_no_attention_no_mean_and_no_judgement() {
    let hidden = |stage: &Stage| [stage.shape.get("n"), stage.shape.get("p")];
    for (strategy, kernels) in [
        ("mid", &["cross_attention", "attention_map", "sliding_window_pool"][..]),
        ("early", &["concat", "cross_attention", "attention_map", "sliding_window_pool"]),
        ("aligned_concat", &["concat"]),
        ("late", &["cross_attention", "sliding_window_pool", "late_fusion", "shapley_modalities"]),
    ] {
        let stages = stages(&mosei(&format!("/{strategy}/f32/b2t5a13v9l1p5")));
        for kernel in kernels {
            let masked = |stage: &&Stage| stage.kernel == *kernel && hidden(stage) != [None; 2];
            assert!(stages.iter().any(|stage| masked(&stage)), "{strategy}: {kernel}");
        }
    }
    // Audio, the second, is absent: its 13 steps come last and 14 of 27 are there.
    let stages = stages(&mosei("/early/f32/b2t5a13v9l1p5"));
    let attend = stages.iter().find(|stage| stage.kernel == "cross_attention").expect("a stage");
    assert_eq!((attend.shape["k"], attend.shape["n"]), (27, 14));
    let join = stages.iter().find(|stage| stage.kernel == "concat").expect("a stage");
    assert_eq!(join.wires[2].stage, "normalise audio");
}

#[test]
fn a_fault_in_one_stage_is_caught_and_names_the_stage() {
    let test = "a_fault_in_one_stage_is_caught_and_names_the_stage";
    let path = "normalize/add_layer_norm";
    let entry = kernels::ALL.iter().find(|entry| entry.path() == path).expect("a kernel");
    let mutant = entry.kernel.spec().mutants[0];
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(mutant.text, mutant.instead));
    let Some(mut session) = session(test, sources, Checks::Safe) else { return };
    let cells = pipeline_cells(Preset::Smoke);
    let sizes_only = |cell: &&PipelineCell| cell.shape.get("r").or(cell.shape.get("p")).is_none();
    let rows: Vec<Row> = cells
        .iter()
        .filter(sizes_only)
        .filter(|cell| stages(cell).iter().any(|stage| stage.kernel == entry.name))
        .map(|cell| check(&mut session, cell))
        .collect();
    let wrong = rows.iter().filter(|row| row.status == Status::Wrong);
    let reasons: Vec<&str> = wrong.filter_map(|row| row.reason.as_deref()).collect();
    assert!(!reasons.is_empty(), "{} ({}) is not caught", entry.name, mutant.fault);
    assert!(reasons.iter().all(|why| why.contains("stage `")), "{reasons:?}");
    ran(test);
}
