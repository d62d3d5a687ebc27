//! `fusebench export`: results in the forms that other programs read.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::exit::{Exit, Failure};
use super::output::print;
use crate::record::{
    Comparison, Run, StoreError, is_comparison, read, read_comparison, write_atomically,
};
use crate::report::export::{Export, Form};

/// bmf: Bencher; gha: github-action-benchmark; gbench: google/benchmark and its compare.py;
/// openmetrics: Prometheus and its kin; otava: Apache Otava, a line for each FILE; junit: Jenkins,
/// GitLab and others; csv: spreadsheets; markdown: a summary for a pull request, the worst first.
/// gha, gbench and otava make several files, for a folder. Cells without a time are in junit, csv
/// and markdown only.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Result files, finished or partial; more than one makes a series for otava. For junit and
    /// markdown also a comparison that `ab` wrote, with those that confirm it behind it.
    #[arg(value_name = "FILE", required = true, env = "FUSEBENCH_FILES", value_delimiter = ' ')]
    pub files: Vec<PathBuf>,
    /// The form.
    #[arg(
        long,
        value_name = "FORM",
        required = true,
        env = "FUSEBENCH_TO",
        value_parser = PossibleValuesParser::new(Form::ALL.map(Form::name))
    )]
    pub to: String,
    /// File to write, or folder where the form makes several; `-` or nothing: stdout.
    #[arg(long, short, value_name = "PATH", env = "FUSEBENCH_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long, env = "FUSEBENCH_FORCE")]
    pub force: bool,
}

/// Reads the files and writes them in the form asked for.
pub fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let named = Form::ALL.into_iter().find(|form| form.name() == args.to);
    let form = named.expect("clap admits only the names of forms");
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if form.makes_several_files() && output.is_none() {
        let form = form.name();
        return Err(Failure::usage(format!(
            "cannot export {form} to stdout\nthe form is a folder of files\n\
             give a folder with -o, such as -o {form}"
        )));
    }
    if let Some(found) = comparison(&args.files)? {
        let written = form.write_comparison(&found).ok_or_else(|| no_numbers(form, args))?;
        match output {
            None => print(&written),
            Some(path) => write(path, &written, args.force)?,
        }
        return Ok(Exit::Fine);
    }
    let runs = runs(form, &args.files)?;
    match (form.write(&runs), output) {
        (Export::One(text), None) => print(&text),
        (Export::One(text), Some(path)) => write(path, &text, args.force)?,
        (Export::Several(files), path) => {
            let folder = path.expect("looked for above");
            fs::create_dir_all(folder).map_err(|error| {
                let folder = folder.display();
                Failure::usage(format!(
                    "cannot export to {folder}\n{error}\nchoose another folder with -o"
                ))
            })?;
            let files: Vec<(PathBuf, String)> =
                files.into_iter().map(|(name, text)| (folder.join(name), text)).collect();
            files.iter().try_for_each(|(path, _)| may_write(path, args.force))?;
            files.iter().try_for_each(|(path, text)| write(path, text, args.force))?;
        }
    }
    Ok(Exit::Fine)
}

/// The comparison in the first file, the rows of later ones in place of its own; `None` where the
/// first file is none.
fn comparison(files: &[PathBuf]) -> Result<Option<Comparison>, Failure> {
    if !is_comparison(&files[0]) {
        return Ok(None);
    }
    let unreadable = |error: StoreError| Failure::usage(error.to_string());
    let mut found = read_comparison(&files[0]).map_err(unreadable)?;
    for file in &files[1..] {
        let later = read_comparison(file).map_err(unreadable)?;
        let again = |id: &str| later.rows.iter().find(|row| row.id == id);
        for row in &mut found.rows {
            if let Some(newer) = again(&row.id) {
                *row = newer.clone();
            }
        }
    }
    Ok(Some(found))
}

fn no_numbers(form: Form, args: &ExportArgs) -> Failure {
    Failure::usage(format!(
        "cannot export {} to {}\nit is a comparison, and that form holds the numbers of a run\n\
         export a file of `fusebench run`, or this one to junit or markdown",
        args.files[0].display(),
        form.name()
    ))
}

fn runs(form: Form, files: &[PathBuf]) -> Result<Vec<Run>, Failure> {
    if files.len() > 1 && !form.takes_several_runs() {
        return Err(Failure::usage(format!(
            "cannot export {} files at once\n{} holds one run\n\
             export each by itself; otava takes several as a series",
            files.len(),
            form.name()
        )));
    }
    let mut runs = Vec::new();
    for file in files {
        let run = read(file).map_err(|error| Failure::usage(error.to_string()))?;
        if !run.complete {
            anstream::eprintln!("{}: incomplete, exporting what is there", file.display());
        }
        runs.push(run);
    }
    check_one_machine(files, &runs)?;
    if !runs.iter().any(|run| form.holds_something_of(run)) {
        let why = match runs.iter().all(|run| run.rows.is_empty()) {
            true => "no cell ran".to_owned(),
            false => format!("no cell has a time, and {} holds nothing else", form.name()),
        };
        return Err(Failure::nothing(format!(
            "nothing to export from {}\n{why}\n\
             measure with `fusebench run -o FILE`, or export --to junit",
            files[0].display()
        )));
    }
    Ok(runs)
}

/// Times of two machines make no series.
fn check_one_machine(files: &[PathBuf], runs: &[Run]) -> Result<(), Failure> {
    let of = |run: &Run| run.environment.fingerprint.clone();
    let Some(other) = runs.iter().position(|run| of(run) != of(&runs[0])) else { return Ok(()) };
    Err(Failure::usage(format!(
        "cannot make one series of unlike machines\n{} is of {}, {} of {}\n\
         export the files of each fingerprint by themselves",
        files[0].display(),
        of(&runs[0]),
        files[other].display(),
        of(&runs[other])
    )))
}

fn may_write(path: &Path, force: bool) -> Result<(), Failure> {
    if force || !path.exists() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} is there already\nan export never overwrites what it finds\n\
         choose another path with -o, or replace it with --force",
        path.display()
    )))
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    may_write(path, force)?;
    write_atomically(path, text.as_bytes()).map_err(|error| Failure::usage(error.to_string()))
}
