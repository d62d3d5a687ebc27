//! The command line as it is recorded: what was in force, from flags or the environment, with
//! every path replaced.

use super::args::{CheckArgs, DumpArgs, Format, RunArgs, Selection, Target};
use super::input::InputArgs;

/// Stands for any path.
const PATH: &str = "PATH";

pub fn of_run(args: &RunArgs) -> Vec<String> {
    let mut list = vec!["run".to_owned()];
    common(&mut list, &args.selection, &args.target);
    inputs(&mut list, &args.input);
    flag(&mut list, "--quick", args.quick);
    option(&mut list, "--max-time", args.max_time.map(|seconds| seconds.to_string()));
    flag(&mut list, "--untuned", args.untuned);
    option(&mut list, "--tuning", args.tuning.as_ref().map(|_| PATH.to_owned()));
    list
}

pub fn of_check(args: &CheckArgs) -> Vec<String> {
    let mut list = vec!["check".to_owned()];
    common(&mut list, &args.selection, &args.target);
    inputs(&mut list, &args.input);
    flag(&mut list, "--full", args.full);
    flag(&mut list, "--mutants", args.mutants);
    list
}

pub fn of_dump(args: &DumpArgs) -> Vec<String> {
    let mut list = vec!["dump".to_owned()];
    selected(&mut list, &args.selection);
    option(&mut list, "--device", args.device.clone());
    option(&mut list, "--kernels", args.kernels.as_ref().map(|_| PATH.to_owned()));
    option(&mut list, "--seed", Some(args.seed.to_string()));
    inputs(&mut list, &args.input);
    let drawn = args.input.is_empty().then(|| args.inputs.clone());
    option(&mut list, "--inputs", drawn);
    option(&mut list, "--output", Some(PATH.to_owned()));
    flag(&mut list, "--force", args.force);
    list
}

/// Neither the file nor the name of a tensor in it.
fn inputs(list: &mut Vec<String>, args: &InputArgs) {
    for source in &args.inputs_from {
        option(list, "--input", Some(format!("{}={PATH}", source.name)));
    }
    flag(list, "--allow-nonfinite", args.allow_nonfinite);
}

pub fn selected(list: &mut Vec<String>, selection: &Selection) {
    list.extend(selection.filters.iter().cloned());
    option(list, "--preset", Some(selection.preset.clone()));
    option(list, "--dtype", joined(&selection.dtype));
    option(list, "--variant", joined(&selection.variant));
}

fn joined(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(","))
}

fn common(list: &mut Vec<String>, selection: &Selection, target: &Target) {
    selected(list, selection);
    option(list, "--device", joined(&target.device));
    option(list, "--kernels", target.kernels.as_ref().map(|_| PATH.to_owned()));
    option(list, "--seed", Some(target.seed.to_string()));
    option(list, "--checks", Some(target.checks.name().to_owned()));
    option(list, "--output", target.output.as_ref().map(|_| PATH.to_owned()));
    option(list, "--format", format_name(target.format).map(str::to_owned));
}

/// The form of the output, where it is not the default one.
fn format_name(format: Format) -> Option<&'static str> {
    match format {
        Format::Table => None,
        Format::Json => Some("json"),
        Format::Csv => Some("csv"),
        Format::Markdown => Some("markdown"),
    }
}

pub fn option(list: &mut Vec<String>, name: &str, value: Option<String>) {
    if let Some(value) = value {
        list.extend([name.to_owned(), value]);
    }
}

pub fn flag(list: &mut Vec<String>, name: &str, given: bool) {
    if given {
        list.push(name.to_owned());
    }
}
