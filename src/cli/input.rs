//! `--input`: tensors from files instead of generated ones.

use std::sync::Arc;

use clap::Args;

use super::exit::Failure;
use crate::given::{FileTensor, UserTensors};
use crate::record::InputFile;
use crate::suite::Item;
use crate::tensors::{Source, Unreadable};

/// Where inputs come from.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// Take an input from a .npy or .safetensors file; its shape becomes that of the cells. Once
    /// for each input, in the environment apart by `;`.
    #[arg(
        long = "input",
        value_name = "NAME=FILE[:TENSOR]",
        env = "FUSEBENCH_INPUT",
        value_delimiter = ';',
        value_parser = Source::parse
    )]
    pub inputs_from: Vec<Source>,
    /// Take values that are not finite too; then gates report and decide nothing.
    #[arg(long, env = "FUSEBENCH_ALLOW_NONFINITE", requires = "inputs_from")]
    pub allow_nonfinite: bool,
}

impl InputArgs {
    pub fn is_empty(&self) -> bool {
        self.inputs_from.is_empty()
    }

    /// The same for a worker, which reads the files itself.
    pub fn files(&self) -> Vec<InputFile> {
        let file = |source: &Source| InputFile {
            name: source.name.clone(),
            path: source.path.clone(),
            tensor: source.tensor.clone(),
        };
        self.inputs_from.iter().map(file).collect()
    }

    /// Gives the selected cells the tensors and their shape. Of each kernel, strategy, precision
    /// and option the first shape that they fit is taken; it keeps the axes that no tensor gives.
    ///
    /// # Errors
    /// `Usage` when a file cannot be read, or when its tensor fits no shape of a selected kernel.
    pub fn fit(&self, items: Vec<Item>) -> Result<Vec<Item>, Failure> {
        if self.is_empty() {
            return Ok(items);
        }
        let tensors = self.read()?;
        let (mut fitted, mut seen, mut generated) = (Vec::new(), Vec::new(), Vec::new());
        let mut misfits = Vec::new();
        let mut pipeline = None;
        for item in items {
            let Item::Kernel(cell) = &item else {
                pipeline.get_or_insert(item.id());
                continue;
            };
            let option = cell.shape.option();
            let kind = (cell.entry.name, cell.variant.name, cell.dtype, option);
            if seen.contains(&kind) || cell.is_empty() {
                continue;
            }
            match cell.fitted(&tensors) {
                Ok(Some(cell)) => {
                    seen.push(kind);
                    fitted.push(Item::from(cell));
                }
                Ok(None) => generated.push(item.id()),
                Err(misfit) => misfits.push((kind, misfit)),
            }
        }
        // Another shape of the same kind may have fitted.
        let lasting = misfits.into_iter().find(|(kind, _)| !seen.contains(kind));
        lasting.map_or(Ok(()), |(_, misfit)| Err(Failure::usage(misfit.to_string())))?;
        left_out(&fitted, pipeline.as_deref(), &generated)?;
        Ok(fitted)
    }

    fn read(&self) -> Result<UserTensors, Failure> {
        for (index, source) in self.inputs_from.iter().enumerate() {
            if self.inputs_from[..index].iter().any(|other| other.name == source.name) {
                return Err(Failure::usage(format!("--input {} is given twice", source.name)));
            }
        }
        let failed = |source: &Source, why: Unreadable| {
            let (name, path) = (&source.name, source.path.display());
            Failure::usage(format!("cannot read --input {name} from {path}\n{why}"))
        };
        let read = |source: &Source| {
            let tensor = read(source, self.allow_nonfinite).map_err(|why| failed(source, why))?;
            Ok((source.name.clone(), Arc::new(tensor)))
        };
        let list = self.inputs_from.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        Ok(UserTensors { list, allow_nonfinite: self.allow_nonfinite })
    }
}

/// Says what has no use for tensors; a selection of nothing else is refused.
fn left_out(fitted: &[Item], pipeline: Option<&str>, generated: &[String]) -> Result<(), Failure> {
    let advice = pipeline
        .map(|id| format!("{id} is a pipeline: its stages draw their own inputs"))
        .or_else(|| {
            let id = generated.first()?;
            Some(format!(
                "the option of {id} is about generated values, or arranges them otherwise"
            ))
        });
    let Some(advice) = advice else { return Ok(()) };
    if fitted.is_empty() {
        return Err(Failure::usage(format!("--input fits nothing that is selected: {advice}")));
    }
    anstream::eprintln!("fusebench: some cells take no --input and are left out: {advice}");
    Ok(())
}

/// Reads a tensor and refuses what is not finite, unless that is allowed.
fn read(source: &Source, allow_nonfinite: bool) -> Result<FileTensor, Unreadable> {
    let tensor = source.read()?;
    if let (false, Some((at, value, count))) = (allow_nonfinite, tensor.first_nonfinite()) {
        let (len, index) = (tensor.len(), index_text(at, &tensor.dims));
        let what = if value.is_finite() { "beyond f32" } else { "not finite" };
        let problem = format!("{count} of {len} are {what}, the first {value:e} at {index}");
        let next = "clean them up, or pass --allow-nonfinite: then no gate decides";
        return Err(Unreadable::new("values", problem, next));
    }
    Ok(tensor)
}

/// The worker's side: reads the files once more.
///
/// # Errors
/// What is wrong with which input; names no file, because it may end up in a row.
pub fn read_again(files: &[InputFile], allow_nonfinite: bool) -> Result<UserTensors, String> {
    let one = |file: &InputFile| {
        let InputFile { name, path, tensor } = file.clone();
        let source = Source { name, path, tensor };
        let read = read(&source, allow_nonfinite);
        let tensor = read.map_err(|why| format!("--input {} changed: {why}", source.name))?;
        Ok((source.name, Arc::new(tensor)))
    };
    let list = files.iter().map(one).collect::<Result<Vec<_>, String>>()?;
    Ok(UserTensors { list, allow_nonfinite })
}

fn index_text(flat: usize, dims: &[usize]) -> String {
    let mut rest = flat;
    let mut index: Vec<String> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let own = rest % dim;
            rest /= dim;
            own.to_string()
        })
        .collect();
    index.reverse();
    format!("[{}]", index.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_went_away_is_not_named_by_the_worker() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("secret.npy");
        let file = |tensor| InputFile { name: "x".to_owned(), path: path.clone(), tensor };
        for contents in [None, Some("no array")] {
            if let Some(contents) = contents {
                std::fs::write(&path, contents).expect("a file");
            }
            let why = read_again(&[file(None)], false).expect_err("no such tensor");
            assert!(why.contains("--input x changed") && !why.contains("secret"), "{why}");
        }
        let mut array = Vec::new();
        let kind = crate::npy::Kind::U8;
        crate::npy::write(&mut array, kind, &[2], &[1, 2]).expect("a vector takes every byte");
        std::fs::write(&path, array).expect("a file");
        let read = read_again(&[file(None)], false).expect("an array");
        assert_eq!(read.list[0].1.values(), [1.0, 2.0]);
    }

    #[test]
    fn an_element_is_named_by_its_indices() {
        assert_eq!(index_text(0, &[]), "[]");
        assert_eq!(index_text(7, &[2, 5]), "[1, 2]");
        assert_eq!(index_text(29, &[3, 2, 5]), "[2, 1, 4]");
    }
}
